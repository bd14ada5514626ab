"""Runs: the record `run.json` with a run's configuration, its selection of samples, and its usage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from evqa.schema.record import OMIT_EMPTY, VERSION, StrictRecord
from evqa.schema.usage import TotalUsage, Usage

ImageTransport = Literal["tool", "user", "text"]
"""How images of tool results reach a model: in the tool message, in one user message behind all tool messages, or not
at all (the text of the result has their labels)."""


class SampleSelection(StrictRecord):
    """Selection of a data set's samples for a run; each condition narrows it, no condition = all samples."""

    limit: int | None = None
    """Number of samples from the start of the data set, before they are divided into shards."""
    only: tuple[str, ...] | None = None
    """Ids of samples."""
    shard: str | None = None
    """Share `I/N`: every N-th sample from the I-th on."""


class ImageAttempt(StrictRecord):
    """One request of an image check: an image with a code in a tool result, and whether the reply has the code."""

    transport: ImageTransport
    outcome: Literal["ok", "rejected", "ignored", "error"]
    """The reply has the code; the request was refused (HTTP 4xx); the reply lacks the code; no reply came."""
    detail: str = ""
    """Start of the reply, or the error."""
    usage: Usage | None = None


class ImageCheck(StrictRecord):
    """Transport of images in tool results to a model, and the check of it at the start of a call of a run."""

    role: str
    """Role of the model in the run, such as "main"."""
    model: str
    """Its name."""
    transport: ImageTransport
    """Transport of the run."""
    outcome: Literal["ok", "failed", "skipped"]
    """Whether a reply had the code; skipped = the model was not asked."""
    code: str = ""
    """Characters in the image."""
    attempts: tuple[ImageAttempt, ...] = ()
    """Requests, in order; the last decides."""


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
    settings: Annotated[dict[str, dict[str, str | int | float | bool | None]], OMIT_EMPTY] = Field(default_factory=dict)
    """Role -> settings that replaced those of its model's registry entry, without HTTP headers, which may hold keys."""
    image_checks: Annotated[tuple[ImageCheck, ...], OMIT_EMPTY] = ()
    """Image checks of all calls of the run, in order; the last of a role holds. Empty for methods without tools."""
    usage: Annotated[TotalUsage, Field(alias="spent")] = TotalUsage()
    """Usage of all records and image checks at the end of the last call; after a killed call the next one computes it
    again."""
