"""What a tracker remembers of the frames that it has seen, and which of it a new frame reads.

Frames are counted in steps from the prompted one (step 0): 1, 2, ... after it, -1, -2, ... before it. A frame
reads the prompted frame, and its nearest neighbours among those that were tracked before it; the distance in
steps is all that it is told of their time (SAM 2, section 4 and appendix D).

Legend: O objects, C hidden width, M memory width, g side of the coarse features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NUM_MEMORIES = 7
"""Remembered feature maps that a frame reads: the prompted frame's and those of at most six others."""

NUM_POINTERS = 16
"""Object pointers that a frame reads: the prompted frame's and those of at most fifteen others."""


class FrameMemory(NamedTuple):
    """What is kept of a frame, per object."""

    spatial: Tensor | None
    """[g*g, O, M]; None once it is too far to be read."""
    pointer: Tensor
    """[O, C]"""


class MemoryBank(NamedTuple):
    """What a frame may read; a new frame makes a new bank, so that backward can repeat a step."""

    first: FrameMemory
    """Of the prompted frame."""
    others: tuple[tuple[int, FrameMemory], ...]
    """(step, memory) of other frames, the nearest first."""
    step: int
    """Of the frame that reads."""

    @property
    def layout(self) -> tuple[int, ...]:
        """Equal for banks that can be read together: the distances to what they hold."""
        return (abs(self.step), *(abs(self.step - step) for step, _ in self.others))

    def after(self, memory: FrameMemory) -> MemoryBank:
        """The bank of the next frame in the same direction, when `memory` is what this frame left."""
        direction = 1 if self.step > 0 else -1
        return memory_at(self.first, [(self.step, memory), *self.others], self.step + direction)

    def maps(self) -> list[tuple[Tensor, int]]:
        """Feature maps [g*g, O, M] and their distances: the prompted frame's (called 0), then far to near."""
        near = [(memory.spatial, abs(self.step - step)) for step, memory in self.others]
        found = [(self.first.spatial, 0), *reversed(near)]
        return [(spatial, distance) for spatial, distance in found if spatial is not None]

    def pointers(self) -> Tensor:
        """[P, O, C], the prompted frame's, then near to far: as `layout` counts."""
        return torch.stack([self.first.pointer, *(memory.pointer for _, memory in self.others)])


def memory_at(first: FrameMemory, others: Sequence[tuple[int, FrameMemory]], step: int) -> MemoryBank:
    """The bank of the frame at `step`; what is too far away to be read is let go."""
    kept = [(s, memory) for s, memory in others if abs(step - s) < NUM_POINTERS]
    return MemoryBank(
        first, tuple((s, m if abs(step - s) < NUM_MEMORIES else m._replace(spatial=None)) for s, m in kept), step
    )


def first_bank(first: FrameMemory) -> MemoryBank:
    """The bank of the frame after the prompted one."""
    return MemoryBank(first, (), 1)


def merge(banks: Sequence[MemoryBank]) -> MemoryBank:
    """Banks of one layout as the bank of all their objects."""
    assert len({bank.layout for bank in banks}) == 1, [bank.layout for bank in banks]
    if len(banks) == 1:
        return banks[0]
    others = [
        (step, _joined([bank.others[place][1] for bank in banks])) for place, (step, _) in enumerate(banks[0].others)
    ]
    return MemoryBank(_joined([bank.first for bank in banks]), tuple(others), banks[0].step)


def split(memory: FrameMemory, counts: Sequence[int]) -> list[FrameMemory]:
    """A memory of all objects as memories of groups with so many objects each."""
    if len(counts) == 1:
        return [memory]
    assert memory.spatial is not None
    spatial, pointers = memory.spatial.split(list(counts), 1), memory.pointer.split(list(counts))
    return [FrameMemory(*part) for part in zip(spatial, pointers, strict=True)]


def sine_1d(times: Tensor, width: int) -> Tensor:
    """Sines of times [...] at width/2 wavelengths, then their cosines: [..., width]."""
    half = torch.arange(width // 2, device=times.device)
    angles = times[..., None].float() / 10000.0 ** (2 * (half // 2) / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def sine_2d(grid: int, width: int, device: torch.device) -> Tensor:
    """Row, then column of each cell, as interleaved sines and cosines: [grid*grid, 1, width]."""
    place = torch.arange(1, grid + 1, device=device) / (grid + 1e-6) * 2 * math.pi
    half = torch.arange(width // 2, device=device)
    angles = place[:, None] / 10000.0 ** (2 * (half // 2) / (width // 2))  # [grid, width/2]
    line = torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)
    rows = line[:, None].expand(grid, grid, -1)
    columns = line[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)[:, None]


def _joined(memories: Sequence[FrameMemory]) -> FrameMemory:
    maps = [memory.spatial for memory in memories if memory.spatial is not None]
    return FrameMemory(torch.cat(maps, 1) if maps else None, torch.cat([memory.pointer for memory in memories]))
