"""Reader of ST-Evidence-Instruct with generated masks: from its table, else from its published pickle.

    st_evidence_meta.pkl    [{"entry_id", "video_name", "total_frames", "question_with_options",
                              "answer_with_evidence", "mask_rle_path"}, ...]

The pickle is a digest of the table: `question_with_options` has the options as lines `(A) text`,
`answer_with_evidence` is `Answer: B. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence:`, with or without the
`<|seg|>.` that training ends it with. It is read by
`evqa.datasets.formats.safe_pickle`, which knows nothing but containers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from evqa import media
from evqa.datasets import path_inside
from evqa.datasets.formats import safe_pickle
from evqa.datasets.formats.csv_table import spans
from evqa.datasets.formats.evidence_masks import annotated_frames, read_tracks
from evqa.datasets.formats.fields import find_below, numbered_rows, place_of, split_options
from evqa.datasets.formats.json_stream import array, integer, mapping, text
from evqa.datasets.formats.st_evidence import INSTRUCT_TABLE, PLACES, instruct_samples
from evqa.files.jsonl import BadEntry, BadLine, validation_message
from evqa.schema import LETTERS, Sample, Track, check_id

META = "st_evidence_meta.pkl"
FPS = 6.0
_ANSWER = re.compile(
    r"Answer: ([A-Z])\.(?: Temporal Evidence: (\[.*\])\.)? Spatial Evidence:\s*(?:<\|seg\|>\.?\s*)?", re.ASCII
)


def samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of the table, or of the pickle if there is no table."""
    has_table = any((folder / place / INSTRUCT_TABLE).is_file() for place in PLACES)
    paths = [path for place in PLACES if (path := path_inside(folder, Path(place, META))).is_file()]
    if has_table or not paths:
        yield from instruct_samples(folder, bad)
        return
    entries = array(safe_pickle.read(paths[0]), META)
    left_out: list[str] = []
    for number, entry in enumerate(entries, 1):
        read = partial(_sample, folder, left_out)
        for sample in numbered_rows([(f"entry {number - 1}", entry)], read, bad, number):
            reasons = (f"left out, mask of a frame: {reason}" for reason in left_out)
            bad.extend(BadEntry(number, reason, sample.id) for reason in reasons)
            yield sample


def _sample(folder: Path, left_out: list[str], entry: object) -> Sample:
    left_out.clear()
    fields = mapping(entry, "entry")
    name = check_id(text(fields.get("entry_id"), "entry_id"))
    question, options = split_options(text(fields.get("question_with_options"), "question_with_options"))
    answer, segments = _answer(text(fields.get("answer_with_evidence"), "answer_with_evidence"))
    places = [
        str(find_below(Path(place, "video_frames_6fps"), fields.get("video_name"), "video_name")) for place in PLACES
    ]
    video = place_of(folder, *places[1:], places[0])
    tracks = _tracks(folder, video, text(fields.get("mask_rle_path"), "mask_rle_path"), left_out)
    return Sample(
        id=name,
        video_id=PurePosixPath(str(fields["video_name"])).name,
        video=video,
        question=question,
        options=options,
        answer=answer,
        spans=spans("answer_with_evidence", segments),
        tracks=tracks,
        frames=annotated_frames(tracks),
        fps=FPS,
        num_frames=integer(fields.get("total_frames"), "total_frames"),
        source=PurePosixPath(str(fields["video_name"])).parent.name or None,
    )


def _answer(words: str) -> tuple[int, str]:
    """Return (index of the option, spans as text)."""
    if not (match := _ANSWER.fullmatch(words + (" " if words.endswith(":") else ""))):
        raise ValueError(f"answer is not of the published form: got {words[:80]!r}")
    return LETTERS.index(match[1]), match[2] or ""


def _tracks(folder: Path, video: Path, path: str, left_out: list[str]) -> tuple[Track, ...]:
    """Return the masks of an entry; the published path may start with folders of its authors."""
    parts = PurePosixPath(path).parts
    tails = [str(find_below(Path(), str(PurePosixPath(*parts[-count:])), "mask_rle_path")) for count in (3, 2, 1)]
    places = (*PLACES, "masks", "gen_mask/masks")
    candidates = [str(Path(place, tail)) for tail in tails[: len(parts)] for place in places]
    mask_file = path_inside(folder, place_of(folder, *candidates))
    if not mask_file.is_file():
        raise ValueError(f"masks are missing: no file like {path[-80:]}")
    facts = media.probe_video(path_inside(folder, video), FPS) if path_inside(folder, video).is_dir() else None
    try:
        tracks = read_tracks(mask_file, facts, left_out)
    except ValidationError as error:
        raise ValueError(f"masks cannot be read: {validation_message(error)[:300]}") from error
    if not tracks or not any(track.masks for track in tracks):
        raise ValueError("no mask in any frame")
    return tracks
