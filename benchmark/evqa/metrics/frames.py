"""Comparison of ground truth and predicted masks of one sample, frame by frame, with one frame in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from evqa import masks
from evqa.masks.native import BadRunsError, FrameMask, RunLengths
from evqa.metrics.boundary import size_of
from evqa.metrics.spatial import FrameScore, MaskScores, score_frame
from evqa.schema import RLE, Prediction, Sample, Track

Read = Callable[[], FrameMask]
"""Reads the mask of one frame."""

Frames = Mapping[int, Read]
"""Frame index -> reader of its mask."""


class BadMask(ValueError):
    """A predicted mask that cannot be decoded."""


class PredictedMasks(NamedTuple):
    """The masks of a prediction."""

    frames: Frames
    computed: frozenset[int] | None = None
    """Frame indices that masks were computed for; None = every frame."""


def gold_masks(sample: Sample) -> Frames | None:
    """Frame index -> merged evidence mask; None where the sample has no ground truth masks."""
    if sample.masks is not None:
        return {index: partial(masks.read_mask, path) for index, path in masks.read_folder(sample.masks).items()}
    return None if sample.tracks is None else merged_tracks(sample.tracks)


def predicted_masks(prediction: Prediction) -> PredictedMasks:
    """The masks of a prediction, merged: of its tracks, or of its folder, whose images are read one at a time.

    A `ValueError` for a folder with files that are no masks.
    """
    computed = None if prediction.mask_frames is None else frozenset(prediction.mask_frames)
    if prediction.mask_folder is None:
        return PredictedMasks(merged_tracks(prediction.tracks or ()), computed)
    return masks_in_folder(prediction.mask_folder)


def masks_in_folder(folder: Path) -> PredictedMasks:
    """The masks in a folder of `00000.png` and so on; a `ValueError` for one with files that are no masks."""
    frames = {index: partial(masks.read_mask, path) for index, path in masks.read_folder(folder).items()}
    return PredictedMasks(frames, frozenset(frames))


def objects_of(prediction: Prediction) -> list[Frames]:
    """The masks of each predicted object; those of a folder are one."""
    if prediction.mask_folder is not None:
        return [predicted_masks(prediction).frames]
    return [frames_of(track) for track in prediction.tracks or ()]


def frames_of(track: Track) -> Frames:
    """The masks of one object."""
    return merged_tracks([track])


def merged_tracks(tracks: Sequence[Track]) -> Frames:
    """Frame index -> the union of all tracks in that frame."""
    by_frame: dict[int, list[RLE]] = {}
    for track in tracks:
        for index, rle in track.masks.items():
            by_frame.setdefault(index, []).append(rle)
    return {index: partial(masks.merged_runs, rles) for index, rles in by_frame.items()}


def compare(gold: Frames, prediction: Prediction, num_frames: int | None) -> MaskScores:
    """J and F of every frame that ground truth or prediction lists; `num_frames`: of the video, by the ground truth.

    Raises `BadMask` for a predicted mask that cannot be decoded. A predicted mask of another size than the
    ground truth is resized to it (nearest), and counted.
    """
    scores = compare_all(gold, [predicted_masks(prediction)], num_frames)[0]
    if scores.bad is not None:
        raise BadMask(scores.bad)
    return scores


def compare_all(gold: Frames, predictions: Sequence[PredictedMasks], num_frames: int | None) -> list[MaskScores]:
    """As `compare`, for several predictions, with every ground truth mask read once; none raises for its masks."""
    length = None if num_frames is None else max(num_frames, max(gold, default=-1) + 1, 1)
    comparisons = [_Comparison(predicted, length) for predicted in predictions]
    for index in sorted(gold.keys() | {index for predicted in predictions for index in predicted.frames}):
        gold_mask = gold[index]() if index in gold else None
        for comparison in comparisons:
            if gold_mask is not None or index in comparison.predicted.frames:
                comparison.add(index, gold_mask)
    return [comparison.scores() for comparison in comparisons]


@dataclass
class _Comparison:
    """Accumulates the frame scores of one prediction."""

    predicted: PredictedMasks
    length: int | None
    """Frames of the video; None = unknown."""
    num_resized: int = 0
    num_beyond: int = 0
    frames: dict[int, FrameScore] = field(default_factory=dict[int, FrameScore])
    beyond: dict[int, FrameScore] = field(default_factory=dict[int, FrameScore])
    unreadable: set[int] = field(default_factory=set[int])
    bad: str | None = None

    def add(self, index: int, gold_mask: FrameMask | None) -> None:
        """Compare one frame that ground truth or prediction lists."""
        is_inside = index >= 0 and (self.length is None or index < self.length)
        self.num_beyond += not is_inside
        if not is_inside and self.predicted.computed is None:
            return
        scores = self.frames if is_inside else self.beyond
        predicted_mask: FrameMask | None = None
        try:
            predicted_mask = self._fitted(index, None if gold_mask is None else size_of(gold_mask))
            scores[index] = score_frame(predicted_mask, gold_mask)
        except BadRunsError as error:
            if not error.first:
                raise ValueError(_complaint(gold_mask)) from error
            self._fail(index, _complaint(predicted_mask), is_inside=is_inside)
        except ValueError as error:
            self._fail(index, str(error), is_inside=is_inside)

    def _fail(self, index: int, reason: str, *, is_inside: bool) -> None:
        self.unreadable.add(index)
        if is_inside and self.bad is None:
            self.bad = f"frame {index}: {reason}"

    def _fitted(self, index: int, size: tuple[int, int] | None) -> FrameMask | None:
        """The predicted mask, resized to `size` (H, W) where that is given; None = empty."""
        predicted_mask = self.predicted.frames[index]() if index in self.predicted.frames else None
        if predicted_mask is None or size is None or size_of(predicted_mask) == size:
            return predicted_mask
        self.num_resized += 1
        return masks.resize(masks.to_array(predicted_mask), size)

    def scores(self) -> MaskScores:
        """Return the scores of all frames."""
        return MaskScores(
            frames=self.frames,
            num_frames=self.length,
            computed=self.predicted.computed,
            num_resized=self.num_resized,
            num_beyond=self.num_beyond,
            beyond=self.beyond,
            unreadable=frozenset(self.unreadable),
            bad=self.bad,
        )


def _complaint(mask: FrameMask | None) -> str:
    """The error of run lengths that cannot be decoded."""
    assert isinstance(mask, RunLengths), mask
    try:
        masks.to_array(mask)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"run lengths that can be drawn were refused: {mask}")
