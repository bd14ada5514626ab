"""Training curves, read from the `trainer_state.json` that transformers' Trainer writes into each checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ValidationError

from evqa.files.jsonl import validation_message
from evqa.report.plots import Curve

STATE = "trainer_state.json"
CURVES = {
    "loss": ("loss", ""),
    "loss_lm": ("loss of the words", ""),
    "loss_focal": ("losses of the masks", " focal"),
    "loss_dice": ("losses of the masks", " dice"),
    "loss_iou": ("losses of the masks", " IoU"),
    "loss_objectness": ("losses of the masks", " objectness"),
    "eval_acc": ("percent on the samples that are looked at", " Acc"),
    "eval_t_mean": ("percent on the samples that are looked at", " t-mean"),
    "eval_jf": ("percent on the samples that are looked at", " J&F"),
}
"""Key in the log -> (quantity of the plot, suffix after the run's name in the legend)."""


class _State(BaseModel):
    """Used fields of `trainer_state.json`."""

    log_history: list[dict[str, object]]


def training_curves(folder: Path) -> list[Curve]:
    """Training curves of a run from its newest checkpoint, whose log starts at step 1, also after a resume.

    Args:
        folder: Folder of a training run, with `checkpoint-*/trainer_state.json`, or of a checkpoint.
    """
    path = _state_of(folder)
    try:
        state = _State.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} is no log of a training run: {validation_message(error)}") from error
    name = folder.resolve().name
    curves = [Curve(name + part, plot, _points(state, key)) for key, (plot, part) in CURVES.items()]
    return [curve for curve in curves if curve.points]


def _state_of(folder: Path) -> Path:
    if (folder / STATE).is_file():
        return folder / STATE
    numbered = [(int(match[1]), path) for path in folder.glob(f"checkpoint-*/{STATE}") if (match := _number(path))]
    if not numbered:
        raise ValueError(f"{folder} holds no checkpoint-*/{STATE}: name the folder of a training run (its --out)")
    return max(numbered)[1]


def _number(state: Path) -> re.Match[str] | None:
    return re.fullmatch(r"checkpoint-(\d+)", state.parent.name)


def _points(state: _State, key: str) -> list[tuple[float, float]]:
    points = [(entry.get("step"), entry.get(key)) for entry in state.log_history]
    return [(step, value) for step, value in points if isinstance(step, int | float) and isinstance(value, int | float)]
