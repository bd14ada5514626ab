"""The table of a suite, one row per task and headline metric, as Markdown, LaTeX or CSV; the report of all tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from evqa.files.csv_files import csv_text
from evqa.metrics.means import Mean
from evqa.metrics.units import display_text, display_value
from evqa.report import tables
from evqa.report.published_numbers import PublishedNumber, published_number
from evqa.report.table_styles import NONE, Style, table, value_text
from evqa.scoring.results import Scores, ScoreValue
from evqa.tasks.registry import TASKS

MAX_HEADLINES = 3
"""Number of columns of the main table that stand for a task whose row names no headline metrics."""


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """Result of one task of a suite."""

    task: str
    scores: Sequence[Scores] = ()
    """One entry per preset; () = not scored."""
    baselines: Sequence[Scores] = ()
    note: str = ""
    """Why it is not scored, or what the table should say of it: `data missing`, `3 failed`, a submission file."""

    @property
    def main(self) -> Scores | None:
        """Scores under the task's first preset."""
        return next(iter(self.scores), None)


class SuiteRow(NamedTuple):
    """One metric of a task."""

    result: TaskResult
    metric: str
    value: Mean | ScoreValue | None
    baseline: tuple[str, Mean | ScoreValue] | None
    """Trivial baseline with the highest value, by name."""
    published: PublishedNumber | None


def suite_rows(results: Sequence[TaskResult]) -> list[SuiteRow]:
    """Return the rows of the table: the headline metrics of each task, or one row that says why there is no score."""
    return [row for result in results for row in _rows_of(result)]


def _rows_of(result: TaskResult) -> Iterator[SuiteRow]:
    scores = result.main
    metrics = headline_metrics(result.task, scores)
    values = {metric: None if scores is None else value_of(scores, metric) for metric in metrics}
    is_scored = any(value is not None for value in values.values())
    for metric, value in values.items():
        if value is not None or not is_scored:
            yield SuiteRow(result, metric, value, _best_baseline(result, metric), published_number(result.task, metric))


def headline_metrics(task: str, scores: Scores | None) -> tuple[str, ...]:
    """Return the metrics of a task in the table of a suite."""
    row = TASKS[task]
    if row.headline:
        return row.headline
    columns = tables.columns_of(row.presets[0])
    if scores is not None:
        columns = [title for title in columns if value_of(scores, title) is not None]
    return tuple(columns[:MAX_HEADLINES])


def value_of(scores: Scores, title: str) -> Mean | ScoreValue | None:
    """Return a mean or derived number of scores; None = it is not scored."""
    mean = scores.metrics.get(title)
    if mean is None:
        return scores.derived.get(title)
    return None if mean.mean is None else mean


def _best_baseline(result: TaskResult, metric: str) -> tuple[str, Mean | ScoreValue] | None:
    scores = result.main
    if scores is None:
        return None
    rows = [
        (baseline.name, value)
        for baseline in result.baselines
        if baseline.preset == scores.preset and (value := value_of(baseline, metric)) is not None
    ]
    return max(rows, key=lambda row: _number(row[1]), default=None)


def _number(value: Mean | ScoreValue) -> float:
    number = value.mean if isinstance(value, Mean) else value.value
    return 0.0 if number is None else number


def _text(value: Mean | ScoreValue | None) -> str:
    return NONE if value is None else value_text(_number(value), value.low, value.high, value.unit)


def suite_table(results: Sequence[TaskResult], model: str, style: Style = "text") -> str:
    """Return the table: values with 95 % intervals, the best trivial baseline, published numbers where listed."""
    body: list[list[str]] = []
    previous = ""
    for row in suite_rows(results):
        name = row.result.task
        number = f"{row.published.value:.1f} ({row.published.system})" if row.published else ""
        values = [_text(row.value), _baseline_text(row), number, _samples_of(row)]
        body.append([name if name != previous else "", row.metric, *values])
        previous = name
    return table(["task", "metric", model, "best trivial baseline", "published", "samples"], body, style)


def _baseline_text(row: SuiteRow) -> str:
    if row.baseline is None:
        return ""
    name, value = row.baseline
    return f"{display_text(_number(value), value.unit)} ({name})"


def _samples_of(row: SuiteRow) -> str:
    """Numbers of samples, and what is to be known of them."""
    parts = [row.result.note] if row.result.note else []
    if (scores := row.result.main) is not None:
        counts = scores.counts
        total = f"{counts.samples} of {scores.partial.total}" if scores.partial else str(counts.samples)
        parts = [total, *parts]
        parts += [f"{counts.failed} failed"] if counts.failed else []
        parts += [f"{counts.missing} missing"] if counts.missing else []
    return ", ".join(parts)


PUBLISHED_FIELDS = ("system", "value", "source", "protocol", "date")
"""Fields of a published number in the CSV table."""

CSV_TITLES = (
    *("task", "preset", "metric", "unit", "value", "low", "high"),
    *("samples", "data_set_samples", "failed", "missing", "unparsed", "note"),
    *("baseline", "baseline_value"),
    *(f"published_{key}" for key in PUBLISHED_FIELDS),
)


def suite_csv(results: Sequence[TaskResult]) -> str:
    """Return the table as CSV, with the ends of the intervals, counts and sources in columns of their own."""
    return csv_text([CSV_TITLES, *(_csv_row(row) for row in suite_rows(results))])


def _csv_row(row: SuiteRow) -> list[object]:
    value, baseline, published = row.value, row.baseline, row.published
    unit = "" if value is None else "percent" if value.unit == "fraction" else value.unit
    preset = row.result.main.preset if row.result.main else ""
    numbers = ["", "", ""] if value is None else [_csv_number(value, end) for end in ("mean", "low", "high")]
    return [
        *(row.result.task, preset, row.metric, unit, *numbers, *_csv_counts(row.result.main), row.result.note),
        *(("", "") if baseline is None else (baseline[0], _csv_number(baseline[1], "mean"))),
        *(
            ("",) * len(PUBLISHED_FIELDS)
            if published is None
            else (getattr(published, key) for key in PUBLISHED_FIELDS)
        ),
    ]


def _csv_counts(scores: Scores | None) -> tuple[object, ...]:
    """Numbers of samples: scored, in the data set, failed, missing, unparsed."""
    if scores is None:
        return ("",) * 5
    counts = scores.counts
    total = scores.partial.total if scores.partial else counts.samples
    return counts.samples, total, counts.failed, counts.missing, counts.unparsed


def _csv_number(value: Mean | ScoreValue, end: Literal["mean", "low", "high"]) -> str:
    number = _number(value) if end == "mean" else getattr(value, end)
    return "" if number is None else f"{display_value(number, value.unit):.4f}"


def suite_report(results: Sequence[TaskResult], model: str, title: str, pages: Mapping[str, str]) -> str:
    """Return the report in Markdown: the table, the sources of its numbers, and all tables of each task.

    Args:
        results: Results in the order of the suite.
        model: Name of the model.
        title: Heading.
        pages: Task -> address of its page of samples, relative to the report.
    """
    parts = [f"# {title}", suite_table(results, model, "markdown")]
    if sources := _sources(results):
        parts += ["Published numbers:", "\n".join(f"- {line}" for line in sources)]
    for result in results:
        parts.append(f"## {result.task}: {TASKS[result.task].description}")
        if result.note:
            parts.append(result.note)
        if result.task in pages:
            parts.append(f"[page with every sample]({pages[result.task]})")
        if result.scores:
            parts.append(tables.report(list(result.scores), list(result.baselines), "markdown").strip())
    return "\n\n".join(parts) + "\n"


def _sources(results: Sequence[TaskResult]) -> list[str]:
    numbers = [row.published for row in suite_rows(results) if row.published is not None]
    return [
        f"{number.task}, {number.metric}, {number.system}: {number.value:.2f}; {number.protocol}; {number.source}, "
        f"read on {number.date}"
        for number in numbers
    ]
