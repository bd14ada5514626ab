"""Opened video files. The last ones are kept open, so that an index and several readers of one video open it once.

A file that changed since is opened anew. Each container is used by one reader at a time; a child process starts
with none, since it would share the position in the file with its parent.
"""

# pyright: reportUnknownMemberType=false
# PyAV's types leave out what a packet belongs to

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from evqa.media import truncation
from evqa.media.images import check_pixels

FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif"
"""Containers that are opened. Play lists and scripts, which name other files, are not among them."""

MAX_OPEN = 4
"""Containers that are kept open after use."""


class FileIdentity(NamedTuple):
    """What tells a file from another one at the same path, and from itself after a change."""

    device: int
    inode: int
    size: int
    """Bytes."""
    changed: int
    """Nanoseconds."""


class FileHead(NamedTuple):
    """What a decoder was given from the file's first packet on, so that it can go on from there."""

    packets: list[Packet[VideoStream]]
    frames: list[VideoFrame]
    """What came out for them."""


class OpenedFile(NamedTuple):
    """An opened file and its video stream."""

    container: InputContainer
    stream: VideoStream
    beginning: list[FileHead]
    """At most one. It holds until the next seek, so its first user takes it out, or who seeks."""


Key = tuple[Path, FileIdentity]


class _ContainerCache:
    """Containers that nobody uses at the moment, the last used ones at the end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free: list[tuple[Key, OpenedFile]] = []


_kept = _ContainerCache()


def identity_of(path: Path) -> FileIdentity:
    """The identity of a file now; a `ValueError` where there is none or it is empty."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ValueError(f"no such file: {path}; expected a video, or a folder of frames") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from error
    if status.st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes): fetch it again")
    return FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@contextmanager
def ffmpeg_errors(path: Path) -> Generator[None]:
    """FFmpeg's errors as `ValueError` with the path."""
    try:
        yield
    except FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{path} cannot be read as a video ({reason}): fetch it again, or re-encode it") from error


@contextmanager
def open_file(path: Path) -> Generator[OpenedFile]:
    """A newly opened file, at its beginning; closed afterwards."""
    found = _open(path)
    with found.container:
        yield found


@contextmanager
def cached_file(path: Path, identity: FileIdentity, *, is_new: bool = False) -> Generator[OpenedFile]:
    """An opened file, kept open afterwards unless an error came.

    It is at any position, so seek before reading; with `is_new` it is newly opened, at its beginning.
    """
    key = (path, identity)
    found = (None if is_new else _take(key)) or _open(path)
    try:
        yield found
    except GeneratorExit:  # a reader stopped early
        _give(key, found)
        raise
    except BaseException:
        found.container.close()
        raise
    else:
        _give(key, found)


def close_all() -> None:
    """Close the files that nobody uses."""
    with _kept.lock:
        free, _kept.free = _kept.free, []
    for _, found in free:
        found.container.close()


def _take(key: Key) -> OpenedFile | None:
    with _kept.lock:
        for place, (other, found) in enumerate(_kept.free):
            if other == key:
                del _kept.free[place]
                return found
    return None


def _give(key: Key, found: OpenedFile) -> None:
    """Keep a container for the next reader; those of the file's former states, and the oldest, are closed."""
    with _kept.lock:
        free = [*_kept.free, (key, found)]
        stale = [entry for entry in free if entry[0][0] == key[0] and entry[0] != key]
        free = [entry for entry in free if entry not in stale]
        stale += free[:-MAX_OPEN]
        _kept.free = free[-MAX_OPEN:]
    for _, old in stale:
        old.container.close()


def _start_child() -> None:
    _kept.__init__()


os.register_at_fork(after_in_child=_start_child)


def _open(path: Path) -> OpenedFile:
    limits = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    container = av.open(str(path.absolute()), container_options=limits)
    try:
        return OpenedFile(container, _video_stream(path, container), [])
    except BaseException:
        container.close()
        raise


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    streams = [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]
    if not streams:
        truncation.check(path, container.format.name)
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise ValueError(f"{path} has no video stream, it holds {kinds}: fetch it again, or give another file")
    stream = streams[0]
    if stream.codec_context is None:  # type: ignore[reportUnnecessaryComparison]  # PyAV's types leave it out
        raise ValueError(f"{path} has a video stream in a codec that cannot be decoded: re-encode it")
    check_pixels(path, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "NONE"  # with threads, the switch for left-out pictures would reach other packets
    stream.codec_context.thread_count = 1
    return stream
