"""CSV tables: as text, and as files that are written at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from evqa.files.jsonl import replace_file


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, each ended by a line feed."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def write_csv(path: Path, titles: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table of rows by title at once, one row in memory at a time."""
    with replace_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.DictWriter(text, titles)
        writer.writeheader()
        writer.writerows(rows)
        text.detach()
