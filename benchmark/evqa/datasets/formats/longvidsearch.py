"""LongVidSearch: open questions about long videos that need two to four slices of the video.

    full-QA(3000).json            as on the Hub, a list: {vid, question, answer, category, hop_level: "2-Hop",
                                  evidence_slices: [1, 48], reasoning_chain}
    dataset/VID_qa.json           as in the repository, a list for each video, the same without vid
    video_embeddings/frame_embeddings_VID.npy   float32 [N, 1024], a row per slice; N is all that is read of it
    videos/VID.mp4                fetched by the user; the publication has no videos

Slices are numbered from 1. The publication gives no times: its prompts call a slice "approximately 30 seconds", while
its means, 87 slices and 26 minutes a video, make 18 seconds. So a slice is taken as the N-th part of the video where
both N and the video's length are known (`slices: measured` in the metadata of a sample), else as 30 seconds
(`slices: nominal`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evqa import media
from evqa.datasets import path_inside
from evqa.datasets.formats import json_stream
from evqa.datasets.formats.fields import entry_id, find_below, numbered_rows, place_of
from evqa.datasets.formats.json_stream import array, integer, mapping, text
from evqa.files.jsonl import BadEntry, BadLine
from evqa.schema import Sample, Span, Spans

NOMINAL_SECONDS = 30.0
"""Length of a slice where it cannot be computed."""

FULL = re.compile(r"full-QA.*\.json", re.IGNORECASE)
PER_VIDEO = "dataset"
SUFFIX = "_qa.json"


class _Slices(NamedTuple):
    """Slices of a video."""

    seconds: float
    """Length of one."""
    number: int | None
    """Number of slices; None = unknown."""
    is_measured: bool
    duration: float | None
    """Length of the video in seconds; None = unknown."""


def samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of LongVidSearch: one sample per question."""
    table = _Table(folder, bad)
    for number, (video_id, place, row) in enumerate(_rows(folder), 1):
        name = f"{video_id}_{place}"
        yield from numbered_rows([(name, (name, video_id, row))], table.sample, bad, number)


def _rows(folder: Path) -> Iterator[tuple[str, int, object]]:
    """Yield (video, place among its questions, row)."""
    counts: dict[str, int] = {}
    for video_id, row in _all_rows(folder):
        counts[video_id] = counts.get(video_id, 0) + 1
        yield video_id, counts[video_id], row


def _all_rows(folder: Path) -> Iterator[tuple[str, object]]:
    full = sorted(path.name for path in folder.glob("*.json") if FULL.fullmatch(path.name))
    if full:
        for row in json_stream.elements(path_inside(folder, Path(full[0]))):
            yield _video_id(row), row
        return
    lists = sorted(path_inside(folder, Path(PER_VIDEO)).glob(f"*{SUFFIX}"))
    if not lists:
        raise ValueError(f"{folder} has no full-QA(3000).json and no {PER_VIDEO}/*{SUFFIX}: fetch it (see README.md)")
    for path in lists:
        checked_path = path_inside(folder, Path(PER_VIDEO, path.name))
        yield from ((path.name.removesuffix(SUFFIX), row) for row in json_stream.elements(checked_path))


def _video_id(row: object) -> str:
    """Return the video of a row of the whole list; "" = it names none, which rejects it."""
    try:
        return text(mapping(row, "entry").get("vid"), "vid")
    except ValueError:
        return ""


@dataclass
class _Table:
    """State of reading: questions that came, and the slices of videos."""

    folder: Path
    bad: list[BadLine]
    _questions: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _slices: dict[str, _Slices] = field(default_factory=dict[str, _Slices])

    def sample(self, entry: tuple[str, str, object]) -> Sample:
        name, video_id, content = entry
        row = mapping(content, "entry")
        question = text(row.get("question"), "question")
        text(video_id, "vid")
        if (video_id, question) in self._questions:
            raise ValueError("question is repeated: the same words about the same video came before")
        video = self._video(video_id)
        slices = self._slices_of(video_id, video)
        spans = self._spans(name, row, slices)
        sample = Sample(
            id=entry_id(name),
            video_id=video_id,
            video=video,
            question=question,
            response=text(row.get("answer"), "answer"),
            spans=spans,
            duration=slices.duration,
            question_type=str(row["category"]) if row.get("category") else None,
            source="longvidsearch",
            metadata=_metadata(row, slices, has_spans=spans is not None),
        )
        self._questions.add((video_id, question))
        return sample

    def _video(self, video_id: str) -> Path:
        files = [str(find_below(Path(place), f"{video_id}.mp4", "vid")) for place in ("videos", ".")]
        return place_of(self.folder, *files)

    def _slices_of(self, video_id: str, video: Path) -> _Slices:
        if video_id not in self._slices:
            self._slices[video_id] = _measure(self.folder, video_id, video)
        return self._slices[video_id]

    def _spans(self, name: str, row: Mapping[str, object], slices: _Slices) -> Spans | None:
        """Return a span per evidence slice; None = they cannot be read, which is reported."""
        try:
            return _spans_of(row.get("evidence_slices"), slices)
        except ValueError as error:
            self.bad.append(BadEntry(0, f"left out, spans: {name}: {error}", name))
            return None


def _measure(folder: Path, video_id: str, video: Path) -> _Slices:
    path = path_inside(folder, Path("video_embeddings", f"frame_embeddings_{video_id}.npy"))
    try:
        count = int(np.load(path, mmap_mode="r", allow_pickle=False).shape[0]) or None
    except (OSError, ValueError, IndexError, EOFError):
        count = None
    try:
        duration = media.probe_video(path_inside(folder, video)).duration
    except (OSError, ValueError):
        duration = None
    if count is not None and duration is not None:
        return _Slices(duration / count, count, is_measured=True, duration=duration)
    return _Slices(NOMINAL_SECONDS, count, is_measured=False, duration=duration)


def _spans_of(value: object, slices: _Slices) -> Spans:
    numbers = sorted({integer(item, "evidence slice") for item in array(value, "evidence_slices")})
    if not numbers or numbers[0] < 1 or (slices.number is not None and numbers[-1] > slices.number):
        raise ValueError(
            f"evidence_slices are none, or out of range: got {numbers[:10]}, the video has {slices.number}"
        )
    if slices.duration is not None and (numbers[-1] - 1) * slices.seconds >= slices.duration:
        raise ValueError(f"evidence_slices start after the video: got {numbers[:10]} of {slices.duration:g} seconds")
    return tuple(Span((number - 1) * slices.seconds, number * slices.seconds) for number in numbers)


def _metadata(row: Mapping[str, object], slices: _Slices, *, has_spans: bool) -> dict[str, str]:
    hops = {"hop_level": str(row["hop_level"])} if row.get("hop_level") else {}
    return {**hops, "slices": "measured" if slices.is_measured else "nominal"} if has_spans else hops
