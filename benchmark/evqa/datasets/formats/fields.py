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
from evqa.schema import LETTERS, check_id

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


MAX_QUESTION_LINES = 200
"""Limit of the lines of a question with its options."""

_OPTION_LINE = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[.):])\s*(.*)")
_INLINE_OPTION = re.compile(r"\(([A-Z])\)")


def split_options(words: str) -> tuple[str, tuple[str, ...]]:
    """Return (question, options) of a text with the options below the question or behind it.

    Options are lines `(A) text`, `A. text` or `A) text`, from A on without a gap; a line without a letter continues
    the option above it, and a line `Options:` in front is dropped. Options in one line are `(A) text (B) text`.

    Raises:
        ValueError: There is no question, or there are fewer than two options.
    """
    lines = words.strip().splitlines()
    if len(lines) > MAX_QUESTION_LINES:
        raise ValueError(f"question has too many lines: expected up to {MAX_QUESTION_LINES}, got {len(lines)}")
    starts = [place for place, line in enumerate(lines) if _letter_of(line) == "A"]
    for start in reversed(starts):
        options = _option_lines(lines[start:])
        if options is not None:
            return _question_with(lines[:start], options)
    first, *pieces = _INLINE_OPTION.split(words.strip())
    if len(pieces) >= 4 and "".join(pieces[::2]) == LETTERS[: len(pieces) // 2]:
        return _question_with(first.splitlines(), [piece.strip() for piece in pieces[1::2]])
    raise ValueError(f"question has no list of options: got {words[:80]!r}")


def _letter_of(line: str) -> str | None:
    match = _OPTION_LINE.fullmatch(line)
    return (match[1] or match[2]) if match else None


def _option_lines(lines: Sequence[str]) -> list[str] | None:
    """Return the options of lines that begin with the first one; None = the letters have a gap, or there is one."""
    is_bracketed = lines[0].lstrip().startswith("(")
    options: list[str] = []
    for line in lines:
        match = _OPTION_LINE.fullmatch(line) if line.lstrip().startswith("(") == is_bracketed else None
        letter = (match[1] or match[2]) if match else None
        if match and letter == LETTERS[len(options) : len(options) + 1]:
            options.append(match[3].strip())
        elif match and is_bracketed:
            return None
        else:
            options[-1] = f"{options[-1]} {line.strip()}".strip()
    return options if len(options) > 1 else None


def _question_with(lines: Sequence[str], options: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    kept_lines = lines[:-1] if lines and lines[-1].strip().lower() in {"options:", "options"} else lines
    question = "\n".join(kept_lines).strip()
    if not question or not all(options):
        raise ValueError(f"question or an option is empty: got {question[:80]!r} with options {list(options)}")
    return question, tuple(options)


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
