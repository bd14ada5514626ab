"""A reply's text -> answer, spans, expressions. The only parser: every method and model goes through it.

The rules are the tables `choices.RULES` and `spans.RULES`. The last thing that a reply commits to counts. What can be
read in two ways is unparsed (None), never guessed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evqa.parsing import literals
from evqa.parsing.announcements import MAX_PLACES
from evqa.parsing.choices import ANSWER_KEYS, explain_answer, parse_answer
from evqa.parsing.literals import Node, NoLiteral, Truncated
from evqa.parsing.reply_rules import ReplyText, RuleResult, prepare_reply
from evqa.parsing.spans import MAX_TAIL, SPAN_KEYS, explain_spans, read_spans, spans_of_json
from evqa.schema import LETTERS, AnswerField, Sample, Spans, Turn

__all__ = ["ParsedReply", "explain_for", "explain_turns", "parse", "parse_answer", "parse_for", "parse_turns"]
__all__ += ["parse_expressions", "parse_time_choice", "read_spans", "spans_of_json"]


class ParsedReply(NamedTuple):
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


Explained = Mapping[str, RuleResult[object]]
"""Field that was asked for -> its value, the rule that decided it, and the text that the rule matched."""


def parse(text: str, asks: Sequence[AnswerField], options: Sequence[str]) -> ParsedReply:
    """What a reply says about the things that its prompt asked for."""
    return _parsed(_explain(text, asks, options))


def parse_for(text: str, asks: Sequence[AnswerField], sample: Sample) -> ParsedReply:
    """As `parse`, with the choices of the multiple-choice task, whose options the sample has."""
    return _parsed(explain_for(text, asks, sample))


def parse_turns(turns: Sequence[Turn], sample: Sample) -> ParsedReply:
    """What a conversation says: of each thing asked, the last reply to a prompt that asked for it."""
    return _parsed(explain_turns(turns, sample))


def explain_for(text: str, asks: Sequence[AnswerField], sample: Sample) -> Explained:
    """Each field that was asked for, with the rule that decided it and the text that the rule matched."""
    found = dict(_explain(text, asks, sample.options))
    if "time_choice" in asks:
        found["time_choice"] = _explain_time_choice(text, sample.time_options)
    if "mask_choice" in asks:
        pictures = [f"picture {letter}" for letter in LETTERS[: len(sample.mask_options)]]
        found["mask_choice"] = explain_answer(text, pictures)
    return found


def explain_turns(turns: Sequence[Turn], sample: Sample) -> Explained:
    """As `explain_for`, of a conversation: of each thing asked, the last reply to a prompt that asked for it."""
    found: dict[str, RuleResult[object]] = {}
    for turn in turns:
        found |= explain_for(turn.reply, turn.answer_fields, sample)
    return found


def _explain(text: str, asks: Sequence[AnswerField], options: Sequence[str]) -> Explained:
    found: dict[str, RuleResult[object]] = {}
    if "answer" in asks:
        found["answer"] = explain_answer(text, options)
    if "spans" in asks:
        found["spans"] = explain_spans(text, is_alone=set(asks) == {"spans"})
    if "expressions" in asks:
        found["expressions"] = _explain_expressions(text)
    return found


def _parsed(found: Explained) -> ParsedReply:
    return ParsedReply(None, None, None)._replace(**{name: reading.value for name, reading in found.items()})


def parse_time_choice(text: str, options: Sequence[Spans]) -> int | None:
    """Index of the chosen set of spans, by its letter or its times; None where the two disagree."""
    return _explain_time_choice(text, options).value


def _explain_time_choice(text: str, options: Sequence[Spans]) -> RuleResult[int]:
    letter = explain_answer(text, ("",) * len(options))
    spans = explain_spans(text, is_alone=True)
    named = [index for index, option in enumerate(options) if spans.value and _as_told(option) == _as_told(spans.value)]
    if letter.value is not None:
        return letter if not named or letter.value in named else letter._replace(value=None)
    if len(named) == 1:
        return RuleResult(named[0], f"times, {spans.rule}", spans.text)
    return letter if letter.rule else RuleResult(None, spans.rule, spans.text)


def _as_told(spans: Spans) -> list[tuple[float, float]]:
    """Spans as a prompt tells them: with one decimal, and in any order."""
    return sorted((round(start, 1), round(end, 1)) for start, end in spans)


# Referring expressions

_EXPRESSIONS_KEY = re.compile(
    r"(?<![A-Za-z])(?:referring[ _])?expressions?[\"'*]{0,4}\s{0,3}(?::|=|\uff1a)\s{0,8}[\"'*]{0,2}\s{0,8}",
    re.IGNORECASE,
)


_NO_OBJECT = re.compile(
    r"(?:there (?:is|are) )?(?:none(?! of)|n/a|not applicable|no (?:evidence|objects?|expressions?))\b", re.IGNORECASE
)
_TIMES_KEY = re.compile(
    r"""(?<![A-Za-z])(?:temporal[ _]evidence|segments?|spans?|timestamps?|intervals?)["'*]{0,4}\s{0,3}(?::|=)\s{0,8}""",
    re.IGNORECASE,
)
_ANSWER_KEY = re.compile(r"answer[\"']\s{0,3}:\s{0,8}", re.IGNORECASE)
_BULLET = re.compile(r"\s{0,4}(?:[-*\u2022]|\d{1,2}[.)])\s{1,3}(\S.{0,300})")
_OBJECT = re.compile(r"<obj>([^<>]{1,300})</obj>")


def _marked(text: str) -> tuple[str, ...] | None:
    """Objects marked as evidence, `<obj>the dog</obj><box>...</box>at<t>5.0</t>s`, in a thought or not."""
    found = [match[1].strip() for match in deque(_OBJECT.finditer(text), maxlen=MAX_PLACES)]
    return tuple(dict.fromkeys(name for name in found if name)) or None


EXPRESSION_KEYS = frozenset(
    ["referring_expressions", "referring_expression", "ref_expressions", "expressions", "spatial_evidence"]
)


def _explain_expressions(text: str) -> RuleResult[tuple[str, ...]]:
    found = parse_expressions(text)
    if found:
        return RuleResult(found, "expressions", ", ".join(found)[:200])
    marked = _marked(text)
    if marked:
        return RuleResult(marked, "marked objects", ", ".join(marked)[:200])
    return RuleResult(found, "" if found is None else "no expressions", "")


def parse_expressions(text: str) -> tuple[str, ...] | None:
    """Referring expressions that the reply commits to; () where it says that there are none."""
    said = prepare_reply(text)
    if any(
        key in SPAN_KEYS or key in ANSWER_KEYS or key in EXPRESSION_KEYS for each in said.objects for key in each.values
    ):
        return _of_objects(said)
    return _in_text(said.text)


def _of_objects(said: ReplyText) -> tuple[str, ...] | None:
    """What the own keys of the last object say; of an object without the key the only other list of strings."""
    found: tuple[str, ...] | None = None
    for each in said.objects:
        named = [key for key in each.values if key in EXPRESSION_KEYS]
        others = [key for key in each.values if key not in SPAN_KEYS and key not in ANSWER_KEYS]
        read = [_expressions_of_literal(said.text, each.values[key].start) for key in named or others]
        lists = [strings for strings in read if strings is not None]
        found = lists[0] if len(lists) == 1 else found
    return _in_text(said.outside.replace("{}", " ")) if found is None else found


def _in_text(text: str) -> tuple[str, ...] | None:
    places = deque((match.end() for match in _EXPRESSIONS_KEY.finditer(text)), maxlen=MAX_PLACES)
    for place in reversed(places):
        if text[place : place + 1] == "[":
            return _expressions_of_literal(text, place)
        if _NO_OBJECT.match(text, place):
            return ()
        if bullets := _bullets(text, place):
            return bullets
    tail = text[-MAX_TAIL:]
    others = {match.end() for key in (_TIMES_KEY, _ANSWER_KEY) for match in key.finditer(tail)}
    placed = deque((each for each in literals.find_lists(tail) if each.start not in others), maxlen=MAX_PLACES)
    found = [_strings(each.node) for each in placed]
    written = _rows(tail, placed, found)
    alone = _labels_of_literal(text.strip()) if not written and text.strip().startswith("{") else None
    if alone:
        return alone
    return written[-1] if written else next((strings for strings in found if strings is not None), None)


def _rows(
    text: str, placed: Sequence[literals.LocatedList], found: Sequence[tuple[str, ...] | None]
) -> list[tuple[str, ...]]:
    """Lists with strings; those with nothing but a comma or `and` between them are one: `["a"], ["b"]`."""
    rows: list[tuple[str, ...]] = []
    end = -1
    for each, strings in zip(placed, found, strict=True):
        if strings and rows and end >= 0 and _BESIDE.fullmatch(text, end, each.start):
            rows[-1] += strings
        elif strings:
            rows.append(strings)
        end = each.end if strings else -1
    return rows


_BESIDE = re.compile(r"\s{0,3}(?:,|;|and\b)\s{0,3}")


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
        return _strings([literals.read_literal(text, 0).node])
    except (NoLiteral, Truncated):
        return None


def _label(node: Node) -> str | None:
    """A text, or the label of a box: `{"bbox_2d": [x0, y0, x1, y1], "label": "dog"}`."""
    if isinstance(node, dict) and "bbox_2d" in node:
        node = node.get("label")
    return node if isinstance(node, str) else None


def _expressions_of_literal(text: str, at: int) -> tuple[str, ...] | None:
    if text[at:].lstrip()[:1] != "[":
        return None
    try:
        return _strings(literals.read_literal(text, at).node)
    except (NoLiteral, Truncated):
        return None


def _strings(node: Node) -> tuple[str, ...] | None:
    labels = [_label(item) for item in node] if isinstance(node, list) else [None]
    if None in labels:
        return None
    return tuple(label.strip() for label in labels if label and label.strip())
