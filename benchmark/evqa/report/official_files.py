"""Prediction files of other benchmarks: their scores as text and as files."""

from __future__ import annotations

from pathlib import Path

from evqa.files.jsonl import check_output, write_json
from evqa.metrics.means import Mean
from evqa.official.scores import FileScores, FileTable, OfficialFiles
from evqa.report.tables import NONE, table
from evqa.scoring.evaluate import SCORES, is_scores_name
from evqa.scoring.official_files import official_scores
from evqa.scoring.results import write_scores

MAX_NOTES = 10


def score_and_write(name: str, files: OfficialFiles, out: Path | None, scores_out: Path | None = None) -> str:
    """Score a prediction file and return its tables as text.

    Args:
        name: Format, a key of `official.FORMATS`.
        files: Predictions, ground truth and third file.
        out: File for the scores in the layout of `FileScores`.
        scores_out: File for the scores as records of `scores.json`, for `evqa compare` and the compact tables.
    """
    outputs = [path for path in (out, scores_out) if path is not None]
    for path in outputs:
        check_output(path, [*files, *(other_path for other_path in outputs if other_path is not path)])
    if scores_out is not None and not is_scores_name(scores_out):
        raise ValueError(
            f"expected a name that ends with {SCORES}, got {scores_out}: evqa compare knows it by its name"
        )
    scored = official_scores(name, files)
    if scores_out is not None and scored.scores is None:
        raise ValueError(f"{name} files have their own scores, which {SCORES} cannot hold: leave --scores out")
    try:
        for path in outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path is scores_out and scored.scores is not None:
                write_scores(path, scored.scores)
            else:
                write_json(path, scored.file_scores.model_dump(mode="json"))
    except OSError as error:
        raise ValueError(f"cannot write {error.filename}: {error.strerror or error}") from error
    return "\n\n".join([tables(scored.file_scores), *(f"written to {path}" for path in outputs)])


def tables(scores: FileScores) -> str:
    """Text tables of a file's scores: per convention its description, then each mean with counts and baselines."""
    parts: list[str] = []
    for convention, description in scores.conventions.items():
        entries = [entry for entry in scores.tables if entry.convention == convention]
        predictions, trivial = entries[0], entries[1:]
        parts.append(f"{scores.format}, {description}; in percent\n{_means(predictions, trivial)}")
        numbers = [f"{title} {_number(value)}" for title, value in predictions.numbers.items()]
        if numbers:
            parts.append(f"{', '.join(numbers)} (as they are, not in percent)")
        if predictions.groups:
            parts.append(_groups(predictions))
    parts += [f"note: {note}" for note in scores.notes[:MAX_NOTES]]
    if len(scores.notes) > MAX_NOTES:
        parts.append(f"{len(scores.notes) - MAX_NOTES} more notes")
    return "\n\n".join(parts)


def _means(predictions: FileTable, trivial: list[FileTable]) -> str:
    body = [
        [
            title,
            _cell(mean),
            *map(str, (mean.n_total, mean.n_scored, mean.n_missing, mean.n_failed, mean.n_unparsed)),
            *(_cell(entry.metrics.get(title)) for entry in trivial),
        ]
        for title, mean in predictions.metrics.items()
    ]
    counts = ["n_total", "n_scored", "n_missing", "n_failed", "n_unparsed"]
    return table(["", predictions.name, *counts, *(entry.name for entry in trivial)], body)


def _groups(predictions: FileTable) -> str:
    titles = list(predictions.metrics)
    body = [
        [group, str(max(mean.n_total for mean in means.values())), *(_cell(means.get(title)) for title in titles)]
        for group, means in predictions.groups.items()
    ]
    return table(["by type", "n", *titles], body)


def _cell(mean: Mean | None) -> str:
    if mean is None or mean.mean is None:
        return NONE
    interval = "" if mean.low is None or mean.high is None else f" [{100 * mean.low:.2f}, {100 * mean.high:.2f}]"
    return f"{100 * mean.mean:.2f}{interval}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
