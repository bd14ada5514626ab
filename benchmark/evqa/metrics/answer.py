"""The answer: one option of several."""

from __future__ import annotations

from evqa.metrics.case import Case


def accuracy(case: Case) -> float:
    """1 if the chosen option is the right one, or reads the same, else 0."""
    chosen, right, options = case.prediction.answer, case.sample.answer, case.sample.options
    if chosen is None or right is None or not 0 <= chosen < len(options):
        return 0.0
    return float(chosen == right or options[chosen].strip() == options[right].strip())
