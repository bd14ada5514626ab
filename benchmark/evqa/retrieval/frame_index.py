"""Frame index: an embedding of each frame of a video's grid on disk (`index_files`), and search by text.

It is built in a hidden folder beside its own, which is renamed when it is complete and synced; an interrupted
construction continues where it stopped (`index_builder`). `open_or_build` is what most callers need.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evqa.retrieval import index_builder, index_files
from evqa.retrieval.encoders import Encoder, EncoderError, encode_query
from evqa.retrieval.frame_grid import FrameGrid
from evqa.retrieval.frame_search import (
    DEFAULT_GAP,
    DEFAULT_HITS,
    Hit,
    SearchOptions,
    SearchResult,
    best_rows,
    spans_above,
    window_rows,
)
from evqa.schema import Span

__all__ = ["FrameIndex", "Hit", "SearchResult", "build_index", "open_or_build"]

logger = logging.getLogger(__name__)

SPAN_SHARE = 0.3
"""Share of the peak above which a frame belongs to a span."""

SPAN_SMOOTHING = 3.0
"""Seconds of the moving mean of the lift from which spans are made."""


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Embeddings [N, D] of the frames of a grid."""

    grid: FrameGrid
    encoder: Encoder
    embeddings: NDArray[np.float32]
    """[N, D], rows in the order of the grid; read from disk on use."""
    notes: tuple[str, ...] = field(default=())
    """Findings that do not prevent its use, such as names of published files that are no frames."""

    @classmethod
    def open(cls, folder: Path, grid: FrameGrid, encoder: Encoder) -> FrameIndex:
        """Open the index in a folder.

        Raises:
            ValueError: the folder has no index, or a damaged one, or that of another video, grid or encoder; the
                message has the reason.
        """
        return cls(grid, encoder, index_files.open_embeddings(folder, grid, encoder))

    def scores(self, query: str) -> NDArray[np.float32]:
        """Score [N] of each frame for a text.

        Raises:
            ValueError: the query is empty or too long.
            EncoderError: the encoder failed or did not end in time, or the index is damaged.
        """
        scores = self.embeddings @ encode_query(self.encoder, query)
        if not np.isfinite(scores).all():
            raise EncoderError("the frame index has values that are NaN or infinite: it is damaged, build it again")
        return scores

    def search(
        self,
        query: str,
        *,
        k: int = DEFAULT_HITS,
        start: float | None = None,
        end: float | None = None,
        min_gap: float = DEFAULT_GAP,
        offset: int = 0,
    ) -> SearchResult:
        """Find the frames that match a text best.

        Args:
            query: any text.
            k: most hits.
            start: start of the time window in seconds, included; None = that of the video.
            end: end of the time window in seconds, included; None = that of the video.
            min_gap: least distance of two hits in seconds; 0 = no suppression. Without effect where the times of the
                frames are unknown.
            offset: hits of earlier pages, which are left out.

        Raises:
            ValueError: an argument is out of range, the query is empty or too long, or there is a time window but no
                times.
            EncoderError: the encoder failed or did not end in time (`QueryTimeout`), or the index is damaged.
        """
        options = SearchOptions(k, start, end, min_gap, offset)
        options.check()
        rows = window_rows(self.grid, options)
        scores = self.scores(query)
        seconds = None if self.grid.seconds is None else self.grid.seconds[rows]
        window = scores[rows]
        peak = float(self.encoder.lift(scores)[rows].max()) if len(window) else 0.0
        best = best_rows(window, seconds, count=offset + k, min_gap=min_gap)[offset:]
        return SearchResult(
            hits=tuple(self._hit(rows.start + row, scores) for row in best),
            lift=peak,
            is_present=peak >= self.encoder.presence_threshold,
            _count=lambda: len(best_rows(window, seconds, count=len(window), min_gap=min_gap)),
        )

    def spans(
        self, query: str, *, share: float = SPAN_SHARE, smoothing: float = SPAN_SMOOTHING, at_least: float | None = None
    ) -> tuple[Span, ...]:
        """Time spans in which a text is seen, the one with the highest lift first; empty = it is probably not there.

        Args:
            query: any text.
            share: share of the peak of the smoothed lift above which a frame belongs to a span.
            smoothing: seconds of the moving mean of the lift.
            at_least: lift below which there is no span; None = the encoder's `presence_threshold`.

        Raises:
            ValueError: as `search`; or the times of the frames are unknown.
            EncoderError: as `search`.
        """
        if self.grid.seconds is None:
            raise ValueError("the times of the frames are unknown, so there are no time spans: ask for frames by id")
        if not 0 < share <= 1 or not 0 <= smoothing < math.inf:
            raise ValueError(f"expected a share in (0, 1] and a finite smoothing, got {share} and {smoothing}")
        lift = self.encoder.lift(self.scores(query))
        if float(lift.max()) < (self.encoder.presence_threshold if at_least is None else at_least):
            return ()
        values = np.maximum(lift, 0)
        return spans_above(values, self.grid.seconds, self.grid.video.duration, share=share, smoothing=smoothing)

    def _hit(self, row: int, scores: NDArray[np.float32]) -> Hit:
        second = None if self.grid.seconds is None else float(self.grid.seconds[row])
        return Hit(int(self.grid.ids[row]), int(self.grid.indices[row]), second, float(scores[row]))


def build_index(grid: FrameGrid, encoder: Encoder, folder: Path, *, progress: bool = False) -> FrameIndex:
    """Build the index of a grid in a folder; an interrupted construction is continued, an index there is replaced.

    Args:
        grid: frames of the video.
        encoder: encoder of the frames.
        folder: of this index (`index_files.index_folder`).
        progress: whether a progress bar is shown.

    Raises:
        ValueError: the video cannot be read or changes meanwhile, the folder holds something else or cannot be
            written, or another process or thread builds the same index.
        EncoderError: the encoder failed.
    """
    with index_builder.build_lock(folder, wait=False):
        index_builder.build(grid, encoder, folder, progress=progress)
        return FrameIndex.open(folder, grid, encoder)


def open_or_build(grid: FrameGrid, encoder: Encoder, root: Path | None = None, *, progress: bool = False) -> FrameIndex:
    """Open the index of a grid, or build it: if there is none, if it is damaged, or if video or encoder changed.

    Where another process or thread builds it, wait for it.

    Args:
        grid: frames of the video.
        encoder: encoder of the frames and of the queries.
        root: folder of all indices; None = `outputs/frame_index`.
        progress: whether a progress bar of the construction is shown.

    Raises:
        ValueError: the video cannot be read, or the index cannot be written.
        EncoderError: the encoder failed.
    """
    folder = index_files.index_folder(grid, encoder, root)
    if (index := _opened(folder, grid, encoder)) is not None:
        return index
    with index_builder.build_lock(folder, wait=True):
        if (index := _opened(folder, grid, encoder)) is not None:
            return index
        index_builder.build(grid, encoder, folder, progress=progress)
        return FrameIndex.open(folder, grid, encoder)


def _opened(folder: Path, grid: FrameGrid, encoder: Encoder) -> FrameIndex | None:
    """The index in a folder; None = none, or one that is rejected, with a warning."""
    if not (folder / index_files.RECORD).exists():
        return None
    try:
        return FrameIndex.open(folder, grid, encoder)
    except ValueError as error:
        logger.warning("%s", error)
        return None
