"""Rows of a file that is one JSON list, or JSON Lines, under any suffix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from evqa.datasets.formats import json_stream
from evqa.datasets.formats.fields import numbered_rows
from evqa.datasets.formats.json_stream import mapping
from evqa.files import jsonl
from evqa.files.jsonl import BadLine


def is_list(path: Path) -> bool:
    """Return whether a file starts as a JSON list."""
    with path.open("rb") as file:
        return file.read(4096).removeprefix(jsonl.MARK).lstrip().startswith(b"[")


def rows(path: Path, bad: list[BadLine]) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield (line, or place in the list from 1; row); a row that is no JSON object is appended to `bad`."""
    if is_list(path):
        for number, read_element in enumerate(json_stream.lazy_elements(path), 1):
            yield from numbered_rows(
                [(f"entry {number}", read_element)], lambda read, n=number: (n, mapping(read(), "entry")), bad, number
            )
        return
    yield from line_rows(path, bad)


def line_rows(path: Path, bad: list[BadLine]) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield (line, row) of a file of JSON Lines; a line that is no JSON object is appended to `bad`."""
    for line in jsonl.lines(path):
        try:
            value = cast("object", json.loads(line.content or b""))
            yield line.number, mapping(value, "line")
        except (ValueError, RecursionError) as error:
            bad.append(BadLine(line.number, f"line is no JSON object: {error}"))
