"""Files of git revisions in folders of their own, and Python processes that import the packages from there."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
WORKING_TREE = "."
"""The revision that stands for the working tree: tracked files as they are, and new files that git does not ignore."""
SOURCES = ("benchmark", "train")
"""Folders of the import packages, relative to the root of a revision."""


def tree_id(revision: str) -> str:
    """Return git's id (hex) of the files of a revision; equal files have equal ids.

    Raises:
        ValueError: git knows no such revision.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return _tree_id(revision, _environment(Path(scratch)))


def extract(revision: str, folder: Path) -> str:
    """Write the files of a revision into a new folder and return their tree id; the repository is not changed.

    Raises:
        ValueError: git knows no such revision.
    """
    with tempfile.TemporaryDirectory() as scratch:
        environment = _environment(Path(scratch))
        tree = _tree_id(revision, environment)
        archive = _git("archive", "--format=tar", tree, environment=environment)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return tree


def python_path(folder: Path) -> str:
    """Return the PYTHONPATH with which `evqa` and `unipixel` are those of an extracted revision.

    It comes before the finder of an editable install.
    """
    return os.pathsep.join(str(folder / name) for name in SOURCES)


def _tree_id(revision: str, environment: dict[str, str]) -> str:
    if revision == WORKING_TREE:
        _git("read-tree", "HEAD", environment=environment)
        _git("add", "--all", environment=environment)
        return _git("write-tree", environment=environment).decode().strip()
    try:
        return _git("rev-parse", "--verify", f"{revision}^{{tree}}", environment=environment).decode().strip()
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{revision!r} is no revision of {ROOT}: {error.stderr.decode().strip()}") from error


def _environment(scratch: Path) -> dict[str, str]:
    """Variables with which git writes its index and its objects into a scratch folder."""
    objects = ROOT / _git("rev-parse", "--git-path", "objects", environment=dict(os.environ)).decode().strip()
    return os.environ | {
        "GIT_INDEX_FILE": str(scratch / "index"),
        "GIT_OBJECT_DIRECTORY": str(scratch),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
    }


def _git(*arguments: str, environment: dict[str, str]) -> bytes:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True).stdout
