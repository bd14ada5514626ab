"""Random evidence of equal size: the spans of cited evidence at other times, its masks at other places.

Placements are drawn `TRIES` times; the first one without overlap with the cited evidence is used, else the one with the
least, since what overlaps with the evidence measures the evidence again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evqa.faithfulness.evidence import Evidence, ReadMask
from evqa.media import Video
from evqa.media.edits import runs_of

TRIES = 100
"""Placements that are drawn."""

PROBED_FRAMES = 8
"""Frames on which the overlap of moved masks is measured."""


def move_evidence(evidence: Evidence, video: Video, rng: np.random.Generator) -> Evidence:
    """Random evidence of equal size: as many spans of the same lengths, and the masks moved in their frames.

    Frames of masks stay the same: their masks move by one offset for the whole video, over its edges if they cannot
    move otherwise, so that shape, area and motion are kept.
    """
    frames = move_frames(evidence.frames, video, rng)
    return Evidence(frames=frames, masks=move_masks(evidence.masks, (video.height, video.width), rng))


def move_frames(frames: NDArray[np.int64], video: Video, rng: np.random.Generator) -> NDArray[np.int64]:
    """Frames of a video in runs as long in seconds as those of some frames, at random times; ascending indices."""
    if not len(frames):
        return frames
    starts: NDArray[np.float64] = video.times - video.times[0]
    lengths: NDArray[np.float64] = video.ends - video.times
    runs = [float(lengths[first : last + 1].sum()) for first, last in runs_of(frames)]
    best: NDArray[np.int64] | None = None
    least = len(frames) + 1
    for _ in range(TRIES):
        placement = _place_runs(rng.permutation(runs).tolist(), starts, lengths, rng)
        overlap = len(np.intersect1d(placement, frames, assume_unique=True))
        if overlap < least:
            best, least = placement, overlap
        if not overlap:
            break
    assert best is not None
    return best


def _place_runs(
    runs: Sequence[float], starts: NDArray[np.float64], lengths: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Frames of runs of some lengths in seconds, in this order, with random gaps."""
    free = max(0.0, float(starts[-1] + lengths[-1]) - sum(runs))
    gaps = np.sort(rng.uniform(0, free, len(runs)))
    indices: list[int] = []
    place, used = 0, 0.0
    for gap, run in zip(gaps.tolist(), runs, strict=True):
        first = max(place, int(np.argmin(np.abs(starts - (gap + used)))))
        place = first
        total = 0.0
        while place < len(starts) and total + lengths[place] / 2 < run:
            total += float(lengths[place])
            place += 1
        indices += range(first, place)
        used += run
    return np.array(indices, np.int64)


def move_masks(masks: Mapping[int, ReadMask], size: tuple[int, int], rng: np.random.Generator) -> dict[int, ReadMask]:
    """Masks moved by one random offset; what crosses an edge comes in at the opposite one."""
    if not masks:
        return {}
    indices = sorted(masks)
    probes = [
        masks[indices[place]]() for place in np.unique(np.linspace(0, len(indices) - 1, PROBED_FRAMES).astype(int))
    ]
    offsets = [(0, 0)]
    costs = [float("inf")]
    for _ in range(TRIES):
        offset = (int(rng.integers(size[0])), int(rng.integers(size[1])))
        cost = sum(_cost(probe, offset) for probe in probes)
        offsets.append(offset)
        costs.append(cost)
        if not cost:
            break
    offset = offsets[int(np.argmin(costs))]
    return {index: _moved_reader(read, offset) for index, read in masks.items()}


def _cost(mask: NDArray[np.bool_], offset: tuple[int, int]) -> float:
    """Pixels that overlap after a move, and half of those that cross an edge."""
    moved = np.roll(mask, offset, axis=(0, 1))
    is_cut = [_crossing(np.any(mask, axis=1 - axis), offset[axis], mask.shape[axis]) for axis in (0, 1)]
    return float((moved & mask).sum()) + (0.5 * float(mask.sum()) if any(is_cut) else 0.0)


def _crossing(is_used: NDArray[np.bool_], offset: int, length: int) -> bool:
    """Whether rows or columns in use, moved by an offset, are cut by an edge."""
    places = np.flatnonzero(is_used)
    if not len(places):
        return False
    first, last = (int(places[0]) + offset), (int(places[-1]) + offset)
    return first < length <= last


def _moved_reader(read: ReadMask, offset: tuple[int, int]) -> ReadMask:
    return lambda: np.roll(read(), offset, axis=(0, 1))
