"""Trivial baselines: what a method scores that looks at no video, through the same `score` as every run."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from evqa import masks
from evqa.datasets import Dataset
from evqa.metrics import trivial
from evqa.metrics.case import GoldField, Metric
from evqa.metrics.means import Cell
from evqa.metrics.presets import preset as preset_named
from evqa.schema import LETTERS, RLE, Box, Prediction, Sample, Span, Track
from evqa.scoring.cases import MetricValues, video_facts
from evqa.scoring.engine import System, score_cells, score_each
from evqa.scoring.results import Scores

logger = logging.getLogger(__name__)

ON_SCREEN = "on_screen"
"""Tag of a sample that says among how many things on the screen the answer is."""

CHOICES: tuple[GoldField, ...] = ("answer", "time_choice", "mask_choice")
"""Questions with options."""


@dataclass(frozen=True)
class Baseline:
    """A method without eyes."""

    name: str
    gives: frozenset[GoldField]
    """The only metrics shown are those that need nothing else."""
    predict: Callable[[Sample], Prediction]


def baselines(
    dataset: Dataset,
    train: Dataset | None = None,
    presets: Sequence[str] = ("strict",),
    *,
    with_masks: bool = True,
    workers: int = 1,
) -> list[Scores]:
    """Scores of every trivial baseline that the data set has gold for, one entry per baseline and preset.

    With `train` given, the most frequent letter and the best constant span are fitted on it; without, on the data
    set itself: no constant letter or span can do better.
    """
    found: list[Scores] = []
    for preset in presets:
        found += chances(dataset, preset)
    trivial = _of_answers(dataset, train)
    if _has_videos(dataset):
        trivial += [*_of_spans(dataset, train), *_of_boxes(dataset), *(_of_masks(dataset) if with_masks else ())]
    rows = [System(baseline.name, baseline.predict, baseline.gives) for baseline in trivial]
    return found + (score_each(dataset, rows, presets, workers=workers) if rows else [])


def _has_videos(dataset: Dataset) -> bool:
    """Whether every video is here to tell how long and how large it is; says so where one is not."""
    absent = (sample.video for sample in dataset.samples if not sample.video.exists())
    first = next(absent, None)
    if first is not None:
        logger.warning(
            "no baselines in time and space: %d videos, such as %s, are not here to tell how long they are",
            1 + sum(1 for _ in absent),
            first,
        )
    return first is None


# Answers


def chances(dataset: Dataset, preset: str) -> list[Scores]:
    """Expected accuracy of guessing, without drawing: among the options, and among what is on the screen."""
    rules: dict[str, Callable[[Sample, GoldField], int]] = {
        "chance": lambda sample, need: len(choice_of(sample, need)[1]),
        "chance among what is on the screen": lambda sample, need: _on_screen(sample) if need == "answer" else 0,
    }
    return [
        _chance(dataset, preset, name, rule)
        for name, rule in rules.items()
        if any(rule(sample, need) for sample in dataset.samples for need in CHOICES)
    ]


def choice_of(sample: Sample, need: GoldField) -> tuple[int | None, Sequence[object]]:
    """(index of the right option, the options) of one of the questions of a sample."""
    if need == "time_choice":
        return sample.time_answer, sample.time_options
    return (sample.mask_answer, sample.mask_options) if need == "mask_choice" else (sample.answer, sample.options)


def _on_screen(sample: Sample) -> int:
    written = sample.metadata.get(ON_SCREEN, "")
    return int(written) if written.isascii() and written.isdigit() else 0


def _chance(dataset: Dataset, preset: str, name: str, num_choices: Callable[[Sample, GoldField], int]) -> Scores:
    rows = {
        title: row
        for title, row in preset_named(preset).metrics.items()
        if len(row.needs) == 1 and row.needs[0] in CHOICES
    }

    def cells(sample: Sample) -> MetricValues:
        return {title: Cell(_guessed(sample, row, num_choices(sample, row.needs[0]))) for title, row in rows.items()}

    return score_cells(dataset, cells, name=name, preset=preset)


def _guessed(sample: Sample, row: Metric, count: int) -> float | None:
    """One in `count`; None where the sample does not have the question."""
    return 1 / count if count and choice_of(sample, row.needs[0])[0] is not None else None


def _of_answers(dataset: Dataset, train: Dataset | None) -> list[Baseline]:
    answers = Counter(sample.answer for sample in (train or dataset).samples if sample.answer is not None)
    if not answers or all(sample.answer is None for sample in dataset.samples):
        return []
    letter = max(sorted(answers), key=lambda answer: answers[answer])
    return [
        Baseline(
            f"most frequent letter {_of_which(train)} ({LETTERS[letter]})",
            frozenset[GoldField]({"answer"}),
            partial(_letter, letter=letter),
        )
    ]


def _of_which(train: Dataset | None) -> str:
    return "of the training set" if train else "of this very set"


def _letter(sample: Sample, *, letter: int) -> Prediction:
    return Prediction(sample_id=sample.id, status="ok", answer=letter)


# Spans


def _of_spans(dataset: Dataset, train: Dataset | None) -> list[Baseline]:
    if all(sample.spans is None for sample in dataset.samples):
        return []
    found = [
        Baseline(name, frozenset[GoldField]({"spans"}), partial(_part, start=start, end=end))
        for name, (start, end) in trivial.PARTS.items()
    ]
    if any(sample.spans for sample in (train or dataset).samples):
        start, end = best_constant_span(train or dataset)
        fitted = "on the training set" if train else "on this very set"
        name = f"constant span fitted {fitted} ({start:.2f} to {end:.2f} of the video)"
        found.append(Baseline(name, frozenset[GoldField]({"spans"}), partial(_part, start=start, end=end)))
    return found


def _part(sample: Sample, *, start: float, end: float) -> Prediction:
    duration = video_facts(sample.video).duration
    return Prediction(sample_id=sample.id, status="ok", spans=(Span(start * duration, end * duration),))


def best_constant_span(train: Dataset) -> tuple[float, float]:
    """Start and end, as parts of the video, of the span with the best t-mean on a data set, from a grid."""
    return trivial.best_constant_span(
        (sample.spans, video_facts(sample.video).duration) for sample in train.samples if sample.spans is not None
    )


# Boxes


def _of_boxes(dataset: Dataset) -> list[Baseline]:
    if all(sample.boxes is None for sample in dataset.samples):
        return []
    return [Baseline("a box around every frame", frozenset[GoldField]({"boxes"}), _every_box)]


def _every_box(sample: Sample) -> Prediction:
    video = video_facts(sample.video)
    whole = Box(0.0, 0.0, float(video.width), float(video.height))
    return Prediction(sample_id=sample.id, status="ok", boxes=dict.fromkeys(range(video.num_frames), whole))


# Masks


def _of_masks(dataset: Dataset) -> list[Baseline]:
    if all(sample.masks is None and sample.tracks is None for sample in dataset.samples):
        return []
    gives = frozenset[GoldField]({"masks"})
    found = [Baseline("no pixel", gives, _no_pixel), Baseline("every pixel", gives, _every_pixel)]
    if any(sample.objects is not None for sample in dataset.samples):
        found.append(Baseline("every object", gives, _every_object))
    return found


def _no_pixel(sample: Sample) -> Prediction:
    """An empty mask in every frame: one track without masks."""
    return _with_track(sample, ())


def _every_pixel(sample: Sample) -> Prediction:
    video = video_facts(sample.video)
    full = masks.encode(np.ones((video.height, video.width), dtype=np.bool_))
    return _with_track(sample, ((index, full) for index in range(video.num_frames)))


def _every_object(sample: Sample) -> Prediction:
    """The union of all annotated objects, evidence or not; nothing where the sample has no label maps."""
    if sample.objects is None:
        return _no_pixel(sample)
    files = masks.read_folder(sample.objects)
    return _with_track(sample, ((index, masks.encode(masks.read_png(path))) for index, path in files.items()))


def _with_track(sample: Sample, frames: Iterable[tuple[int, RLE]]) -> Prediction:
    return Prediction(sample_id=sample.id, status="ok", tracks=(Track(masks=dict(frames)),))
