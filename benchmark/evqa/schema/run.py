"""Runs: what makes two runs the same, and how much of a data set a run covers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from evqa.schema.record import VERSION, StrictRecord
from evqa.schema.usage import TotalUsage


class Selected(StrictRecord):
    """The part of a data set that a run was asked for; each condition narrows it, none = all samples."""

    limit: int | None = None
    """The first so many, before they are dealt out to shards."""
    only: tuple[str, ...] | None = None
    """Ids."""
    shard: str | None = None
    """Share `I/N`: every N-th sample from the I-th on."""


class Run(StrictRecord):
    """`run.json`: what makes two runs the same (`identity`), and what else is worth knowing of one."""

    version: Literal[1] = VERSION
    identity: dict[str, str | int | float | bool | None]
    """data and its hash, model, method, prompt version, settings, seed: a run resumes only if all are equal."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages and of this code."""
    started: str = ""
    """UTC, ISO 8601."""
    selection: Selected | None = None
    """The samples that all calls of the run together were asked for; None = not recorded, which counts as all."""
    usage: Annotated[TotalUsage, Field(alias="spent")] = TotalUsage()
    """Of all records, when the run was last left; a run that was killed is counted anew by the next call."""
