"""Scores of official prediction files (`evqa score-official`): read as records, scored by the engine under presets.

Each format of `official.FORMATS` names the presets of its conventions, the official one first. Baselines are scored
under the first. A few formats have their own scores (`OfficialFormat.score`), with the reason in their module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from evqa import suggestions
from evqa.metrics import trivial
from evqa.metrics.means import Cell, Mean, mean_of
from evqa.metrics.presets import preset as preset_named
from evqa.official import FORMATS, OfficialFormat
from evqa.official.official_data import OfficialData
from evqa.official.scores import FileScores, FileTable, OfficialFiles
from evqa.schema import LiteralAnswer, Prediction, Sample, Spans
from evqa.scoring import baselines
from evqa.scoring.engine import PredictionReport, System, score
from evqa.scoring.results import Scores


class OfficialScores(NamedTuple):
    """Scores of an official prediction file."""

    file_scores: FileScores
    """Scores in the layout of `evqa score-official --out`."""
    scores: Sequence[Scores] | None
    """Records of `scores.json`: predictions under each preset, and baselines; None = the format has its own scores."""


def score_file(name: str, files: OfficialFiles) -> FileScores:
    """Scores of a prediction file of a format, in the layout of `evqa score-official --out`; see `official_scores`."""
    return official_scores(name, files).file_scores


def official_scores(name: str, files: OfficialFiles) -> OfficialScores:
    """Scores of a prediction file of a format.

    Args:
        name: Key of `FORMATS`.
        files: Predictions, ground truth and third file.

    Raises:
        ValueError: The format is unknown, a file cannot be read or has another format, or there is no question to
            score.
    """
    row = _format(name, files)
    if row.score is not None:
        file_scores = row.score(files)
        if not file_scores.samples:
            raise _nothing_to_score(name, files, file_scores.notes)
        return OfficialScores(file_scores, None)
    data = read_official(name, files)
    source = f"{files.predictions}: {name} ({row.source}), {len(data.predictions)} predictions"
    scores = scores_of_file(name, data, source)
    return OfficialScores(_in_layout(name, data, scores), scores)


def read_official(name: str, files: OfficialFiles) -> OfficialData:
    """Ground truth and predictions of a format as records; errors as those of `score_file`."""
    row = _format(name, files)
    if row.read is None:
        formats = ", ".join(key for key, format_row in FORMATS.items() if format_row.read is not None)
        raise ValueError(f"{name} files have their own scores and are not read as records; formats that are: {formats}")
    data = row.read(files)
    if not data.dataset.samples:
        raise _nothing_to_score(name, files, data.notes)
    return data


def scores_of_file(name: str, data: OfficialData, source: str = "") -> list[Scores]:
    """Scores of official data: the predictions under each preset of the format, then its baselines under the first."""
    presets = list(FORMATS[name].presets.values())
    report = PredictionReport(source=source)
    predictions = System("predictions", predictions=data.get, gives=data.gives, report=lambda _: report)
    results = score(data.dataset, [predictions], presets)
    trivial_results = score(data.dataset, baseline_systems(data, presets[0]), presets[:1])
    return results + [scores for scores in trivial_results if scores.metrics]


def _in_layout(name: str, data: OfficialData, results: Sequence[Scores]) -> FileScores:
    row = FORMATS[name]
    conventions = {preset: convention for convention, preset in row.presets.items()}
    tables = [
        _table(scores, conventions[scores.preset], row, data if place < len(row.presets) else None)
        for place, scores in enumerate(results)
    ]
    nothing: Mapping[str, Cell] = {}
    cells = data.cells or [nothing] * len(data.dataset.samples)
    return FileScores(
        format=name,
        conventions={
            convention: f"{convention}: {preset_named(preset).description}"
            for convention, preset in row.presets.items()
        },
        tables=tables,
        notes=data.notes,
        samples={
            key: {row.title(title): value for title, value in scores.values.items()}
            | {title: cell.value for title, cell in extra.items()}
            for (key, scores), extra in zip(results[0].samples.rows(), cells, strict=True)
        },
    )


def _format(name: str, files: OfficialFiles) -> OfficialFormat:
    if name not in FORMATS:
        raise suggestions.unknown_name_message("format", name, FORMATS)
    row = FORMATS[name]
    if files.gold is not None and not row.gold:
        raise ValueError(f"{name} files hold their ground truth: leave {files.gold} out, which is not read")
    if files.extra is not None and not row.extra:
        raise ValueError(f"{name} has no third file: leave --extra {files.extra} out, which is not read")
    return row


def _nothing_to_score(name: str, files: OfficialFiles, notes: Sequence[str]) -> ValueError:
    reason = notes[0] if notes else "it holds no record"
    return ValueError(f"{files.gold or files.predictions} has no question of {name} to score: {reason}")


def _table(scores: Scores, convention: str, row: OfficialFormat, data: OfficialData | None) -> FileTable:
    """Table of `FileScores`; `data`: additional numbers of the predictions."""
    numbers: Mapping[str, float | None] = {}
    metrics, groups = scores.metrics, scores.groups.get("question_type", {})
    if data is not None and data.numbers is not None:
        numbers = data.numbers(scores.preset, scores.samples.columns)
    cells = data.cells if data is not None else ()
    samples = () if data is None else data.dataset.samples
    by_group = {
        group: _means([(s, c) for s, c in zip(samples, cells, strict=False) if s.question_type == group])
        for group in groups
    }
    return FileTable(
        name=scores.name,
        convention=convention,
        metrics=_titled(metrics, row) | _means(list(zip(samples, cells, strict=False))),
        numbers=dict(numbers),
        groups={group: _titled(means, row) | by_group[group] for group, means in groups.items()},
    )


def _titled(means: Mapping[str, Mean], row: OfficialFormat) -> dict[str, Mean]:
    return {row.title(title): mean for title, mean in means.items()}


def _means(rows: Sequence[tuple[Sample, Mapping[str, Cell]]]) -> dict[str, Mean]:
    titles = rows[0][1] if rows else ()
    return {title: mean_of([(sample.video_id, cells[title]) for sample, cells in rows]) for title in titles}


# Baselines


def baseline_systems(data: OfficialData, preset: str) -> list[System]:
    """Trivial baselines for which the ground truth has the required fields and the preset has metrics."""
    samples = data.dataset.samples
    needs = {metric.needs for metric in preset_named(preset).metrics.values()}
    systems: list[System] = []
    if ("spans",) in needs and all(sample.duration for sample in samples):
        systems += [baselines.span_system(name, *part) for name, part in trivial.PARTS.items()]
        start, end = baselines.best_constant_span(data.dataset)
        name = f"constant span fitted on this ground truth ({start:.2f} to {end:.2f})"
        systems.append(baselines.span_system(name, start, end))
    systems += [
        System(name, predict=partial(_constant_spans, spans=spans), gives=frozenset({"spans"}))
        for name, spans in data.constant_spans.items()
    ]
    if ("answer",) in needs and all(len(sample.options) > 1 for sample in samples):
        systems += baselines.chances(data.dataset)
    return systems + _most_frequent(samples)


def _constant_spans(sample: Sample, *, spans: Spans) -> Prediction:
    return Prediction.model_construct(sample_id=sample.id, status="ok", spans=spans)


def _most_frequent(samples: Sequence[Sample]) -> list[System]:
    """Most frequent answer: option or text."""
    texts = Counter(text for sample in samples if (text := _correct_text(sample)) is not None).most_common(1)
    if not texts:
        return []
    text = texts[0][0]
    name = f"most frequent answer of this ground truth ({text})"
    return [System(name, predict=partial(_constant_text, text=text), gives=frozenset({"answer", "response"}))]


def _correct_text(sample: Sample) -> str | None:
    if sample.answer is not None and sample.answer < len(sample.options):
        return sample.options[sample.answer]
    return sample.response


def _constant_text(sample: Sample, *, text: str) -> Prediction:
    answer = sample.options.index(text) if text in sample.options else len(sample.options)
    return Prediction.model_construct(
        sample_id=sample.id, status="ok", answer=answer, literal=LiteralAnswer(answer=text)
    )
