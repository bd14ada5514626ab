"""Traces of agents: tool calls, tool results, and references to the frames that a model received.

A prediction keeps the trace of its conversation; the report page shows it and reinforcement learning reads it. Frames
are references (video, index, second): pixels stay in the video and never enter a log.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from evqa.schema.geometry import Spans
from evqa.schema.record import StrictRecord

StopReason = Literal[
    "answered",
    "submitted",
    "max_turns",
    "max_calls",
    "max_images",
    "max_tokens",
    "budget",
    "invalid",
    "timeout",
]
"""Why an episode ended.

The final turn answered, a tool submitted the answer, a limit on turns, calls, images or tokens, the budget, too many
invalid actions, or a time limit.
"""


class FrameRef(StrictRecord):
    """Reference to a frame of a sample's video."""

    video: Annotated[int, Field(ge=0)] = 0
    """Index of the video: 0 = `Sample.video`, i = `Sample.videos[i - 1]`.

    Of a sample about a clip of an episode, i = `Sample.clips[i - 1]`.
    """
    index: Annotated[int, Field(ge=0)]
    """0-based frame index in that video."""
    second: Annotated[float, Field(ge=0)] | None
    """Presentation time of the frame in seconds; None = a folder of frames without a known frame rate."""


class ToolCall(StrictRecord):
    """Tool call as the model wrote it."""

    id: str
    """Id of the call, unique in its turn; exactly one `ToolResult` refers to it."""
    name: str
    """Name of the tool."""
    arguments: str
    """Arguments as the model wrote them: JSON, or the text of a tag. Not parsed, so that nothing is lost."""


class ToolResult(StrictRecord):
    """Result of a tool call as the model received it."""

    call: str
    """Id of the `ToolCall`."""
    ok: bool
    """False = the call was invalid or the tool refused it, and `text` is the reason."""
    text: str
    """Result in words."""
    frames: tuple[FrameRef, ...] = ()
    """Images in the result, by reference."""
    spans: Spans = ()
    """Time segments in the result, in seconds."""
