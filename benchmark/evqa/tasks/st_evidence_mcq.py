"""ST-Evidence, multiple choice, as published: three questions about a video, of which some may be missing.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from evqa.datasets import path_inside
from evqa.jsonl import BadEntry, BadLine, explain
from evqa.schema import LETTERS, Sample, Spans, check_id
from evqa.tasks.st_evidence import (
    PLACES,
    choice_of,
    find_below,
    question_of,
    samples_of,
    source_of,
    video_file,
    video_path_of,
)
from evqa.tasks.table import Row, spans

TABLE = "st_evidence_mcq.csv"
COLUMNS = ("entry_id", "question", "answer")
OPTION_COLUMNS = ("candidates", "options")
VIDEO_COLUMNS = ("video_path", "video_id", "video")
TIME_FILE = "temp_options.json"
SPACE_FILE = "mask_options.json"
VIDEO_FOLDER = "NextQA-Video"

ABOVE = ("benchmark", "st_evidence_mcq", "data", "options")
"""Folders with which the path of an option's image may start."""

MAX_BYTES = 2**28
"""The published files have less than a megabyte."""

Entries = Mapping[str, object]
"""Entry id -> what a file of options says of it, unchecked."""

Letter = Annotated[str, Field(pattern=r"^[A-Z]$")]
Position = Annotated[int, Field(strict=True, ge=0, lt=len(LETTERS))] | Letter


class TimeEntry(BaseModel):
    """An entry of temp_options.json."""

    question: object = None
    time_evidence_options: list[Spans] = Field(min_length=2, max_length=len(LETTERS))
    correct_answer: Position
    ground_truth_segments: Spans | None = None


class SpaceEntry(BaseModel):
    """An entry of mask_options.json: which role each displayed image has, and a path per role."""

    question: object = None
    gt: str
    d1: str
    d2: str
    d3: str
    options: list[Literal["gt", "d1", "d2", "d3"]] = Field(min_length=2, max_length=4)
    answer: Position


class OldSpaceEntry(BaseModel):
    """An entry of mask_options.json in the older form: the displayed images."""

    question: object = None
    mcq_options: list[str] = Field(min_length=2, max_length=len(LETTERS))
    correct_answer: Position


def read_mcq(folder: Path) -> tuple[list[Sample], list[BadLine]]:
    """The samples of the multiple-choice benchmark as published, and the rows and questions that cannot be used."""
    bad: list[BadLine] = []
    return list(mcq_samples(folder, bad)), bad


def mcq_samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`read_mcq`, one sample at a time."""
    options = Options(_entries(folder, TIME_FILE, bad), _entries(folder, SPACE_FILE, bad), _videos(folder))
    left_out: list[str] = []
    read = functools.partial(_mcq_sample, options=options, left_out=left_out)
    lines: dict[str, int] = {}
    for sample in samples_of(folder, (TABLE, COLUMNS), read, bad, lines):
        bad.extend(BadEntry(lines[sample.id], reason, sample.id) for reason in left_out)
        left_out.clear()
        yield sample


@dataclass(frozen=True)
class Options:
    """What lies beside the table."""

    time: Entries
    space: Entries
    videos: Mapping[str, Path]
    """Stem -> video below the folder."""


def _mcq_sample(folder: Path, row: Row, *, options: Options, left_out: list[str]) -> Sample:
    left_out.clear()
    entry = check_id(row["entry_id"])
    texts, answer = choice_of(_with_candidates(row), is_caseless=True)
    video_id, video = _video(folder, row, options.videos)
    time = _time_entry(row, options.time, left_out)
    space = _space_options(folder, row, options.space, left_out)
    question = question_of(row)
    segments = spans("segment", row.get("segment", ""))
    missing = {name: "missing" for name, found in (("time", time), ("space", space.images)) if not found}
    return Sample(
        id=entry,
        video_id=video_id,
        video=video,
        question=question,
        options=texts,
        answer=answer,
        spans=time.ground_truth_segments if segments is None and time else segments,
        time_options=tuple(time.time_evidence_options) if time else (),
        time_answer=_position(time.correct_answer) if time else None,
        time_question=_other_question(time.question if time else None, question),
        mask_options=space.images,
        mask_answer=space.right,
        mask_question=_other_question(space.question, question),
        question_type=row.get("question_type") or None,
        source=source_of(row, PurePosixPath(video)) if "video_path" in row else row.get("source") or None,
        tags=missing,
    )


def _other_question(own: object, question: str) -> str | None:
    """The question that a file of options has for itself; None where it is that of the table, or no text."""
    words = own.strip() if isinstance(own, str) else ""
    return words if words and words != question else None


def _with_candidates(row: Row) -> Row:
    name = _first_column(row, OPTION_COLUMNS)
    return {**row, "candidates": row[name]}


def _first_column(row: Row, names: Sequence[str]) -> str:
    """The first of several spellings that has text in this row."""
    for name in names:
        if row.get(name, "").strip():
            return name
    raise ValueError(f"a column is missing or empty: expected {' or '.join(names)}")


# The video


def _video(folder: Path, row: Row, videos: Mapping[str, Path]) -> tuple[str, Path]:
    """(video_id, path): by `video_path` where there is one, else by name."""
    name = _first_column(row, VIDEO_COLUMNS)
    path = video_path_of({"video_path": row[name]})
    video_id = row.get("video_id") or path.stem
    if name == "video_path":
        found = video_file(folder, path)
        return video_id, found if path_inside(folder, found).exists() else videos.get(path.stem, found)
    stem = path.stem if path.suffix == ".mp4" else path.name
    return video_id, videos.get(stem, Path(VIDEO_FOLDER, f"{stem}.mp4"))


def _videos(folder: Path) -> dict[str, Path]:
    """Stem -> path of the videos in `NextQA-Video`, there or one folder deeper."""
    found: dict[str, Path] = {}
    for place in PLACES:
        root = path_inside(folder, Path(place, VIDEO_FOLDER))
        for path in sorted((*root.glob("*/*.mp4"), *root.glob("*.mp4"))):
            found[path.stem] = Path(place, path.relative_to(path_inside(folder, Path(place))))
    return found


# The options


def _time_entry(row: Row, entries: Entries, left_out: list[str]) -> TimeEntry | None:
    where, content = _content(row, "temp_options", entries, TIME_FILE)
    if content is None:
        return None
    try:
        entry = TimeEntry.model_validate(content)
        _check_position(entry.correct_answer, len(entry.time_evidence_options))
    except ValidationError as error:
        left_out.append(f"left out, time question: {where}: {explain(error)[:300]}")
        return None
    except ValueError as error:
        left_out.append(f"left out, time question: {where}: {error}")
        return None
    return entry


class SpaceQuestion(NamedTuple):
    """A question in space; without images, there is none."""

    images: tuple[Path, ...] = ()
    right: int | None = None
    question: object = None


def _space_options(folder: Path, row: Row, entries: Entries, left_out: list[str]) -> SpaceQuestion:
    """The images in display order and the index of the right one; a missing image would shift the letters."""
    where, content = _content(row, "mask_options", entries, SPACE_FILE)
    if content is None:
        return SpaceQuestion()
    try:
        is_old = isinstance(content, dict) and "mcq_options" in content
        entry = (OldSpaceEntry if is_old else SpaceEntry).model_validate(content)
        names, right = _displayed(entry)
        return SpaceQuestion(tuple(_image(folder, name) for name in names), right, entry.question)
    except ValidationError as error:
        left_out.append(f"left out, space question: {where}: {explain(error)[:300]}")
    except ValueError as error:
        left_out.append(f"left out, space question: {where}: {error}")
    return SpaceQuestion()


def _displayed(entry: SpaceEntry | OldSpaceEntry) -> tuple[list[str], int]:
    if isinstance(entry, OldSpaceEntry):
        _check_position(entry.correct_answer, len(entry.mcq_options))
        return entry.mcq_options, _position(entry.correct_answer)
    _check_position(entry.answer, len(entry.options))
    right = _position(entry.answer)
    if entry.options[right] != "gt" or entry.options.count("gt") != 1:
        raise ValueError(f"answer {entry.answer!r} is not the one gt in options {entry.options}")
    paths = {"gt": entry.gt, "d1": entry.d1, "d2": entry.d2, "d3": entry.d3}
    return [paths[role] for role in entry.options], right


def _check_position(position: int | str, count: int) -> None:
    if _position(position) >= count:
        raise ValueError(f"the answer {position!r} is none of {count} options")


def _position(position: int | str) -> int:
    return LETTERS.index(position) if isinstance(position, str) else position


def _image(folder: Path, name: str) -> Path:
    """Where an option's image is; published paths may start with folders above this one."""
    relative = PurePosixPath(name)
    if not relative.name or len(name) > 1000:
        raise ValueError(f"an option is no image path: got {name[:80]!r}")
    path_inside(folder, relative)
    while True:
        if found := find_below(folder, (".", "options"), relative):
            return found
        if relative.parts[0] not in ABOVE:
            break
        relative = relative.relative_to(relative.parts[0])
    raise ValueError(f"an image is missing: {name[:200]!r}; unpack options.tar.gz")


def _content(row: Row, column: str, entries: Entries, file: str) -> tuple[str, object | None]:
    """(where it stands, what it says): the file's entry, else the table's own cell, else None."""
    entry = row["entry_id"]
    if entry in entries:
        return f"{file}: key {entry}", entries[entry]
    cell = row.get(column, "").strip()
    return f"column {column}", _parsed(cell) if cell.startswith("{") else None


def _parsed(cell: str) -> object:
    """A cell with a JSON object or a Python literal; nothing is evaluated. What is neither fails its checks."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return cell


def _entries(folder: Path, name: str, bad: list[BadLine]) -> Entries:
    """A file of options by entry id; none where the file is not there.

    Of several entries for one id the last counts, as published, and each other one is named.
    """
    path = next((found for place in PLACES if (found := path_inside(folder, Path(place, name))).is_file()), None)
    if path is None:
        return {}
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected less than {MAX_BYTES}")
    try:
        content: object = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): fetch it again") from error
    if not isinstance(content, _Pairs):
        raise ValueError(f"{path} is no JSON object of entries: fetch it again")
    entries: dict[str, object] = {}
    for key, value in content.pairs:
        inner = value.get("entry_id") if isinstance(value, _Pairs) else None
        entry = inner if isinstance(inner, str) else key
        if entry in entries:
            bad.append(
                BadEntry(0, f"left out, earlier entry: {name} has {entry} more than once; the last counts", entry)
            )
        entries[entry] = value
    return entries


class _Pairs(dict[str, object]):
    """A JSON object that keeps what comes twice."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
