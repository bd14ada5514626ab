"""A training run on disk: its checkpoints, what each was made with, and whether a run may go on from one.

    out/checkpoint-500/   a complete checkpoint (it is written as partial/checkpoint-500 and then renamed)
    out/skipped.jsonl     samples that did not load, with the reason
    out/looks/            predictions and scores of the samples that are looked at while training
    out/model/            the finished model, written the same way

Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from evqa import jsonl, runner
from unipixel.configs import SFTConfig

logger = logging.getLogger(__name__)

RECORD = "sft.json"
"""What a checkpoint was made with: config, processes, data counts and hashes, package versions."""

LOOKS = "looks"
MODEL = "model"
PARTIAL = "partial"
SKIPPED = "skipped.jsonl"

FREE = frozenset(
    f"config.{name}"
    for name in (
        "out",
        "data.skip_limit",
        "data.frame_cache",
        "data.frame_cache_gb",
        "loop.num_workers",
        "loop.num_threads",
        "loop.gradient_checkpointing",
        "loop.save_steps",
        "loop.keep",
        "loop.log_steps",
        "loop.tensorboard",
        "loop.wandb",
        "optimizer.max_rise",
        "evaluation.eval_data",
        "evaluation.eval_steps",
        "evaluation.eval_samples",
        "evaluation.benchmark",
    )
)
"""Settings that may change between two parts of a run: they do not change what is learnt."""

PACKAGES = ("evqa", "torch", "transformers", "peft", "accelerate", "deepspeed", "numpy", "av")

Record = dict[str, Any]


def record(config: SFTConfig, *, processes: int, data: dict[str, dict[str, object]], weights: dict[str, str]) -> Record:
    """What a checkpoint is made with, as JSON; `weights`: part -> fingerprint of what training starts from."""
    fields = {
        "config": dataclasses.asdict(config),
        "processes": processes,
        "data": data,
        "weights": weights,
        "packages": versions(),
    }
    return json.loads(json.dumps(fields, default=str))  # paths as text


def versions() -> dict[str, str]:
    """Versions of the packages that decide a run, and the commit of this code where git knows it."""
    found: dict[str, str] = {}
    if commit := runner.commit():
        found["commit"] = commit
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def checkpoints(out: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [folder for folder in out.glob("checkpoint-*") if (folder / RECORD).is_file() and step_of(folder) >= 0]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's name tells; -1 = none."""
    match = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
    return int(match[1]) if match else -1


def history(checkpoint: Path) -> list[dict[str, Any]]:
    """The lines of the log that Trainer kept in a checkpoint."""
    path = checkpoint / "trainer_state.json"
    return json.loads(path.read_text(encoding="utf-8"))["log_history"] if path.is_file() else []


def clean(out: Path) -> None:
    """Remove what a killed run left half-written."""
    if (out / PARTIAL).exists():
        logger.warning("removing %s: a checkpoint that a killed run did not finish", out / PARTIAL)
        shutil.rmtree(out / PARTIAL)


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Make the folder of a run and hold it: a second process that wants it is told so."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise ValueError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error
    with lock as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not held on by orphaned loaders
        except (BlockingIOError, PermissionError) as error:
            raise ValueError(f"another process trains in {out}: wait for it, or choose another --out") from error
        yield


def publish(partial: Path, final: Path) -> None:
    """Move a finished folder to its place, in place of what is there."""
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    partial.parent.rmdir()


def keep_newest(out: Path, num_kept: int) -> None:
    """Remove all complete checkpoints but the newest `num_kept`."""
    for folder in checkpoints(out)[:-num_kept]:
        shutil.rmtree(folder)


def check_fits(checkpoint: Path, now: Record) -> None:
    """A `ValueError` with the differences where a run of record `now` cannot go on from a checkpoint."""
    saved = read_record(checkpoint)
    lines = differences(_decisive(saved), _decisive(now))
    if lines:
        raise ValueError(
            "\n".join(
                [
                    f"{checkpoint} was made with other settings, so this run cannot go on from it:",
                    *(f"  {line}" for line in lines),
                    "use its settings, or another --out, or start again with --from-scratch",
                ]
            )
        )
    if saved["packages"] != now["packages"]:
        changes = ", ".join(differences(saved["packages"], now["packages"]))
        logger.warning("package versions changed since %s: %s", checkpoint, changes)


def read_record(checkpoint: Path) -> Record:
    """The record of a checkpoint."""
    path = checkpoint / RECORD
    if not path.is_file():
        raise ValueError(f"{checkpoint} is no checkpoint of this program: it has no {RECORD}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): use another checkpoint or --from-scratch") from error
    lacking = [
        key for key in ("config", "processes", "data", "packages") if not (isinstance(found, dict) and key in found)
    ]
    if lacking:
        raise ValueError(f"{path} lacks {', '.join(lacking)}: use another checkpoint or --from-scratch")
    return found


def write_record(folder: Path, fields: Record) -> None:
    """Write the record beside the weights."""
    jsonl.write_json(folder / RECORD, fields)


def differences(saved: Record, now: Record) -> list[str]:
    """`name: then -> now` for everything that is not equal."""
    names = sorted(saved.keys() | now.keys())
    return [
        f"{name}: {saved.get(name, 'not set')} -> {now.get(name, 'not set')}"
        for name in names
        if saved.get(name) != now.get(name)
    ]


def _decisive(fields: Record) -> Record:
    flat = _flat({key: fields.get(key, {}) for key in ("config", "processes", "data", "weights")}, "")
    return {name: value for name, value in flat.items() if name not in FREE}


def _flat(fields: Record, prefix: str) -> Record:
    flat: Record = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
