"""Reader of prediction records: invalid fields are dropped, valid ones are kept.

A valid record is returned unchanged. In any other record each invalid field is removed and reported: this part of the
prediction counts as unparsed, and everything else is scored.
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
"""Field with a list of records -> optional fields of these records, which can be removed alone."""

NO_REASON = "the record says that it failed, and not why"


class PredictionReading(NamedTuple):
    """A prediction, and the problems of its record."""

    prediction: Prediction
    problems: tuple[str, ...] = ()
    """One text for each problem, `field: problem`."""


def read_prediction(line: bytes) -> PredictionReading:
    """Read a prediction from a line of JSON Lines. `ValueError`: its sample cannot be read."""
    try:
        reading = PredictionReading(Prediction.model_validate_json(line))
    except ValidationError as error:
        reading = _repaired(line, error)
    return _without_unsafe_folder(reading)


def _without_unsafe_folder(reading: PredictionReading) -> PredictionReading:
    """Return the reading without a mask folder outside of the folder of the file."""
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
    """Return the prediction without the invalid fields; `error` is that of the first validation."""
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
    """Return the fields of a JSON object; None = it is not an object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("Fields", value) if isinstance(value, dict) else None


def _settle_identity(fields: Fields, problems: list[str]) -> None:
    """Convert the sample id to text and check the version. `ValueError`: the record has another version."""
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
    """Make status and error consistent: an invalid status is "failed" if there is an error."""
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
    """Remove tracks and mask folder if a record has both, which may contradict each other."""
    if fields.get("tracks") is not None and fields.get("mask_folder") is not None:
        problems.append("tracks: masks are given either as tracks or as a mask_folder, got both")
        fields["tracks"] = fields["mask_folder"] = None


def _validated(fields: Fields, problems: list[str]) -> Prediction:
    """Return the prediction of the valid fields; every iteration removes at least one field."""
    while True:
        try:
            return Prediction.model_validate(fields)
        except ValidationError as error:
            details = error.errors(include_url=False)
            problem_of = {
                _unreadable(detail["loc"], detail["type"]): explain_detail(detail) for detail in reversed(details)
            }
            if any(location in {(), ("sample",), ("status",)} for location in problem_of):
                raise ValueError(validation_message(error)) from error
            for location in sorted(problem_of, key=len, reverse=True):
                _remove(fields, location)
                problems.append(problem_of[location])


def _unreadable(location: Location, kind: str) -> Location:
    """Return the location of the smallest part of the record that can be removed for an error."""
    if kind == "extra_forbidden" and (len(location) == 1 or location[0] not in {"spans", "boxes"}):
        return location
    if len(location) > 2 and location[2] in IRRELEVANT.get(str(location[0]), ()):
        return location[:3]
    return location[:1]


def _remove(fields: Fields, location: Location) -> None:
    """Remove the value at a location, if it exists."""
    *parents, last = location
    value: Any = fields
    for key in parents:
        if not isinstance(value, dict | list) or (isinstance(value, dict) and key not in value):
            return
        value = cast("Any", value)[key]
    if isinstance(value, dict):
        cast("Fields", value).pop(str(last), None)
