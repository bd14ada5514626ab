"""Subtitles: the lines of a subtitle file with their times, and search in them.

`read_subtitles` reads SubRip (`.srt`), WebVTT (`.vtt`), SubStation Alpha (`.ass`, `.ssa`) and JSON (`subtitle_json`).
A file is material of others: its size is bounded, markup and control characters are removed, each line is one line of
text, and no time is used that is not a finite `0 <= start <= end`. Corrections stand in `Subtitles.notes`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evqa.datasets import clip_ids
from evqa.files import links
from evqa.media import Video
from evqa.retrieval import subtitle_json, subtitle_text
from evqa.retrieval.bm25 import Bm25
from evqa.retrieval.subtitle_text import Cue
from evqa.schema import ClipRef, Sample

logger = logging.getLogger(__name__)

TEXT_SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
"""Suffixes of subtitle files that are looked for beside a video, in this order."""

JSON_SUFFIXES = (".json", ".jsonl")

MAX_LINES = 200_000
"""Most lines of a file; a film has about 2,000."""

MAX_NOTES = 100
"""Most notes of a file; the others are counted."""

MAX_CHARACTERS = 2_000
"""Most characters of a line; the rest is cut off, with a note."""


class SubtitleLine(NamedTuple):
    """A line of subtitles; text without line breaks."""

    start: float
    """In seconds of the video, `0 <= start <= end`."""
    end: float
    text: str
    speaker: str | None = None
    """Who speaks, where the file says so."""


class SubtitleHit(NamedTuple):
    """A line that matches a query, with the lines around it."""

    row: int
    """Index of the line."""
    line: SubtitleLine
    score: float
    """Of BM25, above 0."""
    context: tuple[SubtitleLine, ...]
    """The line and its neighbours, in order."""


@dataclass(frozen=True)
class Subtitles:
    """Lines of subtitles in order of start, then end; lines may overlap."""

    lines: tuple[SubtitleLine, ...]
    notes: tuple[str, ...] = ()
    """What was corrected or left out, with the line of the file."""

    def __len__(self) -> int:
        """Number of lines."""
        return len(self.lines)

    def lines_between(self, start: float = 0, end: float = math.inf) -> tuple[SubtitleLine, ...]:
        """Return the lines that overlap a window in seconds. Touching at one point is no overlap.

        A line or window of length 0 overlaps where it lies inside the other, ends included.

        Raises:
            ValueError: The window has no number, or ends before it starts.
        """
        return tuple(self.lines[row] for row in self._overlapping(start, end).nonzero()[0])

    def from_second(self, origin: float) -> Subtitles:
        """Return the lines that end after a second, with times from that second on."""
        lines = (line for line in self.lines if line.end > origin)
        shifted_lines = (line._replace(start=max(line.start - origin, 0.0), end=line.end - origin) for line in lines)
        return Subtitles(tuple(shifted_lines), self.notes)

    def search(
        self, query: str, k: int = 5, *, start: float = 0, end: float = math.inf, context: int = 1
    ) -> tuple[SubtitleHit, ...]:
        """Return the lines that match a query best; () = no line has a word of it.

        Args:
            query: words in any order.
            k: greatest number of hits, at least 1.
            start: start of the window in seconds; lines that do not overlap it are no hits.
            end: end of the window in seconds.
            context: number of lines before and after each hit. A line in the context of a better hit is no further hit.

        Raises:
            ValueError: `k` or `context` is too small, or the window as for `lines_between`.
        """
        if k < 1 or context < 0:
            raise ValueError(f"expected k of at least 1 and a context of at least 0, got k={k}, context={context}")
        allowed = self._overlapping(start, end)
        hits: list[SubtitleHit] = []
        covered: set[int] = set()
        for row, score in self._index.search(query, max(len(self), 1), allowed=allowed):
            if row in covered:
                continue
            rows = range(max(row - context, 0), min(row + context + 1, len(self)))
            covered.update(rows)
            hits.append(SubtitleHit(row, self.lines[row], score, self.lines[rows.start : rows.stop]))
            if len(hits) == k:
                break
        return tuple(hits)

    def _overlapping(self, start: float, end: float) -> NDArray[np.bool_]:
        """Return bool [N], the lines that overlap a window."""
        if not start <= end:  # also where one is no number
            raise ValueError(f"expected a window with start <= end in seconds, got start={start}, end={end}")
        starts, ends = self._times
        touches = (starts <= end) & (start <= ends)
        is_inside = (starts == ends) | (start == end)
        return touches & (is_inside | ((starts < end) & (start < ends)))

    @cached_property
    def _times(self) -> NDArray[np.float64]:
        """Starts and ends, float64 [2, N]."""
        return np.array([(line.start, line.end) for line in self.lines], dtype=np.float64).reshape(-1, 2).T

    @cached_property
    def _index(self) -> Bm25:
        return Bm25([f"{line.speaker}: {line.text}" if line.speaker else line.text for line in self.lines])


def read_subtitles(
    path: Path, *, clips: Sequence[ClipRef] = (), video_id: str | None = None, duration: float | None = None
) -> Subtitles:
    """Read a file of subtitles; the format is recognised by the content, then by the suffix.

    Args:
        path: file in one of the formats of this module, UTF-8, UTF-16 or Windows-1252 (with a warning), or a folder
            with a file `CLIP.srt` or `CLIP.vtt` per clip.
        clips: clips of an episode. Of a JSON file with the subtitles of many clips, or a folder, those of these clips
            are read, and their times become times of the episode. Ignored for other formats.
        video_id: whose subtitles are read of a JSON file with those of many videos, or of a folder.
        duration: length of the video in seconds, which a text of `video_id` without times gets.

    Raises:
        ValueError: The file is missing, too large, no subtitles, or malformed, with the line where there is one.
    """
    if path.is_dir():
        return _read_folder(path, subtitle_json.Request(tuple(clips), video_id, duration))
    try:
        size = path.stat().st_size
        if path.suffix.lower() in JSON_SUFFIXES:
            request = subtitle_json.Request(tuple(clips), video_id, duration)
            return _checked(path, subtitle_json.cues(path, request), ())
        content = path.read_bytes() if size <= subtitle_text.MAX_BYTES else b""
    except OSError as error:
        raise ValueError(f"subtitles cannot be read: {path} ({error.strerror}); check the path") from error
    if size > subtitle_text.MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes; expected subtitles of at most {subtitle_text.MAX_BYTES}")
    text, encoding_notes = subtitle_text.decoded(path, content)
    for note in encoding_notes:
        logger.warning("%s: %s", path, note)
    return _checked(path, subtitle_text.cues(path, text), encoding_notes)


def _read_folder(folder: Path, request: subtitle_json.Request) -> Subtitles:
    """Read the files of the requested clips; a clip without a file has no subtitles, one that is unreadable a note."""
    cues: list[Cue] = []
    notes: list[str] = []
    num_files = 0
    for name, (offset, length) in request.places().items():
        path = _clip_file(folder, name)
        if path is None:
            continue
        num_files += 1
        try:
            clip = read_subtitles(path)
        except ValueError as error:
            notes.append(f"{name}: left out: {error}")
            continue
        notes += [f"{name}, {note}" for note in clip.notes]
        for line in clip.lines:
            cue = subtitle_json.limited(Cue(name, line.start, line.end, line.text, line.speaker), length)
            cues.append(cue._replace(start=cue.start + offset, end=cue.end + offset))
    if not num_files:
        names = ", ".join(list(request.places())[:5]) or "a video: name a clip"
        raise ValueError(f"{folder} has no subtitles of {names}")
    return _checked(folder, cues, notes)


def _clip_file(folder: Path, name: str) -> Path | None:
    """Return the file of a clip in a folder; None = there is none, or it leads out of the folder."""
    paths = (folder / f"{name}{suffix}" for suffix in clip_ids.SUBTITLE_SUFFIXES)
    return next((path for path in paths if path.is_file() and not links.leads_out(path, path.resolve())), None)


def _checked(path: Path, cues: Iterable[Cue], warnings: Sequence[str]) -> Subtitles:
    """Return cues with usable times and text as subtitles, with a note for each correction."""
    lines: list[SubtitleLine] = []
    notes = list(warnings)
    for number, cue in enumerate(cues, 1):
        if number > MAX_LINES:
            raise ValueError(f"{path} has more than {MAX_LINES} lines of subtitles; split the file")
        line, note = _line_of(cue)
        notes += [f"{cue.place}: {note}"] if note else []
        lines += [line] if line else []
    if len(notes) > MAX_NOTES:
        notes = [*notes[:MAX_NOTES], f"and {len(notes) - MAX_NOTES} more"]
    return Subtitles(tuple(sorted(lines, key=lambda line: line[:2])), tuple(notes))


def _line_of(cue: Cue) -> tuple[SubtitleLine | None, str]:
    """Return (line, None = unusable; what was corrected or why it is unusable, "" = nothing)."""
    text = subtitle_text.plain(cue.text)
    if not text:
        return None, ""
    start, end, problems = cue.start, cue.end, list[str]()
    if not (math.isfinite(start) and math.isfinite(end)) or max(start, end) < 0:
        return None, f"left out: times are {start} and {end}"
    if start > end:
        start, end = end, start
        problems.append(f"it ended before it started: read as {start:g} to {end:g} seconds")
    if start < 0:
        start = 0.0
        problems.append("it started before 0: starts at 0")
    if len(text) > MAX_CHARACTERS:
        problems.append(f"text of {len(text)} characters: cut to {MAX_CHARACTERS}")
        text = text[:MAX_CHARACTERS]
    speaker = subtitle_text.plain(cue.speaker or "")[:100] or None
    return SubtitleLine(start, end, text, speaker), "; ".join(problems)


# The subtitles of a video


def subtitles_of(source: Sample | Video | Path) -> Subtitles | None:
    """Read the subtitles of a video; None = it has none.

    `Sample.subtitles` comes first, else the file beside the video, see `subtitle_file`.

    Raises:
        ValueError: There is a file, and it cannot be used, see `read_subtitles`.
    """
    if not isinstance(source, Sample):
        path = subtitle_file(source.path if isinstance(source, Video) else source)
        return None if path is None else read_subtitles(path)
    path = source.subtitles or (subtitle_file(source.video) if source.has_video else None)
    if path is None:
        return None
    clips = source.clips if source.clip is None else ()  # those of one clip are in its own times
    subtitles = read_subtitles(path, clips=clips, video_id=source.video_id, duration=source.duration)
    return subtitles if source.subtitles_origin == 0 else subtitles.from_second(source.subtitles_origin)


def subtitle_file(video: Path) -> Path | None:
    """Return the subtitle file beside a video file or folder of frames: `NAME.srt`, then `NAME.en.srt`, `NAME.de.srt`.

    English goes before other languages, which are in alphabetical order; of one language the order is that of
    `TEXT_SUFFIXES`. A link out of the folder is used only where the user allowed it (`evqa.files.links`).
    """
    stem = video.name if video.is_dir() else video.stem
    try:
        names = [path.name for path in video.parent.iterdir() if path.name.startswith(f"{stem}.")]
    except OSError:
        return None
    ranks = sorted(rank for name in names if (rank := _rank(name, stem)) is not None)
    paths = (video.parent / rank[-1] for rank in ranks)
    return next((path for path in paths if path.is_file() and not links.leads_out(path, path.resolve())), None)


_TAGS = re.compile(r"(?:\.([a-z]{2,3}(?:-[a-z0-9]{1,8}){0,3}))?(?:\.(?:sdh|cc|forced|auto))?")
"""Between the name of the video and the suffix: a language, and a kind of subtitles."""


def _rank(name: str, stem: str) -> tuple[int, str, int, str] | None:
    """Return the place of a file in the order of `subtitle_file`, its name last; None = no subtitles of the video."""
    tags, dot, suffix = name[len(stem) :].lower().rpartition(".")
    match = _TAGS.fullmatch(tags)
    if match is None or f"{dot}{suffix}" not in TEXT_SUFFIXES:
        return None
    language = match[1] or ""
    group = 0 if not tags else 1 if language == "en" or language.startswith("en-") else 2
    return group, tags, TEXT_SUFFIXES.index(f"{dot}{suffix}"), name
