"""A run for which weights and data were found, and the number of its steps. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from evqa import datasets
from evqa.datasets import Dataset
from evqa.hub import checkpoints
from unipixel.configs import DECODERS, STARTS, EvaluationConfig, SFTConfig
from unipixel.data import mixture
from unipixel.data.mixture import Mixture
from unipixel.training import checkpoint_folder


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What `assembly` puts together."""

    config: SFTConfig
    start: Path
    """Folder of the weights to start from."""
    decoder: Path | None
    """Folder of the mask decoder that replaces theirs."""
    mixture: Mixture
    eval_dataset: Dataset | None
    """What the model is scored on while it learns."""
    num_steps: int
    processes: int
    record: checkpoint_folder.Record
    """Kept beside every checkpoint."""


def plan_training(config: SFTConfig, processes: int) -> TrainingPlan:
    """Find weights and data; one `ValueError` names everything that is missing and what fetches it."""
    config.accumulation(processes)
    problems: list[str] = []
    start = _located(config.weights, problems, STARTS.get(config.recipe, ""))
    other_decoder = DECODERS[config.decoder].checkpoint
    decoder = None if other_decoder is None else _located(other_decoder, problems)
    try:
        data = mixture.load_mixture(config.data, config.seed, config.group_size())
    except ValueError as error:
        raise ValueError("\n".join([*problems, str(error)])) from error
    looked_at = _looked_at(config.evaluation, problems)
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
        eval_dataset=looked_at,
        num_steps=config.steps(len(data)),
        processes=processes,
        record=checkpoint_folder.run_record(config, processes=processes, data=data.counts(), weights=parts),
    )


def _looked_at(config: EvaluationConfig, problems: list[str]) -> Dataset | None:
    """The samples of `eval_data` that are looked at, evenly spread over it."""
    if config.eval_data is None:
        return None
    try:
        found = datasets.load(config.eval_data)
    except ValueError as error:
        problems.append(f"{error} (or look at nothing while training: --eval-data None)")
        return None
    step = max(1, len(found.samples) // config.eval_samples) if config.eval_samples else 1
    return replace(found, samples=found.samples[::step][: config.eval_samples or None])


def _located(name: str, problems: list[str], made_by: str = "") -> Path | None:
    try:
        return checkpoints.locate_checkpoint(name)
    except ValueError as error:
        is_of_zoo = name in checkpoints.CHECKPOINTS or not made_by
        problems.append(str(error) if is_of_zoo else f"{name} is no checkpoint to start from; what makes it: {made_by}")
        return None
