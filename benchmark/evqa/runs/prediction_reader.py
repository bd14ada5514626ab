"""Reader of single prediction records from any source: a field that cannot be read costs only itself.

A record of our own is validated as it is. Another one is repaired: a field that does not validate is taken out and
named, so that the part of the prediction that it holds counts as unparsed, and everything else is scored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from evqa.datasets import path_inside
from evqa.files.jsonl import explain_detail, validation_message
from evqa.schema import VERSION, Prediction

Fields = dict[str, Any]
Location = tuple[int | str, ...]

IRRELEVANT: dict[str, frozenset[str]] = {
    "tracks": frozenset({"label", "score"}),
    "turns": frozenset({"usage", "finish", "letters"}),
}
"""Field that is a list of records -> their optional fields, which can be taken out alone."""

NO_REASON = "the record says that it failed, and not why"


class PredictionReading(NamedTuple):
    """A record, and what of it could not be read."""

    prediction: Prediction
    problems: tuple[str, ...] = ()
    """`field: what is wrong`, one each."""


def read_prediction(line: bytes) -> PredictionReading:
    """The record of a line of JSON Lines; a `ValueError` where not even its sample can be read."""
    try:
        reading = PredictionReading(Prediction.model_validate_json(line))
    except ValidationError as error:
        reading = _repaired(line, error)
    return _inside(reading)


def _inside(reading: PredictionReading) -> PredictionReading:
    """The reading without a mask folder that leaves the folder of the file."""
    folder = reading.prediction.mask_folder
    if folder is None:
        return reading
    try:
        path_inside(Path(), folder)
    except ValueError as error:
        prediction = reading.prediction.replace(mask_folder=None)
        return PredictionReading(prediction, (*reading.problems, f"mask_folder: {error}"))
    return reading


def _repaired(line: bytes, error: ValidationError) -> PredictionReading:
    """The record without what does not validate; `error`: of the first attempt."""
    text = line.decode("utf-8", "replace")
    problems = [] if text.encode() == line else ["record: it is not UTF-8; the wrong bytes are replaced"]
    fields = _object(text)
    if fields is None:
        raise ValueError(validation_message(error)) from error
    _settle_identity(fields, problems)
    _settle_status(fields, problems)
    _settle_masks(fields, problems)
    return PredictionReading(_validated(fields, problems), tuple(problems))


def _object(text: str) -> Fields | None:
    """The fields of a JSON object; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("Fields", value) if isinstance(value, dict) else None


def _settle_identity(fields: Fields, problems: list[str]) -> None:
    """The sample's id as text, and the version; a record of another version is refused."""
    sample, version = fields.get("sample"), fields.get("version", VERSION)
    if isinstance(sample, int) and not isinstance(sample, bool):
        fields["sample"] = str(sample)
    is_number = isinstance(version, int) and not isinstance(version, bool)
    if is_number and version != VERSION:
        raise ValueError(f"version: expected {VERSION}, got {version}: write it with this version of evqa")
    if not is_number:
        problems.append(f"version: expected {VERSION}, got {str(version)[:80]!r}")
        del fields["version"]


def _settle_status(fields: Fields, problems: list[str]) -> None:
    """Status and error that fit each other: an unreadable status is a failure where there is an error."""
    status, error = fields.get("status"), fields.get("error")
    if status not in ("ok", "failed"):
        problems.append(f"status: expected 'ok' or 'failed', got {str(status)[:80]!r}")
        status = fields["status"] = "ok" if error is None else "failed"
    if status == "failed" and not (isinstance(error, str) and error):
        problems.append(f"error: status 'failed' does not fit error {str(error)[:80]}: a failure has a reason")
        fields["error"] = NO_REASON
    if status == "ok" and error is not None:
        problems.append(f"error: status 'ok' does not fit error {str(error)[:80]!r}")
        fields["error"] = None


def _settle_masks(fields: Fields, problems: list[str]) -> None:
    """Masks in one form; in two they can be read in two ways, and are not."""
    if fields.get("tracks") is not None and fields.get("mask_folder") is not None:
        problems.append("tracks: masks are given either as tracks or as a mask_folder, got both")
        fields["tracks"] = fields["mask_folder"] = None


def _validated(fields: Fields, problems: list[str]) -> Prediction:
    """The record of what validates; every round takes out at least one field."""
    while True:
        try:
            return Prediction.model_validate(fields)
        except ValidationError as error:
            details = error.errors(include_url=False)
            taken = {_unreadable(detail["loc"], detail["type"]): explain_detail(detail) for detail in reversed(details)}
            if any(location in {(), ("sample",), ("status",)} for location in taken):
                raise ValueError(validation_message(error)) from error
            for location in sorted(taken, key=len, reverse=True):
                _take_out(fields, location)
                problems.append(taken[location])


def _unreadable(location: Location, kind: str) -> Location:
    """The smallest part of the record that can be left out for an error."""
    if kind == "extra_forbidden" and (len(location) == 1 or location[0] not in {"spans", "boxes"}):
        return location
    if len(location) > 2 and location[2] in IRRELEVANT.get(str(location[0]), ()):
        return location[:3]
    return location[:1]


def _take_out(fields: Fields, location: Location) -> None:
    """Remove what a location names, if it is still there."""
    *parents, last = location
    place: Any = fields
    for key in parents:
        if not isinstance(place, dict | list) or (isinstance(place, dict) and key not in place):
            return
        place = cast("Any", place)[key]
    if isinstance(place, dict):
        cast("Fields", place).pop(str(last), None)
