"""Rewards: functions of a sample and its prediction, whose turns are the trace of the agent.

A reward reads the turns of the agent and the fields of the prediction, never a prompt or the result of a tool, so that
text that a tool returns earns nothing. `PRESETS` has weighted sums; the terms are logged one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evqa import suggestions
from evqa.metrics import clips, support
from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case
from evqa.metrics.temporal import tiou
from evqa.models.tool_dialects import MALFORMED
from evqa.parsing.action_tags import last_answer
from evqa.schema import MAIN_AGENT, Prediction, Sample, Turn

Reward = Callable[[Case], float]
"""Reward of a prediction; a failed prediction has none."""

_ACTION = re.compile(r"<(search|visual_query|answer)>([^<>]*)</\1>", re.ASCII)
_RELOCATION = re.compile(r"<request_grounding>\s{0,80}</request_grounding>|<request_grounding\s{0,8}/>", re.ASCII)


def follows_grammar(case: Case) -> float:
    """1 if every turn is `<reasoning>...</reasoning>` and one action tag, with nothing before, between or after."""
    turns = agent_turns(case.prediction)
    return float(bool(turns) and all(is_in_grammar(turn.reply) for turn in turns))


def is_in_grammar(text: str) -> bool:
    """Whether the text of a turn is its reasoning and one action, which are not empty."""
    reasoning, closing, action = text.strip().partition("</reasoning>")
    opening = "<reasoning>"
    if not (closing and reasoning.startswith(opening) and reasoning.removeprefix(opening).strip()):
        return False
    if _RELOCATION.fullmatch(action.strip()):
        return True
    match = _ACTION.fullmatch(action.strip())
    return match is not None and bool(match[2].strip())


def is_valid(case: Case) -> float:
    """1 if the agent answered and every turn before is one call of a tool, else 0; the text of a turn is free."""
    turns = agent_turns(case.prediction)
    if not turns or case.prediction.stop not in {"answered", "submitted", "max_turns"}:
        return 0.0
    is_answered = has_answer_tag(case) == 1 or case.prediction.stop == "submitted"
    return float(is_answered and all(map(_is_one_call, turns[:-1])))


def has_reasoning_tag(case: Case) -> float:
    """1 if a turn has a `<reasoning>` pair, as LongVideoAgent rewards it."""
    return float(any(_pair(turn.reply) >= 0 for turn in agent_turns(case.prediction)))


def has_answer_tag(case: Case) -> float:
    """1 if the last turn is an `<answer>`, as LongVideoAgent rewards it; one in its reasoning does not count."""
    turns = agent_turns(case.prediction)
    return float(bool(turns) and not turns[-1].calls and last_answer(turns[-1].reply) is not None)


def span_length(case: Case) -> float:
    """Share of the video that the predicted spans cover, at most 1; 1 where the duration is not known."""
    seconds = sum(span.end - span.start for span in case.predicted_spans)
    duration = case.sample.duration
    return min(seconds / duration, 1.0) if duration else float(seconds > 0)


def num_calls(case: Case) -> float:
    """Calls of tools, repeated and failed ones included."""
    return float(sum(call.name != MALFORMED for turn in agent_turns(case.prediction) for call in turn.calls))


def num_invalid_turns(case: Case) -> float:
    """Turns of the agent without an action: neither a call of a tool nor the answer of the last turn."""
    turns = agent_turns(case.prediction)
    num_answers = has_answer_tag(case) or case.prediction.stop == "submitted"
    return float(sum(not _is_one_call(turn) for turn in turns) - bool(num_answers and not _is_one_call(turns[-1])))


def supported_correct(case: Case) -> float:
    """1 if the answer is right and the agent inspected a frame or segment of the evidence, else 0."""
    return float(support.correctness(case) == 1 and support.is_evidence_seen(case) == 1)


REWARDS: dict[str, Reward] = {
    "correct": clips.strict_accuracy,
    "answer": accuracy,
    "format": follows_grammar,
    "valid": is_valid,
    "reasoning-tag": has_reasoning_tag,
    "answer-tag": has_answer_tag,
    "clip-hit": clips.is_final_clip_right,
    "temporal-iou": lambda case: tiou(case.gold_spans, case.predicted_spans),
    "support": supported_correct,
    "span-length": span_length,
    "calls": num_calls,
}
"""Name -> reward. `correct` wants the key of the option and nothing else in the <answer>; `answer` reads it leniently.
`clip-hit` is about the last clip that was visited. `span-length` and `calls` are costs: give them negative weights."""


@dataclass(frozen=True, kw_only=True)
class RewardTerm:
    """A term of the reward of a recipe."""

    name: str
    """Name in `REWARDS`."""
    weight: float
    """Factor; negative for a cost."""
    only_correct: bool = False
    """Whether the term is 0 unless the answer is right: a cost then cannot make a guess better than a call."""
    from_step: int = 0
    """First step at which the term counts."""

    def __post_init__(self) -> None:
        if self.name not in REWARDS:
            raise suggestions.unknown_name_message("reward", self.name, REWARDS)

    def value(self, case: Case, step: int) -> float:
        """The term without its weight."""
        if step < self.from_step or (self.only_correct and accuracy(case) != 1):
            return 0.0
        return REWARDS[self.name](case)


Terms = tuple[RewardTerm, ...]

PRESETS: dict[str, Terms] = {
    "longvideoagent": (
        RewardTerm(name="reasoning-tag", weight=0.2),
        RewardTerm(name="answer-tag", weight=0.2),
        RewardTerm(name="correct", weight=1.0),
    ),
    "strict": (RewardTerm(name="correct", weight=1.0), RewardTerm(name="format", weight=0.2)),
    "grounded": (
        RewardTerm(name="correct", weight=1.0),
        RewardTerm(name="format", weight=0.2),
        RewardTerm(name="clip-hit", weight=0.2),
        RewardTerm(name="calls", weight=-0.02, only_correct=True, from_step=200),
    ),
    "tiny": (
        RewardTerm(name="correct", weight=1.0),
        RewardTerm(name="format", weight=0.2),
        RewardTerm(name="calls", weight=-0.05, only_correct=True, from_step=30),
    ),
}
"""Preset -> terms. longvideoagent: as published (tags anywhere in the agent's own turns, strict key). strict: the same
for actions in the grammar only. grounded: also the right clip at the end, and a small cost of calls of right answers
once the policy has learned to call. tiny: strict, with such a cost from step 30."""


def preset(name: str) -> Terms:
    """Terms of a preset. `ValueError`: there is no such preset."""
    if name not in PRESETS:
        raise suggestions.unknown_name_message("reward preset", name, PRESETS)
    return PRESETS[name]


def case_of(sample: Sample, prediction: Prediction) -> Case:
    """Case for rewards."""
    return Case(sample, prediction, record=prediction)


def total(terms: Sequence[RewardTerm], case: Case, step: int = 0) -> float:
    """Weighted sum of terms."""
    return sum(term.weight * term.value(case, step) for term in terms)


def agent_turns(prediction: Prediction) -> list[Turn]:
    """Turns of the agent that is trained."""
    return [turn for turn in prediction.turns if turn.agent == MAIN_AGENT]


def _is_one_call(turn: Turn) -> bool:
    return len(turn.calls) == 1 and turn.calls[0].name != MALFORMED


def _pair(text: str) -> int:
    """Place of the end of the first `<reasoning>` pair; -1 = there is none."""
    start = text.find("<reasoning>")
    return -1 if start < 0 else text.find("</reasoning>", start)
