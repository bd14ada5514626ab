"""Video files that end too early: each container says somewhere how far it reaches, and that is compared with the file.

Demuxers read a cut file to its end without a word (a cut MP4 apart, whose samples have addresses), so a video would
be short and nobody would know. What is checked needs no decoding: sizes of segments and chunks, and whether the last
unit of the file is whole. A file cut exactly between two units of a container without sizes looks like a whole one.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from evqa.media.sample_tables import top_level

Content: TypeAlias = "mmap.mmap"

SLACK = 8
"""Bytes by which a RIFF file may say too much: some writers count their own header."""

UNKNOWN = -1

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675

ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def check(path: Path, container: str) -> None:
    """A `ValueError` where the file of this container (FFmpeg's name, such as "matroska,webm") is cut short."""
    checks = [test for name, test in CHECKS.items() if name in container.split(",")]
    if not checks:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            found = checks[0](content)
        except (struct.error, IndexError):
            found = "its last element is not whole"
    if found is not None:
        raise ValueError(f"{path} is cut short: {found}; fetch it again")


def _reaches(what: str, end: int, size: int) -> str:
    return f"{what} reaches to byte {end}, the file ends at {size}"


# Matroska and WebM


def _matroska(content: Content) -> str | None:
    size, at = len(content), 0
    while at < size:
        kind, length, start = _element(content, at)
        if length == UNKNOWN:
            if kind not in {SEGMENT, CLUSTER}:
                return None  # not to be followed: the demuxer finds its own way
            at = start
        elif start + length > size:
            return _reaches("its segment" if kind == SEGMENT else "its last element", start + length, size)
        else:
            at = start + length
    return None


def _element(content: Content, at: int) -> tuple[int, int, int]:
    """(identifier, bytes of its data or `UNKNOWN`, where they start)."""
    kind, at = _number(content, at, keeps_marker=True)
    first = content[at]
    length, start = _number(content, at, keeps_marker=False)
    width = start - at
    is_unknown = length == (1 << 7 * width) - 1
    return kind, UNKNOWN if is_unknown or not first else length, start


def _number(content: Content, at: int, *, keeps_marker: bool) -> tuple[int, int]:
    """(a number of variable length, the byte after it)."""
    first = content[at]
    width = 9 - first.bit_length() if first else 8
    data = content[at : at + width]
    if len(data) < width:
        raise IndexError
    value = int.from_bytes(data, "big")
    return value if keeps_marker else value & ((1 << 7 * width) - 1), at + width


# AVI


def _riff(content: Content) -> str | None:
    size, at = len(content), 0
    while at + 8 <= size and content[at : at + 4] == b"RIFF":
        (length,) = struct.unpack_from("<I", content, at + 4)
        if length == 0:
            return None  # written by a program that did not come to its end; what is there may be whole
        end = at + 8 + length
        if end > size + SLACK:
            return _reaches("its RIFF chunk", end, size)
        at = end + length % 2
    return None


# MPEG transport and program streams


def _transport(content: Content) -> str | None:
    size = len(content)
    for length, first in ((188, 0), (192, 4), (204, 0)):
        if size >= first + 3 * length and all(content[first + number * length] == 0x47 for number in range(3)):
            rest = size % length
            return f"its last packet has {rest} of {length} bytes" if rest else None
    return None


def _program(content: Content) -> str | None:
    """The packets from the last pack header on."""
    at = content.rfind(b"\0\0\1\xba")
    size = len(content)
    while 0 <= at <= size - 4 and content[at : at + 3] == b"\0\0\1":
        kind = content[at + 3]
        if kind == 0xB9:
            return None
        if kind == 0xBA:
            is_second = content[at + 4] >> 6 == 1
            at += 14 + (content[at + 13] & 7) if is_second else 12
        elif kind >= 0xBB:
            end = at + 6 + int(struct.unpack_from(">H", content, at + 4)[0])
            if end > size:
                return _reaches("its last packet", end, size)
            at = end
        else:
            return None
    return None


# Flash


def _flash(content: Content) -> str | None:
    size, seconds = len(content), 0.0
    at = int(struct.unpack_from(">I", content, 5)[0]) + 4
    while at < size:
        length = int.from_bytes(content[at + 1 : at + 4], "big")
        if at + 11 + length > size:
            return _reaches("its last tag", at + 11 + length, size)
        seconds = (int.from_bytes(content[at + 4 : at + 7], "big") | content[at + 7] << 24) / 1000
        at += 15 + length
    stated = _flash_duration(content)
    return f"it says that it lasts {stated:.2f} s, it ends at {seconds:.2f} s" if stated > seconds + 1 else None


def _flash_duration(content: Content) -> float:
    """Seconds that `onMetaData` states; 0 where it states none."""
    at = content.find(b"\0\x08duration\0", 0, 2**16)
    return 0.0 if at < 0 else float(struct.unpack_from(">d", content, at + 11)[0])


# Ogg, ASF, GIF, MP4


def _ogg(content: Content) -> str | None:
    at, size = content.rfind(b"OggS\0"), len(content)
    if at < 0:
        return None
    segments = content[at + 26]
    end = at + 27 + segments + sum(content[at + 27 : at + 27 + segments])
    return _reaches("its last page", end, size) if end > size else None


def _asf(content: Content) -> str | None:
    at = content.find(ASF_FILE_PROPERTIES, 0, 2**20)
    if at < 0:
        return None
    (stated,) = struct.unpack_from("<Q", content, at + 40)
    (flags,) = struct.unpack_from("<I", content, at + 88)
    is_broadcast = flags & 1
    return _reaches("it", stated, len(content)) if stated > len(content) and not is_broadcast else None


def _gif(content: Content) -> str | None:
    at = 13 + _colours(content[10])
    while content[at] != 0x3B:
        if content[at] == 0x21:
            at += 2
        elif content[at] == 0x2C:
            at += 11 + _colours(content[at + 9])
        else:
            return None
        while content[at]:
            at += 1 + content[at]
        at += 1
    return None


def _colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _boxes(content: Content) -> str | None:
    """The header, and the fragments; in an MP4 file without those the addresses of samples tell (`video_index`)."""
    size = len(content)
    found = list(_kinds(content, size))
    kind, end = found[-1] if found else (b"", 0)
    is_fragmented = any(kind == b"moof" for kind, _ in found)
    is_read = kind in {b"moov", b"moof"} or (kind == b"mdat" and (is_fragmented or b"moov" not in dict(found)))
    return _reaches(f"its {kind.decode('latin-1')} box", end, size) if is_read and end > size else None


def _kinds(content: Content, size: int) -> Iterator[tuple[bytes, int]]:
    for box in top_level(content, size):  # type: ignore[arg-type]  # a mapped file reads and seeks
        yield box.kind, box.end


CHECKS: dict[str, Callable[[Content], str | None]] = {
    "matroska": _matroska,
    "avi": _riff,
    "mpegts": _transport,
    "mpeg": _program,
    "flv": _flash,
    "ogg": _ogg,
    "asf": _asf,
    "gif": _gif,
    "mov": _boxes,
}
"""By FFmpeg's name of the container."""
