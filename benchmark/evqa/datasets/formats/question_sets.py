"""Readers of sets of questions about videos, one `QuestionSet` each: where rows are, and how one becomes a sample.

Rows are read from JSON (a list, lines, or an object by id), CSV, Parquet (needs pyarrow) or lines of text. A video is
found by its name below the folders of the set, as a file with any usual suffix or a folder of frames; a missing one
keeps the place where it is expected.
"""

from __future__ import annotations

import ast
import functools
import glob
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from evqa.datasets import path_inside
from evqa.datasets.formats import csv_table, json_rows, json_stream
from evqa.datasets.formats.fields import entry_id, find_below, numbered_rows, require
from evqa.datasets.formats.json_stream import array, integer, mapping, number, numbers, text
from evqa.datasets.formats.regions import union_outline
from evqa.datasets.formats.segments import segment_video
from evqa.files.jsonl import BadEntry, BadLine
from evqa.schema import LETTERS, Sample, Span, Track, check_span

Row = Mapping[str, object]

SUFFIXES = ("", ".mp4", ".mkv", ".webm", ".avi", ".mov")
"""Endings that are tried after the name of a video."""


class SetRow(NamedTuple):
    """A row of the published files."""

    number: int
    """Place in its file, from 1."""
    file: str
    """Name of its file without suffix: some sets have a file per task."""
    fields: Row
    extra: Mapping[str, object]
    """Entries of the further file of the set, by key."""

    def text(self, *names: str) -> str:
        """Return the text of the first of some columns that the row has; numbers become text."""
        value = self.get(*names)
        return text(str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value, names[0])

    def get(self, *names: str) -> object:
        """Return the value of the first of some columns that the row has; None = it has none of them."""
        return next((self.fields[name] for name in names if self.fields.get(name) is not None), None)


Fields = dict[str, object]
"""Fields of a `Sample`; `video` is the name of the video as the row has it."""


@dataclass(frozen=True, kw_only=True)
class QuestionSet:
    """A set of questions in a published layout. Paths are relative to its folder."""

    source: str
    files: tuple[str, ...]
    """Files of rows; the first that exists is used. One with `*` = all files that match."""
    videos: tuple[str, ...]
    """Folders in which videos are looked for, in order."""
    read: Callable[[SetRow], Fields | None]
    """Function row -> fields of its sample; None = the row does not belong to the set."""
    extra: str | None = None
    """A further JSON file, by key."""
    subtitles: tuple[str, ...] = ()
    """Folders in which subtitles are looked for, in order; a video without a file has none."""
    columns: tuple[str, ...] = ()
    """Columns of a CSV file."""
    pattern: re.Pattern[str] = field(default=re.compile(r"$^"))
    """Lines of a text file, with named groups."""


def samples(folder: Path, bad: list[BadLine], name: str) -> Iterator[Sample]:
    """`Reader` of the set of a name in `SETS`."""
    kind = SETS[name]
    extra: Mapping[str, object] = dict[str, object]()
    if kind.extra is not None:
        extra = mapping(json_stream.read(require(folder, kind.extra)), kind.extra)
    ids: set[str] = set()
    files = _SetFiles(kind, folder)
    for path in _paths(kind, folder):
        for place, row in _rows(kind, path, bad):
            item = SetRow(place, path.stem, row, extra)
            for sample in numbered_rows([(f"{path.name} {place}", item)], partial(_sample, kind, files), bad, place):
                if sample is not None and sample.id not in ids:
                    ids.add(sample.id)
                    yield sample
                elif sample is not None:
                    bad.append(BadEntry(place, f"duplicate id: {sample.id} came before", sample.id))


def _sample(kind: QuestionSet, files: _SetFiles, row: SetRow) -> Sample | None:
    read_fields = kind.read(row)
    if read_fields is None:
        return None
    fields: Fields = {"source": kind.source} | read_fields
    name = text(fields["video"], "video")
    segment = fields.pop("segment", None)
    subtitles = files.subtitles(text(fields.pop("subtitles", name), "subtitles"))
    paths: Fields = {"video": files.video(name)}
    if subtitles is not None:
        paths["subtitles"] = subtitles
    sample = Sample.model_validate({"video_id": PurePosixPath(name).stem or name} | fields | paths)
    return files.segment(sample, segment) if isinstance(segment, Span) else sample


SUBTITLE_SUFFIXES = (".srt", ".vtt", ".jsonl", ".json")
"""Endings that are tried after the name of a video, or of a file of subtitles without its ending."""


class _SetFiles:
    """Finds the videos of a set, each once, and their subtitles."""

    def __init__(self, kind: QuestionSet, folder: Path) -> None:
        self._folder, self._places = folder, [Path(place) for place in kind.videos]
        self._subtitle_places = [Path(place) for place in kind.subtitles]
        self._paths: dict[str, Path] = {}

    def subtitles(self, name: str) -> Path | None:
        """Return the path of a file of subtitles relative to the folder of the set; None = there is none."""
        stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix.lower() in SUFFIXES else name
        candidates = [
            find_below(place, candidate, "subtitles")
            for place in self._subtitle_places
            for candidate in (*(f"{stem}{suffix}" for suffix in SUBTITLE_SUFFIXES), stem)
        ]
        return next((path for path in candidates if path_inside(self._folder, path).is_file()), None)

    def segment(self, sample: Sample, segment: Span) -> Sample:
        """Return a sample about a segment of its video."""
        path = segment_video(self._folder, sample.video, segment, sample.id, fps=sample.fps)
        return sample.replace(video=path, fps=None)

    def video(self, name: str) -> Path:
        """Return the path of a video relative to the folder of the set."""
        if name not in self._paths:
            candidates = [
                find_below(place, f"{name}{suffix}", "video") for place in self._places for suffix in SUFFIXES
            ]
            existing = (path for path in candidates if path_inside(self._folder, path).exists())
            has_suffix = PurePosixPath(name).suffix.lower() in SUFFIXES[1:]
            expected = candidates[0] if has_suffix else candidates[1]
            self._paths[name] = next(existing, None) or self._nested.get(PurePosixPath(name).stem) or expected
        return self._paths[name]

    @functools.cached_property
    def _nested(self) -> dict[str, Path]:
        """Name -> video one folder deeper, as NExT-QA groups its videos."""
        folders = [folder for place in self._places for folder in self._folder.glob(f"{glob.escape(str(place))}/*/")]
        return {
            path.stem: path.relative_to(self._folder)
            for folder in folders
            if path_inside(self._folder, folder.relative_to(self._folder)).is_dir()
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES[1:]
        }


def _paths(kind: QuestionSet, folder: Path) -> list[Path]:
    first = kind.files[0]
    if "*" not in first:
        return [require(folder, *kind.files)]
    paths = sorted(path for pattern in kind.files for path in folder.glob(pattern))
    if not paths:
        raise ValueError(f"{folder} has no {' or '.join(kind.files)}: fetch it (see README.md there)")
    return paths


def _rows(kind: QuestionSet, path: Path, bad: list[BadLine]) -> Iterator[tuple[int, Row]]:
    if path.suffix == ".csv":
        return csv_table.rows(path, kind.columns, bad)
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    if path.suffix == ".txt":
        return _text_rows(path, kind.pattern, bad)
    return json_rows.rows(path, bad) if json_rows.is_list(path) or path.suffix == ".jsonl" else _keyed_rows(path, bad)


def _keyed_rows(path: Path, bad: list[BadLine]) -> Iterator[tuple[int, Row]]:
    """Yield the entries of a JSON object, each with its key as `key`."""
    entries = mapping(json_stream.read(path), path.name)
    for place, (key, value) in enumerate(entries.items(), 1):
        yield from numbered_rows(
            [(key, value)], lambda row, n=place, k=key: (n, {"key": k, **mapping(row, "entry")}), bad, place
        )


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ValueError(f"{path.name} is a Parquet file: pip install pyarrow, or export it as JSON lines") from error
    try:
        rows = cast("list[dict[str, object]]", parquet.read_table(path).to_pylist())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from error
    yield from enumerate(rows, 1)


def _text_rows(path: Path, pattern: re.Pattern[str], bad: list[BadLine]) -> Iterator[tuple[int, Row]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason}") from error
    for place, line in enumerate(lines, 1):
        if match := pattern.fullmatch(line.strip()):
            yield place, match.groupdict()
        elif line.strip():
            bad.append(BadLine(place, f"line has another form: got {line[:80]!r}"))


# Parts of rows


def letters_of(options: object) -> tuple[str, ...]:
    """Return the texts of options given as a list, as `{A: text}`, or as lines `A. ...`, without their letters."""
    if isinstance(options, Mapping):
        entries = cast("Mapping[str, object]", options)
        values = [entries[letter] for letter in LETTERS if entries.get(letter) is not None]
    elif isinstance(options, str):
        values = _options_in_text(options)
    else:
        values = list(array(options, "options"))
    texts = [text(str(value), "option").strip() for value in values]
    lettered = [
        re.fullmatch(rf"\(?{LETTERS[place]}\)?[.):]?\s+(.*)", words, re.DOTALL) for place, words in enumerate(texts)
    ]
    if texts and all(lettered):
        texts = [match[1].strip() for match in lettered if match]
    if len(texts) < 2 or not all(texts):
        raise ValueError(f"a question has at least two options with text: got {texts[:3]}")
    return tuple(texts)


def _options_in_text(words: str) -> list[object]:
    """Return options from text: a list literal, or one option per line."""
    if words.strip().startswith("["):
        try:
            return array(ast.literal_eval(words[:100_000]), "options")
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(f"options are no list: got {words[:80]!r}") from error
    return [line for line in words.splitlines() if line.strip()]


def index_of_letter(value: object, options: Sequence[str]) -> int:
    """Return the index of a letter."""
    letter = text(value, "answer").strip().strip("().").upper()
    if len(letter) != 1 or letter not in LETTERS[: len(options)]:
        raise ValueError(f"answer is a letter up to {LETTERS[len(options) - 1]}: got {str(value)[:40]!r}")
    return LETTERS.index(letter)


def index_of_text(value: object, options: Sequence[str]) -> int:
    """Return the index of the first option with the text of the answer; metrics accept any with the same text."""
    answer = text(str(value), "answer").strip()
    texts = [option.strip() for option in options]
    if answer not in texts:
        raise ValueError(f"answer is one of the options: got {answer[:60]!r}")
    return texts.index(answer)


def spans_of(value: object) -> tuple[Span, ...]:
    """Return time segments `[[start, end], ...]` in seconds."""
    pairs = [numbers(pair, "segment", 2) for pair in array(value, "segments")]
    return tuple(check_span(Span(*pair)) for pair in pairs)


def duration_of(row: SetRow, *names: str) -> float | None:
    """Return the duration in a row; None = it has none."""
    value = row.get(*names)
    return number(value, names[0]) if value is not None else None


# Video QA: one option of several


MVBENCH_VIDEOS = {
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": "clevrer/video_validation",
}
"""Task of MVBench, the name of its file -> folder of its videos."""


def _mvbench(row: SetRow) -> Fields:
    if row.file not in MVBENCH_VIDEOS:
        raise ValueError(f"task is unknown: {row.file}")
    options = letters_of(row.get("candidates"))
    start, end = (duration_of(row, name) for name in ("start", "end"))
    segment = None if start is None or end is None else check_span(Span(min(start, end), max(start, end)))
    metadata = {} if segment is None else {"segment": f"{segment.start:g}-{segment.end:g}"}
    return {
        "id": entry_id(row.file, row.number),
        "video": f"{MVBENCH_VIDEOS[row.file]}/{row.text('video')}",
        "question": row.text("question"),
        "options": options,
        "answer": index_of_text(row.get("answer"), options),
        "question_type": row.file.replace("_", " "),
        "fps": 3.0 if row.file == "episodic_reasoning" else None,
        "metadata": metadata,
        "segment": segment,
    }


def _video_mme(row: SetRow) -> Fields:
    options = letters_of(row.get("options"))
    return {
        "id": row.text("question_id"),
        "video": row.text("videoID", "video_id"),
        "question": row.text("question"),
        "options": options,
        "answer": index_of_letter(row.get("answer"), options),
        "question_type": row.text("task_type"),
        "metadata": {key: row.text(key) for key in ("duration", "domain", "sub_category") if row.get(key) is not None},
    }


GROUP_SIZE = 4
"""Number of questions of a group of Video-MME-v2."""


def _video_mme_v2(row: SetRow) -> Fields:
    options = letters_of(row.get("options"))
    kind = row.text("group_type")
    structure = re.sub(r"\s", "", str(row.get("group_structure"))) if kind == "logic" else "relevance"
    if structure not in GROUP_STRUCTURES:
        raise ValueError(f"structure of a group is unknown: got {structure[:40]!r}")
    group, place = divmod(row.number - 1, GROUP_SIZE)
    keys = ("level", "second_head", "third_head")
    return {
        "id": entry_id(f"{row.number:04d}"),
        "video": row.text("video"),
        "question": row.text("question"),
        "options": options,
        "answer": index_of_letter(row.get("answer"), options),
        "question_type": row.text("third_head") if row.get("third_head") is not None else None,
        "metadata": {key: row.text(key) for key in keys if row.get(key) is not None}
        | {"group": str(group), "place": str(place), "structure": structure},
    }


GROUP_STRUCTURES = ("relevance", "[1,2,3,4]", "[1,[2,3],4]", "[[1,2],3,4]")
"""Structures of groups of Video-MME-v2: independent questions, or steps of which some may be exchanged."""


def _long_video_bench(row: SetRow) -> Fields:
    options = letters_of(row.get("candidates"))
    right = integer(row.get("correct_choice"), "correct_choice")
    keys = ("duration_group", "topic_category", "level")
    subtitles = row.get("subtitle_path")
    origin = row.get("starting_timestamp_for_subtitles")
    return {
        "id": row.text("id"),
        "video": row.text("video_path"),
        "question": row.text("question"),
        "options": options,
        "answer": right,
        "question_type": row.text("question_category"),
        "metadata": {key: row.text(key) for key in keys if row.get(key) is not None},
        **({} if subtitles is None else {"subtitles": text(subtitles, "subtitle_path")}),
        "subtitles_origin": 0.0 if origin is None else number(origin, "starting_timestamp_for_subtitles"),
        "duration": duration_of(row, "duration"),
    }


MLVU_TASKS = {
    "1_plotQA": "plotQA",
    "2_needle": "needle",
    "3_ego": "ego",
    "4_count": "count",
    "5_order": "order",
    "6_anomaly_reco": "anomaly_reco",
    "7_topic_reasoning": "topic_reasoning",
}
"""File of MLVU, and folder of its videos -> task with options; the two generation tasks need a judge."""


def _mlvu(row: SetRow) -> Fields | None:
    if row.file not in MLVU_TASKS:
        return None
    options = letters_of(row.get("candidates"))
    return {
        "id": entry_id(row.file, row.number),
        "video": f"{row.file}/{row.text('video')}",
        "question": row.text("question"),
        "options": options,
        "answer": index_of_text(row.get("answer"), options),
        "question_type": MLVU_TASKS[row.file],
        "duration": duration_of(row, "duration"),
    }


def _mlvu_test(row: SetRow) -> Fields:
    """A question of the test split, whose answers are on a server."""
    return {
        "id": row.text("question_id"),
        "video": row.text("video"),
        "question": row.text("question"),
        "options": letters_of(row.get("candidates")),
        "question_type": row.text("question_type"),
        "duration": duration_of(row, "duration"),
    }


def _egoschema_subset(row: SetRow) -> Fields | None:
    """A question with a published answer."""
    fields = _egoschema(row)
    return None if fields["answer"] is None else fields


def _egoschema(row: SetRow) -> Fields:
    """A question; the answers of 500 are published, those of the others are on a server."""
    key = row.text("q_uid", "key")
    right = row.extra.get(key)
    options = tuple(text(row.get(f"option {place}"), f"option {place}") for place in range(5))
    return {
        "id": key,
        "video": key,
        "question": row.text("question"),
        "options": options,
        "answer": None if right is None else integer(right, "answer"),
    }


def _video_holmes(row: SetRow) -> Fields:
    options = letters_of(row.get("Options"))
    video = row.text("video ID")
    return {
        "id": entry_id(video, row.text("Question ID")),
        "video": video,
        "question": row.text("Question"),
        "options": options,
        "answer": index_of_letter(row.get("Answer"), options),
        "question_type": row.text("Question Type"),
    }


# Marked objects


_MARKED = re.compile(r"<object(\d{1,3})>(<region>)?|<region>")


def _video_refer(row: SetRow) -> Fields:
    """A question about marked objects, which it names [1], [2], ... in the order of their marks."""
    options = letters_of(row.get("options"))
    objects = [mapping(item, "annotation") for item in array(row.get("annotation"), "annotation")]
    answer = text(row.get("Answer"), "Answer").strip()
    frames = sorted({_frame_index(frame) for item in objects for frame in item})
    return {
        "id": entry_id(row.text("id")),
        "video": row.text("video"),
        "question": _with_numbers(row.text("Question"), len(objects)),
        "options": options,
        "answer": index_of_letter(answer[:3] if answer.startswith("(") else answer[:1], options),
        "question_type": row.text("type"),
        "tracks": tuple(_marked(str(number), item) for number, item in enumerate(objects, 1)),
        "frames": tuple(frames),
        "metadata": {"frame": row.text("frame_idx")} if row.get("frame_idx") is not None else {},
    }


def _with_numbers(question: str, count: int) -> str:
    names = [match[1] for match in _MARKED.finditer(question) if match[0].endswith("<region>")]
    if len(names) != count:
        raise ValueError(f"marks do not fit the objects: expected {count}, got {len(names)}")
    numbers = {name: place for place, name in enumerate(names, 1)}
    places = iter(range(1, count + 1))

    def number(match: re.Match[str]) -> str:
        if match[0].endswith("<region>"):
            return f"[{next(places)}]"
        if match[1] not in numbers:
            raise ValueError(f"object has no mark: {match[0]}")
        return f"[{numbers[match[1]]}]"

    return _MARKED.sub(number, question.strip())


def _frame_index(name: str) -> int:
    if not name.isdecimal() or len(name) > MAX_DIGITS:
        raise ValueError(f"frame is no number: got {name[:40]!r}")
    return int(name)


MAX_DIGITS = 8
"""Most digits of the number of a frame."""


def _marked(label: str, frames: Mapping[str, object]) -> Track:
    rles = {
        _frame_index(name): rle
        for name, entry in frames.items()
        if (rle := union_outline([mapping(entry, "mask").get("segmentation")], None)) is not None
    }
    if not rles:
        raise ValueError(f"no mask in any frame: object {label}")
    return Track(label=label, masks=dict(sorted(rles.items())))


# Answers with evidence in time


def _nextqa(row: SetRow) -> Fields:
    options = tuple(row.text(f"a{place}") for place in range(5))
    answer = row.text("answer")
    right = int(answer) if answer in set("01234") and answer not in options else index_of_text(answer, options)
    video, question = row.text("video_id", "video"), row.text("qid")
    return {
        "id": f"{video}_{question}",
        "video": video,
        "question": f"{row.text('question').rstrip('?')}?",
        "options": options,
        "answer": right,
        "question_type": row.text("type"),
    }


def _nextgqa(row: SetRow) -> Fields | None:
    video, question = row.text("video_id", "video"), row.text("qid")
    entry = row.extra.get(video)
    if entry is None:
        return None
    fields = mapping(entry, "grounding")
    location = mapping(fields.get("location"), "location").get(question)
    if location is None:
        return None
    pairs = [numbers(pair, "segment", 2) for pair in array(location, "location")]
    segments = [[max(0.0, start), end] for start, end in pairs]  # some are annotated from -0.1 on
    return _nextqa(row) | {"spans": spans_of(segments), "duration": number(fields.get("duration"), "duration")}


def _rextime(row: SetRow) -> Fields:
    options = letters_of(row.get("options"))
    return {
        "id": row.text("qid"),
        "video": row.text("vid"),
        "question": row.text("query"),
        "options": options,
        "answer": index_of_letter(row.get("ans"), options),
        "spans": spans_of(row.get("relevant_windows")),
        "duration": duration_of(row, "duration"),
    }


def _cg_bench(row: SetRow) -> Fields:
    options = letters_of(row.get("choices"))
    return {
        "id": str(integer(row.get("qid"), "qid")),
        "video": row.text("video_uid"),
        "question": row.text("question"),
        "options": options,
        "answer": index_of_letter(row.get("right_answer"), options),
        "spans": spans_of(row.get("clue_intervals")),
        "duration": duration_of(row, "duration"),
        "question_type": row.text("sub_category") if row.get("sub_category") is not None else None,
        "metadata": {"domain": row.text("domain")} if row.get("domain") is not None else {},
    }


def _qvhighlights(row: SetRow) -> Fields:
    return {
        "id": row.text("qid"),
        "video": row.text("vid"),
        "question": row.text("query"),
        "spans": spans_of(row.get("relevant_windows")),
        "duration": duration_of(row, "duration"),
    }


CHARADES_LINE = re.compile(r"(?P<video>\w+) (?P<start>[\d.]+) (?P<end>[\d.]+)##(?P<query>.+)")


def _charades(row: SetRow) -> Fields:
    start, end = (number(row.get(name), name) for name in ("start", "end"))
    return {
        "id": entry_id(row.text("video"), row.number),
        "video": row.text("video"),
        "question": row.text("query").rstrip("."),
        "spans": (check_span(Span(min(start, end), max(start, end))),),
    }


ACTIVITYNET_TYPES = ("motion", "spatial", "temporal", "yes/no", "color", "object", "location", "number", "other")
"""Type number of a question of ActivityNet-QA -> its name."""


def _activitynet(row: SetRow) -> Fields:
    """Questions and answers are two lists; `extra` has the answers by question id."""
    key = row.text("question_id")
    if key not in row.extra:
        raise ValueError(f"answer is missing: {key}")
    answer = mapping(row.extra[key], "answer")
    kind = integer(answer.get("type"), "type")
    return {
        "id": key,
        "video": f"v_{row.text('video_name')}",
        "question": f"{row.text('question').rstrip('?')}?",
        "response": text(answer.get("answer"), "answer"),
        "question_type": ACTIVITYNET_TYPES[kind] if 0 <= kind < len(ACTIVITYNET_TYPES) else str(kind),
    }


def activitynet(folder: Path, bad: list[BadLine], split: str) -> Iterator[Sample]:
    """`Reader` of ActivityNet-QA: questions and answers are lists in two files, joined by the id of the question."""
    answers_path = require(folder, f"{split}_a.json", f"dataset/{split}_a.json")
    answers: dict[str, object] = {}
    for _, row in json_rows.rows(answers_path, bad):
        answers[text(row.get("question_id"), "question_id")] = row
    kind = QuestionSet(
        source="activitynet-qa",
        files=(f"{split}_q.json", f"dataset/{split}_q.json"),
        videos=("videos", "all_test"),
        read=_activitynet,
    )
    files = _SetFiles(kind, folder)
    for path in _paths(kind, folder):
        for place, row in json_rows.rows(path, bad):
            item = SetRow(place, path.stem, row, answers)
            for sample in numbered_rows([(f"{path.name} {place}", item)], partial(_sample, kind, files), bad, place):
                if sample is not None:
                    yield sample


NEXTGQA_COLUMNS = ("qid", "question", "answer", "type", *(f"a{place}" for place in range(5)))


def _gqa(split: str) -> QuestionSet:
    return QuestionSet(
        source="nextgqa",
        files=(f"{split}.csv", f"datasets/nextgqa/{split}.csv"),
        videos=("videos", "NExTVideo"),
        read=_nextgqa,
        extra=f"gsub_{split}.json",
        columns=NEXTGQA_COLUMNS,
    )


SETS: dict[str, QuestionSet] = {
    "mvbench": QuestionSet(source="mvbench", files=("json/*.json",), videos=("video",), read=_mvbench),
    "video-mme": QuestionSet(
        source="video-mme",
        files=("videomme/test-00000-of-00001.parquet", "test-00000-of-00001.parquet", "video_mme.jsonl"),
        videos=("data", "videos", "video"),
        read=_video_mme,
        subtitles=("subtitle", "subtitles"),
    ),
    "video-mme-v2": QuestionSet(
        source="video-mme-v2",
        files=("test.parquet", "video_mme_v2.jsonl"),
        videos=("videos", "data"),
        read=_video_mme_v2,
        subtitles=("subtitle", "subtitles"),
    ),
    "longvideobench-val": QuestionSet(
        source="longvideobench",
        files=("lvb_val.json",),
        videos=("videos",),
        read=_long_video_bench,
        subtitles=("subtitles",),
    ),
    "mlvu-dev": QuestionSet(
        source="mlvu", files=("json/*.json", "MLVU/json/*.json"), videos=("video", "MLVU/video"), read=_mlvu
    ),
    "mlvu-test": QuestionSet(
        source="mlvu",
        files=("test_question.json", "leaderboard/test_question.json", "MLVU_Test/test_question.json"),
        videos=("test_video", "MLVU_Test/video", "video"),
        read=_mlvu_test,
    ),
    **{
        name: QuestionSet(
            source="egoschema",
            files=("questions.json",),
            videos=("videos", "good_clips_git"),
            read=read,
            extra="subset_answers.json",
        )
        for name, read in (("egoschema-subset", _egoschema_subset), ("egoschema", _egoschema))
    },
    "video-holmes": QuestionSet(
        source="video-holmes",
        files=("test_Video-Holmes.json", "Benchmark/test_Video-Holmes.json"),
        videos=("videos_cropped", "videos", "Benchmark/videos_cropped", "Benchmark/videos"),
        read=_video_holmes,
    ),
    **{
        name: QuestionSet(
            source="videorefer-bench",
            files=("VideoRefer-Bench-Q.json",),
            videos=("videos", "."),
            read=_video_refer,
        )
        for name in ("videorefer-bench-q", "pixelqa")
    },
    "nextqa-val": QuestionSet(
        source="nextqa",
        files=("val.csv", "dataset/nextqa/val.csv"),
        videos=("videos", "NExTVideo"),
        read=_nextqa,
        columns=NEXTGQA_COLUMNS,
    ),
    "nextgqa-val": _gqa("val"),
    "nextgqa-test": _gqa("test"),
    "rextime-val": QuestionSet(
        source="rextime", files=("rextime_val.jsonl", "data/rextime_val.jsonl"), videos=("videos",), read=_rextime
    ),
    "cg-bench-mini": QuestionSet(
        source="cg-bench", files=("cgbench_mini.json",), videos=("videos", "cg_videos_720p"), read=_cg_bench
    ),
    "qvhighlights-val": QuestionSet(
        source="qvhighlights",
        files=("highlight_val_release.jsonl", "data/highlight_val_release.jsonl"),
        videos=("videos",),
        read=_qvhighlights,
    ),
    "charades-sta-test": QuestionSet(
        source="charades-sta",
        files=("charades_sta_test.txt",),
        videos=("Charades_v1", "Charades_v1_480", "videos"),
        read=_charades,
        pattern=CHARADES_LINE,
    ),
}
"""Sets of questions by the name of their data set."""
