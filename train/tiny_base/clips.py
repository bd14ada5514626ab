"""Clips as the language model meets them in the warm-ups: features of cells, when, and what each shows.

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
from tiny_base.packing import ClipContext, PackedClock
from tiny_base.vision import IMAGINATION, NOTHING, SEEDS, cell_labels, empty_cell, encode_patches
from unipixel.data.frames import llm_pixels
from unipixel.model.unipixel import UniPixel

NOISE = 0.05
"""Standard deviation of noise on sums of word vectors."""


@dataclass(frozen=True)
class EncodedClip:
    """One clip."""

    scene: SyntheticScene
    questions: list[ShapesQuestion]
    features: NDArray[np.float16]
    """[P, 9, D]"""
    seconds: NDArray[np.float32]
    """[P], mean time of the pair's frames; the pair's number by the legacy clock."""
    thing: NDArray[np.int8]
    """[P, 9] index of the object in the cell, or NOTHING."""

    def shown(
        self, view: Literal["target", "objects", "all"], target: int | None, rng: np.random.Generator
    ) -> ClipContext:
        """All cells, or one cell of each object (or of the target) per pair, drawn where it fills several."""
        if view == "all":
            pairs, cells = np.indices(self.thing.shape).reshape(2, -1)
        else:
            wanted = range(len(self.scene.things)) if target is None else [target]
            picked = sorted(place for pair in range(len(self.thing)) for place in self._one_each(pair, wanted, rng))
            pairs, cells = np.array(picked, np.int64).reshape(-1, 2).T
        features, end = self.features[pairs, cells].astype(np.float32), float(self.seconds[-1])
        return ClipContext(features, self.seconds[pairs], cells, end)

    def _one_each(self, pair: int, wanted: Sequence[int], rng: np.random.Generator) -> list[tuple[int, int]]:
        where = [np.flatnonzero(self.thing[pair] == index) for index in wanted]
        return [(pair, int(cells[rng.integers(len(cells))])) for cells in where if len(cells)]


@dataclass(frozen=True)
class ClipSet:
    """A set of clips and what tells the model their times."""

    clips: list[EncodedClip]
    clock: PackedClock

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> EncodedClip:
        return self.clips[index]


def synthetic_features(model: UniPixel, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> ClipSet:
    """Level-1 clips that are never drawn: a cell's feature is the sum of its object's word vectors, and noise."""
    words, clock = model.get_parameter(WORDS).detach().numpy(), PackedClock.of(model.config)
    rng = np.random.default_rng((seed, IMAGINATION))
    nothing = empty_cell(rng, words.shape[1])

    def vector(word: str) -> NDArray[np.float32]:
        return words[tokenizer.convert_tokens_to_ids(f" {word}")]

    clips = []
    for _ in range(count):
        made = scene(int(rng.integers(*SEEDS)), 1)
        pairs = frame_pairs(made)
        features = np.tile(nothing, (len(pairs), CELLS**2, 1))
        owner = np.full(features.shape[:2], NOTHING, np.int8)
        for index, thing in enumerate(made.things):
            looks = vector(thing.color) + vector(thing.shape)
            for pair, frames in enumerate(pairs):
                x, y = (min(CELLS - 1, int(v * CELLS / SIZE)) for v in thing.position(frames[0], made.num_frames))
                active = np.mean([thing.active(frame) for frame in frames])
                features[pair, y * CELLS + x] = looks + active * vector(thing.event)
                owner[pair, y * CELLS + x] = index
        features += rng.normal(0, NOISE, features.shape)
        clips.append(EncodedClip(made, questions(made), features.astype(np.float16), _seconds(pairs, clock), owner))
    return ClipSet(clips, clock)


@torch.no_grad()
def encoded_clips(model: UniPixel, count: int, seed: int, level2: float) -> ClipSet:
    """Drawn clips through the vision tower, computed once."""
    rng, clock = np.random.default_rng((seed, 5)), PackedClock.of(model.config)
    clips: list[EncodedClip] = []
    for _ in tqdm(range(count), desc="clips through the vision tower"):
        made = scene(int(rng.integers(*SEEDS)), 2 if rng.random() < level2 else 1)
        pairs, empty = frame_pairs(made), background(made)
        drawn = [draw_frame(made, frame, empty) for pair in pairs for frame in pair]
        patches = llm_pixels(np.stack([image for image, _ in drawn]), PIXELS // 2, PIXELS)
        features = encode_patches(model, patches.pixel_values, patches.grid_thw[None])
        labels = np.stack([label for _, label in drawn]).reshape(len(pairs), 2, SIZE, SIZE)
        owner = np.stack([cell_labels(pair).thing for pair in labels]).astype(np.int8)
        cells = features.unflatten(0, (len(pairs), CELLS**2)).numpy().astype(np.float16)
        clips.append(EncodedClip(made, questions(made), cells, _seconds(pairs, clock), owner))
    return ClipSet(clips, clock)


def frame_pairs(made: SyntheticScene) -> list[tuple[int, int]]:
    """Frames that the language model sees, as it samples them: uniform, both ends, in pairs, the last one repeated."""
    count = min(FRAMES, made.num_frames)
    frames = [round(index) for index in np.linspace(0, made.num_frames - 1, count).tolist()]
    if count % 2:
        frames.append(frames[-1])
    return list(zip(frames[::2], frames[1::2], strict=True))


def _seconds(pairs: list[tuple[int, int]], clock: PackedClock) -> NDArray[np.float32]:
    if clock.is_legacy:
        return np.arange(len(pairs), dtype=np.float32)
    return np.array([np.mean(pair) / FPS for pair in pairs], np.float32)
