"""Spans at a position of a text: in a literal, in consecutive pairs, or as ranges in the rest of a line."""

from __future__ import annotations

import re

from evqa.parsing import literals, reply_text
from evqa.parsing.literals import Literal, NoLiteral, TimeRange, Truncated
from evqa.parsing.span_contexts import evidence_pairs
from evqa.parsing.span_literals import Pairs, pair_of_node, spans_of_node, valid_spans
from evqa.schema import Spans

NO_SPANS = re.compile(
    r"(?:there (?:is|are) )?(?:none(?! of)|n/a|not applicable|no (?:temporal |visual |such )?(?:evidence"
    r"|segments?|spans?))\b"
    r"(?![^.\n]{0,60}\d)",
    re.IGNORECASE,
)
"""Statement that there is no evidence in time: `none`, `no segments`."""

_PAIR_SEPARATOR = re.compile(
    r"\s{0,3}(?:[,;&\n]\s{0,3}|and\b\s{0,3}|)(?:and\s{1,3}|[-*\u2022]\s|\d{1,2}[.)]\s)?(?=[\[({])"
)
"""Text between two pairs of one statement."""

_TIMED_BULLET = re.compile(
    r"\s{0,4}(?:[-*\u2022]|\d{1,2}[.)])\s{1,3}(?=[\[({]?[\"']?\d|from\b|between\b)", re.IGNORECASE
)
"""Start of a list item that begins with a time."""


def spans_of_literal(text: str, position: int) -> Spans | None:
    """Spans of the literal at a position and of the pairs after it, else of the rest of the line; None = unreadable."""
    try:
        literal = literals.read_literal(text, position)
    except Truncated:
        return None
    except NoLiteral:
        return spans_of_line(text, position)
    pairs, _ = consecutive_pairs(text, literal)
    return valid_spans(pairs) if pairs else spans_of_node(literal.node)


def consecutive_pairs(text: str, literal: Literal) -> tuple[Pairs, int]:
    """Consecutive pairs `[5, 10], [12, 15]`, starting with a literal, and the position after the last one."""
    pairs: Pairs = []
    end = literal.end
    while isinstance(literal.node, list | dict) and (pair := pair_of_node(literal.node)) is not None:
        pairs.append(pair)
        end = literal.end
        match = _PAIR_SEPARATOR.match(text, end)
        if match is None:
            break
        try:
            literal = literals.read_literal(text, match.end())
        except (Truncated, NoLiteral):
            break
    return pairs, end


def spans_of_line(text: str, position: int) -> Spans | None:
    """Spans of the ranges in the rest of a line and in the list items below it.

    () = the line states that there are none; None = the line has no range.
    """
    line, *lines_after = text[position : position + 5000].split("\n")
    if NO_SPANS.match(line):
        return ()
    pairs = _ranges_of_line(line[:1000])
    for item in lines_after if len(text) <= position + 5000 else lines_after[:-1]:
        match = _TIMED_BULLET.match(item)
        item_pairs = _ranges_of_line(item[match.end() :]) if match and pairs else []
        if not item_pairs:
            break
        pairs += item_pairs
    return valid_spans(pairs) or None


def _ranges_of_line(line: str) -> Pairs:
    """Pair or ranges in a line or list item."""
    match = _TIMED_BULLET.match(line)
    item = line[match.end() :] if match else line
    if item.startswith(("[", "(", "{")):
        try:
            pair = pair_of_node(literals.read_literal(item, 0).node)
        except (Truncated, NoLiteral):
            pair = None
        if pair:
            return [pair]
    times = literals.normalize_times(item)
    first_sentence = next(iter(reply_text.sentences(times)), "")
    return evidence_pairs(first_sentence, is_announced=True) or evidence_pairs(times) or []


# Bare numbers


_NUMBERS = re.compile(
    rf"[\[(]?\s?{literals.NUMBER}(?:{literals.UNIT})?(?:\s{{0,2}}[,;]\s{{0,2}}|\s{{1,2}}){literals.NUMBER}(?:{literals.UNIT})?"
    rf"(?:\s{{0,2}}[,;]\s{{0,2}}{literals.NUMBER}(?:{literals.UNIT})?)*\s?[\])]?\.?",
    re.IGNORECASE,
)
"""Two or more numbers and nothing else: `12.0, 15.5`."""
_BULLET = re.compile(r"^(?:[-*\u2022]|\d{1,2}[.)])\s{1,3}(?=[\[({]?\d)")
_ONE_NUMBER = re.compile(rf"(?:{literals.NUMBER})")


def bare_pairs(text: str) -> Pairs | None:
    """Pairs of a text that consists of ranges, `3 to 7`, or an even number of numbers, `12.0, 15.5`; None otherwise."""
    item = _BULLET.sub("", text, count=1)
    ranges = literals.find_ranges(item)
    if literals.is_all_ranges(item, ranges):
        return (
            None if any(_are_years(span_range) for span_range in ranges) else [span_range.pair for span_range in ranges]
        )
    if item.startswith("["):
        try:
            return list(spans_of_node(literals.read_literal(item, 0).node) or ()) or None
        except (Truncated, NoLiteral):
            return None
    if not _NUMBERS.fullmatch(item):
        return None
    times = [literals.parse_time(match[0]) for match in _ONE_NUMBER.finditer(item)]
    numbers = [time for time in times if time is not None]
    return list(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) % 2 == 0 else None


def _are_years(span_range: TimeRange) -> bool:
    """Whether a range without a unit is one of years: `1990 to 1995`."""
    return not span_range.has_unit and all(1900 <= time <= 2100 and time.is_integer() for time in span_range.pair)
