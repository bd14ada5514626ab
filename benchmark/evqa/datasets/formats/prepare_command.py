"""What `python data/<name>/prepare.py` does: published files in, samples out, and a page of help that says which."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from evqa.datasets.formats import TASKS, prepare
from evqa.datasets.registry import DATASETS, IN_PLACE, PUBLISHED, SampleFile
from evqa.files import links, roots
from evqa.files.output_streams import checked_output_streams

EPILOG = """\
Without an option the published files are read in the folder of this script, or below EVQA_DATA where it is set; there
they may lie as the authors have them (train/data: st-evidence-instruct/gen_mask, ref_sav beside sav, ...). Rows that
cannot be used are written to rejected.jsonl beside the samples."""


@checked_output_streams()
def run(about: str, names: Sequence[str], folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Prepare the sets that the command line names; 0 = done, 1 = a set has no usable row or cannot be read.

    Args:
        about: What the script says of itself, above the list of its sets.
        names: The sets that it can prepare; of a single one the name is not asked for.
        folder: Where their published files lie, unless the command line or EVQA_DATA says otherwise.
        arguments: The command line; None = that of the process.
    """
    given = _parser(about, names).parse_args(arguments)
    wanted: list[str] = given.sets if len(names) > 1 else list(names)
    try:
        links.allow_roots(given.allow_root)
        linked: list[Path] = []
        for name in _known(wanted, names):
            place = _place(name, folder) if given.folder is None else (given.folder, TASKS[name].file)
            if given.source is not None:
                place = (given.folder or _home(name, folder), TASKS[name].file)
                linked += link_source(name, given.source, place[0])
            sys.stdout.write(f"{prepare(name, *place).summary()}\n")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if linked:
        targets = shlex.quote(os.pathsep.join(str(root) for root in dict.fromkeys(linked)))
        sys.stdout.write(f"to read the samples: export {links.VARIABLE}={targets} (or --allow-root DIR for each)\n")
    return 0


def _parser(about: str, names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"{about.strip()}\n\n{_listed(names)}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if len(names) > 1:
        parser.add_argument("sets", nargs="*", metavar="SET", help="one or several of the sets above")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the published files are, and the samples go")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        help="where the published files are, as they were downloaded: the folder of this set, or of all (train/data); "
        "nothing is written or copied there, the folder of the samples gets links to them",
    )
    parser.add_argument(links.OPTION, type=Path, action="append", default=[], metavar="DIR", help=links.HELP)
    return parser


def _home(name: str, folder: Path) -> Path:
    """The folder of a set in our layout."""
    return roots.writable(roots.DATA) / DATASETS[name].folder if os.environ.get(roots.DATA.variable) else folder


def _place(name: str, folder: Path) -> tuple[Path, str]:
    """(folder, file of samples): in the published layout where EVQA_DATA names a folder that has it, else in ours."""
    home = _home(name, folder)
    root = home if home == folder else roots.writable(roots.DATA)
    is_published = home != folder and all((root / path).exists() for path in PUBLISHED.get(name, ()))
    found = IN_PLACE[name] if name in IN_PLACE and is_published else None
    place = found or SampleFile(".", TASKS[name].file)
    return (root if found else home) / place.folder, place.file


def link_source(name: str, source: Path, home: Path) -> list[Path]:
    """Make links in the folder of a set to published files elsewhere; the folders to allow, which this process does.

    What is no link in the folder stays as it is.
    """
    if not source.is_dir():
        raise ValueError(f"--source: expected the folder of the published files, got {source}")
    found = _published(name, source.resolve())
    links.allow_roots({target.parent for target in found.values()})
    home.mkdir(parents=True, exist_ok=True)
    for link, target in found.items():
        path = home / link
        if path.is_symlink():
            path.unlink()
        if not path.exists() and path.resolve() != target:
            path.symlink_to(target)
    parents = [target.parent for target in found.values()]
    root = source.resolve()
    return [root, *sorted({parent for parent in parents if not parent.is_relative_to(root)})]


def _published(name: str, source: Path) -> dict[str, Path]:
    """Name in the folder of a set -> published file or folder, below its own folder or below that of all sets."""
    below = [Path(path) for path in PUBLISHED.get(name, ())]
    shared = {
        path.name: found for root in (source.parent, source) for path in below if (found := _spelt(root, path)).exists()
    }
    own = _spelt(source, Path(DATASETS[name].folder))
    is_root = own.is_dir() or any(_spelt(source, path).exists() for path in below)
    inside = own if own.is_dir() else source
    entries = [] if is_root and inside == source else sorted(inside.iterdir())
    return {path.name: path.resolve() for path in entries if _is_published(path)} | shared


def _spelt(root: Path, path: Path) -> Path:
    """A path below a folder, whose first part may be written otherwise there: `ST-Evidence-Instruct`, as downloaded."""
    if (root / path).exists():
        return root / path
    first, *rest = path.parts
    alike = (each for each in sorted(root.iterdir()) if _plain(each.name) == _plain(first))
    return next((each.joinpath(*rest) for each in alike), root / path)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _is_published(path: Path) -> bool:
    """Whether a file or folder is not what preparing or fetching writes."""
    return path.name not in {"tracks", "README.md", "prepare.py"} and path.suffix != ".jsonl" and path.name[0] != "."


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
