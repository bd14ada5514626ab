"""Tables of agents' runs: support of answers, tool calls, stop reasons, and scores at smaller budgets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from evqa.report.table_styles import Style, cell, prose, table, value_text
from evqa.scoring.results import BudgetPoint, EpisodeSummary, Scores

CURVE_METRICS = ("Acc", "evidence seen", "supported correct")
"""Metrics of a point of a budget curve, in order."""


def episode_parts(scores: Scores, style: Style = "text") -> list[str]:
    """Texts of the conversations of a run: support, tools, stop reasons and curves; empty where there are none."""
    parts = {"answers by evidence seen: share of samples": support_table(scores, style)}
    summary = scores.episodes
    if summary is not None:
        parts["tool calls"] = tool_table(summary, style)
        parts["stop reasons"] = stop_table(summary, style)
        forced = ", with forced answers" if summary.is_forced else ""
        for axis, points in summary.curves.items():
            parts[f"scores at a budget of {axis}{forced}"] = curve_table(points, axis, style)
    return [f"{prose(f'{scores.name}, {title}', style)}\n{text}" for title, text in parts.items() if text]


def support_table(scores: Scores, style: Style = "text") -> str:
    """Right and wrong answers by evidence seen, with the accuracy of each row; empty where support is unknown."""
    rows = {
        "evidence seen": ("supported correct", "wrong despite evidence", "Acc if seen"),
        "not seen": ("unsupported correct", "wrong without evidence", "Acc if not seen"),
    }
    is_supported = scores.metrics.get("supported correct")
    if is_supported is None or not is_supported.n_total:
        return ""
    body: list[list[str]] = []
    for name, (right, wrong, ratio) in rows.items():
        value = scores.derived.get(ratio)
        accuracy = "-" if value is None else value_text(value.value, value.low, value.high, value.unit)
        body.append([name, cell(scores.metrics[right]), cell(scores.metrics[wrong]), accuracy])
    if is_supported.n_unrecorded:
        body.append(["not recorded", f"{is_supported.n_unrecorded} of {is_supported.n_total} samples", "", ""])
    return table(["", "correct", "wrong", "Acc of the row"], body, style)


def tool_table(summary: EpisodeSummary, style: Style = "text") -> str:
    """One row per tool: calls, invalid calls, and the samples with a call; empty without a call."""
    total = sum(summary.stops.values())
    body = [
        [name, str(counts.calls), str(counts.invalid), f"{counts.samples} of {total}"]
        for name, counts in summary.tools.items()
    ]
    return table(["tool", "calls", "invalid", "samples"], body, style) if body else ""


def stop_table(summary: EpisodeSummary, style: Style = "text") -> str:
    """One row per reason why an episode ended, with the number of samples."""
    return table(["stop", "samples"], [[reason, str(number)] for reason, number in summary.stops.items()], style)


def curve_table(points: Sequence[BudgetPoint], axis: str, style: Style = "text") -> str:
    """One row per budget: the scores of the run cut off there."""
    body = [[str(point.budget), *(cell(point.metrics.get(title)) for title in CURVE_METRICS)] for point in points]
    return table([axis, *CURVE_METRICS], body, style)


def curves_csv(rows: Sequence[Scores]) -> str:
    """The budget curves of several runs as CSV: a row per run, axis, budget and metric, fractions from 0 to 1."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "axis", "budget", "metric", "mean", "low", "high", "n_total"])
    for scores in rows:
        curves = scores.episodes.curves if scores.episodes else {}
        for axis, points in curves.items():
            for point in points:
                for title in CURVE_METRICS:
                    mean = point.metrics[title]
                    values = ("" if value is None else f"{value:.6f}" for value in (mean.mean, mean.low, mean.high))
                    writer.writerow([scores.name, axis, point.budget, title, *values, mean.n_total])
    return file.getvalue()
