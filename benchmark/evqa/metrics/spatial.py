"""Mask metrics: J (region IoU) and F (contour F-measure) per frame, and their means over the frames of a video."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from evqa import masks
from evqa.masks.native import BoundaryCounts, FrameMask, RunLengths
from evqa.metrics.boundary import compare, f_measure, size_of

MaskMeasure = Literal["j", "f", "jf"]
"""Region J, outline F, or their mean."""


def region_j(predicted: FrameMask, gold: FrameMask) -> float:
    """IoU of two masks of one size: 1 where both are empty, 0 where one is."""
    return j_measure(compare(predicted, gold))


def j_measure(counts: BoundaryCounts) -> float:
    """J: pixels in both over pixels in either, 1 where there are none."""
    union = counts.first + counts.second - counts.both
    return counts.both / union if union else 1.0


class FrameScore(NamedTuple):
    """One frame where gold or prediction lists a mask."""

    j: float
    f: float
    has_gold: bool
    """Whether the ground truth has at least one pixel in this frame."""
    num_both: int = 0
    """Pixels in both masks."""
    num_false: int = 0
    """Predicted pixels that are not in the ground truth."""
    num_missed: int = 0
    """Pixels of the ground truth that are not predicted."""
    num_pixels: int = 0
    """Pixels of the frame; 0 = no mask states its size."""

    @property
    def num_wrong(self) -> int:
        """Pixels in one mask only."""
        return self.num_false + self.num_missed

    @property
    def jf(self) -> float:
        """Mean of J and F."""
        return (self.j + self.f) / 2


BOTH_EMPTY = FrameScore(1.0, 1.0, has_gold=False)
"""Score of a frame that neither side lists."""


def score_frame(predicted: FrameMask | None, gold: FrameMask | None) -> FrameScore:
    """J and F of one frame; None is an empty mask. Both masks have one size.

    Raises `native.BadRunsError` for run lengths that do not fit their size.
    """
    if predicted is None and gold is None:
        return BOTH_EMPTY
    predicted_mask = _empty(size_of(gold)) if predicted is None and gold is not None else predicted
    gold_mask = _empty(size_of(predicted)) if gold is None and predicted is not None else gold
    assert predicted_mask is not None
    assert gold_mask is not None
    counts = compare(predicted_mask, gold_mask)
    height, width = size_of(gold_mask)
    return FrameScore(
        j_measure(counts),
        f_measure(counts),
        has_gold=counts.second > 0,
        num_both=counts.both,
        num_false=counts.first - counts.both,
        num_missed=counts.second - counts.both,
        num_pixels=height * width,
    )


@functools.lru_cache(maxsize=64)
def _empty(size: tuple[int, int]) -> RunLengths:
    return masks.merged_runs([masks.encode(np.zeros(size, dtype=np.bool_))])


class UnknownLengthError(ValueError):
    """A mean over every frame of a video was asked for, and neither the video nor the data set has their number."""


@dataclass(frozen=True)
class MaskScores:
    """J and F of one video, frame by frame."""

    frames: dict[int, FrameScore]
    """Frame index -> score, where ground truth or prediction lists a mask; other frames are empty on both sides."""
    num_frames: int | None
    """Number of frames of the video by the ground truth; None = unknown. Predictions cannot set it."""
    computed: frozenset[int] | None = None
    """Frame indices that masks were predicted for; None = every frame."""
    num_resized: int = 0
    """Predicted masks of another size than the ground truth."""
    num_beyond: int = 0
    """Predicted masks on frames that the video does not have; they are left out of every mean over its frames."""
    beyond: Mapping[int, FrameScore] = field(default_factory=dict[int, FrameScore])
    """Frame index -> score of these against an empty mask, for means over the predicted frames."""
    unreadable: frozenset[int] = frozenset()
    """Frame indices whose predicted mask cannot be decoded."""
    bad: str | None = None
    """Why the first of these cannot be decoded; then no mean over the video counts."""

    def mean(self, measure: MaskMeasure) -> float:
        """Mean over every frame of the video; a frame without prediction is an empty mask.

        Raises `UnknownLengthError` where the number of frames is unknown.
        """
        num_frames = self.known_length()
        total = sum(float(getattr(score, measure)) for score in self.frames.values())
        return (total + num_frames - len(self.frames)) / num_frames

    def known_length(self) -> int:
        """Frames of the video, or an `UnknownLengthError`."""
        if self.num_frames is None:
            raise UnknownLengthError
        return self.num_frames

    def mean_where_gold(self, measure: MaskMeasure) -> float | None:
        """Mean over the frames with evidence; None without any."""
        return self._mean_over(measure, [index for index, score in self.frames.items() if score.has_gold])

    def tube(self) -> float | None:
        """J summed over the frames that both have, over the number of frames that either has.

        None where the ground truth has no pixel in any frame. The vIoU of VidSTG and HC-STVG with masks for
        boxes. Raises `UnknownLengthError` where the number of frames is unknown: masks beyond the video would count.
        """
        values = [score.j for score in self.frames.values() if score.has_gold]
        if not values:
            return None
        self.known_length()
        num_false = sum(not score.has_gold and score.j == 0 for score in self.frames.values())
        return sum(values) / (len(values) + num_false)

    def mean_where_computed(self, measure: MaskMeasure) -> float | None:
        """Mean over the frames with predicted and readable masks; 0 = no predicted masks, None = none is readable."""
        if self.computed is None:
            return self.mean(measure)
        return self._mean_over(measure, self.computed - self.unreadable) if self.computed else 0.0

    def _mean_over(self, measure: MaskMeasure, indices: Collection[int]) -> float | None:
        scores = [self.frames.get(index) or self.beyond.get(index, BOTH_EMPTY) for index in indices]
        return sum(float(getattr(score, measure)) for score in scores) / len(scores) if scores else None
