"""Clips of an episode for an agent: their subtitles, frames and places."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evqa import media
from evqa.agents.frame_images import read_images
from evqa.agents.sample_video import spread
from evqa.media.frame_folders import image_paths
from evqa.media.images import read_rgb
from evqa.media.sampling import nearest_places
from evqa.retrieval.subtitles import read_subtitles
from evqa.schema import ClipRef, FrameRef, Sample, Span, Spans

FPS = 3.0
"""Frames per second of a folder of frames whose files are numbers from 1, as TVQA publishes them."""

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


class ClipFrame(NamedTuple):
    """A frame of a clip."""

    number: int
    """From 1; the name of its file in a folder of frames."""
    second: float
    """Time in the clip in seconds."""
    image: NDArray[np.uint8]
    """uint8 RGB [H, W, 3]."""


class EpisodeClips(NamedTuple):
    """The clips of a sample's episode, in order."""

    sample: Sample
    texts: tuple[str, ...]
    """Subtitles of each clip, a line of dialogue per line."""

    @property
    def refs(self) -> tuple[ClipRef, ...]:
        """The clips."""
        return self.sample.clips

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the clips."""
        return tuple(clip.id for clip in self.sample.clips)

    def tagged_texts(self, max_characters: int) -> tuple[list[str], int | None]:
        """Subtitles of each clip between tags with its id, and to how many characters each was cut; None = not."""
        share = max(max_characters // max(len(self.texts), 1), 1)
        cut = share if sum(map(len, self.texts)) > max_characters else None
        return [f"<{name}>{text[:cut]}</{name}>" for name, text in zip(self.ids, self.texts, strict=True)], cut

    def frame_ref(self, place: int, second: float) -> FrameRef:
        """Reference to a frame of a clip.

        In the video of the sample, which is the episode; where it is a clip, frames of other clips have the number of
        their clip, from 1, as video.
        """
        clip = self.refs[place]
        sample_clip = self.sample.clip
        if sample_clip is not None:
            return FrameRef(
                video=0 if clip == sample_clip else 1 + place, index=round(second * FPS), second=round(second, 3)
            )
        second += clip.start
        return FrameRef(index=round(second * video_rate(self.sample)), second=round(second, 3))

    def span_of(self, place: int, start: float = 0.0, end: float | None = None) -> Spans:
        """Time segment of a clip in seconds of the sample's video; () where that is another clip."""
        clip = self.refs[place]
        end = clip.duration if end is None else min(end, clip.duration)
        sample_clip = self.sample.clip
        if start >= end or (sample_clip is not None and sample_clip != clip):
            return ()
        offset = clip.start if sample_clip is None else 0.0
        return (Span(round(start + offset, 3), round(end + offset, 3)),)


def video_rate(sample: Sample) -> float:
    """Frames per second of a sample's video, by which frames have an index; its file need not exist."""
    if sample.fps is not None or not sample.video.is_file():
        return sample.fps or FPS
    return _file_rate(sample.video, sample.video.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _file_rate(path: Path, changed: int) -> float:
    del changed
    video = media.probe_video(path)
    return video.num_frames / video.duration


def open_clips(sample: Sample) -> EpisodeClips:
    """Read the subtitles of a sample's episode. `ValueError`: the sample has no clips, or they cannot be read."""
    if not sample.clips:
        raise ValueError(f"sample {sample.id} has no clips: expected one of an episode, as those of longtvqa")
    path = sample.subtitles
    if path is None:
        return EpisodeClips(sample, ("",) * len(sample.clips))
    state = path.stat() if path.exists() else None
    changed = (state.st_mtime_ns, state.st_size) if state else (0, 0)
    return EpisodeClips(sample, _texts(path, changed, sample.clips))


@lru_cache(maxsize=16)
def _texts(path: Path, changed: tuple[int, int], clips: tuple[ClipRef, ...]) -> tuple[str, ...]:
    """Subtitles of each clip; those of an episode are read once for all of its questions."""
    del changed
    starts = [clip.start for clip in clips]
    lines: list[list[str]] = [[] for _ in clips]
    for line in read_subtitles(path, clips=clips).lines:
        place = max(bisect.bisect_right(starts, line.start) - 1, 0)
        lines[place].append(f"{line.speaker} : {line.text}" if line.speaker else line.text)
    return tuple("\n".join(clip_lines) for clip_lines in lines)


def frame_plan(numbers: Sequence[int], count: int) -> list[int]:
    """Choose at most `count` of the frames that exist, evenly over the clip.

    The first and the last frame are included; a single one is that in the middle.

    Args:
        numbers: numbers of the frames that exist, from 1, ascending.
        count: most frames.
    """
    if len(numbers) <= count:
        return list(numbers)
    middle = (1 + numbers[-1]) // 2
    targets = np.linspace(1, numbers[-1], count).round() if count > 1 else np.array([middle])
    existing = np.asarray(numbers)
    return np.unique(existing[nearest_places(existing, targets)]).tolist()


def read_frames(sample: Sample, clip: ClipRef, count: int) -> list[ClipFrame]:
    """Read frames of a clip, evenly spaced, in order of time; those that cannot be read are left out.

    Raises:
        ValueError: the clip has no frame that can be read.
    """
    frames = _from_folder(clip.path, count) if clip.path.is_dir() else _from_video(sample, clip, count)
    if not frames:
        raise ValueError(f"no frame of the clip {clip.id} can be read")
    return frames


def _from_folder(folder: Path, count: int) -> list[ClipFrame]:
    """Frames of a folder: by their numbers at 3 per second, else by their order."""
    paths = image_paths(folder)
    is_numbered = all(_NUMBER.fullmatch(path.stem) and int(path.stem) > 0 for path in paths)
    by_number = {int(path.stem) if is_numbered else place: path for place, path in enumerate(paths, 1)}
    frames: list[ClipFrame] = []
    for number in frame_plan(sorted(by_number), count):
        try:
            frames.append(ClipFrame(number, (number - 1) / FPS, read_rgb(by_number[number])))
        except (ValueError, OSError):
            continue
    return frames


def _from_video(sample: Sample, clip: ClipRef, count: int) -> list[ClipFrame]:
    """Frames of a video file that can be read: that of the clip, or that of the whole episode."""
    video = media.probe_video(clip.path)
    start = clip.start if clip.path == sample.video and sample.clip is None else 0.0
    times = np.asarray(video.times)
    within = np.flatnonzero((times >= start - 1e-6) & (times < start + clip.duration - 1e-6))
    selection = spread(within.tolist(), count) if count > 1 else within[len(within) // 2 :][:1].tolist()
    first = int(within[0]) if len(within) else 0
    images, _, _ = read_images(video, selection)
    return [ClipFrame(index - first + 1, float(times[index]) - start, image) for index, image in images.items()]
