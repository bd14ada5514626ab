"""One prompt asks for the answer, its time spans and its pixels; one reply gives all three."""

from __future__ import annotations

from functools import partial

from evqa import models, prompts
from evqa.methods.chat_session import ChatSession, run_session
from evqa.models import Dialect
from evqa.models.base import Model
from evqa.schema import AnswerField, Prediction, Sample


def single_turn(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Everything in one prompt, in the form that the model's row names."""
    return _run_single_turn(model, sample, models.reply_dialect(model), times=times)


def json_turn(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Everything in one prompt, as a JSON object, whatever the model."""
    return _run_single_turn(model, sample, "json", times=times)


def trained_turn(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Everything in one prompt, as our models are trained to reply, whatever the model."""
    return _run_single_turn(model, sample, "trained", times=times)


def _run_single_turn(model: Model, sample: Sample, dialect: Dialect, *, times: bool) -> Prediction:
    return run_session(model, sample, partial(_talk, dialect=dialect), times=times)


def _talk(conversation: ChatSession, dialect: Dialect) -> Prediction:
    sample = conversation.sample
    duration, seconds = conversation.clock()
    prompt = prompts.evidence_prompt(sample, dialect, duration=duration, times=seconds)
    return conversation.prediction(conversation.ask(prompt, _asks(sample, dialect), is_json=dialect == "json"))


def _asks(sample: Sample, dialect: Dialect) -> tuple[AnswerField, ...]:
    """What the prompt asks for: a letter where there are options; pixels as masks or in words."""
    answer: tuple[AnswerField, ...] = ("answer",) if sample.options else ()
    return (*answer, "spans", "masks" if dialect == "trained" else "expressions")
