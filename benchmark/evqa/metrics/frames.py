"""Gold and predicted masks of one sample, compared frame by frame; one frame is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from evqa import masks
from evqa.masks import drawn
from evqa.metrics.boundary import size_of
from evqa.metrics.spatial import FrameScore, MaskScores, score_frame
from evqa.native import BadRunsError, FrameMask, Runs
from evqa.schema import RLE, Prediction, Sample, Track

Read = Callable[[], FrameMask]
"""Gives the mask of one frame."""


class BadMask(ValueError):
    """A predicted mask that cannot be decoded."""


def gold_masks(sample: Sample) -> dict[int, Read] | None:
    """Frame index -> the merged evidence of that frame; None where the sample has no gold masks."""
    if sample.masks is not None:
        return {index: partial(masks.read_mask, path) for index, path in masks.read_folder(sample.masks).items()}
    return None if sample.tracks is None else merged_tracks(sample.tracks)


def merged_tracks(tracks: Sequence[Track]) -> dict[int, Read]:
    """Frame index -> the union of all tracks in that frame."""
    by_frame: dict[int, list[RLE]] = {}
    for track in tracks:
        for index, rle in track.masks.items():
            by_frame.setdefault(index, []).append(rle)
    return {index: partial(masks.joined, rles) for index, rles in by_frame.items()}


def compare(gold: dict[int, Read], prediction: Prediction, num_frames: int) -> MaskScores:
    """J and F of every frame that gold or prediction lists.

    Raises `BadMask` for a predicted mask that cannot be decoded. A predicted mask of another size than gold's
    is resized (nearest) to gold's, and counted.
    """
    scores = compare_each(gold, [(prediction, num_frames)])[0]
    if isinstance(scores, BadMask):
        raise scores
    return scores


def compare_each(gold: dict[int, Read], predictions: Sequence[tuple[Prediction, int]]) -> list[MaskScores | BadMask]:
    """As `compare`, for several (prediction, frames of the video), with every gold mask read once."""
    last = max(gold, default=-1) + 1
    comparisons = [_Comparison.of(prediction, max(num_frames, last)) for prediction, num_frames in predictions]
    for index in sorted(gold.keys() | {index for each in comparisons for index in each.predicted}):
        theirs = gold[index]() if index in gold else None
        for each in comparisons:
            if each.bad is None and (theirs is not None or index in each.predicted):
                each.add(index, theirs)
    return [each.bad or each.scores() for each in comparisons]


@dataclass
class _Comparison:
    """One prediction while its frames are compared."""

    prediction: Prediction
    num_frames: int
    predicted: dict[int, Read]
    """On frames that the video has."""
    num_beyond: int
    num_resized: int = 0
    frames: dict[int, FrameScore] = field(default_factory=dict[int, FrameScore])
    bad: BadMask | None = None
    """Its first mask that cannot be decoded; from there on nothing is compared."""

    @classmethod
    def of(cls, prediction: Prediction, num_frames: int) -> _Comparison:
        predicted = merged_tracks(prediction.tracks or ())
        inside = {index: read for index, read in predicted.items() if 0 <= index < num_frames}
        return cls(prediction, num_frames, inside, num_beyond=len(predicted) - len(inside))

    def add(self, index: int, theirs: FrameMask | None) -> None:
        try:
            ours = self._fitted(index, None if theirs is None else size_of(theirs))
        except ValueError as error:
            self.bad = BadMask(f"frame {index}: {error}")
            return
        try:
            self.frames[index] = score_frame(ours, theirs)
        except BadRunsError as error:
            if not error.first:
                raise ValueError(_complaint(theirs)) from error
            self.bad = BadMask(f"frame {index}: {_complaint(ours)}")

    def _fitted(self, index: int, size: tuple[int, int] | None) -> FrameMask | None:
        """The predicted mask, in gold's size where there is gold."""
        ours = self.predicted[index]() if index in self.predicted else None
        if ours is None or size is None or size_of(ours) == size:
            return ours
        self.num_resized += 1
        return masks.resize(drawn(ours), size)

    def scores(self) -> MaskScores:
        computed = None if self.prediction.mask_frames is None else frozenset(self.prediction.mask_frames)
        return MaskScores(self.frames, self.num_frames, computed, self.num_resized, self.num_beyond)


def _complaint(mask: FrameMask | None) -> str:
    """What is wrong with run lengths that were refused."""
    assert isinstance(mask, Runs), mask
    try:
        drawn(mask)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"run lengths that can be drawn were refused: {mask}")
