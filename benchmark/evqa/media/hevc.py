"""Which pictures of an HEVC stream nothing refers to, by the headers of their NAL units (ITU-T H.265, 7.3 and 7.4).

A sub-layer non-reference picture (even type below 16) is not referred to within its own temporal sub-layer and those
below; so nothing refers to it if it lies in the highest one. The sequence parameter set says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator

SEQUENCE_PARAMETERS = 33
FIRST_REFERENCE_ONLY = 16
"""Types of coded pictures from here on (random access points) are always referred to."""

NUM_PICTURE_TYPES = 32


class References:
    """Follows a stream packet by packet, in decoding order."""

    def __init__(self, extradata: bytes | None) -> None:
        """`extradata`: the decoder configuration record (of MP4 and Matroska) or parameter sets with start codes."""
        self._num_layers = 0
        self._length_size = 0
        for unit in self._record(extradata or b""):
            self._note(unit)

    def is_needed(self, packet: memoryview) -> bool:
        """Whether another picture may refer to the packet's, or this cannot be told."""
        for unit in self._units(packet):
            if len(unit) < 3:
                return True
            kind, layer = unit[0] >> 1 & 0x3F, (unit[1] & 7) - 1
            if kind == SEQUENCE_PARAMETERS:
                self._note(unit)
            elif kind < NUM_PICTURE_TYPES:
                is_in_base = not unit[0] & 1 and not unit[1] >> 3  # nuh_layer_id
                is_highest = layer == self._num_layers - 1
                return not (kind < FIRST_REFERENCE_ONLY and kind % 2 == 0 and is_in_base and is_highest)
        return True

    def _note(self, unit: memoryview) -> None:
        """The largest number of sub-layers that any sequence parameter set states."""
        if unit[0] >> 1 & 0x3F == SEQUENCE_PARAMETERS:
            self._num_layers = max(self._num_layers, (unit[2] >> 1 & 7) + 1)

    def _record(self, extradata: bytes) -> Iterator[memoryview]:
        data = memoryview(extradata)
        if len(data) < 23 or data[0] != 1:
            yield from _after_start_codes(data)
            return
        self._length_size = (data[21] & 3) + 1
        at = 23
        for _ in range(data[22]):
            if at + 3 > len(data):
                return
            count, at = int.from_bytes(data[at + 1 : at + 3], "big"), at + 3
            for _ in range(count):
                length = int.from_bytes(data[at : at + 2], "big")
                unit = data[at + 2 : at + 2 + length]
                if len(unit) < 3:
                    return
                yield unit
                at += 2 + length

    def _units(self, packet: memoryview) -> Iterator[memoryview]:
        if not self._length_size:
            yield from _after_start_codes(packet)
            return
        at = 0
        while at + self._length_size < len(packet):
            start = at + self._length_size
            at = start + int.from_bytes(packet[at:start], "big")
            yield packet[start:at]


def _after_start_codes(data: memoryview) -> Iterator[memoryview]:
    """The beginnings of the units, each to the data's end: where a unit ends does not matter here."""
    content = bytes(data)
    at = content.find(b"\0\0\1")
    while at >= 0 and at + 6 <= len(content):
        yield data[at + 3 :]
        at = content.find(b"\0\0\1", at + 3)
