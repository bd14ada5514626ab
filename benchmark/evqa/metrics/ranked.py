"""Ranked guesses: windows of a video in order of confidence (moment retrieval) and scores of clips (highlights)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from evqa.metrics.temporal import hull_iou
from evqa.schema import Span, Spans

Iou = Callable[[Span, Span], float]
"""Of a predicted and a gold span."""


class Ranked(NamedTuple):
    """One guess with its confidence, of any scale."""

    span: Span
    score: float


def in_given_order(spans: Spans) -> tuple[Ranked, ...]:
    """Spans whose order is their rank."""
    return tuple(Ranked(span, -float(place)) for place, span in enumerate(spans))


def hit_at(ranked: Spans, gold: Spans, *, k: int, threshold: float) -> float:
    """1 if one of the first k windows has an IoU of at least the threshold with a gold window (R@k)."""
    return float(any(hull_iou(window, span) >= threshold for window in ranked[:k] for span in gold))


def hit_above(ranked: Spans, gold: Spans, *, k: int, threshold: float) -> float:
    """As `hit_at`, but the IoU must exceed the threshold.

    R@k of Ego4D's natural language queries, `evaluate_ego4d_nlq.py`.
    """
    return float(any(hull_iou(window, span) > threshold for window in ranked[:k] for span in gold))


def average_precisions(
    ranked: Sequence[Ranked], gold: Spans, thresholds: Sequence[float], iou: Iou = hull_iou
) -> list[float]:
    """AP of one query at each IoU threshold: interpolated precision over recall, each gold window met once.

    QVHighlights `standalone_eval`, after Pascal VOC and ActivityNet: of several free gold windows that a guess
    reaches it takes the one with the highest IoU. 0 where either side has no window. An IoU of NaN (`signed_iou`) is
    above every threshold, since the evaluator asks whether it is below.
    """
    guesses = sorted(ranked, key=lambda guess: -guess.score)
    ious = [[iou(guess.span, span) for span in gold] for guess in guesses]
    return [_average_precision(ious, len(gold), threshold) for threshold in thresholds]


def mean_average_precision(
    ranked: Sequence[Ranked], gold: Spans, thresholds: Sequence[float], iou: Iou = hull_iou
) -> float:
    """Mean of `average_precisions` over the thresholds."""
    return sum(average_precisions(ranked, gold, thresholds, iou)) / len(thresholds)


def _average_precision(ious: Sequence[Sequence[float]], num_gold: int, threshold: float) -> float:
    """AP from the IoU of each guess, best first, with each gold window."""
    met: set[int] = set()
    is_hit: list[bool] = []
    for row in ious:
        free = [place for place in range(num_gold) if not row[place] < threshold and place not in met]
        is_hit.append(bool(free))
        if free:
            met.add(max(free, key=lambda place: (math.isnan(row[place]), row[place], place)))
    return voc_ap(is_hit, num_gold)


def voc_ap(is_hit: Sequence[bool], num_gold: int) -> float:
    """AP of guesses, best first: the area under precision over recall, the precision being the best from there on."""
    precision = [num_hits / rank for rank, num_hits in enumerate(np.cumsum(is_hit).tolist(), start=1)]
    total, best = 0.0, 0.0
    for value, hit in zip(reversed(precision), reversed(is_hit), strict=True):
        best = max(best, value) if hit else best
        total += best * hit
    return total / num_gold if num_gold else 0.0


def highlight_ap(scores: Sequence[float], is_highlight: Sequence[bool]) -> float:
    """AP of the clips of one video by their scores: mean of the interpolated precision over the steps of recall.

    QVHighlights' highlight detection (`get_ap`) for one annotator; clips of equal score are one step, which counts
    once however many highlights it finds. A video whose clips are all highlights scores 1, one without any 0.
    Clips without a score count as scored 0, scores beyond the video are left out.
    """
    if all(is_highlight) or not any(is_highlight):
        return float(bool(is_highlight) and all(is_highlight))
    ranking = np.zeros(len(is_highlight))
    ranking[: min(len(scores), len(ranking))] = scores[: len(ranking)]
    order = np.argsort(-ranking, kind="stable")
    num_hits = np.cumsum(np.array(is_highlight, dtype=np.float64)[order])
    ends = np.append(np.flatnonzero(np.diff(ranking[order])), len(num_hits) - 1)
    best = np.maximum.accumulate((num_hits[ends] / (ends + 1))[::-1])[::-1]
    return float(best[np.diff(num_hits[ends], prepend=0.0) > 0].mean())


def highlight_hit(scores: Sequence[float], is_highlight: Sequence[bool]) -> float:
    """1 if the clip with the highest score is a highlight; 0 where that clip is none of the video's."""
    if not scores:
        return 0.0
    place = int(np.argmax(np.asarray(scores)))
    return float(place < len(is_highlight) and is_highlight[place])
