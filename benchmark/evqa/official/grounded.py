"""Answers with evidence in time: NExT-GQA, ReXTime, CG-Bench."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import Field

from evqa.metrics.grounded_qa import mean_exceeded, mean_reached, recovery
from evqa.metrics.means import State, mean_of
from evqa.metrics.published import AP_THRESHOLDS
from evqa.metrics.temporal import first_to_best, hull_iop, hull_iou, tiou
from evqa.official.questions import (
    Question,
    QuestionMetric,
    QuestionPreset,
    QuestionRecords,
    QuestionReply,
    at_least,
    index_replies,
    product,
    score_questions,
    windows_of,
)
from evqa.official.records import ExternalRecord, Window, read_keyed, read_records, validate_record
from evqa.official.scores import STRICT, FileScores, OfficialFiles, ScoredQuestion
from evqa.schema import Span

first_iou, first_iop = first_to_best(hull_iou), first_to_best(hull_iop)
MISSING: frozenset[State] = frozenset({"missing"})
NOTHING: frozenset[State] = frozenset()


def is_correct(question: Question, reply: QuestionReply) -> float:
    """1 if the answer is the right one."""
    return float(reply.answer is not None and reply.answer == question.answer)


def iou(question: Question, reply: QuestionReply) -> float:
    """IoU of the first window with the gold window that suits it best."""
    return first_iou(reply.spans, question.windows)


def set_iou(question: Question, reply: QuestionReply) -> float:
    """IoU of the merged sets of windows; 0 where one side is empty."""
    return tiou(reply.spans, question.windows) if reply.windows and question.windows else 0.0


# NExT-GQA


class _GqaVideo(ExternalRecord):
    duration: float = Field(gt=0)
    location: dict[str, tuple[tuple[float, float], ...]]


class _Span(ExternalRecord):
    ends: tuple[float, float]


class _Choice(ExternalRecord):
    prediction: str | None
    answer: str


def nextgqa(files: OfficialFiles) -> FileScores:
    """`{"VIDEO_QUESTION": [start, end]}` with gold `gsub_*.json`; a third file of answers for QA."""
    notes: list[str] = []
    choices = {} if files.extra is None else _choices(files, notes)
    questions = list(_gqa_questions(files, choices, notes))
    replies = dict(_gqa_replies(files, choices, notes))
    measures = {
        convention: _gqa_measures(drops, with_answers=bool(choices))
        for convention, drops in {"official": MISSING, STRICT: NOTHING}.items()
    }
    conventions = [
        QuestionPreset(
            about="official: best gold segment, hull as union, thresholds by >=; a question without a prediction "
            "leaves the mean",
            measures=measures["official"],
        ),
        QuestionPreset(
            name=STRICT,
            about="strict: as official, but a question without a prediction counts 0",
            measures=measures[STRICT],
        ),
    ]
    return score_questions("nextgqa", QuestionRecords(questions, replies, notes), conventions)


def _choices(files: OfficialFiles, notes: list[str]) -> dict[str, _Choice]:
    assert files.extra is not None
    found = {
        key: validate_record(entry, _Choice, f"{files.extra.name} {key}", notes)
        for key, entry in read_keyed(files.extra).items()
    }
    return {key: choice for key, choice in found.items() if choice is not None}


def _gqa_questions(files: OfficialFiles, choices: Mapping[str, _Choice], notes: list[str]) -> list[Question]:
    questions: list[Question] = []
    for video, entry in read_keyed(files.the_gold()).items():
        gold = validate_record(entry, _GqaVideo, f"{files.the_gold().name} {video}", notes)
        for number, segments in gold.location.items() if gold else ():
            key = f"{video}_{number}"
            windows = tuple(Span(*segment) for segment in segments)
            answer = choices[key].answer if key in choices else None
            questions.append(
                Question(
                    id=key,
                    video=video,
                    windows=windows,
                    duration=gold.duration if gold else None,
                    answer=answer,
                    num_choices=5,
                )
            )
    return questions


def _gqa_replies(
    files: OfficialFiles, choices: Mapping[str, _Choice], notes: list[str]
) -> list[tuple[str, QuestionReply]]:
    replies: list[tuple[str, QuestionReply]] = []
    for key, entry in read_keyed(files.predictions).items():
        span = validate_record({"ends": entry}, _Span, f"{files.predictions.name} {key}", notes)
        answer = choices[key].prediction if key in choices else None
        replies.append((key, QuestionReply(windows=None if span is None else windows_of([span.ends]), answer=answer)))
    return replies


def _gqa_measures(drops: frozenset[State], *, with_answers: bool) -> dict[str, QuestionMetric]:
    def iop(question: Question, reply: QuestionReply) -> float:
        return first_iop(reply.spans, question.windows)

    measures = {
        "mIoP": QuestionMetric(iop, ("windows",), drops),
        "IoP@0.3": QuestionMetric(at_least(iop, 0.3), ("windows",), drops),
        "IoP@0.5": QuestionMetric(at_least(iop, 0.5), ("windows",), drops),
        "mIoU": QuestionMetric(iou, ("windows",), drops),
        "IoU@0.3": QuestionMetric(at_least(iou, 0.3), ("windows",), drops),
        "IoU@0.5": QuestionMetric(at_least(iou, 0.5), ("windows",), drops),
    }
    if with_answers:
        measures["Acc@GQA"] = QuestionMetric(product(is_correct, at_least(iop, 0.5)), ("windows", "answer"), drops)
        measures["Acc@QA"] = QuestionMetric(is_correct, ("answer",), drops)
    return measures


# ReXTime


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


def rextime(files: OfficialFiles) -> FileScores:
    """`{qid, pred_relevant_windows, ans}` a line, as `rextime_eval.py` takes it."""
    notes: list[str] = []
    questions = [
        Question(
            id=row.qid,
            video=row.vid,
            windows=tuple(Span(*window) for window in row.relevant_windows),
            duration=row.duration,
            answer=row.ans,
            num_choices=4,
        )
        for row in read_records(files.the_gold(), _RexGold, notes)
    ]
    replies = index_replies(
        (
            (
                row.qid,
                QuestionReply(
                    windows=None if row.pred_relevant_windows is None else windows_of(row.pred_relevant_windows),
                    answer=row.ans,
                ),
            )
            for row in read_records(files.predictions, _RexPrediction, notes)
        ),
        notes,
    )
    measures = {
        "VQA": QuestionMetric(is_correct, ("answer",)),
        "MR-full-mIoU": QuestionMetric(iou, ("windows",)),
        **{
            f"MR-full-R1@{t}": QuestionMetric(at_least(iou, t), ("windows",))
            for t in (0.3, 0.35, 0.4, 0.45, *AP_THRESHOLDS)
        },
        **{
            f"VQA,mIoU@{t}": QuestionMetric(product(is_correct, at_least(iou, t)), ("answer", "windows"))
            for t in (0.3, 0.5, 0.7)
        },
    }
    about = "official: best gold window, hull as union, thresholds by >="
    return score_questions(
        "rextime", QuestionRecords(questions, replies, notes), [QuestionPreset(about=about, measures=measures)]
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


def cg_bench(files: OfficialFiles) -> FileScores:
    """`{qid, intervals, answer}` a line or in a list, with `cgbench_mini.json`; `clue_answer` adds CRR."""
    notes: list[str] = []
    questions = [_cg_question(row) for row in read_records(files.the_gold(), _CgGold, notes)]
    rows = read_records(files.predictions, _CgPrediction, notes)
    replies = index_replies(((row.qid, _cg_reply(row)) for row in rows), notes)
    has_clues = any(row.clue_answer for row in rows)
    conventions = [
        QuestionPreset(
            about="official: merged sets of intervals, thresholds by >=",
            measures=_cg_measures(mean_reached, has_clues=has_clues),
            numbers=_recovery if has_clues else None,
        ),
        QuestionPreset(
            name="VLMEvalKit",
            about="VLMEvalKit: thresholds by >",
            measures=_cg_measures(mean_exceeded, has_clues=has_clues),
            numbers=_recovery if has_clues else None,
        ),
    ]
    return score_questions("cg-bench", QuestionRecords(questions, replies, notes), conventions)


def _cg_question(row: _CgGold) -> Question:
    return Question(
        id=row.qid,
        video=row.video_uid,
        windows=tuple(Span(*interval) for interval in row.clue_intervals),
        duration=row.duration,
        answer=row.right_answer,
        num_choices=row.n_choices or len(row.choices),
        group=row.sub_category,
    )


def _cg_reply(row: _CgPrediction) -> QuestionReply:
    windows = None if row.intervals is None else windows_of(row.intervals)
    return QuestionReply(windows=windows, answer=row.answer or None, clue_answer=row.clue_answer or None)


def _cg_measures(share: Callable[[float], float], *, has_clues: bool) -> dict[str, QuestionMetric]:
    def recalled(question: Question, reply: QuestionReply) -> float:
        return share(set_iou(question, reply))

    measures = {
        "long_acc": QuestionMetric(is_correct, ("answer",)),
        "mIoU": QuestionMetric(set_iou, ("windows",)),
        "rec@IoU": QuestionMetric(recalled, ("windows",)),
        "acc@IoU": QuestionMetric(product(is_correct, recalled), ("answer", "windows")),
    }
    if has_clues:
        measures["clue_acc"] = QuestionMetric(_right_on_clues, ("clue_answer",))
    return measures


def _right_on_clues(question: Question, reply: QuestionReply) -> float:
    return float(reply.clue_answer == question.answer)


def _recovery(rows: Sequence[ScoredQuestion]) -> dict[str, float | None]:
    """CRR of the accuracies on whole videos and on the clues alone."""
    long, clue = (
        mean_of([(row.video, row.cells[title]) for row in rows]).mean if rows else None
        for title in ("long_acc", "clue_acc")
    )
    return {"CRR": None if long is None or clue is None else recovery(long, clue)}
