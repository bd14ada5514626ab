"""Evidence in slices: a video is cut into parts of equal length, of which some are needed to answer.

The ground truth has one span per needed slice, so that its spans state the length of a slice. A predicted span names a
slice where it covers at least half of it, or has at least half of its own length in it; a point in time names the
slice that it lies in.
"""

from __future__ import annotations

import math

from evqa.metrics.case import Case
from evqa.metrics.temporal import merge
from evqa.schema import Spans

MAX_SLICES = 100_000
"""Most slices of a video; spans that reach further name no more."""


def slices_of(spans: Spans, seconds: float) -> set[int]:
    """Return the 0-based numbers of the slices of a length in seconds that spans name."""
    numbers: set[int] = set()
    for start, end in merge(spans):
        first, last = (min(int(bound // seconds), MAX_SLICES) for bound in (start, end))
        for number in range(first, last + 1):
            shared = min(end, (number + 1) * seconds) - max(start, number * seconds)
            if shared >= (min(end - start, seconds) / 2) * (1 - 1e-9):
                numbers.add(number)
    return numbers


def _gold_and_predicted(case: Case) -> tuple[set[int], set[int]]:
    spans = case.gold_spans
    seconds = min((span.end - span.start for span in spans), default=0.0)
    if not seconds > 0:
        return set(), set()
    gold = {math.floor(span.start / seconds + 0.5) for span in spans}
    return gold, slices_of(case.predicted_spans, seconds)


def slice_recall(case: Case) -> float | None:
    """Recall: share of the needed slices that are predicted; None without needed slices."""
    gold, predicted = _gold_and_predicted(case)
    return len(gold & predicted) / len(gold) if gold else None


def slice_precision(case: Case) -> float | None:
    """Precision: share of the predicted slices that are needed; 0 without predicted, None without needed slices."""
    gold, predicted = _gold_and_predicted(case)
    if not gold:
        return None
    return len(gold & predicted) / len(predicted) if predicted else 0.0


def slice_f1(case: Case) -> float | None:
    """Harmonic mean of recall and precision of slices."""
    gold, predicted = _gold_and_predicted(case)
    return 2 * len(gold & predicted) / (len(gold) + len(predicted)) if gold else None


def all_slices(case: Case) -> float | None:
    """1 if all needed slices are predicted, else 0; None without needed slices."""
    gold, predicted = _gold_and_predicted(case)
    return float(gold <= predicted) if gold else None
