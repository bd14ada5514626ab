"""Readers of data sets about marked objects: VideoRefer, Inst-IT, Osprey. `[K]` in text is the object with label K.

    VideoRefer   [{"id", "video", "ratio", "annotation": [{FRAME: ...} per object], "conversations": [two turns]}],
                 masks of entry I (from 0) in <masks>/I.json: [[[run lengths] per annotated frame] per object]
    Inst-IT      [{"video_id", "video_path", "question_answer_pairs": [{"question", "answer"}],
                   "segmentations": {FRAME FILE: {K: {"mask": run lengths}}}}], frames in a folder
                 [{"image_id", "image_path", "instance_level_caption": {K: {"short"}},
                   "segmentations": {K: {"mask": run lengths}}}]
    Osprey       [{"id", "file_name", "height", "width", "annotation": [{"segmentation"}],
                   "conversations" about `<region1>`, or "description": ["<region1>: TEXT"]}]

Task types: `region` is a conversation about the objects; `memory` segments them before the question is answered;
`pointing` describes one object. A turn whose question is a mark alone asks for a detailed description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from evqa import media
from evqa.datasets import path_inside
from evqa.datasets.formats import json_stream
from evqa.datasets.formats.fields import entry_id, find_below, numbered_rows, require
from evqa.datasets.formats.json_stream import array, integer, mapping, text
from evqa.datasets.formats.regions import union_outline
from evqa.files.jsonl import BadLine
from evqa.schema import RLE, Sample, TaskType, Track, TrainingExchange

MAX_OBJECTS = 5
LEAST_ANNOTATED = 0.3
"""Minimum share of annotated frames of a video (published)."""
MAX_FRAMES: dict[TaskType, int] = {"region": 10, "memory": 8}
"""Maximum number of frames of Inst-IT's videos (published)."""

_MARK = re.compile(r"\[0*(\d{1,3})\]")


# VideoRefer


def videorefer_short_caption(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of short descriptions of one object (stage 1)."""
    file, masks = "videorefer-short-caption-500k-wo-masks.json", "masks_short_caption"
    return _videorefer(folder, file, masks, "pointing", bad)


def videorefer_detailed_caption(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of long descriptions of one object."""
    file, masks = "videorefer-detailed-caption-125k-wo-masks.json", "masks_detailed_caption"
    return _videorefer(folder, file, masks, "region", bad)


def videorefer_qa(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of questions about one or several objects."""
    return _videorefer(folder, "videorefer-qa-75k-wo-masks.json", "masks_qa", "region", bad)


def videorefer_qa_mem(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the same questions, with segmentation of their objects."""
    return _videorefer(folder, "videorefer-qa-75k-wo-masks.json", "masks_qa", "memory", bad)


def _videorefer(folder: Path, file: str, masks: str, form: TaskType, bad: list[BadLine]) -> Iterator[Sample]:
    path = require(folder, file, f"VideoRefer-700K/{file}")
    root = path.parent.relative_to(folder.resolve() if path.is_relative_to(folder.resolve()) else folder)
    for number, entry in enumerate(json_stream.elements(path)):
        entries = [(f"entry {number}", entry)]
        yield from numbered_rows(entries, partial(_refers, folder, root, masks, form, number), bad, number + 1)


def _refers(folder: Path, root: Path, masks: str, form: TaskType, number: int, entry: object) -> Sample:
    fields = mapping(entry, "entry")
    objects = [mapping(annotation, "annotation") for annotation in array(fields.get("annotation"), "annotation")]
    if not 1 <= len(objects) <= MAX_OBJECTS:
        raise ValueError(f"too few or too many objects: expected 1 to {MAX_OBJECTS}, got {len(objects)}")
    ratio = fields.get("ratio")
    if form != "pointing" and isinstance(ratio, int | float) and ratio < LEAST_ANNOTATED:
        raise ValueError(f"too few frames are annotated: expected a share of {LEAST_ANNOTATED}, got {ratio}")
    frames = sorted({integer(frame, "number of a frame") for annotation in objects for frame in annotation})
    if form == "memory" and len(frames) == 1:
        raise ValueError("a single frame is annotated")
    turn = _exchange(array(fields.get("conversations"), "conversations"), len(objects), form)
    lists = array(json_stream.read(path_inside(folder, root / masks / f"{number}.json")), "masks")
    if len(lists) != len(objects):
        raise ValueError(f"masks do not fit the objects: expected {len(objects)}, got {len(lists)}")
    tracks = tuple(_track(str(label), frames, parts) for label, parts in enumerate(lists))
    video = find_below(root / "videos", fields.get("video"), "video")
    return Sample(
        id=entry_id(number, fields.get("id")),
        video_id=video.stem,
        video=video,
        question=turn.question,
        task_type=form,
        turns=(turn,),
        tracks=tracks,
        frames=tuple(frames) if len(frames) > 1 and form != "pointing" else None,
        num_frames=len(frames),
        source="videorefer",
    )


def _exchange(turns: list[object], count: int, form: TaskType) -> TrainingExchange:
    """Return a question and its reply, without the list of objects before the question if that has no mark."""
    if len(turns) != 2:
        raise ValueError(f"conversation is not one question and its reply: got {len(turns)} turns")
    question, response = (text(mapping(turn, "turn").get("value"), "value of a turn") for turn in turns)
    question = question.removeprefix("<video>\n").removesuffix("\n<video>").strip()
    if question.count("<region>") != count:
        raise ValueError(f"marks do not fit the objects: expected {count}, got {question.count('<region>')}")
    marks, newline, rest = question.partition("\n")
    if newline and form == "region" and "<region>" not in rest:
        question = rest
    question = re.sub(r"<object(\d{1,3})><region>", r"[\1]", question).replace("<region>", "[0]")
    words = [re.sub(r"<object(\d{1,3})>", r"[\1]", part) for part in (question, response)]
    if any(int(number) >= count for part in words for number in _MARK.findall(part)):
        raise ValueError(f"marks do not fit the objects: {count} objects, in {marks[:80]!r}")
    return TrainingExchange(question=words[0], response=words[1])


def _track(label: str, frames: list[int], parts: object) -> Track:
    lists = [array(part, "masks of a frame") for part in array(parts, "masks of an object")]
    if len(lists) != len(frames):
        raise ValueError(f"masks do not fit the frames: expected {len(frames)}, got {len(lists)}")
    rles = {frame: rle for frame, part in zip(frames, lists, strict=True) if (rle := union_outline(part, None))}
    return _nonempty_track(label, rles)


def _nonempty_track(label: str, rles: dict[int, RLE]) -> Track:
    if not rles:
        raise ValueError(f"no mask in any frame: object {label}")
    return Track(label=label, masks=rles)


# Inst-IT


def inst_it_image(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of short descriptions of one object of an image (stage 1)."""
    path = require(folder, "Inst-IT-Dataset/inst_it_dataset_image_51k_w_mask.json")
    for number, entry in enumerate(json_stream.elements(path), 1):
        for samples in numbered_rows([(f"entry {number}", entry)], _inst_it_captions, bad, number):
            yield from samples


def inst_it_video_qa(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of questions about the objects of short videos."""
    return _inst_it_videos(folder, "region", bad)


def inst_it_video_qa_mem(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the same questions, with segmentation of their objects."""
    return _inst_it_videos(folder, "memory", bad)


def _inst_it_captions(entry: object) -> list[Sample]:
    fields = mapping(entry, "entry")
    path = PurePosixPath(*PurePosixPath(text(fields.get("image_path"), "image_path")).parts[1:])
    picture = find_below(Path("Inst-IT-Dataset/images_raw"), str(path), "image_path")
    segmentations = mapping(fields.get("segmentations"), "segmentations")
    captions = mapping(fields.get("instance_level_caption"), "instance_level_caption")
    name = text(str(fields.get("image_id")), "image_id")
    return [_caption(name, picture, key, segmentations, caption) for key, caption in captions.items()]


def _caption(name: str, picture: Path, key: str, segmentations: Mapping[str, object], caption: object) -> Sample:
    mask = union_outline([mapping(segmentations.get(key), f"segmentation of {key}").get("mask")], None)
    turn = TrainingExchange(question="[0]", response=text(mapping(caption, "caption").get("short"), "short"))
    return Sample(
        id=entry_id(name, key),
        video_id=name,
        video=picture,
        question=turn.question,
        task_type="pointing",
        turns=(turn,),
        tracks=(_nonempty_track("0", {0: mask} if mask else {}),),
        num_frames=1,
        source="inst_it",
    )


def _inst_it_videos(folder: Path, form: TaskType, bad: list[BadLine]) -> Iterator[Sample]:
    path = require(folder, "Inst-IT-Dataset/inst_it_dataset_video_21k_w_mask.json")
    for number, entry in enumerate(json_stream.elements(path), 1):
        for video in numbered_rows([(f"entry {number}", entry)], partial(_inst_it_video, folder, form), bad, number):
            name, place, frames, fields = video
            pairs = array(fields.get("question_answer_pairs"), "question_answer_pairs")
            entries = [(f"{name} {turn}", (turn, pair)) for turn, pair in enumerate(pairs)]
            yield from numbered_rows(entries, partial(_inst_it_sample, name, place, frames, fields, form), bad, number)


def _inst_it_video(folder: Path, form: TaskType, entry: object) -> tuple[str, Path, list[str], Mapping[str, object]]:
    fields = mapping(entry, "entry")
    path = PurePosixPath(*PurePosixPath(text(fields.get("video_path"), "video_path")).parts[1:])
    place = find_below(Path("Inst-IT-Dataset/videos_raw"), str(path), "video_path")
    if not path_inside(folder, place).is_dir():
        raise ValueError("frames are missing: the video has no folder")
    frames = media.image_names(path_inside(folder, place))
    if not 1 <= len(frames) <= MAX_FRAMES[form]:
        raise ValueError(f"video of too many frames: expected 1 to {MAX_FRAMES[form]}, got {len(frames)}")
    array(fields.get("question_answer_pairs"), "question_answer_pairs")
    return text(str(fields.get("video_id")), "video_id"), place, frames, fields


def _inst_it_sample(
    name: str, place: Path, frames: list[str], fields: Mapping[str, object], form: TaskType, item: tuple[int, object]
) -> Sample:
    number, pair = item
    words = [text(mapping(pair, "pair").get(key), key) for key in ("question", "answer")]
    question, response = (_MARK.sub(r"[\1]", part.replace("<0>", "<1>")) for part in words)
    keys = list(dict.fromkeys(_MARK.findall(f"{question} {response}")))
    if not 1 <= len(keys) <= MAX_OBJECTS:
        raise ValueError(f"too few or too many objects: expected 1 to {MAX_OBJECTS}, got {len(keys)}")
    segmentations = mapping(fields.get("segmentations"), "segmentations")
    by_frame = {PurePosixPath(file).stem: mapping(value, "segmentation") for file, value in segmentations.items()}
    return Sample(
        id=entry_id(name, number),
        video_id=name,
        video=place,
        question=question,
        task_type=form,
        turns=(TrainingExchange(question=question, response=response),),
        tracks=tuple(_inst_it_track(key, frames, by_frame) for key in keys),
        num_frames=len(frames),
        source="inst_it",
    )


def _inst_it_track(key: str, frames: list[str], by_frame: Mapping[str, Mapping[str, object]]) -> Track:
    segmentations = ((place, by_frame.get(frame, {}).get(key)) for place, frame in enumerate(frames))
    parts = ((place, mapping(value, "segmentation").get("mask")) for place, value in segmentations if value is not None)
    return _nonempty_track(key, {place: rle for place, part in parts if (rle := union_outline([part], None))})


# Osprey

_OSPREY_MARK = re.compile(r"<(?:[Rr]egion|[Rr]egin)(?: of)? ?(\d{1,3})[>\].]")
"""`<region1>`, with the misspellings of the published files."""


def osprey_conversation(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of conversations about regions of an image."""
    return _osprey(folder, "osprey_conversation.json", "coco/train2014", bad)


def osprey_pos_neg(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of questions whether a region is of a category."""
    return _osprey(folder, "osprey_lvis_positive_negative.json", "coco/imgs", bad)


def osprey_detail_description(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of long descriptions of regions."""
    return _osprey(folder, "osprey_detail_description.json", "coco/train2014", bad)


def _osprey(folder: Path, file: str, pictures: str, bad: list[BadLine]) -> Iterator[Sample]:
    path = require(folder, f"Osprey-724K/{file}")
    for number, entry in enumerate(json_stream.elements(path), 1):
        yield from numbered_rows(
            [(f"entry {number}", (number, entry))], partial(_osprey_sample, Path(pictures)), bad, number
        )


def _osprey_sample(pictures: Path, item: tuple[int, object]) -> Sample:
    number, entry = item
    fields = mapping(entry, "entry")
    exchanges = _descriptions(fields) if "description" in fields else _conversation(fields)
    turns = [
        TrainingExchange(question=_osprey_words(question), response=_osprey_words(reply))
        for question, reply in exchanges
    ]
    keys = list(dict.fromkeys(key for turn in turns for key in _MARK.findall(f"{turn.question} {turn.response}")))
    regions = array(fields.get("annotation"), "annotation")
    if not keys or any(not 1 <= int(key) <= len(regions) for key in keys):
        raise ValueError(f"marks do not fit the regions: {len(regions)} regions, marks {keys}")
    size = (integer(fields.get("height"), "height"), integer(fields.get("width"), "width"))
    picture = find_below(pictures, fields.get("file_name"), "file_name")
    return Sample(
        id=entry_id(number, fields.get("id")),
        video_id=picture.stem,
        video=picture,
        question=turns[0].question,
        task_type="region",
        turns=tuple(turns),
        tracks=tuple(_osprey_track(key, regions, size) for key in keys),
        num_frames=1,
        source="osprey",
    )


def _osprey_track(key: str, regions: list[object], size: tuple[int, int]) -> Track:
    rle = union_outline([mapping(regions[int(key) - 1], "region").get("segmentation")], size)
    return _nonempty_track(key, {0: rle} if rle else {})


def _conversation(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    texts = [text(mapping(turn, "turn").get("value"), "value") for turn in array(fields["conversations"], "turns")]
    if not texts or len(texts) % 2:
        raise ValueError(f"turns do not alternate: {len(texts)} turns")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _descriptions(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    lines = [text(line, "description") for line in array(fields["description"], "description")]
    pairs = [line.partition(": ") for line in lines]
    if not lines or any(not _OSPREY_MARK.fullmatch(mark) or not words for mark, _, words in pairs):
        raise ValueError("description does not start with its region")
    return [(mark, words) for mark, _, words in pairs]


def _osprey_words(words: str) -> str:
    marked = _OSPREY_MARK.sub(r"[\1]", words)
    if re.search(r"<[Rr]egi", marked):
        raise ValueError(f"mark of a region cannot be read: {words[:80]!r}")
    return marked
