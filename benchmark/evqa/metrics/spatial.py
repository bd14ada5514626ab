"""Evidence in space: J (region) and F (outline) per frame, and their means over the frames of a video."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from evqa import masks
from evqa.metrics.boundary import compare, f_measure, size_of
from evqa.native import Counts, FrameMask, Runs

Which = Literal["j", "f", "jf"]
"""Region J, outline F, or their mean."""


def region_j(predicted: FrameMask, gold: FrameMask) -> float:
    """IoU of two masks of one size: 1 where both are empty, 0 where one is."""
    return j_measure(compare(predicted, gold))


def j_measure(counts: Counts) -> float:
    """J: pixels in both over pixels in either, 1 where there are none."""
    union = counts.first + counts.second - counts.both
    return counts.both / union if union else 1.0


class FrameScore(NamedTuple):
    """One frame where gold or prediction lists a mask."""

    j: float
    f: float
    has_gold: bool
    """Gold has at least one pixel here."""

    @property
    def jf(self) -> float:
        """Mean of J and F."""
        return (self.j + self.f) / 2


BOTH_EMPTY = FrameScore(1.0, 1.0, has_gold=False)
"""What a frame counts that neither side lists."""


def score_frame(predicted: FrameMask | None, gold: FrameMask | None) -> FrameScore:
    """J and F of one frame; None is an empty mask. Both masks have one size.

    Raises `native.BadRunsError` for run lengths that do not fit their size.
    """
    if predicted is None and gold is None:
        return BOTH_EMPTY
    ours = _empty(size_of(gold)) if predicted is None and gold is not None else predicted
    theirs = _empty(size_of(predicted)) if gold is None and predicted is not None else gold
    assert ours is not None
    assert theirs is not None
    counts = compare(ours, theirs)
    return FrameScore(j_measure(counts), f_measure(counts), has_gold=counts.second > 0)


@functools.lru_cache(maxsize=64)
def _empty(size: tuple[int, int]) -> Runs:
    return masks.joined([masks.encode(np.zeros(size, dtype=np.bool_))])


@dataclass(frozen=True)
class MaskScores:
    """J and F of one video, frame by frame."""

    frames: dict[int, FrameScore]
    """Frame index -> score, where gold or prediction lists a mask; other frames are empty on both sides."""
    num_frames: int
    """Frames of the video."""
    computed: frozenset[int] | None = None
    """Frame indices that masks were predicted for; None = every frame."""
    num_resized: int = 0
    """Predicted masks that had another size than gold."""
    num_beyond: int = 0
    """Predicted masks on frames that the video does not have; they are left out."""

    def mean(self, which: Which) -> float:
        """Mean over every frame of the video; a frame without prediction is an empty mask."""
        listed = sum(float(getattr(score, which)) for score in self.frames.values())
        return (listed + self.num_frames - len(self.frames)) / self.num_frames

    def mean_where_gold(self, which: Which) -> float | None:
        """Mean over the frames that hold evidence; None where no frame does."""
        return self._mean_over(which, [index for index, score in self.frames.items() if score.has_gold])

    def tube(self) -> float | None:
        """J summed over the frames that both have, over the number of frames that either has; None without any.

        The vIoU of VidSTG and HC-STVG with masks for boxes.
        """
        held = [score.j for score in self.frames.values() if score.has_gold]
        num_false = sum(not score.has_gold and score.j == 0 for score in self.frames.values())
        return sum(held) / (len(held) + num_false) if held or num_false else None

    def mean_where_computed(self, which: Which) -> float:
        """Mean over the frames that masks were predicted for, 0 where there is none."""
        if self.computed is None:
            return self.mean(which)
        return self._mean_over(which, self.computed) or 0.0

    def _mean_over(self, which: Which, indices: Collection[int]) -> float | None:
        values = [float(getattr(self.frames.get(index, BOTH_EMPTY), which)) for index in indices]
        return sum(values) / len(values) if values else None
