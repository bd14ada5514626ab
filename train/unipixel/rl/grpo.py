"""Group relative policy optimization of an agent that reads text, by TRL's `GRPOTrainer`.

Left out on purpose: TRL's own tool loop and environments (the policy plays the episodes of evaluation, `rollout`),
generation servers and replay of old rollouts (each step trains on what it sampled), learned reward models, and
curricula. Policies that get images are trained through `environment`.

    task = EpisodeTask(samples=train, held_out=val, start=start_episode)
    trainer = build_trainer(model, tokenizer, config, task)
    trainer.train()

`start(policy, transcript, seed)` returns an `EpisodeRun`: `start_with_team` for agents of the method `episode`. `model`
is a causal language model of transformers, `tokenizer` its tokenizer with a chat template. The folder of the run has
checkpoints, evaluations and transcripts (`run_record`); `python -m unipixel.rl.run` does all of this by a recipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evqa.agents.settings import AgentSettings
from evqa.agents.transcript import Transcript
from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.methods.episodes import start_episode
from evqa.models.base import Model, Models
from evqa.models.chat_tokens import ChatTokenizer
from evqa.schema import Prediction, Sample
from unipixel.rl import policy, rollout, run_record
from unipixel.rl.arguments import grpo_arguments, lora_arguments
from unipixel.rl.configs import RLConfig
from unipixel.rl.rewards import RewardTerm, case_of
from unipixel.rl.rollout import Rollout, StartEpisode
from unipixel.training import checkpoint_folder
from unipixel.training.arguments import skip_deepspeed_build

if TYPE_CHECKING:
    from evqa.agents.episode import EpisodeRun
    from unipixel.rl.trainer import AgentTrainer

SEED_STRIDE = 1_000_003
"""Distance of the seeds of two steps, above the number of rollouts of a step."""


@dataclass(frozen=True, kw_only=True)
class EpisodeTask:
    """What an agent is trained on."""

    samples: Sequence[Sample]
    """Questions for training."""
    start: StartEpisode
    """Starts the episode of a sample."""
    held_out: Sequence[Sample] = ()
    """Questions for evaluation during training; () = no evaluation."""
    held_out_set: Dataset | None = None
    """Data set of the held-out questions; with it, `evqa report` shows the evaluations."""
    on_rollouts: Callable[[Sequence[Rollout], int], None] | None = None
    """Called with the rollouts of this process and the number of the step, before their rewards are computed."""


def start_with_team(team: Mapping[str, Model], settings: AgentSettings) -> StartEpisode:
    """Start episodes of the method `episode` with agents; the seed is not used, they draw nothing.

    Args:
        team: role -> agent ("grounding", "vision").
        settings: settings of the method.
    """

    def start(model: Model, transcript: Transcript, seed: int) -> EpisodeRun:
        del seed
        return start_episode(Models(model, team), transcript, settings)

    return start


def build_trainer(
    model: Any,
    tokenizer: Any,
    config: RLConfig,
    task: EpisodeTask,
    *,
    record: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
) -> AgentTrainer:
    """Build the trainer of a run; `trainer.train()` trains, with `resume_from_checkpoint` from a checkpoint.

    Args:
        model: causal language model of transformers; an adapter is added by the config.
        tokenizer: its tokenizer, with a chat template.
        config: the config of the run.
        task: samples and how their episodes start.
        record: record of the run, for its checkpoints; None = config and versions.
        callbacks: callbacks of transformers, called at each update.

    Raises:
        ValueError: a batch does not divide among the processes, or the tokenizer has no chat template.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset as Table
    from transformers import PrinterCallback

    from unipixel.rl.evaluation import Evaluation
    from unipixel.rl.monitoring import AlarmCallback
    from unipixel.rl.trainer import AgentTrainer, rollout_line
    from unipixel.training.log_lines import ProgressCallback

    processes, updates = int(os.environ.get("WORLD_SIZE", "1")), config.grpo.updates_per_step
    has_evaluation = bool(task.held_out) and config.loop.eval_steps > 0
    chat = ChatTokenizer(tokenizer)
    if config.loop.zero_stage is not None:
        skip_deepspeed_build()
    trainer = AgentTrainer(
        config=config,
        record=record or run_record.record_of(config, processes=processes, data={}, weights=""),
        evaluation=Evaluation(
            samples=task.held_out,
            start=task.start,
            folder=config.out / checkpoint_folder.EVALUATION,
            seed=config.seed,
            updates_per_step=updates,
            has_samples=config.loop.eval_sampled,
            dataset=task.held_out_set,
        )
        if has_evaluation
        else None,
        model=model,
        reward_funcs=[reward_function(term, updates) for term in config.rewards],
        args=grpo_arguments(config, processes=processes, has_evaluation=has_evaluation),
        train_dataset=Table.from_list([{"prompt": str(place)} for place in range(len(task.samples))]),
        eval_dataset=Table.from_list([{"prompt": ""}]) if has_evaluation else None,
        processing_class=tokenizer,
        peft_config=lora_arguments(config),
        rollout_func=rollout_function(config, task),
        callbacks=[*callbacks, AlarmCallback(), ProgressCallback(rollout_line, updates)],
    )
    trainer.remove_callback(PrinterCallback)
    limits = config.rollout
    trainer.policy_model = policy.policy_of(
        trainer,
        chat,
        max_tokens=limits.max_prompt_tokens + limits.max_reply_tokens,
        max_reply_tokens=limits.max_reply_tokens,
    )
    is_collective = config.loop.zero_stage == 3 or limits.engine == "vllm"
    if processes > 1 and is_collective:
        trainer.agreement = lambda count: policy.largest(trainer, count)
    return trainer


def rollout_function(config: RLConfig, task: EpisodeTask) -> Callable[[list[str], Any], dict[str, Any]]:
    """The `rollout_func` of a run: the prompts are numbers of samples, each repeated for its group."""
    import torch

    from unipixel.rl.monitoring import rollout_metrics

    def generate_rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        samples = [task.samples[int(prompt)] for prompt in prompts]
        step = trainer.state.global_step // config.grpo.updates_per_step
        first = config.seed + SEED_STRIDE * step + trainer.accelerator.process_index * len(prompts)
        seeds = [first + place for place in range(len(prompts))]
        torch.manual_seed(first)  # sampling of a step does not depend on what came before, nor on a resume
        with trainer.phases.measured("rollouts"):
            rollouts = rollout.play(trainer.policy_model, task.start, samples, seeds, largest_of=trainer.agreement)
        check_rollouts(rollouts)
        for name, value in rollout_metrics(rollouts):
            trainer._log_metric(name, value)
        if task.on_rollouts is not None:
            task.on_rollouts(rollouts, step)
        if step % config.loop.transcript_steps == 0 and trainer.accelerator.is_main_process:
            write_transcripts(config, rollouts[: config.rollout.group_size], step)
        return rollout.to_columns(rollouts)

    return generate_rollouts


def write_transcripts(config: RLConfig, rollouts: Sequence[Rollout], step: int) -> None:
    """Write the rollouts of a question into the folder of the run, as records with all turns."""
    folder = config.out / run_record.ROLLOUTS
    folder.mkdir(parents=True, exist_ok=True)
    jsonl.write_records(folder / f"step-{step}.jsonl", [rollout.prediction for rollout in rollouts])


def check_rollouts(rollouts: Sequence[Rollout]) -> None:
    """Check that not all episodes failed, which is no fault of the policy.

    Raises:
        ValueError: all failed; the message has the first error.
    """
    errors = [rollout.prediction.error for rollout in rollouts if rollout.prediction.status == "failed"]
    if rollouts and len(errors) == len(rollouts):
        raise ValueError(f"all {len(errors)} episodes of a step failed, the first with: {errors[0]}")


def reward_function(term: RewardTerm, updates_per_step: int) -> Callable[..., list[float | None]]:
    """A term as a reward function of TRL; a failed episode has no reward, so that its group leaves it out."""

    def reward(
        *, sample: list[Sample], prediction: list[Prediction], trainer_state: Any, **_: Any
    ) -> list[float | None]:
        step = trainer_state.global_step // updates_per_step
        return [
            None if entry.status == "failed" else term.value(case_of(gold, entry), step)
            for gold, entry in zip(sample, prediction, strict=True)
        ]

    reward.__name__ = term.name
    return reward
