"""Right for the right reason: the answer together with its evidence."""

from __future__ import annotations

from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case
from evqa.metrics.temporal import tiop, tiou


def acc_gqa(case: Case, threshold: float = 0.5) -> float:
    """1 if the answer is right and IoP reaches the threshold (Acc@GQA of NExT-GQA)."""
    return accuracy(case) * (tiop(case.predicted_spans, case.gold_spans) >= threshold)


def all_three(case: Case, threshold: float = 0.5) -> float:
    """1 if the answer is right and both tIoU and J&F reach the threshold."""
    assert case.masks is not None, f"sample {case.sample.id} has no gold masks"
    in_time = tiou(case.predicted_spans, case.gold_spans) >= threshold
    return accuracy(case) * in_time * (case.masks.mean("jf") >= threshold)
