"""Episodes: what a record says that a model inspected, before which reply, and at what cost.

Inspected are the frames in prompts (`Turn.frames`), the frames that tools returned (`ToolResult.frames`), and the time
segments of results without frames (`ToolResult.spans`), such as lines of subtitles: segments beside frames state where
these are from, not what was inspected. Frames of a prompt are inspected by the reply of its turn. What a tool returned
is inspected by the next reply, since no earlier reply could use it, so the results of the last turn do not count.
Results of tools that submit an answer or segments (`is_submission`) are citations, not inspections. The role does not
matter: a frame that a second model was asked about counts. A frame is a point in time: it lies in a span that
contains its second, ends included. A segment lies in a span with which it shares time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from evqa.metrics.temporal import merge
from evqa.schema import MAIN_AGENT, FrameRef, Prediction, Span, Spans, ToolCall, ToolResult, Turn, Usage

SUBMISSION = "submit"
"""Prefix of the names of tools that submit an answer or segments, such as `submit` and `submit_segments`."""


class Step(NamedTuple):
    """A reply of an episode, with what was spent on it and what was inspected since the reply before."""

    turn: int
    """Number of the turn of the main model, from 1; replies of other models belong to the turn that called them."""
    calls: int
    """Tool calls before the reply, without submissions."""
    frames: int
    """Distinct frames that were inspected before the reply."""
    new_frames: tuple[FrameRef, ...]
    """Frames inspected since the reply before, in order, repeated ones included."""
    new_spans: Spans
    """Segments inspected since the reply before, in seconds."""


def is_traced(prediction: Prediction) -> bool:
    """Whether a record states what the model inspected.

    An agent's record does (`Prediction.stop`), and one with frames in prompts or with tool calls. Of a model that
    samples the video itself, the frames are unknown.
    """
    return prediction.stop is not None or any(turn.frames or turn.calls or turn.results for turn in prediction.turns)


def steps(prediction: Prediction) -> Iterator[Step]:
    """Yield the replies of an episode in order."""
    number, calls, distinct = 0, 0, set[tuple[int, int]]()
    before: Turn | None = None
    for turn in prediction.turns:
        number += turn.agent == MAIN_AGENT
        results = _evidence_results(before) if before else ()
        frames = (*(frame for result in results for frame in result.frames), *turn.frames)
        distinct.update((frame.video, frame.index) for frame in frames)
        calls += len(evidence_calls(before)) if before else 0
        spans = tuple(span for result in results if not result.frames for span in result.spans)
        yield Step(max(number, 1), calls, len(distinct), frames, spans)
        before = turn


def last_step(prediction: Prediction) -> Step | None:
    """Return the last reply; None without any."""
    last = None
    for step in steps(prediction):
        last = step
    return last


def is_submission(call: ToolCall) -> bool:
    """Whether a call submits an answer or segments, and so is no call for evidence."""
    return call.name.startswith(SUBMISSION)


def evidence_calls(turn: Turn) -> list[ToolCall]:
    """Return the tool calls of a turn without submissions."""
    return [call for call in turn.calls if not is_submission(call)]


def _evidence_results(turn: Turn) -> Sequence[ToolResult]:
    submissions = {call.id for call in turn.calls if is_submission(call)}
    return [result for result in turn.results if result.call not in submissions]


# Support


def first_sight(prediction: Prediction, gold: Spans) -> Step | None:
    """Return the first reply before which something in a gold span was inspected; None = there is none.

    Raises:
        ValueError: a frame has no second, so that nobody knows whether it lies in a span.
    """
    spans = merge(gold)
    return next((step for step in steps(prediction) if any(_is_inspected(span, step) for span in spans)), None)


def share_of_spans(prediction: Prediction, gold: Spans) -> float:
    """Return the share of the merged gold spans, at least one, in which something was inspected. Raises as above."""
    spans, episode = merge(gold), list(steps(prediction))
    return sum(any(_is_inspected(span, step) for step in episode) for span in spans) / len(spans)


def is_any_frame_in(prediction: Prediction, gold: Spans) -> bool:
    """Return whether an inspected frame lies in a gold span; segments do not count. Raises as above."""
    spans = merge(gold)
    return any(_is_frame_in(span, step) for step in steps(prediction) for span in spans)


def _is_inspected(span: Span, step: Step) -> bool:
    return _is_frame_in(span, step) or any(_share_time(span, segment) for segment in step.new_spans)


def _is_frame_in(span: Span, step: Step) -> bool:
    if any(frame.second is None for frame in step.new_frames if frame.video == 0):
        raise ValueError(f"frames of turn {step.turn} have no second")
    frames = (frame.second for frame in step.new_frames if frame.video == 0 and frame.second is not None)
    return any(span.start <= second <= span.end for second in frames)


def _share_time(first: Span, second: Span) -> bool:
    """Whether two segments share more than an end; one without duration is a point, as a frame is."""
    shared = min(first.end, second.end) - max(first.start, second.start)
    has_point = first.start == first.end or second.start == second.end
    return shared > 0 or (has_point and shared == 0)


# Costs


def num_returned_frames(prediction: Prediction) -> int:
    """Return the number of frames that tools returned, repeated ones included."""
    return sum(len(result.frames) for turn in prediction.turns for result in _evidence_results(turn))


def num_images(prediction: Prediction) -> int:
    """Return the number of images in prompts; an image counts where it enters the conversation."""
    return sum(len(turn.frames) for turn in prediction.turns)


def invalid_calls(turn: Turn) -> set[str]:
    """Return the ids of the calls of a turn, submissions included, that were invalid or refused."""
    return {result.call for result in turn.results if not result.ok} & {call.id for call in turn.calls}


MAX_AMOUNT = 1e12
"""Largest number of tokens, dollars or seconds of a record that is believed; records may come from anywhere."""


def is_amount(value: float | None) -> bool:
    """Whether a recorded value is an amount: not missing, negative or absurd."""
    return value is not None and 0 <= value <= MAX_AMOUNT


def tokens(prediction: Prediction, *, of_prompts: bool = True, of_replies: bool = True) -> int | None:
    """Return the tokens of all prompts, replies or both; None = a reply does not state them."""
    total = 0
    for usage in _usages(prediction):
        counts = (usage.input_tokens if of_prompts else 0, usage.output_tokens if of_replies else 0) if usage else None
        if counts is None or not all(is_amount(count) for count in counts):
            return None
        total += sum(count or 0 for count in counts)
    return total


def dollars(prediction: Prediction) -> float | None:
    """Return the cost of all replies in US dollars; None = that of a reply is unknown."""
    costs = [usage.cost if usage else None for usage in _usages(prediction)]
    numbers = [cost for cost in costs if cost is not None and is_amount(cost)]
    return sum(numbers) if len(numbers) == len(costs) else None


def _usages(prediction: Prediction) -> list[Usage | None]:
    """Usage of each reply; None = it is unknown, in part at least."""
    return [turn.usage if turn.usage and not turn.usage.num_unknown else None for turn in prediction.turns]
