"""Table with one row per sample and preset, as CSV or as JSON Lines with the same fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from evqa.datasets import Dataset
from evqa.files.csv_files import write_csv
from evqa.files.jsonl import check_output, write_rows
from evqa.metrics.units import display_value
from evqa.report.tables import unit_of_rows
from evqa.scoring.results import Scores

COLUMNS = ("run", "preset", "sample", "video", "status", "question_type", "source", "unit")

SUFFIXES = (".csv", ".jsonl")

Row = dict[str, str | float | None]


def rows(scores: Sequence[Scores], dataset: Dataset) -> Iterator[Row]:
    """Yield the rows, fractions in percent; None = a metric does not apply to the sample."""
    labels = [(sample.question_type, sample.source) for sample in dataset.samples]
    for run in scores:
        unit = unit_of_rows(run)
        for (name, sample), (question_type, source) in zip(run.samples.rows(), labels, strict=True):
            row: Row = {
                "run": run.name,
                "preset": run.preset,
                "sample": name,
                "video": sample.video_id,
                "status": sample.status,
                "question_type": question_type,
                "source": source,
                "unit": unit,
            }
            for title, value in sample.values.items():
                row[title] = None if value is None else display_value(value, run.metrics[title].unit)
            yield row


def check(path: Path, predictions: Path) -> None:
    """Raise a `ValueError` for a path of a table with another suffix, or equal to the prediction file."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a table of samples is a {' or '.join(SUFFIXES)} file, got {path.name!r}")
    check_output(path, [predictions])


def write(path: Path, scores: Sequence[Scores], dataset: Dataset) -> None:
    """Write the rows in the format of the file's suffix, atomically."""
    titles = [*COLUMNS, *dict.fromkeys(title for run in scores for title in run.metrics)]
    table = rows(scores, dataset)
    if path.suffix == ".csv":
        write_csv(path, titles, table)
        return
    write_rows(path, table)
