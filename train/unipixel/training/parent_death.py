"""Processes that end with the one that started them: a launcher that is killed leaves nothing training behind it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""


def die_with_parent(parent: int) -> None:
    """Have Linux kill this process when `parent`, which started it, ends; a process keeps this as it becomes another.

    Checkpoints are complete or not there, so that nothing is lost by it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGKILL)
