"""Group relative policy optimization of an agent that reads text, by TRL's `GRPOTrainer`.

Left out on purpose: TRL's own tool loop and environments (the policy plays the episodes of evaluation, `rollout`),
generation servers and replay of old rollouts (each step trains on what it sampled), learned reward models, and
curricula. Policies that get images are trained through `environment`.

    task = EpisodeTask(samples=train, held_out=val, start=start_episode)
    trainer = build_trainer(model, tokenizer, config, task)
    trainer.train()

`start(policy, transcript, seed)` returns an `EpisodeRun`, for example `methods.episodes.start_episode` with the agents
of the team in it. `model` is a causal language model of transformers, `tokenizer` its tokenizer with a chat template.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evqa.models.chat_tokens import ChatTokenizer
from evqa.models.text_model import TextModel
from evqa.schema import Prediction, Sample
from unipixel.rl import policy, rollout
from unipixel.rl.arguments import grpo_arguments, lora_arguments
from unipixel.rl.configs import RLConfig
from unipixel.rl.rewards import RewardTerm, case_of
from unipixel.rl.rollout import Rollout, StartEpisode

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl.trainer.grpo_trainer import GRPOTrainer

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
    """Questions for evaluation during training."""
    on_rollouts: Callable[[Sequence[Rollout], int], None] | None = None
    """Called with the rollouts of this process and the number of the step, before their rewards are computed."""


def build_trainer(
    model: Any,
    tokenizer: Any,
    config: RLConfig,
    task: EpisodeTask,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> GRPOTrainer:
    """Build the trainer of a run; `trainer.train()` trains, with `resume_from_checkpoint` from a checkpoint.

    Args:
        model: causal language model of transformers; an adapter is added by the config.
        tokenizer: its tokenizer, with a chat template.
        config: the config of the run.
        task: samples and how their episodes start.
        callbacks: callbacks of transformers, called at each step.

    Raises:
        ValueError: a batch does not divide among the processes, or the tokenizer has no chat template.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.grpo_trainer import GRPOTrainer

    arguments = grpo_arguments(config, processes=int(os.environ.get("WORLD_SIZE", "1")))
    chat = ChatTokenizer(tokenizer)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[reward_function(term, config.grpo.updates_per_step) for term in config.rewards],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": str(place)} for place in range(len(task.samples))]),
        processing_class=tokenizer,
        peft_config=lora_arguments(config),
        rollout_func=rollout_function(config, task, chat),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def rollout_function(
    config: RLConfig, task: EpisodeTask, chat: ChatTokenizer
) -> Callable[[list[str], Any], dict[str, Any]]:
    """The `rollout_func` of a run: the prompts are numbers of samples, each repeated for its group."""

    def generate_rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        samples = [task.samples[int(prompt)] for prompt in prompts]
        step = trainer.state.global_step // config.grpo.updates_per_step
        first = config.seed + SEED_STRIDE * step + trainer.accelerator.process_index * len(prompts)
        rollouts = rollout.play(
            policy_model(config, trainer, chat),
            task.start,
            samples,
            [first + place for place in range(len(prompts))],
            largest_of=agreement_of(config, trainer),
        )
        check_rollouts(rollouts)
        if task.on_rollouts is not None:
            task.on_rollouts(rollouts, step)
        return rollout.to_columns(rollouts)

    return generate_rollouts


def policy_model(config: RLConfig, trainer: Any, chat: ChatTokenizer) -> TextModel:
    """The model in training."""
    limits = config.rollout
    return policy.policy_of(
        trainer,
        chat,
        max_tokens=limits.max_prompt_tokens + limits.max_reply_tokens,
        max_reply_tokens=limits.max_reply_tokens,
    )


def agreement_of(config: RLConfig, trainer: Any) -> policy.Largest | None:
    """How processes agree on the number of turns; None = each generates on its own."""
    is_collective = config.loop.zero_stage == 3 or config.rollout.engine == "vllm"
    if trainer.accelerator.num_processes == 1 or not is_collective:
        return None
    return lambda count: policy.largest(trainer, count)


def evaluate(config: RLConfig, trainer: Any, task: EpisodeTask, *, is_greedy: bool = True) -> list[Rollout]:
    """Play the held-out episodes with the model in training, those of this process, without training on them.

    Args:
        config: the config of the run.
        trainer: the trainer.
        task: its held-out samples are divided among the processes.
        is_greedy: greedy decoding; else sampled as in training.
    """
    import contextlib

    import torch

    process, processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
    samples = task.held_out[process::processes]
    model = policy_model(config, trainer, ChatTokenizer(trainer.processing_class))
    is_training = trainer.model.training
    trainer.model.eval()
    devices = [trainer.accelerator.device] if trainer.accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices), policy.greedy(trainer) if is_greedy else contextlib.nullcontext():
        rollouts = rollout.play(
            model,
            task.start,
            samples,
            [config.seed + place for place in range(process, len(task.held_out), processes)],
            largest_of=agreement_of(config, trainer),
        )
    trainer.model.train(is_training)
    return rollouts


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
