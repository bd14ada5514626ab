"""Plan of a training run: located weights, data, number of steps and record. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from evqa import datasets
from evqa.datasets import Dataset
from evqa.hub import checkpoints
from unipixel.configs import DECODERS, WEIGHTS_COMMANDS, EvaluationConfig, SFTConfig
from unipixel.data import mixture
from unipixel.data.mixture import Mixture
from unipixel.training import checkpoint_folder


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Inputs of `build.build_trainer`."""

    config: SFTConfig
    start: Path
    """Folder of the start weights."""
    decoder: Path | None
    """Folder of the mask decoder that replaces that of the start weights; None = no replacement."""
    mixture: Mixture
    eval_dataset: Dataset | None
    """Samples of the periodic evaluation; None = no evaluation."""
    num_steps: int
    processes: int
    record: checkpoint_folder.Record
    """Stored with each checkpoint."""


def plan_training(config: SFTConfig, processes: int) -> TrainingPlan:
    """Locate weights and data.

    Args:
        config: the config of the run.
        processes: number of processes.

    Raises:
        ValueError: weights or data are missing; the message lists all of them and the commands that download them.
    """
    config.accumulation(processes)
    problems: list[str] = []
    start = _located(config.weights, problems, WEIGHTS_COMMANDS.get(config.recipe, ""))
    other_decoder = DECODERS[config.decoder].checkpoint
    decoder = None if other_decoder is None else _located(other_decoder, problems)
    try:
        data = mixture.load_mixture(config.data, config.seed, config.group_size())
    except ValueError as error:
        raise ValueError("\n".join([*problems, str(error)])) from error
    eval_dataset = _eval_dataset(config.evaluation, problems)
    if start is None or problems:
        raise ValueError("\n".join(problems))
    parts = {"start": checkpoints.fingerprint(start)} | (
        {} if decoder is None else {"decoder": checkpoints.fingerprint(decoder)}
    )
    return TrainingPlan(
        config=config,
        start=start,
        decoder=decoder,
        mixture=data,
        eval_dataset=eval_dataset,
        num_steps=config.steps(len(data)),
        processes=processes,
        record=checkpoint_folder.run_record(config, processes=processes, data=data.counts(), weights=parts),
    )


def _eval_dataset(config: EvaluationConfig, problems: list[str]) -> Dataset | None:
    """`eval_samples` samples of `eval_data`, evenly spaced."""
    if config.eval_data is None:
        return None
    try:
        dataset = datasets.load(config.eval_data)
    except ValueError as error:
        problems.append(f"{error} (or train without evaluation: --eval-data None)")
        return None
    step = max(1, len(dataset.samples) // config.eval_samples) if config.eval_samples else 1
    return replace(dataset, samples=dataset.samples[::step][: config.eval_samples or None])


def _located(name: str, problems: list[str], made_by: str = "") -> Path | None:
    try:
        return checkpoints.locate_checkpoint(name)
    except ValueError as error:
        is_downloadable = name in checkpoints.CHECKPOINTS or not made_by
        problems.append(str(error) if is_downloadable else f"{name} is not a checkpoint; create it with: {made_by}")
        return None
