"""Interpolation of masks for the frames between two visits of the mask decoder.

Legend: O objects, h side of the mask logits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from unipixel.inference.mask_frames import MaskFramePlan
from unipixel.model.sam2.outputs import MaskCandidates
from unipixel.model.sam2.streaming import FrameLogits, logits_in


class MaskInterpolator:
    """Interpolator that receives the masks of visited frames in order and yields the logits of all covered frames."""

    def __init__(self, visits: MaskFramePlan) -> None:
        self._order, self._stride = iter(visits.order), visits.stride
        self._start: tuple[int, FrameLogits] | None = None
        self._last: tuple[int, FrameLogits] | None = None

    def add(self, masks: MaskCandidates) -> Iterator[tuple[int, FrameLogits]]:
        """Add the masks of the next visit; yield (frame index, logits) for it and the interpolated frames before it."""
        now = next(self._order), logits_in(masks)
        start = self._start = self._start or now
        last, self._last = self._last, now
        if last is not None and now[0] < start[0] <= last[0]:
            last = start
        if last is not None and 1 < abs(now[0] - last[0]) <= self._stride:
            yield from _interpolate_frames(last, now)
        yield now


def interpolate(first: FrameLogits, second: FrameLogits, part: float) -> FrameLogits:
    """Return the logits of a frame between two frames; `part` in (0, 1) is its relative position.

    The logits of each object are translated along the line between the centres of its two masks and averaged; an object
    that is in only one of the frames is taken from the nearer frame.
    """
    near = first if part < 0.5 else second
    masses = [(frame.logits > 0).flatten(1).any(1) for frame in (first, second)]
    is_in_both = masses[0] & masses[1]  # [O]
    way = torch.where(is_in_both[:, None], _centres(second.logits) - _centres(first.logits), 0.0)  # [O, 2]
    mixed = (1 - part) * _translated(first.logits, way * part) + part * _translated(second.logits, way * (part - 1))
    logits = torch.where(is_in_both[:, None, None], mixed, near.logits)
    return FrameLogits(logits, (1 - part) * first.scores + part * second.scores)


def _interpolate_frames(
    last: tuple[int, FrameLogits], now: tuple[int, FrameLogits]
) -> Iterator[tuple[int, FrameLogits]]:
    step = 1 if now[0] > last[0] else -1
    for index in range(last[0] + step, now[0], step):
        yield index, interpolate(last[1], now[1], (index - last[0]) / (now[0] - last[0]))


def _centres(logits: Tensor) -> Tensor:
    """Return the centres (x, y) of masks [O, h, h], relative to the side: [O, 2]."""
    masks = (logits > 0).float()
    side = torch.linspace(0, 1, logits.shape[-1], device=logits.device)
    mass = masks.sum((1, 2)).clamp(min=1)
    return torch.stack([masks.sum(1) @ side / mass, masks.sum(2) @ side / mass], dim=1)


def _translated(logits: Tensor, way: Tensor) -> Tensor:
    """Return logits [O, h, h] translated by (x, y), relative to the side; the border is replicated."""
    shift = torch.zeros(len(logits), 2, 3, device=logits.device)
    shift[:, 0, 0] = shift[:, 1, 1] = 1
    shift[:, :, 2] = -2 * way
    grid = F.affine_grid(shift, [len(logits), 1, *logits.shape[-2:]], align_corners=True)
    return F.grid_sample(logits[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
