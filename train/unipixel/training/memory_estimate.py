"""How much memory the weights of a run take on each device, by arithmetic. Activations come on top."""

from __future__ import annotations

from typing import NamedTuple

from unipixel.configs import LoopConfig

GIB = 2**30


class ParameterCounts(NamedTuple):
    """Numbers of a model."""

    trained: int
    total: int
    sharded: int
    """Those that ZeRO 3 shards (see `unipixel.training.zero3`)."""


class MemoryEstimate(NamedTuple):
    """Bytes on one device, and in main memory where something is offloaded."""

    weights: float
    gradients: float
    optimizer: float
    """Adam's two means, and DeepSpeed's fp32 copy of 16-bit weights."""
    offloaded: float = 0.0
    """In main memory, for one device."""

    def __str__(self) -> str:
        """A line for a person."""
        parts = " + ".join(
            f"{name} {size / GIB:.2f}" for name, size in self._asdict().items() if name != "offloaded" or size
        )
        return f"{parts} = {sum(self[:3]) / GIB:.2f} GiB a device, before activations"


def estimate_memory(counts: ParameterCounts, loop: LoopConfig, processes: int) -> MemoryEstimate:
    """Memory of a run.

    Trained weights are in fp32 without DeepSpeed; with it, all are as they compute, and the optimizer keeps a copy in
    fp32 where that is bf16. A stage of ZeRO shards the optimizer (1), the gradients (2), and matrices (3).

    Args:
        counts: numbers of the model.
        loop: precision, ZeRO stage, offload.
        processes: devices that share what is sharded.
    """
    computing = 2 if loop.bf16 else 4
    trained, total, sharded = counts
    if loop.zero is None:
        return MemoryEstimate((total - trained) * computing + trained * 4, trained * 4, trained * 8)
    optimizer = trained * (12 if loop.bf16 else 8) / (processes if loop.zero >= 1 else 1)
    gradients = trained * computing / (processes if loop.zero >= 2 else 1)
    whole = (total - (sharded if loop.zero == 3 else 0)) * computing
    share = sharded * computing / processes if loop.zero == 3 else 0.0
    if loop.offload:
        return MemoryEstimate(whole, gradients, 0.0, optimizer + share)
    return MemoryEstimate(whole + share, gradients, optimizer)
