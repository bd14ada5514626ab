"""A video's facts (frame times, duration, size), its frames, plans of which frames to look at, and writing.

A video is a file, a folder of images in natural order, or one image. Frames are addressed by their 0-based index in the
order shown; `Video.times` tells when each is shown, so a variable frame rate needs no special care. In a folder of
`frame_0000.jpg`, `frame_0001.jpg`, ... the number tells when, so that a missing file moves no other frame.
"""

# pyright: reportUnknownMemberType=false
# PyAV's types leave out what a packet belongs to

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TypeGuard

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from evqa.files import links
from evqa.media import buffers
from evqa.media.audio import AudioTrack
from evqa.media.decode import frames_of, index_of
from evqa.media.images import image_size, read_rgb

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}

ASSUMED_FPS = 6.0
"""Of a folder of frames of which nothing says its rate: that of the published data sets."""

MAX_FPS = 1000
"""Of a folder of frames."""

RATE_FILE = "fps.txt"
"""In a folder of frames: one number, its frames a second."""

RATE_IN_NAME = re.compile(r"(?<![\d.])(\d{1,4}(?:\.\d{1,6})?)fps(?![a-z])", re.IGNORECASE)

FRAME_NUMBER = re.compile(r"frame_(\d{1,9})", re.ASCII | re.IGNORECASE)
"""Name of a numbered frame, from 0 on."""

PADDED = re.compile(r"frame_\d{4,9}", re.ASCII | re.IGNORECASE)
"""As the published data sets write it, where numbers tell times; `frame_1`, `frame_2` are an order alone."""

_stated_rates: dict[Path, float] = {}
_warned: set[Path] = set()


@dataclass(frozen=True, eq=False)
class Video:
    """The facts of a video; its frames stay on disk. `N` frames."""

    path: Path
    """A file, a folder of images, or an image."""
    width: int
    height: int
    times: np.ndarray
    """float64 [N], seconds at which each frame is shown, from the first frame (= 0), strictly ascending.

    Of a folder of numbered frames from frame 0 on, be that one there or not.
    """
    duration: float
    """Seconds from the first frame's start to the last frame's end."""

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @property
    def fps(self) -> float:
        """The mean true rate."""
        return self.num_frames / self.duration


def probe_video(path: Path, folder_fps: float | None = None) -> Video:
    """The facts of a video, from its packets without decoding them.

    A folder of images runs at `folder_fps`; None = see `rate_of_folder`. A single picture is a video of one frame.
    Raises a `ValueError` that says what is wrong with the file and what to do.
    """
    if _is_images(path):
        return _probe_images(path, folder_fps)
    index = index_of(path)
    return Video(path, index.shape.width, index.shape.height, index.times, index.duration)


def state_rate(folder: Path, fps: float | None) -> None:
    """Set the frame rate of a folder of frames for later calls of `probe_video`; None = no rate is stated."""
    if fps is not None:
        _stated_rates[folder] = fps


def rate_of_folder(folder: Path) -> float:
    """Frames a second of a folder of frames.

    What its data set states (`state_rate`), else the number in the folder's `fps.txt`, else the rate in the name of a
    folder that it lies in, as in `video_frames_6fps`; else `ASSUMED_FPS`, with a warning: the times may be wrong then.
    """
    if folder in _stated_rates:
        return _stated_rates[folder]
    note = folder / RATE_FILE
    if note.is_file():
        return _rate_in(note)
    named = [float(found[1]) for name in reversed(folder.absolute().parts) if (found := RATE_IN_NAME.search(name))]
    if named and 0 < named[0] <= MAX_FPS:
        return named[0]
    if folder.parent.resolve() not in _warned:  # once for all videos of a data set
        _warned.add(folder.parent.resolve())
        logger.warning(
            "%s is a folder of frames without a frame rate: %g frames a second are assumed, and all times follow from "
            "that; write the true number into %s",
            folder,
            ASSUMED_FPS,
            note,
        )
    return ASSUMED_FPS


def _rate_in(note: Path) -> float:
    try:
        fps = float(note.read_text(encoding="utf-8")[:100])
    except (OSError, ValueError) as error:
        raise ValueError(f"{note} holds one number, the frames a second of its folder: {error}") from error
    if not 0 < fps <= MAX_FPS:
        raise ValueError(f"{note} says {fps}; expected frames a second above 0 and up to {MAX_FPS}")
    return fps


def read_frames(video: Video, indices: Sequence[int], *, keep: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """(index, uint8 RGB [H, W, 3]) in ascending order, each index once, one frame in memory at a time.

    The pixels are those of decoding the whole file, turned upright; oblong pixels stay as stored. `keep` = others will
    ask for these frames of a file: they stay in memory, up to a limit (`video_file.MAX_BYTES`), and are decoded once.
    """
    wanted = sorted({int(index) for index in indices})
    if wanted and not 0 <= wanted[0] <= wanted[-1] < video.num_frames:
        raise ValueError(f"{video.path} has frames 0 to {video.num_frames - 1}, asked for {wanted[0]} to {wanted[-1]}")
    return _image_frames(video, wanted) if _is_images(video.path) else _file_frames(video, wanted, keep=keep)


def image_names(folder: Path) -> list[str]:
    """Names of the images of a folder in the order of its frames, without suffix."""
    return [path.stem for path in _image_paths(folder)]


def frame_numbers(folder: Path) -> list[int] | None:
    """The number of each image of a folder in the order of its frames; None where they are not called `frame_0000`, ...

    Names of which two have one number are no numbering.
    """
    return _numbers(_image_paths(folder))


def load_frames(video: Video, indices: Sequence[int], *, keep: bool = False) -> np.ndarray:
    """uint8 RGB [T, H, W, 3] of the frames in the order given; an index may come twice. `keep` as in `read_frames`."""
    places: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        places.setdefault(int(index), []).append(place)
    images = buffers.empty_array((len(indices), video.height, video.width, 3))
    for index, image in read_frames(video, list(places), keep=keep):
        for place in places[index]:
            images[place] = image
    return images


# Sampling plans: which frames to look at


def uniform_indices(video: Video, num_frames: int) -> list[int]:
    """At most `num_frames` indices at even distances in time, both ends included; of one, the middle frame.

    Where the rate is constant these are even distances in frames. Where it varies, a frame that is shown for long
    stands for all moments that are nearest to it, so fewer indices may come.
    """
    count = _at_least_one(num_frames, video)
    if count == video.num_frames:
        return list(range(count))
    first, last = video.times[0], video.times[-1]
    if count == 1:
        return [int(_places(video, np.array([(first + last) / 2]))[0])]
    places = _places(video, first + (last - first) * np.arange(count) / (count - 1))
    return list(dict.fromkeys(int(place) for place in np.round(places)))


def indices_at_fps(video: Video, fps: float, max_frames: int) -> list[int]:
    """`fps` indices a second, at most `max_frames`, spread evenly: the published scripts' policy."""
    if not fps > 0:
        raise ValueError(f"a sampling rate is above 0, got fps={fps}")
    return uniform_indices(video, max(1, min(int(video.duration * fps + 1e-6), max_frames)))


def indices_every(video: Video, step: int) -> list[int]:
    """Every `step`-th index, from the first on."""
    if step < 1:
        raise ValueError(f"every n-th frame needs n of at least 1, got {step}")
    return list(range(0, video.num_frames, step))


def nearest_index(video: Video, times: Sequence[float]) -> list[int]:
    """For each time in seconds the index of the frame shown nearest to it, the earlier one of two."""
    wanted = np.asarray(times, dtype=np.float64)
    if not np.all(np.isfinite(wanted)):
        raise ValueError(f"times are finite seconds, got {list(times)}")
    after = np.clip(np.searchsorted(video.times, wanted), 0, video.num_frames - 1)
    before = np.maximum(after - 1, 0)
    is_before = np.abs(wanted - video.times[before]) <= np.abs(video.times[after] - wanted)
    return [int(index) for index in np.where(is_before, before, after)]


def random_in_bins(video: Video, num_frames: int, rng: np.random.Generator) -> list[int]:
    """One random index from each of at most `num_frames` equal parts of the video's time (for training).

    A part during which no other frame begins to be shown has the one that is, which comes once.
    """
    count = _at_least_one(num_frames, video)
    edges = np.append(_starts_of_parts(video, count), video.num_frames)
    return sorted({int(index) for index in rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))})


def _starts_of_parts(video: Video, count: int) -> np.ndarray:
    """The frame that is shown at the beginning of each of so many equal parts of the video's time; int64 [count]."""
    if count == video.num_frames:
        return np.arange(count)
    end = video.times[-1] + np.median(np.diff(video.times))
    seconds = video.times[0] + (end - video.times[0]) * np.arange(count) / count
    return _places(video, seconds).astype(np.int64)


def _places(video: Video, seconds: np.ndarray) -> np.ndarray:
    """Moments as indices with fractions: half way between two frames in time is half way between their indices."""
    places = np.interp(seconds, video.times, np.arange(video.num_frames))
    return np.round(places, 6)  # so that rounding in seconds moves no place from one frame to the next


def _at_least_one(num_frames: int, video: Video) -> int:
    if num_frames < 1:
        raise ValueError(f"a plan needs at least 1 frame, got num_frames={num_frames}")
    return min(num_frames, video.num_frames)


# Files


def _file_frames(video: Video, wanted: list[int], *, keep: bool) -> Iterator[tuple[int, np.ndarray]]:
    index = index_of(video.path)
    if len(index.ticks) != video.num_frames:
        raise ValueError(f"{video.path} changed since it was probed: probe it again")
    return frames_of(index, wanted, keep=keep)


# Pictures


def _is_images(path: Path) -> bool:
    return path.is_dir() or (path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _image_paths(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    with os.scandir(folder) as entries:
        paths = [folder / entry.name for entry in entries if _is_frame(folder, entry)]
    numbered = [path for path in paths if FRAME_NUMBER.fullmatch(path.stem)]
    is_numbered = 2 * len(numbered) > len(paths)  # then the others are covers or thumbnails
    return sorted(numbered if is_numbered else paths, key=_natural_key)


def _is_frame(folder: Path, entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is an image; a link to nothing is none, and one out of its folder is an error."""
    if Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES or entry.name.startswith("."):
        return False
    if entry.is_symlink() and entry.is_file():
        link = folder / entry.name
        target = link.resolve()
        if links.leads_out(link, target):
            raise ValueError(
                f"{link} leads out of its folder, to {target}: put the image there; {links.link_advice(target)}"
            )
    return entry.is_file()


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbers inside a name are compared as numbers: frame_2 before frame_10."""
    parts = re.findall(r"(\d+)|(\D+)", path.name.lower(), flags=re.ASCII)
    return [(int(digits[:1000]), "") if digits else (-1, text) for digits, text in parts], path.name


def _probe_images(folder: Path, given: float | None) -> Video:
    if given is not None and not 0 < given < float("inf"):
        raise ValueError(f"the frame rate of a folder is above 0, got {given}")
    paths = _image_paths(folder)
    if not paths:
        raise ValueError(f"{folder} has no .jpg, .jpeg or .png file: give a video file or a folder of frames")
    is_lone = folder.is_file()
    fps = given or (ASSUMED_FPS if is_lone else rate_of_folder(folder))
    height, width = image_size(paths[0])
    places = _places_in_time(paths)
    return Video(folder, width, height, places / fps, (int(places[-1]) + 1) / fps)


def _numbers(paths: Sequence[Path]) -> list[int] | None:
    found = [FRAME_NUMBER.fullmatch(path.stem) for path in paths]
    numbers = [int(name[1]) for name in found if name is not None]
    return numbers if numbers and len(numbers) == len(paths) == len(set(numbers)) else None


def _places_in_time(paths: Sequence[Path]) -> np.ndarray:
    """int64 [N], the frames of the clip before each: by its number where it has one, else by its place.

    Where the numbers start behind more frames than there are, the folder is a cut of a longer video, and the first
    frame is its start.
    """
    numbers = _numbers(paths)
    if numbers is None or not all(PADDED.fullmatch(path.stem) for path in paths):
        return np.arange(len(paths))
    places = np.array(sorted(numbers), dtype=np.int64)
    return places - places[0] if places[0] >= len(paths) else places


def _image_frames(video: Video, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    paths = _image_paths(video.path)
    if len(paths) != video.num_frames:
        raise ValueError(f"{video.path} changed since it was probed: probe it again")
    for index in wanted:
        image = read_rgb(paths[index])
        if image.shape[:2] != (video.height, video.width):
            raise ValueError(
                f"{paths[index]} is {image.shape[1]} x {image.shape[0]}, the folder's first image "
                f"{video.width} x {video.height}: frames of one video have one size"
            )
        yield index, image


# Writing


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    fps: float | Fraction,
    quality: int = 18,
    *,
    audio: Video | None = None,
) -> None:
    """Write uint8 RGB [H, W, 3] images as H.264 in MP4: beside the target first, then moved over it.

    `quality` is x264's crf, 0 (best) to 51. The pixel format is yuv420p, which browsers play and which needs
    even sizes: the last row or column of an odd one is repeated. The same images give the same bytes.
    `audio`: a video whose sound the file gets too, as AAC.
    """
    rate = Fraction(fps).limit_denominator(100_000)
    first, images = _first_of(images)
    partial = path.with_name(path.name + ".partial")
    try:
        with (
            av.open(str(partial.absolute()), "w", format="mp4", options={"movflags": "+faststart"}) as container,
            ExitStack() as files,
        ):
            stream = container.add_stream("libx264", rate=rate)
            stream.height, stream.width = (side + side % 2 for side in first.shape[:2])
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": str(quality), "preset": "fast"}
            stream.thread_count = 1  # x264's output depends on the number of threads
            sound = files.enter_context(AudioTrack(audio.path, container, audio.duration)) if _has_file(audio) else None
            for number, image in enumerate(images):
                container.mux(stream.encode(_even_frame(image, first.shape, stream)))
                if sound is not None:
                    sound.write_until(float(number / rate))
            container.mux(stream.encode(None))
            if sound is not None:
                sound.write_rest()
        partial.replace(path)
    except FFmpegError as error:
        raise ValueError(f"{path} cannot be written as a video: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _has_file(video: Video | None) -> TypeGuard[Video]:
    """Whether a video is a file, which may have sound, and no folder of images."""
    return video is not None and not _is_images(video.path)


def _first_of(images: Iterable[np.ndarray]) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    iterator = iter(images)
    first = next(iterator, None)
    if first is None:
        raise ValueError("a video needs at least one image, got none")
    return first, chain([first], iterator)


def _even_frame(image: np.ndarray, shape: tuple[int, ...], stream: VideoStream) -> VideoFrame:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape != shape:
        raise ValueError(f"expected uint8 RGB images of one shape {shape}, got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, stream.height - height), (0, stream.width - width), (0, 0)), mode="edge")
    return VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
