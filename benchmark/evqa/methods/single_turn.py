"""Methods with one prompt that asks for the answer, its time spans and its masks or referring expressions."""

from __future__ import annotations

from evqa import prompts
from evqa.methods.chat_session import ChatSession
from evqa.models.base import Models
from evqa.schema import AnswerField, Prediction, ReplyFormat, Sample


def single_turn(
    models: Models, sample: Sample, *, times: bool = True, reply_format: ReplyFormat | None = None
) -> Prediction:
    """Everything in one prompt, in the reply format of the model."""
    reply_format = reply_format or models.main.capabilities.reply_format
    with ChatSession(models, sample, times=times) as session:
        duration, seconds = session.clock()
        prompt = prompts.evidence_prompt(sample, reply_format, duration=duration, times=seconds)
        session.ask(prompt, _answer_fields(sample, reply_format), is_json=reply_format == "json")
    return session.prediction()


def json_turn(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """Everything in one prompt, as a JSON object, whatever the model."""
    return single_turn(models, sample, times=times, reply_format="json")


def trained_turn(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """Everything in one prompt, in the format that our models are trained to reply in, whatever the model."""
    return single_turn(models, sample, times=times, reply_format="evidence")


def _answer_fields(sample: Sample, reply_format: ReplyFormat) -> tuple[AnswerField, ...]:
    """Fields that the prompt asks for: a letter where there are options, and masks or referring expressions."""
    answer: tuple[AnswerField, ...] = ("answer",) if sample.options else ()
    return (*answer, "spans", "masks" if reply_format == "evidence" else "expressions")
