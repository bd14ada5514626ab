"""Messages of a conversation with a model: text, videos, images, tool calls and tool results, and the reply."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evqa.media.images import read_rgb
from evqa.schema import AnswerField, Finish, FrameRef, ToolCall, Track, Usage

WORDS_ONLY = (
    "takes words only, and is pointed at objects: describe them, or ask one that can be pointed at (unipixel-3b)"
)
"""Error message of models without visual prompts."""


@dataclass(frozen=True)
class PointOrBox:
    """Point or box prompt of an object in one frame of a video."""

    at: tuple[float, ...]
    """A point (x, y) or a box (x0, y0, x1, y1) in original pixels."""
    second: float = 0.0
    """Time in seconds; the nearest sampled frame is used."""

    def __post_init__(self) -> None:
        if len(self.at) not in {2, 4}:
            raise ValueError(f"a place is a point (x, y) or a box (x0, y0, x1, y1), got {self.at}")


@dataclass(frozen=True)
class VideoPart:
    """A video as a part of a message. The model samples it by its own frame policy (see `Model.settings`).

    Prompts and regions need a model with the capability `visual_prompts`.
    """

    path: Path
    """A video file or a folder of frames."""
    prompts: tuple[PointOrBox, ...] = ()
    """Points and boxes of the `<|ref|>` tokens in the text after the video, in order."""
    regions: tuple[Track, ...] = ()
    """Objects given by masks; the text after the video refers to them as [1], [2], ..."""

    def require_no_prompts(self) -> Path:
        """Path of the video. `ValueError`: it has visual prompts, which the model does not accept."""
        if self.prompts or self.regions:
            raise ValueError(f"this model {WORDS_ONLY}")
        return self.path


@dataclass(frozen=True, eq=False)
class ImagePart:
    """An image as a part of a message: a file, or pixels in memory such as a frame that a tool returns."""

    path: Path | None = None
    """A PNG or JPEG file."""
    image: NDArray[np.uint8] | None = None
    """uint8 RGB [H, W, 3], instead of `path`."""
    second: float | None = None
    """Presentation time in seconds; every adapter writes it as a time mark before the image. None = no time mark."""
    max_side: int | None = None
    """Longer side in pixels that adapters keep, in place of their limit for frames of a video; None = that limit."""
    label: str = ""
    """Text that every adapter writes before the image in place of the time mark, such as the id of a frame."""
    ref: FrameRef | None = None
    """Frame of the sample's video that the image shows; the trace stores it instead of pixels."""

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3]. `ValueError`: the file cannot be read as an image."""
        if self.image is not None:
            return self.image
        assert self.path is not None
        return read_rgb(self.path)

    def key(self) -> str:
        """Text that identifies the image: its path, or the digest of its pixels."""
        if self.path is not None:
            return str(self.path)
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        """Digest of the pixels, computed once: a part stays in the conversation of an agent for many requests."""
        assert self.image is not None
        return f"sha256:{hashlib.sha256(np.ascontiguousarray(self.image).data).hexdigest()} {self.image.shape}"

    def __post_init__(self) -> None:
        if (self.path is None) == (self.image is None):
            raise ValueError(
                "an image is given by its path or by its pixels: got " + ("both" if self.path else "neither")
            )


Part = str | VideoPart | ImagePart


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...]
    answer_fields: tuple[AnswerField, ...] = ()
    """Fields of the JSON object that the prompt requests; enforced for a model with structured output."""
    calls: tuple[ToolCall, ...] = ()
    """Tool calls of an assistant message."""
    call_id: str | None = None
    """Id of the call that a tool message answers; every call has exactly one tool message."""
    raw: object = None
    """Content of an assistant message as its provider sent it, for providers that need it back unchanged (Gemini 3:
    thought signatures). See `Reply.raw`."""

    def __post_init__(self) -> None:
        if (self.role == "tool") != (self.call_id is not None):
            raise ValueError(
                f"a message of role tool, and no other, has a call_id; got {self.role} with {self.call_id!r}"
            )
        if self.calls and self.role != "assistant":
            raise ValueError(f"tool calls belong to a message of role assistant, got {self.role}")


@dataclass(frozen=True)
class VideoMasks:
    """Masks predicted with a reply, one track per `<|seg|>` in order."""

    tracks: tuple[Track, ...]
    size: tuple[int, int]
    """(H, W)."""
    num_frames: int
    """Number of decoded frames of the video."""
    frames: tuple[int, ...] | None = None
    """Frame indices that masks were computed for; None = every frame."""


@dataclass(frozen=True)
class Reply:
    """Response of a model: text, tool calls, and masks where the model predicts them."""

    text: str
    masks: VideoMasks | None = None
    usage: Usage | None = None
    finish: Finish = "stop"
    option_logprobs: Mapping[str, float] | None = None
    """Natural log-probability of each option letter at the answer of the reply, before any sampling temperature; None =
    the reply names no letter, or the model does not state probabilities."""
    calls: tuple[ToolCall, ...] = ()
    """Tool calls in the order of the reply; `text` may be empty then."""
    raw: object = None
    """Content as the provider sent it, to be sent back unchanged in `Message.raw`; None = text and calls suffice."""
    steps: tuple[str, ...] = ()
    """What was reduced until the request fitted into memory, such as "batch 4 to 2"."""

    def after(self, steps: tuple[str, ...]) -> Reply:
        """The reply with the steps in which its request was reduced."""
        return replace(self, steps=steps)

    def message(self) -> Message:
        """The reply as an assistant message of the conversation."""
        parts = (self.text,) if self.text or not self.calls else ()
        return Message("assistant", parts, calls=self.calls, raw=self.raw)


@dataclass(frozen=True)
class ToolSpec:
    """Description of a tool for a model."""

    name: str
    description: str
    parameters: Mapping[str, object]
    """JSON Schema of an object: one property per parameter."""


@dataclass(frozen=True)
class Decoding:
    """Decoding settings of one call; None = the adapter's own setting."""

    temperature: float | None = None
    """0 = greedy."""
    top_p: float | None = None
    seed: int | None = None
    """Seed of sampling; equal seeds give equal replies where the backend is deterministic."""
    max_tokens: int | None = None
    """Maximum number of new tokens."""
    stop: tuple[str, ...] = ()
    """Strings that end the reply; the text ends before the first of them."""

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is a number from 0 on, got {self.temperature}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is a probability above 0 and at most 1, got {self.top_p}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is a number of tokens, at least 1, got {self.max_tokens}")
        if not all(self.stop):
            raise ValueError("a stop string has at least one character")


def conversation_key(messages: Sequence[Message]) -> str:
    """Text that identifies a conversation: its texts, the paths of videos, and images by `ImagePart.key`."""
    parts = [part for message in messages for part in message.parts]
    return "\n".join(
        part if isinstance(part, str) else part.key() if isinstance(part, ImagePart) else str(part.path)
        for part in parts
    )


def with_unique_ids(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Calls of one reply with unique ids: missing and repeated ids are replaced."""
    used: set[str] = set()
    unique: list[ToolCall] = []
    for number, call in enumerate(calls, start=1):
        identifier = call.id
        while not identifier or identifier in used:
            identifier = f"call_{number}" if not identifier else f"{identifier}_{number}"
        used.add(identifier)
        unique.append(call if identifier == call.id else call.replace(id=identifier))
    return tuple(unique)


def move_tool_images(messages: Sequence[Message]) -> list[Message]:
    """The conversation with text alone in its tool messages, for providers whose tool messages hold no images.

    The images of the tool messages of one reply follow them in one user message, frames of one video in order of time
    and each once, frames of several videos as they are; where a user message comes next, they are put at its beginning.
    `ValueError`: see `check_tool_messages`.
    """
    check_tool_messages(messages)
    moved: list[Message] = []
    images: list[Part] = []
    for message in messages:
        if message.role == "tool":
            images += [part for part in message.parts if not isinstance(part, str)]
            texts = tuple(part for part in message.parts if isinstance(part, str))
            moved.append(replace(message, parts=texts))
            continue
        if images and message.role == "user":
            moved.append(replace(message, parts=(*_in_order_of_time(images), *message.parts)))
        else:
            moved += [Message("user", _in_order_of_time(images)), message] if images else [message]
        images = []
    if not images:
        return moved
    return [*moved, Message("user", _in_order_of_time(images), answer_fields=messages[-1].answer_fields)]


def _in_order_of_time(images: Sequence[Part]) -> tuple[Part, ...]:
    """Frames in order of time, each once, if all images are frames of one video; else the images as they are.

    Frames of several videos are pairs whose order is that of the request.
    """
    frames = {
        (part.ref.index, part.label): part for part in images if isinstance(part, ImagePart) and part.ref is not None
    }
    videos = {part.ref.video if isinstance(part, ImagePart) and part.ref else None for part in images}
    is_one_video = len(videos) == 1 and None not in videos
    return tuple(frames[key] for key in sorted(frames)) if is_one_video else tuple(images)


def check_tool_messages(messages: Sequence[Message]) -> None:
    """Check that every tool call has exactly one tool message, directly after its assistant message.

    Servers refuse anything else without naming the call or message; the `ValueError` names both.
    """
    place = 0
    while place < len(messages):
        message = messages[place]
        place += 1
        if message.role == "tool":
            raise ValueError(f"the tool message for {message.call_id!r} follows no message with tool calls")
        if not message.calls:
            continue
        results = list(itertools.takewhile(lambda message: message.role == "tool", messages[place:]))
        place += len(results)
        _match_ids([call.id for call in message.calls], [str(result.call_id) for result in results])


def _match_ids(calls: list[str], results: list[str]) -> None:
    if repeated := [call for call, count in Counter(calls).items() if count > 1]:
        raise ValueError(f"tool calls of one message have ids of their own, {repeated[0]!r} is there twice")
    if missing := [call for call in calls if call not in results]:
        raise ValueError(f"the tool call {missing[0]!r} has no tool message: add one right behind the calls")
    if excess := [result for result, count in Counter(results).items() if count > 1 or result not in calls]:
        raise ValueError(f"the tool call {excess[0]!r} needs exactly one tool message, and is one of {calls}")
