"""Exact frames of one video file: an index of its packets, and decoding by groups of pictures.

The index is one pass over the packets without decoding them. Frames are then found by presentation time: seek
to the keyframe before, decode up to the frame, and let the H.264 decoder leave out pictures that nothing
refers to (about half of a usual file). The pixels are those of decoding the whole file.

`P` packets in decoding order, `N` frames in presentation order, `H, W` pixels as shown.
"""

# pyright: reportUnknownMemberType=false
# PyAV's types leave out what a packet belongs to

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from evqa.images import check_pixels

FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif"
"""Containers that are opened. Play lists and scripts, which name other files, are not among them."""

ONE_FRAME_A_PACKET = {"h264", "hevc", "vp9", "av1"}
"""Codecs of which a packet always shows one frame, so that the packets alone tell the frames."""

SKIPS_EXACTLY = {"h264"}
"""Codecs whose decoder may leave out non-reference pictures without a change to any other picture."""

SECONDS_OF_A_LONE_FRAME = 1 / 25
"""How long a frame lasts where the file has only this one and says nothing."""


class Shape(NamedTuple):
    """The size of the frames as they are shown."""

    height: int
    width: int
    quarter_turns: int
    """Turns by 90 degrees, counter-clockwise, from the coded picture to the shown one."""


@dataclass(frozen=True, eq=False)
class Index:
    """Where the frames of a file are. Built by `index_of`."""

    path: Path
    shape: Shape
    time_base: Fraction
    """Seconds of one tick."""
    ticks: np.ndarray
    """int64 [N], presentation times in ticks, strictly ascending."""
    end: int
    """Ticks at which the last frame ends."""
    packets: np.ndarray | None
    """int64 [P], presentation times in decoding order; None = frames are found by counting from the start."""
    keyframes: np.ndarray
    """int64 [K], ascending positions in `packets`."""
    positions: Mapping[int, int]
    """Presentation time -> position in `packets`."""

    @property
    def times(self) -> np.ndarray:
        """float64 [N], seconds from the first frame."""
        return (self.ticks - self.ticks[0]) * self.time_base.numerator / self.time_base.denominator

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        return float((self.end - int(self.ticks[0])) * self.time_base)


def index_of(path: Path) -> Index:
    """The index of a video file, kept as long as the file does not change."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ValueError(f"no such file: {path}; expected a video, or a folder of frames") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from error
    if status.st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes): fetch it again")
    return _index(path, status.st_mtime_ns, status.st_size)


def frames_of(index: Index, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(frame index, uint8 RGB [H, W, 3]) for ascending unique indices, one frame in memory at a time."""
    with _failures_named(index.path):
        found = _counted(index, wanted) if index.packets is None else _sought(index, wanted)
        for frame_index, frame in found:
            yield frame_index, _rgb(frame, index)


# Opening


@contextmanager
def _failures_named(path: Path) -> Generator[None]:
    try:
        yield
    except FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{path} cannot be read as a video ({reason}): fetch it again, or re-encode it") from error


@contextmanager
def _opened(path: Path) -> Generator[tuple[InputContainer, VideoStream]]:
    limits = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with av.open(str(path.absolute()), container_options=limits) as container:
        streams = [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise ValueError(f"{path} has no video stream, it holds {kinds}: fetch it again, or give another file")
        stream = streams[0]
        check_pixels(path, stream.codec_context.width, stream.codec_context.height)
        stream.thread_type = "NONE"  # with threads, the switch for left-out pictures would reach other packets
        stream.codec_context.thread_count = 1
        yield container, stream


# The index


@lru_cache(maxsize=64)
def _index(path: Path, _changed: int, size: int) -> Index:
    with _failures_named(path):
        with _opened(path) as (container, stream):
            codec, time_base = stream.codec_context.name, stream.time_base
            packets = _packet_list(container, stream)
            _refuse_cut_file(path, stream, size)
            rate = stream.average_rate or stream.guessed_rate
        first = _first_frame(path)
        by_packets = codec in ONE_FRAME_A_PACKET and first.pts is not None and _are_timed(packets)
        if not by_packets or time_base is None:
            return _index_by_counting(path, first, rate)
        return _index_by_packets(path, first, packets, time_base, rate)


_Packet: TypeAlias = "Packet[VideoStream]"


class _PacketFacts(NamedTuple):
    tick: int | None
    duration: int
    is_keyframe: bool
    is_shown: bool


def _packet_list(container: InputContainer, stream: VideoStream) -> list[_PacketFacts]:
    """All packets of the stream in decoding order."""
    return [
        _PacketFacts(packet.pts, packet.duration or 0, packet.is_keyframe, not packet.is_discard)
        for packet in container.demux(stream)
        if packet.size
    ]


def _are_timed(packets: Sequence[_PacketFacts]) -> bool:
    return all(packet.tick is not None for packet in packets) and any(packet.is_keyframe for packet in packets)


def _refuse_cut_file(path: Path, stream: VideoStream, size: int) -> None:
    needed = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    if needed > size:
        raise ValueError(f"{path} is cut short: its pictures reach to byte {needed}, it ends at {size}; fetch it again")


def _first_frame(path: Path) -> VideoFrame:
    """The first frame that comes out; what is shown before it (at the start of a cut) cannot be decoded."""
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            return frame
    raise ValueError(f"{path} has no picture that can be decoded: fetch it again, or re-encode it")


def _index_by_packets(
    path: Path, first: VideoFrame, packets: Sequence[_PacketFacts], time_base: Fraction, rate: Fraction | None
) -> Index:
    durations = {
        p.tick: p.duration for p in packets if p.is_shown and p.tick is not None and p.tick >= (first.pts or 0)
    }
    ticks = np.array(sorted(durations), dtype=np.int64)
    return Index(
        path=path,
        shape=_shape(path, first),
        time_base=time_base,
        ticks=ticks,
        end=int(ticks[-1]) + (durations[int(ticks[-1])] or _usual_gap(ticks, time_base, rate)),
        packets=np.array([packet.tick for packet in packets], dtype=np.int64),
        keyframes=np.flatnonzero([packet.is_keyframe for packet in packets]),
        positions=_positions(packets),
    )


def _positions(packets: Sequence[_PacketFacts]) -> dict[int, int]:
    """Presentation time -> position; of packets of the same time, the first that is shown."""
    hidden = {p.tick: place for place, p in enumerate(packets) if p.tick is not None and not p.is_shown}
    shown = {p.tick: place for place, p in reversed(list(enumerate(packets))) if p.tick is not None and p.is_shown}
    return hidden | shown


def _index_by_counting(path: Path, first: VideoFrame, rate: Fraction | None) -> Index:
    """The index of a file whose packets do not tell its frames: decode them all, keep their times only."""
    with _opened(path) as (container, stream):
        shown = [(frame.pts, frame.time_base) for frame in container.decode(stream)]
    ticks = np.array([-1 if tick is None else tick for tick, _ in shown], dtype=np.int64)
    time_base = first.time_base
    if first.pts is None or time_base is None or bool(np.any(np.diff(ticks) <= 0)):
        if not rate:
            raise ValueError(f"{path} has neither frame times nor a frame rate: re-encode it, for example to .mp4")
        ticks, time_base = np.arange(len(shown), dtype=np.int64), 1 / rate
    return Index(
        path=path,
        shape=_shape(path, first),
        time_base=time_base,
        ticks=ticks,
        end=int(ticks[-1]) + _usual_gap(ticks, time_base, rate),
        packets=None,
        keyframes=np.empty(0, dtype=np.int64),
        positions={},
    )


def _shape(path: Path, first: VideoFrame) -> Shape:
    check_pixels(path, first.width, first.height)
    if first.rotation % 90:
        raise ValueError(f"{path} is shown turned by {first.rotation} degrees; expected a multiple of 90: re-encode it")
    quarter_turns = first.rotation // 90 % 4
    height, width = (first.width, first.height) if quarter_turns % 2 else (first.height, first.width)
    return Shape(height, width, quarter_turns)


def _usual_gap(ticks: np.ndarray, time_base: Fraction, rate: Fraction | None) -> int:
    """The median time between frames in ticks; of a lone frame, what the rate says."""
    if len(ticks) > 1:
        return max(1, round(float(np.median(np.diff(ticks)))))
    seconds = float(1 / rate) if rate else SECONDS_OF_A_LONE_FRAME
    return max(1, round(seconds / time_base))


# Decoding


def _counted(index: Index, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    remaining = set(wanted)
    with _opened(index.path) as (container, stream):
        for frame_index, frame in enumerate(container.decode(stream)):
            if frame_index in remaining:
                remaining.discard(frame_index)
                yield frame_index, frame
            if not remaining:
                return
    raise ValueError(f"{index.path} ends before frame {min(remaining)}: it changed since it was probed")


class _Group(NamedTuple):
    """Frames that are decoded in one go."""

    start: int
    """Position in decoding order of the keyframe to start from."""
    targets: tuple[int, ...]
    """Frame indices, ascending."""
    stop: int
    """Position of the last packet that is needed."""


def _groups(index: Index, wanted: Sequence[int]) -> list[_Group]:
    """Frames by the keyframe to start from; neighbours whose packets overlap or touch are one group."""
    groups: list[_Group] = []
    for frame_index in wanted:
        position = index.positions[int(index.ticks[frame_index])]
        start = _start_for(index, position)
        last = groups[-1] if groups else None
        if last is not None and start <= last.stop + 1:
            groups[-1] = _Group(last.start, (*last.targets, frame_index), max(last.stop, position))
        else:
            groups.append(_Group(start, (frame_index,), position))
    return groups


def _start_for(index: Index, position: int) -> int:
    """The keyframe to start from; one earlier for a picture that is shown before the keyframe it follows."""
    assert index.packets is not None
    number = int(np.searchsorted(index.keyframes, position, side="right")) - 1
    if number > 0 and index.packets[position] < index.packets[index.keyframes[number]]:
        number -= 1
    return int(index.keyframes[max(number, 0)])


def _sought(index: Index, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    with _opened(index.path) as (container, stream):
        for group in _groups(index, wanted):
            yield from _group_frames(index, container, stream, group)


def _group_frames(
    index: Index, container: InputContainer, stream: VideoStream, group: _Group
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames of a group; where one does not come out whole, once more from an earlier keyframe."""
    pending = list(reversed(group.targets))
    for start in _starts(index, group.start):
        targets = {index.positions[int(index.ticks[target])] for target in pending}
        packets = _packets_from(index, container, stream, start)
        for frame in _decoded(stream, packets, group.stop, targets):
            due = int(index.ticks[pending[-1]])
            if frame.pts is None or frame.pts > due or (frame.pts == due and frame.is_corrupt):
                break
            if frame.pts == due:
                yield pending.pop(), frame
            if not pending:
                return
    raise ValueError(f"{index.path}: frame {pending[-1]} cannot be decoded, the file is damaged there; fetch it again")


def _starts(index: Index, start: int) -> list[int]:
    """Where to start, in the order to try: the keyframe, the one before, the first one."""
    number = int(np.searchsorted(index.keyframes, start))
    return list(dict.fromkeys(int(index.keyframes[n]) for n in (number, max(number - 1, 0), 0)))


def _decoded(
    stream: VideoStream, packets: Iterable[tuple[int, _Packet]], stop: int, targets: set[int]
) -> Iterator[VideoFrame]:
    """What comes out for the packets up to `stop`, in presentation order; the targets are never left out."""
    context = stream.codec_context
    context.flush_buffers()
    for position, packet in packets:
        if context.name in SKIPS_EXACTLY:
            context.skip_frame = "DEFAULT" if position in targets else "NONREF"
        yield from context.decode(packet)
        if position >= stop:
            break
    yield from context.decode(None)


def _packets_from(
    index: Index, container: InputContainer, stream: VideoStream, start: int
) -> Iterator[tuple[int, _Packet]]:
    """(position, packet) from a keyframe on; where seeking goes too far, read from the file's beginning."""
    assert index.packets is not None
    for keyframe in _starts(index, start)[:2]:
        container.seek(int(index.packets[keyframe]), stream=stream)
        packets = (packet for packet in container.demux(stream) if packet.size)
        first = next(packets, None)
        position = None if first is None or first.pts is None else index.positions.get(first.pts)
        if first is not None and position is not None and position <= start:
            yield from _numbered(index, chain([first], packets), position, start)
            return
    with _opened(index.path) as (again, stream_again):
        packets = (packet for packet in again.demux(stream_again) if packet.size)
        yield from _numbered(index, packets, 0, start)


def _numbered(index: Index, packets: Iterable[_Packet], position: int, start: int) -> Iterator[tuple[int, _Packet]]:
    assert index.packets is not None
    for place, packet in enumerate(packets, start=position):
        if place >= len(index.packets) or packet.pts != index.packets[place]:
            raise ValueError(f"{index.path} changed since it was probed: probe it again")
        if place >= start:
            yield place, packet


# Pixels


def _rgb(frame: VideoFrame, index: Index) -> np.ndarray:
    """uint8 RGB [H, W, 3] as shown: turned upright, and of one size even where the coded size changes."""
    width, height = index.shape.width, index.shape.height
    if index.shape.quarter_turns % 2:
        width, height = height, width
    image = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(image, index.shape.quarter_turns))
