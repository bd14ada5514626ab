"""Prompting methods. A method asks the models of a run about a sample, in any number of turns, for one prediction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from evqa import suggestions
from evqa.methods import multi_turn, multiple_choice, single_turn
from evqa.models.base import Models
from evqa.schema import AnswerField, Prediction, Sample


class Method(Protocol):
    """A prompting method."""

    def __call__(self, models: Models, sample: Sample, *, times: bool = True) -> Prediction:
        """The prediction; `times`: whether the prompts state the video's duration and the seconds of its frames."""
        ...


METHODS: dict[str, Method] = {
    "single-turn": single_turn.single_turn,
    "json": single_turn.json_turn,
    "trained": single_turn.trained_turn,
    "multi-turn": multi_turn.multi_turn,
    "grounded-turns": multi_turn.grounded_turns,
    "choose": multiple_choice.choose,
    "choose-chat": multiple_choice.choose_chat,
    "choose-answer": multiple_choice.choose_answer,
    "choose-time": multiple_choice.choose_time,
    "choose-space": multiple_choice.choose_space,
}

CHOICE_FIELDS: dict[str, tuple[AnswerField, ...]] = {
    "choose": multiple_choice.CHOICES,
    "choose-chat": multiple_choice.CHOICES,
    "choose-answer": ("answer",),
    "choose-time": ("time_choice",),
    "choose-space": ("mask_choice",),
}
"""Method of multiple choice -> the fields that it asks for; all other methods ask for answer, spans and masks."""


def method(name: str) -> Method:
    """The method of a name, or a `ValueError` that lists the known ones."""
    if name not in METHODS:
        raise suggestions.unknown_name_message("method", name, METHODS)
    return METHODS[name]


def default_method(model_method: str, samples: Iterable[Sample]) -> str:
    """Name of the method where none is given: multiple choice for samples with options of evidence, else the model's.

    Args:
        model_method: `ModelSpec.method` or `Capabilities.default_method`.
        samples: all samples of the data set.

    Raises:
        ValueError: some samples have options of evidence and others have none, so that no one method fits.
    """
    kinds = {bool(sample.time_options or sample.mask_options) for sample in samples}
    if len(kinds) > 1:
        raise ValueError(
            "some samples of the data set have options of time or place, others have none, so that no one method "
            "follows from them: give one with --method"
        )
    return "choose" if True in kinds else model_method
