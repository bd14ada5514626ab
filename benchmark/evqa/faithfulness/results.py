"""Record of a test of faithfulness, `faithfulness.json`: measures with intervals and the answers of each question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from evqa.files.jsonl import validation_message, write_json
from evqa.schema import StrictRecord
from evqa.schema.record import OMIT_EMPTY, OMIT_NONE

FILE = "faithfulness.json"

Population = Literal["cited", "all"]
"""Questions of a measure: those whose prediction cites evidence in the video, or all that the run selected."""

Verdict = Literal["yes", "no", "not shown"]


class Measure(StrictRecord):
    """A measure over questions."""

    value: float | None
    """None = no question has it."""
    low: float | None = None
    """Lower end of the 95 % interval, by a bootstrap over videos; None with fewer than two videos."""
    high: float | None = None
    p: Annotated[float | None, OMIT_NONE] = None
    """Two-sided p of a difference."""
    n: int
    """Questions."""


class MeasureTable(StrictRecord):
    """Measures of one population, of all questions or of one question type."""

    population: Population
    question_type: Annotated[str | None, OMIT_NONE] = None
    """None = all types."""
    n: int
    """Questions of the population."""
    n_failed: int
    """Those whose prediction in the run is missing or failed; they count as wrong."""
    accuracy: dict[str, Measure]
    """Name of a condition, "full" for the run itself -> accuracy; the random draws are averaged."""
    flips: dict[str, Measure]
    """Condition -> share of answers that differ from those of the run."""
    lost: dict[str, Measure]
    """Condition -> share that is right in the run and wrong in the condition."""
    gained: dict[str, Measure]
    """Condition -> share that is wrong in the run and right in the condition."""
    differences: dict[str, Measure]
    """Name of a difference (see `measures.DIFFERENCES`) -> its mean."""
    probabilities: Annotated[dict[str, Measure], OMIT_EMPTY] = Field(default_factory=dict[str, Measure])
    """`comprehensiveness` and `sufficiency` as in ERASER, where the model states probabilities of the options."""


class QualitySplit(StrictRecord):
    """Accuracy given good and bad evidence."""

    metric: str
    """Metric of evidence quality of the preset strict, such as mIoU."""
    threshold: float
    """Evidence is good from this value on."""
    n_good: int
    n_bad: int
    """Missing and failed predictions, and those without evidence, are here: their quality is 0."""
    good: Measure
    """Accuracy given good evidence."""
    bad: Measure
    difference: Measure
    """Good minus bad."""


class ConditionCounts(StrictRecord):
    """Questions of the run of a condition."""

    num_asked: int
    ok: int
    failed: int
    missing: int
    """Not asked yet, or not selected in this call; they count as wrong."""
    unanswered: int
    """Predictions without an answer that could be read."""
    nothing_left: int
    """Asked without a video, since nothing is left of it."""


class QuestionResult(StrictRecord):
    """Answers of one question."""

    video_id: str
    question_type: Annotated[str | None, OMIT_NONE] = None
    is_cited: bool
    """Whether the prediction of the run cites evidence in the video."""
    status: Literal["ok", "failed", "missing"]
    answers: dict[str, str | None]
    """Run of a condition, "full" for the run itself -> answer; None = there is none that could be read."""
    right: dict[str, bool]
    quality: Annotated[dict[str, float | None], OMIT_EMPTY] = Field(default_factory=dict[str, float | None])
    """Metric -> quality of the cited evidence; None = no ground truth."""


class Faithfulness(StrictRecord):
    """Result of a test of faithfulness of a run."""

    version: Literal[1] = 1
    run: str
    dataset: str
    model: str
    method: str
    settings: dict[str, str | int | float | bool | None]
    """Evidence, its parts, fill, draws and seed."""
    n: int
    """Questions that the run selected."""
    n_cited: int
    n_uncited: int
    """Questions whose prediction cites no evidence in the video, failed and missing ones included."""
    n_failed: int
    """Missing and failed predictions of the run."""
    n_bad_masks: int = 0
    """Predictions with a mask that cannot be read, whose masks are no evidence."""
    n_unreadable: int = 0
    """Questions whose video cannot be edited."""
    mean_overlap: Annotated[float | None, OMIT_NONE] = None
    """Mean share of the random frames that are evidence."""
    conditions: dict[str, ConditionCounts]
    tables: tuple[MeasureTable, ...]
    qualities: tuple[QualitySplit, ...]
    necessary: Verdict
    """yes = the contrast with random removal is above 0 with its interval; no = its interval is at most `MARGIN`."""
    sufficient: Verdict
    """yes = the evidence alone is better than no video, and worse than the whole video by at most `MARGIN`."""
    questions: dict[str, QuestionResult]

    def table(self, population: Population, question_type: str | None = None) -> MeasureTable | None:
        """Table of a population and question type; None = there is none."""
        keys = (population, question_type)
        return next((table for table in self.tables if (table.population, table.question_type) == keys), None)


def write_result(folder: Path, result: Faithfulness) -> Path:
    """Write `faithfulness.json` into a folder and return its path."""
    path = folder / FILE
    write_json(path, result.model_dump(mode="json"))
    return path


def read_result(path: Path) -> Faithfulness:
    """Read a result from its file or folder. `ValueError`: there is none, or it is invalid."""
    file = path / FILE if path.is_dir() else path
    try:
        return Faithfulness.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}; evqa faithful RUN writes it") from error
    except ValidationError as error:
        raise ValueError(f"{file} is no result of evqa faithful: {validation_message(error)}") from error
