"""Streaming reader of a large JSON object: one entry in memory at a time; an invalid entry does not affect others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

CHUNK = 2**20
"""Number of characters per read."""

MAX_ENTRY_CHARACTERS = 2**26
"""Maximum length of an entry in characters; the original stores masks in separate files."""

_SPACE = re.compile(r"[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n,]*")
_NEXT_KEY = re.compile(r'\n {2}(?="(?:[^"\\\n]|\\.){1,300}": ?[{\[n])')
"""Start of an entry in a file with an indent of two spaces, as the original writes."""
_BRACKET = re.compile(r"[\[\]{},]")
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)

_DECODER = json.JSONDecoder()


class Entry(NamedTuple):
    """Entry of the object."""

    key: str | None
    """Key; None = unreadable."""
    line: int
    """Number of its first line, from 1."""
    value: object
    error: str | None = None
    """Reason why there is no value; None = there is one."""
    note: str | None = None
    """Problem of an existing value; None = no problem."""


NOT_UTF8 = "it is not UTF-8; the wrong bytes are replaced"
CUT = "the file ends inside the entry, or the entry is too long"


class _Cut(ValueError):
    """Error: the file ends inside an entry."""


def entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file with one JSON object, in order, including repeated keys.

    An unreadable entry is an `Entry` with an error. `ValueError`: the file has no object.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = _Reader(file)
        reader.skip(_SPACE)
        if reader.peek() != "{":
            start = reader.peek() or "an empty file"
            raise ValueError(f"{path} holds no JSON object of entries: expected it to start with '{{', got {start!r}")
        reader.at += 1
        yield from reader.entries()


class _Reader:
    """A window on the file that moves on."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.text = ""
        self.at = 0
        self.is_last = False
        self._line = 1
        self._is_damaged = False
        self._counted = 0

    def entries(self) -> Iterator[Entry]:
        while True:
            self.skip(_COMMA)
            if self.peek() == "}":
                return
            if not self.peek():
                yield Entry(None, self.line(), None, "the file ends inside the object: its end is missing")
                return
            entry = self._entry(self.line())
            yield entry
            if entry.error is not None and not self._find_next():
                if entry.error != CUT:
                    yield Entry(None, self.line(), None, "the rest of the file cannot be read after the broken entry")
                return

    def _entry(self, line: int) -> Entry:
        key: str | None = None
        try:
            value = self._value()
            key = value if isinstance(value, str) else None
            if key is None:
                return Entry(None, line, None, f"a key is text, got {str(value)[:80]!r}")
            self.skip(_SPACE)
            if self.peek() != ":":
                return Entry(key, line, None, f"expected ':' behind the key, found {self.peek()!r}")
            self.at += 1
            self.skip(_SPACE)
            self._is_damaged = False
            value = self._value()
            return Entry(key, line, value, note=NOT_UTF8 if self._is_damaged else None)
        except RecursionError:
            return Entry(key, line, None, "it is nested too deeply")
        except _Cut:
            return Entry(key, line, None, CUT)
        except ValueError as error:
            return Entry(key, line, None, f"it is no JSON: {error}"[:300])

    def _value(self) -> object:
        """The JSON value that starts here; reads on until it is whole."""
        while True:
            end = 0
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text) - 16
                if not is_cut:
                    raise
            else:
                if end < len(self.text) or self.is_last:
                    start, self.at = self.at, end
                    whole = _in_utf8(self.text[start:end])
                    self._is_damaged = whole is not None
                    return value if whole is None else _DECODER.raw_decode(whole)[0]
            if len(self.text) - self.at > MAX_ENTRY_CHARACTERS or not self.more():
                raise _Cut

    def _find_next(self) -> bool:
        """Move behind a broken entry: to the next line that starts one, else behind its closing bracket."""
        is_indented = self.text.find("\n  ", self.at) >= 0
        return self._seek(_NEXT_KEY) if is_indented else self._skip_brackets()

    def _seek(self, pattern: re.Pattern[str]) -> bool:
        while True:
            if match := pattern.search(self.text, self.at):
                self.at = match.end()
                return True
            self.at = max(self.at, len(self.text) - 400)
            if not self.more():
                return False

    def _skip_brackets(self) -> bool:
        """Move behind the value that starts here, counting brackets; most of a deep one is only counted."""
        depth = 0
        while True:
            quote = self.text.find('"', self.at)
            end = len(self.text) if quote < 0 else quote
            opening, closing = (sum(self.text.count(sign, self.at, end) for sign in signs) for signs in ("[{", "]}"))
            if depth > closing:
                depth += opening - closing
            else:
                for match in _BRACKET.finditer(self.text, self.at, end):
                    depth += (match[0] in "[{") - (match[0] in "]}")
                    if depth <= 0 and match[0] in ",]}":
                        self.at = match.end() if depth == 0 else match.start()
                        return True
            self.at = end
            if not (self.more() if quote < 0 else self._skip_string()):
                return False

    def _skip_string(self) -> bool:
        while (match := _STRING.match(self.text, self.at)) is None:
            if len(self.text) - self.at > MAX_ENTRY_CHARACTERS or not self.more():
                return False
        self.at = match.end()
        return True

    def peek(self) -> str:
        """The next character, "" at the end of the file."""
        if self.at >= len(self.text):
            self.more()
        return self.text[self.at : self.at + 1]

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Move behind what a pattern of single characters matches."""
        while True:
            match = pattern.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not self.more():
                return

    def line(self) -> int:
        """The line that comes next, from 1."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def more(self) -> bool:
        """Forget what is behind and read on: as much again as there is, so that a long entry costs linear time."""
        if self.is_last:
            return False
        self.line()
        rest = self.text[self.at :]
        block = self.file.read(max(CHUNK, len(rest)))
        self.text, self.at, self._counted = rest + block, 0, 0
        self.is_last = not block
        return bool(block)


def _in_utf8(text: str) -> str | None:
    """The text with bytes replaced that are not UTF-8; None where the file had none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return None
