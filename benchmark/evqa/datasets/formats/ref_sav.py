"""Reader of Ref-SAV: descriptions of objects in the videos of SA-V, with its manual masks.

Ref-SAV-Min-Ratio-0.3.json   {VIDEO: {"video_path": ROOT/sav_train/..., "anno_path": ROOT/sav_train/..._manual.json,
"objects": {OBJECT: {"formated": TEXT, ...}}}}
sav_train/...                videos of 24 frames per second, and {"masklet": [[RLE per object] per 4th frame]}
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
"""Distance of annotated frames (SA-V: 24 frames per second, masks at 6 frames per second)."""


class DescribedObject(NamedTuple):
    """Description of an object, with the masks of its video."""

    video: str
    path: Path
    masklets: list[list[object]]
    track_file: Path
    key: str
    entry: object
    """Its entry in the file."""


def samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of one sample per description; the tracks of each video are written to `tracks/<VIDEO>.jsonl` first."""
    path = require(folder, META, f"ref_sav/{META}")
    count, left_out = 0, list[str]()
    with json_stream.open_json(path) as videos:
        for name in videos:
            object_lists = list(
                numbered_rows([(name, videos[name])], partial(_objects, folder, name, left_out), bad, count + 1)
            )
            bad.extend(BadEntry(count + 1, f"left out, masks beyond the video: {reason}", name) for reason in left_out)
            left_out.clear()
            for objects in object_lists:
                read = partial(_phrase, left_out=left_out)
                phrases = list(numbered_rows([(f"{name} {item.key}", item) for item in objects], read, bad, count + 1))
                bad.extend(BadEntry(count + 1, f"left out, mask of a frame: {reason}", name) for reason in left_out)
                left_out.clear()
                if phrases:
                    track_files.write(folder / phrases[0].item.track_file, [phrase.track for phrase in phrases])
                for place, phrase in enumerate(phrases):
                    yield _sample(phrase, place)
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
    """Return the number of annotated frames beyond the video; 0 = the video is missing."""
    try:
        num_frames = media.probe_video(video).num_frames if video.exists() else STEP * num_annotated
    except ValueError:
        return 0  # training on it fails with the reason
    return max(0, num_annotated - -(-num_frames // STEP))


def _without_root(path: object) -> str:
    """Remove the authors' folder at the start of a published path."""
    parts = PurePosixPath(text(path, "path")).parts
    return str(PurePosixPath(*parts[1:])) if len(parts) > 1 else str(path)


class ObjectPhrase(NamedTuple):
    """An object with its description and masks."""

    item: DescribedObject
    words: str
    track: Track
    frames: tuple[int, ...]
    """Indices of the annotated frames with valid masks."""


def _phrase(item: DescribedObject, *, left_out: list[str]) -> ObjectPhrase:
    """Read an object; frames with invalid masks are left out."""
    words = text(mapping(item.entry, "object").get("formated"), "formated")
    place = integer(item.key, "number of an object")
    if any(not 0 <= place < len(frame) for frame in item.masklets if frame):
        raise ValueError(
            f"mask is not in the file: object {place} in a frame of {min(map(len, item.masklets))} objects"
        )
    masks: dict[int, RLE | None] = {}
    size: tuple[int, int] | None = None
    for index, frame in enumerate(item.masklets):
        try:
            rle = masks[STEP * index] = region(frame[place], size) if frame else None
            size = size or (None if rle is None else rle.size)
        except ValueError as error:
            left_out.append(f"object {place}, frame {STEP * index}: {str(error)[:200]}")
    rles = {index: rle for index, rle in masks.items() if rle is not None}
    if not rles:
        raise ValueError("no mask in any frame")
    return ObjectPhrase(item, words, Track(label=item.key, masks=rles), tuple(masks))


def _sample(phrase: ObjectPhrase, place: int) -> Sample:
    item = phrase.item
    return Sample(
        id=entry_id(item.video, item.key),
        video_id=item.video,
        video=item.path,
        question=phrase.words,
        expressions=(phrase.words,),
        task_type="description",
        track_file=item.track_file,
        targets=(place,),
        frames=phrase.frames,
        num_frames=len(item.masklets),
        source="ref_sav",
    )
