"""Fine-tune on every GPU, then benchmark: `python -m unipixel.launch [SIZE [DECODER [CHECKPOINT]]] [OPTIONS]`.

    one machine         one process for each GPU found, or --processes N (on a CPU too, over gloo)
    several, by SLURM   srun --ntasks-per-node 1 bash scripts/sft.sh 3b base: one torchrun a node, which find each other
    several, by ssh     --hostfile FILE: DeepSpeed's launcher (lines of `host slots=8`; passwordless ssh, pdsh)

All share the file system of the run. Every other option is one of `python -m unipixel.sft`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evqa import datasets
from evqa.files.output_streams import checked_output_streams
from unipixel import sft
from unipixel.training import checkpoint_folder, parent_death
from unipixel.training.plan import plan_training

TRAIN = "unipixel.sft"
FIRST_PORT, NUM_PORTS = 20000, 10000
"""Ports that the nodes of a job meet at, by its number."""


@dataclass(frozen=True, kw_only=True)
class TrainingNodes:
    """What trains."""

    processes: int
    """On each machine."""
    hostfile: Path | None = None
    nodes: int = 1
    node: int = 0
    """Which of them this is."""
    meeting: str = ""
    """`host:port` where several meet."""


def main() -> int:
    """The command; its exit code is that of the step that failed, or 0."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--processes", type=int)
    own.add_argument("--hostfile", type=Path)
    known, rest = own.parse_known_args([sft.with_hyphens(word) for word in sys.argv[1:]])
    if any(flag in rest for flag in ("-h", "--help", "--print-config")):
        if "--print-config" not in rest:
            sys.stdout.write(f"{__doc__}\n")
        return sft.main(rest)
    try:
        rest = sft.normalize_arguments(rest)
        wanted = max(1, count_gpus()) if known.processes is None else known.processes
        found = training_nodes(os.environ, wanted, known.hostfile)
        wish = sft.parse(rest)
        data = None if wish.dry_run else wish.config.evaluation.benchmark
        check(wish, found, data)
    except BrokenPipeError:
        raise  # `checked_output_streams` ends the process
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if code := _run(training_command(found, rest)):
        return code
    if data is None or found.node:
        return 0
    command = benchmark_command(data, wish.config.out / checkpoint_folder.MODEL, count_gpus())
    return _run([*command, "--restart"] if wish.from_scratch or wish.extend else command)


def training_nodes(environment: Mapping[str, str], processes: int, hostfile: Path | None) -> TrainingNodes:
    """Where to train: on the nodes of a SLURM job, on the hosts of a file, or here."""
    if processes < 1:
        raise ValueError(f"--processes is at least 1, got {processes}")
    if hostfile is not None:
        if not hostfile.is_file():
            raise ValueError(f"no hostfile at {hostfile}: a line for each machine, such as `host slots=8`")
        return TrainingNodes(processes=processes, hostfile=hostfile)
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
    if nodes == 1:
        return TrainingNodes(processes=processes)
    names = environment["SLURM_STEP_NODELIST"]
    first = subprocess.run(["scontrol", "show", "hostnames", names], capture_output=True, text=True, check=True)
    port = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % NUM_PORTS
    return TrainingNodes(
        processes=processes,
        nodes=nodes,
        node=int(environment["SLURM_NODEID"]),
        meeting=f"{first.stdout.split()[0]}:{port}",
    )


def check(wish: sft.SFTCommand, found: TrainingNodes, data: str | None) -> None:
    """A `ValueError` for all that is missing, or for an earlier run that does not fit.

    It is better known before days of training than after, and once, not by every process.
    """
    missing = [] if data is None else list(_missing(data))
    processes, job = found.nodes * found.processes, None
    is_shared = found.hostfile is None and processes > 1
    if missing or is_shared:
        try:
            job = plan_training(wish.config, processes)
        except ValueError as error:
            missing.insert(0, str(error))
    if missing:
        raise ValueError("\n".join(missing))
    if job is not None and not wish.dry_run and not sft.is_finished(wish, job):
        sft.checkpoint_of(wish, job)


def _missing(data: str) -> Iterator[str]:
    """Why the benchmark cannot be run on a data set."""
    try:
        datasets.load(data)
    except ValueError as error:
        yield f"the benchmark at the end: {error} (or end without it: --benchmark None)"


def training_command(found: TrainingNodes, arguments: Sequence[str]) -> list[str]:
    """The command that trains."""
    python, torchrun = sys.executable, [sys.executable, "-m", "unipixel.training.torchrun"]
    if found.hostfile is not None:
        launcher = [python, "-m", "deepspeed.launcher.runner", "--hostfile", str(found.hostfile)]
        return [*launcher, "--no_local_rank", "--module", TRAIN, *arguments]
    each = ["--nproc-per-node", str(found.processes)]
    if found.nodes > 1:
        where = ["--nnodes", str(found.nodes), "--node-rank", str(found.node)]
        return [*torchrun, *where, *each, *_meeting(found.meeting), "-m", TRAIN, *arguments]
    if found.processes > 1:
        return [*torchrun, "--standalone", *each, "-m", TRAIN, *arguments]
    return [python, "-m", TRAIN, *arguments]


def benchmark_command(data: str, model: Path, gpus: int) -> list[str]:
    """The command that predicts and scores with the finished model."""
    several = ["--workers", str(gpus)] if gpus > 1 else []
    return [sys.executable, "-m", "evqa", "benchmark", data, str(model), *several]


def count_gpus() -> int:
    """GPUs of this machine."""
    import torch

    return torch.cuda.device_count()


def _meeting(place: str) -> list[str]:
    return ["--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--rdzv-id", place]


def _run(command: Sequence[str]) -> int:
    sys.stderr.write(f"$ {shlex.join(command)}\n")
    return subprocess.run(
        command, check=False, preexec_fn=partial(parent_death.die_with_parent, os.getpid())
    ).returncode


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(main())
