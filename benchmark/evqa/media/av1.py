"""AV1 frames that no other frame refers to, from the headers of their OBUs (AV1 specification, 5.5 and 5.9).

Everything that one frame can use of another (pixels, motion, probabilities, segments) is in the slots of reference
frames, and `refresh_frame_flags` states which slots a frame fills. A shown frame that fills none affects no other
frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SEQUENCE_HEADER, FRAME_HEADER, FRAME, REDUNDANT_FRAME_HEADER = 1, 3, 6, 7
KEY_FRAME, INTRA_ONLY_FRAME, SWITCH_FRAME = 0, 2, 3

SET_PER_FRAME = 2
"""SELECT_SCREEN_CONTENT_TOOLS and SELECT_INTEGER_MV: each frame header states the value."""


class _Unknown(ValueError):
    """Error: the headers are damaged or use features that are not parsed here."""


class _Bits:
    """Bit reader: each call returns an unsigned number of some bits, the most significant first."""

    def __init__(self, data: memoryview) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def __call__(self, count: int = 1) -> int:
        self._left -= count
        if self._left < 0:
            raise _Unknown
        return self._value >> self._left & ((1 << count) - 1)


class _Sequence(NamedTuple):
    """Fields of the sequence header that determine the layout of frame headers."""

    has_frame_ids: bool
    frame_id_bits: int
    screen_content: int
    integer_motion: int
    order_hint_bits: int


class Av1References:
    """Parser of a stream's packets, in decoding order."""

    def __init__(self, extradata: bytes | None) -> None:
        """Start with `extradata`: the `av1C` record of MP4 and Matroska.

        Whose first four bytes precede the sequence header.
        """
        self._sequence: _Sequence | None = None
        data = memoryview(extradata or b"")
        if len(data) > 4 and data[0] == 0x81:
            self.is_needed(data[4:])

    def is_needed(self, packet: memoryview) -> bool:
        """Whether another frame may refer to one of the packet's frames; True where this is unknown."""
        num_frames = 0
        try:
            for kind, content in _units(packet):
                if kind == SEQUENCE_HEADER:
                    self._sequence = _sequence(_Bits(content[:64]))
                elif kind in {FRAME, FRAME_HEADER}:
                    num_frames += 1
                    if self._sequence is None or not _is_isolated(_Bits(content[:32]), self._sequence):
                        return True
        except _Unknown:
            self._sequence = None
            return True
        return num_frames != 1


def _units(packet: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (OBU type, payload) of each unit of a packet."""
    position = 0
    while position < len(packet):
        header = packet[position]
        if not header & 2 or header & 4:  # without a size of its own, or with layers
            raise _Unknown
        size, position = _leb128(packet, position + 1)
        yield header >> 3 & 15, packet[position : position + size]
        position += size


def _leb128(data: memoryview, position: int) -> tuple[int, int]:
    """Number in LEB128 at a position, and the position after it."""
    value = 0
    for index in range(8):
        if position + index >= len(data):
            raise _Unknown
        value |= (data[position + index] & 0x7F) << 7 * index
        if not data[position + index] & 0x80:
            return value, position + index + 1
    raise _Unknown


def _sequence(bits: _Bits) -> _Sequence:
    bits(3 + 1)  # profile, still picture
    if bits(2):  # reduced headers, timing information
        raise _Unknown
    _pass_operating_points(bits)
    width_bits, height_bits = bits(4) + 1, bits(4) + 1
    bits(width_bits + height_bits)
    has_frame_ids = bits()
    frame_id_bits = 0
    if has_frame_ids:
        delta_bits = bits(4) + 2
        frame_id_bits = bits(3) + delta_bits + 1
    bits(3 + 4)  # superblocks, intra filters; compound modes, warped motion, dual filter
    has_order_hints = bits()
    if has_order_hints:
        bits(2)
    screen_content = SET_PER_FRAME if bits() else bits()
    integer_motion = SET_PER_FRAME
    if screen_content:
        integer_motion = SET_PER_FRAME if bits() else bits()
    order_hint_bits = bits(3) + 1 if has_order_hints else 0
    return _Sequence(bool(has_frame_ids), frame_id_bits, screen_content, integer_motion, order_hint_bits)


def _pass_operating_points(bits: _Bits) -> None:
    """Skip the operating points of a sequence header."""
    has_display_delay = bits()
    for _ in range(bits(5) + 1):
        bits(12)
        if bits(5) > 7:  # the level, above which there are tiers
            bits()
        if has_display_delay and bits():
            bits(4)


def _is_isolated(bits: _Bits, sequence: _Sequence) -> bool:
    """Whether a frame is shown and fills no slot of reference frames."""
    if bits():  # show_existing_frame
        return False
    kind, is_shown = bits(2), bits()
    if not is_shown or kind in {KEY_FRAME, SWITCH_FRAME}:
        return False
    is_resilient = bits()
    bits()  # disable_cdf_update
    screen_content = bits() if sequence.screen_content == SET_PER_FRAME else sequence.screen_content
    if screen_content and sequence.integer_motion == SET_PER_FRAME:
        bits()
    bits(sequence.frame_id_bits)
    bits()  # frame_size_override_flag
    bits(sequence.order_hint_bits)
    if kind != INTRA_ONLY_FRAME and not is_resilient:
        bits(3)  # primary_ref_frame
    return bits(8) == 0
