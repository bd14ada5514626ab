"""Large uint8 arrays; the memory of a released one serves the next.

New pages from the system cost about as much as decoding a small frame, so a loop that loads many frames each time
would pay for them each time. The memory of one released array, the larger of two, is kept up to `MAX_SPARE`. The
system may take its pages back whenever it needs them (`MADV_FREE`).
"""

from __future__ import annotations

import math
import mmap
import weakref

import numpy as np

LARGE = 2**22
"""Bytes from which numpy asks for huge pages."""

MAX_SPARE = 2**29
"""Bytes of the memory that is kept."""

_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)  # Linux alone has the last
_RECLAIMABLE: int | None = getattr(mmap, "MADV_FREE", None)

_spare: list[mmap.mmap] = []
"""At most one. A list, since its `pop` and `append` need no lock: an array may be released at any moment."""


def empty_array(shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 array of any content, in ordinary pages.

    numpy asks for huge pages. In a virtual machine those mostly have to be fetched from the host, which takes several
    times as long as decoding a frame.
    """
    size = math.prod(shape)
    if size < LARGE:
        return np.empty(shape, dtype=np.uint8)
    memory = _taken(size) or mmap.mmap(-1, size, flags=_FLAGS)
    whole = np.frombuffer(memory, dtype=np.uint8, count=size)  # the base of all views, so it is released last
    weakref.finalize(whole, _release, memory).atexit = False
    return whole.reshape(shape)


def release_buffers() -> None:
    """Give the kept memory back."""
    _spare.clear()


def _taken(size: int) -> mmap.mmap | None:
    try:
        memory = _spare.pop()
    except IndexError:
        return None
    return memory if len(memory) >= size else None


def _release(memory: mmap.mmap) -> None:
    if _RECLAIMABLE is None or len(memory) > MAX_SPARE:
        return
    try:
        other = _spare.pop()
    except IndexError:
        other = memory
    kept = max(memory, other, key=len)
    if kept is memory:
        memory.madvise(_RECLAIMABLE)
    _spare.append(kept)
