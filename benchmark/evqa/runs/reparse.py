"""Stored replies through the parser again: a better parser never costs a model call.

`predictions.jsonl` is written anew beside itself and then put in its place, and the old file is kept as
`predictions.before-reparse-1.jsonl` and so on. Masks, costs, failures and replies stay as they are, and so does, byte
for byte, a line that is no record: it is named.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pydantic import ValidationError

from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.files.jsonl import Line
from evqa.parsing import replies
from evqa.runs import run_folder
from evqa.schema import LETTERS, Prediction, Sample, Spans

FIELDS = ("answer", "spans", "expressions", "time_choice", "mask_choice")
"""What the parser reads."""


MAX_NAMED = 20
"""So many broken lines are shown."""


@dataclass(frozen=True)
class ReparseSummary:
    """What parsing again changed."""

    path: Path
    kept: Path | None
    """The old file; None where nothing changed, and nothing was written."""
    records: int
    changed: dict[str, int]
    """Field -> records in which it changed,"""
    gained: dict[str, int]
    """that could not be read before,"""
    lost: dict[str, int]
    """that cannot be read any more."""
    left: int
    """Records left as they are: failed ones, ones without a reply, samples that the data set does not have."""
    broken: tuple[str, ...]
    """Lines that are no records, by file, line and field."""

    def summary(self) -> str:
        """Counts, one line a field."""
        lines = [f"{self.path}: {self.records} records, {self.left} without a reply to parse"]
        lines += [
            f"  {field}: {count} changed ({self.gained.get(field, 0)} could not be read before, "
            f"{self.lost.get(field, 0)} cannot any more)"
            for field, count in self.changed.items()
        ]
        lines += [f"  {problem}; the line stays as it is" for problem in self.broken[:MAX_NAMED]]
        if len(self.broken) > MAX_NAMED:
            lines.append(f"  ... and {len(self.broken) - MAX_NAMED} more lines that are no records")
        lines.append(f"the old file is {self.kept}" if self.kept else "nothing changed, and nothing was written")
        return "\n".join(lines)


def reparse(folder: Path, dataset: Dataset) -> ReparseSummary:
    """Parse every stored reply of a run again. A run that is being written to is refused."""
    path = _predictions(folder)
    samples = {sample.id: sample for sample in dataset.samples}
    counts: Counter[tuple[str, str]] = Counter()
    broken: list[str] = []
    with run_folder.run_lock(folder, has_out=False), run_folder.user_errors_of_disk(folder, has_out=False):
        fresh = path.with_name(f"{path.name}.reparsed")
        with path.open("rb") as old, jsonl.replace_file(fresh) as new:
            for line in jsonl.lines(path):
                try:
                    prediction = _record(line)
                except ValueError as error:
                    reason = jsonl.validation_message(error) if isinstance(error, ValidationError) else str(error)
                    broken.append(f"{path}:{line.number} is no Prediction: {reason}"[:1000])
                    _copy(old, line, new)
                else:
                    new.write(_again(prediction, samples, counts).model_dump_json().encode() + b"\n")
        has_changed = any(kind == "changed" for kind, _ in counts)
        kept = _keep(path, fresh) if has_changed else None
        fresh.unlink(missing_ok=True)
    return ReparseSummary(
        path=path,
        kept=kept,
        records=counts["records", ""],
        changed=_of("changed", counts),
        gained=_of("gained", counts),
        lost=_of("lost", counts),
        left=counts["left", ""],
        broken=tuple(broken),
    )


def explained(folder: Path, dataset: Dataset, sample_id: str) -> str:
    """Of the last record of a sample: each field that was asked for, its rule and the text that the rule matched."""
    path = _predictions(folder)
    sample = next((sample for sample in dataset.samples if sample.id == sample_id), None)
    if sample is None:
        raise ValueError(f"{dataset.name} has no sample {sample_id!r}: give an id of its samples.jsonl to --explain")
    prediction = _last_record(path, sample_id)
    lines = [f"sample {sample.id}: {sample.question.strip()}"]
    for field, reading in replies.explain_turns(prediction.turns, sample).items():
        stored = getattr(prediction, field)
        lines.append(f"  {field}: {_shown(field, reading.value, sample)}")
        lines.append(f"    rule: {reading.rule or 'none fits'}")
        if reading.text:
            lines.append(f"    text: {' '.join(reading.text.split())}")
        if stored != reading.value:
            lines.append(f"    stored: {_shown(field, stored, sample)}; `evqa reparse {folder}` replaces it")
    if len(lines) == 1:
        lines.append(f"  no reply to parse: the prediction has status {prediction.status!r}, {prediction.error}")
    return "\n".join(lines)


def _last_record(path: Path, sample_id: str) -> Prediction:
    found: Prediction | None = None
    for line in jsonl.lines(path):
        try:
            prediction = _record(line)
        except ValueError:
            continue
        found = prediction if prediction.sample_id == sample_id else found
    if found is None:
        raise ValueError(f"{path} has no prediction for the sample {sample_id!r}: predict it first")
    return found


def _shown(field: str, value: object, sample: Sample) -> str:
    if value is None:
        return "unparsed"
    if field in ("answer", "time_choice", "mask_choice") and isinstance(value, int):
        text = sample.options[value] if field == "answer" and value < len(sample.options) else ""
        return f"{LETTERS[value]} {text}".strip()
    if field == "spans":
        return str([list(span) for span in cast("Spans", value)])
    return str(list(cast("tuple[str, ...]", value)))


def _predictions(folder: Path) -> Path:
    path = folder / run_folder.PREDICTIONS
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no run with {run_folder.PREDICTIONS}: give a folder that `evqa predict` wrote"
        )
    return path


def reparse_prediction(prediction: Prediction, sample: Sample) -> Prediction:
    """The prediction with what its stored replies say now."""
    asked = {ask for turn in prediction.turns for ask in turn.answer_fields}
    found = replies.parse_turns(prediction.turns, sample)._asdict()
    return prediction.replace(**{field: found[field] for field in FIELDS if field in asked})


def _record(line: Line) -> Prediction:
    if line.content is None:
        raise ValueError(f"the line is longer than {jsonl.MAX_LINE_BYTES} bytes")
    return Prediction.model_validate_json(line.content)


def _copy(old: BinaryIO, line: Line, new: BinaryIO) -> None:
    """A line as it is, a block at a time; the last one gets its end."""
    old.seek(line.place)
    left, block = line.end - line.place, b""
    while left > 0:
        block = old.read(min(left, 2**20))
        left -= len(block)
        new.write(block)
    if not block.endswith(b"\n"):
        new.write(b"\n")


def _again(prediction: Prediction, samples: dict[str, Sample], counts: Counter[tuple[str, str]]) -> Prediction:
    counts["records", ""] += 1
    sample = samples.get(prediction.sample_id)
    if sample is None or prediction.status == "failed" or not prediction.turns:
        counts["left", ""] += 1
        return prediction
    again = reparse_prediction(prediction, sample)
    for field in FIELDS:
        before, now = getattr(prediction, field), getattr(again, field)
        if before != now:
            counts["changed", field] += 1
            counts["gained", field] += before is None
            counts["lost", field] += now is None
    return again


def _of(kind: str, counts: Counter[tuple[str, str]]) -> dict[str, int]:
    return {field: counts[kind, field] for field in FIELDS if counts[kind, field]}


def _keep(path: Path, fresh: Path) -> Path:
    """Put the fresh file in the old one's place, which keeps another name. At no time is there neither."""
    number = 1
    while (kept := path.with_name(f"{path.stem}.before-reparse-{number}.jsonl")).exists():
        number += 1
    os.link(path, kept)
    fresh.replace(path)
    return kept
