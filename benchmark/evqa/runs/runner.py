"""Every sample of a data set through one method with one model, into a folder that describes itself.

The folder holds `run.json` (what makes two runs the same) and `predictions.jsonl` (one record a sample,
appended and synced as it comes). Whatever stops a run, the same command goes on where it stopped: samples
that are done are skipped, failed ones are tried again, and the last record of a sample counts.
"""

from __future__ import annotations

import datetime
import fcntl
import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from pydantic import ValidationError

from evqa import prompts
from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.models.api.budget import Prices, usages
from evqa.models.base import Model, RunAborted
from evqa.runs import schedule
from evqa.runs.progress import Progress
from evqa.runs.shards import Selection, union_of
from evqa.schema import Prediction, Run, Sample, TotalUsage, Usage

RUN = "run.json"
PREDICTIONS = "predictions.jsonl"
LOCK = ".lock"

PACKAGES = ("evqa", "torch", "transformers", "numpy", "av", "pillow", "pycocotools", "pydantic")
"""Packages whose versions are kept with a run."""

Identity = dict[str, str | int | float | bool | None]

Predictor = Callable[[Model, Sample], Prediction]
"""A method with its settings. Workers in other processes get it pickled: a function of a module, or an object."""

EVERYTHING = Selection()


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What one call of `run` did."""

    folder: Path
    done: int
    """Samples predicted now."""
    skipped: int
    """Samples that an earlier call had done."""
    failed: Mapping[str, str]
    """Sample id -> reason, of the samples asked for now."""
    usage: TotalUsage
    """Of the run so far, earlier calls included."""
    prices: Prices | None = None
    """By which replies are paid for; None where nothing is."""
    truncated: int = 0
    """Of the samples asked for, earlier calls included: predictions with a reply that ended at the token limit."""
    refused: int = 0
    """With a reply that is a refusal."""
    unparsed: int = 0
    """Whose replies lack a part that they were asked for."""


class Executor(Protocol):
    """Who predicts: a model in this process, or several in others."""

    name: str
    """The model's."""
    prices: Prices | None
    """By which its replies are paid for; None where nothing is."""

    @property
    def size(self) -> int:
        """How many samples it works on at once."""
        ...

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """The model's."""
        ...

    def predict(self, samples: Sequence[Sample], work: Predictor) -> Iterator[Prediction]:
        """One prediction a sample, as they come; samples are begun in the order given."""
        ...


@runtime_checkable
class PaidExecutor(Protocol):
    """A crew whose work may cost money."""

    def carry_over(self, earlier: Iterable[Usage]) -> None:
        """Count what earlier calls of the run spent; may be called several times."""
        ...


def run(  # noqa: PLR0913  (each is an option of the command)
    crew: Executor,
    work: Predictor,
    method_name: str,
    dataset: Dataset,
    folder: Path,
    *,
    selection: Selection = EVERYTHING,
    seed: int = 0,
    times: bool = True,
    restart: bool = False,
    progress: bool = True,
) -> RunSummary:
    """Predict the samples of a selection that `folder` lacks; a shard has a folder of its own in it.

    Raises a `ValueError` where the folder belongs to another run, is in use, or cannot be written.
    """
    identity = identity_of(crew, method_name, dataset, seed=seed, times=times)
    place = selection.shard.folder(folder) if selection.shard else folder
    return run_samples(crew, work, dataset, place, identity, selection=selection, restart=restart, progress=progress)


def run_samples(  # noqa: PLR0913
    crew: Executor,
    work: Predictor,
    dataset: Dataset,
    folder: Path,
    identity: Identity,
    *,
    selection: Selection = EVERYTHING,
    asked: Selection | None = None,
    restart: bool = False,
    progress: bool = True,
    is_done: Callable[[Prediction], bool] = lambda prediction: prediction.status == "ok",
) -> RunSummary:
    """As `run`, for a run whose identity is known.

    `asked`: what the run is to cover, where that is more than the samples that can be predicted now;
    `is_done`: whether a sample's last record is to stay.
    """
    samples = {sample.id: sample for sample in selection.of(dataset)}
    failed: dict[str, str] = {}
    replies: dict[str, ReplyState] = {}
    with run_lock(folder), Progress(samples, show=progress) as bar:
        _open_run_folder(folder, identity, restart=restart)
        _select(folder, selection if asked is None else asked, dataset)
        account = CostLedger(folder, crew)
        done = _finished_samples(folder / PREDICTIONS, is_done, bar, account, replies)
        todo = [sample for sample in samples.values() if sample.id not in done]
        costs = schedule.costs(todo) if crew.size > 1 else dict.fromkeys((sample.id for sample in todo), 1.0)
        bar.start(len(samples) - len(todo), costs)
        with account.finished():
            for prediction in _until_stopped(crew.predict(schedule.longest_first(todo, costs), work), folder):
                with user_errors_of_disk(folder):
                    jsonl.append_record(folder / PREDICTIONS, prediction)
                account.add(prediction)
                bar.add(prediction)
                replies[prediction.sample_id] = _state(prediction)
                if prediction.error is not None:
                    failed[prediction.sample_id] = prediction.error
    return RunSummary(
        folder=folder,
        done=len(todo) - len(failed),
        skipped=len(samples) - len(todo),
        failed=failed,
        usage=account.spent,
        prices=crew.prices,
        **_counted([state for sample, state in replies.items() if sample in samples]),
    )


class ReplyState(NamedTuple):
    """What the replies of one prediction were like."""

    truncated: bool
    refused: bool
    unparsed: bool


def _state(prediction: Prediction) -> ReplyState:
    return ReplyState(prediction.is_truncated, prediction.is_refused, prediction.is_unparsed)


def _counted(states: Sequence[ReplyState]) -> dict[str, int]:
    """How many predictions are in each state."""
    return {name: sum(getattr(state, name) for state in states) for name in ReplyState._fields}


class CostLedger:
    """What a run has spent: counted from its records, and written into its description when the run is left."""

    def __init__(self, folder: Path, crew: Executor) -> None:
        self.spent = TotalUsage()
        self._folder, self._crew, self._prices = folder, crew, crew.prices or Prices()

    def add_earlier(self, prediction: Prediction) -> None:
        """A record of an earlier call, which the crew's budget counts too."""
        if isinstance(self._crew, PaidExecutor):
            self._crew.carry_over(usages(prediction, self._prices))
        self.add(prediction)

    def add(self, prediction: Prediction) -> None:
        """One more record."""
        self.spent = functools.reduce(TotalUsage.plus, usages(prediction, self._prices), self.spent)

    @contextmanager
    def finished(self) -> Generator[None]:
        """While records are added; however that ends, the description tells what is spent."""
        try:
            yield
        finally:
            about = read_run_info(self._folder)
            if about.usage != self.spent:
                with user_errors_of_disk(self._folder):
                    write_run_info(self._folder, about.model_copy(update={"usage": self.spent}))


def _until_stopped(predicted: Iterator[Prediction], folder: Path) -> Generator[Prediction]:
    """The predictions; a model that stops the run ends them with an error of the user."""
    try:
        yield from predicted
    except RunAborted as stop:
        raise ValueError(f"{stop} (what is predicted so far is in {folder})") from None


def identity_of(crew: Executor, method_name: str, dataset: Dataset, *, seed: int, times: bool) -> Identity:
    """What must be equal for two runs to be the same run."""
    identity: Identity = {
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "model": crew.name,
        "method": method_name,
        "prompt_version": prompts.PROMPT_VERSION,
        "times": times,
        "seed": seed,
    }
    return identity | {f"model.{key}": value for key, value in crew.settings.items()}


def read_run_info(folder: Path) -> Run:
    """What a run's folder says of itself."""
    about = _described(folder)
    if about is None:
        raise ValueError(f"{folder} is no run: it has no {RUN}; `evqa predict` makes one")
    return about


def write_run_info(folder: Path, about: Run) -> None:
    """Write what a run's folder says of itself."""
    jsonl.write_json(folder / RUN, about.model_dump(mode="json"))


def predictions(path: Path) -> Iterator[Prediction]:
    """The predictions of a file in order; a sample that was tried again has several."""
    if not path.is_file():
        raise ValueError(f"{path} is no file of predictions: nothing is there")
    return jsonl.read_records(path, Prediction)


def last_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file; of several for one sample the last."""
    return list({prediction.sample_id: prediction for prediction in predictions(path)}.values())


@contextmanager
def user_errors_of_disk(folder: Path, *, has_out: bool = True) -> Generator[None]:
    """Errors of the disk as errors of the user, who can cure them; `has_out`: whether the command has --out."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"cannot write to {folder}: {error.strerror or error}; the predictions in it are safe: make it "
            f"writable or make room and run the same command again, or choose another folder"
            f"{' with --out' if has_out else ''}"
        ) from error


def _open_run_folder(folder: Path, identity: Identity, *, restart: bool) -> None:
    """Make the folder this run's, or find that it is; anything else is a `ValueError`."""
    about = _described(folder)
    if about is None and (folder / PREDICTIONS).exists():
        raise ValueError(f"{folder} has predictions but no {RUN}, which says what made them: choose another folder")
    if about is not None and about.identity == identity and not restart:
        return
    if about is not None and not restart:
        raise ValueError(_refusal(folder, about.identity, identity))
    with user_errors_of_disk(folder):
        (folder / PREDICTIONS).unlink(missing_ok=True)
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        nothing = Selection(only=()).record()
        write_run_info(folder, Run(identity=identity, packages=_packages(), started=started, selection=nothing))


def _select(folder: Path, selection: Selection, dataset: Dataset) -> None:
    """Add to the run's description what this call asks for; a run whose earlier calls are not recorded stays so."""
    about = read_run_info(folder)
    if about.selection is None:
        return
    before = Selection.read(about.selection)
    both = selection if before.only == () else union_of([before, selection], dataset)
    if both.record() != about.selection:
        with user_errors_of_disk(folder):
            write_run_info(folder, about.model_copy(update={"selection": both.record()}))


def _described(folder: Path) -> Run | None:
    path = folder / RUN
    if not path.is_file():
        return None
    try:
        return Run.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} describes no run: {jsonl.validation_message(error)}") from error


def _refusal(folder: Path, old: Identity, new: Identity) -> str:
    return f"{folder} holds another run ({identity_diff(old, new)}): choose another folder with --out, or --restart it"


def identity_diff(old: Identity, new: Identity) -> str:
    """What differs between two identities."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key) or (key in old) != (key in new)]
    return "; ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in keys)


def _finished_samples(
    path: Path,
    is_done: Callable[[Prediction], bool],
    bar: Progress,
    account: CostLedger,
    replies: dict[str, ReplyState],
) -> set[str]:
    """Ids of the samples whose last record is to stay. Only ids are kept: records with masks are large.

    `replies` is filled with the state of each sample's last record.
    """
    status: dict[str, bool] = {}
    for prediction in jsonl.read_records(path, Prediction) if path.exists() else ():
        status[prediction.sample_id] = is_done(prediction)
        account.add_earlier(prediction)
        bar.add_earlier(prediction)
        replies[prediction.sample_id] = _state(prediction)
    return {sample for sample, stays in status.items() if stays}


@contextmanager
def run_lock(folder: Path, *, has_out: bool = True) -> Generator[None]:
    """Hold the folder for this process: two writers would undo each other's lines. The lock dies with us.

    `has_out`: whether the command has --out.
    """
    other = "another folder with --out" if has_out else "another folder"
    with user_errors_of_disk(folder, has_out=has_out):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not held on by orphaned children
        except (BlockingIOError, PermissionError) as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise ValueError(
                f"another run (process {holder}) is writing to {folder}: wait for its end, or choose {other}"
            ) from error
        except OSError as error:  # a network's file system may have no locks
            raise ValueError(f"cannot lock {folder} ({error.strerror}): choose {other}") from error
        with user_errors_of_disk(folder, has_out=has_out):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _packages() -> dict[str, str]:
    """Versions of Python and of installed packages, and the commit of this code where git knows it."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if found := commit():
        versions["commit"] = found
    return versions


def commit() -> str | None:
    """The commit of this code where git knows it, with "-dirty" where files differ from it."""
    command = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*")
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
