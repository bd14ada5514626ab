"""Validated reading of external JSON and JSON Lines files.

Fields that scoring does not need are ignored; a record that lacks a required one is excluded with a note.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from evqa.files.jsonl import MAX_LINE_BYTES, validation_message

MAX_FILE_BYTES = 2**31
"""A prediction file that is read at once is smaller."""


class ExternalRecord(BaseModel):
    """Record of another benchmark: the fields that scoring needs, with finite numbers; other fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, coerce_numbers_to_str=True)


def _or_none(value: object, read: ValidatorFunctionWrapHandler) -> object:
    try:
        return read(value)
    except ValidationError:
        return None


OR_NONE = WrapValidator(_or_none)
"""A prediction in a record that holds its gold too: an unreadable value is None, and the record still counts."""

Window = tuple[float, float] | tuple[float, float, float]
"""`[start, end]` or `[start, end, score]`."""

AnyRecord = TypeVar("AnyRecord", bound=ExternalRecord)


def read_json(path: Path) -> object:
    """The value of a JSON file."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def read_text(path: Path) -> str:
    """A UTF-8 file of bounded size."""
    if not path.is_file():
        raise ValueError(f"{path} is no file" if path.exists() else f"no such file: {path}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected at most {MAX_FILE_BYTES}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}, byte {error.start}): save it as UTF-8") from error


def read_records(path: Path, kind: type[AnyRecord], notes: list[str]) -> list[AnyRecord]:
    """The records of a JSON list or of JSON Lines; other entries are noted by their place."""
    text = read_text(path)
    if text.lstrip()[:1] != "[":
        return list(_lines(path, text, kind, notes))
    entries = cast("list[object]", read_json(path))
    records = [validate_record(entry, kind, f"{path.name} entry {place}", notes) for place, entry in enumerate(entries)]
    return [record for record in records if record is not None]


def read_keyed(path: Path) -> dict[str, object]:
    """The entries of a JSON object by key."""
    entries = as_object(read_json(path))
    if entries is None:
        raise ValueError(f"{path} is no JSON object with a key for each question")
    return entries


def read_valid(path: Path, kind: type[AnyRecord], notes: list[str]) -> dict[str, AnyRecord]:
    """The valid entries of a JSON object by key; the problems of the others are appended to `notes`."""
    entries = (
        (key, validate_record(value, kind, f"{path.name} {key}", notes)) for key, value in read_keyed(path).items()
    )
    return {key: record for key, record in entries if record is not None}


def read_under(path: Path, key: str) -> list[object]:
    """The list under a key of a JSON object."""
    entries = as_list(read_keyed(path).get(key))
    if entries is None:
        raise ValueError(f'{path} has no list of "{key}": is it a file of this format?')
    return entries


def as_list(value: object) -> list[object] | None:
    """A list of JSON, None for anything else."""
    return cast("list[object]", value) if isinstance(value, list) else None


def as_object(value: object) -> dict[str, object] | None:
    """Return a JSON object; None = another value."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def validate_record(entry: object, kind: type[AnyRecord], location: str, notes: list[str]) -> AnyRecord | None:
    """Validate a record; None = invalid, and the problem is appended to `notes`."""
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        notes.append(f"{location} is left out: {validation_message(error)[:300]}")
        return None


def _lines(path: Path, text: str, kind: type[AnyRecord], notes: list[str]) -> Iterator[AnyRecord]:
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"{path}:{number} is longer than {MAX_LINE_BYTES} characters")
        if not line.strip():
            continue
        try:
            yield kind.model_validate_json(line)
        except ValidationError as error:
            notes.append(f"{path.name}:{number} is left out: {validation_message(error)[:300]}")
