"""Search over the scores of a video's frames: temporal non-maximum suppression, time window, paging, spans."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evqa.retrieval.frame_grid import FrameGrid
from evqa.schema import Span

DEFAULT_HITS = 5
"""Hits of a search; that of the published tool."""

DEFAULT_GAP = 2.0
"""Seconds between two hits."""

MAX_HITS = 100

TIME_TOLERANCE = 1e-6
"""Seconds; times of frames are sums of rounded numbers."""

FEW_HITS = 32
"""Number of hits up to which repeated maxima are faster than sorting."""

FIRST_CANDIDATES = 64
"""Number of best frames that are sorted first; more only if suppression leaves too few hits."""


@dataclass(frozen=True)
class Hit:
    """A frame that a search returns."""

    id: int
    """Id in the grid."""
    index: int
    """0-based frame index in the video."""
    second: float | None
    """Presentation time; None = the times of the frames are unknown."""
    score: float


@dataclass(frozen=True)
class SearchResult:
    """Hits of a search, the best first."""

    hits: tuple[Hit, ...]
    lift: float
    """Greatest lift of a frame in the time window (see `Encoder.lift`); 0 = the window has no frame."""
    is_present: bool
    """Whether the lift reaches the encoder's threshold: if not, the query is probably not in the video."""
    _count: Callable[[], int] = field(repr=False, compare=False)

    @cached_property
    def total(self) -> int:
        """Hits of all pages: frames of the window that suppression leaves."""
        return self._count()


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search."""

    k: int = DEFAULT_HITS
    """Most hits."""
    start: float | None = None
    """Seconds; None = the start of the video."""
    end: float | None = None
    """Seconds; None = the end of the video."""
    min_gap: float = DEFAULT_GAP
    """Least distance of two hits in seconds; 0 = no suppression."""
    offset: int = 0
    """Hits of earlier pages, which are left out."""

    def check(self) -> None:
        """Raise a `ValueError` for an option that is out of range."""
        if not 1 <= self.k <= MAX_HITS:
            raise ValueError(f"expected 1 to {MAX_HITS} hits (k), got {self.k}")
        if self.offset < 0:
            raise ValueError(f"expected an offset of at least 0, got {self.offset}")
        if not 0 <= self.min_gap < math.inf:
            raise ValueError(f"expected a finite distance of hits in seconds, at least 0, got min_gap={self.min_gap}")
        for name, second in (("start", self.start), ("end", self.end)):
            if second is not None and not math.isfinite(second):
                raise ValueError(f"expected a finite {name} in seconds, got {second}")
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ValueError(f"expected start <= end, got start={self.start}, end={self.end}")


def window_rows(grid: FrameGrid, options: SearchOptions) -> slice:
    """Rows of the grid in the time window, ends included. `ValueError`: the times of the frames are unknown."""
    if options.start is None and options.end is None:
        return slice(0, len(grid))
    if grid.seconds is None:
        raise ValueError("the times of the frames are unknown, so there is no time window: leave start and end out")
    first = 0 if options.start is None else np.searchsorted(grid.seconds, options.start - TIME_TOLERANCE, side="left")
    last = (
        len(grid) if options.end is None else np.searchsorted(grid.seconds, options.end + TIME_TOLERANCE, side="right")
    )
    return slice(int(first), int(last))


def best_rows(
    scores: NDArray[np.float32], seconds: NDArray[np.float64] | None, *, count: int, min_gap: float
) -> list[int]:
    """Rows of the first `count` hits: the best score first, of equal ones the earlier, `min_gap` seconds apart.

    Args:
        scores: [N] score of each frame.
        seconds: [N] ascending; None = unknown, so that nothing is suppressed.
        count: most hits.
        min_gap: seconds.
    """
    gap = 0.0 if seconds is None else min_gap
    if count <= FEW_HITS:
        return _by_maximum(scores, seconds, count, gap)
    num_candidates = max(FIRST_CANDIDATES, 2 * count)
    while True:
        order = _best_first(scores, num_candidates)
        rows = order[:count].tolist() if gap <= 0 or seconds is None else _spread(order, seconds, count, gap)
        if len(rows) >= count or len(order) >= len(scores):
            return rows
        num_candidates *= 8


def _by_maximum(scores: NDArray[np.float32], seconds: NDArray[np.float64] | None, count: int, gap: float) -> list[int]:
    """Greedy suppression without sorting: take the maximum, the first of equals, and strike out what is near it."""
    remaining = scores.copy()
    rows: list[int] = []
    for _ in range(min(count, len(scores))):
        row = int(remaining.argmax())
        if remaining[row] == -math.inf:
            break
        rows.append(row)
        if seconds is None or gap <= 0:
            remaining[row] = -math.inf
        else:
            least = gap - TIME_TOLERANCE
            first, last = seconds.searchsorted((seconds[row] - least, seconds[row] + least))
            remaining[first:last] = -math.inf
            remaining[row] = -math.inf
    return rows


def _best_first(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows of at least `count` best scores with all that equal the last of them, the best first, then the earlier."""
    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    bound = np.partition(scores, len(scores) - count)[len(scores) - count]
    rows = np.flatnonzero(scores >= bound)
    return rows[np.argsort(-scores[rows], kind="stable")]


def _spread(order: NDArray[np.int64], seconds: NDArray[np.float64], count: int, gap: float) -> list[int]:
    """Greedy suppression: rows in the given order that are `gap` seconds from all earlier ones, at most `count`."""
    rows: list[int] = []
    times: list[float] = []  # of the hits, ascending
    least = gap - TIME_TOLERANCE
    for row, second in zip(order.tolist(), seconds[order].tolist(), strict=True):
        place = bisect.bisect(times, second)
        if (place and second - times[place - 1] < least) or (place < len(times) and times[place] - second < least):
            continue
        rows.append(row)
        times.insert(place, second)
        if len(rows) == count:
            break
    return rows


def spans_above(
    values: NDArray[np.float32], seconds: NDArray[np.float64], duration: float, *, share: float, smoothing: float
) -> tuple[Span, ...]:
    """Spans in which the smoothed values are at least `share` of their peak; the one with the peak first.

    Args:
        values: [N] at least 0.
        seconds: [N] ascending; a frame lasts until the next one, the last until the end of the video.
        duration: of the video in seconds.
        share: of the peak, in (0, 1].
        smoothing: seconds of the moving mean.
    """
    ends = np.append(seconds[1:], max(duration, float(seconds[-1])))
    smooth = _moving_mean(values.astype(np.float64), seconds, smoothing)
    above = np.concatenate([[False], smooth >= share * smooth.max(), [False]])
    edges = np.flatnonzero(above[1:] != above[:-1])
    runs = [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]
    runs.sort(key=lambda run: -float(smooth[run[0] : run[1]].max()))
    return tuple(Span(float(seconds[first]), float(ends[last - 1])) for first, last in runs)


def _moving_mean(values: NDArray[np.float64], seconds: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Mean of the values within half a width of each time."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    half = width / 2 + TIME_TOLERANCE
    first = np.searchsorted(seconds, seconds - half, side="left")
    last = np.searchsorted(seconds, seconds + half, side="right")
    return (sums[last] - sums[first]) / (last - first)
