"""Files of tracks: one `Track` per line, the objects of one video, referenced by line from many samples.

So the masks of a video with a hundred questions are stored once, and a sample is a line of a few hundred bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from evqa.files.jsonl import MAX_LINE_BYTES, validation_message, write_records
from evqa.schema import Sample, Track


def write(path: Path, tracks: Iterable[Track]) -> None:
    """Write the tracks of a video to a file, atomically; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, tracks)


def tracks_of(sample: Sample, targets: Sequence[int] | None) -> tuple[Track, ...]:
    """Tracks of a sample by index, in the order of `targets`; None = all.

    A sample without tracks has none. Raises a ValueError for an index out of range.
    """
    if sample.track_file is not None:
        return tuple(_read(sample.track_file, targets))
    tracks = sample.tracks or ()
    if targets is None:
        return tracks
    if out_of_range := [index for index in targets if not 0 <= index < len(tracks)]:
        raise ValueError(f"sample {sample.id} has {len(tracks)} tracks and refers to track {out_of_range[0]}")
    return tuple(tracks[index] for index in targets)


def with_inline_tracks(sample: Sample) -> Sample:
    """Copy of a sample with its tracks stored inside of it instead of in their file."""
    if sample.track_file is None:
        return sample
    indices = sample.targets if not sample.turns else None
    update = {"tracks": tracks_of(sample, indices), "track_file": None}
    return sample.model_copy(update=update if sample.turns else update | {"targets": None})


def _read(path: Path, indices: Sequence[int] | None) -> Iterator[Track]:
    """Tracks by line number; only these lines are parsed."""
    tracks: dict[int, Track] = {}
    for index, line in enumerate(_lines(path)):
        if indices is None or index in indices:
            tracks[index] = _track(path, index, line)
    for index in tracks if indices is None else indices:
        if index not in tracks:
            raise ValueError(f"{path} has no line {index + 1}, to which a sample refers: prepare the data set again")
        yield tracks[index]


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                yield line
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): prepare the data set again") from error


def _track(path: Path, index: int, line: bytes) -> Track:
    try:
        return Track.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(f"{path}:{index + 1} is not a track: {validation_message(error)}") from error
