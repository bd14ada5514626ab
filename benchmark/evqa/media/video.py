"""Videos: `probe_video` returns a `Video` (frame times, duration, size); `read_frames` and `load_frames` its frames.

A video is a file, a folder of images in natural order, one image, or an edit list of one of these (`edits`). Frames
are addressed by their 0-based index in presentation order; `Video.times` states when each is shown, so a variable
frame rate needs no special care. In a folder of `frame_0000.jpg`, `frame_0001.jpg`, ... the number determines the
time, so that a missing file moves no other frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evqa.media import buffers, edits
from evqa.media.decode import frames_of, index_of
from evqa.media.frame_folders import ASSUMED_FPS, fps_of_folder, frame_positions, image_paths, is_image_video
from evqa.media.images import image_size, read_rgb


@dataclass(frozen=True, eq=False)
class Video:
    """Frame times, duration and size of a video with `N` frames; its frames stay on disk."""

    path: Path
    """A file, a folder of images, an image, or an edit list."""
    width: int
    """Pixels of the upright frame."""
    height: int
    """Pixels of the upright frame."""
    times: np.ndarray
    """float64 [N], seconds at which each frame is shown, relative to the first frame (= 0), strictly ascending.

    In a folder of numbered frames they are relative to frame 0, even if it is missing.
    """
    duration: float
    """Seconds from the start of the first frame to the end of the last."""

    @property
    def ends(self) -> np.ndarray:
        """float64 [N], seconds until which each frame is shown."""
        return np.append(self.times[1:], self.duration)

    @property
    def num_frames(self) -> int:
        """Number of frames N."""
        return len(self.times)

    @property
    def fps(self) -> float:
        """Mean frame rate, N / duration."""
        return self.num_frames / self.duration


def probe_video(path: Path, folder_fps: float | None = None, *, allow_truncated: bool = False) -> Video:
    """Read frame times, duration and size of a video, from its packets without decoding them.

    Args:
        path: A video file, a folder of images, an image (a video of one frame), or an edit list.
        folder_fps: Frame rate of a folder of images; None = see `fps_of_folder`.
        allow_truncated: Whether an MP4 file may end before its last frames: reading these is an error then.

    Raises:
        ValueError: The file is missing, damaged or of another kind; the message says what to do.
    """
    if edits.is_edit(path):
        return _probe_edit(path, allow_truncated=allow_truncated)
    if is_image_video(path):
        return _probe_images(path, folder_fps)
    index = index_of(path, allow_truncated=allow_truncated)
    return Video(path, index.shape.width, index.shape.height, index.times, index.duration)


def _probe_images(folder: Path, folder_fps: float | None) -> Video:
    if folder_fps is not None and not 0 < folder_fps < float("inf"):
        raise ValueError(f"expected a frame rate above 0 for a folder of frames, got {folder_fps}")
    paths = image_paths(folder)
    if not paths:
        raise ValueError(f"{folder} has no .jpg, .jpeg or .png file: give a video file or a folder of frames")
    is_single_image = folder.is_file()
    fps = folder_fps or (ASSUMED_FPS if is_single_image else fps_of_folder(folder))
    height, width = image_size(paths[0])
    positions = frame_positions(paths)
    return Video(folder, width, height, positions / fps, (int(positions[-1]) + 1) / fps)


def _probe_edit(path: Path, *, allow_truncated: bool) -> Video:
    edit = edits.read_edit(path)
    source = _source_of(path, edit, allow_truncated=allow_truncated)
    times, duration = edits.edited_times(edit, source.times, source.duration)
    return Video(path, source.width, source.height, times, duration)


def _source_of(path: Path, edit: edits.VideoEdit, *, allow_truncated: bool) -> Video:
    """The video that an edit list is about."""
    source = probe_video(edit.source, edit.folder_fps, allow_truncated=allow_truncated)
    if source.num_frames != edit.source_frames:
        raise ValueError(
            f"{edit.source} has {source.num_frames} frames, its edit list {path} is about {edit.source_frames}: it "
            f"changed; make the edit again"
        )
    return source


# Frames


def read_frames(video: Video, indices: Sequence[int], *, keep: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, uint8 RGB [H, W, 3]) in ascending order, each index once, one frame in memory at a time.

    Pixels equal those of decoding the whole file, upright, without correction of the pixel aspect ratio.

    Args:
        video: The video.
        indices: Frame indices, in any order.
        keep: Whether to cache the decoded frames of a file for other readers, up to `decode.MAX_BYTES`.

    Raises:
        ValueError: An index is out of range, or the file is damaged or changed since it was probed.
    """
    frame_indices = sorted({int(index) for index in indices})
    if frame_indices and not 0 <= frame_indices[0] <= frame_indices[-1] < video.num_frames:
        raise ValueError(
            f"{video.path} has frames 0 to {video.num_frames - 1}, asked for {frame_indices[0]} to {frame_indices[-1]}"
        )
    if edits.is_edit(video.path):
        return _edited_frames(video, frame_indices, keep=keep)
    return (
        _image_frames(video, frame_indices)
        if is_image_video(video.path)
        else _file_frames(video, frame_indices, keep=keep)
    )


def load_frames(video: Video, indices: Sequence[int], *, keep: bool = False) -> np.ndarray:
    """Frames as uint8 RGB [T, H, W, 3], in the order given; an index may occur several times.

    Arguments and errors as in `read_frames`.
    """
    rows: dict[int, list[int]] = {}
    for row, index in enumerate(indices):
        rows.setdefault(int(index), []).append(row)
    images = buffers.empty_array((len(indices), video.height, video.width, 3))
    for index, image in read_frames(video, list(rows), keep=keep):
        for row in rows[index]:
            images[row] = image
    return images


def _file_frames(video: Video, frame_indices: list[int], *, keep: bool) -> Iterator[tuple[int, np.ndarray]]:
    index = index_of(video.path, allow_truncated=True)
    if len(index.ticks) != video.num_frames:
        raise ValueError(f"{video.path} changed since it was probed: probe it again")
    return frames_of(index, frame_indices, keep=keep)


def _edited_frames(video: Video, frame_indices: list[int], *, keep: bool) -> Iterator[tuple[int, np.ndarray]]:
    edit = edits.read_edit(video.path)
    source = _source_of(video.path, edit, allow_truncated=True)
    source_indices = edit.kept_indices()
    if len(source_indices) != video.num_frames:
        raise ValueError(f"{video.path} changed since it was probed: probe it again")
    places = {int(source_indices[index]): index for index in frame_indices}
    for source_index, image in read_frames(source, list(places), keep=keep):
        hidden_image = image if edit.hidden is None else edits.hide_pixels(image, edit.hidden, source_index)
        yield places[source_index], hidden_image


def _image_frames(video: Video, frame_indices: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    paths = image_paths(video.path)
    if len(paths) != video.num_frames:
        raise ValueError(f"{video.path} changed since it was probed: probe it again")
    for index in frame_indices:
        image = read_rgb(paths[index])
        if image.shape[:2] != (video.height, video.width):
            raise ValueError(
                f"{paths[index]} is {image.shape[1]} x {image.shape[0]}, the folder's first image "
                f"{video.width} x {video.height}: frames of one video have one size"
            )
        yield index, image
