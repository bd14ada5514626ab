"""Commands whose output nobody reads, or that find the disk full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evqa.files.output_streams import SIGPIPE_CODE, checked_output_streams

ROOT = Path(__file__).resolve().parents[2]

COMMANDS = [
    ["-m", "evqa", "predict", "--help"],
    ["-m", "evqa", "list", "metrics"],
    ["-m", "evqa", "schema", "prediction"],
    ["-m", "evqa", "nonsense"],
    ["-m", "evqa.hub.download", "--help"],
    ["-m", "unipixel.quickstart", "--help"],
    [str(ROOT / "data" / "lisa" / "prepare.py"), "--help"],
]


def started(command: list[str], *, unbuffered: bool = False, **streams: object) -> subprocess.Popen[bytes]:
    """A Python program; one that is unbuffered meets the closed pipe in `write`, else in `flush`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "benchmark"), str(ROOT / "train")])
    environment |= {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
    return subprocess.Popen([sys.executable, *command], env=environment, **streams)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_closed_pipe_ends_a_command_without_a_traceback(command: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    is_silent = command[-1] == "nonsense"  # its message goes to stderr, which is read here
    process = started(command, stdout=writer, stderr=subprocess.PIPE, unbuffered="--help" in command)
    os.close(writer)
    _, error = process.communicate()
    assert b"Traceback" not in error
    assert b"BrokenPipeError" not in error
    ignored = (
        [0] if "-m" not in command or "evqa.hub.download" in command else []
    )  # argparse ignores what its help meets
    assert process.returncode in ([2] if is_silent else [SIGPIPE_CODE, *ignored])


def test_both_streams_may_be_closed_pipes() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = started(["-m", "evqa", "nonsense"], stdout=writer, stderr=writer, unbuffered=True)
    os.close(writer)
    assert process.wait() == SIGPIPE_CODE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", [True, False])
def test_a_full_disk_is_one_line(unbuffered: bool) -> None:
    with Path("/dev/full").open("wb") as full:
        command = ["-m", "evqa", "list", "methods"]
        process = started(command, stdout=full, stderr=subprocess.PIPE, unbuffered=unbuffered)
        _, error = process.communicate()
    assert (process.returncode, error) == (2, b"cannot write the output: No space left on device\n")


def test_a_broken_pipe_of_something_else_is_not_hidden() -> None:
    with pytest.raises(BrokenPipeError, match="a worker"), checked_output_streams():
        raise BrokenPipeError("a worker")
