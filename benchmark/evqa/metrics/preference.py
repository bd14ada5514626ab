"""Which of two is better: a judge's verdicts against people's, with ties and without.

A verdict is 1 (the first is better), -1 (the second) or 0 (a tie); a margin is a score of the first minus one of
the second, whose sign is a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Vote = Literal["first", "second", "both-good", "both-bad", "tie"]
"""Vote of a judge. GenAI-Bench distinguishes two kinds of ties; "tie" = a tie of unspecified kind."""

VERDICTS: dict[Vote, int] = {"first": 1, "second": -1, "both-good": 0, "both-bad": 0, "tie": 0}
"""Vote -> verdict."""


LABEL_VOTES: dict[int, Vote] = {1: "first", 2: "second", 0: "tie"}
"""Label of a judge in numbers (VR-Thinker) -> vote."""

PREFERENCE_VOTES: dict[str, Vote] = {"first": "first", "second": "second", "tie": "both-good", "bad": "both-bad"}
"""Value of `Sample.preferences` -> vote."""


def same_vote(vote: Vote | None, human: Vote) -> float:
    """1 if judge and people agree on one of four classes (the accuracy of GenAI-Bench); unread is wrong.

    As in its published numbers, a tie of no kind agrees with either kind.
    """
    return same_verdict(vote, human) if vote == "tie" else float(vote == human)


def same_verdict(vote: Vote | None, human: Vote) -> float:
    """1 if they agree on one of three classes, the two kinds of ties being one; its mean is `tau`.

    Exact three-class accuracy, as in the papers of VR-Thinker and UnifiedReward.
    """
    return float(vote is not None and VERDICTS[vote] == VERDICTS[human])


def same_preference(vote: Vote | None, human: Vote) -> float | None:
    """As `same_verdict`, None where people see a tie; its mean is `diff`, in which a judge's tie is wrong."""
    return None if VERDICTS[human] == 0 else same_verdict(vote, human)


class WithTies(NamedTuple):
    """The best accuracy over all thresholds below which a margin is called a tie."""

    accuracy: float
    threshold: float
    """Largest absolute margin that is a tie; -1 = no margin is. It is fitted on the data that it is scored on."""


def with_ties(humans: Sequence[int], margins: Sequence[float]) -> WithTies | None:
    """Accuracy with ties: the share of pairs judged right, a margin up to a threshold being a tie, at its best.

    "Ties Matter" (Deutsch et al. 2023, arXiv 2305.14324), every threshold that changes a verdict tried, none
    among them. None without pairs.
    """
    if not humans:
        return None
    sizes = np.abs(np.asarray(margins, dtype=np.float64))
    right, is_tie = np.asarray(humans) * np.asarray(margins) > 0, np.asarray(humans) == 0
    candidates = [-1.0, *np.unique(sizes).tolist()]
    shares = [float(np.mean(np.where(sizes <= threshold, is_tie, right))) for threshold in candidates]
    best = int(np.argmax(shares))
    return WithTies(shares[best], candidates[best])


def with_ties_as_shipped(humans: Sequence[int], margins: Sequence[float]) -> float | None:
    """Accuracy with ties as the code of VideoAlign (`calc_accuracy_with_ties`) gives it.

    It scores after every single pair, so that of equal margins some are ties and others are not, which no
    threshold does; and it never tries to call nothing a tie. None without pairs.
    """
    if not humans:
        return None
    pairs = sorted(zip(humans, margins, strict=True), key=lambda pair: abs(pair[1]))
    right = sum(human * margin > 0 for human, margin in pairs)
    best = 0
    for human, margin in pairs:
        right += int(human == 0) - int(human * margin > 0)
        best = max(best, right)
    return best / len(pairs)


def without_ties(humans: Sequence[int], margins: Sequence[float]) -> float | None:
    """Share of the pairs that people do not see as a tie on which the margin has the right sign; 0 is wrong.

    VideoAlign's accuracy without ties. None where people see nothing but ties.
    """
    right = [human * margin > 0 for human, margin in zip(humans, margins, strict=True) if human != 0]
    return sum(right) / len(right) if right else None
