"""Records of `scores.json`: means with intervals and counts, groups, and a row per sample."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError, model_validator

from evqa.files.jsonl import replace_file, validation_message
from evqa.metrics.means import Cell, Column, Mean
from evqa.metrics.units import Unit
from evqa.runs.shards import Selection
from evqa.schema import SampleSelection, StrictRecord
from evqa.schema.record import OMIT_EMPTY

Status = Literal["ok", "missing", "failed"]
STATUSES: tuple[Status, ...] = ("ok", "missing", "failed")


class SampleScores(StrictRecord):
    """Scores of one sample."""

    video_id: str
    status: Status
    unit: Literal["fraction"] = "fraction"
    """Of the values of metrics whose mean states no other unit."""
    values: dict[str, float | None]
    """Metric -> value; None = the metric does not apply to this sample."""


class SampleTable(Mapping[str, SampleScores]):
    """Scores of all samples by id, stored as columns; a row is built on access."""

    def __init__(
        self,
        ids: Sequence[str],
        videos: Sequence[str],
        statuses: NDArray[np.uint8],
        columns: Mapping[str, Column],
    ) -> None:
        """Arguments are in the order of the data set; `statuses` are indices in `STATUSES`."""
        self.ids, self.videos, self.statuses, self.columns = ids, videos, statuses, columns

    @classmethod
    def of(cls, rows: Mapping[str, SampleScores]) -> SampleTable:
        """Build a table from rows."""
        columns: dict[str, Column] = {}
        for place, row in enumerate(rows.values()):
            for title, value in row.values.items():
                column = columns.setdefault(title, Column.of_length(len(rows)))
                column.put(place, Cell(value))
        statuses = np.array([STATUSES.index(row.status) for row in rows.values()], np.uint8)
        return cls(list(rows), [row.video_id for row in rows.values()], statuses, columns)

    def row(self, place: int) -> SampleScores:
        """Row of a sample by its index in the data set."""
        return SampleScores.model_construct(
            video_id=self.videos[place],
            status=STATUSES[self.statuses[place]],
            values={title: column.value(place) for title, column in self.columns.items()},
        )

    def rows(self) -> Iterator[tuple[str, SampleScores]]:
        """Yield (id, row) in the order of the data set."""
        return ((name, self.row(place)) for place, name in enumerate(self.ids))

    def __getitem__(self, name: str) -> SampleScores:
        return self.row(self._places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SampleTable)
            and len(self) == len(other)
            and all(row == other_row for row, other_row in zip(self.rows(), other.rows(), strict=True))
        )

    __hash__ = None  # type: ignore[assignment]

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.ids)}


_ROWS = TypeAdapter(dict[str, SampleScores])


def _table(value: object) -> SampleTable:
    return value if isinstance(value, SampleTable) else SampleTable.of(_ROWS.validate_python(value))


def _rows(table: SampleTable) -> dict[str, SampleScores]:
    return dict(table.rows())


class PredictionCounts(StrictRecord):
    """Counts of predictions by status and defect, independent of metrics."""

    samples: int
    ok: int = 0
    failed: int = 0
    missing: int = 0
    duplicates: int = 0
    """Predictions that a later one for the same sample replaced."""
    unknown: int = 0
    """Predictions for samples that the data set does not have."""
    resized_masks: int = 0
    """Predicted masks of another size than the ground truth, which were resized."""
    masks_beyond_video: int = 0
    """Predicted masks on frames that the video does not have, left out."""
    bad_masks: int = 0
    """Predictions with a mask that cannot be decoded; all their masks count as unparsed."""
    malformed: int = 0
    """Records of the file, or fields of them, that could not be read."""
    truncated: int = 0
    """Predictions with a reply that ended at the token limit."""
    refused: int = 0
    """Predictions with a refusal."""
    unparsed: int = 0
    """Predictions that lack a requested field."""


class PartialSelection(StrictRecord):
    """Part of the data set that a run selected; only this part is scored."""

    samples: int
    """Number of samples of the part."""
    total: int
    """Number of samples of the data set."""
    selection: SampleSelection

    @property
    def text(self) -> str:
        """`PARTIAL 2 of 100 samples (--limit 2)`."""
        return f"PARTIAL {self.samples} of {self.total} samples ({Selection.read(self.selection)})"


class ScoreValue(StrictRecord):
    """A number that is computed from means, or the ratio of two."""

    unit: Unit = "fraction"
    value: float
    low: float | None = None
    """Lower end of the 95 % interval of a ratio; None = it has none."""
    high: float | None = None
    n_total: int | None = None
    """Samples of a ratio: those with a value on both sides; None = no ratio."""


class ToolCounts(StrictRecord):
    """Calls of one tool in a run."""

    calls: int
    invalid: int
    """Calls that were invalid or refused."""
    samples: int
    """Samples with at least one call."""


BudgetAxis = Literal["turns", "calls", "frames"]
"""Quantity that a budget limits: replies of the main model, tool calls, or distinct frames inspected before a reply."""


class BudgetPoint(StrictRecord):
    """Scores of a run whose episodes are cut off at a budget."""

    budget: int
    metrics: dict[str, Mean]
    """`Acc`, `evidence seen` and `supported correct` as in the preset; an answer beyond the budget counts as none,
    unless a forced answer replaces it."""


class EpisodeSummary(StrictRecord):
    """Tool calls, stop reasons and budget curves of a run."""

    tools: dict[str, ToolCounts]
    """Name of a tool, as models wrote it -> its calls, most frequent first."""
    stops: dict[str, int]
    """Reason why the episode ended, "failed", "missing" or "not recorded" -> samples."""
    curves: dict[BudgetAxis, tuple[BudgetPoint, ...]] = Field(default_factory=dict[BudgetAxis, tuple[BudgetPoint, ...]])
    """Points by ascending budget; none where a record does not state what was inspected."""
    is_forced: bool = False
    """Whether samples without an answer within a budget have forced answers."""


SCORES_VERSION = 2
"""Version of `Scores`: 2 = all values are fractions; 1 = those of `PERCENT_PRESETS` are percent."""

PERCENT_PRESETS = frozenset({"st-evidence", "st-evidence-mcq"})
"""Presets with values in percent in version 1."""


EARLIER_NAMES = {
    "J held": "J (evidence frames)",
    "F held": "F (evidence frames)",
    "J&F held": "J&F (evidence frames)",
    "joint held": "joint (evidence frames)",
}
"""Name of a metric in files of earlier versions -> its name."""


def _with_current_names(fields: dict[str, Any]) -> dict[str, Any]:
    """Replace the names of metrics of earlier versions in a record."""

    def current(table: dict[str, Any]) -> dict[str, Any]:
        return {EARLIER_NAMES.get(title, title): value for title, value in table.items()}

    return fields | {
        "metrics": current(fields["metrics"]),
        "left_out": current(fields.get("left_out", {})),
        "groups": {
            axis: {value: current(table) for value, table in groups.items()}
            for axis, groups in fields.get("groups", {}).items()
        },
        "samples": {name: row | {"values": current(row["values"])} for name, row in fields["samples"].items()},
    }


def _in_version_2(value: object) -> object:
    """Convert the fields of a record of an earlier version; other values are unchanged."""
    fields = cast("dict[str, Any]", value if isinstance(value, dict) else {})
    if not EARLIER_NAMES.keys().isdisjoint({**fields.get("metrics", {}), **fields.get("left_out", {})}):
        value = fields = _with_current_names(fields)
    if fields.get("version", SCORES_VERSION) != 1:
        return cast("object", value)
    derived = {title: {"value": number} for title, number in fields.get("derived", {}).items()}
    fields = fields | {"version": SCORES_VERSION, "derived": derived}
    return fields if fields.get("preset") not in PERCENT_PRESETS else fields | _fractions_of(fields)


def _fractions_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with values of a record in percent, converted to fractions."""

    def means(table: dict[str, Any]) -> dict[str, Any]:
        return {
            title: mean | {end: _hundredth(mean.get(end)) for end in ("mean", "low", "high")}
            for title, mean in table.items()
        }

    return {
        "metrics": means(fields["metrics"]),
        "groups": {
            axis: {value: means(table) for value, table in groups.items()}
            for axis, groups in fields.get("groups", {}).items()
        },
        "samples": {
            name: row | {"values": {title: _hundredth(value) for title, value in row["values"].items()}}
            for name, row in fields["samples"].items()
        },
    }


def _hundredth(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


class Scores(StrictRecord):
    """Scores of one run or trivial baseline under one preset."""

    version: Literal[2] = SCORES_VERSION
    unit: Literal["fraction"] = "fraction"
    """Of every value whose mean states no other unit: from 0 to 1, which tables show in percent."""
    name: str
    dataset: str
    data_sha256: str
    preset: str
    metrics: dict[str, Mean]
    derived: dict[str, ScoreValue] = Field(default_factory=dict)
    """Numbers of the preset that are computed from means, and ratios: name -> number, where the means exist."""
    groups: dict[str, dict[str, dict[str, Mean]]] = Field(default_factory=dict)
    """`question_type`, `source` or a tag's name -> its value -> metric -> mean."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Metric of the preset that is not scored -> reason, with advice."""
    partial: PartialSelection | None = None
    """None = the whole data set is scored."""
    episodes: EpisodeSummary | None = None
    """Summary of the conversations of a run, of a preset that has one."""
    counts: PredictionCounts
    source: str = ""
    """Prediction file and its format; empty for baselines."""
    protocol: Annotated[dict[str, str], OMIT_EMPTY] = Field(default_factory=dict)
    """What decides the scores of a run about episodes: name -> value, see `scoring.protocol`; {} = another run."""
    problems: tuple[str, ...] = ()
    """First problems of the prediction file, with file, line or key, and field."""
    samples: Annotated[
        SampleTable,
        PlainValidator(_table, json_schema_input_type=dict[str, SampleScores]),
        PlainSerializer(_rows, return_type=dict[str, SampleScores]),
    ]
    """Sample id -> scores of the sample."""

    _of_version_1 = model_validator(mode="before")(_in_version_2)

    def with_partial(self, partial: PartialSelection | None) -> Scores:
        """Return the scores, labelled with a part of the data set."""
        return self.model_copy(update={"partial": partial})


def write_scores(path: Path, scores: Sequence[Scores]) -> None:
    """Write `scores.json`: a list, one entry per run and preset."""
    with replace_file(path) as file:
        for text in _texts(scores):
            file.write(text.encode())


def _texts(scores: Sequence[Scores]) -> Iterator[str]:
    """Yield the text of a `scores.json` in pieces, one sample at a time."""
    for entry, start in zip(scores, _separators("[\n", ",\n"), strict=False):
        yield start
        head = json.dumps(
            entry.model_dump(mode="json", exclude={"samples"}), indent=2, ensure_ascii=False, allow_nan=False
        )
        yield head.removesuffix("\n}") + ',\n  "samples": {'
        for (name, row), comma in zip(entry.samples.rows(), _separators("\n", ",\n"), strict=False):
            yield f"{comma}    {json.dumps(name, ensure_ascii=False)}: {row.model_dump_json()}"
        yield "\n  }\n}"
    yield "\n]\n" if scores else "[]\n"


Text = TypeVar("Text")


def _separators(first: Text, later: Text) -> Iterator[Text]:
    yield first
    while True:
        yield later


def read_scores(path: Path) -> list[Scores]:
    """Read the entries of a `scores.json`, also of earlier versions. `ValueError`: it is invalid."""
    try:
        return TypeAdapter(list[Scores]).validate_python(json.loads(path.read_bytes()))
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = validation_message(error) if isinstance(error, ValidationError) else str(error)
        raise ValueError(f"{path} is no list of scores: {reason}; run `evqa score` again") from error
