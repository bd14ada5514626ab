"""PNG and JPEG files from outside: decoded under a limit on pixels, failures name the file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PIXELS = 2**26
"""A larger picture (beyond 8192 x 8192) is refused before it is decoded."""

FORMATS = ("PNG", "JPEG")


def open_image(path: Path) -> Image.Image:
    """The decoded image in its own mode; PNG and JPEG only."""
    return _open(path, decode=True)


def read_rgb(path: Path) -> np.ndarray:
    """The picture as uint8 RGB [H, W, 3]; of 16 bits the upper 8, where Pillow alone makes white of all above 255."""
    image = open_image(path)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image, from its header alone."""
    width, height = _open(path, decode=False).size
    return height, width


def check_pixels(path: Path, width: int, height: int) -> None:
    """A `ValueError` where a picture of this size is larger than `MAX_PIXELS`, or has no pixel."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"{path} says that it is {width} x {height}; expected 1 to {MAX_PIXELS} pixels")


def _open(path: Path, *, decode: bool) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as image:
            too_large = not 0 < image.width * image.height <= MAX_PIXELS
            if decode and not too_large:
                image.load()
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to decode: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as PNG or JPEG: {error}; write or fetch it again") from error
    if too_large:
        check_pixels(path, image.width, image.height)
    return image
