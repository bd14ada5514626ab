"""Large JSON files piece by piece: the entries of an object or a list, without the whole in memory.

The masks of MeViS or ReVOS are one JSON object of gigabytes. Its text is mapped into memory by the system and
searched for where each entry starts and ends; only an entry that is asked for is parsed.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

MAX_ENTRY_BYTES = 2**28
"""A larger entry is refused."""

MAX_PLAIN_BYTES = 2**31
"""A larger file is not read as a whole."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)
_SPACE = b" \t\r\n"

Text = mmap.mmap | bytes


class JsonRange(NamedTuple):
    """Bytes of an entry in its file."""

    start: int
    end: int


class JsonMapping:
    """The entries of the object that a file holds; open while the `open_json` block runs."""

    def __init__(self, path: Path, text: Text) -> None:
        self.path = path
        self._text = text
        self._places = {key: place for key, place in _entries(path, text, b"{", 0) if key is not None}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> object:
        """The entry, parsed. Raises a `ValueError` where it is not JSON."""
        return _parsed(self.path, self._text, self._places[key])

    def places(self, key: str) -> Iterator[JsonRange]:
        """Where the elements of an entry that is a list are, for `at`."""
        if key not in self._places:
            raise ValueError(f"file has no {key}: {self.path} has {', '.join(list(self._places)[:10])}")
        return (place for _, place in _entries(self.path, self._text, b"[", self._places[key].start))

    def at(self, place: JsonRange) -> object:
        """What is there, parsed."""
        return _parsed(self.path, self._text, place)

    def __iter__(self) -> Iterator[str]:
        """Keys in the order of the file."""
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@contextmanager
def open_json(path: Path) -> Generator[JsonMapping]:
    """The JSON object of a file, by entry."""
    with _mapped(path) as text:
        yield JsonMapping(path, text)


def elements(path: Path) -> Iterator[object]:
    """The elements of a file that is one JSON list, in order, one in memory at a time."""
    with _mapped(path) as text:
        for _, place in _entries(path, text, b"[", 0):
            yield _parsed(path, text, place)


def read(path: Path) -> object:
    """A whole file."""
    with _mapped(path) as content:
        if len(content) > MAX_PLAIN_BYTES:
            raise ValueError(f"file is too large: {path} has {len(content)} bytes, expected at most {MAX_PLAIN_BYTES}")
        whole = bytes(content)
    try:
        return cast(object, json.loads(whole))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"file is no JSON: {path}, {error}") from error


def mapping(value: object, what: str) -> Mapping[str, object]:
    """The value as an object with text keys, or a `ValueError` that says what should have been one."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object: got {str(value)[:80]}")
    return cast("Mapping[str, object]", value)


def array(value: object, what: str) -> list[object]:
    """The value as a list."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is no JSON list: got {str(value)[:80]}")
    return cast("list[object]", value)


def text(value: object, what: str) -> str:
    """The value as text that is not blank, without space around it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is no text: got {str(value)[:80]!r}")
    return value.strip()


def integer(value: object, what: str) -> int:
    """The value as a whole number; text of digits is one, and so is 3.0, as tables and floats write it."""
    if isinstance(value, str) and (digits := re.fullmatch(r"(-?[0-9]{1,18})(?:\.0*)?", value.strip())):
        return int(digits[1])
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{what} is no whole number: got {str(value)[:80]!r}")
    return value


# Places


@contextmanager
def _mapped(path: Path) -> Generator[Text]:
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ValueError(f"file is empty: {path}; fetch it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                yield text
    except OSError as error:
        raise ValueError(f"file cannot be read: {path} ({error.strerror}); fetch it (see README.md there)") from error


def _entries(path: Path, text: Text, opening: bytes, start: int) -> Iterator[tuple[str | None, JsonRange]]:
    """(key, place) of each entry of the object or list that starts there; a list's keys are None.

    What starts the file also ends it.
    """
    kind = "object" if opening == b"{" else "list"
    begin = _first_byte(path, text, opening, start)
    depth, key = 1, None
    for match in _TOKEN.finditer(text, begin):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
        elif depth > 1:
            depth -= token in (b"}", b"]")
        elif token == b":":
            key, begin = _key(path, text, begin, match.start()), match.end()
        elif token in (b",", b"}", b"]"):
            if text[begin : match.start()].strip(_SPACE):
                yield key, JsonRange(begin, match.start())
            if token != b",":
                return None if start else _check_end(path, text, match.end(), kind)
            key, begin = None, match.end()
    raise ValueError(f"file breaks off: the {kind} in {path} has no end; fetch it again")


def _first_byte(path: Path, text: Text, opening: bytes, start: int) -> int:
    """Where the entries start."""
    start = _skip(text, start)
    if text[start : start + 1] != opening:
        kind = "object" if opening == b"{" else "list"
        raise ValueError(f"file is no JSON {kind}: {path} has {bytes(text[start : start + 20])!r}")
    return start + 1


def _check_end(path: Path, text: Text, end: int, kind: str) -> None:
    if _skip(text, end) != len(text):
        raise ValueError(f"file goes on after its {kind}: {path}; fetch it again")


def _key(path: Path, text: Text, start: int, end: int) -> str:
    key = _parsed(path, text, JsonRange(start, end))
    if not isinstance(key, str):
        raise ValueError(f"key is no text: {path} has {key!r}")
    return key


def _parsed(path: Path, text: Text, place: JsonRange) -> object:
    if place.end - place.start > MAX_ENTRY_BYTES:
        raise ValueError(f"entry is too large: {place.end - place.start} bytes of {path}, expected {MAX_ENTRY_BYTES}")
    try:
        return cast(object, json.loads(bytes(text[place.start : place.end])))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"entry is no JSON: byte {place.start} of {path}, {error}") from error


def _skip(text: Text, at: int) -> int:
    while at < len(text) and text[at : at + 1] in (b" ", b"\t", b"\r", b"\n"):
        at += 1
    return at
