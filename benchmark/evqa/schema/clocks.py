"""Clocks of time segments: seconds of a whole video, or seconds of a clip that is cut out of it.

Annotations of long videos have both. A segment states its clock by its type, and only `ClipWindow` converts one into
the other; everything else that mixes them is a `ClockError`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evqa.schema.geometry import Span, check_span
from evqa.schema.record import Id, StrictRecord

Clock = Literal["video", "clip"]
"""Zero point of the seconds of a segment: the start of the video, or that of a clip in it."""


class ClockError(ValueError):
    """Segments of two clocks meet."""


@dataclass(frozen=True)
class VideoSpan:
    """A time segment in seconds of the whole video."""

    start: float
    end: float

    def __post_init__(self) -> None:
        check_span(Span(self.start, self.end))

    @property
    def span(self) -> Span:
        """The segment as records have it, whose seconds are those of the video."""
        return Span(self.start, self.end)


@dataclass(frozen=True)
class ClipSpan:
    """A time segment in seconds of a clip, from the clip's start."""

    start: float
    end: float

    def __post_init__(self) -> None:
        check_span(Span(self.start, self.end))


class ClipWindow(StrictRecord):
    """Part of a video that a question is about, as a clip of its own."""

    id: Id
    start: Annotated[float, Field(ge=0)]
    """Start of the clip in seconds of the video."""
    end: float
    """End of the clip in seconds of the video."""
    origin: Annotated[float, Field(exclude_if=lambda origin: origin == 0)] = 0.0
    """Second of the clip's own clock at its start."""

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if not (math.isfinite(self.end) and self.end > self.start):
            raise ValueError(f"a clip ends after its start, got start={self.start}, end={self.end}")
        return self

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start

    def to_video(self, span: ClipSpan) -> VideoSpan:
        """Convert a segment of the clip's clock into the video's. `ClockError`: it is on another clock."""
        _check_clock(span, ClipSpan)
        offset = self.start - self.origin
        return VideoSpan(span.start + offset, span.end + offset)

    def to_clip(self, span: VideoSpan) -> ClipSpan:
        """Convert a segment of the video's clock into the clip's. `ClockError`: it is on another clock.

        Raises:
            ValueError: The segment starts before the clip.
        """
        _check_clock(span, VideoSpan)
        offset = self.origin - self.start
        return ClipSpan(span.start + offset, span.end + offset)


def _check_clock(span: object, expected: type[VideoSpan] | type[ClipSpan]) -> None:
    if not isinstance(span, expected):
        raise ClockError(f"expected a {expected.__name__}, got {span!r}: convert it with a ClipWindow")
