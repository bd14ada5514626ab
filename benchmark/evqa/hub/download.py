"""Download by name: a checkpoint into the zoo, or the published files of a data set into its folder.

`bash scripts/download.sh NAME...` (or `python -m evqa.hub.download NAME...`). The files of a data set come from the
Hugging Face Hub; their hashes are compared with the hub's, archives are unpacked (`evqa.hub.archives`), and files that
exist already are kept. For a data set that is published elsewhere the error says where.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evqa import suggestions
from evqa.datasets import path_inside
from evqa.datasets.registry import DATASETS, HUB, MADE_HERE, HubFiles
from evqa.files import jsonl, roots
from evqa.files.output_streams import checked_output_streams
from evqa.hub import archives
from evqa.hub import checkpoints as hub_checkpoints


def download_dataset(name: str) -> Path:
    """Fetch a data set's published files and unpack them; the folder."""
    if name not in DATASETS:
        known = [*hub_checkpoints.CHECKPOINTS, *HUB]
        question = suggestions.did_you_mean(name, [*known, *DATASETS, *hub_checkpoints.hub_ids()])
        raise ValueError(f"unknown name {name!r}; what can be downloaded: {', '.join(known)}{question}")
    row = DATASETS[name]
    readme = f"{Path(row.prepare.split()[1]).parent}/README.md says how"
    if name not in HUB and row.source == MADE_HERE:
        raise ValueError(f"{name} is not downloaded: run `{roots.python_command(row.prepare.removeprefix('python '))}`")
    if name not in HUB:
        raise ValueError(f"{name} has to be fetched by hand from {row.source}; {readme}")
    published = HUB[name]
    folder = roots.writable(roots.DATA) / row.folder
    base = folder.parent if published.in_own_folder else folder
    try:
        repository, revision, hashes = _snapshot(published, base)
    except ValueError as error:
        raise ValueError(f"{error}; else {name} has to be fetched by hand from {row.source}; {readme}") from error
    for relative, expected in hashes.items():
        _use(base, relative, expected)
    about = {"hub": repository, "revision": revision, "licence": row.licence, "sha256": hashes}
    folder.mkdir(parents=True, exist_ok=True)
    jsonl.write_json(folder / f"source-{name}.json", about)
    return folder


def _snapshot(published: HubFiles, folder: Path) -> tuple[str, str, dict[str, str | None]]:
    """Bring the files; (repository, commit, file -> sha256 where the hub states one)."""
    try:
        hub: Any = importlib.import_module("huggingface_hub")  # only a download needs it
    except ModuleNotFoundError as error:
        raise ValueError('a download needs huggingface_hub: pip install "evqa[models]"') from error
    patterns = list(published.files)
    try:
        repository, info = _repository(hub, published)
        stated = {one.rfilename: one.lfs.sha256 if one.lfs else None for one in info.siblings}
        wanted = list(hub.utils.filter_repo_objects(stated, allow_patterns=patterns))
        if wanted:
            where = {"repo_id": repository, "revision": info.sha, "repo_type": "dataset"}
            hub.snapshot_download(**where, local_dir=folder, allow_patterns=patterns)
    except hub.errors.HfHubHTTPError.__bases__ as error:  # OSError, and the HTTP library's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"cannot download {published.repository} ({reason}): check the network, try again") from error
    if not wanted:
        raise ValueError(f"{repository} has no file like {', '.join(patterns)}")
    return repository, info.sha, {relative: stated[relative] for relative in wanted}


def _repository(hub: Any, published: HubFiles) -> tuple[str, Any]:
    """The first name of the repository that exists, and what the hub states of it."""
    names = [published.repository, *published.mirrors]
    for name in names[:-1]:
        try:
            return name, hub.HfApi().repo_info(name, repo_type="dataset", files_metadata=True)
        except hub.errors.RepositoryNotFoundError:
            continue
    return names[-1], hub.HfApi().repo_info(names[-1], repo_type="dataset", files_metadata=True)


def _use(folder: Path, relative: str, expected: str | None) -> None:
    """Check a file and unpack it if it is an archive, unless that was done before."""
    path = path_inside(folder, Path(relative))
    done = path.with_name(f"{path.name}.unpacked")
    if not archives.is_archive(path) or (done.exists() and expected is not None and done.read_text() == expected):
        return
    found = archives.sha256(path)
    if expected is not None and found != expected:
        path.unlink()
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {found}, expected {expected}; it is removed, fetch it again"
        )
    archives.unpack(path)
    done.write_text(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch what the command line names, or compare the checkpoints that it names with their hashes."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.names:
        parser.print_usage(sys.stderr)
        sys.stderr.write("error: name what to download; --help lists everything\n")
        return 2
    for name in given.names:
        try:
            sys.stdout.write(f"{name}: {hub_checkpoints.verify_hashes(name) if given.check else _download(name)}\n")
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    checkpoints = [
        f"  {name}: {row.hub} ({row.licence})" for name, row in hub_checkpoints.CHECKPOINTS.items() if row.hub
    ]
    sets = [f"  {name}: {published.repository} ({DATASETS[name].licence})" for name, published in HUB.items()]
    by_hand = ", ".join(name for name, row in DATASETS.items() if name not in HUB and row.source != MADE_HERE)
    data, models = roots.writable(roots.DATA), roots.writable(roots.MODELS)
    lines = [f"data sets, into {data}:", *sets, f"  by hand, as data/*/README.md says: {by_hand}"]
    lines += ["", f"checkpoints, into {models}:", *checkpoints]
    parser = argparse.ArgumentParser(
        prog="bash scripts/download.sh" if roots.clone() else "python -m evqa.hub.download",
        description="Download checkpoints and published data sets from the Hugging Face Hub; what is there is kept.",
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME[@COMMIT]", help="a name below, or a checkpoint's Hugging Face id"
    )
    parser.add_argument("--check", action="store_true", help="compare checkpoints that are here with their hashes")
    return parser


def _download(name: str) -> Path:
    """Download a checkpoint or a data set; its folder."""
    if hub_checkpoints.published_row(name.partition("@")[0]) is not None:
        return hub_checkpoints.download_checkpoint(name)
    if hub_checkpoints.is_hub_id(name) and not suggestions.near_matches(name, hub_checkpoints.hub_ids()):
        raise ValueError(f"{name} is not in the tables here: `hf download {name}` brings it where evqa finds it")
    folder = download_dataset(name)
    note = f" ({HUB[name].note})" if HUB[name].note else ""
    command = roots.python_command(DATASETS[name].prepare.removeprefix("python "))
    sys.stderr.write(f"{name}: licence {DATASETS[name].licence}{note}; next: {command}\n")
    return folder


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(main())
