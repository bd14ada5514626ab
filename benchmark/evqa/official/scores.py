"""Scores of a prediction file: what the official evaluator prints, with counts and intervals beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from evqa.metrics.means import Cell, Mean, mean_of
from evqa.schema import VERSION, StrictRecord

OFFICIAL = "official"
STRICT = "strict"


class OfficialFiles(NamedTuple):
    """Paths of the files of an official format."""

    predictions: Path
    gold: Path | None
    extra: Path | None

    def the_gold(self) -> Path:
        """The ground truth file; a `ValueError` without one."""
        if self.gold is None:
            raise ValueError("this format needs the file of gold: evqa score-official FORMAT PREDICTIONS GOLD")
        return self.gold


class FileTable(StrictRecord):
    """Means of one system (the predictions or a baseline) under one convention."""

    name: str
    convention: str
    metrics: dict[str, Mean]
    numbers: dict[str, float | None] = Field(default_factory=dict)
    """Numbers that are no means over questions."""
    groups: dict[str, dict[str, Mean]] = Field(default_factory=dict)
    """Type of question -> metric -> mean."""


class FileScores(StrictRecord):
    """Scores of an official prediction file: the layout of `evqa score-official --out`."""

    version: Literal[1] = VERSION
    unit: Literal["fraction"] = "fraction"
    """Of means and of values of samples; `FileTable.numbers` are as the evaluator counts them."""
    format: str
    conventions: dict[str, str]
    """Name -> what it means."""
    tables: list[FileTable]
    notes: list[str]
    """Records that were left out or that look wrong."""
    samples: dict[str, dict[str, float | None]]
    """Question -> metric -> value, under the first convention."""

    def official(self, title: str) -> float:
        """A metric or a number of the predictions under the first convention."""
        table = self.tables[0]
        value = table.metrics[title].mean if title in table.metrics else table.numbers[title]
        assert value is not None, f"{title} is of nothing"
        return value


@dataclass(frozen=True, kw_only=True)
class ScoredQuestion:
    """Values of all metrics for one question, of a format with its own scores."""

    id: str
    video: str
    cells: Mapping[str, Cell]
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class QuestionRows:
    """Questions of one system under one convention, of a format with its own scores."""

    convention: str
    name: str
    rows: Sequence[ScoredQuestion]
    numbers: Mapping[str, float | None] = field(default_factory=dict[str, float | None])


def tabulate(rows: QuestionRows) -> FileTable:
    """Means with intervals over videos, overall and by type of question."""
    groups: dict[str, list[ScoredQuestion]] = {}
    for row in rows.rows:
        if row.group is not None:
            groups.setdefault(row.group, []).append(row)
    return FileTable(
        name=rows.name,
        convention=rows.convention,
        metrics=_means(rows.rows),
        numbers=dict(rows.numbers),
        groups={group: _means(members) for group, members in sorted(groups.items())},
    )


def file_scores(
    format_name: str, conventions: dict[str, str], tables: Sequence[QuestionRows], notes: Sequence[str]
) -> FileScores:
    """The scores of tables of which the first is that of the predictions under the first convention."""
    return FileScores(
        format=format_name,
        conventions=conventions,
        tables=[tabulate(table) for table in tables],
        notes=list(notes),
        samples={row.id: {title: cell.value for title, cell in row.cells.items()} for row in tables[0].rows},
    )


def _means(rows: Sequence[ScoredQuestion]) -> dict[str, Mean]:
    titles = dict.fromkeys(title for row in rows for title in row.cells)
    return {title: mean_of([(row.video, row.cells[title]) for row in rows if title in row.cells]) for title in titles}
