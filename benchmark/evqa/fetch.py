"""Fetch what is named: a checkpoint into the zoo, or the published files of a data set into its folder.

`python -m evqa.fetch NAME...` (or `bash scripts/download.sh NAME...`); `NAME@COMMIT` is a certain revision of a
checkpoint, `--check NAME` compares one that is here with its hashes, without network. A data set's files come from
the Hugging Face Hub; their hashes are compared with the hub's, archives are unpacked (`evqa.unpack`), and what is
there already is kept. A set that is published elsewhere is an error that says where.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

from evqa import jsonl, roots, suggestions, unpack, zoo
from evqa.dataset_rows import DATASETS
from evqa.datasets import path_inside


class Published(NamedTuple):
    """Files of a data set on the hub."""

    repository: str
    files: tuple[str, ...]
    """Patterns."""
    revision: str | None = None
    """Commit; None = the newest, which is written to source.json."""


HUB: dict[str, Published] = {
    "st-evidence-instruct": Published("Salesforce/ST-Evidence-Instruct", ("gen_mask/*",)),
    "st-evidence-instruct-qa": Published("Salesforce/ST-Evidence-Instruct", ("gen_qa/*",)),
    "vicas": Published("Ali2500/ViCaS", ("annotations/*", "splits/*")),
}
"""Data sets whose files lie on the hub as their readers expect them; no hash is known beforehand."""


def fetch(name: str) -> Path:
    """Fetch a data set's published files and unpack them; the folder."""
    if name not in DATASETS:
        known = [*zoo.CHECKPOINTS, *HUB]
        question = suggestions.did_you_mean(name, [*known, *DATASETS, *zoo.hub_ids()])
        raise ValueError(f"unknown data set {name!r}; to be fetched are: {', '.join(known)}{question}")
    row = DATASETS[name]
    if name not in HUB:
        script = row.prepare.split()[1]
        raise ValueError(
            f"{name} has to be fetched by hand from {row.source}; {Path(script).parent}/README.md says how"
        )
    folder = roots.writable(roots.DATA) / row.folder
    revision, hashes = _snapshot(HUB[name], folder)
    for relative, expected in hashes.items():
        _use(folder, relative, expected)
    about = {"hub": HUB[name].repository, "revision": revision, "licence": row.licence, "sha256": hashes}
    jsonl.write_json(folder / f"source-{name}.json", about)
    return folder


def _snapshot(published: Published, folder: Path) -> tuple[str, dict[str, str | None]]:
    """Bring the files; (commit, file -> sha256 where the hub states one)."""
    try:
        hub: Any = importlib.import_module("huggingface_hub")  # only a download needs it
    except ModuleNotFoundError as error:
        raise ValueError('a download needs huggingface_hub: pip install "evqa[models]"') from error
    where = {"repo_id": published.repository, "revision": published.revision, "repo_type": "dataset"}
    try:
        info = hub.HfApi().repo_info(**where, files_metadata=True)
        hub.snapshot_download(**where | {"revision": info.sha}, local_dir=folder, allow_patterns=list(published.files))
    except hub.errors.HfHubHTTPError.__bases__ as error:  # OSError, and the HTTP library's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"cannot download {published.repository} ({reason}): check the network, try again") from error
    stated = {one.rfilename: one.lfs.sha256 if one.lfs else None for one in info.siblings}
    wanted = hub.utils.filter_repo_objects(stated, allow_patterns=list(published.files))
    return info.sha, {relative: stated[relative] for relative in wanted}


def _use(folder: Path, relative: str, expected: str | None) -> None:
    """Check a file and unpack it if it is an archive, unless that was done before."""
    path = path_inside(folder, Path(relative))
    done = path.with_name(f"{path.name}.unpacked")
    if not unpack.is_archive(path) or (done.exists() and expected is not None and done.read_text() == expected):
        return
    found = unpack.sha256(path)
    if expected is not None and found != expected:
        path.unlink()
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {found}, expected {expected}; it is removed, fetch it again"
        )
    unpack.unpack(path)
    done.write_text(found)


def main() -> int:
    """Fetch what the command line names, or compare the checkpoints that it names with their hashes."""
    is_check = sys.argv[1:2] == ["--check"]
    names = sys.argv[2:] if is_check else sys.argv[1:]
    if not names or names[0].startswith("-"):
        known = f"checkpoints: {', '.join(zoo.CHECKPOINTS)}; data sets: {', '.join(HUB)}"
        sys.stderr.write(f"usage: python -m evqa.fetch NAME[@COMMIT]..., or --check NAME...   ({known})\n")
        return 2
    for name in names:
        is_checkpoint = zoo.published(name.partition("@")[0]) is not None
        try:
            found = zoo.verify(name) if is_check else zoo.download(name) if is_checkpoint else fetch(name)
            sys.stdout.write(f"{name}: {found}\n")
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
