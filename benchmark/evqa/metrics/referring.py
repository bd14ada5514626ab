"""Metrics of referring segmentation in videos and images, over the frames that a sample refers to."""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownVariableType=false
# scipy has no types

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from evqa import masks
from evqa.metrics.boxes import box_iou
from evqa.metrics.case import Case
from evqa.metrics.frames import merged_tracks, predicted_masks
from evqa.metrics.spatial import BOTH_EMPTY, FrameScore, MaskMeasure, MaskScores
from evqa.schema import Track

Mask = NDArray[np.bool_]

MIN_COMPONENT = 10
"""Pixels of a connected component below which it does not count for the box of a mask (UniPixel, eval_refcoco)."""

EPSILON = 1e-6
"""Added to the pixels of the foreground in the robustness of ReVOS."""

LISA_EPSILON = 1e-5
"""Added to the union of two masks in the gIoU of LISA."""


def on_annotated_frames(measure: MaskMeasure) -> Callable[[Case], float]:
    """Mean of J, F or J&F over the frames that a sample refers to, all frames where it states none."""
    return lambda case: _mean(case, lambda score, _: float(getattr(score, measure)))


def pixel_accuracy(case: Case) -> float:
    """Share of the pixels of a frame that are right (A of ReVOS), mean over the frames; 1 for a frame without masks."""
    return _mean(case, lambda score, _: 1 - score.num_wrong / score.num_pixels if score.num_pixels else 1.0)


def robustness(case: Case) -> float | None:
    """R of ReVOS: 1 less the false pixels over those of all annotated objects, at least 0; mean over the frames.

    None where the data set does not state the foreground. On a frame without foreground any false pixel gives 0.
    """
    foreground = case.sample.foreground_pixels
    if foreground is None:
        return None
    return _mean(case, lambda score, index: max(1 - score.num_false / (foreground.get(index, 0) + EPSILON), 0.0))


def _mean(case: Case, value: Callable[[FrameScore, int], float]) -> float:
    """Mean of a function of (score, index) over the frames of a sample."""
    scores = _scores(case)
    frames = range(scores.known_length()) if case.sample.frames is None else case.sample.frames
    return sum(value(scores.frames.get(index, BOTH_EMPTY), index) for index in frames) / len(frames)


def _scores(case: Case) -> MaskScores:
    assert case.masks is not None, f"sample {case.sample.id} has no ground truth masks"
    return case.masks


def rounded(value: Callable[[Case], float | None]) -> Callable[[Case], float | None]:
    """Return a value in percent with two decimals, as some evaluators round each sample before the mean."""

    def in_hundredths(case: Case) -> float | None:
        return None if (number := value(case)) is None else round(100 * number, 2) / 100

    return in_hundredths


# Images


def intersection(case: Case, *, leaves_out: bool = True) -> float:
    """Pixels in both masks of an image; `leaves_out`: without those that the ground truth ignores."""
    return float(_overlap(case, leaves_out=leaves_out)[0])


def union(case: Case, *, leaves_out: bool = True) -> float:
    """Pixels in either mask of an image; `leaves_out`: without those that the ground truth ignores."""
    return float(_overlap(case, leaves_out=leaves_out)[1])


def image_iou(case: Case, *, leaves_out: bool = True) -> float:
    """Intersection over union of an image, 1 where both masks are empty."""
    both, either = _overlap(case, leaves_out=leaves_out)
    return both / either if either else 1.0


def lisa_iou(case: Case) -> float:
    """As `image_iou`, with the constant that LISA's evaluator adds to the union."""
    both, either = _overlap(case, leaves_out=True)
    return both / (either + LISA_EPSILON) if either else 1.0


def _overlap(case: Case, *, leaves_out: bool) -> tuple[int, int]:
    """Return (pixels in both, pixels in either) of the first frame."""
    if case.sample.ignored is None or not leaves_out:
        score = _scores(case).frames.get(0, BOTH_EMPTY)
        return score.num_both, score.num_both + score.num_wrong
    gold = _first_mask(case.sample.tracks or ())
    ignored = _first_mask(case.sample.ignored)
    predicted = _predicted_mask(case)
    shape = next((mask.shape for mask in (gold, ignored, predicted) if mask is not None), (1, 1))
    gold, ignored, predicted = (_full(mask, (shape[0], shape[1])) for mask in (gold, ignored, predicted))
    return int((gold & predicted & ~ignored).sum()), int(((gold | predicted) & ~ignored).sum())


def _full(mask: Mask | None, size: tuple[int, int]) -> Mask:
    if mask is None:
        return np.zeros(size, dtype=np.bool_)
    return mask if mask.shape == size else masks.resize(mask, size)


def _first_mask(tracks: tuple[Track, ...]) -> Mask | None:
    """Union of some tracks in the first frame; None = empty."""
    frames = merged_tracks(tracks)
    return masks.to_array(frames[0]()) if 0 in frames else None


def _predicted_mask(case: Case) -> Mask | None:
    frames = predicted_masks(case.prediction).frames
    return masks.to_array(frames[0]()) if 0 in frames else None


def box_is_right(case: Case) -> float:
    """1 where the box around the predicted mask of an image has an IoU of at least 0.5 with the annotated box.

    Components of fewer than `MIN_COMPONENT` pixels (with 8 neighbours) do not count.
    """
    mask, boxes = _predicted_mask(case), case.sample.boxes or {}
    box = None if mask is None else box_around(mask)
    return float(box is not None and 0 in boxes and box_iou(box, boxes[0]) >= 0.5)


def box_around(mask: Mask) -> tuple[float, float, float, float] | None:
    """Box around the components of a mask that are large enough, far sides exclusive; None = there are none."""
    labels = np.zeros(mask.shape, dtype=np.int32)
    ndimage.label(mask, structure=np.ones((3, 3), dtype=np.int32), output=labels)
    sizes = np.bincount(labels.ravel())
    large = np.isin(labels, [label for label in range(1, len(sizes)) if sizes[label] >= MIN_COMPONENT])
    if not large.any():
        return None
    rows, columns = np.flatnonzero(large.any(axis=1)), np.flatnonzero(large.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
