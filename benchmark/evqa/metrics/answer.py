"""Answers: one of several options, or open."""

from __future__ import annotations

from collections.abc import Sequence

from evqa.metrics.case import Case
from evqa.schema import LETTERS

NUM_LETTERS = 6
"""ST-Evidence's evaluator reads A to F as letters, anything else as an option's text."""


def accuracy(case: Case) -> float:
    """1 if the chosen option is the right one, or reads the same, else 0."""
    choice, right, options = case.prediction.answer, case.sample.answer, case.sample.options
    if choice is None or right is None or not (0 <= choice < len(options) and right < len(options)):
        return 0.0
    return float(choice == right or options[choice].strip() == options[right].strip())


def exact_match(case: Case) -> float:
    """1 if the answer to an open question is the ground truth, character for character, else 0."""
    return float(case.response is not None and case.response == case.sample.response)


def reads_as_right(text: str, options: Sequence[str], right: str) -> bool:
    """Whether an answer is the right option as ST-Evidence's evaluator takes it.

    That is a bare letter, or the option's text, character for character.
    """
    answer = text.strip()
    place = LETTERS[:NUM_LETTERS].find(answer) if len(answer) == 1 else -1
    option = options[place].strip() if 0 <= place < len(options) else answer
    return bool(option) and option == right.strip()
