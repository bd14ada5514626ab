"""Tables of scores as text: with fixed widths, as Markdown or LaTeX. Fractions are in percent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from evqa.files.csv_files import csv_text
from evqa.metrics.joint import surface
from evqa.metrics.means import Mean
from evqa.metrics.presets import preset as preset_named
from evqa.metrics.units import display_text, display_value
from evqa.report.episode_tables import episode_parts
from evqa.report.table_styles import NONE, Style, cell, latex_table, latex_text, prose, table, value_text
from evqa.scoring.results import Scores

CompactStyle = Literal["markdown", "latex", "csv"]

COUNTS = ("n_total", "n_scored", "n_missing", "n_failed", "n_unparsed")
"""Fields of `Mean` in tables."""
RECORD_COUNTS = (*COUNTS, "n_unrecorded")
"""The same, where the records of some samples lack what a metric measures."""


def report(runs: Sequence[Scores], baselines: Sequence[Scores] = (), style: Style = "text") -> str:
    """Text of the whole report: per preset its description, main table, counts, and the details of each run."""
    parts: list[str] = []
    for preset in _presets(runs):
        parts += _of_preset(preset, runs, baselines, style)
        parts += [part for scores in runs if scores.preset == preset for part in details(scores, style)]
    return "\n\n".join(parts) + "\n"


def summary(runs: Sequence[Scores], baselines: Sequence[Scores] = (), style: Style = "text") -> str:
    """Text of the main tables, without the details of each run."""
    parts = [part for preset in _presets(runs) for part in _of_preset(preset, runs, baselines, style)]
    return "\n\n".join(parts) + "\n"


def _presets(runs: Sequence[Scores]) -> list[str]:
    return list(dict.fromkeys(scores.preset for scores in runs))


def _of_preset(preset: str, runs: Sequence[Scores], baselines: Sequence[Scores], style: Style) -> list[str]:
    selected = [scores for scores in runs if scores.preset == preset]
    columns = [title for title in columns_of(preset) if any(title in scores.metrics for scores in selected)]
    trivial = [
        scores for scores in baselines if scores.preset == preset and not set(columns).isdisjoint(scores.metrics)
    ]
    rows = [*selected, *trivial]
    counts = sample_counts({scores.name: scores.metrics for scores in selected}, columns, style)
    lines = [prose(line, style) for scores in selected for line in (counts_line(scores), *left_out_lines(scores))]
    return [heading(preset, style), main_table(rows, style, columns), counts, *lines]


def details(scores: Scores, style: Style = "text") -> list[str]:
    """Texts of the details of a run: every mean with its counts, the joint grid, the groups."""
    title = prose(f"{scores.name}, every mean ({scores.preset})", style)
    parts = [f"{title}\n{means_table(scores, style)}"]
    if derived := derived_line(scores):
        parts.append(prose(derived, style))
    if ratios := ratio_table(scores, style):
        parts.append(f"{prose(f'{scores.name}, ratios ({scores.preset})', style)}\n{ratios}")
    parts += episode_parts(scores, style)
    if grid := joint_table(scores, style):
        title = f"{scores.name}, share of samples that are right with IoU (down) and J&F (across) of at least"
        parts.append(f"{prose(title, style)}\n{grid}")
    for axis, axis_name in (("question_type", "question type"), ("source", "source")):
        groups = scores.groups.get(axis, {})
        if len(groups) > 1:
            counts = sample_counts(groups, columns_of(scores.preset), style)
            title = prose(f"{scores.name}, by {axis_name}", style)
            parts += [f"{title}\n{group_table(scores, axis, style)}", counts]
    return parts


def sample_counts(rows: Mapping[str, Mapping[str, Mean]], titles: Sequence[str], style: Style = "text") -> str:
    """Text with the numbers of samples of the means: a sentence if all were scored, else a table of the exceptions.

    Metrics of a run with equal counts share a line.
    """
    body: list[list[str]] = []
    whole: set[int] = set()
    fields = count_fields([mean for means in rows.values() for title in titles if (mean := means.get(title))])
    for name, means in rows.items():
        shared: dict[tuple[int, ...], list[str]] = {}
        for title in titles:
            if title in means and means[title].n_total:
                shared.setdefault(_counts(means[title], fields), []).append(title)
        for counts, same in shared.items():
            if counts[0] == counts[1]:
                whole.add(counts[0])
            else:
                body.append([name, ", ".join(same), *map(str, counts)])
    words = f"over {_numbers(whole)} samples, each with a prediction that could be read" if whole else ""
    if not body:
        return prose(f"each mean is {words}" if words else "", style)
    rest = f"\n\n{prose(f'each mean that is not listed is {words}', style)}" if words else ""
    return f"{prose('over how many samples', style)}\n{table(['', 'means', *fields], body, style)}{rest}"


def _numbers(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def count_fields(means: Iterable[Mean]) -> tuple[str, ...]:
    """Return the fields of `Mean` that a table with these means shows."""
    return RECORD_COUNTS if any(mean.n_unrecorded for mean in means) else COUNTS


def _counts(mean: Mean, fields: Sequence[str]) -> tuple[int, ...]:
    return tuple(getattr(mean, name) for name in fields)


def means_table(scores: Scores, style: Style = "text") -> str:
    """One row per metric: the mean, its 95 % interval, and the numbers of samples."""
    fields = count_fields(scores.metrics.values())
    body = [[title, cell(mean), *map(str, _counts(mean, fields))] for title, mean in scores.metrics.items()]
    return table(["metric", "mean", *fields], body, style)


def derived_line(scores: Scores) -> str:
    """Text of the derived numbers of a preset; empty if it has none."""
    numbers = [
        f"{name} {value_text(number.value, None, None, number.unit)}"
        for name, number in scores.derived.items()
        if number.n_total is None
    ]
    return f"{scores.name}: {', '.join(numbers)}" if numbers else ""


def ratio_table(scores: Scores, style: Style = "text") -> str:
    """One row per ratio of a preset: its value, the 95 % interval, and the number of samples; empty if it has none."""
    ratios = preset_named(scores.preset).ratios
    body = [
        [title, value_text(number.value, number.low, number.high, number.unit), str(number.n_total), ratio.definition]
        for title, ratio in ratios.items()
        if (number := scores.derived.get(title)) is not None
    ]
    return table(["ratio", "value", "n", "definition"], body, style) if body else ""


def joint_table(scores: Scores, style: Style = "text") -> str:
    """Table of the joint surface; empty if no sample has answer, spans and masks, or the preset has other metrics."""
    rows = [
        (right, in_time, in_space)
        for sample in scores.samples.values()
        if (right := sample.values.get("Acc")) is not None
        and (in_time := sample.values.get("mIoU")) is not None
        and (in_space := sample.values.get("J&F")) is not None
    ]
    grid = surface(rows) if "joint" in scores.metrics else None
    if grid is None:
        return ""
    body = [
        [str(threshold), *(f"{100 * share:.1f}" for share in shares)]
        for threshold, shares in zip(grid.times, grid.shares.tolist(), strict=True)
    ]
    return table(["IoU / J&F", *map(str, grid.spaces)], body, style)


def heading(preset: str, style: Style = "text") -> str:
    """Text of the preset's name and description."""
    text = f"preset {preset}: {preset_named(preset).description}"
    return f"### {text}" if style == "markdown" else prose(text, style)


def columns_of(preset: str) -> Sequence[str]:
    """The columns of a preset's main table: those that it states, or all of its metrics."""
    protocol = preset_named(preset)
    return protocol.columns or tuple(protocol.metrics)


def main_table(rows: Sequence[Scores], style: Style = "text", columns: Sequence[str] | None = None) -> str:
    """One row per run or baseline of one preset: the mean of each metric, with the 95 % interval in brackets."""
    columns = columns_of(rows[0].preset) if columns is None else columns
    presets = {scores.preset for scores in rows}
    if len(presets) > 1:
        raise ValueError(f"one table shows one preset, got rows of {', '.join(sorted(presets))}")
    titles = [title for title in columns if any(title in scores.metrics for scores in rows)]
    differs = any(scores.partial != rows[0].partial for scores in rows)
    body = [
        [
            f"{scores.name} ({scores.partial.samples} of {scores.partial.total})"
            if scores.partial and differs
            else scores.name,
            *(cell(scores.metrics.get(title)) for title in titles),
        ]
        for scores in rows
    ]
    return table(["", *titles], body, style)


def compact_table(rows: Sequence[Scores], style: CompactStyle, *, intervals: bool = True) -> str:
    """One row per run, for a paper or a spreadsheet: means, the best of each column in bold, no baselines.

    As CSV the ends of the intervals have columns of their own, and nothing is bold.
    """
    if len({scores.preset for scores in rows}) > 1:
        raise ValueError(f"one table shows one preset, got {', '.join(sorted({scores.preset for scores in rows}))}")
    columns = [title for title in columns_of(rows[0].preset) if any(title in scores.metrics for scores in rows)]
    if style == "csv":
        return _csv(rows, columns, intervals=intervals)
    metrics = preset_named(rows[0].preset).metrics
    best = {
        title: max(_rounded_mean(scores, title) for scores in rows) if metrics[title].is_ranked else NO_MEAN
        for title in columns
    }
    body = [
        [scores.name, *(_compact_cell(scores, title, best[title], style, intervals=intervals) for title in columns)]
        for scores in rows
    ]
    if style == "latex":
        return latex_table(["", *map(latex_text, columns)], [[latex_text(line[0]), *line[1:]] for line in body])
    return table(["", *columns], body, style)


NO_MEAN = (-math.inf, NONE)
"""Mean of a metric that does not apply, as `_rounded_mean` returns it."""


def _rounded_mean(scores: Scores, title: str) -> tuple[float, str]:
    """The mean as displayed: as a number to compare, and as text."""
    mean = scores.metrics.get(title)
    text = NONE if mean is None or mean.mean is None else display_text(mean.mean, mean.unit)
    return NO_MEAN if text == NONE else (float(text), text)


def _compact_cell(scores: Scores, title: str, best: tuple[float, str], style: CompactStyle, *, intervals: bool) -> str:
    rounded_mean = _rounded_mean(scores, title)
    text = rounded_mean[1]
    if rounded_mean == best and text != NONE:
        text = f"\\textbf{{{text}}}" if style == "latex" else f"**{text}**"
    interval = cell(scores.metrics.get(title)).partition(" ")[2]
    return f"{text} {interval}" if intervals and interval else text


def _csv(rows: Sequence[Scores], columns: Sequence[str], *, intervals: bool) -> str:
    ends = ("low", "high") if intervals else ()
    titles = [name for title in columns for name in (title, *(f"{title} {end}" for end in ends))]
    table: list[Sequence[object]] = [["run", "preset", "unit", "samples", "data_set_samples", *titles]]
    for scores in rows:
        means = [scores.metrics.get(title) for title in columns]
        values = [_csv_value(mean, end) for mean in means for end in ("mean", *ends)]
        total = scores.partial.total if scores.partial else scores.counts.samples
        head = [scores.name, scores.preset, unit_of_rows(scores), scores.counts.samples, total]
        table.append([*head, *values])
    return csv_text(table).rstrip("\n")


def unit_of_rows(scores: Scores) -> str:
    """Return the unit of a row of values: `percent`, with the titles in other units, `percent; images: images`."""
    units = {title: mean.unit for title, mean in scores.metrics.items() if mean.unit != "fraction"}
    return "; ".join(["percent", *(f"{title}: {unit}" for title, unit in units.items())])


def _csv_value(mean: Mean | None, end: str) -> str:
    value = getattr(mean, end, None)
    return "" if mean is None or value is None else f"{display_value(value, mean.unit):.4f}"


def group_table(scores: Scores, axis: str, style: Style = "text", columns: Sequence[str] | None = None) -> str:
    """Table with one row per value of a group such as `question_type`; empty if there is no such group."""
    columns = columns or columns_of(scores.preset)
    groups = scores.groups.get(axis, {})
    titles = [title for title in columns if title in scores.metrics]
    body = [
        [value, str(_num_samples(means)), *(cell(means.get(title)) for title in titles)]
        for value, means in groups.items()
    ]
    return table([axis, "n", *titles], body, style) if groups else ""


def counts_line(scores: Scores) -> str:
    """Line with the numbers of predicted, failed, missing and unparsed samples."""
    counts = scores.counts
    parts = [
        scores.partial.text if scores.partial else f"{counts.samples} samples",
        f"{counts.ok} predicted",
        f"{counts.failed} failed",
        f"{counts.missing} missing",
    ]
    for title, field in (("Acc", "answers"), ("mIoU", "spans"), ("J", "masks")):
        if title in scores.metrics and scores.metrics[title].n_unparsed:
            parts.append(f"{scores.metrics[title].n_unparsed} {field} unparsed")
    oddities = {
        "responses truncated (--max-tokens)": counts.truncated,
        "responses refused": counts.refused,
        "responses unparsed in part or whole": counts.unparsed,
        "duplicate predictions, the last one counts": counts.duplicates,
        "predictions for unknown samples": counts.unknown,
        "masks resized": counts.resized_masks,
        "masks beyond the video": counts.masks_beyond_video,
        "predictions with damaged masks": counts.bad_masks,
        "records or fields that could not be read": counts.malformed,
    }
    parts += [f"{number} {label}" for label, number in oddities.items() if number]
    return f"{scores.name}: {'; '.join(parts)}"


def opening_lines(rows: Sequence[Scores]) -> str:
    """First lines of a text with scores: parts of a data set, incomplete runs, protocols; empty if there are none."""
    protocols = {scores.name: protocol_text(scores) for scores in rows if scores.protocol}
    is_shared = len(set(protocols.values())) == 1 and len(protocols) == len({scores.name for scores in rows})
    texts = [next(iter(protocols.values()))] if is_shared else [f"{name}, {text}" for name, text in protocols.items()]
    return partial_line(rows) + "".join(f"{text}\n" for text in texts) + ("\n" if texts else "")


def protocol_text(scores: Scores) -> str:
    """Protocol of a run about episodes in one line, with the number of samples that are scored; "" = another run."""
    values = {"n": f"{scores.counts.samples}"} | scores.protocol
    return "protocol: " + ", ".join(f"{name} {value}" for name, value in values.items()) if scores.protocol else ""


def partial_line(rows: Sequence[Scores]) -> str:
    """First line of a text with scores of a part of a data set or of incomplete runs; empty if there are none."""
    texts = {scores.name: _scope(scores) for scores in rows}
    is_shared = len(set(texts.values())) == 1
    labels = [next(iter(texts.values()))] if is_shared else [text and f"{text}: {name}" for name, text in texts.items()]
    lines = [line for line in labels if line]
    return "".join(f"{line}\n" for line in lines) + ("\n" if lines else "")


def _scope(scores: Scores) -> str:
    """Text of the selected part of the data set, and of the number of predictions if some are missing; or empty."""
    counts, part = scores.counts, scores.partial.text if scores.partial else ""
    if not counts.missing:
        return part
    predicted = f"{counts.ok} predicted, {counts.failed} failed, {counts.missing} missing (score 0)"
    return f"{part}: {predicted}" if part else f"INCOMPLETE {counts.samples} samples: {predicted}"


def left_out_lines(scores: Scores) -> list[str]:
    """Lines with the metrics of the preset that are not scored, one line per reason."""
    by_reason: dict[str, list[str]] = {}
    for title, reason in scores.left_out.items():
        by_reason.setdefault(reason, []).append(title)
    return [f"{scores.name}: not scored: {', '.join(titles)}: {reason}" for reason, titles in by_reason.items()]


def _num_samples(means: dict[str, Mean]) -> int:
    return max((mean.n_total for mean in means.values()), default=0)
