"""Methods for multiple choice: the option that answers, the spans and the image that are its evidence.

A part that the sample has no options for is not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evqa import prompts
from evqa.methods.chat_session import ChatSession
from evqa.models.base import Models
from evqa.models.messages import ImagePart
from evqa.schema import Prediction, Sample

Choice = Literal["answer", "time_choice", "mask_choice"]

CHOICES: tuple[Choice, ...] = ("answer", "time_choice", "mask_choice")


def choose(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """Up to three choices (option, spans, image), each in a conversation of its own."""
    return ask_choices(models, sample, CHOICES, is_chat=False, times=times)


def choose_chat(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """Up to three choices (option, spans, image), as turns of one conversation."""
    return ask_choices(models, sample, CHOICES, is_chat=True, times=times)


def choose_answer(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """The option that answers, and nothing else."""
    return ask_choices(models, sample, ("answer",), is_chat=False, times=times)


def choose_time(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """The spans that are the evidence, and nothing else."""
    return ask_choices(models, sample, ("time_choice",), is_chat=False, times=times)


def choose_space(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """The image that outlines the evidence, and nothing else."""
    return ask_choices(models, sample, ("mask_choice",), is_chat=False, times=times)


def ask_choices(models: Models, sample: Sample, choices: Sequence[Choice], *, is_chat: bool, times: bool) -> Prediction:
    """Ask for each choice that the sample has options for, in one conversation or in one each."""
    with ChatSession(models, sample, times=times) as session:
        clock = prompts.clock_lines(*session.clock())
        for choice in choices:
            options, question, images = _question(sample, choice)
            if not options:
                continue
            if not is_chat:
                session.rewind(0)
            prompt = f"{clock}\n\n{question}" if clock and not session.messages else question
            session.ask(prompt, (choice,), images=images)
    return session.prediction()


def _question(sample: Sample, choice: Choice) -> tuple[Sequence[object], str, Sequence[ImagePart]]:
    """(the options, the question, the images behind it)."""
    if choice == "answer":
        return sample.options, prompts.choose_answer(sample), ()
    if choice == "time_choice":
        return sample.time_options, prompts.choose_time(sample), ()
    return sample.mask_options, prompts.choose_space(sample), [ImagePart(path) for path in sample.mask_options]
