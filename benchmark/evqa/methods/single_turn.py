"""One prompt asks for the answer, its time spans and its pixels; one reply gives all three."""

from __future__ import annotations

from functools import partial

from evqa import prompts
from evqa.methods.chat_session import ChatSession, run_session
from evqa.models.base import Model
from evqa.schema import AnswerField, Prediction, ReplyFormat, Sample


def single_turn(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Everything in one prompt, in the reply format of the model."""
    return _run_single_turn(model, sample, model.capabilities.reply_format, times=times)


def json_turn(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Everything in one prompt, as a JSON object, whatever the model."""
    return _run_single_turn(model, sample, "json", times=times)


def trained_turn(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Everything in one prompt, as our models are trained to reply, whatever the model."""
    return _run_single_turn(model, sample, "evidence", times=times)


def _run_single_turn(model: Model, sample: Sample, reply_format: ReplyFormat, *, times: bool) -> Prediction:
    return run_session(model, sample, partial(_talk, reply_format=reply_format), times=times)


def _talk(conversation: ChatSession, reply_format: ReplyFormat) -> Prediction:
    sample = conversation.sample
    duration, seconds = conversation.clock()
    prompt = prompts.evidence_prompt(sample, reply_format, duration=duration, times=seconds)
    return conversation.prediction(
        conversation.ask(prompt, _asks(sample, reply_format), is_json=reply_format == "json")
    )


def _asks(sample: Sample, reply_format: ReplyFormat) -> tuple[AnswerField, ...]:
    """What the prompt asks for: a letter where there are options; pixels as masks or in words."""
    answer: tuple[AnswerField, ...] = ("answer",) if sample.options else ()
    return (*answer, "spans", "masks" if reply_format == "evidence" else "expressions")
