"""TVQA+: the answer, its moment, and the boxes of the things that its words name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from pydantic import Field

from evqa.metrics.boxes import Box, Detection, Labelled, detection_ap
from evqa.official.grounded import iou, is_correct
from evqa.official.questions import (
    Question,
    QuestionMetric,
    QuestionPreset,
    QuestionRecords,
    QuestionReply,
    at_least,
    product,
    score_questions,
    windows_of,
)
from evqa.official.records import ExternalRecord, read_keyed, read_records, validate_record
from evqa.official.scores import FileScores, OfficialFiles, ScoredQuestion
from evqa.schema import Span

THRESHOLDS = tuple(round(0.1 * step, 2) for step in range(1, 10))
"""IoU thresholds of the temporal recall."""

BOX_THRESHOLD = 0.5
BOX_MARGIN = 2.0
"""Its boxes end with their last pixel, and both `voc_eval.py` and `boxlist_ops.py` add one for that."""


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


def tvqa_plus(files: OfficialFiles) -> FileScores:
    """`{"ts_answer": {QID: [[start, end], answer]}, "bbox": {IMAGE: [[label, score, box]]}}` with `tvqa_plus_val.json`.

    `bbox` may be left out, and then `ts_answer` may be the whole file. IMAGE is `VIDEO_QID_00001`, a box
    `[x0, y0, x1, y1]`; an optional third file, the evaluator's `word2idx.json`, says which labels count.
    """
    notes: list[str] = []
    gold = read_records(files.the_gold(), _Gold, notes)
    entries = read_keyed(files.predictions)
    is_whole = isinstance(entries.get("ts_answer"), dict)
    answers = cast("dict[str, object]", entries["ts_answer"]) if is_whole else entries
    boxes = entries.get("bbox") if is_whole else None
    replies = {key: _reply(entry, f"{files.predictions.name} {key}", notes) for key, entry in answers.items()}
    labels = None if files.extra is None else read_keyed(files.extra).keys()
    numbers = None
    if isinstance(boxes, dict):
        drawn = _detections(cast("dict[str, object]", boxes), f"{files.predictions.name} bbox", notes)
        numbers = _grounding(gold, drawn, None if labels is None else frozenset(labels), notes)
    measures = {
        "QA Acc": QuestionMetric(is_correct, ("answer",)),
        "mIoU": QuestionMetric(iou, ("windows",)),
        **{f"R@{t:.2f}": QuestionMetric(at_least(iou, t), ("windows",)) for t in THRESHOLDS},
        "ASA": QuestionMetric(product(is_correct, at_least(iou, 0.5)), ("answer", "windows")),
    }
    about = "official: hull as union, thresholds by >=; Grd. mAP over the labels of gold, on the images with gold boxes"
    convention = QuestionPreset(about=about, measures=measures, numbers=_constant(numbers) if numbers else None)
    return score_questions("tvqa-plus", QuestionRecords(_questions(gold), replies, notes), [convention])


def _constant(numbers: Mapping[str, float | None]) -> Callable[[Sequence[ScoredQuestion]], Mapping[str, float | None]]:
    def of_rows(_: Sequence[ScoredQuestion]) -> Mapping[str, float | None]:
        return numbers

    return of_rows


def _questions(gold: Sequence[_Gold]) -> list[Question]:
    """The gold file does not tell how long a clip is; it is at least as long as the last moment asked about."""
    last: dict[str, float] = {}
    for row in gold:
        last[row.vid_name] = max(last.get(row.vid_name, 0.0), row.ts[1])
    return [
        Question(
            id=row.qid,
            video=row.vid_name,
            windows=(Span(*row.ts),),
            duration=last[row.vid_name] or None,
            answer=str(row.answer_idx),
            num_choices=5,
        )
        for row in gold
    ]


def _reply(entry: object, where: str, notes: list[str]) -> QuestionReply:
    row = validate_record({"ts_answer": entry}, _Reply, where, notes)
    return (
        QuestionReply()
        if row is None
        else QuestionReply(windows=windows_of(row.ts_answer[:1]), answer=str(row.ts_answer[1]))
    )


# Boxes


def _detections(images: dict[str, object], where: str, notes: list[str]) -> dict[str, list[Detection]]:
    """Image -> what is drawn in it."""
    found: dict[str, list[Detection]] = {}
    for name, entry in images.items():
        row = validate_record({"boxes": entry}, _Boxes, f"{where} {name}", notes)
        found[name] = [] if row is None else [Detection(_clean(label), score, box) for label, score, box in row.boxes]
    return found


def _grounding(
    gold: Sequence[_Gold], drawn: Mapping[str, Sequence[Detection]], known: frozenset[str] | None, notes: list[str]
) -> dict[str, float | None]:
    """Grd. mAP, and what a box around the whole frame gets for every label of an image."""
    images = {
        f"{row.vid_name}_{int(row.qid)}_{int(frame):05d}": kept
        for row in gold
        for frame, boxes in row.bbox.items()
        if (kept := [box for box in map(_labelled, boxes) if known is None or box[0] in known])
    }
    whole: Box = (0.0, 0.0, 639.0, 359.0)
    full = {
        name: [Detection(label, 1.0, whole) for label in sorted({label for label, _ in boxes})]
        for name, boxes in images.items()
    }
    missing = len(images.keys() - drawn.keys())
    if missing:
        notes.append(f"Grd. mAP: {missing} of {len(images)} images with gold boxes have no prediction")
    return {"Grd. mAP": _mean_ap(images, drawn), "Grd. mAP of the whole frame": _mean_ap(images, full)}


def _mean_ap(images: Mapping[str, Image], drawn: Mapping[str, Sequence[Detection]]) -> float | None:
    pairs = [(drawn.get(name, ()), boxes) for name, boxes in images.items()]
    per_label = detection_ap(pairs, BOX_THRESHOLD, BOX_MARGIN)
    return sum(per_label.values()) / len(per_label) if per_label else None


def _labelled(box: _GoldBox | tuple[str, float, float, float, float]) -> Labelled:
    label, left, top, width, height = (
        (box.label, box.left, box.top, box.width, box.height) if isinstance(box, _GoldBox) else box
    )
    return _clean(label), (left, top, left + width, top + height)


def _clean(label: str) -> str:
    return label.replace("\u2019", "'").replace("\u2018", "'").lower()
