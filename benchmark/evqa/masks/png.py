"""Masks as most tools write them (PNG of one channel with 1 or 8 bits), read several times as fast as Pillow does.

What is not such a file, or is damaged in any way, is left to `images.open_image`, which reads or refuses it. A file
that says that it is huge is left to it before anything is inflated; no more is inflated than the picture has.
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
"""A larger file is left alone: it is more than the largest picture without compression."""

MAX_RATIO = 1032
"""Bytes that one byte of deflate can stand for at most (zlib, "Maximum compression factor")."""

IGNORED = {b"PLTE", b"tRNS", b"gAMA", b"pHYs", b"sBIT", b"tIME", b"bKGD"}
"""Chunks that say nothing about indices or grey values."""

GREY, PALETTE = 0, 3

_START = SIGNATURE + b"\0\0\0\x0dIHDR"
_HEADER, _CHUNK, _CHECKSUM = Struct(">IIBBBBB"), Struct(">I4s"), Struct(">I")


class PngStream(NamedTuple):
    """A picture that this reader reads, not yet inflated."""

    height: int
    width: int
    depth: int
    """Bits a pixel, 1 or 8."""
    packed: bytes
    """A zlib stream of rows, each with its filter's number before it."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without its filter's number."""
        return self.width if self.depth == 8 else (self.width + 7) // 8


def read(path: Path) -> NDArray[np.uint8] | None:
    """Palette index or grey value of each pixel, `[H, W]`; None where the file is another kind or is damaged."""
    content = _content(path)
    return None if content is None else decode(content)


def read_mask(path: Path) -> FrameMask | None:
    """As `read`, of which only matters what is not 0: mostly as bits, without a byte a pixel in between."""
    content = _content(path)
    stream = None if content is None else stream_of(content)
    if stream is None:
        return None
    bits = native.inflate_bits(stream.packed, stream.height, stream.width) if stream.depth == 8 else None
    return _pixels(stream) if bits is None else bits


def decode(content: bytes) -> NDArray[np.uint8] | None:
    """As `read`, of a file's content; 1 bit a pixel is 0 and 1."""
    stream = stream_of(content)
    return None if stream is None else _pixels(stream)


def stream_of(content: bytes) -> PngStream | None:
    """What a file's content holds; None where it is of another kind, is damaged, or says that it is huge."""
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
    """A file of bounded size; None where it cannot be read."""
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
    """`[H, W]`; None where the stream is damaged, or has filters and nothing here undoes them fast."""
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
    """The content of all IDAT chunks; None where a chunk is unknown, out of place, cut, or fails its checksum."""
    parts: list[bytes] = []
    at, before = len(SIGNATURE), b""
    while at + 12 <= len(content):
        length, name = _CHUNK.unpack_from(content, at)
        end = at + 8 + length
        if end + 4 > len(content) or deflate.crc32(content[at + 4 : end]) != _CHECKSUM.unpack_from(content, end)[0]:
            return None
        if name == b"IDAT":
            if parts and before != b"IDAT":
                return None
            parts.append(content[at + 8 : end])
        elif name == b"IEND":
            return b"".join(parts) or None
        elif name not in IGNORED and not (name == b"IHDR" and not before):
            return None
        at, before = end + 4, name
    return None
