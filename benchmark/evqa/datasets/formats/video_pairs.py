"""Pairs of generated videos with preferences of people: GenAI-Bench, VideoGen-RewardBench, MJ-Bench-Video.

    genai_bench_video.json     a list or JSON Lines: {prompt, left_video, right_video, vote_type: leftvote | rightvote |
                               tievote | bothbad_vote}, as the split `video_generation` of TIGER-Lab/GenAI-Bench
    videogen-rewardbench.csv   path_A, path_B, A_model, B_model, prompt, VQ, MQ, TA, Overall: A | B | same
    mj-bench-video.json        a list or JSON Lines: {caption, video_0_path, video_1_path, category_preference,
                               overall_preference, discard}

A sample is a pair: its video is the left one (A, video 0), `videos` the other one, `question` the prompt. Pairs of one
prompt have one `video_id`, so that intervals of scores are by prompt. A dimension whose value cannot be read is left
out of the preferences and reported; a pair without any preference is rejected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, cast

from evqa.datasets.formats import csv_table, json_rows
from evqa.datasets.formats.fields import entry_id, find_below, numbered_rows, place_of, require
from evqa.datasets.formats.json_stream import mapping, text
from evqa.files.jsonl import BadEntry, BadLine
from evqa.schema import Sample

Preference = Literal["first", "second", "tie", "bad"]
Row = Mapping[str, object]

VOTES: Mapping[str, Preference] = {
    "leftvote": "first",
    "rightvote": "second",
    "tievote": "tie",
    "bothbad_vote": "bad",
}
"""Vote of GenAI-Bench -> preference."""

CHOICES: Mapping[str, Preference] = {"a": "first", "b": "second", "same": "tie"}
"""Value of VideoGen-RewardBench -> preference."""

REWARDBENCH_COLUMNS = {"TA": "ta", "MQ": "mq", "VQ": "vq", "OA": "overall"}
"""Dimension -> column of VideoGen-RewardBench, whose names are read in lower case."""

CATEGORIES = {
    "Alignment": "Alignment",
    "Safety": "Safety",
    "Fineness": "Fineness",
    "Coherence": "Coherence & Consistency",
    "Bias": "Bias",
}
"""Dimension -> category of MJ-Bench-Video."""

MJ_DIMENSIONS = {
    "Alignment": "how well the video shows what the prompt describes",
    "Safety": "whether the video is free of harmful, violent or offensive content",
    "Fineness": "how sharp, clean and free of distortions the pictures are",
    "Coherence": "coherence and consistency: how plausible and steady objects and motion are over time",
    "Bias": "whether the video is free of bias about people, such as gender, age, job and origin",
    "OA": "overall quality: which video is better on the whole",
}
"""Dimensions of MJ-Bench-Video -> what they mean."""

UNDECIDED = "hard to judge"
"""Value of MJ-Bench-Video without a preference."""

VIDEO_FOLDERS = ("", "videos/")
"""Folders below that of the data set that a path of a video may be relative to."""


def genai_bench(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the video generation part of GenAI-Bench: one sample per pair."""
    table = _Table(folder, bad, "genai-bench-video")
    path = require(folder, "genai_bench_video.json", "genai_bench_video.jsonl")
    for number, row in json_rows.rows(path, bad):
        name = _first_text(row, ("id", "idx", "question_id")) or str(number)
        yield from numbered_rows([(name, (name, row))], table.genai_pair, bad, number)


def videogen_rewardbench(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of VideoGen-RewardBench: one sample per row."""
    table = _Table(folder, bad, "videogen-rewardbench")
    path = require(folder, "videogen-rewardbench.csv", "videogen_rewardbench.csv")
    needed = ("path_a", "path_b", "prompt", *REWARDBENCH_COLUMNS.values())
    for number, (line, row) in enumerate(csv_table.rows(path, needed, bad), 1):
        yield from numbered_rows([(str(number), (str(number), row))], table.rewardbench_pair, bad, line)


def mj_bench(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of MJ-Bench-Video: one sample per pair that is not marked `discard`."""
    table = _Table(folder, bad, "mj-bench-video")
    path = require(folder, "mj-bench-video.json", "mj-bench-video.jsonl", "test.json", "test.jsonl")
    for number, row in json_rows.rows(path, bad):
        yield from numbered_rows([(str(number), (str(number), row))], table.mj_pair, bad, number)


@dataclass
class _Table:
    """State of reading a table of pairs."""

    folder: Path
    bad: list[BadLine]
    source: str
    _ids: set[str] = field(default_factory=set[str])

    def genai_pair(self, item: tuple[str, Row]) -> Sample:
        name, row = item
        vote = VOTES.get(str(row.get("vote_type")).strip())
        if vote is None:
            raise ValueError(f"vote_type is none of {', '.join(VOTES)}: got {str(row.get('vote_type'))[:80]!r}")
        paths = [_first_text(row, (f"{side}_video", f"{side}_video_path")) for side in ("left", "right")]
        models = {
            f"model_{number}": str(row.get(f"{side}_model") or "") for number, side in enumerate(("left", "right"), 1)
        }
        return self._sample(name, row.get("prompt"), paths, {"OA": vote}, models)

    def rewardbench_pair(self, item: tuple[str, Row]) -> Sample:
        name, row = item
        values = {dimension: row.get(column) for dimension, column in REWARDBENCH_COLUMNS.items()}
        preferences = self._preferences(name, values, lambda value: CHOICES.get(value.lower()))
        models = {"model_1": str(row.get("a_model") or ""), "model_2": str(row.get("b_model") or "")}
        return self._sample(name, row.get("prompt"), [row["path_a"], row["path_b"]], preferences, models)

    def mj_pair(self, item: tuple[str, Row]) -> Sample:
        name, row = item
        if row.get("discard") is True or str(row.get("discard")).lower() == "true":
            raise ValueError("pair is discarded: its annotators marked it so")
        paths = [row.get("video_0_path"), row.get("video_1_path")]
        categories = mapping(row.get("category_preference") or {}, "category_preference")
        values = {dimension: categories.get(category) for dimension, category in CATEGORIES.items()}
        values["OA"] = row.get("overall_preference")
        preferences = self._preferences(name, values, lambda value: _choice_of(value, paths))
        return self._sample(name, row.get("caption"), paths, preferences, {}).replace(dimensions=MJ_DIMENSIONS)

    def _preferences(
        self, name: str, values: Mapping[str, object], read: Callable[[str], Preference | None]
    ) -> dict[str, Preference]:
        """Preferences that can be read; the others are reported. `ValueError`: there are none."""
        preferences: dict[str, Preference] = {}
        for dimension, value in values.items():
            words = "" if value is None else str(value).strip()
            preference = read(words) if words else None
            if preference is not None:
                preferences[dimension] = preference
            elif words.lower() not in {"", UNDECIDED}:
                self.bad.append(BadEntry(0, f"left out, {dimension}: {name}: no preference: got {words[:80]!r}", name))
        if not preferences:
            raise ValueError("pair has no preference: no dimension has a value that can be read")
        return preferences

    def _sample(
        self,
        name: str,
        prompt: object,
        paths: Sequence[object],
        preferences: dict[str, Preference],
        models: dict[str, str],
    ) -> Sample:
        words = text(prompt, "prompt")
        first, second = (self._video(path, number) for number, path in enumerate(paths, 1))
        identifier = entry_id(self.source, name)
        if identifier in self._ids:
            raise ValueError(f"id is taken: another pair is {identifier}")
        self._ids.add(identifier)
        return Sample(
            id=identifier,
            video_id=f"prompt-{hashlib.sha256(words.encode()).hexdigest()[:16]}",
            video=first,
            videos=(second,),
            question=words,
            preferences=preferences,
            source=self.source,
            metadata={key: value for key, value in models.items() if value},
        )

    def _video(self, path: object, number: int) -> Path:
        relative = str(find_below(Path(), text(path, f"video {number}").removeprefix("./"), f"video {number}"))
        return place_of(self.folder, *(f"{parent}{relative}" for parent in VIDEO_FOLDERS))


def _first_text(row: Row, names: tuple[str, ...]) -> str | None:
    """The first field that has a value, as text."""
    values = (row.get(name) for name in names)
    return next((str(value) for value in values if isinstance(value, str | int) and str(value).strip()), None)


def _choice_of(value: str, paths: Sequence[object]) -> Preference | None:
    """Preference of MJ-Bench-Video: `Same`, or a video by its name in the row, its path or the stem of its file."""
    if value.lower() == "same":
        return "tie"
    for place, preference in enumerate(cast("tuple[Preference, ...]", ("first", "second"))):
        path = PurePosixPath(str(paths[place]))
        if value in {f"video_{place}", str(place), str(path), path.name, path.stem}:
            return preference
    return None
