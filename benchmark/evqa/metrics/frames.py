"""Gold and predicted masks of one sample, compared frame by frame; one frame is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np

from evqa import masks
from evqa.metrics.boundary import Mask
from evqa.metrics.spatial import FrameScore, MaskScores, score_frame
from evqa.schema import RLE, Prediction, Sample, Track

Read = Callable[[], Mask]
"""Gives the mask `[H, W]` of one frame."""


class BadMask(ValueError):
    """A predicted mask that cannot be decoded."""


def gold_masks(sample: Sample) -> dict[int, Read] | None:
    """Frame index -> the merged evidence of that frame; None where the sample has no gold masks."""
    if sample.masks is not None:
        return {index: partial(masks.read_png, path) for index, path in masks.read_folder(sample.masks).items()}
    return None if sample.tracks is None else merged_tracks(sample.tracks)


def merged_tracks(tracks: Sequence[Track]) -> dict[int, Read]:
    """Frame index -> the union of all tracks in that frame."""
    by_frame: dict[int, list[RLE]] = {}
    for track in tracks:
        for index, rle in track.masks.items():
            by_frame.setdefault(index, []).append(rle)
    return {index: partial(_union, rles) for index, rles in by_frame.items()}


def compare(gold: dict[int, Read], prediction: Prediction, num_frames: int) -> MaskScores:
    """J and F of every frame that gold or prediction lists.

    Raises `BadMask` for a predicted mask that cannot be decoded. A predicted mask of another size than gold's
    is resized (nearest) to gold's, and counted.
    """
    predicted = merged_tracks(prediction.tracks or ())
    num_frames = max(num_frames, max(gold, default=-1) + 1)
    frames: dict[int, FrameScore] = {}
    num_resized = 0
    inside = {index: read for index, read in predicted.items() if 0 <= index < num_frames}
    for index in sorted(gold.keys() | inside.keys()):
        theirs = gold[index]() if index in gold else None
        ours = _read_predicted(inside[index], index) if index in inside else None
        if ours is not None and theirs is not None and ours.shape != theirs.shape:
            ours = masks.resize(ours, (theirs.shape[0], theirs.shape[1]))
            num_resized += 1
        frames[index] = score_frame(ours, theirs)
    computed = None if prediction.mask_frames is None else frozenset(prediction.mask_frames)
    return MaskScores(frames, num_frames, computed, num_resized, num_beyond=len(predicted) - len(inside))


def _read_predicted(read: Read, index: int) -> Mask:
    try:
        return read()
    except ValueError as error:
        raise BadMask(f"frame {index}: {error}") from error


def _union(rles: Sequence[RLE]) -> Mask:
    sizes = {rle.size for rle in rles}
    if len(sizes) > 1:
        raise ValueError(f"the masks of one frame need one size, got {sorted(sizes)}")
    return reduce(np.logical_or, (masks.decode(rle) for rle in rles))
