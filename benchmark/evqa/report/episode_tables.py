"""Tables of agents' runs: support of answers, tool calls, stop reasons, and scores at smaller budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evqa.files.csv_files import csv_text
from evqa.report.table_styles import NONE, Style, cell, prose, table, value_text
from evqa.scoring.results import EpisodeSummary, Scores

CURVE_METRICS = ("Acc", "evidence seen", "supported correct")
"""Metrics of a point of a budget curve, in order."""


class Section(NamedTuple):
    """A table with its title."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def episode_parts(scores: Scores, style: Style = "text") -> list[str]:
    """Texts of the conversations of a run: support, tools, stop reasons and curves; empty where there are none."""
    sections = [*run_sections(scores), *curve_sections(scores)]
    return [
        f"{prose(f'{scores.name}, {section.title}', style)}\n{table(section.header, section.rows, style)}"
        for section in sections
    ]


def run_sections(scores: Scores) -> list[Section]:
    """Tables of the conversations of a run: answers by evidence seen, tool calls and stop reasons."""
    sections = [_support(scores)]
    if scores.episodes is not None:
        sections += [_tools(scores.episodes), _stops(scores.episodes)]
    return [section for section in sections if section.rows]


def curve_sections(scores: Scores) -> list[Section]:
    """Tables of the budget curves of a run, one per axis: a row per budget."""
    if scores.episodes is None:
        return []
    forced = ", with forced answers" if scores.episodes.is_forced else ""
    return [
        Section(
            f"scores at a budget of {axis}{forced}",
            [axis, *CURVE_METRICS],
            [[str(point.budget), *(cell(point.metrics.get(title)) for title in CURVE_METRICS)] for point in points],
        )
        for axis, points in scores.episodes.curves.items()
    ]


def _support(scores: Scores) -> Section:
    """Right and wrong answers by evidence seen, with the accuracy of each row; no rows where support is unknown."""
    rows = {
        "evidence seen": ("supported correct", "wrong despite evidence", "Acc if seen"),
        "not seen": ("unsupported correct", "wrong without evidence", "Acc if not seen"),
    }
    body: list[list[str]] = []
    is_supported = scores.metrics.get("supported correct")
    if is_supported is not None and is_supported.n_total:
        for name, (right, wrong, ratio) in rows.items():
            value = scores.derived.get(ratio)
            accuracy = NONE if value is None else value_text(value.value, value.low, value.high, value.unit)
            body.append([name, cell(scores.metrics.get(right)), cell(scores.metrics.get(wrong)), accuracy])
        if is_supported.n_unrecorded:
            body.append(["not recorded", f"{is_supported.n_unrecorded} of {is_supported.n_total} samples", "", ""])
    return Section("answers by evidence seen: share of samples", ["", "correct", "wrong", "Acc of the row"], body)


def _tools(summary: EpisodeSummary) -> Section:
    """One row per tool: calls, invalid calls, and the samples with a call."""
    total = sum(summary.stops.values())
    body = [
        [name, str(counts.calls), str(counts.invalid), f"{counts.samples} of {total}"]
        for name, counts in summary.tools.items()
    ]
    return Section("tool calls", ["tool", "calls", "invalid", "samples"], body)


def _stops(summary: EpisodeSummary) -> Section:
    """One row per reason why an episode ended, with the number of samples."""
    return Section(
        "stop reasons", ["stop", "samples"], [[reason, str(number)] for reason, number in summary.stops.items()]
    )


def curves_csv(rows: Sequence[Scores]) -> str:
    """The budget curves of several runs as CSV: a row per run, axis, budget and metric, fractions from 0 to 1."""
    table: list[Sequence[object]] = [["run", "axis", "budget", "metric", "mean", "low", "high", "n_total"]]
    for scores in rows:
        curves = scores.episodes.curves if scores.episodes else {}
        for axis, points in curves.items():
            for point in points:
                for title in CURVE_METRICS:
                    mean = point.metrics[title]
                    values = ("" if value is None else f"{value:.6f}" for value in (mean.mean, mean.low, mean.high))
                    table.append([scores.name, axis, point.budget, title, *values, mean.n_total])
    return csv_text(table)
