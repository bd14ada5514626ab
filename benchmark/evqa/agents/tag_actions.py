"""Actions as tags, for models without tool calls of their own, or trained on the tags of LongVideoAgent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evqa.models.base import Capabilities, Model
from evqa.models.messages import Decoding, Message, Reply, ToolSpec
from evqa.models.tool_dialects import DIALECTS, to_text_messages, with_text_calls

TAGS = DIALECTS["tags"]


class TagActionModel:
    """Model whose tool calls are tags in its replies; its own replies stay in the conversation word by word.

    The instructions of the tags stand in the system message of the conversation (`explanation`), in every request, so
    that the conversation only grows.
    """

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.model = model

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the model, with tools as text."""
        return replace(self.model.capabilities, tools="text")

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Settings of the model."""
        return self.model.settings

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """Reply of the model, with the action in its text as a call."""
        del tools
        return with_action(self.model.generate(without_actions(messages), decoding=decoding))


@dataclass(frozen=True)
class TagReply:
    """A reply with an action, in `Reply.raw`: what the model wrote."""

    text: str
    raw: object
    """`Reply.raw` of the model."""


def with_action(reply: Reply) -> Reply:
    """The reply of a model with the action in its text as a call; the text keeps the tags, as the record needs them."""
    if reply.calls:
        return reply
    return replace(with_text_calls(reply, TAGS), text=reply.text, raw=TagReply(reply.text, reply.raw))


def without_actions(messages: Sequence[Message]) -> list[Message]:
    """The conversation without calls for the model: replies as they were written, results as text."""
    replies = iter([_as_written(message) for message in messages if message.role == "assistant"])
    return [
        next(replies) if message.role == "assistant" else message for message in to_text_messages(messages, (), TAGS)
    ]


def _as_written(message: Message) -> Message:
    reply = message.raw
    return Message("assistant", (reply.text,), raw=reply.raw) if isinstance(reply, TagReply) else message


def explanation(tools: Sequence[ToolSpec]) -> str:
    """Instructions for the system message: the tags of the tools and of the answer."""
    return TAGS.explain(tools)
