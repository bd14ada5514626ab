"""Drawing stage: the mask decoder learns to draw the object of a color and to follow it, apart from the language model.

Extra labels: one learned prompt per color. Later the language model's `<|seg|>` state is taught to give that prompt
(`language`), which is far cheaper than to teach it through the decoder.
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
    """Clips of one length."""

    num_frames: int
    batch: int
    level2: float
    """Share of level-2 clips."""
    noise: float
    """Standard deviation of noise on the prompts (at first of unit variance): no `<|seg|>` state gives one exactly."""
    schedule: PretrainingSchedule
    pair: tuple[str, str] | None = None
    """Two colors that are mixed up: every second clip shows both, and one of them is asked for."""


def prompt_size(model: UniPixel) -> tuple[int, int]:
    """(K, C) of a prompt."""
    return model.config.sam2_hidden_tokens, model.config.mask_decoder.hidden


def train(model: UniPixel, prompts: nn.Parameter, lessons: list[DecoderStage], rng: np.random.Generator) -> None:
    """Train the mask decoder and the prompts [colors, K, C] that stand for the colors."""
    tracker = model.sam2.train()
    for lesson in lessons:
        logger.info("%d frames, %d clips a step", lesson.num_frames, lesson.batch)
        for step in lesson.schedule.steps([*tracker.parameters(), prompts], logger):
            frames, masks, colors = _batch(rng, lesson, tracker.side)
            given = prompts[colors]
            given = given + lesson.noise * torch.randn_like(given)
            loss = _loss_of_all(tracker(frames, given, torch.arange(lesson.batch)), masks)
            for name, part in loss._asdict().items():
                step.record(name, part.detach())
            step.minimise(loss.total)


def _loss_of_all(drawn: MaskCandidates, masks: Tensor) -> MaskLossTerms:
    """Mean loss of the three candidates, each on its own.

    Only the best one learns in fine-tuning, as published; from random weights that leaves candidates that never
    learn to draw, and an estimate of their worth that does not tell which.
    """
    each = [
        mask_loss(MaskCandidates(drawn.masks[:, :, [i]], drawn.ious[:, :, [i]], drawn.objectness), masks)
        for i in range(drawn.ious.shape[-1])
    ]
    return average(each)


def _batch(rng: np.random.Generator, lesson: DecoderStage, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [V, T, 3, S, S], masks bool [T, V, S, S], colors [V]; one object of each clip."""
    frames, masks, colors = zip(*(_clip(rng, lesson) for _ in range(lesson.batch)), strict=True)
    pixels = torch.stack([decoder_frames(clip, side) for clip in frames])
    return pixels, torch.from_numpy(np.stack(masks, 1)), torch.tensor(colors)


def _clip(rng: np.random.Generator, lesson: DecoderStage) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int]:
    made, choice = _scene(rng, lesson)
    edges = np.linspace(0, made.num_frames, lesson.num_frames + 1).astype(int)
    empty = background(made)
    drawn = [draw_frame(made, int(rng.integers(a, b)), empty) for a, b in itertools.pairwise(edges)]
    index = choice[int(rng.integers(len(choice)))]
    return (
        np.stack([image for image, _ in drawn]),
        np.stack([label == index + 1 for _, label in drawn]),
        list(COLORS).index(made.things[index].color),
    )


def _scene(rng: np.random.Generator, lesson: DecoderStage) -> tuple[SyntheticScene, list[int]]:
    """A scene and the objects in it that may be asked for."""
    pair = lesson.pair if lesson.pair and rng.random() < 0.5 else ()
    while True:
        made = scene(int(rng.integers(*SEEDS)), 2 if rng.random() < lesson.level2 else 1)
        choice = [index for index, thing in enumerate(made.things) if not pair or thing.color in pair]
        if len(choice) >= len(pair):
            return made, choice
