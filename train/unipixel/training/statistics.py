"""What a run has seen since its last log line: parts of the loss, tokens, samples of each data set, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from unipixel.configs import LossConfig
from unipixel.data.mixture import MixtureSampler, SampleRef

PARTS = tuple(vars(LossConfig()))
"""Names of the loss's parts."""


class TrainingStatistics:
    """Adds up what passes tell, on every process; `log_entries` gives the entries of a log line and starts anew."""

    def __init__(self, order: MixtureSampler, global_batch: int) -> None:
        self.order = order
        self.global_batch = global_batch
        self._values: dict[str, list[tuple[Tensor, Tensor | float]]] = defaultdict(list)
        self._tokens = torch.zeros(())
        self._new = (0, 0)
        self.num_skipped = self.num_loaded = 0
        """Samples of all processes that did not load, and that did, as of the last log line."""
        self._draws: Iterator[SampleRef] = iter(order)
        self._drawn: Counter[str] = Counter()
        self._clock = (time.perf_counter(), 0)

    def reset(self, step: int, num_skipped: int = 0) -> None:
        """Start the clock at an optimizer step, of a run that has skipped so many samples."""
        self.num_skipped, self.num_loaded = num_skipped, step * self.global_batch - num_skipped
        self._clock = (time.perf_counter(), step * self.global_batch)
        self._draws, self._drawn = iter(self.order), Counter()

    def count(self, *, skipped: int, loaded: int) -> None:
        """Note how many samples of a pass did not load, and how many did."""
        self._new = (self._new[0] + skipped, self._new[1] + loaded)

    def add(self, outputs: Any, inputs: Mapping[str, Any], share: Tensor | float = 1.0) -> None:
        """Note a pass: its mean over tokens, and its means over those samples that have masks.

        `share`: what its tokens weigh in the mean over passes.
        """
        self._values["lm"].append((outputs.lm_loss.detach(), share))
        num_drawn = (outputs.mask_share or 0.0) * len(inputs["input_ids"])
        for name, value in loss_parts(outputs).items():
            if name != "lm":
                self._values[name].append((value.detach(), num_drawn))
        self._tokens = self._tokens.to(inputs["attention_mask"].device) + inputs["attention_mask"].sum()

    def log_entries(self, accelerator: Accelerator, step: int) -> dict[str, float]:
        """The entries since the last call, of all processes, at the end of an optimizer step."""
        sums, tokens, skipped, loaded = self._reduced(accelerator)
        self.num_skipped, self.num_loaded = self.num_skipped + skipped, self.num_loaded + loaded
        now, samples = time.perf_counter(), step * self.global_batch
        (then, samples_then), self._clock = self._clock, (now, samples)
        seconds = now - then
        entries = {f"loss_{name}": value / weight for name, (value, weight) in sums.items() if weight}
        entries |= {"samples": samples, "passes": samples / len(self.order.mixture)}
        entries |= {"samples_per_second": (samples - samples_then) / seconds, "tokens_per_second": tokens / seconds}
        entries |= {"memory_gib": peak_memory(), "skipped": self.num_skipped}
        return entries | self._sources(samples)

    def _reduced(self, accelerator: Accelerator) -> tuple[dict[str, tuple[float, float]], float, int, int]:
        """Of all processes: sum and weight of each part of the loss, tokens that are no padding, samples."""
        table = torch.zeros(len(PARTS) + 2, 2, dtype=torch.float64 if accelerator.device.type == "cpu" else None)
        table = table.to(accelerator.device)
        for row, name in zip(table, PARTS, strict=False):
            for value, weight in self._values.pop(name, ()):
                row += torch.stack([value.to(row) * weight, torch.as_tensor(weight).to(row)])
        table[-2, 0], table[-1] = self._tokens.to(table), table.new_tensor(self._new)
        self._tokens, self._new = torch.zeros(()), (0, 0)
        if accelerator.num_processes > 1:
            reduced = accelerator.reduce(table, reduction="sum")
            assert isinstance(reduced, Tensor), reduced
            table = reduced
        *rows, (tokens, _), (skipped, loaded) = table.tolist()
        sums = {name: (value, weight) for name, (value, weight) in zip(PARTS, rows, strict=True)}
        return sums, tokens, round(skipped), round(loaded)

    def _sources(self, samples: int) -> dict[str, float]:
        """Samples drawn so far of each data set; the order of a run is known, so no process has to tell."""
        sources = self.order.mixture.sources
        self._drawn.update(sources[d.source].name for d in islice(self._draws, samples - self._drawn.total()))
        return {f"drawn/{source.name}": self._drawn[source.name] for source in sources}


def loss_parts(outputs: Any) -> dict[str, Tensor]:
    """The parts of the loss by the names of `LossConfig`; no mask parts where the batch has no masks."""
    parts = {"lm": outputs.lm_loss}
    return parts if outputs.mask_loss is None else parts | outputs.mask_loss._asdict()


def peak_memory() -> float:
    """GiB that this process held at most so far: of its GPU where it has one, else of main memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
