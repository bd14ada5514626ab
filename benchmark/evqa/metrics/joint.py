"""Right for the right reason: the answer together with its evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case
from evqa.metrics.grounded_qa import arithmetic_mean
from evqa.metrics.spatial import MaskScores
from evqa.metrics.temporal import tiop, tiou


def acc_gqa(case: Case, threshold: float = 0.5) -> float:
    """1 if the answer is right and IoP reaches the threshold (Acc@GQA of NExT-GQA)."""
    return accuracy(case) * (tiop(case.predicted_spans, case.gold_spans) >= threshold)


def right_in_time(case: Case, threshold: float = 0.5) -> float:
    """1 if the answer is right and tIoU reaches the threshold (ReXTime's VQA,mIoU@t, TVQA+'s ASA)."""
    return accuracy(case) * (tiou(case.predicted_spans, case.gold_spans) >= threshold)


def all_three(case: Case, threshold: float = 0.5) -> float:
    """1 if the answer is right and both tIoU and J&F reach the threshold."""
    return _right_with_evidence(case, _masks(case).mean("jf"), threshold)


def all_three_on_evidence_frames(case: Case, threshold: float = 0.5) -> float | None:
    """As `all_three`, with J&F over the frames that hold evidence; None where no frame does.

    Over all frames an empty mask has the share of frames without evidence for its J&F, which may reach the threshold.
    """
    in_space = _masks(case).mean_where_gold("jf")
    return None if in_space is None else _right_with_evidence(case, in_space, threshold)


def _right_with_evidence(case: Case, in_space: float, threshold: float) -> float:
    in_time = tiou(case.predicted_spans, case.gold_spans) >= threshold
    return accuracy(case) * in_time * (in_space >= threshold)


def area(case: Case) -> float:
    """Accuracy times tIoU times J&F: what one sample adds to the volume under the joint surface.

    The surface is, for thresholds t and s in [0, 1], the share of samples that are right with tIoU >= t and
    J&F >= s; its integral over both is the mean of this product. One number, no threshold to choose.
    """
    return accuracy(case) * tiou(case.predicted_spans, case.gold_spans) * _masks(case).mean("jf")


def v_star_mean(case: Case) -> float | None:
    """Mean of accuracy, tIoU and J over the frames that hold evidence: AM of V-STaR, with masks for boxes.

    None where no frame holds evidence.
    """
    in_space = _masks(case).mean_where_gold("j")
    if in_space is None:
        return None
    return arithmetic_mean(accuracy(case), tiou(case.predicted_spans, case.gold_spans), in_space)


THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


class Surface(NamedTuple):
    """The share of samples that are right, on time and in place, over both thresholds."""

    times: tuple[float, ...]
    spaces: tuple[float, ...]
    shares: NDArray[np.float64]
    """`[times, spaces]`"""


def surface(
    rows: Sequence[tuple[float, float, float]],
    times: tuple[float, ...] = THRESHOLDS,
    spaces: tuple[float, ...] = THRESHOLDS,
) -> Surface | None:
    """The joint grid of samples given as (accuracy, tIoU, J&F); thresholds are met by their value. None of none."""
    if not rows:
        return None
    right, in_time, in_space = np.asarray(rows, dtype=np.float64).T  # [n] each
    on_time = in_time[:, None] >= np.asarray(times)  # [n, times]
    in_place = in_space[:, None] >= np.asarray(spaces)  # [n, spaces]
    shares = np.einsum("n,nt,ns->ts", right, on_time.astype(float), in_place.astype(float)) / len(rows)
    return Surface(times, spaces, shares)


def both(*conditions: Callable[[Case], float | None]) -> Callable[[Case], float | None]:
    """The product of several measures of a case; None where one of them does not apply."""

    def value(case: Case) -> float | None:
        product = 1.0
        for condition in conditions:
            factor = condition(case)
            if factor is None:
                return None
            product *= factor
        return product

    return value


def _masks(case: Case) -> MaskScores:
    assert case.masks is not None, f"sample {case.sample.id} has no gold masks"
    return case.masks
