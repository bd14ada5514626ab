"""Selection of the samples that a run predicts: the first N, some by id, or one shard of several machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evqa.datasets import Dataset
from evqa.schema import Sample, SampleSelection

FOLDER = re.compile(r"shard-(\d+)-of-(\d+)")
"""Pattern of the name of a shard's folder, which is in the folder of the whole run."""


@dataclass(frozen=True)
class Shard:
    """Shard `index` (from 0) of `count`: every `count`-th sample, so that each shard has samples of every source."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"a shard is I/N with 0 <= I < N, such as 0/8 to 7/8; got {self.index}/{self.count}")

    @classmethod
    def read(cls, text: str) -> Shard:
        """Return the shard of a text `I/N`. `ValueError`: it is no shard."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None:
            raise ValueError(f"a shard is I/N with 0 <= I < N, such as 0/8 to 7/8; got {text[:80]!r}")
        return cls(int(match[1]), int(match[2]))

    def folder(self, run: Path) -> Path:
        """Return the folder of the shard in the folder of a run."""
        return run / f"shard-{self.index}-of-{self.count}"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Subset of a data set; the conditions are combined by AND."""

    only: Sequence[str] | None = None
    """Ids of samples; None = all."""
    shard: Shard | None = None
    limit: int | None = None
    """Maximum number of samples, applied before the shard; None = all."""

    @classmethod
    def read(cls, record: SampleSelection) -> Selection:
        """Return the selection of a record in `run.json`."""
        return cls(only=record.only, shard=Shard.read(record.shard) if record.shard else None, limit=record.limit)

    def folder(self, run: Path) -> Path:
        """Return the folder for the predictions of the selection: that of its shard, else that of the run."""
        return self.shard.folder(run) if self.shard else run

    def record(self) -> SampleSelection:
        """Return the record for `run.json`."""
        shard = f"{self.shard.index}/{self.shard.count}" if self.shard else None
        return SampleSelection(limit=self.limit, only=None if self.only is None else tuple(self.only), shard=shard)

    def __str__(self) -> str:
        only = f"--sample-ids with {len(self.only)} ids" if self.only is not None else ""
        limit = f"--limit {self.limit}" if self.limit is not None else ""
        shard = f"--shard {self.shard.index}/{self.shard.count}" if self.shard else ""
        return " ".join(part for part in (only, limit, shard) if part) or "all samples"

    def of(self, dataset: Dataset) -> list[Sample]:
        """Return the selected samples in the order of the data set. `ValueError`: unknown id, or limit below 1."""
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
    """Return the union of selections in its simplest form."""
    selected = {sample.id for selection in selections for sample in selection.of(dataset)}
    for simplest in (Selection(), *selections, Selection(limit=max(1, len(selected)))):
        if {sample.id for sample in simplest.of(dataset)} == selected:
            return simplest
    return Selection(only=[sample.id for sample in dataset.samples if sample.id in selected])


def intersection_of(first: Selection, second: Selection, dataset: Dataset) -> Selection:
    """Return the intersection of two selections in its simplest form."""
    selected = {sample.id for sample in first.of(dataset)} & {sample.id for sample in second.of(dataset)}
    for simplest in (first, second):
        if {sample.id for sample in simplest.of(dataset)} == selected:
            return simplest
    return Selection(only=[sample.id for sample in dataset.samples if sample.id in selected])


def shards_of(run: Path) -> dict[Shard, Path]:
    """Return the shards of a run with their folders, in order."""
    folders: dict[Shard, Path] = {}
    for path in run.iterdir() if run.is_dir() else ():
        if (match := FOLDER.fullmatch(path.name)) and path.is_dir():
            folders[Shard(int(match[1]), int(match[2]))] = path
    return dict(sorted(folders.items(), key=lambda item: (item[0].count, item[0].index)))


def file_name_of(name: str) -> str:
    """Convert a name to one path component: the last two components of a path, joined, without the suffix .json."""
    return "-".join(part for part in Path(name.removesuffix(".json")).parts[-2:] if part not in {"/", "..", "."})
