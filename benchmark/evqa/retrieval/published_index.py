"""Published frame embeddings: `<key>.pt` with `{filenames: [str], embeddings: [N, D]}` beside a folder of frames.

The file is read without running code in it (`weights_only`). Rows are matched to the frames by file name, never by
position: the published program left names of unreadable images in the list.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from evqa.retrieval.encoders import Encoder
from evqa.retrieval.frame_grid import FrameGrid
from evqa.retrieval.frame_index import FrameIndex

FRAME_FILE = re.compile(r"frame_(\d{1,9})\.(?:jpe?g|png)", re.ASCII | re.IGNORECASE)

MAX_INFLATION = 4
"""Bytes in the archive for each of the file; torch stores without compression."""

MAX_LISTED = 5


def published_index(path: Path, grid: FrameGrid, encoder: Encoder) -> FrameIndex:
    """Read published embeddings as the index of a folder of frames; it stays in memory.

    Names that are no frames of the grid are left out and stated in `FrameIndex.notes`.

    Args:
        path: the .pt file.
        grid: frames of the folder.
        encoder: encoder that the embeddings were made with, for the queries.

    Raises:
        ValueError: the file is missing or damaged, holds something else, has another dimension than the encoder, or
            lacks frames of the grid.
    """
    names, embeddings = _content(path)
    if embeddings.shape != (len(names), encoder.dim):
        raise ValueError(
            f"{path} has embeddings of shape {list(embeddings.shape)} for {len(names)} names, expected "
            f"{[len(names), encoder.dim]}, the dimension of encoder {encoder.name!r}"
        )
    rows, foreign = _rows(path, names, grid)
    vectors = np.ascontiguousarray(embeddings[rows].float().numpy())
    if not np.isfinite(vectors).all():
        raise ValueError(f"{path} has embeddings that are NaN or infinite: make the file again")
    if encoder.is_cosine:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not norms.all():
            raise ValueError(f"{path} has {int((norms == 0).sum())} embeddings of zeros: make the file again")
        vectors /= norms
    notes = [f"{path.name}: {len(foreign)} names are no frames of the video: {_first(foreign)}"] if foreign else []
    return FrameIndex(grid, encoder, vectors, tuple(notes))


def _rows(path: Path, names: Sequence[str], grid: FrameGrid) -> tuple[list[int], list[str]]:
    """Row of each frame of the grid in the file, and the names that are no frames of it."""
    ids = {number: place for place, number in enumerate(grid.ids.tolist())}
    rows: dict[int, int] = {}
    foreign: list[str] = []
    for row, name in enumerate(names):
        match = FRAME_FILE.fullmatch(PurePosixPath(name.replace("\\", "/")).name)
        if match is None or int(match[1]) not in ids:
            foreign.append(name)
        elif int(match[1]) in rows:
            raise ValueError(f"{path} has two embeddings of frame {int(match[1])}: make the file again")
        else:
            rows[int(match[1])] = row
    if missing := [number for number in ids if number not in rows]:
        raise ValueError(
            f"{path} has no embedding of {len(missing)} of {len(ids)} frames ({_first(map(str, missing))}): it is of "
            f"another video or incomplete"
        )
    return [rows[number] for number in ids], foreign


def _first(names: Any) -> str:
    labels = [ascii(name[:80])[1:-1] for name in names]
    more = f" and {len(labels) - MAX_LISTED} more" if len(labels) > MAX_LISTED else ""
    return ", ".join(labels[:MAX_LISTED]) + more


def _content(path: Path) -> tuple[list[str], Any]:
    """(names, embeddings: dense float tensor [N, D]) of the file."""
    content = _load(path)
    if not isinstance(content, Mapping):
        raise ValueError(  # noqa: TRY004  (an error of the user)
            f"{path} holds a {type(content).__name__}, expected a dictionary of filenames and embeddings"
        )
    fields = cast("Mapping[str, Any]", content)
    names, embeddings = fields.get("filenames"), fields.get("embeddings")
    if not isinstance(names, list | tuple) or not all(
        isinstance(name, str) for name in cast("Sequence[object]", names)
    ):
        raise ValueError(f"{path}: expected filenames as a list of text")
    if not _is_dense(embeddings):
        raise ValueError(f"{path}: expected embeddings as a tensor of floating-point numbers [frames, dimensions]")
    return list(cast("Sequence[str]", names)), embeddings


def _is_dense(value: object) -> bool:
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.is_floating_point()
        and value.ndim == 2
    )


def _load(path: Path) -> Any:
    import torch

    from evqa.models.weights import loading_context

    if not path.is_file():
        raise ValueError(f"no published embeddings at {path}: expected a .pt file")
    with loading_context(f"the embeddings in {path}"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(info.file_size for info in archive.infolist())
            if size > MAX_INFLATION * path.stat().st_size + 2**20:
                raise ValueError(f"it unpacks to {size} bytes")
        return torch.load(path, map_location="cpu", weights_only=True)
