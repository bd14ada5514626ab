"""Fast reader of masks in PNG files of one channel with 1 or 8 bits, several times as fast as Pillow.

Any other or damaged file is left to `images.open_image`, which reads or refuses it. A file that states a huge size is
left to it before anything is inflated; no more is inflated than the image has.
"""

# pyright: reportUnknownMemberType=false
# the bytes that deflate takes have no type

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import deflate
import numpy as np
from numpy.typing import NDArray

from evqa.masks import native
from evqa.masks.native import FrameMask
from evqa.media.images import MAX_PIXELS

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_BYTES = 2**27
"""Bytes of the largest file that is read: more than the largest image without compression."""

MAX_RATIO = 1032
"""Largest compression ratio of deflate (zlib, "Maximum compression factor")."""

IGNORED = {b"PLTE", b"tRNS", b"gAMA", b"pHYs", b"sBIT", b"tIME", b"bKGD"}
"""Chunks that do not affect indices or grey values."""

GREY, PALETTE = 0, 3

_START = SIGNATURE + b"\0\0\0\x0dIHDR"
_HEADER, _CHUNK, _CHECKSUM = Struct(">IIBBBBB"), Struct(">I4s"), Struct(">I")


class PngStream(NamedTuple):
    """Size and compressed rows of a PNG that this module can read."""

    height: int
    width: int
    depth: int
    """Bits per pixel, 1 or 8."""
    packed: bytes
    """zlib stream of rows, each preceded by its filter's number."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without its filter's number."""
        return self.width if self.depth == 8 else (self.width + 7) // 8


def read(path: Path) -> NDArray[np.uint8] | None:
    """Read the palette index or grey value of each pixel, `[H, W]`.

    None where the file is of another kind or damaged.
    """
    content = _content(path)
    return None if content is None else decode(content)


def read_mask(path: Path) -> FrameMask | None:
    """Read a mask, non-zero = foreground, mostly as bits; None where the file is of another kind or damaged."""
    content = _content(path)
    stream = None if content is None else stream_of(content)
    if stream is None:
        return None
    bits = native.inflate_bits(stream.packed, stream.height, stream.width) if stream.depth == 8 else None
    return _pixels(stream) if bits is None else bits


def decode(content: bytes) -> NDArray[np.uint8] | None:
    """As `read`, from a file's content; with 1 bit per pixel the values are 0 and 1."""
    stream = stream_of(content)
    return None if stream is None else _pixels(stream)


def stream_of(content: bytes) -> PngStream | None:
    """Size and compressed rows of a file's content.

    None where it is of another kind, damaged, or states a huge size.
    """
    if not content.startswith(_START) or len(content) < 33:
        return None
    width, height, depth, colour, compression, filters, interlaced = _HEADER.unpack_from(content, 16)
    if not 0 < width * height <= MAX_PIXELS or depth not in {1, 8} or colour not in {GREY, PALETTE}:
        return None
    packed = _compressed(content)
    if packed is None or (compression, filters, interlaced) != (0, 0, 0):
        return None
    stream = PngStream(height, width, depth, packed)
    return stream if height * (1 + stream.row_bytes) <= MAX_RATIO * len(packed) else None


def _content(path: Path) -> bytes | None:
    """Content of a file of bounded size; None where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            return os.read(descriptor, size) if size <= MAX_BYTES else None
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _pixels(stream: PngStream) -> NDArray[np.uint8] | None:
    """Pixels `[H, W]`; None where the stream is damaged, or has filters that only compiled code undoes fast."""
    expected = stream.height * (1 + stream.row_bytes)
    try:
        data = deflate.zlib_decompress(stream.packed, expected)
    except deflate.DeflateError:
        return None
    if len(data) != expected:
        return None
    rows: NDArray[np.uint8] | None = np.frombuffer(data, np.uint8).reshape(stream.height, 1 + stream.row_bytes)
    if not rows[:, 0].any():
        rows = rows[:, 1:]
    else:
        try:
            rows = native.unfilter(data, stream.height, stream.row_bytes)
        except ValueError:
            return None
    return rows if rows is None or stream.depth == 8 else np.unpackbits(rows, axis=1, count=stream.width)


def _compressed(content: bytes) -> bytes | None:
    """Content of all IDAT chunks; None where a chunk is unknown, misplaced, truncated, or fails its checksum."""
    parts: list[bytes] = []
    position, previous_name = len(SIGNATURE), b""
    while position + 12 <= len(content):
        length, name = _CHUNK.unpack_from(content, position)
        end = position + 8 + length
        if (
            end + 4 > len(content)
            or deflate.crc32(content[position + 4 : end]) != _CHECKSUM.unpack_from(content, end)[0]
        ):
            return None
        if name == b"IDAT":
            if parts and previous_name != b"IDAT":
                return None
            parts.append(content[position + 8 : end])
        elif name == b"IEND":
            return b"".join(parts) or None
        elif name not in IGNORED and not (name == b"IHDR" and not previous_name):
            return None
        position, previous_name = end + 4, name
    return None
