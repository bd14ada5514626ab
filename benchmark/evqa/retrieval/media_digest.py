"""Digest of the content of a video: which bytes an index was made from.

The digest is the SHA-256 of the whole file, or of the names and SHA-256 of a folder's frames, so that any changed byte
is detected. It is computed when an index is built, where decoding reads the file anyway. Later a file whose size,
modification time and change time are as recorded is taken to be unchanged, as `git` does, and is not read again; any
other file is read.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from evqa.media import frame_folders
from evqa.schema import StrictRecord

SETTLED_SECONDS = 2.0
"""Age from which on a file's times distinguish it from a later version: clocks of file systems are coarse."""


class MediaDigest(StrictRecord):
    """Content of a video."""

    sha256: str
    num_bytes: int
    state: str | None
    """Hash of names, sizes and times of the files; None = they were too young to be compared by it."""


def media_digest(path: Path) -> MediaDigest:
    """Digest of a video file or of a folder of frames, by reading it. `ValueError`: it cannot be read."""
    try:
        state = _state(path)
        return MediaDigest(sha256=_content(path), num_bytes=sum(map(_size, _files(path))), state=state)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error


def unchanged(path: Path, digest: MediaDigest) -> MediaDigest | None:
    """The digest, with the present state, of a video that has its content; None = it has another one.

    `ValueError`: it cannot be read.
    """
    try:
        state = _state(path)
        if digest.state is not None and state == digest.state:
            return digest
        if sum(map(_size, _files(path))) != digest.num_bytes or _content(path) != digest.sha256:
            return None
        return digest.replace(state=state)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error


def _files(path: Path) -> list[Path]:
    return frame_folders.image_paths(path) if path.is_dir() else [path]


def _size(path: Path) -> int:
    return path.stat().st_size


def _state(path: Path) -> str | None:
    digest = hashlib.sha256()
    newest = 0
    for file in _files(path):
        stat = file.stat()
        newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
        fields = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        digest.update(f"{file.name}\0{fields}\n".encode(errors="surrogateescape"))
    return digest.hexdigest() if time.time_ns() - newest > SETTLED_SECONDS * 1e9 else None


def _content(path: Path) -> str:
    if not path.is_dir():
        return _file_hash(path)
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.name}\0{_file_hash(file)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
