"""Reader of the result files of LongVideoAgent: answers to questions about TV episodes, of its agents or its baseline.

Rows have no question id and stand in order of completion. A row belongs to the question with its text and clip (`vid`),
else to the only question with its text; rows of ours state the id too. Every question of the file counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated

from pydantic import Field

from evqa.datasets import clip_ids
from evqa.datasets.formats import json_rows, tvqa
from evqa.datasets.formats.fields import numbered_rows
from evqa.files.jsonl import BadLine
from evqa.metrics.case import GoldField
from evqa.official.official_data import ANSWER, OfficialData, dataset_of, index_predictions
from evqa.official.records import OR_NONE, ExternalRecord, as_list, read_json, read_under, validate_record
from evqa.official.scores import OfficialFiles
from evqa.parsing import replies
from evqa.schema import NO_VIDEO, Prediction, Sample, Turn

CLIPS: frozenset[GoldField] = frozenset({"clips"})

MAX_TURNS = 1000
"""Most turns of a row that are believed."""

MAX_CLIPS = 1000
"""Most clips of a row that are read."""


class _Row(ExternalRecord):
    question: str
    vid: str = ""
    qid: str | None = None
    final_answer: str
    num_turns: Annotated[int | None, Field(ge=0, le=MAX_TURNS), OR_NONE] = None
    predicted_clip: Annotated[str | None, OR_NONE] = None
    history_vids: Annotated[tuple[str, ...] | None, OR_NONE] = None

    def clips(self) -> tuple[str, ...] | None:
        """Return the clips that were visited; None = the row does not state them."""
        if self.history_vids is not None:
            return self.history_vids[:MAX_CLIPS]
        return None if self.predicted_clip is None else tuple(filter(None, [self.predicted_clip]))


def longvideoagent(files: OfficialFiles) -> OfficialData:
    """`{"results": [{vid, question, final_answer, num_turns, predicted_clip}]}` with a file of questions of TVQA.

    `history_vids`, which the accuracy script of the original reads and none of its programs writes, are the clips that
    were visited. The baseline states neither turns nor clips.
    """
    notes: list[str] = []
    samples = {sample.id: sample for sample in _samples(files, notes)}
    rows = _rows(files, notes)
    by_question = _by_question(samples.values())
    pairs = [(row, sample) for row in rows if (sample := _sample_of(row, samples, by_question)) is not None]
    if len(pairs) < len(rows):
        notes.append(f"{len(rows) - len(pairs)} results are for no question of the file, or for one of several")
    has_clips = any(row.clips() is not None for row, _ in pairs)
    gives = ANSWER | CLIPS if has_clips else ANSWER
    return OfficialData(
        dataset=dataset_of("longvideoagent", files.the_gold(), samples.values()),
        predictions=index_predictions((_prediction(row, sample) for row, sample in pairs), notes),
        gives=gives,
        notes=notes,
        numbers=partial(_numbers, [row for row, _ in pairs], len(samples)),
    )


def _samples(files: OfficialFiles, notes: list[str]) -> Iterator[Sample]:
    bad: list[BadLine] = []
    for line, row in json_rows.rows(files.the_gold(), bad):
        for question in numbered_rows([(f"row {line}", row)], tvqa.question_of, bad, line):
            yield Sample.model_construct(
                id=question.id,
                video_id=clip_ids.episode_of(question.clip),
                video=NO_VIDEO,
                question=question.text,
                options=question.options,
                answer=question.answer,
                evidence_clips=(question.clip,),
            )
    notes += [f"{files.the_gold().name}, line {entry.line}, is left out: {entry.reason}"[:300] for entry in bad]


def _rows(files: OfficialFiles, notes: list[str]) -> list[_Row]:
    content = as_list(read_json(files.predictions))
    entries = read_under(files.predictions, "results") if content is None else content
    rows = [
        validate_record(entry, _Row, f"{files.predictions.name} result {number}", notes)
        for number, entry in enumerate(entries, 1)
    ]
    return [row for row in rows if row is not None]


def _by_question(samples: Iterable[Sample]) -> dict[tuple[str, str], list[Sample]]:
    """Return (folded question, clip or "") -> its samples."""
    table: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        for clip in ("", *(sample.evidence_clips or ())):
            table.setdefault((_folded(sample.question), clip), []).append(sample)
    return table


def _sample_of(
    row: _Row, samples: Mapping[str, Sample], by_question: Mapping[tuple[str, str], Sequence[Sample]]
) -> Sample | None:
    """Return the sample of a row; None = there is none, or several fit."""
    if row.qid is not None:
        return samples.get(row.qid)
    for clip in (row.vid.strip(), ""):
        fitting = by_question.get((_folded(row.question), clip), ())
        if len(fitting) == 1:
            return fitting[0]
    return None


def _folded(question: str) -> str:
    return " ".join(question.split())


def _prediction(row: _Row, sample: Sample) -> Prediction:
    """Record of a row: its answer as that of the last of its turns; a row of ours that failed may have none."""
    reply = f"<answer>{row.final_answer}</answer>"
    empty = Turn.model_construct(answer_fields=(), prompt="", reply="")
    last = Turn.model_construct(answer_fields=("answer",), prompt="", reply=reply)
    num_turns = 1 if row.num_turns is None else row.num_turns
    return Prediction.model_construct(
        sample_id=sample.id,
        status="ok",
        answer=replies.parse(reply, ("answer",), sample.options).answer,
        turns=(*[empty] * (num_turns - 1), *[last] * min(num_turns, 1)),
        clips=row.clips(),
    )


def _numbers(rows: Sequence[_Row], num_questions: int, preset: str, columns: object) -> dict[str, float | None]:
    """Numbers of the original's summary: mean turns of the results, and the share of questions with an answer."""
    del preset, columns
    turns = [row.num_turns for row in rows if row.num_turns is not None]
    answered = sum(bool(row.final_answer.strip()) for row in rows)
    return {
        "avg_turns": sum(turns) / len(turns) if turns else None,
        "completion_rate": answered / num_questions if num_questions else None,
    }
