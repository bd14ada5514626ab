"""Verification of checkpoint files: presence, size, hash and structure.

Each checkpoint has a `manifest.json`, written last: path, size in bytes and SHA-256 of every other file. Checkpoints
without manifest (of earlier versions) are checked for the files that their record requires, and each file for its
structure: header and length of safetensors, checksums of zip archives of torch, JSON. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from evqa.files import jsonl
from evqa.hub import archives
from unipixel import aliases

MANIFEST = "manifest.json"
RECORD = "sft.json"
"""File of the record of a checkpoint; see `unipixel.training.checkpoint_folder`."""

STATE = "trainer_state.json"

NUM_THREADS = 4
"""Number of files that are hashed in parallel; hashlib releases the GIL."""

WEIGHT_SUFFIXES = (".safetensors", ".json")
TRAINED_FILES = ("adapter_model.safetensors", "pytorch_model.safetensors")
TORCH_SUFFIXES = (".pt", ".pth")


class ManifestEntry(NamedTuple):
    """Size and hash of a file."""

    size: int
    """Size in bytes."""
    sha256: str


def write_manifest(folder: Path) -> None:
    """Write the manifest of a folder: size and SHA-256 of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        hashes = list(pool.map(archives.sha256, paths))
    files = {
        path.relative_to(folder).as_posix(): ManifestEntry(path.stat().st_size, sha256)._asdict()
        for path, sha256 in zip(paths, hashes, strict=True)
    }
    jsonl.write_json(folder / MANIFEST, {"files": files})


@contextlib.contextmanager
def atomic_write(partial: Path, final: Path, advice: Callable[[], str]) -> Iterator[None]:
    """Context manager for writing a folder; on failure the partial folder is removed.

    Args:
        partial: folder that is written.
        final: its final name, for the error message.
        advice: returns the end of the error message.

    Raises:
        ValueError: writing failed, for instance because the disk is full.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # of torch and safetensors on a full disk
        shutil.rmtree(partial, ignore_errors=True)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        existing = next(folder for folder in final.absolute().parents if folder.is_dir())
        free = shutil.disk_usage(existing).free / 1e9
        raise ValueError(
            f"cannot write {final} ({reason}; {free:.1f} GB free): free some disk space; {advice()}"
        ) from error


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint; -1 = another name."""
    match = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
    return int(match[1]) if match else -1


def checkpoints(out: Path) -> list[Path]:
    """Checkpoints of a run, oldest first; `checkpoint_damage` checks their files."""
    present = [folder for folder in out.glob("checkpoint-*") if step_of(folder) >= 0]
    return sorted((folder for folder in present if (folder / RECORD).is_file() or has_manifest(folder)), key=step_of)


def newest_complete(out: Path, damage: Callable[[Path], list[str]]) -> Path | None:
    """The newest checkpoint of a run for which `damage` returns nothing, or None."""
    return next((folder for folder in reversed(checkpoints(out)) if not damage(folder)), None)


def has_manifest(folder: Path) -> bool:
    """Whether a folder has a manifest."""
    return (folder / MANIFEST).is_file()


def checkpoint_damage(folder: Path, *, is_deep: bool = True) -> list[str]:
    """Missing and damaged files of a checkpoint, one line each; [] = none.

    Args:
        folder: a checkpoint to resume from.
        is_deep: also compare hashes, which reads every file once.
    """
    try:
        missing = list(_missing(folder, _record(folder)))
        if not missing and has_manifest(folder):
            entries = _entries(folder)
            missing = (
                _unlisted(folder, entries)
                or _absent(folder, entries)
                or _changed(folder, entries.keys() - {RECORD}, entries, is_deep=is_deep)
            )
        return missing or _state_damage(folder) or list(_structure_damage(folder) if is_deep else ())
    except (OSError, ValueError) as error:
        return [str(error)]


def manifest_damage(folder: Path, *, is_deep: bool = True, has_state: bool = True) -> list[str]:
    """Files that are missing or differ from the manifest of a folder, one line each; [] = none.

    Args:
        folder: a checkpoint or a model.
        is_deep: also compare hashes, which reads every file once.
        has_state: whether it has the state of Trainer, whose step is that of its name.
    """
    try:
        entries = _entries(folder)
        damage = (
            _unlisted(folder, entries)
            or _absent(folder, entries)
            or _changed(folder, entries, entries, is_deep=is_deep)
        )
        return damage or (_state_damage(folder) if has_state else [])
    except (OSError, ValueError) as error:
        return [str(error)]


def weights_damage(folder: Path, *, is_deep: bool = True) -> list[str]:
    """Missing and damaged weights of a folder; optimizer and random state are not required.

    JSON files may have been edited. Without manifest, the record of the run lists the trained weights.
    """
    try:
        if has_manifest(folder):
            entries = {path: entry for path, entry in _entries(folder).items() if _is_of_weights(path)}
            weights = [path for path in entries if path.endswith(".safetensors")]
            there = [f"{name} is not in {MANIFEST}" for name in TRAINED_FILES if (folder / name).is_file()]
            unlisted = [line for line in there if line.split()[0] not in entries]
            return unlisted or _absent(folder, entries) or _changed(folder, weights, entries, is_deep=is_deep)
        is_trained = (folder / RECORD).is_file() and any((folder / name).is_file() for name in TRAINED_FILES)
        names = _weight_files(_record(folder)) if is_trained else []
    except ValueError as error:
        return [str(error)]
    return _absent(folder, names)


def _absent(folder: Path, names: Iterable[str]) -> list[str]:
    return [f"{name} is missing" for name in sorted(names) if not (folder / name).is_file()]


# With a manifest


def _unlisted(folder: Path, entries: Mapping[str, ManifestEntry]) -> list[str]:
    """Files with tensors that are not in the manifest, whose content cannot be verified."""
    suffixes = {".safetensors", *TORCH_SUFFIXES}
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in suffixes)
    return [f"{path} is not in {MANIFEST}" for path in sorted(paths) if path not in entries]


def _is_of_weights(path: str) -> bool:
    """Whether a file of the manifest is required to load the weights."""
    return path.endswith(WEIGHT_SUFFIXES) and "/" not in path and path not in {RECORD, STATE}


def _changed(folder: Path, names: Iterable[str], entries: Mapping[str, ManifestEntry], *, is_deep: bool) -> list[str]:
    """Files whose size or hash differs from the manifest."""
    names = sorted(names)
    sizes = {name: (folder / name).stat().st_size for name in names}
    lines = [
        f"{name} has {size} bytes, {entries[name].size} were written"
        for name, size in sizes.items()
        if size != entries[name].size
    ]
    if lines or not is_deep:
        return lines
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        hashes = list(pool.map(lambda name: archives.sha256(folder / name), names))
    return [
        f"{name} has changed since it was written (SHA-256 {sha256[:12]}, was {entries[name].sha256[:12]})"
        for name, sha256 in zip(names, hashes, strict=True)
        if sha256 != entries[name].sha256
    ]


def _entries(folder: Path) -> dict[str, ManifestEntry]:
    """Read the manifest; a `ValueError` if it is malformed or has paths outside the folder."""
    try:
        rows = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        entries = {str(path): ManifestEntry(int(row["size"]), str(row["sha256"])) for path, row in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error!r})") from error
    for path in entries:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{MANIFEST} names {path!r}, which is outside the folder")
    return entries


# By the record of the run


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{RECORD} is missing") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{RECORD} cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{RECORD} is not a JSON object")  # noqa: TRY004  (the file is wrong, not an argument)
    return aliases.current_settings(record)


def _missing(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Missing files that resuming requires, by the record of a checkpoint."""
    names = [STATE, "scheduler.pt", *_weight_files(record)]
    try:
        processes, zero = int(record["processes"]), record["config"]["loop"].get("zero_stage")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{RECORD} lacks {error}") from error
    names += ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    names += ["optimizer.pt"] if zero is None else ["latest"]
    yield from (f"{name} is missing" for name in names if not (folder / name).is_file())
    if zero is not None and (folder / "latest").is_file():
        tag = (folder / "latest").read_text(encoding="utf-8", errors="replace").strip()
        if not re.fullmatch(r"global_step\d+", tag) or not (folder / tag).is_dir():
            yield f"latest names {tag[:40]!r}, which is not a folder of DeepSpeed states"
    for pattern, count in () if zero is None else _shards(zero, processes):
        present = len(list(folder.glob(pattern)))
        if present < count:
            yield f"{count - present} of {count} files {pattern} are missing"


def _shards(zero: int, processes: int) -> list[tuple[str, int]]:
    """Patterns of DeepSpeed files and their numbers."""
    shards = [("global_step*/*model_states.pt", processes if zero == 3 else 1)]
    return shards if zero == 0 else [*shards, ("global_step*/*optim_states.pt", processes)]


def _weight_files(record: Mapping[str, Any]) -> list[str]:
    try:
        has_adapter, has_modules = record["config"]["lora"]["rank"] > 0, bool(record["config"]["trainable"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{RECORD} lacks {error}") from error
    adapter = ["adapter_model.safetensors", "adapter_config.json"] if has_adapter else []
    return ["config.json", *adapter, *(["pytorch_model.safetensors"] if has_modules else [])]


def _state_damage(folder: Path) -> list[str]:
    """Damage of the state of Trainer, or a step that differs from the name of the folder."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        step, lines = state["global_step"], state["log_history"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{STATE} is damaged ({error!r})"]
    if not (isinstance(lines, list) and all(isinstance(line, dict) for line in lines)):
        return [f"{STATE} is damaged (log_history is not a list of objects)"]
    return [] if step == step_of(folder) else [f"{STATE} is of step {step}"]


# Without a manifest


def _structure_damage(folder: Path) -> Iterator[str]:
    """Damage of the structure of files; nothing if there is a manifest."""
    paths = [] if has_manifest(folder) else sorted(path for path in folder.rglob("*") if path.is_file())
    checks = {".safetensors": _check_safetensors, ".json": _check_json} | dict.fromkeys(TORCH_SUFFIXES, _check_torch)
    for path in paths:
        try:
            checks.get(path.suffix, _check_nothing)(path)
        except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
            yield f"{path.name} is damaged ({error})"


def _check_safetensors(path: Path) -> None:
    with safe_open(path, framework="numpy"):
        pass


def _check_json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"))


def _check_torch(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if (name := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {name} differs")


def _check_nothing(path: Path) -> None:
    del path
