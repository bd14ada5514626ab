"""Runs: the record `run.json` with a run's configuration, its selection of samples, and its usage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from evqa.schema.record import VERSION, StrictRecord
from evqa.schema.usage import TotalUsage


class SampleSelection(StrictRecord):
    """Selection of a data set's samples for a run; each condition narrows it, no condition = all samples."""

    limit: int | None = None
    """Number of samples from the start of the data set, before they are divided into shards."""
    only: tuple[str, ...] | None = None
    """Ids of samples."""
    shard: str | None = None
    """Share `I/N`: every N-th sample from the I-th on."""


class Run(StrictRecord):
    """Content of `run.json`: the configuration that identifies a run (`identity`), and information about it."""

    version: Literal[1] = VERSION
    identity: dict[str, str | int | float | bool | None]
    """Data and its hash, model, method, prompt version, settings, seed; a run resumes only if all are equal."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages and of this code."""
    started: str = ""
    """Start of the run, UTC, ISO 8601."""
    selection: SampleSelection | None = None
    """Samples that all calls of the run together were asked for; None = not recorded, treated as all."""
    usage: Annotated[TotalUsage, Field(alias="spent")] = TotalUsage()
    """Usage of all records at the end of the last call; after a killed call it is computed again by the next one."""
