"""Sample tables of MP4 and MOV files as arrays: the result of a pass over all packets, without reading them.

Only plain files are covered: no fragments, and no edit list except one that shows everything. For all others the result
is `None`, and the packets are read instead. ISO/IEC 14496-12 defines the boxes.

`P` samples of the track (packets of the demuxer), in decoding order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 2**29
"""Bytes of the largest `moov` box that is read."""

MAX_SAMPLES = 2**23
"""Largest number of samples that is read (38 hours at 60 frames per second)."""

Ticks = NDArray[np.int64]


class Mp4SampleTable(NamedTuple):
    """Times, keyframes and end of the samples of a video track."""

    decoding: Ticks
    """int64 [P], decoding times in ticks of the track; they start at 0."""
    presentation: Ticks
    """int64 [P], presentation times in the same ticks, before the edit list."""
    is_keyframe: NDArray[np.bool_]
    """bool [P]."""
    end: int
    """Byte after the last sample."""


class Mp4Box(NamedTuple):
    """Box of a file: its type, and the start and end of its content."""

    kind: bytes
    start: int
    end: int


def read_sample_table(path: Path, track: int) -> Mp4SampleTable | None:
    """Sample table of the track with this number (`track_ID`); None where the file is not plain or is damaged."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            moov = _moov(file, size)
        return None if moov is None else _table(moov, track)
    except (OSError, struct.error, ValueError, IndexError, KeyError, OverflowError):
        return None


def boxes(content: bytes, start: int, end: int) -> Iterator[Mp4Box]:
    """Boxes in `content[start:end]`; raises a ValueError for a box that ends outside."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", content, start)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", content, start + 8)
            header = 16
        length = length or end - start
        if length < header or start + length > end:
            raise ValueError("a box reaches beyond the one that holds it")
        yield Mp4Box(kind, start + header, start + length)
        start += length


def top_level(file: BinaryIO, size: int) -> Iterator[Mp4Box]:
    """The boxes of a file; `end` may lie beyond the file where it is cut."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16)
        length, kind = struct.unpack_from(">I4s", head)
        header = 8
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
            header = 16
        length = length or size - start
        if length < header:
            return
        yield Mp4Box(kind, start + header, start + length)
        start += length


def _moov(file: BinaryIO, size: int) -> bytes | None:
    """Content of the only `moov` box; None for several, for fragments, or above `MAX_BYTES`."""
    top_boxes = list(top_level(file, size))
    moov_boxes = [box for box in top_boxes if box.kind == b"moov"]
    if len(moov_boxes) != 1 or any(box.kind == b"moof" for box in top_boxes):
        return None
    (box,) = moov_boxes
    if box.end > size or box.end - box.start > MAX_BYTES:
        return None
    file.seek(box.start)
    return file.read(box.end - box.start)


def _table(moov: bytes, track: int) -> Mp4SampleTable | None:
    children = list(boxes(moov, 0, len(moov)))
    kinds = {box.kind: box for box in children}
    if not kinds.keys().isdisjoint({b"mvex", b"cmov"}):
        return None
    (movie_scale,) = _time_scale(moov, kinds[b"mvhd"])
    for trak in (box for box in children if box.kind == b"trak"):
        track_boxes = {box.kind: box for box in boxes(moov, trak.start, trak.end)}
        if _track_id(moov, track_boxes[b"tkhd"]) == track:
            return _track(moov, track_boxes, movie_scale)
    return None


def _track(moov: bytes, track_boxes: dict[bytes, Mp4Box], movie_scale: int) -> Mp4SampleTable | None:
    media = _children(moov, track_boxes[b"mdia"])
    (scale,) = _time_scale(moov, media[b"mdhd"])
    tables = _children(moov, _children(moov, media[b"minf"])[b"stbl"])
    if b"stps" in tables or not {b"stts", b"stsz", b"stsc"} <= tables.keys():
        return None
    sizes = _sizes(moov, tables[b"stsz"])
    steps = _runs(moov, tables[b"stts"], len(sizes))
    if steps is None or not len(sizes) or steps.min() <= 0:
        return None
    decoding = np.concatenate([[0], np.cumsum(steps[:-1])])
    offsets = _runs(moov, tables[b"ctts"], len(sizes)) if b"ctts" in tables else np.zeros(len(sizes), np.int64)
    end = _last_byte(moov, tables, sizes)
    if offsets is None or end is None:
        return None
    table = Mp4SampleTable(decoding, decoding + offsets, _keyframes(moov, tables, len(sizes)), end)
    edits = track_boxes.get(b"edts")
    return table if edits is None or _shows_all(moov, edits, table, movie_scale, scale) else None


def _shows_all(moov: bytes, edits: Mp4Box, table: Mp4SampleTable, movie_scale: int, scale: int) -> bool:
    """Whether the edit list hides no sample: one entry from at or before the first shown sample to after the last.

    An empty entry may precede it; it only delays the track.
    """
    box = _children(moov, edits).get(b"elst")
    if box is None:
        return True
    version, count = moov[box.start], struct.unpack_from(">I", moov, box.start + 4)[0]
    layout = struct.Struct(">QqI" if version == 1 else ">IiI")
    if count > 2 or box.start + 8 + count * layout.size > box.end:
        return False
    entries = [layout.unpack_from(moov, box.start + 8 + number * layout.size) for number in range(count)]
    if entries and entries[0][1] == -1:
        entries = entries[1:]
    if len(entries) != 1:
        return count == 0
    duration, start, rate = entries[0]
    end = start + duration * scale // max(1, movie_scale)
    begins_first = 0 <= start <= int(table.presentation.min())
    return rate == 0x10000 and begins_first and int(table.presentation.max()) < end - 1


def _children(content: bytes, box: Mp4Box) -> dict[bytes, Mp4Box]:
    return {child.kind: child for child in boxes(content, box.start, box.end)}


def _track_id(content: bytes, box: Mp4Box) -> int:
    return int(struct.unpack_from(">I", content, box.start + (20 if content[box.start] == 1 else 12))[0])


def _time_scale(content: bytes, box: Mp4Box) -> tuple[int]:
    """Ticks per second of `mvhd` and `mdhd`."""
    return struct.unpack_from(">I", content, box.start + (20 if content[box.start] == 1 else 12))


def _integers(content: bytes, box: Mp4Box, start: int, kind: str, count: int) -> NDArray[np.int64]:
    """`count` big-endian integers, `start` bytes after the start of the box."""
    width = np.dtype(kind).itemsize
    if count > MAX_SAMPLES or box.start + start + count * width > box.end:
        raise ValueError("a table reaches beyond its box")
    return np.frombuffer(content, kind, count, box.start + start).astype(np.int64)


def _runs(content: bytes, box: Mp4Box, samples: int) -> NDArray[np.int64] | None:
    """One value per sample from a table of (number of samples, signed value); None where it covers another number."""
    (count,) = struct.unpack_from(">I", content, box.start + 4)
    table = _integers(content, box, 8, ">i4", 2 * count).reshape(-1, 2)
    counts = table[:, 0]
    if (counts < 0).any() or int(counts.sum()) != samples:
        return None
    return np.repeat(table[:, 1], counts)


def _sizes(content: bytes, box: Mp4Box) -> NDArray[np.int64]:
    """Bytes of each sample."""
    size, count = struct.unpack_from(">II", content, box.start + 4)
    if count > MAX_SAMPLES:
        raise ValueError("more samples than are read here")
    return np.full(count, size, np.int64) if size else _integers(content, box, 12, ">u4", count)


def _keyframes(content: bytes, tables: dict[bytes, Mp4Box], samples: int) -> NDArray[np.bool_]:
    box = tables.get(b"stss")
    if box is None:
        return np.ones(samples, np.bool_)
    (count,) = struct.unpack_from(">I", content, box.start + 4)
    is_keyframe = np.zeros(samples, np.bool_)
    is_keyframe[_integers(content, box, 8, ">u4", count) - 1] = True
    return is_keyframe


def _last_byte(content: bytes, tables: dict[bytes, Mp4Box], sizes: NDArray[np.int64]) -> int | None:
    """End of the data of all samples; None where the chunks hold a different number of samples."""
    box = tables.get(b"co64", tables.get(b"stco"))
    if box is None:
        return None
    (count,) = struct.unpack_from(">I", content, box.start + 4)
    chunks = _integers(content, box, 8, ">u8" if b"co64" in tables else ">u4", count)
    samples_per_chunk = _samples_of_chunks(content, tables[b"stsc"], count)
    if int(samples_per_chunk.sum()) != len(sizes):
        return None
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    end_samples = np.cumsum(samples_per_chunk)
    return int((chunks + offsets[end_samples] - offsets[end_samples - samples_per_chunk]).max())


def _samples_of_chunks(content: bytes, box: Mp4Box, chunks: int) -> NDArray[np.int64]:
    (count,) = struct.unpack_from(">I", content, box.start + 4)
    table = _integers(content, box, 8, ">u4", 3 * count).reshape(-1, 3)
    firsts: Sequence[int] = [*(table[:, 0] - 1).tolist(), chunks]
    lengths = np.diff(np.asarray(firsts, np.int64))
    if not count or firsts[0] != 0 or (lengths < 0).any():
        raise ValueError("the table of chunks is out of order")
    return np.repeat(table[:, 1], lengths)
