"""Files of a frame index: its record, its frames and its embeddings, with all checks of opening.

Folder of an index:

    record.json      version, video with digest, encoder with revision, number of frames (`IndexRecord`)
    frames.npy       [N] of (id, index, second); second is NaN where the times are unknown
    embeddings.npy   float32 [N, D]; memory-mapped, so that opening does not read it
"""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from evqa.files import jsonl, links, roots
from evqa.retrieval import media_digest
from evqa.retrieval.encoders import Encoder
from evqa.retrieval.frame_grid import FrameGrid
from evqa.retrieval.media_digest import MediaDigest
from evqa.schema import StrictRecord

INDEX_VERSION = 1
"""Version of the format; an index of another version is built again."""

RECORD, FRAMES, EMBEDDINGS = "record.json", "frames.npy", "embeddings.npy"

MAX_RECORD_BYTES = 2**16

FRAME_TYPE = np.dtype([("id", "<i8"), ("index", "<i8"), ("second", "<f8")])
"""Row of frames.npy."""


class EncoderIdentity(StrictRecord):
    """Encoder of an index."""

    name: str
    revision: str
    dim: int


class IndexRecord(StrictRecord):
    """Content of record.json."""

    version: int
    video: str
    """Absolute path when the index was built; for people, never opened."""
    media: MediaDigest
    encoder: EncoderIdentity
    fps: float | None
    """Mean frames per second of the grid; None = the times are unknown."""
    num_frames: int


def open_embeddings(folder: Path, grid: FrameGrid, encoder: Encoder) -> NDArray[np.float32]:
    """Embeddings [N, D] of the index in a folder, memory-mapped.

    Raises:
        ValueError: the folder has no index, or a damaged one, or that of another video, grid or encoder; the message
            has the reason.
    """
    record = read_record(folder)
    _check_encoder(folder, record, encoder)
    _check_frames(folder, record, grid)
    embeddings = _map_embeddings(folder, record)
    _check_media(folder, record, grid)
    return embeddings


def default_root() -> Path:
    """Folder of all indices, shared between runs: `outputs/frame_index`."""
    return roots.outputs("frame_index")


def index_folder(grid: FrameGrid, encoder: Encoder, root: Path | None = None) -> Path:
    """Folder of the index of a grid: ROOT/ENCODER/VIDEO-HASH, where HASH is that of the video's path and the grid.

    `root`: folder of all indices; None = `default_root`.
    """
    path = grid.video.path.resolve()
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape") + b"\0")
    for array in (grid.ids, grid.indices):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    name = encoder.name.rstrip("/").rpartition("/")[2]
    return (root or default_root()) / _plain(name) / f"{_plain(path.stem)}-{digest.hexdigest()[:12]}"


def _plain(text: str) -> str:
    """A text as part of a file name."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in text).lstrip(".")
    return plain[:80] or "video"


# Checks


def read_record(folder: Path) -> IndexRecord:
    """Read the record of an index. `ValueError`: the folder has none, or a damaged one."""
    path = folder / RECORD
    if not path.is_file():
        raise ValueError(f"{folder} is no frame index: it has no {RECORD}; `evqa index` builds one")
    _check_inside(path)
    with path.open("rb") as file:
        content = file.read(MAX_RECORD_BYTES + 1)
    if len(content) > MAX_RECORD_BYTES:
        raise ValueError(f"{path} is no record of a frame index: it is longer than {MAX_RECORD_BYTES} bytes")
    try:
        record = IndexRecord.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{path} is no record of a frame index: {jsonl.validation_message(error)}") from error
    if record.version != INDEX_VERSION:
        raise ValueError(f"{path} has version {record.version}, expected {INDEX_VERSION}: build the index again")
    return record


def write_record(folder: Path, record: IndexRecord) -> None:
    """Write the record of an index."""
    jsonl.write_json(folder / RECORD, record.model_dump(mode="json"))


def _check_inside(path: Path) -> None:
    target = path.resolve()
    if links.leads_out(path, target):
        raise ValueError(f"{path} leads out of its folder, to {target}; {links.link_advice(target)}")


def _check_encoder(folder: Path, record: IndexRecord, encoder: Encoder) -> None:
    built, current = record.encoder, encoder_identity(encoder)
    if (built.revision, built.dim) != (current.revision, current.dim):
        raise ValueError(
            f"{folder} was built with encoder {built.name} (revision {built.revision}, {built.dim} dimensions), not "
            f"with {current.name} (revision {current.revision}, {current.dim} dimensions): build it again"
        )


def _check_frames(folder: Path, record: IndexRecord, grid: FrameGrid) -> None:
    frames = _load_array(folder / FRAMES)
    if frames.dtype != FRAME_TYPE or frames.shape != (record.num_frames,):
        raise ValueError(f"{folder / FRAMES} does not have the {record.num_frames} frames of {RECORD}: build it again")
    expected = frame_table(grid)
    if len(frames) != len(expected) or any((frames[key] != expected[key]).any() for key in ("id", "index")):
        raise ValueError(
            f"{folder} has other frames than the grid of {grid.video.path} ({len(frames)}, expected {len(expected)}): "
            f"it is of another video or another --fps; build it again"
        )


def _map_embeddings(folder: Path, record: IndexRecord) -> NDArray[np.float32]:
    path = folder / EMBEDDINGS
    embeddings = _load_array(path, mmap_mode="r")
    shape = (record.num_frames, record.encoder.dim)
    if embeddings.dtype != np.dtype("<f4") or embeddings.shape != shape or not embeddings.flags.c_contiguous:
        raise ValueError(
            f"{path} has {embeddings.dtype} {list(embeddings.shape)}, expected float32 {list(shape)}: build it again"
        )
    return np.asarray(embeddings)


def _load_array(path: Path, mmap_mode: Any = None) -> NDArray[Any]:
    """An array of an .npy file; pickles are refused. `ValueError`: it is none, or shorter than its header says."""
    if not path.is_file():
        raise ValueError(f"{path.parent} is no complete frame index: it has no {path.name}; build it again")
    _check_inside(path)
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](file)
            expected = file.tell() + math.prod(shape) * dtype.itemsize
        size = path.stat().st_size
        array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False) if size == expected else None
    except (OSError, ValueError, KeyError, EOFError, OverflowError, MemoryError, TypeError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged or truncated ({str(error)[:200]}): build the index again") from error
    if array is None:
        raise ValueError(
            f"{path} is damaged or truncated: expected {expected} bytes by its header, got {size}; build the index "
            f"again"
        )
    return array


def _check_media(folder: Path, record: IndexRecord, grid: FrameGrid) -> None:
    path = grid.video.path
    current = media_digest.unchanged(path, record.media)
    if current is None:
        raise ValueError(f"{folder} is of another content of {path}: the video changed; build the index again")
    if current != record.media:
        with suppress(OSError):  # to save the next reader the time; the folder may be read-only
            write_record(folder, record.replace(media=current))


def encoder_identity(encoder: Encoder) -> EncoderIdentity:
    """Identity of an encoder as an index records it."""
    return EncoderIdentity(name=encoder.name, revision=encoder.revision, dim=encoder.dim)


def frame_table(grid: FrameGrid) -> NDArray[Any]:
    """Content of frames.npy."""
    table = np.empty(len(grid), FRAME_TYPE)
    table["id"], table["index"] = grid.ids, grid.indices
    table["second"] = np.nan if grid.seconds is None else grid.seconds
    return table
