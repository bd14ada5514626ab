"""Reinforcement learning on all GPUs: `python -m unipixel.rl.launch [SIZE] [OPTIONS]`.

    one machine                one process per GPU, or --processes N (also on a CPU, over gloo)
    several machines, SLURM    srun --ntasks-per-node 1 bash scripts/rl.sh 7b: one torchrun per node
    several machines, ssh      --hostfile FILE: DeepSpeed's launcher (lines of `host slots=8`; passwordless ssh, pdsh)

All nodes share the file system of the run. All other options are those of `python -m unipixel.rl.run`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evqa.files.output_streams import checked_output_streams
from unipixel.rl import run, tiny
from unipixel.rl.plan import plan_run
from unipixel.training import nodes

PROGRAM = "unipixel.rl.run"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is that of the training command."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--hostfile", type=Path)
    options, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else list(arguments))
    if {"-h", "--help"} & set(rest):
        sys.stdout.write(f"{__doc__}\n")
        return run.main(rest)
    if rest[:1] == ["tiny"]:
        return tiny.main(rest[1:])
    try:
        processes = max(1, nodes.count_gpus()) if options.processes is None else options.processes
        machines = nodes.training_nodes(os.environ, processes, options.hostfile)
        command = run.parse(rest)
        total = machines.nodes * machines.processes
        if machines.hostfile is None and total > 1 and not command.print_config:
            plan_run(command.config, total)
    except BrokenPipeError:
        raise  # `checked_output_streams` ends the process
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return nodes.run_command(nodes.training_command(machines, rest, PROGRAM))


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(main())
