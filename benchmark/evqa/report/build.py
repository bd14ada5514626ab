"""Reports of several runs: tables and the page, per-sample tables, compact tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from evqa.datasets import Dataset
from evqa.report import sample_table, tables
from evqa.report.page import write_page
from evqa.report.training_log import training_curves
from evqa.runs.locate import dataset_of, name_of, predictions_of, selection_of
from evqa.runs.run_folder import user_errors_of_disk
from evqa.schema import Prediction
from evqa.scoring.evaluate import BOTH, is_scores, presets_of, read_run, scores_of, subset_of, subset_of_any
from evqa.scoring.results import Scores

logger = logging.getLogger(__name__)


def write_samples(path: Path, scores: Sequence[Scores], dataset: Dataset) -> None:
    """The scores of each sample, one row a sample and preset."""
    with user_errors_of_disk(path.parent, has_out=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        sample_table.write(path, scores, dataset)


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
    curves = [curve for folder in training for curve in training_curves(folder)]
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
        page = write_page(out, dataset, shown, baselines=trivial, curves=curves, limit=limit)
        text = tables.partial_line(rows) + tables.report(rows, trivial, "markdown")
        (out / "report.md").write_text(text, encoding="utf-8")
    return tables.partial_line(rows) + tables.summary(rows, trivial), page


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
    for line in (line for row in found for line in tables.left_out_lines(row)):
        logger.warning("%s", line)
    return found


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
