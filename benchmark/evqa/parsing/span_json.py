"""Spans in the JSON objects of a reply, read from their own top-level keys."""

from __future__ import annotations

from collections.abc import Mapping

from evqa.parsing import literals, reply_text
from evqa.parsing.reply_json import JsonValue
from evqa.parsing.reply_rules import ReplyText
from evqa.parsing.span_contexts import evidence_pairs
from evqa.parsing.span_lines import NO_SPANS, bare_pairs, spans_of_literal
from evqa.parsing.span_literals import END_KEYS, SPAN_KEYS, START_KEYS, valid_spans
from evqa.parsing.span_rules import SpanMatch, TimedText, match_key
from evqa.schema import Spans


def spans_of_objects(reply: ReplyText) -> tuple[str, SpanMatch]:
    """Name of the rule and spans of a reply that has JSON objects.

    Keys of spans precede start and end keys, and both precede a key in the prose around the objects.
    """
    values = [entry.values for entry in reply.objects]
    key_matches = [match for keys in values if (match := _spans_of_object(reply.text, keys)) is not None]
    if key_matches:
        last = key_matches[-1]
        is_unique = not reply.is_list or len({match.spans for match in key_matches}) == 1
        return "JSON key", last if is_unique else SpanMatch(None, last.text)
    end_matches = [match for keys in values if (match := _start_and_end_of_object(reply.text, keys)) is not None]
    if end_matches:
        pairs = [pair for match in end_matches for pair in match.spans or ()]
        return "JSON start and end", SpanMatch(valid_spans(pairs), end_matches[-1].text)
    prose_match = match_key(TimedText(reply.prose, spans_only=False))
    return ("key", prose_match) if prose_match else ("JSON without spans", SpanMatch(None, ""))


def _spans_of_object(text: str, values: Mapping[str, JsonValue]) -> SpanMatch | None:
    """Spans of an object by its span keys, unreadable if they disagree; None = it has none."""
    keys = [key for key in values if key in SPAN_KEYS]
    readings = [_spans_of_value(text, values[key]) for key in keys]
    if not keys:
        return None
    excerpt = ", ".join(f'"{key}": {text[values[key].start : values[key].end].strip()}' for key in keys)
    distinct = {spans for spans in readings if spans is not None}
    return SpanMatch(distinct.pop() if len(distinct) == 1 else None, excerpt)


def _spans_of_value(text: str, value: JsonValue) -> Spans | None:
    """Spans of a value: a literal, a statement that there are none, or ranges in a string."""
    source = reply_text.plain(text[value.start : value.end]).strip()
    if source[:1] in ("[", "(", "{"):
        return spans_of_literal(source, 0)
    times = literals.normalize_times(source.strip("\"'"))
    if NO_SPANS.match(times):
        return ()
    pairs = bare_pairs(times) or evidence_pairs(times)
    return (valid_spans(pairs) or None) if pairs else None


def _start_and_end_of_object(text: str, values: Mapping[str, JsonValue]) -> SpanMatch | None:
    """Span of an object with a start and an end; None = it lacks one of them."""
    start, end = (next((key for key in keys if key in values), None) for keys in (START_KEYS, END_KEYS))
    if start is None or end is None:
        return None
    times = [
        literals.parse_time(text[values[key].start : values[key].end].strip().strip("\"'")) for key in (start, end)
    ]
    if times[0] is None or times[1] is None:
        return None
    spans = valid_spans([(times[0], times[1])])
    return SpanMatch(spans, f'"{start}": {times[0]:g}, "{end}": {times[1]:g}')
