"""A training run on disk: its checkpoints, what each was made with, and whether a run may go on from one.

    out/checkpoint-500/   a complete checkpoint (it is written as partial/checkpoint-500 and then renamed), with the
                          sizes and hashes of its files in manifest.json (see `integrity`)
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
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

from evqa.files import jsonl
from evqa.runs import run_folder
from unipixel import integrity
from unipixel.configs import SFTConfig
from unipixel.integrity import RECORD, checkpoints, step_of

logger = logging.getLogger(__name__)

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

LENGTH = frozenset({"config.loop.max_steps", "config.loop.epochs"})
"""Settings that --extend may change."""

EARLIER = {"config.loop.lm_mean": "pass"}
"""Settings that records of earlier versions lack -> what those versions did."""

DECISIVE = ("config", "processes", "data", "weights")
"""Parts of a record that decide what is learnt."""

PACKAGES = ("evqa", "torch", "transformers", "peft", "accelerate", "deepspeed", "numpy", "av")

Record = dict[str, Any]


def run_record(
    config: SFTConfig, *, processes: int, data: dict[str, dict[str, object]], weights: dict[str, str]
) -> Record:
    """What a checkpoint is made with, as JSON: config, processes, data counts and hashes, package versions.

    `weights`: part -> fingerprint of what training starts from.
    """
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
    if commit := run_folder.commit():
        found["commit"] = commit
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_complete(checkpoint: Path, *, is_deep: bool = True) -> None:
    """A `ValueError` where files of a checkpoint are missing or damaged; it names the newest one that is complete.

    `is_deep`: compare the hashes of its manifest, or the structure of each file where it has none.
    """
    if damage := integrity.checkpoint_damage(checkpoint, is_deep=is_deep):
        listed = "; ".join(damage[:4]) + (f"; and {len(damage) - 4} more" if len(damage) > 4 else "")
        raise ValueError(f"{checkpoint} is not complete: {listed}. {_other_than(checkpoint)}")
    if is_deep and not integrity.has_manifest(checkpoint):
        logger.warning(
            "%s has no %s (an earlier version wrote it): all files are there and readable, hashes are unknown",
            checkpoint,
            integrity.MANIFEST,
        )


def write_checkpoint(partial: Path, final: Path) -> AbstractContextManager[None]:
    """While a checkpoint or the model of a run is written; see `integrity.atomic_write`."""
    return integrity.atomic_write(partial, final, lambda: resume_advice(final.parent))


def resume_advice(out: Path) -> str:
    """How a run that ends with an error goes on, as the end of its message."""
    good = integrity.newest_complete(out, lambda one: integrity.checkpoint_damage(one, is_deep=False))
    if good is None:
        return "there is no checkpoint yet: the same command starts again"
    return f"the last complete checkpoint is {good}: the same command goes on from there"


def _other_than(checkpoint: Path) -> str:
    good = integrity.newest_complete(checkpoint.parent, integrity.checkpoint_damage)
    if good is None:
        return (
            f"No checkpoint in {checkpoint.parent} is complete: start again with --from-scratch, or use another --out"
        )
    if step_of(good) > step_of(checkpoint):
        return f"The newest complete checkpoint is {good}: go on from it without --resume"
    return f"The newest complete checkpoint is {good}: remove {checkpoint}, and the same command goes on from there"


def log_history(checkpoint: Path) -> list[dict[str, Any]]:
    """The lines of the log that Trainer kept in a checkpoint."""
    path = checkpoint / integrity.STATE
    return json.loads(path.read_text(encoding="utf-8"))["log_history"] if path.is_file() else []


def remove_partial(out: Path) -> None:
    """Remove what a killed run left half-written."""
    if (out / PARTIAL).exists():
        logger.warning("removing %s: a checkpoint that a killed run did not finish", out / PARTIAL)
        shutil.rmtree(out / PARTIAL)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
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


def commit_folder(partial: Path, final: Path) -> None:
    """Move a finished folder to its place, in place of what is there."""
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    partial.parent.rmdir()


def keep_newest(out: Path, num_kept: int) -> None:
    """Remove all complete checkpoints but the newest `num_kept`."""
    for folder in checkpoints(out)[:-num_kept]:
        shutil.rmtree(folder)


def check_fits(checkpoint: Path, now: Record, *, is_extension: bool = False) -> None:
    """A `ValueError` with the differences where a run of record `now` cannot go on from a checkpoint.

    `is_extension`: the run may be of another length.
    """
    saved = read_record(checkpoint)
    names = differing_settings(saved, now) - (LENGTH if is_extension else frozenset())
    if names:
        old, new = (_flat(fields, "") for fields in (saved, now))
        hint = "use its settings, or another --out, or start again with --from-scratch"
        if names <= LENGTH:
            hint = "add --extend to train the run for longer; or " + hint
        lines = differences({name: _value(old, name) for name in names}, {name: _value(new, name) for name in names})
        head = f"{checkpoint} was made with other settings, so this run cannot go on from it:"
        raise ValueError("\n".join([head, *(f"  {line}" for line in lines), hint]))
    if saved["packages"] != now["packages"]:
        changes = ", ".join(differences(saved["packages"], now["packages"]))
        logger.warning("package versions changed since %s: %s", checkpoint, changes)


def differing_settings(saved: Record, now: Record) -> set[str]:
    """Names of the settings that differ between two records and that decide what is learnt."""
    old, new = (_flat({key: fields.get(key, {}) for key in DECISIVE}, "") for fields in (saved, now))
    names = {name for name in old.keys() | new.keys() if _value(old, name) != _value(new, name)}
    return names - FREE - _free_layout(old, new)


def _free_layout(old: Record, new: Record) -> frozenset[str]:
    """Settings of how a step's samples are shared out that do not change what is learnt, but for rounding and dropout.

    The samples of a step stay the same ones. Without DeepSpeed, every process holds the whole state; with means over
    the tokens of a step, passes may be of any size.
    """
    both = [(_value(fields, "config.loop.zero"), _value(fields, "config.loop.lm_mean")) for fields in (old, new)]
    if any(zero is not None for zero, _ in both):
        return frozenset()
    is_by_step = all(mean == "step" for _, mean in both) and new.get("config.data.grouping") != "batch"
    return frozenset({"processes", "config.loop.batch"} if is_by_step else {"processes"})


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


def _value(flat: Record, name: str) -> Any:
    return flat.get(name, EARLIER.get(name, "not set"))


def _flat(fields: Record, prefix: str) -> Record:
    flat: Record = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
