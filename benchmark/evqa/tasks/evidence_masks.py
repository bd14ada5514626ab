"""The mask file of an ST-Evidence-Instruct entry: polygons per object and frame, or run lengths.

    {"width": 640, "height": 480, "evidence_objects": [{"ref_expression": "the red cup",
        "masks": [{"frame": 12, "mask": {"exterior": [[x, y], ...], "holes": [[[x, y], ...]]}}, ...]}, ...]}

or `[object][frame]` = run lengths, a list of run lengths, or null. Polygon coordinates are pixels of
`width x height`; masks of another size than the video are brought to the video's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter

from evqa import masks
from evqa.images import MAX_PIXELS
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


class EvidenceObject(BaseModel):
    """One object of the evidence."""

    ref_expression: str | None = None
    masks: list[FrameMask] | None = None


class Polygons(BaseModel):
    """The raw form."""

    width: int | None = Field(default=None, ge=1, le=MAX_PIXELS)
    height: int | None = Field(default=None, ge=1, le=MAX_PIXELS)
    evidence_objects: list[EvidenceObject]


class Runs(BaseModel):
    """Run lengths, compressed text or plain counts."""

    size: tuple[int, int]
    counts: str | list[int]


RunLists = list[list[Runs | list[Runs] | None]]
"""The pre-processed form."""

MASK_FILE: TypeAdapter[Polygons | RunLists] = TypeAdapter(Polygons | RunLists)


def read_tracks(path: Path, video: Video | None) -> tuple[Track, ...] | None:
    """The tracks of a mask file at the video's size (their own if unknown); None where it has no masks."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file has {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
    content = MASK_FILE.validate_json(path.read_bytes())
    size = None if video is None else (video.height, video.width)
    tracks = _drawn(content, size) if isinstance(content, Polygons) else _coded(content, size)
    if tracks is not None and video is not None:
        _check_frames(tracks, video)
    return tracks


def _check_frames(tracks: Sequence[Track], video: Video) -> None:
    last = max((index for track in tracks for index in track.masks), default=0)
    if last >= video.num_frames:
        raise ValueError(f"a mask is at frame {last}, the video has frames 0 to {video.num_frames - 1}")


def _drawn(content: Polygons, size: tuple[int, int] | None) -> tuple[Track, ...] | None:
    objects = [thing for thing in content.evidence_objects if thing.masks is not None]
    if not objects:
        return None
    own = None if content.height is None or content.width is None else (content.height, content.width)
    size = size or own
    if size is None:
        raise ValueError("width and height are missing, and the video, which could tell them, cannot be read")
    scale = (1.0, 1.0) if own is None else (size[1] / own[1], size[0] / own[0])
    return tuple(
        Track(label=thing.ref_expression or None, masks=_draw(thing.masks or [], size, scale)) for thing in objects
    )


def _draw(frames: Sequence[FrameMask], size: tuple[int, int], scale: tuple[float, float]) -> dict[int, RLE]:
    regions: dict[int, list[Region]] = {}
    for frame in frames:
        regions.setdefault(frame.frame, []).extend([frame.mask] if isinstance(frame.mask, Region) else frame.mask)
    return _filled({index: _union(regions[index], size, scale) for index in sorted(regions)})


def _union(regions: Sequence[Region], size: tuple[int, int], scale: tuple[float, float]) -> RLE:
    mask = np.zeros(size, dtype=np.bool_)
    for region in regions:
        exterior, *holes = (
            [(x * scale[0], y * scale[1]) for x, y in corners] for corners in (region.exterior, *region.holes)
        )
        mask |= masks.from_polygons(exterior, holes, size)
    return masks.encode(mask)


def _coded(content: RunLists, size: tuple[int, int] | None) -> tuple[Track, ...] | None:
    if not content:
        return None
    tracks: list[Track] = []
    for frames in content:
        parts = {index: [part] if isinstance(part, Runs) else part for index, part in enumerate(frames) if part}
        tracks.append(Track(masks=_filled({i: masks.union([_rle(p) for p in of]) for i, of in parts.items()})))
    sizes = {rle.size for track in tracks for rle in track.masks.values()}
    if len(sizes) > 1:
        raise ValueError(f"masks of one entry have one size, got {sorted(sizes)}")
    if size is None or sizes <= {size}:
        return tuple(tracks)
    return tuple(Track(masks={i: _resized(rle, size) for i, rle in track.masks.items()}) for track in tracks)


def _rle(runs: Runs) -> RLE:
    if isinstance(runs.counts, str):
        return RLE(size=runs.size, counts=runs.counts)
    return masks.from_run_lengths(runs.counts, runs.size)


def _resized(rle: RLE, size: tuple[int, int]) -> RLE:
    return masks.encode(masks.resize(masks.decode(rle), size))


def _filled(frames: Mapping[int, RLE]) -> dict[int, RLE]:
    """Without the empty masks: a frame that a track does not list has no pixel of the object."""
    return {index: rle for index, rle in frames.items() if masks.area(rle)}
