"""The ways to answer. A method takes a model and a sample through any number of turns to one prediction."""

from __future__ import annotations

from collections.abc import Callable

from evqa.methods.single_turn import single_turn
from evqa.models.base import Model
from evqa.schema import Prediction, Sample

Method = Callable[[Model, Sample], Prediction]

METHODS: dict[str, Method] = {
    "single-turn": single_turn,
}


def method(name: str) -> Method:
    """The method of a name, or a `ValueError` that lists the known ones."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; the methods are: {', '.join(METHODS)}")
    return METHODS[name]
