"""Reader of the mask file of an ST-Evidence-Instruct entry: polygons per object and frame, or run lengths.

    {"width": 640, "height": 480, "evidence_objects": [{"ref_expression": "the red cup",
        "masks": [{"frame": 12, "mask": {"exterior": [[x, y], ...], "holes": [[[x, y], ...]]}}, ...]}, ...]}

or `[object][frame]` = run lengths, a list of run lengths, or null. Polygon coordinates are pixels of
`width x height`; masks of another size than the video are brought to the video's size.

Each mask may also be one of COCO's forms (see `_shapes`). An object or frame whose mask is invalid, or that the video
lacks, is left out alone. Frames are addressed by the numbers in their names `frame_0012.jpg`, so that a missing file
shifts no other frame.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import numpy as np

from evqa import masks, media
from evqa.datasets.formats.json_stream import array, integer, mapping
from evqa.datasets.formats.regions import outline, run_lengths
from evqa.media import Video
from evqa.media.images import MAX_PIXELS
from evqa.schema import RLE, Track

MAX_BYTES = 2**28
"""Limit of the file of an entry."""

MAX_REASONS = 20
"""Number of left-out frames and objects of an entry that are reported with a reason; the others are counted."""

Size = tuple[int, int]
"""(H, W) in pixels."""

Ring = list[tuple[float, float]]
"""Corners (x, y) of an outline."""

Result = TypeVar("Result")


class Region(NamedTuple):
    """Polygon mask: the area inside any outline and outside all holes."""

    exteriors: list[Ring]
    holes: list[Ring]


Shape = Region | RLE
"""A part of the mask of a frame."""


class EvidenceObject(NamedTuple):
    """An evidence object."""

    label: str | None
    shapes: Mapping[int, list[Shape]]
    """Frame index -> parts of the mask."""


def read_tracks(path: Path, video: Video | None, left_out: list[str] | None = None) -> tuple[Track, ...] | None:
    """Read the tracks of a mask file at the video's size (their own if unknown); None = the file has no masks.

    Args:
        path: The file.
        video: The video of the masks; a folder of frames may lack some frames.
        left_out: List to which the reasons of left-out frames and objects are appended.

    Raises:
        ValueError: The file has neither form, or no frame is usable.
    """
    return tracks_of_content(read_content(path), video, left_out)


def tracks_of_content(
    content: object, video: Video | None, left_out: list[str] | None = None
) -> tuple[Track, ...] | None:
    """Read the tracks of the parsed content of a mask file; as `read_tracks`."""
    frames = _Frames(None if video is None else (video.height, video.width), _places(video), [])
    coordinate_size = _own_size(_fields(content) or {})
    objects = _objects(content, frames)
    size = frames.size or coordinate_size or _size_of(objects)
    if size is None and any(item.shapes for item in objects):
        raise ValueError("width and height are missing, and the video, which could tell them, cannot be read")
    tracks = tuple(_track(item, frames, size, coordinate_size or size) if size else Track(masks={}) for item in objects)
    reasons = frames.left_out
    if reasons and not any(track.masks for track in tracks):
        raise ValueError(f"no frame can be used: {len(reasons)} of them, the first: {reasons[0]}")
    if left_out is not None:
        more = [f"and {len(reasons) - MAX_REASONS} more"] if len(reasons) > MAX_REASONS else []
        left_out += [*reasons[:MAX_REASONS], *more]
    return tracks or None


def read_content(path: Path) -> object:
    """Return the parsed content of a mask file. `ValueError`: it is too large, or no JSON."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file has {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
    try:
        return cast(object, json.loads(path.read_text(encoding="utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file is no JSON: {error}") from error


def annotated_frames(tracks: Sequence[Track] | None) -> tuple[int, ...] | None:
    """Return the frames in which an object has a mask, as `Sample.frames`; None = there are none.

    Training samples from these, as published: other frames are not annotated, rather than without evidence.
    """
    return tuple(sorted({index for track in tracks or () for index in track.masks})) or None


class _Frames(NamedTuple):
    """Frames of the video, to which the masks are assigned."""

    size: Size | None
    """(height, width); None = unknown."""
    places: Mapping[int, int] | None
    """Frame number -> frame index, ascending; None = the video is unknown, and numbers are indices."""
    left_out: list[str]

    def place(self, number: int) -> int:
        """Return the index of a numbered frame; a `ValueError` if the video lacks it."""
        if number < 0:
            raise ValueError("frames are numbered from 0 on")
        if self.places is None:
            return number
        if number not in self.places:
            raise ValueError(f"the video has {len(self.places)} frames, up to {list(self.places)[-1]}")
        return self.places[number]

    def tried(self, name: str, read: Callable[..., Result], *arguments: object) -> Result | None:
        """Return the result of a function; None, with the reason in `left_out`, for a `ValueError`."""
        try:
            return read(*arguments)
        except (ValueError, RecursionError) as error:
            self.left_out.append(f"{name}: {str(error)[:200]}")
            return None


def _places(video: Video | None) -> dict[int, int] | None:
    """Return frame number -> index: by the names of a folder `frame_0000.jpg`, ...; else the identity."""
    if video is None:
        return None
    numbers = media.frame_numbers(video.path) if video.path.is_dir() else None
    return {number: index for index, number in enumerate(numbers or range(video.num_frames))}


def _own_size(content: Mapping[str, object]) -> Size | None:
    """Return the image size of the coordinates; None = it is missing or invalid."""
    try:
        width, height = (integer(content.get(side), side) for side in ("width", "height"))
    except ValueError:
        return None
    return (height, width) if width > 0 < height and width * height <= MAX_PIXELS else None


def _size_of(objects: Sequence[EvidenceObject]) -> Size | None:
    """Return the size of the first run lengths."""
    shapes = (shape for item in objects for parts in item.shapes.values() for shape in parts)
    return next((shape.size for shape in shapes if isinstance(shape, RLE)), None)


def _track(item: EvidenceObject, frames: _Frames, size: Size, coordinate_size: Size) -> Track:
    """Return the track of an object at a size, from coordinates of another one."""
    rles: dict[int, RLE] = {}
    for place in sorted(item.shapes):
        mask = frames.tried(f"frame at place {place}", _union, item.shapes[place], size, coordinate_size)
        if mask is not None and masks.area(mask):
            rles[place] = mask
    return Track(label=item.label, masks=rles)


def _union(shapes: Iterable[Shape], size: Size, coordinate_size: Size) -> RLE:
    """Return the union of the parts of a mask, at a size."""
    mask = np.zeros(size, dtype=np.bool_)
    for shape in shapes:
        mask |= _resized(shape, size) if isinstance(shape, RLE) else _filled(shape, size, coordinate_size)
    return masks.encode(mask)


def _resized(rle: RLE, size: Size) -> np.ndarray:
    if rle.size == size[::-1] != size:
        raise ValueError(f"size of a mask is [H, W]: expected {list(size)}, got {list(rle.size)}")
    mask = masks.decode(rle)
    return mask if rle.size == size else masks.resize(mask, size)


def _filled(region: Region, size: Size, coordinate_size: Size) -> np.ndarray:
    down, right = size[0] / coordinate_size[0], size[1] / coordinate_size[1]
    exteriors, holes = ([[(x * right, y * down) for x, y in ring] for ring in rings] for rings in region)
    mask = np.zeros(size, dtype=np.bool_)
    for exterior in exteriors:
        mask |= masks.from_polygons(exterior, holes, size)
    return mask


# The two forms of the file


def _fields(value: object) -> dict[str, object] | None:
    """Return the fields of a JSON object; None = another value."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _objects(content: object, frames: _Frames) -> list[EvidenceObject]:
    """Return the objects with masks, which may be empty."""
    fields = _fields(content)
    items = cast("list[object]", content) if isinstance(content, list) else None
    if fields is not None and "evidence_objects" in fields:
        pairs, read = _pairs(fields["evidence_objects"] or [], "evidence_objects"), _polygon_object
    elif items is not None:
        is_one = any("counts" in (_fields(item) or {}) for item in items)
        pairs, read = _pairs([items] if is_one else items, "objects"), _run_object
    else:
        raise ValueError(
            f"the file has neither evidence_objects nor lists of run lengths: got {str(cast(object, content))[:80]}"
        )
    objects = (frames.tried(f"object {name}", read, item, frames) for name, item in pairs)
    return [item for item in objects if item is not None]


def _polygon_object(item: object, frames: _Frames) -> EvidenceObject | None:
    """Parse `{"ref_expression", "masks": [{"frame", "mask"}, ...]}`, or masks by frame number."""
    fields = mapping(item, "an object")
    entries, label = fields.get("masks"), fields.get("ref_expression")
    if entries is None:
        return None
    shapes: dict[int, list[Shape]] = {}
    for key, entry in _pairs(entries, "masks"):
        framed = {"frame": key, "mask": entry} if isinstance(entries, dict) and not _is_framed(entry) else entry
        frames.tried(f"mask {key}", _add_framed, framed, frames, shapes)
    return EvidenceObject(label if isinstance(label, str) and label else None, shapes)


def _is_framed(entry: object) -> bool:
    return isinstance(entry, dict) and "frame" in entry


def _add_framed(entry: object, frames: _Frames, shapes: dict[int, list[Shape]]) -> None:
    fields = mapping(entry, "mask of a frame")
    if fields.get("mask") is None:
        raise ValueError(f"frame {fields.get('frame')} has no mask")
    _add(fields.get("frame"), fields["mask"], frames, shapes)


def _run_object(item: object, frames: _Frames) -> EvidenceObject:
    """Parse `[frame]` = a mask or null, or masks by frame number."""
    shapes: dict[int, list[Shape]] = {}
    for key, entry in _pairs([] if item is None else item, "frames of an object"):
        frames.tried(f"mask {key}", _add, key, entry, frames, shapes)
    return EvidenceObject(None, shapes)


def _add(numbered: object, value: object, frames: _Frames, shapes: dict[int, list[Shape]]) -> None:
    """Add the parts of a mask to its frame; parts of one frame are merged, empty ones dropped."""
    number = _frame_number(numbered)
    if parts := [shape for shape in _shapes(value) if isinstance(shape, Region) or masks.area(shape)]:
        try:
            place = frames.place(number)
        except ValueError as error:
            raise ValueError(f"frame {number}: {error}") from error
        shapes.setdefault(place, []).extend(parts)


def _pairs(value: object, field: str) -> Iterator[tuple[str, object]]:
    """Return (key, element) of a JSON object, or (position, element) of a list."""
    if isinstance(value, dict):
        return iter(mapping(cast(object, value), field).items())
    return ((str(place), item) for place, item in enumerate(array(value, field)))


def _frame_number(value: object) -> int:
    """Return the number of a frame, also from `frame_0012` or `frame_0012.jpg`."""
    name = re.fullmatch(r"(?:frame_)?(\d{1,9})(?:\.(?:jpe?g|png))?", value.strip()) if isinstance(value, str) else None
    return int(name[1]) if name else integer(value, "number of a frame")


# A mask in any form


def _shapes(value: object) -> Iterator[Shape]:
    """Yield the parts of a mask: `{"exterior", "holes"}`, COCO's run lengths or polygons, a list of such, or null."""
    if isinstance(value, dict):
        yield _shape(mapping(cast(object, value), "a mask"))
        return
    items = [] if value is None else array(value, "a mask")
    if not all(map(_holds_shapes, items)):
        yield Region(list(_rings(items)), [])
        return
    for item in items:
        yield from _shapes(item)


def _holds_shapes(item: object) -> bool:
    """Whether an element of a list is a mask or a list of masks, and no polygon."""
    if isinstance(item, list):
        return all(map(_holds_shapes, cast("list[object]", item)))
    return item is None or isinstance(item, dict)


def _shape(fields: Mapping[str, object]) -> Shape:
    if "counts" in fields:
        return run_lengths(fields)
    if "exterior" not in fields:
        raise ValueError(f"a mask has an exterior, or counts: got {str(dict(fields))[:80]}")
    holes = fields.get("holes")
    return Region(list(_rings(fields["exterior"])), [] if holes is None else list(_rings(holes)))


def _rings(value: object) -> Iterator[Ring]:
    """Yield the outlines of `[[x, y], ...]`, `[x, y, x, y, ...]`, or of lists of outlines."""
    items = array(value, "an outline")
    if items and all(map(_is_point, items)):
        yield [(_coordinate(x), _coordinate(y)) for x, y, *_ in cast("list[list[object]]", items)]
    elif any(isinstance(item, list) for item in items):
        for item in items:
            yield from _rings(item)
    elif items:
        yield outline([_coordinate(item) for item in items])


def _is_point(item: object) -> bool:
    """Whether a list is `[x, y]` or `[x, y, z]`."""
    parts = cast("list[object]", item) if isinstance(item, list) else []
    return len(parts) in (2, 3) and not any(isinstance(part, list) for part in parts)


def _coordinate(value: object) -> float:
    """Return a finite number, also from text."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(f"a corner is two finite numbers: got {str(value)[:80]!r}")
