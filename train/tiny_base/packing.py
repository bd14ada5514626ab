"""Many short exercises about one clip in one sequence: each sees the clip and itself, as if it stood alone.

A sequence is [ChatML opening, cells of the clip, end of video][exercise 1][exercise 2]...; every exercise starts at the
same position, and a mask keeps exercises apart. So a clip is read once for a dozen exercises.

Legend: B clips, L tokens, D width, C shown cells of all clips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from evqa.datasets.shapes.questions import ShapesQuestion
from evqa.datasets.shapes.scene import COLORS, SceneObject
from evqa.prompts import TRAINED_INSTRUCTION, evidence_target, option_lines
from evqa.schema import LETTERS, Span
from tiny_base.blank import CELLS
from tiny_base.vocabulary import numbers
from unipixel.model.config import UniPixelConfig

OPENING = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
LETTER, TIME, BRACKET, VALUE, OTHER = 3.0, 2.0, 0.6, 3.0, 0.15
"""Weights of answer tokens in the loss: option letter, seconds, the end of a list or pair, a value word, the rest."""
NOT_ASKED = -1


class PackedTask(NamedTuple):
    """Tokens and their weights in the loss (0 = given), and the color of the object that `<|seg|>` stands for."""

    ids: list[int]
    weights: list[float]
    color: int


@dataclass(frozen=True)
class PackedBatch:
    """A batch of sequences."""

    ids: Tensor
    """int64 [B, L]"""
    positions: Tensor
    """float32 [3, B, L]: time, row, column"""
    mask: Tensor
    """bool [B, 1, L, L], True = may look"""
    weights: Tensor
    """float32 [B, L] weight of predicting this token"""
    colors: Tensor
    """int64 [B, L] color index at positions that predict `<|seg|>`, else NOT_ASKED"""
    cell_places: tuple[Tensor, Tensor]
    """(sequence, token) of each cell, int64 [C] each"""
    cells: Tensor
    """float32 [C, D] features that stand at those places"""


class TaskWriter:
    """Exercises in tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self.opening = self._ids(OPENING)
        self.closing = self._ids("<|vision_end|>")[0]
        self.pad = int(self._ids("<|endoftext|>")[0])
        self.seg = self._ids("<|seg|>")[0]
        letters = {self._ids(letter)[0] for letter in LETTERS[:5]}
        self.times = {self._ids(number)[0] for number in numbers()}
        brackets = {*self._ids("]]. "), *self._ids("], [")}
        self._weight = dict.fromkeys(letters, LETTER) | dict.fromkeys(self.times, TIME)
        self._weight |= dict.fromkeys(brackets, BRACKET)

    def full(self, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        """The published form: question, options, instruction; answer, time and masks."""
        asked = f"{question.text}\nOptions:\n{option_lines(question.options)}\n{TRAINED_INSTRUCTION}"
        reply = evidence_target(question.answer, _spans(thing))
        return self._exercise(f"{asked}<|im_end|>\n<|im_start|>assistant\n", f"{reply}<|im_end|>", thing)

    def short(self, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        """The cue, such as "the red", then time and masks in their published form."""
        reply = evidence_target(0, _spans(thing)).removeprefix(f"Answer: {LETTERS[0]}. ")
        return self._exercise(f" {question.cue}", reply, thing)

    def cue(self, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        """The cue with the times right behind it, so that the cue's own token has to know them."""
        reply = evidence_target(0, _spans(thing)).partition("[[")[2]
        return self._exercise(f" {question.cue}", reply, thing)

    def name(self, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        """What is asked for, the cue's own word, and the value right behind it: "shape red" -> "circle"."""
        return self._word(self._named(question), question, thing)

    def value(self, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        """The question without options; the value itself."""
        return self._word(question.text, question, thing)

    def match(self, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        """A value, then options; the letter of the value. Needs no video."""
        asked = f" {question.options[question.answer]}\nOptions:\n{option_lines(question.options)}\nAnswer: "
        return self._exercise(asked, LETTERS[question.answer], thing)

    def pick(self, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        """As `name`, but with options in between: the letter of the value that is not said."""
        asked = f"{self._named(question)}\nOptions:\n{option_lines(question.options)}\nAnswer: "
        return self._exercise(asked, LETTERS[question.answer], thing)

    def recall(self, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        """Options, then every option's value with its letter after it. Needs no video."""
        ids = self._ids(f"Options:\n{option_lines(question.options)}\n")
        weights = [0.0] * len(ids)
        for index in np.argsort([hash_word(option) for option in question.options]):
            ids += [*self._ids(f" {question.options[index]}"), *self._ids(LETTERS[index])]
            weights += [0.0, LETTER / 2]
        return PackedTask(ids, weights, _color(thing))

    def _named(self, question: ShapesQuestion) -> str:
        """What is asked for and the cue's own word."""
        asked = question.kind.split(">")[1]
        return f" {'does' if asked == 'event' else asked} {question.cue.split()[-1]}"

    def _word(self, asked: str, question: ShapesQuestion, thing: SceneObject) -> PackedTask:
        given, wanted = self._ids(asked), self._ids(f" {question.options[question.answer]}")
        return PackedTask(given + wanted, [0.0] * len(given) + [VALUE] * len(wanted), _color(thing))

    def _exercise(self, asked: str, reply: str, thing: SceneObject) -> PackedTask:
        given, wanted = self._ids(asked), self._ids(reply)
        weights = [0.0] * len(given) + [self._weight.get(token, OTHER) for token in wanted]
        return PackedTask(given + wanted, weights, _color(thing))

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


class ClipContext(NamedTuple):
    """The cells of one clip that a sequence shows, in reading order."""

    features: NDArray[np.float32]
    """[C, D]"""
    seconds: NDArray[np.float32]
    """[C]"""
    cells: NDArray[np.int64]
    """[C] 0 ... 8"""
    end: float
    """Seconds of the clip's last frame pair, shown or not."""


class PackedClock(NamedTuple):
    """Where cells and text stand in time, as `unipixel.model.time_positions` has it."""

    ticks: float
    """Temporal positions per second."""
    horizon: float
    """Seconds; text starts no earlier."""
    is_legacy: bool

    @classmethod
    def of(cls, config: UniPixelConfig) -> PackedClock:
        """The clock of a model."""
        is_legacy = config.clock == "legacy"
        return cls(config.vision.tokens_per_second, 0.0 if is_legacy else config.clock_horizon, is_legacy)

    def text_start(self, end: float) -> int:
        """Positions from the start of a clip that lasts until `end` to the text behind it."""
        return math.ceil(self.ticks * max(end, self.horizon)) + 1


def pack(clips: Sequence[tuple[ClipContext, list[PackedTask]]], writer: TaskWriter, clock: PackedClock) -> PackedBatch:
    """One sequence per clip, padded to the longest."""
    opening = len(writer.opening)
    lengths = [opening + len(shown.cells) + 1 + sum(len(e.ids) for e in exercises) for shown, exercises in clips]
    size = (len(clips), max(lengths))
    ids, group = np.full(size, writer.pad), np.full(size, -1)
    weights, colors = np.zeros(size, np.float32), np.full(size, NOT_ASKED)
    positions = np.zeros((3, *size), np.float32)
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    for row, (shown, exercises) in enumerate(clips):
        end = opening + len(shown.cells)
        ids[row, :opening], group[row, : end + 1] = writer.opening, 0
        positions[:, row, :opening] = np.arange(opening)
        text = opening + clock.text_start(shown.end)
        place = np.stack([shown.seconds * clock.ticks, shown.cells // CELLS, shown.cells % CELLS])
        positions[:, row, opening:end] = opening + place
        ids[row, end], positions[:, row, end] = writer.closing, text
        rows.append(np.full(len(shown.cells), row))
        columns.append(np.arange(opening, end))
        at = end + 1
        for number, exercise in enumerate(exercises, 1):
            part = slice(at, at + len(exercise.ids))
            ids[row, part], weights[row, part], group[row, part] = exercise.ids, exercise.weights, number
            positions[:, row, part] = text + 1 + np.arange(len(exercise.ids))
            if writer.seg in exercise.ids:
                colors[row, at + exercise.ids.index(writer.seg) - 1] = exercise.color
            at = part.stop
    return PackedBatch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        mask=torch.from_numpy(_apart(group))[:, None],
        weights=torch.from_numpy(weights),
        colors=torch.from_numpy(colors),
        cell_places=(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(columns))),
        cells=torch.from_numpy(np.concatenate([shown.features for shown, _ in clips])),
    )


def _apart(group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[B, L, L]: a token looks back at its own group and at group 0; padding at itself."""
    length = group.shape[1]
    same = (group[:, None, :] == group[:, :, None]) | (group[:, None, :] == 0)
    return same & np.tril(np.ones((length, length), bool)) | np.eye(length, dtype=bool)


def hash_word(word: str) -> int:
    """A fixed order of words that has nothing to do with their letters' order on the page."""
    return sum((index + 3) * ord(letter) ** 2 for index, letter in enumerate(word)) % 9973


def _spans(thing: SceneObject) -> tuple[Span, ...]:
    return tuple(Span(*span) for span in thing.spans())


def _color(thing: SceneObject) -> int:
    return list(COLORS).index(thing.color)
