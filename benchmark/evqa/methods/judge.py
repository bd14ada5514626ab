"""Method of a pairwise judge: which of two videos follows a prompt better, in each dimension.

The judge sees a few frames of both videos, may ask for further ones, and gives a verdict. By default it judges both
orders of the videos, in two conversations: where the verdicts disagree on a dimension, it is a tie.
"""

from __future__ import annotations

from collections.abc import Callable

from evqa.agents import judge_instructions, loop
from evqa.agents.episode import Episode, EpisodeSetup
from evqa.agents.instructions import turn_notice
from evqa.agents.pair_tools import PairFrames, open_pair, published_slots, swapped
from evqa.agents.settings import DEFAULT_SETTINGS, AgentSettings
from evqa.agents.tool import Tool
from evqa.agents.transcript import Transcript
from evqa.agents.verdict_tool import verdict_tool
from evqa.models.base import Model, Models, RunAborted
from evqa.models.messages import Message
from evqa.models.tool_dialects import CONCAT_NUMBERING, PAIR_NUMBERING
from evqa.parsing.verdicts import DIMENSIONS, reconcile, swap_verdict
from evqa.schema import MAIN_AGENT, SWAPPED_AGENT, Prediction, Sample

TRAINED_DIALECTS = {"vrthinker": PAIR_NUMBERING, "vrthinker-concat": CONCAT_NUMBERING}
"""Dialect of a checkpoint that was trained as a judge -> its numbering of frames."""


def judge(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """A pairwise judge of the two videos of a sample, in both orders; the model of the role "swapped" may differ."""
    transcript = Transcript(sample)
    with transcript:
        frames = _pair_frames(models.main, sample, settings, states_times=times)
        first = _judge_order(models, sample, frames, settings, MAIN_AGENT)
        if settings.judge.swap == "none" or first.status == "failed":
            return first
        return _with_first(first, lambda: _judge_order(models, sample, swapped(frames), settings, SWAPPED_AGENT))
    return transcript.prediction()


def _pair_frames(model: Model, sample: Sample, settings: AgentSettings, *, states_times: bool) -> PairFrames:
    """Frames of a sample's pair. `ValueError`: it has not two videos, or one of them cannot be read."""
    if len(sample.videos) != 1:
        raise ValueError(
            f"a judge compares two videos: expected one further video, the sample has {len(sample.videos)}"
        )
    numbering = TRAINED_DIALECTS.get(_dialect(model), PAIR_NUMBERING)
    return PairFrames(
        videos=open_pair([sample.video, *sample.videos]),
        pairing=settings.judge.pairing,
        image_size=settings.judge.image_size,
        max_side=settings.image_side,
        slots=published_slots(numbering),
        numbering=numbering,
        states_times=states_times,
        opening_frames=settings.judge.opening_frames,
    )


def _dialect(model: Model) -> str:
    """Dialect of a model with tool calls as text; "" = it has calls of its own, or none."""
    return model.capabilities.tool_dialect if model.capabilities.tools == "text" else ""


def _judge_order(models: Models, sample: Sample, frames: PairFrames, settings: AgentSettings, agent: str) -> Prediction:
    """Judge one order of the videos; `Prediction.verdicts` numbers them in this order."""
    model = models.team.get(agent, models.main)
    transcript = Transcript(sample)
    with transcript:
        episode = Episode(
            setup=_setup(model, sample, frames, has_turns=settings.judge.judge_turns > 0),
            transcript=transcript,
            limits=settings.judge_limits(),
            agent=agent,
            model=model.name if models.team else None,
            capabilities=model.capabilities,
        )
        return loop.run(model, episode)
    return transcript.prediction()


def _setup(model: Model, sample: Sample, frames: PairFrames, *, has_turns: bool) -> EpisodeSetup:
    dimensions = sample.dimensions or DIMENSIONS
    is_trained = _dialect(model) in TRAINED_DIALECTS
    tools: list[Tool] = []
    if model.capabilities.tools != "none":
        tools += [frames.tool] if has_turns else []
        tools += [] if is_trained else [verdict_tool(tuple(dimensions.items()))]
    verdict = judge_instructions.verdict_format(dimensions, has_tool=bool(tools) and not is_trained)
    text_verdict = judge_instructions.verdict_format(dimensions, has_tool=False)
    role = judge_instructions.system_text(dimensions, has_tools=bool(tools) and has_turns, has_tags=is_trained)
    facts = frames.facts() if tools and has_turns else ""
    text = judge_instructions.opening_text(sample.question, facts, verdict)
    return EpisodeSetup(
        opening=(Message("system", (role,)), Message("user", (*frames.opening(), text))),
        tools=tools,
        answer_fields=("verdicts",),
        answer_request=judge_instructions.last_request(text_verdict),
        answer_format=verdict,
        notice=turn_notice,
        forces_answer=True,
    )


def _with_first(first: Prediction, judge_second: Callable[[], Prediction]) -> Prediction:
    """Prediction of both orders; what was paid for the first is recorded wherever the second one ends."""
    try:
        second = judge_second()
    except RunAborted as error:
        if error.prediction is None:
            failed = first.replace(status="failed", error=f"RunAborted: {error}")
            error.prediction = failed.replace(verdicts=None, stop=None, stop_note="")
        else:
            error.prediction = _merged(first, error.prediction)
        raise
    return _merged(first, second)


def _merged(first: Prediction, second: Prediction) -> Prediction:
    """Prediction of both orders, in the numbering of the first."""
    turns = (*first.turns, *second.turns)
    seconds = round(first.seconds + second.seconds, 3)
    if second.status == "failed":
        return second.replace(turns=turns, seconds=seconds)
    pair = first.verdicts, swap_verdict(second.verdicts)
    decisive = first if first.verdicts is None or second.verdicts is not None else second
    return first.replace(
        turns=turns,
        seconds=seconds,
        verdicts=reconcile(*pair),
        order_verdicts=pair,
        stop=decisive.stop,
        stop_note=decisive.stop_note,
    )
