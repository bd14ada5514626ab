"""CSV tables with Python list literals in cells, as data sets are published; a bad row costs only itself."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard, cast

from evqa.jsonl import BadLine
from evqa.schema import Span, check_span

if TYPE_CHECKING:
    from _csv import Reader

MAX_BYTES = 2**28
"""The published tables have 1 to 100 MB."""

MAX_LITERAL_CHARACTERS = 20_000

Row = Mapping[str, str]
"""Column -> text."""


def rows(path: Path, needed: tuple[str, ...], bad: list[BadLine]) -> Iterator[tuple[int, Row]]:
    """(line on which the row starts, row) of a UTF-8 CSV with a header of at least the `needed` columns.

    Lines that are no row go to `bad`; a file that as a whole is not this is a `ValueError`.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected a table below {MAX_BYTES}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = _header(path, reader, needed)
            yield from _rows(reader, header, bad)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}, byte {error.start}): save it as UTF-8") from error


def texts(column: str, cell: str) -> tuple[str, ...]:
    """A cell with a list of strings, or of numbers, which become text."""
    items = _items(_literal(column, cell))
    if items is None or not all(isinstance(item, str) or _is_number(item) for item in items):
        raise ValueError(f"{column} is no list of texts: got {cell[:80]!r}")
    return tuple(str(item) for item in items)


def whole_numbers(column: str, cell: str) -> tuple[int, ...]:
    """A cell with a list of whole numbers; none where it is empty."""
    items = _items(_literal(column, cell)) if cell.strip() else []
    if items is None or not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise ValueError(f"{column} is no list of whole numbers: got {cell[:80]!r}")
    return tuple(cast("list[int]", items))


def spans(column: str, cell: str) -> tuple[Span, ...] | None:
    """A cell with `[[start, end], ...]` in seconds; None where it is empty (not annotated)."""
    if not cell.strip():
        return None
    items = _items(_literal(column, cell))
    if items is None:
        raise ValueError(f"{column} is no list of [start, end]: got {cell[:80]!r}")
    return tuple(_span(column, item) for item in items)


def _rows(reader: Reader, header: list[str], bad: list[BadLine]) -> Iterator[tuple[int, Row]]:
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad.append(BadLine(line, f"not CSV: {error}"))
            continue
        if cells and len(cells) != len(header):
            bad.append(BadLine(line, f"wrong number of fields: expected {len(header)}, found {len(cells)}"))
        elif cells:
            yield line, dict(zip(header, cells, strict=True))


def _header(path: Path, reader: Reader, needed: tuple[str, ...]) -> list[str]:
    try:
        first = next(reader, None)
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV in its first line ({error}): fetch it again") from error
    header = [name.strip() for name in first or ()]
    found = ", ".join(header)[:500] or "none, the file is empty"
    if missing := [name for name in needed if name not in header]:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}: expected {', '.join(needed)}; found {found}")
    if len(set(header)) != len(header):
        raise ValueError(f"{path} has a column twice: found {found}")
    return header


def _literal(column: str, cell: str) -> object:
    """A Python literal; nothing is evaluated."""
    if len(cell) > MAX_LITERAL_CHARACTERS:
        raise ValueError(f"{column} is too long: expected at most {MAX_LITERAL_CHARACTERS} characters, got {len(cell)}")
    try:
        return ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{column} is no list literal: got {cell[:80]!r} ({type(error).__name__})") from error


def _items(value: object) -> list[object] | None:
    return list(cast("list[object]", value)) if isinstance(value, list | tuple) else None


def _span(column: str, item: object) -> Span:
    match _items(item):
        case [start, end] if _is_number(start) and _is_number(end):
            pass
        case _:
            raise ValueError(f"{column} is no list of [start, end]: one element is {str(item)[:80]!r}")
    try:
        return check_span(Span(float(start), float(end)))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{column} has an impossible span: {error}") from error


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
