"""Clips for pre-training of the language model: features, seconds and object labels of cells.

Legend: P frame pairs of a clip, 9 cells each, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from evqa.datasets.shapes.draw import background, draw_frame
from evqa.datasets.shapes.questions import ShapesQuestion, questions
from evqa.datasets.shapes.scene import FPS, SIZE, SyntheticScene, scene
from tiny_base.blank import CELLS, FRAMES, PIXELS, WORDS
from tiny_base.packing import ClipContext, PackedTimePositions
from tiny_base.vision import CLIP_STREAM, NO_OBJECT, SEEDS, cell_labels, empty_cell, encode_patches
from unipixel.data.frames import llm_pixels
from unipixel.model.unipixel import UniPixel

NOISE = 0.05
"""Standard deviation of noise on sums of word vectors."""


@dataclass(frozen=True)
class EncodedClip:
    """A clip of the synthetic world as features, with its questions."""

    scene: SyntheticScene
    questions: list[ShapesQuestion]
    features: NDArray[np.float16]
    """[P, 9, D]"""
    seconds: NDArray[np.float32]
    """[P] mean time of the two frames; the index of the pair if `time_encoding` is "fixed-2fps"."""
    object_index: NDArray[np.int8]
    """[P, 9] index of the object in the cell, or NO_OBJECT."""

    def context(
        self, view: Literal["target", "objects", "all"], target: int | None, rng: np.random.Generator
    ) -> ClipContext:
        """All cells, or per pair one random cell of each object (or of the target)."""
        if view == "all":
            pairs, cells = np.indices(self.object_index.shape).reshape(2, -1)
        else:
            targets = range(len(self.scene.things)) if target is None else [target]
            num_pairs = len(self.object_index)
            places = sorted(place for pair in range(num_pairs) for place in self._sample_cells(pair, targets, rng))
            pairs, cells = np.array(places, np.int64).reshape(-1, 2).T
        features, end = self.features[pairs, cells].astype(np.float32), float(self.seconds[-1])
        return ClipContext(features, self.seconds[pairs], cells, end)

    def _sample_cells(self, pair: int, targets: Sequence[int], rng: np.random.Generator) -> list[tuple[int, int]]:
        cells_of_targets = [np.flatnonzero(self.object_index[pair] == index) for index in targets]
        return [(pair, int(cells[rng.integers(len(cells))])) for cells in cells_of_targets if len(cells)]


@dataclass(frozen=True)
class ClipSet:
    """A set of clips and the temporal positions of the model."""

    clips: list[EncodedClip]
    time_positions: PackedTimePositions

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> EncodedClip:
        return self.clips[index]


def synthetic_features(model: UniPixel, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> ClipSet:
    """Level-1 clips without frames: the feature of a cell is the sum of the word vectors of its object, plus noise."""
    words, time_positions = model.get_parameter(WORDS).detach().numpy(), PackedTimePositions.of(model.config)
    rng = np.random.default_rng((seed, CLIP_STREAM))
    empty_feature = empty_cell(rng, words.shape[1])

    def vector(word: str) -> NDArray[np.float32]:
        return words[tokenizer.convert_tokens_to_ids(f" {word}")]

    clips = []
    for _ in range(count):
        world = scene(int(rng.integers(*SEEDS)), 1)
        pairs = frame_pairs(world)
        features = np.tile(empty_feature, (len(pairs), CELLS**2, 1))
        owner = np.full(features.shape[:2], NO_OBJECT, np.int8)
        for index, item in enumerate(world.things):
            appearance = vector(item.color) + vector(item.shape)
            for pair, frames in enumerate(pairs):
                x, y = (min(CELLS - 1, int(v * CELLS / SIZE)) for v in item.position(frames[0], world.num_frames))
                active = np.mean([item.active(frame) for frame in frames])
                features[pair, y * CELLS + x] = appearance + active * vector(item.event)
                owner[pair, y * CELLS + x] = index
        features += rng.normal(0, NOISE, features.shape)
        clips.append(
            EncodedClip(world, questions(world), features.astype(np.float16), _seconds(pairs, time_positions), owner)
        )
    return ClipSet(clips, time_positions)


@torch.no_grad()
def encoded_clips(model: UniPixel, count: int, seed: int, level2: float) -> ClipSet:
    """Rendered clips, encoded by the vision tower."""
    rng, time_positions = np.random.default_rng((seed, 5)), PackedTimePositions.of(model.config)
    clips: list[EncodedClip] = []
    for _ in tqdm(range(count), desc="clips through the vision tower"):
        world = scene(int(rng.integers(*SEEDS)), 2 if rng.random() < level2 else 1)
        pairs, empty = frame_pairs(world), background(world)
        frames = [draw_frame(world, frame, empty) for pair in pairs for frame in pair]
        patches = llm_pixels(np.stack([image for image, _ in frames]), PIXELS // 2, PIXELS)
        features = encode_patches(model, patches.pixel_values, patches.grid_thw[None])
        labels = np.stack([label for _, label in frames]).reshape(len(pairs), 2, SIZE, SIZE)
        owner = np.stack([cell_labels(pair).object_index for pair in labels]).astype(np.int8)
        cells = features.unflatten(0, (len(pairs), CELLS**2)).numpy().astype(np.float16)
        clips.append(EncodedClip(world, questions(world), cells, _seconds(pairs, time_positions), owner))
    return ClipSet(clips, time_positions)


def frame_pairs(world: SyntheticScene) -> list[tuple[int, int]]:
    """Pairs of the frames of inference: evenly spaced, with both ends; the last is repeated if their number is odd."""
    count = min(FRAMES, world.num_frames)
    frames = [round(index) for index in np.linspace(0, world.num_frames - 1, count).tolist()]
    if count % 2:
        frames.append(frames[-1])
    return list(zip(frames[::2], frames[1::2], strict=True))


def _seconds(pairs: list[tuple[int, int]], time_positions: PackedTimePositions) -> NDArray[np.float32]:
    if time_positions.is_fixed:
        return np.arange(len(pairs), dtype=np.float32)
    return np.array([np.mean(pair) / FPS for pair in pairs], np.float32)
