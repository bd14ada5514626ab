"""The ways to answer. A method takes a model and a sample through any number of turns to one prediction."""

from __future__ import annotations

from typing import Protocol

from evqa import models, suggestions
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


def default(model: str | Model, sample: Sample) -> str:
    """The method for a model where none is named: multiple choice for such samples, else what its row says.

    For a built model in no table it is "single-turn".
    """
    if sample.time_options or sample.mask_options:
        return "choose"
    found = models.model_spec(model) if isinstance(model, str) else models.row_or_none(model.name)
    return "single-turn" if found is None else found.method
