"""Cores that this process may use, and how many threads torch is to compute with.

torch takes every core of the machine, whatever the process is allowed to use, and threads of OpenMP wait for each
other by spinning. On a machine with other work, or in a container with a quota, that is many times slower than one
thread. Here threads are counted by what the process may use and by what is idle, and they wait asleep.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

THREADS = "OMP_NUM_THREADS"
"""Environment variable that decides alone where it is set."""

MAX_THREADS = 16
"""More threads wait for each other more than they compute, at the sizes of our models."""

QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""Environment by which threads of OpenMP (GNU's, LLVM's and Intel's) sleep while they wait."""

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


class ThreadPolicy(NamedTuple):
    """How many threads, and why."""

    number: int
    reason: str


def set_openmp_wait_policy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads wait asleep; what is set already stays. It counts where torch is imported afterwards."""
    for name, value in QUIET.items():
        environment.setdefault(name, value)


def set_num_threads() -> ThreadPolicy:
    """Set the number of torch's threads in this process, where torch is imported; it is never raised."""
    set_openmp_wait_policy()
    threads = thread_policy()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > threads.number:
        torch.set_num_threads(threads.number)
    return threads


def thread_policy() -> ThreadPolicy:
    """Threads for inference: `OMP_NUM_THREADS`, else the cores that this process may use and that are idle."""
    if (wanted := os.environ.get(THREADS, "").split(",")[0]).isdigit() and int(wanted) > 0:
        return ThreadPolicy(int(wanted), f"{THREADS}={wanted}")
    allowed, reasons = affinity(), list[str]()
    if allowed < (os.cpu_count() or 1):
        reasons.append(f"affinity allows {allowed}")
    quota = cgroup_cores(OWN_CGROUPS, CGROUPS)
    if quota is not None and quota < allowed:
        allowed = max(1, math.floor(quota))
        reasons.append(f"the cgroup's quota is {quota:g}")
    load = os.getloadavg()[0]
    idle = min(MAX_THREADS, max(1, allowed - round(min(load, allowed))))
    if idle < allowed:
        reasons.append(f"load {load:.1f}" if idle < MAX_THREADS else f"at most {MAX_THREADS}")
    return ThreadPolicy(idle, ", ".join([f"{os.cpu_count()} cores", *reasons]))


def affinity() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cgroup_cores(own: Path, root: Path) -> float | None:
    """Cores' worth of time that the cgroups of this process allow, version 1 or 2; None = no limit is known.

    Args:
        own: /proc/self/cgroup.
        root: where cgroups are mounted.
    """
    quotas = [quota for folder in _folders(own, root) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _folders(own: Path, root: Path) -> Iterator[Path]:
    """The folders of a process's cgroups with all above them, which limit it too; in a container it is the root."""
    for line in (_text(own) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = ("",) if not controllers else (controllers, "cpu", "cpu,cpuacct")
        for top in {root / name for name in names}:
            place = top / path.lstrip("/")
            yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(top))
    yield from (root, root / "cpu", root / "cpu,cpuacct")


def _quota(folder: Path) -> float | None:
    """Cores by cpu.max (version 2) or cpu.cfs_quota_us and cpu.cfs_period_us (version 1)."""
    words = (_text(folder / "cpu.max") or "").split()
    if not words:
        words = [_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
