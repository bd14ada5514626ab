"""Locks of files between processes, each of which ends with its process, and locks between threads by key."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


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


class KeyedLocks(Generic[Key]):
    """Locks between the threads of this process, one per key; each is kept, since a thread may wait for it."""

    def __init__(self) -> None:
        self._locks: dict[Key, threading.Lock] = {}
        self._guard = threading.Lock()

    def of(self, key: Key) -> threading.Lock:
        """Return the lock of a key."""
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())
