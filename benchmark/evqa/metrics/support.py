"""Support of answers: whether what a model inspected and what it cites is the evidence, and what an answer costs.

Functions of a `Case` that read its record (see `episode` for what counts as inspected). Evidence is seen where
something inspected lies in at least one ground truth span: with a single span as the criterion, "unsupported" means
that the model has inspected no moment of the evidence. Samples whose ground truth states that there is no evidence,
`()`, have nothing to see and are left out. A prediction that is missing or failed is wrong and has seen nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from evqa.metrics import episode
from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case, field_of, prediction_has
from evqa.metrics.episode import Step
from evqa.metrics.means import UnrecordedValueError
from evqa.metrics.open_answers import match_accuracy
from evqa.metrics.temporal import tiop
from evqa.schema import MAIN_AGENT, Prediction


class UntracedError(UnrecordedValueError):
    """A record does not state what the model inspected, or when that was."""


# Answers


def correctness(case: Case) -> float:
    """1 if the chosen option is right, or the answer to an open question is by normalised match, else 0."""
    return accuracy(case) if field_of(case.sample, "any_answer") == "answer" else match_accuracy(case)


def is_answered(case: Case) -> float:
    """1 if an answer could be read, whether right or wrong; 0 of a prediction that is missing or failed."""
    return float(prediction_has(case.prediction, field_of(case.sample, "any_answer")))


def is_failed(case: Case) -> float:
    """1 if the prediction is missing or failed, else 0."""
    return float(case.record is None or case.record.status == "failed")


# Evidence


def sight(case: Case) -> Step | None:
    """The reply before which evidence was first inspected; None = never, or the prediction is missing or failed.

    Raises:
        UntracedError: the record does not state what was inspected.
    """
    record = _trace_of(case)
    with _known_times(case):
        return None if record is None else episode.first_sight(record, case.gold_spans)


def is_evidence_seen(case: Case) -> float | None:
    """1 if something inspected lies in at least one gold span; None without any gold span."""
    return float(sight(case) is not None) if case.gold_spans else None


def is_all_evidence_seen(case: Case) -> float | None:
    """1 if something inspected lies in each gold span; None without any gold span."""
    return None if (share := share_of_spans_seen(case)) is None else float(share == 1)


def is_evidence_in_frames(case: Case) -> float | None:
    """1 if an inspected frame lies in at least one gold span, whatever segments were read; None without a gold span."""
    if not case.gold_spans:
        return None
    record = _trace_of(case)
    with _known_times(case):
        return float(record is not None and episode.is_any_frame_in(record, case.gold_spans))


def share_of_spans_seen(case: Case) -> float | None:
    """Share of the merged gold spans in which something was inspected; None without any gold span."""
    if not case.gold_spans:
        return None
    record = _trace_of(case)
    with _known_times(case):
        return 0.0 if record is None else episode.share_of_spans(record, case.gold_spans)


def coverage(case: Case) -> float:
    """Share of the gold seconds that the cited spans cover; without duration: 1 if the sets are equal, else 0."""
    return tiop(case.gold_spans, case.predicted_spans)


def support(*, is_right: bool, is_seen: bool) -> Callable[[Case], float | None]:
    """Cell of the table of right answers by evidence seen: 1 for a sample of the cell, else 0."""

    def value(case: Case) -> float | None:
        evidence = is_evidence_seen(case)
        return None if evidence is None else float((correctness(case) == 1) == is_right and (evidence == 1) == is_seen)

    return value


def blind_accuracy(case: Case) -> float:
    """1 if the answer is right although nothing at all was inspected, else 0."""
    record = _trace_of(case)
    is_blind = record is not None and not any(step.new_frames or step.new_spans for step in episode.steps(record))
    return correctness(case) * is_blind


def _trace_of(case: Case) -> Prediction | None:
    """The record with what the model inspected; None = it inspected nothing that counts: missing or failed."""
    record = case.record
    if record is None or record.status == "failed":
        return None
    if not episode.is_traced(record):
        raise UntracedError
    return record


@contextmanager
def _known_times(case: Case) -> Generator[None]:
    """Frames without seconds as an `UntracedError`."""
    try:
        yield
    except UntracedError:
        raise
    except ValueError as error:
        raise UntracedError(f"{case.sample.id}: {error}") from error


# Costs


def num_turns(case: Case) -> float:
    """Number of replies of the main model."""
    return sum(turn.agent == MAIN_AGENT for turn in _record(case).turns)


def num_calls(case: Case) -> float:
    """Number of tool calls, valid or not, without submissions of the answer."""
    return sum(len(episode.evidence_calls(turn)) for turn in _traced(case).turns)


def num_invalid_calls(case: Case) -> float:
    """Number of tool calls that were invalid or refused, without submissions."""
    turns = _traced(case).turns
    return sum(len(episode.invalid_calls(turn) & {call.id for call in episode.evidence_calls(turn)}) for turn in turns)


def num_frames(case: Case) -> float:
    """Number of distinct frames that were inspected."""
    last = episode.last_step(_traced(case))
    return last.frames if last else 0


def num_returned_frames(case: Case) -> float:
    """Number of frames that tools returned, repeated ones included."""
    return episode.num_returned_frames(_traced(case))


def num_images(case: Case) -> float:
    """Number of images in prompts; an image counts once, where it enters the conversation."""
    return episode.num_images(_traced(case))


def num_tokens(*, of_prompts: bool = True, of_replies: bool = True) -> Callable[[Case], float]:
    """Tokens of all prompts, replies, or both."""
    return lambda case: _recorded(episode.tokens(_record(case), of_prompts=of_prompts, of_replies=of_replies))


def dollars(case: Case) -> float:
    """Cost of all replies in US dollars."""
    return _recorded(episode.dollars(_record(case)))


def seconds(case: Case) -> float:
    """Wall time of the sample."""
    value = _record(case).seconds
    return _recorded(value if value and episode.is_amount(value) else None)


def _record(case: Case) -> Prediction:
    """The record, of a failed prediction too: what a failure took is spent."""
    if case.record is None or not case.record.turns:
        raise UnrecordedValueError
    return case.record


def _traced(case: Case) -> Prediction:
    record = _record(case)
    if not episode.is_traced(record):
        raise UnrecordedValueError
    return record


def _recorded(value: float | None) -> float:
    if value is None:
        raise UnrecordedValueError
    return value
