"""Memory bank of the mask tracker: memories of earlier frames that a frame attends to.

Frames are counted in steps from the prompted one (step 0): 1, 2, ... after it, -1, -2, ... before it. A frame attends
to the prompted frame and to its nearest neighbours among the frames processed before; their time is encoded as the
distance in steps (SAM 2, section 4 and appendix D).

Legend: O objects, C hidden width, M memory width, g side of the coarse features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NUM_MEMORIES = 7
"""Maximum number of memory feature maps of a frame: that of the prompted frame and those of six others."""

NUM_POINTERS = 16
"""Maximum number of object pointers of a frame: that of the prompted frame and those of fifteen others."""


class FrameMemory(NamedTuple):
    """Memory of a frame, per object."""

    spatial: Tensor | None
    """[g*g, O, M]; None if the frame is too far away."""
    pointer: Tensor
    """[O, C]"""


class MemoryBank(NamedTuple):
    """Memories that a frame attends to; immutable, so that the backward pass can repeat a step."""

    first: FrameMemory
    """Memory of the prompted frame."""
    neighbours: tuple[tuple[int, FrameMemory], ...]
    """(step, memory) of other frames, nearest first."""
    step: int
    """Step of the frame that attends to the bank."""

    @property
    def layout(self) -> tuple[int, ...]:
        """Distances to the memories in steps; banks of equal layout can be batched."""
        return (abs(self.step), *(abs(self.step - step) for step, _ in self.neighbours))

    def after(self, memory: FrameMemory) -> MemoryBank:
        """The bank of the next frame in the same direction, with the memory of this frame."""
        direction = 1 if self.step > 0 else -1
        return memory_at(self.first, [(self.step, memory), *self.neighbours], self.step + direction)

    def maps(self) -> list[tuple[Tensor, int]]:
        """Feature maps [g*g, O, M] and their distances: the prompted frame (distance 0), then from far to near."""
        near = [(memory.spatial, abs(self.step - step)) for step, memory in self.neighbours]
        maps = [(self.first.spatial, 0), *reversed(near)]
        return [(spatial, distance) for spatial, distance in maps if spatial is not None]

    def pointers(self) -> Tensor:
        """Object pointers [P, O, C] in the order of `layout`: the prompted frame, then from near to far."""
        return torch.stack([self.first.pointer, *(memory.pointer for _, memory in self.neighbours)])


def memory_at(first: FrameMemory, neighbours: Sequence[tuple[int, FrameMemory]], step: int) -> MemoryBank:
    """The bank of the frame at `step`, without memories that are too far away."""
    readable = [(s, memory) for s, memory in neighbours if abs(step - s) < NUM_POINTERS]
    return MemoryBank(
        first, tuple((s, m if abs(step - s) < NUM_MEMORIES else m._replace(spatial=None)) for s, m in readable), step
    )


def first_bank(first: FrameMemory) -> MemoryBank:
    """The bank of the frame after the prompted one."""
    return MemoryBank(first, (), 1)


def merge(banks: Sequence[MemoryBank]) -> MemoryBank:
    """Concatenate banks of equal layout along the objects."""
    assert len({bank.layout for bank in banks}) == 1, [bank.layout for bank in banks]
    if len(banks) == 1:
        return banks[0]
    neighbours = [
        (step, _concatenate([bank.neighbours[place][1] for bank in banks]))
        for place, (step, _) in enumerate(banks[0].neighbours)
    ]
    return MemoryBank(_concatenate([bank.first for bank in banks]), tuple(neighbours), banks[0].step)


def split(memory: FrameMemory, counts: Sequence[int]) -> list[FrameMemory]:
    """Split a memory into groups of `counts` objects."""
    if len(counts) == 1:
        return [memory]
    assert memory.spatial is not None
    spatial, pointers = memory.spatial.split(list(counts), 1), memory.pointer.split(list(counts))
    return [FrameMemory(*part) for part in zip(spatial, pointers, strict=True)]


def sine_1d(times: Tensor, width: int) -> Tensor:
    """Sine encoding [..., width] of times [...]: sines at width/2 wavelengths, then cosines."""
    half = torch.arange(width // 2, device=times.device)
    angles = times[..., None].float() / 10000.0 ** (2 * (half // 2) / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def sine_2d(grid: int, width: int, device: torch.device) -> Tensor:
    """Sine encoding [grid*grid, 1, width] of row, then column of each cell, sines and cosines interleaved."""
    place = torch.arange(1, grid + 1, device=device) / (grid + 1e-6) * 2 * math.pi
    half = torch.arange(width // 2, device=device)
    angles = place[:, None] / 10000.0 ** (2 * (half // 2) / (width // 2))  # [grid, width/2]
    line = torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)
    rows = line[:, None].expand(grid, grid, -1)
    columns = line[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)[:, None]


def _concatenate(memories: Sequence[FrameMemory]) -> FrameMemory:
    maps = [memory.spatial for memory in memories if memory.spatial is not None]
    return FrameMemory(torch.cat(maps, 1) if maps else None, torch.cat([memory.pointer for memory in memories]))
