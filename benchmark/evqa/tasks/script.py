"""What `python data/<name>/prepare.py` does: published files in, samples out, and a page of help that says which."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evqa.dataset_rows import DATASETS
from evqa.tasks import TASKS, prepare


def run(about: str, names: Sequence[str], folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Prepare the sets that the command line names; 0 = done, 1 = a set has no usable row or cannot be read.

    Args:
        about: What the script says of itself, above the list of its sets.
        names: The sets that it can prepare; of a single one the name is not asked for.
        folder: Where their published files lie, unless the command line says otherwise.
        arguments: The command line; None = that of the process.
    """
    parser = argparse.ArgumentParser(
        description=f"{about.strip()}\n\n{_listed(names)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if len(names) > 1:
        parser.add_argument("sets", nargs="*", metavar="SET", help="one or several of the sets above")
    parser.add_argument("--folder", type=Path, default=folder, help="where the published files are, and the samples go")
    given = parser.parse_args(arguments)
    wanted: list[str] = given.sets if len(names) > 1 else list(names)
    try:
        for name in _known(wanted, names):
            sys.stdout.write(f"{prepare(name, given.folder).summary()}\n")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def sets_of(folder: str) -> tuple[str, ...]:
    """Names of the data sets that share a folder below the data root."""
    return tuple(name for name, row in DATASETS.items() if row.folder == folder)


def _known(wanted: list[str], names: Sequence[str]) -> list[str]:
    if not wanted or set(wanted) - set(names):
        raise ValueError(f"expected names of sets, got {wanted}; the sets are: {', '.join(names)}")
    return wanted


def _listed(names: Sequence[str]) -> str:
    """Each set: what it is, what is read, what is written, where to fetch the files, under which licence."""
    lines: list[str] = []
    for name in names:
        row, task = DATASETS[name], TASKS[name]
        lines += [f"  {name}: {row.about}", f"      reads {task.about}", f"      writes {task.file}"]
    row = DATASETS[names[0]]
    return "\n".join([*lines, "", f"files from: {row.source}", f"licence: {row.licence}"])
