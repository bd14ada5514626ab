"""Connection to Ray, which runs processes on the GPUs of a machine or a cluster: a new instance or a running one."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

STORE_BYTES = 256 * 2**20
"""Shared memory of a local Ray in bytes; predictions with masks need much less."""

NOT_STARTED = "Ray did not start on this machine"
"""Prefix of the error message."""

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "90000",
    "RAY_worker_niceness": "0",
}
"""Environment of a local Ray: no usage reports, a long start-up timeout for a loaded machine, and workers with the
priority of the command (Ray's default is nice 15)."""


@contextmanager
def ray_session(num_cpus: int, address: str | None) -> Generator[Any]:
    """Context with the module `ray`, connected to a cluster: that of this process, else a new connection.

    Args:
        num_cpus: minimum number of cores of a Ray that is started here.
        address: address of a running Ray ("auto" = on this machine); None = `RAY_ADDRESS` if set, else Ray is started
            here and ends with the run.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS")
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is None:
        _start(ray, num_cpus)
    else:
        _join(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def gpus_per_worker(ray: Any, count: int, per_model: int) -> int:
    """Return the GPUs of each of `count` workers: `per_model`; 0 on a cluster without GPUs.

    `ValueError`: the cluster has too few GPUs or CPU cores.
    """
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    if gpus and count * per_model > gpus:
        raise ValueError(
            f"{count} workers need {count * per_model} GPUs, there are {gpus}: at most --workers {gpus // per_model}"
        )
    if count > cpus:
        raise ValueError(f"{count} workers need a core each, there are {cpus}: at most --workers {cpus}")
    return per_model if gpus else 0


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ValueError('--workers needs the package ray: pip install "evqa[cluster]"') from error


def _start(ray: Any, num_cpus: int) -> None:
    resources = {"num_cpus": max(num_cpus, os.cpu_count() or 1), "object_store_memory": STORE_BYTES}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    try:
        ray.init(address="local", **resources, **quiet)
    except Exception as error:
        if type(error) is not Exception:  # nothing narrower is raised where Ray's own 30 s have passed
            raise
        fix = "try again when less runs on this machine, or start one with `ray start --head` and give --cluster auto"
        raise ValueError(f"{NOT_STARTED} ({error}): {fix}") from error


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        fix = "start one with `ray start --head`; if it is there, it may want its token: set RAY_AUTH_MODE=token"
        raise ValueError(f"no Ray cluster answers at {address!r} ({error}): {fix}") from error
