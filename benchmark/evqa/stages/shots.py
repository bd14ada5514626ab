"""Shots of a video: their detection by the difference of frames or by TransNetV2, their times, merging and splitting.

A cut is the place of the first frame of a shot; the first shot needs none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evqa.schema import Span

Seconds = NDArray[np.float64]
"""[N] presentation times of the frames that exist, ascending."""

ShotDetector = Literal["difference", "transnetv2"]

TRANSITION_THRESHOLD = 0.5
"""Probability above which a frame belongs to a transition, as published."""


def gaps(seconds: Sequence[float], end: float | None = None) -> list[Span]:
    """Segments between the frames of a plan, and from the last one to the end of the video."""
    bounds = [*seconds, end] if end is not None and (not seconds or end > seconds[-1]) else list(seconds)
    return [Span(first, second) for first, second in pairwise(bounds)]


def shots_of_cuts(cuts: Sequence[int], times: Seconds, duration: float) -> list[Span]:
    """Shots in seconds. Each ends where the next one begins, the last one at the end of the video.

    Args:
        cuts: index of the first frame of each shot but the first.
        times: times of the frames, at least one.
        duration: length of the video.
    """
    bounds = [float(times[place]) for place in (0, *cuts)]
    return gaps(bounds, max(duration, bounds[-1]))


# Detection


def difference_cuts(
    thumbnails: NDArray[np.uint8], seconds: Seconds, *, threshold: float = 18.0, shortest: float = 1.0
) -> list[int]:
    """Cuts by the difference of frames.

    A cut lies before a frame whose mean absolute difference to the frame before it is at least the threshold and at
    least three times the median difference of the video, so that constant motion is no cut.

    Args:
        thumbnails: [N, h, w, 3] small frames.
        seconds: [N] their times.
        threshold: grey levels of 255.
        shortest: seconds; a cut that would end a shorter shot is none.
    """
    differences = np.abs(np.diff(thumbnails.astype(np.int16), axis=0)).mean(axis=tuple(range(1, thumbnails.ndim)))
    least = max(threshold, 3 * float(np.median(differences)) if len(differences) else threshold)
    start, cuts = float(seconds[0]), list[int]()
    for place, difference in enumerate(differences, 1):
        if difference >= least and float(seconds[place]) - start >= shortest:
            start = float(seconds[place])
            cuts.append(place)
    return cuts


def transition_cuts(probabilities: NDArray[np.float32], *, threshold: float = TRANSITION_THRESHOLD) -> list[int]:
    """Cuts by the probability of each frame that it belongs to a transition, as TransNetV2 gives it.

    The network marks the last frame before a hard cut, and every frame of a gradual transition, which is divided in its
    middle. Transitions at the ends of the video are no cuts.

    Args:
        probabilities: [N] of the frames in order.
        threshold: a frame above it belongs to a transition.
    """
    is_transition = np.concatenate([[False], probabilities > threshold, [False]])
    starts, ends = np.flatnonzero(np.diff(is_transition.astype(np.int8)) != 0).reshape(-1, 2).T
    last = len(probabilities)
    return [int(start + end - 1) // 2 + 1 for start, end in zip(starts, ends, strict=True) if start > 0 and end < last]


# Number of shots


def merge_shots(shots: Sequence[Span], number: int) -> list[Span]:
    """Merge neighbours, the shortest pair first, until at most `number` shots remain."""
    starts, ends = np.asarray(shots, dtype=np.float64).reshape(-1, 2).T
    while len(starts) > number:
        place = int(np.argmin(ends[1:] - starts[:-1]))
        starts, ends = np.delete(starts, place + 1), np.delete(ends, place)
    return [Span(*bounds) for bounds in zip(starts.tolist(), ends.tolist(), strict=True)]


def join_empty(shots: Sequence[Span], seconds: Seconds) -> list[Span]:
    """Join each shot without a frame to the one before it, the first ones to the one after them."""
    merged: list[Span] = []
    is_empty = False
    for shot in shots:
        has_frame = bool(np.any((seconds >= shot.start) & (seconds < shot.end)))
        if merged and (is_empty or not has_frame):
            merged[-1] = Span(merged[-1].start, shot.end)
            is_empty = is_empty and not has_frame
        else:
            merged.append(shot)
            is_empty = not has_frame
    return merged


def split_shots(shots: Sequence[Span], longest: float) -> list[Span]:
    """Split shots that are longer than some seconds into equal parts."""
    parts: list[Span] = []
    for shot in shots:
        count = max(1, math.ceil((shot.end - shot.start) / longest - 1e-9))
        bounds = [shot.start + (shot.end - shot.start) * place / count for place in range(count)] + [shot.end]
        parts += gaps(bounds)
    return parts
