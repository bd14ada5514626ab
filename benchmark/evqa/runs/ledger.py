"""Ledger of a run: token usage, cost, and how many replies were truncated, refused or unparsed."""

from __future__ import annotations

import functools
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from evqa.models.api.budget import Prices, usages
from evqa.runs.run_folder import read_run_info, user_errors_of_disk, write_run_info
from evqa.schema import ImageCheck, Prediction, TotalUsage, Usage


class ReplyCounts(NamedTuple):
    """Predictions by the state of their replies."""

    truncated: int
    """A reply ended at the token limit."""
    refused: int
    """A reply is a refusal."""
    unparsed: int
    """A field that a prompt asked for could not be read."""
    with_masks: int
    """There is a mask."""


def check_usages(checks: Iterable[ImageCheck]) -> list[Usage]:
    """Usage of each reply of image checks."""
    return [attempt.usage for check in checks for attempt in check.attempts if attempt.usage is not None]


class RunLedger:
    """Counts what the records of a run took and how their replies ended."""

    def __init__(self, prices: Prices | None, team_prices: Mapping[str, Prices]) -> None:
        """Start with nothing.

        Args:
            prices: of the main model; None = its replies are free.
            team_prices: name of a further model -> its prices.
        """
        self.usage = TotalUsage()
        self._prices, self._team_prices = prices or Prices(), team_prices
        self._states: dict[str, tuple[bool, bool, bool, bool]] = {}

    def add(self, prediction: Prediction) -> list[Usage]:
        """Count a record; the last record of a sample decides the state of its replies. Usage of each reply."""
        spent = usages(prediction, self._prices, self._team_prices)
        self.usage = functools.reduce(TotalUsage.plus, spent, self.usage)
        has_mask = any(track.masks for track in prediction.tracks or ())
        state = prediction.is_truncated, prediction.is_refused, prediction.is_unparsed, has_mask
        self._states[prediction.sample_id] = state
        return spent

    def add_checks(self, checks: Iterable[ImageCheck]) -> list[Usage]:
        """Count the requests of image checks. Usage of each reply."""
        spent = check_usages(checks)
        self.usage = functools.reduce(TotalUsage.plus, spent, self.usage)
        return spent

    def counts(self, sample_ids: Collection[str]) -> ReplyCounts:
        """States of the last records of some samples."""
        states = [state for sample_id, state in self._states.items() if sample_id in sample_ids]
        return ReplyCounts(*(sum(state[index] for state in states) for index in range(len(ReplyCounts._fields))))

    @contextmanager
    def saved_to(self, folder: Path) -> Generator[None]:
        """Write the usage into the description of the run however the body ends."""
        try:
            yield
        finally:
            info = read_run_info(folder)
            if info.usage != self.usage:
                with user_errors_of_disk(folder):
                    write_run_info(folder, info.replace(usage=self.usage))
