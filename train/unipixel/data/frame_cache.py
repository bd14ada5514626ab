"""Decoded frames on disk, so that a video is decoded once for many epochs, workers and runs.

    FOLDER/names/<2 letters>/<key>    the content of a video file: its SHA-256, by path, size and time of change
    FOLDER/frames/<2 letters>/<key>   one frame: a checksum and its pixels, by content, index and size

A frame is the same whether it comes from here or from its video. Any number of processes may share the folder: what
is written gets its name when it is complete, what does not fit its checksum is not there, and the frames used
longest ago go first. Folders of pictures are read as they are, since that costs no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from evqa import media
from evqa.media import buffers

logger = logging.getLogger(__name__)

SHARE_KEPT = 0.75
"""Of the limit, how much stays when it is exceeded."""

SHARE_UNSEEN = 1 / 16
"""Of the limit, how much a process writes before it looks at the whole folder; so far the limit may be exceeded."""

LEAST_BYTES = 4096
"""What a small file costs on disk."""

STALE = 3600.0
"""Seconds after which an unfinished file is one of a process that was killed."""


class FrameCache:
    """Frames by content. Its counts are those of this process."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.num_found = 0
        self.num_decoded = 0
        self._is_writable = True
        self._unseen: float | None = None  # None: this process has not looked at the folder yet
        self._contents: dict[tuple[str, int, int, int], str] = {}

    def load(self, video: media.Video, indices: Sequence[int]) -> np.ndarray:
        """As `media.load_frames`: uint8 RGB [T, H, W, 3] of the frames in the order given."""
        if video.path.is_dir() or video.path.suffix.lower() in media.IMAGE_SUFFIXES:
            return media.load_frames(video, indices)
        content = self._content(video.path)
        images = buffers.empty_array((len(indices), video.height, video.width, 3))
        missing: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            if not self._read(self._path(content, video, index), images[place]):
                missing.setdefault(int(index), []).append(place)
        self.num_found += len(indices) - sum(map(len, missing.values()))
        for index, image in media.read_frames(video, list(missing)):
            images[missing[index]] = image
            self.num_decoded += 1
            self._write(self._path(content, video, index), _checked(image))
        return images

    def _path(self, content: str, video: media.Video, index: int) -> Path:
        return self.folder / "frames" / content[:2] / f"{content}-{index}-{video.width}x{video.height}"

    def _content(self, path: Path) -> str:
        """SHA-256 of a file; read once as long as the file stays as it is."""
        facts = path.stat()
        key = (str(path.resolve()), facts.st_size, facts.st_mtime_ns, facts.st_ino)
        if key not in self._contents:
            name = hashlib.sha256(repr(key).encode()).hexdigest()
            kept = self.folder / "names" / name[:2] / name
            self._contents[key] = _digest_in(kept) or self._hash(path, kept)
        return self._contents[key]

    def _hash(self, path: Path, kept: Path) -> str:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._write(kept, digest.encode())
        return digest

    @staticmethod
    def _read(path: Path, image: np.ndarray) -> bool:
        """Fill an image; False = it is not there, or not whole."""
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:  # never written, or just removed by another process
            return False
        if len(data) != 4 + image.nbytes or int.from_bytes(data[:4], "little") != zlib.crc32(data[4:]):
            return False
        image[:] = np.frombuffer(data, dtype=np.uint8, offset=4).reshape(image.shape)
        return True

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file at once. A folder that takes nothing more costs time and no sample."""
        if not self._is_writable:
            return
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(path)
            self._count(max(len(data), LEAST_BYTES))
        except OSError as error:
            self._is_writable = False
            logger.warning("the frame cache in %s takes nothing more, frames are decoded: %s", self.folder, error)
            with contextlib.suppress(OSError):
                partial.unlink()

    def _count(self, size: int) -> None:
        self._unseen = None if self._unseen is None else self._unseen + size
        if self._unseen is None or self._unseen > SHARE_UNSEEN * self.max_bytes:
            self._unseen = 0.0
            self.trim()

    def trim(self) -> None:
        """Remove what killed processes left, and above the limit what was used longest ago."""
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return  # another process does it
            files = sorted(self._files(), key=lambda file: file[1])
            total = sum(size for _, _, size in files)
            if total <= self.max_bytes:
                return
            for path, _, size in files:
                if total <= SHARE_KEPT * self.max_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= size

    def _files(self) -> Iterator[tuple[Path, float, int]]:
        """(path, last use, bytes) of what is complete; what has been unfinished for long is removed."""
        for path in self.folder.glob("*/*/*"):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            if not path.name.startswith("."):
                yield path, facts.st_mtime, max(facts.st_size, LEAST_BYTES)
            elif time.time() - facts.st_mtime > STALE:
                path.unlink(missing_ok=True)


def _checked(image: np.ndarray) -> bytes:
    data = image.tobytes()
    return zlib.crc32(data).to_bytes(4, "little") + data


def _digest_in(path: Path) -> str | None:
    try:
        digest = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return digest if len(digest) == 64 and set(digest) <= set("0123456789abcdef") else None
