"""Looks that are answered from texts about the clips of an episode, without frames and without a vision model.

    {CLIP: ["line", ...]}                        descriptions, captions or cached replies, a line each
    {CLIP: "line\\nline"}                         the same as one text
    {CLIP: [{"text" or "caption": "line"}]}      the same as entries
    {CLIP: {FRAME: [[x, y, w, h, "label"]]}}     boxes, the published `clip_bbox_mapping.json`: a line per object

A look returns the lines of the clip that fit its query best; where none has a word of the query, nothing is visible.
The texts may be ground truth: they serve training and comparison, and a run that uses them records their digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from evqa.agents.episode_clips import FPS, EpisodeClips
from evqa.agents.looking import VISION, Sight
from evqa.agents.transcript import Transcript
from evqa.datasets.formats import json_stream
from evqa.datasets.formats.tvqa import boxes_of
from evqa.models.messages import Message, Reply
from evqa.retrieval.bm25 import Bm25
from evqa.schema import Usage

MAX_LINES = 5
"""Lines that a look returns."""

MAX_CLIP_LINES = 2_000
"""Lines of a clip that are searched."""

MAX_LINE_CHARACTERS = 1_000

NOTHING = "not visible"
"""Reply where no line has a word of the query."""

MODEL = "clip-texts"
"""Name of the vision agent in the record."""

ClipTexts = Mapping[str, Sequence[str]]
"""Clip -> lines about what is visible in it."""

_TEXT_KEYS = ("text", "caption", "description", "reply")


@dataclass(frozen=True)
class TextLooker:
    """`Looker` that answers from texts about the clips."""

    texts: ClipTexts
    transcript: Transcript

    def look(self, episode: EpisodeClips, place: int, query: str, boxes: Sequence[str] = ()) -> Sight:
        """Lines of the clip that fit the query; see `Looker`. Every call is a turn of the role vision."""
        del boxes
        lines = tuple(self.texts.get(episode.ids[place], ()))
        hits = _index(lines).search(query, MAX_LINES) if lines else []
        text = "\n".join(lines[hit.row] for hit in hits) or NOTHING
        usage = Usage(input_tokens=0, output_tokens=0, cost=0.0, seconds=0.0)
        self.transcript.add_turn([Message("user", (query,))], Reply(text, usage=usage), agent=VISION, model=MODEL)
        return Sight(text, ok=True)


def read_clip_texts(path: Path) -> ClipTexts:
    """Read texts about clips; the same file is read once. `ValueError`: it cannot be read or has another form."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise ValueError(f"texts of clips cannot be read: {path} ({error.strerror}); check the path") from error
    return _read(path, changed)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> ClipTexts:
    del changed
    with json_stream.open_json(path) as clips:
        return {clip: _lines(clip, clips[clip]) for clip in clips}


def _lines(clip: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        lines = value.splitlines()
    elif isinstance(value, list):
        lines = [_entry_text(clip, entry) for entry in cast("list[object]", value)]
    elif isinstance(value, dict):
        lines = _object_lines(cast("object", value))
    else:
        raise _form_error(clip, value)
    usable = (" ".join(line.split())[:MAX_LINE_CHARACTERS] for line in lines[:MAX_CLIP_LINES])
    return tuple(line for line in usable if line)


def _entry_text(clip: str, entry: object) -> str:
    if isinstance(entry, dict):
        fields = cast("dict[str, object]", entry)
        return _entry_text(clip, next((fields[key] for key in _TEXT_KEYS if key in fields), None))
    if not isinstance(entry, str):
        raise _form_error(clip, entry)
    return entry


def _form_error(clip: str, value: object) -> ValueError:
    return ValueError(f"texts of clip {clip}: expected lines, a text, or boxes by frame, got {str(value)[:80]!r}")


def _object_lines(value: object) -> list[str]:
    """A line per label of boxes: when it is visible."""
    frames: dict[str, list[int]] = {}
    for frame, boxes in boxes_of(value, _ignore).items():
        for label in dict.fromkeys(box.label for box in boxes):
            frames.setdefault(label, []).append(frame)
    return [
        f"{label} visible from {(numbers[0] - 1) / FPS:.1f} to {(numbers[-1] - 1) / FPS:.1f} seconds"
        for label, numbers in frames.items()
    ]


@lru_cache(maxsize=256)
def _index(lines: tuple[str, ...]) -> Bm25:
    """Index of the lines of a clip; questions about an episode often look at the same clips."""
    return Bm25(lines)


def _ignore(reason: str) -> None:
    """Leave out a box that cannot be read."""
    del reason
