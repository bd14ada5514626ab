"""Exact frames of one video file: decoding by groups of pictures.

Frames are found by presentation time: seek to the keyframe before, decode up to the frame, and let the decoder leave
out pictures that nothing refers to (about half of a usual H.264 or HEVC file). The pixels are those of decoding the
whole file. The last decoded pictures are kept as they came from the decoder, up to a limit of bytes, so that
several readers of the same frames decode them once.
"""

# pyright: reportUnknownMemberType=false
# PyAV's types leave out what a packet belongs to

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from evqa.media import av1, containers, hevc, video_index
from evqa.media.containers import FileHead, FileIdentity, OpenedFile, ffmpeg_errors
from evqa.media.video_index import VideoIndex, VideoPacket, codec_of, index_of

__all__ = ["VideoIndex", "frames_of", "index_of", "release_pictures"]

MAX_BYTES = 256 * 2**20
"""Of the decoded pictures that are kept: 190 of 1280 x 720, 430 of 854 x 480."""

LARGE_BLOCK = 2**25 - 2**16
"""Bytes. When glibc's malloc frees a block of nearly 32 MiB, which nobody wrote to, it learns to keep freed memory up
to 64 MiB. Otherwise it gives the memory of each converted picture back to the system, and gets it anew for the next.
"""


def frames_of(index: VideoIndex, wanted: Sequence[int], *, keep: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """(frame index, uint8 RGB [H, W, 3]) for ascending unique indices, one frame in memory at a time.

    With `keep` the decoded pictures stay in memory up to `MAX_BYTES` for the next reader.
    """
    convert = _Conversion(index)
    with ffmpeg_errors(index.path):
        for frame_index, frame in _found(index, wanted, keep=keep):
            yield frame_index, convert(frame)


def release_pictures() -> None:
    """Drop indices, kept pictures and open files."""
    _pictures.__init__()
    video_index.forget()
    containers.close_all()


# Kept pictures


class _Pictures:
    """Decoded pictures by file. A scan longer than the limit keeps its first pictures, and does not drop its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[Path, FileIdentity], dict[int, VideoFrame]] = OrderedDict()
        self._bytes = 0

    def get(self, index: VideoIndex, wanted: Sequence[int]) -> dict[int, VideoFrame]:
        """Those of the wanted ones that are here."""
        key = (index.path, index.identity)
        with self._lock:
            if key not in self._files:
                return {}
            self._files.move_to_end(key)
            kept = self._files[key]
            return {number: kept[number] for number in wanted if number in kept}

    def put(self, index: VideoIndex, number: int, frame: VideoFrame) -> None:
        key, size = (index.path, index.identity), _size(frame)
        with self._lock:
            kept = self._files.setdefault(key, {})
            self._files.move_to_end(key)
            while self._bytes + size > MAX_BYTES and len(self._files) > 1:
                _, dropped = self._files.popitem(last=False)
                self._bytes -= sum(map(_size, dropped.values()))
            if self._bytes + size <= MAX_BYTES and number not in kept:
                kept[number] = frame
                self._bytes += size


def _size(frame: VideoFrame) -> int:
    return sum(plane.buffer_size for plane in frame.planes)


_pictures = _Pictures()


def _found(index: VideoIndex, wanted: Sequence[int], *, keep: bool) -> Iterator[tuple[int, VideoFrame]]:
    """The wanted frames in order, from memory or decoded."""
    kept = _pictures.get(index, wanted)
    missing = [number for number in wanted if number not in kept]
    decoded = (_counted if index.packets is None else _sought)(index, missing)
    for number in wanted:
        if number in kept:
            yield number, kept.pop(number)
            continue
        found, frame = next(decoded)
        assert found == number
        if keep:
            _pictures.put(index, number, frame)
        yield number, frame


# Decoding


def _counted(index: VideoIndex, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    remaining = set(wanted)
    if not remaining:
        return
    with containers.open_file(index.path) as (container, stream, _):
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


def _groups(index: VideoIndex, wanted: Sequence[int]) -> list[_Group]:
    """Frames by the keyframe to start from; neighbours whose packets overlap or touch are one group."""
    groups: list[_Group] = []
    for frame_index in wanted:
        position = int(index.positions[frame_index])
        start = _start_for(index, position)
        last = groups[-1] if groups else None
        if last is not None and start <= last.stop + 1:
            groups[-1] = _Group(last.start, (*last.targets, frame_index), max(last.stop, position))
        else:
            groups.append(_Group(start, (frame_index,), position))
    return groups


def _start_for(index: VideoIndex, position: int) -> int:
    """The keyframe to start from; one earlier for a picture that is shown before the keyframe it follows."""
    assert index.packets is not None
    number = int(np.searchsorted(index.keyframes, position, side="right")) - 1
    if number > 0 and index.packets[position] < index.packets[index.keyframes[number]]:
        number -= 1
    return int(index.keyframes[max(number, 0)])


def _sought(index: VideoIndex, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    if not wanted:
        return
    with containers.cached_file(index.path, index.identity) as source:
        beginning = source.beginning.pop() if source.beginning else None
        for group in _groups(index, wanted):
            yield from _group_frames(index, source, group, beginning if group.start == 0 else None)
            beginning = None  # the next group seeks


def _group_frames(
    index: VideoIndex, source: OpenedFile, group: _Group, beginning: FileHead | None
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames of a group; where one does not come out whole, once more from an earlier keyframe.

    `beginning`: what the decoder has of a group that starts with the file's first packet.
    """
    stream = source.stream
    pending = list(reversed(group.targets))
    for start in _starts(index, group.start):
        targets = {int(index.positions[target]) for target in pending}
        if beginning is None:
            decoded = _decoded(stream, _packets_from(index, source, start), group.stop, targets)
        else:
            packets = chain(beginning.packets, source.container.demux(stream))
            numbered = _numbered(index, (packet for packet in packets if packet.size), 0, start)
            decoded = _decoded(stream, numbered, group.stop, targets, beginning)
        for frame in decoded:
            due = int(index.ticks[pending[-1]])
            if frame.pts is None or frame.pts > due or (frame.pts == due and frame.is_corrupt):
                break
            if frame.pts == due:
                yield pending.pop(), frame
            if not pending:
                return
            del frame  # so that the next picture takes its memory, which the processor's cache still holds
    raise ValueError(f"{index.path}: frame {pending[-1]} cannot be decoded, the file is damaged there; fetch it again")


def _starts(index: VideoIndex, start: int) -> list[int]:
    """Where to start, in the order to try: the keyframe, the one before, the first one."""
    number = int(np.searchsorted(index.keyframes, start))
    return list(dict.fromkeys(int(index.keyframes[n]) for n in (number, max(number - 1, 0), 0)))


def _decoded(
    stream: VideoStream,
    packets: Iterable[tuple[int, VideoPacket]],
    stop: int,
    targets: set[int],
    beginning: FileHead | None = None,
) -> Iterator[VideoFrame]:
    """What comes out for the packets up to `stop`, in presentation order; the targets are never left out.

    `beginning`: the first of the packets, if the decoder was given them before.
    """
    context = stream.codec_context
    num_given = 0 if beginning is None else len(beginning.packets)
    if beginning is None:
        context.flush_buffers()
    else:
        yield from beginning.frames
    leave_out = _Leaving(stream)
    for position, packet in packets:
        if leave_out.gives(packet, is_target=position in targets) and position >= num_given:
            yield from context.decode(packet)
        if position >= stop:
            break
    yield from context.decode(None)


class _Leaving:
    """Leaves out pictures that nothing refers to, where this changes no other picture.

    Of H.264 these are all that it calls so (`nal_ref_idc` is 0); of HEVC and AV1 see `hevc` and `av1`. The decoder
    leaves them out itself, that of AV1 does not get them. A picture of another codec may hand on more than pixels.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._context = stream.codec_context
        self._codec = codec_of(stream)
        kinds = {"hevc": hevc.References, "av1": av1.References}
        self._references = kinds[self._codec](self._context.extradata) if self._codec in kinds else None

    def gives(self, packet: VideoPacket, *, is_target: bool) -> bool:
        """Set the decoder for the next packet; whether it is to get it."""
        is_needed = self._references is not None and self._references.is_needed(memoryview(packet))
        if self._codec == "av1":
            return is_target or is_needed
        if self._codec in {"h264", "hevc"}:
            self._context.skip_frame = "DEFAULT" if is_target or is_needed else "NONREF"
        return True


def _packets_from(index: VideoIndex, source: OpenedFile, start: int) -> Iterator[tuple[int, VideoPacket]]:
    """(position, packet) from a keyframe on; where seeking goes too far, read from the file's beginning."""
    assert index.packets is not None
    container, stream, _ = source
    for keyframe in _starts(index, start)[:2]:
        container.seek(int(index.packets[keyframe]), stream=stream)
        packets = (packet for packet in container.demux(stream) if packet.size)
        first = next(packets, None)
        position = None if first is None or first.pts is None else _position(index, first.pts, keyframe)
        if first is not None and position is not None and position <= start:
            yield from _numbered(index, chain([first], packets), position, start)
            return
    with containers.open_file(index.path) as (again, stream_again, _):
        packets = (packet for packet in again.demux(stream_again) if packet.size)
        yield from _numbered(index, packets, 0, start)


def _position(index: VideoIndex, tick: int, expected: int) -> int | None:
    """The position of the packet with this presentation time; of several, one that is shown."""
    assert index.packets is not None
    if index.packets[expected] == tick and len(index.positions) == len(index.packets):
        return expected
    place = int(np.searchsorted(index.ticks, tick))
    if place < len(index.ticks) and index.ticks[place] == tick:
        return int(index.positions[place])
    hidden = np.flatnonzero(index.packets == tick)
    return int(hidden[-1]) if len(hidden) else None


def _numbered(
    index: VideoIndex, packets: Iterable[VideoPacket], position: int, start: int
) -> Iterator[tuple[int, VideoPacket]]:
    assert index.packets is not None
    for place, packet in enumerate(packets, start=position):
        if place >= len(index.packets) or packet.pts != index.packets[place]:
            raise ValueError(f"{index.path} changed since it was probed: probe it again")
        if place >= start:
            yield place, packet


# Pixels


class _Conversion:
    """Decoded pictures as uint8 RGB [H, W, 3] as shown: turned upright, and of one size even where the coded changes.

    One converter serves all pictures: its tables are made once. One thread: several would cost more than they save.
    """

    def __init__(self, index: VideoIndex) -> None:
        height, width, self._turns = index.shape
        self._size = (width, height) if self._turns % 2 == 0 else (height, width)
        self._reformatter = VideoReformatter()
        np.empty(LARGE_BLOCK, dtype=np.uint8)

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        width, height = self._size
        picture = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        return np.ascontiguousarray(np.rot90(picture.to_ndarray(), self._turns))
