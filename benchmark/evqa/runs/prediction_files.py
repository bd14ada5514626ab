"""Any file of predictions: finds out which form it has, and gives the prediction of a sample when it is asked for.

Our records (JSON Lines) are indexed in one pass and read again from their place, so that memory holds one record
at a time, however many the file has. A field that cannot be read is named and counted, and costs nothing else; of a
record that cannot be read the sample counts as failed, unless another record of it is whole.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ValidationError

from evqa import masks
from evqa.datasets import Dataset, path_inside
from evqa.files.jsonl import MAX_LINE_BYTES, Line, lines
from evqa.metrics.case import GoldField, prediction_has
from evqa.official import original
from evqa.official.json_entries import Entry, entries
from evqa.runs.prediction_reader import PredictionReading, read_prediction
from evqa.schema import AnswerField, Prediction, Sample, Track

Form = Literal["records", "original-gen", "original-mcq"]

FORMS: dict[Form, str] = {
    "records": "our records, one a line",
    "original-gen": "the original's generative form",
    "original-mcq": "the original's multiple-choice form",
}

NEEDS: dict[AnswerField, tuple[GoldField, ...]] = {
    "answer": ("answer",),
    "spans": ("spans",),
    "expressions": ("masks", "objects", "boxes"),
    "masks": ("masks", "objects", "boxes"),
    "time_choice": ("time_choice",),
    "mask_choice": ("mask_choice",),
}
"""What a prompt asks for -> what metrics need of the prediction."""

NOWHERE = -1
"""In place of the first byte of a record that the file does not have."""

MAX_PROBLEMS = 1000
"""So many are kept by name; all are counted."""

SNIFF_BYTES = 2**16
FILE_KEYS = {field.alias or name for name, field in Prediction.model_fields.items()}
"""Keys of a record in a file."""
_FIRST_KEY = re.compile(rb'\{\s*"([^"\\]{1,100})"')
MAX_SNIFFED = 1000
"""Entries that are looked at to tell the two forms of the original apart."""


@dataclass
class ReadProblems:
    """What could not be read."""

    count: int = 0
    first: list[str] = field(default_factory=list[str])

    def add(self, problem: str) -> None:
        """Count a problem, and keep it if it is among the first."""
        self.count += 1
        if len(self.first) < MAX_PROBLEMS:
            self.first.append(problem[:1000])


@dataclass(frozen=True)
class PredictionFile:
    """The predictions of a file, for the samples of a data set."""

    path: Path
    form: Form
    masks: Path | None
    """Folder with `<id>/masks/%05d.png`, where masks lie beside the file."""
    read: Callable[[Sample], Prediction | None]
    """The last whole record of a sample; None where there is none."""
    num_records: int
    duplicates: int
    """Records that a later one for the same sample replaces."""
    unknown: int
    """Records of samples that the data set does not have."""
    problems: ReadProblems
    asked: frozenset[GoldField] | None = None
    """What the model was asked for, as far as the file tells; None = anything. The rest is not scored."""

    def get(self, sample: Sample) -> Prediction | None:
        """The prediction of a sample; masks that lie in a folder stay there, for whoever reads them frame by frame."""
        prediction = self.read(sample)
        if prediction is None or prediction.status == "failed":
            return None if prediction is None else prediction.replace(mask_folder=None)
        prediction = self._without_unknown_choices(prediction, sample)
        if prediction.tracks is not None:
            return prediction
        try:
            folder = self._mask_folder(prediction)
            if prediction.mask_folder is not None and not (folder and folder.is_dir()):
                return self._without_masks(prediction, f"{prediction.mask_folder} is no folder beside the file")
            has_masks = folder is not None and folder.is_dir() and bool(masks.read_folder(folder))
        except ValueError as error:
            return self._without_masks(prediction, error)
        return prediction.replace(mask_folder=folder if has_masks else None)

    def get_whole(self, sample: Sample) -> Prediction | None:
        """As `get`, with the masks of a folder as one track."""
        prediction = self.get(sample)
        if prediction is None or prediction.mask_folder is None:
            return prediction
        try:
            frames = {
                index: masks.encode(masks.read_png(path))
                for index, path in masks.read_folder(prediction.mask_folder).items()
            }
        except ValueError as error:
            return self._without_masks(prediction, error)
        sizes = {rle.size for rle in frames.values()}
        return prediction.replace(
            mask_folder=None,
            tracks=(Track(masks={index: rle for index, rle in frames.items() if masks.area(rle)}),),
            mask_size=sizes.pop() if len(sizes) == 1 else None,
            mask_frames=tuple(frames),
            num_frames=prediction.num_frames or max(frames) + 1,
        )

    def lying_masks(self, sample: Sample) -> Path | None:
        """The folder of masks that an original's evaluator scores for a sample, whatever the file says of it."""
        if self.form != "original-gen":
            return None
        prediction = self.read(sample) or Prediction(sample_id=sample.id, status="ok")
        try:
            folder = self._mask_folder(prediction)
            return folder if folder is not None and folder.is_dir() and masks.read_folder(folder) else None
        except ValueError:
            return None

    def all(self, dataset: Dataset) -> Iterator[Prediction]:
        """The whole prediction of every sample that has one, in the order of the data set."""
        return (found for sample in dataset.samples if (found := self.get_whole(sample)) is not None)

    def describe(self) -> str:
        """What the file was found to be, in a line."""
        beside = f", masks in {self.masks}" if self.masks else ""
        return f"{self.path}: {FORMS[self.form]}, {self.num_records} records{beside}"

    def _mask_folder(self, prediction: Prediction) -> Path | None:
        if prediction.mask_folder is not None:
            return path_inside(self.path.parent, prediction.mask_folder)
        return None if self.masks is None else path_inside(self.masks, Path(prediction.sample_id, "masks"))

    def _without_unknown_choices(self, prediction: Prediction, sample: Sample) -> Prediction:
        """Choices of options that the sample does not have are named and count as unparsed."""
        options = {"answer": sample.options, "time_choice": sample.time_options, "mask_choice": sample.mask_options}
        unknown = {
            name: chosen
            for name, given in options.items()
            if (chosen := getattr(prediction, name)) is not None and not 0 <= chosen < len(given)
        }
        for name, chosen in unknown.items():
            self.problems.add(
                f"{self.path}: key {sample.id}: {name}: {chosen} is no index, from 0, into {len(options[name])} options"
            )
        return prediction.replace(**dict.fromkeys(unknown)) if unknown else prediction

    def _without_masks(self, prediction: Prediction, error: ValueError | str) -> Prediction:
        self.problems.add(f"{self.path}: key {prediction.sample_id}: masks: {error}")
        return prediction.replace(mask_folder=None)


def open_predictions(path: Path, dataset: Dataset, masks_in: Path | None = None) -> PredictionFile:
    """The predictions in a file, whichever form it has; `masks_in` names the folder of masks of an original's file."""
    if not path.is_file():
        raise ValueError(f"{path} is no file of predictions: nothing is there")
    form = form_of(path)
    if masks_in is not None and (form == "records" or not masks_in.is_dir()):
        why = "is no folder" if form != "records" else "does not belong to our records, which name their masks"
        raise ValueError(f"--masks {masks_in} {why}: leave it out, or name the folder with <id>/masks/00000.png in it")
    return _records(path, dataset) if form == "records" else _original(path, form, dataset, masks_in)


def form_of(path: Path) -> Form:
    """Which form a file has: by its ending, its first characters, and the keys of its first entries."""
    with path.open("rb") as file:
        start = file.read(SNIFF_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    if path.suffix == ".jsonl" or not start:
        return "records"
    if not start.startswith(b"{"):
        raise ValueError(
            f"{path} holds no predictions: expected our records, one a line, or a JSON object of entries as the "
            f"original writes it; it starts with {start[:20]!r}"
        )
    key = _FIRST_KEY.match(start)
    if key and key[1].decode("utf-8", "replace") in FILE_KEYS:
        return "records"
    for number, entry in enumerate(entries(path)):
        is_choice = original.is_multiple_choice(entry.value)
        if is_choice is not None:
            return "original-mcq" if is_choice else "original-gen"
        if number >= MAX_SNIFFED:
            break
    return "original-gen"


# Our records


class _RecordHead(BaseModel):
    sample: str


def _records(path: Path, dataset: Dataset) -> PredictionFile:
    places = {sample.id: place for place, sample in enumerate(dataset.samples)}
    starts = array("q", [NOWHERE]) * len(places)
    damaged: set[int] = set()
    asks = _RequiredFields()
    broken: dict[str, str] = {}
    problems = ReadProblems()
    total = duplicates = unknown = 0
    for line in lines(path):
        total += 1
        try:
            prediction, unread = _record(line)
        except ValueError as error:
            reason = f"{path}:{line.number}: {error}"
            problems.add(reason)
            if (name := _name_in(line.content)) in places:
                broken[name] = reason[:1000]
            continue
        for problem in unread:
            problems.add(f"{path}:{line.number}: {problem}")
        place = places.get(prediction.sample_id)
        if place is None:
            unknown += 1
            continue
        is_first = starts[place] == NOWHERE
        if unread and not is_first and place not in damaged:
            continue  # a record that is whole stays
        damaged.add(place) if unread else damaged.discard(place)
        duplicates += not is_first
        starts[place] = line.place
        asks.add(prediction)
    return PredictionFile(
        path=path,
        form="records",
        masks=None,
        read=partial(_read_record, path, places, starts, broken),
        num_records=total,
        duplicates=duplicates,
        unknown=unknown,
        problems=problems,
        asked=asks.needs(),
    )


def _record(line: Line) -> PredictionReading:
    if line.content is None:
        raise ValueError(f"the line is longer than {MAX_LINE_BYTES} bytes")
    return read_prediction(line.content)


@dataclass
class _RequiredFields:
    """What the prompts of all predictions asked for, and what they have without being asked."""

    known: set[GoldField] = field(default_factory=set[GoldField])
    is_told: bool = True
    """Whether every prediction says what it was asked; one that failed before its first prompt need not."""

    def add(self, prediction: Prediction) -> None:
        """One more prediction."""
        self.known |= needs_of(ask for turn in prediction.turns for ask in turn.answer_fields)
        self.known.update(need for need in get_args(GoldField) if prediction_has(prediction, need))
        self.is_told &= bool(prediction.turns) or prediction.status == "failed"

    def needs(self) -> frozenset[GoldField] | None:
        """None where it is not told."""
        return frozenset(self.known) if self.known and self.is_told else None


def needs_of(asks: Iterable[AnswerField]) -> frozenset[GoldField]:
    """What metrics can be scored of replies to these prompts."""
    return frozenset(need for ask in asks for need in NEEDS[ask])


def _name_in(line: bytes | None) -> str:
    """The sample that a broken record names, "" where it does not."""
    try:
        return _RecordHead.model_validate_json(line or b"").sample
    except ValidationError:
        return ""


def _read_record(
    path: Path, places: dict[str, int], starts: array[int], broken: dict[str, str], sample: Sample
) -> Prediction | None:
    start = starts[places[sample.id]]
    if start == NOWHERE:
        reason = broken.get(sample.id)
        return None if reason is None else Prediction(sample_id=sample.id, status="failed", error=reason)
    with path.open("rb") as file:
        file.seek(start)
        return read_prediction(file.readline()).prediction


# The original's files


def _original(path: Path, form: Form, dataset: Dataset, masks_in: Path | None) -> PredictionFile:
    samples = {sample.id: sample for sample in dataset.samples}
    found: dict[str, Prediction] = {}
    problems = ReadProblems()
    total = duplicates = unknown = 0
    alone = original.question_of_file(path)
    asked: set[GoldField] = set()
    for entry in entries(path):
        total += entry.error is None
        where = f"{path}:{entry.line}: key {entry.key!r}"
        sample = samples.get(entry.key or "")
        if entry.error is not None or entry.note is not None:
            problems.add(f"{where}: {entry.error or entry.note}")
        if sample is None:
            unknown += entry.error is None
            continue
        if entry.error is not None:
            failed = Prediction(sample_id=sample.id, status="failed", error=f"{where}: {entry.error}"[:1000])
            found.setdefault(sample.id, failed)
            continue
        reading = _reading(sample, entry, form, alone)
        asked.update(original.questions_of(entry.value, alone) if form == "original-mcq" else ())
        for problem in reading.problems:
            problems.add(f"{where}: {problem}")
        duplicates += sample.id in found
        found[sample.id] = reading.prediction
    return PredictionFile(
        path=path,
        form=form,
        masks=masks_in or (original.mask_root(path, list(samples)) if form == "original-gen" else None),
        read=partial(_read_located, found),
        num_records=total,
        duplicates=duplicates,
        unknown=unknown,
        problems=problems,
        asked=frozenset(asked) or None,
    )


def _reading(sample: Sample, entry: Entry, form: Form, alone: original.Question) -> original.EntryReading:
    if form == "original-mcq":
        return original.read_multiple_choice(sample, entry.value, alone)
    return original.read_generative(sample, entry.value)


def _read_located(found: dict[str, Prediction], sample: Sample) -> Prediction | None:
    return found.get(sample.id)


def format_problems(problems: Sequence[str], count: int, limit: int) -> list[str]:
    """The first of `count` problems, and how many more there are."""
    rest = [f"... and {count - limit} more; scores.json has the first {MAX_PROBLEMS}"] if count > limit else []
    return [*problems[:limit], *rest]
