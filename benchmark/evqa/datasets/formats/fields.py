"""Helpers of the readers of annotation files: ids, paths, frames by name, errors per entry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from evqa import media
from evqa.datasets import path_inside
from evqa.datasets.formats.json_stream import array, text
from evqa.files.jsonl import BadEntry, BadLine, validation_message
from evqa.schema import check_id

Item = TypeVar("Item")
Result = TypeVar("Result")


def entry_id(*parts: object) -> str:
    """Build a sample id from the names that make an entry unique; characters not allowed in file names become `-`."""
    name = "_".join(str(part) for part in parts)
    return check_id(re.sub(r'[\x00-\x1f/\\:*?"<>|]', "-", name).lstrip("."))


def numbered_rows(
    items: Iterable[tuple[str, Item]], read: Callable[[Item], Result], bad: list[BadLine], first: int = 1
) -> Iterator[Result]:
    """Yield `read(item)` of each (name, item); a `ValueError` becomes a `BadEntry` with the item's number and name."""
    for number, (name, item) in enumerate(items, first):
        try:
            result = read(item)
        except ValidationError as error:
            bad.append(BadEntry(number, f"no sample: {name}, {validation_message(error)}", name))
        except ValueError as error:
            reason, colon, detail = str(error).partition(":")
            bad.append(BadEntry(number, f"{reason}: {name}{colon}{detail}", name))
        else:
            yield result


def place_of(folder: Path, *candidates: str) -> Path:
    """Return the first candidate below a folder that exists, relative to it; else the first candidate."""
    for candidate in candidates:
        if path_inside(folder, PurePosixPath(candidate)).exists():
            return Path(candidate)
    return Path(candidates[0])


def require(folder: Path, *candidates: str) -> Path:
    """Return the absolute path of the first candidate that exists; a `ValueError` lists the candidates."""
    path = path_inside(folder, place_of(folder, *candidates))
    if not path.exists():
        raise ValueError(f"{folder} has no {' or '.join(candidates)}: fetch it (see README.md there)")
    return path


def find_below(base: Path, name: object, field: str) -> Path:
    """Return a path from a file below a folder; a `ValueError` for one that leaves it."""
    relative = PurePosixPath(text(name, field))
    if not relative.name or len(str(relative)) > 1000:
        raise ValueError(f"{field} is no file name: got {str(name)[:80]!r}")
    path_inside(Path(), relative)
    return base / relative


class FrameFolder(NamedTuple):
    """Annotated frames of a folder of frames."""

    places: list[int]
    """Indices of the annotated frames."""
    total: int
    """Number of frames in the folder."""

    def subset(self, places: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """Return frame indices (default: all annotated) as `Sample.frames`: None = they are the whole video."""
        ordered = tuple(sorted(self.places if places is None else places))
        return None if len(ordered) == self.total else ordered


def frames_in(folder: Path, names: Sequence[str]) -> FrameFolder:
    """Return the indices of named frames in a folder of frames; 0, 1, ... if the folder does not exist yet."""
    if not folder.is_dir():
        return FrameFolder(list(range(len(names))), len(names))
    places = {name: place for place, name in enumerate(media.image_names(folder))}
    if missing := [name for name in names if name not in places]:
        raise ValueError(f"frames are missing: {len(missing)} of {len(names)}, the first is {missing[0]} in {folder}")
    return FrameFolder([places[name] for name in names], len(places))


def frame_names(value: object) -> list[str]:
    """Return frame names as file names without suffix."""
    names = [text(name, "name of a frame") for name in array(value, "frames")]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"frames are none or come twice: got {len(names)} names, {len(set(names))} of them different")
    return [name.rsplit(".", 1)[0] if re.search(r"\.(jpe?g|png)$", name, re.IGNORECASE) else name for name in names]


def by_key(entries: Mapping[str, object]) -> Iterator[tuple[str, tuple[str, object]]]:
    """Yield (name, (key, entry)) of a JSON object, the input of `numbered_rows`."""
    return ((key, (key, entry)) for key, entry in entries.items())
