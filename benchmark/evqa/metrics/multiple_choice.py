"""The multiple-choice task: which option was chosen as the answer, as evidence in time, and in space."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case, GoldField, Metric, Preset
from evqa.metrics.means import Mean, State

ALL: tuple[GoldField, ...] = ("answer", "time_choice", "mask_choice")
OURS = "this benchmark"
ORIGINAL = "ST-Evidence, eval_st_evidence_mcq.py"


def time_accuracy(case: Case) -> float:
    """1 if the chosen evidence in time is the right one, else 0."""
    chosen = case.prediction.time_choice
    return float(chosen is not None and chosen == case.sample.time_answer)


def space_accuracy(case: Case) -> float:
    """1 if the chosen evidence in space is the right one, else 0."""
    chosen = case.prediction.mask_choice
    return float(chosen is not None and chosen == case.sample.mask_answer)


def letter_accuracy(case: Case) -> float:
    """1 if the chosen letter is the right one, else 0; another letter with the same text is wrong."""
    chosen = case.prediction.answer
    return float(chosen is not None and chosen == case.sample.answer)


def all_right(case: Case) -> float:
    """1 if all three choices are right, else 0."""
    return accuracy(case) * time_accuracy(case) * space_accuracy(case)


def _row(
    needs: tuple[GoldField, ...], value: Callable[[Case], float], definition: str, drops: frozenset[State] | None = None
) -> Metric:
    source = OURS if drops is None else ORIGINAL
    return Metric(
        needs=needs,
        value=value,
        definition=definition,
        source=source,
        excluded_states=drops or frozenset(),
    )


def pooled(means: Mapping[str, Mean]) -> float | None:
    """The original's overall accuracy: what is right in all three tasks over all that has gold in them."""
    counted = [(mean.mean, mean.n_total - mean.n_missing) for mean in means.values() if mean.mean is not None]
    total = sum(number for _, number in counted)
    return sum(share * number for share, number in counted) / total if total else None


NOT_IN_FILE: frozenset[State] = frozenset({"missing"})

CHOICE_PRESETS: dict[str, Preset] = {
    "mcq": Preset(
        metrics={
            "Acc": _row(("answer",), accuracy, "the chosen answer is the right one"),
            "Acc time": _row(("time_choice",), time_accuracy, "the chosen evidence in time is the right one"),
            "Acc space": _row(("mask_choice",), space_accuracy, "the chosen evidence in space is the right one"),
            "all right": _row(ALL, all_right, "all three choices are right, where there are three questions"),
        },
        about="multiple choice; a choice that is missing, failed or unreadable is wrong",
    ),
    "st-evidence-mcq": Preset(
        metrics={
            "Acc": _row(("answer",), letter_accuracy, "the chosen letter is the right one", NOT_IN_FILE),
            "Acc time": _row(("time_choice",), time_accuracy, "the chosen letter is the right one", NOT_IN_FILE),
            "Acc space": _row(("mask_choice",), space_accuracy, "the chosen letter is the right one", NOT_IN_FILE),
        },
        about="the original's convention for multiple choice: samples that the file does not have leave the mean; "
        "overall is pooled over the three tasks",
        derived={"overall": pooled},
    ),
}
"""Presets of the multiple-choice task."""
