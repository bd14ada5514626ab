"""Images of a video's frames for a model: frames with id and time, crops, and contact sheets."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from evqa import media
from evqa.media import Video
from evqa.media.frame_folders import is_image_video
from evqa.models.frame_policy import ByteLimitedCache, file_state
from evqa.models.messages import ImagePart
from evqa.retrieval.frame_grid import FrameGrid
from evqa.schema import FrameRef

RGB = NDArray[np.uint8]
"""uint8 RGB [H, W, 3]."""

SHEET_COLUMNS = 4
FRAME_BYTES = 256 * 2**20
"""Bytes of pixels of frames that stay in memory."""

TILE_WIDTH = 320
"""Pixels of a tile of a contact sheet."""


class UnreadableFrames(ValueError):
    """None of the frames can be read."""


def frame_ref(grid: FrameGrid, index: int, video_number: int = 0) -> FrameRef:
    """Reference to a frame of a video by its frame index."""
    return FrameRef(video=video_number, index=index, second=frame_second(grid, index))


def frame_second(grid: FrameGrid, index: int) -> float | None:
    """Presentation time of a frame in seconds, with millisecond precision; None = unknown."""
    if grid.seconds is None:
        return None
    row = int(np.searchsorted(grid.indices, index))
    is_in_grid = row < len(grid) and grid.indices[row] == index
    return round(float(grid.seconds[row] if is_in_grid else grid.video.times[index]), 3)


def frame_label(grid: FrameGrid, index: int) -> str:
    """Id and time of a frame as a model reads them; a frame between those of the grid has no id."""
    row = int(np.searchsorted(grid.indices, index))
    is_in_grid = row < len(grid) and grid.indices[row] == index
    second = frame_second(grid, index)
    words = [f"frame {grid.ids[row]}"] if is_in_grid else ["frame"]
    return " ".join(words + ([] if second is None else [f"at {second:.1f} s"]))


def read_frame_images(grid: FrameGrid, indices: Sequence[int]) -> tuple[dict[int, RGB], list[int]]:
    """Read frames by frame index.

    Returns:
        (index -> pixels in ascending order, indices of frames that cannot be read).

    Raises:
        UnreadableFrames: none of them can be read; the message has the reason.
    """
    images, missing, reason = read_images(grid.video, indices)
    _require_frames(images, reason)
    return images, missing


def read_images(
    video: Video, indices: Sequence[int], *, keep: bool = False
) -> tuple[dict[int, RGB], list[int], ValueError | None]:
    """Read frames of a video by frame index.

    Args:
        video: the video.
        indices: frame indices in any order.
        keep: whether the decoded frames are cached for the next reader.

    Returns:
        (index -> pixels in ascending order, indices of frames that cannot be read, why).
    """
    images: dict[int, RGB] = {}
    reason: ValueError | None = None
    try:
        images |= media.read_frames(video, indices, keep=keep)
        return images, [], None
    except ValueError as error:
        reason = error
    for index in sorted(set(indices) - images.keys()):
        try:
            images |= dict(media.read_frames(video, [index], keep=keep))
        except ValueError as error:
            reason = error
    return dict(sorted(images.items())), [index for index in sorted(set(indices)) if index not in images], reason


FRAMES: ByteLimitedCache[ImagePart] = ByteLimitedCache(FRAME_BYTES)
"""Frames of video files, shared by all agents: several samples are about one video, and their frames overlap."""


def cached_parts(
    video: Video, keys: Mapping[int, Hashable], make: Callable[[int, RGB], ImagePart]
) -> tuple[dict[int, ImagePart], list[int], ValueError | None]:
    """Read frames of a video as parts of a message, those of a file from the cache where it has them.

    Args:
        video: the video.
        keys: frame index -> what the part depends on beside the frame, such as its size and label.
        make: makes the part of a frame index and its pixels.

    Returns:
        (frame index -> part, indices of frames that cannot be read, why).
    """
    state = None if is_image_video(video.path) else file_state(video.path)
    parts: dict[int, ImagePart] = {}
    if state is not None:
        entries = ((index, FRAMES.get((state, index, key))) for index, key in keys.items())
        parts = {index: part for index, part in entries if part is not None}
    remaining = [index for index in keys if index not in parts]
    images, missing, reason = read_images(video, remaining) if remaining else ({}, [], None)
    for index, image in images.items():
        parts[index] = part = make(index, image)
        if state is not None:
            FRAMES.put((state, index, keys[index]), part, part.pixels().nbytes)
    return parts, missing, reason


def read_frame_parts(grid: FrameGrid, indices: Sequence[int], max_side: int) -> tuple[list[ImagePart], list[int]]:
    """Read frames by frame index as parts of a message, each at most `max_side` pixels on its longer side.

    Returns:
        (parts in order of time, indices of frames that cannot be read).

    Raises:
        UnreadableFrames: none of them can be read; the message has the reason.
    """
    keys = {index: (max_side, frame_label(grid, index)) for index in sorted(set(indices))}
    parts, missing, reason = cached_parts(
        grid.video, keys, lambda index, image: image_part(grid, index, image, max_side)
    )
    _require_frames(parts, reason)
    return [parts[index] for index in sorted(parts)], missing


def _require_frames(frames: Mapping[int, object], reason: ValueError | None) -> None:
    if reason is not None and not frames:
        raise UnreadableFrames(f"the frames cannot be read: {reason}") from reason


def image_part(grid: FrameGrid, index: int, image: RGB, max_side: int, label: str | None = None) -> ImagePart:
    """A frame as a part of a message, its longer side at most `max_side` pixels."""
    return ImagePart(
        image=fit(image, max_side),
        max_side=max_side,
        second=frame_second(grid, index),
        label=label or frame_label(grid, index),
        ref=frame_ref(grid, index),
    )


def fit(image: RGB, max_side: int) -> RGB:
    """The image with its longer side at most `max_side` pixels."""
    return _scaled(image, min(1.0, max_side / max(image.shape[:2])))


def enlarge(image: RGB, max_side: int) -> RGB:
    """The image scaled up to `max_side` pixels on its longer side, by a factor of at most 4."""
    return _scaled(image, max(1.0, min(4.0, max_side / max(image.shape[:2]))))


def _scaled(image: RGB, factor: float) -> RGB:
    if factor == 1:
        return image
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def mark_region(image: RGB, mask: NDArray[np.bool_]) -> RGB:
    """The image with a region [H, W] tinted red."""
    marked = image.astype(np.float32)
    marked[mask] = 0.5 * marked[mask] + 0.5 * np.array([255, 0, 0], dtype=np.float32)
    return marked.round().astype(np.uint8)


def contact_sheet(images: Sequence[RGB], labels: Sequence[str]) -> RGB:
    """Tiles in rows of four, each with its label drawn at its top left.

    Args:
        images: frames of one size, at least one.
        labels: text of each tile.
    """
    tiles = [_tile(image, label) for image, label in zip(images, labels, strict=True)]
    height, width = tiles[0].shape[:2]
    columns = min(SHEET_COLUMNS, len(tiles))
    sheet = np.zeros((math.ceil(len(tiles) / columns) * height, columns * width, 3), dtype=np.uint8)
    for number, tile in enumerate(tiles):
        y, x = number // columns * height, number % columns * width
        sheet[y : y + height, x : x + width] = tile
    return sheet


def tile_side(video: Video) -> int:
    """Longer side of a frame that is as wide as a tile of a contact sheet, in pixels."""
    return round(TILE_WIDTH * max(1.0, video.height / video.width))


def _tile(image: RGB, label: str) -> RGB:
    height, width = image.shape[:2]
    size = TILE_WIDTH, max(24, round(height * TILE_WIDTH / width))
    return draw_label(np.asarray(Image.fromarray(image).resize(size)), label)


def draw_label(image: RGB, label: str) -> RGB:
    """The image with a label drawn at its top left."""
    labelled = Image.fromarray(image)
    draw = ImageDraw.Draw(labelled)
    font = ImageFont.load_default(20)
    box = draw.textbbox((6, 3), label, font=font)
    draw.rectangle((0, 0, box[2] + 6, box[3] + 4), fill=(0, 0, 0))
    draw.text((6, 3), label, fill=(255, 255, 255), font=font)
    return np.asarray(labelled)
