"""Lenient reader of nested literals (lists, objects, strings, times) inside prose.

Reads JSON and Python notation, and also `0:05`, `12.5s` and a list that the end of the text truncates. Nothing is
evaluated; each character is read a bounded number of times, so a hostile text costs linear time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Node = float | bool | str | None | list["Node"] | dict[str, "Node"]
"""Value of a literal; times are seconds."""

MAX_DEPTH = 16
"""Deepest nesting of a literal."""

NUMBER = r"(?:\d{1,9}(?::\d{1,2}){1,2}(?:\.\d{1,20})?|\d{1,9}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,2})?)"
"""Pattern of a number or of a time with colons."""
UNIT = r"\s{0,2}(?:(?:seconds?|secs?|s)(?![A-Za-z0-9_])|\u79d2)"
"""Pattern of the unit seconds."""
_TIME = re.compile(rf"({NUMBER})(?:{UNIT})?(?![\w.:])")
_STRING = re.compile(r'"((?:[^"\\]|\\.){0,20000})"|\'((?:[^\'\\]|\\.){0,20000})\'', re.DOTALL)
_WORD = re.compile(r"(?:null|None|true|True|false|False)\b")
_WORDS: dict[str, Node] = {"null": None, "none": None, "true": True, "false": False}
_SPACE = re.compile(r"\s*")
_RANGE_CONJUNCTION = (
    r"-{1,2}>|=>|-{1,2}|~|\u2192|\.{2,3}|\u2026|to|until|till|through|and|bis|hasta|jusqu'\u00e0|\u00e0"
)
_RANGE = re.compile(
    rf"(?<![A-Za-z0-9_.:\-])(?:(between)\s{{1,2}})?({NUMBER})({UNIT})?\s{{0,3}}({_RANGE_CONJUNCTION})\s{{0,3}}({NUMBER})({UNIT})?"
    rf"(?![A-Za-z0-9_]|:\d|\.\d)",
    re.IGNORECASE,
)
_CLOCK_WORDS = re.compile(
    r"(?<![\w.:])(?:(\d{1,3})\s?h(?:ours?|rs?)?\s?)?(\d{1,3})\s?m(?:in(?:ute)?s?)?\s?(?:and\s)?"
    r"(?:(\d{1,2}(?:\.\d{1,6})?)\s?s(?:ec(?:ond)?s?)?(?![A-Za-z0-9_])|\b(?!\s?[\d-]))",
    re.IGNORECASE,
)
"""`1m5s`, `1 min 5 s`, `0h1m5s`, `2 min`."""
_BRACKETED_TIME = re.compile(rf"[\[(]\s?({NUMBER}(?:{UNIT})?)\s?[\])](?=\s{{0,2}}(?:-|~|to|until)|[.,;:]?\s|[.,;:]?$)")
"""Single time in brackets: `[0s] - [5s]`."""
_RANGE_SEPARATORS = re.compile(
    r"(?:[\s\[\](){},;.&\"']|\band\b|\bfrom\b|\bthen\b|\b(?:starts?|begins?|starting|beginning)\s(?:at|from)\b|\b(?:in\s)?seconds\b)*",
    re.IGNORECASE,
)
"""Text that may stand between ranges of a line that consists of ranges."""
_APPROXIMATION = r"(?:(?:about|around|approximately|approx\.?|roughly|circa|c\.|ca\.)\s{1,2})"

TIME_NOTATIONS: tuple[tuple[str, re.Pattern[str], str], ...] = (
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
    (
        "rough",
        re.compile(
            rf"(?<=\bto\s){_APPROXIMATION}|(?<=\band\s){_APPROXIMATION}|(?<=-\s){_APPROXIMATION}", re.IGNORECASE
        ),
        "",
    ),
    ("rough first", re.compile(rf"(?<=\bfrom\s){_APPROXIMATION}|(?<=\bbetween\s){_APPROXIMATION}", re.IGNORECASE), ""),
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
"""(name, pattern, replacement) of notations of times in prose, applied in order before ranges are searched."""


class NoLiteral(ValueError):
    """Error: no literal starts at `position`."""

    def __init__(self, position: int) -> None:
        """Create the error for a position in the text."""
        super().__init__(f"no literal at character {position}")
        self.position = position


class Truncated(ValueError):
    """Error: the text ends inside of the literal."""


class Literal(NamedTuple):
    """A literal and the position after it."""

    node: Node
    end: int


def read_literal(text: str, position: int) -> Literal:
    """The literal that starts at a position.

    A list that the end of the text truncates keeps its complete nested elements and strings; a number before the end
    may be truncated itself, so a list of bare numbers is lost.

    Raises:
        NoLiteral: No literal starts there.
        Truncated: The text ends inside of the literal and no part of it is complete.
    """
    return _read(text, position, 0)


class LocatedList(NamedTuple):
    """A list and its position, `text[start:end]`."""

    start: int
    node: Node
    end: int


def find_lists(text: str) -> Iterator[LocatedList]:
    """Yield the outermost lists of a text, in order; brackets without a literal are skipped."""
    position = text.find("[")
    while position >= 0:
        end = position + 1
        try:
            node, end = read_literal(text, position)
            yield LocatedList(position, node, end)
        except NoLiteral as error:
            end = max(end, error.position)
        except Truncated:
            return
        position = text.find("[", end)


def parse_time(text: str) -> float | None:
    """Seconds of `12`, `12.5s`, `1:05` or `0:01:05.5`; None = the text is not a time."""
    match = _TIME.fullmatch(text.strip())
    return _clock(match[1]) if match else None


class TimeRange(NamedTuple):
    """A range of times in prose, `text[start:end]`."""

    start: int
    end: int
    pair: tuple[float, float]
    """(start, end) in seconds."""
    has_unit: bool
    """Whether a unit or colons show that the numbers are times."""
    has_colons: bool
    """Whether both times are written with colons."""
    is_between: bool
    """Whether the range is written `between 3 and 7`."""


def normalize_times(text: str) -> str:
    """Normalize a text: times in words become `h:mm:ss` and `12s`; emphasis, tags and brackets of times are removed."""
    for _, pattern, replacement in TIME_NOTATIONS:
        text = pattern.sub(replacement, text)
    return _BRACKETED_TIME.sub(r"\1", _CLOCK_WORDS.sub(_as_clock, text))


def find_ranges(text: str) -> list[TimeRange]:
    """Yield the ranges of numbers in a normalized text (`normalize_times`); `3 and 7` without `between` is no range."""
    ranges: list[TimeRange] = []
    for match in _RANGE.finditer(text):
        between_word, first, first_unit, conjunction, last, last_unit = match.groups()
        has_colons = ":" in first and ":" in last
        if conjunction.lower() != "and" or between_word:
            pair = _clock(first), _clock(last)
            has_unit = bool(first_unit or last_unit or has_colons)
            ranges.append(TimeRange(match.start(), match.end(), pair, has_unit, has_colons, bool(between_word)))
    return ranges


def is_all_ranges(text: str, ranges: Sequence[TimeRange]) -> bool:
    """Whether a text consists of the ranges found in it."""
    end = 0
    for time_range in ranges:
        if not _RANGE_SEPARATORS.fullmatch(text, end, time_range.start):
            return False
        end = time_range.end
    return bool(ranges) and _RANGE_SEPARATORS.fullmatch(text, end) is not None


def parse_ranges(text: str, *, is_announced: bool = False) -> list[tuple[float, float]]:
    """Pairs of seconds stated in prose: `12s - 15.5s`, `from 0:05 to 0:10`, `between 3 and 7 seconds`.

    Numbers without a unit or a colon are not times, unless the text is announced as evidence in time and consists of
    ranges. `3 and 7 s` without `between` is not a range.
    """
    normal_text = normalize_times(text)
    ranges = find_ranges(normal_text)
    is_all = is_announced and is_all_ranges(normal_text, ranges)
    return [time_range.pair for time_range in ranges if is_all or time_range.has_unit]


def _as_clock(match: re.Match[str]) -> str:
    hours, minutes, second = match.groups()
    integer, _, fraction = (second or "0").partition(".")
    return f"{hours or 0}:{int(minutes):02d}:{int(integer):02d}" + (f".{fraction}" if fraction else "")


def _read(text: str, position: int, depth: int) -> Literal:
    position = _skip(text, position)
    if position >= len(text):
        raise Truncated
    if depth > MAX_DEPTH:
        raise NoLiteral(position)
    if text[position] in "[(":
        return _read_list(text, position, depth)
    if text[position] == "{":
        return _read_object(text, position, depth)
    return _read_scalar(text, position)


def _read_list(text: str, position: int, depth: int) -> Literal:
    closing_bracket = "]" if text[position] == "[" else ")"
    items: list[Node] = []
    position += 1
    try:
        while text[position := _skip(text, position)] != closing_bracket:
            item, position = _read(text, position, depth + 1)
            items.append(item)
            position = _after_comma(text, position, closing_bracket)
    except (Truncated, IndexError):
        complete: list[Node] = [item for item in items if not isinstance(item, float)]
        if depth > 0 or not complete or len(complete) < len(items):
            raise Truncated from None
        return Literal(complete, len(text))
    return Literal(items, position + 1)


def _read_object(text: str, position: int, depth: int) -> Literal:
    entries: dict[str, Node] = {}
    position += 1
    try:
        while text[position := _skip(text, position)] != "}":
            key, position = _read(text, position, depth + 1)
            position = _skip(text, position)
            if not isinstance(key, str) or text[position] != ":":
                raise NoLiteral(position)
            entries[key], position = _read(text, position + 1, depth + 1)
            position = _after_comma(text, position, "}")
    except IndexError:
        raise Truncated from None
    return Literal(entries, position + 1)


def _read_scalar(text: str, position: int) -> Literal:
    if match := _TIME.match(text, position):
        return Literal(_clock(match[1]), match.end())
    if match := _STRING.match(text, position):
        return Literal(_unescape(match), match.end())
    if match := _WORD.match(text, position):
        return Literal(_WORDS[match[0].lower()], match.end())
    if text[position] in "\"'" and len(text) - position <= 500:
        raise Truncated
    raise NoLiteral(position)


def _after_comma(text: str, position: int, closing_bracket: str) -> int:
    position = _skip(text, position)
    if text[position] == ",":
        return position + 1
    if text[position] != closing_bracket:
        raise NoLiteral(position)
    return position


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _clock(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


def _unescape(match: re.Match[str]) -> str:
    """Value of a quoted string; characters that UTF-8 cannot encode become question marks."""
    raw = match[1] if match[1] is not None else match[2].replace("\\'", "'").replace('"', '\\"')
    try:
        meaning: object = json.loads(f'"{raw}"', strict=False)
    except ValueError:
        meaning = raw
    return str(meaning).encode("utf-8", "replace").decode()
