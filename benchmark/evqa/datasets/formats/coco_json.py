"""Reader of COCO annotations: `{"images": [...], "annotations": [...], "categories": [...]}`, image by image.

The masks of a hundred thousand annotations stay in the file; a first pass records the byte ranges of each image's.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from evqa.datasets.formats import json_stream
from evqa.datasets.formats.json_stream import JsonMapping, JsonRange, integer, mapping, text
from evqa.datasets.formats.regions import Size, union_outline
from evqa.schema import RLE


class CocoImage(NamedTuple):
    """An image of a COCO file."""

    number: int
    name: str
    """Path as in the file."""
    size: Size


@dataclass(frozen=True)
class CocoFile:
    """A COCO file; usable inside the `open_coco` block."""

    pictures: Mapping[int, CocoImage]
    categories: Mapping[int, str]
    _entries: JsonMapping
    _annotations: Mapping[int, list[JsonRange]]
    """Image number -> byte ranges of its annotations."""

    def annotations(self, picture: CocoImage) -> list[Mapping[str, object]]:
        """Return the annotations of an image, in the order of the file."""
        places = self._annotations.get(picture.number, [])
        return [mapping(self._entries.at(place), "annotation") for place in places]


@contextmanager
def open_coco(path: Path) -> Generator[CocoFile]:
    """Open a file of annotations."""
    with json_stream.open_json(path) as entries:
        pictures = [_picture(entries.at(place)) for place in entries.places("images")]
        annotations: dict[int, list[JsonRange]] = {}
        for place in entries.places("annotations"):
            image = mapping(entries.at(place), "annotation").get("image_id")
            annotations.setdefault(integer(image, "image_id"), []).append(place)
        categories = [mapping(entries.at(place), "category") for place in entries.places("categories")]
        names = {integer(item.get("id"), "id of a category"): text(item.get("name"), "name") for item in categories}
        yield CocoFile({picture.number: picture for picture in pictures}, names, entries, annotations)


def mask_of(annotation: Mapping[str, object], size: Size) -> RLE:
    """Return the mask of an annotation: polygons, run lengths, or a list of run lengths."""
    value = annotation.get("segmentation")
    items = cast("list[object]", value) if isinstance(value, list) else list[object]()
    parts = items if items and isinstance(items[0], dict) else [cast(object, value)]
    rle = union_outline(parts, size)
    if rle is None:
        raise ValueError("annotation has no mask")
    return rle


def _picture(value: object) -> CocoImage:
    fields = mapping(value, "image")
    size = (integer(fields.get("height"), "height"), integer(fields.get("width"), "width"))
    return CocoImage(integer(fields.get("id"), "id of an image"), text(fields.get("file_name"), "file_name"), size)
