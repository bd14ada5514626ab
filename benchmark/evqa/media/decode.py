"""Exact frames of one video file, decoded by groups of pictures (GOPs).

Frames are found by presentation time: seek to the preceding keyframe, decode up to the frame, and let the decoder skip
frames that no other frame refers to (about half of a usual H.264 or HEVC file). The pixels equal those of decoding
the whole file. The last decoded frames are cached as the decoder returned them, up to a limit of bytes, so that several
readers of the same frames decode them once.
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

__all__ = ["VideoIndex", "clear_caches", "frames_of", "index_of"]

MAX_BYTES = 256 * 2**20
"""Maximum size of the cached frames in bytes: 190 frames of 1280 x 720, 430 of 854 x 480."""

LARGE_BLOCK = 2**25 - 2**16
"""Size in bytes of an unused block. When glibc's malloc frees a block of nearly 32 MiB, it starts to keep freed memory
up to 64 MiB. Otherwise it returns the memory of each converted frame to the system, and requests it again for the next.
"""


def frames_of(
    index: VideoIndex, frame_indices: Sequence[int], *, keep: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (frame index, uint8 RGB [H, W, 3]) for ascending unique indices, one frame in memory at a time.

    `keep`: whether to cache the decoded frames, up to `MAX_BYTES`, for the next reader. Raises a ValueError for a
    damaged or changed file.
    """
    convert = _Conversion(index)
    with ffmpeg_errors(index.path):
        for frame_index, frame in _frames(index, frame_indices, keep=keep):
            yield frame_index, convert(frame)


def clear_caches() -> None:
    """Clear the caches of frames and indices, and close files that are not in use."""
    _frame_cache.__init__()
    video_index.clear_index_cache()
    containers.close_all()


# Cache of decoded frames


class _FrameCache:
    """Decoded frames by file, thread-safe, at most `MAX_BYTES`; the least recently used file is evicted first.

    A scan longer than the limit keeps its first frames and does not evict its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[Path, FileIdentity], dict[int, VideoFrame]] = OrderedDict()
        self._bytes = 0

    def get(self, index: VideoIndex, frame_indices: Sequence[int]) -> dict[int, VideoFrame]:
        """Return the cached frames among the given indices: index -> frame."""
        key = (index.path, index.identity)
        with self._lock:
            if key not in self._files:
                return {}
            self._files.move_to_end(key)
            frames = self._files[key]
            return {number: frames[number] for number in frame_indices if number in frames}

    def put(self, index: VideoIndex, number: int, frame: VideoFrame) -> None:
        """Add a frame, if the limit allows it."""
        key, size = (index.path, index.identity), _size(frame)
        with self._lock:
            frames = self._files.setdefault(key, {})
            self._files.move_to_end(key)
            while self._bytes + size > MAX_BYTES and len(self._files) > 1:
                _, oldest = self._files.popitem(last=False)
                self._bytes -= sum(map(_size, oldest.values()))
            if self._bytes + size <= MAX_BYTES and number not in frames:
                frames[number] = frame
                self._bytes += size


def _size(frame: VideoFrame) -> int:
    """Bytes of a decoded frame."""
    return sum(plane.buffer_size for plane in frame.planes)


_frame_cache = _FrameCache()


def _frames(index: VideoIndex, frame_indices: Sequence[int], *, keep: bool) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the frames in order, from the cache or decoded."""
    cached = _frame_cache.get(index, frame_indices)
    missing = [number for number in frame_indices if number not in cached]
    decoded = (_frames_by_counting if index.packets is None else _frames_by_seeking)(index, missing)
    for number in frame_indices:
        if number in cached:
            yield number, cached.pop(number)
            continue
        decoded_index, frame = next(decoded)
        assert decoded_index == number
        if keep:
            _frame_cache.put(index, number, frame)
        yield number, frame


# Decoding


def _frames_by_counting(index: VideoIndex, frame_indices: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Frames of a file whose packets do not identify its frames: decode from the start and count."""
    remaining = set(frame_indices)
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
    """Frames that are decoded in one pass."""

    start: int
    """Position in decoding order of the keyframe to start from."""
    targets: tuple[int, ...]
    """Frame indices, ascending."""
    stop: int
    """Position of the last packet needed."""


def _groups(index: VideoIndex, frame_indices: Sequence[int]) -> list[_Group]:
    """Frames by the keyframe to start from; groups whose packets overlap or touch are merged."""
    groups: list[_Group] = []
    for frame_index in frame_indices:
        position = int(index.positions[frame_index])
        start = _start_for(index, position)
        last = groups[-1] if groups else None
        if last is not None and start <= last.stop + 1:
            groups[-1] = _Group(last.start, (*last.targets, frame_index), max(last.stop, position))
        else:
            groups.append(_Group(start, (frame_index,), position))
    return groups


def _start_for(index: VideoIndex, position: int) -> int:
    """Position of the keyframe to start from.

    The one before for a frame that is shown before the keyframe it follows.
    """
    assert index.packets is not None
    number = int(np.searchsorted(index.keyframes, position, side="right")) - 1
    if number > 0 and index.packets[position] < index.packets[index.keyframes[number]]:
        number -= 1
    return int(index.keyframes[max(number, 0)])


def _frames_by_seeking(index: VideoIndex, frame_indices: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Frames of a file with packet times: decode groups from keyframes."""
    if not frame_indices:
        return
    with containers.cached_file(index.path, index.identity) as source:
        head = source.heads.pop() if source.heads else None
        for group in _groups(index, frame_indices):
            yield from _group_frames(index, source, group, head if group.start == 0 else None)
            head = None  # the next group seeks


def _group_frames(
    index: VideoIndex, source: OpenedFile, group: _Group, head: FileHead | None
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode the frames of a group; frames that are missing or corrupt are decoded again from an earlier keyframe.

    `head`: packets that the decoder has already consumed, of a group that starts with the file's first packet.
    """
    stream = source.stream
    pending = list(reversed(group.targets))
    for start in _starts(index, group.start):
        targets = {int(index.positions[target]) for target in pending}
        if head is None:
            decoded = _decode_packets(stream, _packets_from(index, source, start), group.stop, targets)
        else:
            packets = chain(head.packets, source.container.demux(stream))
            numbered = _numbered_packets(index, (packet for packet in packets if packet.size), 0, start)
            decoded = _decode_packets(stream, numbered, group.stop, targets, head)
        for frame in decoded:
            expected = int(index.ticks[pending[-1]])
            if frame.pts is None or frame.pts > expected or (frame.pts == expected and frame.is_corrupt):
                break
            if frame.pts == expected:
                yield pending.pop(), frame
            if not pending:
                return
            del frame  # so that the next picture takes its memory, which the processor's cache still holds
    raise ValueError(f"{index.path}: frame {pending[-1]} cannot be decoded, the file is damaged there; fetch it again")


def _starts(index: VideoIndex, start: int) -> list[int]:
    """Positions of keyframes to start from, in the order to try: the group's, the one before, the first one."""
    number = int(np.searchsorted(index.keyframes, start))
    return list(dict.fromkeys(int(index.keyframes[n]) for n in (number, max(number - 1, 0), 0)))


def _decode_packets(
    stream: VideoStream,
    packets: Iterable[tuple[int, VideoPacket]],
    stop: int,
    targets: set[int],
    head: FileHead | None = None,
) -> Iterator[VideoFrame]:
    """Decode packets up to position `stop` and yield frames in presentation order; the targets are never skipped.

    `head`: the first of the packets, if the decoder has already consumed them.
    """
    context = stream.codec_context
    num_consumed = 0 if head is None else len(head.packets)
    if head is None:
        context.flush_buffers()
    else:
        yield from head.frames
    skipper = _FrameSkipper(stream)
    for position, packet in packets:
        if skipper.accepts(packet, is_target=position in targets) and position >= num_consumed:
            yield from context.decode(packet)
        if position >= stop:
            break
    yield from context.decode(None)


class _FrameSkipper:
    """Skips frames that no other frame refers to, if this changes no other frame.

    In H.264 these are marked (`nal_ref_idc` is 0); for HEVC and AV1 see the modules `hevc` and `av1`. The decoder skips
    them itself, except for AV1, where their packets are not sent to it. For other codecs nothing is skipped, because a
    frame may pass on more than pixels.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._context = stream.codec_context
        self._codec = codec_of(stream)
        readers = {"hevc": hevc.HevcReferences, "av1": av1.Av1References}
        self._references = readers[self._codec](self._context.extradata) if self._codec in readers else None

    def accepts(self, packet: VideoPacket, *, is_target: bool) -> bool:
        """Set the decoder up for the next packet, and return whether to send the packet."""
        is_needed = self._references is not None and self._references.is_needed(memoryview(packet))
        if self._codec == "av1":
            return is_target or is_needed
        if self._codec in {"h264", "hevc"}:
            self._context.skip_frame = "DEFAULT" if is_target or is_needed else "NONREF"
        return True


def _packets_from(index: VideoIndex, source: OpenedFile, start: int) -> Iterator[tuple[int, VideoPacket]]:
    """Yield (position, packet) from a keyframe on; from the start of the file if seeking overshoots."""
    assert index.packets is not None
    container, stream, _ = source
    for keyframe in _starts(index, start)[:2]:
        container.seek(int(index.packets[keyframe]), stream=stream)
        packets = (packet for packet in container.demux(stream) if packet.size)
        first = next(packets, None)
        position = None if first is None or first.pts is None else _position(index, first.pts, keyframe)
        if first is not None and position is not None and position <= start:
            yield from _numbered_packets(index, chain([first], packets), position, start)
            return
    with containers.open_file(index.path) as (reopened, reopened_stream, _):
        packets = (packet for packet in reopened.demux(reopened_stream) if packet.size)
        yield from _numbered_packets(index, packets, 0, start)


def _position(index: VideoIndex, tick: int, expected: int) -> int | None:
    """Position of the packet with a presentation time; of several, one that is displayed. None = no such packet."""
    assert index.packets is not None
    if index.packets[expected] == tick and len(index.positions) == len(index.packets):
        return expected
    frame_index = int(np.searchsorted(index.ticks, tick))
    if frame_index < len(index.ticks) and index.ticks[frame_index] == tick:
        return int(index.positions[frame_index])
    positions = np.flatnonzero(index.packets == tick)
    return int(positions[-1]) if len(positions) else None


def _numbered_packets(
    index: VideoIndex, packets: Iterable[VideoPacket], position: int, start: int
) -> Iterator[tuple[int, VideoPacket]]:
    """Yield (position, packet) from `start` on, checked against the index; raises a ValueError for a changed file."""
    assert index.packets is not None
    for packet_position, packet in enumerate(packets, start=position):
        if packet_position >= len(index.packets) or packet.pts != index.packets[packet_position]:
            raise ValueError(f"{index.path} changed since it was probed: probe it again")
        if packet_position >= start:
            yield packet_position, packet


# Pixels


class _Conversion:
    """Converter of decoded frames to uint8 RGB [H, W, 3], upright, of one size even if the coded size changes.

    One reformatter converts all frames, so that its tables are built once. It uses one thread, because several are
    slower.
    """

    def __init__(self, index: VideoIndex) -> None:
        height, width, self._turns = index.shape
        self._size = (width, height) if self._turns % 2 == 0 else (height, width)
        self._reformatter = VideoReformatter()
        np.empty(LARGE_BLOCK, dtype=np.uint8)

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        width, height = self._size
        converted = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        return np.ascontiguousarray(np.rot90(converted.to_ndarray(), self._turns))
