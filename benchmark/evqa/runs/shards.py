"""Which samples of a data set a run predicts: the first few, some by name, or one share of several machines'."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evqa.datasets import Dataset
from evqa.schema import Sample, SampleSelection

FOLDER = re.compile(r"shard-(\d+)-of-(\d+)")
"""Name of a shard's folder, which lies in the folder of the whole run."""


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 0) of `count`: every `count`-th sample, so that each gets some of every source."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"a shard is I/N with 0 <= I < N, such as 0/8 to 7/8; got {self.index}/{self.count}")

    @classmethod
    def read(cls, text: str) -> Shard:
        """From `I/N`."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None:
            raise ValueError(f"a shard is I/N with 0 <= I < N, such as 0/8 to 7/8; got {text[:80]!r}")
        return cls(int(match[1]), int(match[2]))

    def folder(self, run: Path) -> Path:
        """Where the shard's predictions lie within a run."""
        return run / f"shard-{self.index}-of-{self.count}"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A part of a data set; each condition narrows it."""

    only: Sequence[str] | None = None
    """Ids."""
    shard: Shard | None = None
    limit: int | None = None
    """The first so many, before they are dealt out to shards."""

    @classmethod
    def read(cls, record: SampleSelection) -> Selection:
        """From `run.json`."""
        return cls(only=record.only, shard=Shard.read(record.shard) if record.shard else None, limit=record.limit)

    def folder(self, run: Path) -> Path:
        """Folder for the predictions of the selection: that of its shard, else that of the run."""
        return self.shard.folder(run) if self.shard else run

    def record(self) -> SampleSelection:
        """For `run.json`."""
        shard = f"{self.shard.index}/{self.shard.count}" if self.shard else None
        return SampleSelection(limit=self.limit, only=None if self.only is None else tuple(self.only), shard=shard)

    def __str__(self) -> str:
        only = f"--sample-ids with {len(self.only)} ids" if self.only is not None else ""
        limit = f"--limit {self.limit}" if self.limit is not None else ""
        shard = f"--shard {self.shard.index}/{self.shard.count}" if self.shard else ""
        return " ".join(part for part in (only, limit, shard) if part) or "all samples"

    def of(self, dataset: Dataset) -> list[Sample]:
        """The samples in the data set's order."""
        samples = list(dataset.samples)
        if self.only is not None:
            ids = set(self.only)
            if unknown := sorted(ids - {sample.id for sample in samples}):
                raise ValueError(f"{dataset.name} has no sample {', '.join(unknown)}; its first is {samples[0].id}")
            samples = [sample for sample in samples if sample.id in ids]
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is a number of samples, at least 1, got {self.limit}")
        samples = samples[: self.limit]
        return samples if self.shard is None else samples[self.shard.index :: self.shard.count]


def union_of(selections: Sequence[Selection], dataset: Dataset) -> Selection:
    """The selection of what is in any of several, in its plainest form."""
    selected = {sample.id for selection in selections for sample in selection.of(dataset)}
    for plainest in (Selection(), *selections, Selection(limit=max(1, len(selected)))):
        if {sample.id for sample in plainest.of(dataset)} == selected:
            return plainest
    return Selection(only=[sample.id for sample in dataset.samples if sample.id in selected])


def intersection_of(first: Selection, second: Selection, dataset: Dataset) -> Selection:
    """The selection of what is in both, in its plainest form."""
    selected = {sample.id for sample in first.of(dataset)} & {sample.id for sample in second.of(dataset)}
    for plainest in (first, second):
        if {sample.id for sample in plainest.of(dataset)} == selected:
            return plainest
    return Selection(only=[sample.id for sample in dataset.samples if sample.id in selected])


def shards_of(run: Path) -> dict[Shard, Path]:
    """The shards that lie in a run's folder, in order."""
    folders: dict[Shard, Path] = {}
    for path in run.iterdir() if run.is_dir() else ():
        if (match := FOLDER.fullmatch(path.name)) and path.is_dir():
            folders[Shard(int(match[1]), int(match[2]))] = path
    return dict(sorted(folders.items(), key=lambda item: (item[0].count, item[0].index)))


def file_name_of(name: str) -> str:
    """A name as one part of a path: of a path the last two parts, joined, without the ending of a file of replies."""
    return "-".join(part for part in Path(name.removesuffix(".json")).parts[-2:] if part not in {"/", "..", "."})
