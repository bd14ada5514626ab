"""Model with replies from a file: for tests, demonstrations, and for scoring replies of another system.

The file is a JSON object of replies. A key is a part of the question's text, or the file name of the video without its
ending; the longest key that matches is used, and "*" matches anything. A value is a text, an object
(`{"text": ..., "calls": [...], "tracks": [...], "num_frames": ...}`, see `ScriptedReply`), or a list of these, one per
turn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import JsonValue, TypeAdapter, ValidationError, model_validator

from evqa.files import jsonl
from evqa.models.base import Capabilities, ModelError, RequestTooLarge
from evqa.models.messages import (
    Decoding,
    Message,
    Reply,
    ToolSpec,
    VideoMasks,
    VideoPart,
    check_tool_messages,
    with_unique_ids,
)
from evqa.schema import StrictRecord, ToolCall, Track, Usage

ANYTHING = "*"


class ScriptedCall(StrictRecord):
    """A tool call of a reply."""

    name: str
    arguments: dict[str, JsonValue] | str = ""
    """An object, or text as a model may write it, valid or not."""
    id: str = ""
    """Empty = call_1, call_2, ... in the order of the reply."""

    def tool_call(self) -> ToolCall:
        """Tool call of the reply."""
        is_text = isinstance(self.arguments, str)
        arguments = self.arguments if is_text else json.dumps(self.arguments, ensure_ascii=False)
        return ToolCall(id=self.id, name=self.name, arguments=str(arguments))


class ScriptedReply(StrictRecord):
    """Reply of the file: a text, optionally with masks; or an error."""

    text: str = ""
    calls: tuple[ScriptedCall, ...] = ()
    """Tool calls of the reply."""
    tracks: tuple[Track, ...] | None = None
    """Masks, one track per object; None = no masks."""
    num_frames: int | None = None
    """Frames of the video; needed with tracks."""
    size: tuple[int, int] | None = None
    """(H, W) of the masks; needed only where no track has one."""
    mask_frames: tuple[int, ...] | None = None
    """Frame indices with predicted masks; None = every frame."""
    letters: dict[str, float] | None = None
    """Natural log-probability of each option letter at the answer."""
    error: str | None = None
    """Message of a `ModelError` to raise instead of a reply."""
    is_too_large: bool = False
    """Whether the error says that the request is too large."""

    @model_validator(mode="after")
    def _masks_are_whole(self) -> Self:
        if self.tracks is not None and (self.num_frames is None or not self._sizes()):
            raise ValueError("tracks need num_frames, and size where no track has a mask")
        if len(self._sizes()) > 1:
            raise ValueError(f"masks of one reply have one size, got {sorted(self._sizes())}")
        return self

    def _sizes(self) -> set[tuple[int, int]]:
        sizes = {mask.size for track in self.tracks or () for mask in track.masks.values()}
        return sizes | ({self.size} if self.size else set())

    def masks(self) -> VideoMasks | None:
        """Video masks of the reply."""
        if self.tracks is None or self.num_frames is None:
            return None
        (size,) = self._sizes()
        return VideoMasks(tracks=self.tracks, size=size, num_frames=self.num_frames, frames=self.mask_frames)


Turns = tuple[str | ScriptedReply, ...]
SCRIPT: TypeAdapter[dict[str, str | ScriptedReply | Turns]] = TypeAdapter(dict[str, str | ScriptedReply | Turns])


class ScriptedModel:
    """Model that looks up its replies in a file; deterministic."""

    def __init__(self, *, name: str = "scripted", replies: Path | None = None) -> None:
        if replies is None:
            raise ValueError("the scripted model needs a file of replies: give the path of a .json file as the model")
        self.name = name
        try:
            content = replies.read_bytes()
            self._script = {key: _turns(value) for key, value in SCRIPT.validate_json(content).items()}
        except OSError as error:
            raise ValueError(f"cannot read the replies in {replies}: {error.strerror}") from error
        except ValidationError as error:
            raise ValueError(f"{replies} is no file of replies: {jsonl.validation_message(error)}") from error
        replies_in_order = [reply for turns in self._script.values() for reply in turns]
        self.capabilities = Capabilities(
            reply_format="evidence",
            tools="native",
            tool_images="tool",
            videos=None,
            predicts_masks=any(reply.tracks is not None for reply in replies_in_order),
        )
        self._sha256 = hashlib.sha256(content).hexdigest()

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        return {"replies": self._sha256}

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """Return the reply of the file for the turn of the conversation; `tools` and `decoding` are ignored."""
        check_tool_messages(messages)
        turn = sum(message.role == "assistant" for message in messages)
        key = self._key(messages)
        turns = self._script[key]
        if turn >= len(turns):
            raise ModelError(f"the script has {len(turns)} replies for {key!r}, turn {turn + 1} was asked")
        reply = turns[turn]
        if reply.error is not None:
            raise RequestTooLarge(reply.error) if reply.is_too_large else ModelError(reply.error)
        usage = Usage(output_tokens=len(reply.text.split()), seconds=0.0)
        calls = with_unique_ids([call.tool_call() for call in reply.calls])
        return Reply(
            text=reply.text,
            masks=reply.masks(),
            usage=usage,
            finish="tool_calls" if calls else "stop",
            option_logprobs=reply.letters,
            calls=calls,
        )

    def _key(self, messages: Sequence[Message]) -> str:
        texts = [part for message in messages for part in message.parts if isinstance(part, str)]
        stems = {
            part.require_no_prompts().stem
            for message in messages
            for part in message.parts
            if isinstance(part, VideoPart)
        }
        fits = [key for key in self._script if key in stems or any(key in text for text in texts)]
        if ANYTHING in self._script:
            fits.append(ANYTHING)
        if not fits:
            raise ModelError(f"the script has no reply for {texts[-1][:200] if texts else 'no text'!r}")
        return max(fits, key=lambda key: (key != ANYTHING, len(key)))


def _turns(value: str | ScriptedReply | Turns) -> tuple[ScriptedReply, ...]:
    turns = value if isinstance(value, tuple) else (value,)
    return tuple(ScriptedReply(text=turn) if isinstance(turn, str) else turn for turn in turns)
