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
    """Numbers of predictions by the state of their replies."""

    truncated: int
    """Predictions with a reply that ended at the token limit."""
    refused: int
    """Predictions with a refusal."""
    unparsed: int
    """Predictions that lack a requested field."""
    with_masks: int
    """Predictions with a mask."""


def check_usages(checks: Iterable[ImageCheck]) -> list[Usage]:
    """Usage of each reply of image checks."""
    return [attempt.usage for check in checks for attempt in check.attempts if attempt.usage is not None]


class RunLedger:
    """Counter of the usage of a run and of the states of its replies."""

    def __init__(self, prices: Prices | None, team_prices: Mapping[str, Prices]) -> None:
        """Create an empty ledger.

        Args:
            prices: prices of the main model; None = a model without costs.
            team_prices: name of an additional model -> its prices.
        """
        self.usage = TotalUsage()
        self._prices, self._team_prices = prices or Prices(), team_prices
        self._states: dict[str, tuple[bool, bool, bool, bool]] = {}

    def add(self, prediction: Prediction) -> list[Usage]:
        """Count a record and return the usage of each reply; the last record of a sample determines its state."""
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
        """Counts of the last records of the given samples."""
        states = [state for sample_id, state in self._states.items() if sample_id in sample_ids]
        return ReplyCounts(*(sum(state[index] for state in states) for index in range(len(ReplyCounts._fields))))

    @contextmanager
    def saved_to(self, folder: Path) -> Generator[None]:
        """Context that writes the usage into `run.json` at its end, also after an exception."""
        try:
            yield
        finally:
            info = read_run_info(folder)
            if info.usage != self.usage:
                with user_errors_of_disk(folder):
                    write_run_info(folder, info.replace(usage=self.usage))
