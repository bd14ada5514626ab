"""Parsers of the stages of localisation: time segments, verdicts per segment, and segments with their process stages.

All times are seconds of the text that is read, which its caller puts on a clock. Thoughts of a model are no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from evqa.parsing.literals import TimeRange, find_ranges, normalize_times
from evqa.parsing.reply_rules import prepare_reply
from evqa.parsing.spans import parse_spans
from evqa.schema import Span, Spans

MAX_SEGMENTS = 1000
"""Most segments of a reply that are read."""

MAX_CONFIDENCE = 10.0
"""Highest confidence of a verdict."""

SegmentFlag = Literal["swapped", "clipped", "outside", "empty"]
"""What had to be done to a segment: its ends were swapped, its end was cut to the video's, it was left out as beyond
the video, or it has no length."""

_MINUTES = re.compile(r"(?<![\w.:])(\d{1,4}(?:\.\d{1,6})?)\s?min(?:ute)?s?\b(?!\s?\d)", re.IGNORECASE)
_TIME = r"\d{1,9}(?:\.\d{1,6})?\s?s(?:ec(?:ond)?s?)?"
_PAIR = re.compile(rf"[\[(]\s?({_TIME})\s?[,;]\s?({_TIME})\s?[\])]", re.IGNORECASE)
_LINE_START = re.compile(
    r"[\s>*#_`(\[\-\u2022]*(?:(?:segment\s{0,2})?\d{1,4}\s?[.):]\s{1,4})?[\s*_`(\[]*", re.IGNORECASE
)
"""What may stand before the times of a line: a list number, brackets and emphasis."""


class SegmentReading(NamedTuple):
    """Segments of a reply."""

    spans: Spans | None
    """In the order of the reply; () = it states that there is none; None = unparsed."""
    flags: frozenset[SegmentFlag]


class SegmentVerdict(NamedTuple):
    """Verdict on one segment."""

    span: Span
    relevant: bool | None
    """None = unreadable."""
    confidence: float | None
    """0 to 10; None = absent, no number or out of range."""


def read_segments(text: str, duration: float | None) -> SegmentReading:
    """Read the segments that a reply lists.

    Args:
        text: Raw reply.
        duration: Length of the video in seconds; None = unknown.
    """
    reply = prepare_reply(text)
    pairs = [] if reply.objects else [time_range.pair for time_range in _ranges(reply.text)]
    if not pairs:
        spans = parse_spans(text)
        if not spans:
            return SegmentReading(spans, frozenset())
        pairs = [(span.start, span.end) for span in spans]
    return _within(pairs[:MAX_SEGMENTS], duration)


def _ranges(text: str) -> Iterator[TimeRange]:
    """Yield the ranges of a text: those with units or colons, and others at the start of a line."""
    for line in text.splitlines():
        normal = _normal(line)
        start = _LINE_START.match(normal)
        for time_range in find_ranges(normal):
            if time_range.has_unit or (start is not None and start.end() == time_range.start):
                yield time_range


def _normal(line: str) -> str:
    """A line with its times as `find_ranges` reads them."""
    line = _MINUTES.sub(lambda match: f"{60 * float(match[1]):g}s", line)
    return normalize_times(_PAIR.sub(r"\1 - \2", line))


def _within(pairs: Sequence[tuple[float, float]], duration: float | None) -> SegmentReading:
    spans: list[Span] = []
    flags: set[SegmentFlag] = set()
    for pair in pairs:
        start, end = sorted(pair)
        if start != pair[0]:
            flags.add("swapped")
        if duration is not None and start >= duration > 0:
            flags.add("outside")
            continue
        if duration is not None and end > duration:
            flags.add("clipped")
            end = duration
        if start == end:
            flags.add("empty")
        spans.append(Span(start, end))
    return SegmentReading(tuple(spans) if spans or not pairs else None, frozenset(flags))


# Verdicts

_CONFIDENCE = re.compile(r"confidence(?:\s{1,2}score)?[\s*_:=\[(\"'`]{0,8}(-?\d{1,9}(?:\.\d{1,6})?)", re.IGNORECASE)
_VERDICT = re.compile(r"verdict[\s*_:=\[(\"'`]{0,8}(irrelevant|not\s{1,2}relevant|relevant)\b", re.IGNORECASE)


def read_verdicts(text: str) -> list[SegmentVerdict]:
    """Read the verdicts of a reply on numbered segments, each with its times, a confidence and `Relevant` or not."""
    blocks: list[tuple[Span, list[str]]] = []
    for line in prepare_reply(text).text.splitlines():
        header = _header(line)
        if header is not None and len(blocks) < MAX_SEGMENTS:
            span, rest = header
            blocks.append((span, [rest]))
        elif blocks:
            blocks[-1][1].append(line)
    return [_verdict(span, "\n".join(lines)) for span, lines in blocks]


def _header(line: str) -> tuple[Span, str] | None:
    """Return (segment, rest of the line) of a line that begins with a segment."""
    normal = _normal(line)
    start = _LINE_START.match(normal)
    first = next(iter(find_ranges(normal)), None)
    if first is None or start is None or start.end() != first.start:
        return None
    low, high = sorted(first.pair)
    return Span(low, high), normal[first.end :]


def _verdict(span: Span, text: str) -> SegmentVerdict:
    verdicts = {match[1].lower() == "relevant" for match in _VERDICT.finditer(text)}
    confidence = _CONFIDENCE.search(text)
    number = float(confidence[1]) if confidence else None
    return SegmentVerdict(
        span,
        verdicts.pop() if len(verdicts) == 1 else None,
        number if number is not None and 0 <= number <= MAX_CONFIDENCE else None,
    )


# Segmentation into process stages

_ARROW = re.compile(r"\s{0,3}(?:-{1,2}>|=>|\u2192)\s{0,3}")
_STAGE = re.compile(r"\s{0,8}(?:[-*\u2022]\s{0,3})?\d{1,3}\s?[.)]\s{0,3}([^:\n]{1,200})")


class StagedSegment(NamedTuple):
    """Segment between two frames with the process stages at its ends."""

    span: Span
    stages: tuple[str, ...]
    """Names, normalised: two with an arrow between them, one without."""


def read_stages(text: str) -> tuple[str, ...]:
    """Read the names of the process stages of a numbered list, normalised."""
    matches = (_STAGE.match(line) for line in prepare_reply(text).text.splitlines())
    return tuple(dict.fromkeys(name for match in matches if match and (name := _name(match[1]))))


def read_segmentation(text: str) -> list[StagedSegment]:
    """Read the lines `0s - 10s: [Stage] -> [Stage]` of a reply; other lines are left out."""
    segments: list[StagedSegment] = []
    for line in prepare_reply(text).text.splitlines()[:MAX_SEGMENTS]:
        if (header := _header(line)) is not None:
            span, rest = header
            segments.append(StagedSegment(span, tuple(map(_name, _ARROW.split(rest.strip(" :\t*_"))))))
    return segments


def is_usable_segmentation(text: str, stages: Sequence[str], required: Sequence[Span]) -> bool:
    """Whether a reply has every required segment, each with two known stages.

    Args:
        text: Raw reply.
        stages: Names of `read_stages`.
        required: Segments in seconds, to half a second.
    """
    segments = read_segmentation(text)
    names = set(stages)
    are_known = all(len(segment.stages) == 2 and names.issuperset(segment.stages) for segment in segments)
    return are_known and all(any(_is_near(segment.span, span) for segment in segments) for span in required)


def _is_near(first: Span, second: Span) -> bool:
    return max(abs(first.start - second.start), abs(first.end - second.end)) <= 0.5


def _name(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text).casefold().split())
