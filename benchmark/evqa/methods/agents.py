"""Methods with an agent: a model that inspects a long video with tools, and the baseline without tools.

    retrieve    the two published tools: frames by id and by similarity
    agent       all tools of `evqa.agents`, with submission of the answer
    inspected   a planner with tools; a second model answers from the submitted segments alone
    uniform     no tools: frames at equal distances in one prompt

All of them give the answer, time segments and referring expressions.
"""

from __future__ import annotations

from functools import cached_property

from evqa.agents import frame_images, instructions, loop, tool_set
from evqa.agents.episode import Episode, EpisodeSetup
from evqa.agents.frame_tools import FrameTools
from evqa.agents.inspection import INSPECTOR, Inspection
from evqa.agents.sample_video import spread
from evqa.agents.segment_tool import SEGMENTER
from evqa.agents.settings import DEFAULT_SETTINGS, AgentSettings
from evqa.agents.submit_tool import SubmitTool
from evqa.agents.tool import Tool
from evqa.agents.transcript import Transcript, evidence_fields
from evqa.models.base import Models
from evqa.schema import Prediction, Sample


def retrieve(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """The published frame-retrieval agent: frames by id and by similarity, the answer as JSON."""
    run = _AgentRun(models, sample, settings)
    with run.transcript:
        request = instructions.json_answer(sample)
        setup = EpisodeSetup(
            opening=instructions.opening(instructions.RETRIEVE, sample, run.facts(times=times), request),
            tools=run.frames.published(),
            answer_fields=evidence_fields(sample),
            answer_request=instructions.last_request(request),
            answer_format=request,
            notice=instructions.turn_notice,
        )
        run.play(setup)
    return run.transcript.prediction()


def agent(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """An agent with all tools that work for the video; the model of the role "segmenter" makes masks."""
    run = _AgentRun(models, sample, settings)
    with run.transcript:
        request = instructions.json_answer(sample)
        setup = EpisodeSetup(
            opening=instructions.opening(instructions.AGENT, sample, run.facts(times=times), ""),
            tools=[*run.video_tools(), SubmitTool(options=sample.options).submit],
            answer_fields=evidence_fields(sample),
            answer_request=instructions.last_request(request),
            answer_format=f"Call submit, or answer without a tool.\n\n{request}",
            notice=instructions.turn_notice,
        )
        run.play(setup)
    return run.transcript.prediction()


def inspected(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """A planner with tools submits time segments; the model of the role "inspector" answers from them alone.

    Without a model for that role the main model is asked, in a conversation of its own. Where a limit ends the search,
    the inspector has to answer from the frames that the planner has seen; `Prediction.stop` is then the limit.
    """
    run = _AgentRun(models, sample, settings)
    with run.transcript:
        inspection = Inspection(
            inspector=models.team.get(INSPECTOR, models.main),
            sample=sample,
            frames=run.frames,
            transcript=run.transcript,
            answer_fields=evidence_fields(sample),
        )
        request = instructions.PLANNER_FORMAT
        setup = EpisodeSetup(
            opening=instructions.opening(instructions.PLANNER, sample, run.facts(times=times), request),
            tools=[*run.video_tools(), inspection.submit_segments],
            answer_fields=(),
            answer_format=request,
            notice=instructions.turn_notice,
            is_answered_by_tool=True,
        )
        run.play(setup)
        if run.transcript.stop != "submitted":
            run.transcript.stop_note = "no segments were accepted: answered from the frames that the planner has seen"
            indices = inspection.frames_seen() or spread(run.frames.grid.indices.tolist(), inspection.num_frames)
            inspection.inspect(indices, must_answer=True)
    return run.transcript.prediction()


def uniform(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """Frames at equal distances in one prompt, without tools: the baseline of agents."""
    run = _AgentRun(models, sample, settings)
    with run.transcript:
        grid = run.frames.grid
        indices = spread(grid.indices.tolist(), settings.uniform_frames)
        parts, _ = frame_images.read_frame_parts(grid, indices, settings.image_side)
        request = instructions.json_answer(sample)
        facts = f"The video lasts {grid.duration:.1f} seconds." if times and grid.duration else ""
        setup = EpisodeSetup(
            opening=instructions.opening(instructions.UNIFORM, sample, facts, request, parts),
            answer_fields=evidence_fields(sample),
            answer_request=instructions.last_request(request),
            answer_format=request,
        )
        run.play(setup)
    return run.transcript.prediction()


class _AgentRun:
    """An agent on one sample: its transcript, and the tools over its video.

    Everything but its construction belongs into the body of its transcript, which makes a failed prediction of an error
    of the model, of a tool or of the video.
    """

    def __init__(self, models: Models, sample: Sample, settings: AgentSettings) -> None:
        self.transcript = Transcript(sample)
        self._models, self._sample, self._settings = models, sample, settings

    @cached_property
    def frames(self) -> FrameTools:
        """Tools over the frames of the video. `ValueError`: it cannot be read."""
        return tool_set.frame_tools(self._sample, self._settings)

    def facts(self, *, times: bool) -> str:
        """Facts of the video for the prompt."""
        is_searchable = self.frames.open_index is not None
        return instructions.video_facts(self.frames.grid, is_searchable=is_searchable, times=times)

    def video_tools(self) -> list[Tool]:
        """All tools that work for the video."""
        subtitles = tool_set.readable_subtitles(self._sample)
        segmenter = self._models.team.get(SEGMENTER, self._models.main)
        return tool_set.video_tools(self.frames, subtitles, segmenter, self.transcript)

    def play(self, setup: EpisodeSetup) -> None:
        """Run an episode with the main model; raises the error that ends it."""
        main = self._models.main
        episode = Episode(
            setup=setup,
            transcript=self.transcript,
            limits=self._settings.limits(),
            model=main.name if self._models.team else None,
            capabilities=main.capabilities,
        )
        loop.play(main, episode)
