"""Moment retrieval: QVHighlights, Ego4D's natural language queries, Charades-STA."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from pydantic import Field

from evqa.metrics import ranked
from evqa.metrics.published import AP_THRESHOLDS, MAX_WINDOWS
from evqa.metrics.temporal import first_to_best, hull_iou, signed_iou
from evqa.official.questions import (
    Question,
    QuestionMetric,
    QuestionPreset,
    QuestionRecords,
    QuestionReply,
    index_replies,
    score_questions,
    windows_of,
)
from evqa.official.records import (
    ExternalRecord,
    Window,
    read_keyed,
    read_records,
    read_text,
    read_under,
    validate_record,
)
from evqa.official.scores import FileScores, OfficialFiles
from evqa.schema import Span

first_iou = first_to_best(hull_iou)


def _iou(question: Question, reply: QuestionReply) -> float:
    """IoU of the first window with the gold window that suits it best."""
    return first_iou(reply.spans, question.windows)


# QVHighlights

RANGES = {"full": (0.0, 150.0), "short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0)}
"""Name -> (above, up to) the seconds of a gold window."""
HIGHLIGHTS = {"Fair": 2, "Good": 3, "VeryGood": 4}
"""Name -> the least score that makes a clip a highlight."""
CLIP_SECONDS = 2


class _QvhGold(ExternalRecord):
    qid: str
    vid: str
    duration: float = Field(gt=0)
    relevant_windows: tuple[tuple[float, float], ...]
    relevant_clip_ids: tuple[int, ...] = ()
    saliency_scores: tuple[tuple[float, ...], ...] = ()


class _QvhPrediction(ExternalRecord):
    qid: str
    pred_relevant_windows: tuple[Window, ...] | None = None
    pred_saliency_scores: tuple[float, ...] | None = None


def qvhighlights(files: OfficialFiles) -> FileScores:
    """`{qid, pred_relevant_windows, pred_saliency_scores}` a line, as `standalone_eval` of moment_detr prints it."""
    notes: list[str] = []
    questions = [_qvh_question(row) for row in read_records(files.the_gold(), _QvhGold, notes)]
    rows = read_records(files.predictions, _QvhPrediction, notes)
    reversed_ones = sum(window[0] > window[1] for row in rows for window in row.pred_relevant_windows or ())
    if reversed_ones:
        notes.append(f"{reversed_ones} predicted windows end before they start; see the convention")
    records = QuestionRecords(questions, index_replies(((row.qid, _qvh_reply(row)) for row in rows), notes), notes)
    about = (
        "official: IoU with the hull as union, thresholds by >=; a query without a prediction counts 0; in AP a window "
        "that ends before it starts has a length below 0, and one as long as a gold window is a hit (0/0 is not below "
        "the threshold)"
    )
    return score_questions("qvhighlights", records, [QuestionPreset(about=about, measures=_qvh_measures(questions))])


def _qvh_question(row: _QvhGold) -> Question:
    clips = [(0.0, 0.0, 0.0)] * int(row.duration / CLIP_SECONDS)
    for clip, scores in zip(row.relevant_clip_ids, row.saliency_scores, strict=False):
        if 0 <= clip < len(clips) and len(scores) == 3:
            clips[clip] = (scores[0], scores[1], scores[2])
    windows = tuple(Span(*window) for window in row.relevant_windows)
    return Question(id=row.qid, video=row.vid, windows=windows, duration=row.duration, saliency=tuple(clips))


def _qvh_reply(row: _QvhPrediction) -> QuestionReply:
    windows = None if row.pred_relevant_windows is None else windows_of(row.pred_relevant_windows[:MAX_WINDOWS])
    return QuestionReply(windows=windows, scores=row.pred_saliency_scores)


def _qvh_measures(questions: list[Question]) -> dict[str, QuestionMetric]:
    """The rows of the official summary."""
    measures: dict[str, QuestionMetric] = {}
    for name, bounds in RANGES.items():
        measures[f"MR-{name}-mAP"] = QuestionMetric(
            partial(_mean_ap, bounds=bounds, thresholds=AP_THRESHOLDS), ("windows",)
        )
    for threshold in (0.5, 0.75):
        at = partial(_mean_ap, bounds=RANGES["full"], thresholds=(threshold,))
        measures[f"MR-full-mAP@{threshold}"] = QuestionMetric(at, ("windows",))
    for threshold in (0.5, 0.7):
        measures[f"MR-full-R1@{threshold}"] = QuestionMetric(partial(_hit_first, threshold=threshold), ("windows",))
    if any(any(map(any, question.saliency)) for question in questions):
        for name, least in HIGHLIGHTS.items():
            measures[f"HL-min-{name}-mAP"] = QuestionMetric(partial(_highlight_ap, least=least), ("scores",))
            measures[f"HL-min-{name}-Hit1"] = QuestionMetric(partial(_highlight_hit, least=least), ("scores",))
    return measures


def _mean_ap(
    question: Question, reply: QuestionReply, *, bounds: tuple[float, float], thresholds: tuple[float, ...]
) -> float | None:
    """Mean AP on the gold windows of some length; None where the query has none of it."""
    gold = (
        tuple(window for window in question.windows if bounds[0] < window.end - window.start <= bounds[1])
        if bounds != RANGES["full"]
        else question.windows
    )
    return ranked.mean_average_precision(reply.windows or (), gold, thresholds, signed_iou) if gold else None


def _hit_first(question: Question, reply: QuestionReply, *, threshold: float) -> float:
    if not (reply.spans and question.windows):
        return 0.0
    first = reply.spans[0]
    ious = [signed_iou(first, window) for window in question.windows]
    best = max(range(len(ious)), key=lambda place: (math.isnan(ious[place]), ious[place], -place))
    return float(hull_iou(first, question.windows[best]) >= threshold)


def _highlight_ap(question: Question, reply: QuestionReply, *, least: int) -> float:
    """Mean over the three annotators."""
    columns = list(zip(*question.saliency, strict=True))
    return sum(ranked.highlight_ap(reply.scores or (), [score >= least for score in column]) for column in columns) / 3


def _highlight_hit(question: Question, reply: QuestionReply, *, least: int) -> float:
    """Whether the clip with the highest score is a highlight to one of the annotators."""
    return ranked.highlight_hit(reply.scores or (), [max(scores) >= least for scores in question.saliency])


# Ego4D


class _Query(ExternalRecord):
    clip_start_sec: float
    clip_end_sec: float
    video_start_sec: float | None = None
    video_end_sec: float | None = None
    template: str | None = None


class _Annotation(ExternalRecord):
    annotation_uid: str
    language_queries: tuple[_Query, ...]


class _Clip(ExternalRecord):
    clip_uid: str
    clip_start_sec: float = 0.0
    clip_end_sec: float | None = None
    annotations: tuple[_Annotation, ...]


class _EgoVideo(ExternalRecord):
    video_uid: str
    clips: tuple[_Clip, ...]


class _NlqPrediction(ExternalRecord):
    clip_uid: str
    annotation_uid: str
    query_idx: int
    predicted_times: tuple[Window, ...]


def ego4d_nlq(files: OfficialFiles) -> FileScores:
    """The challenge's `{"results": [{clip_uid, annotation_uid, query_idx, predicted_times}]}`, on the clip's clock."""
    notes: list[str] = []
    gold = list(_nlq_gold(files, notes))
    found = (
        validate_record(entry, _NlqPrediction, f"{files.predictions.name} result {place}", notes)
        for place, entry in enumerate(read_under(files.predictions, "results"))
    )
    replies = index_replies(
        (
            (
                _nlq_id(row.clip_uid, row.annotation_uid, row.query_idx),
                QuestionReply(windows=windows_of(row.predicted_times)),
            )
            for row in found
            if row is not None
        ),
        notes,
    )
    _note_wrong_clock(gold, replies, notes)
    measures = {
        f"R{k}@{threshold}": QuestionMetric(_nlq_hit(k, threshold), ("windows",))
        for k in (1, 5)
        for threshold in (0.3, 0.5)
    }
    measures["mIoU"] = QuestionMetric(_iou, ("windows",))
    about = "official: IoU with the hull as union, thresholds by >; mIoU is of the first window"
    records = QuestionRecords([question for question, _ in gold], replies, notes)
    return score_questions("ego4d-nlq", records, [QuestionPreset(about=about, measures=measures)])


def _nlq_hit(k: int, threshold: float) -> Callable[[Question, QuestionReply], float]:
    return lambda question, reply: ranked.hit_above(reply.spans, question.windows, k=k, threshold=threshold)


def _nlq_gold(files: OfficialFiles, notes: list[str]) -> Iterator[tuple[Question, Span | None]]:
    """Each query, and its window on the clock of the whole video."""
    path = files.the_gold()
    for place, entry in enumerate(read_under(path, "videos")):
        video = validate_record(entry, _EgoVideo, f"{path.name} video {place}", notes)
        for clip in video.clips if video else ():
            for annotation in clip.annotations:
                for index, query in enumerate(annotation.language_queries):
                    yield _nlq_question(cast("_EgoVideo", video), clip, annotation, index, query)


def _nlq_question(
    video: _EgoVideo, clip: _Clip, annotation: _Annotation, index: int, query: _Query
) -> tuple[Question, Span | None]:
    question = Question(
        id=_nlq_id(clip.clip_uid, annotation.annotation_uid, index),
        video=video.video_uid,
        windows=(Span(query.clip_start_sec, query.clip_end_sec),),
        duration=None if clip.clip_end_sec is None else clip.clip_end_sec - clip.clip_start_sec,
        group=query.template,
    )
    if query.video_start_sec is None or query.video_end_sec is None:
        return question, None
    return question, Span(query.video_start_sec, query.video_end_sec)


def _nlq_id(clip: str, annotation: str, index: int) -> str:
    return f"{clip}/{annotation}/{index}"


def _note_wrong_clock(
    gold: list[tuple[Question, Span | None]], replies: dict[str, QuestionReply], notes: list[str]
) -> None:
    """A note where the predictions fit the clock of the whole video better than that of the clip."""
    by_clip = by_video = 0.0
    for question, on_video in gold:
        spans = replies.get(question.id, QuestionReply()).spans[:1]
        by_clip += first_iou(spans, question.windows)
        by_video += 0.0 if on_video is None else first_iou(spans, (on_video,))
    if by_video > by_clip:
        notes.append(
            f"the predictions seem to be on the clock of the whole video (mean IoU {by_video / len(gold):.3f}) rather "
            f"than on that of the clip ({by_clip / len(gold):.3f}), which is scored: subtract each clip's start"
        )


# Charades-STA

_CHARADES = re.compile(r"(\S+) (\S+) (\S+)##(.*)")


def charades_sta(files: OfficialFiles) -> FileScores:
    """`VIDEO START END##SENTENCE` a line, as the gold file; a third file of `{video: seconds}` adds the baselines."""
    notes: list[str] = []
    durations = {} if files.extra is None else _durations(files)
    questions = [
        Question(id=key, video=video, windows=(span,), duration=durations.get(video))
        for key, video, span in _charades_lines(files.the_gold().name, read_text(files.the_gold()), notes)
    ]
    late = sum(question.windows[0].end > (question.duration or question.windows[0].end) for question in questions)
    if late:
        notes.append(f"{late} of {len(questions)} gold windows end beyond their video")
    lines = _charades_lines(files.predictions.name, read_text(files.predictions), notes)
    replies = index_replies(
        ((key, QuestionReply(windows=ranked.in_given_order((span,)))) for key, _, span in lines), notes
    )
    conventions = [
        QuestionPreset(about="official: thresholds by >=", measures=_charades_measures(ranked.hit_at)),
        QuestionPreset(
            name="strict >",
            about="strict >: thresholds by >, as 2D-TAN's",
            measures=_charades_measures(ranked.hit_above),
        ),
    ]
    return score_questions("charades-sta", QuestionRecords(questions, replies, notes), conventions)


def _charades_measures(hit: Callable[..., float]) -> dict[str, QuestionMetric]:
    def at(threshold: float) -> QuestionMetric:
        def value(question: Question, reply: QuestionReply) -> float:
            return hit(reply.spans, question.windows, k=1, threshold=threshold)

        return QuestionMetric(value, ("windows",))

    return {f"R1@{threshold}": at(threshold) for threshold in (0.3, 0.5, 0.7)} | {
        "mIoU": QuestionMetric(_iou, ("windows",))
    }


def _charades_lines(name: str, text: str, notes: list[str]) -> Iterator[tuple[str, str, Span]]:
    """(id, video, window) of each line; a sentence that a video has several times is told apart by its turn."""
    turns: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        match = _CHARADES.fullmatch(line.strip())
        span = None if match is None else _charades_span(match[2], match[3])
        if match is None or span is None:
            notes.append(f"{name}:{number} is left out: expected VIDEO START END##SENTENCE, got {line[:80]!r}")
            continue
        key = f"{match[1]}##{match[4]}"
        turns[key] += 1
        yield f"{key}#{turns[key]}", match[1], span


def _charades_span(start: str, end: str) -> Span | None:
    try:
        span = Span(float(start), float(end))
    except ValueError:
        return None
    return span if all(abs(value) < float("inf") for value in span) else None


def _durations(files: OfficialFiles) -> dict[str, float]:
    assert files.extra is not None
    entries = read_keyed(files.extra)
    if not all(isinstance(value, int | float) and value > 0 for value in entries.values()):
        raise ValueError(f"{files.extra} is no object of video -> seconds")
    return {video: float(cast("float", value)) for video, value in entries.items()}
