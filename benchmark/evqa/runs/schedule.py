"""Order of prediction. With several workers the samples with the longest videos come first, to balance the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evqa import media
from evqa.schema import Sample


def costs(samples: Sequence[Sample]) -> dict[str, float]:
    """Return sample id -> cost: the number of frames of its video; 0 if the video cannot be read."""
    frames: dict[Path, float] = {}
    for sample in samples:
        if sample.video not in frames:
            media.set_folder_fps(sample.video, sample.fps)
            frames[sample.video] = _num_frames(sample.video)
    return {sample.id: frames[sample.video] for sample in samples}


def longest_first(samples: Sequence[Sample], costs: Mapping[str, float]) -> list[Sample]:
    """Return the samples in descending order of cost; the sort is stable."""
    return sorted(samples, key=lambda sample: -costs[sample.id])


def _num_frames(video: Path) -> float:
    try:
        return float(media.probe_video(video).num_frames)
    except ValueError:
        return 0.0  # prediction of the sample fails at once
