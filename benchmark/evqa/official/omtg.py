"""Several moments of one query: One-to-Many Temporal Grounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from evqa.metrics import grounded_qa
from evqa.metrics.means import Cell
from evqa.metrics.temporal import merge
from evqa.metrics.trivial import best_constant_span
from evqa.official.records import OR_NONE, ExternalRecord, read_records
from evqa.official.scores import OFFICIAL, STRICT, FileScores, OfficialFiles, QuestionRows, ScoredQuestion, file_scores
from evqa.schema import Span, Spans


class _Moments(ExternalRecord):
    pred: Annotated[tuple[tuple[float, float], ...] | None, OR_NONE] = None
    gt: tuple[tuple[float, float], ...]
    id: str | None = None
    video: str | None = None


def omtg(files: OfficialFiles) -> FileScores:
    """`{pred: [[start, end], ...], gt: [[start, end], ...]}` a line (One-to-Many Temporal Grounding)."""
    notes: list[str] = []
    records = read_records(files.predictions, _Moments, notes)
    about = {
        OFFICIAL: "official: VLMEvalKit's code, whose merging changes what is matched afterwards",
        STRICT: "strict: moments are matched as they are",
    }
    measures = {OFFICIAL: grounded_qa.one_to_many_as_shipped, STRICT: grounded_qa.one_to_many}
    tables = [
        _moments(
            records,
            "predictions",
            [None if record.pred is None else _spans(record.pred) for record in records],
            convention,
            measure,
        )
        for convention, measure in measures.items()
    ]
    name, constant = _constant_moment(records)
    tables.append(_moments(records, name, [constant] * len(records), OFFICIAL, measures[OFFICIAL]))
    return file_scores("omtg", about, tables, notes)


def _moments(
    records: Sequence[_Moments],
    name: str,
    predicted: Sequence[Spans | None],
    convention: str,
    measure: Callable[[Spans, Spans], grounded_qa.OneToMany],
) -> QuestionRows:
    rows = [
        ScoredQuestion(
            id=f"{record.id or place}",
            video=record.video or str(place),
            cells=_moment_cells(measure(spans or (), _spans(record.gt)), is_read=spans is not None),
        )
        for place, (record, spans) in enumerate(zip(records, predicted, strict=True))
    ]
    return QuestionRows(convention=convention, name=name, rows=rows)


def _constant_moment(records: Sequence[_Moments]) -> tuple[str, Spans]:
    """The one moment in seconds that fits all videos best: the file does not tell how long they are."""
    gold = [merge(_spans(record.gt)) for record in records]
    longest = max((span.end for spans in gold for span in spans), default=0.0)
    if longest <= 0:
        return "no moment", ()
    start, end = best_constant_span((tuple(spans), longest) for spans in gold)
    moment = Span(start * longest, end * longest)
    return f"constant moment fitted on this very set ({moment.start:.1f} to {moment.end:.1f} s)", (moment,)


def _spans(pairs: Sequence[tuple[float, float]]) -> Spans:
    return tuple(Span(*pair) for pair in pairs)


def _moment_cells(found: grounded_qa.OneToMany, *, is_read: bool) -> dict[str, Cell]:
    cells = {"C-Acc": Cell(found.right_count), "tIoU": Cell(found.tiou), "EtF1": Cell(found.effective_f1)}
    for place, threshold in enumerate(grounded_qa.OMTG_THRESHOLDS):
        cells[f"tP@{threshold}"] = Cell(found.precision[place])
        cells[f"tR@{threshold}"] = Cell(found.recall[place])
        cells[f"tF1@{threshold}"] = Cell(found.f1[place])
    return cells if is_read else dict.fromkeys(cells, Cell(0.0, "unparsed"))
