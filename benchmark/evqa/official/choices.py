"""Answers alone: NExT-QA, ActivityNet-QA, and the multiple-choice part of ST-Evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from evqa.datasets.formats import csv_table
from evqa.files.jsonl import BadLine
from evqa.metrics.means import Cell, State
from evqa.official.questions import (
    Question,
    QuestionMetric,
    QuestionPreset,
    QuestionRecords,
    QuestionReply,
    index_replies,
    score_questions,
)
from evqa.official.records import ExternalRecord, read_keyed, read_records, validate_record
from evqa.official.scores import OFFICIAL, STRICT, FileScores, OfficialFiles, QuestionRows, ScoredQuestion, file_scores


def is_correct(question: Question, reply: QuestionReply) -> float:
    """1 if the answer is the right one, character for character."""
    return float(reply.answer is not None and reply.answer == question.answer)


# NExT-QA

NEXT_QA_TYPES = {"C": "causal", "T": "temporal", "D": "descriptive"}
"""First letter of a question's type -> what it is about."""


class _NextReply(ExternalRecord):
    prediction: str | None = None


def nextqa(files: OfficialFiles) -> FileScores:
    """`{"VIDEO_QUESTION": {"prediction": index}}` with gold `val.csv`, as `eval_mc.py` takes it."""
    notes: list[str] = []
    bad: list[BadLine] = []
    questions = [
        Question(
            id=f"{row['video']}_{row['qid']}",
            video=row["video"],
            answer=row["answer"],
            num_choices=sum(f"a{place}" in row for place in range(10)),
            group="TN" if row["type"] == "TP" else row["type"],
        )
        for _, row in csv_table.rows(files.the_gold(), ("video", "qid", "type", "answer"), bad)
    ]
    notes += [f"{files.the_gold().name}:{line} is left out: {reason}" for line, reason in bad]
    replies: dict[str, QuestionReply] = {}
    for key, entry in read_keyed(files.predictions).items():
        row = validate_record(entry, _NextReply, f"{files.predictions.name} {key}", notes)
        replies[key] = QuestionReply(answer=row.prediction if row else None)
    measures = {"Acc": QuestionMetric(is_correct, ("answer",))}
    for letter, about in NEXT_QA_TYPES.items():
        measures[f"Acc_{letter} ({about})"] = QuestionMetric(partial(_right_of_type, letter=letter), ("answer",))
    about = "official: questions of type TP count as TN; a question without a prediction counts 0"
    return score_questions(
        "nextqa", QuestionRecords(questions, replies, notes), [QuestionPreset(about=about, measures=measures)]
    )


def _right_of_type(question: Question, reply: QuestionReply, *, letter: str) -> float | None:
    return is_correct(question, reply) if (question.group or "").startswith(letter) else None


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


def activitynet_qa(files: OfficialFiles) -> FileScores:
    """`[{question_id, answer}]` with gold `val_a.json`, by exact match, as `eval.py` takes it."""
    notes: list[str] = []
    gold = [row for row in read_records(files.the_gold(), _OpenGold, notes) if 0 <= row.type < len(ACTIVITYNET_TYPES)]
    questions = [
        Question(
            id=row.question_id,
            video=row.question_id.rpartition("_")[0],
            answer=row.answer,
            group=ACTIVITYNET_TYPES[row.type],
        )
        for row in gold
    ]
    rows = read_records(files.predictions, _OpenPrediction, notes)
    replies = index_replies(((row.question_id, QuestionReply(answer=row.answer)) for row in rows), notes)
    measures = {"All": QuestionMetric(is_correct, ("answer",))}
    conventions = [
        QuestionPreset(
            about="official: exact match; its Free is over the number of questions of the types that come fourth "
            "and later in the file, whichever they are",
            measures=measures,
            numbers=_free_as_shipped,
        ),
        QuestionPreset(
            name=STRICT, about="strict: exact match; Free is over all free questions", measures=measures, numbers=_free
        ),
    ]
    return score_questions("activitynet-qa", QuestionRecords(questions, replies, notes), conventions)


def _free(rows: Sequence[ScoredQuestion]) -> dict[str, float | None]:
    values = [row.cells["All"].value or 0.0 for row in rows if (row.group or "").startswith("Free")]
    return {"Free": sum(values) / len(values) if values else None}


def _free_as_shipped(rows: Sequence[ScoredQuestion]) -> dict[str, float | None]:
    hits = sum(row.cells["All"].value or 0.0 for row in rows if (row.group or "").startswith("Free"))
    counts: dict[str | None, int] = {}
    for row in rows:
        counts[row.group] = counts.get(row.group, 0) + 1
    total = sum(list(counts.values())[NUM_CLOSED:])
    return {"Free": hits / total if total else None}


# ST-Evidence, multiple choice

TASKS = {
    "qa": ("answer", "gt_answer"),
    "temporal": ("evidence_t", "gt_evidence_t"),
    "spatial": ("evidence_s", "gt_evidence_s"),
}
"""Task -> (field of the choice, field of gold) in a results file."""
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
    """The results of `{entry_id: {answer, gt_answer, evidence_t, ...}}`, gold in the same file.

    Official: accuracy and coverage per task over the entries whose gold is given, and one pooled accuracy. Strict
    adds what is right in all three; a choice that could not be read counts 0 in both.
    """
    notes: list[str] = []
    entries: dict[str, _McqEntry] = {}
    for key, value in read_keyed(files.predictions).items():
        entry = validate_record(value, _McqEntry, f"{files.predictions.name} {key}", notes)
        if entry is not None:
            entries[key] = entry
    notes.append("entries that were never processed are not in this file, and no score of it can count them")
    tables = [
        _mcq_rows(entries, "predictions", OFFICIAL, _official_cells, _pooled),
        _mcq_rows(entries, "predictions", STRICT, _strict_cells, None),
        _mcq_rows(entries, "chance", STRICT, _chance_cells, None),
    ]
    conventions = {
        OFFICIAL: "official: per task over entries with gold; overall is pooled over the tasks",
        STRICT: "strict: as official, with all three right over the entries that have gold for all three",
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


def _given(text: str | None) -> str | None:
    return None if text is None or text.strip() in {"", "None"} else text


def _choice(entry: _McqEntry, task: str) -> tuple[str | None, str | None]:
    """What was chosen, and the right one."""
    ours, theirs = TASKS[task]
    return _given(getattr(entry, ours)), _given(getattr(entry, theirs))


def _official_cells(entry: _McqEntry) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for task in TASKS:
        ours, theirs = _choice(entry, task)
        state: State = "unparsed" if ours is None else "scored"
        cells[f"{task} accuracy"] = Cell(None) if theirs is None else Cell(float(ours == theirs), state)
        cells[f"{task} coverage"] = Cell(None if theirs is None else float(ours is not None))
    return cells


def _strict_cells(entry: _McqEntry) -> dict[str, Cell]:
    cells = _official_cells(entry)
    accuracies = [cells[f"{task} accuracy"] for task in TASKS]
    state: State = "unparsed" if any(cell.state == "unparsed" for cell in accuracies) else "scored"
    known = [cell.value for cell in accuracies if cell.value is not None]
    cells["all three right"] = Cell(float(all(known)), state) if len(known) == len(TASKS) else Cell(None)
    return cells


def _chance_cells(entry: _McqEntry) -> dict[str, Cell]:
    chances = {task: None if _choice(entry, task)[1] is None else 1 / number for task, number in NUM_OPTIONS.items()}
    cells = {f"{task} accuracy": Cell(chance) for task, chance in chances.items()}
    known = [chance for chance in chances.values() if chance is not None]
    cells["all three right"] = Cell(known[0] * known[1] * known[2]) if len(known) == len(TASKS) else Cell(None)
    return cells


def _pooled(rows: Sequence[ScoredQuestion]) -> dict[str, float | None]:
    values = [cell.value for row in rows for task in TASKS if (cell := row.cells[f"{task} accuracy"]).value is not None]
    return {"overall accuracy": sum(value or 0.0 for value in values) / len(values) if values else None}
