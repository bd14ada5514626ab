"""Presets of multiple choice: MVBench, Video-MME and v2, LongVideoBench, MLVU, EgoSchema, Video-Holmes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case, Metric, Preset, Statistic, show_in_list
from evqa.metrics.means import Column, Mean
from evqa.metrics.presets.rows import ANSWER, of_group, of_type, row

MVBENCH_TASKS = (
    *("action sequence", "action prediction", "action antonym", "fine grained action", "unexpected action"),
    *("object existence", "object interaction", "object shuffle", "moving direction", "action localization"),
    *("scene transition", "action count", "moving count", "moving attribute", "state change"),
    *("fine grained pose", "character order", "egocentric navigation", "episodic reasoning"),
    "counterfactual inference",
)
MLVU_TASKS = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
HOLMES_TYPES = ("SR", "IMC", "TCI", "TA", "MHR", "PAR", "CTI")
VIDEO_MME_LENGTHS = ("short", "medium", "long")
LVB_LENGTHS = ("15", "60", "600", "3600")


def by_type(source: str, types: Sequence[str]) -> dict[str, Metric]:
    """Accuracy over all questions, and over those of each type."""
    return _whole(source) | {
        f"Acc {name}": row(source, ANSWER, of_type(name, accuracy), f"correct, of questions: {name}") for name in types
    }


def by_group(source: str, key: str, groups: Sequence[str]) -> dict[str, Metric]:
    """Accuracy over all questions, and over those of each value of a metadata key."""
    return _whole(source) | {
        f"Acc {name}": row(source, ANSWER, of_group(key, name, accuracy), f"correct, of questions with {key} {name}")
        for name in groups
    }


def _whole(source: str) -> dict[str, Metric]:
    return {"Acc": show_in_list(row(source, ANSWER, accuracy, "the chosen option is correct"))}


def mean_of_types(types: Sequence[str]) -> Callable[[Mapping[str, Mean]], float | None]:
    """Return the mean of the accuracies of the types that a data set has; None = it has none of them."""

    def value(means: Mapping[str, Mean]) -> float | None:
        numbers = [mean.mean for name in types if (mean := means.get(f"Acc {name}")) and mean.mean is not None]
        return sum(numbers) / len(numbers) if numbers else None

    return value


# Groups of Video-MME-v2

GROUP_SCORES: dict[str, tuple[float, ...]] = {
    "relevance": (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0),
    "[1,2,3,4]": (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0),
    "[1,[2,3],4]": (0.0, 1 / 12, 4 / 12, 7 / 12, 1.0),
    "[[1,2],3,4]": (0.0, 1 / 10, 2 / 10, 5 / 10, 1.0),
}
"""Structure of a group of four questions -> its score for 0 to 4 counted answers."""

STRUCTURES = tuple(GROUP_SCORES)


def group_score(structure: str, rights: Sequence[bool]) -> float:
    """Score of a group of four questions, from 0 to 1.

    Independent questions (relevance) count wherever they are right. Steps count from the first one on until the first
    error; of two steps that may be exchanged the second one counts for the first.
    """
    scores = GROUP_SCORES[structure]
    if structure == "relevance":
        return scores[sum(rights)]
    count = next((place for place, right in enumerate(rights) if not right), len(rights))
    if structure == "[1,[2,3],4]" and count == 1 and rights[2]:
        count = 2
    if structure == "[[1,2],3,4]" and count == 0 and rights[1]:
        count = 1
    return scores[count]


def _number_of(key: str) -> Callable[[Case], float | None]:
    """Number in a metadata key; None = the sample has none."""
    return lambda case: float(case.sample.metadata[key]) if key in case.sample.metadata else None


def _structure_number(case: Case) -> float | None:
    name = case.sample.metadata.get("structure")
    return float(STRUCTURES.index(name)) if name in STRUCTURES else None


def group_scores(right: Column, group: Column, place: Column, structure: Column) -> list[tuple[str, float]]:
    """Return (structure, score) of the groups whose four questions are all in the data set."""
    groups: dict[float, dict[int, tuple[bool, str]]] = {}
    columns = (right, group, place, structure)
    is_complete = ~np.isnan(np.sum([column.values for column in columns], axis=0))
    for index in np.flatnonzero(is_complete).tolist():
        number, position, kind = (column.values[index] for column in columns[1:])
        groups.setdefault(number, {})[int(position)] = (bool(right.values[index]), STRUCTURES[int(kind)])
    return [
        (questions[0][1], group_score(questions[0][1], [questions[position][0] for position in range(4)]))
        for questions in groups.values()
        if sorted(questions) == [0, 1, 2, 3]
    ]


def mean_group_score(*columns: Column, kind: str | None = None) -> float | None:
    """Mean score of the groups, of relevance or of logic where `kind` says so; None without any."""
    scores = [
        score
        for structure, score in group_scores(*columns)
        if kind is None or (structure == "relevance") == (kind == "relevance")
    ]
    return sum(scores) / len(scores) if scores else None


V2_SOURCE = "Video-MME-v2 (2026), test_video_mme_v2.py"
V2_COLUMNS = ("Acc", "group", "place", "structure")


def _key(value: Callable[[Case], float | None], definition: str) -> Metric:
    """A number that identifies the group of a question."""
    return replace(
        row(V2_SOURCE, ANSWER, value, definition), unit="number", is_ranked=False, takes_empty=True, reads=()
    )


VIDEO_MME_V2 = _whole(V2_SOURCE) | {
    "group": _key(_number_of("group"), "number of the group of a question"),
    "place": _key(_number_of("place"), "place of a question in its group"),
    "structure": _key(_structure_number, f"structure of the group: {', '.join(STRUCTURES)}"),
}
V2_STATISTICS = {
    "group score": Statistic(
        columns=V2_COLUMNS, value=mean_group_score, definition="mean score of the groups of four questions"
    ),
    **{
        f"group score {kind}": Statistic(
            columns=V2_COLUMNS, value=partial(mean_group_score, kind=kind), definition=f"of the groups of {kind}"
        )
        for kind in ("relevance", "logic")
    },
}

VIDEO_QA_PRESETS: dict[str, Preset] = {
    "mvbench": Preset(
        metrics=by_type("MVBench (Li et al. 2024)", MVBENCH_TASKS),
        columns=("Acc",),
        derived={"Avg": mean_of_types(MVBENCH_TASKS)},
        description="MVBench: accuracy of each of 20 tasks, and their mean; an unreadable answer is wrong",
    ),
    "video-mme": Preset(
        metrics=by_group("Video-MME (Fu et al. 2024)", "duration", VIDEO_MME_LENGTHS),
        description="Video-MME: accuracy, all and by length of the video; without subtitles",
    ),
    "video-mme-v2": Preset(
        metrics=VIDEO_MME_V2,
        columns=("Acc",),
        statistics=V2_STATISTICS,
        description="Video-MME-v2: score of groups of four questions, grouped by their rows; an unreadable answer is "
        "wrong, where the published script counts it as a right step",
    ),
    "longvideobench": Preset(
        metrics=by_group("LongVideoBench (Wu et al. 2024)", "duration_group", LVB_LENGTHS),
        description="LongVideoBench: accuracy, all and by length of the video (seconds); without subtitles",
    ),
    "mlvu": Preset(
        metrics=by_type("MLVU (Zhou et al. 2024)", MLVU_TASKS),
        columns=("Acc", *(f"Acc {name}" for name in MLVU_TASKS)),
        derived={"M-Avg": mean_of_types(MLVU_TASKS)},
        description="MLVU, tasks with options: M-Avg = mean of the accuracies of seven tasks",
    ),
    "egoschema": Preset(
        metrics=_whole("EgoSchema (Mangalam et al. 2023)"),
        description="EgoSchema: accuracy, an unreadable answer is wrong",
    ),
    "video-holmes": Preset(
        metrics=by_type("Video-Holmes (Cheng et al. 2025)", HOLMES_TYPES),
        description="Video-Holmes: accuracy, all and by type of the question",
    ),
}
