"""Ctrl-C where what is under way has been paid for."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import NoReturn

NOTICE = b"\nevqa: no new sample is begun; those under way are waited for to their end (Ctrl-C again leaves them)\n"

ASKING = "evqa asks"
"""Begins the names of the threads that ask a model, which may be left in the midst of a computation."""


@contextmanager
def ending_in_order(stop: Callable[[], None]) -> Generator[None]:
    """At the first interrupt, call `stop` and let the body end by itself; then raise `KeyboardInterrupt`.

    The second interrupt raises it at once. In a thread that gets no signals, or under a handler of the caller's own,
    nothing is changed.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    is_asked = False

    def first(_number: int, _frame: object) -> None:
        nonlocal is_asked
        is_asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()
        with suppress(OSError):  # who read stderr may be gone: Ctrl-C ends `tee` too
            os.write(2, NOTICE)  # not through sys.stderr, in whose midst the signal may have come

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_asked:
        raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """End the process; at once where threads still ask a model, since Python's own end aborts in their computation."""
    if not any(thread.name.startswith(ASKING) for thread in threading.enumerate()):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
