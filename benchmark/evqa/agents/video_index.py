"""Frame index of a sample's video, by the settings of a method."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from evqa.agents.settings import AgentSettings
from evqa.retrieval.frame_grid import FrameGrid
from evqa.schema import Sample

if TYPE_CHECKING:
    from evqa.retrieval.encoders import Encoder
    from evqa.retrieval.frame_index import FrameIndex

NO_ENCODER = "none"
"""Name in place of an encoder: frames cannot be searched."""


def index_opener(sample: Sample, grid: FrameGrid, settings: AgentSettings) -> Callable[[], FrameIndex] | None:
    """Return a function that opens the frame index of a video, or builds it; None = its frames cannot be searched.

    With published embeddings, a video without a file of them cannot be searched.
    """
    if settings.encoder == NO_ENCODER:
        return None
    if settings.embeddings is not None:
        path = settings.embeddings / f"{sample.video_id}.pt"
        return (lambda: _published_index(path, grid, settings.encoder)) if path.is_file() else None
    return lambda: _built_index(grid, settings.encoder, settings.index)


def check_encoder(settings: AgentSettings) -> None:
    """Load the encoder. `ValueError`: no such encoder or folder of embeddings, or packages or weights are missing."""
    if settings.embeddings is not None and not settings.embeddings.is_dir():
        raise ValueError(f"--embeddings is a folder with a file VIDEO.pt per video: there is no {settings.embeddings}")
    if settings.encoder != NO_ENCODER:
        shared_encoder(settings.encoder)


@lru_cache(maxsize=2)
def shared_encoder(name: str) -> Encoder:
    """The encoder of a name, loaded once per process. `ValueError`: see `check_encoder`."""
    from evqa.retrieval.encoders import load_encoder

    return load_encoder(name)


def _published_index(path: Path, grid: FrameGrid, encoder: str) -> FrameIndex:
    from evqa.retrieval.published_index import published_index

    return published_index(path, grid, shared_encoder(encoder))


def _built_index(grid: FrameGrid, encoder: str, root: Path | None) -> FrameIndex:
    from evqa.retrieval.frame_index import open_or_build

    return open_or_build(grid, shared_encoder(encoder), root)
