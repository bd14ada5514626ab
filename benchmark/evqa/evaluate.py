"""From runs on disk to scores and pages: finds data set and predictions, scores, writes the results."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from evqa import baselines, datasets, inputs, methods, report, runner, samples_table, view
from evqa import score as scoring
from evqa.datasets import Dataset
from evqa.export import ExportSummary, export
from evqa.metrics.case import GoldField, gold_has
from evqa.metrics.presets import OWN, OWN_CHOICES
from evqa.metrics.presets import preset as preset_named
from evqa.runner import user_errors_of_disk
from evqa.schema import Prediction
from evqa.score import System
from evqa.scores import PartialSelection, Scores, read_scores, write_scores
from evqa.shards import Selection, intersection_of, union_of

logger = logging.getLogger(__name__)

SCORES = "scores.json"

MAX_WARNINGS = 5

STEPS = {"separate": "seperate", "concat": "concat"}
"""How masks were drawn for expressions -> the original's name of their folder."""

BOTH = "both"
"""Both presets of our own; any other choice is the name of a preset."""

BaselineChoice = Literal["all", "fast", "none"]


def load_dataset(name: str) -> Dataset:
    """A data set, with a warning for each line of it that is no usable sample."""
    dataset = datasets.load(name)
    for line, reason in dataset.rejected[:MAX_WARNINGS]:
        logger.warning("%s/samples.jsonl:%d is left out: %s", dataset.folder, line, reason)
    if len(dataset.rejected) > MAX_WARNINGS:
        logger.warning("%s: %d lines are left out in all", dataset.name, len(dataset.rejected))
    return dataset


def dataset_of(run: Path, data: str | None) -> Dataset:
    """The data set that a run was made on, or the one that is named, checked to be the one it was made on."""
    file_of(run)
    if not (run / runner.RUN).is_file():
        if data is None:
            raise ValueError(f"{run} does not say what it was predicted on: name the data set with --data")
        return load_dataset(data)
    about = runner.read_run_info(run).identity
    dataset = load_dataset(data or str(about["data"]))
    if dataset.sha256 != about["data_sha256"]:
        raise ValueError(
            f"{run} was made on another version of {about['data']}: {dataset.folder}/samples.jsonl differs; "
            f"predict again, or name the right data set with --data"
        )
    return dataset


def file_of(run: Path) -> Path:
    """The predictions of a run's folder; a file is its own."""
    path = run / runner.PREDICTIONS if run.is_dir() else run
    if not path.is_file():
        state = "" if run.exists() else "no such file or folder; "
        raise ValueError(
            f"{run} holds no predictions: {state}give a folder that `evqa predict` wrote, a .jsonl file of records, or "
            f"a .json file as the original's scripts write it"
        )
    return path


class ScoredSubset(NamedTuple):
    """What of a data set is scored."""

    dataset: Dataset
    """With the samples of the part alone."""
    partial: PartialSelection | None = None
    """None = it is the whole."""

    def mark(self, scores: Sequence[Scores]) -> list[Scores]:
        """The scores with a note that they are of a part."""
        return [row.model_copy(update={"partial": self.partial}) for row in scores]


def selection_of(run: Path) -> Selection:
    """What a run was asked for; everything, where it does not say."""
    record = runner.read_run_info(run).selection if (run / runner.RUN).is_file() else None
    return Selection() if record is None else Selection.read(record)


def subset_of(dataset: Dataset, selection: Selection) -> ScoredSubset:
    """The part of a data set that a selection is."""
    samples = selection.of(dataset)
    if len(samples) == len(dataset.samples):
        return ScoredSubset(dataset)
    if not samples:
        raise ValueError(f"no sample of {dataset.name} is in the selection ({selection}): there is nothing to score")
    partial = PartialSelection(samples=len(samples), total=len(dataset.samples), selection=selection.record())
    return ScoredSubset(replace(dataset, samples=tuple(samples)), partial)


def subset_of_any(runs: Sequence[Path], dataset: Dataset) -> ScoredSubset:
    """The samples that any of several runs was asked for."""
    return subset_of(dataset, union_of([selection_of(run) for run in runs], dataset))


def common_subset(runs: Sequence[Path], dataset: Dataset) -> ScoredSubset:
    """The samples that all of several runs were asked for."""
    selections = [selection_of(run) for run in runs]
    return subset_of(dataset, functools.reduce(lambda one, other: intersection_of(one, other, dataset), selections))


def predictions_of(run: Path, dataset: Dataset, masks: Path | None = None) -> inputs.PredictionFile:
    """The predictions of a run or a file, with what the run's method asks for."""
    found = inputs.open_predictions(file_of(run), dataset, masks)
    if not (run / runner.RUN).is_file():
        return found
    method = runner.read_run_info(run).identity.get("method")
    asks = methods.CHOSEN.get(str(method))
    return replace(found, asked=None if asks is None else inputs.needs_of(asks)) if method else found


def score_run(
    run: Path,
    part: ScoredSubset,
    choice: str,
    trivial: Sequence[Scores] = (),
    masks: Path | None = None,
    *,
    workers: int = 1,
) -> tuple[list[Scores], Path]:
    """The scores of a run, written beside its predictions together with those of the baselines."""
    dataset = part.dataset
    found = predictions_of(run, dataset, masks)
    scores = part.mark(scores_of(found, dataset, presets_of(choice, dataset), name_of(run), workers=workers))
    path = _output_path(run, SCORES)
    with user_errors_of_disk(path.parent, has_out=False):
        write_scores(path, [*scores, *part.mark(trivial)])
    return scores, path


def _output_path(run: Path, what: str) -> Path:
    """Where something that is made of a run lies: in its folder, or `FILE.what` beside its file.

    The name of a file keeps its ending where p.json and p.jsonl lie in one folder.
    """
    if run.is_dir():
        return run / what
    alike = [ending for ending in (".json", ".jsonl") if run.with_suffix(ending).is_file()]
    return run.with_name(f"{run.name if len(alike) > 1 else run.stem}.{what}")


def scores_of(
    found: inputs.PredictionFile, dataset: Dataset, presets: Sequence[str], name: str, *, workers: int = 1
) -> list[Scores]:
    """The scores of a file of predictions, with what of it could not be read."""
    who = System(name, gives=found.asked)
    rows = scoring.score_with(dataset, found.get, presets, row=who, workers=workers, lying=found.lying_masks)
    problems = found.problems
    for damaged in rows[0].problems:
        problems.add(f"{found.path}: key {damaged}")
    for problem in inputs.format_problems(problems.first, problems.count, MAX_WARNINGS):
        logger.warning("%s", problem)
    counted = {"duplicates": found.duplicates, "unknown": found.unknown, "malformed": problems.count}
    return [
        row.model_copy(
            update={
                "counts": row.counts.model_copy(update=counted),
                "source": found.describe(),
                "problems": tuple(problems.first),
                "left_out": _not_asked(row.preset, found.asked, dataset) | row.left_out,
            }
        )
        for row in rows
    ]


def _not_asked(preset: str, asked: frozenset[GoldField] | None, dataset: Dataset) -> dict[str, str]:
    """Metrics that the data set has gold for, and that need what the model was not asked for."""
    if asked is None:
        return {}
    rows = {title: row.needs for title, row in preset_named(preset).metrics.items() if not asked.issuperset(row.needs)}
    needed: set[GoldField] = {need for needs in rows.values() for need in needs}
    gold = {need for need in needed if any(gold_has(sample, need) for sample in dataset.samples)}
    reason = f"the model was asked for {', '.join(sorted(asked))} alone"
    return {title: reason for title, needs in rows.items() if gold.issuperset(needs)}


def write_samples(path: Path, scores: Sequence[Scores], dataset: Dataset) -> None:
    """The scores of each sample, one row a sample and preset."""
    with user_errors_of_disk(path.parent, has_out=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        samples_table.write(path, scores, dataset)


def export_run(run: Path, dataset: Dataset, out: Path | None) -> ExportSummary:
    """A run in the original's form, in a new folder beside its predictions."""
    beside = _output_path(run, "original")
    found, name, step = predictions_of(run, dataset), name_of(run), ""
    mode = runner.read_run_info(run).identity.get("masks") if (run / runner.RUN).is_file() else None
    if isinstance(mode, str):
        name, step = name.removesuffix(f"-{mode}"), STEPS[mode]
    with user_errors_of_disk(beside.parent):
        return export(found, dataset, out or beside, name, step)


def write_report(
    runs: Sequence[Path],
    dataset: Dataset,
    trivial: Sequence[Scores],
    out: Path,
    *,
    limit: int | None,
    training: Sequence[Path] = (),
) -> tuple[str, Path]:
    """The main tables of several runs as text, and the page to look at them; `out` gets the page and all tables.

    Each run is scored on what it was asked for; the page shows what any of them was.
    """
    curves = [curve for folder in training for curve in view.training_curves(folder)]
    names, presets = _distinct(runs), presets_of(BOTH, dataset)
    predictions: dict[str, list[Prediction]] = {}
    scores: dict[str, list[Scores]] = {}
    for name, run in names.items():
        part = subset_of(dataset, selection_of(run))
        found = predictions_of(run, part.dataset)
        scores[name] = part.mark(scores_of(found, part.dataset, presets, name))
        predictions[name] = list(found.all(part.dataset))
    dataset = subset_of_any(runs, dataset).dataset
    rows = [row for given in scores.values() for row in given]
    with user_errors_of_disk(out):
        out.mkdir(parents=True, exist_ok=True)
        shown = {name: (predictions[name], scores[name]) for name in names}
        page = view.write_page(out, dataset, shown, baselines=trivial, curves=curves, limit=limit)
        text = report.partial_line(rows) + report.report(rows, trivial, "markdown")
        (out / "report.md").write_text(text, encoding="utf-8")
    return report.partial_line(rows) + report.summary(rows, trivial), page


def compact_report(runs: Sequence[Path], data: str | None, choice: str | None) -> list[Scores]:
    """The scores of several runs under one preset; of a file of scores (`scores.json`) those that it holds."""
    names, found = _distinct(runs), list[Scores]()
    for name, run in names.items():
        if is_scores(run):
            found.append(read_run(run, choice or (found[0].preset if found else None)))
            continue
        dataset = dataset_of(run, data)
        part = subset_of(dataset, selection_of(run))
        preset = choice or (found[0].preset if found else presets_of(BOTH, dataset)[0])
        given = predictions_of(run, part.dataset)
        found += part.mark(scores_of(given, part.dataset, [preset], name))
    if len({row.data_sha256 for row in found}) > 1:
        about = ", ".join(f"{row.name}: {row.dataset} ({row.data_sha256[:12]})" for row in found)
        raise ValueError(f"a table is of one data set, got {about}")
    for line in (line for row in found for line in report.left_out_lines(row)):
        logger.warning("%s", line)
    return found


def is_scores(path: Path) -> bool:
    """Whether a path is a file of scores, by its name."""
    return path.is_file() and path.name.endswith(SCORES)


def read_run(path: Path, choice: str | None) -> Scores:
    """The scores of the run in a file of scores, under the preset that is chosen, else the first there."""
    rows = [row for row in read_scores(path) if row.source and (choice is None or row.preset == choice)]
    if not rows:
        raise ValueError(f"{path} has no scores of a run{f' under {choice}' if choice else ''}: run `evqa score` again")
    return rows[0]


def trivial_scores(
    dataset: Dataset, train: str | None, choice: str, which: BaselineChoice = "all", *, workers: int = 1
) -> list[Scores]:
    """The baselines that see no video, fitted on the data set `train` where one is named.

    `fast` leaves out those of masks, which read every gold mask again.
    """
    if which == "none":
        return []
    fitted = load_dataset(train) if train else None
    return baselines.baselines(dataset, fitted, presets_of(choice, dataset), with_masks=which == "all", workers=workers)


def presets_of(choice: str, dataset: Dataset) -> list[str]:
    """The presets that a choice names for a data set; a `ValueError` for one that is none."""
    if choice == BOTH:
        has_choices = any(sample.time_options or sample.mask_options for sample in dataset.samples)
        return list(OWN_CHOICES if has_choices else OWN)
    preset_named(choice)
    return [choice]


def name_of(run: Path) -> str:
    """How a run is called in tables: its folder's or file's name."""
    path = run.resolve()
    return path.name if path.is_dir() else path.stem


def _distinct(runs: Sequence[Path]) -> dict[str, Path]:
    """Runs by name; names that are equal are told apart by the folder above, else by the whole path."""
    paths = [run.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise ValueError(f"two of the runs are the same: {', '.join(map(str, runs))}")
    names = [name_of(run) for run in runs]
    under = [f"{path.parent.name}/{name}" for name, path in zip(names, paths, strict=True)]
    return {
        name if names.count(name) == 1 else longer if under.count(longer) == 1 else str(path): run
        for run, path, name, longer in zip(runs, paths, names, under, strict=True)
    }
