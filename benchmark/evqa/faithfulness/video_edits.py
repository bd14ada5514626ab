"""Edit lists of the conditions: the evidence alone, the video without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from evqa import masks
from evqa.faithfulness.evidence import Evidence, ReadMask
from evqa.media import Video
from evqa.media.edits import Fill, HiddenPixels, VideoEdit, runs_of
from evqa.schema import Span, Spans


def keep_evidence(source: VideoEdit, evidence: Evidence, video: Video, fill: Fill) -> VideoEdit | None:
    """The video with the evidence alone: frames outside its spans are cut, pixels outside its masks hidden.

    Args:
        source: edit that keeps the whole video.
        evidence: the evidence.
        video: the video.
        fill: what hidden pixels show.

    Returns:
        None = nothing is left.
    """
    if evidence.is_empty:
        return None
    frames = evidence.frames if len(evidence.frames) else np.arange(video.num_frames)
    if not evidence.masks:
        return _edit(source, frames, None)
    inverted = {index: _inverted(evidence.masks[index]) for index in frames.tolist() if index in evidence.masks}
    if not inverted:
        return None
    return _edit(source, frames, _hidden(inverted, video, "hidden", fill))


def remove_evidence(source: VideoEdit, evidence: Evidence, video: Video, fill: Fill) -> VideoEdit | None:
    """The video without the evidence: frames in its spans are cut, pixels of its masks hidden in the others.

    Arguments and result as for `keep_evidence`.
    """
    frames = np.setdiff1d(np.arange(video.num_frames), evidence.frames)
    if not len(frames):
        return None
    readers = {index: evidence.masks[index] for index in frames.tolist() if index in evidence.masks}
    return _edit(source, frames, _hidden(readers, video, "shown", fill) if readers else None)


def hide_all(source: VideoEdit, video: Video) -> VideoEdit:
    """A video as long as the source that is one grey."""
    hidden = HiddenPixels(size=(video.height, video.width), masks=(), frames={}, rest="hidden")
    return _edit(source, np.arange(video.num_frames), hidden)


def edited_spans(spans: Spans, edit: VideoEdit, video: Video) -> Spans:
    """Spans of the source in seconds of the edited video; parts that are cut out are left out."""
    moved: list[Span] = []
    for run, offset in kept_segments(edit, video):
        for span in spans:
            start, end = max(span.start, run.start), min(span.end, run.end)
            if start < end or (start == end and span.start == span.end):
                moved.append(Span(offset + start - run.start, offset + end - run.start))
    return tuple(sorted(moved))


def kept_segments(edit: VideoEdit, video: Video) -> Iterator[tuple[Span, float]]:
    """Yield (segment of the source in seconds, its start in the edited video) of each run of frames that is kept."""
    ends, start_of_run = video.ends, 0.0
    for first, last in edit.frame_runs:
        run = Span(float(video.times[first]), float(ends[last]))
        yield run, start_of_run
        start_of_run += run.end - run.start


def _edit(source: VideoEdit, frames: NDArray[np.int64], hidden: HiddenPixels | None) -> VideoEdit:
    return source.replace(frame_runs=runs_of(frames), hidden=hidden)


def _inverted(read: ReadMask) -> ReadMask:
    return lambda: ~read()


def _hidden(readers: Mapping[int, ReadMask], video: Video, rest: str, fill: Fill) -> HiddenPixels:
    """Hidden pixels with each distinct mask once."""
    numbers: dict[tuple[int, ...], int] = {}
    frames: dict[int, int] = {}
    for index, read in sorted(readers.items()):
        runs = tuple(masks.run_lengths(masks.encode(read())).tolist())
        frames[index] = numbers.setdefault(runs, len(numbers))
    return HiddenPixels.model_validate(
        {"size": (video.height, video.width), "masks": tuple(numbers), "frames": frames, "rest": rest, "fill": fill}
    )
