"""Pipelines of commands: each is printed, run and timed; the first one that fails ends the pipeline."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PipelineStep:
    """A command of a pipeline."""

    title: str
    minutes: float
    """Measured time on two cores, printed as estimate."""
    command: list[str]
    """Arguments of python."""


def run_steps(steps: Sequence[PipelineStep], expected: float | None = None) -> int:
    """Run the commands in order; return the exit code of the first one that fails, else 0.

    Args:
        steps: the commands.
        expected: estimate of the time in minutes; None = the sum of those of the steps.
    """
    started = time.monotonic()
    minutes = sum(step.minutes for step in steps) if expected is None else expected
    _print(
        f"{len(steps)} steps, about {minutes:.0f} minutes on two cores; the same command resumes after an interruption"
    )
    for number, step in enumerate(steps, 1):
        step_started = time.monotonic()
        _print(f"\n[{number}/{len(steps)}] {step.title}\n    $ python {shlex.join(step.command)}")
        code = subprocess.run([sys.executable, *step.command], check=False)
        if code.returncode:
            _print(f"this step failed (exit code {code.returncode}); the same command resumes with it")
            return code.returncode
        _print(f"    {time.monotonic() - step_started:.0f} s")
    _print(f"\nfinished in {(time.monotonic() - started) / 60:.1f} minutes")
    return 0


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
