"""Which frames of an AV1 stream nothing refers to, by the headers of its OBUs (AV1 specification, 5.5 and 5.9).

All that one frame can take from another (pixels, motion, probabilities, segments) lies in the slots of reference
frames, and `refresh_frame_flags` says which of them a frame fills. A shown frame that fills none changes no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SEQUENCE_HEADER, FRAME_HEADER, FRAME, REDUNDANT_FRAME_HEADER = 1, 3, 6, 7
KEY_FRAME, INTRA_ONLY_FRAME, SWITCH_FRAME = 0, 2, 3

CHOSEN_BY_FRAME = 2
"""SELECT_SCREEN_CONTENT_TOOLS and SELECT_INTEGER_MV."""


class _Unknown(ValueError):
    """The headers are damaged or use what is not followed here."""


class _Bits:
    """Reads numbers of some bits, the highest first."""

    def __init__(self, data: memoryview) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def __call__(self, count: int = 1) -> int:
        self._left -= count
        if self._left < 0:
            raise _Unknown
        return self._value >> self._left & ((1 << count) - 1)


class _Sequence(NamedTuple):
    """What frame headers depend on."""

    has_frame_ids: bool
    frame_id_bits: int
    screen_content: int
    integer_motion: int
    order_hint_bits: int


class References:
    """Follows a stream packet by packet, in decoding order."""

    def __init__(self, extradata: bytes | None) -> None:
        """`extradata`: the `av1C` record of MP4 and Matroska, with the sequence header behind its four bytes."""
        self._sequence: _Sequence | None = None
        data = memoryview(extradata or b"")
        if len(data) > 4 and data[0] == 0x81:
            self.is_needed(data[4:])

    def is_needed(self, packet: memoryview) -> bool:
        """Whether another frame may refer to one of the packet's, or this cannot be told."""
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
    at = 0
    while at < len(packet):
        head = packet[at]
        if not head & 2 or head & 4:  # without a size of its own, or with layers
            raise _Unknown
        size, at = _leb128(packet, at + 1)
        yield head >> 3 & 15, packet[at : at + size]
        at += size


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        if at + place >= len(data):
            raise _Unknown
        value |= (data[at + place] & 0x7F) << 7 * place
        if not data[at + place] & 0x80:
            return value, at + place + 1
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
    screen_content = CHOSEN_BY_FRAME if bits() else bits()
    integer_motion = CHOSEN_BY_FRAME
    if screen_content:
        integer_motion = CHOSEN_BY_FRAME if bits() else bits()
    order_hint_bits = bits(3) + 1 if has_order_hints else 0
    return _Sequence(bool(has_frame_ids), frame_id_bits, screen_content, integer_motion, order_hint_bits)


def _pass_operating_points(bits: _Bits) -> None:
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
    screen_content = bits() if sequence.screen_content == CHOSEN_BY_FRAME else sequence.screen_content
    if screen_content and sequence.integer_motion == CHOSEN_BY_FRAME:
        bits()
    bits(sequence.frame_id_bits)
    bits()  # frame_size_override_flag
    bits(sequence.order_hint_bits)
    if kind != INTRA_ONLY_FRAME and not is_resilient:
        bits(3)  # primary_ref_frame
    return bits(8) == 0
