"""Splits of questions about episodes into training and held-out samples, for training an agent.

Both parts have whole episodes, so that no subtitle of a held-out question is in a training prompt. Questions keep all
of their options and their answer, and none is dropped but those that the caller names: the published converter keeps
four options, holds out questions of the episodes that it trains on, and drops what exceeds a number per episode.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from evqa.datasets import clip_ids
from evqa.schema import Sample


class EpisodeSplit(NamedTuple):
    """Samples by use, each part in the order of the data set."""

    train: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    num_skipped: int
    """Samples of skipped episodes and clips."""


def split_by_episode(
    samples: Sequence[Sample],
    *,
    held_out: float = 0.2,
    size: int | None = None,
    seed: int = 42,
    skip: Collection[str] = (),
) -> EpisodeSplit:
    """Split samples by their episodes; the split depends on ids and seed, not on the order of the samples.

    Args:
        samples: samples with unique ids.
        held_out: share of the episodes that are held out, at least one where there are two, unless it is 0.
        size: number of samples that are chosen at random before the split; None = all.
        seed: seed of the choice of samples and episodes.
        skip: episodes or clips whose samples are left out.

    Raises:
        ValueError: The share is outside of [0, 1), or the size below 1.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"expected a share of held-out episodes from 0 to below 1, got {held_out}")
    if size is not None and size < 1:
        raise ValueError(f"expected a size of at least 1, got {size}")
    usable = [sample for sample in samples if not {episode_of(sample), *(sample.evidence_clips or ())} & set(skip)]
    ids = set(sorted((sample.id for sample in usable), key=lambda name: _rank(name, seed))[:size])
    subset = [sample for sample in usable if sample.id in ids]
    episodes = sorted({episode_of(sample) for sample in subset}, key=lambda name: _rank(name, seed))
    count = min(max(math.floor(held_out * len(episodes)), 1), len(episodes) - 1) if held_out and episodes else 0
    held_out_episodes = set(episodes[:count])
    return EpisodeSplit(
        tuple(sample for sample in subset if episode_of(sample) not in held_out_episodes),
        tuple(sample for sample in subset if episode_of(sample) in held_out_episodes),
        len(samples) - len(usable),
    )


def episode_of(sample: Sample) -> str:
    """Return the episode of a sample; its video where it has no clips, or their ids have another form."""
    clip = sample.clips[0].id if sample.clips else ""
    return clip_ids.episode_of(clip) if clip_ids.is_clip(clip) else sample.video_id


def _rank(name: str, seed: int) -> bytes:
    """Return the place of a name in a random order."""
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()
