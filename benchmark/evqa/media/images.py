"""Reader of untrusted PNG and JPEG files: upright, with a limit on pixels; errors name the file.

An image whose EXIF data states a rotation of the camera is turned upright wherever it is read, as viewers, browsers and
OpenCV do. So height, width, boxes, points, polygons and masks refer to the upright image.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PIXELS = 2**26
"""Largest number of pixels (8192 x 8192); a larger image is refused before it is decoded."""

FORMATS = ("PNG", "JPEG")

ORIENTATION = 0x0112
"""EXIF tag of the orientation; 1 = upright."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation -> transformation that makes the image upright."""

MAX_CHUNKS = 2**16
"""Number of chunks of a PNG file that are searched for EXIF data."""


def open_image(path: Path) -> Image.Image:
    """Decode a PNG or JPEG file, upright, in its own mode; raises a ValueError for any other or damaged file."""
    image = _open(path, decode=True)
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def read_rgb(path: Path) -> np.ndarray:
    """Read an image as uint8 RGB [H, W, 3]; of 16-bit values the upper 8 bits are used (Pillow clips them to 255)."""
    image = open_image(path)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of an upright image, from its header alone."""
    image = _open(path, decode=False)
    width, height = image.size
    may_be_rotated = image.format != "PNG" or _has_exif(path)  # Pillow would decode a PNG file to the end to find none
    return (width, height) if may_be_rotated and _orientation(image) >= 5 else (height, width)


def check_pixels(path: Path, width: int, height: int) -> None:
    """Raise a ValueError where an image of this size has no pixel or more than `MAX_PIXELS`."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"{path} states a size of {width} x {height}; expected 1 to {MAX_PIXELS} pixels")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error, zlib.error):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _has_exif(path: Path) -> bool:
    """Whether a PNG file has a chunk that may state an orientation (EXIF, or text with XMP or EXIF in it)."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(MAX_CHUNKS):
            header = file.read(8)
            if len(header) < 8:
                return False
            length, kind = struct.unpack(">I4s", header)
            if kind in {b"eXIf", b"iTXt", b"zTXt", b"tEXt"}:
                return True
            file.seek(length + 4, 1)
    return False


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
