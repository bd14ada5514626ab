"""Ctrl-C, and the end of a process whose threads are left in the midst of their work."""

import os
import subprocess
import sys

import pytest


def in_a_process(program: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False, timeout=60
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_lets_the_body_end_though_nobody_reads_stderr() -> None:
    program = """
import os, signal, sys
from evqa.runs.interrupts import graceful_interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 2)
said = []
try:
    with graceful_interrupt(lambda: said.append("stopped")):
        os.kill(os.getpid(), signal.SIGINT)
        said.append("ended")
except KeyboardInterrupt:
    said.append("interrupted")
print(*said, flush=True)
os._exit(0)
"""
    assert in_a_process(program).stdout.split() == ["stopped", "ended", "interrupted"]


@pytest.mark.parametrize(("name", "code"), [("evqa asks 0", 130), ("another", 0)])
def test_a_process_ends_at_once_where_threads_still_ask(name: str, code: int) -> None:
    program = f"""
import os, threading, time
from evqa.runs.interrupts import exit_now
def ask():
    time.sleep(2)
    os._exit(0)
threading.Thread(target=ask, name={name!r}).start()
print("written")
exit_now(130)
"""
    done = in_a_process(program)
    assert (done.stdout, done.returncode) == ("written\n", code)


@pytest.mark.parametrize("is_ignored", [False, True])
def test_sigterm_is_a_first_interrupt_however_often_it_comes(is_ignored: bool) -> None:
    program = f"""
import os, signal
from evqa.runs import interrupts
signal.signal(signal.SIGINT, signal.SIG_IGN if {is_ignored} else signal.default_int_handler)
interrupts.end_on_sigterm()
said = []
try:
    with interrupts.graceful_interrupt(lambda: said.append("stopped")):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        said.append("ended")
except KeyboardInterrupt:
    said.append("interrupted")
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    said.append("outside")
print(*said, flush=True)
os._exit(0)
"""
    done = in_a_process(program)
    assert done.stdout.split() == ["stopped", "ended", "interrupted", "outside"]
    assert done.stderr.count("are completed") == 1


def test_ctrl_c_after_sigterm_leaves_at_once() -> None:
    program = """
import os, signal
from evqa.runs import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
said = []
try:
    with interrupts.graceful_interrupt(lambda: said.append("stopped")):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        said.append("ended")
except KeyboardInterrupt:
    said.append("interrupted")
print(*said, flush=True)
os._exit(0)
"""
    assert in_a_process(program).stdout.split() == ["stopped", "interrupted"]
