"""Video of a sample for an agent: its frame grid, and a selection of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evqa import media
from evqa.retrieval.frame_grid import FrameGrid, frame_grid
from evqa.schema import Sample


def open_grid(sample: Sample, fps: float) -> FrameGrid:
    """Return the frames of a sample's video that have an id.

    Args:
        sample: its `fps`, else its `duration`, gives the times of a folder of frames.
        fps: frames per second of the grid of a video file.

    Raises:
        ValueError: the video cannot be read.
    """
    media.set_folder_fps(sample.video, sample.fps)
    if sample.duration is not None and sample.video.is_dir() and not media.has_stated_fps(sample.video):
        media.set_folder_fps(sample.video, len(media.image_names(sample.video)) / sample.duration)
    return frame_grid(media.probe_video(sample.video), fps=fps)


def spread(values: Sequence[int], number: int) -> list[int]:
    """At most `number` of the distinct values in ascending order, at equal distances in that order."""
    distinct = np.unique(np.asarray(values, dtype=np.int64))
    if not len(distinct):
        return []
    places = np.linspace(0, len(distinct) - 1, min(number, len(distinct))).round().astype(int)
    return distinct[np.unique(places)].tolist()
