"""Images in tool results: where a model gets them, by the capability `Capabilities.tool_images`.

- tool: in the tool message, beside the text of the result.
- user: in one user message behind all tool messages of a reply, for servers that accept images of users alone.
- text: not at all; the text of the result has their labels, and says that they cannot be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from evqa.models.frame_policy import with_time_marks
from evqa.models.messages import Message, Part, ToolSpec, check_tool_messages, move_tool_images
from evqa.models.tool_dialects import HERMES, Dialect, to_text_messages
from evqa.schema import ImageTransport

ToolImages = Literal["auto", "tool", "user", "text"]
"""Setting of a model: a transport, or "auto" = the first that the image check of a run finds to work."""

NOT_SHOWN = "(The images of this result cannot be shown to you: you have their labels only.)"
"""Note in the text of a result without its images."""


def place_tool_images(messages: Sequence[Message], transport: ImageTransport) -> list[Message]:
    """The conversation with the images of its tool messages where a transport has them.

    `ValueError`: see `check_tool_messages`.
    """
    if transport == "user":
        return move_tool_images(messages)
    check_tool_messages(messages)
    if transport == "tool":
        return list(messages)
    return [
        replace(message, parts=labels_only(message.parts)) if message.role == "tool" else message
        for message in messages
    ]


def to_dialect_messages(
    messages: Sequence[Message], tools: Sequence[ToolSpec], transport: ImageTransport, dialect: Dialect = HERMES
) -> list[Message]:
    """The conversation with tools, calls and results as text (`to_text_messages`); images follow their results."""
    return to_text_messages(place_tool_images(messages, "text" if transport == "text" else "tool"), tools, dialect)


def tool_image_settings(setting: ToolImages) -> Mapping[str, str]:
    """The setting as a part of a run's identity; empty for "auto", whose outcome is in `run.json`."""
    return {} if setting == "auto" else {"tool_images": setting}


def text_dialect_transport(name: str, setting: ToolImages) -> ImageTransport:
    """Transport of a model whose tool results are user messages. `ValueError`: it has no tool messages for images."""
    if setting == "tool":
        raise ValueError(
            f"model {name!r} gets tool results as user messages, so that it has no --tool-images tool: "
            f"leave it out, or give user or text"
        )
    return "user" if setting == "auto" else setting


def labels_only(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts of a tool result with the labels of images in place of images, and a note; the parts without images."""
    texts = tuple(part for part in with_time_marks(parts) if isinstance(part, str))
    has_images = any(not isinstance(part, str) for part in parts)
    return (*texts, NOT_SHOWN) if has_images else tuple(parts)
