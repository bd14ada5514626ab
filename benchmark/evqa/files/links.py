"""Symbolic links out of a folder: refused, unless the user allows the folder that they lead to.

Data sets are large, so that their files often lie elsewhere and are linked: a data set's folder of frames, or a video.
A file of samples comes from others and may name such a link, so only the user says which folders may be read:

    evqa predict DATA MODEL --allow-root /mnt/videos          each command, any number of times
    EVQA_ALLOW_ROOTS=/mnt/videos:/mnt/more                    all commands, and the processes that they start

The option adds to the variable, so that workers of this process follow it too. Links between files of one data set
need no permission.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

VARIABLE = "EVQA_ALLOW_ROOTS"
OPTION = "--allow-root"
HELP = "read files that symbolic links lead to below DIR (repeatable; EVQA_ALLOW_ROOTS=DIR:DIR does the same)"


_data_sets: set[Path] = set()


def note_data_set(folder: Path) -> None:
    """Note the folder of a data set that is in use: a link of a frame or mask may lead to another place in it."""
    _data_sets.add(folder.resolve())


def leads_out(link: Path, target: Path) -> bool:
    """Whether a file, links followed, is neither in the folder of its link, nor in that one's data set, nor allowed."""
    folder = link.parent.resolve()
    homes = (root for root in _data_sets if folder.is_relative_to(root))
    return not (target.is_relative_to(folder) or any(map(target.is_relative_to, homes)) or is_allowed(target))


def allowed_roots() -> tuple[Path, ...]:
    """Resolved folders that links may lead to, from the variable `EVQA_ALLOW_ROOTS`."""
    parts = os.environ.get(VARIABLE, "").split(os.pathsep)
    return tuple(Path(part).expanduser().resolve() for part in parts if part.strip())


def allow_roots(folders: Iterable[Path]) -> None:
    """Allow more folders, for this process and those that it starts."""
    for folder in folders:
        if not folder.expanduser().is_dir():
            raise ValueError(f"{OPTION}: expected a folder that links may lead to, got {folder}")
        root = folder.expanduser().resolve()
        if os.pathsep in str(root):
            raise ValueError(
                f"{OPTION}: {root} has a {os.pathsep!r}, which separates folders; link it under another name"
            )
        if root not in allowed_roots():
            earlier = os.environ.get(VARIABLE, "")
            os.environ[VARIABLE] = f"{earlier}{os.pathsep}{root}" if earlier else str(root)


def is_allowed(target: Path) -> bool:
    """Whether a link may lead to a path, which is absolute and without links."""
    return any(target.is_relative_to(root) for root in allowed_roots())


def link_advice(target: Path) -> str:
    """What to do where a link leads out of its folder."""
    return f"{OPTION} {target.parent} (or {VARIABLE}) allows it"


def parse_allowed_roots(arguments: Sequence[str]) -> list[str]:
    """The arguments without `--allow-root DIR`, whose folders are allowed from now on."""
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name.replace("_", "-") != OPTION:
            rest.append(word)
            continue
        folder = value if equals else next(words, "")
        if not folder:
            raise ValueError(f"{OPTION} needs a folder")
        allow_roots([Path(folder)])
    return rest
