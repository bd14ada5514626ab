"""Packing of several short tasks about one clip into one sequence, with an attention mask that separates the tasks.

A sequence is [ChatML opening, cells of the clip, end of video][task 1][task 2]...; every task starts at the same
position and attends to the clip and itself, so that a dozen tasks share the computation of a clip.

Legend: B clips, L tokens, D width, C cells of all clips.
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
LETTER, TIME, BRACKET, VALUE, DEFAULT = 3.0, 2.0, 0.6, 3.0, 0.15
"""Loss weights of answer tokens: option letter, seconds, end of a list or pair, value word, all other tokens."""
NO_COLOR = -1


class PackedTask(NamedTuple):
    """Tokens of a task, their loss weights (0 = prompt), and the color index of the object of `<|seg|>`."""

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
    """bool [B, 1, L, L], True = attends"""
    weights: Tensor
    """float32 [B, L] loss weight of predicting this token"""
    colors: Tensor
    """int64 [B, L] color index at positions that predict `<|seg|>`, else NO_COLOR"""
    cell_places: tuple[Tensor, Tensor]
    """(sequence, token) index of each cell, int64 [C] each"""
    cells: Tensor
    """float32 [C, D] features at those tokens"""


class TaskWriter:
    """Builder of tasks as tokens."""

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

    def full(self, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        """The published format: question, options, instruction; answer, time and masks."""
        prompt = f"{question.text}\nOptions:\n{option_lines(question.options)}\n{TRAINED_INSTRUCTION}"
        reply = evidence_target(question.answer, _spans(target))
        return self._task(f"{prompt}<|im_end|>\n<|im_start|>assistant\n", f"{reply}<|im_end|>", target)

    def short(self, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        """A cue such as "the red", then time and masks in the published format."""
        reply = evidence_target(0, _spans(target)).removeprefix(f"Answer: {LETTERS[0]}. ")
        return self._task(f" {question.cue}", reply, target)

    def cue(self, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        """A cue followed directly by the times, so that the token of the cue has to encode them."""
        reply = evidence_target(0, _spans(target)).partition("[[")[2]
        return self._task(f" {question.cue}", reply, target)

    def name(self, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        """Attribute and cue, followed directly by the value: "shape red" -> "circle"."""
        return self._word(self._attribute_and_cue(question), question, target)

    def value(self, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        """The question without options; the value."""
        return self._word(question.text, question, target)

    def match(self, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        """A value, then options; the letter of the value. Independent of the video."""
        prompt = f" {question.options[question.answer]}\nOptions:\n{option_lines(question.options)}\nAnswer: "
        return self._task(prompt, LETTERS[question.answer], target)

    def pick(self, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        """Attribute and cue, then options; the letter of the value."""
        prompt = f"{self._attribute_and_cue(question)}\nOptions:\n{option_lines(question.options)}\nAnswer: "
        return self._task(prompt, LETTERS[question.answer], target)

    def recall(self, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        """Options, then the value and letter of each option. Independent of the video."""
        ids = self._ids(f"Options:\n{option_lines(question.options)}\n")
        weights = [0.0] * len(ids)
        for index in np.argsort([hash_word(option) for option in question.options]):
            ids += [*self._ids(f" {question.options[index]}"), *self._ids(LETTERS[index])]
            weights += [0.0, LETTER / 2]
        return PackedTask(ids, weights, _color(target))

    def _attribute_and_cue(self, question: ShapesQuestion) -> str:
        attribute = question.kind.split(">")[1]
        return f" {'does' if attribute == 'event' else attribute} {question.cue.split()[-1]}"

    def _word(self, prompt: str, question: ShapesQuestion, target: SceneObject) -> PackedTask:
        prompt_ids, value_ids = self._ids(prompt), self._ids(f" {question.options[question.answer]}")
        weights = [0.0] * len(prompt_ids) + [VALUE] * len(value_ids)
        return PackedTask(prompt_ids + value_ids, weights, _color(target))

    def _task(self, prompt: str, response: str, target: SceneObject) -> PackedTask:
        prompt_ids, response_ids = self._ids(prompt), self._ids(response)
        weights = [0.0] * len(prompt_ids) + [self._weight.get(token, DEFAULT) for token in response_ids]
        return PackedTask(prompt_ids + response_ids, weights, _color(target))

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


class ClipContext(NamedTuple):
    """The cells of a clip in a sequence, ordered by time, row and column."""

    features: NDArray[np.float32]
    """[C, D]"""
    seconds: NDArray[np.float32]
    """[C]"""
    cells: NDArray[np.int64]
    """[C] 0 ... 8"""
    end: float
    """Seconds of the last frame pair of the clip, in the sequence or not."""


class PackedTimePositions(NamedTuple):
    """Temporal positions of cells and text; the same as those of `unipixel.model.time_positions`."""

    ticks: float
    """Temporal positions per second."""
    horizon: float
    """Minimum start of text, in seconds."""
    is_fixed: bool
    """Whether `time_encoding` is "fixed-2fps"."""

    @classmethod
    def of(cls, config: UniPixelConfig) -> PackedTimePositions:
        """The temporal positions of a model."""
        is_fixed = config.time_encoding == "fixed-2fps"
        return cls(config.vision.tokens_per_second, 0.0 if is_fixed else config.clock_horizon, is_fixed)

    def text_start(self, end: float) -> int:
        """Offset of the first text token from the start of a clip that ends at `end` seconds."""
        return math.ceil(self.ticks * max(end, self.horizon)) + 1


def pack(
    clips: Sequence[tuple[ClipContext, list[PackedTask]]], writer: TaskWriter, positions_of: PackedTimePositions
) -> PackedBatch:
    """Pack each clip and its tasks into a sequence, padded to the longest."""
    opening = len(writer.opening)
    lengths = [opening + len(context.cells) + 1 + sum(len(task.ids) for task in tasks) for context, tasks in clips]
    size = (len(clips), max(lengths))
    ids, group = np.full(size, writer.pad), np.full(size, -1)
    weights, colors = np.zeros(size, np.float32), np.full(size, NO_COLOR)
    positions = np.zeros((3, *size), np.float32)
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    for row, (context, tasks) in enumerate(clips):
        end = opening + len(context.cells)
        ids[row, :opening], group[row, : end + 1] = writer.opening, 0
        positions[:, row, :opening] = np.arange(opening)
        text = opening + positions_of.text_start(context.end)
        offsets = np.stack([context.seconds * positions_of.ticks, context.cells // CELLS, context.cells % CELLS])
        positions[:, row, opening:end] = opening + offsets
        ids[row, end], positions[:, row, end] = writer.closing, text
        rows.append(np.full(len(context.cells), row))
        columns.append(np.arange(opening, end))
        at = end + 1
        for number, task in enumerate(tasks, 1):
            part = slice(at, at + len(task.ids))
            ids[row, part], weights[row, part], group[row, part] = task.ids, task.weights, number
            positions[:, row, part] = text + 1 + np.arange(len(task.ids))
            if writer.seg in task.ids:
                colors[row, at + task.ids.index(writer.seg) - 1] = task.color
            at = part.stop
    return PackedBatch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        mask=torch.from_numpy(_attention_mask(group))[:, None],
        weights=torch.from_numpy(weights),
        colors=torch.from_numpy(colors),
        cell_places=(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(columns))),
        cells=torch.from_numpy(np.concatenate([context.features for context, _ in clips])),
    )


def _attention_mask(group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[B, L, L]: causal attention within a group and to group 0; padding attends to itself."""
    length = group.shape[1]
    same = (group[:, None, :] == group[:, :, None]) | (group[:, None, :] == 0)
    return same & np.tril(np.ones((length, length), bool)) | np.eye(length, dtype=bool)


def hash_word(word: str) -> int:
    """A hash that orders words independently of the alphabet."""
    return sum((index + 3) * ord(letter) ** 2 for index, letter in enumerate(word)) % 9973


def _spans(target: SceneObject) -> tuple[Span, ...]:
    return tuple(Span(*span) for span in target.spans())


def _color(target: SceneObject) -> int:
    return list(COLORS).index(target.color)
