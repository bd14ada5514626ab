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
_UNIT = r"\s{0,2}(?:(?:seconds?|secs?|s)\b|\u79d2)"
_TIME = re.compile(rf"({_NUMBER})(?:{_UNIT})?(?![\w.:])")
_STRING = re.compile(r'"((?:[^"\\]|\\.){0,500})"|\'((?:[^\'\\]|\\.){0,500})\'', re.DOTALL)
_WORD = re.compile(r"(?:null|None)\b")
_SPACE = re.compile(r"\s*")
_RANGE = re.compile(
    rf"(?<![\w.:\-\u2212])(?:(between)\s{{1,2}})?({_NUMBER})({_UNIT})?\s{{0,2}}"
    rf"(-{{1,2}}>|-|\u2013|\u2014|~|\u2192|to|until|till|through|and)\s{{0,2}}({_NUMBER})({_UNIT})?(?!\w|:\d|\.\d)",
    re.IGNORECASE,
)
_CLOCK_WORDS = re.compile(
    r"(?<![\w.:])(?:(\d{1,3})\s?h(?:ours?|rs?)?\s?)?(\d{1,3})\s?m(?:in(?:ute)?s?)?\s?"
    r"(\d{1,2}(?:\.\d{1,6})?)\s?s(?:ec(?:ond)?s?)?\b",
    re.IGNORECASE,
)
"""`1m5s`, `1 min 5 s`, `0h1m5s`."""
_AROUND = re.compile(rf"[\[(]\s?({_NUMBER}(?:{_UNIT})?)\s?[\])](?=\s{{0,2}}(?:-|\u2013|to|until)|[.,;:]?\s|[.,;:]?$)")
"""A time in brackets of its own: `[0s] - [5s]`."""
_SECOND_FIRST = re.compile(rf"\b(?:the\s)?second\s({_NUMBER})(?![\w:])", re.IGNORECASE)
"""`from second 12 to second 15`."""
_ENDS_AT = re.compile(
    r",?\s(?:and\s)?(?:then\s)?(?:it\s)?(?:ends|end|stops|stop|finishes|lasts)\s(?:at|by|until)\s", re.IGNORECASE
)
"""`starts at 12s and ends at 15s`."""
_TAGS = re.compile(r"\*|</?(?:t|time)>")
_LEFT_OVER = re.compile(r"(?:[\s\[\](),;.\"'}]|\band\b)*", re.IGNORECASE)
"""What may stand between ranges that are all of a line."""


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


class Placed(NamedTuple):
    """A list, and where it stands."""

    start: int
    node: Node
    end: int


def lists(text: str) -> Iterator[Placed]:
    """Every outermost list of a text in order; what is no list is passed over."""
    at = text.find("[")
    while at >= 0:
        end = at + 1
        try:
            node, end = read(text, at)
            yield Placed(at, node, end)
        except Junk as junk:
            end = max(end, junk.at)
        except Cut:
            return
        at = text.find("[", end)


def seconds(written: str) -> float | None:
    """`12`, `12.5s`, `1:05`, `0:01:05.5` as seconds; None if it is no time."""
    match = _TIME.fullmatch(written.strip())
    return _clock(match[1]) if match else None


def ranges(text: str, *, is_announced: bool = False) -> list[tuple[float, float]]:
    """Pairs of seconds that prose states: `12s - 15.5s`, `from 0:05 to 0:10`, `between 3 and 7 seconds`.

    Numbers without a unit or a colon are no times, and `3 and 7 s` without `between` is no range. Where the text is
    announced as evidence in time and holds nothing but ranges, numbers need no unit.
    """
    plain = _with_clocks(text)
    found: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    rest: list[str] = []
    end = 0
    for match in _RANGE.finditer(plain):
        between, first, unit, joint, second, last_unit = match.groups()
        rest.append(plain[end : match.start()])
        end = match.end()
        if (joint.lower() == "and") == bool(between):
            bare.append((_clock(first), _clock(second)))
            if unit or last_unit or (":" in first and ":" in second):
                found.append(bare[-1])
    rest.append(plain[end:])
    is_all = is_announced and all(_LEFT_OVER.fullmatch(part) for part in rest)
    return bare if is_all else found


def _with_clocks(text: str) -> str:
    """The text with times in words as `h:mm:ss`, without emphasis, tags and brackets around single times."""
    plain = _CLOCK_WORDS.sub(_as_clock, _TAGS.sub("", text).replace("\u5230", " to "))
    plain = _SECOND_FIRST.sub(r"\1s", _AROUND.sub(r"\1", plain))
    return _ENDS_AT.sub(" to ", plain)


def _as_clock(match: re.Match[str]) -> str:
    hours, minutes, second = match.groups()
    whole, _, part = second.partition(".")
    return f"{hours or 0}:{int(minutes):02d}:{int(whole):02d}" + (f".{part}" if part else "")


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
