"""Prompting methods. A method asks the models of a run about a sample, in any number of turns, for one prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from evqa import suggestions
from evqa.agents.instructions import AGENT_PROMPT_VERSION
from evqa.agents.judge_instructions import JUDGE_PROMPT_VERSION
from evqa.agents.settings import DEFAULT_SETTINGS, AgentSettings
from evqa.methods import agents, episodes, judge, multi_turn, multiple_choice, single_turn, stages
from evqa.models.base import Models
from evqa.schema import AnswerField, Prediction, Sample
from evqa.stages.prompts import STAGE_PROMPT_VERSION


class Method(Protocol):
    """A prompting method."""

    def __call__(self, models: Models, sample: Sample, *, times: bool = True) -> Prediction:
        """The prediction; `times`: whether the prompts state the video's duration and the seconds of its frames."""
        ...


class AgentMethod(Protocol):
    """A prompting method with settings of its own."""

    def __call__(
        self, models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
    ) -> Prediction:
        """The prediction; `times` as for `Method`."""
        ...


AGENT_METHODS: dict[str, AgentMethod] = {
    "agent": agents.agent,
    "retrieve": agents.retrieve,
    "inspected": agents.inspected,
    "uniform": agents.uniform,
    "judge": judge.judge,
    "episode": episodes.episode,
    "episode-frames": episodes.episode_frames,
    "ground": episodes.ground,
    "stages": stages.stages,
}
"""Methods with `AgentSettings`."""

EPISODE_METHODS = frozenset({"episode", "episode-frames", "ground"})
"""Methods about episodes, of `AGENT_METHODS`."""

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
    **AGENT_METHODS,
}

CHOICE_FIELDS: dict[str, tuple[AnswerField, ...]] = {
    "choose": multiple_choice.CHOICES,
    "choose-chat": multiple_choice.CHOICES,
    "choose-answer": ("answer",),
    "choose-time": ("time_choice",),
    "choose-space": ("mask_choice",),
}
"""Method of multiple choice -> the fields that it asks for; all other methods ask for answer, spans and masks."""


IMAGE_ROLES: dict[str, tuple[str, ...]] = {
    "agent": ("main",),
    "retrieve": ("main",),
    "inspected": ("main",),
    "judge": ("main",),
}
"""Method with tools -> roles of the models that get images in tool results."""


SEARCH_METHODS = frozenset({"agent", "retrieve", "inspected"})
"""Methods that search frames, for which the encoder is loaded before the run."""


ROLES: dict[str, tuple[str, ...]] = {
    "agent": ("segmenter",),
    "retrieve": (),
    "inspected": ("inspector", "segmenter"),
    "uniform": (),
    "episode": (episodes.GROUNDING, episodes.VISION),
    "episode-frames": (),
    "ground": (),
}
"""Method -> roles of further models that it asks; a method that is not listed may have any."""


def check_roles(name: str, roles: Iterable[str]) -> None:
    """Raise a `ValueError` for a role of `--agent` that the method never asks."""
    if name in ROLES and (unknown := [role for role in roles if role not in ROLES[name]]):
        expected = f"its roles are {', '.join(ROLES[name])}" if ROLES[name] else "it asks the main model alone"
        raise ValueError(f"--agent {unknown[0]}=...: the method {name} has no such role; {expected}")


def image_roles(name: str) -> tuple[str, ...]:
    """Roles of the models that get images in tool results; () for a method without tools."""
    return IMAGE_ROLES.get(name, ())


def method(name: str) -> Method:
    """The method of a name, or a `ValueError` that lists the known ones."""
    if name not in METHODS:
        raise suggestions.unknown_name_message("method", name, METHODS)
    return METHODS[name]


def default_method(model_method: str, task_method: str) -> str:
    """Return the name of the method where the user gives none.

    Args:
        model_method: `ModelSpec.method` or `Capabilities.default_method`.
        task_method: `Task.method`; "single-turn" leaves the choice to the model, any other method is part of the task.
    """
    return model_method if task_method == "single-turn" else task_method


def predictor(name: str, *, times: bool, settings: AgentSettings) -> Callable[[Models, Sample], Prediction]:
    """Return the method of a name with its settings; it can be pickled. `ValueError`: there is no such method."""
    if name in AGENT_METHODS:
        return partial(AGENT_METHODS[name], times=times, settings=settings)
    return partial(method(name), times=times)


def settings_identity(name: str, settings: AgentSettings) -> dict[str, str | int | float | bool | None]:
    """Return what must be equal, of the settings of a method, for two runs to be the same run."""
    if name not in AGENT_METHODS:
        return {}
    if name == "judge":
        return {"method.prompt_version": JUDGE_PROMPT_VERSION, **settings.judge_identity()}
    if name == "stages":
        return {"method.prompt_version": STAGE_PROMPT_VERSION, **settings.stages_identity()}
    of_settings = settings.episode_identity() if name in EPISODE_METHODS else settings.identity()
    return {"method.prompt_version": AGENT_PROMPT_VERSION, **of_settings}
