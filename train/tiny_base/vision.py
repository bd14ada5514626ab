"""Vision stage: the tower learns to name what each cell of a frame pair shows, in the language model's word vectors.

Extra labels, which no real data set has: the color, shape and event of the object in every cell. A cell's feature
becomes the sum of the vectors of its words, so that the language model can be warmed up on such sums.

Legend: B frame pairs, N = 9 B cells, D width.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from evqa.datasets.shapes.draw import Image, Labels, background, draw_frame
from evqa.datasets.shapes.scene import COLORS, LOOKS, SHAPES, SIZE, SyntheticScene, scene
from tiny_base.blank import CELLS, PIXELS, WORDS
from tiny_base.schedule import PretrainingSchedule
from unipixel.data.frames import llm_pixels
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)

SEEDS = (1_000_000, 2_000_000)
"""Range of scene seeds of all warm-ups; `data/shapes` draws its splits from below it."""
LEVEL2 = 0.15
BATCH = 24
SHARPNESS = 8.0
"""Factor on feature-word products before the softmax."""
NAME_WEIGHTS = (1.0, 2.0, 1.0)
"""Of naming color, shape and event; shapes are by far the slowest."""
SUM_WEIGHT = 0.5
"""Of the squared distance between a feature and the sum of its words. Naming alone leaves features three times as long
as that sum and mostly something else, which the language model then has to learn to see through."""
SEEN, PARTLY_SEEN, EMPTY = 1.0, 0.15, 0.3
"""Weights in the loss of a cell that shows most of its object, that shows a part of one, and that shows none."""
NOTHING = -1
IMAGINATION = 4
"""Stream of random numbers that clips are imagined from."""


@dataclass(frozen=True)
class CellLabels:
    """What the cells show; all of length N."""

    thing: NDArray[np.int64]
    """Index of the object, or NOTHING."""
    is_main: NDArray[np.bool_]
    """Whether no other cell shows more of that object."""


def train(model: UniPixel, tokenizer: PreTrainedTokenizerFast, schedule: PretrainingSchedule, seed: int) -> None:
    """Train the vision tower; word vectors stay fixed."""
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, 1))
    words = model.get_parameter(WORDS).detach()
    tables = [
        words[tokenizer.convert_tokens_to_ids([f" {word}" for word in group])] for group in (COLORS, SHAPES, LOOKS)
    ]
    nothing = torch.from_numpy(empty_cell(np.random.default_rng((seed, IMAGINATION)), words.shape[1]))
    none = torch.nn.Parameter(torch.randn(2, words.shape[1]) * words.shape[1] ** -0.5)  # nothing here, no event
    parameters = [*model.model.visual.parameters(), none]
    for step in schedule.steps(parameters, logger):
        pixels, grid, labels, is_main = _batch(rng)
        features = encode_patches(model, pixels, grid)
        weight = torch.where(is_main, SEEN, torch.where(labels[0][:, -1] < 1, PARTLY_SEEN, EMPTY))
        losses = []
        for table, blank, label, factor in zip(tables, none[[0, 0, 1]], labels, NAME_WEIGHTS, strict=True):
            logits = SHARPNESS * features @ torch.cat([table, blank[None]]).T
            losses.append(factor * (F.cross_entropy(logits, label, reduction="none") * weight).sum() / is_main.sum())
            right = logits.argmax(1) == label.argmax(1)
            step.record(f"right {len(losses)}", right[is_main].float().mean())
        wanted = sum(label[:, :-1] @ table for table, label in zip(tables, labels, strict=True))
        distance = (features - wanted - labels[0][:, -1:] * nothing).pow(2).sum(1)
        step.record("distance", distance[is_main].detach().mean())
        losses.append(SUM_WEIGHT * (distance * weight).sum() / is_main.sum())
        step.minimise(torch.stack(losses).sum())


def empty_cell(rng: np.random.Generator, width: int) -> NDArray[np.float32]:
    """The feature [D] of a cell that shows nothing: the first draw of the stream that clips are imagined from."""
    return rng.normal(0, width**-0.5, width).astype(np.float32)


def encode_patches(model: UniPixel, pixels: Tensor, grid: Tensor) -> Tensor:
    """Features [N, D] of merged cells, for patches in Qwen's order and grids [B, 3]."""
    tower: nn.Module = model.get_submodule("model.visual")
    return tower(pixels, grid_thw=grid).pooler_output


def cell_labels(labels: NDArray[np.uint8], num_things: int = 3) -> CellLabels:
    """Which object each cell of a frame pair [2, H, W] shows.

    An object owns a cell when it fills a tenth of it or more than a third of the object lies there; the larger wins.
    """
    lines = np.arange(SIZE) * CELLS // SIZE
    cell = (lines[:, None] * CELLS + lines[None]).ravel()
    shown = np.stack([np.bincount(cell, (labels == i + 1).sum(0).ravel(), CELLS**2) for i in range(num_things)], 1)
    most, largest = shown.argmax(1), shown.max(1)
    share_of_thing = largest / np.maximum(shown.sum(0), 1)[most]
    owned = (largest > 0) & ((largest > 0.1 * 2 * (SIZE / CELLS) ** 2) | (share_of_thing > 0.35))
    is_main = owned & (largest == shown.max(0)[most])
    return CellLabels(np.where(owned, most, NOTHING), is_main)


def _batch(rng: np.random.Generator) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
    """Patches, grid [B, 3], target distributions of (color, shape, event) [N, classes + 1], is_main [N]."""
    images, rows, main = [], [], []
    for _ in range(BATCH):
        made = scene(int(rng.integers(*SEEDS)), 2 if rng.random() < LEVEL2 else 1)
        frames = _pair(rng, made)
        pictures, labels = draw_pair(made, frames)
        cells = cell_labels(labels)
        images.append(pictures)
        main.append(cells.is_main)
        rows += [_targets(made, frames, index) for index in cells.thing]
    pixels = llm_pixels(np.concatenate(images), PIXELS // 2, PIXELS).pixel_values
    grid = torch.tensor([[1, 2 * CELLS, 2 * CELLS]] * BATCH)
    targets = [torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)]
    return pixels, grid, targets, torch.from_numpy(np.concatenate(main))


def draw_pair(made: SyntheticScene, frames: tuple[int, int]) -> tuple[Image, Labels]:
    """Two frames [2, H, W, 3] and their labels [2, H, W]."""
    empty = background(made)
    drawn = [draw_frame(made, frame, empty) for frame in frames]
    return np.stack([image for image, _ in drawn]), np.stack([label for _, label in drawn])


def _pair(rng: np.random.Generator, made: SyntheticScene) -> tuple[int, int]:
    """Two frames one or two apart; every other time near an event, so that events are seen often."""
    first = int(rng.integers(made.num_frames - 2))
    if rng.random() < 0.5:
        start, end = made.things[int(rng.integers(3))].events[0]
        first = int(np.clip(rng.integers(start - 1, max(start + 1, end - 1)), 0, made.num_frames - 3))
    return first, min(first + int(rng.integers(1, 3)), made.num_frames - 1)


def _targets(made: SyntheticScene, frames: tuple[int, int], index: int) -> tuple[NDArray[np.float32], ...]:
    """Distributions over (colors, shapes, events), each with a last class for none; an event may be half seen."""
    color, shape, event = (np.zeros(len(group) + 1, np.float32) for group in (COLORS, SHAPES, LOOKS))
    if index == NOTHING:
        color[-1] = shape[-1] = event[-1] = 1
        return color, shape, event
    thing = made.things[index]
    color[list(COLORS).index(thing.color)] = 1
    shape[SHAPES.index(thing.shape)] = 1
    active = float(np.mean([thing.active(frame) for frame in frames])) if thing.event in LOOKS else 0.0
    event[-1] = 1 - active
    if active:
        event[LOOKS.index(thing.event)] = active
    return color, shape, event
