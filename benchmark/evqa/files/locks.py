"""Locks of files between processes; a lock ends with its process."""

from __future__ import annotations

import fcntl
import os


class LockHeldError(Exception):
    """Another process has the lock."""

    def __init__(self, holder: str) -> None:
        """`holder`: process id, or "unknown"."""
        super().__init__(f"locked by process {holder}")
        self.holder = holder


def lock(descriptor: int) -> None:
    """Lock an open file for this process until it is closed.

    Raises:
        LockHeldError: another process has the lock.
        OSError: the file system has no locks.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not held on by orphaned children
    except (BlockingIOError, PermissionError) as error:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        raise LockHeldError(holder) from error


def write_holder(descriptor: int) -> None:
    """Write the id of this process to a locked file, for the messages of others."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
