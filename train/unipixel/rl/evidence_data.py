"""Prompts of evidence RL: training examples of SFT, split into prompt and gold reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from evqa.schema import Sample
from unipixel.data.collate import IGNORED, DataCollator, SkippedSample, TrainingExample
from unipixel.data.dataset import SFTDataset
from unipixel.data.mixture import SampleRef


class EvidenceQuestion(NamedTuple):
    """A question with its ground truth."""

    sample: Sample
    seed: int
    """Seed of the replies, by the position in the run."""
    example: TrainingExample
    """With `input_ids` of the prompt only, up to the start of the reply."""
    gold: Tensor
    """int64 [n] tokens of the gold reply, the end token included."""


@dataclass(frozen=True, kw_only=True)
class EvidenceDataset:
    """Map-style data set of questions; its keys are those of a `MixtureSampler`."""

    examples: SFTDataset

    def __len__(self) -> int:
        """Number of samples per epoch."""
        return len(self.examples)

    def __getitem__(self, draw: SampleRef) -> EvidenceQuestion | SkippedSample:
        """The question at a position of the run, or a `SkippedSample` with the error."""
        example = self.examples[draw]
        if isinstance(example, SkippedSample):
            return example
        sample, seed = self.examples.mixture.sample(draw), self.examples.mixture.seed
        noise = int(np.random.SeedSequence((seed, draw.position, 1)).generate_state(1)[0])
        try:
            return evidence_question(sample, noise, example)
        except ValueError as error:
            return SkippedSample(sample.id, str(error))


def evidence_question(sample: Sample, seed: int, example: TrainingExample) -> EvidenceQuestion:
    """Split an example into prompt and gold reply.

    Raises:
        ValueError: the sample has no options or no masks, so that its replies have no reward.
    """
    if not sample.options or example["masks"] is None or example["pixel_values_videos"] is None:
        raise ValueError("evidence RL needs questions with options, an answer, a video and masks")
    is_reply = example["labels"] != IGNORED
    start = int(is_reply.int().argmax())
    if not bool(is_reply[start:].all()):
        raise ValueError("evidence RL needs samples with one question")
    ids = example["input_ids"]
    prompt: TrainingExample = {**example, "input_ids": ids[:start], "labels": example["labels"][:start]}
    return EvidenceQuestion(sample, seed, prompt, ids[start:])


class EvidenceCollator:
    """Collator of questions: prompts padded on the left, the rest as lists."""

    def __init__(self, pad_token_id: int) -> None:
        self._collate = DataCollator(pad_token_id)
        self._padding = pad_token_id

    def __call__(self, items: Sequence[EvidenceQuestion | SkippedSample]) -> dict[str, Any]:
        skipped = [item for item in items if isinstance(item, SkippedSample)]
        questions = [item for item in items if isinstance(item, EvidenceQuestion)]
        if not questions:
            return {"skipped": skipped}
        batch: dict[str, Any] = {**self._collate([question.example for question in questions])}
        del batch["labels"]
        rows = [question.example["input_ids"] for question in questions]
        longest = max(map(len, rows))
        batch["input_ids"] = torch.stack([_pad_left(row, longest, self._padding) for row in rows])
        batch["attention_mask"] = torch.stack([_pad_left(torch.ones_like(row), longest, 0) for row in rows])
        batch["samples"] = [question.sample for question in questions]
        batch["seeds"] = [question.seed for question in questions]
        batch["gold"] = [question.gold for question in questions]
        batch["skipped"] = skipped
        return batch


def _pad_left(row: Tensor, length: int, value: int) -> Tensor:
    return torch.nn.functional.pad(row, (length - len(row), 0), value=value)
