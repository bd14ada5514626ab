"""What readers of annotation files share: ids, places of files, frames by name, one bad entry costing only itself."""

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
    """An id from the names that make an entry unique; what no file name can hold becomes `-`."""
    joined = "_".join(str(part) for part in parts)
    return check_id(re.sub(r'[\x00-\x1f/\\:*?"<>|]', "-", joined).lstrip("."))


def numbered_rows(
    items: Iterable[tuple[str, Item]], read: Callable[[Item], Result], bad: list[BadLine], first: int = 1
) -> Iterator[Result]:
    """What `read` makes of each (name, item); a `ValueError` becomes a `BadLine` with the item's number and name."""
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
    """The first of the candidates below a folder that exists, relative to it; else the first of all."""
    for candidate in candidates:
        if path_inside(folder, PurePosixPath(candidate)).exists():
            return Path(candidate)
    return Path(candidates[0])


def require(folder: Path, *candidates: str) -> Path:
    """The absolute path of the first candidate that exists, or a `ValueError` that names them."""
    found = path_inside(folder, place_of(folder, *candidates))
    if not found.exists():
        raise ValueError(f"{folder} has no {' or '.join(candidates)}: fetch it (see README.md there)")
    return found


def find_below(base: Path, name: object, what: str) -> Path:
    """A path that a file names, below a folder; it may not leave it."""
    relative = PurePosixPath(text(name, what))
    if not relative.name or len(str(relative)) > 1000:
        raise ValueError(f"{what} is no file name: got {str(name)[:80]!r}")
    path_inside(Path(), relative)
    return base / relative


class FrameFolder(NamedTuple):
    """Frames that a file names, in their folder."""

    places: list[int]
    """Their frame indices."""
    total: int
    """Frames of the folder."""

    def subset(self, places: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """These (or the given) frame indices as `Sample.frames`: None where they are the whole video."""
        ordered = tuple(sorted(self.places if places is None else places))
        return None if len(ordered) == self.total else ordered


def frames_in(folder: Path, names: Sequence[str]) -> FrameFolder:
    """Where each named frame is in a folder of frames; in their order where the folder is not there yet."""
    if not folder.is_dir():
        return FrameFolder(list(range(len(names))), len(names))
    places = {name: place for place, name in enumerate(media.image_names(folder))}
    if missing := [name for name in names if name not in places]:
        raise ValueError(f"frames are missing: {len(missing)} of {len(names)}, the first is {missing[0]} in {folder}")
    return FrameFolder([places[name] for name in names], len(places))


def frame_names(value: object) -> list[str]:
    """A list of frame names as their file names without suffix."""
    names = [text(name, "name of a frame") for name in array(value, "frames")]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"frames are none or come twice: got {len(names)} names, {len(set(names))} of them different")
    return [name.rsplit(".", 1)[0] if re.search(r"\.(jpe?g|png)$", name, re.IGNORECASE) else name for name in names]


def by_key(entries: Mapping[str, object]) -> Iterator[tuple[str, tuple[str, object]]]:
    """(name, (key, entry)) of an object, as `numbered_rows` takes it."""
    return ((key, (key, entry)) for key, entry in entries.items())
