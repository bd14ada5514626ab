"""TRL's `GRPOTrainer` with checkpoints that are complete or absent, evaluation by the benchmark, and times by phase."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import broadcast
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.grpo_trainer import GRPOTrainer

from evqa.files import jsonl
from evqa.models.text_model import TextModel
from unipixel import integrity
from unipixel.rl import run_record
from unipixel.rl.configs import RLConfig
from unipixel.rl.data import RolloutOrder
from unipixel.rl.policy import Largest
from unipixel.training import checkpoint_folder
from unipixel.training.log_lines import metric_words

Evaluate = Callable[[Any], dict[str, float]]
"""Metrics of the held-out questions, by the trainer; called by all processes."""


class AgentTrainer(GRPOTrainer):
    """Trainer of an agent.

    A checkpoint is written into `partial/` and renamed when it is complete, so that a killed run resumes from the
    newest one. `best/` has the weights with the best evaluation.
    """

    def __init__(
        self, *, config: RLConfig, record: Mapping[str, Any], evaluation: Evaluate | None = None, **kwargs: Any
    ) -> None:
        """Create the trainer.

        Args:
            config: the config of the run.
            record: record of the run, stored with each checkpoint.
            evaluation: function of this trainer that returns the metrics of the held-out questions; None = none.
            **kwargs: arguments of `GRPOTrainer`.
        """
        super().__init__(**kwargs)
        self.config, self.record, self.evaluation = config, record, evaluation
        self.policy_model: TextModel = None  # type: ignore[assignment]  (made of this trainer by `grpo.build_trainer`)
        """The model in training as a model of texts."""
        self.agreement: Largest | None = None
        """How processes agree on the number of turns (`policy.Agreement`); None = each generates on its own."""
        self.phases = PhaseTimes()
        self.add_callback(self.phases)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        config = self.config
        return RolloutOrder(
            num_samples=len(self.train_dataset if dataset is None else dataset),  # type: ignore[arg-type]
            questions_per_step=config.rollout.questions_per_step,
            group_size=config.rollout.group_size,
            passes=config.passes(self.args.world_size),
            steps=config.loop.steps,
            seed=config.seed,
        )

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Train; a new run is evaluated before its first step."""
        self.args.eval_on_start = self.evaluation is not None and resume_from_checkpoint is None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """Evaluate on the held-out questions, and keep the weights if they are the best so far."""
        with self.phases.measured_alone("evaluation"):
            metrics = {} if self.evaluation is None else self.evaluation(self)
        if metrics:
            super(GRPOTrainer, self).log(metrics)
            self._keep_best(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the metrics of steps with the seconds of their phases."""
        if "loss" in logs:
            logs |= self.phases.take()
        super().log(logs, start_time)

    def _keep_best(self, metrics: Mapping[str, float]) -> None:
        final = self.config.out / run_record.BEST
        if not self._agreed(is_true=metrics[run_record.SCORE] > run_record.best_score(self.config.out)):
            return
        partial = self.config.out / checkpoint_folder.PARTIAL / run_record.BEST
        self.save_model(str(partial))
        if self.is_world_process_zero():
            jsonl.write_json(partial / run_record.SCORE_FILE, {"step": self.state.global_step, **metrics})
            checkpoint_folder.commit_folder(partial, final)
        self.accelerator.wait_for_everyone()

    def _agreed(self, *, is_true: bool) -> bool:
        """The value of the first process: a file that it writes may change what the others read."""
        value: Any = broadcast(torch.tensor([is_true], dtype=torch.uint8, device=self.accelerator.device))
        return bool(value.item())

    # Checkpoints

    def _get_output_dir(self, trial: object) -> str:
        """Folder that Trainer writes to; `_save_checkpoint` moves the complete checkpoint."""
        del trial
        return str(self.config.out / checkpoint_folder.PARTIAL)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint into a partial folder, then rename it. All processes share the file system of the run."""
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        if not all(torch.isfinite(weight).all() for weight in trained):
            raise FloatingPointError(f"a weight is not finite at step {self.state.global_step}")
        name = f"checkpoint-{self.state.global_step}"
        partial, final = self.config.out / checkpoint_folder.PARTIAL / name, self.config.out / name
        with integrity.atomic_write(partial, final, lambda: run_record.resume_advice(self.config.out)):
            super(GRPOTrainer, self)._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            run_record.write(partial, self.record)
            integrity.write_manifest(partial)
            checkpoint_folder.commit_folder(partial, final)
            checkpoint_folder.keep_newest(self.config.out, self.config.loop.save_total_limit)
        self.accelerator.wait_for_everyone()


class PhaseTimes(TrainerCallback):
    """Trainer callback that measures the seconds of a step by phase.

    policy = generation by the policy; agents = all other parts of the rollouts, such as the agents of the team;
    evaluation; update = the rest of the step.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._steps = 0
        self._started = time.perf_counter()

    @contextmanager
    def measured(self, phase: str) -> Iterator[None]:
        """Context manager that adds its time to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] += time.perf_counter() - started

    @contextmanager
    def measured_alone(self, phase: str) -> Iterator[None]:
        """As `measured`; what is measured inside counts for this phase only."""
        before = dict(self._seconds)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds = defaultdict(float, before)
            self._seconds[phase] += time.perf_counter() - started

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start a step."""
        self._started = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """End a step."""
        self._seconds["step"] += time.perf_counter() - self._started
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Mean seconds per update by phase since the last call."""
        steps, seconds = max(self._steps, 1), dict(self._seconds)
        rollouts = seconds.pop("rollouts", 0.0)
        policy, total = seconds.get("policy", 0.0), seconds.get("step", 0.0)
        means = {"policy": policy, "agents": rollouts - policy, "update": total - rollouts, "step": total}
        if "evaluation" in seconds:
            means["evaluation"] = seconds["evaluation"]
        self._seconds.clear()
        self._steps = 0
        return {f"seconds/{name}": value / steps for name, value in means.items()}


LINE_NAMES = {
    "reward": "reward",
    "right": "episodes/right",
    "calls": "calls/all",
    "turns": "episodes/turns",
    "grad_norm": "grad_norm",
}
"""Word of the line of a step -> name of the metric."""


def rollout_line(logs: Mapping[str, float]) -> str:
    """Line of a step of reinforcement learning; metrics without a value are left out."""
    return metric_words({word: logs[name] for word, name in LINE_NAMES.items() if logs.get(name) is not None})
