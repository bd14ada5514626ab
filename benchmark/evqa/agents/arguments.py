"""Types and checks of tool arguments that several tools share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

MAX_NUMBER = 2**53
"""Greatest absolute value of a number of frames: integers up to it are exact in JSON."""

MAX_LISTED = 20
"""Values that a note lists."""


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a frame is a whole number, not true or false")  # noqa: TRY004  (a message to the model)
    return value


FrameNumber = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
"""Number by which a model asks for a frame."""

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


def list_values(values: Sequence[object]) -> str:
    """The first values as text, and how many there are beside them."""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values[:MAX_LISTED]]
    rest = f" and {len(values) - MAX_LISTED} more" if len(values) > MAX_LISTED else ""
    return ", ".join(texts) + rest


def list_note(reason: str, values: Sequence[object], rule: str = "") -> str:
    """A note that lists values; "" without values."""
    return f"{reason}: {list_values(values)}{f' ({rule})' if rule else ''}" if values else ""
