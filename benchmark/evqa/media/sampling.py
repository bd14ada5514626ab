"""Frame sampling: indices of the frames to read, by number, rate, stride or time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evqa.media.video import Video


def uniform_indices(video: Video, num_frames: int) -> list[int]:
    """At most `num_frames` indices, evenly spaced in time, including both ends; the middle frame for one.

    At a constant frame rate the indices are evenly spaced as well. At a variable rate a long frame may be the nearest
    one to several times, so fewer indices may be returned.
    """
    count = _valid_count(num_frames, video)
    if count == video.num_frames:
        return list(range(count))
    first, last = video.times[0], video.times[-1]
    if count == 1:
        return [int(_fractional_indices(video, np.array([(first + last) / 2]))[0])]
    positions = _fractional_indices(video, first + (last - first) * np.arange(count) / (count - 1))
    return list(dict.fromkeys(int(position) for position in np.round(positions)))


def indices_at_fps(video: Video, fps: float, max_frames: int) -> list[int]:
    """`fps` indices per second, at most `max_frames`, evenly spaced: the policy of the published scripts."""
    if not fps > 0:
        raise ValueError(f"expected a sampling rate above 0, got fps={fps}")
    return uniform_indices(video, max(1, min(int(video.duration * fps + 1e-6), max_frames)))


def indices_every(video: Video, step: int) -> list[int]:
    """Every `step`-th index, starting with 0."""
    if step < 1:
        raise ValueError(f"expected a frame stride of at least 1, got {step}")
    return list(range(0, video.num_frames, step))


def nearest_index(video: Video, times: Sequence[float]) -> list[int]:
    """Index of the nearest frame for each time in seconds; the earlier one of two at equal distance."""
    seconds = np.asarray(times, dtype=np.float64)
    if not np.all(np.isfinite(seconds)):
        raise ValueError(f"expected finite times in seconds, got {list(times)}")
    return nearest_places(video.times, seconds).tolist()


def nearest_places(values: np.ndarray, targets: np.ndarray | Sequence[float], tolerance: float = 0.0) -> np.ndarray:
    """Places of the nearest values, int64 [len(targets)]; the earlier one of two at equal distance.

    Args:
        values: [N] ascending, at least one.
        targets: finite numbers.
        tolerance: by how much the later value has to be nearer.
    """
    numbers = np.asarray(targets, dtype=np.float64)
    later = np.clip(np.searchsorted(values, numbers), 0, len(values) - 1)
    earlier = np.maximum(later - 1, 0)
    is_earlier = np.abs(numbers - values[earlier]) <= np.abs(values[later] - numbers) + tolerance
    return np.where(is_earlier, earlier, later)


def random_in_bins(video: Video, num_frames: int, rng: np.random.Generator) -> list[int]:
    """One random index from each of at most `num_frames` bins of equal duration, ascending and distinct (for training).

    A bin in which no frame starts is represented by the frame shown at its start.
    """
    count = _valid_count(num_frames, video)
    edges = np.append(_starts_of_bins(video, count), video.num_frames)
    return sorted({int(index) for index in rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))})


def _starts_of_bins(video: Video, count: int) -> np.ndarray:
    """Index of the frame shown at the start of each of `count` bins of equal duration; int64 [count]."""
    if count == video.num_frames:
        return np.arange(count)
    end = video.times[-1] + np.median(np.diff(video.times))
    seconds = video.times[0] + (end - video.times[0]) * np.arange(count) / count
    return _fractional_indices(video, seconds).astype(np.int64)


def _fractional_indices(video: Video, seconds: np.ndarray) -> np.ndarray:
    """Times in seconds as fractional indices, interpolated linearly between frame times."""
    positions = np.interp(seconds, video.times, np.arange(video.num_frames))
    return np.round(positions, 6)  # so that rounding in seconds moves no place from one frame to the next


def _valid_count(num_frames: int, video: Video) -> int:
    """`num_frames`, limited to the frames of the video; raises a ValueError below 1."""
    if num_frames < 1:
        raise ValueError(f"expected at least 1 frame, got num_frames={num_frames}")
    return min(num_frames, video.num_frames)
