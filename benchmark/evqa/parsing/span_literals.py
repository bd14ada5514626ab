"""Spans in literals: pairs, objects with start and end, ranges in strings, flat lists of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

from evqa.parsing import literals
from evqa.parsing.literals import Node
from evqa.schema import Span, Spans

MAX_SECONDS = 1e7
"""Latest time in seconds that can be a time of a video."""

Pairs = list[tuple[float, float]]
"""(start, end) in seconds, not validated."""

SPAN_KEYS = frozenset(
    [
        "segments",
        "segment",
        "temporal_evidence",
        "time_segments",
        "time_segment",
        "timestamps",
        "timestamp",
        "spans",
        "span",
        "intervals",
        "interval",
        "time_range",
        "time_ranges",
        "time",
        "times",
        "temporal_segments",
        "evidence_segments",
        "evidence_spans",
        "time_spans",
        "evidence_time",
        "temporal_grounding",
        "windows",
        "temporal",
        "time_interval",
        "time_intervals",
        "evidence_intervals",
        "时间",
        "时间段",
        "片段",
        "时间证据",
    ]
)
"""Keys whose value is a list of spans, in lower case with `_` between words."""
START_KEYS = ("start", "start_time", "start_sec", "start_seconds", "begin", "from")
"""Keys of the start of a span."""
END_KEYS = ("end", "end_time", "end_sec", "end_seconds", "stop", "to")
"""Keys of the end of a span."""


def spans_of_node(node: Node) -> Spans | None:
    """Spans of a literal: pairs, objects with start and end, ranges in strings, or a flat list of pairs of times.

    None = an element has another form.
    """
    if isinstance(node, dict):
        pair = pair_of_node(node)
        return valid_spans([pair]) if pair else None
    if not isinstance(node, list):
        return None
    times = [_time_of_node(item) for item in node]
    if node and all(time is not None for time in times):
        numbers = [time for time in times if time is not None]
        return valid_spans(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) % 2 == 0 else None
    if len(node) == 1 and isinstance(node[0], list) and node[0] and isinstance(node[0][0], list):
        return spans_of_node(node[0])
    pairs = [pair_of_node(item) for item in node]
    return None if None in pairs else valid_spans(pair for pair in pairs if pair is not None)


def pair_of_node(node: Node) -> tuple[float, float] | None:
    """(start, end) of a string with one range, a list of two times, or an object with start and end; None otherwise."""
    ends: list[float | None] = []
    if isinstance(node, str):
        ranges = literals.parse_ranges(node, is_announced=True)
        return ranges[0] if len(ranges) == 1 else None
    if isinstance(node, list):
        ends = [_time_of_node(item) for item in node]
    if isinstance(node, dict):
        lists = [node[key] for key in node if key in SPAN_KEYS]
        if len(lists) == 1 and isinstance(lists[0], list):
            return pair_of_node(lists[0])
        ends = [
            _time_of_node(next((node[key] for key in keys if key in node), None)) for keys in (START_KEYS, END_KEYS)
        ]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def _time_of_node(node: Node) -> float | None:
    """Seconds of a number or a time in a string; None otherwise."""
    if isinstance(node, str):
        return literals.parse_time(node)
    return node if isinstance(node, float) else None


def valid_spans(pairs: Iterable[tuple[float, float]]) -> Spans | None:
    """Convert pairs to spans without duplicates; None = one ends before it starts, or exceeds `MAX_SECONDS`."""
    spans = tuple(dict.fromkeys(Span(start, end) for start, end in pairs))
    return spans if all(0 <= start <= end <= MAX_SECONDS for start, end in spans) else None


# Parsed JSON


def spans_of_json(value: object) -> Spans | None:
    """Spans of parsed JSON in any notation that a reply may use; None = an element is not a span."""
    try:
        node = _node_of_json(value)
    except ValueError:
        return None
    return spans_of_node(node) if isinstance(node, list | dict) else None


def _node_of_json(value: object, depth: int = 0) -> Node:
    """Convert parsed JSON to a `Node`. `ValueError`: a value cannot be part of a span."""
    if isinstance(value, bool) or depth > literals.MAX_DEPTH:
        raise ValueError(f"no times: {str(value)[:80]!r}")
    if isinstance(value, int | float):
        return float(value) if -MAX_SECONDS <= value <= MAX_SECONDS else math.nan
    if isinstance(value, list):
        return [_node_of_json(item, depth + 1) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value)
        return {key: _node_of_json(item, depth + 1) for key, item in entries.items()}
    return value if isinstance(value, str) else None
