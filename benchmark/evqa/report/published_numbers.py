"""Published numbers of other systems, read from `published_numbers.toml` in this folder; each has source and date."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

LIST = Path(__file__).with_name("published_numbers.toml")


class PublishedNumber(BaseModel):
    """A number of another system on the data of a task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    """Name in `TASKS`."""
    metric: str
    """Metric, or derived number, of the task's first preset."""
    system: str
    value: float
    """In percent."""
    source: str
    """Where the number is published."""
    protocol: str
    """Split and evaluator."""
    date: str
    """Date on which it was read there."""


class _List(BaseModel):
    number: list[PublishedNumber]


@functools.cache
def published_numbers() -> tuple[PublishedNumber, ...]:
    """All numbers of the list, in its order."""
    try:
        return tuple(_List.model_validate(tomllib.loads(LIST.read_text("utf-8"))).number)
    except (OSError, ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{LIST} is no list of published numbers: {str(error)[:500]}") from error


def published_number(task: str, metric: str) -> PublishedNumber | None:
    """Return the highest published number of a metric; None = the list has none."""
    numbers = [number for number in published_numbers() if (number.task, number.metric) == (task, metric)]
    return max(numbers, key=lambda number: number.value, default=None)
