"""Data sets by name or folder: `samples.jsonl`, read, checked, with its paths made absolute.

A sample that cannot be used (no record, an id that came before, a path that leaves the folder) is counted in
`Dataset.rejected`. A missing video is no such case: it becomes a failure of that sample when it is predicted.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, overload

from evqa import suggestions
from evqa.datasets.registry import DATASETS, HUB, IN_PLACE, MADE_HERE, SampleFile
from evqa.files import links, roots
from evqa.files.jsonl import BadLine, numbered_records
from evqa.masks import track_files
from evqa.schema import NO_VIDEO, Sample


@dataclass(frozen=True)
class Dataset:
    """The samples of a data set."""

    name: str
    """The key in `DATASETS`, else the folder as it was given; `load(name)` gives the data set again."""
    folder: Path
    samples: Sequence[Sample]
    """In the order of the file, paths absolute and inside the folder; those of a large file are read when asked for."""
    rejected: tuple[BadLine, ...]
    """Lines of samples.jsonl that are no usable sample."""
    sha256: str
    """Of samples.jsonl."""


LARGE = 2**24
"""Bytes of samples.jsonl from which on samples stay in the file; in memory they take six times as much."""


def load(name_or_folder: str) -> Dataset:
    """The data set of a name in `DATASETS`, or in any folder with a samples.jsonl."""
    name, path = _find(name_or_folder)
    folder = path.parent
    rejected: list[BadLine] = []
    if path.stat().st_size > LARGE:
        found = open_lazy(name_or_folder, _cannot_be_inlined(rejected))
        read = replace(found, has_tracks_inside=True)
        return Dataset(name, folder, read, tuple(sorted([*rejected, *found.rejected])), found.sha256)
    samples = tuple(_inline(_checked(path, folder.resolve(), rejected), rejected))
    sha256, unfinished = _digest(path)
    if unfinished is not None:
        rejected.append(_unfinished(unfinished))
    if not samples:
        raise ValueError(f"{path} has no usable sample ({_reasons(rejected)}): {_advice(name)}")
    return Dataset(name, folder, samples, tuple(sorted(rejected)), sha256)


PATHS = ("video", "masks", "objects", "track_file", "label_map")
"""Fields of `Sample` that are one path."""


@dataclass(frozen=True)
class LazyDataset(Sequence[Sample]):
    """The samples of a data set that is too large for memory: each is read when it is asked for.

    Their tracks stay in `Sample.track_file` where they are (see `track_files.tracks_of`), unless they are
    wanted inside.
    """

    path: Path
    """The file of samples."""
    offsets: array[int]
    """The byte at which each sample's line starts."""
    rejected: tuple[BadLine, ...]
    left_out: Counter[str]
    """Reason -> number of samples that the caller has no use for."""
    sha256: str
    has_tracks_inside: bool = False

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Sample]:
        with self.path.open("rb") as file:
            for offset in self.offsets:
                yield self._read(file, offset)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        with self.path.open("rb") as file:
            return self._read(file, self.offsets[index])

    @cached_property
    def _root(self) -> Path:
        return self.path.parent.resolve()

    def _read(self, file: BinaryIO, offset: int) -> Sample:
        file.seek(offset)
        sample = _joined(Sample.model_validate_json(file.readline()), self._root)
        return track_files.with_inline_tracks(sample) if self.has_tracks_inside else sample


def open_lazy(name_or_folder: str, unusable: Callable[[Sample], str | None]) -> LazyDataset:
    """The samples of a data set, each checked once now and read again when it is used.

    Args:
        name_or_folder: As for `load`.
        unusable: Why a sample is of no use to the caller; None = it is.
    """
    name, path = _find(name_or_folder)
    rejected: list[BadLine] = []
    offsets, left_out = array("q"), Counter[str]()
    for start, sample in _placed(path, path.parent.resolve(), rejected):
        if reason := unusable(sample):
            left_out[reason] += 1
        else:
            offsets.append(start)
    sha256, unfinished = _digest(path)
    if unfinished is not None:
        rejected.append(_unfinished(unfinished))
    if not offsets:
        raise ValueError(f"no sample of {path} can be used ({dict(left_out)}, {_reasons(rejected)}): {_advice(name)}")
    return LazyDataset(path, offsets, tuple(sorted(rejected)), left_out, sha256)


def path_inside(folder: Path, relative: Path | PurePosixPath) -> Path:
    """The absolute path of `relative` below `folder`, not left by `..`, a root, or a link (see `links`)."""
    text = str(relative)
    is_foreign = "\\" in text or text[1:2] == ":" or any(ord(c) < 32 for c in text)
    if relative.is_absolute() or ".." in relative.parts or is_foreign:
        raise ValueError(f"path leaves its folder: expected one below it without '..', got {text[:200]!r}")
    root = folder.resolve()
    try:
        target = (root / relative).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"path cannot be followed: {text[:200]!r}, {error}") from error
    if not target.is_relative_to(root) and not links.is_allowed(target):
        raise ValueError(f"path leaves its folder: {text[:200]!r} is a link to {target}; {links.link_advice(target)}")
    return root / relative


def _find(name_or_folder: str) -> tuple[str, Path]:
    """(name, file of samples) of a name, of a folder, or of a file of samples itself."""
    if name_or_folder in DATASETS:
        path = _file_of(name_or_folder)
        links.note_data_set(path.parent)
        return name_or_folder, path
    path = Path(name_or_folder)
    if path.suffix != ".jsonl":
        if not path.is_dir():
            raise suggestions.unknown_name_message(
                "data set", name_or_folder, DATASETS, more="; or give an existing folder"
            )
        path /= "samples.jsonl"
    name = _name_of(path) or name_or_folder
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {path.name}: {_advice(name)}")
    links.note_data_set(path.parent)
    return name, path


def _file_of(name: str) -> Path:
    """The file of samples of a name in `DATASETS`, in the first root that has it."""
    row = DATASETS[name]
    path = prepared_file(name)
    if path is None:
        first, *others = [str(root / row.folder) for root in roots.searched(roots.DATA)]
        more = f"; searched too: {', '.join(others)}" if others else ""
        raise ValueError(f"data set {name!r} is not prepared: {first} has no {row.file}: {_advice(name)}{more}")
    return path


def prepared_file(name: str) -> Path | None:
    """The file of samples of a name in `DATASETS`, in our layout or the published one; None = it is not prepared."""
    paths = [root / place.folder / place.file for root in roots.searched(roots.DATA) for place in _places(name)]
    return next((path for path in paths if path.is_file()), None)


def _places(name: str) -> list[SampleFile]:
    """Where the samples of a name may lie below a root."""
    row = DATASETS[name]
    return [SampleFile(row.folder, row.file), *([IN_PLACE[name]] if name in IN_PLACE else [])]


def _name_of(path: Path) -> str | None:
    """The name in `DATASETS` of a file of samples below one of the roots."""
    for root in roots.searched(roots.DATA):
        for name in DATASETS:
            if any((root / place.folder / place.file).resolve() == path.resolve() for place in _places(name)):
                return name
    return None


def _advice(name: str) -> str:
    if name not in DATASETS:
        return "a data set folder holds one sample a line there (see `Sample` in evqa/schema.py)"
    row = DATASETS[name]
    script = roots.python_command(row.prepare.removeprefix("python "))
    download = f"`{roots.download_command(name)}`, then " if name in HUB else ""
    source = "" if row.source == MADE_HERE else f" (files from: {row.source}; see README.md in its folder)"
    return f"run {download}`{script}`{source}"


def download_advice(name: str) -> str:
    """The command that brings the videos of a data set."""
    row = DATASETS.get(name)
    if row is None:
        return f"put the videos where {name}/samples.jsonl names them, or write num_frames into each sample there"
    is_made = row.prepare.startswith("python data/shapes/")
    return f"run `{row.prepare}`" if is_made else f"run `bash scripts/download.sh {name}` and then `{row.prepare}`"


def _checked(path: Path, folder: Path, rejected: list[BadLine]) -> Iterator[Sample]:
    return (sample for _, sample in _placed(path, folder, rejected))


def _placed(path: Path, folder: Path, rejected: list[BadLine]) -> Iterator[tuple[int, Sample]]:
    """(first byte of its line, sample with checked paths)."""
    lines: dict[str, int] = {}
    for line, start, sample in numbered_records(path, Sample, rejected):
        if sample.id in lines:
            rejected.append(BadLine(line, f"duplicate id: {sample.id} is on line {lines[sample.id]} already"))
            continue
        try:
            checked = _with_paths(sample, folder)
        except ValueError as error:
            rejected.append(BadLine(line, str(error)))
            continue
        lines[sample.id] = line
        yield start, checked


def _inline(samples: Iterator[Sample], rejected: list[BadLine]) -> Iterator[Sample]:
    """Samples with their tracks inside them; one whose tracks cannot be read is rejected."""
    for sample in samples:
        try:
            yield track_files.with_inline_tracks(sample)
        except ValueError as error:
            rejected.append(BadLine(0, f"sample {sample.id}: {error}"))


def _cannot_be_inlined(rejected: list[BadLine]) -> Callable[[Sample], str | None]:
    """As `_inline`, for a catalogue: says why a sample is of no use, and rejects it."""

    def reason(sample: Sample) -> str | None:
        return None if next(_inline(iter([sample]), rejected), None) else "its tracks cannot be read"

    return reason


def _unfinished(line: int) -> BadLine:
    return BadLine(line, "the line has no end: whoever wrote it was stopped; prepare it again")


def _reasons(rejected: list[BadLine]) -> str:
    return "; ".join(f"line {bad.line}: {bad.reason}" for bad in rejected[:3]) or "the file is empty"


def _with_paths(sample: Sample, folder: Path) -> Sample:
    return sample.model_copy(
        update={
            "video": path_inside(folder, sample.video) if sample.has_video else NO_VIDEO,
            "masks": _folder_inside(folder, sample.masks),
            "objects": _folder_inside(folder, sample.objects),
            "track_file": _file_inside(folder, sample.track_file),
            "label_map": _file_inside(folder, sample.label_map),
            "mask_options": tuple(path_inside(folder, path) for path in sample.mask_options),
        }
    )


def _joined(sample: Sample, root: Path) -> Sample:
    """As `_with_paths`, for a sample whose paths were checked before."""
    paths = {name: root / path for name in PATHS if (path := getattr(sample, name)) not in {None, NO_VIDEO}}
    if sample.mask_options:
        paths["mask_options"] = tuple(root / path for path in sample.mask_options)
    return sample.model_copy(update=paths)


def _file_inside(folder: Path, relative: Path | None) -> Path | None:
    if relative is None:
        return None
    path = path_inside(folder, relative)
    if not path.is_file():
        raise ValueError(f"file is missing: {relative} in {folder}; fetch it, or prepare the data set again")
    return path


def _folder_inside(folder: Path, relative: Path | None) -> Path | None:
    if relative is None:
        return None
    path = path_inside(folder, relative)
    if not path.is_dir():
        raise ValueError(f"folder is missing: {relative} in {folder}; fetch it, or prepare the data set again")
    return path


def _digest(path: Path) -> tuple[str, int | None]:
    """SHA-256 of a file, and the number of its last line if that has no end."""
    sha256, newlines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(2**20):
            sha256.update(block)
            newlines, last = newlines + block.count(b"\n"), block[-1:]
    return sha256.hexdigest(), None if last == b"\n" else newlines + 1
