"""All tools of agents that work for one video."""

from __future__ import annotations

import logging

from evqa.agents.frame_tools import FrameTools
from evqa.agents.sample_video import open_grid
from evqa.agents.segment_tool import SegmentTool
from evqa.agents.settings import AgentSettings
from evqa.agents.subtitle_tools import SubtitleTools
from evqa.agents.tool import Tool
from evqa.agents.transcript import Transcript
from evqa.agents.video_index import index_opener
from evqa.models.base import Model
from evqa.retrieval.subtitles import Subtitles, subtitles_of
from evqa.schema import Sample

logger = logging.getLogger(__name__)


def frame_tools(sample: Sample, settings: AgentSettings) -> FrameTools:
    """Return the tools over the frames of a sample's video. `ValueError`: it cannot be read."""
    grid = open_grid(sample, settings.grid_fps)
    return FrameTools(grid=grid, limits=settings.frame_limits(), open_index=index_opener(sample, grid, settings))


def readable_subtitles(sample: Sample) -> Subtitles | None:
    """Subtitles of a sample's video; None = it has none.

    A file beside the video that cannot be read is left out with a warning; one that the sample names is an error.
    """
    try:
        return subtitles_of(sample)
    except ValueError as error:
        if sample.subtitles is not None:
            raise
        logger.warning("subtitles are left out: %s", error)
        return None


def video_tools(
    frames: FrameTools, subtitles: Subtitles | None, segmenter: Model | None, transcript: Transcript
) -> list[Tool]:
    """Return all tools that work for the video of a sample.

    Args:
        frames: tools over its frames.
        subtitles: its subtitles; None = it has none.
        segmenter: model that segments where it predicts masks; None = there is no such model.
        transcript: transcript of the sample, which gets the turns of the segmenter.
    """
    tools = frames.all()
    if subtitles is not None:
        tools += SubtitleTools(lines=subtitles, duration=frames.grid.duration).all()
    if segmenter is not None and segmenter.capabilities.predicts_masks and frames.grid.seconds is not None:
        tool = SegmentTool(segmenter=segmenter, sample=transcript.sample, frames=frames, transcript=transcript)
        tools.append(tool.segment)
    return tools
