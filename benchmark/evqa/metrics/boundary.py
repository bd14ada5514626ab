"""F: how well the outline of a mask fits: the contour accuracy of DAVIS (Perazzi et al. 2016).

An outline pixel is met where the other outline has a pixel within the tolerance; F is the harmonic mean of
the shares met on either side. Only integers are compared, so the values are those of a dilation with a disk.
`compare` counts them, in C where that was built (`evqa/native.c`), else here in numpy.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from evqa.masks import native, to_array
from evqa.masks.native import BoundaryCounts, FrameMask

Mask = NDArray[np.bool_]
"""bool `[H, W]`"""

TOLERANCE = 0.008
"""Tolerance as a share of the frame's diagonal; DAVIS' `bound_th`."""


def compare(predicted: FrameMask, gold: FrameMask) -> BoundaryCounts:
    """What J and F of two masks of one size are made of; predicted is the first.

    Raises `native.BadRunsError` for run lengths that do not fit their size.
    """
    size = size_of(gold)
    assert size_of(predicted) == size, (size_of(predicted), size)
    radius = tolerance(*size)
    counts = native.compare(predicted, gold, size, radius)
    return compare_in_numpy(*_drawn_pair(predicted, gold), radius) if counts is None else counts


def compare_in_numpy(predicted: Mask, gold: Mask, radius: int) -> BoundaryCounts:
    """As `compare`, of bool `[H, W]` and with any radius: the definition that the compiled part is held to."""
    counts = BoundaryCounts(
        int(np.count_nonzero(predicted & gold)), int(np.count_nonzero(predicted)), int(np.count_nonzero(gold))
    )
    if not (counts.first and counts.second):
        return counts
    box = _union_box(predicted, gold)
    predicted_outline, gold_outline = outline(predicted[box]), outline(gold[box])
    counts = counts._replace(
        first_outline=int(np.count_nonzero(predicted_outline)), second_outline=int(np.count_nonzero(gold_outline))
    )
    return counts._replace(
        first_met=_num_met(predicted_outline, gold_outline, radius),
        second_met=_num_met(gold_outline, predicted_outline, radius),
    )


def f_measure(counts: BoundaryCounts) -> float:
    """F: 1 where both masks are empty or neither has an outline, 0 where only one is or has."""
    if not (counts.first and counts.second):
        return float(counts.first == counts.second)
    if not (counts.first_outline and counts.second_outline):
        return float(counts.first_outline == counts.second_outline)
    precision = counts.first_met / counts.first_outline
    recall = counts.second_met / counts.second_outline
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_f(predicted: FrameMask, gold: FrameMask) -> float:
    """F of two masks of one size."""
    return f_measure(compare(predicted, gold))


def size_of(mask: FrameMask) -> tuple[int, int]:
    """(H, W)."""
    return (mask.shape[0], mask.shape[1]) if isinstance(mask, np.ndarray) else mask.size


def outline(mask: Mask) -> Mask:
    """The outline `[H, W]`: pixels that differ from the one to the right, below, or to the right below.

    The last row looks right only, the last column down only, and the corner is never outline; so the frame's
    edge is none either, and a full mask has no outline.
    """
    edge = np.zeros_like(mask)
    corner = mask[:-1, :-1]
    edge[:-1, :-1] = (corner ^ mask[:-1, 1:]) | (corner ^ mask[1:, :-1]) | (corner ^ mask[1:, 1:])
    edge[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return edge


@functools.lru_cache(maxsize=64)
def tolerance(height: int, width: int) -> int:
    """Pixels that an outline may be off, rounded up."""
    return math.ceil(TOLERANCE * math.sqrt(height**2 + width**2))


def _drawn_pair(predicted: FrameMask, gold: FrameMask) -> tuple[Mask, Mask]:
    try:
        first = to_array(predicted)
    except ValueError as error:
        raise native.BadRunsError(first=True) from error
    try:
        return first, to_array(gold)
    except ValueError as error:
        raise native.BadRunsError(first=False) from error


def _union_box(first: Mask, second: Mask) -> tuple[slice, slice]:
    """Rows and columns around both masks, which are not empty, and one pixel more inside the frame."""
    either = first | second
    rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _num_met(points: Mask, targets: Mask, radius: int) -> int:
    """How many pixels of `points` have one of `others` within `radius`, both ends included."""
    height, width = points.shape
    stride = width + radius  # from row to row, so that what is near on one row is not near on the next
    left, there = (ys * stride + xs for ys, xs in (np.nonzero(points), np.nonzero(targets)))  # ascending
    there = np.append(there, np.iinfo(np.int64).max)
    total = len(left)
    for away in range(min(radius, height - 1) + 1):
        half = math.isqrt(radius**2 - away**2)
        for row in sorted({-away, away}):
            nearest = there[np.searchsorted(there, left + (row * stride - half))]
            left = left[nearest > left + (row * stride + half)]
    return total - len(left)
