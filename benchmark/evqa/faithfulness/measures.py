"""Measures of faithfulness from the records of a run and of its conditions; `docs/faithfulness.md` has the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evqa import datasets
from evqa.datasets import Dataset
from evqa.faithfulness.condition_runs import FaithfulnessRun
from evqa.faithfulness.conditions import ConditionSet, FaithfulnessSettings, option_order
from evqa.faithfulness.results import (
    ConditionCounts,
    Faithfulness,
    Measure,
    MeasureTable,
    Population,
    QualitySplit,
    QuestionResult,
    Verdict,
)
from evqa.metrics.case import response_of
from evqa.metrics.intervals import (
    Difference,
    Interval,
    cluster_interval,
    paired_difference,
    paired_ratio_difference,
    ratio_interval,
)
from evqa.metrics.means import numbered
from evqa.metrics.open_answers import answer_words
from evqa.runs import locate
from evqa.runs.run_folder import PREDICTIONS
from evqa.schema import LETTERS, Prediction, Sample
from evqa.scoring.engine import System, score
from evqa.scoring.results import Scores

FULL = "full"
"""The run itself."""

ACCURACY_PRESET = "agent"
"""Preset whose accuracy covers multiple choice and open questions."""

QUALITY_PRESET = "strict"

QUALITIES = {"mIoU": 0.5, "J&F": 0.5}
"""Metric of evidence quality -> threshold from which on evidence is good."""

MARGIN = 0.05
"""Accuracy that counts as no difference in the verdicts."""


class DifferenceSpec(NamedTuple):
    """Difference of the accuracies of two conditions."""

    first: str
    second: str
    definition: str


DIFFERENCES: dict[str, DifferenceSpec] = {
    "necessity": DifferenceSpec("removed", FULL, "accuracy lost without the evidence"),
    "random removal": DifferenceSpec("random", FULL, "accuracy lost without random evidence of equal size"),
    "contrast": DifferenceSpec("removed", "random", "necessity less that of random evidence"),
    "sufficiency": DifferenceSpec("no-video", "only", "accuracy gained by the evidence alone over no video"),
    "context loss": DifferenceSpec("only", FULL, "accuracy lost where only the evidence is visible"),
    "video use": DifferenceSpec("no-video", FULL, "accuracy gained by the video"),
    "order loss": DifferenceSpec("shuffled", FULL, "accuracy lost where the options are shuffled"),
}
"""Difference -> second condition minus first one."""


@dataclass
class ConditionAnswers:
    """Answers of a condition for all samples of a run."""

    right: NDArray[np.float64]
    """[N], 1 = right."""
    texts: list[str | None]
    """Answers, comparable between conditions; None = none that could be read."""
    probabilities: NDArray[np.float64]
    """[N], probability of the option that the run chose; NaN = not recorded."""
    predictions: Mapping[str, Prediction] = field(default_factory=dict[str, Prediction])


def evaluate_conditions(
    source: FaithfulnessRun, conditions: ConditionSet, settings: FaithfulnessSettings
) -> Faithfulness:
    """Measures of a run from its records and those of the runs of its conditions."""
    dataset = source.dataset
    accuracy, quality = _scores(source.predictions, dataset, [ACCURACY_PRESET, QUALITY_PRESET])
    choices = {key: prediction.answer for key, prediction in source.predictions.items()}
    full = _answers(dataset.samples, source.predictions, accuracy, choices)
    raw = {name: _condition_answers(source, conditions, name, choices, settings) for name in conditions.samples}
    answers = {FULL: full, **{name: _completed(name, raw, full, conditions, dataset.samples) for name in raw}}
    population = _PopulationTable(source, conditions, _draw_groups(answers))
    types = sorted({sample.question_type for sample in dataset.samples if sample.question_type})
    groups: list[str | None] = [None, *types] if len(types) > 1 else [None]
    populations: tuple[Population, ...] = ("cited", "all")
    tables = [population.table(name, kind) for kind in groups for name in populations]
    kept_tables = tuple(table for table in tables if table.n or table.question_type is None)
    statuses = [_status(source.predictions.get(sample.id)) for sample in dataset.samples]
    overlaps = list(conditions.overlap.values())
    return Faithfulness(
        run=str(source.run),
        dataset=dataset.name,
        model=source.config.model,
        method=source.method,
        settings={
            "evidence": settings.evidence,
            "parts": settings.parts,
            "fill": settings.fill,
            "draws": settings.draws,
            "seed": settings.seed,
        },
        n=len(dataset.samples),
        n_cited=len(dataset.samples) - len(conditions.uncited),
        n_uncited=len(conditions.uncited),
        n_failed=sum(status != "ok" for status in statuses),
        n_bad_masks=len(conditions.bad_masks),
        n_unreadable=len(conditions.unreadable),
        mean_overlap=float(np.mean(overlaps)) if overlaps else None,
        conditions={name: _counts(name, row.predictions, conditions) for name, row in raw.items()},
        tables=kept_tables,
        qualities=_quality_splits(dataset, quality, full),
        necessary=_necessary(kept_tables[0]),
        sufficient=_sufficient(kept_tables[0]),
        questions=_questions(source, conditions, answers, quality),
    )


# Answers


def _scores(predictions: Mapping[str, Prediction], dataset: Dataset, presets: Sequence[str]) -> list[Scores]:
    return score(dataset, [System("answers", predictions=lambda sample: predictions.get(sample.id))], presets)


def _answers(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    scores: Scores,
    choices: Mapping[str, int | None],
    orders: Mapping[str, Sequence[int]] | None = None,
) -> ConditionAnswers:
    """Answers for the samples of a run; a missing or failed prediction is wrong.

    Args:
        samples: samples of the run.
        predictions: sample id -> prediction.
        scores: scores of the predictions under `ACCURACY_PRESET`.
        choices: sample id -> option that the run chose.
        orders: sample id -> order of shuffled options; None = that of the sample.
    """
    right = np.zeros(len(samples))
    texts: list[str | None] = []
    probabilities = np.full(len(samples), np.nan)
    for place, sample in enumerate(samples):
        row = scores.samples.get(sample.id)
        right[place] = float((row.values.get("Acc") if row else None) or 0.0)
        prediction = predictions.get(sample.id)
        order = list((orders or {}).get(sample.id, range(len(sample.options))))
        texts.append(None if prediction is None else _answer_text(prediction, sample, order))
        option = choices.get(sample.id)
        if prediction is not None and option is not None:
            probabilities[place] = _probability(prediction, order.index(option))
    return ConditionAnswers(right, texts, probabilities, predictions)


def _answer_text(prediction: Prediction, sample: Sample, order: Sequence[int]) -> str | None:
    """Answer as a letter of the sample's own options, or as normalised words; None = none that could be read."""
    if prediction.status == "failed":
        return None
    if sample.options:
        return None if prediction.answer is None else LETTERS[order[prediction.answer]]
    words = answer_words(response_of(prediction) or "")
    return " ".join(words) or None


def _probability(prediction: Prediction, option: int) -> float:
    """Probability of an option among those whose log-probability is recorded; NaN = not recorded."""
    rows = [turn.option_logprobs for turn in prediction.turns if turn.option_logprobs]
    if prediction.status == "failed" or not rows or LETTERS[option] not in rows[-1]:
        return float("nan")
    values = np.exp(np.array(list(rows[-1].values())) - max(rows[-1].values()))
    return float(values[list(rows[-1]).index(LETTERS[option])] / values.sum())


def _condition_answers(
    source: FaithfulnessRun,
    conditions: ConditionSet,
    name: str,
    choices: Mapping[str, int | None],
    settings: FaithfulnessSettings,
) -> ConditionAnswers:
    """Answers of the run of a condition; samples that it was not asked about are wrong here."""
    samples = source.dataset.samples
    path = source.folder / name / PREDICTIONS
    if not conditions.samples[name] or not path.is_file():
        return ConditionAnswers(np.zeros(len(samples)), [None] * len(samples), np.full(len(samples), np.nan))
    dataset = datasets.load(str(conditions.path(name)))
    file = locate.predictions_of(source.folder / name, dataset)
    predictions = {sample.id: record for sample in dataset.samples if (record := file.get(sample)) is not None}
    (scores,) = _scores(predictions, dataset, [ACCURACY_PRESET])
    orders = {sample.id: option_order(sample, settings.seed) for sample in samples} if name == "shuffled" else None
    return _answers(samples, predictions, scores, choices, orders)


def _completed(
    name: str,
    raw: Mapping[str, ConditionAnswers],
    full: ConditionAnswers,
    conditions: ConditionSet,
    samples: Sequence[Sample],
) -> ConditionAnswers:
    """Answers with those of the samples that the condition does not change: without evidence, or without options."""
    answers = raw[name]
    substitute = raw.get("no-video") if name == "only" else full
    if substitute is None or name == "no-video":
        return answers
    ids = {sample.id for sample in conditions.samples[name]}
    is_unchanged = [
        sample.id not in ids and (sample.id in conditions.uncited or (name == "shuffled" and len(sample.options) < 2))
        for sample in samples
    ]
    texts = zip(is_unchanged, substitute.texts, answers.texts, strict=True)
    return replace(
        answers,
        right=np.where(is_unchanged, substitute.right, answers.right),
        texts=[substituted if unchanged else text for unchanged, substituted, text in texts],
        probabilities=np.where(is_unchanged, substitute.probabilities, answers.probabilities),
    )


def _draw_groups(answers: Mapping[str, ConditionAnswers]) -> dict[str, list[ConditionAnswers]]:
    """Condition -> answers of its runs: one, or one for each random draw."""
    groups: dict[str, list[ConditionAnswers]] = {}
    for name, row in answers.items():
        groups.setdefault("random" if name.startswith("random-") else name, []).append(row)
    return groups


# Measures


class _PopulationTable:
    """Tables of measures of populations of the samples of a run."""

    def __init__(
        self,
        source: FaithfulnessRun,
        conditions: ConditionSet,
        groups: Mapping[str, Sequence[ConditionAnswers]],
    ) -> None:
        samples = source.dataset.samples
        self._groups = groups
        self._videos = numbered([sample.video_id for sample in samples])
        self._is_cited = np.array([sample.id not in conditions.uncited for sample in samples], np.bool_)
        self._types = np.array([sample.question_type or "" for sample in samples])
        self._is_failed = np.array([_status(source.predictions.get(sample.id)) != "ok" for sample in samples], np.bool_)
        full = groups[FULL][0]
        self._right = _means(groups, lambda row: row.right)
        self._flips = _means(groups, lambda row: _differs(row, full))
        self._lost = _means(groups, lambda row: (full.right > row.right).astype(np.float64))
        self._gained = _means(groups, lambda row: (row.right > full.right).astype(np.float64))

    def table(self, population: Population, question_type: str | None) -> MeasureTable:
        """Measures of a population and question type."""
        rows = np.ones(len(self._videos), np.bool_) if population == "all" else self._is_cited.copy()
        if question_type is not None:
            rows &= self._types == question_type
        changed = [name for name in self._right if name != FULL]
        return MeasureTable(
            population=population,
            question_type=question_type,
            n=int(rows.sum()),
            n_failed=int((rows & self._is_failed).sum()),
            accuracy={name: self._mean(values, rows) for name, values in self._right.items()},
            flips={name: self._mean(self._flips[name], rows) for name in changed},
            lost={name: self._mean(self._lost[name], rows) for name in changed},
            gained={name: self._mean(self._gained[name], rows) for name in changed},
            differences={
                title: self._paired(self._right[spec.first], self._right[spec.second], rows)
                for title, spec in DIFFERENCES.items()
                if spec.first in self._right and spec.second in self._right
            },
            probabilities=self._probabilities(rows),
        )

    def _mean(self, values: NDArray[np.float64], rows: NDArray[np.bool_]) -> Measure:
        if not rows.any():
            return Measure(value=None, n=0)
        selected_values = values[rows]
        interval = cluster_interval(selected_values, self._videos[rows])
        return _measure(float(selected_values.mean()), interval, len(selected_values))

    def _paired(self, first: NDArray[np.float64], second: NDArray[np.float64], rows: NDArray[np.bool_]) -> Measure:
        """Mean of the second minus the first, over the same samples."""
        gain = (
            paired_difference(first[rows].tolist(), second[rows].tolist(), self._videos[rows]) if rows.any() else None
        )
        return _gain(gain, int(rows.sum()))

    def _probabilities(self, rows: NDArray[np.bool_]) -> dict[str, Measure]:
        """Comprehensiveness and sufficiency as in ERASER, over the samples with probabilities in both conditions."""
        measures: dict[str, Measure] = {}
        full = self._groups[FULL][0].probabilities
        for title, name in (("comprehensiveness", "removed"), ("sufficiency", "only"), ("random", "random")):
            if name not in self._groups:
                continue
            with np.errstate(invalid="ignore"):
                values = np.mean([row.probabilities for row in self._groups[name]], axis=0)
            recorded = rows & ~np.isnan(full) & ~np.isnan(values)
            if recorded.any():
                measures[title] = self._paired(values, full, recorded)
        return measures


def _means(
    groups: Mapping[str, Sequence[ConditionAnswers]], values: Callable[[ConditionAnswers], NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Condition -> values of its answers, the mean of the random draws."""
    return {name: np.mean([values(row) for row in group], axis=0) for name, group in groups.items()}


def _measure(value: float, interval: Interval | None, n: int) -> Measure:
    low, high = interval or (None, None)
    return Measure(value=value, low=low, high=high, n=n)


def _gain(gain: Difference | None, n: int) -> Measure:
    """A difference as a measure."""
    if gain is None:
        return Measure(value=None, n=n)
    return Measure(value=gain.mean, low=gain.low, high=gain.high, p=gain.p, n=n)


def _differs(answers: ConditionAnswers, full: ConditionAnswers) -> NDArray[np.float64]:
    return np.array([first != second for first, second in zip(answers.texts, full.texts, strict=True)], np.float64)


def _quality_splits(dataset: Dataset, scores: Scores, full: ConditionAnswers) -> tuple[QualitySplit, ...]:
    """Accuracy given good and bad evidence, for each metric with ground truth."""
    splits: list[QualitySplit] = []
    videos = numbered([sample.video_id for sample in dataset.samples])
    for metric, threshold in QUALITIES.items():
        values = [scores.samples[sample.id].values.get(metric) for sample in dataset.samples]
        rows = np.array([value is not None for value in values], np.bool_)
        if not rows.any() or not any(_has_evidence(record, metric) for record in full.predictions.values()):
            continue
        good = np.array([float((value or 0.0) >= threshold) for value in values])[rows]
        splits.append(_quality_split(metric, threshold, good, full.right[rows], videos[rows]))
    return tuple(splits)


def _has_evidence(prediction: Prediction, metric: str) -> bool:
    """Whether a prediction has evidence of the kind of a metric; without any, the model was not asked for it."""
    if metric == "J&F":
        return prediction.tracks is not None or prediction.mask_folder is not None
    return prediction.spans is not None


def _quality_split(
    metric: str,
    threshold: float,
    good: NDArray[np.float64],
    right: NDArray[np.float64],
    videos: NDArray[np.int64],
) -> QualitySplit:
    bad = 1 - good
    gain = paired_ratio_difference((right * bad, bad), (right * good, good), videos)
    return QualitySplit(
        metric=metric,
        threshold=threshold,
        n_good=int(good.sum()),
        n_bad=int(bad.sum()),
        good=_ratio(right, good, videos),
        bad=_ratio(right, bad, videos),
        difference=_gain(gain, len(good)),
    )


def _ratio(right: NDArray[np.float64], part: NDArray[np.float64], videos: NDArray[np.int64]) -> Measure:
    """Accuracy over the samples that are 1 in `part`."""
    if not part.any():
        return Measure(value=None, n=0)
    value = float((right * part).sum() / part.sum())
    return _measure(value, ratio_interval(right * part, part, videos), int(part.sum()))


# Verdicts


def _necessary(table: MeasureTable) -> Verdict:
    contrast = table.differences.get("contrast") or table.differences.get("necessity")
    if contrast is None or contrast.low is None or contrast.high is None:
        return "not shown"
    if contrast.low > 0:
        return "yes"
    return "no" if contrast.high <= MARGIN else "not shown"


def _sufficient(table: MeasureTable) -> Verdict:
    gain, loss = table.differences.get("sufficiency"), table.differences.get("context loss")
    if gain is None or loss is None or gain.low is None or loss.high is None:
        return "not shown"
    if gain.low > 0 and loss.high <= MARGIN:
        return "yes"
    is_useless = gain.high is not None and gain.high <= MARGIN
    is_short = loss.low is not None and loss.low > MARGIN
    return "no" if is_useless or is_short else "not shown"


# Counts and questions


def _status(prediction: Prediction | None) -> str:
    return "missing" if prediction is None else prediction.status


def _counts(name: str, predictions: Mapping[str, Prediction], conditions: ConditionSet) -> ConditionCounts:
    records = [(sample, predictions.get(sample.id)) for sample in conditions.samples[name]]
    statuses = [_status(record) for _, record in records]
    num_unread = sum(
        record.answer is None for sample, record in records if record and record.status == "ok" and sample.options
    )
    return ConditionCounts(
        num_asked=len(records),
        ok=statuses.count("ok"),
        failed=statuses.count("failed"),
        missing=statuses.count("missing"),
        unanswered=num_unread,
        nothing_left=len(conditions.nothing_left.get(name, ())),
    )


def _questions(
    source: FaithfulnessRun, conditions: ConditionSet, answers: Mapping[str, ConditionAnswers], scores: Scores
) -> dict[str, QuestionResult]:
    rows: dict[str, QuestionResult] = {}
    for place, sample in enumerate(source.dataset.samples):
        values = scores.samples[sample.id].values
        rows[sample.id] = QuestionResult.model_validate(
            {
                "video_id": sample.video_id,
                "question_type": sample.question_type,
                "is_cited": sample.id not in conditions.uncited,
                "status": _status(source.predictions.get(sample.id)),
                "answers": {name: row.texts[place] for name, row in answers.items()},
                "right": {name: bool(row.right[place]) for name, row in answers.items()},
                "quality": {metric: values[metric] for metric in QUALITIES if metric in values},
            }
        )
    return rows
