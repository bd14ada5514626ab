"""Table of span rules: ways in which prose states spans, in the order in which they are tried."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from evqa.parsing import literals, reply_text
from evqa.parsing.announcements import MAX_PLACES, RETRACTION
from evqa.parsing.literals import Literal, LocatedList, Node, NoLiteral, Truncated
from evqa.parsing.reply_rules import Rule
from evqa.parsing.span_contexts import evidence_lists, evidence_pairs, is_evidence_list, spans_unless_alternative
from evqa.parsing.span_lines import NO_SPANS, bare_pairs, consecutive_pairs, spans_of_line, spans_of_literal
from evqa.parsing.span_literals import Pairs, pair_of_node, spans_of_node, valid_spans
from evqa.schema import Spans

MAX_TAIL = 30_000
"""Number of characters at the end of the prose in which evidence without a key is searched."""


class SpanMatch(NamedTuple):
    """Result of a rule that matched."""

    spans: Spans | None
    """() = the reply states that there are none; None = unreadable."""
    text: str
    """Part of the reply that matched."""


@dataclass(frozen=True)
class TimedText:
    """Prose of a reply that may state times."""

    text: str
    spans_only: bool
    """Whether the prompt requested spans only, so that numbers need no unit."""

    @cached_property
    def tail(self) -> str:
        """Last `MAX_TAIL` characters, with times in one notation (`literals.normalize_times`)."""
        return literals.normalize_times(self.text[-MAX_TAIL:])

    @cached_property
    def sentences(self) -> list[str]:
        """Sentences of `tail`."""
        return reply_text.sentences(self.tail)


# Announced by a key, by tags, or by start and end


_KEY = re.compile(
    r"""(?<![A-Za-z])(?:temporal[ _]evidence|(?:time[ _-]?)?(?:segments?|spans?|intervals?|ranges?|windows?)
        |timestamps?|evidence\s(?:time|in\stime))
        ["'*]{0,4}(?:\s?\([^()\n]{0,30}\))?["'*]{0,4}\s{0,3}(?:is|are|:|=)\s{0,8}["'*]{0,2}\s{0,8}
      |(?<![A-Za-z])times?\s{0,2}["'*]{0,3}[:=]\s{0,8}
      |(?:\u65f6\u95f4\u6bb5|\u65f6\u95f4\u8bc1\u636e|\u8bc1\u636e\u65f6\u95f4|\u65f6\u95f4\u8303\u56f4|\u7247\u6bb5|\u65f6\u95f4)\s?(?:\u662f|\u4e3a|:|=)\s{0,4}""",
    re.VERBOSE | re.IGNORECASE,
)
"""A key of spans and the separator after it: `Temporal Evidence:`."""

_DENIED_KEY = re.compile(
    r"\b(?:duration|length|number|count|wrong|incorrect|other|rejected|irrelevant|excluded|not\s(?:the|a|in)|no)\s(?:(?:of|the|each|this|such|a)\s){0,3}(?:\w+\s)?$",
    re.IGNORECASE,
)
"""Words before a key that make it a length or reject it: `duration of the segment`."""


def match_key(prose: TimedText) -> SpanMatch | None:
    """Match the last key that is followed by spans: `Temporal Evidence: [[0.0, 14.5]]`, `Segments: 12.0 - 15.0`."""
    text = prose.text
    matches = deque(_KEY.finditer(text), maxlen=MAX_PLACES)
    for match in reversed(matches):
        line = text[max(0, match.start() - 60) : match.start()].rpartition("\n")[2]
        if _DENIED_KEY.search(line):
            continue
        position = match.end()
        if text[position : position + 1] in ("[", "{", "("):
            return SpanMatch(spans_of_literal(text, position), text[match.start() : position + 100])
        spans = spans_of_line(text, position)
        if spans is not None:
            return SpanMatch(spans, text[match.start() : position + 60].strip())
    return None


_TAG = re.compile(
    r"<(answer|segments?|spans?|time(?:[ _]?(?:range|span|segment))?|timestamps?|intervals?"
    r"|temporal[ _]?(?:evidence|grounding)?)>([^<>]{1,400})(?:</\1>|$)",
    re.IGNORECASE,
)
_DECIMAL = re.compile(r"\d\.\d")


def match_tag(prose: TimedText) -> SpanMatch | None:
    """Match times in tags: `<answer>12.54 to 17.83</answer>`, `<segment>12-15</segment><segment>20-25</segment>`."""
    tags = deque(_TAG.finditer(prose.text), maxlen=MAX_PLACES)
    pairs: Pairs = []
    for match in tags:
        if match[1].lower() == "answer":
            if not (prose.spans_only or _DECIMAL.search(match[2])):
                continue
            pairs = []  # the last answer counts
        pairs += bare_pairs(literals.normalize_times(match[2].strip())) or []
    return SpanMatch(valid_spans(pairs), tags[-1][0]) if pairs else None


_TIME = rf"[\"']?({literals.NUMBER})(?:{literals.UNIT})?"

_START_END = re.compile(
    rf"(?<![A-Za-z])(?:start|begin|from|\u5f00\u59cb|\u8d77\u59cb)(?:ning|s|ing)?(?:[ _-]?(?:times?|sec\w*|timestamp"
    rf"|point|\u65f6\u95f4|\u65f6\u523b|\u70b9"
    rf"|at))?(?:\s?\([^()\n]{{0,20}}\))?[\"']?(?:\s{{0,2}}[:=>]|\s-\s)\s{{0,3}}{_TIME}"
    rf"[^\d\n]{{0,20}}?\n{{0,2}}[^\d\n]{{0,20}}?(?<![A-Za-z])(?:end|stop|finish|to|\u7ed3\u675f|\u7ec8\u6b62"
    rf"|\u622a\u6b62)(?:s|ing)?(?:[ _-]?(?:times?|\u65f6\u95f4|\u65f6\u523b|\u70b9"
    rf"|sec\w*|timestamp|point|at))?(?:\s?\([^()\n]{{0,20}}\))?[\"']?(?:\s{{0,2}}[:=>]"
    rf"|\s-\s)\s{{0,3}}{_TIME}",
    re.IGNORECASE,
)


def match_start_end(prose: TimedText) -> SpanMatch | None:
    """Match pairs of keys: `Start: 12.0, End: 15.5`."""
    matches = deque(_START_END.finditer(prose.tail), maxlen=MAX_PLACES)
    pairs = [(literals.parse_time(match[1]), literals.parse_time(match[2])) for match in matches]
    complete = [(start, end) for start, end in pairs if start is not None and end is not None]
    return SpanMatch(valid_spans(complete), matches[-1][0]) if complete else None


# Lists


def match_nested_list(prose: TimedText) -> SpanMatch | None:
    """Match the last nested list that is evidence and not a list of boxes."""
    for entry in reversed(evidence_lists(prose.tail)):
        node = entry.node
        if isinstance(node, list) and any(isinstance(item, list | dict) for item in node) and not _is_boxes(node):
            spans = spans_unless_alternative(prose.tail, entry, spans_of_node(node))
            return SpanMatch(spans, prose.tail[entry.start : entry.end])
    return None


def _is_boxes(node: list[Node]) -> bool:
    """Whether all elements are lists of four numbers, or objects with a box."""
    return all(
        (isinstance(item, list) and len(item) == 4 and all(isinstance(coordinate, float) for coordinate in item))
        or (isinstance(item, dict) and "bbox_2d" in item)
        for item in node
    )


def match_row_of_pairs(prose: TimedText) -> SpanMatch | None:
    """Match the last sequence of several pairs: `[5, 10] and [12, 15]`."""
    rows = deque(_rows_of_pairs(prose.tail), maxlen=1)
    return SpanMatch(valid_spans(rows[0]), str(rows[0])) if rows and len(rows[0]) > 1 else None


def _rows_of_pairs(text: str) -> Iterator[Pairs]:
    """Sequences of pairs that follow one another."""
    end = 0
    for entry in literals.find_lists(text):
        if entry.end > end and entry.start >= end:
            pairs, end = consecutive_pairs(text, Literal(entry.node, entry.end))
            if pairs and is_evidence_list(text, LocatedList(entry.start, entry.node, end)):
                yield pairs


def match_pair(prose: TimedText) -> SpanMatch | None:
    """Match the last pair in brackets, or a reply that is one list or one pair in parentheses."""
    content = prose.tail.strip()
    for entry in reversed(evidence_lists(prose.tail)):
        if isinstance(entry.node, list) and (len(entry.node) == 2 or prose.tail[entry.start : entry.end] == content):
            lines = _pairs_of_lines(prose.tail)
            if len(lines) > 1:
                return SpanMatch(valid_spans(lines), prose.tail[entry.start : entry.end])
            spans = spans_of_node(entry.node)
            if spans is None:
                return None
            return SpanMatch(spans_unless_alternative(prose.tail, entry, spans), prose.tail[entry.start : entry.end])
    if content[:1] + content[-1:] == "()":
        spans = spans_of_literal(content, 0)
        return None if spans is None else SpanMatch(spans, content)
    return None


_LINE_START = re.compile(
    r"(?:^|;(?=[ \t]))[ \t]{0,4}(?:(?:[-*\u2022]|\d{1,2}[.)])[ \t]{1,3})?(?=[\[(]\d)", re.MULTILINE
)


def _pairs_of_lines(text: str) -> Pairs:
    """Pairs at the starts of the lines of a list: `- [3, 7]: he lifts it`.

    Empty = a line starts with something else.
    """
    starts = deque((match.end() for match in _LINE_START.finditer(text)), maxlen=MAX_PLACES)
    pairs: Pairs = []
    for position in starts:
        try:
            pair = pair_of_node(literals.read_literal(text, position).node)
        except (Truncated, NoLiteral):
            return []
        if pair is None or not is_evidence_list(text, LocatedList(position, None, text.find("\n", position))):
            return []
        pairs.append(pair)
    return pairs


# No spans


_REPLY_WITHOUT_TIME = re.compile(r"Answer:\s{0,3}\(?[A-Z]\)?\s{0,3}\.\s{0,3}Spatial Evidence:")
"""The trained reply format without its temporal evidence."""
_EMPTY_LIST = re.compile(r"\[\s{0,3}\](?!\s{0,3}[\w(]{0,1}\d)")


def match_none(prose: TimedText) -> SpanMatch | None:
    """Match a statement that there is no evidence in time, or an empty list."""
    if _REPLY_WITHOUT_TIME.search(prose.text):
        return SpanMatch((), prose.text[:80])
    empty_list = _EMPTY_LIST.match(prose.tail) if prose.spans_only else None
    remainder = TimedText(prose.tail[empty_list.end() :], spans_only=True) if empty_list else None
    if empty_list and remainder and "[" not in remainder.text and match_range_in_prose(remainder) is None:
        return SpanMatch((), empty_list[0])
    if literals.find_ranges(prose.tail) or "[" in prose.tail:
        return None
    denial = next((sentence for sentence in prose.sentences if NO_SPANS.match(sentence)), None)
    return None if denial is None else SpanMatch((), denial)


# Ranges in prose


_CUE = re.compile(
    r"\b(?:evidence|proof|relevant\s(?:segment|part|moment)|key\s(?:moment|segment))\b|\u8bc1\u636e", re.IGNORECASE
)
"""Words that call a range evidence."""

_CONTINUATION = re.compile(
    r"(?:also|again|then|another|second|and|additionally|later|it\s(?:also|continues))\b", re.IGNORECASE
)
"""Start of a sentence that continues the evidence of the sentence before it."""

_ANSWER_IS = re.compile(
    r"(?:the\s)?(?:final\s|correct\s|my\s)?answer\s?(?:is|:)\s{0,3}(?=\D{0,6}\d{1,5}\.\d)", re.IGNORECASE
)

_NEXT_SENTENCE = re.compile(
    r"(?<=[\d\])s])\s{1,3}(?=(?:The|This|These|There|It|They|He|She|We|In|At|On|As|Because|My|Let|Please|Note|Hope|Thank|Thanks|You|I)\b)"
)


class StatedRange(NamedTuple):
    """Ranges that one sentence gives as evidence."""

    pairs: Pairs
    has_cue: bool
    """Whether the sentence, or one that it continues, calls them evidence."""
    sentence: str


def match_range_in_prose(prose: TimedText) -> SpanMatch | None:
    """Match ranges in sentences: those after a correction, else those called evidence, else all candidates."""
    retractions = list(RETRACTION.finditer(prose.tail))
    if retractions:
        ranges = _stated_ranges(reply_text.sentences(prose.tail[retractions[-1].end() :]), spans_only=prose.spans_only)
        if ranges:
            return _match_of_ranges(ranges)
    ranges = _stated_ranges(prose.sentences, spans_only=prose.spans_only)
    return _match_of_ranges(ranges) if ranges else None


def _stated_ranges(sentences: Sequence[str], *, spans_only: bool) -> list[StatedRange]:
    """Ranges of each sentence; empty = a sentence is ambiguous."""
    ranges: list[StatedRange] = []
    has_cue = False
    for sentence in sentences:
        pairs = bare_pairs(_first_sentence(_without_announcement(sentence))) if spans_only else None
        pairs = pairs or evidence_pairs(sentence)
        has_cue = _CUE.search(sentence) is not None or (has_cue and _CONTINUATION.match(sentence) is not None)
        if pairs is None:
            return []
        if pairs:
            ranges.append(StatedRange(pairs, has_cue, sentence))
    return ranges


def _without_announcement(sentence: str) -> str:
    """Sentence without `The answer is` if decimal numbers follow, which are not a count."""
    match = _ANSWER_IS.match(sentence)
    return sentence[match.end() :] if match else sentence


def _first_sentence(sentence: str) -> str:
    return _NEXT_SENTENCE.split(sentence, maxsplit=1)[0]


def _match_of_ranges(ranges: Sequence[StatedRange]) -> SpanMatch:
    """Match of the ranges that are called evidence, or of all if none is."""
    evidence = [stated_range for stated_range in ranges if stated_range.has_cue] or ranges
    return SpanMatch(
        valid_spans(pair for stated_range in evidence for pair in stated_range.pairs) or None, evidence[-1].sentence
    )


RULES: tuple[Rule[TimedText, SpanMatch], ...] = (
    Rule("key", match_key, "Temporal Evidence: 12.0 - 15.0", "Duration of the segment: 2 - 3 s"),
    Rule("tag", match_tag, "<answer>12.54 to 17.83</answer>", "<answer>B</answer>"),
    Rule("start and end", match_start_end, "Start: 12.0, End: 15.5", "Start now, end later."),
    Rule("nested list", match_nested_list, "It is seen at [[12, 15]].", "The box is [[10, 20, 30, 40]]."),
    Rule(
        "row of pairs",
        match_row_of_pairs,
        "It is seen at [5, 10] and [12, 15].",
        "The bounding box is [100, 200], [300, 400].",
    ),
    Rule("pair", match_pair, "[12.0, 15.5]", "The ball is at coordinates [320, 240]."),
    Rule("none", match_none, "There is no temporal evidence.", "There is no evidence from 12s to 15s."),
    Rule(
        "range in prose", match_range_in_prose, "It happens from 12s to 15s.", "He holds it for about 2 to 3 seconds."
    ),
)
"""Ways in which prose gives spans, in the order in which they are tried."""


def first_match(prose: TimedText) -> tuple[str, SpanMatch] | None:
    """Name and result of the first rule that matches, the text stripped; None if none does."""
    for rule in RULES:
        match = rule.match(prose)
        if match is not None:
            return rule.name, SpanMatch(match.spans, match.text.strip())
    return None
