"""Spans in seconds, boxes in pixels, masks as run lengths, and tracks of objects through time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple, cast

from pydantic import AfterValidator, BeforeValidator

from evqa.schema.record import StrictRecord


class Span(NamedTuple):
    """A time segment in seconds, `0 <= start <= end`; `[start, end]` in JSON."""

    start: float
    end: float


def check_span(span: Span) -> Span:
    """The span itself, or a `ValueError` that says what is wrong with it."""
    start, end = span
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start <= end):
        raise ValueError(f"a span needs finite 0 <= start <= end, got start={start}, end={end}")
    return span


class Box(NamedTuple):
    """A rectangle in original pixels, x1 and y1 exclusive; `[x0, y0, x1, y1]` in JSON."""

    x0: float
    y0: float
    x1: float
    y1: float


def check_box(box: Box) -> Box:
    """The box itself, or a `ValueError` that says what is wrong with it."""
    if not (all(map(math.isfinite, box)) and box.x0 < box.x1 and box.y0 < box.y1):
        raise ValueError(f"a box needs finite x0 < x1 and y0 < y1, got {list(box)}")
    return box


Tube = dict[int, Annotated[Box, AfterValidator(check_box)]]
"""One object through time: frame index -> box. A frame that is not listed does not show it."""


Spans = tuple[Annotated[Span, AfterValidator(check_span)], ...]


def compressed_counts(runs: Sequence[int]) -> str:
    """COCO's text of run lengths: 5 bits a character, low first, from the fourth run on as differences."""
    characters: list[str] = []
    for place, run in enumerate(runs):
        rest, more = run - (runs[place - 2] if place > 2 else 0), True
        while more:
            bits = rest & 31
            rest >>= 5
            more = rest != (-1 if bits & 16 else 0)
            characters.append(chr(bits + 32 * more + 48))
    return "".join(characters)


def _as_text(counts: object) -> object:
    """Run lengths as COCO's text, also where they come as a list of numbers (uncompressed) or as bytes.

    Bytes that a program wrote by `str` are `b'...'`, with each backslash doubled; no run length has a quote.
    """
    if isinstance(counts, bytes):
        return counts.decode("ascii", "replace")
    if isinstance(counts, str):
        is_repr = counts[:2] in ("b'", 'b"') and counts[-1:] == counts[1]
        return counts[2:-1].replace("\\\\", "\\") if is_repr else counts
    if not isinstance(counts, list | tuple):
        return counts
    runs: list[int] = []
    for run in cast("Sequence[object]", counts):
        if isinstance(run, bool) or not isinstance(run, int | float) or run != run // 1:
            raise ValueError(f"run lengths are whole numbers, got {str(run)[:80]!r}")
        runs.append(int(run))
    return compressed_counts(runs)


class RLE(StrictRecord):
    """One mask as COCO run lengths (column-major, background first)."""

    size: tuple[int, int]
    """(H, W) in pixels."""
    counts: Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | list[int])]
    """Compressed; a list of run lengths is read too."""


class Track(StrictRecord):
    """One object through time. A frame that is not listed has no pixel of the object."""

    label: str | None = None
    """The expression or name of the object, where there is one."""
    score: float | None = None
    """The model's confidence in [0, 1], where there is one."""
    masks: dict[int, RLE]
    """Frame index -> mask; all of one size."""
