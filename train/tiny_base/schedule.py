"""One loop for all warm-ups: AdamW, linear warm-up, cosine to zero, clipping, moving averages of what is recorded."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

WARM_UP_STEPS = 30
CLIP = 1.0
DECAY = 0.95
"""Of the moving averages that are logged."""


@dataclass
class PretrainingStep:
    """One step of a warm-up."""

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    averages: dict[str, float]

    def record(self, name: str, value: Tensor | float) -> None:
        """Add to the moving average `name`."""
        now = float(value)
        self.averages[name] = DECAY * self.averages.get(name, now) + (1 - DECAY) * now

    def minimise(self, loss: Tensor) -> None:
        """Go one step down the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        self.record("loss", loss.detach())


@dataclass(frozen=True, kw_only=True)
class PretrainingSchedule:
    """Length and learning rate of a warm-up."""

    num_steps: int
    lr: float
    log_every: int = 50
    averages: dict[str, float] = field(default_factory=dict)

    def steps(self, parameters: Iterable[nn.Parameter], logger: logging.Logger) -> Iterator[PretrainingStep]:
        """The steps; the body computes a loss and calls `Step.minimise`."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.lr, betas=(0.9, 0.98), weight_decay=0.01)
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        started = time.process_time()
        for index in range(self.num_steps):
            yield PretrainingStep(optimizer, trained, self.averages)
            rates.step()
            if (index + 1) % self.log_every == 0 or index + 1 == self.num_steps:
                values = " ".join(f"{name} {value:.3f}" for name, value in self.averages.items())
                minutes = (time.process_time() - started) / 60
                logger.info("step %d of %d, %.1f CPU-min: %s", index + 1, self.num_steps, minutes, values)

    def _rate(self, step: int) -> float:
        return min(1, (step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * min(1, step / self.num_steps)))
