"""Trivial baselines: systems without video input, scored by the same engine as runs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import numpy as np

from evqa import masks, prompts
from evqa.datasets import Dataset
from evqa.metrics import trivial
from evqa.metrics.case import Case, GoldField, Metric
from evqa.metrics.frames import gold_masks
from evqa.schema import LETTERS, RLE, Box, Prediction, Sample, Span, Track
from evqa.scoring.cases import duration_of, video_facts
from evqa.scoring.engine import System, score
from evqa.scoring.results import Scores

logger = logging.getLogger(__name__)

ON_SCREEN = "on_screen"
"""Metadata key of a sample: number of visible objects, one of which is the answer."""

CHOICES: tuple[GoldField, ...] = ("answer", "time_choice", "mask_choice")
"""Fields of multiple-choice questions."""


def baselines(
    dataset: Dataset,
    train: Dataset | None = None,
    presets: Sequence[str] = ("strict",),
    *,
    with_masks: bool = True,
    workers: int = 1,
) -> list[Scores]:
    """Score the trivial baselines for which the data set has ground truth: one entry per baseline and preset.

    Args:
        dataset: Samples with ground truth.
        train: Data set on which the most frequent letter and the constant span are fitted; None = `dataset` itself,
            which gives an upper bound for constant letters and spans.
        presets: Names of presets.
        with_masks: Whether to score the mask baselines, which read all ground-truth masks again.
        workers: Number of processes.
    """
    chance = score(dataset, chances(dataset), presets)
    systems = [*_of_answers(dataset, train), *_of_preferences(dataset)]
    if _has_videos(dataset):
        systems += [*_of_spans(dataset, train), *_of_boxes(dataset), *(_of_masks(dataset) if with_masks else ())]
    by_preset = sorted(chance, key=lambda scores: presets.index(scores.preset))
    return by_preset + score(dataset, systems, presets, workers=workers)


def _system(name: str, gives: Iterable[GoldField], predict: Callable[[Sample], Prediction]) -> System:
    return System(name, predict=predict, gives=frozenset(gives))


def _has_videos(dataset: Dataset) -> bool:
    """Whether every video is on disk (needed for length and size); logs the number of missing ones."""
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


def chances(dataset: Dataset) -> list[System]:
    """Expected accuracy of random guessing: among the options, and among the objects on the screen."""
    rules: dict[str, Callable[[Sample, GoldField], int]] = {
        "chance": _num_options,
        "chance over visible objects": _num_on_screen,
    }
    return [
        System(name, expect=partial(_expected_accuracy, num_choices=rule), gives=frozenset(CHOICES))
        for name, rule in rules.items()
        if any(rule(sample, need) for sample in dataset.samples for need in CHOICES)
    ]


def _num_options(sample: Sample, need: GoldField) -> int:
    return len(choice_of(sample, need)[1])


def _num_on_screen(sample: Sample, need: GoldField) -> int:
    text = sample.metadata.get(ON_SCREEN, "")
    return int(text) if need == "answer" and text.isascii() and text.isdigit() else 0


def choice_of(sample: Sample, need: GoldField) -> tuple[int | None, Sequence[object]]:
    """(index of the correct option, the options) of a question of a sample."""
    if need == "time_choice":
        return sample.time_answer, sample.time_options
    return (sample.mask_answer, sample.mask_options) if need == "mask_choice" else (sample.answer, sample.options)


def _expected_accuracy(sample: Sample, metric: Metric, num_choices: Callable[[Sample, GoldField], int]) -> float | None:
    """1 / number of choices; None = the sample has no such question, or the metric does not apply."""
    need = metric.needs[0]
    if metric.value(Case(sample, Prediction.model_construct(sample_id=sample.id, status="ok"))) is None:
        return None
    count = num_choices(sample, need)
    return 1 / count if count and choice_of(sample, need)[0] is not None else None


def _of_answers(dataset: Dataset, train: Dataset | None) -> list[System]:
    answers = Counter(sample.answer for sample in (train or dataset).samples if sample.answer is not None)
    if not answers or all(sample.answer is None for sample in dataset.samples):
        return []
    letter = max(sorted(answers), key=lambda answer: answers[answer])
    return [
        _system(
            f"most frequent letter {_of_which(train)} ({LETTERS[letter]})", ("answer",), partial(_letter, letter=letter)
        )
    ]


def _of_which(train: Dataset | None) -> str:
    return "of the training set" if train else "of this data set"


def _letter(sample: Sample, *, letter: int) -> Prediction:
    return Prediction(sample_id=sample.id, status="ok", answer=letter)


# Preferences


def _of_preferences(dataset: Dataset) -> list[System]:
    """Judges with one vote for every pair."""
    if all(sample.preferences is None for sample in dataset.samples):
        return []
    votes: dict[str, Literal[0, 1, 2]] = {"first video": 1, "second video": 2, "tie": 0}
    return [_system(f"always {name}", ("preferences",), partial(_vote, label=label)) for name, label in votes.items()]


def _vote(sample: Sample, *, label: Literal[0, 1, 2]) -> Prediction:
    return Prediction(sample_id=sample.id, status="ok", verdicts=dict.fromkeys(sample.preferences or (), label))


# Spans


def span_system(name: str, start: float, end: float) -> System:
    """Baseline with a constant span from `start` to `end`, as fractions of the duration of each video."""
    return _system(name, ("spans",), partial(_part, start=start, end=end))


def _of_spans(dataset: Dataset, train: Dataset | None) -> list[System]:
    if all(sample.spans is None for sample in dataset.samples):
        return []
    systems = [span_system(name, start, end) for name, (start, end) in trivial.PARTS.items()]
    if any(sample.spans for sample in (train or dataset).samples):
        start, end = best_constant_span(train or dataset)
        fitted = "on the training set" if train else "on this data set"
        name = f"constant span fitted {fitted} ({start:.2f} to {end:.2f} of the video)"
        systems.append(span_system(name, start, end))
    return systems


def _part(sample: Sample, *, start: float, end: float) -> Prediction:
    seconds = duration_of(sample)
    return Prediction.model_construct(sample_id=sample.id, status="ok", spans=(Span(start * seconds, end * seconds),))


def best_constant_span(train: Dataset) -> tuple[float, float]:
    """(start, end) of the constant span with the best t-mean on a data set, as fractions of duration (grid search)."""
    return trivial.best_constant_span(
        (sample.spans, duration_of(sample)) for sample in train.samples if sample.spans is not None
    )


# Boxes


def _of_boxes(dataset: Dataset) -> list[System]:
    if all(sample.boxes is None for sample in dataset.samples):
        return []
    return [_system("full-frame box", ("boxes",), _every_box)]


def _every_box(sample: Sample) -> Prediction:
    video = video_facts(sample.video)
    whole = Box(0.0, 0.0, float(video.width), float(video.height))
    return Prediction(sample_id=sample.id, status="ok", boxes=dict.fromkeys(range(video.num_frames), whole))


# Masks


def _of_masks(dataset: Dataset) -> list[System]:
    if all(sample.masks is None and sample.tracks is None for sample in dataset.samples):
        return []
    systems = [_system("empty mask", ("masks",), _no_pixel), _system("full-frame mask", ("masks",), _every_pixel)]
    if any(sample.object_masks is not None for sample in dataset.samples):
        systems.append(_system("all objects merged", ("masks",), _every_object))
    if all(sample.task_type in prompts.REFERRING for sample in dataset.samples):
        systems.append(_system("centre-box mask", ("masks",), _centre_box))
        systems.append(_system("first ground-truth mask in every frame", ("masks",), _frozen_mask))
    return systems


def _no_pixel(sample: Sample) -> Prediction:
    """Prediction with an empty mask in every frame: one track without masks."""
    return _with_track(sample, ())


def _every_pixel(sample: Sample) -> Prediction:
    video = video_facts(sample.video)
    full = masks.encode(np.ones((video.height, video.width), dtype=np.bool_))
    return _with_track(sample, ((index, full) for index in range(video.num_frames)))


def _centre_box(sample: Sample) -> Prediction:
    """Prediction with a box of half the sides in the centre of every frame."""
    video = video_facts(sample.video)
    top, left = video.height // 4, video.width // 4
    pixels = np.zeros((video.height, video.width), dtype=np.bool_)
    pixels[top : video.height - top, left : video.width - left] = True
    box = masks.encode(pixels)
    return _with_track(sample, ((index, box) for index in range(video.num_frames)))


def _frozen_mask(sample: Sample) -> Prediction:
    """Prediction with the ground-truth mask of the first annotated frame in every frame: what tracking adds to it."""
    gold = gold_masks(sample) or {}
    first = 0 if sample.frames is None else sample.frames[0]
    mask = gold[first]() if first in gold else None
    if mask is None:
        return _no_pixel(sample)
    frozen = masks.encode(masks.to_array(mask))
    return _with_track(sample, ((index, frozen) for index in range(video_facts(sample.video).num_frames)))


def _every_object(sample: Sample) -> Prediction:
    """Prediction with the union of all annotated objects, evidence or not; empty mask if there are no label maps."""
    if sample.object_masks is None:
        return _no_pixel(sample)
    files = masks.read_folder(sample.object_masks)
    return _with_track(sample, ((index, masks.encode(masks.read_png(path))) for index, path in files.items()))


def _with_track(sample: Sample, frames: Iterable[tuple[int, RLE]]) -> Prediction:
    return Prediction(sample_id=sample.id, status="ok", tracks=(Track(masks=dict(frames)),))
