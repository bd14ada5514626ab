"""What a command says on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evqa.runner import RunSummary


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell(summary: RunSummary, command: str) -> int:
    """Say what a run did and what comes next; the exit code."""
    if summary.bill:
        say(summary.bill)
    say(f"{summary.folder}: {summary.done} predicted, {summary.skipped} were there, {len(summary.failed)} failed")
    say_failed(summary.failed)
    if summary.failed:
        say("the same command tries the failed ones again")
    elif command:
        say(f"next: {command}")
    return 1 if summary.failed else 0


def say_failed(failed: Mapping[str, str]) -> None:
    for sample, reason in list(failed.items())[:5]:
        say(f"  {sample}: {reason}")
