"""Vision stage: the vision tower learns to predict the object of each cell as a sum of word vectors.

Additional labels, which real data sets lack: color, shape and event of the object in every cell. The feature of a cell
becomes the sum of the vectors of these words, so that the language model can be pre-trained on such sums.

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
"""Range of scene seeds of pre-training; the splits of `data/shapes` have seeds below it."""
LEVEL2 = 0.15
BATCH = 24
SHARPNESS = 8.0
"""Inverse temperature of the softmax over words."""
NAME_WEIGHTS = (1.0, 2.0, 1.0)
"""Loss weights of color, shape and event; shapes are learned most slowly."""
SUM_WEIGHT = 0.5
"""Loss weight of the squared distance between a feature and the sum of its word vectors. With classification alone,
features are three times as long as that sum and differ from it in most of their energy."""
MAIN_WEIGHT, PART_WEIGHT, EMPTY_WEIGHT = 1.0, 0.15, 0.3
"""Loss weights of the main cell of an object, of further cells of it, and of cells without object."""
NO_OBJECT = -1
CLIP_STREAM = 4
"""Stream of random numbers of clips with synthetic features."""


@dataclass(frozen=True)
class CellLabels:
    """Labels of N cells."""

    object_index: NDArray[np.int64]
    """[N] index of the object, or NO_OBJECT."""
    is_main: NDArray[np.bool_]
    """[N] whether no other cell has a larger part of the object."""


def train(model: UniPixel, tokenizer: PreTrainedTokenizerFast, schedule: PretrainingSchedule, seed: int) -> None:
    """Train the vision tower; the word vectors are frozen."""
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, 1))
    words = model.get_parameter(WORDS).detach()
    tables = [
        words[tokenizer.convert_tokens_to_ids([f" {word}" for word in group])] for group in (COLORS, SHAPES, LOOKS)
    ]
    empty_feature = torch.from_numpy(empty_cell(np.random.default_rng((seed, CLIP_STREAM)), words.shape[1]))
    negatives = torch.nn.Parameter(torch.randn(2, words.shape[1]) * words.shape[1] ** -0.5)  # no object, no event
    parameters = [*model.model.visual.parameters(), negatives]
    for step in schedule.steps(parameters, logger):
        pixels, grid, labels, is_main = _batch(rng)
        features = encode_patches(model, pixels, grid)
        weight = torch.where(is_main, MAIN_WEIGHT, torch.where(labels[0][:, -1] < 1, PART_WEIGHT, EMPTY_WEIGHT))
        losses = []
        for table, negative, label, factor in zip(tables, negatives[[0, 0, 1]], labels, NAME_WEIGHTS, strict=True):
            logits = SHARPNESS * features @ torch.cat([table, negative[None]]).T
            losses.append(factor * (F.cross_entropy(logits, label, reduction="none") * weight).sum() / is_main.sum())
            is_right = logits.argmax(1) == label.argmax(1)
            step.record(f"right {len(losses)}", is_right[is_main].float().mean())
        targets = sum(label[:, :-1] @ table for table, label in zip(tables, labels, strict=True))
        distance = (features - targets - labels[0][:, -1:] * empty_feature).pow(2).sum(1)
        step.record("distance", distance[is_main].detach().mean())
        losses.append(SUM_WEIGHT * (distance * weight).sum() / is_main.sum())
        step.minimise(torch.stack(losses).sum())


def empty_cell(rng: np.random.Generator, width: int) -> NDArray[np.float32]:
    """The feature [D] of a cell without object: the first sample of `CLIP_STREAM`."""
    return rng.normal(0, width**-0.5, width).astype(np.float32)


def encode_patches(model: UniPixel, pixels: Tensor, grid: Tensor) -> Tensor:
    """Features [N, D] of merged cells for patches in the order of Qwen2.5-VL and grids [B, 3]."""
    tower: nn.Module = model.get_submodule("model.visual")
    return tower(pixels, grid_thw=grid).pooler_output


def cell_labels(labels: NDArray[np.uint8], num_objects: int = 3) -> CellLabels:
    """Assign each cell of a frame pair [2, H, W] to an object.

    An object is assigned to a cell if it fills a tenth of it or has more than a third of its pixels there; the larger
    object takes precedence.
    """
    lines = np.arange(SIZE) * CELLS // SIZE
    cell = (lines[:, None] * CELLS + lines[None]).ravel()
    areas = np.stack([np.bincount(cell, (labels == i + 1).sum(0).ravel(), CELLS**2) for i in range(num_objects)], 1)
    most, largest = areas.argmax(1), areas.max(1)
    share_of_object = largest / np.maximum(areas.sum(0), 1)[most]
    is_assigned = (largest > 0) & ((largest > 0.1 * 2 * (SIZE / CELLS) ** 2) | (share_of_object > 0.35))
    is_main = is_assigned & (largest == areas.max(0)[most])
    return CellLabels(np.where(is_assigned, most, NO_OBJECT), is_main)


def _batch(rng: np.random.Generator) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
    """Patches, grid [B, 3], target distributions of (color, shape, event) [N, classes + 1], is_main [N]."""
    images, rows, main = [], [], []
    for _ in range(BATCH):
        world = scene(int(rng.integers(*SEEDS)), 2 if rng.random() < LEVEL2 else 1)
        frames = _pair(rng, world)
        pictures, labels = draw_pair(world, frames)
        cells = cell_labels(labels)
        images.append(pictures)
        main.append(cells.is_main)
        rows += [_targets(world, frames, index) for index in cells.object_index]
    pixels = llm_pixels(np.concatenate(images), PIXELS // 2, PIXELS).pixel_values
    grid = torch.tensor([[1, 2 * CELLS, 2 * CELLS]] * BATCH)
    targets = [torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)]
    return pixels, grid, targets, torch.from_numpy(np.concatenate(main))


def draw_pair(world: SyntheticScene, frames: tuple[int, int]) -> tuple[Image, Labels]:
    """Two frames [2, H, W, 3] and their labels [2, H, W]."""
    empty = background(world)
    rendered = [draw_frame(world, frame, empty) for frame in frames]
    return np.stack([image for image, _ in rendered]), np.stack([label for _, label in rendered])


def _pair(rng: np.random.Generator, world: SyntheticScene) -> tuple[int, int]:
    """Two frames at a distance of one or two; half of them near an event, so that events are frequent."""
    first = int(rng.integers(world.num_frames - 2))
    if rng.random() < 0.5:
        start, end = world.things[int(rng.integers(3))].events[0]
        first = int(np.clip(rng.integers(start - 1, max(start + 1, end - 1)), 0, world.num_frames - 3))
    return first, min(first + int(rng.integers(1, 3)), world.num_frames - 1)


def _targets(world: SyntheticScene, frames: tuple[int, int], index: int) -> tuple[NDArray[np.float32], ...]:
    """Target distributions over colors, shapes and events, each with a last class for none; events may be partial."""
    color, shape, event = (np.zeros(len(group) + 1, np.float32) for group in (COLORS, SHAPES, LOOKS))
    if index == NO_OBJECT:
        color[-1] = shape[-1] = event[-1] = 1
        return color, shape, event
    item = world.things[index]
    color[list(COLORS).index(item.color)] = 1
    shape[SHAPES.index(item.shape)] = 1
    active = float(np.mean([item.active(frame) for frame in frames])) if item.event in LOOKS else 0.0
    event[-1] = 1 - active
    if active:
        event[LOOKS.index(item.event)] = active
    return color, shape, event
