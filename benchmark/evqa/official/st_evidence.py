"""The generative benchmark's own evaluator, on its own files, to the digit: `eval_st_evidence.py` without masks.

Its conventions, defects among them: spans are not merged, so that k copies of a right one give IoU k; a reversed
span has no length; times may be negative, NaN or infinite. It is computed here and not by the engine, since it
reads entries that `Prediction` cannot hold. Masks are scored by `evqa score --preset st-evidence`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from evqa.datasets.formats import csv_table
from evqa.files.jsonl import BadLine
from evqa.metrics.answer import reads_as_right
from evqa.metrics.means import Cell, State
from evqa.metrics.temporal import unmerged_tiop, unmerged_tiou
from evqa.official.json_entries import entries
from evqa.official.original import OriginalSegments, read_segments
from evqa.official.records import as_object
from evqa.official.scores import OFFICIAL, FileScores, OfficialFiles, QuestionRows, ScoredQuestion, file_scores
from evqa.schema import Span, Spans

COLUMNS = ("entry_id", "candidates", "answer", "segment")


def st_evidence(files: OfficialFiles) -> FileScores:
    """`{entry_id: {"parsed_response": {"answer", "segments"}}}` with ground truth `st_evidence_gen.csv`."""
    notes: list[str] = []
    unused = _entries(files.predictions, notes)
    bad: list[BadLine] = []
    rows: list[ScoredQuestion] = []
    problems: dict[str, int] = {}
    for _, row in csv_table.rows(files.the_gold(), COLUMNS, bad):
        entry = unused.pop(row["entry_id"], None)
        parsed = (as_object(entry) or {}).get("parsed_response")
        read = read_segments(parsed)
        if entry is not None and read.problem:
            problems[read.problem] = problems.get(read.problem, 0) + 1
        rows.append(_judged(row, parsed, read, is_missing=entry is None))
    notes += [f"{files.the_gold().name}:{line} is left out: {reason}" for line, reason in bad]
    if unused:
        notes.append(f"{len(unused)} predictions are for unknown entries, such as {min(unused)!r}")
    numbers = {"format errors": float(sum(problems.values())), **{key: float(n) for key, n in problems.items()}}
    conventions = {OFFICIAL: "official: spans not merged, every entry of gold counts, answers by exact text"}
    tables = [QuestionRows(convention=OFFICIAL, name="predictions", rows=rows, numbers=numbers)]
    return file_scores("st-evidence", conventions, tables, notes)


def _entries(path: Path, notes: list[str]) -> dict[str, object]:
    by_key: dict[str, object] = {}
    for entry in entries(path):
        if entry.error is not None:
            notes.append(f"{path.name}:{entry.line}: key {entry.key!r} is left out: {entry.error}")
        elif entry.key is not None:
            by_key[entry.key] = entry.value
        if entry.note is not None:
            notes.append(f"{path.name}:{entry.line}: key {entry.key!r}: {entry.note}")
    return by_key


def _judged(row: csv_table.Row, parsed: object, read: OriginalSegments, *, is_missing: bool) -> ScoredQuestion:
    gold = gold_segments(row["segment"])
    answer = (as_object(parsed) or {}).get("answer")
    options = csv_table.texts("candidates", row["candidates"])
    iou, iop = unmerged_tiou(read.spans, gold), unmerged_tiop(read.spans, gold)
    values = {
        "accuracy": float(reads_as_right("" if answer is None else str(answer), options, row["answer"])),
        "mIoU": iou,
        "mIoP": iop,
        "t_mean": (iou + iop) / 2,
        **{f"TIoU@{threshold}": float(iou >= threshold) for threshold in (0.3, 0.5)},
        **{f"TIoP@{threshold}": float(iop >= threshold) for threshold in (0.3, 0.5)},
    }
    state: State = "missing" if is_missing else "scored"
    unread: dict[str, State] = {"accuracy": "unparsed" if answer is None else state}
    in_time: State = "unparsed" if read.problem in {"none_responses", "parse_errors"} else state
    return ScoredQuestion(
        id=row["entry_id"],
        video=row.get("video_id") or row["entry_id"],
        group=row.get("question_type") or None,
        cells={
            title: Cell(value, "missing" if is_missing else unread.get(title, in_time))
            for title, value in values.items()
        },
    )


def gold_segments(cell: str) -> Spans:
    """The `segment` column; an element with fewer than two numbers is ignored, and what is no list is empty."""
    try:
        value = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ()
    elements = cast("Iterable[object]", value) if isinstance(value, list | tuple) else ()
    return tuple(span for element in elements if (span := _pair(element)) is not None)


def _pair(element: object) -> Span | None:
    """The first two of a list or a tuple, if they are numbers."""
    ends = list(cast("Iterable[object]", element))[:2] if isinstance(element, list | tuple) else []
    numbers = [float(end) for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    return Span(*numbers) if len(numbers) == 2 else None
