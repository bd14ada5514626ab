"""Multiple choice: which option answers, which spans and which picture are the evidence.

A part that the sample has no options for is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from evqa import prompts
from evqa.methods.chat_session import ChatSession, run_session
from evqa.models.base import Model
from evqa.models.messages import ImagePart
from evqa.parsing.replies import ParsedReply
from evqa.schema import Prediction, Sample

Choice = Literal["answer", "time_choice", "mask_choice"]

CHOICES: tuple[Choice, ...] = ("answer", "time_choice", "mask_choice")


def choose(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Up to three choices (option, spans, picture), each in a conversation of its own."""
    return run_session(model, sample, partial(_run_choices, choices=CHOICES, chat=False), times=times)


def choose_chat(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """Up to three choices (option, spans, picture), as turns of one conversation."""
    return run_session(model, sample, partial(_run_choices, choices=CHOICES, chat=True), times=times)


def choose_answer(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """The option that answers, and nothing else."""
    return run_session(model, sample, partial(_run_choices, choices=("answer",), chat=False), times=times)


def choose_time(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """The spans that are the evidence, and nothing else."""
    return run_session(model, sample, partial(_run_choices, choices=("time_choice",), chat=False), times=times)


def choose_space(model: Model, sample: Sample, *, times: bool = True) -> Prediction:
    """The picture that outlines the evidence, and nothing else."""
    return run_session(model, sample, partial(_run_choices, choices=("mask_choice",), chat=False), times=times)


def _run_choices(conversation: ChatSession, choices: Sequence[Choice], *, chat: bool) -> Prediction:
    sample = conversation.sample
    clock = prompts.clock_lines(*conversation.clock())
    said: dict[Choice, int | None] = dict.fromkeys(CHOICES)
    has_begun = False
    for choice in choices:
        options, prompt, stills = _question(sample, choice)
        if not options:
            continue
        if not chat:
            conversation.rewind(0)
        told = f"{clock}\n\n{prompt}" if clock and not (chat and has_begun) else prompt
        said[choice] = getattr(conversation.ask(told, (choice,), stills=stills), choice)
        has_begun = True
    return conversation.prediction(ParsedReply(said["answer"], None, None)).model_copy(
        update={name: said[name] for name in ("time_choice", "mask_choice")}
    )


def _question(sample: Sample, choice: Choice) -> tuple[Sequence[object], str, Sequence[ImagePart]]:
    """(what there is to choose from, the question, the pictures behind it)."""
    if choice == "answer":
        return sample.options, prompts.choose_answer(sample), ()
    if choice == "time_choice":
        return sample.time_options, prompts.choose_time(sample), ()
    return sample.mask_options, prompts.choose_space(sample), [ImagePart(path) for path in sample.mask_options]
