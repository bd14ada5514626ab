"""Bradley-Terry model: strengths of items from pairwise preferences, with intervals.

Item `i` is preferred to item `j` with probability `1 / (1 + exp(s_j - s_i))`; a tie is half a win for both. Each item
also has one tie with an average item, so that an item without a loss has a finite strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z = 1.959964
"""Quantile of the normal distribution for 95 % intervals."""

MAX_STEPS = 100


class Comparison(NamedTuple):
    """Preference between two items."""

    first: str
    second: str
    score: float
    """1 = the first one is preferred, 0 = the second one, 0.5 = a tie."""


class Strength(NamedTuple):
    """Strength of an item on the scale of log odds; the mean of all items is 0."""

    item: str
    strength: float
    low: float
    """Lower end of the 95 % interval, from the curvature of the likelihood."""
    high: float
    wins: float
    """Preferences for the item; a tie counts half."""
    comparisons: int
    group: int
    """Items of different groups were not compared, not even through others, so that their order means nothing."""


def strengths(comparisons: Sequence[Comparison]) -> list[Strength]:
    """Fit the strengths of all items; strongest first. `ValueError`: an item is compared with itself."""
    names = list(dict.fromkeys(name for entry in comparisons for name in (entry.first, entry.second)))
    if not names:
        return []
    if same := [entry.first for entry in comparisons if entry.first == entry.second]:
        raise ValueError(f"an item cannot be compared with itself: {same[0]}")
    place = {name: number for number, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for entry in comparisons:
        first, second = place[entry.first], place[entry.second]
        wins[first, second] += entry.score
        wins[second, first] += 1 - entry.score
    scores, covariance = _fit(wins)
    margins = Z * np.sqrt(np.maximum(np.diag(covariance), 0))
    counts = wins + wins.T
    groups = _groups(counts > 0)
    rows = [
        Strength(
            item=name,
            strength=float(scores[number]),
            low=float(scores[number] - margins[number]),
            high=float(scores[number] + margins[number]),
            wins=float(wins[number].sum()),
            comparisons=round(float(counts[number].sum())),
            group=groups[number],
        )
        for name, number in place.items()
    ]
    return sorted(rows, key=lambda row: (-row.strength, row.item))


def _fit(wins: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(strengths [N], covariance [N, N]) at the maximum of the likelihood, by Newton's method."""
    number = len(wins)
    counts, total = wins + wins.T, wins.sum(axis=1)
    scores = np.zeros(number)
    hessian = np.eye(number)
    for _ in range(MAX_STEPS):
        chance = 1 / (1 + np.exp(scores[None, :] - scores[:, None]))
        average = 1 / (1 + np.exp(-scores))
        gradient = total - (counts * chance).sum(axis=1) + 0.5 - average
        weights = counts * chance * (1 - chance)
        hessian = np.diag(weights.sum(axis=1) + average * (1 - average)) - weights
        step = np.asarray(np.linalg.solve(hessian, gradient), dtype=np.float64)
        size = float(np.abs(step).max())
        scores = np.asarray(scores + step / max(1.0, size), dtype=np.float64)
        if size < 1e-10:
            break
    centred = np.eye(number) - 1 / number
    return scores - float(scores.mean()), centred @ np.linalg.inv(hessian) @ centred


def _groups(is_compared: NDArray[np.bool_]) -> list[int]:
    """Number of the connected component of each item, from 1 in order of appearance."""
    groups = [0] * len(is_compared)
    for start in range(len(groups)):
        if groups[start]:
            continue
        number, pending = max(groups) + 1, [start]
        while pending:
            item = pending.pop()
            if not groups[item]:
                groups[item] = number
                pending += np.flatnonzero(is_compared[item]).tolist()
    return groups
