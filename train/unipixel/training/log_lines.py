"""Progress of a training run as lines of text."""

from __future__ import annotations

import logging
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unipixel.configs import LossConfig

logger = logging.getLogger(__name__)


class ProgressCallback(TrainerCallback):
    """Trainer callback that logs one line per logging step and per evaluation, on the first process only."""

    def __init__(self) -> None:
        self._start = (0.0, 0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Store time and step, from which the remaining time is estimated."""
        self._start = (time.perf_counter(), state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Also log at each checkpoint and at the end, so that the log of a checkpoint covers all its steps."""
        control.should_log |= control.should_save or control.should_training_stop

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log the metrics of a step or of an evaluation; the final summary of Trainer is left out."""
        if not (state.is_world_process_zero and logs):
            return
        if any(name.startswith("eval_") for name in logs):
            metrics = "  ".join(f"{name.removeprefix('eval_')} {logs[name]:.3g}" for name in logs if "eval_" in name)
            logger.info("eval step %d: %s", state.global_step, metrics)
        if "loss" in logs:
            start, step = self._start
            seconds_per_step = (time.perf_counter() - start) / max(state.global_step - step, 1)
            remaining = seconds_per_step * (state.max_steps - state.global_step)
            logger.info("%s", log_line(state, logs, remaining))


def log_line(state: TrainerState, logs: dict[str, float], remaining: float) -> str:
    """`step 40/1200  loss 12.31 (lm 1.20 ...)  lr 2.0e-05  grad_norm 3.1  2.5 samples/s  12 min left`."""
    names = vars(LossConfig())
    parts = " ".join(f"{name} {logs[f'loss_{name}']:.3g}" for name in names if f"loss_{name}" in logs)
    skipped = f"  {logs['skipped']} skipped" if logs.get("skipped") else ""
    grad_norm = f"  grad_norm {logs['grad_norm']:.3g}" if "grad_norm" in logs else ""
    return (
        f"step {state.global_step}/{state.max_steps}  loss {logs['loss']:.4g} ({parts})  "
        f"lr {logs['learning_rate']:.1e}{grad_norm}  "
        f"{logs['samples_per_second']:.3g} samples/s{skipped}  {format_duration(remaining)} left"
    )


def format_duration(seconds: float) -> str:
    """Seconds, minutes or hours, by the length of the duration."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
