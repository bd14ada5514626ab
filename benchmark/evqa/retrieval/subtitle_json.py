"""Subtitles as JSON: those of many clips or videos in one file, as TVQA publishes them, or those of one video.

    [{"vid_name": CLIP, "sub": [{"text", "start", "end"}]}]     TVQA, TVR; as a list or one object a line
    {CLIP: {"sub_text": "... <eos> ...", "sub_time": [start]}}  TVQA+; a line lasts until the next one starts
    {CLIP: "Leonard : ... "}                                    LongTVQA: the text of a clip, without times
    {EPISODE: "<CLIP>...</CLIP>\\n<CLIP>...</CLIP>"}              LongTVQA, of an episode
    {"clip": CLIP, "subtitle": "..."}, {CLIP: "..."}            one object a line
    [{"start", "end", "text"}], {"segments": [...]}             one video: speech recognition, LongVideoBench
    {"text", "start_time", "end_time"}                          one video, a word a line: Video-MME-v2

A text without times lasts as long as its clip.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

from evqa.datasets import clip_ids
from evqa.datasets.formats import json_stream
from evqa.datasets.formats.json_stream import JsonRange, array, mapping
from evqa.files import jsonl
from evqa.retrieval.subtitle_text import Cue
from evqa.schema import ClipRef

LAST_LINE_SECONDS = 5.0
"""How long a line lasts whose end is unknown: the last one of a clip, or one whose end is null (LongVideoBench)."""

CLIP_MARGIN = 0.1
"""Seconds before the end of its clip at which a line starts at the latest: its times may exceed the clip's length."""

_NAME_KEYS = ("vid_name", "clip", "video", "video_id", "key")
_LINES_KEYS = ("sub", "subtitle", "subtitles", "segments", "text")
_TEXT_KEYS = ("text", "line", "subtitle", "sub", "content")
_SPEAKER = re.compile(r"\s*([A-Z][\w.' -]{0,60}?) :\s(.*)", re.DOTALL)
"""`Sheldon : Who moved my cup ?`, as TVQA writes a speaker."""
_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,3}):(\d{1,3}(?:[.,]\d{1,9})?)", re.ASCII)


class Request(NamedTuple):
    """Whose subtitles are read."""

    clips: tuple[ClipRef, ...]
    """Clips of an episode; () = a single video."""
    video_id: str | None
    duration: float | None
    """Length of the single video in seconds."""

    def places(self) -> dict[str, tuple[float, float]]:
        """Return clip -> (offset, length) in seconds, in order."""
        if self.clips:
            return {clip.id: (clip.start, clip.duration) for clip in self.clips}
        return {} if self.video_id is None else {self.video_id: (0.0, self.duration or math.inf)}


def cues(path: Path, request: Request) -> Iterator[Cue]:
    """Yield the cues that a request asks for, with times of the episode or video.

    Raises:
        ValueError: The file is no JSON of subtitles, or has none of the requested clips or videos.
    """
    places = request.places()
    has_entry = False
    for name, content in _entries(path, places):
        offset, length = places.get(name, (0.0, request.duration or math.inf)) if name else (0.0, math.inf)
        has_entry = True
        for cue in _cues_of(path, name or "file", content, length):
            cue_in_clip = limited(cue, length) if request.clips and name else cue
            yield cue_in_clip._replace(start=cue_in_clip.start + offset, end=cue_in_clip.end + offset)
    if not has_entry:
        names = ", ".join(list(places)[:5]) or "a video: the file has those of many, so name one"
        raise ValueError(f"{path} has no subtitles of {names}")


def limited(cue: Cue, length: float) -> Cue:
    """Return a cue of a clip with times inside the clip."""
    return cue._replace(start=min(cue.start, max(length - CLIP_MARGIN, 0.0)), end=min(cue.end, length))


def _entries(path: Path, places: Mapping[str, object]) -> Iterator[tuple[str | None, object]]:
    """Yield (clip, its content) of the requested clips; the clip is None in a file of one video."""
    state = path.stat()
    index = _index(path, state.st_mtime_ns, state.st_size)
    if index.has_keys:
        yield from _entries_of_object(path, index, places)
        return
    names = (index.unnamed, *(index.ranges[name] for name in places if name in index.ranges))
    ranges = sorted(place for ranges in names for place in ranges)
    yield from _named_entries(path, json_stream.read_ranges(path, ranges), places)


class _Index(NamedTuple):
    """Places of the entries of a file, which may have the subtitles of thousands of clips."""

    ranges: dict[str, list[JsonRange]]
    """Clip, video or key -> its entries."""
    unnamed: list[JsonRange]
    """Entries without a name: lines of one video."""
    has_keys: bool = False
    """Whether the file is one JSON object."""


@lru_cache(maxsize=4)
def _index(path: Path, changed: int, size: int) -> _Index:
    """Scan a file once; the entries of an episode are then read from their places."""
    del changed, size
    match _first_bytes(path):
        case b"[":
            return _index_of_entries(path, json_stream.element_ranges(path))
        case b"{" if _is_lines(path):
            return _index_of_entries(path, _json_lines(path))
        case b"{":
            with json_stream.open_json(path) as entries:
                return _Index({key: [place] for key, place in entries.ranges.items()}, [], has_keys=True)
        case other_start:
            raise ValueError(f"{path}, line 1: expected a JSON object or list of subtitles, got {other_start!r}")


def _index_of_entries(path: Path, values: Iterator[tuple[JsonRange, object]]) -> _Index:
    index = _Index({}, [])
    for number, (place, value) in enumerate(values, 1):
        name = _name_of(mapping(value, f"{path}, entry {number}"))
        (index.unnamed if name is None else index.ranges.setdefault(name, [])).append(place)
    return index


def _name_of(entry: Mapping[str, object]) -> str | None:
    """Return the clip or video of an entry; None = it is a line of one video."""
    name = next((str(entry[key]) for key in _NAME_KEYS if key in entry), None)
    return next(iter(entry)) if name is None and len(entry) == 1 else name


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(jsonl.MARK).lstrip()[:1]


def _is_lines(path: Path) -> bool:
    """Whether the first line is a whole JSON object and more lines follow: JSON Lines under any suffix."""
    lines = jsonl.lines(path)
    first, second = next(lines, None), next(lines, None)
    return bool(second and first and first.content) and _object_or_none(first.content if first else None) is not None


def _object_or_none(content: bytes | None) -> dict[str, object] | None:
    try:
        value: object = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _json_lines(path: Path) -> Iterator[tuple[JsonRange, object]]:
    for line in jsonl.lines(path):
        value = _object_or_none(line.content)
        if value is None:
            raise ValueError(f"{path}, line {line.number}: expected a JSON object")
        yield JsonRange(line.place, line.end), value


def _named_entries(
    path: Path, values: Iterator[object], places: Mapping[str, object]
) -> Iterator[tuple[str | None, object]]:
    """Yield the entries of a list: those of requested clips, or all lines of a file of one video."""
    lines: list[object] = []
    for number, value in enumerate(values, 1):
        entry = mapping(value, f"{path}, entry {number}")
        name = _name_of(entry)
        if name is None:
            lines.append(value)
        elif name in places:
            keys = _LINES_KEYS if any(key in entry for key in _NAME_KEYS) else (name,)
            yield name, next((entry[key] for key in keys if key in entry), None)
    if lines:
        yield None, lines


def _entries_of_object(path: Path, index: _Index, places: Mapping[str, object]) -> Iterator[tuple[str | None, object]]:
    with json_stream.open_json(path, {key: place for key, (place,) in index.ranges.items()}) as entries:
        if any(key in entries for key in _NAME_KEYS):
            yield from _named_entries(path, iter([json_stream.read(path)]), places)
        elif (key := next((key for key in ("segments", "subtitles") if key in entries), None)) is not None:
            yield None, entries[key]
        else:
            yield from ((name, entries[name]) for name in places if name in entries)
            names = [name for name in places if name not in entries and clip_ids.is_clip(name)]
            for episode in dict.fromkeys(map(clip_ids.episode_of, names)):
                texts = clip_ids.clip_texts(entries[episode]) if episode in entries else {}
                yield from ((name, texts[name]) for name in names if name in texts)


def _cues_of(path: Path, place: str, content: object, length: float) -> Iterator[Cue]:
    """Yield the cues of a clip or video with times from its start."""
    if isinstance(content, str):
        if not math.isfinite(length):
            raise ValueError(f"{path}, {place}: a text without times needs the length of its video, which is unknown")
        yield from (Cue(place, 0.0, length, text) for text in content.split("\n"))
    elif isinstance(content, dict):
        yield from _cues_of_starts(path, place, cast("Mapping[str, object]", content), length)
    else:
        for number, item in enumerate(array(content, f"{path}, {place}"), 1):
            yield _timed_cue(f"{place}, entry {number}", mapping(item, f"{path}, {place}, entry {number}"))


def _cues_of_starts(path: Path, place: str, entry: Mapping[str, object], length: float) -> Iterator[Cue]:
    text, starts = entry.get("sub_text"), array(entry.get("sub_time"), f"{path}, {place}: sub_time")
    texts = text.split("<eos>") if isinstance(text, str) else []
    if len(texts) != len(starts):
        raise ValueError(f"{path}, {place}: expected a start per line, got {len(texts)} lines and {len(starts)} starts")
    times = [_seconds(start) for start in starts]
    last = length if math.isfinite(length) else (times[-1] + LAST_LINE_SECONDS if times else 0.0)
    for (start, end), line in zip(pairwise([*times, last]), texts, strict=True):
        yield _with_speaker(Cue(place, start, end, line))


def _timed_cue(place: str, entry: Mapping[str, object]) -> Cue:
    ends = [entry.get(key, entry.get(f"{key}_time")) for key in ("start", "end")]
    times = entry.get("timestamp", ends)
    start, end = cast("list[object]", times) if isinstance(times, list) and len(times) == 2 else (None, None)  # pyright: ignore[reportUnknownArgumentType]
    text = next((entry[key] for key in _TEXT_KEYS if key in entry), None)
    if not isinstance(text, str):
        raise ValueError(  # noqa: TRY004  (a value of a file)
            f"{place}: expected a text under {', '.join(_TEXT_KEYS)}, got {str(text)[:80]}"
        )
    speaker = entry.get("speaker")
    start_second = _seconds(start)
    cue = Cue(place, start_second, start_second + LAST_LINE_SECONDS if end is None else _seconds(end), text)
    return cue._replace(speaker=speaker) if isinstance(speaker, str) else _with_speaker(cue)


def _with_speaker(cue: Cue) -> Cue:
    """Return a cue with its speaker apart from the text, where the text starts with one."""
    match = _SPEAKER.fullmatch(cue.text)
    return cue._replace(speaker=match[1], text=match[2]) if match else cue


def _seconds(value: object) -> float:
    """Return a time as seconds, also of a clock; NaN = it cannot be read, which leaves the line out with a note."""
    if isinstance(value, str) and (match := _CLOCK.fullmatch(value.strip())):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
