"""Grounding cache: the clip of each question, located beforehand.

Two forms are read: our records, as `evqa ground` writes them (`predictions.jsonl` or the folder of the run), and the
published JSON, `{"1": {"question", "clip", "status"}}` or a list of such entries. The published form has no id: its
questions are compared with white space folded. A clip counts only for questions about its episode, since ids and texts
of questions may be those of another data set; of several clips for one text, that of the episode counts, if it is one.
Entries that failed are none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

from evqa.datasets import clip_ids
from evqa.datasets.formats import json_stream
from evqa.files import jsonl
from evqa.schema import Prediction, Sample

PREDICTIONS = "predictions.jsonl"

MAX_BYTES = 2**30
"""Largest cache that is read."""


@dataclass(frozen=True)
class GroundingCache:
    """Clips by question."""

    name: str
    by_id: Mapping[str, str] = field(default_factory=dict[str, str])
    by_question: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def clip_of(self, sample: Sample) -> str | None:
        """The clip of a sample's question in its episode; None = the cache has none, or none that is certain."""
        if sample.id in self.by_id:
            clips = frozenset({self.by_id[sample.id]})
        else:
            clips = self.by_question.get(_folded(sample.question), frozenset())
        clips = clips & {clip.id for clip in sample.clips}
        return next(iter(clips)) if len(clips) == 1 else None


def file_of(path: Path) -> Path:
    """The file of a cache that is given as a file or as the folder of a run."""
    return path / PREDICTIONS if path.is_dir() else path


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the records in the folder of a run. `ValueError`: it cannot be read."""
    try:
        return hashlib.sha256(file_of(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"file cannot be read: {path} ({error.strerror}); check the path") from error


def read_cache(path: Path) -> GroundingCache:
    """Read a cache; the same file is read once. `ValueError`: it cannot be read, or has neither form."""
    file = file_of(path)
    try:
        state = file.stat()
    except OSError as error:
        raise ValueError(f"grounding cache cannot be read: {path} ({error.strerror}); check the path") from error
    if state.st_size > MAX_BYTES:
        raise ValueError(f"{file} has {state.st_size} bytes; expected a grounding cache of at most {MAX_BYTES}")
    return _read(file, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> GroundingCache:
    del changed
    name = f"cache {path.parent.name if path.name == PREDICTIONS else path.name}"
    if path.suffix == ".jsonl":
        return GroundingCache(name, by_id=dict(_own_entries(path)))
    clips: dict[str, set[str]] = {}
    for question, clip in _published_entries(path):
        clips.setdefault(question, set()).add(clip)
    return GroundingCache(name, by_question={question: frozenset(names) for question, names in clips.items()})


def _own_entries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (sample id, clip) of our records; a later record of a sample replaces an earlier one."""
    for record in jsonl.read_records(path, Prediction, []):
        if record.status == "ok" and record.clips:
            yield record.sample_id, record.clips[0]


def _published_entries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (folded question, clip) of the published form."""
    content = json_stream.read(path)
    for value in _values(path, content):
        entry = cast("dict[str, object]", value) if isinstance(value, dict) else {}
        question, clip = entry.get("question"), entry.get("clip")
        is_usable = entry.get("status", "ok") == "ok" and isinstance(question, str) and isinstance(clip, str)
        if is_usable and clip_ids.is_clip(str(clip).strip()):
            yield _folded(str(question)), str(clip).strip()


def _values(path: Path, content: object) -> Iterable[object]:
    if isinstance(content, dict):
        return cast("dict[str, object]", content).values()
    return json_stream.array(content, f"grounding cache {path}")


def published_form(samples: Iterable[Sample], records: Mapping[str, Prediction]) -> dict[str, dict[str, str]]:
    """The published form of a cache, without the clip of the ground truth that the original writes beside each entry.

    Args:
        samples: samples in the order of the questions.
        records: sample id -> record of `evqa ground`.
    """
    return {str(number): _published_entry(sample, records.get(sample.id)) for number, sample in enumerate(samples, 1)}


def _published_entry(sample: Sample, record: Prediction | None) -> dict[str, str]:
    reply = record.turns[-1].reply if record and record.turns else ""
    if record is None or record.status == "failed":
        error = "not asked yet" if record is None else record.error or ""
        return {"question": sample.question, "clip": "", "status": "error", "error": error}
    clip = record.clips[0] if record.clips else ""
    status = "ok" if clip else "empty_clip"
    return {"question": sample.question, "clip": clip, "status": status, "raw_response": reply}


def _folded(question: str) -> str:
    return " ".join(question.split())
