"""Conversion of published mask forms (COCO run lengths, polygons, null) to run lengths of one size.

Polygons are lists of corners `[x, y, x, y, ...]` in pixels; see `evqa.masks` for which pixels they enclose
(pycocotools draws the same outline up to half a pixel wider). What comes in is hostile until it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from evqa import masks
from evqa.datasets.formats.json_stream import array, integer, mapping
from evqa.schema import RLE

MAX_CORNERS = 100_000
"""Limit of the corners of a polygon."""

Size = tuple[int, int]
"""(H, W) in pixels."""


def region(value: object, size: Size | None) -> RLE | None:
    """Return one mask; None = it is null or empty.

    Args:
        value: Run lengths as text, bytes or numbers; a list of polygons; an `RLE`; or None.
        size: Size of the image; required for polygons, run lengths of another size are refused. None = any.
    """
    if value is None:
        return None
    if isinstance(value, RLE):
        rle = value
    else:
        is_polygons = isinstance(value, list)
        rle = _polygons(array(cast(object, value), "a mask"), size) if is_polygons else run_lengths(value)
    if size is not None and rle.size != size:
        raise ValueError(f"mask has another size: expected {size[0]} x {size[1]}, got {rle.size[0]} x {rle.size[1]}")
    return rle if masks.area(rle) else None


def frame_regions(places: Sequence[int], parts: Sequence[object]) -> dict[int, RLE]:
    """Return frame index -> mask, without empty ones.

    Args:
        places: Frame indices.
        parts: A mask in any form of `region` per frame, or null.
    """
    if len(parts) != len(places):
        raise ValueError(f"masks do not fit the frames: expected {len(places)}, got {len(parts)}")
    return {place: rle for place, part in zip(places, parts, strict=True) if (rle := region(part, None))}


def union_outline(values: Sequence[object], size: Size | None) -> RLE | None:
    """Return the union of masks in any form; None = all are empty."""
    rles = [rle for value in values if (rle := region(value, size)) is not None]
    return masks.union(rles) if rles else None


def run_lengths(value: object) -> RLE:
    """Convert COCO's `{"size": [H, W], "counts": ...}`."""
    fields = mapping(value, "a mask")
    sides = array(fields.get("size"), "size of a mask")
    if len(sides) != 2:
        raise ValueError(f"size of a mask is [H, W]: got {sides}")
    height, width = (integer(side, "side of a mask") for side in sides)
    match fields.get("counts"):
        case str() | bytes() as counts:
            return RLE.model_validate({"size": (height, width), "counts": counts})
        case list():
            whole = [integer(run, "run of a mask") for run in array(fields["counts"], "counts of a mask")]
            return masks.from_run_lengths(whole, (height, width))
        case counts:
            raise ValueError(f"counts of a mask are text or numbers: got {str(counts)[:80]}")


def outline(value: object) -> list[tuple[float, float]]:
    """Convert `[x, y, x, y, ...]` or `[[x, y], ...]` to corners (x, y)."""
    numbers: list[object] = []
    for item in array(value, "a polygon"):
        numbers += array(cast(object, item), "a corner") if isinstance(item, list) else [item]
    if len(numbers) % 2 or len(numbers) > 2 * MAX_CORNERS:
        raise ValueError(f"a polygon has x and y of at most {MAX_CORNERS} corners, got {len(numbers)} numbers")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"a polygon has numbers, got {str(numbers)[:80]}")
    plain = cast("list[float]", numbers)
    return list(zip(plain[::2], plain[1::2], strict=True))


def _polygons(values: list[object], size: Size | None) -> RLE:
    if size is None:
        raise ValueError("polygons need the size of their image, which is unknown")
    mask = np.zeros(size, dtype=np.bool_)
    for value in values:
        mask |= masks.from_polygons(outline(value), (), size)
    return masks.encode(mask)
