"""Reader of a user's own questions: `questions.jsonl`, `questions.json` or `questions.csv` in a folder with videos.

`docs/own_data.md` documents the format. A row that cannot be used is reported with its reason and left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

from pydantic import ValidationError

from evqa import media
from evqa.datasets import FILE_SUFFIXES, ground_truth, path_inside
from evqa.datasets.formats import csv_table, evidence_masks, json_rows
from evqa.datasets.formats.fields import entry_id
from evqa.datasets.formats.json_stream import array, integer, mapping, text
from evqa.files.jsonl import BadEntry, BadLine, validation_message
from evqa.media import Video
from evqa.schema import LETTERS, Sample, Span, Track, check_span

FILES = ("questions.jsonl", "questions.json", "questions.csv")
"""Names of a file of questions, in the order in which they are looked for."""

FIELDS = frozenset(
    [
        *("id", "video", "question", "options", "answer", "spans", "start", "end", "masks", "boxes"),
        *("type", "source", "subtitles", "fps"),
    ]
)
"""Fields of a row that are read; others become attributes of the sample (`metadata`)."""

OPTION_COLUMN = re.compile(r"option[_ ](?:[a-z]|\d{1,2})|option\d{1,2}")
"""Column of one option of a table: `option_a`, `option b`, `option1`."""

CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d{1,6})?)")
"""Time as `minutes:seconds` or `hours:minutes:seconds`."""

MAX_TAG_CHARACTERS = 200
"""Most characters of an attribute."""

Row = Mapping[str, object]


def file_in(folder: Path) -> Path | None:
    """File of questions in a folder; None = there is none."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def is_own_file(path: Path) -> bool:
    """Whether a file holds questions of a user, and not samples: its name, or the fields of its first row, say so."""
    if path.suffix != ".jsonl":
        return path.suffix in FILE_SUFFIXES
    if path.name in FILES:
        return True
    try:
        with path.open("rb") as file:
            first = cast("object", json.loads(file.readline(2**20)))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "video_id" not in first


def samples(path: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """Yield the samples of a file of questions, with paths relative to its folder.

    Args:
        path: the file.
        bad: list to which rows that cannot be used are appended.

    Raises:
        ValueError: the file cannot be read at all.
    """
    ids: dict[str, int] = {}
    for number, (line, row) in enumerate(_rows(path, bad), 1):
        name = _name_of(row, number)
        try:
            sample = _sample(path.parent, row, name)
            _check_new(sample.id, ids)
        except ValidationError as error:
            bad.append(BadEntry(line, validation_message(error)[:1000], name[:200]))
        except (ValueError, RecursionError) as error:
            bad.append(BadEntry(line, str(error)[:1000], name[:200]))
        else:
            ids[sample.id] = line
            yield sample


def _check_new(name: str, ids: Mapping[str, int]) -> None:
    """Raise a `ValueError` for an id that an earlier line has."""
    if name in ids:
        raise ValueError(f"duplicate id: {name} is on line {ids[name]} already")


def _rows(path: Path, bad: list[BadLine]) -> Iterator[tuple[int, Row]]:
    """Yield (line, row) of a table or of JSON objects; blank cells and null are left out."""
    if path.suffix == ".csv":
        rows: Iterator[tuple[int, Row]] = csv_table.rows(path, ("video", "question"), bad)
    else:
        rows = (json_rows.line_rows if path.suffix == ".jsonl" else json_rows.rows)(path, bad)
    for line, row in rows:
        values = {key.strip().lower(): value for key, value in row.items()}
        yield line, {key: value for key, value in values.items() if not _is_blank(value)}


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _name_of(row: Row, number: int) -> str:
    return str(row.get("id", f"q{number:05d}"))


def _sample(folder: Path, row: Row, name: str) -> Sample:
    """Sample of a row. `ValueError`: a field is missing or invalid, or the evidence lies outside the video."""
    video = _video(folder, row)
    options = _options(row)
    answer, response = _answer(row, options)
    fps = None if row.get("fps") is None else _number(row["fps"], "fps")
    sample = Sample.model_validate(
        {
            "id": entry_id(name),
            "video_id": str(video.with_suffix("")),
            "video": video,
            "question": text(row.get("question"), "question"),
            "options": options,
            "answer": answer,
            "response": response,
            "spans": _spans(row),
            "question_type": _tag(row["type"]) if "type" in row else None,
            "source": _tag(row["source"]) if "source" in row else None,
            "subtitles": _file(folder, row["subtitles"], "subtitles") if "subtitles" in row else None,
            "fps": fps,
            "tags": {key: _tag(value) for key, value in row.items() if _is_tag(key)},
        }
    )
    return _with_evidence(folder, row, sample)


def _is_tag(key: str) -> bool:
    return key not in FIELDS and OPTION_COLUMN.fullmatch(key) is None


def _tag(value: object) -> str:
    if isinstance(value, dict | list):
        raise ValueError(f"an attribute is one text or number, got {str(cast('object', value))[:80]}")
    return str(value).strip()[:MAX_TAG_CHARACTERS]


def _video(folder: Path, row: Row) -> Path:
    """Path of the video, relative to the folder: as given, else below `videos`."""
    name = PurePosixPath(text(row.get("video"), "video"))
    path_inside(folder, name)
    below = PurePosixPath("videos") / name
    is_below = not (folder / name).exists() and path_inside(folder, below).exists()
    return Path(below if is_below else name)


def _file(folder: Path, value: object, field: str) -> Path:
    """Path of an existing file or folder, relative to the folder."""
    name = PurePosixPath(text(value, field))
    if not path_inside(folder, name).exists():
        raise ValueError(f"{field} is missing: {folder} has no {name}")
    return Path(name)


# Options and answers


def _options(row: Row) -> tuple[str, ...]:
    """Texts of the options: a list, an object by letter, `a | b | c`, or a column each."""
    columns = {key: str(value).strip() for key, value in row.items() if OPTION_COLUMN.fullmatch(key)}
    value = row.get("options")
    if value is not None and columns:
        raise ValueError("options stand in one field or in a column each: give one")
    if columns:
        return tuple(columns.values())
    if isinstance(value, str):
        value = cast("object", json.loads(value)) if value.strip().startswith(("[", "{")) else value.split("|")
    if value is None:
        return ()
    if isinstance(value, dict):
        fields = mapping(cast("object", value), "options")
        if list(fields) != list(LETTERS[: len(fields)]):
            raise ValueError(f"options by letter go from A on without a gap, got {list(fields)[:30]}")
        value = list(fields.values())
    items = array(value, "options")
    options = tuple(str(item).strip() for item in items)
    has_texts = all(options) and not any(isinstance(item, dict | list) or item is None for item in items)
    if not 2 <= len(options) <= len(LETTERS) or not has_texts:
        raise ValueError(f"expected 2 to {len(LETTERS)} options with text, got {str(value)[:80]}")
    return options


def _answer(row: Row, options: Sequence[str]) -> tuple[int | None, str | None]:
    """(index of the option, answer in words of a question without options); None = not annotated.

    A number is an index from 0; a text is the text of an option, else a letter, else an index.
    """
    value = row.get("answer")
    if value is None:
        return None, None
    if not options:
        return None, text(str(value), "answer")
    if not isinstance(value, str):
        return integer(value, "answer"), None
    word = value.strip()
    matches = [place for place, option in enumerate(options) if option.casefold() == word.casefold()]
    if len(matches) == 1:
        return matches[0], None
    letter = word.strip("().: ").upper()
    if len(letter) == 1 and letter in LETTERS:
        return LETTERS.index(letter), None
    if not re.fullmatch(r"\d{1,2}", word):
        raise ValueError(f"answer is the text, letter or index of one option, got {word[:80]!r}")
    return int(word), None


# Times


def _spans(row: Row) -> list[Span] | None:
    """Evidence in seconds: `[[start, end], ...]`, `start-end; start-end`, or the columns `start` and `end`."""
    value = row.get("spans")
    if "start" in row or "end" in row:
        if value is not None or not {"start", "end"} <= row.keys():
            raise ValueError("the evidence is in spans, or in start and end: give one of the two, complete")
        return [_span([row["start"], row["end"]])]
    if value is None:
        return None
    if isinstance(value, str):
        value = cast("object", json.loads(value)) if value.strip().startswith("[") else _split_spans(value)
    items = array(value, "spans")
    is_one = len(items) == 2 and not any(isinstance(item, list) for item in items)
    return [_span(item) for item in ([items] if is_one else items)]


def _split_spans(value: str) -> list[object]:
    return [re.split(r"\s*(?:-|to)\s*", part.strip(), maxsplit=1) for part in value.split(";") if part.strip()]


def _span(value: object) -> Span:
    ends = array(value, "a span")
    if len(ends) != 2:
        raise ValueError(f"a span is [start, end], got {str(ends)[:80]}")
    return check_span(Span(_number(ends[0], "start"), _number(ends[1], "end")))


def _number(value: object, field: str) -> float:
    """A number, or a time as `1:02.5` in seconds."""
    if isinstance(value, str):
        if clock := CLOCK.fullmatch(value.strip()):
            return 3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3])
        value = csv_table.float_or_none(value.strip().removesuffix("s").strip())
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{field} is a number of seconds, or m:s, got {str(value)[:80]!r}")
    return number


# Masks and boxes


def _with_evidence(folder: Path, row: Row, sample: Sample) -> Sample:
    """The sample with masks and boxes, checked against the video."""
    video = _probe(folder, sample)
    evidence: dict[str, object] = {}
    if (value := row.get("masks", _default_masks(folder, sample))) is not None:
        evidence |= _masks(folder, value, video)
    if (boxes := row.get("boxes")) is not None:
        fields = cast("object", json.loads(boxes)) if isinstance(boxes, str) else boxes
        evidence["boxes"] = {integer(key, "frame of a box"): box for key, box in mapping(fields, "boxes").items()}
    whole = Sample.model_validate({**sample.model_dump(), **evidence}) if evidence else sample
    ground_truth.check_ground_truth(whole, video)
    return whole


def _probe(folder: Path, sample: Sample) -> Video | None:
    """The video of a sample; None = it is missing or cannot be read: predicting it fails with the reason."""
    path = path_inside(folder, sample.video)
    if not path.exists():
        return None
    try:
        return media.probe_video(path, sample.fps)
    except ValueError:
        return None


def _default_masks(folder: Path, sample: Sample) -> str | None:
    """Masks of a sample in the folder `masks`, by its id: a folder of PNG files or a JSON file."""
    names = (f"masks/{sample.id}", f"masks/{sample.id}.json")
    return next((name for name in names if path_inside(folder, PurePosixPath(name)).exists()), None)


def _masks(folder: Path, value: object, video: Video | None) -> dict[str, object]:
    """Fields of a sample with masks: a folder of PNG files, a JSON file, or masks in the row."""
    if isinstance(value, str) and not value.strip().startswith(("{", "[")):
        path = _file(folder, value, "masks")
        if (folder / path).is_dir():
            return {"masks": path}
        if path.suffix.lower() != ".json":
            raise ValueError(f"masks are a folder of PNG files or a .json file, got {path.name}")
        content = evidence_masks.read_content(path_inside(folder, path))
    else:
        content = cast("object", json.loads(value)) if isinstance(value, str) else value
    return {"tracks": tracks_of(content, video)}


def tracks_of(content: object, video: Video | None) -> tuple[Track, ...]:
    """Masks of objects: by frame, a list of objects with `label` and `frames`, or a COCO file.

    Raises:
        ValueError: a mask cannot be read, has another size than the video, or lies on a frame that it does not have.
    """
    is_coco = isinstance(content, dict) and "annotations" in content
    read_objects: Callable[[object], Objects] = _coco_objects if is_coco else _objects
    objects = read_objects(cast("object", content))
    for _, frames in objects:
        for frame, mask in frames:
            _check_size(mask, video, frame)
    evidence = [
        {"ref_expression": label, "masks": [{"frame": frame, "mask": mask} for frame, mask in frames]}
        for label, frames in objects
    ]
    left_out: list[str] = []
    tracks = evidence_masks.tracks_of_content({"evidence_objects": evidence}, video, left_out)
    if left_out:
        raise ValueError(f"masks: {left_out[0]}")
    return tracks or ()


Objects = list[tuple[str | None, list[tuple[object, object]]]]
"""(label, [(frame number, mask)]) of each object."""


def _objects(content: object) -> Objects:
    """Objects of the plain form."""
    if isinstance(content, dict):
        fields = mapping(cast("object", content), "masks")
        content = fields.get("objects", [{"frames": fields}])
    objects: Objects = []
    for item in array(content, "objects with masks"):
        fields = mapping(item, "an object with masks")
        label = fields.get("label")
        frames = mapping(fields.get("frames"), "frames of an object")
        objects.append((None if label is None else text(label, "label"), list(frames.items())))
    return objects


def _coco_objects(content: object) -> Objects:
    """Objects of a COCO file about one video: images are frames, tracks or categories are objects."""
    fields = mapping(content, "COCO file")
    frames: dict[int, int] = {}
    for value in array(fields.get("images"), "images"):
        image = mapping(value, "an image")
        frames[integer(image.get("id"), "id of an image")] = _frame_of(image)
    names: dict[int, str] = {}
    for value in array(fields.get("categories") or [], "categories"):
        category = mapping(value, "a category")
        names[integer(category.get("id"), "id of a category")] = text(category.get("name"), "name of a category")
    objects: dict[str, tuple[str | None, list[tuple[object, object]]]] = {}
    for value in array(fields.get("annotations"), "annotations"):
        annotation = mapping(value, "an annotation")
        image_id = integer(annotation.get("image_id"), "image_id")
        if image_id not in frames:
            raise ValueError(f"an annotation is on image {image_id}, which the file does not list")
        category = annotation.get("category_id")
        label = None if category is None else names.get(integer(category, "category_id"))
        key = str(annotation.get("track_id", annotation.get("instance_id", category)))
        masks = objects.setdefault(key, (label, []))[1]
        masks.append((frames[image_id], annotation.get("segmentation")))
    return list(objects.values())


def _frame_of(image: Row) -> int:
    """Frame index of an image of a COCO file: `frame_index`, else the number at the end of its file name."""
    if (index := image.get("frame_index")) is not None:
        return integer(index, "frame_index")
    number = re.search(r"(\d{1,9})$", PurePosixPath(text(image.get("file_name"), "file_name")).stem)
    if number is None:
        raise ValueError(f"an image needs a frame_index or a number in its name, got {image.get('file_name')!r}")
    return int(number[1])


def _check_size(mask: object, video: Video | None, frame: object) -> None:
    """Raise a `ValueError` for run lengths of another size than the video."""
    if video is None or not isinstance(mask, dict) or "counts" not in mask:
        return
    size = cast("dict[str, object]", mask).get("size")
    if size != [video.height, video.width]:
        raise ValueError(
            f"masks: frame {frame}: expected size [{video.height}, {video.width}] as the video, got {str(size)[:80]}"
        )
