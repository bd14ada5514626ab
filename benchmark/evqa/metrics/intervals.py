"""How sure a mean is: percentile intervals of a cluster bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REPLICATES = 2000
SEED = 0
LEVEL = 0.95

BLOCK = 2**20
"""Clusters drawn at a time."""


class Interval(NamedTuple):
    """Between `low` and `high` with a confidence of 95 %."""

    low: float
    high: float


def cluster_interval(
    values: Sequence[float], clusters: Sequence[str], replicates: int = REPLICATES, seed: int = SEED
) -> Interval | None:
    """95 % interval of the mean of `values`, drawing whole clusters (videos) with replacement.

    Questions about one video are not independent; drawing single questions would make intervals too narrow.
    None with fewer than two clusters: there is nothing to draw from.
    """
    assert len(values) == len(clusters), (len(values), len(clusters))
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    if len(names) < 2:
        return None
    member = np.array([names[name] for name in clusters])
    sums = np.bincount(member, weights=values, minlength=len(names)).astype(np.float64)  # [C]
    counts = np.bincount(member, minlength=len(names))  # [C]
    means = _replicate_means(sums, counts, replicates, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _replicate_means(
    sums: NDArray[np.float64], counts: NDArray[np.intp], replicates: int, seed: int
) -> NDArray[np.float64]:
    """Mean of each replicate, `[R]`; drawn a block at a time so that memory stays bounded."""
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // len(sums))
    means: list[NDArray[np.float64]] = []
    for start in range(0, replicates, block):
        drawn = rng.integers(0, len(sums), size=(min(block, replicates - start), len(sums)))  # [r, C]
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)
