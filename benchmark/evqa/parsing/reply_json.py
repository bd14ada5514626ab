"""Objects in a reply, read by their own top-level keys: nested and quoted text never counts.

A tolerant scanner: keys in single quotes or none, commas too many, values that are no JSON, an object that the end of
the text cuts off. Each character is looked at a bounded number of times.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_OBJECTS = 200

_KEY = re.compile(
    r"""\s*,?\s*(?:(?://|\#)[^\n]{0,300}\n\s*){0,5}
        (?:"((?:[^"\\]|\\.){1,100})"|'((?:[^'\\]|\\.){1,100})'|([^\W\d][\w\ ]{0,60}?))\s*:""",
    re.VERBOSE,
)
_TOKEN = re.compile(r"""["'\[\](){},]""")
_CLOSED = {'"': re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL), "'": re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)}
_OPENER = re.compile(r"[\[({,:]\s*$")


class JsonValue(NamedTuple):
    """Where the value of a key stands, `text[start:end]`."""

    start: int
    end: int


class JsonObject(NamedTuple):
    """An object of a reply."""

    start: int
    end: int
    values: dict[str, JsonValue]
    """Key, in lower case with `_` between words -> its last value."""


def name_of(key: str) -> str:
    """A key in lower case with `_` between words."""
    return re.sub(r"[\s_-]+", "_", key.strip().casefold())


def find_objects(text: str) -> list[JsonObject]:
    """Outermost objects of a text in order."""
    found: list[JsonObject] = []
    at = text.find("{")
    while at >= 0 and len(found) < MAX_OBJECTS:
        match = _KEY.match(text, at + 1)
        is_tex = match is not None and match[3] is not None and text[at - 1 : at].isalpha()
        entry = _object(text, at) if match and not is_tex else None
        if entry is not None:
            found.append(entry)
        at = text.find("{", at + 1 if entry is None else entry.end)
    return found


def _object(text: str, at: int) -> JsonObject:
    values: dict[str, JsonValue] = {}
    end = at + 1
    while match := _KEY.match(text, end):
        start = match.end()
        end = _value_end(text, start)
        values[name_of(match[1] or match[2] or match[3])] = JsonValue(start, end)
    while text[end : end + 1] == ",":
        end = _value_end(text, end + 1)
    return JsonObject(at, min(end + 1, len(text)), values)


def _value_end(text: str, start: int) -> int:
    """Where a value ends: at its comma, at the end of its object, or at the end of the text."""
    depth, at = 0, start
    while match := _TOKEN.search(text, at):
        sign, at = match[0], match.end()
        if sign in "\"'":
            if sign == "'" and not _OPENER.search(text[max(start - 1, at - 20) : at - 1]):
                continue
            closed = _CLOSED[sign].match(text, at - 1)
            if closed is None:
                return len(text)
            at = closed.end()
        elif sign in "[({":
            depth += 1
        elif depth == 0:
            return at - 1
        elif sign != ",":
            depth -= 1
    return len(text)
