"""Edit lists: a video of which some frames are cut out and some pixels hidden, as a small file in place of the video.

`NAME.edit.json` holds a `VideoEdit`. `probe_video` and `read_frames` accept it as they accept a video: the frames that
are kept are those of the source, decoded exactly and without encoding anything again, and follow each other without a
gap. Pixels are hidden at the size of the source.

The source is named by its absolute path, or relative to the folder of the edit list, as in a data set that may be moved
as a whole. It lies anywhere on disk, so that a data set of others could name any video with such a file: the rules of
links hold (`evqa.files.links`), as if the edit list were a link to its source.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pydantic import Field, ValidationError, model_validator

from evqa.files import links
from evqa.files.jsonl import replace_file, validation_message
from evqa.schema.record import OMIT_NONE, VERSION, StrictRecord

SUFFIX = ".edit.json"

MAX_BYTES = 2**28
"""Largest size of an edit list; one of an hour with a mask in each frame takes about 50 MiB."""

GREY = 127
"""Value of the three colours of a filled pixel."""

BLUR_SHARE = 1 / 16
"""Radius of the Gaussian blur, as a share of the longer side."""

Fill = Literal["grey", "blur"]
"""What hidden pixels show: one grey, or the blurred frame."""

Count = Annotated[int, Field(ge=0)]


class HiddenPixels(StrictRecord):
    """Pixels of a video that an edit hides."""

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    """(H, W) of the masks: that of the source."""
    masks: tuple[tuple[Count, ...], ...]
    """Distinct masks of hidden pixels as run lengths: column by column, shown pixels first."""
    frames: dict[Count, Count]
    """Frame index of the source -> index of its mask in `masks`."""
    rest: Literal["shown", "hidden"]
    """Frames without a mask: shown whole, or hidden whole."""
    fill: Fill = "grey"

    @model_validator(mode="after")
    def _masks_fit(self) -> Self:
        height, width = self.size
        if any(sum(runs) != height * width for runs in self.masks):
            raise ValueError(f"expected run lengths that add up to {height} x {width} pixels")
        if any(number >= len(self.masks) for number in self.frames.values()):
            raise ValueError(f"expected indices below the number of masks, {len(self.masks)}")
        return self


class VideoEdit(StrictRecord):
    """Edit of a video: the frames that are kept, and the pixels that are hidden in them."""

    version: Literal[1] = VERSION
    source: Path
    """Path of the video, a file or a folder of images: absolute, or in a file relative to the folder of that file."""
    source_sha256: str
    """Digest of the content of the source."""
    source_frames: Annotated[int, Field(ge=1)]
    """Number of frames of the source."""
    folder_fps: Annotated[float | None, OMIT_NONE] = Field(default=None, gt=0)
    """Frames per second of a folder of images."""
    frame_runs: tuple[tuple[Count, Count], ...]
    """First and last frame index of each run of frames that is kept, ascending, at least one run."""
    hidden: Annotated[HiddenPixels | None, OMIT_NONE] = None
    """None = no pixel is hidden."""

    @model_validator(mode="after")
    def _runs_ascend(self) -> Self:
        ends = [end for run in self.frame_runs for end in run]
        ascends = all(first <= last for first, last in self.frame_runs)
        follows = all(last < first for last, first in zip(ends[1::2], ends[2::2], strict=False))
        if not self.frame_runs or not ascends or not follows or ends[-1] >= self.source_frames:
            raise ValueError(f"expected ascending runs of the frames 0 to {self.source_frames - 1}, at least one")
        return self

    def kept_indices(self) -> NDArray[np.int64]:
        """Frame indices of the source that are kept, int64 [N], ascending."""
        return np.concatenate([np.arange(first, last + 1) for first, last in self.frame_runs])


def runs_of(indices: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """First and last of each run of consecutive numbers, for ascending distinct ones."""
    if not len(indices):
        return ()
    breaks = np.flatnonzero(np.diff(indices) != 1)
    firsts, lasts = indices[np.append(0, breaks + 1)], indices[np.append(breaks, len(indices) - 1)]
    return tuple(zip(firsts.tolist(), lasts.tolist(), strict=True))


def is_edit(path: Path) -> bool:
    """Whether a path is that of an edit list."""
    return path.name.endswith(SUFFIX)


def write_edit(path: Path, edit: VideoEdit) -> None:
    """Write an edit list at once."""
    with replace_file(path) as file:
        file.write(edit.model_dump_json().encode())


def read_edit(path: Path) -> VideoEdit:
    """Read an edit list; its source becomes absolute.

    Raises:
        ValueError: it is missing, too large or invalid, or its source lies where links may not lead.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if state.st_size > MAX_BYTES:
        raise ValueError(f"{path} has {state.st_size} bytes; expected an edit list of at most {MAX_BYTES}")
    edit = _read(path, state.st_size, state.st_mtime_ns)
    place = Path(os.path.normpath(path.absolute().parent / edit.source))
    source = place.resolve()
    if is_edit(place) or links.leads_out(path, source):
        raise ValueError(f"{path} is an edit of {edit.source}, outside its folder: {links.link_advice(source)}")
    return edit.replace(source=place)


@functools.lru_cache(maxsize=64)
def _read(path: Path, size: int, modified: int) -> VideoEdit:
    """Read an edit list of a size and time of change."""
    del size, modified
    try:
        return VideoEdit.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = validation_message(error) if isinstance(error, ValidationError) else error.strerror
        raise ValueError(f"{path} is no edit list: {reason}") from error


def edited_times(edit: VideoEdit, times: NDArray[np.float64], duration: float) -> tuple[NDArray[np.float64], float]:
    """(seconds at which each kept frame is shown, length of the edited video in seconds).

    Each kept frame is shown as long as in the source.

    Args:
        edit: the edit.
        times: float64 [source frames], `Video.times` of the source.
        duration: length of the source in seconds.
    """
    lengths = np.diff(np.append(times, duration))[edit.kept_indices()]
    ends = np.cumsum(lengths)
    return np.append(0.0, ends[:-1]), float(ends[-1])


def hide_pixels(image: NDArray[np.uint8], hidden: HiddenPixels, frame_index: int) -> NDArray[np.uint8]:
    """A frame, uint8 RGB [H, W, 3], with the pixels hidden that belong to its index in the source.

    Raises:
        ValueError: the frame has another size than the masks.
    """
    if image.shape[:2] != hidden.size:
        raise ValueError(f"expected frames of {hidden.size[0]} x {hidden.size[1]} pixels, got {image.shape[:2]}")
    mask = _mask(hidden, frame_index)
    if mask is None:
        return image
    if hidden.fill == "grey":
        return np.where(mask[..., None], np.uint8(GREY), image)
    radius = max(hidden.size) * BLUR_SHARE
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    return np.where(mask[..., None], blurred, image)


def _mask(hidden: HiddenPixels, frame_index: int) -> NDArray[np.bool_] | None:
    """Hidden pixels of a frame, bool [H, W]; None = there are none."""
    number = hidden.frames.get(frame_index)
    if number is None:
        return np.ones(hidden.size, np.bool_) if hidden.rest == "hidden" else None
    runs = hidden.masks[number]
    height, width = hidden.size
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
