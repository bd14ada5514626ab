"""Mask decoder stages: SAM 2 learns to segment and track the object of a color, without the language model.

Additional parameters: one learned prompt per color. `align` later trains `seg_head` to predict these prompts from
`<|seg|>` states, which is much cheaper than training through the decoder.
"""

from __future__ import annotations

import itertools
import logging
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evqa.datasets.shapes.draw import background, draw_frame
from evqa.datasets.shapes.scene import COLORS, SyntheticScene, scene
from tiny_base.schedule import PretrainingSchedule
from tiny_base.vision import SEEDS
from unipixel.data.frames import decoder_frames
from unipixel.model.losses import MaskLossTerms, average, mask_loss
from unipixel.model.sam2.outputs import MaskCandidates
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)


class DecoderStage(NamedTuple):
    """A stage with clips of one length."""

    num_frames: int
    batch: int
    level2: float
    """Share of level-2 clips."""
    noise: float
    """Standard deviation of noise on the prompts (initially of unit variance), as `<|seg|>` states predict them
    inexactly."""
    schedule: PretrainingSchedule
    pair: tuple[str, str] | None = None
    """Two colors that the decoder confuses: half of the clips have both, with one of them as target."""


def prompt_size(model: UniPixel) -> tuple[int, int]:
    """Shape (K, C) of a mask prompt."""
    return model.config.sam2_hidden_tokens, model.config.mask_decoder.hidden


def train(model: UniPixel, prompts: nn.Parameter, stages: list[DecoderStage], rng: np.random.Generator) -> None:
    """Train the mask decoder and the color prompts [colors, K, C]."""
    tracker = model.sam2.train()
    for stage in stages:
        logger.info("%d frames, %d clips per step", stage.num_frames, stage.batch)
        for step in stage.schedule.steps([*tracker.parameters(), prompts], logger):
            frames, masks, colors = _batch(rng, stage, tracker.side)
            inputs = prompts[colors]
            inputs = inputs + stage.noise * torch.randn_like(inputs)
            loss = _loss_of_all(tracker(frames, inputs, torch.arange(stage.batch)), masks)
            for name, part in loss._asdict().items():
                step.record(name, part.detach())
            step.minimise(loss.total)


def _loss_of_all(candidates: MaskCandidates, masks: Tensor) -> MaskLossTerms:
    """Mean of the losses of the three mask candidates.

    Fine-tuning trains only the best candidate, as published. From random weights this leaves candidates untrained,
    while the predicted IoU does not identify them.
    """
    losses = [
        mask_loss(MaskCandidates(candidates.masks[:, :, [i]], candidates.ious[:, :, [i]], candidates.objectness), masks)
        for i in range(candidates.ious.shape[-1])
    ]
    return average(losses)


def _batch(rng: np.random.Generator, stage: DecoderStage, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [V, T, 3, S, S], masks bool [T, V, S, S] and color indices [V] of one object per clip."""
    frames, masks, colors = zip(*(_clip(rng, stage) for _ in range(stage.batch)), strict=True)
    pixels = torch.stack([decoder_frames(clip, side) for clip in frames])
    return pixels, torch.from_numpy(np.stack(masks, 1)), torch.tensor(colors)


def _clip(rng: np.random.Generator, stage: DecoderStage) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int]:
    world, candidates = _scene(rng, stage)
    edges = np.linspace(0, world.num_frames, stage.num_frames + 1).astype(int)
    empty = background(world)
    frames = [draw_frame(world, int(rng.integers(a, b)), empty) for a, b in itertools.pairwise(edges)]
    index = candidates[int(rng.integers(len(candidates)))]
    return (
        np.stack([image for image, _ in frames]),
        np.stack([label == index + 1 for _, label in frames]),
        list(COLORS).index(world.things[index].color),
    )


def _scene(rng: np.random.Generator, stage: DecoderStage) -> tuple[SyntheticScene, list[int]]:
    """A scene and the indices of possible target objects."""
    pair = stage.pair if stage.pair and rng.random() < 0.5 else ()
    while True:
        world = scene(int(rng.integers(*SEEDS)), 2 if rng.random() < stage.level2 else 1)
        candidates = [index for index, item in enumerate(world.things) if not pair or item.color in pair]
        if len(candidates) >= len(pair):
            return world, candidates
