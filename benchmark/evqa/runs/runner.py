"""Runner: every sample of a data set through a predictor, into the folder of a run.

A record is appended and synced as soon as it is there. Whatever stops a run, the same command resumes it: samples that
are done are skipped, failed ones are tried again, and the last record of a sample counts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from evqa import prompts
from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.models.api.budget import Prices
from evqa.models.base import Models, RunAborted
from evqa.models.canary import Canary
from evqa.runs import image_checks, schedule
from evqa.runs.ledger import RunLedger
from evqa.runs.live_scores import live_scores
from evqa.runs.progress import Progress
from evqa.runs.run_folder import (
    PREDICTIONS,
    Identity,
    add_selection,
    open_run_folder,
    read_run_info,
    run_lock,
    user_errors_of_disk,
)
from evqa.runs.shards import Selection
from evqa.schema import ImageCheck, ImageTransport, Prediction, Sample, TotalUsage, Usage

Settings = Mapping[str, str | int | float | bool | None]

Predictor = Callable[[Models, Sample], Prediction]
"""A method with its settings. Workers in other processes get it pickled: a function of a module, or an object."""

EVERYTHING = Selection()


class ModelInfo(NamedTuple):
    """What a run records of a model."""

    name: str
    settings: Settings
    """`Model.settings`."""
    prices: Prices | None = None
    """None = its replies are free."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Result of one call of `run_samples`."""

    folder: Path
    num_ok: int
    """Number of samples that this call predicted without an error."""
    skipped: int
    """Samples that an earlier call had predicted."""
    failed: Mapping[str, str]
    """Sample id -> reason, of the samples of this call."""
    usage: TotalUsage
    """Usage of the run so far, earlier calls included."""
    prices: Prices | None = None
    """Prices of the model; None = its replies are free."""
    truncated: int = 0
    """Predictions of the selected samples, earlier calls included, with a reply that ended at the token limit."""
    refused: int = 0
    """Those with a reply that is a refusal."""
    unparsed: int = 0
    """Those whose replies lack a field that they were asked for."""
    with_masks: int = 0
    """Those with a mask."""


class Executor(Protocol):
    """Runs a predictor with models in this process, or in worker processes."""

    @property
    def main(self) -> ModelInfo:
        """The main model."""
        ...

    @property
    def team(self) -> Mapping[str, ModelInfo]:
        """Role -> model, of a run with several."""
        ...

    @property
    def size(self) -> int:
        """Samples that are predicted at once."""
        ...

    def predict(self, samples: Sequence[Sample], predictor: Predictor) -> Iterator[Prediction]:
        """One prediction per sample, as they are done; samples start in the given order."""
        ...

    def check_images(self, role: str, canary: Canary, recorded: ImageTransport | None) -> ImageCheck:
        """Choose the transport of images in tool results to the model of a role (see `canary.check_images`)."""
        ...

    def add_earlier(self, usages: Iterable[Usage]) -> None:
        """Count what earlier calls of the run spent against the budget, if there is one; may be called repeatedly."""
        ...


def run_samples(  # noqa: PLR0913  (each is an option of the command)
    executor: Executor,
    predictor: Predictor,
    dataset: Dataset,
    folder: Path,
    identity: Identity,
    *,
    selection: Selection = EVERYTHING,
    recorded: Selection | None = None,
    restart: bool = False,
    progress: bool = True,
    is_done: Callable[[Prediction], bool] = lambda prediction: prediction.status == "ok",
    image_roles: Sequence[str] = (),
    canary: Canary = "auto",
) -> RunSummary:
    """Predict the selected samples that a run lacks.

    Args:
        executor: runs the predictor.
        predictor: gives the prediction of a sample.
        dataset: all samples.
        folder: of the run; that of the shard where the selection is one.
        identity: what must be equal to that of a run that is in the folder already.
        selection: samples to predict.
        recorded: samples that the run is to cover, where these are more; None = `selection`.
        restart: delete a run that is in the folder.
        progress: show a progress bar.
        is_done: whether the last record of a sample stays.
        image_roles: roles of the models that get images in tool results.
        canary: which of them are checked at the start.

    Raises:
        ValueError: the folder belongs to another run, is in use, or cannot be written; the run was aborted; or a model
            does not see the images of tool results.
    """
    samples = {sample.id: sample for sample in selection.of(dataset)}
    failed: dict[str, str] = {}
    team_prices = {model.name: model.prices or Prices() for model in executor.team.values()}
    ledger = RunLedger(executor.main.prices, team_prices)
    with run_lock(folder), Progress(samples, live_scores, show=progress) as bar:
        open_run_folder(folder, identity, restart=restart)
        add_selection(folder, selection if recorded is None else recorded, dataset)
        executor.add_earlier(ledger.add_checks(read_run_info(folder).image_checks))
        complete: dict[str, bool] = {}
        for prediction in _earlier_predictions(folder):
            complete[prediction.sample_id] = is_done(prediction)
            executor.add_earlier(ledger.add(prediction))
            bar.add_earlier(prediction)
        todo = [sample for sample in samples.values() if not complete.get(sample.id)]
        weights = schedule.costs(todo) if executor.size > 1 else dict.fromkeys((sample.id for sample in todo), 1.0)
        bar.start(len(samples) - len(todo), weights)
        with ledger.saved_to(folder), _abort_as_value_error(folder):
            image_checks.run(executor, folder, ledger, image_roles if todo else (), canary)
            for prediction in executor.predict(schedule.longest_first(todo, weights), predictor):
                with user_errors_of_disk(folder):
                    jsonl.append_record(folder / PREDICTIONS, prediction)
                ledger.add(prediction)
                bar.add(prediction)
                if prediction.error is not None:
                    failed[prediction.sample_id] = prediction.error
    return RunSummary(
        folder=folder,
        num_ok=len(todo) - len(failed),
        skipped=len(samples) - len(todo),
        failed=failed,
        usage=ledger.usage,
        prices=next((model.prices for model in (executor.main, *executor.team.values()) if model.prices), None),
        **ledger.counts(samples.keys())._asdict(),
    )


def _earlier_predictions(folder: Path) -> Iterable[Prediction]:
    """Records of earlier calls, one in memory at a time."""
    path = folder / PREDICTIONS
    return jsonl.read_records(path, Prediction) if path.exists() else ()


@contextmanager
def _abort_as_value_error(folder: Path) -> Generator[None]:
    """Turn a `RunAborted` of the body into an error for the user."""
    try:
        yield
    except RunAborted as error:
        raise ValueError(f"{error} (what is predicted so far is in {folder})") from None


def identity_of(
    executor: Executor, method_name: str, dataset: Dataset, *, seed: int = 0, times: bool = True
) -> Identity:
    """What must be equal for two runs to be the same run.

    The keys `agent.ROLE` and `agent.ROLE.SETTING` are there only for runs with several models.
    """
    identity: Identity = {
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "model": executor.main.name,
        "method": method_name,
        "prompt_version": prompts.PROMPT_VERSION,
        "times": times,
        "seed": seed,
        **{f"model.{key}": value for key, value in executor.main.settings.items()},
    }
    for role, model in executor.team.items():
        identity[f"agent.{role}"] = model.name
        identity |= {f"agent.{role}.{key}": value for key, value in model.settings.items()}
    return identity
