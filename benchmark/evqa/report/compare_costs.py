"""Cost-aware comparison of two runs: differences of costs, and correctness crossed with cost, on the same samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from evqa.metrics.presets.episodes import COSTS
from evqa.report.differences import COST_HEADER, PairedSample, difference_rows, paired_rows
from evqa.report.table_styles import table
from evqa.scoring.results import Scores

Cost = Literal["dollars", "tokens", "frames", "calls", "seconds"]
"""Cost by which a run is cheaper than another on a sample."""

DEFAULT_COSTS: tuple[Cost, ...] = ("dollars", "tokens", "frames", "calls")
"""Costs of which the first is taken that both runs record and that differs on a sample: wall time is noisy."""

MAX_NAMES = 5
"""Number of samples that are named; all are counted."""

OUTCOMES = ("only B right", "only A right", "both right", "both wrong")
CHEAPER, SAME, DEARER, NOT_RECORDED = PRICES = ("B cheaper", "same cost", "B dearer", "not recorded")


def cost_parts(first: Scores, second: Scores, cost: Cost | None = None) -> list[str]:
    """Return texts on the costs of two runs, scored under the preset of agents; empty where costs are not recorded.

    Args:
        first: Scores of run A.
        second: Scores of run B.
        cost: Cost by which samples are cheaper or dearer; None = the first of `DEFAULT_COSTS` that differs.

    Raises:
        ValueError: No sample has the cost in both runs.
    """
    samples = paired_rows(first, second)
    recorded: list[Cost] = [
        name for name in get_args(Cost) if any(price_of(sample, name) != NOT_RECORDED for sample in samples)
    ]
    if cost is not None and cost not in recorded:
        raise ValueError(
            f"--cost {cost}: no sample has it recorded in both runs; recorded are {', '.join(recorded) or 'no costs'}"
        )
    compared_cost = cost or _default(samples, recorded)
    if compared_cost is None:
        return []
    titles = [*COSTS, *(f"{name} per correct" for name in COSTS)]
    rows = [row[: len(COST_HEADER)] for row in difference_rows(first, second, titles)]
    unrecorded = [sample.id for sample in samples if price_of(sample, compared_cost) == NOT_RECORDED]
    return [
        f"costs per sample and per correct answer, over the n samples that have them in both runs\n"
        f"{table(COST_HEADER, rows)}",
        f"samples by correctness and {compared_cost}\n{outcome_table(samples, compared_cost)}",
        *([f"{compared_cost} not recorded in both runs: {name_samples(unrecorded)}"] if unrecorded else []),
    ]


def _default(samples: Sequence[PairedSample], recorded: Sequence[Cost]) -> Cost | None:
    usable: list[Cost] = [cost for cost in DEFAULT_COSTS if cost in recorded]
    for cost in usable:
        if any(price_of(sample, cost) in {CHEAPER, DEARER} for sample in samples):
            return cost
    return usable[0] if usable else None


def price_of(sample: PairedSample, cost: str) -> str:
    """Return which of `PRICES` a sample is: B is cheaper where it took less."""
    a, b = sample.a.get(cost), sample.b.get(cost)
    if a is None or b is None:
        return NOT_RECORDED
    if math.isclose(a, b, rel_tol=1e-9):
        return SAME
    return CHEAPER if b < a else DEARER


def outcome_of(sample: PairedSample) -> str | None:
    """Return which of `OUTCOMES` a sample is; None without a ground truth answer."""
    a, b = sample.a.get("Acc"), sample.b.get("Acc")
    if a is None or b is None:
        return None
    if (a == 1) == (b == 1):
        return "both right" if a == 1 else "both wrong"
    return "only B right" if b == 1 else "only A right"


def outcome_table(samples: Sequence[PairedSample], cost: str) -> str:
    """Return the number of samples by correctness of both runs (down) and by cost (across)."""
    counts = Counter((outcome, price_of(sample, cost)) for sample in samples if (outcome := outcome_of(sample)))
    prices = [price for price in PRICES if price != NOT_RECORDED or any(key[1] == price for key in counts)]
    body = [
        [outcome, str(sum(counts[outcome, price] for price in PRICES)), *(str(counts[outcome, p]) for p in prices)]
        for outcome in OUTCOMES
    ]
    return table(["", "n", *prices], body)


def name_samples(names: Sequence[str]) -> str:
    """Return a number of samples with the ids of the first: `7 samples (a, b, c, d, e, ...)`."""
    ids = ", ".join([*names[:MAX_NAMES], *(["..."] if len(names) > MAX_NAMES else [])])
    return f"{len(names)} {'sample' if len(names) == 1 else 'samples'} ({ids})"
