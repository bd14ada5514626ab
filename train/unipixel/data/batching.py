"""Draws of like length put together, so that a batch holds little padding and processes wait little for each other.

A kind is what a pass costs besides its length: nothing to see, a picture, a video, each with or without masks to
draw. Lengths are estimates from the record alone; a batch is right whatever they are.
"""

from __future__ import annotations

import numpy as np

from evqa import media
from evqa.schema import Sample
from unipixel.configs import DataConfig
from unipixel.data import conversations, resolution

WINDOW = 64
"""Groups that are sorted together: the more, the less padding, and the less a step's samples are mixed by chance."""

CHARACTERS_PER_TOKEN = 4
CELL = (resolution.PATCH * resolution.MERGE) ** 2
"""Pixels of a video token."""


def size_of(sample: Sample, config: DataConfig) -> tuple[int, int]:
    """(kind, tokens) of a sample, as far as its record tells."""
    turns = [len(turn.question) + len(turn.response or "") for turn in sample.turns]
    if sample.task_type in conversations.PIXEL_FORMS and turns:
        turns = [round(sum(turns) * min(1.0, config.max_turns / len(turns)))]
    text = sum(turns) or len(sample.question) + sum(map(len, sample.options)) + len(sample.response or "")
    shown = _frames_seen(sample, config)
    kind = 2 * min(shown, 2) + (sample.task_type in conversations.PIXEL_FORMS)
    steps = -(-shown // resolution.FRAMES_PER_STEP)
    pixels = resolution.pixel_bounds(max(shown, 1), config.num_frames, config.min_pixels, config.max_pixels)[1]
    return kind, text // CHARACTERS_PER_TOKEN + steps * pixels // CELL


def group_samples(sizes: np.ndarray, unit: int, lead: int, rng: np.random.Generator) -> np.ndarray:
    """An order of shuffled draws in which groups of `unit` are alike: int64 `[n]`, each place once.

    Args:
        sizes: `[n, 2]` kind and tokens of the draws, in the order they were shuffled into.
        unit: Draws of a group.
        lead: The first so many draws complete a group that began before them; they stay where they are, and so do
            those at the end that fill no group.
        rng: Decides which group comes when.
    """
    whole = (len(sizes) - lead) // unit * unit
    if unit == 1 or whole <= 0:
        return np.arange(len(sizes))
    places = np.arange(lead, lead + whole)
    parts = [places[start : start + WINDOW * unit] for start in range(0, whole, WINDOW * unit)]
    groups = [rng.permutation(_sorted(part, sizes).reshape(-1, unit)).ravel() for part in parts]
    return np.concatenate([np.arange(lead), *groups, np.arange(lead + whole, len(sizes))])


def _sorted(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return places[np.lexsort((sizes[places, 1], sizes[places, 0]))]


def _frames_seen(sample: Sample, config: DataConfig) -> int:
    if not sample.has_video:
        return 0
    if sample.video.suffix.lower() in media.IMAGE_SUFFIXES:
        return 1
    known = sample.num_frames if sample.frames is None else len(sample.frames)
    return min(config.num_frames, config.num_frames if known is None else known)
