"""F: how well the outline of a mask fits: the contour accuracy of DAVIS (Perazzi et al. 2016).

An outline pixel is met where the other outline has a pixel within the tolerance; F is the harmonic mean of
the shares met on either side. Only integers are compared, so the values are those of a dilation with a disk.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownVariableType=false
# scipy has no types

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
"""bool `[H, W]`"""

TOLERANCE = 0.008
"""Tolerance as a share of the frame's diagonal; DAVIS' `bound_th`."""


def boundary_f(predicted: Mask, gold: Mask) -> float:
    """F of two masks `[H, W]` of one size: 1 where both are empty, 0 where one is."""
    assert predicted.shape == gold.shape, (predicted.shape, gold.shape)
    box = _union_box(predicted, gold)
    if box is None:
        return 1.0
    if not (predicted.any() and gold.any()):
        return 0.0
    ours, theirs = (np.argwhere(outline(mask[box])) for mask in (predicted, gold))  # [n, 2] rows of (y, x)
    if not (len(ours) and len(theirs)):
        return float(len(ours) == len(theirs))
    radius = tolerance(*gold.shape)
    precision = _num_met(ours, theirs, radius) / len(ours)
    recall = _num_met(theirs, ours, radius) / len(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outline(mask: Mask) -> Mask:
    """The outline `[H, W]`: pixels that differ from the one to the right, below, or to the right below.

    The last row looks right only, the last column down only, and the corner is never outline; so the frame's
    edge is none either, and a full mask has no outline.
    """
    edge = np.zeros_like(mask)
    here = mask[:-1, :-1]
    edge[:-1, :-1] = (here ^ mask[:-1, 1:]) | (here ^ mask[1:, :-1]) | (here ^ mask[1:, 1:])
    edge[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return edge


def tolerance(height: int, width: int) -> int:
    """Pixels that an outline may be off, rounded up."""
    return math.ceil(TOLERANCE * math.sqrt(height**2 + width**2))


def _union_box(first: Mask, second: Mask) -> tuple[slice, slice] | None:
    """Rows and columns around both masks and one pixel more inside the frame; None where both are empty."""
    either = first | second
    rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    if not len(rows):
        return None
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _num_met(points: NDArray[np.intp], others: NDArray[np.intp], radius: int) -> int:
    """How many of `points` `[n, 2]` have one of `others` `[m, 2]` within `radius`, both ends included."""
    tree = KDTree(others, balanced_tree=False, compact_nodes=False)
    between = math.sqrt(radius**2 + 0.5)  # squared distances are integers: none lies between radius^2 and this squared
    distance = cast("NDArray[np.float64]", tree.query(points, distance_upper_bound=between)[0])
    return int(np.isfinite(distance).sum())
