"""Localisation in long videos: how much of the evidence is covered, and with how much of the video.

Coverage alone is gameable: the whole video covers everything. It is therefore reported with the predicted length, and
at budgets: a prediction that is longer than the budget covers nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from evqa.metrics import temporal
from evqa.metrics.case import Case
from evqa.metrics.means import UnrecordedValueError
from evqa.parsing.segments import read_segments, read_verdicts
from evqa.schema import Span, Spans

BUDGETS = (0.05, 0.1, 0.2)
"""Parts of the video that a prediction may cover."""


def contains(predicted: Spans, gold: Spans) -> float:
    """1 if one predicted span contains a whole ground truth span, else 0 (containment of the published pipeline)."""
    return float(any(span.start <= goal.start and goal.end <= span.end for span in predicted for goal in gold))


def coverage(predicted: Spans, gold: Spans) -> float:
    """Share of the ground truth seconds that are predicted. A ground truth of one moment: 1 if it is in a span."""
    seconds = temporal.length(gold)
    if seconds > 0:
        return min(1.0, temporal.overlap(predicted, gold) / seconds)
    return contains(predicted, gold)


def predicted_seconds(case: Case) -> float:
    """Seconds that the predicted spans cover together."""
    return temporal.length(_within(case.predicted_spans, case.sample.duration))


def predicted_share(case: Case) -> float | None:
    """Part of the video that the predicted spans cover; None where the length of the video is not stated."""
    duration = case.sample.duration
    return None if duration is None else predicted_seconds(case) / duration


def coverage_within(budget: float) -> Callable[[Case], float | None]:
    """Coverage of predictions that cover at most a part of the video, 0 for longer ones; None as `predicted_share`."""

    def value(case: Case) -> float | None:
        share = predicted_share(case)
        if share is None:
            return None
        return coverage(case.predicted_spans, case.gold_spans) if share <= budget + 1e-9 else 0.0

    return value


def _within(spans: Spans, duration: float | None) -> Spans:
    """Spans without what lies beyond the video."""
    if duration is None:
        return spans
    return tuple(Span(span.start, min(span.end, duration)) for span in spans if span.start <= duration)


# Upper bound over the sampled replies

EVIDENCE_STAGES = ("selection", "relevance", "baseline")
"""Roles of the turns whose replies list the segments of a question, see `evqa.stages.styles`."""


def best_reply_iou(case: Case) -> float:
    """IoU of the best segment of the best reply, chosen by the ground truth.

    The k replies are all that list segments: the samples of a stage, and those of searches inside a segment.

    Raises:
        UnrecordedValueError: the record has no such reply, as that of another method.
    """
    if case.record is None:
        return 0.0
    texts = [turn.reply for turn in case.record.turns if turn.agent in EVIDENCE_STAGES]
    if not texts and case.record.status == "ok":
        raise UnrecordedValueError
    spans = [span for text in texts for span in _segments(text, case.sample.duration)]
    return max((temporal.hull_iou(span, gold) for span in spans for gold in case.gold_spans), default=0.0)


def _segments(text: str, duration: float | None) -> Spans:
    verdicts = read_verdicts(text)
    if any(verdict.relevant is not None for verdict in verdicts):
        return tuple(verdict.span for verdict in verdicts if verdict.relevant)
    return read_segments(text, duration).spans or ()
