"""What a chat model is: messages in, one reply out. Every adapter fits `Model`; every method talks to nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from evqa.models.messages import Message, Reply, VideoMasks, VideoPart
from evqa.schema import Prediction, ReplyFormat, Usage


class ModelError(Exception):
    """The model did not reply (network, out of memory); a run survives it, and makes a failed record of it."""

    usage: Usage | None = None
    """What was paid for all the same: replies that said nothing."""
    partial: str = ""
    """Text of a reply that an error of the server broke off."""
    tokens: tuple[int | None, int | None] | None = None
    """(in, out) of the reply that is the error; None = it is no reply."""
    may_be_charged: bool = False
    """Whether a request without a reply may have been charged."""
    is_refused_request: bool = False
    """Whether the server refuses what it is sent, so that like requests will fail alike."""


class RunAborted(Exception):
    """No further call can succeed (the key is refused, the budget spent); a run ends, and what is done stays."""

    usage: Usage | None = None
    """See `ModelError`."""
    partial: str = ""
    tokens: tuple[int | None, int | None] | None = None
    may_be_charged: bool = False
    prediction: Prediction | None = None
    """The sample that it ended in the middle of, as a failed one: the replies in it are paid for."""


@runtime_checkable
class ConcurrentModel(Protocol):
    """A model that may be asked by several threads at once, such as one behind an API."""

    concurrency: int
    """How many calls at once are worth while."""


def concurrency_of(model: object) -> int:
    """How many samples a model is asked at once."""
    return model.concurrency if isinstance(model, ConcurrentModel) else 1


@runtime_checkable
class FormattedModel(Protocol):
    """A model that states in which form it replies, whatever its name."""

    reply_format: ReplyFormat
    """See `ModelRow.reply_format`."""


@runtime_checkable
class VisualPromptable(Protocol):
    """A model that takes the places and regions of a clip."""

    def segment_prompts(self, clip: VideoPart) -> VideoMasks:
        """The objects that a clip's places point at, followed through every frame: one track each."""
        ...


@runtime_checkable
class FrameTimes(Protocol):
    """A model that does not tell itself which moments its frames show, so that the prompt has to."""

    def frame_times(self, clip: VideoPart) -> Sequence[float]:
        """Seconds of the frames that it is shown of a clip."""
        ...


@dataclass(frozen=True)
class Capabilities:
    """What a model can do; read in place of its type or name."""

    concurrency: int = 1
    """Calls at once that are worthwhile: requests of an API, sequences of a batch."""
    reply_format: ReplyFormat = "json"
    """Format of an evidence reply."""
    tools: Literal["native", "text", "none"] = "none"
    """Tool calls by the model's own protocol, by a text reply_format (`tool_dialects`), or not at all."""
    images_in_tool_messages: bool = False
    """Whether a tool message can hold images; if not, they follow in one user message."""
    max_images: int | None = None
    """Most images of one request; None = no limit is known."""
    videos: int = 1
    """Most videos of one conversation."""
    predicts_masks: bool = False
    """Whether replies come with masks."""
    visual_prompts: bool = False
    """Whether points, boxes and masks of a `VideoPart` are taken."""
    frame_times: bool = False
    """Whether the prompt has to state the seconds of the frames (see `FrameTimes`)."""
    is_priced: bool = False
    """Whether replies cost money, so that a budget applies."""


class Model(Protocol):
    """A chat model."""

    name: str

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Frame policy, decoding, revision, seed: what must be equal for two runs to be the same run."""
        ...

    def generate(self, messages: Sequence[Message]) -> Reply:
        """The reply to a conversation. Raises `ModelError` where there is none."""
        ...
