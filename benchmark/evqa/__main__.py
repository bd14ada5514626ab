"""The command `evqa` (or `python -m evqa`)."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from evqa import suggestions
from evqa.cli import COMMAND_GROUPS, COMMANDS, SCRIPT_COMMANDS, load_command
from evqa.cli.old_names import rename_old_arguments
from evqa.files import links
from evqa.files.output_streams import checked_output_streams
from evqa.runs import interrupts

DESCRIPTION = """Evaluate video question answering with evidence: answer, time segments, masks.

Start with: evqa doctor; evqa list; evqa predict shapes-test tiny"""

FOOTER = """Every command takes --allow-root DIR: follow symbolic links to files below DIR
(repeatable; EVQA_ALLOW_ROOTS=DIR:DIR sets it for all commands)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: success; 1: finished with failures; 2: invalid input, nothing was done; 130: interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in (["--version"], ["-V"]):
        sys.stdout.write(f"evqa {_version()}\n")
        return 0
    if words in ([], ["--help"], ["-h"]):
        sys.stdout.write(_help())
        return 0 if words else 2
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        words = rename_old_arguments(links.parse_allowed_roots(words))
        _check_command(words)
        function = load_command(words[0])
        if words[0] in SCRIPT_COMMANDS:
            return function(words[1:])
        import tyro

        config = (tyro.conf.FlagCreatePairsOff,)
        return tyro.cli(function, prog=f"evqa {words[0]}", args=words[1:], config=config)
    except ValueError as error:
        sys.stderr.write(f"evqa: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nevqa: interrupted; finished samples are saved, and the same command resumes\n")
        return 130


def _check_command(arguments: Sequence[str]) -> None:
    """Raise a `ValueError` for an unknown command, with near matches."""
    if not arguments:
        raise ValueError("expected a command; evqa --help lists them")
    if arguments[0] not in COMMANDS:
        raise suggestions.unknown_name_message("command", arguments[0], COMMANDS, more="; see evqa --help")


def _help() -> str:
    """Return the help of `evqa` itself, one line per command (the argument parser would print all of their help)."""
    width = max(map(len, COMMANDS))
    lines = ["usage: evqa COMMAND ... [--help]", "", DESCRIPTION]
    for title, commands in COMMAND_GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:{width}}  {entry.summary}" for name, entry in commands.items()]
    return "\n".join([*lines, "", "evqa COMMAND --help shows the options of a command.", FOOTER, ""])


def _version() -> str:
    try:
        return importlib.metadata.version("evqa")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run from its source)"


def command() -> NoReturn:
    """Run `main` as the process `evqa`."""
    interrupts.end_on_sigterm()
    with checked_output_streams():
        code = main()
    interrupts.exit_now(code)


if __name__ == "__main__":
    command()
