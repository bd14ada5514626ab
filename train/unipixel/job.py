"""A run for which weights and data were found, and the number of its steps. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evqa import zoo
from unipixel import run_folder
from unipixel.configs import DECODERS, SFTConfig
from unipixel.data import mixture
from unipixel.data.mixture import Mixture


@dataclass(frozen=True, kw_only=True)
class Job:
    """What `assembly` puts together."""

    config: SFTConfig
    start: Path
    """Folder of the weights to start from."""
    decoder: Path | None
    """Folder of the mask decoder that replaces theirs."""
    mixture: Mixture
    num_steps: int
    processes: int
    record: run_folder.Record
    """Kept beside every checkpoint."""


def prepare(config: SFTConfig, processes: int) -> Job:
    """Find weights and data; one `ValueError` names everything that is missing and what fetches it."""
    config.accumulation(processes)
    problems: list[str] = []
    start = _located(config.weights, problems)
    other_decoder = DECODERS[config.decoder].checkpoint
    decoder = None if other_decoder is None else _located(other_decoder, problems)
    try:
        data = mixture.load(config.data, config.seed, config.group_size())
    except ValueError as error:
        raise ValueError("\n".join([*problems, str(error)])) from error
    if start is None or problems:
        raise ValueError("\n".join(problems))
    return Job(
        config=config,
        start=start,
        decoder=decoder,
        mixture=data,
        num_steps=config.steps(len(data)),
        processes=processes,
        record=run_folder.record(config, processes=processes, data=data.counts()),
    )


def _located(name: str, problems: list[str]) -> Path | None:
    try:
        return zoo.locate(name)
    except ValueError as error:
        problems.append(str(error))
        return None
