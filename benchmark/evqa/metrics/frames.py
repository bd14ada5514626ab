"""Gold and predicted masks of one sample, compared frame by frame; one frame is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from evqa import masks
from evqa.metrics.boundary import size_of
from evqa.metrics.spatial import FrameScore, MaskScores, score_frame
from evqa.native import BadRunsError, FrameMask, Runs
from evqa.schema import RLE, Prediction, Sample, Track

Read = Callable[[], FrameMask]
"""Gives the mask of one frame."""

Frames = Mapping[int, Read]
"""Frame index -> the mask there."""


class BadMask(ValueError):
    """A predicted mask that cannot be decoded."""

    def __init__(self, reason: str, *, num_frames: int = 1) -> None:
        super().__init__(reason)
        self.num_frames = num_frames
        """Of the video, as far as known."""


class Drawn(NamedTuple):
    """The masks of a prediction."""

    frames: Frames
    num_frames: int | None = None
    """Frames of the video; None = it is not known, and nothing is drawn."""
    computed: frozenset[int] | None = None
    """Frame indices that masks were computed for; None = every frame."""


def gold_masks(sample: Sample) -> Frames | None:
    """Frame index -> the merged evidence of that frame; None where the sample has no gold masks."""
    if sample.masks is not None:
        return {index: partial(masks.read_mask, path) for index, path in masks.read_folder(sample.masks).items()}
    return None if sample.tracks is None else merged_tracks(sample.tracks)


def drawn_by(prediction: Prediction) -> Drawn:
    """The masks of a prediction, merged: of its tracks, or of its folder, whose images are read one at a time.

    A `ValueError` for a folder with files that are no masks.
    """
    computed = None if prediction.mask_frames is None else frozenset(prediction.mask_frames)
    if prediction.mask_folder is None:
        return Drawn(merged_tracks(prediction.tracks or ()), prediction.num_frames, computed)
    files = masks.read_folder(prediction.mask_folder)
    frames = {index: partial(masks.read_mask, path) for index, path in files.items()}
    last = max(frames, default=-1) + 1
    return Drawn(frames, prediction.num_frames or last, frozenset(frames))


def objects_of(prediction: Prediction) -> list[Frames]:
    """The masks of each predicted object; those of a folder are one."""
    if prediction.mask_folder is not None:
        return [drawn_by(prediction).frames]
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
    return {index: partial(masks.joined, rles) for index, rles in by_frame.items()}


def compare(gold: Frames, prediction: Prediction, num_frames: int) -> MaskScores:
    """J and F of every frame that gold or prediction lists.

    Raises `BadMask` for a predicted mask that cannot be decoded. A predicted mask of another size than gold's
    is resized (nearest) to gold's, and counted.
    """
    scores = compare_each(gold, [drawn_by(prediction)._replace(num_frames=num_frames)])[0]
    if isinstance(scores, BadMask):
        raise scores
    return scores


def compare_each(gold: Frames, drawings: Sequence[Drawn]) -> list[MaskScores | BadMask]:
    """As `compare`, for several predictions, with every gold mask read once."""
    last = max(gold, default=-1) + 1
    comparisons = [_Comparison.of(drawn, max(drawn.num_frames or 1, last)) for drawn in drawings]
    for index in sorted(gold.keys() | {index for each in comparisons for index in each.predicted}):
        theirs = gold[index]() if index in gold else None
        for each in comparisons:
            if each.bad is None and (theirs is not None or index in each.predicted):
                each.add(index, theirs)
    return [each.bad or each.scores() for each in comparisons]


@dataclass
class _Comparison:
    """One prediction while its frames are compared."""

    predicted: Frames
    """On frames that the video has."""
    num_frames: int
    num_beyond: int
    computed: frozenset[int] | None
    num_resized: int = 0
    frames: dict[int, FrameScore] = field(default_factory=dict[int, FrameScore])
    bad: BadMask | None = None
    """Its first mask that cannot be decoded; from there on nothing is compared."""

    @classmethod
    def of(cls, drawn: Drawn, num_frames: int) -> _Comparison:
        inside = {index: read for index, read in drawn.frames.items() if 0 <= index < num_frames}
        return cls(inside, num_frames, len(drawn.frames) - len(inside), drawn.computed)

    def add(self, index: int, theirs: FrameMask | None) -> None:
        try:
            ours = self._fitted(index, None if theirs is None else size_of(theirs))
        except ValueError as error:
            self._fail(index, str(error))
            return
        try:
            self.frames[index] = score_frame(ours, theirs)
        except BadRunsError as error:
            if not error.first:
                raise ValueError(_complaint(theirs)) from error
            self._fail(index, _complaint(ours))

    def _fail(self, index: int, reason: str) -> None:
        self.bad = BadMask(f"frame {index}: {reason}", num_frames=self.num_frames)

    def _fitted(self, index: int, size: tuple[int, int] | None) -> FrameMask | None:
        """The predicted mask, in gold's size where there is gold."""
        ours = self.predicted[index]() if index in self.predicted else None
        if ours is None or size is None or size_of(ours) == size:
            return ours
        self.num_resized += 1
        return masks.resize(masks.drawn(ours), size)

    def scores(self) -> MaskScores:
        return MaskScores(self.frames, self.num_frames, self.computed, self.num_resized, self.num_beyond)


def _complaint(mask: FrameMask | None) -> str:
    """What is wrong with run lengths that were refused."""
    assert isinstance(mask, Runs), mask
    try:
        masks.drawn(mask)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"run lengths that can be drawn were refused: {mask}")
