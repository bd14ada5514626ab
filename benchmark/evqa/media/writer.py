"""Writers of H.264 videos: `write_video` of images, `encode_video` of a video, `video_file` of an edit list."""

# pyright: reportUnknownMemberType=false
# PyAV's types leave out what a packet belongs to

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TypeGuard

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from evqa.media.audio import AudioTrack
from evqa.media.edits import SUFFIX, is_edit
from evqa.media.frame_folders import is_image_video
from evqa.media.video import Video, probe_video, read_frames

TICKS = 90_000
"""Ticks per second of encoded videos."""

FILE_QUALITY = 12
"""x264's crf of the file of an edit list."""


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    fps: float | Fraction,
    quality: int = 18,
    *,
    audio: Video | None = None,
) -> None:
    """Write images as an H.264 video in MP4; the same images give the same bytes.

    The file is written next to the target and then renamed, so that an interruption leaves no partial file. The pixel
    format is yuv420p, which browsers play and which needs even sizes: the last row or column of an odd one is repeated.

    Args:
        path: The file to write.
        images: uint8 RGB [H, W, 3] of one shape, at least one.
        fps: Frames per second.
        quality: x264's crf, 0 (best) to 51.
        audio: A video whose sound is added as AAC; a folder of images has none.

    Raises:
        ValueError: There is no image, the shapes differ, or the file cannot be written as a video.
    """
    rate = Fraction(fps).limit_denominator(100_000)
    first, images = _with_first(images)
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


def encode_video(video: Video, target: Path, quality: int = 20) -> None:
    """Encode a video as H.264 in MP4, frame times exact to 1/90000 s; odd sides are padded by a pixel.

    There are no B-frames. An interruption leaves a partial file; raises FFmpeg's errors.
    """
    with av.open(str(target.absolute()), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(max(video.fps, 1)).limit_denominator(1001))
        stream.width = video.width + video.width % 2
        stream.height = video.height + video.height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(quality), "preset": "veryfast", "bf": "0"}
        stream.codec_context.time_base = Fraction(1, TICKS)
        for index, image in read_frames(video, range(video.num_frames)):
            frame = VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = round(float(video.times[index]) * TICKS)
            frame.time_base = Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def video_file(path: Path) -> Path:
    """The path of a video file; of an edit list, an encoded copy beside it, which is made once.

    Raises:
        ValueError: the edit list cannot be read, or the copy not be written.
    """
    if not is_edit(path):
        return path
    target = path.with_name(f"{path.name.removesuffix(SUFFIX)}.mp4")
    if not target.exists():
        partial = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.partial")
        try:
            encode_video(probe_video(path), partial, FILE_QUALITY)
            partial.replace(target)
        except FFmpegError as error:
            raise ValueError(f"{path} cannot be written as a video: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)
    return target


def _has_file(video: Video | None) -> TypeGuard[Video]:
    """Whether a video is a file, which may have sound, and not a folder of images."""
    return video is not None and not is_image_video(video.path)


def _with_first(images: Iterable[np.ndarray]) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The first image, and an iterator over all images; raises a ValueError where there is none."""
    iterator = iter(images)
    first = next(iterator, None)
    if first is None:
        raise ValueError("a video needs at least one image, got none")
    return first, chain([first], iterator)


def _even_frame(image: np.ndarray, shape: tuple[int, ...], stream: VideoStream) -> VideoFrame:
    """An image as a frame of the stream's size, its last row and column repeated where needed."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape != shape:
        raise ValueError(f"expected uint8 RGB images of one shape {shape}, got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, stream.height - height), (0, stream.width - width), (0, 0)), mode="edge")
    return VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
