"""Tolerant scanner of JSON objects in a reply, read by their top-level keys; nested and quoted text is ignored.

Accepts keys in single quotes or without quotes, extra commas, values that are not JSON, and an object that the end of
the text truncates. Each character is read a bounded number of times.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_OBJECTS = 200
"""Number of objects that are read."""

_KEY = re.compile(
    r"""\s*,?\s*(?:(?://|\#)[^\n]{0,300}\n\s*){0,5}
        (?:"((?:[^"\\]|\\.){1,100})"|'((?:[^'\\]|\\.){1,100})'|([^\W\d][\w\ ]{0,60}?))\s*:""",
    re.VERBOSE,
)
_TOKEN = re.compile(r"""["'\[\](){},]""")
_STRINGS = {'"': re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL), "'": re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)}
_OPENER = re.compile(r"[\[({,:]\s*$")


class JsonValue(NamedTuple):
    """Position of a value, `text[start:end]`."""

    start: int
    end: int


class JsonObject(NamedTuple):
    """Position of an object, `text[start:end]`, and of the values of its keys."""

    start: int
    end: int
    values: dict[str, JsonValue]
    """Key, in lower case with `_` between words -> its last value."""


def name_of(key: str) -> str:
    """Key in lower case with `_` between words."""
    return re.sub(r"[\s_-]+", "_", key.strip().casefold())


def find_objects(text: str) -> list[JsonObject]:
    """Outermost objects of a text, in order."""
    objects: list[JsonObject] = []
    position = text.find("{")
    while position >= 0 and len(objects) < MAX_OBJECTS:
        match = _KEY.match(text, position + 1)
        is_tex = match is not None and match[3] is not None and text[position - 1 : position].isalpha()
        entry = _object(text, position) if match and not is_tex else None
        if entry is not None:
            objects.append(entry)
        position = text.find("{", position + 1 if entry is None else entry.end)
    return objects


def _object(text: str, position: int) -> JsonObject:
    values: dict[str, JsonValue] = {}
    end = position + 1
    while match := _KEY.match(text, end):
        start = match.end()
        end = _value_end(text, start)
        values[name_of(match[1] or match[2] or match[3])] = JsonValue(start, end)
    while text[end : end + 1] == ",":
        end = _value_end(text, end + 1)
    return JsonObject(position, min(end + 1, len(text)), values)


def _value_end(text: str, start: int) -> int:
    """Position at which a value ends: at its comma, the end of its object, or the end of the text."""
    depth, position = 0, start
    while match := _TOKEN.search(text, position):
        sign, position = match[0], match.end()
        if sign in "\"'":
            if sign == "'" and not _OPENER.search(text[max(start - 1, position - 20) : position - 1]):
                continue
            string = _STRINGS[sign].match(text, position - 1)
            if string is None:
                return len(text)
            position = string.end()
        elif sign in "[({":
            depth += 1
        elif depth == 0:
            return position - 1
        elif sign != ",":
            depth -= 1
    return len(text)
