"""Three turns of one conversation: the answer, then when, then where."""

from __future__ import annotations

from evqa import prompts
from evqa.methods.chat_session import ChatSession, run_session
from evqa.models.base import Model
from evqa.parsing.replies import ParsedReply
from evqa.schema import AnswerField, Prediction, Sample


def multi_turn(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Three turns: the letter, the spans, the referring expressions."""
    return run_session(model, sample, _in_words, times=times)


def grounded_turns(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Three turns of a model that draws: the letter, the spans, the masks."""
    return run_session(model, sample, _in_pixels, times=times)


def _in_words(conversation: ChatSession) -> Prediction:
    answer, spans = _answer(conversation), _spans(conversation)
    said = conversation.ask(prompts.EXPRESSIONS_TURN, ("expressions",))
    return conversation.prediction(ParsedReply(answer, spans.spans, said.expressions))


def _in_pixels(conversation: ChatSession) -> Prediction:
    """The masks are asked for behind the answer alone, as published: the spans are no part of that thread."""
    answer, spans = _answer(conversation), _spans(conversation)
    conversation.rewind(1)
    conversation.ask(prompts.MASKS_TURN, ("masks",))
    return conversation.prediction(ParsedReply(answer, spans.spans, None))


def _answer(conversation: ChatSession) -> int | None:
    duration, seconds = conversation.clock()
    prompt = prompts.answer_turn(conversation.sample, duration=duration, times=seconds)
    asks: tuple[AnswerField, ...] = ("answer",) if conversation.sample.options else ()
    return conversation.ask(prompt, asks).answer


def _spans(conversation: ChatSession) -> ParsedReply:
    return conversation.ask(prompts.SPANS_TURN, ("spans",))
