"""Lists, objects, strings and times as models write them: a lenient reader of nested literals inside prose.

Reads what JSON and Python write, and also `0:05`, `12.5s`, a list cut off at the end of the text. Nothing is
evaluated; each character is looked at a bounded number of times, so a hostile text costs linear time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Node = float | bool | str | None | list["Node"] | dict[str, "Node"]
"""What a literal means; times are seconds."""

MAX_DEPTH = 16

NUMBER = r"(?:\d{1,9}(?::\d{1,2}){1,2}(?:\.\d{1,20})?|\d{1,9}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,2})?)"
UNIT = r"\s{0,2}(?:(?:seconds?|secs?|s)(?![A-Za-z0-9_])|\u79d2)"
_TIME = re.compile(rf"({NUMBER})(?:{UNIT})?(?![\w.:])")
_STRING = re.compile(r'"((?:[^"\\]|\\.){0,20000})"|\'((?:[^\'\\]|\\.){0,20000})\'', re.DOTALL)
_WORD = re.compile(r"(?:null|None|true|True|false|False)\b")
_WORDS: dict[str, Node] = {"null": None, "none": None, "true": True, "false": False}
_SPACE = re.compile(r"\s*")
_JOINT = r"-{1,2}>|=>|-{1,2}|~|\u2192|\.{2,3}|\u2026|to|until|till|through|and|bis|hasta|jusqu'\u00e0|\u00e0"
_RANGE = re.compile(
    rf"(?<![A-Za-z0-9_.:\-])(?:(between)\s{{1,2}})?({NUMBER})({UNIT})?\s{{0,3}}({_JOINT})\s{{0,3}}({NUMBER})({UNIT})?"
    rf"(?![A-Za-z0-9_]|:\d|\.\d)",
    re.IGNORECASE,
)
_CLOCK_WORDS = re.compile(
    r"(?<![\w.:])(?:(\d{1,3})\s?h(?:ours?|rs?)?\s?)?(\d{1,3})\s?m(?:in(?:ute)?s?)?\s?(?:and\s)?"
    r"(?:(\d{1,2}(?:\.\d{1,6})?)\s?s(?:ec(?:ond)?s?)?(?![A-Za-z0-9_])|\b(?!\s?[\d-]))",
    re.IGNORECASE,
)
"""`1m5s`, `1 min 5 s`, `0h1m5s`, `2 min`."""
_AROUND = re.compile(rf"[\[(]\s?({NUMBER}(?:{UNIT})?)\s?[\])](?=\s{{0,2}}(?:-|~|to|until)|[.,;:]?\s|[.,;:]?$)")
"""A time in brackets of its own: `[0s] - [5s]`."""
_LEFT_OVER = re.compile(
    r"(?:[\s\[\](){},;.&\"']|\band\b|\bfrom\b|\bthen\b|\b(?:starts?|begins?|starting|beginning)\s(?:at|from)\b|\b(?:in\s)?seconds\b)*",
    re.IGNORECASE,
)
"""What may stand between ranges that are all of a line."""
_ROUGH = r"(?:(?:about|around|approximately|approx\.?|roughly|circa|c\.|ca\.)\s{1,2})"

FORMS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("emphasis and tags", re.compile(r"\*|</?(?:t|time|ts)>"), ""),
    ("for example", re.compile(r"\be\.\s?g\.", re.IGNORECASE), "for example"),
    ("dashes", re.compile(r"[\u2012-\u2015\u2212\uff0d\ufe63]"), "-"),
    ("arrows", re.compile(r"[\u27a1\u27f6\u2794\u21d2]"), "\u2192"),
    ("decimal comma of subtitles", re.compile(r"(?<=:\d\d),(?=\d{3}(?!\d))"), "."),
    ("ordinal of Chinese", re.compile(r"\u7b2c(?=\s?\d)"), ""),
    ("minutes", re.compile(r"(?<=\d)\s?(?:\u5206\u949f?|\u5206|\ubd84)\s?"), "min "),
    (
        "seconds",
        re.compile(
            r"(?<=\d)\s?(?:\u79d2\u949f?|\ucd08|\u0441\u0435\u043a(?:\u0443\u043d\u0434[\u0430-\u044f]{0,2})?|segundos?|secondes?|[Ss]ekunden?|sek)(?![a-z])"
        ),
        "s",
    ),
    (
        "to",
        re.compile(
            r"(?:\u5f00\u59cb|\u304b\u3089|\ubd80\ud130|)\s?(?:\u5230|\u81f3|\u4e00\u76f4\u5230)"
            r"|(?<=s)\s?(?:\u304b\u3089|\ubd80\ud130)"
        ),
        " to ",
    ),
    (
        "second mark",
        re.compile(
            rf"(?<![\w.:])({NUMBER})(?:st|nd|rd|th)?(?:\s|-)?(?:{UNIT}s?)(?:[-\s]marks?|[-\s]points?)\b", re.IGNORECASE
        ),
        r"\1s",
    ),
    (
        "second, hyphenated",
        re.compile(rf"(?<![\w.:])({NUMBER})-seconds?(?=\s(?:to|and|through|until)\s)", re.IGNORECASE),
        r"\1s",
    ),
    (
        "ordinal seconds",
        re.compile(
            r"(?<![\w.:])(\d{1,5})(?:st|nd|rd|th)(?:\s(?:second|sec)s?)?(?=\s(?:to|and|until|through|second|-)|[.,;]|\s?$)",
            re.IGNORECASE,
        ),
        r"\1s",
    ),
    ("hanging hyphen", re.compile(r"(?<=\d)-(?=\s(?:and|to)\s)"), ""),
    (
        "seconds first",
        re.compile(
            rf"\b(?:the\s)?seconds\s({NUMBER})(\s?(?:to|and|-|until|through)\s?)({NUMBER})(?![A-Za-z0-9_:])",
            re.IGNORECASE,
        ),
        r"\1s\2\3s",
    ),
    ("mark", re.compile(rf"\b(?:the\s)?({NUMBER})(?:\s|-)marks?\b", re.IGNORECASE), r"\1"),
    (
        "second first",
        re.compile(rf"\b(?:the\s)?(?:second|t\s?=|timestamp|time)\s?({NUMBER})(?![A-Za-z0-9_]*:)", re.IGNORECASE),
        r"\1s",
    ),
    ("double unit", re.compile(rf"(?<=\d)s({UNIT})", re.IGNORECASE), r"\1"),
    ("rough", re.compile(rf"(?<=\bto\s){_ROUGH}|(?<=\band\s){_ROUGH}|(?<=-\s){_ROUGH}", re.IGNORECASE), ""),
    ("rough first", re.compile(rf"(?<=\bfrom\s){_ROUGH}|(?<=\bbetween\s){_ROUGH}", re.IGNORECASE), ""),
    (
        "up to",
        re.compile(r"(?<=[\ds])\s(?:and\s(?:up\s)?|up\s|on\s|all\sthe\sway\s|right\s)to\s", re.IGNORECASE),
        " to ",
    ),
    ("the", re.compile(r"\b(from|to|between|and|until|through)\sthe\s(?=\d)", re.IGNORECASE), r"\1 "),
    (
        "label",
        re.compile(
            r"\b(?:segments?|events?|scenes?|steps?|clips?|parts?|spans?|shots?|moments?|intervals?|evidence|stage|no\.)\s#?\d{1,2}\s?(?:-|:|\))\s",
            re.IGNORECASE,
        ),
        " ",
    ),
    (
        "ends at",
        re.compile(
            r",?\s(?:and\s)?(?:then\s)?(?:it\s)?(?:ends|end|stops|stop|finishes|lasts|ending|continues|goes\son)\s(?:at|by|until|to)\s",
            re.IGNORECASE,
        ),
        " to ",
    ),
)
"""Notations of times in prose, by name, and what they are replaced with before ranges are looked for."""


class NoLiteral(ValueError):
    """At `at` stands something that is no literal."""

    def __init__(self, at: int) -> None:
        """Keep the place."""
        super().__init__(f"no literal at character {at}")
        self.at = at


class Truncated(ValueError):
    """The text ends inside the literal."""


class Literal(NamedTuple):
    """A literal, and the character after it."""

    node: Node
    end: int


def read_literal(text: str, at: int) -> Literal:
    """The literal that starts at a character. Raises `NoLiteral` or, where not even a part is whole, `Truncated`.

    A list that the end of the text cuts off keeps its whole nested elements and strings; a number just before
    the cut may be cut itself, so a list of bare numbers is lost.
    """
    return _read(text, at, 0)


class LocatedList(NamedTuple):
    """A list, and where it stands."""

    start: int
    node: Node
    end: int


def find_lists(text: str) -> Iterator[LocatedList]:
    """Every outermost list of a text in order; what is no list is passed over."""
    at = text.find("[")
    while at >= 0:
        end = at + 1
        try:
            node, end = read_literal(text, at)
            yield LocatedList(at, node, end)
        except NoLiteral as junk:
            end = max(end, junk.at)
        except Truncated:
            return
        at = text.find("[", end)


def seconds(written: str) -> float | None:
    """`12`, `12.5s`, `1:05`, `0:01:05.5` as seconds; None if it is no time."""
    match = _TIME.fullmatch(written.strip())
    return _clock(match[1]) if match else None


class TimeRange(NamedTuple):
    """A range of times in prose, `text[start:end]`."""

    start: int
    end: int
    pair: tuple[float, float]
    has_unit: bool
    """Whether a unit or colons make it a range of times."""
    has_colons: bool
    is_between: bool


def with_clocks(text: str) -> str:
    """The text with times in words as `h:mm:ss` and `12s`, without emphasis, tags and brackets around single times."""
    for _, pattern, replacement in FORMS:
        text = pattern.sub(replacement, text)
    return _AROUND.sub(r"\1", _CLOCK_WORDS.sub(_as_clock, text))


def range_matches(plain: str) -> list[TimeRange]:
    """Every range of numbers in a text that `with_clocks` made; `3 and 7` without `between` is none."""
    found: list[TimeRange] = []
    for match in _RANGE.finditer(plain):
        between, first, unit, joint, second, last_unit = match.groups()
        has_colons = ":" in first and ":" in second
        if joint.lower() != "and" or between:
            pair = _clock(first), _clock(second)
            has_unit = bool(unit or last_unit or has_colons)
            found.append(TimeRange(match.start(), match.end(), pair, has_unit, has_colons, bool(between)))
    return found


def is_all_ranges(plain: str, found: Sequence[TimeRange]) -> bool:
    """Whether a text is nothing but the ranges found in it."""
    end = 0
    for each in found:
        if not _LEFT_OVER.fullmatch(plain, end, each.start):
            return False
        end = each.end
    return bool(found) and _LEFT_OVER.fullmatch(plain, end) is not None


def ranges(text: str, *, is_announced: bool = False) -> list[tuple[float, float]]:
    """Pairs of seconds that prose states: `12s - 15.5s`, `from 0:05 to 0:10`, `between 3 and 7 seconds`.

    Numbers without a unit or a colon are no times, and `3 and 7 s` without `between` is no range. Where the text is
    announced as evidence in time and holds nothing but ranges, numbers need no unit.
    """
    plain = with_clocks(text)
    found = range_matches(plain)
    is_all = is_announced and is_all_ranges(plain, found)
    return [each.pair for each in found if is_all or each.has_unit]


def _as_clock(match: re.Match[str]) -> str:
    hours, minutes, second = match.groups()
    whole, _, part = (second or "0").partition(".")
    return f"{hours or 0}:{int(minutes):02d}:{int(whole):02d}" + (f".{part}" if part else "")


def _read(text: str, at: int, depth: int) -> Literal:
    at = _skip(text, at)
    if at >= len(text):
        raise Truncated
    if depth > MAX_DEPTH:
        raise NoLiteral(at)
    if text[at] in "[(":
        return _read_list(text, at, depth)
    if text[at] == "{":
        return _read_object(text, at, depth)
    return _read_scalar(text, at)


def _read_list(text: str, at: int, depth: int) -> Literal:
    close = "]" if text[at] == "[" else ")"
    items: list[Node] = []
    at += 1
    try:
        while text[at := _skip(text, at)] != close:
            item, at = _read(text, at, depth + 1)
            items.append(item)
            at = _after_comma(text, at, close)
    except (Truncated, IndexError):
        whole: list[Node] = [item for item in items if not isinstance(item, float)]
        if depth > 0 or not whole or len(whole) < len(items):
            raise Truncated from None
        return Literal(whole, len(text))
    return Literal(items, at + 1)


def _read_object(text: str, at: int, depth: int) -> Literal:
    entries: dict[str, Node] = {}
    at += 1
    try:
        while text[at := _skip(text, at)] != "}":
            key, at = _read(text, at, depth + 1)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at] != ":":
                raise NoLiteral(at)
            entries[key], at = _read(text, at + 1, depth + 1)
            at = _after_comma(text, at, "}")
    except IndexError:
        raise Truncated from None
    return Literal(entries, at + 1)


def _read_scalar(text: str, at: int) -> Literal:
    if match := _TIME.match(text, at):
        return Literal(_clock(match[1]), match.end())
    if match := _STRING.match(text, at):
        return Literal(_unescape(match), match.end())
    if match := _WORD.match(text, at):
        return Literal(_WORDS[match[0].lower()], match.end())
    if text[at] in "\"'" and len(text) - at <= 500:
        raise Truncated
    raise NoLiteral(at)


def _after_comma(text: str, at: int, close: str) -> int:
    at = _skip(text, at)
    if text[at] == ",":
        return at + 1
    if text[at] != close:
        raise NoLiteral(at)
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
