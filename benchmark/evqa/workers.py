"""Workers in processes of their own, on the GPUs of one machine or of a cluster (Ray): one model each.

Each worker has one sample at a time, and gets the next one as soon as it is done. A worker that dies (killed,
out of memory, a machine lost, an error of the GPU) is replaced and its sample tried once more; a sample on
which two die is a failed record. All that a worker does goes back to the driver, which alone writes.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from evqa import models, zoo
from evqa.models import Setting
from evqa.models.budget import Prices
from evqa.runner import Work
from evqa.schema import Prediction, Sample

Settings = Mapping[str, str | int | float | bool | None]

MAX_TRIES = 2
"""Workers that a sample may cost."""

MAX_DEATHS_IN_A_ROW = 4
"""With no prediction in between, and for each worker: then it is not the samples that are at fault."""

STORE_BYTES = 256 * 2**20
"""Shared memory of a local Ray; predictions with their masks are far below it."""


NOT_STARTED = "Ray did not start on this machine"
"""Begins the error."""

QUIET_AND_PATIENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_agent_register_timeout_ms": "90000"}
"""Environment of a Ray that is started here: nothing is reported, and a machine under load has time to start it."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a worker needs to be one."""

    model: str
    overrides: Mapping[str, Setting] = field(default_factory=dict[str, Setting])

    def num_gpus(self) -> int:
        """GPUs that hold one copy of the model."""
        count = {**models.row(self.model).arguments, **self.overrides}.get("tensor_parallel")
        return count if isinstance(count, int) else 1


class Worker:
    """Becomes a Ray actor: a model, loaded once, and what it does with samples."""

    def __init__(self, folder: str, zoo_root: str) -> None:
        self._folder, self._zoo_root = folder, zoo_root

    def load(self, recipe: Recipe) -> Settings:
        """Build the model where the driver stands, so that paths mean the same; its settings."""
        if not Path(self._folder).is_dir():
            raise ValueError(
                f"a worker on {os.uname().nodename} has no folder {self._folder}: the machines of a cluster "
                f"need the data, the weights and this folder under the same paths"
            )
        os.chdir(self._folder)
        os.environ["EVQA_ZOO"] = self._zoo_root
        self._model = models.build(recipe.model, **recipe.overrides)
        return dict(self._model.settings)

    def learn(self, work: Work) -> None:
        """What to do with the samples that come now."""
        self._work = work

    def predict(self, sample: Sample) -> Prediction:
        """The method's prediction; a failure of the model or of a file is a failed one."""
        return self._work(self._model, sample)


@contextmanager
def hired(recipe: Recipe, count: int, *, cluster: str | None = None) -> Generator[Workers]:
    """`count` workers, at least one of which has its model; they are dismissed at the end.

    Args:
        recipe: what they do.
        count: of workers; each has a GPU of its own where there are any (`CUDA_VISIBLE_DEVICES` holds).
        cluster: address of a running Ray to join ("auto" = the one on this machine); else `RAY_ADDRESS`;
            else Ray is started here and ended with the run.
    """
    if count < 1:
        raise ValueError(f"a run has at least 1 worker, got {count}")
    ray = _ray()
    has_started = not ray.is_initialized()
    if has_started:
        _connect(ray, count, cluster or os.environ.get("RAY_ADDRESS"))
    try:
        workers = Workers(ray, recipe, count, _gpus_each(ray, count, recipe.num_gpus()))
        try:
            workers.wait_for_one()
            yield workers
        finally:
            workers.dismiss()
    finally:
        if has_started:
            ray.shutdown()


class Workers:
    """A crew (see `runner.Crew`) of Ray actors."""

    prices: Prices | None = None
    """A budget holds for one process, so that models which are paid for have no workers (see `Hands`)."""

    def __init__(self, ray: Any, recipe: Recipe, count: int, gpus: int) -> None:
        self.name, self.size = recipe.model, count
        self._ray, self._recipe, self._gpus = ray, recipe, gpus
        self._settings: Settings | None = None
        self._jobs: dict[Any, _Job] = {}
        self._idle: list[_Hired] = []
        self._deaths = 0
        for _ in range(count):
            self._hire()

    @property
    def settings(self) -> Settings:
        """The model's, as the first worker that was ready reports them; those of all others are equal."""
        assert self._settings is not None, "no worker is ready"
        return self._settings

    def wait_for_one(self) -> None:
        """Until a worker has its model. `ValueError`: it cannot be built, or workers die of it."""
        while self._settings is None:
            for job, result in self._finished():
                self._settle(job, result)

    def predict(self, samples: Sequence[Sample], work: Work) -> Iterator[Prediction]:
        """One prediction a sample, as they come; samples are begun in the order given."""
        queue, tries = deque(samples), Counter[str]()
        num_left = len(queue)
        sent = self._ray.put(work)
        while num_left:
            self._hand_out(queue, work, sent)
            for job, result in self._finished():
                prediction = self._settle(job, result)
                if isinstance(result, Exception) and job.sample is not None:
                    tries[job.sample.id] += 1
                    if tries[job.sample.id] < MAX_TRIES:
                        queue.appendleft(job.sample)
                        continue
                    prediction = _lost(job.sample, _reason(result))
                if prediction is not None:
                    num_left -= 1
                    yield prediction

    def dismiss(self) -> None:
        """End all of them, whatever they do."""
        for hired in [*self._idle, *(job.hired for job in self._jobs.values())]:
            self._ray.kill(hired.actor)
        self._idle.clear()
        self._jobs.clear()

    def _hire(self) -> None:
        actor = (
            self._ray.remote(Worker)
            .options(num_cpus=1, num_gpus=self._gpus, max_restarts=0)
            .remote(str(Path.cwd()), str(zoo.root().resolve()))
        )
        self._jobs[actor.load.remote(self._recipe)] = _Job(_Hired(actor), None)

    def _hand_out(self, queue: deque[Sample], work: Work, sent: Any) -> None:
        """A sample to each idle worker that knows the work; the others learn it first (`sent`: its reference)."""
        for hired in [one for one in self._idle if one.work is not work]:
            self._idle.remove(hired)
            hired.work = work
            self._jobs[hired.actor.learn.remote(sent)] = _Job(hired, None)
        while queue and self._idle:
            hired, sample = self._idle.pop(), queue.popleft()
            self._jobs[hired.actor.predict.remote(sample)] = _Job(hired, sample)

    def _finished(self) -> list[tuple[_Job, object]]:
        """Jobs that have ended, with what they gave: settings, nothing, a prediction, or the error that ended it."""
        ready, _ = self._ray.wait(list(self._jobs), num_returns=1)
        ended: list[tuple[_Job, object]] = []
        for reference in ready:
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                result = error
            ended.append((self._jobs.pop(reference), result))
        return ended

    def _settle(self, job: _Job, result: object) -> Prediction | None:
        """The prediction of a job, if it is one; its worker is idle again, or replaced where it died."""
        if isinstance(result, Exception):
            self._bury(job, result)
            return None
        self._idle.append(job.hired)
        if isinstance(result, Prediction):
            self._deaths = 0
            return result
        if isinstance(result, dict):
            self._agree(cast("Settings", result))
        return None

    def _agree(self, settings: Settings) -> None:
        if self._settings is None:
            self._settings = settings
        if self._settings != settings:
            changed = [key for key in {**self._settings, **settings} if self._settings.get(key) != settings.get(key)]
            raise ValueError(
                f"the workers do not have the same model: {', '.join(changed)} differ; the machines of a cluster need "
                f"the same weights and GPUs of one kind"
            )

    def _bury(self, job: _Job, error: Exception) -> None:
        if job.sample is None and isinstance(error, ValueError):
            raise ValueError(_reason(error)) from error
        self._deaths += 1
        if self._deaths >= MAX_DEATHS_IN_A_ROW * self.size:
            raise ValueError(
                f"{self._deaths} workers in a row died without a prediction; what is written is safe. "
                f"The last one died of: {_reason(error)}"
            )
        self._ray.kill(job.hired.actor)
        self._hire()


@dataclass(eq=False)
class _Hired:
    actor: Any
    work: Work | None = None
    """What it has learnt to do, or is learning."""


@dataclass(frozen=True)
class _Job:
    hired: _Hired
    sample: Sample | None
    """None = to load the model, or to learn the work."""


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ValueError('--workers needs the package ray: pip install "evqa[cluster]"') from error


def _connect(ray: Any, count: int, address: str | None) -> None:
    for name, value in QUIET_AND_PATIENT.items():
        os.environ.setdefault(name, value)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if address is None:
        own = {"num_cpus": max(count, os.cpu_count() or 1), "object_store_memory": STORE_BYTES}
        try:
            ray.init(address="local", **own, **quiet)
        except Exception as error:
            if type(error) is not Exception:  # nothing narrower is raised where Ray's own 30 s have passed
                raise
            fix = (
                "try again when less runs on this machine, or start one with `ray start --head` and give --cluster auto"
            )
            raise ValueError(f"{NOT_STARTED} ({error}): {fix}") from error
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        fix = "start one with `ray start --head`; if it is there, it may want its token: set RAY_AUTH_MODE=token"
        raise ValueError(f"no Ray cluster answers at {address!r} ({error}): {fix}") from error


def _gpus_each(ray: Any, count: int, wanted: int) -> int:
    """`wanted` where there are GPUs, else 0; a `ValueError` where there are too few of anything."""
    there = ray.cluster_resources()
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    if gpus and count * wanted > gpus:
        raise ValueError(
            f"{count} workers need {count * wanted} GPUs, there are {gpus}: at most --workers {gpus // wanted}"
        )
    if count > cpus:
        raise ValueError(f"{count} workers need a core each, there are {cpus}: at most --workers {cpus}")
    return wanted if gpus else 0


def _lost(sample: Sample, reason: str) -> Prediction:
    return Prediction(sample=sample.id, status="failed", error=f"{MAX_TRIES} workers died on it, the last: {reason}")


def _reason(error: Exception) -> str:
    """What ended a worker, in a line; an error of Ray's holds a whole traceback."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{cause}" if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
