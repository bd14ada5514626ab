"""What a sample teaches: a conversation, and which objects its `<|seg|>`, `<|ref|>` and `<|mem|>` stand for.

Which form of sample becomes which words is spec'd by `evqa.schema.TaskType`; of a sample of several turns that ask
for masks, some are drawn. Conversations teach words alone, all of them. Samples about marked objects call them
`[K]`, where K is the label of a track:

    region    the objects are listed before the question, each with its `<|mem|>` (`conversation.region_note`)
    memory    `[K] <|ref|>` where an object is first named; the reply is `[K] <|seg|>` for each, and no words
    pointing  `<|ref|>` in place of `[K]`
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
"""Tokens that stand for an object, and so cannot come with the words of a data set."""

Targets = tuple[int, ...] | None
"""As `Sample.targets`."""

PIXEL_FORMS = frozenset({"evidence", "memory", *templates.TABLES})
"""Forms that teach masks."""

MARKED_FORMS = frozenset({"region", "memory", "pointing"})
"""Forms about marked objects."""

_MARK_ALONE = re.compile(r"\[\d+\]")


class TrainingConversation(NamedTuple):
    """What one draw of a sample teaches."""

    messages: list[Message]
    masks: list[Targets]
    """One for each `<|seg|>` of the replies, in order; empty = words alone."""
    pointed: tuple[int, ...] = ()
    """Which track each `<|ref|>` of the questions stands for, in order."""
    are_listed: bool = False
    """All tracks of the sample are listed as regions before the first question."""


def build_conversation(sample: Sample, rng: np.random.Generator, config: DataConfig) -> TrainingConversation:
    """The lesson of a sample, in the words that `rng` draws; of masks at most `max_turns` of the config."""
    if sample.task_type in MARKED_FORMS:
        return _about_marks(sample, rng)
    if sample.task_type == "conversation":
        return TrainingConversation(_messages(sample, [_as_written(turn) for turn in sample.turns]), [])
    if sample.task_type == "evidence":
        assert sample.answer is not None, sample.id
        reply = prompts.evidence_target(sample.answer, sample.spans or ())
        asked = templates.EVIDENCE[rng.integers(len(templates.EVIDENCE)) if config.vary_prompt else 0]
        question = _checked(prompts.trained_prompt(sample, asked))
        return TrainingConversation(_messages(sample, [(question, reply)]), [sample.targets])
    turns = _drawn(sample, rng, config.max_turns)
    words = [_asked(sample, turn, rng) for turn in turns]
    return TrainingConversation(_messages(sample, words), [turn.targets for turn in turns])


def why_unusable(sample: Sample) -> str | None:
    """Why nothing can be learnt from a sample; None = something can."""
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
    """Words of the first reply of a conversation, which very long ones are left out by."""
    return len((sample.turns[0].response or "").split(" ")) if sample.turns else 0


def _messages(sample: Sample, turns: Sequence[tuple[str, str]]) -> list[Message]:
    messages: list[Message] = []
    for place, (question, reply) in enumerate(turns):
        shown = (VideoPart(sample.video),) if place == 0 and sample.has_video else ()
        messages += [Message("user", (*shown, question)), Message("assistant", (reply,))]
    return messages


def _drawn(sample: Sample, rng: np.random.Generator, max_turns: int) -> list[TrainingExchange]:
    """Random turns in random order; the only one where there is one."""
    turns = sample.turns or (
        TrainingExchange(question=sample.question, response=sample.response, targets=sample.targets),
    )
    if len(turns) == 1:
        return list(turns)
    return [turns[place] for place in rng.permutation(len(turns))[:max_turns]]


def _as_written(turn: TrainingExchange) -> tuple[str, str]:
    if turn.response is None:
        raise ValueError(f"a turn of a conversation has no reply: {turn.question[:80]!r}")
    return _checked(turn.question), _checked(turn.response)


def _asked(sample: Sample, turn: TrainingExchange, rng: np.random.Generator) -> tuple[str, str]:
    words = _checked(turn.question)
    is_picture = sample.video.suffix.lower() in media.IMAGE_SUFFIXES
    table = templates.TABLES[sample.task_type]
    template = table[rng.integers(len(table))]
    asked = templates.noun_phrase(words) if sample.task_type == "query" else words
    question = templates.fill_template(template, asked, "image" if is_picture else "video")
    return question, _mask_reply(sample, turn, rng)


def _mask_reply(sample: Sample, turn: TrainingExchange, rng: np.random.Generator) -> str:
    answer = _checked(turn.response or "")
    if sample.task_type == "question":
        return f"{answer} {SEG}."
    reply = templates.MASK_REPLIES[rng.integers(len(templates.MASK_REPLIES))]
    return f"{reply} {answer}" if sample.task_type == "explanatory" else reply


# Marked objects


def _about_marks(sample: Sample, rng: np.random.Generator) -> TrainingConversation:
    turns = [_as_written(turn) for turn in sample.turns]
    if sample.task_type == "region":
        asked = [(_in_detail(question, rng), reply) for question, reply in turns]
        return TrainingConversation(_messages(sample, asked), [], are_listed=True)
    if len(turns) != 1:
        raise ValueError(f"a sample of form {sample.task_type} has one turn, got {len(turns)}")
    return (_memory if sample.task_type == "memory" else _pointing)(sample, *turns[0], rng)


def _in_detail(question: str, rng: np.random.Generator) -> str:
    """The question; a mark alone asks for a description in detail."""
    if not _MARK_ALONE.fullmatch(question):
        return question
    return templates.IN_DETAIL[rng.integers(len(templates.IN_DETAIL))].replace("{}", question)


def _memory(sample: Sample, question: str, answer: str, rng: np.random.Generator) -> TrainingConversation:
    """The answer stands there as an option, as published, since it may name objects that the question does not."""
    words = f"{question} ({LETTERS[rng.integers(4)]}) {answer}"
    order = _named(sample, words)
    for label in order:
        words = words.replace(f"[{label}]", f"[{label}] {REF}", 1)
    template = templates.MEMORY[rng.integers(len(templates.MEMORY))]
    reply = " ".join(f"[{label}] {SEG}" for label in order)
    asked = templates.fill_template(template, words, "video")
    tracks = tuple(order.values())
    return TrainingConversation(_messages(sample, [(asked, reply)]), [(track,) for track in tracks], pointed=tracks)


def _pointing(sample: Sample, question: str, answer: str, rng: np.random.Generator) -> TrainingConversation:
    order = _named(sample, question)
    if _MARK_ALONE.fullmatch(question):
        question = templates.POINTED[rng.integers(len(templates.POINTED))].replace("{}", question)
    for label in order:
        if question.count(f"[{label}]") != 1:
            raise ValueError(f"a question points at an object once, got {question[:80]!r}")
        question = question.replace(f"[{label}]", REF)
    return TrainingConversation(_messages(sample, [(question, answer)]), [], pointed=tuple(order.values()))


def _named(sample: Sample, words: str) -> dict[str | None, int]:
    """Label -> place of every track, in the order in which the words name them first."""
    places = {track.label: place for place, track in enumerate(sample.tracks or ())}
    if missing := [label for label in places if f"[{label}]" not in words]:
        raise ValueError(f"the words name no object [{missing[0]}], which is marked: {words[:80]!r}")
    return dict(sorted(places.items(), key=lambda item: words.index(f"[{item[0]}]")))


def _checked(words: str) -> str:
    if found := [token for token in POINTERS if token in words]:
        raise ValueError(f"the words of a sample cannot hold {found[0]}, got {words[:80]!r}")
    return words
