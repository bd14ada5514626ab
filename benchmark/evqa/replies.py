"""A reply's text -> answer, spans, expressions. The only parser: every method and model goes through it.

The last thing that a reply commits to counts. What can be read in two ways is unparsed (None), never guessed.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

from evqa import literals
from evqa.choices import MAX_PLACES, read_answer
from evqa.literals import Cut, Found, Junk, Node
from evqa.schema import LETTERS, Ask, Sample, Span, Spans, Turn

MAX_SECONDS = 1e7
"""A later time is no time in a video."""

MAX_TAIL = 30_000
"""So many characters from the end are searched for a list that no key announces."""


class Parsed(NamedTuple):
    """What a reply says; None = not asked for, or unparsed."""

    answer: int | None
    """Index of the chosen option."""
    spans: Spans | None
    """() = the reply says that there are none."""
    expressions: tuple[str, ...] | None
    time_choice: int | None = None
    """Index of the chosen option of evidence in time."""
    mask_choice: int | None = None
    """Index of the chosen option of evidence in space."""


def parse(text: str, asks: Sequence[Ask], options: Sequence[str]) -> Parsed:
    """What a reply says about the things that its prompt asked for."""
    said = _after_thinking(text)
    return Parsed(
        answer=read_answer(said, options) if "answer" in asks else None,
        spans=read_spans(said) if "spans" in asks else None,
        expressions=_expressions(said, text) if "expressions" in asks else None,
    )


def parse_for(text: str, asks: Sequence[Ask], sample: Sample) -> Parsed:
    """As `parse`, with the choices of the multiple-choice task, whose options the sample has."""
    said = _after_thinking(text)
    pictures = [f"picture {letter}" for letter in LETTERS[: len(sample.mask_options)]]
    return parse(text, asks, sample.options)._replace(
        time_choice=read_time_choice(said, sample.time_options) if "time_choice" in asks else None,
        mask_choice=read_answer(said, pictures) if "mask_choice" in asks else None,
    )


def parse_turns(turns: Sequence[Turn], sample: Sample) -> Parsed:
    """What a conversation says: of each thing asked, the last reply to a prompt that asked for it."""
    said: dict[str, object] = {}
    for turn in turns:
        parsed = parse_for(turn.reply, turn.asks, sample)
        said |= {name: value for name, value in parsed._asdict().items() if name in turn.asks}
    return Parsed(None, None, None)._replace(**said)


def read_time_choice(text: str, options: Sequence[Spans]) -> int | None:
    """Index of the chosen set of spans, by its letter or its times; None where the two disagree."""
    letter = read_answer(text, ("",) * len(options))
    spans = read_spans(text)
    named = [index for index, option in enumerate(options) if spans and _as_told(option) == _as_told(spans)]
    if letter is None:
        return named[0] if len(named) == 1 else None
    return letter if not named or letter in named else None


def _as_told(spans: Spans) -> list[tuple[float, float]]:
    """Spans as a prompt tells them: with one decimal, and in any order."""
    return sorted((round(start, 1), round(end, 1)) for start, end in spans)


def _after_thinking(text: str) -> str:
    """The reply without its `<think>` part; a thought that never ends commits to nothing."""
    said = text.rpartition("</think>")[2]
    return said.partition("<think>")[0]


# Evidence in time

_SPANS_KEY = re.compile(
    r"""(?<![A-Za-z])(?:temporal[ _]evidence|segments?|spans?|timestamps?|intervals?)
        ["'*]{0,4}\s{0,3}(?:is|are|:|=|\uff1a)\s{0,8}["'*]{0,2}\s{0,8}""",
    re.VERBOSE | re.IGNORECASE,
)
_NONE = re.compile(
    r"(?:there (?:is|are) )?(?:none(?! of)|n/a|not applicable|no (?:temporal )?(?:evidence|segments?|spans?))\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\.(?=\s)")
_BESIDE = re.compile(r"\s{0,3}(?:[,;&\n]|and\b)\s{0,3}(?:and\s{1,3}|[-*\u2022]\s|\d{1,2}[.)]\s)?(?=[\[({])")
"""What may stand between two pairs that are said together."""
_TIMED_BULLET = re.compile(
    r"\s{0,4}(?:[-*\u2022]|\d{1,2}[.)])\s{1,3}(?=[\[({]?[\"']?\d|from\b|between\b)", re.IGNORECASE
)
"""The start of a line of a list of times."""
_WITHOUT_TIME = re.compile(r"Answer:\s{0,3}\(?[A-Z]\)?\s{0,3}\.\s{0,3}Spatial Evidence:")
_STARTS = ("start", "start_time", "start_sec", "start_seconds", "begin", "from")
_ENDS = ("end", "end_time", "end_sec", "end_seconds", "stop", "to")


def read_spans(text: str) -> Spans | None:
    """Spans that the reply commits to, in its order; () where it says that there are none."""
    places = deque((match.end() for match in _SPANS_KEY.finditer(text)), maxlen=MAX_PLACES)
    for place in reversed(places):
        if text[place : place + 1] in ("[", "{", "("):
            return _spans_of_literal(text, place)
        spans = _spans_of_line(text, place)
        if spans is not None:
            return spans
    return _spans_anywhere(text)


def _spans_of_line(text: str, at: int) -> Spans | None:
    """Ranges in the rest of an announced line; () where it says that there are none."""
    line, *below = text[at : at + 5000].split("\n")
    if _NONE.match(line):
        return ()
    pairs = _ranges_of_line(line[:1000])
    for item in below if len(text) <= at + 5000 else below[:-1]:
        match = _TIMED_BULLET.match(item)
        more = _ranges_of_line(item[match.end() :]) if match and pairs else []
        if not more:
            break
        pairs += more
    return _checked(pairs) or None


def _ranges_of_line(line: str) -> list[tuple[float, float]]:
    match = _TIMED_BULLET.match(line)
    bare = line[match.end() :] if match else line
    if bare.startswith(("[", "(", "{")):
        try:
            pair = _pair(literals.read(bare, 0).node)
        except (Cut, Junk):
            pair = None
        if pair:
            return [pair]
    return literals.ranges(bare) or literals.ranges(_SENTENCE_END.split(bare, maxsplit=1)[0], is_announced=True)


def _spans_of_literal(text: str, at: int) -> Spans | None:
    try:
        found = literals.read(text, at)
    except Cut:
        return None
    except Junk:
        return _spans_of_line(text, at)
    pairs, _ = _pairs_in_a_row(text, found)
    return _checked(pairs) if pairs else _spans_of(found.node)


def _pairs_in_a_row(text: str, found: Found) -> tuple[list[tuple[float, float]], int]:
    """Pairs that follow one another, `[5, 10], [12, 15]`, from one that is read on, and the character after them."""
    pairs: list[tuple[float, float]] = []
    end = found.end
    while isinstance(found.node, list | dict) and (pair := _pair(found.node)) is not None:
        pairs.append(pair)
        end = found.end
        match = _BESIDE.match(text, end)
        if match is None:
            break
        try:
            found = literals.read(text, match.end())
        except (Cut, Junk):
            break
    return pairs, end


def _spans_anywhere(text: str) -> Spans | None:
    """The last nested list; else a reply that is one list, or has one pair; else what prose states."""
    if _NONE.match(text.strip()) or _WITHOUT_TIME.search(text):
        return ()
    tail = text[-MAX_TAIL:]
    found = [each.node for each in deque(literals.lists(tail), maxlen=MAX_PLACES)]
    nested = [node for node in found if isinstance(node, list) and any(isinstance(item, list | dict) for item in node)]
    if nested:
        return _spans_of(nested[-1])
    rows = deque(_rows_of_pairs(tail), maxlen=1)
    if rows and len(rows[0]) > 1:
        return _checked(rows[0])
    flat = [node for node in found if isinstance(node, list) and (len(node) == 2 or _is_all(text))]
    spans = _spans_of(flat[-1]) if flat else _spans_of_all(text)
    return _checked(literals.ranges(text)) or None if spans is None else spans


def _rows_of_pairs(text: str) -> Iterator[list[tuple[float, float]]]:
    """Pairs that follow one another, row by row."""
    end = 0
    for each in literals.lists(text):
        if each.end > end:
            pairs, end = _pairs_in_a_row(text, Found(each.node, each.end))
            if pairs:
                yield pairs


def _spans_of_all(text: str) -> Spans | None:
    """Of a reply that is one object or one pair in parentheses."""
    bare = _unfenced(text)
    is_one = bare[:1] + bare[-1:] in ("{}", "()")
    return _spans_of_literal(bare, 0) if is_one else None


def _is_all(text: str) -> bool:
    """Whether the reply is one list, fenced or not, and nothing else."""
    bare = _unfenced(text)
    return bare.startswith("[") and bare.endswith("]")


def _unfenced(text: str) -> str:
    return re.sub(r"^```[A-Za-z]{0,10}|```$", "", text.strip()).strip()


def _spans_of(node: Node) -> Spans | None:
    """Spans of a literal: pairs, objects with start and end, ranges in strings, or an even flat list."""
    if isinstance(node, dict):
        pair = _pair(node)
        return _checked([pair]) if pair else None
    if not isinstance(node, list):
        return None
    times = [_time(item) for item in node]
    if node and all(time is not None for time in times):
        numbers = [time for time in times if time is not None]
        return _checked(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) % 2 == 0 else None
    if len(node) == 1 and isinstance(node[0], list) and node[0] and isinstance(node[0][0], list):
        return _spans_of(node[0])
    pairs = [_pair(item) for item in node]
    return None if None in pairs else _checked(pair for pair in pairs if pair is not None)


def spans_of_json(value: object) -> Spans | None:
    """Spans of parsed JSON in any notation that a reply may use; None where one element is none."""
    try:
        node = _node_of_json(value)
    except ValueError:
        return None
    return _spans_of(node) if isinstance(node, list | dict) else None


def _node_of_json(value: object, depth: int = 0) -> Node:
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


def _pair(node: Node) -> tuple[float, float] | None:
    ends: list[float | None] = []
    if isinstance(node, str):
        found = literals.ranges(node)
        return found[0] if len(found) == 1 else None
    if isinstance(node, list):
        ends = [_time(item) for item in node]
    if isinstance(node, dict):
        ends = [_time(next((node[key] for key in keys if key in node), None)) for keys in (_STARTS, _ENDS)]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def _time(node: Node) -> float | None:
    if isinstance(node, str):
        return literals.seconds(node)
    return node if isinstance(node, float) else None


def _checked(pairs: Iterable[tuple[float, float]]) -> Spans | None:
    """The pairs as spans; one that runs backwards makes the whole unreadable."""
    spans = tuple(dict.fromkeys(Span(start, end) for start, end in pairs))
    return spans if all(0 <= start <= end <= MAX_SECONDS for start, end in spans) else None


# Referring expressions

_EXPRESSIONS_KEY = re.compile(
    r"(?<![A-Za-z])(?:referring[ _])?expressions?[\"'*]{0,4}\s{0,3}(?::|=|\uff1a)\s{0,8}[\"'*]{0,2}\s{0,8}",
    re.IGNORECASE,
)


_ANSWER_KEY = re.compile(r"answer[\"']\s{0,3}:\s{0,8}", re.IGNORECASE)
_BULLET = re.compile(r"\s{0,4}(?:[-*\u2022]|\d{1,2}[.)])\s{1,3}(\S.{0,300})")
_OBJECT = re.compile(r"<obj>([^<>]{1,300})</obj>")


def _marked(text: str) -> tuple[str, ...] | None:
    """Objects marked as evidence, `<obj>the dog</obj><box>...</box>at<t>5.0</t>s`, in a thought or not."""
    found = [match[1].strip() for match in deque(_OBJECT.finditer(text), maxlen=MAX_PLACES)]
    return tuple(dict.fromkeys(name for name in found if name)) or None


def _expressions(said: str, text: str) -> tuple[str, ...] | None:
    found = read_expressions(said)
    return found or _marked(text) or found


def read_expressions(text: str) -> tuple[str, ...] | None:
    """Referring expressions that the reply commits to; () where it says that there are none."""
    places = deque((match.end() for match in _EXPRESSIONS_KEY.finditer(text)), maxlen=MAX_PLACES)
    for place in reversed(places):
        if text[place : place + 1] == "[":
            return _expressions_of_literal(text, place)
        if _NONE.match(text, place):
            return ()
        if bullets := _bullets(text, place):
            return bullets
    tail = text[-MAX_TAIL:]
    others = {match.end() for key in (_SPANS_KEY, _ANSWER_KEY) for match in key.finditer(tail)}
    placed = deque((each for each in literals.lists(tail) if each.start not in others), maxlen=MAX_PLACES)
    found = [_strings(each.node) for each in placed]
    written = [strings for strings in found if strings]
    alone = _labels_of_literal(_unfenced(text)) if not written and _unfenced(text).startswith("{") else None
    if alone:
        return alone
    return written[-1] if written else next((strings for strings in found if strings is not None), None)


def _bullets(text: str, at: int) -> tuple[str, ...]:
    """The lines of a list that starts below a key."""
    found: list[str] = []
    for line in text[at : at + 5000].lstrip("\n").splitlines():
        match = _BULLET.fullmatch(line.rstrip())
        if match is None:
            break
        found.append(match[1].strip("*\"' "))
    return tuple(found)


def _labels_of_literal(text: str) -> tuple[str, ...] | None:
    try:
        return _strings([literals.read(text, 0).node])
    except (Junk, Cut):
        return None


def _label(node: Node) -> str | None:
    """A text, or the label of a box: `{"bbox_2d": [x0, y0, x1, y1], "label": "dog"}`."""
    if isinstance(node, dict) and "bbox_2d" in node:
        node = node.get("label")
    return node if isinstance(node, str) else None


def _expressions_of_literal(text: str, at: int) -> tuple[str, ...] | None:
    try:
        return _strings(literals.read(text, at).node)
    except (Junk, Cut):
        return None


def _strings(node: Node) -> tuple[str, ...] | None:
    labels = [_label(item) for item in node] if isinstance(node, list) else [None]
    if None in labels:
        return None
    return tuple(label.strip() for label in labels if label and label.strip())
