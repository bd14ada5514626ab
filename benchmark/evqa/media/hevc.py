"""HEVC frames that no other frame refers to, from the headers of their NAL units (ITU-T H.265, 7.3 and 7.4).

A sub-layer non-reference picture (even type below 16) is not referred to within its own temporal sub-layer and those
below; no frame refers to it if it is in the highest one. The sequence parameter set states their number.
"""

from __future__ import annotations

from collections.abc import Iterator

SEQUENCE_PARAMETERS = 33
FIRST_REFERENCE_ONLY = 16
"""First NAL unit type of frames (random access points) to which other frames may always refer."""

NUM_PICTURE_TYPES = 32


class HevcReferences:
    """Parser of a stream's packets, in decoding order."""

    def __init__(self, extradata: bytes | None) -> None:
        """Start with `extradata`: the decoder configuration record (MP4.

        Matroska) or parameter sets with start codes.
        """
        self._num_layers = 0
        self._length_size = 0
        for unit in self._record(extradata or b""):
            self._update_layers(unit)

    def is_needed(self, packet: memoryview) -> bool:
        """Whether another frame may refer to the packet's frame; True if unknown."""
        for unit in self._units(packet):
            if len(unit) < 3:
                return True
            kind, layer = unit[0] >> 1 & 0x3F, (unit[1] & 7) - 1
            if kind == SEQUENCE_PARAMETERS:
                self._update_layers(unit)
            elif kind < NUM_PICTURE_TYPES:
                is_in_base = not unit[0] & 1 and not unit[1] >> 3  # nuh_layer_id
                is_highest = layer == self._num_layers - 1
                return not (kind < FIRST_REFERENCE_ONLY and kind % 2 == 0 and is_in_base and is_highest)
        return True

    def _update_layers(self, unit: memoryview) -> None:
        """Keep the largest number of sub-layers that a sequence parameter set states."""
        if unit[0] >> 1 & 0x3F == SEQUENCE_PARAMETERS:
            self._num_layers = max(self._num_layers, (unit[2] >> 1 & 7) + 1)

    def _record(self, extradata: bytes) -> Iterator[memoryview]:
        data = memoryview(extradata)
        if len(data) < 23 or data[0] != 1:
            yield from _after_start_codes(data)
            return
        self._length_size = (data[21] & 3) + 1
        position = 23
        for _ in range(data[22]):
            if position + 3 > len(data):
                return
            count, position = int.from_bytes(data[position + 1 : position + 3], "big"), position + 3
            for _ in range(count):
                length = int.from_bytes(data[position : position + 2], "big")
                unit = data[position + 2 : position + 2 + length]
                if len(unit) < 3:
                    return
                yield unit
                position += 2 + length

    def _units(self, packet: memoryview) -> Iterator[memoryview]:
        if not self._length_size:
            yield from _after_start_codes(packet)
            return
        position = 0
        while position + self._length_size < len(packet):
            start = position + self._length_size
            position = start + int.from_bytes(packet[position:start], "big")
            yield packet[start:position]


def _after_start_codes(data: memoryview) -> Iterator[memoryview]:
    """Data after each start code, up to the end of the data: the end of a unit is not needed."""
    content = bytes(data)
    position = content.find(b"\0\0\1")
    while position >= 0 and position + 6 <= len(content):
        yield data[position + 3 :]
        position = content.find(b"\0\0\1", position + 3)
