"""Training loop of all pre-training stages: AdamW, linear warmup, cosine decay, clipping, logged moving averages."""

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
"""Decay of the logged moving averages."""


@dataclass
class PretrainingStep:
    """One optimizer step."""

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    averages: dict[str, float]

    def record(self, name: str, value: Tensor | float) -> None:
        """Add a value to the moving average `name`."""
        number = float(value)
        self.averages[name] = DECAY * self.averages.get(name, number) + (1 - DECAY) * number

    def minimise(self, loss: Tensor) -> None:
        """Backward pass and optimizer step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        self.record("loss", loss.detach())


@dataclass(frozen=True, kw_only=True)
class PretrainingSchedule:
    """Length and learning rate of a stage."""

    num_steps: int
    lr: float
    log_every: int = 50
    averages: dict[str, float] = field(default_factory=dict)

    def steps(self, parameters: Iterable[nn.Parameter], logger: logging.Logger) -> Iterator[PretrainingStep]:
        """Yield the steps; the body of the loop computes a loss and calls `PretrainingStep.minimise`."""
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
