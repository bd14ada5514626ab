"""Video SimpleQA: a question of several hops about a video, with the chain of single questions that leads to it.

    data/VideoSimpleQA.json   a list: {date, QA_Pair_1_Question, QA_Pair_1_Answer, ... QA_Pair_4_Answer,
                              Multi_hop_Question, Multi_hop_Answer}; third and fourth pairs are optional
    videos/DATE.mp4           Wikimedia's media of the day, as the published script names them
    frames_N/DATE/            instead of the video, as the published evaluation reads it

An entry has neither a video id nor times: its date names the video. Each question of an entry becomes a sample, the
multi-hop one `NNNN_multi`, those of the chain `NNNN_hop1` to `NNNN_hop4`, NNNN being the entry's place in the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from evqa.datasets import path_inside
from evqa.datasets.formats import json_stream
from evqa.datasets.formats.fields import find_below, numbered_rows, place_of, require
from evqa.datasets.formats.json_stream import mapping, text
from evqa.files.jsonl import BadEntry, BadLine
from evqa.schema import Sample

FILES = ("VideoSimpleQA.json", "data/VideoSimpleQA.json", "VideoSimpleQA/data/VideoSimpleQA.json")
MAX_HOPS = 4
MULTI_HOP = "multi-hop"
"""`Sample.question_type` of the question of an entry; those of its chain are `hop 1` to `hop 4`."""


def samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of Video SimpleQA: one sample per question, the chain of an entry before its multi-hop question."""
    for number, value in enumerate(json_stream.elements(require(folder, *FILES)), 1):
        name = f"{number:04d}"
        rows = numbered_rows([(name, value)], lambda value, name=name: _samples(folder, name, value, bad), bad, number)
        for entry_samples in rows:
            yield from entry_samples


def _samples(folder: Path, name: str, value: object, bad: list[BadLine]) -> list[Sample]:
    row = mapping(value, "entry")
    date = text(row.get("date"), "date")
    video = _video(folder, date)
    pairs = [place for place in range(1, MAX_HOPS + 1) if _has_text(row, f"QA_Pair_{place}_Question")]
    if pairs != list(range(1, len(pairs) + 1)):
        raise ValueError(f"chain has a gap: expected QA_Pair_1 to QA_Pair_{len(pairs)}, got {pairs}")
    names = {f"hop{place}": (f"QA_Pair_{place}", f"hop {place}") for place in pairs}
    names["multi"] = ("Multi_hop", MULTI_HOP)
    read: list[Sample] = []
    for ending, (prefix, question_type) in names.items():
        sample_id = f"{name}_{ending}"
        try:
            read.append(
                Sample(
                    id=sample_id,
                    video_id=date,
                    video=video,
                    question=text(row.get(f"{prefix}_Question"), f"{prefix}_Question"),
                    response=text(row.get(f"{prefix}_Answer"), f"{prefix}_Answer"),
                    question_type=question_type,
                    source="video-simpleqa",
                    metadata={"hops": str(len(pairs)), "entry": name},
                )
            )
        except ValueError as error:
            bad.append(BadEntry(0, f"left out, question: {sample_id}: {error}", sample_id))
    if not read:
        raise ValueError("no question of the entry can be used")
    return read


def _has_text(row: Mapping[str, object], key: str) -> bool:
    value = row.get(key)
    return value is not None and value != ""


def _video(folder: Path, date: str) -> Path:
    """Return the video of a date, the folder of its frames, or the place where the file is expected."""
    frames = sorted(path.name for path in folder.glob("frames_*") if path.is_dir())
    places = [str(find_below(Path(place), f"{date}.mp4", "date")) for place in ("videos", "code/videos")]
    places += [str(find_below(Path(place), date, "date")) for place in frames]
    place = place_of(folder, *places)
    path_inside(folder, place)
    return place
