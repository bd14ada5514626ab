"""Scores of a run: every metric of a preset on every sample, means with intervals, what went wrong.

Every sample is in every denominator that it has gold for; a prediction that is missing, failed or unreadable
counts 0 and is counted apart. Each sample and its prediction are read, scored and let go, and masks compared frame by
frame: what is kept is a number a metric and sample (`metrics.means.Column`). Several processes give the same numbers
as one.
"""

from __future__ import annotations

import functools
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evqa import datasets
from evqa.datasets import Dataset
from evqa.metrics.case import GoldField, Metric, gold_has
from evqa.metrics.means import DOES_NOT_APPLY, Column, Mean, mean_of_column, numbered
from evqa.metrics.presets import preset as preset_named
from evqa.schema import Prediction, Sample
from evqa.scoring import parallel
from evqa.scoring.cases import MetricValues, PredictionHealth, compare_samples, num_frames_of
from evqa.scoring.results import STATUSES, PredictionCounts, SampleTable, Scores, ScoreValue

MAX_GROUPS = 50
"""A tag with more values than this tells samples apart rather than grouping them; it makes no groups."""

MAX_BAD_MASKS = 1000
"""So many samples with a mask that cannot be decoded are named; all are counted."""


class System(NamedTuple):
    """Who predicts, in a table of scores."""

    name: str
    predict: Callable[[Sample], Prediction | None] | None = None
    """Makes the prediction on demand, in another process where there are several; None = it is given."""
    gives: frozenset[GoldField] | None = None
    """What predictions hold; metrics that need more are left out. None = anything."""


class ScoringItem(NamedTuple):
    """One sample to score."""

    place: int
    """In the data set."""
    sample: Sample
    prediction: Prediction | None
    """The one that is given for it."""
    lying: Path | None = None
    """Folder of mask files beside an original's file, for this sample, whatever the file says."""


def score(dataset: Dataset, predictions: Iterable[Prediction], preset: str = "strict", *, name: str = "run") -> Scores:
    """Scores of a run under one preset. Of several predictions for a sample the last one counts."""
    return score_presets(dataset, predictions, [preset], name=name)[0]


def score_presets(
    dataset: Dataset, predictions: Iterable[Prediction], presets: Sequence[str], *, name: str = "run", workers: int = 1
) -> list[Scores]:
    """As `score`, for several presets at the cost of one: masks are compared once.

    Predictions are scored in the order they come, and none is kept. With more than one worker that many processes
    score them; the results do not depend on it.
    """
    tally: Counter[str] = Counter()
    tasks = _given(dataset.samples, predictions, tally)
    found = _score(dataset, [System(name)], presets, tasks, workers)
    return [scores.model_copy(update={"counts": scores.counts.model_copy(update=tally)}) for scores in found]


def score_with(
    dataset: Dataset,
    predict: Callable[[Sample], Prediction | None],
    presets: Sequence[str],
    *,
    row: System | str = "run",
    workers: int = 1,
    lying: Callable[[Sample], Path | None] = lambda _: None,
) -> list[Scores]:
    """As `score_presets`, with a prediction looked up for each sample in the data set's order.

    `lying`: the folder of mask files that an original's evaluator scores for a sample, whatever its file says.
    """
    tasks = (ScoringItem(place, sample, predict(sample), lying(sample)) for place, sample in enumerate(dataset.samples))
    return _score(dataset, [System(row) if isinstance(row, str) else row], presets, tasks, workers)


def score_each(dataset: Dataset, rows: Sequence[System], presets: Sequence[str], *, workers: int = 1) -> list[Scores]:
    """As `score_presets`, with predictions made on demand; gold masks are read once for all rows.

    One entry per row and preset: all presets of the first row, then those of the next.
    """
    tasks = (ScoringItem(place, sample, None) for place, sample in enumerate(dataset.samples))
    return _score(dataset, rows, presets, tasks, workers)


def score_cells(dataset: Dataset, cells: Callable[[Sample], MetricValues], *, name: str, preset: str) -> Scores:
    """Scores from the cells of each sample, whose predictions count as made."""
    gold, columns = _SampleIndex(len(dataset.samples)), _Columns(len(dataset.samples))
    for place, sample in enumerate(dataset.samples):
        gold.put(place, sample)
        columns.put(place, cells(sample))
    return _summarise(dataset, gold, columns, _StatusTable(len(dataset.samples)), name=name, preset=preset)


# What is kept of all samples


class _SampleIndex:
    """Id, video and groups of each sample."""

    def __init__(self, length: int) -> None:
        self.ids, self.videos = [""] * length, [""] * length
        self._names: dict[str, str] = {}
        self._groups: dict[str, dict[str, array[int]] | None] = {}

    def put(self, place: int, sample: Sample) -> None:
        self.ids[place] = sample.id
        self.videos[place] = self._names.setdefault(sample.video_id, sample.video_id)
        axes = {**sample.metadata, "question_type": sample.question_type, "source": sample.source}
        for axis, value in axes.items():
            groups = self._groups.setdefault(axis, {})
            if value is None or groups is None:
                continue
            groups.setdefault(value, array("q")).append(place)
            if len(groups) > MAX_GROUPS:
                self._groups[axis] = None

    def groups(self) -> dict[str, dict[str, NDArray[np.int64]]]:
        """Axis -> value -> places of the samples that have it."""
        return {
            axis: {value: np.sort(np.frombuffer(places, np.int64)) for value, places in sorted(groups.items())}
            for axis, groups in self._groups.items()
            if groups
        }


class _Columns:
    """The metrics of one row under one preset."""

    def __init__(self, length: int) -> None:
        self.by_title: dict[str, Column] = {}
        self.unknown: set[str] = set()
        """Metrics that cannot be told for a sample, hence for none."""
        self._length, self._empty = length, Column.empty(length)

    def put(self, place: int, cells: MetricValues) -> None:
        for title, cell in cells.items():
            if cell is None:
                self.unknown.add(title)
                self.by_title.pop(title, None)
            if cell is None or title in self.unknown:
                continue
            column = self.by_title.setdefault(title, self._empty)
            if column is self._empty and cell != DOES_NOT_APPLY:
                column = self.by_title[title] = Column.of_length(self._length)
            if column is not self._empty:
                column.put(place, cell)

    def means(self, videos: NDArray[np.int64], places: NDArray[np.int64] | None = None) -> dict[str, Mean]:
        if places is None:
            return {title: mean_of_column(column, videos) for title, column in self.by_title.items()}
        return {title: mean_of_column(column.take(places), videos[places]) for title, column in self.by_title.items()}


class _StatusTable:
    """What the predictions of one row were like."""

    def __init__(self, length: int) -> None:
        self.statuses = np.zeros(length, np.uint8)
        self._counts = np.zeros((5, length), np.int32)
        self._bad: dict[int, str | None] = {}

    def put(self, place: int, facts: PredictionHealth) -> None:
        self.statuses[place] = STATUSES.index(facts.status)
        replies = facts.is_truncated, facts.is_refused, facts.is_unparsed
        self._counts[:, place] = facts.num_resized, facts.num_beyond, *replies
        self._bad.pop(place, None)
        if facts.bad_mask is not None:
            self._bad[place] = facts.bad_mask if len(self._bad) < MAX_BAD_MASKS else None

    def bad_masks(self) -> list[tuple[int, str]]:
        """(place, reason) of the first predictions with a mask that cannot be decoded."""
        return sorted((place, reason) for place, reason in self._bad.items() if reason is not None)

    def counts(self) -> PredictionCounts:
        per_status = dict(zip(STATUSES, np.bincount(self.statuses, minlength=len(STATUSES)).tolist(), strict=True))
        num_resized, num_beyond, truncated, refused, unparsed = self._counts.sum(axis=1, dtype=np.int64).tolist()
        return PredictionCounts(
            samples=len(self.statuses),
            **per_status,
            resized_masks=num_resized,
            masks_beyond_video=num_beyond,
            bad_masks=len(self._bad),
            truncated=truncated,
            refused=refused,
            unparsed=unparsed,
        )


def _summarise(
    dataset: Dataset, gold: _SampleIndex, columns: _Columns, facts: _StatusTable, *, name: str, preset: str
) -> Scores:
    videos = numbered(gold.videos)
    metrics = columns.means(videos)
    numbers = {title: of(metrics) for title, of in preset_named(preset).derived.items()}
    left_out = dict.fromkeys(sorted(columns.unknown), _unknown_lengths(dataset)) if columns.unknown else {}
    infinite = [title for title, number in numbers.items() if number is not None and not math.isfinite(number)]
    left_out |= dict.fromkeys(infinite, "it is infinite, since one of the means that it is made of is 1")
    return Scores(
        name=name,
        dataset=dataset.name,
        data_sha256=dataset.sha256,
        preset=preset,
        metrics=metrics,
        derived={
            title: ScoreValue(value=number)
            for title, number in numbers.items()
            if number is not None and math.isfinite(number)
        },
        left_out=left_out,
        groups={
            axis: {value: columns.means(videos, places) for value, places in groups.items()}
            for axis, groups in gold.groups().items()
        },
        samples=SampleTable(gold.ids, gold.videos, facts.statuses, columns.by_title),
        counts=facts.counts(),
        problems=tuple(f"{gold.ids[place]}: masks: {reason}"[:1000] for place, reason in facts.bad_masks()),
    )


def _unknown_lengths(dataset: Dataset) -> str:
    """Why means over the frames of videos cannot be told, and what to do."""
    unknown = [each for each in dataset.samples if gold_has(each, "masks") and num_frames_of(each) is None]
    return (
        f"the number of frames of {len(unknown)} videos is unknown (the video of sample {unknown[0].id}, "
        f"{unknown[0].video}, is not there or cannot be read, and the data set gives no num_frames); what predictions "
        f"say of it does not count: {datasets.download_advice(dataset.name)}"
    )


# All samples


class ScoringJob(NamedTuple):
    """What is done to every sample."""

    rows: tuple[System, ...]
    presets: tuple[str, ...]
    absent: frozenset[GoldField]
    """What no sample of the data set has gold for, of the parts that few data sets have."""


class ScoringResult(NamedTuple):
    """One row on one sample."""

    cells: tuple[MetricValues, ...]
    """One per preset."""
    facts: PredictionHealth


Chunk = list[ScoringItem]

OPTIONAL_GOLD: tuple[GoldField, ...] = ("objects", "boxes")
"""Parts whose metrics are shown only where the data set has gold for them."""

CHUNKS_PER_WORKER = 8
"""Chunks that each process gets at least, so that none waits long for the last."""

MAX_CHUNK_SAMPLES = 64
MAX_CHUNK_MASKS = 2048
"""Predicted masks in a chunk, beyond which no sample is added to it."""


def _score(
    dataset: Dataset, rows: Sequence[System], presets: Sequence[str], tasks: Iterable[ScoringItem], workers: int
) -> list[Scores]:
    length = len(dataset.samples)
    job = ScoringJob(tuple(rows), tuple(presets), missing_gold(dataset))
    gold, is_seen = _SampleIndex(length), bytearray(length)
    columns = [[_Columns(length) for _ in presets] for _ in rows]
    facts = [_StatusTable(length) for _ in rows]
    title = rows[0].name if len(rows) == 1 else "baselines"
    with tqdm(total=length, desc=title, unit="sample", disable=None, dynamic_ncols=True) as bar:
        chunks = _chunks(tasks, length, workers)
        for chunk, found in parallel.ordered_map(functools.partial(_score_chunk, job), chunks, workers):
            for task, results in zip(chunk, found, strict=True):
                if not is_seen[task.place]:
                    gold.put(task.place, task.sample)
                    is_seen[task.place] = 1
                    bar.update()
                for row, result in enumerate(results):
                    facts[row].put(task.place, result.facts)
                    for table, cells in zip(columns[row], result.cells, strict=True):
                        table.put(task.place, cells)
    assert all(is_seen), "a sample has no task"
    return [
        _summarise(dataset, gold, columns[row][number], facts[row], name=rows[row].name, preset=preset)
        for row in range(len(rows))
        for number, preset in enumerate(presets)
    ]


def missing_gold(dataset: Dataset) -> frozenset[GoldField]:
    """The `OPTIONAL_GOLD` parts that no sample of the data set has gold for."""
    absent = set(OPTIONAL_GOLD)
    for sample in dataset.samples:
        absent -= {need for need in absent if gold_has(sample, need)}
        if not absent:
            break
    return frozenset(absent)


def _given(samples: Sequence[Sample], predictions: Iterable[Prediction], tally: Counter[str]) -> Iterator[ScoringItem]:
    """A task for each prediction in its order, then one for each sample without any.

    A later one for the same sample replaces the earlier. Counts what `PredictionCounts` calls duplicates and unknown.
    """
    places = {sample.id: place for place, sample in enumerate(samples)}
    is_seen = bytearray(len(samples))
    for prediction in predictions:
        place = places.get(prediction.sample_id)
        if place is None:
            tally["unknown"] += 1
            continue
        tally["duplicates"] += is_seen[place]
        is_seen[place] = 1
        yield ScoringItem(place, samples[place], prediction)
    yield from (ScoringItem(place, samples[place], None) for place in range(len(samples)) if not is_seen[place])


def _chunks(tasks: Iterable[ScoringItem], length: int, workers: int) -> Iterator[Chunk]:
    """Tasks in portions for a process: several to each process, and never many masks."""
    most = 1 if workers == 1 else max(1, min(MAX_CHUNK_SAMPLES, length // (CHUNKS_PER_WORKER * workers)))
    chunk: Chunk = []
    num_masks = 0
    for task in tasks:
        chunk.append(task)
        num_masks += 0 if task.prediction is None else sum(len(track.masks) for track in task.prediction.tracks or ())
        if len(chunk) >= most or num_masks > MAX_CHUNK_MASKS:
            yield chunk
            chunk, num_masks = [], 0
    if chunk:
        yield chunk


def _score_chunk(job: ScoringJob, chunk: Chunk) -> list[list[ScoringResult]]:
    return [_score_sample(job, task) for task in chunk]


def _score_sample(job: ScoringJob, task: ScoringItem) -> list[ScoringResult]:
    sample = task.sample
    tables = [[_table(preset, row.gives, job.absent) for preset in job.presets] for row in job.rows]
    predictions = [task.prediction if row.predict is None else row.predict(sample) for row in job.rows]
    with_masks = [any("masks" in metric.needs for table in row for metric in table.values()) for row in tables]
    return [
        ScoringResult(
            tuple({title: outcome.cell(metric) for title, metric in table.items()} for table in row), outcome.facts
        )
        for row, outcome in zip(tables, compare_samples(sample, predictions, with_masks, task.lying), strict=True)
    ]


@functools.cache
def _table(preset: str, gives: frozenset[GoldField] | None, absent: frozenset[GoldField]) -> dict[str, Metric]:
    """The metrics of a preset that predictions of this kind and gold of this data set can have."""
    return {
        title: metric
        for title, metric in preset_named(preset).metrics.items()
        if (gives is None or gives.issuperset(metric.needs)) and absent.isdisjoint(metric.needs)
    }
