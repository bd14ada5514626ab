"""Settings of the methods with an agent: limits, frames, and search.

Commands have them as options; `evqa --help` imports this module and no other of the package.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evqa.models.options import option

if TYPE_CHECKING:
    from evqa.agents.episode import Limits
    from evqa.agents.frame_tools import FrameLimits

DEFAULT_ENCODER = "imagenet-minilm"
"""Name of the encoder that needs no network, see `retrieval.encoders.ENCODERS`."""


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """Settings of the methods agent, retrieve, inspected and uniform."""

    max_turns: Annotated[int, option("N")] = 10
    """most turns with tools; one more request asks for the answer."""
    max_calls_per_turn: Annotated[int, option("N")] = 8
    """most tool calls of one reply that are served."""
    max_images: Annotated[int | None, option("N", default="no limit")] = None
    """most images of all tool results of a sample."""
    keep_rounds: Annotated[int | None, option("N", default="all")] = None
    """latest tool results whose images stay in the prompt; older images are replaced by their labels."""
    max_sample_tokens: Annotated[int | None, option("N", default="no limit")] = None
    """most tokens of a sample, prompts and responses; then the answer is due."""
    max_sample_cost: Annotated[float | None, option("DOLLARS", default="no limit")] = None
    """most US dollars of a sample; then the answer is due."""
    max_sample_seconds: Annotated[float | None, option("SECONDS", default="no limit")] = None
    """most wall time of a sample; then the answer is due."""
    frames_per_call: Annotated[int, option("N")] = 10
    """most frames that one tool call returns."""
    uniform_frames: Annotated[int, option("N")] = 32
    """frames of the method uniform."""
    grid_fps: Annotated[float, option("FPS")] = 1.0
    """frames per second of a video file that have an id and can be searched."""
    image_side: Annotated[int, option("PIXELS")] = 768
    """longer side of the images of tool results."""
    encoder: Annotated[str, option("NAME")] = DEFAULT_ENCODER
    """encoder of the frame search (evqa list encoders), a checkpoint, or none = no frame search."""
    index: Annotated[Path | None, option("FOLDER", default="outputs/frame_index")] = None
    """folder of frame indices (evqa index); missing ones are built at first use."""
    embeddings: Annotated[Path | None, option("FOLDER", default="none")] = None
    """folder of published embeddings VIDEO.pt for the encoder, in place of an index."""

    def limits(self) -> Limits:
        """Limits of an episode."""
        from evqa.agents.episode import Limits

        return Limits(
            turns=self.max_turns,
            calls_per_turn=self.max_calls_per_turn,
            images=self.max_images,
            tokens=self.max_sample_tokens,
            cost=self.max_sample_cost,
            seconds=self.max_sample_seconds,
            keep_rounds=self.keep_rounds,
        )

    def frame_limits(self) -> FrameLimits:
        """Limits of the tools over frames."""
        from evqa.agents.frame_tools import FrameLimits

        return FrameLimits(frames_per_call=self.frames_per_call, max_side=self.image_side)

    def identity(self) -> dict[str, str | int | float | bool | None]:
        """Settings that decide a prediction, for the identity of a run; folders do not."""
        folders = {"index", "embeddings"}
        return {f"method.{item.name}": getattr(self, item.name) for item in fields(self) if item.name not in folders}


DEFAULT_SETTINGS = AgentSettings()
