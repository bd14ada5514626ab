"""Frame sampling for general models: upright frames with their aspect ratio and their times in seconds.

The policy is part of the model's registry entry and of the identity of a run.
"""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from evqa import media
from evqa.files.locks import KeyedLocks
from evqa.models.messages import ImagePart, Part

KEPT_CLIPS = 8
"""Minimum number of videos whose frames are cached, at least one per thread: several questions or turns about a video
decode it once."""

KEPT_JPEG_BYTES = 256 * 2**20
"""Bytes of encoded images that a model keeps."""

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class FramePolicy:
    """Frame sampling and frame size of a model."""

    fps: float
    """Frames per second; at most `max_frames`, evenly spaced with first and last frame."""
    max_frames: int
    max_side: int | None
    """Maximum length of the longer side in pixels; the aspect ratio is kept. None = as in the video."""
    time_marks: bool = True
    """Whether a time mark such as `[12.5 s]` precedes each frame."""

    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Settings of the policy for the identity of a run."""
        return {
            "fps": self.fps,
            "max_frames": self.max_frames,
            "max_side": self.max_side,
            "time_marks": self.time_marks,
        }


class TimedFrame(NamedTuple):
    """Frame of a video with its time."""

    second: float
    image: Image.Image
    """RGB."""


class Jpeg(NamedTuple):
    """Frame of a video as a JPEG file with its time."""

    second: float
    content: bytes

    @property
    def data_url(self) -> str:
        """Data URL of the image."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.content).decode('ascii')}"


def timed_frames(path: Path, policy: FramePolicy) -> Iterator[TimedFrame]:
    """Yield the sampled frames of a video in temporal order; one is in memory at a time."""
    video = media.probe_video(path)
    for index, image in media.read_frames(video, media.indices_at_fps(video, policy.fps, policy.max_frames)):
        yield TimedFrame(round(float(video.times[index]), 3), _fitted(image, policy.max_side))


def jpegs(path: Path, policy: FramePolicy, quality: int) -> tuple[Jpeg, ...]:
    """Yield the same frames as JPEG files; `quality`: 1 to 95."""
    return tuple(Jpeg(second, _encoded(image, quality)) for second, image in timed_frames(path, policy))


def image_of(part: ImagePart, policy: FramePolicy) -> Image.Image:
    """RGB image of a message part, with its longer side at most its own `max_side`, else `policy.max_side`."""
    return _fitted(part.pixels(), part.max_side or policy.max_side)


def jpeg_of(part: ImagePart, policy: FramePolicy, quality: int) -> Jpeg:
    """JPEG file of a message part."""
    return Jpeg(part.second or 0.0, _encoded(image_of(part, policy), quality))


class ByteLimitedCache(Generic[Value]):
    """Thread-safe LRU cache of values whose sizes in bytes add up to at most a capacity."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """Value of a key; None = it is not in the cache."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Value, num_bytes: int) -> None:
        """Add a value; the least recently used ones are removed until it fits."""
        with self._lock:
            self._num_bytes += num_bytes - self._values.pop(key, (value, 0))[1]
            self._values[key] = value, num_bytes
            while self._num_bytes > self._capacity:
                _, (_, removed_bytes) = self._values.popitem(last=False)
                self._num_bytes -= removed_bytes


class JpegCache:
    """Thread-safe LRU cache of the JPEG files of message parts.

    Each request of an agent holds the images of all earlier turns: they are scaled and encoded once. Equal pixels share
    one entry, also in different conversations.
    """

    def __init__(self, policy: FramePolicy, quality: int, capacity: int = KEPT_JPEG_BYTES) -> None:
        """`quality` of the files, 1 to 95; `capacity` in bytes."""
        self._policy, self._quality = policy, quality
        self._files: ByteLimitedCache[bytes] = ByteLimitedCache(capacity)

    def get(self, part: ImagePart) -> Jpeg:
        """JPEG file of a message part; a file on disk that has changed is encoded again."""
        key = (part.key() if part.path is None else file_state(part.path), part.max_side)
        content = self._files.get(key)
        if content is None:
            content = jpeg_of(part, self._policy, self._quality).content
            self._files.put(key, content, len(content))
        return Jpeg(part.second or 0.0, content)


def time_mark(second: float) -> str:
    """Text of a frame's time in a prompt."""
    return f"[{second:.1f} s]"


def with_time_marks(parts: Sequence[Part]) -> list[Part]:
    """The parts of a message, with the label or the time mark of each image that has one before it."""
    marked: list[Part] = []
    for part in parts:
        if isinstance(part, ImagePart) and part.label:
            marked.append(part.label)
        elif isinstance(part, ImagePart) and part.second is not None:
            marked.append(time_mark(part.second))
        marked.append(part)
    return marked


def cache_size(threads: int) -> int:
    """Capacity of a `VideoCache` that `threads` threads use at once."""
    return max(KEPT_CLIPS, threads)


class VideoCache(Generic[Value]):
    """Thread-safe LRU cache of a value computed from a video file; each file is processed by one thread at a time."""

    def __init__(self, make: Callable[[Path], Value], capacity: int) -> None:
        self._make, self._capacity = make, capacity
        self._values: OrderedDict[tuple[Path, int, int], Value] = OrderedDict()
        self._locks: KeyedLocks[Path] = KeyedLocks()
        self._lock = threading.Lock()

    def get(self, path: Path) -> Value:
        """Value of a video file; recomputed if the file has changed."""
        with self._locks.of(path):
            key = file_state(path)
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
            value = self._make(path)
            with self._lock:
                self._values[key] = value
                while len(self._values) > self._capacity:
                    self._values.popitem(last=False)
            return value


def file_state(path: Path) -> tuple[Path, int, int]:
    """(path, bytes, time of change) of a file: another state for another content. `ValueError`: it cannot be read."""
    try:
        state = path.stat()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return path, state.st_size, state.st_mtime_ns


def _fitted(image: np.ndarray, max_side: int | None) -> Image.Image:
    """Scale an image down to a longer side of `max_side`; the aspect ratio is kept."""
    picture = Image.fromarray(image)
    if max_side is None or max(picture.size) <= max_side:
        return picture
    scale = max_side / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
