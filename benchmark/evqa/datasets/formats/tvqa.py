"""TVQA, TVQA+, LongTVQA and LongTVQA+: questions about clips of TV episodes, or about whole episodes.

    tvqa_val.jsonl, tvqa_plus_val.json     questions, as a list or a row a line, under either suffix: {qid, q, a0..a4,
    LongTVQA_val.jsonl, LongTVQA_plus_...  answer_idx or answer: 3, "3" or "a3", ts: "1.5-4" or [1.5, 4],
                                           vid_name or occur_clip, bbox}; other splits as `QUESTIONS`
    *subtitle*.json[l]                     subtitles of clips or episodes (see `retrieval.subtitle_json`)
    tvqa_subtitles/CLIP.srt                or a file of subtitles per clip
    frames/CLIP/00001.jpg                  frames of a clip at 3 per second, also below a folder per show
    videos/EPISODE.mp4, videos/CLIP.mp4    videos, where there are any

A sample of TVQA and TVQA+ is about a clip: its video, spans and boxes are those of the clip. A sample of the long sets
is about the episode: clips follow each other, and the clip's seconds are moved to those of the episode. Both list all
clips of the episode, in order. An episode consists of the clips that have subtitles or frames.

Rows of a test split have no answer, time or boxes: they are predicted, and scored by the server of the authors.

`bbox` is an object frame -> boxes, or a list of entries with frame and boxes, whose fields have several names. Frames
count from 1 at 3 per second. A row that cannot be used is rejected with its reason; a span or box that cannot be used
is left out and reported.
"""

from __future__ import annotations

import bisect
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, NamedTuple, cast

from evqa import media
from evqa.datasets import clip_ids, path_inside
from evqa.datasets.formats import json_rows, json_stream
from evqa.datasets.formats.csv_table import as_number
from evqa.datasets.formats.fields import entry_id, numbered_rows, place_of
from evqa.datasets.formats.json_stream import text
from evqa.files.jsonl import BadEntry, BadLine
from evqa.schema import Box, ClipRef, LabelledTube, Sample, Span, Spans

FPS = 3.0
"""Frames per second of the published frames."""

NUM_OPTIONS = 5

ASSUMED_SECONDS = 90.0
"""Length of a clip without frames and video; published clips last 60 to 90 seconds."""

Split = Literal["train", "val", "test"]

QUESTIONS: dict[str, dict[Split, tuple[str, ...]]] = {
    "tvqa": {"train": ("tvqa_train",), "val": ("tvqa_val",), "test": ("tvqa_test_public",)},
    "tvqa-plus": {
        "train": ("tvqa_plus_train", "tvqa_plus_train_preprocessed"),
        "val": ("tvqa_plus_val", "tvqa_plus_valid_preprocessed"),
        "test": ("tvqa_plus_test_preprocessed_no_anno",),
    },
    "longtvqa": {"train": ("LongTVQA_train",), "val": ("LongTVQA_val",)},
    "longtvqa-plus": {"train": ("LongTVQA_plus_train",), "val": ("LongTVQA_plus_val",)},
}
"""Data set -> split -> files of questions without their suffix, the first that exists is read."""

QUESTION_FOLDERS = (
    "",
    "questions/",
    "data/",
    "tvqa_qa_release/",
    "tvqa_plus_annotations/",
    "tvqa_plus_annotations_preproc_with_test/",
)

SUBTITLES = (
    "LongTVQA_plus_subtitle_clip_level.json",
    "LongTVQA_subtitle_clip_level.json",
    "tvqa_preprocessed_subtitles.jsonl",
    "tvqa_preprocessed_subtitles.json",
    "tvqa_plus_subtitles.json",
    "tvqa_subtitles.json",
    "all_episodes_subtitles_by_clips.json",
    "clip_subtitles.json",
    "LongTVQA_plus_subtitle_episode_level.json",
    "LongTVQA_subtitle_episode_level.json",
    "LongTVQA_episode_level.json",
)
"""Files of subtitles, the first that exists is read; in the folder, or in `subtitles/`."""

SUBTITLE_FOLDERS = ("tvqa_subtitles", "subtitles", "srt")
"""Folders with a file of subtitles per clip, `CLIP.srt`."""

FRAME_FOLDERS = ("frames", "frames_hq", "tvqa_frames", "video_frames", ".")
VIDEO_FOLDERS = ("videos", "clips")

_SPAN = re.compile(r"\s*(-?[\d.]{1,20}|nan)\s*-\s*(-?[\d.]{1,20}|nan)\s*", re.ASCII | re.IGNORECASE)
_KEY = re.compile(r"a?([0-4])", re.ASCII | re.IGNORECASE)


class BoxRow(NamedTuple):
    """A box of a frame: left, top, width and height in pixels, and the name of the object."""

    left: float
    top: float
    width: float
    height: float
    label: str

    def corners(self) -> Box:
        """Return the box as corners."""
        return Box(self.left, self.top, self.left + self.width, self.top + self.height)


class Question(NamedTuple):
    """What a row asks."""

    id: str
    clip: str
    """Clip that the question is about."""
    text: str
    options: tuple[str, ...]
    answer: int | None
    """Index of the correct option; None = the row does not state it."""


FrameBoxes = dict[int, list[BoxRow]]
"""Frame of a clip, from 1, in order -> its boxes, without repeats."""


def samples(folder: Path, bad: list[BadLine], name: str, split: Split) -> Iterator[Sample]:
    """`Reader` of a split of a data set in `QUESTIONS`: one sample per question, about a clip, or an episode."""
    table = _Folder(folder, bad, name, split)
    for line, row in json_rows.rows(table.questions(), table.bad):
        question = str(row.get("qid", f"row {line}"))[:80]
        yield from numbered_rows([(question, row)], table.sample, table.bad, line)
    table.report_missing_files()


@dataclass
class _Folder:
    """State of reading: the episodes of a published folder."""

    folder: Path
    bad: list[BadLine]
    name: str
    """Data set of `QUESTIONS`."""
    split: Split
    _ids: set[str] = field(default_factory=set[str])
    _episodes: dict[str, tuple[ClipRef, ...]] = field(default_factory=dict[str, tuple[ClipRef, ...]])
    _videos: dict[str, _Whole] = field(default_factory=dict[str, "_Whole"])
    """Clip or episode -> its video."""
    _assumed: list[str] = field(default_factory=list[str])
    """Clips whose length is not known."""

    @property
    def is_long(self) -> bool:
        """Whether a sample is about the episode."""
        return self.name.startswith("long")

    def questions(self) -> Path:
        """Return the file of questions."""
        names = [f"{stem}{suffix}" for stem in QUESTIONS[self.name][self.split] for suffix in (".jsonl", ".json")]
        places = [f"{parent}{name}" for parent in QUESTION_FOLDERS for name in names]
        path = path_inside(self.folder, place_of(self.folder, *places))
        if not path.is_file():
            raise ValueError(f"{self.folder} has no {' or '.join(names)}: fetch it (see README.md there)")
        return path

    def sample(self, row: Mapping[str, object]) -> Sample:
        """Return the sample of a row."""
        name, clip, words, options, answer = question_of(row, needs_answer=self.split != "test")
        if name in self._ids:
            raise ValueError(f"qid is repeated: {name} came before")
        episode = self._episode(clip)
        ref = next(ref for ref in episode if ref.id == clip)
        whole = self._whole_video(episode) if self.is_long else self._clip_video(ref)
        offset = ref.start if self.is_long else 0.0
        spans = self._spans(name, row, ref.duration)
        labelled = self._labelled_boxes(name, row, _Clock(whole, offset, ref.duration))
        sample = Sample(
            id=name,
            video_id=clip_ids.episode_of(clip) if self.is_long else clip,
            video=whole.path,
            subtitles=self._subtitles,
            clips=episode,
            evidence_clips=(clip,),
            question=words,
            options=options,
            answer=answer,
            spans=None if spans is None else tuple(Span(start + offset, end + offset) for start, end in spans),
            boxes=_enclosing(labelled) or None,
            labelled_boxes=labelled,
            fps=None if whole.is_file else FPS,
            num_frames=None if whole.is_file else whole.num_frames,
            duration=whole.duration,
            source=self.name,
            metadata={"show": clip_ids.show_of(clip_ids.episode_of(clip))},
        )
        self._ids.add(name)
        return sample

    def report_missing_files(self) -> None:
        """Report that there are no subtitles, and the clips whose length is not known."""
        if self._ids and self._subtitles is None:
            reason = f"the folder has none: expected {SUBTITLES[0]}, CLIP.srt in {SUBTITLE_FOLDERS[0]}, ... (README.md)"
            self.bad.append(BadLine(0, f"left out, subtitles: {reason}"))
        if clips := self._assumed:
            reason = f"{len(clips)} clips have no frames and are taken as {ASSUMED_SECONDS:g} seconds long"
            self.bad.append(BadEntry(0, f"left out, length: {clips[0]}: {reason}", clips[0]))

    # Episodes

    def _episode(self, clip: str) -> tuple[ClipRef, ...]:
        """Return the clips of a clip's episode; `ValueError`: the clip has neither subtitles nor frames."""
        name = clip_ids.episode_of(clip)
        if clip not in self._all_clips.get(name, ()):
            raise ValueError(f"clip has neither subtitles nor frames: expected those of {clip}, fetch them")
        if name not in self._episodes:
            self._episodes[name] = tuple(self._refs(name))
        return self._episodes[name]

    def _refs(self, episode: str) -> Iterator[ClipRef]:
        start = 0.0
        for clip in self._all_clips[episode]:
            path, seconds = self._media_of(clip)
            yield ClipRef(id=clip, path=path, start=round(start, 6), duration=round(seconds, 6))
            start += seconds

    def _media_of(self, clip: str) -> tuple[Path, float]:
        """Return (frames or video of a clip, its length in seconds)."""
        video = place_of(self.folder, *(f"{parent}/{clip}.mp4" for parent in VIDEO_FOLDERS))
        if (path := path_inside(self.folder, video)).is_file():
            return video, media.probe_video(path).duration
        frames = self._frame_folders.get(clip)
        numbers = frame_numbers(path_inside(self.folder, frames)) if frames else []
        if frames and numbers:
            return frames, numbers[-1] / FPS
        self._assumed.append(clip)
        return frames or Path("frames", clip), ASSUMED_SECONDS

    @cached_property
    def _all_clips(self) -> dict[str, list[str]]:
        """Episode -> its clips in order: those with subtitles or frames."""
        path = self._subtitles
        clips = set(self._frame_folders)
        if path is not None:
            clips.update(_clips_with_subtitles(path_inside(self.folder, path)))
        episodes: dict[str, list[str]] = {}
        for clip in sorted(clips, key=clip_ids.place_of):
            episodes.setdefault(clip_ids.episode_of(clip), []).append(clip)
        return episodes

    @cached_property
    def _frame_folders(self) -> dict[str, Path]:
        """Clip -> the folder of its frames, which may lie in a folder per show."""
        folders: dict[str, Path] = {}
        for parent in FRAME_FOLDERS:
            base = path_inside(self.folder, Path(parent))
            for path in sorted(base.iterdir()) if base.is_dir() else ():
                inner = [path] if clip_ids.is_clip(path.name) else sorted(path.iterdir()) if path.is_dir() else []
                for place in inner:
                    if clip_ids.is_clip(place.name) and place.is_dir():
                        folders.setdefault(place.name, place.relative_to(self.folder))
        return folders

    @cached_property
    def _subtitles(self) -> Path | None:
        """The file of subtitles, else the folder with a file per clip; None = there are none."""
        places = (f"{parent}{name}" for name in SUBTITLES for parent in ("", "subtitles/"))
        place = place_of(self.folder, *places)
        if path_inside(self.folder, place).is_file():
            return place
        folders = (Path(name) for name in SUBTITLE_FOLDERS)
        return next((path for path in folders if any(clip_ids.clips_with_files(path_inside(self.folder, path)))), None)

    # The video of a sample

    def _whole_video(self, episode: Sequence[ClipRef]) -> _Whole:
        """Return the episode as one video; its file need not exist."""
        name = clip_ids.episode_of(episode[0].id)
        if name not in self._videos:
            path = Path("videos", f"{name}.mp4")
            length = episode[-1].start + episode[-1].duration
            self._videos[name] = self._video(path, length)
        return self._videos[name]

    def _clip_video(self, clip: ClipRef) -> _Whole:
        if clip.id not in self._videos:
            self._videos[clip.id] = self._video(clip.path, clip.duration)
        return self._videos[clip.id]

    def _video(self, place: Path, length: float) -> _Whole:
        path = path_inside(self.folder, place)
        if path.is_file():
            video = media.probe_video(path)
            fps = video.num_frames / video.duration
            return _Whole(place, round(video.duration, 6), video.num_frames, fps, is_file=True)
        numbers = frame_numbers(path) or None
        num_frames = len(numbers) if numbers else max(round(length * FPS), 1)
        return _Whole(place, round(length, 6), num_frames, FPS, numbers)

    # Evidence

    def _spans(self, name: str, row: Mapping[str, object], length: float) -> Spans | None:
        try:
            return span_of(row.get("ts"), length)
        except ValueError as error:
            self._leave_out(name, "spans", str(error))
            return None

    def _labelled_boxes(self, name: str, row: Mapping[str, object], clock: _Clock) -> tuple[LabelledTube, ...]:
        """Return the boxes as tubes; two objects of one name in a frame are two tubes."""
        tubes: dict[tuple[str, int], dict[int, Box]] = {}
        for frame, boxes in boxes_of(row.get("bbox"), lambda reason: self._leave_out(name, "boxes", reason)).items():
            index = clock.frame_index(frame)
            if index is None:
                self._leave_out(name, "boxes", f"frame {frame} is not in the clip")
                continue
            counts: Counter[str] = Counter()
            for box in boxes:
                tubes.setdefault((box.label, counts[box.label]), {})[index] = box.corners()
                counts[box.label] += 1
        return tuple(LabelledTube(label=label, boxes=boxes) for (label, _), boxes in tubes.items())

    def _leave_out(self, name: str, part: str, reason: str) -> None:
        self.bad.append(BadEntry(0, f"left out, {part}: {name}: {reason}", name))


class _Whole(NamedTuple):
    """The video of a sample."""

    path: Path
    duration: float
    num_frames: int
    fps: float
    numbers: list[int] | None = None
    """Numbers of the frames in a folder; None = no folder."""
    is_file: bool = False
    """Whether it is a video file that exists, which states its own times."""


class _Clock(NamedTuple):
    """Frames of a clip in the video of a sample."""

    video: _Whole
    offset: float
    """Start of the clip in the video, in seconds."""
    length: float
    """Length of the clip in seconds."""

    def frame_index(self, frame: int) -> int | None:
        """Return the 0-based frame index in the video of a frame of the clip, counted from 1; None = not there."""
        if not 1 <= frame <= round(self.length * FPS):
            return None
        if self.video.numbers is not None:
            place = bisect.bisect_left(self.video.numbers, frame)
            return place if self.video.numbers[place : place + 1] == [frame] else None
        return min(round((self.offset + (frame - 1) / FPS) * self.video.fps), self.video.num_frames - 1)


# Fields of a row


def question_of(row: Mapping[str, object], *, needs_answer: bool = True) -> Question:
    """Return what a row asks.

    Args:
        row: row of a file of questions.
        needs_answer: False = the answer may be missing, as in a test split.

    Raises:
        ValueError: A field is missing or cannot be used.
    """
    value = row["answer_idx"] if "answer_idx" in row else row.get("answer")
    return Question(
        id=entry_id(_qid(row)),
        clip=clip_of(row),
        text=text(row.get("q"), "question q"),
        options=tuple(text(row.get(f"a{number}"), f"option a{number}") for number in range(NUM_OPTIONS)),
        answer=None if value is None and not needs_answer else gold_option(value),
    )


def _qid(row: Mapping[str, object]) -> str:
    qid = row.get("qid")
    if isinstance(qid, bool) or not isinstance(qid, str | int) or not str(qid).strip():
        raise ValueError(f"qid is no number or name: got {str(qid)[:80]!r}")
    return str(qid).strip()


def clip_of(row: Mapping[str, object]) -> str:
    """Return the clip that a row is about; `ValueError`: it names none, or none of an episode."""
    clip = text(row.get("vid_name") or row.get("occur_clip"), "vid_name or occur_clip")
    clip_ids.place_of(clip)
    return clip


def gold_option(value: object) -> int:
    """Return the index of the correct option: 3, "3", "a3" or "A3". `ValueError`: it is no such key."""
    words = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _KEY.fullmatch(words.strip()) if isinstance(words, str) else None
    if match is None:
        raise ValueError(f"answer is no option: expected 0 to 4, '3' or 'a3', got {str(value)[:80]!r}")
    return int(match[1])


def span_of(value: object, length: float) -> Spans | None:
    """Return the time segment of a row, in seconds of its clip; None = it states none.

    Raises:
        ValueError: it cannot be read, has no length, or starts after the clip.
    """
    if value is None:
        return None
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    pair: object = list(match.groups()) if match else value
    numbers = [as_number(number) for number in cast("list[object]", pair)] if isinstance(pair, list) else []
    if len(numbers) != 2 or None in numbers:
        raise ValueError(f"ts is no time segment: expected 'START-END' or [START, END], got {str(value)[:80]!r}")
    start, end = cast("list[float]", numbers)
    if not (math.isfinite(start) and math.isfinite(end) and start < end and end > 0 and start < length):
        raise ValueError(f"ts is no segment of the clip: got {start:g} to {end:g} of {length:g} seconds")
    return (Span(max(start, 0.0), min(end, max(length, start))),)


# Boxes

_FRAME_KEYS = ("frame_id", "frame", "frame_idx", "img_id")
_LIST_KEYS = ("bbox", "boxes", "objects")
_BOX_KEYS = (("left", "x"), ("top", "y"), ("width", "w"), ("height", "h"))
_LABEL_KEYS = ("label", "name", "category")


def boxes_of(value: object, report: Callable[[str], None]) -> FrameBoxes:
    """Return the boxes of a row by frame, in order of the frames and without exact repeats.

    Args:
        value: `bbox`: an object frame -> boxes, or a list of entries with a frame and its boxes; None = no boxes.
        report: called with the reason for each frame or box that cannot be used.
    """
    frames: FrameBoxes = {}
    for key, entries in _frames_of(value, report):
        frame = _whole_number(key)
        if frame is None:
            report(f"frame is no number: got {str(key)[:80]!r}")
            continue
        for entry in entries:
            box = _box(entry)
            if box is None:
                report(f"frame {frame}: box cannot be read: got {str(entry)[:120]}")
            elif box not in frames.setdefault(frame, []):
                frames[frame].append(box)
    return {frame: frames[frame] for frame in sorted(frames) if frames[frame]}


def _frames_of(value: object, report: Callable[[str], None]) -> Iterator[tuple[object, list[object]]]:
    """Yield (frame as written, its boxes)."""
    if value is None:
        return
    if isinstance(value, dict):
        for key, entries in cast("dict[str, object]", value).items():
            yield key, _box_list(entries)
        return
    if not isinstance(value, list):
        report(f"bbox is neither an object nor a list: got {str(value)[:80]!r}")
        return
    for entry in cast("list[object]", value):
        fields = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        flat: list[object] = [cast("object", entry)]
        boxes = next((fields[key] for key in _LIST_KEYS if key in fields), flat)
        yield next((fields[key] for key in _FRAME_KEYS if key in fields), None), _box_list(boxes)


def _box_list(value: object) -> list[object]:
    """Return a list of boxes; a single box is a list of one."""
    if not isinstance(value, list):
        return [value]
    items = cast("list[object]", value)
    return [items] if items and not isinstance(items[0], dict | list) else items


def _box(value: object) -> BoxRow | None:
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        edges = [next((fields[key] for key in keys if key in fields), None) for keys in _BOX_KEYS]
        label = next((fields[key] for key in _LABEL_KEYS if key in fields), None)
    elif isinstance(value, list) and len(cast("list[object]", value)) == 5:
        *edges, label = cast("list[object]", value)
    else:
        return None
    numbers = [as_number(edge) for edge in edges]
    if not isinstance(label, str) or not label.strip() or None in numbers:
        return None
    left, top, width, height = cast("list[float]", numbers)
    is_usable = all(map(math.isfinite, (left, top, width, height))) and width > 0 and height > 0
    return BoxRow(left, top, width, height, label.strip()) if is_usable else None


def _whole_number(value: object) -> int | None:
    number = as_number(value)
    return int(number) if number is not None and number.is_integer() and 0 <= number < 2**31 else None


def _enclosing(tubes: Sequence[LabelledTube]) -> dict[int, Box]:
    """Return the box that encloses those of each frame."""
    frames: dict[int, Box] = {}
    for tube in tubes:
        for index, box in tube.boxes.items():
            hull = frames.get(index, box)
            frames[index] = Box(*map(min, box[:2], hull[:2]), *map(max, box[2:], hull[2:]))
    return dict(sorted(frames.items()))


def box_mapping(path: Path, bad: list[BadLine]) -> dict[str, dict[str, list[BoxRow]]]:
    """Return clip -> frame -> boxes, of all rows of a file of questions: the published `clip_bbox_mapping.json`.

    It holds ground truth of all questions of the file. Frames are in order, those without boxes are left out.
    """
    clips: dict[str, FrameBoxes] = {}
    for line, row in json_rows.rows(path, bad):
        for clip in numbered_rows([(f"row {line}", row)], clip_of, bad, line):
            report = partial(_append, bad, line)
            for frame, boxes in boxes_of(row.get("bbox"), report).items():
                rows = clips.setdefault(clip, {}).setdefault(frame, [])
                rows += [box for box in boxes if box not in rows]
    return {clip: {str(frame): frames[frame] for frame in sorted(frames)} for clip, frames in clips.items()}


def _append(bad: list[BadLine], line: int, reason: str) -> None:
    bad.append(BadLine(line, f"left out, boxes: {reason}"))


# Files


def frame_numbers(folder: Path) -> list[int]:
    """Return the numbers of the frames in a folder, ascending; other files are left out."""
    if not folder.is_dir():
        return []
    names = media.image_names(folder)
    return sorted({int(name) for name in names if re.fullmatch(r"[0-9]{1,9}", name) and int(name) > 0})


def _clips_with_subtitles(path: Path) -> Iterator[str]:
    """Yield the clips that a file or folder of subtitles has."""
    if path.is_dir():
        yield from clip_ids.clips_with_files(path)
        return
    for name, content in _subtitle_entries(path):
        if clip_ids.is_clip(name):
            yield name
        else:
            yield from clip_ids.clip_texts(content)


def _subtitle_entries(path: Path) -> Iterator[tuple[str, object]]:
    if json_rows.is_list(path) or path.suffix == ".jsonl":
        for _, row in json_rows.rows(path, []):
            name = next((row[key] for key in ("vid_name", "clip") if key in row), None)
            yield from [(str(name), None)] if name is not None else row.items()
        return
    with json_stream.open_json(path) as entries:
        yield from ((key, None if clip_ids.is_clip(key) else entries[key]) for key in entries)
