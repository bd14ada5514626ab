"""How sure a mean is: percentile intervals of a cluster bootstrap."""

# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# scipy has no types

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

REPLICATES = 2000
SEED = 0
LEVEL = 0.95

BLOCK = 2**20
"""Clusters drawn at a time."""
MAX_KEPT = 2**22
"""Draws that are kept for the next metric: 32 MiB."""


class Interval(NamedTuple):
    """Between `low` and `high` with a confidence of 95 %."""

    low: float
    high: float


Clusters = Sequence[str] | NDArray[np.int64]
"""Which video each question belongs to, by name or by number."""


def cluster_interval(
    values: Sequence[float] | NDArray[np.float64], clusters: Clusters, replicates: int = REPLICATES, seed: int = SEED
) -> Interval | None:
    """95 % interval of the mean of `values`, drawing whole clusters (videos) with replacement.

    Questions about one video are not independent; drawing single questions would make intervals too narrow.
    None with fewer than two clusters: there is nothing to draw from.
    """
    assert len(values) == len(clusters), (len(values), len(clusters))
    member = _members(clusters)
    if not len(member) or not member.any():
        return None
    sums = np.bincount(member, weights=values).astype(np.float64)  # [C]
    counts = np.bincount(member)  # [C]
    means = _replicate_means(sums, counts, replicates, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


Values = Sequence[float] | NDArray[np.float64]


def ratio_interval(
    over: Values, under: Values, clusters: Clusters, replicates: int = REPLICATES, seed: int = SEED
) -> Interval | None:
    """95 % interval of `sum(over) / sum(under)`, drawing whole clusters (videos) with replacement.

    Draws in which both sums are 0 are left out: they have no ratio. None with fewer than two clusters, or where the
    denominator is 0 in 2.5 % of the draws or more, so that the interval has no upper end.
    """
    assert len(over) == len(under) == len(clusters), (len(over), len(under), len(clusters))
    member = _members(clusters)
    if not len(member) or not member.any():
        return None
    return _finite_interval(_replicate_ratios(over, under, member, replicates, seed))


def paired_ratio_difference(
    first: tuple[Values, Values],
    second: tuple[Values, Values],
    clusters: Clusters,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Difference | None:
    """Ratio of the second minus that of the first, each a pair (over, under), with its interval and p as usual.

    Both ratios are computed on the same draws of clusters. None where a ratio has a denominator of 0.
    """
    sums = [(float(np.sum(over)), float(np.sum(under))) for over, under in (first, second)]
    if not (sums[0][1] and sums[1][1]):
        return None
    mean, member = sums[1][0] / sums[1][1] - sums[0][0] / sums[0][1], _members(clusters)
    if not member.any():
        return Difference(mean, None, None, None)
    ratios = [_replicate_ratios(over, under, member, replicates, seed) for over, under in (first, second)]
    with np.errstate(invalid="ignore"):
        gains = ratios[1] - ratios[0]
    interval = _finite_interval(gains)
    if interval is None:
        return Difference(mean, None, None, None)
    return Difference(mean, interval.low, interval.high, _two_sided(gains[~np.isnan(gains)], replicates))


def _replicate_ratios(
    over: Values, under: Values, member: NDArray[np.int64], replicates: int, seed: int
) -> NDArray[np.float64]:
    """Ratio of each replicate, `[R]`: infinite where only the denominator is 0, NaN where both sums are."""
    sums, counts = (
        np.bincount(member, weights=np.asarray(values, np.float64)).astype(np.float64) for values in (over, under)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return _replicate_means(sums, counts, replicates, seed)


def _finite_interval(values: NDArray[np.float64]) -> Interval | None:
    """Interval of replicates without those that are NaN; None where an end is infinite."""
    numbers = values[~np.isnan(values)]
    if not len(numbers):
        return None
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(numbers, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high)) if np.isfinite([low, high]).all() else None


def _two_sided(gains: NDArray[np.float64], replicates: int) -> float:
    """Two-sided p of replicates of a difference: at least 1 over the number of draws."""
    share = min(float(np.mean(gains <= 0)), float(np.mean(gains >= 0)))
    return min(1.0, max(2 * share, 1 / replicates))


class Difference(NamedTuple):
    """How much more the second of two methods has than the first, on the same samples."""

    mean: float
    low: float | None
    """Ends of the 95 % interval; None with fewer than two videos."""
    high: float | None
    p: float | None
    """Two-sided: how often a difference of the other sign, or none, is drawn; at least 1 over the draws."""


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Clusters,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Difference:
    """Mean of `second - first` with its interval and p, drawing whole clusters (videos) with replacement.

    The two are compared sample by sample (Efron and Tibshirani 1993, chapter 8): what makes a sample hard is hard
    for both, so the interval is narrower than those of the two means suggest.
    """
    assert len(first) == len(second) == len(clusters) > 0, (len(first), len(second), len(clusters))
    gains = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    member = _members(clusters)
    if not member.any():
        return Difference(float(gains.mean()), None, None, None)
    sums = np.bincount(member, weights=gains).astype(np.float64)  # [C]
    counts = np.bincount(member)  # [C]
    means = _replicate_means(sums, counts, replicates, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(float(gains.mean()), float(low), float(high), _two_sided(means, replicates))


def mcnemar(first: Sequence[float], second: Sequence[float]) -> tuple[int, int, float]:
    """Samples that only the first has right, that only the second has right, and the exact two-sided p.

    McNemar 1947 by the binomial distribution; for values that are 0 or 1. It takes samples as independent: where
    videos have several questions, the interval over videos is the safer one.
    """
    only_first = sum(a > b for a, b in zip(first, second, strict=True))
    only_second = sum(b > a for a, b in zip(first, second, strict=True))
    tail = float(bdtr(min(only_first, only_second), only_first + only_second, 0.5))
    return only_first, only_second, min(1.0, 2 * tail)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Holm 1979), in the order given: rejecting those below a level keeps it for all tests.

    The p-value of rank i of m (from 1, smallest first) becomes the largest of (m - j + 1) p_j over j <= i, at most 1.
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted


def _members(clusters: Clusters) -> NDArray[np.int64]:
    """The cluster of each value as a number from 0, in the order in which they come first."""
    _, first, member = np.unique(np.asarray(clusters), return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[member]


def _replicate_means(
    sums: NDArray[np.float64], counts: NDArray[np.intp] | NDArray[np.float64], replicates: int, seed: int
) -> NDArray[np.float64]:
    """Mean of each replicate, `[R]`; the draws of few clusters are kept, those of many drawn a block at a time."""
    if replicates * len(sums) <= MAX_KEPT:
        weights = _weights(len(sums), replicates, seed)
        return (weights @ sums) / (weights @ counts)
    means = [sums[sampled].sum(axis=1) / counts[sampled].sum(axis=1) for sampled in _draws(len(sums), replicates, seed)]
    return np.concatenate(means)


@functools.lru_cache(maxsize=4)
def _weights(num_clusters: int, replicates: int, seed: int) -> NDArray[np.float64]:
    """How often each cluster is in each replicate, `[R, C]`: the same for every metric on the same videos."""
    blocks = [
        np.bincount((sampled + num_clusters * np.arange(len(sampled))[:, None]).ravel(), minlength=sampled.size)
        for sampled in _draws(num_clusters, replicates, seed)
    ]
    return np.concatenate(blocks).reshape(replicates, num_clusters).astype(np.float64)


def _draws(num_clusters: int, replicates: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The clusters of each replicate, `[r, C]` for a block of r replicates."""
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // num_clusters)
    for start in range(0, replicates, block):
        yield rng.integers(0, num_clusters, size=(min(block, replicates - start), num_clusters))
