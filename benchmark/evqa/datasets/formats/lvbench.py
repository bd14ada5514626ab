"""LVBench: multiple-choice questions about videos of about an hour, with the time of the evidence.

    video_info.meta.jsonl   as published, a video a line: {key, type, qa: [{uid, question, answer, question_type: [...],
                            time_reference}], video_info: {duration_minutes, fps, resolution}}
    *lvbench*.json          a list with a question an entry: {key, uid, question, answer, question_type, time_reference,
                            video_info}
    videos/KEY.mp4          or all_videos/, or as video2dataset names them (see `_downloads`)
    frames/KEY/frame_N.jpg  instead of the video

`question` holds the options as lines `(A) ...` below the question. A row whose options cannot be read is rejected: its
letters would name nothing. `time_reference` is one or several ranges of clock times; where it cannot be read as a
whole, the sample has no spans. A question without a usable uid has the id KEY_N, N being its place among those of the
video.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

from evqa import media
from evqa.datasets import path_inside
from evqa.datasets.formats import json_rows
from evqa.datasets.formats.csv_table import as_number
from evqa.datasets.formats.fields import entry_id, find_below, numbered_rows, place_of, split_options
from evqa.datasets.formats.json_stream import array, mapping, text
from evqa.files.jsonl import BadEntry, BadLine
from evqa.parsing import literals
from evqa.schema import LETTERS, Sample, Span, Spans

META = "video_info.meta.jsonl"
VIDEO_FOLDERS = ("videos", "all_videos", "scripts/videos", ".")
SUFFIXES = (".mp4", ".mkv", ".webm")

DURATION_TOLERANCE = 60.0
"""Seconds by which a time may exceed the stated duration, which is rounded to minutes in places."""

MAX_DOWNLOAD_BYTES = 2**20
"""Largest description of a downloaded video that is read."""

_ANSWER = re.compile(r"\(?([A-Za-z])\)?[.:)]?", re.ASCII)


class _Question(NamedTuple):
    """A row of the table."""

    key: str
    """Name of the video."""
    place: int
    """1-based, among the questions of the video."""
    fields: Mapping[str, object]
    info: Mapping[str, object]
    """`video_info` of the video."""


def samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of LVBench: one sample per question."""
    table = _Table(folder, bad)
    for line, row in json_rows.rows(_meta(folder), bad):
        try:
            questions = _questions(row, table.num_questions)
        except ValueError as error:
            bad.append(BadEntry(line, str(error), str(row.get("key"))))
            continue
        for question in questions:
            yield from numbered_rows([(table.name(question), question)], table.sample, bad, line)


def _meta(folder: Path) -> Path:
    for place in (META, f"data/{META}"):
        if (path := path_inside(folder, Path(place))).is_file():
            return path
    flat = sorted(path for path in folder.glob("*.json") if "lvbench" in path.name.lower())
    if not flat:
        raise ValueError(f"{folder} has no {META} and no list *lvbench*.json: fetch it (see README.md there)")
    return path_inside(folder, Path(flat[0].name))


def _questions(row: Mapping[str, object], counts: Counter[str]) -> list[_Question]:
    """Return the questions of a row: those of a video, or the one of a flat row."""
    key = text(row.get("key"), "key")
    video_info = mapping(row.get("video_info") or {}, "video_info")
    entries = array(row["qa"], "qa") if "qa" in row else [row]
    questions: list[_Question] = []
    for entry in entries:
        counts[key] += 1
        questions.append(_Question(key, counts[key], mapping(entry, "question of qa"), video_info))
    return questions


@dataclass
class _Table:
    """State of reading: ids in use and videos."""

    folder: Path
    bad: list[BadLine]
    num_questions: Counter[str] = field(default_factory=Counter[str])
    _ids: set[str] = field(default_factory=set[str])
    _questions: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _videos: dict[str, Path] = field(default_factory=dict[str, Path])
    _names: Mapping[str, Path] | None = None

    def name(self, question: _Question) -> str:
        uid = question.fields.get("uid")
        return str(uid) if isinstance(uid, str | int) and str(uid).strip() else f"{question.key}_{question.place}"

    def sample(self, row: _Question) -> Sample:
        words = text(row.fields.get("question"), "question")
        if (row.key, words) in self._questions:
            raise ValueError("question is repeated: the same words about the same video came before")
        question, options = split_options(words)
        answer = _answer(row.fields.get("answer"), options)
        duration = self._duration(row)
        video = self._video(row.key)
        sample = Sample(
            id=self._id(row),
            video_id=row.key,
            video=video,
            question=question,
            options=options,
            answer=answer,
            spans=self._spans(row, duration),
            fps=_fps(self.folder, video, duration),
            duration=duration,
            question_type=", ".join(_types(row.fields.get("question_type"))) or None,
            source="lvbench",
        )
        self._questions.add((row.key, words))
        self._ids.add(sample.id)
        return sample

    def _id(self, row: _Question) -> str:
        """Return the uid, or KEY_N where it is missing or taken."""
        fallback = entry_id(row.key, row.place)
        uid = entry_id(self.name(row))
        if uid not in self._ids:
            return uid
        self._leave_out(row, "uid", f"{uid} is that of another question; the id is {fallback}")
        return fallback

    def _spans(self, row: _Question, duration: float | None) -> Spans | None:
        reference = row.fields.get("time_reference")
        if reference is None or (isinstance(reference, str) and not reference.strip()):
            return None
        try:
            return _spans(text(reference, "time_reference"), duration)
        except ValueError as error:
            self._leave_out(row, "spans", str(error))
            return None

    def _duration(self, row: _Question) -> float | None:
        minutes = row.info.get("duration_minutes")
        if minutes is None:
            self._leave_out(row, "duration", "duration_minutes is missing")
            return None
        number = as_number(minutes)
        if number is None or not 0 < number < float("inf"):
            self._leave_out(row, "duration", f"duration_minutes is no number above 0: got {str(minutes)[:80]!r}")
            return None
        return round(60 * number, 3)

    def _leave_out(self, row: _Question, part: str, reason: str) -> None:
        self.bad.append(BadEntry(0, f"left out, {part}: {self.name(row)}: {reason}", self.name(row)))

    def _video(self, key: str) -> Path:
        if key not in self._videos:
            self._videos[key] = self._find_video(key)
        return self._videos[key]

    def _find_video(self, key: str) -> Path:
        """Return the video's file, the folder of its frames, or the place where the file is expected."""
        files = [str(find_below(Path(place), f"{key}{end}", "key")) for place in VIDEO_FOLDERS for end in SUFFIXES]
        found_place = place_of(self.folder, *files, str(find_below(Path("frames"), key, "key")))
        if path_inside(self.folder, found_place).exists():
            return found_place
        if self._names is None:
            self._names = _downloads(self.folder)
        return self._names.get(key, found_place)


def _downloads(folder: Path) -> dict[str, Path]:
    """Return key -> video for files of video2dataset, which the published script calls.

    It numbers the files, `videos/00000/000000012.mp4`, and writes the address of each into the JSON beside it.
    """
    names: dict[str, Path] = {}
    for place in VIDEO_FOLDERS[:-1]:
        for path in sorted(path_inside(folder, Path(place)).glob("*/*.json")):
            video = path.with_suffix(".mp4")
            if path.stat().st_size > MAX_DOWNLOAD_BYTES or not video.is_file():
                continue
            match = re.search(rb'"url"\s*:\s*"[^"]{0,200}[?&]v=([\w-]{1,64})', path.read_bytes())
            if match:
                names.setdefault(match[1].decode(), Path(place, path.parent.name, video.name))
    return names


def _fps(folder: Path, video: Path, duration: float | None) -> float | None:
    """Return the frame rate of a folder of frames, from the video's duration; None = a file, or unknown."""
    path = path_inside(folder, video)
    if duration is None or not path.is_dir():
        return None
    return min(len(media.image_names(path)) / duration, 1000) or None


def _answer(value: object, options: Sequence[str]) -> int:
    match = _ANSWER.fullmatch(text(value, "answer"))
    index = LETTERS.index(match[1].upper()) if match else len(options)
    if index >= len(options):
        raise ValueError(f"answer is no letter of an option: got {str(value)[:80]!r}, {len(options)} options")
    return index


def _types(value: object) -> list[str]:
    """Return the categories of a question; it may have several."""
    items = cast("list[object]", value) if isinstance(value, list) else [value] if value else []
    return [str(item).strip() for item in items if str(item).strip()]


def _spans(reference: str, duration: float | None) -> Spans:
    """Return the ranges of a time reference; times are whole seconds, so that a range within one lasts it."""
    words = literals.normalize_times(reference)
    ranges = literals.find_ranges(words)
    second = literals.parse_time(reference) if ":" in reference else None
    pairs = [(second, second)] if second is not None else [found_range.pair for found_range in ranges]
    if second is None and not (literals.is_all_ranges(words, ranges) and all(pair.has_colons for pair in ranges)):
        raise ValueError(f"time_reference is no range of clock times: got {reference[:80]!r}")
    for start, end in pairs:
        if start > end:
            raise ValueError(f"time_reference ends before it starts: got {reference[:80]!r}")
        if duration is not None and start > duration + DURATION_TOLERANCE:
            raise ValueError(f"time_reference starts after the video: got {reference[:80]!r} of {duration:g} seconds")
    return tuple(Span(start, max(end, start + 1)) for start, end in pairs)
