"""Summary of the conversations of a run: tool calls, stop reasons, and scores at smaller budgets.

Budget curves come from one recorded run by truncation: an episode is cut off after the last reply that a budget
allows. Its answer counts if no reply is cut off, its evidence if it was inspected before a reply that is left. Without
an answer within the budget a sample is wrong, unless there is a forced answer for it: that of a model that had to
answer from what had been inspected until then. A failed sample is wrong at every budget. Every sample counts at every
budget; at one that no episode exceeds, the scores are those of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from evqa.datasets import Dataset
from evqa.metrics import episode, support
from evqa.metrics.case import Case, gold_has
from evqa.metrics.episode import Step
from evqa.metrics.means import Cell, Column, Mean, State, mean_of_column, numbered
from evqa.schema import Prediction, ToolCall
from evqa.scoring.cases import compare_samples
from evqa.scoring.results import BudgetAxis, BudgetPoint, EpisodeSummary, ToolCounts

AXES: tuple[BudgetAxis, ...] = get_args(BudgetAxis)

MAX_TOOLS = 50
"""Number of tools with counts of their own, the most frequent first; models may write any name."""
OTHER_TOOLS = "(other names)"
MAX_NAME = 80
"""Characters of the name of a tool."""
FINE_BUDGETS = 10
"""Budgets of turns and calls up to here are all in a curve, larger ones and those of frames by powers of 2."""

NO_RECORD = "not recorded"

ForcedAnswers = Mapping[tuple[str, BudgetAxis, int], Prediction]
"""(id of a sample, axis, budget) -> prediction of a model that had to answer; one that failed is wrong."""

ForcedAccuracy = Mapping[tuple[int, BudgetAxis, int], float]
"""(place of a sample in the data set, axis, budget) -> accuracy of its forced answer."""


class BudgetUse(NamedTuple):
    """What an episode had used before a reply, that reply included in `turns`."""

    turns: int
    calls: int
    frames: int

    @classmethod
    def of(cls, step: Step) -> BudgetUse:
        """Return the use before a reply."""
        return cls(step.turn, step.calls, step.frames)


class EpisodeFacts(NamedTuple):
    """What is kept of one sample."""

    stop: str
    tools: tuple[tuple[str, bool], ...]
    """(name, whether the call was invalid) of each tool call."""
    is_traced: bool
    """Whether it is known what was inspected before each reply; True of a prediction that is missing or failed."""
    state: State
    """Of the answer: scored, unparsed, failed or missing."""
    right: float | None
    """Accuracy of the answer; None = the sample has no gold answer."""
    has_gold_spans: bool
    end: BudgetUse | None = None
    """At the last reply; None without any, or where the prediction failed."""
    sight: BudgetUse | None = None
    """At the first reply before which evidence was inspected; None = never."""


def facts_of(case: Case) -> EpisodeFacts:
    """Return what is kept of one sample."""
    record = case.record
    is_usable = record is not None and record.status == "ok"
    stop = "missing" if record is None else "failed" if not is_usable else record.stop or NO_RECORD
    facts = EpisodeFacts(
        stop=stop,
        tools=() if record is None else _tool_calls(case),
        is_traced=True,
        state="missing" if record is None else "failed" if not is_usable else _answer_state(case),
        right=support.correctness(case) if gold_has(case.sample, "any_answer") else None,
        has_gold_spans=bool(case.gold_spans),
    )
    return _with_uses(facts, case) if is_usable else facts


def _answer_state(case: Case) -> State:
    return "scored" if support.is_answered(case) else "unparsed"


def _with_uses(facts: EpisodeFacts, case: Case) -> EpisodeFacts:
    try:
        sight = support.sight(case) if case.gold_spans else None
    except support.UntracedError:
        return facts._replace(is_traced=False)
    assert case.record is not None
    last = episode.last_step(case.record)
    return facts._replace(
        is_traced=episode.is_traced(case.record),
        end=BudgetUse.of(last) if last else None,
        sight=BudgetUse.of(sight) if sight else None,
    )


def _tool_calls(case: Case) -> tuple[tuple[str, bool], ...]:
    assert case.record is not None
    return tuple(
        (_tool_name(call), call.id in episode.invalid_calls(turn)) for turn in case.record.turns for call in turn.calls
    )


def _tool_name(call: ToolCall) -> str:
    """Name of a tool as one line of printable characters: a model may write anything."""
    name = "".join(character if character.isprintable() else "?" for character in call.name[:MAX_NAME])
    return name.strip() or "(no name)"


class EpisodeTable:
    """What is kept of the episodes of a run, by place of the sample in the data set."""

    def __init__(self, length: int) -> None:
        self._facts: list[EpisodeFacts | None] = [None] * length

    def put(self, place: int, facts: EpisodeFacts | None) -> None:
        """Set what is kept of one sample."""
        self._facts[place] = facts

    def summary(self, videos: NDArray[np.int64], forced: ForcedAccuracy | None = None) -> EpisodeSummary:
        """Return tool calls, stop reasons and budget curves; `videos`: number of the video of each sample."""
        facts = [row for row in self._facts if row is not None]
        assert len(facts) == len(self._facts), "a sample has no facts"
        return EpisodeSummary(
            tools=_tool_counts(facts),
            stops=dict(Counter(row.stop for row in facts).most_common()),
            curves={axis: budget_curve(facts, axis, videos, forced=forced) for axis in AXES}
            if _has_curves(facts)
            else {},
            is_forced=forced is not None,
        )


def _tool_counts(facts: Sequence[EpisodeFacts]) -> dict[str, ToolCounts]:
    total = Counter(name for row in facts for name, _ in row.tools)
    names = {name for name, _ in total.most_common(MAX_TOOLS)}
    calls, invalid, samples = Counter[str](), Counter[str](), Counter[str]()
    for row in facts:
        names_of_row = [(name if name in names else OTHER_TOOLS, is_invalid) for name, is_invalid in row.tools]
        calls.update(name for name, _ in names_of_row)
        invalid.update(name for name, is_invalid in names_of_row if is_invalid)
        samples.update({name for name, _ in names_of_row})
    return {
        name: ToolCounts(calls=number, invalid=invalid[name], samples=samples[name])
        for name, number in calls.most_common()
    }


def summarise(
    dataset: Dataset, predictions: Iterable[Prediction], forced: ForcedAnswers | None = None
) -> EpisodeSummary:
    """Return the summary of a run, with forced answers where an episode has none within a budget.

    Args:
        dataset: Samples with their ground truth.
        predictions: Records of the run; the last one of a sample counts.
        forced: Answers that a model gave from the evidence inspected within a budget.
    """
    by_id = {prediction.sample_id: prediction for prediction in predictions}
    table = EpisodeTable(len(dataset.samples))
    for place, sample in enumerate(dataset.samples):
        (compared,) = compare_samples(sample, [by_id.get(sample.id)], [False])
        table.put(place, facts_of(compared.case))
    videos = numbered([sample.video_id for sample in dataset.samples])
    return table.summary(videos, accuracies_of(dataset, forced))


def accuracies_of(dataset: Dataset, forced: ForcedAnswers | None) -> ForcedAccuracy | None:
    """Return the accuracy of forced answers. `ValueError`: one is of a sample that the data set does not have."""
    if forced is None:
        return None
    places = {sample.id: place for place, sample in enumerate(dataset.samples)}
    values: dict[tuple[int, BudgetAxis, int], float] = {}
    for (sample_id, axis, budget), prediction in forced.items():
        place = places.get(sample_id)
        if place is None:
            raise ValueError(f"forced answers are of samples of {dataset.name}, got one of {sample_id!r}")
        (compared,) = compare_samples(dataset.samples[place], [prediction], [False])
        values[place, axis, budget] = support.correctness(compared.case)
    return values


# Budget curves


def _has_curves(facts: Sequence[EpisodeFacts]) -> bool:
    return all(row.is_traced for row in facts) and any(row.end for row in facts)


def budgets(largest: int, *, is_fine: bool) -> list[int]:
    """Return the budgets of a curve, ascending; the last one is the first that is at least `largest`.

    Budgets do not depend on a run otherwise, so that the curves of runs share them. The first one is 1.
    """
    points = list(range(1, FINE_BUDGETS + 1)) if is_fine else [1, 2, 4, 8]
    while points[-1] < largest:
        points.append(1 << points[-1].bit_length())
    return [point for place, point in enumerate(points) if place == 0 or points[place - 1] < largest]


def budget_curve(
    facts: Sequence[EpisodeFacts],
    axis: BudgetAxis,
    videos: NDArray[np.int64],
    points: Sequence[int] | None = None,
    *,
    forced: ForcedAccuracy | None = None,
) -> tuple[BudgetPoint, ...]:
    """Return scores at budgets: accuracy, evidence seen, and both at once, each over all samples with ground truth.

    Args:
        facts: what is kept of each sample.
        axis: quantity that the budget limits.
        videos: number of the video of each sample.
        points: budgets; None = those of `budgets`, beginning with 0 for calls and frames, and those of forced answers.
        forced: answers of episodes without one within a budget.
    """
    if points is None:
        largest = max((getattr(row.end, axis) for row in facts if row.end), default=0)
        points = [] if axis == "turns" else [0]
        points += budgets(largest, is_fine=axis != "frames") if largest else []
        points = sorted({*points, *(budget for _, name, budget in forced or () if name == axis and budget <= largest)})
    return tuple(_point(facts, axis, budget, videos, forced) for budget in points)


def _point(
    facts: Sequence[EpisodeFacts],
    axis: BudgetAxis,
    budget: int,
    videos: NDArray[np.int64],
    forced: ForcedAccuracy | None,
) -> BudgetPoint:
    columns: Mapping[str, Column] = {
        title: Column.of_length(len(facts)) for title in ("Acc", "evidence seen", "supported correct")
    }
    for place, row in enumerate(facts):
        right, state = _answer_within(row, place, axis, budget, forced)
        is_seen = float(row.sight is not None and getattr(row.sight, axis) <= budget)
        if right is not None:
            columns["Acc"].put(place, Cell(right, state))
        if row.has_gold_spans:
            columns["evidence seen"].put(place, Cell(is_seen, row.state if row.end is None else "scored"))
        if right is not None and row.has_gold_spans:
            columns["supported correct"].put(place, Cell(is_seen * (right == 1), state))
    means: dict[str, Mean] = {title: mean_of_column(column, videos) for title, column in columns.items()}
    return BudgetPoint(budget=budget, metrics=means)


def _answer_within(
    row: EpisodeFacts, place: int, axis: BudgetAxis, budget: int, forced: ForcedAccuracy | None
) -> tuple[float | None, State]:
    """Return accuracy and state of a sample at a budget; accuracy None = it has no gold answer."""
    if row.right is None or row.end is None or (getattr(row.end, axis) <= budget and row.state == "scored"):
        return row.right, row.state
    answer = forced.get((place, axis, budget)) if forced else None
    return (0.0, "unparsed") if answer is None else (answer, "scored")
