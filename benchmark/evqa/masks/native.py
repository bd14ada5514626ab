"""Loader of the compiled functions (`native.c`, `native_png.c`) from the library next to this module, if it is built.

`pip install` compiles them if there is a C compiler and continues without them if there is none: then numpy and Pillow
compute the same, slower, to the last digit. `EVQA_NO_C=1` in the environment disables them.
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
"""Version of the functions (`native.h`); a library of another version is not used."""

SWITCH = "EVQA_NO_C"
"""Environment variable that disables the compiled functions."""

Pixels = NDArray[np.bool_] | NDArray[np.uint8]
"""`[H, W]`; non-zero is foreground."""

State = Literal["compiled", "switched off", "not built", "outdated", "cannot be loaded"]
"""State of the compiled functions; all except "compiled" mean that numpy is used."""

_OK, _BAD_FIRST, _BAD_SECOND, _NO_MEMORY, _NOT_COVERED = range(5)

_RUNS, _BYTES, _BITS = range(3)
_SIDE = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_COUNTS = ctypes.c_int64 * 7


class BoundaryCounts(NamedTuple):
    """Pixel counts of two masks, from which J and F are computed."""

    both: int
    """Pixels in both masks."""
    first: int
    """Pixels of the first mask."""
    second: int
    """Pixels of the second mask."""
    first_outline: int = 0
    """Pixels of the first mask's outline; this and the following counts are 0 where a mask is empty."""
    second_outline: int = 0
    """Pixels of the second mask's outline."""
    first_met: int = 0
    """Outline pixels of the first mask that have a pixel of the other outline within the radius."""
    second_met: int = 0
    """Outline pixels of the second mask that have a pixel of the other outline within the radius."""


class RunLengths(NamedTuple):
    """Union of masks of one size, as run lengths."""

    size: tuple[int, int]
    """(H, W)."""
    counts: Sequence[str]
    """COCO's compressed run lengths, one string per mask, at least one."""


class BitMask(NamedTuple):
    """Mask as bits, as inflated from a PNG: rows without gaps, each with one bit before its pixels, low bits first."""

    size: tuple[int, int]
    """(H, W)."""
    words: NDArray[np.uint64]
    """`H * (W + 1)` bits; one more word is readable."""

    def pixels(self) -> NDArray[np.bool_]:
        """Convert to bool [H, W]."""
        height, width = self.size
        bits = np.unpackbits(self.words.view(np.uint8), count=height * (width + 1), bitorder="little")
        return bits.reshape(height, width + 1)[:, 1:].view(np.bool_)


FrameMask = Pixels | RunLengths | BitMask
"""Mask of one frame: pixels, run lengths of the masks of which it is the union, or bits."""


class BadRunsError(ValueError):
    """Error: run lengths do not fit their size; `first` states whether they are those of the first mask."""

    def __init__(self, *, first: bool) -> None:
        super().__init__(f"run lengths of the {'first' if first else 'second'} mask do not fit its size")
        self.first = first


def state() -> State:
    """Whether the compiled functions are in use, and if not, why."""
    return "compiled" if isinstance(library := _library(), ctypes.CDLL) else library


def compare(first: FrameMask, second: FrameMask, size: tuple[int, int], radius: int) -> BoundaryCounts | None:
    """Pixel counts of two masks of `size` (H, W), with outline pixels matched within `radius` pixels.

    Returns None where numpy has to be used: the functions are not built, the radius is above 128 pixels, or the frame
    is millions of pixels long and a few wide. Raises `BadRunsError` for run lengths that do not fit the size.
    """
    library = _library()
    if not isinstance(library, ctypes.CDLL):
        return None
    first, second = _contiguous(first), _contiguous(second)
    counts = _COUNTS()
    status = library.evqa_compare(*size, radius, *_arguments(first, size), *_arguments(second, size), counts)
    if status == _OK:
        return BoundaryCounts(*counts)
    if status == _NOT_COVERED:
        return None
    if status == _NO_MEMORY:
        raise MemoryError(f"no memory to compare two masks of {size[0]} x {size[1]}")
    raise BadRunsError(first=status == _BAD_FIRST)


def unfilter(data: bytearray, height: int, width: int) -> NDArray[np.uint8] | None:
    """Undo the row filters of a PNG: rows `[height, 1 + width]` to bytes `[height, width]`; None where not compiled.

    Raises a `ValueError` for a filter that PNG does not define.
    """
    library = _library()
    if not isinstance(library, ctypes.CDLL):
        return None
    assert len(data) == height * (1 + width), (len(data), height, width)
    rows = np.empty((height, width), np.uint8)
    if library.evqa_unfilter((ctypes.c_char * len(data)).from_buffer(data), height, width, _address(rows)):
        raise ValueError("a row has a filter that PNG does not have")
    return rows


def inflate_bits(packed: bytes, height: int, width: int) -> BitMask | None:
    """Inflate the zlib stream of a PNG with one byte per pixel to a mask of its non-zero pixels.

    None where this needs a reader of bytes: a row is filtered, the stream does not have this size, or the functions are
    not compiled. The checksum of the stream, which is of bytes, is not verified.
    """
    library = _library()
    if not isinstance(library, ctypes.CDLL):
        return None
    words = np.empty(height * (width + 1) // 64 + 2, np.uint64)
    if library.evqa_inflate_bits(packed, len(packed), height, width, _address(words)):
        return None
    return BitMask((height, width), words)


def _arguments(mask: FrameMask, size: tuple[int, int]) -> tuple[int, bytes | int, int, int]:
    """The four arguments of one mask: form, data, size, number of masks."""
    if isinstance(mask, np.ndarray):
        assert mask.shape == size, (mask.shape, size)
        return _BYTES, _address(mask), mask.strides[0], 1
    assert mask.size == size, (mask.size, size)
    if isinstance(mask, BitMask):
        return _BITS, _address(mask.words), 0, 1
    text = " ".join(mask.counts).encode("utf-8", "surrogatepass")  # what is not ASCII is refused there
    return _RUNS, text, len(text), len(mask.counts)


def _contiguous(mask: FrameMask) -> FrameMask:
    """Pixels with one byte each, adjacent within a row, rows in order; copied only if they are not."""
    if not isinstance(mask, np.ndarray):
        return mask
    if mask.itemsize == 1 and mask.strides[1] == 1 and mask.strides[0] >= mask.shape[1]:
        return mask
    return np.ascontiguousarray(mask != 0)


def _address(array: NDArray[Any]) -> int:
    return cast("tuple[int, bool]", array.__array_interface__["data"])[0]


@functools.cache
def _library() -> ctypes.CDLL | State:
    if os.environ.get(SWITCH, "0") not in {"", "0"}:
        return "switched off"
    module_path = Path(__file__)  # beside this file and nowhere else: another copy of the package has its own
    libraries = [path for suffix in EXTENSION_SUFFIXES if (path := module_path.with_name(f"_native{suffix}")).is_file()]
    if not libraries:
        return "not built"
    try:
        library = ctypes.CDLL(str(libraries[0]))
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
