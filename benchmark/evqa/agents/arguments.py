"""Types and checks of tool arguments that several tools share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Second = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Time in a video in seconds."""

Query = Annotated[str, Field(description="what to look for, in words", max_length=1000)]


def require_text(text: str, name: str, advice: str) -> None:
    """Check that a text has a visible character. `ValueError`: names the argument and what to give."""
    if not text.strip():
        raise ValueError(f"{name} is empty: {advice}")


def time_range(duration: float, start: float | None, end: float | None) -> tuple[float, float]:
    """Return a time range inside a video of a duration in seconds; None = its start or its end.

    Raises:
        ValueError: the start is after the end, or the range begins after the video.
    """
    first, last = start or 0.0, duration if end is None else end
    if end is not None and first > last:
        raise ValueError(f"the start is after the end: got {first:g} and {last:g}")
    if first >= duration:
        raise ValueError(f"the range begins after the video, which lasts {duration:.1f} s; got {first:g}")
    return first, min(last, duration)
