"""Reader of One-to-Many Temporal Grounding (OMTG): several moments of one query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from evqa.metrics.temporal import merge
from evqa.metrics.trivial import best_constant_span
from evqa.official.grounded import spans_of
from evqa.official.official_data import SPANS, OfficialData, dataset_of, prediction_of, sample_of
from evqa.official.records import OR_NONE, ExternalRecord, read_records
from evqa.official.scores import OfficialFiles
from evqa.schema import Span, Spans


class _Moments(ExternalRecord):
    pred: Annotated[tuple[tuple[float, float], ...] | None, OR_NONE] = None
    gt: tuple[tuple[float, float], ...]
    id: str | None = None
    video: str | None = None


def omtg(files: OfficialFiles) -> OfficialData:
    """`{pred: [[start, end], ...], gt: [[start, end], ...]}` a line (One-to-Many Temporal Grounding)."""
    notes: list[str] = []
    records = read_records(files.predictions, _Moments, notes)
    names = list(_names(records))
    samples = [
        sample_of(name, record.video or str(place), spans=spans_of(record.gt))
        for place, (name, record) in enumerate(zip(names, records, strict=True))
    ]
    predictions = {name: prediction_of(name, windows=record.pred) for name, record in zip(names, records, strict=True)}
    name, moments = _constant_moment(records)
    return OfficialData(
        dataset=dataset_of("omtg", files.predictions, samples),
        predictions=predictions,
        gives=SPANS,
        notes=notes,
        constant_spans={name: moments},
    )


def _names(records: Sequence[_Moments]) -> Iterator[str]:
    """The id of each record, else its place; a place is added to an id that comes again."""
    used: set[str] = set()
    for place, record in enumerate(records):
        name = record.id or str(place)
        name = f"{name}#{place}" if name in used else name
        used.add(name)
        yield name


def _constant_moment(records: Sequence[_Moments]) -> tuple[str, Spans]:
    """Name and span in seconds of the constant moment that fits all videos best; the file lacks their durations."""
    gold = [merge(spans_of(record.gt)) for record in records]
    longest = max((span.end for spans in gold for span in spans), default=0.0)
    if longest <= 0:
        return "no moment", ()
    start, end = best_constant_span((tuple(spans), longest) for spans in gold)
    moment = Span(start * longest, end * longest)
    return f"constant moment fitted on this data set ({moment.start:.1f} to {moment.end:.1f} s)", (moment,)
