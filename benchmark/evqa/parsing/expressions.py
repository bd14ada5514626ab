"""Parser of referring expressions: `parse_expressions` reads the objects that a reply names as evidence."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from evqa.parsing import literals
from evqa.parsing.announcements import MAX_PLACES
from evqa.parsing.choice_json import ANSWER_KEYS
from evqa.parsing.literals import LocatedList, Node, NoLiteral, Truncated
from evqa.parsing.reply_rules import ReplyText, RuleResult, prepare_reply
from evqa.parsing.span_literals import SPAN_KEYS
from evqa.parsing.span_rules import MAX_TAIL

EXPRESSION_KEYS = frozenset(
    ["referring_expressions", "referring_expression", "ref_expressions", "expressions", "spatial_evidence"]
)
"""Keys whose value is a list of referring expressions, in lower case with `_` between words."""

_EXPRESSIONS_KEY = re.compile(
    r"(?<![A-Za-z])(?:referring[ _])?expressions?[\"'*]{0,4}\s{0,3}(?::|=|\uff1a)\s{0,8}[\"'*]{0,2}\s{0,8}",
    re.IGNORECASE,
)
"""A key of expressions and the separator after it: `Referring Expressions:`."""

_NO_EXPRESSIONS = re.compile(
    r"(?:there (?:is|are) )?(?:none(?! of)|n/a|not applicable|no (?:evidence|objects?|expressions?))\b", re.IGNORECASE
)
"""Statement that there is no object: `none`, `no objects`."""

_TIMES_KEY = re.compile(
    r"""(?<![A-Za-z])(?:temporal[ _]evidence|segments?|spans?|timestamps?|intervals?)["'*]{0,4}\s{0,3}(?::|=)\s{0,8}""",
    re.IGNORECASE,
)
_ANSWER_KEY = re.compile(r"answer[\"']\s{0,3}:\s{0,8}", re.IGNORECASE)
_BULLET = re.compile(r"\s{0,4}(?:[-*\u2022]|\d{1,2}[.)])\s{1,3}(\S.{0,300})")
_OBJECT_TAG = re.compile(r"<obj>([^<>]{1,300})</obj>")
_LIST_SEPARATOR = re.compile(r"\s{0,3}(?:,|;|and\b)\s{0,3}")


def parse_expressions(text: str) -> tuple[str, ...] | None:
    """Referring expressions in a reply; () = it states that there are none, None = unparsed."""
    reply = prepare_reply(text)
    known_keys = SPAN_KEYS | ANSWER_KEYS | EXPRESSION_KEYS
    if any(key in known_keys for entry in reply.objects for key in entry.values):
        return _expressions_of_objects(reply)
    return _expressions_of_text(reply.text)


def explain_expressions(text: str) -> RuleResult[tuple[str, ...]]:
    """Result of `parse_expressions`, or objects in tags, with the rule that decided and the text that it matched."""
    expressions = parse_expressions(text)
    if expressions:
        return RuleResult(expressions, "expressions", ", ".join(expressions)[:200])
    objects = _tagged_objects(text)
    if objects:
        return RuleResult(objects, "marked objects", ", ".join(objects)[:200])
    return RuleResult(expressions, "" if expressions is None else "no expressions", "")


def _expressions_of_objects(reply: ReplyText) -> tuple[str, ...] | None:
    """Expressions of the last object that has them, under its key or as its only other list of strings."""
    expressions: tuple[str, ...] | None = None
    for entry in reply.objects:
        expression_keys = [key for key in entry.values if key in EXPRESSION_KEYS]
        free_keys = [key for key in entry.values if key not in SPAN_KEYS and key not in ANSWER_KEYS]
        keys = expression_keys or free_keys
        readings = [_expressions_of_literal(reply.text, entry.values[key].start) for key in keys]
        lists = [strings for strings in readings if strings is not None]
        expressions = lists[0] if len(lists) == 1 else expressions
    return _expressions_of_text(reply.outside_objects.replace("{}", " ")) if expressions is None else expressions


# Prose


def _expressions_of_text(text: str) -> tuple[str, ...] | None:
    """Expressions after the last key that is followed by some, else the last list of strings."""
    positions = deque((match.end() for match in _EXPRESSIONS_KEY.finditer(text)), maxlen=MAX_PLACES)
    for position in reversed(positions):
        if text[position : position + 1] == "[":
            return _expressions_of_literal(text, position)
        if _NO_EXPRESSIONS.match(text, position):
            return ()
        if bullets := _bullet_items(text, position):
            return bullets
    return _expressions_of_lists(text)


def _expressions_of_lists(text: str) -> tuple[str, ...] | None:
    """Last list of strings of a text that does not belong to another field, else the label of a box."""
    tail = text[-MAX_TAIL:]
    other_keys = {match.end() for key in (_TIMES_KEY, _ANSWER_KEY) for match in key.finditer(tail)}
    entries = deque((entry for entry in literals.find_lists(tail) if entry.start not in other_keys), maxlen=MAX_PLACES)
    readings = [_strings(entry.node) for entry in entries]
    lists = _merged_lists(tail, entries, readings)
    content = text.strip()
    labels = _labels_of_literal(content) if not lists and content.startswith("{") else None
    if labels:
        return labels
    return lists[-1] if lists else next((strings for strings in readings if strings is not None), None)


def _merged_lists(
    text: str, entries: Sequence[LocatedList], readings: Sequence[tuple[str, ...] | None]
) -> list[tuple[str, ...]]:
    """Non-empty lists of strings; lists separated by only a comma or `and` are merged: `["a"], ["b"]`."""
    lists: list[tuple[str, ...]] = []
    end = -1
    for entry, strings in zip(entries, readings, strict=True):
        if strings and lists and end >= 0 and _LIST_SEPARATOR.fullmatch(text, end, entry.start):
            lists[-1] += strings
        elif strings:
            lists.append(strings)
        end = entry.end if strings else -1
    return lists


def _bullet_items(text: str, position: int) -> tuple[str, ...]:
    """Items of the bullet list that starts at a position."""
    items: list[str] = []
    for line in text[position : position + 5000].lstrip("\n").splitlines():
        match = _BULLET.fullmatch(line.rstrip())
        if match is None:
            break
        items.append(match[1].strip("*\"' "))
    return tuple(items)


def _tagged_objects(text: str) -> tuple[str, ...] | None:
    """Objects in tags, `<obj>the dog</obj><box>...</box>at<t>5.0</t>s`, inside or outside of a thought."""
    names = [match[1].strip() for match in deque(_OBJECT_TAG.finditer(text), maxlen=MAX_PLACES)]
    return tuple(dict.fromkeys(name for name in names if name)) or None


# Literals


def _expressions_of_literal(text: str, position: int) -> tuple[str, ...] | None:
    """Strings of the list at a position; None = no list of strings."""
    if text[position:].lstrip()[:1] != "[":
        return None
    try:
        return _strings(literals.read_literal(text, position).node)
    except (NoLiteral, Truncated):
        return None


def _labels_of_literal(text: str) -> tuple[str, ...] | None:
    """Label of the box object that a text starts with."""
    try:
        return _strings([literals.read_literal(text, 0).node])
    except (NoLiteral, Truncated):
        return None


def _strings(node: Node) -> tuple[str, ...] | None:
    """Strings and labels of a list, without empty ones; None = an element has neither."""
    labels = [_label(item) for item in node] if isinstance(node, list) else [None]
    if None in labels:
        return None
    return tuple(label.strip() for label in labels if label and label.strip())


def _label(node: Node) -> str | None:
    """A string, or the label of a box: `{"bbox_2d": [x0, y0, x1, y1], "label": "dog"}`."""
    if isinstance(node, dict) and "bbox_2d" in node:
        node = node.get("label")
    return node if isinstance(node, str) else None
