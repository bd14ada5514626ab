"""The command `evqa` (or `python -m evqa`)."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import tyro
from tyro.conf import FlagCreatePairsOff

from evqa import suggestions
from evqa.cli import COMMANDS
from evqa.files import links
from evqa.files.output_streams import checked_output_streams
from evqa.runs import interrupts

DESCRIPTION = """Video question answering with evidence: the answer, when it is seen, which pixels show it.

Start with: evqa doctor; evqa list; evqa predict shapes-test tiny.

Every command takes --allow-root DIR: read files that symbolic links lead to below DIR (repeatable; also
EVQA_ALLOW_ROOTS=DIR:DIR). Other links out of a data set's or a run's folder are refused."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. 0: done; 1: done, with failures; 2: it cannot be done as asked; 130: stopped."""
    given = sys.argv[1:] if arguments is None else arguments
    if list(given) in (["--version"], ["-V"]):
        sys.stdout.write(f"evqa {_version()}\n")
        return 0
    if list(given) in (["--help"], ["-h"]):
        sys.stdout.write(_help())
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        given = links.parse_allowed_roots(given)
        _check_command(given)
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="evqa", description=DESCRIPTION, args=given, config=(FlagCreatePairsOff,)
        )
    except ValueError as error:
        sys.stderr.write(f"evqa: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nevqa: stopped; what is written is safe, and the same command goes on from there\n")
        return 130


def _check_command(arguments: Sequence[str]) -> None:
    """Refuse an unknown subcommand with near matches, which the argument parser does not offer."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise suggestions.unknown_name_message("command", arguments[0], COMMANDS, more="; evqa --help explains them")


def _help() -> str:
    """The help of `evqa` itself: a line for each command; the argument parser would print the whole of their help."""
    width = max(map(len, COMMANDS))
    about = {name: (function.__doc__ or "").partition("\n")[0] for name, function in COMMANDS.items()}
    rows = [f"  {name:{width}}  {line}" for name, line in about.items()]
    usage = "usage: evqa [-h] [--version] COMMAND ..."
    return "\n".join([usage, "", DESCRIPTION, "", "commands:", *rows, "", "evqa COMMAND --help explains one.", ""])


def _version() -> str:
    try:
        return importlib.metadata.version("evqa")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run from its source)"


def command() -> NoReturn:
    """`main` as a process."""
    interrupts.end_on_sigterm()
    with checked_output_streams():
        code = main()
    interrupts.exit_now(code)


if __name__ == "__main__":
    command()
