"""Ego4D natural language queries: when in a long first-person video does the answer to a question lie?

    ego4d.json                          {videos: [{video_uid, duration_sec}]}; also in v2/
    v2/annotations/nlq_val.json         {videos: [{video_uid, clips: [{clip_uid, video_start_sec, video_end_sec,
                                        annotations: [{annotation_uid, language_queries: [{query, template,
                                        clip_start_sec, clip_end_sec, video_start_sec, video_end_sec}]}]}]}]}
    v2/full_scale/UID.mp4               whole videos; also v2/nlq_videos/full_scale/, v2/video_540ss/

Queries are annotated on clips, and their times are in seconds of the clip and of the video. The samples have those of
the video, with the clip as `Sample.clip_window`; a query whose two times disagree, or without words, is rejected.
The id is ANNOTATION_N, N being the place of the query in its annotation from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from evqa.datasets import path_inside
from evqa.datasets.formats import json_stream
from evqa.datasets.formats.csv_table import as_number
from evqa.datasets.formats.fields import entry_id, find_below, numbered_rows, place_of, require
from evqa.datasets.formats.json_stream import array, mapping, text
from evqa.files.jsonl import BadEntry, BadLine
from evqa.schema import ClipSpan, ClipWindow, Sample, VideoSpan

Row = Mapping[str, object]

VIDEO_FOLDERS = ("v2/full_scale", "v2/nlq_videos/full_scale", "v2/video_540ss", "full_scale", "videos")
ANNOTATION_FOLDERS = ("v2/annotations", "annotations", ".")

CLOCK_TOLERANCE = 0.5
"""Seconds by which the two times of a query may differ: they are rounded to frames in places."""


class _Query(NamedTuple):
    """A query with what encloses it."""

    video: str
    clip: Row
    annotation: str
    place: int
    """0-based, in its annotation."""
    fields: Row


def val_samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the validation split: one sample per query."""
    return _samples(folder, "val", bad)


def train_samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the training split: one sample per query."""
    return _samples(folder, "train", bad)


def _samples(folder: Path, split: str, bad: list[BadLine]) -> Iterator[Sample]:
    path = require(folder, *(f"{place}/nlq_{split}.json" for place in ANNOTATION_FOLDERS))
    table = _Table(folder, split, bad, _durations(folder, bad))
    with json_stream.open_json(path) as annotations:
        for number, place in enumerate(annotations.places("videos"), 1):
            rows = [(f"video {number}", annotations.at(place))]
            for queries in numbered_rows(rows, lambda row: list(_queries(row, bad)), bad, number):
                for query in queries:
                    yield from numbered_rows([(_name(query), query)], table.sample, bad, number)


def _durations(folder: Path, bad: list[BadLine]) -> dict[str, float]:
    """Return video -> seconds of `ego4d.json`; without the file, a video's own length counts."""
    path = path_inside(folder, place_of(folder, "ego4d.json", "v2/ego4d.json"))
    durations: dict[str, float] = {}
    if not path.is_file():
        return durations
    with json_stream.open_json(path) as table:
        for number, place in enumerate(table.places("videos"), 1):
            rows = [(f"ego4d.json, video {number}", table.at(place))]
            durations |= dict(numbered_rows(rows, _duration, bad, number))
    return durations


def _duration(value: object) -> tuple[str, float]:
    row = mapping(value, "video")
    seconds = _seconds(row, "duration_sec")
    if not seconds > 0:
        raise ValueError(f"duration_sec is not above 0: got {seconds}")
    return text(row.get("video_uid"), "video_uid"), seconds


def _queries(value: object, bad: list[BadLine]) -> Iterator[_Query]:
    """Yield the queries of a video; a clip or annotation that cannot be read is reported and left out."""
    video = mapping(value, "video")
    uid = text(video.get("video_uid"), "video_uid")
    clips = array(video.get("clips"), "clips")
    for clip, entries in _parts(clips, "annotations", f"{uid}, clip", bad):
        for annotation, queries in _parts(entries, "language_queries", f"{uid}, annotation", bad):
            name = str(annotation.get("annotation_uid") or "")
            for place, query in enumerate(queries):
                rows = numbered_rows([(f"{name}_{place}", query)], lambda query: mapping(query, "query"), bad)
                yield from (_Query(uid, clip, name, place, fields) for fields in rows)


def _parts(values: list[object], key: str, name: str, bad: list[BadLine]) -> Iterator[tuple[Row, list[object]]]:
    """Yield (object, its list of a key)."""

    def read(value: object) -> tuple[Row, list[object]]:
        row = mapping(value, name.rpartition(" ")[2])
        return row, array(row.get(key), key)

    return numbered_rows(((f"{name} {place}", value) for place, value in enumerate(values)), read, bad)


def _name(query: _Query) -> str:
    return f"{query.annotation}_{query.place}"


def _seconds(row: Row, key: str) -> float:
    number = as_number(row.get(key))
    if number is None or not 0 <= number < float("inf"):
        raise ValueError(f"{key} is no number of seconds: got {str(row.get(key))[:80]!r}")
    return number


@dataclass
class _Table:
    """State of reading: ids in use."""

    folder: Path
    split: str
    bad: list[BadLine]
    durations: Mapping[str, float]
    _ids: set[str] = field(default_factory=set[str])

    def sample(self, query: _Query) -> Sample:
        words = query.fields.get("query")
        if words is None or (isinstance(words, str) and not words.strip()):
            raise ValueError("no query: the words of the query are null or empty")
        clip = _clip(query.clip)
        sample = Sample(
            id=self._id(query),
            video_id=query.video,
            video=self._video(query.video),
            question=text(words, "query"),
            spans=(_span(query.fields, clip).span,),
            clip_window=clip,
            duration=self.durations.get(query.video),
            question_type=_template(query.fields.get("template")),
            source="ego4d-nlq",
            metadata={"first_word": first_word(text(words, "query"))},
        )
        self._ids.add(sample.id)
        return sample

    def _id(self, query: _Query) -> str:
        name = entry_id(text(query.annotation, "annotation_uid"), query.place)
        if name not in self._ids:
            return name
        longer = entry_id(text(query.clip.get("clip_uid"), "clip_uid"), name)
        if longer in self._ids:
            raise ValueError(f"annotation is repeated: {longer} came before")
        self.bad.append(BadEntry(0, f"left out, id: {name} is that of another clip; the id is {longer}", name))
        return longer

    def _video(self, uid: str) -> Path:
        places = [str(find_below(Path(place), f"{uid}.mp4", "video_uid")) for place in VIDEO_FOLDERS]
        place = place_of(self.folder, *places)
        path_inside(self.folder, place)
        return place


def first_word(question: str) -> str:
    """Return the first word of a question in lower case, the question type of the published pipeline."""
    match = re.search(r"[^\W\d_]+", question)
    return match[0].lower() if match else "other"


def _clip(row: Row) -> ClipWindow:
    origin = 0.0 if row.get("clip_start_sec") is None else _seconds(row, "clip_start_sec")
    return ClipWindow(
        id=entry_id(text(row.get("clip_uid"), "clip_uid")),
        start=_seconds(row, "video_start_sec"),
        end=_seconds(row, "video_end_sec"),
        origin=origin,
    )


def _span(row: Row, clip: ClipWindow) -> VideoSpan:
    """Return the window of a query in seconds of the video; both of its times have to name the same one."""
    in_clip = clip.to_video(ClipSpan(_seconds(row, "clip_start_sec"), _seconds(row, "clip_end_sec")))
    if row.get("video_start_sec") is None:
        return in_clip
    in_video = VideoSpan(_seconds(row, "video_start_sec"), _seconds(row, "video_end_sec"))
    gap = max(abs(in_clip.start - in_video.start), abs(in_clip.end - in_video.end))
    if gap > CLOCK_TOLERANCE:
        raise ValueError(
            f"clocks disagree: {in_video.start:g} to {in_video.end:g} s of the video, and {in_clip.start:g} to "
            f"{in_clip.end:g} s by the clip that starts at {clip.start:g} s"
        )
    return in_video


def _template(value: object) -> str | None:
    return value.strip() if isinstance(value, str) and value.strip() else None
