"""Presets of pairwise video judges: GenAI-Bench, VideoGen-RewardBench and MJ-Bench-Video, per dimension and joint.

A label of a judge is a vote: 1 = the first video, 2 = the second one, 0 = a tie of no stated kind. `tau` is the share
of pairs on which judge and people agree on one of three classes, `diff` that where people prefer a video; the latter is
also the accuracy without ties of VideoAlign, for a judge with labels. Intervals are by prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from evqa.metrics import THIS_BENCHMARK, preference
from evqa.metrics.case import Case, Metric, Preset, Statistic, show_in_list, show_with_sample
from evqa.metrics.means import STATES, Column
from evqa.metrics.preference import LABEL_VOTES, PREFERENCE_VOTES, VERDICTS, Vote
from evqa.metrics.presets.episodes import AGENT
from evqa.metrics.presets.rows import NO_STATE, Value, record_row
from evqa.parsing.verdicts import DIMENSIONS, OVERALL

PAPER = "VR-Thinker (arXiv 2510.10518); UnifiedReward"
VIDEOALIGN = "VideoAlign, calc_accuracy_with_ties"

MJ_BENCH_DIMENSIONS = ("Alignment", "Safety", "Fineness", "Coherence", "Bias")
"""Dimensions of MJ-Bench-Video; `Coherence` is "Coherence & Consistency"."""

COSTS = ("calls", "frames", "images", "input tokens", "output tokens", "tokens", "dollars", "seconds")
"""Costs per pair: those of agents."""

Comparison = Callable[[Vote | None, Vote], float | None]


def judge_vote(case: Case, dimension: str) -> Vote | None:
    """Vote of a judge in a dimension; None = its verdict has no label for it."""
    label = (case.prediction.verdicts or {}).get(dimension)
    return None if label is None else LABEL_VOTES[label]


def human_vote(case: Case, dimension: str) -> Vote | None:
    """Vote of people in a dimension; None = not annotated."""
    choice = (case.sample.preferences or {}).get(dimension)
    return None if choice is None else PREFERENCE_VOTES[choice]


def agreement(compare: Comparison, dimension: str) -> Value:
    """Comparison of the votes of judge and people in a dimension; None = people gave none."""

    def value(case: Case) -> float | None:
        human = human_vote(case, dimension)
        return None if human is None else compare(judge_vote(case, dimension), human)

    return value


def share_right(case: Case) -> float | None:
    """Share of the annotated dimensions with the vote of people."""
    human = [name for name in case.sample.preferences or {} if human_vote(case, name) is not None]
    scores = [agreement(preference.same_verdict, name)(case) or 0.0 for name in human]
    return sum(scores) / len(scores) if scores else None


def all_right(case: Case) -> float | None:
    """1 if the judge has the vote of people in every annotated dimension."""
    share = share_right(case)
    return None if share is None else float(share == 1)


def prefers_first(vote_of: Callable[[Case, str], Vote | None], dimension: str) -> Value:
    """1 for a vote for the first video, 0 for the second one, 0.5 for a tie; None without a vote of people."""

    def value(case: Case) -> float | None:
        if human_vote(case, dimension) is None:
            return None
        vote = vote_of(case, dimension)
        return 0.0 if vote is None else (1 + VERDICTS[vote]) / 2

    return value


def is_tie(dimension: str) -> Value:
    """1 for a tie of the judge."""
    return agreement(lambda vote, human: float(vote is not None and VERDICTS[vote] == 0), dimension)


def position_consistency(case: Case) -> float | None:
    """Share of the dimensions with one verdict in both orders; None = the pair was judged in one order."""
    record = case.record
    if record is None or record.order_verdicts is None:
        return None
    first, second = record.order_verdicts
    if first is None or second is None:
        return 0.0
    return sum(second.get(name) == label for name, label in first.items()) / len(first)


def is_consistent(case: Case) -> float | None:
    """1 if both orders have one verdict in every dimension."""
    share = position_consistency(case)
    return None if share is None else float(share == 1)


def with_ties(judge: Column, people: Column) -> float | None:
    """Accuracy with ties at its best threshold; a pair without a verdict is wrong at each."""
    return _over_all(judge, people, lambda humans, margins: _accuracy(preference.with_ties(humans, margins)))


def with_ties_as_shipped(judge: Column, people: Column) -> float | None:
    """Accuracy with ties as VideoAlign's code computes it, which depends on the order of the pairs."""
    return _over_all(judge, people, preference.with_ties_as_shipped)


def _accuracy(result: preference.WithTies | None) -> float | None:
    return None if result is None else result.accuracy


def _over_all(
    judge: Column, people: Column, measure: Callable[[Sequence[int], Sequence[float]], float | None]
) -> float | None:
    """A measure of the pairs with a verdict, times their share."""
    is_pair = ~np.isnan(judge.values)
    if not is_pair.any():
        return None
    is_judged = is_pair & (judge.states == STATES.index("scored"))
    humans = np.rint(2 * people.values[is_judged] - 1).astype(int).tolist()
    margins = (2 * judge.values[is_judged] - 1).tolist()
    value = measure(humans, margins)
    return None if value is None else value * float(is_judged.sum() / is_pair.sum())


def _metric(value: Value, definition: str, source: str = PAPER, *, is_ranked: bool = True) -> Metric:
    return Metric(
        needs=("preferences",),
        value=value,
        definition=definition,
        source=source,
        excluded_states=NO_STATE,
        is_ranked=is_ranked,
    )


_of_people = partial(prefers_first, human_vote)
_of_judge = partial(prefers_first, judge_vote)


def _of_dimension(name: str) -> dict[str, Metric]:
    """Metrics of one dimension."""
    tau = _metric(agreement(preference.same_verdict, name), f"{name}: the vote of people, of three classes")
    diff = _metric(agreement(preference.same_preference, name), f"{name}: as tau, where people prefer a video")
    return {
        f"tau {name}": show_in_list(tau) if name == OVERALL else show_with_sample(tau),
        f"diff {name}": diff,
        f"judge first {name}": _metric(
            _of_judge(name), f"{name}: the judge prefers the first video, a tie is half", is_ranked=False
        ),
        f"people first {name}": Metric(
            needs=("preferences",),
            reads=(),
            excluded_states=frozenset({"missing", "failed"}),
            value=_of_people(name),
            definition=f"{name}: people prefer the first video, a tie is half",
            source=THIS_BENCHMARK,
            is_ranked=False,
        ),
        f"ties {name}": _metric(is_tie(name), f"{name}: the judge sees a tie", is_ranked=False),
    }


def _statistics(name: str) -> dict[str, Statistic]:
    """Accuracies with ties of one dimension, which are no means over pairs."""
    columns = f"judge first {name}", f"people first {name}"
    return {
        f"with ties {name}": Statistic(
            columns=columns, value=with_ties, definition=f"{name}: accuracy at the best threshold of a tie"
        ),
        f"with ties {name} (videoalign-compat)": Statistic(
            columns=columns, value=with_ties_as_shipped, definition=f"{name}: accuracy with ties as {VIDEOALIGN}"
        ),
    }


_of_orders = partial(record_row, (), is_ranked=True)

JOINT: dict[str, Metric] = {
    "dimensions right": show_with_sample(_metric(share_right, "share of the dimensions with the vote of people")),
    "all right": _metric(all_right, "every dimension has the vote of people"),
}
ORDERS: dict[str, Metric] = {
    "consistent dimensions": _of_orders(
        position_consistency, "share of the dimensions with one verdict in both orders of the videos"
    ),
    "consistent": show_in_list(_of_orders(is_consistent, "one verdict in both orders of the videos")),
}


def pairwise_preset(dimensions: Sequence[str], description: str, *, has_kinds_of_ties: bool = False) -> Preset:
    """Preset of a judge of some dimensions.

    Args:
        dimensions: names of the dimensions; the last one is the overall verdict.
        description: description of the preset.
        has_kinds_of_ties: whether people state if both videos are good or bad.
    """
    kinds = {
        "accuracy": _metric(
            agreement(preference.same_vote, dimensions[-1]),
            "the vote of people, of four classes; a tie of no kind agrees with either kind",
            "GenAI-Bench",
        )
    }
    metrics = {name: metric for dimension in dimensions for name, metric in _of_dimension(dimension).items()}
    joint = JOINT if len(dimensions) > 1 else {}
    costs = {name: AGENT[name] for name in COSTS}
    return Preset(
        metrics=(kinds if has_kinds_of_ties else {}) | metrics | joint | ORDERS | costs,
        statistics={key: value for name in dimensions for key, value in _statistics(name).items()},
        columns=(
            *(kinds if has_kinds_of_ties else ()),
            *(f"{measure} {name}" for name in reversed(dimensions) for measure in ("tau", "diff")),
            *joint,
            *("consistent", "frames", "tokens", "dollars"),
        ),
        description=description,
    )


PAIRWISE_PRESETS: dict[str, Preset] = {
    "genai-bench-video": pairwise_preset(
        (OVERALL,),
        "GenAI-Bench, video generation: accuracy of four classes, tau and diff, consistency of both orders, costs",
        has_kinds_of_ties=True,
    ),
    "videogen-rewardbench": pairwise_preset(
        tuple(DIMENSIONS), "VideoGen-RewardBench: tau and diff per dimension, accuracy with ties, consistency, costs"
    ),
    "mj-bench-video": pairwise_preset(
        (*MJ_BENCH_DIMENSIONS, OVERALL),
        "MJ-Bench-Video: tau and diff of its five dimensions and overall, consistency of both orders, costs",
    ),
    "pairwise": Preset(
        metrics=_of_dimension(OVERALL) | JOINT | ORDERS | {name: AGENT[name] for name in COSTS},
        statistics=_statistics(OVERALL),
        description="pairs with dimensions of the user: share of the dimensions with the vote of people, consistency "
        "of both orders, costs",
    ),
}
