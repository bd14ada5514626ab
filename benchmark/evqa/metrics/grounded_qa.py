"""Answers with evidence in time, as other benchmarks combine them."""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownVariableType=false
# scipy has no types

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from evqa.metrics.temporal import hull_iou, tiou
from evqa.schema import Span, Spans

CG_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""IoU thresholds of CG-Bench's rec@IoU and acc@IoU."""


def mean_reached(value: float, thresholds: Sequence[float] = CG_THRESHOLDS) -> float:
    """Share of the thresholds that a value is at least (rec@IoU of CG-Bench, `stat_with_key`)."""
    return sum(value >= threshold for threshold in thresholds) / len(thresholds)


def mean_exceeded(value: float, thresholds: Sequence[float] = CG_THRESHOLDS) -> float:
    """As `mean_reached`, with values that must exceed the threshold: VLMEvalKit's CG-Bench."""
    return sum(value > threshold for threshold in thresholds) / len(thresholds)


def recovery(long_accuracy: float, clue_accuracy: float) -> float | None:
    """CRR of CG-Bench: accuracy on the whole video, at most that on the clues alone, over the latter.

    None where nothing is right on the clues: there is nothing to recover.
    """
    return min(long_accuracy, clue_accuracy) / clue_accuracy if clue_accuracy > 0 else None


def arithmetic_mean(accuracy: float, time: float, space: float) -> float:
    """AM of V-STaR: mean of accuracy, m_tIoU and m_vIoU."""
    return (accuracy + time + space) / 3


def log_geometric_mean(accuracy: float, time: float, space: float) -> float:
    """LGM of V-STaR: mean of -ln(1 - value) of accuracy, m_tIoU and m_vIoU; infinite where one of them is 1."""
    if max(accuracy, time, space) >= 1:
        return math.inf
    return -sum(math.log(1 - value) for value in (accuracy, time, space)) / 3


class OneToMany(NamedTuple):
    """One query, several moments."""

    tiou: float
    """IoU of the merged sets."""
    precision: tuple[float, ...]
    """Share of the predicted spans that are matched, per threshold."""
    recall: tuple[float, ...]
    """Share of the gold spans that are matched, per threshold."""
    f1: tuple[float, ...]
    right_count: float
    """1 if there are as many predicted as gold spans (C-Acc)."""

    @property
    def effective_f1(self) -> float:
        """EtF1: the mean F1 if the count is right, else 0."""
        return self.right_count * sum(self.f1) / len(self.f1)


OMTG_THRESHOLDS = (0.3, 0.5, 0.7)


def one_to_many(predicted: Spans, gold: Spans) -> OneToMany:
    """Moments matched one to one so that the sum of their IoU is largest (OMTG, One-to-Many Temporal Grounding)."""
    return _matched(predicted, gold, tiou(predicted, gold))


def one_to_many_as_shipped(predicted: Spans, gold: Spans) -> OneToMany:
    """As `one_to_many` in VLMEvalKit's code, whose merging changes its inputs before they are matched.

    The earliest span is matched as if it ended where the run of overlapping spans ends that it begins.
    """
    if not (predicted and gold):
        return one_to_many(predicted, gold)
    return _matched(_stretched(predicted), _stretched(gold), tiou(predicted, gold))


def _matched(predicted: Spans, gold: Spans, merged_iou: float) -> OneToMany:
    if not (predicted and gold):
        nothing = (0.0,) * len(OMTG_THRESHOLDS)
        return OneToMany(0.0, nothing, nothing, nothing, float(len(predicted) == len(gold)))
    ious = np.array([[hull_iou(moment, target) for target in gold] for moment in predicted])
    pairs = cast("tuple[NDArray[np.intp], NDArray[np.intp]]", linear_sum_assignment(ious, maximize=True))
    matched = ious[pairs]
    hits = [int((matched >= threshold).sum()) for threshold in OMTG_THRESHOLDS]
    return OneToMany(
        tiou=merged_iou,
        precision=tuple(hit / len(predicted) for hit in hits),
        recall=tuple(hit / len(gold) for hit in hits),
        f1=tuple(2 * hit / (len(predicted) + len(gold)) for hit in hits),
        right_count=float(len(predicted) == len(gold)),
    )


def _stretched(spans: Spans) -> Spans:
    """Spans in their order, the earliest one ending where the run of overlaps ends that it begins."""
    order = sorted(range(len(spans)), key=lambda place: spans[place])
    end = spans[order[0]].end
    for place in order[1:]:
        if spans[place].start > end:
            break
        end = max(end, spans[place].end)
    return tuple(Span(span.start, end) if place == order[0] else span for place, span in enumerate(spans))
