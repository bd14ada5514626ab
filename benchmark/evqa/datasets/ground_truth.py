"""Validity of the ground truth of a sample, for `prepare.py` and for training.

A sample is refused if its frames or spans are outside its video, or if its annotated masks are all empty: a model
would learn times that do not exist, or that there is no evidence.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from evqa import media
from evqa.media import Video
from evqa.schema import Sample

MAX_OVERHANG = 1.0
"""Tolerance in seconds beyond the end of a clip: published times are rounded, and clips are cut."""


def check_ground_truth(sample: Sample, video: Video | None) -> None:
    """Raise a `ValueError` with the reason if the ground truth is unusable; video None: check the record alone."""
    if reason := why_unusable(sample):
        raise ValueError(reason)
    if video is None:
        return
    last = 0 if sample.frames is None else sample.frames[-1]
    if last >= video.num_frames:
        raise ValueError(
            f"frame is beyond the video: {video.path} has {video.num_frames} frames, the sample names frame {last}"
        )
    if sample.task_type == "evidence":
        _check_spans(sample, video)


def why_unusable(sample: Sample) -> str | None:
    """Return the reason why a record alone is unusable; None = it may be usable."""
    if sample.tracks and not any(track.masks for track in sample.tracks):
        return "no mask in any frame"
    return None


def _check_spans(sample: Sample, video: Video) -> None:
    for start, end in sample.spans or ():
        if start >= video.duration or end > video.duration + MAX_OVERHANG:
            raise ValueError(
                f"span is outside the clip: {start:g} to {end:g} s of {video.duration:.2f} s ({video.path})"
            )


def video_of(path: Path, sample: Sample) -> Video | None:
    """Probe the video of a sample with frames or spans; None = it is missing, unreadable, or not needed."""
    is_needed = sample.frames is not None or (sample.task_type == "evidence" and sample.spans)
    return _probe(path, sample.fps) if is_needed and sample.has_video and path.exists() else None


@lru_cache(maxsize=4)
def _probe(path: Path, fps: float | None) -> Video | None:
    try:
        return media.probe_video(path, *(() if fps is None else (fps,)))
    except ValueError:
        return None  # predicting or training on it fails with the reason
