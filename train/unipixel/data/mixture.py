"""Mixture of data sets with repeats, in one deterministic order for a whole run.

`data/dataset.py` loads the samples, `data/batching.py` groups them. Nothing here needs torch, so that missing data is
reported at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evqa import datasets
from evqa.schema import Sample
from unipixel.configs import DataConfig
from unipixel.data import batching, conversations


class SampleRef(NamedTuple):
    """A position in the order of a run."""

    source: int
    """Index into `Mixture.sources`."""
    sample: int
    """Index into its samples."""
    position: int
    """0-based position in the run; with the seed, it determines all random choices for the sample."""


@dataclass(frozen=True, kw_only=True)
class MixtureSource:
    """A data set of the mixture."""

    name: str
    repeat: float
    samples: Sequence[Sample]
    """Read lazily (see `datasets.LazyDataset`)."""
    left_out: Counter[str]
    """Reason -> number of samples that are excluded."""
    sha256: str
    """SHA-256 of the samples file."""
    sizes: np.ndarray
    """int64 `[samples, 2]`, kind and number of tokens (see `batching.size_of`)."""

    @property
    def per_epoch(self) -> int:
        """Number of samples per epoch."""
        whole, rest = self._split()
        return whole * len(self.samples) + rest

    def epoch(self, index: int, seed: int) -> np.ndarray:
        """Sample indices of epoch `index`, not shuffled: int64 `[per_epoch]`.

        The fractional part of the repeat uses all samples before one is repeated.
        """
        whole, rest = self._split()
        every = np.tile(np.arange(len(self.samples)), whole)
        return np.concatenate([every, self._walk(index * rest, rest, seed)])

    def _split(self) -> tuple[int, int]:
        whole = int(self.repeat)
        return whole, round((self.repeat - whole) * len(self.samples))

    def _walk(self, start: int, count: int, seed: int) -> np.ndarray:
        size = len(self.samples)
        rounds = range(start // size, -(-(start + count) // size))
        walk = [np.random.default_rng((seed, number)).permutation(size) for number in rounds]
        first = start - size * (start // size)
        return np.concatenate([*walk, np.empty(0, dtype=np.int64)])[first : first + count]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Data sets of a run and the order of their samples."""

    sources: tuple[MixtureSource, ...]
    seed: int
    unit: int = 1
    """Number of consecutive samples of equal kind and similar length, from the start of the run."""

    def __len__(self) -> int:
        """Number of samples per epoch."""
        return sum(source.per_epoch for source in self.sources)

    def sample(self, draw: SampleRef) -> Sample:
        """The sample at a position."""
        return self.sources[draw.source].samples[draw.sample]

    def order(self, num_draws: int) -> Iterator[SampleRef]:
        """Yield the first `num_draws` positions of a run: epoch after epoch, each with a new shuffle."""
        position = 0
        epoch = 0
        while position < num_draws:
            for source, sample in self._epoch(epoch):
                if position == num_draws:
                    return
                yield SampleRef(int(source), int(sample), position)
                position += 1
            epoch += 1

    def counts(self) -> dict[str, dict[str, object]]:
        """Numbers of samples per data set, for the record of a run."""
        return {
            source.name: {
                "samples": len(source.samples),
                "left_out": dict(source.left_out),
                "repeat": source.repeat,
                "per_epoch": source.per_epoch,
                "sha256": source.sha256,
            }
            for source in self.sources
        }

    def _epoch(self, index: int) -> np.ndarray:
        """(source, sample) of an epoch in order: int64 `[samples, 2]`."""
        parts = [
            np.stack([np.full(source.per_epoch, number), source.epoch(index, self.seed)], axis=1)
            for number, source in enumerate(self.sources)
        ]
        rng = np.random.default_rng((self.seed, index))
        draws = rng.permutation(np.concatenate(parts))
        sizes = np.concatenate([source.sizes for source in self.sources])
        first = np.cumsum([0, *(len(source.samples) for source in self.sources)])
        lead = -index * len(draws) % self.unit
        order = batching.group_samples(sizes[first[draws[:, 0]] + draws[:, 1]], self.unit, lead, rng)
        return draws[order]


class MixtureSampler:
    """Sampler of torch for a whole run, so that resuming skips the first samples."""

    def __init__(self, mixture: Mixture, num_draws: int) -> None:
        self.mixture = mixture
        self.num_draws = num_draws

    def __len__(self) -> int:
        return self.num_draws

    def __iter__(self) -> Iterator[SampleRef]:
        return self.mixture.order(self.num_draws)


def load_mixture(config: DataConfig, seed: int, unit: int = 1) -> Mixture:
    """Read all data sets of a config.

    Args:
        config: with the data sets and limits.
        seed: of the order.
        unit: number of consecutive samples that are grouped by kind and length.

    Raises:
        ValueError: data sets are missing; the message lists all of them and what to do.
    """
    sources: list[MixtureSource] = []
    problems: list[str] = []
    for name, repeat in config.datasets:
        try:
            sources.append(_source(name, repeat, config))
        except ValueError as error:
            problems.append(f"  {name}: {error}")
    if problems:
        head = f"{len(problems)} of {len(config.datasets)} data sets of the mixture cannot be read:"
        advice = "select other data sets by --datasets, or use --recipe evidence-only"
        raise ValueError("\n".join([head, *problems, *([advice] if len(config.datasets) > 1 else [])]))
    if none := [source for source in sources if source.per_epoch == 0]:
        names = ", ".join(f"{source.name} ({source.repeat} of {len(source.samples)} samples)" for source in none)
        raise ValueError(f"an epoch has no sample of {names}: raise their repeats or omit them")
    return Mixture(sources=tuple(sources), seed=seed, unit=unit)


def _source(name: str, repeat: float, config: DataConfig) -> MixtureSource:
    sizes: list[tuple[int, int]] = []

    def unusable(sample: Sample) -> str | None:
        reason = exclusion_reason(sample, config)
        if reason is None:
            sizes.append(batching.size_of(sample, config))
        return reason

    dataset = datasets.open_lazy(name, unusable)
    left_out = dataset.left_out + Counter({"line is no sample": len(dataset.rejected)})
    assert len(sizes) == len(dataset), (name, len(sizes), len(dataset))
    return MixtureSource(
        name=name, repeat=repeat, samples=dataset, left_out=left_out, sha256=dataset.sha256, sizes=np.array(sizes)
    )


def exclusion_reason(sample: Sample, config: DataConfig) -> str | None:
    """Why a sample is excluded by its record and the limits of a config; None = it is used."""
    if reason := conversations.why_unusable(sample):
        return reason
    if config.max_words and conversations.num_words(sample) > config.max_words:
        return "reply too long"
    if (
        config.max_video_frames
        and (sample.num_frames or 0) > config.max_video_frames
        and sample.task_type != "conversation"
    ):
        return "video of too many frames"
    if config.max_video_seconds and (sample.duration or 0) > config.max_video_seconds:
        return "video too long"
    return None
