"""Last stage of pre-training: `seg_head` regresses the color prompts of the mask decoder from the `<|seg|>` states.

The language model and the mask decoder are frozen.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiny_base.clips import ClipSet
from tiny_base.language import LanguageModelWithColorHead, LanguageStage, sequence
from tiny_base.packing import NO_COLOR, TaskWriter, pack
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)

BATCH = 16


def train(
    model: UniPixel,
    language: LanguageModelWithColorHead,
    clips: ClipSet,
    writer: TaskWriter,
    prompts: Tensor,
    stage: LanguageStage,
) -> None:
    """Train `seg_head` towards `prompts` [colors, K, C]."""
    rng = np.random.default_rng(6)
    language.eval()
    for step in stage.schedule.steps(model.seg_head.parameters(), logger):
        batch = [clips[int(index)] for index in rng.integers(len(clips), size=BATCH)]
        packed = pack(
            [sequence(clip, stage.view, stage, writer, rng) for clip in batch],
            writer,
            clips.time_positions,
        )
        with torch.no_grad():
            _, states = language(packed)
        is_seg = packed.colors != NO_COLOR
        predicted, targets = model.mask_prompts(states[is_seg]), prompts[packed.colors[is_seg]]
        nearest = torch.cdist(predicted.flatten(1), prompts.flatten(1)).argmin(1)
        step.record("nearest is right", (nearest == packed.colors[is_seg]).float().mean())
        step.minimise(F.mse_loss(predicted, targets))
