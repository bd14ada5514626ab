"""Masks and label maps in PNG files, and folders of them named by frame index."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from evqa.files import links
from evqa.masks import png
from evqa.masks.native import FrameMask
from evqa.masks.rle import check_mask, to_array
from evqa.media.images import open_image


def read_png(path: Path) -> np.ndarray:
    """Read a mask as bool [H, W]: a non-zero palette index, grey value, or R, G or B is foreground."""
    return to_array(read_mask(path))


def read_mask(path: Path) -> FrameMask:
    """As `read_png`, in the form that is read fastest."""
    mask = png.read_mask(path)
    if mask is not None:
        return mask
    image = open_image(path)
    if image.mode in {"RGB", "RGBA"}:
        return np.any(np.asarray(image)[..., :3] != 0, axis=2)
    if image.mode == "LA":
        return np.asarray(image)[..., 0] != 0
    return _values(path, image) != 0


def read_labels(path: Path) -> np.ndarray:
    """Read a label map as int32 [H, W]: palette index or grey value as stored, 0 = background."""
    values = png.read(path)
    return (_values(path, open_image(path)) if values is None else values).astype(np.int32)


def _values(path: Path, image: Image.Image) -> np.ndarray:
    """Palette indices or grey values of an image; raises a ValueError for several channels."""
    if image.mode == "1" or image.mode in {"L", "P", "I", "I;16", "I;16B"}:
        return np.asarray(image)
    raise ValueError(f"{path} is a {image.mode} image; expected one channel (palette, grey or 1-bit)")


# Folders


def read_folder(folder: Path) -> dict[int, Path]:
    """Frame index -> file, ascending, of a folder of `00000.png` and so on; other files than PNG are ignored.

    Raises a ValueError for a missing folder, a name that is not a frame index, a duplicate, and a link that leads out
    of the folder and its data set.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of masks: fetch or prepare the data set again")
    paths: dict[int, Path] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name, _, suffix = entry.name.rpartition(".")
            if suffix.lower() != "png" or not name or name.startswith("."):
                continue
            path = folder / entry.name
            if not re.fullmatch(r"[0-9]{1,9}", name):
                raise ValueError(f"{path}: a mask is named by its frame index, such as 00012.png; rename or remove it")
            if int(name) in paths:
                raise ValueError(f"{path} and {paths[int(name)].name} are both frame {int(name)}: remove one")
            if not entry.is_file(follow_symlinks=False):
                _check_link(path)
            paths[int(name)] = path
    return dict(sorted(paths.items()))


def _check_link(path: Path) -> None:
    """Raise a ValueError for a link that leads out of the data set or to no file."""
    target = path.resolve()
    if links.leads_out(path, target):
        raise ValueError(
            f"{path} leads out of its folder, to {target}: put the file itself there; {links.link_advice(target)}"
        )
    if not target.is_file():
        raise ValueError(f"{path} is not a file: remove it, or put the mask there")


def write_folder(folder: Path, masks: Iterable[tuple[int, np.ndarray]]) -> None:
    """Write (frame index, mask [H, W]) pairs as `%05d.png`, 8-bit, 0 and 255."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame_index, mask in masks:
        check_mask(mask)
        Image.fromarray((mask != 0).astype(np.uint8) * 255).save(folder / f"{frame_index:05d}.png")
