"""Metrics of rollouts, and alarms for policies that stop calling or earn without evidence."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evqa.metrics import clips
from evqa.metrics.case import Case
from evqa.models.tool_dialects import MALFORMED
from unipixel.rl.rewards import agent_turns, case_of, has_answer_tag, num_calls, num_invalid_turns
from unipixel.rl.rollout import Rollout

logger = logging.getLogger(__name__)

WINDOW = 10
"""Log entries that are compared: the first ones of a run and the latest ones."""

MIN_CALLS = 0.2
"""Calls per rollout at the start, below which a collapse of calls is none."""

COLLAPSE = 0.5
"""Share of the calls at the start below which the calls have collapsed."""

BLIND_SHARE, BLIND_RISE = 0.5, 0.1
"""Share of right answers without evidence, and its rise since the start, that raise an alarm."""


def rollout_metrics(rollouts: Sequence[Rollout]) -> Iterator[tuple[str, float]]:
    """(name, value) pairs of rollouts; the metric is the mean of the values of a name over all processes."""
    for rollout in rollouts:
        is_failed = rollout.prediction.status == "failed"
        yield "episodes/failed", float(is_failed)
        yield "tokens/prompt", float(len(rollout.tokens.prompt_ids))
        yield "tokens/completion", float(len(rollout.tokens.completion_ids))
        yield "tokens/generated", float(rollout.tokens.num_generated)
        if not is_failed:
            yield from _episode_metrics(case_of(rollout.sample, rollout.prediction))


def _episode_metrics(case: Case) -> Iterator[tuple[str, float]]:
    turns, kind = agent_turns(case.prediction), case.sample.question_type
    is_right = clips.strict_accuracy(case)
    yield "episodes/right", is_right
    yield "episodes/answered", has_answer_tag(case)
    yield "episodes/turns", float(len(turns))
    yield "episodes/invalid_turns", num_invalid_turns(case)
    yield "calls/all", num_calls(case)
    for tool in (clips.LOOK, clips.RELOCATE):
        count = float(sum(call.name == tool for turn in turns for call in turn.calls))
        yield f"calls/{tool}", count
        if kind is not None:
            yield f"calls/{kind}/{tool}", count
    yield "calls/malformed", float(sum(call.name == MALFORMED for turn in turns for call in turn.calls))
    if kind is not None:
        yield f"right/{kind}", is_right
    if case.sample.evidence_clips is not None:
        yield "clips/final_hit", clips.is_final_clip_right(case)
        yield "clips/any_hit", clips.is_any_clip_right(case)
        if is_right:
            yield "clips/right_without_evidence", 1.0 - clips.is_any_clip_right(case)


class AlarmCallback(TrainerCallback):
    """Trainer callback that warns of two ways in which a reward rises for the wrong reason.

    *Call collapse*: the policy stops to call tools, because a guess costs less. *Reward without evidence*: a growing
    share of right answers comes from episodes that never visited a clip with the evidence. Both compare the first and
    the latest entries of the log, so that they also hold in a run that was resumed.
    """

    def __init__(self) -> None:
        self.alarms: set[str] = set()
        """Alarms that are on."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Compare, and log an alarm when it begins and when it ends."""
        if not state.is_world_process_zero:
            return
        alarms = dict(alarms_of(state.log_history))
        for name in self.alarms - alarms.keys():
            logger.info("step %d: alarm over: %s", state.global_step, name)
        for name in alarms.keys() - self.alarms:
            logger.warning("step %d: alarm: %s: %s", state.global_step, name, alarms[name])
        self.alarms = set(alarms)


def alarms_of(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(name, reason) of the alarms that a log gives cause for."""
    for name, check in (("call collapse", _call_collapse), ("reward without evidence", _blind_reward)):
        if reason := check(history):
            yield name, reason


def _call_collapse(history: Sequence[Mapping[str, Any]]) -> str:
    first, latest = _first_and_latest(history, "calls/all")
    if first is None or latest is None or first < MIN_CALLS or latest >= COLLAPSE * first:
        return ""
    return f"{latest:.2f} calls per rollout, {first:.2f} at the start: lower or remove the cost of calls"


def _blind_reward(history: Sequence[Mapping[str, Any]]) -> str:
    first, latest = _first_and_latest(history, "clips/right_without_evidence")
    if first is None or latest is None or latest < BLIND_SHARE or latest < first + BLIND_RISE:
        return ""
    return (
        f"{latest:.0%} of the right answers without a visit to the evidence, {first:.0%} at the start: options may "
        "give the answer away, reward clip-hit or support"
    )


def _first_and_latest(history: Sequence[Mapping[str, Any]], name: str) -> tuple[float | None, float | None]:
    """Means of the first and the latest `WINDOW` values of a metric; None = there are not two windows."""
    values = [float(entry[name]) for entry in history if entry.get(name) is not None]
    if len(values) < 2 * WINDOW:
        return None, None
    return sum(values[:WINDOW]) / WINDOW, sum(values[-WINDOW:]) / WINDOW
