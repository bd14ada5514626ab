"""Audio of a video file, re-encoded as AAC into a video that is being written."""

# pyright: reportUnknownMemberType=false
# PyAV's types leave out what a packet belongs to

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from evqa.media.containers import FORMATS
from evqa.media.decode import index_of

RATE = 48_000
"""Sampling rate of the written audio in Hz, supported by every player."""

SAMPLES_PER_FRAME = 1024
"""Number of samples of an AAC frame."""


class AudioTrack:
    """First audio stream of a video file, written into `target` from the first video frame on (= second 0).

    A file without audio gives no packets. Damaged audio ends at the first undecodable frame; the video frames are not
    affected. Use as a context manager; `write_until` interleaves audio and video.
    """

    def __init__(self, source: Path, target: OutputContainer, duration: float) -> None:
        """`duration`: seconds of audio to keep."""
        self._output, self._files = target, ExitStack()
        self._frames: Iterator[AudioFrame] = iter(())
        limits = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        container = self._files.enter_context(av.open(str(source.absolute()), container_options=limits))
        self._stream = self._add_stream(container)
        if self._stream is not None:
            index = index_of(source)
            start = float(int(index.ticks[0]) * index.time_base)
            self._frames = _decoded_frames(container, self._stream, start, duration)

    def _add_stream(self, container: InputContainer) -> AudioStream | None:
        streams = [stream for stream in container.streams.audio if _is_decodable(stream)]
        if not streams:
            return None
        layout = "mono" if streams[0].codec_context.channels == 1 else "stereo"
        stream = self._output.add_stream("aac", rate=RATE)
        stream.codec_context.layout = layout
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write_until(self, second: float) -> None:
        """Write the audio frames that start before `second`."""
        if self._stream is None:
            return
        for frame in self._frames:
            self._output.mux(self._stream.encode(frame))
            if (frame.pts or 0) >= second * RATE:
                return

    def write_rest(self) -> None:
        """Write the remaining audio, including that buffered by the encoder."""
        self.write_until(float("inf"))
        if self._stream is not None:
            self._output.mux(self._stream.encode(None))


def _is_decodable(stream: AudioStream) -> bool:
    """Whether an audio stream has a decoder, and the file states its channels and rate."""
    context = cast("AudioCodecContext | None", stream.codec_context)  # PyAV's types leave out the None
    return context is not None and context.channels > 0 and context.sample_rate > 0


def _decoded_frames(
    container: InputContainer, target: AudioStream, start: float, duration: float
) -> Iterator[AudioFrame]:
    """Audio frames of the target's layout, timed in samples from container second `start`, for `duration` seconds."""
    resampler = AudioResampler("fltp", target.codec_context.layout, RATE, SAMPLES_PER_FRAME)
    position: int | None = None
    for second, frame in _frames_between(container, start, start + duration):
        if position is None:
            position = max(0, round((second - start) * RATE))
        for resampled in resampler.resample(frame):
            resampled.pts = position
            position += resampled.samples
            yield resampled
    if position is not None:
        for resampled in resampler.resample(None):
            resampled.pts = position
            position += resampled.samples
            yield resampled


def _frames_between(container: InputContainer, start: float, end: float) -> Iterator[tuple[float, AudioFrame]]:
    """(second, frame) between two seconds of a container; stops at the first frame that cannot be decoded."""
    try:
        for frame in container.decode(audio=0):
            second = 0.0 if frame.time is None else frame.time
            if second >= end:
                return
            if second + frame.samples / frame.sample_rate > start:
                yield second, frame
    except FFmpegError:
        return
