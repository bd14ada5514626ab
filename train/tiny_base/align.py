"""Last stage: `<|seg|>` states learn to be the decoder's color prompts, by regression; both sides stay as they are."""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiny_base.clips import ClipSet
from tiny_base.language import LanguageStage, LanguageTrainee, sequence
from tiny_base.packing import NOT_ASKED, TaskWriter, pack
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)

BATCH = 16


def train(
    model: UniPixel,
    student: LanguageTrainee,
    clips: ClipSet,
    writer: TaskWriter,
    prompts: Tensor,
    lesson: LanguageStage,
) -> None:
    """Train `seg_head` towards `mask_prompts` [colors, K, C]."""
    rng = np.random.default_rng(6)
    student.eval()
    for step in lesson.schedule.steps(model.seg_head.parameters(), logger):
        chosen = [clips[int(index)] for index in rng.integers(len(clips), size=BATCH)]
        packed = pack(
            [sequence(clip, lesson.view, lesson, writer, rng) for clip in chosen],
            writer,
            clips.clock,
        )
        with torch.no_grad():
            _, states = student(packed)
        drawn = packed.colors != NOT_ASKED
        given, wanted = model.mask_prompts(states[drawn]), prompts[packed.colors[drawn]]
        nearest = torch.cdist(given.flatten(1), prompts.flatten(1)).argmin(1)
        step.record("nearest is right", (nearest == packed.colors[drawn]).float().mean())
        step.minimise(F.mse_loss(given, wanted))
