"""Executor with worker processes on the GPUs of one machine or of a cluster (Ray); each worker loads the models.

A worker gets as many samples as its models process concurrently (one, or enough to fill their batches), and the next
one as soon as one is finished. A worker that dies (killed, out of memory, lost machine, GPU error) is replaced, and
each of its samples is retried once, alone, so that no sample fails because of another; a sample on which two workers
die is a failed record. A worker that exceeds the timeout of a sample is killed and replaced in the same way. Results
are sent to the driver, the only process that writes.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from evqa import models
from evqa.files import links, roots
from evqa.models import AgentConfig, Setting
from evqa.models.canary import Canary, check_images, use_transport
from evqa.runs import ray_cluster
from evqa.runs.runner import ModelInfo, Predictor
from evqa.schema import ImageCheck, ImageTransport, Prediction, Sample, Usage

SAMPLE_TIMEOUT = 1800.0
"""Default timeout of a sample in seconds, many times the usual duration."""

MAX_TRIES = 2
"""Number of workers that may die on a sample before it is marked as failed."""

MAX_DEATHS_IN_A_ROW = 4
"""Number of deaths per worker without a prediction in between that ends the run: the samples are not the cause."""


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Models of each worker and their settings."""

    model: str
    overrides: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    agents: Mapping[str, AgentConfig] = field(default_factory=dict[str, AgentConfig])
    """Role -> additional model."""

    def num_gpus(self) -> int:
        """Number of GPUs of one worker."""
        configs = [AgentConfig(self.model, self.overrides), *self.agents.values()]
        return max(_tensor_parallel(config) for config in configs)


def _tensor_parallel(config: AgentConfig) -> int:
    count = {**models.model_spec(config.model).arguments, **config.overrides}.get("tensor_parallel")
    return count if isinstance(count, int) else 1


class WorkerInfo(NamedTuple):
    """Properties of the models that a worker has loaded."""

    main: ModelInfo
    team: Mapping[str, ModelInfo]
    concurrency: int
    """Number of concurrent samples of a worker."""

    def settings(self) -> dict[str, object]:
        """Settings of all models, by role and name."""
        every = {"": self.main, **{f"{role}.": model for role, model in self.team.items()}}
        return {f"{role}{key}": value for role, model in every.items() for key, value in model.settings.items()}


class RayWorker:
    """Ray actor with the models, loaded once, and one thread per concurrent sample."""

    def __init__(self, folder: str, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, environment

    async def load(self, config: WorkerConfig) -> WorkerInfo:
        """Build the models in the working folder of the driver, so that relative paths are the same."""
        if not Path(self._folder).is_dir():
            raise ValueError(
                f"a worker on {os.uname().nodename} has no folder {self._folder}: the machines of a cluster "
                f"need the data, the weights and this folder under the same paths"
            )
        os.chdir(self._folder)
        roots.set_environment(self._environment)
        self._models = models.build_team(config.model, config.overrides, config.agents)
        self._threads = ThreadPoolExecutor(self._models.concurrency)
        main, team = self._models.main, self._models.team
        return WorkerInfo(
            main=ModelInfo(main.name, dict(main.settings)),
            team={role: ModelInfo(model.name, dict(model.settings)) for role, model in team.items()},
            concurrency=self._models.concurrency,
        )

    async def set_predictor(self, predictor: Predictor, transports: Mapping[str, ImageTransport]) -> None:
        """Set the predictor of the samples that follow, and the transports of images in tool results by role."""
        self._predictor = predictor
        for role, transport in transports.items():
            use_transport(self._models.by_role(role), transport)

    async def check_images(self, role: str, canary: Canary, recorded: ImageTransport | None) -> ImageCheck:
        """Choose the transport of images in tool results to the model of a role."""
        return check_images(self._models.by_role(role), role, canary, recorded)

    async def predict(self, sample: Sample) -> Prediction:
        """Predict a sample; an error of a model or file gives a failed prediction."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._predictor, self._models, sample)


@contextmanager
def ray_executor(
    config: WorkerConfig, count: int, *, address: str | None = None, timeout: float | None = SAMPLE_TIMEOUT
) -> Generator[RayExecutor]:
    """Context with an executor of `count` workers, at least one of which has loaded its models.

    Args:
        config: models of each worker.
        count: number of workers; each has its own GPUs if there are any (those of `CUDA_VISIBLE_DEVICES`).
        address: see `ray_cluster.ray_session`.
        timeout: timeout of a sample in seconds; None = no timeout. Loading the models has no timeout.
    """
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"the time-out of a sample is a number of seconds above 0, got {timeout}")
    if count < 1:
        raise ValueError(f"a run has at least 1 worker, got {count}")
    with ray_cluster.ray_session(count, address) as ray:
        workers = RayExecutor(ray, config, count, ray_cluster.gpus_per_worker(ray, count, config.num_gpus()), timeout)
        try:
            workers.wait_for_worker()
            yield workers
        finally:
            workers.shutdown()


class RayExecutor:
    """Executor (see `runner.Executor`) of Ray actors.

    A budget applies to one process, so models behind APIs have no workers (see `ExecutionOptions`).
    """

    def __init__(
        self, ray: Any, config: WorkerConfig, count: int, gpus: int, timeout: float | None = SAMPLE_TIMEOUT
    ) -> None:
        self._timeout = timeout
        self._ray, self._config, self._gpus = ray, config, gpus
        self._ready: WorkerInfo | None = None
        self._workers: list[_WorkerHandle] = []
        self._jobs: dict[Any, _Job] = {}
        self._transports: dict[str, ImageTransport] = {}
        """Of images in tool results, by role."""
        self._deaths = 0
        for _ in range(count):
            self._start_worker()

    @property
    def main(self) -> ModelInfo:
        """Main model, as reported by the first worker that was ready; all workers have equal models."""
        assert self._ready is not None, "no worker is ready"
        return self._ready.main

    @property
    def team(self) -> Mapping[str, ModelInfo]:
        """Role -> model, as reported by the same worker."""
        assert self._ready is not None, "no worker is ready"
        return self._ready.team

    @property
    def size(self) -> int:
        """Number of concurrent samples of all workers."""
        return len(self._workers) * (self._ready.concurrency if self._ready is not None else 1)

    def wait_for_worker(self) -> None:
        """Wait until a worker has loaded its models. `ValueError`: they cannot be built, or the workers die."""
        while self._ready is None:
            job, result = self._next_ended()
            if isinstance(result, Exception):
                self._replace_worker(job, result)
            else:
                self._handle_result(job, result)

    def predict(self, samples: Sequence[Sample], predictor: Predictor) -> Iterator[Prediction]:
        """Yield one prediction per sample, in order of completion; samples start in the given order."""
        queue, retries, tries = deque(samples), deque[Sample](), Counter[str]()
        reference = self._ray.put(predictor)
        while queue or retries or any(isinstance(job, _SampleJob) for job in self._jobs.values()):
            self._send_predictor(predictor, reference)
            self._submit(queue, retries, predictor)
            job, result = self._next_ended()
            if not isinstance(result, Exception):
                if (prediction := self._handle_result(job, result)) is not None:
                    yield prediction
                continue
            for sample in self._replace_worker(job, result):
                tries[sample.id] += 1
                if tries[sample.id] < MAX_TRIES:
                    retries.append(sample)
                else:
                    yield _lost_sample(sample, _reason(result))

    def check_images(self, role: str, canary: Canary, recorded: ImageTransport | None) -> ImageCheck:
        """Choose the transport of images in tool results to the model of a role, with one worker for all.

        `ValueError`: the worker died of it.
        """
        worker = next(worker for worker in self._workers if worker.ready is not None)
        try:
            check: ImageCheck = self._ray.get(worker.actor.check_images.remote(role, canary, recorded))
        except self._ray.exceptions.RayError as error:
            raise ValueError(f"the image check of {role} failed: {_reason(error)}") from error
        self._transports[role] = check.transport
        return check

    def add_earlier(self, usages: Iterable[Usage]) -> None:
        """Do nothing, since workers have no budget."""

    def shutdown(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers.clear()
        self._jobs.clear()

    def _start_worker(self) -> None:
        actor = (
            self._ray.remote(RayWorker)
            .options(num_cpus=1, num_gpus=self._gpus, max_restarts=0)
            .remote(str(Path.cwd()), {**roots.environment(), links.VARIABLE: os.environ.get(links.VARIABLE, "")})
        )
        self._workers.append(_WorkerHandle(actor))
        self._add_job(actor.load.remote(self._config), _LoadJob(self._workers[-1]))

    def _add_job(self, reference: Any, job: _Job) -> None:
        self._jobs[reference] = job
        job.worker.num_jobs += 1

    def _send_predictor(self, predictor: Predictor, reference: Any) -> None:
        """Send the predictor to idle workers without it; `reference`: the predictor in Ray's object store."""
        for worker in self._workers:
            if worker.ready is not None and worker.num_jobs == 0 and worker.predictor is not predictor:
                job = worker.actor.set_predictor.remote(reference, self._transports)
                self._add_job(job, _PredictorJob(worker, predictor))

    def _submit(self, queue: deque[Sample], retries: deque[Sample], predictor: Predictor) -> None:
        """Send samples to workers with capacity, and a sample on which a worker died to an idle worker."""
        while retries and (worker := self._least_loaded(predictor)) is not None and worker.num_jobs == 0:
            worker.is_alone = True
            self._submit_sample(worker, retries.popleft())
        while queue and (worker := self._least_loaded(predictor)) is not None:
            self._submit_sample(worker, queue.popleft())

    def _least_loaded(self, predictor: Predictor) -> _WorkerHandle | None:
        """Worker with the fewest samples among those that have the predictor and capacity."""
        free = [worker for worker in self._workers if worker.predictor is predictor and worker.takes_more()]
        return min(free, key=lambda worker: worker.num_jobs, default=None)

    def _submit_sample(self, worker: _WorkerHandle, sample: Sample) -> None:
        self._add_job(worker.actor.predict.remote(sample), _SampleJob(worker, sample))

    def _next_ended(self) -> tuple[_Job, object]:
        """Wait for the next job to end; returns its result or error. A timeout is an error."""
        while not (ended := self._ray.wait(list(self._jobs), num_returns=1, timeout=self._seconds_left())[0]):
            if (late := self._late_job()) is not None:
                job = self._jobs.pop(late)
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
        """Seconds until the next sample exceeds the timeout; None = no timeout, or no sample in progress."""
        starts = [job.started for job in self._jobs.values() if isinstance(job, _SampleJob)]
        if self._timeout is None or not starts:
            return None
        return max(0.0, min(starts) + self._timeout - time.monotonic())

    def _late_job(self) -> Any:
        """Reference of a sample that has exceeded the timeout; None = no such sample."""
        latest_start = time.monotonic() - (self._timeout or math.inf)
        jobs = self._jobs.items()
        late = (key for key, job in jobs if isinstance(job, _SampleJob) and job.started <= latest_start)
        return next(late, None)

    def _handle_result(self, job: _Job, result: object) -> Prediction | None:
        """Handle a job without an error; returns the prediction of a sample, None for other jobs."""
        worker = job.worker
        if isinstance(result, Prediction):
            self._deaths = 0
            worker.is_alone = False
            return result
        if isinstance(result, WorkerInfo):
            self._check_same_models(result)
            worker.ready = result
        elif isinstance(job, _PredictorJob):
            worker.predictor = job.predictor
        return None

    def _check_same_models(self, ready: WorkerInfo) -> None:
        self._ready = self._ready or ready
        first, current = self._ready.settings(), ready.settings()
        if changed := [key for key in {**first, **current} if first.get(key) != current.get(key)]:
            raise ValueError(
                f"the workers do not have the same models: {', '.join(changed)} differ; the machines of a cluster need "
                f"the same weights and GPUs of one kind"
            )

    def _replace_worker(self, job: _Job, error: Exception) -> list[Sample]:
        """Replace the worker whose job ended with an error; returns its samples."""
        if not isinstance(job, _SampleJob) and isinstance(error, ValueError):
            raise ValueError(_reason(error)) from error  # noqa: TRY004  (an error of the user)
        self._deaths += 1
        if self._deaths >= MAX_DEATHS_IN_A_ROW * len(self._workers):
            raise ValueError(
                f"{self._deaths} workers in a row died without a prediction; what is written is safe. "
                f"The last one died of: {_reason(error)}"
            )
        lost = [job, *(entry for entry in self._jobs.values() if entry.worker is job.worker)]
        self._jobs = {key: entry for key, entry in self._jobs.items() if entry.worker is not job.worker}
        self._ray.kill(job.worker.actor)
        self._workers.remove(job.worker)
        self._start_worker()
        return [entry.sample for entry in lost if isinstance(entry, _SampleJob)]


@dataclass(eq=False)
class _WorkerHandle:
    actor: Any
    ready: WorkerInfo | None = None
    """Properties of its models; None = still loading."""
    predictor: Predictor | None = None
    """Predictor that it received last."""
    num_jobs: int = 0
    """Number of jobs in progress."""
    is_alone: bool = False
    """Whether it retries a sample, which has to be its only one."""

    def takes_more(self) -> bool:
        """Whether it has capacity for one more sample."""
        return self.ready is not None and not self.is_alone and self.num_jobs < self.ready.concurrency


@dataclass(frozen=True)
class _LoadJob:
    """Job: a worker loads its models."""

    worker: _WorkerHandle


@dataclass(frozen=True)
class _PredictorJob:
    """Job: a worker receives a predictor."""

    worker: _WorkerHandle
    predictor: Predictor


@dataclass(frozen=True)
class _SampleJob:
    """Job: a worker predicts a sample."""

    worker: _WorkerHandle
    sample: Sample
    started: float = field(default_factory=time.monotonic)
    """Start time (`time.monotonic`)."""


_Job = _LoadJob | _PredictorJob | _SampleJob


def _lost_sample(sample: Sample, reason: str) -> Prediction:
    return Prediction(sample_id=sample.id, status="failed", error=f"{MAX_TRIES} workers died on it, the last: {reason}")


def _reason(error: Exception) -> str:
    """One-line reason of the end of a worker; errors of Ray contain a whole traceback."""
    if isinstance(error, TimeoutError):
        return str(error)
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{cause}" if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
