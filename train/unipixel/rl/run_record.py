"""Files of a run of reinforcement learning: its record, its checkpoints, and whether it may resume.

    out/rl.json           record of the run: config, counts and hashes of data, weights, agents, versions
    out/checkpoint-50/    a complete checkpoint, with `rl.json` and `manifest.json` (see `integrity`)
    out/best/             weights with the best evaluation, with its scores in `score.json`
    out/eval/step-50/     predictions of an evaluation: a folder for `evqa report` and `evqa score`
    out/rollouts/         transcripts of training rollouts
    out/model/            the merged model: that of `best/`, or the last one without an evaluation

Nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evqa.files import jsonl
from unipixel import integrity
from unipixel.rl.configs import RLConfig
from unipixel.training import checkpoint_folder

logger = logging.getLogger(__name__)

RECORD = "rl.json"
BEST = "best"
SCORE_FILE = "score.json"
SCORE = "eval_Acc"
"""Metric of the evaluation by which the best weights are kept."""

ROLLOUTS = "rollouts"
EXPORTED = "exported"
"""Field of the record of a model: the folder that its weights come from."""
PARTS = (BEST, checkpoint_folder.MODEL, checkpoint_folder.EVALUATION, ROLLOUTS, "runs")
"""Folders of a run beside its checkpoints."""

FREE_SETTINGS = frozenset(
    f"config.{name}"
    for name in (
        "out",
        "data.held_out_samples",
        "rollout.vllm_memory",
        "loop.gradient_checkpointing",
        "loop.num_threads",
        "loop.save_steps",
        "loop.save_total_limit",
        "loop.logging_steps",
        "loop.eval_steps",
        "loop.eval_sampled",
        "loop.transcript_steps",
        "loop.tensorboard",
        "loop.wandb",
    )
) | {"data.held_out.samples", "data.held_out.ids_sha256"}
"""Settings that may differ when a run resumes: they do not affect the trained weights."""

Record = Mapping[str, Any]


def record_of(config: RLConfig, *, processes: int, data: Mapping[str, object], weights: str) -> dict[str, Any]:
    """The record of a run as JSON.

    Args:
        config: the config of the run.
        processes: number of processes.
        data: counts and hashes of the questions.
        weights: fingerprint of the start weights.
    """
    fields = {
        "config": dataclasses.asdict(config),
        "processes": processes,
        "data": data,
        "weights": weights,
        "packages": checkpoint_folder.versions(),
    }
    return json.loads(json.dumps(fields, default=str))


def write(folder: Path, record: Record) -> None:
    """Write the record of a run into a folder."""
    jsonl.write_json(folder / RECORD, dict(record))


def read(folder: Path) -> dict[str, Any]:
    """Read the record of a run. `ValueError`: there is none, or it is malformed."""
    return checkpoint_folder.read_record_file(folder / RECORD)


def checkpoint_of(out: Path, record: Record, resume: Path | None, *, is_deep: bool = True) -> Path | None:
    """The checkpoint to resume from: `resume`, else the newest one; None = start at step 0.

    Args:
        out: folder of the run.
        record: record of the run.
        resume: the checkpoint that the user names; None = the newest one.
        is_deep: also compare the hashes of its files, which reads each file once.

    Raises:
        ValueError: it is damaged, or of a run with other settings.
    """
    existing = [folder for folder in integrity.checkpoints(out) if (folder / RECORD).is_file()]
    checkpoint = checkpoint_folder.requested_checkpoint(existing, resume)
    if checkpoint is None:
        return None
    if damage := integrity.manifest_damage(checkpoint, is_deep=is_deep):
        raise ValueError(f"{checkpoint} is not complete: {'; '.join(damage[:4])}: remove it, or use another checkpoint")
    check_fits(checkpoint, record)
    checkpoint_folder.check_newest(checkpoint, existing)
    logger.info("resumes at update %d from %s", integrity.step_of(checkpoint), checkpoint)
    return checkpoint


def resume_advice(out: Path) -> str:
    """The end of an error message: how to resume the run."""
    return checkpoint_folder.resume_advice(out, lambda folder: integrity.manifest_damage(folder, is_deep=False))


def check_fits(folder: Path, now: Record) -> None:
    """Check that the run of a folder has the settings of this run, apart from `FREE_SETTINGS`.

    Raises:
        ValueError: settings differ; the message lists them.
    """
    old, new = (checkpoint_folder.flat_settings(dict(record)) for record in (read(folder), now))
    lines = checkpoint_folder.differences(
        {name: value for name, value in old.items() if _decides(name)},
        {name: value for name, value in new.items() if _decides(name)},
    )
    if lines:
        raise checkpoint_folder.settings_error(folder, lines)


def _decides(name: str) -> bool:
    return name not in FREE_SETTINGS | {EXPORTED} and not name.startswith("packages")


def is_finished(out: Path, record: Record) -> bool:
    """Whether the merged model of a run exists. `ValueError`: it was trained with other settings, or is damaged."""
    model = out / checkpoint_folder.MODEL
    if not model.is_dir():
        return False
    check_fits(model, record)
    if damage := integrity.manifest_damage(model, has_state=False):
        problems = "; ".join(damage[:4])
        raise ValueError(f"{model} is not complete: {problems}: remove it, the same command writes it again")
    return True


def best_score(out: Path) -> float:
    """Score of the best weights; -1 = there are none."""
    path = out / BEST / SCORE_FILE
    return float(json.loads(path.read_text(encoding="utf-8"))[SCORE]) if path.is_file() else -1.0


def prepare_folder(out: Path, record: Record, *, from_scratch: bool) -> None:
    """Prepare the folder of a run: remove partial files (with `from_scratch` the earlier run), write the record."""
    if from_scratch:
        checkpoint_folder.remove_folders([*integrity.checkpoints(out), *(out / name for name in PARTS)])
    checkpoint_folder.remove_partial(out)
    write(out, record)
