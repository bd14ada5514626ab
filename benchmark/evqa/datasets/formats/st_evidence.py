"""Readers of ST-Evidence as published: a CSV row, a video at 6 fps and masks make a sample.

`read_gen` is for the generative benchmark, `read_instruct` for the training part with generated masks. Files
may be in the folder itself, in its `data/`, or in its `gen_mask/`. Each unusable row is a `BadLine` with its first
line in the CSV; an invalid file is a `ValueError`.

Columns that the published files lack are read where present: `question_type`, `source`, `expressions` (a list
literal), and those of `TAGS`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from evqa import media
from evqa.datasets import path_inside
from evqa.datasets.formats.csv_table import Row, as_number, rows, spans, texts
from evqa.datasets.formats.evidence_masks import annotated_frames, read_tracks
from evqa.files.jsonl import BadEntry, BadLine, validation_message
from evqa.schema import LETTERS, Sample, Spans, Track, check_id

GEN_TABLE = "st_evidence_gen.csv"
GEN_COLUMNS = ("entry_id", "video_path", "question", "candidates", "answer", "segment")
INSTRUCT_TABLE = "st_evidence.csv"
INSTRUCT_COLUMNS = ("entry_id", "video_path", "question", "answer", "candidates")

TAGS = ("level", "named", "on_screen")
"""Columns that become metadata of the sample."""

COUNT_COLUMNS = ("num_frames", "total_frames")
FRAME_COUNTS = "frame_counts.csv"
"""Optional table beside that of entries, for missing videos: video_path, num_frames."""

PLACES = ("data", ".", "gen_mask")
"""Folders below the data set's that may hold its files."""


def read_gen(folder: Path) -> tuple[list[Sample], list[BadLine]]:
    """Return the samples of the generative benchmark, and the unusable rows."""
    bad: list[BadLine] = []
    return list(gen_samples(folder, bad)), bad


def read_instruct(folder: Path) -> tuple[list[Sample], list[BadLine]]:
    """Return the samples of the training part with masks, and the unusable rows."""
    bad: list[BadLine] = []
    return list(instruct_samples(folder, bad)), bad


def gen_samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the generative benchmark. Invalid spans are left out of their row, as published."""
    return drop_invalid_fields(folder, (GEN_TABLE, GEN_COLUMNS), _gen_sample, bad)


def instruct_samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the training part with masks; the tracks of the whole set take gigabytes of memory."""
    return drop_invalid_fields(folder, (INSTRUCT_TABLE, INSTRUCT_COLUMNS), _instruct_sample, bad)


def drop_invalid_fields(
    folder: Path,
    table: tuple[str, tuple[str, ...]],
    read: Callable[[Path, Row, list[str]], Sample],
    bad: list[BadLine],
) -> Iterator[Sample]:
    """Yield `samples_of` for a `read` that appends the reasons of left-out parts of a row to its list."""
    left_out: list[str] = []
    lines: dict[str, int] = {}

    def read_row(folder: Path, row: Row) -> Sample:
        left_out.clear()
        return read(folder, row, left_out)

    for sample in samples_of(folder, table, read_row, bad, lines):
        bad.extend(BadEntry(lines[sample.id], f"left out, {reason}", sample.id) for reason in left_out)
        yield sample


def samples_of(
    folder: Path,
    table: tuple[str, tuple[str, ...]],
    read: Callable[[Path, Row], Sample],
    bad: list[BadLine],
    lines: dict[str, int] | None = None,
) -> Iterator[Sample]:
    """Yield a sample per usable row of a table; `lines` is filled with sample id -> line."""
    lines = {} if lines is None else lines
    for line, row in rows(_table_path(folder, table[0]), table[1], bad):
        try:
            sample = read(folder, row)
        except ValidationError as error:
            bad.append(BadEntry(line, f"no sample: {validation_message(error)}", row["entry_id"]))
        except ValueError as error:
            bad.append(BadEntry(line, str(error), row["entry_id"]))
        else:
            if sample.id in lines:
                reason = f"duplicate id: {sample.id} is on line {lines[sample.id]} already"
                bad.append(BadEntry(line, reason, sample.id))
                continue
            lines[sample.id] = line
            yield sample


# The table


def _table_path(folder: Path, name: str) -> Path:
    for place in PLACES:
        if (path := path_inside(folder, Path(place, name))).is_file():
            return path
    raise ValueError(f"{folder} has no {name}, nor has its data/ or gen_mask/: fetch it (see README.md there)")


# A row


def _gen_sample(folder: Path, row: Row, left_out: list[str]) -> Sample:
    entry = check_id(row["entry_id"])
    video_path = video_path_of(row)
    options, answer = choice_of(row)
    masks = find_below(folder, ("mask_annos_latest_img", "masks"), PurePosixPath(entry))
    video = video_file(folder, video_path)
    return Sample(
        id=entry,
        video_id=row.get("video_id") or video_path.stem,
        video=video,
        num_frames=_num_frames(folder, row, video_path, video),
        question=question_of(row),
        options=options,
        answer=answer,
        spans=spans_left_out("segment", row["segment"], left_out),
        masks=masks,
        object_masks=find_below(folder, ("objects",), PurePosixPath(video_path.stem)),
        expressions=_expressions(row),
        question_type=row.get("question_type") or None,
        source=source_of(row, video_path),
        metadata=_tags(row, has_masks=masks is not None),
    )


def _instruct_sample(folder: Path, row: Row, left_out: list[str]) -> Sample:
    entry = check_id(row["entry_id"])
    video_path = video_path_of(row)
    options, answer = choice_of(row)
    video = _frame_folder(folder, video_path)
    masks: list[str] = []
    tracks = _tracks(folder, entry, video, masks)
    left_out += [f"mask of a frame: {reason}" for reason in masks]
    expressions = tuple(track.label for track in tracks or () if track.label)
    return Sample(
        id=entry,
        video_id=row.get("video_id") or video_path.stem,
        video=video,
        question=question_of(row),
        options=options,
        answer=answer,
        spans=spans("temporal_evidence", row.get("temporal_evidence", "")),
        tracks=tracks,
        frames=annotated_frames(tracks),
        expressions=_expressions(row) or expressions,
        question_type=row.get("question_type") or None,
        source=source_of(row, video_path),
        metadata=_tags(row, has_masks=tracks is not None),
    )


def _num_frames(folder: Path, row: Row, video_path: PurePosixPath, video: Path) -> int | None:
    """Return the number of frames: of the video, else of the table of entries, else of `FRAME_COUNTS`; None = unknown.

    Masks are scored over all frames of a video, also without the video files.
    """
    try:
        return media.probe_video(path_inside(folder, video)).num_frames
    except (ValueError, OSError):
        counts_as_text = [row.get(column, "") for column in COUNT_COLUMNS]
    counts = next((path for place in PLACES if (path := folder / place / FRAME_COUNTS).is_file()), None)
    if counts is not None:
        counts_as_text.append(_frame_counts(counts, counts.stat().st_mtime_ns).get(str(video_path), ""))
    return next((int(text) for text in map(str.strip, counts_as_text) if text.isdecimal() and int(text) > 0), None)


@functools.lru_cache(maxsize=4)
def _frame_counts(path: Path, changed: int) -> dict[str, str]:
    """Read a table as video_path -> num_frames; `changed` is its modification time, for the cache."""
    return {row["video_path"]: row["num_frames"] for _, row in rows(path, ("video_path", "num_frames"), [])}


def spans_left_out(column: str, cell: str, left_out: list[str]) -> Spans | None:
    """Return the spans of a cell; append the reasons of invalid ones to `left_out`."""
    reasons: list[str] = []
    readable = spans(column, cell, reasons)
    left_out += [f"span: {reason}" for reason in reasons]
    return readable


def question_of(row: Row) -> str:
    """Return the text of the question."""
    if not (question := row["question"].strip()):
        raise ValueError("question is empty: expected text")
    return question


def video_path_of(row: Row) -> PurePosixPath:
    """Return the video's path of the table, checked not to leave its folder."""
    path = PurePosixPath(row["video_path"])
    if not path.name or len(row["video_path"]) > 1000:
        raise ValueError(f"video_path is no file name: got {row['video_path'][:80]!r}")
    path_inside(Path(), path)
    return path


def choice_of(row: Row, *, is_caseless: bool = False) -> tuple[tuple[str, ...], int]:
    """Return the option texts, and the index of the option with the text of `answer`.

    With `is_caseless`, an option that differs in case only is accepted if no other fits, as in the published
    multiple-choice scripts.
    """
    options = texts("candidates", row["candidates"])
    if not 1 <= len(options) <= len(LETTERS):
        raise ValueError(f"candidates are too few or too many: expected 1 to {len(LETTERS)}, got {len(options)}")
    answer = row["answer"].strip()
    places = [index for index, option in enumerate(options) if option.strip() == answer]
    if not places and is_caseless:
        places = [index for index, option in enumerate(options) if option.strip().lower() == answer.lower()]
    if not places and (number := as_number(answer)) is not None:  # pandas writes 2 as 2.0 beside an empty cell
        places = [index for index, option in enumerate(options) if as_number(option) == number]
    if not places:
        raise ValueError(f"answer is not among the candidates: {answer[:80]!r} is none of {options}")
    if len(places) > 1:
        raise ValueError(f"answer is ambiguous: {answer[:80]!r} is several of {options}")
    return options, places[0]


def _expressions(row: Row) -> tuple[str, ...]:
    text = row.get("expressions", "")
    return texts("expressions", text) if text.strip() else ()


def source_of(row: Row, video_path: PurePosixPath) -> str | None:
    """Return the column `source`, else the folder of the video, as in `videos/<source>/<name>.mp4`."""
    folder = video_path.parent.name
    return row.get("source") or (folder if folder != "videos" else None) or None


def _tags(row: Row, *, has_masks: bool) -> dict[str, str]:
    tags = {name: row[name].strip() for name in TAGS if row.get(name, "").strip()}
    if "on_screen" in tags and not tags["on_screen"].isdecimal():
        raise ValueError(f"on_screen is no count: got {tags['on_screen'][:80]!r}")
    return tags if has_masks else tags | {"masks": "missing"}


# Files


def find_below(folder: Path, roots: tuple[str, ...], relative: PurePosixPath) -> Path | None:
    """Return the first existing path `<place>/<root>/<relative>`, relative to the folder; None = there is none."""
    for place in PLACES:
        for root in roots:
            path = Path(place, root, relative)
            if path_inside(folder, path).exists():
                return path
    return None


def video_file(folder: Path, video_path: PurePosixPath) -> Path:
    """Return the path of the video; the expected path if it is missing."""
    return find_below(folder, ("videos_6fps", "videos", "."), video_path) or Path("videos_6fps", video_path)


def _frame_folder(folder: Path, video_path: PurePosixPath) -> Path:
    """Return the folder of frames, else the video file; the expected folder if both are missing."""
    for name in (video_path.with_suffix(""), PurePosixPath(video_path.stem)):
        if path := find_below(folder, ("video_frames_6fps",), name):
            return path
    frames = Path("video_frames_6fps", video_path.with_suffix(""))
    return find_below(folder, ("videos_6fps", "videos", "."), video_path) or frames


def _tracks(folder: Path, entry: str, video: Path, left_out: list[str]) -> tuple[Track, ...] | None:
    path = find_below(folder, ("masks",), PurePosixPath(f"{entry}.json"))
    if path is None:
        return None
    try:
        facts = media.probe_video(path_inside(folder, video))
    except ValueError:
        facts = None  # a missing or broken video fails when it is predicted; the masks have a size of their own
    try:
        return read_tracks(path_inside(folder, path), facts, left_out)
    except ValidationError as error:
        raise ValueError(f"masks cannot be read: {path}: {validation_message(error)[:500]}") from error
    except ValueError as error:
        raise ValueError(f"masks cannot be read: {path}: {error}") from error
