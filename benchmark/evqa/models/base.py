"""What a chat model is: messages in, one reply out. Every adapter fits `Model`; every method talks to nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from evqa.models.registry import Dialect
from evqa.schema import AnswerField, Finish, Prediction, Track, Usage


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


WORDS_ONLY = (
    "takes words only, and is pointed at objects: describe them, or ask one that can be pointed at (unipixel-3b)"
)
"""What to say of a model that has no use for a clip's places and regions."""


@dataclass(frozen=True)
class PointOrBox:
    """An object that is pointed at in one frame of a clip."""

    at: tuple[float, ...]
    """A point (x, y) or a box (x0, y0, x1, y1) in original pixels."""
    second: float = 0.0
    """When; the frame shown nearest to it counts."""

    def __post_init__(self) -> None:
        if len(self.at) not in {2, 4}:
            raise ValueError(f"a place is a point (x, y) or a box (x0, y0, x1, y1), got {self.at}")


@dataclass(frozen=True)
class VideoPart:
    """A video as a part of a message. The model samples it by its own frame policy (see `Model.settings`).

    Places and regions are for models that can be pointed at objects (ours); others take words only.
    """

    path: Path
    """A video file or a folder of frames."""
    prompts: tuple[PointOrBox, ...] = ()
    """What the `<|ref|>` in the text behind the clip stand for, in order."""
    regions: tuple[Track, ...] = ()
    """Objects by their masks; the text behind the clip calls them [1], [2], ..."""

    def require_no_prompts(self) -> Path:
        """The path, for a model that takes words only; a `ValueError` where the clip points at objects."""
        if self.prompts or self.regions:
            raise ValueError(f"this model {WORDS_ONLY}")
        return self.path


@dataclass(frozen=True)
class ImagePart:
    """One picture as a part of a message."""

    path: Path
    """A PNG or JPEG file."""


Part = str | VideoPart | ImagePart


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]
    answer_fields: tuple[AnswerField, ...] = ()
    """Where the prompt asks for one JSON object, what it holds: a model that can be held to a schema is held to it."""


@dataclass(frozen=True)
class VideoMasks:
    """Masks that came with a reply, one track per `<|seg|>` in order."""

    tracks: tuple[Track, ...]
    size: tuple[int, int]
    """(H, W)."""
    num_frames: int
    """Frames of the video as decoded."""
    frames: tuple[int, ...] | None = None
    """Frame indices that masks were computed for; None = every frame."""


@dataclass(frozen=True)
class Reply:
    """What a model said, with the masks it drew where it can draw."""

    text: str
    masks: VideoMasks | None = None
    usage: Usage | None = None
    finish: Finish = "stop"
    option_logprobs: Mapping[str, float] | None = None
    """Natural log-probability of each option letter where the reply names its answer by one, before any sampling
    temperature; None where it does not, or the model does not say."""


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

    dialect: Dialect
    """See `ModelRow.dialect`."""


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
