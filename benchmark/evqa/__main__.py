"""The command `evqa` (or `python -m evqa`)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import tyro
from tyro.conf import FlagCreatePairsOff

from evqa import interrupts
from evqa.commands import COMMANDS

DESCRIPTION = """Video question answering with evidence: the answer, when it is seen, which pixels show it.

Start with: evqa doctor; evqa list; evqa predict shapes-test tiny"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. 0: done; 1: done, with failures; 2: it cannot be done as asked; 130: stopped."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="evqa", description=DESCRIPTION, args=arguments, config=(FlagCreatePairsOff,)
        )
    except ValueError as error:
        sys.stderr.write(f"evqa: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nevqa: stopped; what is written is safe, and the same command goes on from there\n")
        return 130


def command() -> NoReturn:
    """`main` as a process."""
    interrupts.leave(main())


if __name__ == "__main__":
    command()
