"""Export of a run to the prediction files of the original, which its evaluator scores unchanged.

    <out>/<name>.json                                 see `evqa.official.original`
    <out>/<name>/<entry_id>/masks/00000.png ...       one file per frame with predicted masks, values 0 and 255
    <out>/<name>/concat/<entry_id>/masks/...          masks of the segmentation step (`seperate`, or `concat`)

The evaluator scores only frames with a file, and a missing folder as 0; a prediction without objects gets no folder, as
in the original's scripts. Its option is `--pred_mask_dir <out>/<name>`. Masks have the size of the ground truth, since
the evaluator fails at another size.
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
    """Summary of an export."""

    path: Path
    masks: Path
    """Value of --pred_mask_dir for the evaluator."""
    entries: int
    with_masks: int
    unwritable: tuple[str, ...]
    """Predictions with undecodable masks: they get no folder and score 0, as in our scores."""


def export(file: PredictionFile, dataset: Dataset, out: Path, name: str, step: str = "") -> ExportSummary:
    """Write the predictions of a data set into a new folder `out`, atomically.

    `step`: folder below `name` for the masks of a segmentation step.
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
    """Multiple-choice questions of a sample that were asked: the evaluator counts every one in the file."""
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
    """Write the merged masks of a prediction; False = it has no object."""
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
    """Number of frames as in scoring; the number in the prediction is not used."""
    num_frames = num_frames_of(sample)
    if num_frames is None:
        raise ValueError(
            f"the number of frames of {sample.video} is unknown: it is not there or cannot be read, and the data set "
            f"gives no num_frames: {download_advice(dataset.name)}"
        )
    return max(num_frames, max(gold, default=-1) + 1)
