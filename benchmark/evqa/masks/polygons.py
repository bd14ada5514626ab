"""Masks and polygons: `to_polygons` and `from_polygons`, exact both ways.

Polygons lie on pixel edges: pixel (x, y) is the square from (x, y) to (x + 1, y + 1), and it is inside where its centre
(x + 0.5, y + 0.5) is. So an outline along pixel edges is exact: `from_polygons` of the result of `to_polygons` returns
the same mask. A file whose corners are pixel centres loses a row and a column of pixels at its lower and right side.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# scipy has no types

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from scipy import ndimage

from evqa.masks.rle import check_mask, check_size

Points = Sequence[Sequence[float]]
"""Corners `[[x, y], ...]` in pixels; an edge connects the last to the first."""


class Polygon(NamedTuple):
    """Outline of a connected region and of its holes."""

    exterior: Points
    holes: Sequence[Points]


def from_polygons(exterior: Points, holes: Sequence[Points], size: tuple[int, int]) -> np.ndarray:
    """Draw a polygon as bool [H, W]: pixels whose centres are inside the exterior and in no hole (even-odd rule).

    Args:
        exterior: Corners in pixels; fewer than 3 enclose nothing.
        holes: Corners of each hole.
        size: (H, W) of the mask.

    Raises:
        ValueError: The size is out of range, or a corner is not a finite pair of coordinates below 2^31.
    """
    check_size(size)
    mask = _fill(exterior, size)
    for hole in holes:
        mask &= ~_fill(hole, size)
    return mask


def to_polygons(mask: np.ndarray) -> list[Polygon]:
    """Outlines of a mask's regions along pixel edges, one polygon per region (connected by sides, not by corners)."""
    check_mask(mask)
    labels = cast("tuple[np.ndarray, int]", ndimage.label(mask != 0))[0]
    exteriors: dict[int, Points] = {}
    holes: dict[int, list[Points]] = {}
    for label, outline in _outlines(labels):
        if _signed_area(outline) > 0:
            exteriors[label] = outline
        else:
            holes.setdefault(label, []).append(outline)
    return [Polygon(exteriors[label], holes.get(label, [])) for label in sorted(exteriors)]


# Pixels of a polygon


def _fill(points: Points, size: tuple[int, int]) -> np.ndarray:
    """Draw one outline by scan lines, bool [H, W]; inside = an odd number of edges cross the row left of the pixel."""
    height, width = size
    corners = _corners(points)
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
    counts = last - first  # rows whose centre the edge passes, 0 for a horizontal one
    edge = np.repeat(np.arange(len(corners)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    crossings = x0[edge] + (rows + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
    changes = np.bincount(rows * (width + 1) + columns, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.cumsum(changes, axis=1)[:, :width] % 2 == 1


def _corners(points: Points) -> np.ndarray:
    """Corners as float64 [N, 2]; raises a ValueError for anything else."""
    if any(len(point) != 2 for point in points):
        raise ValueError(f"a polygon has corners [x, y], got {str(points)[:80]}")
    corners = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if not np.all(np.abs(corners) < 2**31):
        raise ValueError("the corners of a polygon are finite pixel coordinates below 2^31")
    return corners


# Outlines of a mask


_Corner = tuple[int, int]

_STEPS: tuple[_Corner, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""(dx, dy) of the directions right, down, left, up; the next one is a turn to the right.

An edge connects two corners of the pixel grid, with its pixel on its right side (image axes, y downwards).
"""


def _outlines(labels: np.ndarray) -> list[tuple[int, Points]]:
    """(label of the region, corners) of each outline: clockwise around a region, counter-clockwise around a hole."""
    edges = _edges(labels)
    outlines: list[tuple[int, Points]] = []
    while edges:
        corner = next(iter(edges))
        direction = next(iter(edges[corner]))
        label = edges[corner][direction]
        outlines.append((label, _walk(edges, corner, direction)))
    return outlines


def _edges(labels: np.ndarray) -> dict[_Corner, dict[int, int]]:
    """Corner (x, y) -> direction of an edge that starts there -> label of the pixel on the right side of the edge."""
    padded = np.pad(labels, 1)
    inner = padded[1:-1, 1:-1]
    neighbours = (
        padded[:-2, 1:-1],
        padded[1:-1, 2:],
        padded[2:, 1:-1],
        padded[1:-1, :-2],
    )  # above, right, below, left
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))  # corner of the pixel where its edge in that direction starts
    edges: dict[_Corner, dict[int, int]] = {}
    for direction in range(4):
        dx, dy = starts[direction]
        for y, x in np.argwhere((inner != 0) & (neighbours[direction] == 0)).tolist():
            edges.setdefault((x + dx, y + dy), {})[direction] = int(labels[y, x])
    return edges


def _walk(edges: dict[_Corner, dict[int, int]], start: _Corner, direction: int) -> Points:
    """Follow an outline back to its start and remove its edges from `edges`; returns the corners at which it turns."""
    corners: list[list[int]] = []
    corner: _Corner = start
    current, previous = direction, -1
    while corner in edges and current in edges[corner]:
        if current != previous:
            corners.append([corner[0], corner[1]])
        del edges[corner][current]
        if not edges[corner]:
            del edges[corner]
        step = _STEPS[current]
        corner, previous = (corner[0] + step[0], corner[1] + step[1]), current
        # the sharpest right turn first: at a corner where two pixels touch, it stays with its own pixel
        turns = ((previous + turn) % 4 for turn in (1, 0, 3))
        current = next((turn for turn in turns if turn in edges.get(corner, {})), previous)
    if previous == direction and len(corners) > 1:
        corners.pop(0)  # the start lies within a straight line
    return corners


def _signed_area(points: Points) -> float:
    """Area of an outline, positive where it is clockwise on the screen."""
    x, y = np.asarray(points, dtype=np.float64).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
