"""Process of a training command: rank, log, exit code, errors of the environment, and the locked folder of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from unipixel.training import checkpoint_folder, parent_death

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def run_process(run: Callable[[int, int], int]) -> int:
    """Run a training command in this process, alone or started by torchrun.

    Args:
        run: the command; called with the rank of this process and the number of processes.

    Returns:
        Its exit code; 2 = invalid input or missing files, 3 = the run diverged. The message is one line.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:  # set by torchrun
        parent_death.die_with_parent(os.getppid())
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    level = logging.INFO if rank == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return run(rank, processes)
    except BrokenPipeError:
        raise  # `checked_output_streams` ends the process
    except (ValueError, FloatingPointError, OSError) as error:
        process = "" if rank == 0 else f" in process {rank}"
        sys.stderr.write(f"error{process}: {error}\n")
        return 3 if isinstance(error, FloatingPointError) else 2


def print_config(config: DataclassInstance) -> None:
    """Print a config as JSON."""
    sys.stdout.write(json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n")


@contextlib.contextmanager
def training_folder(out: Path, *, rank: int, prepare: Callable[[], None], advice: Callable[[], str]) -> Iterator[None]:
    """Context manager of training in the folder of a run, which the first process locks and prepares.

    Args:
        out: the folder.
        rank: number of this process.
        prepare: called in the locked folder by the first process.
        advice: see `one_line_errors`.

    Raises:
        ValueError: the folder is not writable, another process trains in it, or an error of the environment.
    """
    with checkpoint_folder.locked(out) if rank == 0 else contextlib.nullcontext():
        if rank == 0:
            prepare()
        with one_line_errors(advice):
            yield


@contextlib.contextmanager
def one_line_errors(advice: Callable[[], str]) -> Iterator[None]:
    """Turn errors of the environment (see `outer_cause`) into a `ValueError` of one line.

    Args:
        advice: returns the end of the message: how to resume.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (cause := outer_cause(error)) is None:
            raise
        raise ValueError(f"{cause}; {advice()}") from error


def outer_cause(error: Exception) -> str | None:
    """The cause of an error in one line if it lies in the environment, else None.

    Such causes are the disk, shared memory, GPU memory, a killed loader process, and another process of the run.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if any(sign in str(error) for sign in ("closed by peer", "reset by peer", "remote process exited")):
        return f"another process of the run ended, or the network between them failed ({reason})"
    if "out of memory" in str(error):
        return f"{reason} (lower --per-device-batch-size or --max-pixels, or shard the model with --zero-stage 2 or 3)"
    signs = ("No space left", "DataLoader worker")
    return reason if isinstance(error, OSError) or any(sign in str(error) for sign in signs) else None
