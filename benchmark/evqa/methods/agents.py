"""Methods with an agent: a model that inspects a long video with tools, and the baseline without tools.

    retrieve    the two published tools: frames by id and by similarity
    agent       all tools of `evqa.agents`, with submission of the answer
    inspected   a planner with tools; a second model answers from the submitted segments alone
    uniform     no tools: frames at equal distances in one prompt

All of them give the answer, time segments and referring expressions.
"""

from __future__ import annotations

from evqa.agents import frame_images, instructions, loop
from evqa.agents.episode import Episode, EpisodeSetup
from evqa.agents.frame_tools import FrameTools
from evqa.agents.inspection import INSPECTOR, Inspection
from evqa.agents.sample_video import open_grid, spread
from evqa.agents.segment_tool import SEGMENTER, SegmentTool
from evqa.agents.settings import DEFAULT_SETTINGS, AgentSettings
from evqa.agents.submit_tool import SubmitTool
from evqa.agents.subtitle_tools import SubtitleTools
from evqa.agents.tool import Tool
from evqa.agents.transcript import Transcript, evidence_fields
from evqa.agents.video_index import index_opener
from evqa.models.base import Models
from evqa.retrieval.subtitles import subtitles_of
from evqa.schema import Prediction, Sample


def retrieve(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """The published frame-retrieval agent: frames by id and by similarity, the answer as JSON."""
    transcript = Transcript(sample)
    with transcript:
        frames = _frame_tools(sample, settings)
        request = instructions.json_answer(sample)
        facts = instructions.video_facts(frames.grid, is_searchable=frames.open_index is not None, times=times)
        setup = EpisodeSetup(
            opening=instructions.opening(instructions.RETRIEVE, sample, facts, request),
            tools=frames.published(),
            answer_fields=evidence_fields(sample),
            answer_request=instructions.last_request(request),
            answer_format=request,
            notice=instructions.turn_notice,
        )
        return loop.run(models.main, _episode(models, transcript, setup, settings))
    return transcript.prediction()


def agent(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """An agent with all tools that work for the video; the model of the role "segmenter" makes masks."""
    transcript = Transcript(sample)
    with transcript:
        frames = _frame_tools(sample, settings)
        request = instructions.json_answer(sample)
        facts = instructions.video_facts(frames.grid, is_searchable=frames.open_index is not None, times=times)
        setup = EpisodeSetup(
            opening=instructions.opening(instructions.AGENT, sample, facts, ""),
            tools=[*_video_tools(models, sample, transcript, frames), SubmitTool(options=sample.options).submit],
            answer_fields=evidence_fields(sample),
            answer_request=instructions.last_request(request),
            answer_format=f"Call submit, or answer without a tool.\n\n{request}",
            notice=instructions.turn_notice,
        )
        return loop.run(models.main, _episode(models, transcript, setup, settings))
    return transcript.prediction()


def inspected(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """A planner with tools submits time segments; the model of the role "inspector" answers from them alone.

    Without a model for that role the main model is asked, in a conversation of its own. Where a limit ends the search,
    the inspector has to answer from the frames that the planner has seen; `Prediction.stop` is then the limit.
    """
    transcript = Transcript(sample)
    with transcript:
        frames = _frame_tools(sample, settings)
        inspection = Inspection(
            inspector=models.team.get(INSPECTOR, models.main),
            sample=sample,
            frames=frames,
            transcript=transcript,
            answer_fields=evidence_fields(sample),
        )
        facts = instructions.video_facts(frames.grid, is_searchable=frames.open_index is not None, times=times)
        setup = EpisodeSetup(
            opening=instructions.opening(instructions.PLANNER, sample, facts, instructions.PLANNER_FORMAT),
            tools=[*_video_tools(models, sample, transcript, frames), inspection.submit_segments],
            answer_fields=(),
            answer_format=instructions.PLANNER_FORMAT,
            notice=instructions.turn_notice,
            is_answered_by_tool=True,
        )
        prediction = loop.run(models.main, _episode(models, transcript, setup, settings))
        if prediction.status == "failed" or transcript.stop == "submitted":
            return prediction
        transcript.stop_note = "no segments were accepted: answered from the frames that the planner has seen"
        inspection.inspect(
            inspection.frames_seen() or spread(frames.grid.indices.tolist(), inspection.num_frames), must_answer=True
        )
    return transcript.prediction()


def uniform(
    models: Models, sample: Sample, *, times: bool = True, settings: AgentSettings = DEFAULT_SETTINGS
) -> Prediction:
    """Frames at equal distances in one prompt, without tools: the baseline of agents."""
    transcript = Transcript(sample)
    with transcript:
        frames = _frame_tools(sample, settings)
        indices = spread(frames.grid.indices.tolist(), settings.uniform_frames)
        parts, _ = frame_images.read_frame_parts(frames.grid, indices, settings.image_side)
        request = instructions.json_answer(sample)
        facts = f"The video lasts {frames.grid.duration:.1f} seconds." if times and frames.grid.duration else ""
        setup = EpisodeSetup(
            opening=instructions.opening(instructions.UNIFORM, sample, facts, request, parts),
            answer_fields=evidence_fields(sample),
            answer_request=instructions.last_request(request),
            answer_format=request,
        )
        return loop.run(models.main, _episode(models, transcript, setup, settings))
    return transcript.prediction()


def _episode(models: Models, transcript: Transcript, setup: EpisodeSetup, settings: AgentSettings) -> Episode:
    return Episode(
        setup=setup,
        transcript=transcript,
        limits=settings.limits(),
        model=models.main.name if models.team else None,
        max_images=models.main.capabilities.max_images,
        is_text_only=models.main.capabilities.tool_images == "text",
    )


def _frame_tools(sample: Sample, settings: AgentSettings) -> FrameTools:
    """Tools over the frames of a sample's video, with its frame index."""
    grid = open_grid(sample, settings.grid_fps)
    return FrameTools(grid=grid, limits=settings.frame_limits(), open_index=index_opener(sample, grid, settings))


def _video_tools(models: Models, sample: Sample, transcript: Transcript, frames: FrameTools) -> list[Tool]:
    """All tools that work for the video."""
    tools = frames.all()
    subtitles = subtitles_of(sample)
    if subtitles is not None:
        tools += SubtitleTools(lines=subtitles, duration=frames.grid.duration).all()
    segmenter = models.team.get(SEGMENTER, models.main)
    if segmenter.capabilities.predicts_masks and frames.grid.seconds is not None:
        tools.append(SegmentTool(segmenter=segmenter, sample=sample, frames=frames, transcript=transcript).segment)
    return tools
