"""Trivial temporal baselines: constant parts of the video, and the part that fits a data set best."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from evqa.metrics.temporal import merge
from evqa.schema import Spans

PARTS: dict[str, tuple[float, float]] = {
    "whole video": (0.0, 1.0),
    "middle half": (0.25, 0.75),
    "first third": (0.0, 1 / 3),
}
"""Start and end as parts of the video."""

GRID = 20
"""The constant span is searched in steps of 1/20 of the video."""


def best_constant_span(gold: Iterable[tuple[Spans, float]]) -> tuple[float, float]:
    """Start and end, as parts of the video, of the span with the best t-mean, from a grid; of (spans, duration)."""
    starts, ends = np.array(
        [(a / GRID, b / GRID) for a in range(GRID) for b in range(a + 1, GRID + 1)], dtype=np.float64
    ).T  # [G] each
    total = np.zeros(len(starts))
    for spans, duration in gold:
        total += _tmeans(starts, ends, spans, duration)
    best = int(np.argmax(total))
    return float(starts[best]), float(ends[best])


def _tmeans(
    starts: NDArray[np.float64], ends: NDArray[np.float64], spans: Spans, duration: float
) -> NDArray[np.float64]:
    """t-mean of each candidate `[G]` on one sample; as `temporal.tmean`, for all candidates at once."""
    gold = [(start / duration, end / duration) for start, end in merge(spans) if start < end]
    shared = np.zeros(len(starts))
    for start, end in gold:
        shared += np.clip(np.minimum(ends, end) - np.maximum(starts, start), 0, None)
    lengths = ends - starts
    union = lengths + math.fsum(end - start for start, end in gold) - shared
    return (shared / union + shared / lengths) / 2
