"""Reader of TVQA+: the answer, its moment, and the boxes of the objects that its words name.

The mean AP of boxes is computed here and not by the engine: it ranks the detections of a label over all images, so it
is no mean over questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from pydantic import Field

from evqa.metrics.boxes import Box, Detection, Labelled, detection_ap
from evqa.official.grounded import spans_of
from evqa.official.official_data import (
    ANSWER,
    SPANS,
    OfficialData,
    dataset_of,
    multiple_choice,
    note_unknown,
    option_index,
    prediction_of,
    sample_of,
)
from evqa.official.records import ExternalRecord, read_keyed, read_records, validate_record
from evqa.official.scores import OfficialFiles
from evqa.schema import Prediction, Sample

BOX_THRESHOLD = 0.5
BOX_MARGIN = 2.0
"""Pixels that are added to each side: boxes end with their last pixel, and `voc_eval.py` and `boxlist_ops.py` add one
pixel each."""

TVQA_OPTIONS = 5


class _GoldBox(ExternalRecord):
    label: str
    left: float
    top: float
    width: float
    height: float


class _Gold(ExternalRecord):
    qid: str
    vid_name: str
    ts: tuple[float, float]
    answer_idx: int
    bbox: dict[str, tuple[_GoldBox | tuple[str, float, float, float, float], ...]] = Field(default_factory=dict)


class _Reply(ExternalRecord):
    ts_answer: tuple[tuple[float, float], int]


class _Boxes(ExternalRecord):
    boxes: tuple[tuple[str, float, tuple[float, float, float, float]], ...]


Image = Sequence[Labelled]


def tvqa_plus(files: OfficialFiles) -> OfficialData:
    """`{"ts_answer": {QID: [[start, end], answer]}, "bbox": {IMAGE: [[label, score, box]]}}` with `tvqa_plus_val.json`.

    `bbox` may be left out, and then `ts_answer` may be the whole file. IMAGE is `VIDEO_QID_00001`, a box
    `[x0, y0, x1, y1]`; an optional third file, the evaluator's `word2idx.json`, names the labels that count.
    """
    notes: list[str] = []
    gold = read_records(files.the_gold(), _Gold, notes)
    dataset = dataset_of("tvqa-plus", files.the_gold(), _samples(gold))
    options = {sample.id: sample.options for sample in dataset.samples}
    entries = read_keyed(files.predictions)
    is_whole = isinstance(entries.get("ts_answer"), dict)
    answers = cast("dict[str, object]", entries["ts_answer"]) if is_whole else entries
    boxes = entries.get("bbox") if is_whole else None
    predictions = {
        key: _prediction(
            key,
            validate_record({"ts_answer": entry}, _Reply, f"{files.predictions.name} {key}", notes),
            options.get(key, ()),
        )
        for key, entry in answers.items()
    }
    numbers: dict[str, float | None] = {}
    if isinstance(boxes, dict):
        labels = None if files.extra is None else frozenset(read_keyed(files.extra))
        detections = _detections(cast("dict[str, object]", boxes), f"{files.predictions.name} bbox", notes)
        numbers = _grounding(gold, detections, labels, notes)
    note_unknown(dataset, predictions, notes)
    return OfficialData(
        dataset=dataset,
        predictions=predictions,
        gives=SPANS | ANSWER,
        notes=notes,
        numbers=(lambda preset, columns: numbers) if numbers else None,
    )


def _samples(gold: Sequence[_Gold]) -> Iterator[Sample]:
    """The file lacks the durations of clips; a clip is at least as long as the last moment that is asked about."""
    last: dict[str, float] = {}
    for row in gold:
        last[row.vid_name] = max(last.get(row.vid_name, 0.0), row.ts[1])
    for row in gold:
        yield sample_of(
            row.qid,
            row.vid_name,
            spans=spans_of([row.ts]),
            duration=last[row.vid_name] or None,
            answer=multiple_choice(str(row.answer_idx), TVQA_OPTIONS),
        )


def _prediction(name: str, row: _Reply | None, options: Sequence[str]) -> Prediction:
    if row is None:
        return prediction_of(name)
    span, answer = row.ts_answer
    return prediction_of(name, windows=[span], answer=option_index(str(answer), options))


# Boxes


def _detections(images: dict[str, object], location: str, notes: list[str]) -> dict[str, list[Detection]]:
    """Image -> what is drawn in it."""
    detections: dict[str, list[Detection]] = {}
    for name, entry in images.items():
        row = validate_record({"boxes": entry}, _Boxes, f"{location} {name}", notes)
        detections[name] = (
            [] if row is None else [Detection(_clean(label), score, box) for label, score, box in row.boxes]
        )
    return detections


def _grounding(
    gold: Sequence[_Gold],
    detections: Mapping[str, Sequence[Detection]],
    labels: frozenset[str] | None,
    notes: list[str],
) -> dict[str, float | None]:
    """Grd. mAP, and what a box around the whole frame gets for every label of an image."""
    images = {
        f"{row.vid_name}_{int(row.qid)}_{int(frame):05d}": counted
        for row in gold
        for frame, boxes in row.bbox.items()
        if (counted := [box for box in map(_labelled, boxes) if labels is None or box[0] in labels])
    }
    whole: Box = (0.0, 0.0, 639.0, 359.0)
    full = {
        name: [Detection(label, 1.0, whole) for label in sorted({label for label, _ in boxes})]
        for name, boxes in images.items()
    }
    missing = len(images.keys() - detections.keys())
    if missing:
        notes.append(f"Grd. mAP: {missing} of {len(images)} images with gold boxes have no prediction")
    return {"Grd. mAP": _mean_ap(images, detections), "Grd. mAP of the whole frame": _mean_ap(images, full)}


def _mean_ap(images: Mapping[str, Image], detections: Mapping[str, Sequence[Detection]]) -> float | None:
    pairs = [(detections.get(name, ()), boxes) for name, boxes in images.items()]
    per_label = detection_ap(pairs, BOX_THRESHOLD, BOX_MARGIN)
    return sum(per_label.values()) / len(per_label) if per_label else None


def _labelled(box: _GoldBox | tuple[str, float, float, float, float]) -> Labelled:
    label, left, top, width, height = (
        (box.label, box.left, box.top, box.width, box.height) if isinstance(box, _GoldBox) else box
    )
    return _clean(label), (left, top, left + width, top + height)


def _clean(label: str) -> str:
    return label.replace("\u2019", "'").replace("\u2018", "'").lower()
