"""Which frames of a video the mask decoder visits, and in which order.

By default it is prompted on frame 0 and visits every frame, as upstream does. Fewer visits cost less and follow
fast objects less well; docs/measurements.md has what each saving costs in J&F.
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
"""Frames that are read at once where they are wanted backwards."""


PROMPT_FRAMES = ("first", "evidence")


class MaskFramePlan(NamedTuple):
    """Frame indices in the order in which they are visited."""

    after: list[int]
    """The prompted frame and those after it, ascending."""
    before: list[int]
    """Those before it, the nearest first."""
    stride: int
    """Frames from one visit to the next; those between get masks by interpolation."""

    @property
    def order(self) -> list[int]:
        """All of them."""
        return self.after + self.before

    @property
    def covered(self) -> list[int]:
        """Every frame that gets masks: the visited ones, and those between two visits, ascending."""
        indices = set(self.order)
        for start, end in self._neighbours():
            indices.update(range(start, end))
        return sorted(indices)

    def _neighbours(self) -> list[tuple[int, int]]:
        """Pairs of visits, at most a stride apart."""
        pairs = pairwise(sorted(self.order))
        return [(start, end) for start, end in pairs if end - start <= self.stride]


@dataclass(frozen=True, kw_only=True)
class MaskFramePolicy:
    """How the visits of a video are chosen; the default is upstream's."""

    prompt_frame: str = "first"
    """Where objects are drawn first: "first" = the first frame, "evidence" = the middle of the reply's longest span,
    from where they are tracked both ways."""
    fps: float | None = None
    """Visits a second, masks between are interpolated; None = every frame."""
    margin: float | None = None
    """Visit only the reply's spans and so many seconds around them; None = everything."""

    def __post_init__(self) -> None:
        if self.prompt_frame not in PROMPT_FRAMES:
            raise ValueError(f"prompt_frame is one of {', '.join(PROMPT_FRAMES)}, got {self.prompt_frame!r}")
        if (self.fps is not None and not self.fps > 0) or (self.margin is not None and not self.margin >= 0):
            raise ValueError(f"mask_fps is above 0 and mask_margin not below, got {self.fps} and {self.margin}")

    def plan(self, video: Video, reply: str) -> MaskFramePlan:
        """The visits of a video in the light of what a reply says of time."""
        spans = parse_spans(reply) or ()
        margin = self.margin
        around = None if margin is None else [Span(max(0.0, s.start - margin), s.end + margin) for s in spans]
        start = middle_frame(video, spans) if self.prompt_frame == "evidence" else 0
        return plan_mask_frames(video, prompt_frame=start, fps=self.fps, spans=around or None)


def plan_mask_frames(
    video: Video, *, prompt_frame: int = 0, fps: float | None = None, spans: Sequence[Span] | None = None
) -> MaskFramePlan:
    """The visits of a video.

    Args:
        video: which one.
        prompt_frame: where the objects are prompted; they are tracked from there both ways.
        fps: visits a second; None = every frame. The first and last frame of the range are always visited.
        spans: visit only these times, and the prompted frame; None = the whole video.
    """
    stride = 1 if fps is None else max(1, round(video.fps / fps))
    indices = list(range(video.num_frames)) if spans is None else _frames_in_spans(video, spans)
    after = [index for index in indices if index > prompt_frame]
    before = [index for index in reversed(indices) if index < prompt_frame]
    return MaskFramePlan(
        [prompt_frame, *_thinned(after, prompt_frame, stride)], _thinned(before, prompt_frame, stride), stride
    )


def middle_frame(video: Video, spans: Sequence[Span]) -> int:
    """The frame in the middle of the longest span; 0 where there is none."""
    if not spans:
        return 0
    longest = max(spans, key=lambda span: span.end - span.start)
    return int(np.abs(video.times - (longest.start + longest.end) / 2).argmin())


def read_frames(video: Video, visits: MaskFramePlan) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3] in the order of the visits; a block of frames at most is in memory."""
    for _, image in media.read_frames(video, visits.after, keep=True):
        yield image
    for start in range(0, len(visits.before), BLOCK):
        yield from media.load_frames(video, visits.before[start : start + BLOCK], keep=True)


def _frames_in_spans(video: Video, spans: Sequence[Span]) -> list[int]:
    return [
        index for index, second in enumerate(video.times) if any(span.start <= second <= span.end for span in spans)
    ]


def _thinned(indices: Sequence[int], start: int, stride: int) -> list[int]:
    """From `start` outwards, each `stride`-th of a run of neighbours, and both ends of each run."""
    thinned: list[int] = []
    last = start
    for place, index in enumerate(indices):
        is_end = place + 1 == len(indices) or abs(indices[place + 1] - index) > 1
        begins = abs(index - (indices[place - 1] if place else start)) > 1
        if is_end or begins or abs(index - last) == stride:
            thinned.append(index)
            last = index
    return thinned
