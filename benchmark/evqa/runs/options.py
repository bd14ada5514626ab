"""Options of commands that predict: the selected samples, and the threads or workers that predict them.

A module of its own so that `evqa --help` imports little.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from evqa.runs.shards import Selection, Shard

if TYPE_CHECKING:
    from evqa.models import AgentConfig, Setting
    from evqa.runs.runner import Executor

    Overrides = Mapping[str, Setting]

Number = Annotated[int | None, arg(metavar="N")]


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """Samples to predict, and the threads or workers that predict them."""

    limit: Number = None
    """predict only the first N samples."""
    only: tuple[str, ...] = ()
    """predict only the samples with these ids."""
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """predict only share I (from 0) of N, into a folder of its own, for job arrays; `evqa merge` joins the shares."""
    workers: Number = None
    """number of worker processes, each with a model and a GPU of its own; without, one model in this process."""
    cluster: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """Ray cluster of the workers; without, RAY_ADDRESS, else this machine."""
    sample_timeout: Annotated[float | None, arg(metavar="SECONDS")] = None
    """with --workers: seconds for a sample, then its worker is killed and replaced; without, 1800; 0 = no limit."""
    concurrency: Number = None
    """samples at once to a model that supports it (API, batches); without, the number of its registry entry."""
    restart: bool = False
    """delete the run in the folder and start again."""

    def selection(self) -> Selection:
        """The selected samples."""
        shard = Shard.read(self.shard) if self.shard else None
        return Selection(only=self.only or None, shard=shard, limit=self.limit)

    @contextmanager
    def executor(
        self, model: str, overrides: Overrides, agents: Mapping[str, AgentConfig] | None = None
    ) -> Generator[Executor]:
        """Executor with the models of a run; `agents`: role -> a further model."""
        if self.workers is None:
            if self.cluster is not None:
                raise ValueError(f"--cluster {self.cluster} needs to know how many: give --workers N")
            if self.sample_timeout:
                raise ValueError("--sample-timeout ends a process that hangs, so it needs workers: give --workers 1")
            from evqa import models
            from evqa.runs import thread_executor

            yield thread_executor.ThreadExecutor(models.build_team(model, overrides, agents or {}), self.concurrency)
            return
        if self.concurrency is not None:
            raise ValueError(
                "--concurrency asks one model from many threads; with --workers each has a model: give one"
            )
        from evqa import models
        from evqa.runs import ray_executor

        for name in (model, *(agent.model for agent in (agents or {}).values())):
            if models.is_behind_api(name):
                raise ValueError(
                    f"{name} is computed by its server, so that a worker here has nothing to do, and the budget of a "
                    f"run holds for one process: leave --workers out, --concurrency N asks N questions at once"
                )
        config = ray_executor.WorkerConfig(model=model, overrides=overrides, agents=agents or {})
        timeout = ray_executor.SAMPLE_TIMEOUT if self.sample_timeout is None else self.sample_timeout
        with ray_executor.ray_executor(config, self.workers, address=self.cluster, timeout=timeout or None) as executor:
            yield executor
