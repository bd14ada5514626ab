"""Ctrl-C where what is under way has been paid for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

NOTICE = b"\nevqa: no new question is asked; the replies under way are waited for (Ctrl-C again leaves them)\n"


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
        os.write(2, NOTICE)  # not through sys.stderr, in whose midst the signal may have come

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_asked:
        raise KeyboardInterrupt
