"""Frame grid: the frames of a video that an agent can ask for, with the id, frame index and second of each.

A video file has a grid of its own, by default one frame per second. A folder of `frame_<id>.jpg`, the published form,
has all its files in the grid, with the ids of their names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evqa import media
from evqa.media import Video
from evqa.media.frame_folders import is_image_video
from evqa.media.sampling import nearest_places

DEFAULT_FPS = 1.0
"""Frames per second of the grid of a video file; that of the published frame folders."""

MAX_GRID_TIMES = 10_000_000
"""Most times of a grid, in memory."""


@dataclass(frozen=True, eq=False)
class FrameGrid:
    """`N` frames of a video in order of time."""

    video: Video
    ids: NDArray[np.int64]
    """[N] ids that a model uses, ascending: the numbers in the file names of a folder, else 1 to N."""
    indices: NDArray[np.int64]
    """[N] 0-based frame index in the video."""
    seconds: NDArray[np.float64] | None
    """[N] presentation time; None = a folder of frames without a known frame rate or duration."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def duration(self) -> float | None:
        """Length of the video in seconds; None = unknown."""
        return None if self.seconds is None else self.video.duration

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each id in the grid; -1 = there is no such frame."""
        rows = np.searchsorted(self.ids, ids)
        rows = np.minimum(rows, len(self.ids) - 1)
        return np.where(self.ids[rows] == ids, rows, -1)

    def nearest_row(self, second: float) -> int:
        """Row of the frame nearest to a time. `ValueError`: the times of the frames are unknown."""
        if self.seconds is None:
            raise ValueError("the times of the frames are unknown: ask for frames by id")
        return int(nearest_places(self.seconds, [second])[0])


def frame_grid(video: Video, *, fps: float = DEFAULT_FPS, duration: float | None = None) -> FrameGrid:
    """Return the frames that an agent can ask for.

    Args:
        video: video file or folder of frames.
        fps: frames per second of a video file's grid. Each grid frame is the one that is shown at its time, so that a
            video with fewer frames per second has each frame once.
        duration: length in seconds of the video that a folder of frames was extracted from. Frame `i` of `N` is then
            at `i * duration / N` seconds.

    Raises:
        ValueError: `fps` or `duration` is not a finite number above 0, or the grid of a video file would have more than
            `MAX_GRID_TIMES` times.
    """
    for name, value in (("fps", fps), ("duration", duration)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"expected a finite {name} above 0, got {value}")
    if is_image_video(video.path):
        return _grid_of_folder(video, duration)
    if video.duration * fps > MAX_GRID_TIMES:
        raise ValueError(
            f"expected an fps of at most {MAX_GRID_TIMES / video.duration:.0f} for {video.path}, got {fps:g}"
        )
    times = np.arange(0, video.duration, 1 / fps)
    indices = np.unique(np.maximum(np.searchsorted(video.times, times + 1e-9, side="right") - 1, 0))
    return FrameGrid(video, np.arange(1, len(indices) + 1), indices, video.times[indices])


def _grid_of_folder(video: Video, duration: float | None) -> FrameGrid:
    indices = np.arange(video.num_frames)
    numbers = media.frame_numbers(video.path)
    ids = indices + 1 if numbers is None else np.array(sorted(numbers), dtype=np.int64)
    if duration is not None:
        return FrameGrid(video, ids, indices, indices * duration / video.num_frames)
    return FrameGrid(video, ids, indices, video.times if media.has_stated_fps(video.path) else None)
