"""Files of tracks: one `Track` a line, the objects of one video, which many samples point into by line.

So a video that a hundred questions are about has its masks once, and a sample is a line of a few hundred bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from evqa.files.jsonl import MAX_LINE_BYTES, validation_message, write_records
from evqa.schema import Sample, Track


def write(path: Path, tracks: Iterable[Track]) -> None:
    """Write the tracks of a video, at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, tracks)


def tracks_of(sample: Sample, targets: Sequence[int] | None) -> tuple[Track, ...]:
    """The tracks of a sample that `targets` names by place, in that order; None = all.

    A sample without tracks has none; a place that is not there is a `ValueError`.
    """
    if sample.track_file is not None:
        return tuple(_read(sample.track_file, targets))
    tracks = sample.tracks or ()
    if targets is None:
        return tracks
    if bad := [place for place in targets if not 0 <= place < len(tracks)]:
        raise ValueError(f"sample {sample.id} has {len(tracks)} tracks, and names track {bad[0]}")
    return tuple(tracks[place] for place in targets)


def read_tracks_into(sample: Sample) -> Sample:
    """The sample with its tracks inside it instead of in their file."""
    if sample.track_file is None:
        return sample
    chosen = sample.targets if not sample.turns else None
    update = {"tracks": tracks_of(sample, chosen), "track_file": None}
    return sample.model_copy(update=update if sample.turns else update | {"targets": None})


def _read(path: Path, wanted: Sequence[int] | None) -> Iterator[Track]:
    """Only the lines that are wanted are parsed."""
    found: dict[int, Track] = {}
    for place, line in enumerate(_lines(path)):
        if wanted is None or place in wanted:
            found[place] = _track(path, place, line)
    for place in found if wanted is None else wanted:
        if place not in found:
            raise ValueError(f"{path} has no line {place + 1}, which a sample points to: prepare the data set again")
        yield found[place]


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                yield line
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): prepare the data set again") from error


def _track(path: Path, place: int, line: bytes) -> Track:
    try:
        return Track.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(f"{path}:{place + 1} is no Track: {validation_message(error)}") from error
