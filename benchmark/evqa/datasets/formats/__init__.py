"""Dataset formats: a reader per published layout, and `prepare`, which writes the samples of a published folder.

`evqa.datasets.registry` states which reader each data set has.
"""

from __future__ import annotations

import errno
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import cast

from evqa import suggestions
from evqa.datasets import ground_truth, path_inside
from evqa.datasets.registry import DATASETS, DatasetFormat
from evqa.files import links
from evqa.files.jsonl import BadEntry, BadLine, write_records, write_rows
from evqa.schema import Sample

Reader = Callable[[Path, list[BadLine]], Iterator[Sample]]
"""Function (folder, list) -> samples one by one; it appends the entries that cannot be used to the list."""


def reader_of(dataset_format: DatasetFormat) -> Reader:
    """Import the reader of a dataset format, with its arguments."""
    module, _, function = dataset_format.reader.partition(":")
    reader = getattr(import_module(f"evqa.datasets.formats.{module}"), function)

    @functools.wraps(reader)
    def read(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
        return reader(folder, bad, *dataset_format.arguments)

    return cast(Reader, read)


READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Error numbers of a folder that cannot be written."""

ARCHIVES = ("*.tar.gz", "*.tgz", "*.tar", "*.zip")

LEFT_OUT = "left out"
"""Start of the reason where a part of an entry cannot be used and the rest is kept."""


@dataclass(frozen=True)
class PreparationSummary:
    """Result of `prepare`: the files that it wrote, and counts of kept and dropped entries."""

    path: Path
    """The file of samples that was written."""
    num_kept: int
    dropped: tuple[BadLine, ...]
    """Dropped entries, and parts left out of entries that are kept."""
    without_video: int
    """Kept samples without a video file and without all of their clips; predicting them fails."""
    without_masks: int
    """Kept samples without mask annotation; they have no spatial score."""
    rejected: Path
    """The file with the dropped entries and parts: line, id, file, reason."""
    packed: tuple[str, ...] = ()
    """Archives in the published folder, which may contain the missing files."""

    def summary(self) -> str:
        """Counts, with the dropped rows by reason."""
        num_parts = sum(bad.reason.startswith(LEFT_OUT) for bad in self.dropped)
        lines = [
            f"{self.path}: {self.num_kept} samples kept, {len(self.dropped) - num_parts} rows dropped",
            f"  {self.without_video} of the kept have no video file, {self.without_masks} no masks",
        ]
        if self.packed:
            lines.append(f"  unpack these, if that is not done yet (tar -xf): {', '.join(self.packed)}")
        reasons = Counter(bad.reason.partition(":")[0] for bad in self.dropped)
        for reason, count in reasons.most_common():
            first = next(bad for bad in self.dropped if bad.reason.partition(":")[0] == reason)
            did = "" if reason.startswith(LEFT_OUT) else "dropped "
            lines.append(f"  {did}{count}: {reason}; the first is line {first.line}: {first.reason[:200]}")
        if self.dropped:
            lines.append(f"  each of them is in {self.rejected}")
        return "\n".join(lines)


def prepare(name: str, folder: Path, file: str | None = None) -> PreparationSummary:
    """Read a published folder; write its samples, and the entries that cannot be used, into files there.

    Args:
        name: A data set of `DATASETS`.
        folder: The published files; paths of samples are relative to it.
        file: Name of the file of samples instead of the data set's own.

    Raises:
        ValueError: The name is unknown, the folder cannot be read or written, or no entry is usable.
    """
    if name not in DATASETS:
        raise suggestions.unknown_name_message("data set", name, DATASETS)
    spec = DATASETS[name]
    dropped: list[BadLine] = []
    counts: Counter[str] = Counter()
    links.note_data_set(folder)
    samples = reader_of(spec.format)(folder, dropped)
    samples = _counted(samples if spec.is_benchmark else _valid(samples, folder, dropped), folder, counts)
    path = folder / (file or spec.file)
    rejected = path.with_name("rejected.jsonl" if path.name == "samples.jsonl" else f"{path.stem}.rejected.jsonl")
    try:
        first = next(samples, None)
        if first is not None:
            write_records(path, chain([first], samples))
        write_rows(rejected, (_rejected_row(bad, spec.format) for bad in dropped))
    except OSError as error:
        advice = "; where it cannot be written, prepare with --source DIR" if error.errno in READ_ONLY else ""
        raise ValueError(
            f"cannot prepare {folder}: {error.strerror or error}, {error.filename or ''}{advice}"
        ) from error
    archives = _packed(folder, counts)
    result = PreparationSummary(
        path, counts["kept"], tuple(dropped), counts["no video"], counts["no masks"], rejected, archives
    )
    if first is None:
        raise ValueError(f"no row is usable, so no samples are written:\n{result.summary()}")
    return result


def _rejected_row(bad: BadLine, dataset_format: DatasetFormat) -> dict[str, object]:
    return {"line": bad.line, "id": _id_of(bad), "file": dataset_format.entries, "reason": bad.reason}


def _packed(folder: Path, counts: Counter[str]) -> tuple[str, ...]:
    """Return the archives in a folder that still lacks files."""
    if counts["kept"] and not counts["no video"] and not counts["no masks"]:
        return ()
    folders = (folder, *(folder / name for name in ("data", "gen_mask")))
    paths = (path for parent in folders for pattern in ARCHIVES for path in parent.glob(pattern))
    return tuple(sorted(str(path.relative_to(folder)) for path in paths))


def _id_of(bad: BadLine) -> str | None:
    return bad.id if isinstance(bad, BadEntry) else None


def _valid(samples: Iterator[Sample], folder: Path, dropped: list[BadLine]) -> Iterator[Sample]:
    """Yield the samples with usable ground truth (see `evqa.datasets.ground_truth`); append the others to `dropped`."""
    ids: set[str] = set()
    for number, sample in enumerate(samples, 1):
        if sample.id in ids:
            dropped.append(BadEntry(number, f"duplicate id: {sample.id} came before", sample.id))
            continue
        ids.add(sample.id)
        try:
            ground_truth.check_ground_truth(sample, ground_truth.video_of(path_inside(folder, sample.video), sample))
        except ValueError as error:
            reason, colon, detail = str(error).partition(":")
            dropped.append(BadEntry(number, f"{reason}: {sample.id}{colon}{detail}", sample.id))
        else:
            yield sample


def _counted(samples: Iterator[Sample], folder: Path, counts: Counter[str]) -> Iterator[Sample]:
    """Yield the samples and count those that are kept, lack a video file, or lack masks."""
    for sample in samples:
        counts["kept"] += 1
        counts["no video"] += not _has_video(sample, folder)
        counts["no masks"] += not sample.has_masks
        yield sample


def _has_video(sample: Sample, folder: Path) -> bool:
    """Whether the video of a sample is there, or all of its clips."""
    clips = sample.clips
    return (folder / sample.video).exists() or (bool(clips) and all((folder / clip.path).exists() for clip in clips))
