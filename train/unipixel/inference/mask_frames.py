"""Selection and order of the frames of a video that the mask decoder processes ("visits").

By default the prompt frame is 0 and every frame is visited, as in the released UniPixel. Fewer visits take less time
and track fast objects less accurately; docs/measurements.md has what each saving costs in J&F.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from evqa import media
from evqa.media import Video
from evqa.parsing.spans import parse_spans
from evqa.schema import Span

BLOCK = 16
"""Number of frames that are read at once in backward order."""


PROMPT_FRAMES = ("first", "evidence")


class MaskFramePlan(NamedTuple):
    """Frame indices in the order of the visits."""

    after: list[int]
    """Prompt frame and later frames, ascending."""
    before: list[int]
    """Frames before the prompt frame, descending."""
    stride: int
    """Number of frames from one visit to the next; masks of the frames in between are interpolated."""

    @property
    def order(self) -> list[int]:
        """Indices of all visits, in order."""
        return self.after + self.before

    @property
    def covered(self) -> list[int]:
        """Indices of the frames with masks, ascending: visited and interpolated frames."""
        indices = set(self.order)
        for start, end in self._neighbours():
            indices.update(range(start, end))
        return sorted(indices)

    def _neighbours(self) -> list[tuple[int, int]]:
        """Return the pairs of consecutive visits that are at most a stride apart."""
        pairs = pairwise(sorted(self.order))
        return [(start, end) for start, end in pairs if end - start <= self.stride]


@dataclass(frozen=True, kw_only=True)
class MaskFramePolicy:
    """Policy for the visits of a video; the default is that of the released UniPixel."""

    prompt_frame: str = "first"
    """Prompt frame: "first" = the first frame; "evidence" = the middle of the longest span of the reply, from
    which objects are tracked in both directions."""
    fps: float | None = None
    """Visits per second, with interpolated masks in between; None = every frame."""
    margin: float | None = None
    """Visit only the spans of the reply, extended by this number of seconds; None = all frames."""

    def __post_init__(self) -> None:
        if self.prompt_frame not in PROMPT_FRAMES:
            raise ValueError(f"prompt_frame is one of {', '.join(PROMPT_FRAMES)}, got {self.prompt_frame!r}")
        if (self.fps is not None and not self.fps > 0) or (self.margin is not None and not self.margin >= 0):
            raise ValueError(f"mask_fps is above 0 and mask_margin not below, got {self.fps} and {self.margin}")

    def plan(self, video: Video, reply: str) -> MaskFramePlan:
        """Return the visits of a video for a reply, whose spans may restrict them."""
        spans = parse_spans(reply) or ()
        margin = self.margin
        around = None if margin is None else [Span(max(0.0, s.start - margin), s.end + margin) for s in spans]
        start = middle_frame(video, spans) if self.prompt_frame == "evidence" else 0
        return plan_mask_frames(video, prompt_frame=start, fps=self.fps, spans=around or None)


def plan_mask_frames(
    video: Video, *, prompt_frame: int = 0, fps: float | None = None, spans: Sequence[Span] | None = None
) -> MaskFramePlan:
    """Return the visits of a video.

    Args:
        video: input video.
        prompt_frame: index of the frame with the prompts; objects are tracked from it in both directions.
        fps: visits per second; None = every frame. The first and last frame of the range are always visited.
        spans: visit only these times (seconds) and the prompt frame; None = the whole video.
    """
    stride = 1 if fps is None else max(1, round(video.fps / fps))
    indices = list(range(video.num_frames)) if spans is None else _frames_in_spans(video, spans)
    after = [index for index in indices if index > prompt_frame]
    before = [index for index in reversed(indices) if index < prompt_frame]
    return MaskFramePlan(
        [prompt_frame, *_thinned(after, prompt_frame, stride)], _thinned(before, prompt_frame, stride), stride
    )


def middle_frame(video: Video, spans: Sequence[Span]) -> int:
    """Return the index of the frame in the middle of the longest span; 0 without spans."""
    if not spans:
        return 0
    longest = max(spans, key=lambda span: span.end - span.start)
    return int(np.abs(video.times - (longest.start + longest.end) / 2).argmin())


def read_frames(video: Video, visits: MaskFramePlan) -> Iterator[np.ndarray]:
    """Yield frames, uint8 [H, W, 3], in the order of the visits; memory holds at most `BLOCK` frames."""
    for _, image in media.read_frames(video, visits.after, keep=True):
        yield image
    for start in range(0, len(visits.before), BLOCK):
        yield from media.load_frames(video, visits.before[start : start + BLOCK], keep=True)


def _frames_in_spans(video: Video, spans: Sequence[Span]) -> list[int]:
    return [
        index for index, second in enumerate(video.times) if any(span.start <= second <= span.end for span in spans)
    ]


def _thinned(indices: Sequence[int], start: int, stride: int) -> list[int]:
    """Return every `stride`-th index from `start` of each run of consecutive indices, and both ends of each run."""
    thinned: list[int] = []
    last = start
    for place, index in enumerate(indices):
        is_end = place + 1 == len(indices) or abs(indices[place + 1] - index) > 1
        begins = abs(index - (indices[place - 1] if place else start)) > 1
        if is_end or begins or abs(index - last) == stride:
            thinned.append(index)
            last = index
    return thinned
