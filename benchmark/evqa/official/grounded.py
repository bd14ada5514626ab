"""Readers of NExT-GQA, ReXTime and CG-Bench: multiple choice with evidence in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from evqa.metrics.grounded_qa import recovery
from evqa.metrics.means import Cell, Column
from evqa.official.official_data import (
    ANSWER,
    SPANS,
    OfficialData,
    dataset_of,
    index_predictions,
    multiple_choice,
    note_unknown,
    option_index,
    prediction_of,
    sample_of,
)
from evqa.official.records import ExternalRecord, Window, read_keyed, read_records, read_valid, validate_record
from evqa.official.scores import OfficialFiles
from evqa.schema import Prediction, Sample, Span, Spans

# NExT-GQA

GQA_OPTIONS = 5


class _GqaVideo(ExternalRecord):
    duration: float = Field(gt=0)
    location: dict[str, tuple[tuple[float, float], ...]]


class _Span(ExternalRecord):
    ends: tuple[float, float]


class _Choice(ExternalRecord):
    prediction: str | None
    answer: str


def nextgqa(files: OfficialFiles) -> OfficialData:
    """`{"VIDEO_QUESTION": [start, end]}` with ground truth `gsub_*.json`; the third file holds the answers for QA.

    A question that the third file lacks has no correct option: every answer to it counts as wrong.
    """
    notes: list[str] = []
    choices = {} if files.extra is None else _choices(files, notes)
    dataset = dataset_of("nextgqa", files.the_gold(), _gqa_samples(files, choices, notes))
    options = {sample.id: sample.options for sample in dataset.samples}
    predictions: dict[str, Prediction] = {}
    for key, entry in read_keyed(files.predictions).items():
        span = validate_record({"ends": entry}, _Span, f"{files.predictions.name} {key}", notes)
        text = choices[key].prediction if key in choices else None
        predictions[key] = prediction_of(
            key, windows=None if span is None else [span.ends], answer=option_index(text, options.get(key, ()))
        )
    note_unknown(dataset, predictions, notes)
    gives = SPANS | ANSWER if choices else SPANS
    return OfficialData(dataset=dataset, predictions=predictions, gives=gives, notes=notes)


def _choices(files: OfficialFiles, notes: list[str]) -> dict[str, _Choice]:
    assert files.extra is not None
    return read_valid(files.extra, _Choice, notes)


def _gqa_samples(files: OfficialFiles, choices: Mapping[str, _Choice], notes: list[str]) -> Iterator[Sample]:
    for video, gold in read_valid(files.the_gold(), _GqaVideo, notes).items():
        for number, segments in gold.location.items():
            yield _gqa_sample(f"{video}_{number}", video, gold, spans_of(segments), choices)


def _gqa_sample(key: str, video: str, gold: _GqaVideo | None, spans: Spans, choices: Mapping[str, _Choice]) -> Sample:
    duration = gold.duration if gold else None
    if not choices:
        return sample_of(key, video, spans=spans, duration=duration)
    correct = choices[key].answer if key in choices else None
    choice = multiple_choice("0" if correct is None else correct, GQA_OPTIONS)
    if correct is None:
        choice = choice._replace(answer=len(choice.options))
    return sample_of(key, video, spans=spans, duration=duration, answer=choice)


def spans_of(pairs: Sequence[tuple[float, float]]) -> Spans:
    """Pairs of seconds as spans."""
    return tuple(Span(*pair) for pair in pairs)


# ReXTime

REXTIME_OPTIONS = 4


class _RexGold(ExternalRecord):
    qid: str
    vid: str
    duration: float = Field(gt=0)
    relevant_windows: tuple[tuple[float, float], ...]
    ans: str


class _RexPrediction(ExternalRecord):
    qid: str
    pred_relevant_windows: tuple[Window, ...] | None = None
    ans: str | None = None


def rextime(files: OfficialFiles) -> OfficialData:
    """`{qid, pred_relevant_windows, ans}` a line, as `rextime_eval.py` reads it."""
    notes: list[str] = []
    dataset = dataset_of("rextime", files.the_gold(), map(_rex_sample, read_records(files.the_gold(), _RexGold, notes)))
    options = {sample.id: sample.options for sample in dataset.samples}
    rows = read_records(files.predictions, _RexPrediction, notes)
    predictions = index_predictions(
        (
            prediction_of(
                row.qid, windows=row.pred_relevant_windows, answer=option_index(row.ans, options.get(row.qid, ()))
            )
            for row in rows
        ),
        notes,
    )
    note_unknown(dataset, predictions, notes)
    return OfficialData(dataset=dataset, predictions=predictions, gives=SPANS | ANSWER, notes=notes)


def _rex_sample(row: _RexGold) -> Sample:
    return sample_of(
        row.qid,
        row.vid,
        spans=spans_of(row.relevant_windows),
        duration=row.duration,
        answer=multiple_choice(row.ans, REXTIME_OPTIONS),
    )


# CG-Bench


class _CgGold(ExternalRecord):
    qid: str
    video_uid: str
    right_answer: str
    clue_intervals: tuple[tuple[float, float], ...]
    duration: float = Field(gt=0)
    n_choices: int = 0
    choices: tuple[str, ...] = ()
    sub_category: str | None = None


class _CgPrediction(ExternalRecord):
    qid: str
    intervals: tuple[Window, ...] | None = None
    answer: str | None = None
    clue_answer: str | None = None


def cg_bench(files: OfficialFiles) -> OfficialData:
    """`{qid, intervals, answer}` a line or in a list, with `cgbench_mini.json`; `clue_answer` adds clue_acc and CRR.

    `clue_answer` is the answer to the clue intervals alone, that is, of another run on other videos: it has no field
    in `Prediction` and is scored here.
    """
    notes: list[str] = []
    gold = read_records(files.the_gold(), _CgGold, notes)
    dataset = dataset_of("cg-bench", files.the_gold(), map(_cg_sample, gold))
    options = {sample.id: sample.options for sample in dataset.samples}
    rows = read_records(files.predictions, _CgPrediction, notes)
    predictions = index_predictions(
        (
            prediction_of(
                row.qid, windows=row.intervals, answer=option_index(row.answer or None, options.get(row.qid, ()))
            )
            for row in rows
        ),
        notes,
    )
    note_unknown(dataset, predictions, notes)
    clues = {row.qid: row.clue_answer or None for row in rows}
    cells = [{"clue_acc": _clue_cell(row, clues)} for row in gold] if any(clues.values()) else []

    def numbers(preset: str, columns: Mapping[str, Column]) -> Mapping[str, float | None]:
        long = columns["long_acc"].mean()
        clue = sum(cell["clue_acc"].value or 0.0 for cell in cells) / len(cells)
        return {"CRR": None if long is None else recovery(long, clue)}

    return OfficialData(
        dataset=dataset,
        predictions=predictions,
        gives=SPANS | ANSWER,
        notes=notes,
        cells=cells,
        numbers=numbers if cells else None,
    )


def _cg_sample(row: _CgGold) -> Sample:
    return sample_of(
        row.qid,
        row.video_uid,
        spans=spans_of(row.clue_intervals),
        duration=row.duration,
        answer=multiple_choice(row.right_answer, row.n_choices or len(row.choices)),
        question_type=row.sub_category,
    )


def _clue_cell(row: _CgGold, clues: Mapping[str, str | None]) -> Cell:
    if row.qid not in clues:
        return Cell(0.0, "missing")
    answer = clues[row.qid]
    return Cell(0.0, "unparsed") if answer is None else Cell(float(answer == row.right_answer))
