"""Questions of a run: those for training, and held-out ones of other episodes."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evqa import datasets
from evqa.agents import grounding_cache
from evqa.datasets import Dataset, clip_ids
from evqa.schema import Sample
from unipixel.rl.configs import RLDataConfig


@dataclass(frozen=True, kw_only=True)
class EpisodeData:
    """Questions of a run."""

    train: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    held_out_set: Dataset
    """Data set of the held-out questions."""
    counts: dict[str, dict[str, object]]
    """Counts and hashes, for the record of the run."""


def load_data(config: RLDataConfig, seed: int, cache: Path | None = None) -> EpisodeData:
    """Load the questions of a run. Nothing of an episode is in both parts.

    Args:
        config: data sets, share of held-out episodes, subset.
        seed: seed of the draws.
        cache: grounding cache, for `only_located`.

    Raises:
        ValueError: a data set is missing, or no question is left for training.
    """
    dataset = datasets.load(config.train)
    samples = [sample for sample in dataset.samples if _is_usable(sample, config)]
    if config.only_located:
        samples = _located(samples, cache)
    if config.held_out is not None:
        held_out_set = datasets.load(config.held_out)
        held_out = [sample for sample in held_out_set.samples if sample.clips and sample.answer is not None]
    else:
        held_out_set = dataset
        samples, held_out = _split(samples, config.held_out_share, seed)
    common = {episode_of(sample) for sample in held_out}
    train = _sampled([sample for sample in samples if episode_of(sample) not in common], config.subset, seed)
    if not train:
        raise ValueError(
            f"no question of {config.train} is left for training: it needs episodes with clips and answers, also "
            f"beside the held-out ones (--held-out-share {config.held_out_share})"
        )
    held_out = _sampled(held_out, config.held_out_samples, seed)
    counts = {
        "train": _count(dataset, train) | {"left_out": len(dataset.samples) - len(train)},
        "held_out": _count(held_out_set, held_out),
    }
    return EpisodeData(train=train, held_out=held_out, held_out_set=held_out_set, counts=counts)


def episode_of(sample: Sample) -> str:
    """Episode of a question."""
    name = sample.clips[0].id
    return clip_ids.episode_of(name) if clip_ids.is_clip(name) else sample.video_id


def _is_usable(sample: Sample, config: RLDataConfig) -> bool:
    has_all = bool(sample.clips) and bool(sample.options) and sample.answer is not None
    return has_all and episode_of(sample) not in config.skip_episodes


def _located(samples: Sequence[Sample], cache: Path | None) -> list[Sample]:
    if cache is None:
        raise ValueError("--only-located keeps questions with a clip in the grounding cache: give --grounding-cache")
    clips = grounding_cache.read_cache(cache)
    return [sample for sample in samples if clips.clip_of(sample) is not None]


def _split(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(training, held-out) questions by episode."""
    episodes = sorted({episode_of(sample) for sample in samples})
    count = max(round(share * len(episodes)), 1) if share and len(episodes) > 1 else 0
    held_out_episodes = set(random.Random(f"held-out {seed}").sample(episodes, count))
    return (
        [sample for sample in samples if episode_of(sample) not in held_out_episodes],
        [sample for sample in samples if episode_of(sample) in held_out_episodes],
    )


def _sampled(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """`count` questions at random, in their order; 0 = all."""
    if not count or count >= len(samples):
        return tuple(samples)
    places = sorted(random.Random(f"subset {seed}").sample(range(len(samples)), count))
    return tuple(samples[place] for place in places)


def _count(dataset: Dataset, samples: Sequence[Sample]) -> dict[str, object]:
    ids = hashlib.sha256("\n".join(sample.id for sample in samples).encode()).hexdigest()
    return {"data": dataset.name, "sha256": dataset.sha256, "samples": len(samples), "ids_sha256": ids}


@dataclass(frozen=True, kw_only=True)
class RolloutOrder:
    """Order of the questions of a whole run, as one epoch, so that resuming skips the first ones; a sampler of torch.

    Each step has the next questions of shuffled passes over the data, each once per rollout of its group; the step is
    repeated for every forward pass that trains on its rollouts, as `GRPOTrainer` requires.
    """

    num_samples: int
    questions_per_step: int
    group_size: int
    passes: int
    """Forward passes of all processes on the rollouts of a step."""
    steps: int
    seed: int

    def __len__(self) -> int:
        return self.steps * self.passes * self.questions_per_step * self.group_size

    def __iter__(self) -> Iterator[int]:
        questions = self._questions()
        for _ in range(self.steps):
            step = list(itertools.islice(questions, self.questions_per_step))
            rollouts = [place for place in step for _ in range(self.group_size)]
            for _ in range(self.passes):
                yield from rollouts

    def _questions(self) -> Iterator[int]:
        for epoch in itertools.count():
            yield from random.Random(f"order {self.seed} {epoch}").sample(range(self.num_samples), self.num_samples)
