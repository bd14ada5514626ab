"""Evidence in space as boxes at times: IoU of boxes, of sets of boxes, and of tubes.

A box is `(x0, y0, x1, y1)` in any one unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from evqa.metrics.ranked import voc_ap

Box = tuple[float, float, float, float]

Boxes = Sequence[Box]

Moment = TypeVar("Moment", int, float)
"""A frame index, or a second."""


def box_iou(first: Box, second: Box) -> float:
    """Area in both over area in either; the area of a box with reversed ends is taken as it is (V-STaR)."""
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    shared = width * height
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


def best_box_iou(predicted: Boxes, gold: Box) -> float:
    """IoU of the predicted box that fits gold best; 0 where there is none."""
    return max((box_iou(box, gold) for box in predicted), default=0.0)


def union_iou(predicted: Boxes, gold: Boxes) -> float:
    """IoU of the regions that two sets of boxes cover; boxes are cut to [0, 1] and empty ones left out.

    VideoZeroBench's vIoU of one moment: 1 where gold has no box.
    """
    gold_inside, predicted_inside = _clipped(gold), _clipped(predicted)
    if not gold_inside:
        return 1.0
    edges = np.array([*gold_inside, *predicted_inside])  # [n, 4]
    xs, ys = np.unique(edges[:, [0, 2]]), np.unique(edges[:, [1, 3]])
    cells = np.diff(xs)[:, None] * np.diff(ys)[None, :]
    gold_cells, predicted_cells = _covered(gold_inside, xs, ys), _covered(predicted_inside, xs, ys)
    return float(cells[gold_cells & predicted_cells].sum() / cells[gold_cells | predicted_cells].sum())


def mean_over_gold(values: Sequence[float]) -> float:
    """Mean over the moments that gold annotates (m_vIoU of V-STaR); 0 without any."""
    return sum(values) / len(values) if values else 0.0


def share_reaching(values: Sequence[float], threshold: float) -> float:
    """Share of the moments with at least this IoU (AP@ of V-STaR); 0 without any."""
    return sum(value >= threshold for value in values) / len(values) if values else 0.0


def tube_iou(predicted: Mapping[Moment, Box], gold: Mapping[Moment, Box]) -> float:
    """Tube IoU (vIoU): box IoU summed over the moments of both, over the number of moments of either.

    VidSTG (Zhang et al. 2020) and HC-STVG. 0 where neither has a moment.
    """
    either = predicted.keys() | gold.keys()
    both = predicted.keys() & gold.keys()
    return sum(box_iou(predicted[moment], gold[moment]) for moment in both) / len(either) if either else 0.0


def at_each(predicted: Mapping[Moment, Box], gold: Mapping[Moment, Box]) -> list[float]:
    """Box IoU at each moment of gold, 0 where there is no prediction."""
    return [box_iou(predicted[moment], box) if moment in predicted else 0.0 for moment, box in gold.items()]


class Detection(NamedTuple):
    """A box that a method draws."""

    label: str
    score: float
    """Its confidence, of any scale."""
    box: Box


Labelled = tuple[str, Box]


def detection_ap(
    images: Sequence[tuple[Sequence[Detection], Sequence[Labelled]]], threshold: float, margin: float = 0.0
) -> dict[str, float]:
    """Label -> AP over images given as (predicted, gold), for the labels that gold has (PASCAL VOC 2010).

    A prediction meets the gold box of its label that fits it best if the IoU is at least the threshold; one that
    meets a box again is a miss. `margin` is added to the far sides of all boxes: evaluators that take them as the
    last pixel, as TVQA+'s does, have 1 or 2.
    """
    number: Counter[str] = Counter(label for _, gold in images for label, _ in gold)
    ranked: dict[str, list[tuple[float, bool]]] = {label: [] for label in number}
    for predicted, gold in images:
        met: set[int] = set()
        for guess in sorted(predicted, key=lambda guess: -guess.score):
            if guess.label not in ranked:
                continue
            ious = {
                place: box_iou(_widened(guess.box, margin), _widened(box, margin))
                for place, (label, box) in enumerate(gold)
                if label == guess.label
            }
            best = max(ious, key=lambda place: ious[place], default=None)
            is_hit = best is not None and ious[best] >= threshold and best not in met
            if best is not None and ious[best] >= threshold:
                met.add(best)
            ranked[guess.label].append((guess.score, is_hit))
    return {
        label: voc_ap([hit for _, hit in sorted(guesses, key=lambda pair: -pair[0])], number[label])
        for label, guesses in ranked.items()
    }


def _widened(box: Box, margin: float) -> Box:
    return box[0], box[1], box[2] + margin, box[3] + margin


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _clipped(boxes: Boxes) -> list[Box]:
    cut = [tuple(min(1.0, max(0.0, edge)) for edge in box) for box in boxes]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in cut if x0 < x1 and y0 < y1]


def _covered(boxes: Boxes, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which cells of the grid between the edges `xs` and `ys` a box covers, `[len(xs) - 1, len(ys) - 1]`."""
    covered = np.zeros((len(xs) - 1, len(ys) - 1), dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        columns, rows = np.searchsorted(xs, [x0, x1]), np.searchsorted(ys, [y0, y1])
        covered[columns[0] : columns[1], rows[0] : rows[1]] = True
    return covered
