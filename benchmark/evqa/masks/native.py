"""The compiled part of evqa (`native.c`, `native_png.c`), found and loaded where it was built; None where it was not.

`pip install` compiles it if there is a C compiler and goes on without it if there is none: then the same is
computed in numpy and Pillow, slower, to the same digit. `EVQA_NO_C=1` in the environment leaves it out.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

VERSION = 2
"""Of the functions in both (`native.h`); a library of another version is left out."""

SWITCH = "EVQA_NO_C"

Pixels = NDArray[np.bool_] | NDArray[np.uint8]
"""`[H, W]`; non-zero is foreground."""

State = Literal["compiled", "switched off", "not built", "outdated", "cannot be loaded"]

_DONE, _BAD_FIRST, _BAD_SECOND, _NO_MEMORY, _NOT_COVERED = range(5)

_RUNS, _BYTES, _BITS = range(3)
_SIDE = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_COUNTS = ctypes.c_int64 * 7


class BoundaryCounts(NamedTuple):
    """What J and F of two masks are made of."""

    both: int
    """Pixels in both masks."""
    first: int
    """Pixels of the first mask."""
    second: int
    first_outline: int = 0
    """Pixels of the first mask's outline; this and what follows is 0 where a mask is empty."""
    second_outline: int = 0
    first_met: int = 0
    """Of these, how many have a pixel of the other outline within the radius; 0 where an outline is empty."""
    second_met: int = 0


class RunLengths(NamedTuple):
    """Masks of one size that count as one: the pixels that are in any of them."""

    size: tuple[int, int]
    """(H, W)."""
    counts: Sequence[str]
    """COCO's compressed run lengths, one text a mask, at least one."""


class BitMask(NamedTuple):
    """A mask as bits, as a PNG holds it: rows without a gap, each with one bit before its pixels, lowest bits first."""

    size: tuple[int, int]
    """(H, W)."""
    words: NDArray[np.uint64]
    """Of `H * (W + 1)` bits; a word more can be read."""

    def pixels(self) -> NDArray[np.bool_]:
        """The mask `[H, W]`."""
        height, width = self.size
        bits = np.unpackbits(self.words.view(np.uint8), count=height * (width + 1), bitorder="little")
        return bits.reshape(height, width + 1)[:, 1:].view(np.bool_)


FrameMask = Pixels | RunLengths | BitMask
"""A mask of one frame: pixels, the run lengths of the masks that it joins, or bits."""


class BadRunsError(ValueError):
    """Run lengths that do not fit their size; `first` says of which mask."""

    def __init__(self, *, first: bool) -> None:
        super().__init__(f"run lengths of the {'first' if first else 'second'} mask do not fit its size")
        self.first = first


def state() -> State:
    """Whether the compiled part is in use, and if not, why."""
    return "compiled" if isinstance(found := _found(), ctypes.CDLL) else found


def compare(first: FrameMask, second: FrameMask, size: tuple[int, int], radius: int) -> BoundaryCounts | None:
    """The counts of two masks of `size` (H, W); None where this has to be done without the compiled part.

    That is: it is not built, or the radius is above 128 pixels, or the frame is millions of pixels long and a
    few wide. Raises `BadRunsError` for run lengths that do not fit the size.
    """
    library = _found()
    if not isinstance(library, ctypes.CDLL):
        return None
    first, second = _laid_out(first), _laid_out(second)
    counts = _COUNTS()
    done = library.evqa_compare(*size, radius, *_side(first, size), *_side(second, size), counts)
    if done == _DONE:
        return BoundaryCounts(*counts)
    if done == _NOT_COVERED:
        return None
    if done == _NO_MEMORY:
        raise MemoryError(f"no memory to compare two masks of {size[0]} x {size[1]}")
    raise BadRunsError(first=done == _BAD_FIRST)


def unfilter(data: bytearray, height: int, width: int) -> NDArray[np.uint8] | None:
    """PNG's rows `[height, 1 + width]` without their filters, `[height, width]`; None where it is not compiled.

    Raises a `ValueError` for a filter that PNG does not have.
    """
    library = _found()
    if not isinstance(library, ctypes.CDLL):
        return None
    assert len(data) == height * (1 + width), (len(data), height, width)
    rows = np.empty((height, width), np.uint8)
    if library.evqa_unfilter((ctypes.c_char * len(data)).from_buffer(data), height, width, _address(rows)):
        raise ValueError("a row has a filter that PNG does not have")
    return rows


def inflate_bits(packed: bytes, height: int, width: int) -> BitMask | None:
    """Which pixels of a PNG of one byte each are not 0, from its zlib stream of rows.

    None where that takes a reader of bytes: a row is filtered, the stream is not one of this size, or it is not
    compiled. The stream's own checksum, which is of bytes, is not looked at.
    """
    library = _found()
    if not isinstance(library, ctypes.CDLL):
        return None
    words = np.empty(height * (width + 1) // 64 + 2, np.uint64)
    if library.evqa_inflate_bits(packed, len(packed), height, width, _address(words)):
        return None
    return BitMask((height, width), words)


def _side(mask: FrameMask, size: tuple[int, int]) -> tuple[int, bytes | int, int, int]:
    """The four arguments of one mask: form, data, its size, number of masks."""
    if isinstance(mask, np.ndarray):
        assert mask.shape == size, (mask.shape, size)
        return _BYTES, _address(mask), mask.strides[0], 1
    assert mask.size == size, (mask.size, size)
    if isinstance(mask, BitMask):
        return _BITS, _address(mask.words), 0, 1
    text = " ".join(mask.counts).encode("utf-8", "surrogatepass")  # what is not ASCII is refused there
    return _RUNS, text, len(text), len(mask.counts)


def _laid_out(mask: FrameMask) -> FrameMask:
    """Pixels of one byte, side by side in a row, rows in order; copied only if they are not."""
    if not isinstance(mask, np.ndarray):
        return mask
    if mask.itemsize == 1 and mask.strides[1] == 1 and mask.strides[0] >= mask.shape[1]:
        return mask
    return np.ascontiguousarray(mask != 0)


def _address(array: NDArray[Any]) -> int:
    return cast("tuple[int, bool]", array.__array_interface__["data"])[0]


@functools.cache
def _found() -> ctypes.CDLL | State:
    if os.environ.get(SWITCH, "0") not in {"", "0"}:
        return "switched off"
    here = Path(__file__)  # beside this file and nowhere else: another copy of the package has its own
    built = [path for suffix in EXTENSION_SUFFIXES if (path := here.with_name(f"_native{suffix}")).is_file()]
    if not built:
        return "not built"
    try:
        library = ctypes.CDLL(str(built[0]))
        library.evqa_version.restype = ctypes.c_int64
        if library.evqa_version() != VERSION:
            return "outdated"
        library.evqa_compare.argtypes = (*(ctypes.c_int64,) * 3, *_SIDE, *_SIDE, ctypes.c_void_p)
        library.evqa_unfilter.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        library.evqa_unfilter.restype = ctypes.c_int64
        library.evqa_inflate_bits.argtypes = (ctypes.c_char_p, *(ctypes.c_int64,) * 3, ctypes.c_void_p)
        library.evqa_inflate_bits.restype = ctypes.c_int64
    except (OSError, AttributeError):
        return "cannot be loaded"
    return library
