"""In which order samples are predicted. With several workers the longest come first, so that all end together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evqa import media
from evqa.schema import Sample


def costs(samples: Sequence[Sample]) -> dict[str, float]:
    """Sample id -> frames of its video, what predicting it grows with; 0 where the video cannot be read."""
    frames: dict[Path, float] = {}
    for sample in samples:
        if sample.video not in frames:
            media.set_folder_fps(sample.video, sample.fps)
            frames[sample.video] = _num_frames(sample.video)
    return {sample.id: frames[sample.video] for sample in samples}


def longest_first(samples: Sequence[Sample], costs: Mapping[str, float]) -> list[Sample]:
    """The samples by falling cost; equal ones stay in their order."""
    return sorted(samples, key=lambda sample: -costs[sample.id])


def _num_frames(video: Path) -> float:
    try:
        return float(media.probe_video(video).num_frames)
    except ValueError:
        return 0.0  # the sample fails when it is predicted, and takes no time
