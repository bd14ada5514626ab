"""Ref-SAV: descriptions of objects in the videos of SA-V, whose masks are its manual annotation.

Ref-SAV-Min-Ratio-0.3.json   {VIDEO: {"video_path": ROOT/sav_train/..., "anno_path": ROOT/sav_train/..._manual.json,
"objects": {OBJECT: {"formated": TEXT, ...}}}}
sav_train/...                videos of 24 frames a second, and {"masklet": [[RLE per object] per 4th frame]}
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from evqa import media
from evqa.datasets import path_inside
from evqa.datasets.formats import json_stream
from evqa.datasets.formats.fields import by_key, entry_id, find_below, numbered_rows, place_of, require
from evqa.datasets.formats.json_stream import array, integer, mapping, text
from evqa.datasets.formats.regions import region
from evqa.files.jsonl import BadEntry, BadLine
from evqa.masks import track_files
from evqa.schema import RLE, Sample, Track

META = "Ref-SAV-Min-Ratio-0.3.json"
STEP = 4
"""Every fourth frame of a video is annotated (SA-V: 24 frames a second, masks at 6)."""


class DescribedObject(NamedTuple):
    """One object of a video."""

    video: str
    path: Path
    masklets: list[list[object]]
    track_file: Path
    key: str
    about: object
    """What the file says of it."""


def samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """One sample per description; the tracks of each video go to `tracks/<VIDEO>.jsonl` first."""
    path = require(folder, META, f"ref_sav/{META}")
    count, left_out = 0, list[str]()
    with json_stream.open_json(path) as videos:
        for name in videos:
            found = list(
                numbered_rows([(name, videos[name])], partial(_objects, folder, name, left_out), bad, count + 1)
            )
            bad.extend(BadEntry(count + 1, f"left out, masks beyond the video: {reason}", name) for reason in left_out)
            left_out.clear()
            for objects in found:
                read = partial(_drawn, left_out=left_out)
                good = list(numbered_rows([(f"{name} {one.key}", one) for one in objects], read, bad, count + 1))
                bad.extend(BadEntry(count + 1, f"left out, mask of a frame: {reason}", name) for reason in left_out)
                left_out.clear()
                if good:
                    track_files.write(folder / good[0].described.track_file, [drawn.track for drawn in good])
                for place, drawn in enumerate(good):
                    yield _sample(drawn, place)
            count += 1


def _objects(folder: Path, name: str, left_out: list[str], video: object) -> list[DescribedObject]:
    fields = mapping(video, "video")
    root = place_of(folder, "sav", ".") if (folder / "sav" / "sav_train").is_dir() else Path()
    file = find_below(root, _without_root(fields.get("video_path")), "video_path")
    manual = find_below(root, _without_root(fields.get("anno_path")), "anno_path")
    annotation = mapping(json_stream.read(path_inside(folder, manual)), manual.name)
    frames = array(annotation.get("masklet"), "masklet")
    masklets = [[] if frame is None else array(frame, "masks of a frame") for frame in frames]
    if excess := _excess(path_inside(folder, file), len(masklets)):
        left_out.append(f"{excess} of {len(masklets)} annotated frames of {file}")
        masklets = masklets[:-excess]
    tracks = Path("tracks", f"{entry_id(name)}.jsonl")
    return [
        DescribedObject(name, file, masklets, tracks, key, entry)
        for key, (_, entry) in by_key(mapping(fields.get("objects"), "objects"))
    ]


def _excess(video: Path, num_annotated: int) -> int:
    """Annotated frames that the video does not have; 0 where it is not there to be asked."""
    try:
        num_frames = media.probe_video(video).num_frames if video.exists() else STEP * num_annotated
    except ValueError:
        return 0  # training on it fails with the reason
    return max(0, num_annotated - -(-num_frames // STEP))


def _without_root(path: object) -> str:
    """The published paths start with the folder that their authors had the videos in."""
    parts = PurePosixPath(text(path, "path")).parts
    return str(PurePosixPath(*parts[1:])) if len(parts) > 1 else str(path)


class ObjectPhrase(NamedTuple):
    """One object with its masks."""

    described: DescribedObject
    words: str
    track: Track
    frames: tuple[int, ...]
    """Indices of the annotated frames whose masks can be read."""


def _drawn(one: DescribedObject, *, left_out: list[str]) -> ObjectPhrase:
    """An object; a frame whose mask cannot be read is left out of it."""
    words = text(mapping(one.about, "object").get("formated"), "formated")
    place = integer(one.key, "number of an object")
    if any(not 0 <= place < len(frame) for frame in one.masklets if frame):
        raise ValueError(f"mask is not in the file: object {place} in a frame of {min(map(len, one.masklets))} objects")
    masks: dict[int, RLE | None] = {}
    size: tuple[int, int] | None = None
    for index, frame in enumerate(one.masklets):
        try:
            rle = masks[STEP * index] = region(frame[place], size) if frame else None
            size = size or (None if rle is None else rle.size)
        except ValueError as error:
            left_out.append(f"object {place}, frame {STEP * index}: {str(error)[:200]}")
    found = {index: rle for index, rle in masks.items() if rle is not None}
    if not found:
        raise ValueError("no mask in any frame")
    return ObjectPhrase(one, words, Track(label=one.key, masks=found), tuple(masks))


def _sample(drawn: ObjectPhrase, place: int) -> Sample:
    one = drawn.described
    return Sample(
        id=entry_id(one.video, one.key),
        video_id=one.video,
        video=one.path,
        question=drawn.words,
        expressions=(drawn.words,),
        task_type="description",
        track_file=one.track_file,
        targets=(place,),
        frames=drawn.frames,
        num_frames=len(one.masklets),
        source="ref_sav",
    )
