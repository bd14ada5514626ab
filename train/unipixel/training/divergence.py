"""Divergence check: running means of loss and gradient norm, compared with their minimum so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unipixel.configs import SFTConfig
from unipixel.training import checkpoint_folder

WINDOW = 50
"""Time constant of the running mean in steps; batches of different modalities have different losses."""

MIN_WEIGHT = 0.5
"""Minimum total weight of a running mean, reached after about two thirds of a window."""

GRADIENT_FACTOR = 16.0
"""Factor of the limit of the gradient norm over that of the loss; it falls by orders of magnitude in a good run."""


class DivergenceCallback(TrainerCallback):
    """Trainer callback that stops a run whose loss or gradient norm is not finite or exceeds its limit."""

    def __init__(self, config: SFTConfig) -> None:
        self._config = config
        self._monitor = DivergenceMonitor(config.optimizer.divergence_factor)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the running means of a resumed run from its log."""
        self._monitor = DivergenceMonitor(self._config.optimizer.divergence_factor, state.log_history)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the metrics of a training step.

        Raises:
            FloatingPointError: the run diverges; the message names the last checkpoint.
        """
        if logs and "loss" in logs and (reason := self._monitor.update(logs, state.global_step)) is not None:
            raise FloatingPointError(stop_message(self._config, state.global_step, reason))


class DivergenceMonitor:
    """Running means of loss and gradient norm over the log entries of a run, in order."""

    def __init__(self, factor: float, history: Iterable[Mapping[str, Any]] = ()) -> None:
        """Start from an empty log or from earlier log entries.

        Args:
            factor: `OptimizerConfig.divergence_factor`; 0 = check for finite values only.
            history: log entries of the run so far.
        """
        factors = {"loss": factor, "grad_norm": GRADIENT_FACTOR * factor}
        self._means = {name: _RunningMean(limit) for name, limit in factors.items()} if factor else {}
        self._step = 0
        for entry in history:
            if "loss" in entry:
                self.update(entry, int(entry["step"]))

    def update(self, entry: Mapping[str, Any], step: int) -> str | None:
        """Add a log entry; return why the run diverges at this step, or None."""
        for name in ("loss", "grad_norm"):
            if not math.isfinite(entry.get(name, 0.0)):
                return f"{name} is {entry[name]}"
        num_steps = step - self._step
        self._step = step
        for name, mean in self._means.items():
            if name in entry and (excess := mean.add(entry[name], num_steps)):
                return f"{name} {excess}"
        return None


class _RunningMean:
    """Exponential moving average and its minimum."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._sum = self._weight = 0.0
        self._minimum = math.inf

    def add(self, value: float, num_steps: int) -> str | None:
        """Add the mean of `num_steps` steps; return a description if the average exceeds its limit."""
        decay = (1 - 1 / WINDOW) ** max(num_steps, 1)
        self._sum = decay * self._sum + (1 - decay) * value
        self._weight = decay * self._weight + (1 - decay)
        if self._weight < MIN_WEIGHT:
            return None
        mean = self._sum / self._weight
        self._minimum = min(self._minimum, mean)
        if mean <= self._factor * self._minimum:
            return None
        return f"rose to {mean:.3g} from {self._minimum:.3g}, more than {self._factor:g} times"


def stop_message(config: SFTConfig, step: int, reason: str) -> str:
    """The error message of a run that diverges, with the last checkpoint and what to change."""
    saved = checkpoint_folder.checkpoints(config.out)
    head = f"stopped at step {step}: the run diverges, {reason}"
    if not saved:
        return f"{head}; no checkpoint was saved: start again with a lower --learning-rate, or with --bf16 False"
    return (
        f"{head}; the last checkpoint is {saved[-1]}: start again with a lower --learning-rate in another --out, or "
        f"from its weights (python -m unipixel.convert NEW --base {config.weights} --trained {saved[-1]})"
    )
