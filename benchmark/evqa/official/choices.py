"""Readers of NExT-QA and ActivityNet-QA (answers alone), and the scores of ST-Evidence's multiple-choice results.

ST-Evidence's multiple-choice results are scored here and not by the engine: the file holds the correct choices, without
options, of entries that the data set may not have. Results with the data set at hand are scored by
`evqa score --preset st-evidence-mcq`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evqa.datasets.formats import csv_table
from evqa.files.jsonl import BadLine
from evqa.metrics.means import Cell, Column, State
from evqa.official.official_data import (
    ANSWER,
    RESPONSE,
    OfficialData,
    dataset_of,
    index_predictions,
    multiple_choice,
    note_unknown,
    option_index,
    prediction_of,
    sample_of,
)
from evqa.official.records import ExternalRecord, read_keyed, read_records, read_valid, validate_record
from evqa.official.scores import OFFICIAL, STRICT, FileScores, OfficialFiles, QuestionRows, ScoredQuestion, file_scores
from evqa.schema import Prediction, Sample

# NExT-QA

MAX_OPTIONS = 10


class _NextReply(ExternalRecord):
    prediction: str | None = None


def nextqa(files: OfficialFiles) -> OfficialData:
    """`{"VIDEO_QUESTION": {"prediction": index}}` with ground truth `val.csv`, as `eval_mc.py` reads it."""
    notes: list[str] = []
    bad: list[BadLine] = []
    rows = csv_table.rows(files.the_gold(), ("video", "qid", "type", "answer"), bad)
    dataset = dataset_of("nextqa", files.the_gold(), (_next_sample(row) for _, row in rows))
    notes += [f"{files.the_gold().name}:{line} is left out: {reason}" for line, reason in bad]
    options = {sample.id: sample.options for sample in dataset.samples}
    predictions: dict[str, Prediction] = {}
    for key, entry in read_keyed(files.predictions).items():
        reply = validate_record(entry, _NextReply, f"{files.predictions.name} {key}", notes)
        text = reply.prediction if reply else None
        predictions[key] = prediction_of(key, answer=option_index(text, options.get(key, ())))
    note_unknown(dataset, predictions, notes)
    return OfficialData(dataset=dataset, predictions=predictions, gives=ANSWER, notes=notes)


def _next_sample(row: csv_table.Row) -> Sample:
    """Questions of type TP (temporal, previous) count as TN (temporal, next)."""
    return sample_of(
        f"{row['video']}_{row['qid']}",
        row["video"],
        answer=multiple_choice(row["answer"], sum(f"a{place}" in row for place in range(MAX_OPTIONS))),
        question_type="TN" if row["type"] == "TP" else row["type"],
    )


# ActivityNet-QA

ACTIVITYNET_TYPES = (
    "Motion",
    "Spatial",
    "Temporal",
    "Free/YesNo",
    "Free/Color",
    "Free/Object",
    "Free/Location",
    "Free/Number",
    "Free/Other",
)
"""The type of a question by its number; all from 3 on are `Free`."""
NUM_CLOSED = 3


class _OpenGold(ExternalRecord):
    question_id: str
    answer: str
    type: int


class _OpenPrediction(ExternalRecord):
    question_id: str
    answer: str | None = None


def activitynet_qa(files: OfficialFiles) -> OfficialData:
    """`[{question_id, answer}]` with ground truth `val_a.json`, by exact match, as `eval.py` reads it.

    `Free`, the accuracy of free questions, is over the number of questions of the types that come fourth and later in
    the file (official), or over all free questions (strict).
    """
    notes: list[str] = []
    gold = [row for row in read_records(files.the_gold(), _OpenGold, notes) if 0 <= row.type < len(ACTIVITYNET_TYPES)]
    dataset = dataset_of("activitynet-qa", files.the_gold(), map(_open_sample, gold))
    rows = read_records(files.predictions, _OpenPrediction, notes)
    predictions = index_predictions((prediction_of(row.question_id, response=row.answer) for row in rows), notes)
    note_unknown(dataset, predictions, notes)
    types = [ACTIVITYNET_TYPES[row.type] for row in gold]

    def numbers(preset: str, columns: Mapping[str, Column]) -> Mapping[str, float | None]:
        is_free = np.array([name.startswith("Free") for name in types])
        hits = float(columns["All"].values[is_free].sum())
        total = int(is_free.sum()) if preset.endswith(STRICT) else _num_of_later_types(types)
        return {"Free": hits / total if total else None}

    return OfficialData(dataset=dataset, predictions=predictions, gives=RESPONSE, notes=notes, numbers=numbers)


def _open_sample(row: _OpenGold) -> Sample:
    video, _, _ = row.question_id.rpartition("_")
    return sample_of(row.question_id, video, answer=row.answer, question_type=ACTIVITYNET_TYPES[row.type])


def _num_of_later_types(types: Sequence[str]) -> int:
    """Number of questions of the types that come fourth and later in the file."""
    counts: dict[str, int] = {}
    for name in types:
        counts[name] = counts.get(name, 0) + 1
    return sum(list(counts.values())[NUM_CLOSED:])


# ST-Evidence, multiple choice

TASKS = {
    "qa": ("answer", "gt_answer"),
    "temporal": ("evidence_t", "gt_evidence_t"),
    "spatial": ("evidence_s", "gt_evidence_s"),
}
"""Task -> (field of the choice, field of the correct one) in a results file."""
NUM_OPTIONS = {"qa": 5, "temporal": 4, "spatial": 4}


class _McqEntry(ExternalRecord):
    answer: str | None = None
    gt_answer: str | None = None
    evidence_t: str | None = None
    gt_evidence_t: str | None = None
    evidence_s: str | None = None
    gt_evidence_s: str | None = None
    video_id: str | None = None


def st_evidence_mcq(files: OfficialFiles) -> FileScores:
    """The results of `{entry_id: {answer, gt_answer, evidence_t, ...}}`, ground truth in the same file.

    Official: accuracy and coverage per task over the entries with ground truth, and one pooled accuracy. Strict
    adds the share that is correct in all three; a choice that could not be read counts 0 in both.
    """
    notes: list[str] = []
    entries = read_valid(files.predictions, _McqEntry, notes)
    notes.append("entries that were never processed are not in this file, and no score of it can count them")
    tables = [
        _mcq_rows(entries, "predictions", OFFICIAL, _official_cells, _pooled),
        _mcq_rows(entries, "predictions", STRICT, _strict_cells, None),
        _mcq_rows(entries, "chance", STRICT, _chance_cells, None),
    ]
    conventions = {
        OFFICIAL: "official: per task over entries with ground truth; overall is pooled over the tasks",
        STRICT: "strict: as official, with all three right over the entries with ground truth for all three",
    }
    return file_scores("st-evidence-mcq", conventions, tables, notes)


def _mcq_rows(
    entries: dict[str, _McqEntry],
    name: str,
    convention: str,
    cells: Callable[[_McqEntry], dict[str, Cell]],
    numbers: Callable[[Sequence[ScoredQuestion]], dict[str, float | None]] | None,
) -> QuestionRows:
    rows = [ScoredQuestion(id=key, video=entry.video_id or key, cells=cells(entry)) for key, entry in entries.items()]
    return QuestionRows(convention=convention, name=name, rows=rows, numbers=numbers(rows) if numbers else {})


def _text_or_none(text: str | None) -> str | None:
    return None if text is None or text.strip() in {"", "None"} else text


def _choice(entry: _McqEntry, task: str) -> tuple[str | None, str | None]:
    """The choice and the correct one."""
    choice, correct = TASKS[task]
    return _text_or_none(getattr(entry, choice)), _text_or_none(getattr(entry, correct))


def _official_cells(entry: _McqEntry) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for task in TASKS:
        choice, correct = _choice(entry, task)
        state: State = "unparsed" if choice is None else "scored"
        cells[f"{task} accuracy"] = Cell(None) if correct is None else Cell(float(choice == correct), state)
        cells[f"{task} coverage"] = Cell(None if correct is None else float(choice is not None))
    return cells


def _strict_cells(entry: _McqEntry) -> dict[str, Cell]:
    cells = _official_cells(entry)
    accuracies = [cells[f"{task} accuracy"] for task in TASKS]
    state: State = "unparsed" if any(cell.state == "unparsed" for cell in accuracies) else "scored"
    values = [cell.value for cell in accuracies if cell.value is not None]
    cells["all three right"] = Cell(float(all(values)), state) if len(values) == len(TASKS) else Cell(None)
    return cells


def _chance_cells(entry: _McqEntry) -> dict[str, Cell]:
    chances = {task: None if _choice(entry, task)[1] is None else 1 / number for task, number in NUM_OPTIONS.items()}
    cells = {f"{task} accuracy": Cell(chance) for task, chance in chances.items()}
    values = [chance for chance in chances.values() if chance is not None]
    cells["all three right"] = Cell(values[0] * values[1] * values[2]) if len(values) == len(TASKS) else Cell(None)
    return cells


def _pooled(rows: Sequence[ScoredQuestion]) -> dict[str, float | None]:
    values = [cell.value for row in rows for task in TASKS if (cell := row.cells[f"{task} accuracy"]).value is not None]
    return {"overall accuracy": sum(value or 0.0 for value in values) / len(values) if values else None}
