"""Folders of images as videos: their files in frame order, frame numbers, frame rates and times."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evqa.files import links

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
"""Suffixes of images, in lower case."""

ASSUMED_FPS = 6.0
"""Frames per second of a folder whose rate is not stated: that of the published data sets."""

MAX_FPS = 1000
"""Highest frame rate of a folder of frames."""

RATE_FILE = "fps.txt"
"""Name of a file in a folder of frames that contains one number: frames per second."""

RATE_IN_NAME = re.compile(r"(?<![\d.])(\d{1,4}(?:\.\d{1,6})?)fps(?![a-z])", re.IGNORECASE)
"""Frame rate in the name of a folder: `video_frames_6fps`."""

FRAME_NUMBER = re.compile(r"frame_(\d{1,9})", re.ASCII | re.IGNORECASE)
"""File name of a numbered frame; numbers start at 0."""

PADDED_NUMBER = re.compile(r"frame_\d{4,9}", re.ASCII | re.IGNORECASE)
"""File name as the published data sets write it, where numbers determine times.

`frame_1`, `frame_2` only give an order; `frame_0`, `frame_1`, `frame_3` give times as well.
"""

_fps_of_path: dict[Path, float] = {}
_folders_with_warning: set[Path] = set()


def is_image_video(path: Path) -> bool:
    """Whether a video is a folder of images or one image, and not a video file."""
    return path.is_dir() or (path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def image_names(folder: Path) -> list[str]:
    """File names of a folder's images in frame order, without suffix."""
    return [path.stem for path in image_paths(folder)]


def frame_numbers(folder: Path) -> list[int] | None:
    """Frame number of each image of a folder in frame order.

    None unless all are named `frame_0000`, ... with distinct numbers.
    """
    return _numbers_of(image_paths(folder))


def image_paths(folder: Path) -> list[Path]:
    """Images of a folder in frame order, or the one image.

    Where most images have frame numbers, the others are covers or thumbnails and are left out. Raises a ValueError for
    a link that leads out of the folder.
    """
    if folder.is_file():
        return [folder]
    with os.scandir(folder) as entries:
        paths = [folder / entry.name for entry in entries if _is_frame_file(folder, entry)]
    numbered_paths = [path for path in paths if FRAME_NUMBER.fullmatch(path.stem)]
    has_numbers = 2 * len(numbered_paths) > len(paths)  # then the others are covers or thumbnails
    return sorted(numbered_paths if has_numbers else paths, key=_natural_key)


def _is_frame_file(folder: Path, entry: os.DirEntry[str]) -> bool:
    """Whether a folder entry is an image; a dangling link is not. A link out of the folder raises a ValueError."""
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
    """Sort key that compares numbers inside a name as numbers: frame_2 before frame_10."""
    parts = re.findall(r"(\d+)|(\D+)", path.name.lower(), flags=re.ASCII)
    return [(int(digits[:1000]), "") if digits else (-1, text) for digits, text in parts], path.name


def _numbers_of(paths: Sequence[Path]) -> list[int] | None:
    """Distinct frame numbers of all paths; None where one has none or two are equal."""
    matches = [FRAME_NUMBER.fullmatch(path.stem) for path in paths]
    numbers = [int(name[1]) for name in matches if name is not None]
    return numbers if numbers and len(numbers) == len(paths) == len(set(numbers)) else None


def frame_positions(paths: Sequence[Path]) -> np.ndarray:
    """Position in time of each image, in frames from the start of the video; int64 [N].

    The frame number if all images have padded ones, or unpadded ones from 0 on of which fewer than half are missing,
    else the index. If the first number is not below the number of images, the folder is a cut of a longer video, and
    positions count from its first frame.
    """
    numbers = _numbers_of(paths)
    if numbers is None or not (_are_padded(paths) or (min(numbers) == 0 and max(numbers) < 2 * len(paths))):
        return np.arange(len(paths))
    positions = np.array(sorted(numbers), dtype=np.int64)
    return positions - positions[0] if positions[0] >= len(paths) else positions


def _are_padded(paths: Sequence[Path]) -> bool:
    return all(PADDED_NUMBER.fullmatch(path.stem) for path in paths)


# Frame rates


def set_folder_fps(folder: Path, fps: float | None) -> None:
    """Set the frame rate of a folder of frames for later calls of `probe_video`; None sets nothing."""
    if fps is not None:
        _fps_of_path[folder] = fps


def has_stated_fps(folder: Path) -> bool:
    """Whether the frame rate of a folder of frames is stated, and not assumed; see `fps_of_folder`."""
    return folder in _fps_of_path or (folder / RATE_FILE).is_file() or _rate_in_names(folder) is not None


def fps_of_folder(folder: Path) -> float:
    """Frames per second of a folder of frames.

    The rate that its data set states (`set_folder_fps`), else the number in its `fps.txt`, else the rate in the name of
    the folder or a parent, such as `video_frames_6fps`; else `ASSUMED_FPS`, with a warning that the times may be wrong.
    """
    if folder in _fps_of_path:
        return _fps_of_path[folder]
    rate_file = folder / RATE_FILE
    if rate_file.is_file():
        return _fps_of_file(rate_file)
    if (rate := _rate_in_names(folder)) is not None:
        return rate
    if folder.parent.resolve() not in _folders_with_warning:  # once for all videos of a data set
        _folders_with_warning.add(folder.parent.resolve())
        logger.warning(
            "%s is a folder of frames without a frame rate: %g frames per second are assumed, and all times depend on "
            "it; write the true number to %s",
            folder,
            ASSUMED_FPS,
            rate_file,
        )
    return ASSUMED_FPS


def _rate_in_names(folder: Path) -> float | None:
    """Frame rate in the name of a folder or of its nearest parent with one."""
    rates = [float(match[1]) for name in reversed(folder.absolute().parts) if (match := RATE_IN_NAME.search(name))]
    return rates[0] if rates and 0 < rates[0] <= MAX_FPS else None


def _fps_of_file(rate_file: Path) -> float:
    try:
        fps = float(rate_file.read_text(encoding="utf-8")[:100])
    except (OSError, ValueError) as error:
        raise ValueError(f"{rate_file}: expected one number, the frames per second of its folder: {error}") from error
    if not 0 < fps <= MAX_FPS:
        raise ValueError(f"{rate_file}: expected frames per second above 0 and up to {MAX_FPS}, got {fps}")
    return fps
