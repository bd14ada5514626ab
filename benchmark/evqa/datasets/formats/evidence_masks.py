"""The mask file of an ST-Evidence-Instruct entry: polygons per object and frame, or run lengths.

    {"width": 640, "height": 480, "evidence_objects": [{"ref_expression": "the red cup",
        "masks": [{"frame": 12, "mask": {"exterior": [[x, y], ...], "holes": [[[x, y], ...]]}}, ...]}, ...]}

or `[object][frame]` = run lengths, a list of run lengths, or null. Polygon coordinates are pixels of
`width x height`; masks of another size than the video are brought to the video's size.

Each mask may also be one of COCO's forms (see `_shapes`). An object or a frame whose mask cannot be read, or that the
video does not have, costs only itself. Frames are addressed by their numbers in the names `frame_0012.jpg`, so that a
missing file shifts no other frame.
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
"""A larger file of one entry is refused."""

MAX_REASONS = 20
"""Frames and objects of an entry that are left out with a reason each; of more, there is the number."""

Size = tuple[int, int]
"""(H, W) in pixels."""

Ring = list[tuple[float, float]]
"""Corners of an outline."""

Result = TypeVar("Result")


class Region(NamedTuple):
    """What is inside any of the outlines and in no hole."""

    exteriors: list[Ring]
    holes: list[Ring]


Shape = Region | RLE
"""A part of the mask of one frame."""


class EvidenceObject(NamedTuple):
    """One object of the evidence."""

    label: str | None
    shapes: Mapping[int, list[Shape]]
    """Index in the video -> parts of the mask there."""


def read_tracks(path: Path, video: Video | None, left_out: list[str] | None = None) -> tuple[Track, ...] | None:
    """The tracks of a mask file at the video's size (their own if unknown); None where it has no masks.

    Args:
        path: The file.
        video: The video that it belongs to; a folder of frames may lack some.
        left_out: Gets the reasons of frames and objects that are left out.

    Raises:
        ValueError: The file is none of the two forms, or all of it is left out.
    """
    content = _content(path)
    frames = _Frames(None if video is None else (video.height, video.width), _places(video), [])
    own = _own_size(_fields(content) or {})
    objects = _objects(content, frames)
    size = frames.size or own or _size_of(objects)
    if size is None and any(each.shapes for each in objects):
        raise ValueError("width and height are missing, and the video, which could tell them, cannot be read")
    tracks = tuple(_track(each, frames, size, own or size) if size else Track(masks={}) for each in objects)
    reasons = frames.left_out
    if reasons and not any(track.masks for track in tracks):
        raise ValueError(f"no frame can be used: {len(reasons)} of them, the first: {reasons[0]}")
    if left_out is not None:
        more = [f"and {len(reasons) - MAX_REASONS} more"] if len(reasons) > MAX_REASONS else []
        left_out += [*reasons[:MAX_REASONS], *more]
    return tracks or None


def _content(path: Path) -> object:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file has {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
    try:
        return cast(object, json.loads(path.read_text(encoding="utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file is no JSON: {error}") from error


def annotated_frames(tracks: Sequence[Track] | None) -> tuple[int, ...] | None:
    """The frames in which an object has a mask, as `Sample.frames`; None where there are none.

    Training draws from these, as published: no mask elsewhere is no annotation, and not "no evidence".
    """
    return tuple(sorted({index for track in tracks or () for index in track.masks})) or None


class _Frames(NamedTuple):
    """The frames that masks are for."""

    size: Size | None
    """(height, width); None = unknown."""
    places: Mapping[int, int] | None
    """Frame number -> index in the video, ascending; None = the video is unknown, and numbers are indices."""
    left_out: list[str]

    def place(self, number: int) -> int:
        """The index of a numbered frame; a `ValueError` where the video does not have it."""
        if number < 0:
            raise ValueError("frames are numbered from 0 on")
        if self.places is None:
            return number
        if number not in self.places:
            raise ValueError(f"the video has {len(self.places)} frames, up to {list(self.places)[-1]}")
        return self.places[number]

    def tried(self, name: str, read: Callable[..., Result], *arguments: object) -> Result | None:
        """What a function gives; None, with the reason, where that is a `ValueError`."""
        try:
            return read(*arguments)
        except (ValueError, RecursionError) as error:
            self.left_out.append(f"{name}: {str(error)[:200]}")
            return None


def _places(video: Video | None) -> dict[int, int] | None:
    """Frame number -> index: by the names of a folder `frame_0000.jpg`, ...; else the same."""
    if video is None:
        return None
    numbers = media.frame_numbers(video.path) if video.path.is_dir() else None
    return {number: index for index, number in enumerate(numbers or range(video.num_frames))}


def _own_size(content: Mapping[str, object]) -> Size | None:
    """The size that coordinates are of; None where it is not given, or is none."""
    try:
        width, height = (integer(content.get(side), side) for side in ("width", "height"))
    except ValueError:
        return None
    return (height, width) if width > 0 < height and width * height <= MAX_PIXELS else None


def _size_of(objects: Sequence[EvidenceObject]) -> Size | None:
    """The size of the first run lengths."""
    shapes = (shape for each in objects for parts in each.shapes.values() for shape in parts)
    return next((shape.size for shape in shapes if isinstance(shape, RLE)), None)


def _track(each: EvidenceObject, frames: _Frames, size: Size, own: Size) -> Track:
    """The track of an object at a size; `own`: what coordinates are pixels of."""
    drawn: dict[int, RLE] = {}
    for place in sorted(each.shapes):
        mask = frames.tried(f"frame at place {place}", _union, each.shapes[place], size, own)
        if mask is not None and masks.area(mask):
            drawn[place] = mask
    return Track(label=each.label, masks=drawn)


def _union(shapes: Iterable[Shape], size: Size, own: Size) -> RLE:
    """Parts of a mask as one of a size."""
    mask = np.zeros(size, dtype=np.bool_)
    for shape in shapes:
        mask |= _resized(shape, size) if isinstance(shape, RLE) else _filled(shape, size, own)
    return masks.encode(mask)


def _resized(rle: RLE, size: Size) -> np.ndarray:
    if rle.size == size[::-1] != size:
        raise ValueError(f"size of a mask is [H, W]: expected {list(size)}, got {list(rle.size)}")
    mask = masks.decode(rle)
    return mask if rle.size == size else masks.resize(mask, size)


def _filled(region: Region, size: Size, own: Size) -> np.ndarray:
    down, right = size[0] / own[0], size[1] / own[1]
    exteriors, holes = ([[(x * right, y * down) for x, y in ring] for ring in rings] for rings in region)
    mask = np.zeros(size, dtype=np.bool_)
    for exterior in exteriors:
        mask |= masks.from_polygons(exterior, holes, size)
    return mask


# The two forms of the file


def _fields(value: object) -> dict[str, object] | None:
    """The fields of an object, None for anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _objects(content: object, frames: _Frames) -> list[EvidenceObject]:
    """The objects that have masks, be they empty."""
    fields = _fields(content)
    items = cast("list[object]", content) if isinstance(content, list) else None
    if fields is not None and "evidence_objects" in fields:
        named, read = _named(fields["evidence_objects"] or [], "evidence_objects"), _polygon_object
    elif items is not None:
        is_one = any("counts" in (_fields(item) or {}) for item in items)
        named, read = _named([items] if is_one else items, "objects"), _run_object
    else:
        raise ValueError(
            f"the file has neither evidence_objects nor lists of run lengths: got {str(cast(object, content))[:80]}"
        )
    found = (frames.tried(f"object {name}", read, item, frames) for name, item in named)
    return [each for each in found if each is not None]


def _polygon_object(item: object, frames: _Frames) -> EvidenceObject | None:
    """`{"ref_expression", "masks": [{"frame", "mask"}, ...]}`, or masks by the number of their frame."""
    fields = mapping(item, "an object")
    listed, label = fields.get("masks"), fields.get("ref_expression")
    if listed is None:
        return None
    shapes: dict[int, list[Shape]] = {}
    for key, entry in _named(listed, "masks"):
        framed = {"frame": key, "mask": entry} if isinstance(listed, dict) and not _is_framed(entry) else entry
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
    """`[frame]` = a mask or null, or masks by the number of their frame."""
    shapes: dict[int, list[Shape]] = {}
    for key, entry in _named([] if item is None else item, "frames of an object"):
        frames.tried(f"mask {key}", _add, key, entry, frames, shapes)
    return EvidenceObject(None, shapes)


def _add(numbered: object, value: object, frames: _Frames, shapes: dict[int, list[Shape]]) -> None:
    """Note the parts of a mask for its frame; parts of one frame are joined, and empty ones are for none."""
    number = _frame_number(numbered)
    if found := [shape for shape in _shapes(value) if isinstance(shape, Region) or masks.area(shape)]:
        try:
            place = frames.place(number)
        except ValueError as error:
            raise ValueError(f"frame {number}: {error}") from error
        shapes.setdefault(place, []).extend(found)


def _named(value: object, what: str) -> Iterator[tuple[str, object]]:
    """(key, element) of an object, or of a list by place."""
    if isinstance(value, dict):
        return iter(mapping(cast(object, value), what).items())
    return ((str(place), item) for place, item in enumerate(array(value, what)))


def _frame_number(value: object) -> int:
    """The number of a frame, also as `frame_0012` or `frame_0012.jpg`."""
    name = re.fullmatch(r"(?:frame_)?(\d{1,9})(?:\.(?:jpe?g|png))?", value.strip()) if isinstance(value, str) else None
    return int(name[1]) if name else integer(value, "number of a frame")


# A mask in any form


def _shapes(value: object) -> Iterator[Shape]:
    """The parts of a mask: `{"exterior", "holes"}`, COCO's run lengths or polygons, a list of such, or nothing."""
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
    """The outlines of `[[x, y], ...]`, `[x, y, x, y, ...]`, or of lists of outlines."""
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
    """A finite number, also as text."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(f"a corner is two finite numbers: got {str(value)[:80]!r}")
