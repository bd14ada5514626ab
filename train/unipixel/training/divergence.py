"""Is a run still learning: its loss and its gradient, averaged over some fifty steps, against the lowest so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

WINDOW = 50
"""Steps that the running mean looks back; batches of several kinds have losses of several sizes."""

LEAST_WEIGHT = 0.5
"""A mean of fewer than two thirds of a window tells nothing yet."""

GRADIENT_FACTOR = 16.0
"""A gradient's norm may rise so many times more than the loss: it falls by orders of magnitude in a good run."""


class DivergenceMonitor:
    """Reads the lines of a log in order."""

    def __init__(self, max_rise: float, history: Iterable[Mapping[str, Any]] = ()) -> None:
        """`max_rise`: see `OptimizerConfig`; `log_history`: lines that the run logged before it was cut off."""
        rises = {"loss": max_rise, "grad_norm": GRADIENT_FACTOR * max_rise}
        self._watched = {name: _RunningMean(rise) for name, rise in rises.items()} if max_rise else {}
        self._step = 0
        for line in history:
            if "loss" in line:
                self.update(line, int(line["step"]))

    def update(self, line: Mapping[str, Any], step: int) -> str | None:
        """What is wrong at this step; None = nothing."""
        for name in ("loss", "grad_norm"):
            if not math.isfinite(line.get(name, 0.0)):
                return f"{name} is {line[name]}"
        steps, self._step = step - self._step, step
        for name, running in self._watched.items():
            if name in line and (risen := running.see(line[name], steps)):
                return f"{name} {risen}"
        return None


class _RunningMean:
    """A mean that forgets, and the lowest that it was."""

    def __init__(self, max_rise: float) -> None:
        self._max_rise = max_rise
        self._sum = self._weight = 0.0
        self._lowest = math.inf

    def see(self, value: float, steps: int) -> str | None:
        kept = (1 - 1 / WINDOW) ** max(steps, 1)
        self._sum = kept * self._sum + (1 - kept) * value
        self._weight = kept * self._weight + (1 - kept)
        if self._weight < LEAST_WEIGHT:
            return None
        mean = self._sum / self._weight
        self._lowest = min(self._lowest, mean)
        if mean <= self._max_rise * self._lowest:
            return None
        return f"rose to {mean:.3g} from {self._lowest:.3g}, more than {self._max_rise:g} times"
