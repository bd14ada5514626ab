"""Evidence in time: intersection over union (IoU) and over prediction (IoP) of sets of spans.

A set of spans is the points in time that it covers: overlapping spans are merged first, so that saying a span
twice gains nothing. Every value lies in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

from evqa.schema import Span, Spans


def merge(spans: Spans) -> list[Span]:
    """The same points in time as ascending spans that neither overlap nor touch."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, end))
        else:
            merged.append(Span(start, end))
    return merged


def length(spans: Spans) -> float:
    """Seconds that the spans cover together."""
    return sum(span.end - span.start for span in merge(spans))


def overlap(first: Spans, second: Spans) -> float:
    """Seconds that both sets cover."""
    left, right = merge(first), merge(second)
    total, i, j = 0.0, 0, 0
    while i < len(left) and j < len(right):
        total += max(0.0, min(left[i].end, right[j].end) - max(left[i].start, right[j].start))
        if left[i].end < right[j].end:
            i += 1
        else:
            j += 1
    return total


def tiou(predicted: Spans, gold: Spans) -> float:
    """Seconds in both over seconds in either. Two sets without duration: 1 if they are equal, else 0."""
    if merge(predicted) == merge(gold):
        return 1.0
    shared = overlap(predicted, gold)
    union = length(predicted) + length(gold) - shared
    return min(1.0, shared / union) if union > 0 else 0.0


def tiop(predicted: Spans, gold: Spans) -> float:
    """Share of the predicted seconds that are gold. Without duration: 1 if the sets are equal, else 0."""
    if merge(predicted) == merge(gold):
        return 1.0
    seconds = length(predicted)
    return min(1.0, overlap(predicted, gold) / seconds) if seconds > 0 else 0.0


def tmean(predicted: Spans, gold: Spans) -> float:
    """Mean of IoU and IoP."""
    return (tiou(predicted, gold) + tiop(predicted, gold)) / 2


def hull_iou(predicted: Span, gold: Span) -> float:
    """IoU of two single spans with their hull as the union: 0 where they are apart, else as `tiou`.

    The form of QVHighlights' R1, NExT-GQA, ReXTime, TVQA+, Charades-STA, Ego4D NLQ and V-STaR. It is no measure
    of sets of spans. A span without duration, or with its ends reversed, scores 0.
    """
    shared = max(0.0, min(predicted.end, gold.end) - max(predicted.start, gold.start))
    hull = max(predicted.end, gold.end) - min(predicted.start, gold.start)
    return shared / hull if hull > 0 else 0.0


def signed_iou(predicted: Span, gold: Span) -> float:
    """IoU of two single spans as QVHighlights divides it: the length of a reversed span is below 0.

    NaN where the union is 0, as of a reversed span that is as long as the gold span.
    """
    shared = max(0.0, min(predicted.end, gold.end) - max(predicted.start, gold.start))
    union = (predicted.end - predicted.start) + (gold.end - gold.start) - shared
    return shared / union if union else math.nan


def hull_iop(predicted: Span, gold: Span) -> float:
    """Share of one predicted span that is in one gold span; a point in time inside gold scores 1.

    NExT-GQA's `get_tIoU`; the point is what makes its IoP easy to game.
    """
    seconds = predicted.end - predicted.start
    if seconds == 0:
        return float(gold.start <= predicted.start <= gold.end)
    return max(0.0, min(predicted.end, gold.end) - max(predicted.start, gold.start)) / seconds


def first_to_best(measure: Callable[[Span, Span], float]) -> Callable[[Spans, Spans], float]:
    """The first predicted span against the gold span that suits it best; 0 where either side has none."""

    def best(predicted: Spans, gold: Spans) -> float:
        return max((measure(predicted[0], span) for span in gold), default=0.0) if predicted else 0.0

    return best


def unmerged_tiou(predicted: Spans, gold: Spans) -> float:
    """IoU as ST-Evidence computes it: sums over all pairs of spans, unmerged, so that it can exceed 1."""
    shared = _unmerged_overlap(predicted, gold)
    union = _unmerged_length(predicted) + _unmerged_length(gold) - shared
    return shared / union if predicted and gold and union > 0 else 0.0


def unmerged_tiop(predicted: Spans, gold: Spans) -> float:
    """IoP as ST-Evidence computes it: sums over all pairs of spans, unmerged, so that it can exceed 1."""
    seconds = _unmerged_length(predicted)
    return _unmerged_overlap(predicted, gold) / seconds if predicted and gold and seconds > 0 else 0.0


def _unmerged_length(spans: Spans) -> float:
    return sum(max(0.0, end - start) for start, end in spans)


def _unmerged_overlap(first: Spans, second: Spans) -> float:
    pairs = ((a, b) for a in first for b in second)
    return sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a, b in pairs)
