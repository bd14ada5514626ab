"""Index of a video file: time and packet of each frame, without decoding.

For a plain MP4 file it is built from the sample tables (`sample_tables`), checked against the demuxer; for other files
by one pass over the packets. If the packets of a codec do not identify its frames, all are decoded once and only their
times are kept. Indices are cached as long as their files do not change, the most recently used ones up to `MAX_BYTES`.

`P` packets in decoding order, `N` frames in presentation order, `H, W` pixels of the upright frame.
"""

# pyright: reportUnknownMemberType=false
# PyAV's types leave out what a packet belongs to

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from av.index import IndexEntry
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from evqa.media import containers, sample_tables, truncation
from evqa.media.containers import FileIdentity, OpenedFile, ffmpeg_errors
from evqa.media.images import check_pixels

ONE_FRAME_PER_PACKET = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg1video", "mpeg2video", "ffv1"}
"""Codecs in which each packet shows one frame, so that packets identify frames (canonical names, not the decoder's).

In VP8 some packets are marked as not displayed; for MPEG-4 part 2 see `MIN_PICTURE_BYTES`. Codecs without prediction
between frames have this property too.
"""

MIN_PICTURE_BYTES = 16
"""Bytes of a packet of MPEG-4 part 2 below which it may contain no coded frame, which only the decoder detects.
"""

SECONDS_OF_SINGLE_FRAME = 1 / 25
"""Duration of the only frame of a file that states no frame rate."""

MAX_BYTES = 64 * 2**20
"""Maximum size of the cached indices in bytes (2.6 MB per hour at 30 frames per second); the last is always kept."""

NUM_COMPARED = 64
"""Number of samples of a table, at each end and in between, that are compared with the demuxer's index."""

VideoPacket: TypeAlias = "Packet[VideoStream]"


class FrameShape(NamedTuple):
    """Size of the frames as shown."""

    height: int
    width: int
    quarter_turns: int
    """Rotations by 90 degrees, counter-clockwise, from the coded frame to the upright one."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Times and packets of the frames of a file. Built by `index_of`."""

    path: Path
    identity: FileIdentity
    shape: FrameShape
    time_base: Fraction
    """Seconds per tick."""
    ticks: NDArray[np.int64]
    """int64 [N], presentation times in ticks, strictly ascending."""
    end: int
    """Ticks at which the last frame ends."""
    packets: NDArray[np.int64] | None
    """int64 [P], presentation times in decoding order; None = frames are found by counting from the start."""
    keyframes: NDArray[np.int64]
    """int64 [K], ascending positions in `packets`."""
    positions: NDArray[np.int32]
    """int32 [N], the position in `packets` of each frame."""
    truncation: str = ""
    """Why the file lacks the pixels of its last frames; "" = it is complete."""

    @property
    def times(self) -> NDArray[np.float64]:
        """float64 [N], seconds relative to the first frame."""
        return (self.ticks - self.ticks[0]) * self.time_base.numerator / self.time_base.denominator

    @property
    def duration(self) -> float:
        """Seconds from the start of the first frame to the end of the last."""
        return float((self.end - int(self.ticks[0])) * self.time_base)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.ticks, self.keyframes, self.positions, self.packets)
        return sum(array.nbytes for array in arrays if array is not None)


class _IndexCache:
    """Indices by file, thread-safe, the most recently used last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.indices: OrderedDict[tuple[Path, FileIdentity], VideoIndex] = OrderedDict()

    def get(self, key: tuple[Path, FileIdentity]) -> VideoIndex | None:
        with self.lock:
            if key in self.indices:
                self.indices.move_to_end(key)
            return self.indices.get(key)

    def put(self, index: VideoIndex) -> None:
        with self.lock:
            self.indices[index.path, index.identity] = index
            total = sum(cached.nbytes for cached in self.indices.values())
            while total > MAX_BYTES and len(self.indices) > 1:
                total -= self.indices.popitem(last=False)[1].nbytes


_cache = _IndexCache()


def index_of(path: Path, *, allow_truncated: bool = False) -> VideoIndex:
    """Index of a video file, built or from the cache; raises a ValueError for a missing or damaged file.

    `allow_truncated`: whether an MP4 file may end before its last frames, which then cannot be decoded.
    """
    identity = containers.identity_of(path)
    index = _cache.get((path, identity))
    if index is None:
        with ffmpeg_errors(path):
            index = _build_index(path, identity)
        _cache.put(index)
    if index.truncation and not allow_truncated:
        raise ValueError(index.truncation)
    return index


def clear_index_cache() -> None:
    """Remove all cached indices."""
    _cache.__init__()


class _PacketTable(NamedTuple):
    """Times and flags of a stream's packets, in decoding order."""

    ticks: NDArray[np.int64]
    """int64 [P], presentation times."""
    is_keyframe: NDArray[np.bool_]
    is_displayed: NDArray[np.bool_]
    """bool [P], False where the container or the packet marks it as not displayed."""
    last_duration: int
    """Ticks of the frame shown last; 0 = not stated."""
    truncation: str = ""
    """As `VideoIndex.truncation`."""


def _build_index(path: Path, identity: FileIdentity) -> VideoIndex:
    with containers.cached_file(path, identity, is_new=True) as source:
        truncation.check_complete(path, source.container.format.name)
        rate = source.stream.average_rate or source.stream.guessed_rate
        time_base = source.stream.time_base
        packets, first = _read_packets(path, source)
    if first is None:
        reason = f"{path} has no picture that can be decoded: fetch it again, or re-encode it"
        raise ValueError((packets and packets.truncation) or reason)
    if packets is None or time_base is None or first.pts is None or not packets.is_keyframe.any():
        return _index_by_counting(path, identity, first, rate)
    return _index_by_packets(path, identity, first, packets, time_base, rate)


def _read_packets(path: Path, source: OpenedFile) -> tuple[_PacketTable | None, VideoFrame | None]:
    """Packets of a file (None where they do not identify its frames) and the first frame that can be decoded.

    Frames shown before the first keyframe (at the start of a cut) cannot be decoded.
    """
    table = _table(path, source)
    if table is None:
        return _packets_by_demuxing(path, source)
    truncation_reason = _truncation(path, table.end)
    packets = _packets_of_table(table, source, truncation_reason)
    if packets is None:
        if truncation_reason:
            raise ValueError(truncation_reason)
        with containers.open_file(path) as reopened:
            return _packets_by_demuxing(path, reopened)
    source.container.seek(int(source.stream.index_entries[0].timestamp), stream=source.stream)
    return packets, _first_frame(source)


def _first_frame(source: OpenedFile) -> VideoFrame | None:
    """First frame of a file at its start; the packets consumed are left in `heads` for the next reader."""
    context, packets = source.stream.codec_context, list[VideoPacket]()
    for packet in source.container.demux(source.stream):
        if packet.size:
            packets.append(packet)
            frames = context.decode(packet)
            if frames:
                source.heads[:] = [containers.FileHead(packets, frames)]
                return frames[0]
    return next(iter(context.decode(None)), None)


# Sample tables


def _table(path: Path, source: OpenedFile) -> sample_tables.Mp4SampleTable | None:
    """Sample table of a plain MP4 file; None where it disagrees with the demuxer's index."""
    if "mp4" not in source.container.format.name.split(",") or not _has_one_frame_per_packet(source.stream):
        return None
    table = sample_tables.read_sample_table(path, source.stream.id)
    if table is None:
        return None
    return table if _agrees(source.stream, table) else None


def _agrees(stream: VideoStream, table: sample_tables.Mp4SampleTable) -> bool:
    """Whether the demuxer has the same number of samples, and equal times and keyframes at both ends and in between."""
    entries, count = stream.index_entries, len(table.decoding)
    if (
        len(entries) != count
        or not table.is_keyframe[0]
        or not np.diff(np.sort(table.presentation, kind="stable")).all()
    ):
        return False
    inner_samples = np.linspace(0, count - 1, NUM_COMPARED).astype(np.int64)
    ends = np.arange(min(count, NUM_COMPARED))
    shift = int(entries[0].timestamp)
    for sample in np.unique(np.concatenate([ends, inner_samples, count - 1 - ends])).tolist():
        entry = cast("IndexEntry", entries[sample])
        is_same = entry.timestamp == table.decoding[sample] + shift and entry.is_keyframe == table.is_keyframe[sample]
        if not is_same or entry.is_discard:
            return False
    return True


def _packets_of_table(
    table: sample_tables.Mp4SampleTable, source: OpenedFile, truncation_reason: str = ""
) -> _PacketTable | None:
    """Packets of a sample table; None where the first packet, or those from the last keyframe on, differ from it.

    A truncated file lacks the latter.
    """
    entries = source.stream.index_entries
    first = next(_packets_at(source, int(entries[0].timestamp)), None)
    if first is None or first.pts is None:
        return None
    ticks = table.presentation + (first.pts - int(table.presentation[0]))
    if truncation_reason:
        return _PacketTable(ticks, table.is_keyframe, np.ones(len(ticks), np.bool_), 0, truncation_reason)
    tail = list(_packets_at(source, int(entries[int(np.flatnonzero(table.is_keyframe)[-1])].timestamp)))
    if not tail or tail[0].dts is None:
        return None
    begin = int(np.searchsorted(table.decoding + int(entries[0].timestamp), tail[0].dts))
    expected = ticks[begin:]
    if [packet.pts for packet in tail] != expected.tolist() or any(packet.is_discard for packet in tail):
        return None
    if expected.max() != ticks.max():
        return None
    last_duration = tail[int(expected.argmax())].duration or 0
    return _PacketTable(ticks, table.is_keyframe, np.ones(len(ticks), np.bool_), last_duration)


def _packets_at(source: OpenedFile, decoding: int) -> Iterator[VideoPacket]:
    """Packets from the keyframe at a decoding time, or from an earlier one."""
    source.container.seek(decoding, stream=source.stream)
    return (packet for packet in source.container.demux(source.stream) if packet.size)


# A pass over the packets


def _packets_by_demuxing(path: Path, source: OpenedFile) -> tuple[_PacketTable | None, VideoFrame | None]:
    """As `_read_packets`, by a pass over all packets of a newly opened file.

    Most containers cannot seek to their start reliably, so the first frame is decoded during the pass.
    """
    stream = source.stream
    can_seek = "matroska" in source.container.format.name.split(",")
    reader = _PacketReader(stream, decodes=not can_seek)
    for packet in source.container.demux(stream):
        if packet.size:
            reader.add(packet)
    reader.end()
    if reason := _truncation(path, max((entry.pos + entry.size for entry in stream.index_entries), default=0)):
        raise ValueError(reason)
    return reader.packets(), _first_frame_again(path, source, reader.first_tick) if can_seek else reader.first


def _first_frame_again(path: Path, source: OpenedFile, tick: int | None) -> VideoFrame | None:
    """First frame of a file that was read to its end; `tick` is the presentation time of its first packet."""
    if tick is not None:
        source.container.seek(tick, stream=source.stream)
        first = _first_frame(source)
        if source.heads and source.heads[0].packets[0].pts == tick:
            return first
        source.heads.clear()
    with containers.open_file(path) as reopened:
        return _first_frame(reopened)


class _PacketReader:
    """Collector of packet times and flags; with `decodes`, also of the first decoded frame."""

    def __init__(self, stream: VideoStream, *, decodes: bool) -> None:
        self.first: VideoFrame | None = None
        self._decodes = decodes
        self._codec, self._has_one_frame_per_packet = codec_of(stream), _has_one_frame_per_packet(stream)
        self._context = stream.codec_context
        self._ticks: list[int | None] = []
        self._durations: list[int | None] = []
        self._flags: list[tuple[bool, bool]] = []
        self._smallest = MIN_PICTURE_BYTES

    @property
    def first_tick(self) -> int | None:
        """Presentation time of the first packet."""
        return self._ticks[0] if self._ticks else None

    def add(self, packet: VideoPacket) -> None:
        self._ticks.append(packet.pts)
        self._durations.append(packet.duration)
        self._flags.append((packet.is_keyframe, not packet.is_discard and self._shows(packet)))
        self._smallest = min(self._smallest, packet.size)
        if self._decodes and self.first is None:
            self.first = next(iter(self._context.decode(packet)), None)

    def end(self) -> None:
        if self._decodes and self.first is None:
            self.first = next(iter(self._context.decode(None)), None)

    def packets(self) -> _PacketTable | None:
        """Table of the packets; None where they do not identify the frames."""
        if not self._has_one_frame_per_packet or not self._ticks or None in self._ticks:
            return None
        if self._codec == "mpeg4" and self._smallest < MIN_PICTURE_BYTES:
            return None
        ticks = np.array(self._ticks, dtype=np.int64)
        is_keyframe, is_displayed = np.array(self._flags, dtype=np.bool_).T
        last_shown = int(np.where(is_displayed, ticks, np.iinfo(np.int64).min).argmax())
        return _PacketTable(ticks, is_keyframe, is_displayed, self._durations[last_shown] or 0)

    def _shows(self, packet: VideoPacket) -> bool:
        return self._codec != "vp8" or bool(memoryview(packet)[0] & 0x10)  # RFC 6386, 9.1: show_frame


def codec_of(stream: VideoStream) -> str:
    """Canonical name of the codec: "av1" for libdav1d and every other AV1 decoder."""
    return stream.codec_context.codec.canonical_name


def _has_one_frame_per_packet(stream: VideoStream) -> bool:
    """Whether each packet shows one frame."""
    return codec_of(stream) in ONE_FRAME_PER_PACKET or stream.codec_context.codec.intra_only


def _truncation(path: Path, needed: int) -> str:
    """Why a file is truncated whose frames extend to byte `needed`; "" = it is complete."""
    size = path.stat().st_size
    if needed <= size:
        return ""
    return f"{path} is truncated: its frames extend to byte {needed}, the file ends at {size}; fetch it again"


# Indices


def _index_by_packets(
    path: Path,
    identity: FileIdentity,
    first: VideoFrame,
    packets: _PacketTable,
    time_base: Fraction,
    rate: Fraction | None,
) -> VideoIndex:
    shown_packets = np.flatnonzero(packets.is_displayed & (packets.ticks >= (first.pts or 0)))
    if not len(shown_packets):
        raise ValueError(f"{path} shows no picture: fetch it again, or re-encode it")
    ticks, first_of_time = np.unique(packets.ticks[shown_packets], return_index=True)  # of equal times, the first
    return VideoIndex(
        path=path,
        identity=identity,
        shape=_shape(path, first),
        time_base=time_base,
        ticks=ticks,
        end=int(ticks[-1]) + (packets.last_duration or _median_interval(ticks, time_base, rate)),
        packets=packets.ticks,
        keyframes=np.flatnonzero(packets.is_keyframe),
        positions=shown_packets[first_of_time].astype(np.int32),
        truncation=packets.truncation,
    )


def _index_by_counting(path: Path, identity: FileIdentity, first: VideoFrame, rate: Fraction | None) -> VideoIndex:
    """Index of a file whose packets do not identify its frames: decode all frames and keep only their times."""
    with containers.open_file(path) as (container, stream, _):
        frame_times = [(frame.pts, frame.time_base) for frame in container.decode(stream)]
    ticks = np.array([-1 if tick is None else tick for tick, _ in frame_times], dtype=np.int64)
    time_base = first.time_base
    if first.pts is None or time_base is None or bool(np.any(np.diff(ticks) <= 0)):
        if not rate:
            raise ValueError(f"{path} has neither frame times nor a frame rate: re-encode it, for example to .mp4")
        ticks, time_base = np.arange(len(frame_times), dtype=np.int64), 1 / rate
    return VideoIndex(
        path=path,
        identity=identity,
        shape=_shape(path, first),
        time_base=time_base,
        ticks=ticks,
        end=int(ticks[-1]) + _median_interval(ticks, time_base, rate),
        packets=None,
        keyframes=np.empty(0, dtype=np.int64),
        positions=np.empty(0, dtype=np.int32),
    )


def _shape(path: Path, first: VideoFrame) -> FrameShape:
    check_pixels(path, first.width, first.height)
    if first.rotation % 90:
        raise ValueError(f"{path} is shown turned by {first.rotation} degrees; expected a multiple of 90: re-encode it")
    quarter_turns = first.rotation // 90 % 4
    height, width = (first.width, first.height) if quarter_turns % 2 else (first.height, first.width)
    return FrameShape(height, width, quarter_turns)


def _median_interval(ticks: NDArray[np.int64], time_base: Fraction, rate: Fraction | None) -> int:
    """Median time between frames in ticks; for a single frame the inverse of the frame rate."""
    if len(ticks) > 1:
        return max(1, round(float(np.median(np.diff(ticks)))))
    seconds = float(1 / rate) if rate else SECONDS_OF_SINGLE_FRAME
    return max(1, round(seconds / time_base))
