"""Paired comparison of two runs on one data set: differences of metrics and of costs, intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evqa.metrics.presets import EPISODE_PRESET
from evqa.metrics.presets import preset as preset_named
from evqa.report.compare_costs import Cost, cost_parts, name_samples
from evqa.report.differences import legend, metric_differences
from evqa.report.tables import left_out_lines, opening_lines, sample_counts
from evqa.runs import locate
from evqa.scoring import evaluate
from evqa.scoring.results import Scores


class ScoredPair(NamedTuple):
    """Scores of two runs on the samples that both were run on."""

    a: Scores
    b: Scores
    episodes: tuple[Scores, Scores] | None
    """The same under the preset of agents, which has the costs; None = a file of scores lacks it."""
    unpaired: tuple[Sequence[str], Sequence[str]]
    """Ids of the samples that only the first, or only the second, was run on."""


def compare(first: Path, second: Path, data: str | None, choice: str | None = None, *, cost: Cost | None = None) -> str:
    """Return the tables of differences as text: B minus A on the samples that both are scored on.

    Args:
        first: Run A: its folder, a prediction file, or a file of scores if the second one is too.
        second: Run B.
        data: Data set of the runs; None = the one that the runs name.
        choice: Preset; None = our own preset for the data set.
        cost: Cost by which samples are cheaper or dearer; None = the first that both record.
    """
    if choice is not None:
        preset_named(choice)
    read = _read if evaluate.is_scores(first) and evaluate.is_scores(second) else _scored
    pair = read(first, second, data, choice)
    a, b = pair.a, pair.b
    titles = [title for title in a.metrics if title in b.metrics]
    counts = sample_counts({"A": a.metrics, "B": b.metrics}, titles)
    left_out = "".join(f"\n{line}" for row in (a, b) for line in left_out_lines(row))
    head = f"{opening_lines([a, b])}A: {first}\nB: {second}\n{''.join(_unpaired_lines(pair))}{legend(a.preset)}"
    parts = [head, metric_differences(a, b), f"{counts}{left_out}", *_costs(pair, cost)]
    return "\n\n".join(parts)


def _costs(pair: ScoredPair, cost: Cost | None) -> list[str]:
    if pair.episodes is not None:
        return cost_parts(*pair.episodes, cost)
    if cost is None:
        return []
    raise ValueError(
        f"--cost {cost}: a file of scores has no costs; run `evqa score RUN --preset {EPISODE_PRESET}`, or name the "
        f"runs themselves"
    )


def _unpaired_lines(pair: ScoredPair) -> list[str]:
    return [
        f"not compared, since only {name} was run on them: {name_samples(ids)}\n"
        for name, ids in zip("AB", pair.unpaired, strict=True)
        if ids
    ]


def _scored(first: Path, second: Path, data: str | None, choice: str | None) -> ScoredPair:
    dataset = locate.dataset_of(first, data)
    preset = choice or evaluate.presets_of(evaluate.BOTH, dataset)[0]
    locate.dataset_of(second, data or dataset.name)
    part = evaluate.common_subset([first, second], dataset)
    presets = list(dict.fromkeys([preset, EPISODE_PRESET]))
    a, b = (
        part.mark(evaluate.scores_of(locate.predictions_of(run, part.dataset), part.dataset, presets, name))
        for run, name in ((first, "A"), (second, "B"))
    )
    ids = [[sample.id for sample in locate.selection_of(run).of(dataset)] for run in (first, second)]
    return ScoredPair(a[0], b[0], (a[-1], b[-1]), _unpaired(*ids))


def _unpaired(first: Sequence[str], second: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    in_first, in_second = set(first), set(second)
    return [name for name in first if name not in in_second], [name for name in second if name not in in_first]


def _read(first: Path, second: Path, data: str | None, choice: str | None) -> ScoredPair:
    """Read the scores of two scores.json files, of one data set and preset."""
    if data is not None:
        raise ValueError(f"files of scores name their data set: leave --data {data} out")
    a, b = (evaluate.read_run(path, choice) for path in (first, second))
    if (a.data_sha256, a.preset) != (b.data_sha256, b.preset):
        raise ValueError(
            f"{first} is of {a.dataset} ({a.data_sha256[:12]}) under {a.preset}, {second} of {b.dataset} "
            f"({b.data_sha256[:12]}) under {b.preset}: compare scores of one data set and preset"
        )
    episodes = [evaluate.find_run(path, EPISODE_PRESET) for path in (first, second)]
    pair = (episodes[0], episodes[1]) if episodes[0] and episodes[1] else None
    a, b = (row.model_copy(update={"name": name}) for row, name in ((a, "A"), (b, "B")))
    return ScoredPair(a, b, pair, _unpaired(list(a.samples), list(b.samples)))
