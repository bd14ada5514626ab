"""Ctrl-C and SIGTERM: they end a run in order, and wait for what is under way where that has been paid for."""

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
def graceful_interrupt(stop: Callable[[], None]) -> Generator[None]:
    """At the first interrupt, call `stop` and let the body end by itself; then raise `KeyboardInterrupt`.

    SIGTERM is a first interrupt, however often it comes. A second Ctrl-C raises `KeyboardInterrupt` at once. In a
    thread that gets no signals, and for a signal that is ignored or has a handler of the caller's own, nothing is
    changed.
    """
    own = {signal.SIGINT: (signal.default_int_handler,), signal.SIGTERM: (signal.SIG_DFL, _terminate)}
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in own} if is_main else {}
    taken = {number: handler for number, handler in before.items() if handler in own[number]}
    is_asked = False

    def first(_number: int, _frame: object) -> None:
        nonlocal is_asked
        if is_asked:
            return
        is_asked = True
        if signal.SIGINT in taken:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()
        with suppress(OSError):  # who read stderr may be gone: Ctrl-C ends `tee` too
            os.write(2, NOTICE)  # not through sys.stderr, in whose midst the signal may have come

    for number in taken:
        signal.signal(number, first)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
    if is_asked:
        raise KeyboardInterrupt


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does, unless it is ignored or has a handler already."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def exit_now(code: int) -> NoReturn:
    """End the process; at once where threads still ask a model, since Python's own end aborts in their computation."""
    if not any(thread.name.startswith(ASKING) for thread in threading.enumerate()):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
