"""The mask file of an ST-Evidence-Instruct entry: polygons per object and frame, or run lengths.

    {"width": 640, "height": 480, "evidence_objects": [{"ref_expression": "the red cup",
        "masks": [{"frame": 12, "mask": {"exterior": [[x, y], ...], "holes": [[[x, y], ...]]}}, ...]}, ...]}

or `[object][frame]` = run lengths, a list of run lengths, or null. Polygon coordinates are pixels of
`width x height`; masks of another size than the video are brought to the video's size.

A frame whose mask cannot be read, or that the video does not have, costs only itself. Frames are addressed by their
numbers in the names `frame_0012.jpg`, so that a missing file shifts no other frame.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from evqa import masks, media
from evqa.images import MAX_PIXELS
from evqa.jsonl import explain
from evqa.media import Video
from evqa.schema import RLE, Track

MAX_BYTES = 2**28
"""A larger file of one entry is refused."""


class Region(BaseModel):
    """An outline with its holes."""

    exterior: list[tuple[float, float]]
    holes: list[list[tuple[float, float]]] = []


class FrameMask(BaseModel):
    """An object in one frame; regions of the same frame are joined."""

    frame: int = Field(ge=0)
    mask: Region | list[Region]


FRAME_MASK = TypeAdapter(FrameMask)


class EvidenceObject(BaseModel):
    """One object of the evidence."""

    ref_expression: str | None = None
    masks: list[object] | None = None
    """Each a `FrameMask`, read one by one."""


class Polygons(BaseModel):
    """The raw form."""

    width: int | None = Field(default=None, ge=1, le=MAX_PIXELS)
    height: int | None = Field(default=None, ge=1, le=MAX_PIXELS)
    evidence_objects: list[EvidenceObject]


class Runs(BaseModel):
    """Run lengths, compressed text or plain counts."""

    size: tuple[int, int]
    counts: str | list[int]


RunLists = list[list[object]]
"""The pre-processed form: each a `Runs`, a list of them, or null, read one by one."""

RUNS: TypeAdapter[Runs | list[Runs] | None] = TypeAdapter(Runs | list[Runs] | None)

MASK_FILE: TypeAdapter[Polygons | RunLists] = TypeAdapter(Polygons | RunLists)


def read_tracks(path: Path, video: Video | None, left_out: list[str] | None = None) -> tuple[Track, ...] | None:
    """The tracks of a mask file at the video's size (their own if unknown); None where it has no masks.

    Args:
        path: The file.
        video: The video that it belongs to; a folder of frames may lack some.
        left_out: Gets the reasons of frames that are left out.

    Raises:
        ValueError: The file is none of the two forms, or every frame of it is left out.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file has {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
    content = MASK_FILE.validate_json(path.read_bytes())
    reasons: list[str] = []
    frames = _Frames(None if video is None else (video.height, video.width), _places(video), reasons)
    tracks = _drawn(content, frames) if isinstance(content, Polygons) else _coded(content, frames)
    if reasons and not any(track.masks for track in tracks or ()):
        raise ValueError(f"no frame can be used: {len(reasons)} of them, the first: {reasons[0]}")
    if left_out is not None:
        left_out += reasons
    return tracks


def annotated(tracks: Sequence[Track] | None) -> tuple[int, ...] | None:
    """The frames in which an object has a mask, as `Sample.frames`; None where there are none.

    Training draws from these, as published: no mask elsewhere is no annotation, and not "no evidence".
    """
    return tuple(sorted({index for track in tracks or () for index in track.masks})) or None


class _Frames(NamedTuple):
    """The frames that masks are for."""

    size: tuple[int, int] | None
    """(height, width); None = unknown."""
    places: Mapping[int, int] | None
    """Frame number -> index in the video; None = the video is unknown, and numbers are indices."""
    left_out: list[str]

    def place(self, number: int) -> int | None:
        """The index of a numbered frame; None, with the reason, where the video does not have it."""
        if self.places is None:
            return number
        if number not in self.places:
            self.left_out.append(f"frame {number}: the video has {len(self.places)} frames, up to {max(self.places)}")
        return self.places.get(number)


_NUMBERED = re.compile(r"frame_(\d{1,9})", re.ASCII)


def _places(video: Video | None) -> Mapping[int, int] | None:
    """Frame number -> index: by the names of a folder `frame_0000.jpg`, ...; else the same."""
    if video is None:
        return None
    names = [_NUMBERED.fullmatch(name) for name in media.image_names(video.path)] if video.path.is_dir() else []
    numbers = [int(name[1]) for name in names if name is not None]
    if not names or len(numbers) < len(names) or len(set(numbers)) < len(numbers):
        return {index: index for index in range(video.num_frames)}
    return {number: index for index, number in enumerate(numbers)}


def _drawn(content: Polygons, frames: _Frames) -> tuple[Track, ...] | None:
    objects = [thing for thing in content.evidence_objects if thing.masks is not None]
    if not objects:
        return None
    own = None if content.height is None or content.width is None else (content.height, content.width)
    size = frames.size or own
    if size is None:
        raise ValueError("width and height are missing, and the video, which could tell them, cannot be read")
    scale = (1.0, 1.0) if own is None else (size[1] / own[1], size[0] / own[0])
    return tuple(
        Track(label=thing.ref_expression or None, masks=_draw(thing.masks or [], frames, size, scale))
        for thing in objects
    )


def _draw(
    entries: Sequence[object], frames: _Frames, size: tuple[int, int], scale: tuple[float, float]
) -> dict[int, RLE]:
    regions: dict[int, list[Region]] = {}
    for entry in entries:
        try:
            frame = FRAME_MASK.validate_python(entry)
        except ValidationError as error:
            frames.left_out.append(f"a frame: {explain(error)[:200]}")
            continue
        if (place := frames.place(frame.frame)) is not None:
            regions.setdefault(place, []).extend([frame.mask] if isinstance(frame.mask, Region) else frame.mask)
    return _filled({index: _union(regions[index], size, scale) for index in sorted(regions)})


def _union(regions: Sequence[Region], size: tuple[int, int], scale: tuple[float, float]) -> RLE:
    mask = np.zeros(size, dtype=np.bool_)
    for region in regions:
        exterior, *holes = (
            [(x * scale[0], y * scale[1]) for x, y in corners] for corners in (region.exterior, *region.holes)
        )
        mask |= masks.from_polygons(exterior, holes, size)
    return masks.encode(mask)


def _coded(content: RunLists, frames: _Frames) -> tuple[Track, ...] | None:
    if not content:
        return None
    tracks = [Track(masks=_filled(_joined(entries, frames))) for entries in content]
    sizes = {rle.size for track in tracks for rle in track.masks.values()}
    if len(sizes) > 1:
        raise ValueError(f"masks of one entry have one size, got {sorted(sizes)}")
    size = frames.size
    if size is None or sizes <= {size}:
        return tuple(tracks)
    return tuple(Track(masks={i: _resized(rle, size) for i, rle in track.masks.items()}) for track in tracks)


def _joined(entries: Sequence[object], frames: _Frames) -> dict[int, RLE]:
    """Index in the video -> the run lengths of a frame, joined."""
    found: dict[int, RLE] = {}
    for number, entry in enumerate(entries):
        try:
            runs = RUNS.validate_python(entry)
            parts = [_rle(part) for part in ([runs] if isinstance(runs, Runs) else runs or ())]
            joined = masks.union(parts) if parts else None
            is_empty = joined is None or not masks.area(joined)
        except ValidationError as error:
            frames.left_out.append(f"frame {number}: {explain(error)[:200]}")
            continue
        except ValueError as error:
            frames.left_out.append(f"frame {number}: {error}")
            continue
        if joined is not None and not is_empty and (place := frames.place(number)) is not None:
            found[place] = joined
    return dict(sorted(found.items()))


def _rle(runs: Runs) -> RLE:
    if isinstance(runs.counts, str):
        return RLE(size=runs.size, counts=runs.counts)
    return masks.from_run_lengths(runs.counts, runs.size)


def _resized(rle: RLE, size: tuple[int, int]) -> RLE:
    return masks.encode(masks.resize(masks.decode(rle), size))


def _filled(frames: Mapping[int, RLE]) -> dict[int, RLE]:
    """Without the empty masks: a frame that a track does not list has no pixel of the object."""
    return {index: rle for index, rle in frames.items() if masks.area(rle)}
