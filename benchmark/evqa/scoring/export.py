"""A run in the form of the original's prediction files, which its evaluator scores unchanged.

    <out>/<name>.json                                 see `evqa.official.original`
    <out>/<name>/<entry_id>/masks/00000.png ...       one file for every frame that masks were predicted for, 0 and 255
    <out>/<name>/concat/<entry_id>/masks/...          of masks that were drawn for expressions (`seperate`, or `concat`)

The evaluator counts only frames that have a file, and a missing folder as 0; so a prediction without objects gets no
folder, as with the original's scripts. It needs `--pred_mask_dir <out>/<name>` to look there. Masks are written in
the size of the ground truth, since another size stops it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from evqa import masks
from evqa.datasets import Dataset, download_advice
from evqa.files.jsonl import write_json
from evqa.masks import to_array
from evqa.metrics.answer import NUM_LETTERS
from evqa.metrics.boundary import size_of
from evqa.metrics.case import GoldField
from evqa.metrics.frames import Frames, Read, gold_masks, predicted_masks
from evqa.official.original import CHOICES, gold_choice
from evqa.runs.prediction_files import PredictionFile
from evqa.schema import LETTERS, Prediction, Sample
from evqa.scoring.cases import num_frames_of, video_facts

Format = Literal["original"]


@dataclass(frozen=True)
class ExportSummary:
    """What was written."""

    path: Path
    masks: Path
    """What the evaluator is given as --pred_mask_dir."""
    entries: int
    with_masks: int
    unwritable: tuple[str, ...]
    """Predictions whose masks cannot be decoded: they get no folder, and score 0 there as here."""


def export(file: PredictionFile, dataset: Dataset, out: Path, name: str, step: str = "") -> ExportSummary:
    """Write the predictions of a data set into `out`, which is new; beside it first, then moved.

    `step`: the folder below `name` that the masks of a second step lie in.
    """
    if out.exists():
        raise ValueError(f"{out} is there already: remove it, or choose another folder with --out")
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    entries: dict[str, object] = {}
    with_masks, unwritable = 0, list[str]()
    for sample in dataset.samples:
        prediction = file.get(sample)
        if prediction is None:
            continue
        entries[sample.id] = (
            _choices(sample, prediction, file.requested_fields) if _is_choice(sample) else _entry(sample, prediction)
        )
        try:
            with_masks += _write_masks(partial / name / step / sample.id / "masks", sample, prediction, dataset)
        except ValueError as error:
            shutil.rmtree(partial / name / step / sample.id, ignore_errors=True)
            unwritable.append(f"{sample.id}: {error}")
    write_json(partial / f"{name}.json", entries)
    partial.rename(out)
    return ExportSummary(out / f"{name}.json", out / name / step, len(entries), with_masks, tuple(unwritable))


def _is_choice(sample: Sample) -> bool:
    return bool(sample.time_options or sample.mask_options)


def _entry(sample: Sample, prediction: Prediction) -> dict[str, object]:
    entry: dict[str, object] = {"video_id": sample.video_id, "parsed_response": None}
    if prediction.status == "failed":
        return {**entry, "error": prediction.error}
    literal = prediction.literal
    spans = prediction.spans if literal is None else literal.segments
    entry["parsed_response"] = {
        "answer": _answer(sample, prediction.answer) if literal is None else literal.answer,
        "segments": None if spans is None else [list(span) for span in spans],
        "referring_expressions": None if prediction.expressions is None else list(prediction.expressions),
    }
    return entry


def _answer(sample: Sample, answer: int | None) -> str | None:
    if answer is None or not 0 <= answer < len(sample.options):
        return None
    return LETTERS[answer] if answer < NUM_LETTERS else sample.options[answer]


def _choices(sample: Sample, prediction: Prediction, questions: frozenset[GoldField] | None) -> dict[str, object]:
    """The questions that were asked: the evaluator counts every one with a right answer in the file."""
    entry: dict[str, object] = {}
    choices = {
        "answer": prediction.answer,
        "time_choice": prediction.time_choice,
        "mask_choice": prediction.mask_choice,
    }
    for question, (key, gold_key) in CHOICES.items():
        if questions is not None and question not in questions:
            continue
        right, choice = gold_choice(sample, question)[0], choices[question]
        entry[key] = None if choice is None else LETTERS[choice]
        entry[gold_key] = None if right is None else LETTERS[right]
    return entry


# Masks


def _write_masks(folder: Path, sample: Sample, prediction: Prediction, dataset: Dataset) -> bool:
    """Write the merged masks of a prediction; False where it has no object."""
    if prediction.status == "failed" or not (prediction.tracks or prediction.mask_folder):
        return False
    gold = gold_masks(sample) or {}
    predicted, computed = predicted_masks(prediction)
    indices = range(_num_frames(sample, gold, dataset)) if computed is None else sorted(computed)
    size = _size(gold.values()) or prediction.mask_size or _size(predicted.values())
    if size is None:
        video = video_facts(sample.video)
        size = (video.height, video.width)
    masks.write_folder(folder, _frames(predicted, indices, size))
    return True


def _frames(predicted: Frames, indices: Iterable[int], size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    empty = np.zeros(size, dtype=np.bool_)
    for index in indices:
        mask = to_array(predicted[index]()) if index in predicted else empty
        yield index, mask if mask.shape == size else masks.resize(mask, size)


def _size(reads: Iterable[Read]) -> tuple[int, int] | None:
    first = next(iter(reads), None)
    if first is None:
        return None
    return size_of(first())


def _num_frames(sample: Sample, gold: Frames, dataset: Dataset) -> int:
    """Number of frames as scoring counts it, never as the prediction states it."""
    num_frames = num_frames_of(sample)
    if num_frames is None:
        raise ValueError(
            f"the number of frames of {sample.video} is unknown: it is not there or cannot be read, and the data set "
            f"gives no num_frames: {download_advice(dataset.name)}"
        )
    return max(num_frames, max(gold, default=-1) + 1)
