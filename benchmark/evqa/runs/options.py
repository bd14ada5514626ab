"""Which samples a command predicts, and who predicts them: options that several commands have.

Kept apart so that `evqa --help` imports little.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from evqa.runs.shards import Selection, Shard

if TYPE_CHECKING:
    from evqa.models import Setting
    from evqa.runs.runner import Executor

    Overrides = Mapping[str, Setting]

Number = Annotated[int | None, arg(metavar="N")]


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """Which samples, and who predicts them."""

    limit: Number = None
    """only the first so many samples."""
    only: tuple[str, ...] = ()
    """only the samples with these ids."""
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """only share I (from 0) of N, into a folder of its own: for job arrays; `evqa merge` joins the shares."""
    workers: Number = None
    """so many copies of the model, each in a process and on a GPU of its own; not given: one, in this process."""
    cluster: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """the Ray cluster that the workers are in; RAY_ADDRESS where none is given, else this machine."""
    sample_timeout: Annotated[float | None, arg(metavar="SECONDS")] = None
    """with --workers: seconds for a sample, then its worker is killed and replaced; 1800 where it is not given, 0: no
    limit."""
    concurrency: Number = None
    """questions at once to one model that can (an API, batches); as many as its row says where it is not given."""
    restart: bool = False
    """delete what the folder holds, of another run or of this one, and begin anew."""

    def selection(self) -> Selection:
        """Which samples."""
        shard = Shard.read(self.shard) if self.shard else None
        return Selection(only=self.only or None, shard=shard, limit=self.limit)

    @contextmanager
    def executor(self, model: str, overrides: Overrides) -> Generator[Executor]:
        """Who predicts."""
        if self.workers is None:
            if self.cluster is not None:
                raise ValueError(f"--cluster {self.cluster} needs to know how many: give --workers N")
            if self.sample_timeout:
                raise ValueError("--sample-timeout ends a process that hangs, so it needs workers: give --workers 1")
            from evqa import models
            from evqa.runs import thread_executor

            yield thread_executor.ThreadExecutor(models.build(model, **overrides), self.concurrency)
            return
        if self.concurrency is not None:
            raise ValueError(
                "--concurrency asks one model from many threads; with --workers each has a model: give one"
            )
        from evqa import models
        from evqa.runs import ray_executor

        if models.is_behind_api(model):
            raise ValueError(
                f"{model} is computed by its server, so that a worker here has nothing to do, and the budget of a run "
                f"holds for one process: leave --workers out, --concurrency N asks N questions at once"
            )
        recipe = ray_executor.WorkerConfig(model=model, overrides=overrides)
        given = ray_executor.SAMPLE_TIMEOUT if self.sample_timeout is None else self.sample_timeout
        with ray_executor.ray_executor(recipe, self.workers, address=self.cluster, timeout=given or None) as crew:
            yield crew
