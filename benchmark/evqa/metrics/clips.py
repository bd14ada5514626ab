"""Metrics of methods that search an episode: clips, strict and lenient answers, actions and costs by agent.

The ground truth is `Sample.evidence_clips`. The initial clip is the one before the first turn of the master; where its
grounding failed, there is none and the sample counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case
from evqa.metrics.means import UnrecordedValueError
from evqa.parsing.option_keys import is_exact_key
from evqa.schema import MAIN_AGENT, Prediction, Turn

LOOK, RELOCATE = "visual_query", "request_grounding"
"""Tools of the method `episode`."""


def strict_accuracy(case: Case) -> float:
    """1 if the whole <answer> of the last turn is the key of the correct option, else 0."""
    turns = _master_turns(case.record)
    gold = case.sample.answer
    return float(bool(turns) and gold is not None and is_exact_key(turns[-1].reply, gold) and accuracy(case) == 1)


def is_initial_clip_right(case: Case) -> float:
    """1 if the clip at the start has evidence, else 0."""
    clips = _clips(case)
    moves = [] if case.record is None else relocations(case.record)
    return _is_evidence(case, clips[0] if len(clips) > len(moves) else None)


def is_final_clip_right(case: Case) -> float:
    """1 if the clip at the end has evidence, else 0."""
    clips = _clips(case)
    return _is_evidence(case, clips[-1] if clips else None)


def is_any_clip_right(case: Case) -> float:
    """1 if a visited clip has evidence, else 0."""
    return max((_is_evidence(case, clip) for clip in _clips(case)), default=0.0)


def share_of_clips(case: Case) -> float:
    """Share of the clips with evidence that were visited."""
    gold = set(case.sample.evidence_clips or ())
    return len(gold & set(_clips(case))) / len(gold) if gold else 0.0


def accuracy_by_turns(at_least: int, at_most: int | None = None) -> Callable[[Case], float | None]:
    """Strict accuracy over the samples whose master took a number of turns; None for other samples."""

    def value(case: Case) -> float | None:
        number = len(_master_turns(case.record))
        is_counted = number >= at_least and (at_most is None or number <= at_most)
        return strict_accuracy(case) if is_counted else None

    return value


def num_actions(tool: str) -> Callable[[Case], float]:
    """Calls of a tool, failed ones included."""
    return lambda case: sum(call.name == tool for turn in _master_turns(_recorded(case)) for call in turn.calls)


def num_invalid_turns(case: Case) -> float:
    """Turns of the master without a valid action: neither a served call nor an answer that can be read."""
    turns = _master_turns(_recorded(case))
    return sum(not _is_valid(turn) for turn in turns[:-1])


def agent_tokens(role: str) -> Callable[[Case], float]:
    """Tokens of prompts and replies of one agent."""

    def value(case: Case) -> float:
        total = 0
        for turn in _turns_of(_recorded(case), role):
            usage = turn.usage
            if usage is None or usage.input_tokens is None or usage.output_tokens is None:
                raise UnrecordedValueError
            total += usage.input_tokens + usage.output_tokens
        return total

    return value


def agent_dollars(role: str) -> Callable[[Case], float]:
    """Cost of the replies of one agent in US dollars."""

    def value(case: Case) -> float:
        costs = [turn.usage.cost if turn.usage else None for turn in _turns_of(_recorded(case), role)]
        numbers = [cost for cost in costs if cost is not None]
        if len(numbers) != len(costs):
            raise UnrecordedValueError
        return sum(numbers)

    return value


def relocations(record: Prediction) -> list[int]:
    """Places of the turns whose call located another clip, in order; the clips after the first are those."""
    return [
        place
        for place, turn in enumerate(record.turns)
        for call, result in zip(turn.calls, turn.results, strict=False)
        if turn.agent == MAIN_AGENT and call.name == RELOCATE and result.ok
    ]


def _clips(case: Case) -> tuple[str, ...]:
    """Clips of the record, of a failed prediction too."""
    return () if case.record is None or case.record.clips is None else case.record.clips


def _is_evidence(case: Case, clip: str | None) -> float:
    return float(clip is not None and clip in (case.sample.evidence_clips or ()))


def _recorded(case: Case) -> Prediction:
    if case.record is None or not case.record.turns:
        raise UnrecordedValueError
    return case.record


def _turns_of(record: Prediction | None, role: str) -> list[Turn]:
    return [] if record is None else [turn for turn in record.turns if turn.agent == role]


def _master_turns(record: Prediction | None) -> list[Turn]:
    return _turns_of(record, MAIN_AGENT)


def _is_valid(turn: Turn) -> bool:
    return any(call.name in {LOOK, RELOCATE} for call in turn.calls)
