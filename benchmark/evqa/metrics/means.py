"""Means over samples: cells (value with state), columns (arrays of cells), and means with intervals and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from evqa.metrics.intervals import cluster_interval, ratio_interval
from evqa.metrics.units import Unit
from evqa.schema import StrictRecord
from evqa.schema.record import OMIT_EMPTY

State = Literal["scored", "missing", "failed", "unparsed", "unrecorded"]
"""State of a prediction for a metric; unrecorded = its record lacks what the metric measures."""
STATES: tuple[State, ...] = get_args(State)


class UnrecordedValueError(ValueError):
    """The record of a sample lacks what a metric measures, such as tokens that a server did not count."""


ABSENT = 255
"""Code in `Column.states` where the metric does not apply to a sample."""


class Cell(NamedTuple):
    """Value of one metric for one sample, with the state of the prediction."""

    value: float | None
    """None = not in the mean: the metric does not apply, or it excludes predictions in this state."""
    state: State = "scored"


DOES_NOT_APPLY = Cell(None)


class Column(NamedTuple):
    """Values of one metric for many samples, 9 bytes per sample."""

    values: NDArray[np.float64]
    """NaN where a `Cell` has None."""
    states: NDArray[np.uint8]
    """Place in `STATES`, or `ABSENT`."""

    @classmethod
    def of_length(cls, length: int) -> Column:
        """Return a column of a metric that applies to no sample yet."""
        return cls(np.full(length, np.nan), np.full(length, ABSENT, np.uint8))

    @classmethod
    def empty(cls, length: int) -> Column:
        """Return a read-only column of a metric that applies to no sample; it takes no memory."""
        return cls(np.broadcast_to(np.float64(np.nan), length), np.broadcast_to(np.uint8(ABSENT), length))

    def put(self, place: int, cell: Cell) -> None:
        """Set the cell of one sample."""
        self.values[place] = np.nan if cell.value is None else cell.value
        self.states[place] = ABSENT if cell == DOES_NOT_APPLY else STATES.index(cell.state)

    def value(self, place: int) -> float | None:
        """Value of one sample; None = not in the mean."""
        value = float(self.values[place])
        return None if value != value else value

    def mean(self) -> float | None:
        """Mean of the values; None without any."""
        values = self.values[~np.isnan(self.values)].tolist()
        return sum(values) / len(values) if values else None

    def take(self, places: NDArray[np.int64]) -> Column:
        """Return the column of some of the samples."""
        return Column(self.values[places], self.states[places])


class Mean(StrictRecord):
    """Mean of a metric over samples."""

    unit: Unit = "fraction"
    """Of mean, low and high."""

    mean: float | None
    """Over all `n_total` samples, unless the metric excludes some; None without any."""
    low: float | None = None
    """Lower end of the 95 % interval; None with fewer than two videos."""
    high: float | None = None
    n_total: int
    """Number of samples that the metric applies to."""
    n_scored: int
    """Samples with a prediction that could be read. The others count 0 and are counted below."""
    n_missing: int
    """Samples without a prediction."""
    n_failed: int
    """Samples whose prediction failed."""
    n_unparsed: int
    """Samples whose reply lacks a field that the metric needs."""
    n_unrecorded: Annotated[int, OMIT_EMPTY] = 0
    """Samples whose record lacks what the metric measures: 0 in the mean of a fraction, not in that of an amount."""


def mean_of(rows: Sequence[tuple[str, Cell]]) -> Mean:
    """The mean of (video, cell) with its 95 % interval over videos and its counts."""
    column = Column.of_length(len(rows))
    for place, (_, cell) in enumerate(rows):
        column.put(place, cell)
    return mean_of_column(column, numbered([video for video, _ in rows]))


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of names in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int64, len(names))


def mean_of_column(column: Column, videos: NDArray[np.int64], unit: Unit = "fraction") -> Mean:
    """As `mean_of`; `videos`: number of the video of each sample."""
    is_counted = ~np.isnan(column.values)
    values = column.values[is_counted]
    interval = cluster_interval(values, videos[is_counted])
    counts = dict(zip(STATES, np.bincount(column.states, minlength=ABSENT + 1)[: len(STATES)].tolist(), strict=True))
    return Mean(
        unit=unit,
        mean=sum(values.tolist()) / len(values) if len(values) else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n_total=sum(counts.values()),
        n_scored=counts["scored"],
        n_missing=counts["missing"],
        n_failed=counts["failed"],
        n_unparsed=counts["unparsed"],
        n_unrecorded=counts["unrecorded"],
    )


class RatioValue(NamedTuple):
    """Ratio of two sums over samples."""

    value: float
    low: float | None
    """Lower end of the 95 % interval; None with fewer than two videos, or without an upper end."""
    high: float | None
    num_samples: int


def ratio_of_columns(over: Sequence[Column], under: Sequence[Column], videos: NDArray[np.int64]) -> RatioValue | None:
    """Sum of some columns over the sum of others, over the samples that have a value in all of them.

    None where the denominator is 0: nothing is known of the ratio.
    """
    numerator, denominator = (np.sum([column.values for column in columns], axis=0) for columns in (over, under))
    is_counted = ~np.isnan(numerator + denominator)
    numerator, denominator = numerator[is_counted], denominator[is_counted]
    if not denominator.sum():
        return None
    interval = ratio_interval(numerator, denominator, videos[is_counted])
    low, high = interval or (None, None)
    return RatioValue(float(numerator.sum() / denominator.sum()), low, high, len(numerator))
