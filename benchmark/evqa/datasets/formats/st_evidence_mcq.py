"""Reader of ST-Evidence, multiple choice, as published: up to three questions about a video.

    st_evidence_mcq.csv    entry_id, question, answer (text), options or candidates, video or video_id or video_path
    temp_options.json      {entry_id: {time_evidence_options: [[[start, end], ...], ...], correct_answer: "A",
                            ground_truth_segments: [[start, end], ...]}}
    mask_options.json      {entry_id: {gt, d1, d2, d3: path, options: ["d1", "gt", ...], answer: 1}}, or the older
                           {entry_id: {mcq_options: [path, ...], correct_answer: 1}}; an inner entry_id counts
    NextQA-Video/          <video>.mp4, there or one folder deeper; or <video_path> as in the generative benchmark

A table with columns `temp_options` and `mask_options` may carry these objects itself, as JSON or Python literals.
A time or space question that cannot be used is left out of its sample, and counted with file, key and field.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple, cast

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from evqa.datasets import path_inside
from evqa.datasets.formats.csv_table import Row
from evqa.datasets.formats.json_stream import integer
from evqa.datasets.formats.st_evidence import (
    PLACES,
    choice_of,
    drop_invalid_fields,
    find_below,
    question_of,
    source_of,
    spans_left_out,
    video_file,
    video_path_of,
)
from evqa.files.jsonl import BadEntry, BadLine, validation_message
from evqa.schema import LETTERS, Sample, Spans, check_id

TABLE = "st_evidence_mcq.csv"
COLUMNS = ("entry_id", "question", "answer")
OPTION_COLUMNS = ("candidates", "options")
VIDEO_COLUMNS = ("video_path", "video_id", "video")
TIME_FILE = "temp_options.json"
SPACE_FILE = "mask_options.json"
VIDEO_FOLDER = "NextQA-Video"

ABOVE = ("benchmark", "st_evidence_mcq", "data", "options")
"""Folders that the path of an option's image may start with."""

MAX_BYTES = 2**28
"""Limit of a file of options; the published ones have less than a megabyte."""

Entries = Mapping[str, object]
"""Entry id -> its unchecked entry in a file of options."""

_LETTER = re.compile(r"\(?([A-Z])\)?[.:)]?", re.IGNORECASE)


def _position_of(value: object) -> int:
    """Return the index of an option by number or letter, in any spelling: `1`, `"1"`, `1.0`, `b`, `(B)`, `B.`."""
    if isinstance(value, str) and (letter := _LETTER.fullmatch(value.strip())):
        return LETTERS.index(letter[1].upper())
    return integer(value, "place of the answer")


def _spans_of(value: object) -> object:
    """Return the spans of an option; a single `[start, end]` becomes a list."""
    if not isinstance(value, list):
        return value
    items = cast("list[object]", value)
    return [items] if len(items) == 2 and not any(isinstance(item, list | dict) for item in items) else items


def _options_of(value: object) -> object:
    """Return options as a list, also from an object with letters as keys."""
    if not isinstance(value, dict):
        return value
    options = cast("dict[str, object]", value)
    return [options[key] for key in sorted(options)]


Position = Annotated[int, BeforeValidator(_position_of), Field(ge=0, lt=len(LETTERS))]
OptionSpans = Annotated[Spans, BeforeValidator(_spans_of)]
ANSWER_KEYS = AliasChoices("answer", "correct_answer")
CORRECT_KEYS = AliasChoices("correct_answer", "answer")


class TimeEntry(BaseModel):
    """An entry of temp_options.json."""

    question: object = None
    time_evidence_options: Annotated[list[OptionSpans], BeforeValidator(_options_of)] = Field(
        min_length=2, max_length=len(LETTERS)
    )
    correct_answer: Position = Field(validation_alias=CORRECT_KEYS)
    ground_truth_segments: object = None
    """As `OptionSpans`; optional."""


GROUND_TRUTH: TypeAdapter[Spans | None] = TypeAdapter(OptionSpans | None)


class SpaceEntry(BaseModel):
    """An entry of mask_options.json: which role each displayed image has, and a path per role."""

    question: object = None
    gt: str
    d1: str
    d2: str
    d3: str
    options: list[Literal["gt", "d1", "d2", "d3"]] = Field(min_length=2, max_length=4)
    answer: Position | None = Field(default=None, validation_alias=ANSWER_KEYS)
    """None = the position of gt in `options`."""


class OldSpaceEntry(BaseModel):
    """An entry of mask_options.json in the older form: the displayed images."""

    question: object = None
    mcq_options: list[str] = Field(min_length=2, max_length=len(LETTERS))
    correct_answer: Position = Field(validation_alias=CORRECT_KEYS)


def read_mcq(folder: Path) -> tuple[list[Sample], list[BadLine]]:
    """Return the samples of the multiple-choice benchmark, and the unusable rows and questions."""
    bad: list[BadLine] = []
    return list(mcq_samples(folder, bad)), bad


def mcq_samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the multiple-choice benchmark."""
    options = Options(_entries(folder, TIME_FILE, bad), _entries(folder, SPACE_FILE, bad), _videos(folder))
    return drop_invalid_fields(folder, (TABLE, COLUMNS), functools.partial(_mcq_sample, options), bad)


@dataclass(frozen=True)
class Options:
    """Files of options beside the table, and the videos."""

    time: Entries
    space: Entries
    videos: Mapping[str, Path]
    """Stem -> path of the video below the folder."""


def _mcq_sample(options: Options, folder: Path, row: Row, left_out: list[str]) -> Sample:
    entry = check_id(row["entry_id"])
    texts, answer = choice_of(_with_candidates(row), is_caseless=True)
    video_id, video = _video(folder, row, options.videos)
    time = _time_entry(row, options.time, left_out)
    space = _space_options(folder, row, options.space, left_out)
    question = question_of(row)
    segments = spans_left_out("segment", row.get("segment", ""), left_out)
    missing = {name: "missing" for name, content in (("time", time), ("space", space.images)) if not content}
    return Sample(
        id=entry,
        video_id=video_id,
        video=video,
        question=question,
        options=texts,
        answer=answer,
        spans=_ground_truth(time, left_out) if segments is None and time else segments,
        time_options=tuple(time.time_evidence_options) if time else (),
        time_answer=time.correct_answer if time else None,
        time_question=_other_question(time.question if time else None, question),
        mask_options=space.images,
        mask_answer=space.right,
        mask_question=_other_question(space.question, question),
        question_type=row.get("question_type") or None,
        source=source_of(row, PurePosixPath(video)) if "video_path" in row else row.get("source") or None,
        metadata=missing,
    )


def _other_question(value: object, question: str) -> str | None:
    """Return the question of a file of options; None = it equals that of the table, or is no text."""
    words = value.strip() if isinstance(value, str) else ""
    return words if words and words != question else None


def _with_candidates(row: Row) -> Row:
    name = _first_column(row, OPTION_COLUMNS)
    return {**row, "candidates": row[name]}


def _first_column(row: Row, names: Sequence[str]) -> str:
    """Return the first of several column names with text in a row."""
    for name in names:
        if row.get(name, "").strip():
            return name
    raise ValueError(f"a column is missing or empty: expected {' or '.join(names)}")


# The video


def _video(folder: Path, row: Row, videos: Mapping[str, Path]) -> tuple[str, Path]:
    """Return (video_id, path): by `video_path` if present, else by name."""
    name = _first_column(row, VIDEO_COLUMNS)
    path = video_path_of({"video_path": row[name]})
    video_id = row.get("video_id") or path.stem
    if name == "video_path":
        file = video_file(folder, path)
        return video_id, file if path_inside(folder, file).exists() else videos.get(path.stem, file)
    stem = path.stem if path.suffix.lower() == ".mp4" else path.name
    return video_id, videos.get(stem, Path(VIDEO_FOLDER, f"{stem}.mp4"))


def _videos(folder: Path) -> dict[str, Path]:
    """Return stem -> path of the videos in `NextQA-Video` or one folder deeper."""
    videos: dict[str, Path] = {}
    for place in PLACES:
        root = path_inside(folder, Path(place, VIDEO_FOLDER))
        for path in sorted((*root.glob("*/*.mp4"), *root.glob("*.mp4"))):
            videos[path.stem] = Path(place, path.relative_to(path_inside(folder, Path(place))))
    return videos


# The options


def _time_entry(row: Row, entries: Entries, left_out: list[str]) -> TimeEntry | None:
    location, content = _content(row, "temp_options", entries, TIME_FILE)
    if content is None:
        return None
    try:
        entry = TimeEntry.model_validate(content)
        _check_position(entry.correct_answer, len(entry.time_evidence_options))
    except ValidationError as error:
        left_out.append(f"time question: {location}: {validation_message(error)[:300]}")
        return None
    except ValueError as error:
        left_out.append(f"time question: {location}: {error}")
        return None
    return entry


def _ground_truth(entry: TimeEntry, left_out: list[str]) -> Spans | None:
    try:
        return GROUND_TRUTH.validate_python(entry.ground_truth_segments)
    except ValidationError as error:
        left_out.append(f"span: {TIME_FILE}: ground_truth_segments: {validation_message(error)[:300]}")
        return None


class SpaceQuestion(NamedTuple):
    """A question about spatial evidence; without images = no question."""

    images: tuple[Path, ...] = ()
    right: int | None = None
    question: object = None


def _space_options(folder: Path, row: Row, entries: Entries, left_out: list[str]) -> SpaceQuestion:
    """Return the images in display order and the index of the right one; none of a question with a missing image."""
    location, content = _content(row, "mask_options", entries, SPACE_FILE)
    if content is None:
        return SpaceQuestion()
    try:
        is_old = isinstance(content, dict) and "mcq_options" in content
        entry = (OldSpaceEntry if is_old else SpaceEntry).model_validate(content)
        names, right = _displayed(entry)
        return SpaceQuestion(tuple(_image(folder, name) for name in names), right, entry.question)
    except ValidationError as error:
        left_out.append(f"space question: {location}: {validation_message(error)[:300]}")
    except ValueError as error:
        left_out.append(f"space question: {location}: {error}")
    return SpaceQuestion()


def _displayed(entry: SpaceEntry | OldSpaceEntry) -> tuple[list[str], int]:
    if isinstance(entry, OldSpaceEntry):
        _check_position(entry.correct_answer, len(entry.mcq_options))
        return entry.mcq_options, entry.correct_answer
    right = entry.options.index("gt") if entry.answer is None and "gt" in entry.options else entry.answer or 0
    _check_position(right, len(entry.options))
    if entry.options[right] != "gt" or entry.options.count("gt") != 1:
        raise ValueError(f"answer {entry.answer!r} is not the one gt in options {entry.options}")
    paths = {"gt": entry.gt, "d1": entry.d1, "d2": entry.d2, "d3": entry.d3}
    return [paths[role] for role in entry.options], right


def _check_position(position: int, count: int) -> None:
    if position >= count:
        raise ValueError(f"the answer {LETTERS[position]!r} is none of {count} options")


def _image(folder: Path, name: str) -> Path:
    """Return the path of an option's image; published paths may start with parent folders."""
    relative = PurePosixPath(name.lstrip("/"))
    if not relative.name or len(name) > 1000:
        raise ValueError(f"an option is no image path: got {name[:80]!r}")
    path_inside(folder, relative)
    is_foreign = name.startswith("/")  # of its authors' machine: any folder of theirs may come first
    while True:
        image = find_below(folder, (".", "options"), relative)
        if image is not None and path_inside(folder, image).is_file():
            return image
        if len(relative.parts) == 1 or not (is_foreign or relative.parts[0] in ABOVE):
            break
        relative = relative.relative_to(relative.parts[0])
    path_inside(folder, PurePosixPath(name))
    raise ValueError(f"an image is missing: {name[:200]!r}; unpack options.tar.gz")


def _content(row: Row, column: str, entries: Entries, file: str) -> tuple[str, object | None]:
    """Return (location, content) of an entry: of the file, else of the table's cell, else None."""
    entry = row["entry_id"]
    if entry in entries:
        return f"{file}: key {entry}", entries[entry]
    cell = row.get(column, "").strip()
    return f"column {column}", _parsed(cell) if cell.startswith("{") else None


def _parsed(cell: str) -> object:
    """Parse a cell with a JSON object or a Python literal; nothing is evaluated. Other text fails validation."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return cell


def _entries(folder: Path, name: str, bad: list[BadLine]) -> Entries:
    """Read a file of options by entry id; {} = the file is missing.

    Of several entries for one id the last one is used, as published, and the others are reported.
    """
    path = next((file for place in PLACES if (file := path_inside(folder, Path(place, name))).is_file()), None)
    if path is None:
        return {}
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected less than {MAX_BYTES}")
    try:
        content: object = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): fetch it again") from error
    items = cast("list[object]", content) if isinstance(content, list) else []
    if not isinstance(content, _Pairs) and not any(isinstance(item, _Pairs) and "entry_id" in item for item in items):
        raise ValueError(f"{path} is no JSON object of entries: fetch it again")
    pairs = content.pairs if isinstance(content, _Pairs) else [(str(place), item) for place, item in enumerate(items)]
    entries: dict[str, object] = {}
    for key, value in pairs:
        inner = value.get("entry_id") if isinstance(value, _Pairs) else None
        entry = str(inner) if isinstance(inner, str | int) and not isinstance(inner, bool) else key
        if entry in entries:
            bad.append(
                BadEntry(0, f"left out, earlier entry: {name} has {entry} more than once; the last counts", entry)
            )
        entries[entry] = value
    return entries


class _Pairs(dict[str, object]):
    """A JSON object that keeps duplicate keys in `pairs`."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
