"""Termination of a process with its parent, so that no training process survives a killed launcher."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Constant of prctl.h of Linux."""


def die_with_parent(parent: int) -> None:
    """Let Linux send SIGKILL to this process when its parent ends; the setting survives exec.

    No data is lost, as checkpoints are complete or absent. On other systems this does nothing.

    Args:
        parent: process id of the parent.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent has ended before the call
        os.kill(os.getpid(), signal.SIGKILL)
