"""Workers in processes of their own, on the GPUs of one machine or of a cluster (Ray): one model each.

A worker has as many samples at a time as its model takes at once (one, or what fills its batches), and gets the
next one as soon as one is done. A worker that dies (killed, out of memory, a machine lost, an error of the GPU) is
replaced, and each sample that it had is tried once more, alone, so that no sample fails for another's sake; one on
which two workers die is a failed record. A worker that gives no prediction within the time-out of a sample hangs: it is
killed, and replaced in the same way. All that a worker does goes back to the driver, which alone writes.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from evqa import models
from evqa.files import links, roots
from evqa.models import Setting
from evqa.models.api.budget import Prices
from evqa.runs import ray_cluster
from evqa.runs.runner import Predictor
from evqa.schema import Prediction, Sample

Settings = Mapping[str, str | int | float | bool | None]

SAMPLE_TIMEOUT = 1800.0
"""Seconds that a worker has for a sample before it counts as dead: half an hour, many times what one takes."""

MAX_TRIES = 2
"""Workers that a sample may cost."""

MAX_DEATHS_IN_A_ROW = 4
"""With no prediction in between, and for each worker: then it is not the samples that are at fault."""


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker needs to be one."""

    model: str
    overrides: Mapping[str, Setting] = field(default_factory=dict[str, Setting])

    def num_gpus(self) -> int:
        """GPUs that hold one copy of the model."""
        count = {**models.model_spec(self.model).arguments, **self.overrides}.get("tensor_parallel")
        return count if isinstance(count, int) else 1


class WorkerInfo(NamedTuple):
    """What a worker reports once it has its model."""

    settings: Settings
    at_once: int
    """Samples that it takes at a time."""


class RayWorker:
    """Becomes a Ray actor: a model, loaded once, and threads that ask it, as many as it has use for."""

    def __init__(self, folder: str, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, environment

    async def load(self, recipe: WorkerConfig) -> WorkerInfo:
        """Build the model where the driver stands, so that paths mean the same."""
        if not Path(self._folder).is_dir():
            raise ValueError(
                f"a worker on {os.uname().nodename} has no folder {self._folder}: the machines of a cluster "
                f"need the data, the weights and this folder under the same paths"
            )
        os.chdir(self._folder)
        roots.set_environment(self._environment)
        self._model = models.build(recipe.model, **recipe.overrides)
        concurrency = self._model.capabilities.concurrency
        self._threads = ThreadPoolExecutor(concurrency)
        return WorkerInfo(dict(self._model.settings), concurrency)

    async def learn(self, work: Predictor) -> None:
        """What to do with the samples that come now."""
        self._work = work

    async def predict(self, sample: Sample) -> Prediction:
        """The method's prediction; a failure of the model or of a file is a failed one."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._work, self._model, sample)


@contextmanager
def ray_executor(
    recipe: WorkerConfig, count: int, *, address: str | None = None, timeout: float | None = SAMPLE_TIMEOUT
) -> Generator[RayExecutor]:
    """`count` workers, at least one of which has its model; they are dismissed at the end.

    Args:
        recipe: what they do.
        count: of workers; each has a GPU of its own where there are any (`CUDA_VISIBLE_DEVICES` holds).
        address: see `cluster.ray_session`.
        timeout: seconds that a worker has for a sample; None = any time. Loading the model has no time-out.
    """
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"the time-out of a sample is a number of seconds above 0, got {timeout}")
    if count < 1:
        raise ValueError(f"a run has at least 1 worker, got {count}")
    with ray_cluster.ray_session(count, address) as ray:
        workers = RayExecutor(ray, recipe, count, ray_cluster.gpus_per_worker(ray, count, recipe.num_gpus()), timeout)
        try:
            workers.wait_for_worker()
            yield workers
        finally:
            workers.shutdown()


class RayExecutor:
    """A crew (see `runner.Executor`) of Ray actors."""

    prices: Prices | None = None
    """A budget holds for one process, so that models which are paid for have no workers (see `ExecutionOptions`)."""

    def __init__(
        self, ray: Any, recipe: WorkerConfig, count: int, gpus: int, timeout: float | None = SAMPLE_TIMEOUT
    ) -> None:
        self.name = recipe.model
        self._timeout = timeout
        self._ray, self._recipe, self._gpus = ray, recipe, gpus
        self._ready: WorkerInfo | None = None
        self._hired: list[_WorkerHandle] = []
        self._jobs: dict[Any, _WorkerJob] = {}
        self._deaths = 0
        for _ in range(count):
            self._start_worker()

    @property
    def settings(self) -> Settings:
        """The model's, as the first worker that was ready reports them; those of all others are equal."""
        assert self._ready is not None, "no worker is ready"
        return self._ready.settings

    @property
    def size(self) -> int:
        """Samples that all of them take at a time."""
        return len(self._hired) * (self._ready.at_once if self._ready is not None else 1)

    def wait_for_worker(self) -> None:
        """Until a worker has its model. `ValueError`: it cannot be built, or workers die of it."""
        while self._ready is None:
            job, result = self._ended()
            if isinstance(result, Exception):
                self._replace_worker(job, result)
            else:
                self._handle_result(job, result)

    def predict(self, samples: Sequence[Sample], work: Predictor) -> Iterator[Prediction]:
        """One prediction a sample, as they come; samples are begun in the order given."""
        queue, again, tries = deque(samples), deque[Sample](), Counter[str]()
        sent = self._ray.put(work)
        while queue or again or any(job.sample is not None for job in self._jobs.values()):
            self._send_predictor(work, sent)
            self._submit(queue, again, work)
            job, result = self._ended()
            if not isinstance(result, Exception):
                if (prediction := self._handle_result(job, result)) is not None:
                    yield prediction
                continue
            for sample in self._replace_worker(job, result):
                tries[sample.id] += 1
                if tries[sample.id] < MAX_TRIES:
                    again.append(sample)
                else:
                    yield _lost_sample(sample, _reason(result))

    def shutdown(self) -> None:
        """End all of them, whatever they do."""
        for one in self._hired:
            self._ray.kill(one.actor)
        self._hired.clear()
        self._jobs.clear()

    def _start_worker(self) -> None:
        actor = (
            self._ray.remote(RayWorker)
            .options(num_cpus=1, num_gpus=self._gpus, max_restarts=0)
            .remote(str(Path.cwd()), {**roots.environment(), links.VARIABLE: os.environ.get(links.VARIABLE, "")})
        )
        self._hired.append(_WorkerHandle(actor))
        self._add_ready_worker(actor.load.remote(self._recipe), _WorkerJob(self._hired[-1]))

    def _add_ready_worker(self, reference: Any, job: _WorkerJob) -> None:
        self._jobs[reference] = job
        job.worker.num_jobs += 1

    def _send_predictor(self, work: Predictor, sent: Any) -> None:
        """Workers that have nothing to do learn the work that they do not know (`sent`: its reference)."""
        for one in self._hired:
            if one.ready is not None and one.num_jobs == 0 and one.work is not work:
                self._add_ready_worker(one.actor.learn.remote(sent), _WorkerJob(one, work=work))

    def _submit(self, queue: deque[Sample], again: deque[Sample], work: Predictor) -> None:
        """Samples to workers that have room; one that cost a worker already to a worker that has nothing else."""
        while again and (one := self._least_loaded(work)) is not None and one.num_jobs == 0:
            one.is_alone = True
            self._submit_sample(one, again.popleft())
        while queue and (one := self._least_loaded(work)) is not None:
            self._submit_sample(one, queue.popleft())

    def _least_loaded(self, work: Predictor) -> _WorkerHandle | None:
        """The worker with the fewest samples of those that know the work and take one more."""
        free = [one for one in self._hired if one.work is work and one.takes_more()]
        return min(free, key=lambda one: one.num_jobs, default=None)

    def _submit_sample(self, one: _WorkerHandle, sample: Sample) -> None:
        self._add_ready_worker(one.actor.predict.remote(sample), _WorkerJob(one, sample=sample))

    def _ended(self) -> tuple[_WorkerJob, object]:
        """A job that has ended, with what it gave, or the error that ended it; one that takes too long has ended."""
        while not (ended := self._ray.wait(list(self._jobs), num_returns=1, timeout=self._seconds_left())[0]):
            if (hanging := self._hanging()) is not None:
                job = self._jobs.pop(hanging)
                job.worker.num_jobs -= 1
                return job, TimeoutError(f"no prediction within {self._timeout:g} s (--sample-timeout)")
        (reference,) = ended
        job = self._jobs.pop(reference)
        job.worker.num_jobs -= 1
        try:
            return job, self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return job, error

    def _seconds_left(self) -> float | None:
        """Seconds until the next sample takes too long; None = none can."""
        if self._timeout is None:
            return None
        begun = [job.begun for job in self._jobs.values() if job.sample is not None]
        return max(0.0, min(begun) + self._timeout - time.monotonic()) if begun else None

    def _hanging(self) -> Any:
        """The reference of a sample that has taken too long; None = there is none."""
        now, timeout = time.monotonic(), self._timeout or math.inf
        late = (key for key, job in self._jobs.items() if job.sample is not None and now - job.begun >= timeout)
        return next(late, None)

    def _handle_result(self, job: _WorkerJob, result: object) -> Prediction | None:
        """The prediction of a job that went well, if it was for one."""
        one = job.worker
        if isinstance(result, Prediction):
            self._deaths, one.is_alone = 0, False
            return result
        if isinstance(result, WorkerInfo):
            self._check_same_model(result)
            one.ready = result
        else:
            one.work = job.work
        return None

    def _check_same_model(self, ready: WorkerInfo) -> None:
        first = self._ready = self._ready or ready
        keys = {**first.settings, **ready.settings}
        if changed := [key for key in keys if first.settings.get(key) != ready.settings.get(key)]:
            raise ValueError(
                f"the workers do not have the same model: {', '.join(changed)} differ; the machines of a cluster need "
                f"the same weights and GPUs of one kind"
            )

    def _replace_worker(self, job: _WorkerJob, error: Exception) -> list[Sample]:
        """Replace the worker whose job ended with an error; the samples that it had."""
        if job.sample is None and isinstance(error, ValueError):
            raise ValueError(_reason(error)) from error
        self._deaths += 1
        if self._deaths >= MAX_DEATHS_IN_A_ROW * len(self._hired):
            raise ValueError(
                f"{self._deaths} workers in a row died without a prediction; what is written is safe. "
                f"The last one died of: {_reason(error)}"
            )
        lost = [job, *(other for other in self._jobs.values() if other.worker is job.worker)]
        self._jobs = {reference: other for reference, other in self._jobs.items() if other.worker is not job.worker}
        self._ray.kill(job.worker.actor)
        self._hired.remove(job.worker)
        self._start_worker()
        return [one.sample for one in lost if one.sample is not None]


@dataclass(eq=False)
class _WorkerHandle:
    actor: Any
    ready: WorkerInfo | None = None
    """None = it has no model yet."""
    work: Predictor | None = None
    """What it has learnt to do."""
    num_jobs: int = 0
    """That it is at."""
    is_alone: bool = False
    """Whether its sample is to have no company."""

    def takes_more(self) -> bool:
        """Whether it has room for one more sample."""
        return self.ready is not None and not self.is_alone and self.num_jobs < self.ready.at_once


@dataclass(frozen=True)
class _WorkerJob:
    """To predict a sample, or to learn a work, or else to load the model."""

    worker: _WorkerHandle
    sample: Sample | None = None
    work: Predictor | None = None
    begun: float = field(default_factory=time.monotonic)
    """When it was handed over, by `time.monotonic`."""


def _lost_sample(sample: Sample, reason: str) -> Prediction:
    return Prediction(sample_id=sample.id, status="failed", error=f"{MAX_TRIES} workers died on it, the last: {reason}")


def _reason(error: Exception) -> str:
    """What ended a worker, in a line; an error of Ray's holds a whole traceback."""
    if isinstance(error, TimeoutError):
        return str(error)
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{cause}" if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
