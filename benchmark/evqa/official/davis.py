"""Scores of DAVIS 2016 and 2017: folders of label images, as davis2017-evaluation reads them.

They are computed here and not by the engine: recall and decay are statistics of a sequence, the first and last frame
are excluded, and F compares contours alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evqa import masks
from evqa.metrics.means import Cell, State
from evqa.metrics.sequence import Statistics, statistics, statistics_as_shipped
from evqa.metrics.spatial import FrameScore, score_frame
from evqa.official.scores import OFFICIAL, STRICT, FileScores, OfficialFiles, QuestionRows, ScoredQuestion, file_scores


def davis_2016(files: OfficialFiles) -> FileScores:
    """Two folders of `SEQUENCE/%05d.png`: every label is foreground; first and last frame are left out."""
    return _davis("davis-2016", files, per_object=False)


def davis_2017(files: OfficialFiles) -> FileScores:
    """As `davis_2016`, each label of the ground truth is an object, with the same label in the predictions."""
    return _davis("davis-2017", files, per_object=True)


PREDICTIONS = "predictions"

NUM_ENDS = 2
"""Frames of a sequence that do not count: the first and the last."""

STILL = "static masks of the first frame"
EVERYTHING = "full-frame mask"
BASELINES = (STILL, EVERYTHING)
"""What needs no tracking: the first frame is given to whoever takes part."""


class _Frame(NamedTuple):
    """One object in one frame."""

    score: FrameScore
    is_blank: bool
    """Whether neither mask has an outline: each is empty or fills the frame."""

    def under(self, convention: str) -> FrameScore:
        """The score by a convention."""
        return self.score._replace(f=1.0) if convention == OFFICIAL and self.is_blank else self.score


class _Object(NamedTuple):
    """One object of one sequence."""

    key: str
    sequence: str
    state: State
    """Whether the sequence was predicted at all."""
    frames: dict[str, list[_Frame]]
    """Who drew it -> the frames that count."""


def _davis(name: str, files: OfficialFiles, *, per_object: bool) -> FileScores:
    notes: list[str] = []
    objects = list(_objects(files, notes, per_object=per_object))
    conventions = {
        OFFICIAL: "official: mean over frames but the first and the last; decay with frame numbers kept in 8 bits; "
        "F is 1 where neither mask has an outline, also where one is empty and the other fills the frame",
        STRICT: "strict: as official, with the decay of all frames, however long the sequence; "
        "F is 0 where one mask is empty and the other is not",
    }
    tables = [
        _rows(objects, PREDICTIONS, convention, of)
        for convention, of in {OFFICIAL: statistics_as_shipped, STRICT: statistics}.items()
    ]
    tables += [_rows(objects, baseline, OFFICIAL, statistics_as_shipped) for baseline in BASELINES]
    return file_scores(name, conventions, tables, notes)


def _rows(objects: list[_Object], who: str, convention: str, of: Callable[[list[float]], Statistics]) -> QuestionRows:
    return QuestionRows(
        convention=convention,
        name=who,
        rows=[
            ScoredQuestion(
                id=scores.key,
                video=scores.sequence,
                cells=_cells(
                    [frame.under(convention) for frame in scores.frames[who]],
                    of,
                    scores.state if who == PREDICTIONS else "scored",
                ),
            )
            for scores in objects
        ],
    )


def _cells(frames: list[FrameScore], of: Callable[[list[float]], Statistics], state: State) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for title, values in {"J": [frame.j for frame in frames], "F": [frame.f for frame in frames]}.items():
        stats = of(values)
        cells[f"{title}-Mean"] = Cell(stats.mean, state)
        cells[f"{title}-Recall"] = Cell(stats.recall, state)
        cells[f"{title}-Decay"] = Cell(stats.decay, state)
    cells["J&F-Mean"] = Cell(None if not frames else float(np.mean([frame.jf for frame in frames])), state)
    return cells


def _objects(files: OfficialFiles, notes: list[str], *, per_object: bool) -> Iterator[_Object]:
    """Each object in gold, drawn by the predictions and by each baseline."""
    for folder in _sequences(files, notes):
        gold = masks.read_folder(folder)
        labels = _labels(gold) if per_object else [None]
        if reason := _uncounted(gold, labels):
            notes.append(f"sequence {folder.name} is in no mean: {reason}")
        if not gold:
            continue
        folder_of_predictions = files.predictions / folder.name
        predicted = masks.read_folder(folder_of_predictions) if folder_of_predictions.is_dir() else {}
        if not predicted:
            notes.append(f"sequence {folder.name} has no prediction and counts 0 where gold has an object")
        for label in labels:
            key = folder.name if label is None else f"{folder.name}/{label}"
            yield _Object(key, folder.name, "scored" if predicted else "missing", _frames(gold, predicted, label))


def _sequences(files: OfficialFiles, notes: list[str]) -> list[Path]:
    """The folders of gold, one a sequence."""
    for folder in (files.predictions, files.the_gold()):
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: expected one with SEQUENCE/00000.png in it")
    folders = sorted(path for path in files.the_gold().iterdir() if path.is_dir())
    if not folders:
        raise ValueError(f"{files.the_gold()} has no folder for a sequence: expected SEQUENCE/00000.png")
    unknown = {path.name for path in files.predictions.iterdir() if path.is_dir()} - {path.name for path in folders}
    if unknown:
        notes.append(f"{len(unknown)} predictions are for unknown sequences, such as {min(unknown)!r}")
    return folders


def _uncounted(gold: dict[int, Path], labels: Sequence[int | None]) -> str:
    """Why a sequence counts nowhere; empty text where it counts."""
    if len(gold) <= NUM_ENDS:
        return f"it has {len(gold)} frames, and none is left without the first and the last"
    return "" if labels else "none of its frames has an object"


def _labels(gold: dict[int, Path]) -> list[int]:
    """The labels of the first frame that has any."""
    for index in sorted(gold):
        labels = [int(label) for label in np.unique(masks.read_labels(gold[index])) if label]
        if labels:
            return labels
    return []


def _frames(gold: dict[int, Path], predicted: dict[int, Path], label: int | None) -> dict[str, list[_Frame]]:
    """One object, as each of those who draw has it, in every frame of gold but the first and the last."""
    first, *counted = sorted(gold)
    still = _mask(gold[first], label)
    frames: dict[str, list[_Frame]] = {who: [] for who in (PREDICTIONS, *BASELINES)}
    for index in counted[:-1]:
        gold_mask = _mask(gold[index], label)
        predicted_mask = _mask(predicted[index], label) if index in predicted else None
        for who, mask in {PREDICTIONS: predicted_mask, STILL: still, EVERYTHING: np.ones_like(gold_mask)}.items():
            frames[who].append(_score(mask, gold_mask))
    return frames


def _mask(path: Path, label: int | None) -> np.ndarray:
    """The pixels of an object; None = of any."""
    labels = masks.read_labels(path)
    return labels > 0 if label is None else labels == label


def _score(predicted: np.ndarray | None, gold: np.ndarray) -> _Frame:
    if predicted is not None and predicted.shape != gold.shape:
        predicted = masks.resize(predicted, (gold.shape[0], gold.shape[1]))
    is_blank = predicted is not None and all(bool(mask.all()) or not mask.any() for mask in (predicted, gold))
    return _Frame(score_frame(predicted, gold), is_blank)
