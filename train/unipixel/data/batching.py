"""Grouping of samples by modality and length, for little padding and even load of processes.

A kind is the modality of a sample (text, image or video), with or without masks. Lengths are estimates from the record;
they affect the order only.
"""

from __future__ import annotations

import numpy as np

from evqa import media
from evqa.schema import Sample
from unipixel.configs import DataConfig
from unipixel.data import conversations, resolution

WINDOW = 64
"""Number of groups that are sorted together: more give less padding and less random steps."""

CHARACTERS_PER_TOKEN = 4
CELL = (resolution.PATCH * resolution.MERGE) ** 2
"""Pixels per video token."""


def size_of(sample: Sample, config: DataConfig) -> tuple[int, int]:
    """Estimated (kind, number of tokens) of a sample from its record."""
    turns = [len(turn.question) + len(turn.response or "") for turn in sample.turns]
    if sample.task_type in conversations.PIXEL_FORMS and turns:
        turns = [round(sum(turns) * min(1.0, config.max_turns / len(turns)))]
    text = sum(turns) or len(sample.question) + sum(map(len, sample.options)) + len(sample.response or "")
    num_frames = _num_sampled_frames(sample, config)
    kind = 2 * min(num_frames, 2) + (sample.task_type in conversations.PIXEL_FORMS)
    steps = -(-num_frames // resolution.FRAMES_PER_STEP)
    pixels = resolution.pixel_bounds(max(num_frames, 1), config.num_frames, config.min_pixels, config.max_pixels)[1]
    return kind, text // CHARACTERS_PER_TOKEN + steps * pixels // CELL


def group_samples(sizes: np.ndarray, unit: int, lead: int, rng: np.random.Generator) -> np.ndarray:
    """Reorder shuffled samples so that groups of `unit` have equal kind and similar length: int64 `[n]`, a permutation.

    Args:
        sizes: `[n, 2]` kind and tokens of the samples, in shuffled order.
        unit: samples per group.
        lead: number of samples at the start that complete an earlier group; they keep their places, as do those at the
            end that do not fill a group.
        rng: for the order of the groups.
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


def _num_sampled_frames(sample: Sample, config: DataConfig) -> int:
    if not sample.has_video:
        return 0
    if sample.video.suffix.lower() in media.IMAGE_SUFFIXES:
        return 1
    num_available = sample.num_frames if sample.frames is None else len(sample.frames)
    return min(config.num_frames, config.num_frames if num_available is None else num_available)
