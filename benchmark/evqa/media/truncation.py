"""Check for video files that end too early: the extent that a container states, compared with the file.

Demuxers read a truncated file to its end without an error (except MP4, whose samples have addresses), so a video would
be short without notice. The check needs no decoding: it compares sizes of segments and chunks, and whether the last
unit of the file is complete. A file truncated exactly between two units of a container without sizes cannot be
distinguished from a complete one.
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
"""Bytes by which the stated size of a RIFF file may be too large: some writers count their own header."""

UNKNOWN = -1
"""Size of a Matroska element whose size is not stated."""

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675

ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def check_complete(path: Path, container: str) -> None:
    """Raise a ValueError where a file is truncated. `container`: FFmpeg's name, such as "matroska,webm"."""
    checks = [test for name, test in CHECKS.items() if name in container.split(",")]
    if not checks:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            reason = checks[0](content)
        except (struct.error, IndexError):
            reason = "its last element is incomplete"
    if reason is not None:
        raise ValueError(f"{path} is truncated: {reason}; fetch it again")


def _overrun_message(part: str, end: int, size: int) -> str:
    return f"{part} extends to byte {end}, the file ends at {size}"


# Matroska and WebM


def _matroska(content: Content) -> str | None:
    size, position = len(content), 0
    while position < size:
        kind, length, start = _element(content, position)
        if length == UNKNOWN:
            if kind not in {SEGMENT, CLUSTER}:
                return None  # not to be followed: the demuxer finds its own way
            position = start
        elif start + length > size:
            return _overrun_message("its segment" if kind == SEGMENT else "its last element", start + length, size)
        else:
            position = start + length
    return None


def _element(content: Content, position: int) -> tuple[int, int, int]:
    """(identifier, bytes of its data or `UNKNOWN`, position of its data) of a Matroska element."""
    kind, position = _number(content, position, keeps_marker=True)
    first = content[position]
    length, start = _number(content, position, keeps_marker=False)
    width = start - position
    is_unknown = length == (1 << 7 * width) - 1
    return kind, UNKNOWN if is_unknown or not first else length, start


def _number(content: Content, position: int, *, keeps_marker: bool) -> tuple[int, int]:
    """(number of variable length, position after it)."""
    first = content[position]
    width = 9 - first.bit_length() if first else 8
    data = content[position : position + width]
    if len(data) < width:
        raise IndexError
    value = int.from_bytes(data, "big")
    return value if keeps_marker else value & ((1 << 7 * width) - 1), position + width


# AVI


def _riff(content: Content) -> str | None:
    size, position = len(content), 0
    while position + 8 <= size and content[position : position + 4] == b"RIFF":
        (length,) = struct.unpack_from("<I", content, position + 4)
        if length == 0:
            return None  # written by a program that did not come to its end; what is there may be whole
        end = position + 8 + length
        if end > size + SLACK:
            return _overrun_message("its RIFF chunk", end, size)
        position = end + length % 2
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
    """Check the packets after the last pack header."""
    position = content.rfind(b"\0\0\1\xba")
    size = len(content)
    while 0 <= position <= size - 4 and content[position : position + 3] == b"\0\0\1":
        kind = content[position + 3]
        if kind == 0xB9:
            return None
        if kind == 0xBA:
            is_second = content[position + 4] >> 6 == 1
            position += 14 + (content[position + 13] & 7) if is_second else 12
        elif kind >= 0xBB:
            end = position + 6 + int(struct.unpack_from(">H", content, position + 4)[0])
            if end > size:
                return _overrun_message("its last packet", end, size)
            position = end
        else:
            return None
    return None


# Flash


def _flash(content: Content) -> str | None:
    size, seconds = len(content), 0.0
    position = int(struct.unpack_from(">I", content, 5)[0]) + 4
    while position < size:
        length = int.from_bytes(content[position + 1 : position + 4], "big")
        if position + 11 + length > size:
            return _overrun_message("its last tag", position + 11 + length, size)
        seconds = (int.from_bytes(content[position + 4 : position + 7], "big") | content[position + 7] << 24) / 1000
        position += 15 + length
    stated_duration = _flash_duration(content)
    if stated_duration <= seconds + 1:
        return None
    return f"its stated duration is {stated_duration:.2f} s, it ends at {seconds:.2f} s"


def _flash_duration(content: Content) -> float:
    """Seconds that `onMetaData` states; 0 where it states none."""
    position = content.find(b"\0\x08duration\0", 0, 2**16)
    return 0.0 if position < 0 else float(struct.unpack_from(">d", content, position + 11)[0])


# Ogg, ASF, GIF, MP4


def _ogg(content: Content) -> str | None:
    position, size = content.rfind(b"OggS\0"), len(content)
    if position < 0:
        return None
    segments = content[position + 26]
    end = position + 27 + segments + sum(content[position + 27 : position + 27 + segments])
    return _overrun_message("its last page", end, size) if end > size else None


def _asf(content: Content) -> str | None:
    position = content.find(ASF_FILE_PROPERTIES, 0, 2**20)
    if position < 0:
        return None
    (stated_size,) = struct.unpack_from("<Q", content, position + 40)
    (flags,) = struct.unpack_from("<I", content, position + 88)
    is_broadcast = flags & 1
    is_cut = stated_size > len(content) and not is_broadcast
    return _overrun_message("it", stated_size, len(content)) if is_cut else None


def _gif(content: Content) -> str | None:
    position = 13 + _color_table_bytes(content[10])
    while content[position] != 0x3B:
        if content[position] == 0x21:
            position += 2
        elif content[position] == 0x2C:
            position += 11 + _color_table_bytes(content[position + 9])
        else:
            return None
        while content[position]:
            position += 1 + content[position]
        position += 1
    return None


def _color_table_bytes(flags: int) -> int:
    """Bytes of a color table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _boxes(content: Content) -> str | None:
    """Check the header and the fragments.

    An MP4 file without fragments is checked by its sample addresses (`video_index`).
    """
    size = len(content)
    kinds = list(_kinds(content, size))
    kind, end = kinds[-1] if kinds else (b"", 0)
    is_fragmented = any(kind == b"moof" for kind, _ in kinds)
    is_read = kind in {b"moov", b"moof"} or (kind == b"mdat" and (is_fragmented or b"moov" not in dict(kinds)))
    return _overrun_message(f"its {kind.decode('latin-1')} box", end, size) if is_read and end > size else None


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
"""FFmpeg's name of the container -> check, which returns the reason where the file is truncated."""
