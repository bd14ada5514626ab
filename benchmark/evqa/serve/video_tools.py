"""Tools over the videos of a library: those of agents, with the name of the video as a further argument."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from evqa import ask
from evqa.agents.frame_tools import FrameTools
from evqa.agents.segment_tool import SegmentTool
from evqa.agents.settings import AgentSettings
from evqa.agents.subtitle_tools import SubtitleTools
from evqa.agents.tool import Tool, ToolFailure, ToolOutput, call_tool, spec_of, tool_table
from evqa.agents.tool_set import frame_tools, readable_subtitles, video_tools
from evqa.agents.transcript import Transcript
from evqa.ask import DEFAULT, AskSettings
from evqa.models.base import ModelError, Models, RunAborted
from evqa.models.frame_policy import VideoCache
from evqa.models.messages import ImagePart, ToolSpec
from evqa.retrieval.subtitles import Subtitles
from evqa.schema import Sample, ToolCall
from evqa.serve.video_library import VideoLibrary

MAX_OPEN_VIDEOS = 8
"""Videos whose tools stay in memory."""

MAX_NAMES = 200
"""Names of one listing."""

VIDEO = {"type": "string", "description": "name of a video, see list_videos"}
"""JSON Schema of the argument that every tool but `list_videos` has."""

NO_TOOL = {
    "subtitles": "it has no subtitles",
    "search_subtitles": "it has no subtitles",
    "search": "there is no frame search",
}
"""Tool -> reason why a video may lack it."""


@dataclass(frozen=True)
class Inquiry:
    """The tool that asks a model about a video."""

    models: Models
    settings: AskSettings
    path: Path

    def ask(
        self,
        question: Annotated[str, Field(description="a question about the video", min_length=1, max_length=10_000)],
        options: Annotated[list[str], Field(description="options of the answer; none = an open question")] = [],  # noqa: B006  (never changed)
    ) -> ToolOutput:
        """Answer a question about a video; return the answer, the time segments of its evidence and marked frames."""
        answer = ask.answer_of(self.models, self.path, question, options, settings=self.settings)
        if answer.error is not None:
            raise ValueError(f"the model did not answer: {answer.error}")
        sheet = np.asarray(answer.image())
        image = ImagePart(image=sheet, max_side=max(sheet.shape), label="frames with the evidence marked")
        return ToolOutput((str(answer), image), spans=answer.spans or ())


@dataclass(frozen=True)
class OpenVideo:
    """A video with the state that calls share."""

    sample: Sample
    frames: FrameTools
    subtitles: Subtitles | None

    @classmethod
    def read(cls, path: Path, settings: AgentSettings) -> OpenVideo:
        """Read the frame times and the subtitles of a video. `ValueError`: it cannot be read."""
        sample = Sample(id="video", video_id="video", video=path, question="none", options=())
        return cls(sample, frame_tools(sample, settings), readable_subtitles(sample))


class VideoTools:
    """Tools over the videos of a library; may be called from several threads."""

    def __init__(
        self,
        library: VideoLibrary,
        settings: AgentSettings,
        models: Models | None = None,
        asking: AskSettings = DEFAULT,
    ) -> None:
        """Tools of a library.

        Args:
            library: Videos that the tools read.
            settings: Frames and search of the tools.
            models: Models for `ask`, and for `segment` where the main one predicts masks; None = neither tool.
            asking: Settings of `ask`, which `models` were built with.
        """
        self.library, self.settings, self.models, self.asking = library, settings, models, asking
        self._videos = VideoCache(lambda path: OpenVideo.read(path, settings), MAX_OPEN_VIDEOS)
        self._lock = threading.Lock()

    def specs(self) -> list[ToolSpec]:
        """Return the descriptions of all tools."""
        return [spec_of(self.list_videos), *(_with_video(spec_of(tool)) for tool in self._video_tools())]

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutput:
        """Run a call. An invalid one, and one that fails, is a result with `ok=False` that states the reason.

        Args:
            name: Name of a tool.
            arguments: Its arguments, with the name of the video as `video`.
        """
        rest = {key: value for key, value in arguments.items() if key != "video"}
        try:
            tools = {"list_videos": self.list_videos} if name == "list_videos" else self._tools_of(name, arguments)
            with self._lock:  # a decoder and a model serve one call at a time
                return call_tool(tools, ToolCall(id="0", name=name, arguments=json.dumps(rest)))
        except (ValueError, ModelError, RunAborted, ToolFailure) as error:
            return ToolOutput((f"error: {error}",), ok=False)

    def list_videos(
        self,
        pattern: Annotated[str, Field(description="part of the names; all names without it", max_length=200)] = "",
        offset: Annotated[int, Field(description="number of names to skip", ge=0)] = 0,
    ) -> ToolOutput:
        """Return the names of the videos."""
        names = [name for name in self.library.names() if pattern.casefold() in name.casefold()]
        page = names[offset : offset + MAX_NAMES]
        head = f"{len(names)} videos" + (f", {offset + 1} to {offset + len(page)}" if len(page) < len(names) else "")
        return ToolOutput(("\n".join([head, *page]),))

    def _tools_of(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Tool]:
        """Tools of the video that a call names. `ValueError`: no such video or tool."""
        names = [tool.__name__ for tool in self._video_tools()]
        if name not in names:
            raise ValueError(f"there is no tool {name[:80]!r}: call one of list_videos, {', '.join(names)}")
        video = arguments.get("video")
        if not isinstance(video, str):
            raise ValueError(  # noqa: TRY004  (the client reads it)
                f"the argument video is the name of a video (list_videos), got {repr(video)[:200]}"
            )
        tools = self._tools(self._videos.get(self.library.path(video)))
        if name not in tools:
            raise ValueError(f"{name} does not work for {video}: {NO_TOOL.get(name, 'its frames have no times')}")
        return tools

    def _tools(self, video: OpenVideo) -> dict[str, Tool]:
        segmenter = None if self.models is None else self.models.main
        tools = video_tools(video.frames, video.subtitles, segmenter, Transcript(video.sample))
        tools.remove(video.frames.get_frames_by_id)
        if self.models is not None:
            tools.append(Inquiry(self.models, self.asking, video.sample.video).ask)
        return tool_table(tools)

    @property
    def _has_segmenter(self) -> bool:
        return self.models is not None and self.models.main.capabilities.predicts_masks

    def _video_tools(self) -> Sequence[Tool]:
        """Functions of all tools that a video can have."""
        has_search = self.settings.encoder != "none"
        return [
            FrameTools.overview,
            FrameTools.frames_at,
            FrameTools.frames_between,
            FrameTools.zoom,
            *([FrameTools.search] if has_search else []),
            SubtitleTools.subtitles,
            SubtitleTools.search_subtitles,
            *([Inquiry.ask] if self.models is not None else []),
            *([SegmentTool.segment] if self._has_segmenter else []),
        ]


def _with_video(spec: ToolSpec) -> ToolSpec:
    """Return the description of a tool with the argument `video`."""
    schema: dict[str, Any] = dict(spec.parameters)
    schema["properties"] = {"video": VIDEO, **schema["properties"]}
    schema["required"] = ["video", *schema.get("required", ())]
    return replace(spec, parameters=schema)
