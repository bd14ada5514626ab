"""Lists, objects, strings and times as models write them: a lenient reader of nested literals inside prose.

Reads what JSON and Python write, and also `0:05`, `12.5s`, a list cut off at the end of the text. Nothing is
evaluated; each character is looked at a bounded number of times, so a hostile text costs linear time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

Node = float | str | None | list["Node"] | dict[str, "Node"]
"""What a literal means; times are seconds."""

MAX_DEPTH = 5

_NUMBER = r"\d{1,9}(?::\d{1,2}){1,2}(?:\.\d{1,20})?|\d{1,9}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,2})?"
_UNIT = r"\s{0,2}(?:seconds?|secs?|s)\b"
_TIME = re.compile(rf"({_NUMBER})(?:{_UNIT})?(?![\w.:])")
_STRING = re.compile(r'"((?:[^"\\]|\\.){0,500})"|\'((?:[^\'\\]|\\.){0,500})\'', re.DOTALL)
_WORD = re.compile(r"(?:null|None)\b")
_SPACE = re.compile(r"\s*")
_RANGE = re.compile(
    rf"(?<![\w.:])(?:(between)\s{{1,2}})?({_NUMBER})({_UNIT})?\s{{0,2}}(-|\u2013|\u2014|~|to|until|and)"
    rf"\s{{0,2}}({_NUMBER})({_UNIT})?(?![\w:])",
    re.IGNORECASE,
)


class Junk(ValueError):
    """At `at` stands something that is no literal."""

    def __init__(self, at: int) -> None:
        """Keep the place."""
        super().__init__(f"no literal at character {at}")
        self.at = at


class Cut(ValueError):
    """The text ends inside the literal."""


class Found(NamedTuple):
    """A literal, and the character after it."""

    node: Node
    end: int


def read(text: str, at: int) -> Found:
    """The literal that starts at a character. Raises `Junk` or, where not even a part is whole, `Cut`.

    A list that the end of the text cuts off keeps its whole nested elements and strings; a number just before
    the cut may be cut itself, so a list of bare numbers is lost.
    """
    return _read(text, at, 0)


def lists(text: str) -> Iterator[Node]:
    """Every outermost list of a text in order; what is no list is passed over."""
    at = text.find("[")
    while at >= 0:
        end = at + 1
        try:
            node, end = read(text, at)
            yield node
        except Junk as junk:
            end = max(end, junk.at)
        except Cut:
            return
        at = text.find("[", end)


def seconds(written: str) -> float | None:
    """`12`, `12.5s`, `1:05`, `0:01:05.5` as seconds; None if it is no time."""
    match = _TIME.fullmatch(written.strip())
    return _clock(match[1]) if match else None


def ranges(text: str) -> list[tuple[float, float]]:
    """Pairs of seconds that prose states: `12s - 15.5s`, `from 0:05 to 0:10`, `between 3 and 7 seconds`.

    Numbers without a unit or a colon are no times, and `3 and 7 s` without `between` is no range.
    """
    found: list[tuple[float, float]] = []
    for match in _RANGE.finditer(text):
        between, first, unit, joint, second, last_unit = match.groups()
        has_unit = bool(unit or last_unit) or (":" in first and ":" in second)
        if has_unit and (joint.lower() == "and") == bool(between):
            found.append((_clock(first), _clock(second)))
    return found


def _read(text: str, at: int, depth: int) -> Found:
    at = _skip(text, at)
    if at >= len(text):
        raise Cut
    if depth > MAX_DEPTH:
        raise Junk(at)
    if text[at] in "[(":
        return _read_list(text, at, depth)
    if text[at] == "{":
        return _read_object(text, at, depth)
    return _read_scalar(text, at)


def _read_list(text: str, at: int, depth: int) -> Found:
    close = "]" if text[at] == "[" else ")"
    items: list[Node] = []
    at += 1
    try:
        while text[at := _skip(text, at)] != close:
            item, at = _read(text, at, depth + 1)
            items.append(item)
            at = _after_comma(text, at, close)
    except (Cut, IndexError):
        whole: list[Node] = [item for item in items if not isinstance(item, float)]
        if depth > 0 or not whole or len(whole) < len(items):
            raise Cut from None
        return Found(whole, len(text))
    return Found(items, at + 1)


def _read_object(text: str, at: int, depth: int) -> Found:
    entries: dict[str, Node] = {}
    at += 1
    try:
        while text[at := _skip(text, at)] != "}":
            key, at = _read(text, at, depth + 1)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at] != ":":
                raise Junk(at)
            entries[key], at = _read(text, at + 1, depth + 1)
            at = _after_comma(text, at, "}")
    except IndexError:
        raise Cut from None
    return Found(entries, at + 1)


def _read_scalar(text: str, at: int) -> Found:
    if match := _TIME.match(text, at):
        return Found(_clock(match[1]), match.end())
    if match := _STRING.match(text, at):
        return Found(_unescape(match), match.end())
    if match := _WORD.match(text, at):
        return Found(None, match.end())
    if text[at] in "\"'" and len(text) - at <= 500:
        raise Cut
    raise Junk(at)


def _after_comma(text: str, at: int, close: str) -> int:
    at = _skip(text, at)
    if text[at] == ",":
        return at + 1
    if text[at] != close:
        raise Junk(at)
    return at


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _clock(written: str) -> float:
    total = 0.0
    for part in written.split(":"):
        total = 60 * total + float(part)
    return total


def _unescape(match: re.Match[str]) -> str:
    """The string's meaning; what UTF-8 cannot write becomes a question mark."""
    raw = match[1] if match[1] is not None else match[2].replace("\\'", "'").replace('"', '\\"')
    try:
        meaning: object = json.loads(f'"{raw}"', strict=False)
    except ValueError:
        meaning = raw
    return str(meaning).encode("utf-8", "replace").decode()
