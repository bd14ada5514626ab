"""Training conversations of samples, and the objects of their `<|seg|>`, `<|ref|>` and `<|mem|>` tokens.

`evqa.schema.TaskType` selects the prompt template. Of a sample with several turns that request masks, some turns are
sampled. Conversations have text only. Samples about marked objects refer to them as `[K]`, the label of a track:

    region    the objects are listed before the question, each with its `<|mem|>` (`chat_format.region_note`)
    memory    `[K] <|ref|>` at the first mention of an object; the response is `[K] <|seg|>` for each object
    pointing  `<|ref|>` replaces `[K]`
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evqa import media, prompts
from evqa.datasets import ground_truth
from evqa.models.messages import Message, VideoPart
from evqa.schema import LETTERS, Sample, TrainingExchange
from unipixel.configs import DataConfig
from unipixel.data import templates

SEG, REF = "<|seg|>", "<|ref|>"
POINTERS = (SEG, REF, "<|mem|>")
"""Tokens that refer to an object, which the text of a sample must not contain."""

Targets = tuple[int, ...] | None
"""Indices of objects, as in `Sample.targets`."""

PIXEL_FORMS = frozenset({"evidence", "memory", *templates.TABLES})
"""Task types with masks."""

MARKED_FORMS = frozenset({"region", "memory", "pointing"})
"""Task types about marked objects."""

_MARK_ALONE = re.compile(r"\[\d+\]")


class TrainingConversation(NamedTuple):
    """Messages of a sample, with the objects of their special tokens."""

    messages: list[Message]
    masks: list[Targets]
    """Targets of the `<|seg|>` tokens of the responses, in order; empty = text only."""
    pointed: tuple[int, ...] = ()
    """Track index of each `<|ref|>` token of the questions, in order."""
    are_listed: bool = False
    """Whether all tracks of the sample are listed as regions before the first question."""


def build_conversation(sample: Sample, rng: np.random.Generator, config: DataConfig) -> TrainingConversation:
    """Build the conversation of a sample.

    Args:
        sample: the sample.
        rng: selects templates and turns.
        config: with `max_turns` and `random_prompts`.

    Raises:
        ValueError: the text of the sample contains special tokens, or its turns do not fit its task type.
    """
    if sample.task_type in MARKED_FORMS:
        return _marked_conversation(sample, rng)
    if sample.task_type == "conversation":
        return TrainingConversation(_messages(sample, [_plain_turn(turn) for turn in sample.turns]), [])
    if sample.task_type == "evidence":
        assert sample.answer is not None, sample.id
        reply = prompts.evidence_target(sample.answer, sample.spans or ())
        prompt = templates.EVIDENCE[rng.integers(len(templates.EVIDENCE)) if config.random_prompts else 0]
        question = _check_text(prompts.trained_prompt(sample, prompt))
        return TrainingConversation(_messages(sample, [(question, reply)]), [sample.targets])
    turns = _sample_turns(sample, rng, config.max_turns)
    words = [_mask_turn(sample, turn, rng) for turn in turns]
    return TrainingConversation(_messages(sample, words), [turn.targets for turn in turns])


def why_unusable(sample: Sample) -> str | None:
    """Why a sample cannot be used for training; None = it can."""
    if sample.task_type in MARKED_FORMS and not sample.tracks:
        return "no marked objects"
    if sample.task_type == "evidence" and sample.answer is None:
        return "no right answer"
    if sample.task_type in PIXEL_FORMS and not sample.has_masks:
        return "no masks"
    if reason := ground_truth.why_unusable(sample):
        return reason
    if (sample.task_type == "conversation" or sample.task_type in MARKED_FORMS) and not sample.turns:
        return "no turns"
    return None


def num_words(sample: Sample) -> int:
    """Number of words of the first response, for `DataConfig.max_words`."""
    return len((sample.turns[0].response or "").split(" ")) if sample.turns else 0


def _messages(sample: Sample, turns: Sequence[tuple[str, str]]) -> list[Message]:
    messages: list[Message] = []
    for place, (question, reply) in enumerate(turns):
        clip_parts = (VideoPart(sample.video),) if place == 0 and sample.has_video else ()
        messages += [Message("user", (*clip_parts, question)), Message("assistant", (reply,))]
    return messages


def _sample_turns(sample: Sample, rng: np.random.Generator, max_turns: int) -> list[TrainingExchange]:
    """Random turns in random order, or the only turn."""
    turns = sample.turns or (
        TrainingExchange(question=sample.question, response=sample.response, targets=sample.targets),
    )
    if len(turns) == 1:
        return list(turns)
    return [turns[place] for place in rng.permutation(len(turns))[:max_turns]]


def _plain_turn(turn: TrainingExchange) -> tuple[str, str]:
    if turn.response is None:
        raise ValueError(f"a turn of a conversation has no response: {turn.question[:80]!r}")
    return _check_text(turn.question), _check_text(turn.response)


def _mask_turn(sample: Sample, turn: TrainingExchange, rng: np.random.Generator) -> tuple[str, str]:
    words = _check_text(turn.question)
    is_picture = sample.video.suffix.lower() in media.IMAGE_SUFFIXES
    table = templates.TABLES[sample.task_type]
    template = table[rng.integers(len(table))]
    prompt = prompts.noun_phrase(words) if sample.task_type == "query" else words
    question = prompts.fill_template(template, prompt, "image" if is_picture else "video")
    return question, _mask_reply(sample, turn, rng)


def _mask_reply(sample: Sample, turn: TrainingExchange, rng: np.random.Generator) -> str:
    answer = _check_text(turn.response or "")
    if sample.task_type == "question":
        return f"{answer} {SEG}."
    reply = templates.MASK_REPLIES[rng.integers(len(templates.MASK_REPLIES))]
    return f"{reply} {answer}" if sample.task_type == "explanatory" else reply


# Marked objects


def _marked_conversation(sample: Sample, rng: np.random.Generator) -> TrainingConversation:
    turns = [_plain_turn(turn) for turn in sample.turns]
    if sample.task_type == "region":
        prompt = [(_detailed_question(question, rng), reply) for question, reply in turns]
        return TrainingConversation(_messages(sample, prompt), [], are_listed=True)
    if len(turns) != 1:
        raise ValueError(f"a sample of type {sample.task_type} must have one turn, got {len(turns)}")
    return (_memory if sample.task_type == "memory" else _pointing)(sample, *turns[0], rng)


def _detailed_question(question: str, rng: np.random.Generator) -> str:
    """The question; a mark without text becomes a request for a detailed description."""
    if not _MARK_ALONE.fullmatch(question):
        return question
    return templates.IN_DETAIL[rng.integers(len(templates.IN_DETAIL))].replace("{}", question)


def _memory(sample: Sample, question: str, answer: str, rng: np.random.Generator) -> TrainingConversation:
    """The prompt includes the answer as an option, as published, since it may refer to further objects."""
    words = f"{question} ({LETTERS[rng.integers(4)]}) {answer}"
    order = _label_order(sample, words)
    for label in order:
        words = words.replace(f"[{label}]", f"[{label}] {REF}", 1)
    template = templates.MEMORY[rng.integers(len(templates.MEMORY))]
    reply = " ".join(f"[{label}] {SEG}" for label in order)
    prompt = prompts.fill_template(template, words, "video")
    tracks = tuple(order.values())
    return TrainingConversation(_messages(sample, [(prompt, reply)]), [(track,) for track in tracks], pointed=tracks)


def _pointing(sample: Sample, question: str, answer: str, rng: np.random.Generator) -> TrainingConversation:
    order = _label_order(sample, question)
    if _MARK_ALONE.fullmatch(question):
        question = templates.POINTED[rng.integers(len(templates.POINTED))].replace("{}", question)
    for label in order:
        if question.count(f"[{label}]") != 1:
            raise ValueError(f"a question must refer to each object once, got {question[:80]!r}")
        question = question.replace(f"[{label}]", REF)
    return TrainingConversation(_messages(sample, [(question, answer)]), [], pointed=tuple(order.values()))


def _label_order(sample: Sample, words: str) -> dict[str | None, int]:
    """Label -> index of every track, in the order of first mention."""
    places = {track.label: place for place, track in enumerate(sample.tracks or ())}
    if missing := [label for label in places if f"[{label}]" not in words]:
        raise ValueError(f"the text does not refer to the marked object [{missing[0]}]: {words[:80]!r}")
    return dict(sorted(places.items(), key=lambda item: words.index(f"[{item[0]}]")))


def _check_text(words: str) -> str:
    if forbidden := [token for token in POINTERS if token in words]:
        raise ValueError(f"the text of a sample must not contain {forbidden[0]}, got {words[:80]!r}")
    return words
