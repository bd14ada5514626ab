"""Which frames a video file has, when each is shown and which packet holds it, without decoding them.

Of a plain MP4 file the sample tables tell it (`sample_tables`), checked against what the demuxer says; of other files
one pass over the packets. Where packets do not tell the frames of a codec, all are decoded once and only their times
kept. Indices are kept as long as their files do not change, the last used ones up to `MAX_BYTES`.

`P` packets in decoding order, `N` frames in presentation order, `H, W` pixels as shown.
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

ONE_FRAME_A_PACKET = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg1video", "mpeg2video", "ffv1"}
"""Codecs of which a packet shows one frame, so that the packets tell the frames (canonical names, not the decoder's).

Of VP8, some packets say that they show none; of MPEG-4 part 2, see `SMALLEST_PICTURE`. Codecs without prediction
between frames belong here too.
"""

SMALLEST_PICTURE = 16
"""Bytes. A smaller packet of MPEG-4 part 2 may say that no picture is coded, which only the decoder can tell."""

SECONDS_OF_A_LONE_FRAME = 1 / 25
"""How long a frame lasts where the file has only this one and says nothing."""

MAX_BYTES = 64 * 2**20
"""Of the indices that are kept (an hour at 30 frames a second takes 2.6 MB); the last one is kept whatever its size."""

NUM_COMPARED = 64
"""Samples of a table, at each end and in between, that are compared with the demuxer's index."""

VideoPacket: TypeAlias = "Packet[VideoStream]"


class FrameShape(NamedTuple):
    """The size of the frames as they are shown."""

    height: int
    width: int
    quarter_turns: int
    """Turns by 90 degrees, counter-clockwise, from the coded picture to the shown one."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Where the frames of a file are. Built by `index_of`."""

    path: Path
    identity: FileIdentity
    shape: FrameShape
    time_base: Fraction
    """Seconds of one tick."""
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

    @property
    def times(self) -> NDArray[np.float64]:
        """float64 [N], seconds from the first frame."""
        return (self.ticks - self.ticks[0]) * self.time_base.numerator / self.time_base.denominator

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        return float((self.end - int(self.ticks[0])) * self.time_base)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.ticks, self.keyframes, self.positions, self.packets)
        return sum(array.nbytes for array in arrays if array is not None)


class _IndexCache:
    """Indices by file, the last used ones at the end."""

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
            total = sum(each.nbytes for each in self.indices.values())
            while total > MAX_BYTES and len(self.indices) > 1:
                total -= self.indices.popitem(last=False)[1].nbytes


_kept = _IndexCache()


def index_of(path: Path) -> VideoIndex:
    """The index of a video file."""
    identity = containers.identity_of(path)
    found = _kept.get((path, identity))
    if found is None:
        with ffmpeg_errors(path):
            found = _built(path, identity)
        _kept.put(found)
    return found


def forget() -> None:
    """Drop all indices."""
    _kept.__init__()


class _Packets(NamedTuple):
    """What the packets of a stream say, in decoding order."""

    ticks: NDArray[np.int64]
    """[P], presentation times."""
    is_keyframe: NDArray[np.bool_]
    is_shown: NDArray[np.bool_]
    """[P], False where the container or the packet says that it shows nothing."""
    last_duration: int
    """Ticks of the frame shown last; 0 = not told."""


def _built(path: Path, identity: FileIdentity) -> VideoIndex:
    with containers.cached_file(path, identity, is_new=True) as source:
        truncation.check(path, source.container.format.name)
        rate = source.stream.average_rate or source.stream.guessed_rate
        time_base = source.stream.time_base
        packets, first = _read(path, source)
    if first is None:
        raise ValueError(f"{path} has no picture that can be decoded: fetch it again, or re-encode it")
    if packets is None or time_base is None or first.pts is None or not packets.is_keyframe.any():
        return _index_by_counting(path, identity, first, rate)
    return _index_by_packets(path, identity, first, packets, time_base, rate)


def _read(path: Path, source: OpenedFile) -> tuple[_Packets | None, VideoFrame | None]:
    """What the packets say, None where they do not tell the frames; and the first frame that comes out.

    What is shown before the first frame (at the start of a cut) cannot be decoded.
    """
    table = _table(path, source)
    if table is None:
        return _demuxed(path, source)
    packets = _confirmed(table, source)
    if packets is None:
        with containers.open_file(path) as again:
            return _demuxed(path, again)
    source.container.seek(int(source.stream.index_entries[0].timestamp), stream=source.stream)
    return packets, _first_frame(source)


def _first_frame(source: OpenedFile) -> VideoFrame | None:
    """The first frame that comes out, of a file that is at its beginning; the next reader can go on from there."""
    context, given = source.stream.codec_context, list[VideoPacket]()
    for packet in source.container.demux(source.stream):
        if packet.size:
            given.append(packet)
            frames = context.decode(packet)
            if frames:
                source.beginning[:] = [containers.FileHead(given, frames)]
                return frames[0]
    return next(iter(context.decode(None)), None)


# Sample tables


def _table(path: Path, source: OpenedFile) -> sample_tables.SampleTable | None:
    """The sample table of a plain MP4 file, where it agrees with the demuxer's index."""
    if "mp4" not in source.container.format.name.split(",") or not _tells_frames(source.stream):
        return None
    table = sample_tables.read_sample_table(path, source.stream.id)
    if table is None:
        return None
    _refuse_cut_file(path, table.end)
    return table if _agrees(source.stream, table) else None


def _agrees(stream: VideoStream, table: sample_tables.SampleTable) -> bool:
    """Whether the demuxer has as many samples, and the same times and keyframes at both ends and in between."""
    entries, count = stream.index_entries, len(table.decoding)
    if (
        len(entries) != count
        or not table.is_keyframe[0]
        or not np.diff(np.sort(table.presentation, kind="stable")).all()
    ):
        return False
    between = np.linspace(0, count - 1, NUM_COMPARED).astype(np.int64)
    ends = np.arange(min(count, NUM_COMPARED))
    shift = int(entries[0].timestamp)
    for place in np.unique(np.concatenate([ends, between, count - 1 - ends])).tolist():
        entry = cast("IndexEntry", entries[place])
        is_same = entry.timestamp == table.decoding[place] + shift and entry.is_keyframe == table.is_keyframe[place]
        if not is_same or entry.is_discard:
            return False
    return True


def _confirmed(table: sample_tables.SampleTable, source: OpenedFile) -> _Packets | None:
    """The packets by a table, where those from the last keyframe on, and the first, are as the table says."""
    entries = source.stream.index_entries
    first = next(_packets_at(source, int(entries[0].timestamp)), None)
    tail = list(_packets_at(source, int(entries[int(np.flatnonzero(table.is_keyframe)[-1])].timestamp)))
    if first is None or first.pts is None or not tail or tail[0].dts is None:
        return None
    ticks = table.presentation + (first.pts - int(table.presentation[0]))
    begin = int(np.searchsorted(table.decoding + int(entries[0].timestamp), tail[0].dts))
    expected = ticks[begin:]
    if [packet.pts for packet in tail] != expected.tolist() or any(packet.is_discard for packet in tail):
        return None
    if expected.max() != ticks.max():
        return None
    last_duration = tail[int(expected.argmax())].duration or 0
    return _Packets(ticks, table.is_keyframe, np.ones(len(ticks), np.bool_), last_duration)


def _packets_at(source: OpenedFile, decoding: int) -> Iterator[VideoPacket]:
    """The packets from the keyframe at this decoding time on, or from one before."""
    source.container.seek(decoding, stream=source.stream)
    return (packet for packet in source.container.demux(source.stream) if packet.size)


# A pass over the packets


def _demuxed(path: Path, source: OpenedFile) -> tuple[_Packets | None, VideoFrame | None]:
    """From a newly opened file: not all containers can seek to their beginning, so most are decoded on the way."""
    stream = source.stream
    can_seek = "matroska" in source.container.format.name.split(",")
    reading = _Reading(stream, decodes=not can_seek)
    for packet in source.container.demux(stream):
        if packet.size:
            reading.add(packet)
    reading.end()
    _refuse_cut_file(path, max((entry.pos + entry.size for entry in stream.index_entries), default=0))
    return reading.packets(), _first_again(path, source, reading.first_tick) if can_seek else reading.first


def _first_again(path: Path, source: OpenedFile, tick: int | None) -> VideoFrame | None:
    """The first frame of a file that was read to its end and begins with a packet of this presentation time."""
    if tick is not None:
        source.container.seek(tick, stream=source.stream)
        first = _first_frame(source)
        if source.beginning and source.beginning[0].packets[0].pts == tick:
            return first
        source.beginning.clear()
    with containers.open_file(path) as again:
        return _first_frame(again)


class _Reading:
    """A pass over packets: what each says, and if it `decodes`, the first frame that comes out."""

    def __init__(self, stream: VideoStream, *, decodes: bool) -> None:
        self.first: VideoFrame | None = None
        self._decodes = decodes
        self._codec, self._tells_frames = codec_of(stream), _tells_frames(stream)
        self._context = stream.codec_context
        self._ticks: list[int | None] = []
        self._durations: list[int | None] = []
        self._flags: list[tuple[bool, bool]] = []
        self._smallest = SMALLEST_PICTURE

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

    def packets(self) -> _Packets | None:
        """None where they do not tell the frames."""
        if not self._tells_frames or not self._ticks or None in self._ticks:
            return None
        if self._codec == "mpeg4" and self._smallest < SMALLEST_PICTURE:
            return None
        ticks = np.array(self._ticks, dtype=np.int64)
        is_keyframe, is_shown = np.array(self._flags, dtype=np.bool_).T
        last = int(np.where(is_shown, ticks, np.iinfo(np.int64).min).argmax())
        return _Packets(ticks, is_keyframe, is_shown, self._durations[last] or 0)

    def _shows(self, packet: VideoPacket) -> bool:
        return self._codec != "vp8" or bool(memoryview(packet)[0] & 0x10)  # RFC 6386, 9.1: show_frame


def codec_of(stream: VideoStream) -> str:
    """The codec's canonical name: "av1" whether libdav1d or another decodes it."""
    return stream.codec_context.codec.canonical_name


def _tells_frames(stream: VideoStream) -> bool:
    """Whether each packet shows one frame."""
    return codec_of(stream) in ONE_FRAME_A_PACKET or stream.codec_context.codec.intra_only


def _refuse_cut_file(path: Path, needed: int) -> None:
    size = path.stat().st_size
    if needed > size:
        raise ValueError(f"{path} is cut short: its pictures reach to byte {needed}, it ends at {size}; fetch it again")


# Indices


def _index_by_packets(
    path: Path, identity: FileIdentity, first: VideoFrame, packets: _Packets, time_base: Fraction, rate: Fraction | None
) -> VideoIndex:
    shown = np.flatnonzero(packets.is_shown & (packets.ticks >= (first.pts or 0)))
    if not len(shown):
        raise ValueError(f"{path} shows no picture: fetch it again, or re-encode it")
    ticks, places = np.unique(packets.ticks[shown], return_index=True)  # of equal times, the first
    return VideoIndex(
        path=path,
        identity=identity,
        shape=_shape(path, first),
        time_base=time_base,
        ticks=ticks,
        end=int(ticks[-1]) + (packets.last_duration or _usual_gap(ticks, time_base, rate)),
        packets=packets.ticks,
        keyframes=np.flatnonzero(packets.is_keyframe),
        positions=shown[places].astype(np.int32),
    )


def _index_by_counting(path: Path, identity: FileIdentity, first: VideoFrame, rate: Fraction | None) -> VideoIndex:
    """The index of a file whose packets do not tell its frames: decode them all, keep their times only."""
    with containers.open_file(path) as (container, stream, _):
        shown = [(frame.pts, frame.time_base) for frame in container.decode(stream)]
    ticks = np.array([-1 if tick is None else tick for tick, _ in shown], dtype=np.int64)
    time_base = first.time_base
    if first.pts is None or time_base is None or bool(np.any(np.diff(ticks) <= 0)):
        if not rate:
            raise ValueError(f"{path} has neither frame times nor a frame rate: re-encode it, for example to .mp4")
        ticks, time_base = np.arange(len(shown), dtype=np.int64), 1 / rate
    return VideoIndex(
        path=path,
        identity=identity,
        shape=_shape(path, first),
        time_base=time_base,
        ticks=ticks,
        end=int(ticks[-1]) + _usual_gap(ticks, time_base, rate),
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


def _usual_gap(ticks: NDArray[np.int64], time_base: Fraction, rate: Fraction | None) -> int:
    """The median time between frames in ticks; of a lone frame, what the rate says."""
    if len(ticks) > 1:
        return max(1, round(float(np.median(np.diff(ticks)))))
    seconds = float(1 / rate) if rate else SECONDS_OF_A_LONE_FRAME
    return max(1, round(seconds / time_base))
