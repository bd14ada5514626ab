"""Masks: run lengths, PNG folders and polygons to bool `[H, W]` and back; what comes in is checked first.

Polygons live on pixel edges: pixel (x, y) is the square from (x, y) to (x + 1, y + 1), and it is inside where
its centre (x + 0.5, y + 0.5) is. So an outline along pixel edges is exact: the polygons of `to_polygons`,
drawn by `from_polygons`, give the mask back. A file whose corners are pixel centres loses a row and a column
of pixels at its lower and right side by this reading.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pycocotools and scipy have no types

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image
from pycocotools import mask as coco
from scipy import ndimage

from evqa.files import links
from evqa.masks import png
from evqa.masks.native import BitMask, FrameMask, RunLengths
from evqa.media.images import MAX_PIXELS, open_image
from evqa.schema import RLE, compressed_counts

MAX_RUN_CHARACTERS = 6
"""Characters of one run in COCO's text: 5 bits each, so that no run passes 2^29 pixels."""

Points = Sequence[Sequence[float]]
"""Corners `[[x, y], ...]` in pixels; the last one is joined to the first."""


# Run lengths


def encode(mask: np.ndarray) -> RLE:
    """Run lengths of a mask [H, W]; non-zero is foreground."""
    _check_mask(mask)
    coded = coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return RLE(size=(mask.shape[0], mask.shape[1]), counts=_text(coded["counts"]))


def decode(rle: RLE) -> np.ndarray:
    """The mask as bool [H, W], after a check that the run lengths fit the size."""
    runs = run_lengths(rle)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    height, width = rle.size
    return np.ascontiguousarray(flat.reshape(width, height).T)


def run_lengths(rle: RLE) -> np.ndarray:
    """Run lengths as int64, column by column, background first.

    Raises a `ValueError` where they do not add up to H * W.
    """
    _check_size(rle.size)
    height, width = rle.size
    runs = _parse_counts(rle.counts)
    if bool(np.any(runs < 0)) or int(runs.sum()) != height * width:
        raise ValueError(
            f"run lengths of a {height} x {width} mask add up to {height * width} and none is negative; "
            f"got the sum {int(runs.sum())} of {len(runs)} runs: the mask is damaged"
        )
    return runs


def from_run_lengths(runs: Sequence[int], size: tuple[int, int]) -> RLE:
    """COCO's uncompressed form (a list of run lengths) in the compressed form; checked as `decode` does."""
    return encode(decode(RLE(size=size, counts=compressed_counts(runs))))


def union(rles: Sequence[RLE]) -> RLE:
    """The pixels that are in any of the masks, which are at least one and of one size."""
    sizes = {rle.size for rle in rles}
    if len(sizes) != 1:
        raise ValueError(f"a union needs masks of one size, got sizes {sorted(sizes)}")
    for rle in rles:
        run_lengths(rle)
    if len(rles) == 1:
        return rles[0]
    coded = coco.merge([{"size": list(rle.size), "counts": rle.counts.encode()} for rle in rles], intersect=False)
    return RLE(size=rles[0].size, counts=_text(coded["counts"]))


def merged_runs(rles: Sequence[RLE]) -> RunLengths:
    """Masks of one frame, at least one, as one: unlike `union` it reads no run length, so it checks none."""
    if any(rle.size != rles[0].size for rle in rles):
        raise ValueError(f"the masks of one frame need one size, got {sorted({rle.size for rle in rles})}")
    _check_size(rles[0].size)
    return RunLengths(rles[0].size, [rle.counts for rle in rles])


def to_array(mask: FrameMask) -> np.ndarray:
    """A mask of any form as bool [H, W]; a `ValueError` for run lengths that do not fit their size."""
    if isinstance(mask, BitMask):
        return mask.pixels()
    if not isinstance(mask, RunLengths):
        return mask != 0
    pixels = np.zeros(mask.size, dtype=np.bool_)
    for counts in mask.counts:
        pixels |= decode(RLE(size=mask.size, counts=counts))
    return pixels


def area(rle: RLE) -> int:
    """Foreground pixels."""
    return int(run_lengths(rle)[1::2].sum())


def resize(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A bool mask of size (H, W) by nearest neighbour: each new pixel takes the old one under its centre."""
    _check_mask(mask)
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, mask.shape, strict=True))
    return (mask != 0)[rows[:, None], columns[None, :]]


def _check_size(size: tuple[int, int]) -> None:
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a mask has 1 to {MAX_PIXELS} pixels, got size {height} x {width}")


def _check_mask(mask: np.ndarray) -> None:
    if mask.ndim != 2 or not 0 < mask.size <= MAX_PIXELS:
        raise ValueError(f"a mask is [H, W] with 1 to {MAX_PIXELS} pixels, got shape {mask.shape}")


def _text(counts: str | bytes) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def _parse_counts(counts: str) -> np.ndarray:
    """Run lengths as int64 from COCO's text: 5 bits a character, low first, 32 = more follows, 16 = sign.

    From the fourth run on, what is written is the difference to the run before the last.
    """
    if not counts or not counts.isascii():
        raise ValueError(f"run lengths are non-empty ASCII text, got {counts[:20]!r}: the mask is damaged")
    codes = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    if codes.min() < 0 or codes.max() > 63 or len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise ValueError(f"run lengths break off or hold a wrong character: {counts[-20:]!r}: the mask is damaged")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > MAX_RUN_CHARACTERS:
        raise ValueError(
            f"a run takes at most {MAX_RUN_CHARACTERS} characters, got {lengths.max()}: the mask is damaged"
        )
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


# PNG files


def read_png(path: Path) -> np.ndarray:
    """The mask as bool [H, W]: any non-zero palette index, grey value, or R, G or B is foreground."""
    return to_array(read_mask(path))


def read_mask(path: Path) -> FrameMask:
    """As `read_png`, in whichever form is read fastest."""
    mask = png.read_mask(path)
    if mask is not None:
        return mask
    image = open_image(path)
    if image.mode in {"RGB", "RGBA"}:
        return np.any(np.asarray(image)[..., :3] != 0, axis=2)
    if image.mode == "LA":
        return np.asarray(image)[..., 0] != 0
    return _values(path, image) != 0


def read_labels(path: Path) -> np.ndarray:
    """A label map as int32 [H, W]: palette index or grey value as stored, 0 = none."""
    values = png.read(path)
    return (_values(path, open_image(path)) if values is None else values).astype(np.int32)


def read_folder(folder: Path) -> dict[int, Path]:
    """Frame index -> file, ascending, of a folder of `00000.png` and so on; only PNG files are looked at.

    A link may lead to another place in the folder or its data set, not out of it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of masks: fetch or prepare the data set again")
    paths: dict[int, Path] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name, _, suffix = entry.name.rpartition(".")
            if suffix.lower() != "png" or not name or name.startswith("."):
                continue
            path = folder / entry.name
            if not re.fullmatch(r"[0-9]{1,9}", name):
                raise ValueError(f"{path}: a mask is named by its frame index, such as 00012.png; rename or remove it")
            if int(name) in paths:
                raise ValueError(f"{path} and {paths[int(name)].name} are both frame {int(name)}: remove one")
            if not entry.is_file(follow_symlinks=False):
                _check_link(path)
            paths[int(name)] = path
    return dict(sorted(paths.items()))


def _check_link(path: Path) -> None:
    target = path.resolve()
    if links.leads_out(path, target):
        raise ValueError(
            f"{path} leads out of its folder, to {target}: put the file itself there; {links.link_advice(target)}"
        )
    if not target.is_file():
        raise ValueError(f"{path} is no file: remove it, or put the mask there")


def write_folder(folder: Path, masks: Iterable[tuple[int, np.ndarray]]) -> None:
    """Write (frame index, bool [H, W]) as `%05d.png`, 8-bit, 0 and 255."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame_index, mask in masks:
        _check_mask(mask)
        Image.fromarray((mask != 0).astype(np.uint8) * 255).save(folder / f"{frame_index:05d}.png")


def _values(path: Path, image: Image.Image) -> np.ndarray:
    if image.mode == "1" or image.mode in {"L", "P", "I", "I;16", "I;16B"}:
        return np.asarray(image)
    raise ValueError(f"{path} is a {image.mode} image; expected one channel (palette, grey or 1-bit)")


# Polygons


class Polygon(NamedTuple):
    """One connected region."""

    exterior: Points
    holes: Sequence[Points]


def from_polygons(exterior: Points, holes: Sequence[Points], size: tuple[int, int]) -> np.ndarray:
    """The pixels with their centres inside the exterior and in no hole, as bool (H, W) (even-odd rule).

    Fewer than 3 corners enclose nothing.
    """
    _check_size(size)
    mask = _fill(exterior, size)
    for hole in holes:
        mask &= ~_fill(hole, size)
    return mask


def to_polygons(mask: np.ndarray) -> list[Polygon]:
    """The regions of a mask (joined by sides, not corners) as outlines along pixel edges, exact both ways."""
    _check_mask(mask)
    labels = cast("tuple[np.ndarray, int]", ndimage.label(mask != 0))[0]
    exteriors: dict[int, Points] = {}
    holes: dict[int, list[Points]] = {}
    for label, outline in _outlines(labels):
        if _signed_area(outline) > 0:
            exteriors[label] = outline
        else:
            holes.setdefault(label, []).append(outline)
    return [Polygon(exteriors[label], holes.get(label, [])) for label in sorted(exteriors)]


def _fill(points: Points, size: tuple[int, int]) -> np.ndarray:
    """Scan lines, bool (H, W): a pixel is inside where an odd number of edges cross its row to its left."""
    height, width = size
    corners = _corners(points)
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
    counts = last - first  # rows whose centre the edge passes, 0 for a horizontal one
    edge = np.repeat(np.arange(len(corners)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    crossings = x0[edge] + (rows + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
    changes = np.bincount(rows * (width + 1) + columns, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.cumsum(changes, axis=1)[:, :width] % 2 == 1


def _corners(points: Points) -> np.ndarray:
    """float64 [N, 2]."""
    if any(len(point) != 2 for point in points):
        raise ValueError(f"a polygon has corners [x, y], got {str(points)[:80]}")
    corners = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if not np.all(np.abs(corners) < 2**31):
        raise ValueError("the corners of a polygon are finite pixel coordinates below 2^31")
    return corners


_Corner = tuple[int, int]

# An edge joins two corners of the pixel grid, with its own pixel on its right hand (image axes, y downwards).
_STEPS: tuple[_Corner, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""(dx, dy) of the directions right, down, left, up; the next one is a turn to the right."""


def _outlines(labels: np.ndarray) -> list[tuple[int, Points]]:
    """(label of the region, corners) of each outline: clockwise around a region, the other way in a hole."""
    edges = _edges(labels)
    outlines: list[tuple[int, Points]] = []
    while edges:
        corner = next(iter(edges))
        direction = next(iter(edges[corner]))
        label = edges[corner][direction]
        outlines.append((label, _walk(edges, corner, direction)))
    return outlines


def _edges(labels: np.ndarray) -> dict[_Corner, dict[int, int]]:
    """Corner (x, y) -> direction of an edge that leaves it -> label of the pixel on the edge's right hand."""
    padded = np.pad(labels, 1)
    inner = padded[1:-1, 1:-1]
    outside = (
        padded[:-2, 1:-1],
        padded[1:-1, 2:],
        padded[2:, 1:-1],
        padded[1:-1, :-2],
    )  # above, right, below, left
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))  # corner of the pixel where its edge in that direction starts
    edges: dict[_Corner, dict[int, int]] = {}
    for direction in range(4):
        dx, dy = starts[direction]
        for y, x in np.argwhere((inner != 0) & (outside[direction] == 0)).tolist():
            edges.setdefault((x + dx, y + dy), {})[direction] = int(labels[y, x])
    return edges


def _walk(edges: dict[_Corner, dict[int, int]], start: _Corner, direction: int) -> Points:
    """Follow an outline back to its start, taking its edges out of `edges`; the corners at which it turns."""
    corners: list[list[int]] = []
    here: _Corner = start
    heading, came = direction, -1
    while here in edges and heading in edges[here]:
        if heading != came:
            corners.append([here[0], here[1]])
        del edges[here][heading]
        if not edges[here]:
            del edges[here]
        step = _STEPS[heading]
        here, came = (here[0] + step[0], here[1] + step[1]), heading
        # the sharpest right turn first: at a corner where two pixels touch, it stays with its own pixel
        turns = ((came + turn) % 4 for turn in (1, 0, 3))
        heading = next((turn for turn in turns if turn in edges.get(here, {})), came)
    if came == direction and len(corners) > 1:
        corners.pop(0)  # the start lies within a straight line
    return corners


def _signed_area(points: Points) -> float:
    """Above 0 for a clockwise outline as seen on the screen."""
    x, y = np.asarray(points, dtype=np.float64).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
