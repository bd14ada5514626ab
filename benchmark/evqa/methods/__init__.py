"""The ways to answer. A method takes a model and a sample through any number of turns to one prediction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from evqa import suggestions
from evqa.methods.multi_turn import grounded_turns, multi_turn
from evqa.methods.multiple_choice import CHOICES, choose, choose_answer, choose_chat, choose_space, choose_time
from evqa.methods.single_turn import json_turn, single_turn, trained_turn
from evqa.models.base import Model
from evqa.schema import AnswerField, Prediction, Sample


class Method(Protocol):
    """A way to answer."""

    def __call__(self, model: Model, sample: Sample, *, times: bool = True) -> Prediction:
        """The prediction; `times`: whether the prompts tell the video's duration and its frames' seconds."""
        ...


METHODS: dict[str, Method] = {
    "single-turn": single_turn,
    "json": json_turn,
    "trained": trained_turn,
    "multi-turn": multi_turn,
    "grounded-turns": grounded_turns,
    "choose": choose,
    "choose-chat": choose_chat,
    "choose-answer": choose_answer,
    "choose-time": choose_time,
    "choose-space": choose_space,
}

CHOSEN: dict[str, tuple[AnswerField, ...]] = {
    "choose": CHOICES,
    "choose-chat": CHOICES,
    "choose-answer": ("answer",),
    "choose-time": ("time_choice",),
    "choose-space": ("mask_choice",),
}
"""Methods that ask for choices alone -> which; the others ask for answer, spans and masks."""


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
