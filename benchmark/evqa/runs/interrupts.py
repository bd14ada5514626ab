"""Handling of Ctrl-C and SIGTERM: a run ends in order; samples in progress are completed if they cost money."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import NoReturn

from evqa.threads import MODEL_THREAD_NAME

NOTICE = b"\nevqa: no new sample is started; those in progress are completed (Ctrl-C again stops at once)\n"


@contextmanager
def graceful_interrupt(stop: Callable[[], None]) -> Generator[None]:
    """Context that calls `stop` at the first interrupt and raises `KeyboardInterrupt` when the body has ended.

    SIGTERM, also a repeated one, counts as a first interrupt. A second Ctrl-C raises `KeyboardInterrupt` at once. The
    context has no effect outside the main thread, and on signals that are ignored or have another handler.
    """
    default_handlers = {signal.SIGINT: (signal.default_int_handler,), signal.SIGTERM: (signal.SIG_DFL, _terminate)}
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in default_handlers} if is_main else {}
    replaced = {number: handler for number, handler in before.items() if handler in default_handlers[number]}
    is_interrupted = False

    def first(_number: int, _frame: object) -> None:
        nonlocal is_interrupted
        if is_interrupted:
            return
        is_interrupted = True
        if signal.SIGINT in replaced:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()
        with suppress(OSError):  # the reader of stderr may have ended: Ctrl-C ends `tee` too
            os.write(2, NOTICE)  # not through sys.stderr: the signal may have interrupted a write to it

    for number in replaced:
        signal.signal(number, first)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
    if is_interrupted:
        raise KeyboardInterrupt


def end_on_sigterm() -> None:
    """Make SIGTERM end this process as Ctrl-C does, unless it is ignored or has a handler."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def exit_now(code: int) -> NoReturn:
    """End the process; without cleanup while threads call a model, since Python's exit would abort in their code."""
    if not any(thread.name.startswith(MODEL_THREAD_NAME) for thread in threading.enumerate()):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
