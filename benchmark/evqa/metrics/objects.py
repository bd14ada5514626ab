"""Masks per object: each gold object against the predicted object that was matched to it."""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownVariableType=false
# scipy has no types

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from evqa import masks
from evqa.masks.native import FrameMask
from evqa.metrics.boundary import size_of
from evqa.metrics.frames import Frames
from evqa.metrics.spatial import FrameScore, MaskMeasure, MaskScores, score_frame


def object_scores(
    gold: Sequence[Frames], predicted: Sequence[Frames], num_frames: int | None
) -> tuple[MaskScores, ...]:
    """J and F over time of each ground-truth object, in order; one frame is in memory at a time.

    Predicted objects are matched one to one to ground-truth objects by the largest sum of mean J (DAVIS 2017
    unsupervised, Caelles et al. 2019). An unmatched ground-truth object is compared with empty masks; an unmatched
    predicted object is ignored here, but is part of the metrics of merged masks.
    """
    partners = _matched(gold, predicted, num_frames)
    return tuple(
        _compare(gold_object, {} if place is None else predicted[place], num_frames)
        for gold_object, place in zip(gold, partners, strict=True)
    )


def mean_over_objects(scores: Sequence[MaskScores], measure: MaskMeasure) -> float | None:
    """Mean over gold objects of the mean over every frame; None without objects."""
    return sum(score.mean(measure) for score in scores) / len(scores) if scores else None


def _matched(gold: Sequence[Frames], predicted: Sequence[Frames], num_frames: int | None) -> list[int | None]:
    """Place of the partner of each gold object."""
    if not (gold and predicted):
        return [None] * len(gold)
    total = np.zeros((len(gold), len(predicted)))
    for index in _indices_with_masks((*gold, *predicted), num_frames):
        predicted_masks = [_mask(frames, index) for frames in predicted]
        for row, gold_object in enumerate(_mask(frames, index) for frames in gold):
            total[row] += [_score(mask, gold_object).j for mask in predicted_masks]
    pairs = cast("tuple[NDArray[np.intp], NDArray[np.intp]]", linear_sum_assignment(total, maximize=True))
    partners = dict(zip(pairs[0].tolist(), pairs[1].tolist(), strict=True))
    return [partners.get(row) for row in range(len(gold))]


def _compare(gold: Frames, predicted: Frames, num_frames: int | None) -> MaskScores:
    indices = _indices_with_masks((gold, predicted), num_frames)
    return MaskScores({index: _score(_mask(predicted, index), _mask(gold, index)) for index in indices}, num_frames)


def _indices_with_masks(objects: Sequence[Frames], num_frames: int | None) -> list[int]:
    """Frames of the video in which an object has a mask."""
    indices = sorted({index for frames in objects for index in frames if index >= 0})
    return indices if num_frames is None else [index for index in indices if index < num_frames]


def _mask(frames: Frames, index: int) -> FrameMask | None:
    return frames[index]() if index in frames else None


def _score(predicted: FrameMask | None, gold: FrameMask | None) -> FrameScore:
    """Of a frame, the predicted mask in gold's size."""
    if predicted is not None and gold is not None and size_of(predicted) != size_of(gold):
        predicted = masks.resize(masks.to_array(predicted), size_of(gold))
    return score_frame(predicted, gold)
