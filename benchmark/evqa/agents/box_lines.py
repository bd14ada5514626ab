"""Boxes of objects as lines of a prompt, from a published `clip_bbox_mapping.json` or a file of questions with `bbox`.

Such a file is ground truth: it holds the boxes of what questions and correct answers name. It is used only where the
user names it, for comparison with published numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from evqa.agents.looking import MAX_BOX_LINES, BoxLines
from evqa.datasets.formats import json_rows, json_stream
from evqa.datasets.formats.tvqa import BoxRow, box_mapping, boxes_of


def read(path: Path) -> BoxLines:
    """Return clip -> a line per box. `ValueError`: the file cannot be read."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise ValueError(f"boxes cannot be read: {path} ({error.strerror}); check the path") from error
    return _read(path, changed)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> dict[str, tuple[str, ...]]:
    del changed
    if json_rows.is_list(path) or path.suffix == ".jsonl":
        return {clip: _lines(frames) for clip, frames in box_mapping(path, []).items()}
    with json_stream.open_json(path) as clips:
        return {clip: _lines(boxes_of(clips[clip], _ignore)) for clip in clips}


def _lines(frames: Mapping[int, Sequence[BoxRow]] | Mapping[str, Sequence[BoxRow]]) -> tuple[str, ...]:
    lines = [
        f"frame {frame}: {box.label} {[round(edge, 1) for edge in box[:4]]}"
        for frame, boxes in frames.items()
        for box in boxes
    ]
    return tuple(lines[:MAX_BOX_LINES])


def _ignore(reason: str) -> None:
    """Leave out a box that cannot be read."""
    del reason
