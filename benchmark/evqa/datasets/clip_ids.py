"""Ids of the clips of TV episodes, as TVQA writes them: `friends_s06e12_seg02_clip_10`.

The episode is what stands before the segment, with the show in front (`friends_s06e12`); The Big Bang Theory has no
show there (`s01e02_seg02_clip_12`). Clips are in order of segment and clip by number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SHOWS = {
    "friends": "Friends",
    "grey": "Grey's Anatomy",
    "house": "House M.D.",
    "met": "How I Met Your Mother",
    "castle": "Castle",
}
"""Show in front of a clip id -> its name."""
NO_PREFIX = "The Big Bang Theory"
"""Show whose clip ids have no prefix."""

SUBTITLE_SUFFIXES = (".srt", ".vtt")
"""Suffixes of a file with the subtitles of one clip, `CLIP.srt`."""

_CLIP = re.compile(r"([A-Za-z0-9]{1,60}(?:_[A-Za-z0-9]{1,60}){0,5})_seg(\d{1,6})_clip_(\d{1,6})", re.ASCII)

_TAG = re.compile(r"<(/?)([A-Za-z0-9_]{1,120})>", re.ASCII)


class ClipPlace(NamedTuple):
    """Place of a clip in its episode; sorts in the order of the episode."""

    episode: str
    segment: int
    clip: int


def place_of(clip: str) -> ClipPlace:
    """Return the place of a clip. `ValueError`: the id is not of the form EPISODE_segNN_clip_NN."""
    match = _CLIP.fullmatch(clip)
    if match is None:
        raise ValueError(f"clip id has another form: expected EPISODE_segNN_clip_NN, got {clip[:80]!r}")
    return ClipPlace(match[1], int(match[2]), int(match[3]))


def is_clip(name: str) -> bool:
    """Return whether a name has the form of a clip id."""
    return _CLIP.fullmatch(name) is not None


def episode_of(clip: str) -> str:
    """Return the episode of a clip. `ValueError` as for `place_of`."""
    return place_of(clip).episode


def show_of(episode: str) -> str:
    """Return the name of the show of an episode; its prefix where the show is unknown."""
    prefix, underscore, _ = episode.rpartition("_")
    return SHOWS.get(prefix, prefix) if underscore else NO_PREFIX


def clips_with_files(folder: Path) -> Iterator[str]:
    """Yield the clips that have a file of subtitles in a folder, which need not exist."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix.lower() in SUBTITLE_SUFFIXES and is_clip(path.stem):
            yield path.stem


def clip_texts(episode: object) -> dict[str, str]:
    """Return clip -> its text in that of an episode, which has it as `<CLIP>...</CLIP>`; the first of a clip counts."""
    if not isinstance(episode, str):
        return {}
    texts: dict[str, str] = {}
    opened: re.Match[str] | None = None
    for tag in _TAG.finditer(episode):
        if tag[1] and opened is not None and tag[2] == opened[2]:
            texts.setdefault(tag[2], episode[opened.end() : tag.start()])
            opened = None
        elif not tag[1] and opened is None and is_clip(tag[2]):
            opened = tag
    return texts
