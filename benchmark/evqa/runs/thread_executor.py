"""Several samples at once in one process: threads ask, one driver takes what they bring and writes it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from evqa.models.api.budget import priced_model
from evqa.models.base import Model, RunAborted
from evqa.runs.interrupts import ASKING, graceful_interrupt
from evqa.runs.runner import Predictor
from evqa.schema import Prediction, Sample, Usage


class ThreadExecutor:
    """A crew (see `runner.Executor`) of threads that ask one model."""

    def __init__(self, model: Model, wanted: int | None = None) -> None:
        """`wanted`: how many; None = as many as the model has use for.

        `ValueError`: the model answers one question at a time, and more threads are wanted.
        """
        if wanted is not None and wanted < 1:
            raise ValueError(f"concurrency is a number of questions at once, at least 1, got {wanted}")
        if wanted is not None and wanted > 1 and not model.capabilities.is_concurrent:
            raise ValueError(f"model {model.name!r} answers one question at a time: leave --concurrency {wanted} out")
        self.name, self.settings = model.name, model.settings
        self.size = wanted or model.capabilities.concurrency
        self._model, self._priced = model, priced_model(model)
        self.prices = self._priced.prices if self._priced is not None else None

    def predict(self, samples: Sequence[Sample], work: Predictor) -> Iterator[Prediction]:
        """One prediction a sample, as they come; with one thread in the order of the samples.

        `RunAborted` of the model ends it: no new sample is begun, those under way are waited for and given first. So
        does an interrupt (Ctrl-C) where a model is paid for; the second one waits for nothing.
        """
        queued = _Queue(samples)
        with graceful_interrupt(queued.stop) if self._priced is not None else nullcontext():
            yield from self._predict(queued, work, min(self.size, len(samples)))

    def _predict(self, queued: _Queue, work: Predictor, size: int) -> Iterator[Prediction]:
        if size <= 1:
            yield from _one_by_one(work, self._model, iter(queued.next, None))
            return
        results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        asked = (work, self._model, queued, results)
        for number in range(size):
            threading.Thread(target=_predict_until_stopped, args=asked, name=f"{ASKING} {number}", daemon=True).start()
        try:
            yield from _gather(results, queued, size)
        finally:
            queued.stop()

    def carry_over(self, earlier: Iterable[Usage]) -> None:
        """Tell a model that is paid for what the run has cost so far."""
        if self._priced is not None:
            self._priced.budget.add_earlier(earlier)


@dataclass(frozen=True)
class _Result:
    """What a thread brings: a prediction, where there is one; at its end, what ended it (None = no more samples)."""

    prediction: Prediction | None = None
    is_end: bool = False
    error: BaseException | None = None


class _Queue:
    """The samples, handed to whichever thread asks next."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = iter(samples)
        self._lock = threading.Lock()
        self._stopped = False

    def next(self) -> Sample | None:
        with self._lock:
            return None if self._stopped else next(self._samples, None)

    def stop(self) -> None:
        self._stopped = True  # without the lock: a signal may come while this very thread holds it


def _one_by_one(work: Predictor, model: Model, samples: Iterable[Sample]) -> Iterator[Prediction]:
    """The predictions; where the model stops the run, what was begun comes before its error."""
    for sample in samples:
        try:
            prediction = work(model, sample)
        except RunAborted as stop:
            if stop.prediction is not None:
                yield stop.prediction
            raise
        yield prediction


def _predict_until_stopped(work: Predictor, model: Model, queued: _Queue, results: queue.SimpleQueue[_Result]) -> None:
    """One thread. Whatever ends it is brought to the driver, which raises it."""
    try:
        for prediction in _one_by_one(work, model, iter(queued.next, None)):
            results.put(_Result(prediction))
    except BaseException as error:  # noqa: BLE001  (raised again by the driver)
        queued.stop()
        results.put(_Result(error=error, is_end=True))
    else:
        results.put(_Result(is_end=True))


def _gather(results: queue.SimpleQueue[_Result], queued: _Queue, threads: int) -> Iterator[Prediction]:
    error: BaseException | None = None
    while threads:
        result = results.get()
        if result.prediction is not None:
            yield result.prediction
        threads -= result.is_end
        if result.error is not None:
            error = error if isinstance(error, RunAborted) and isinstance(result.error, RunAborted) else result.error
            if not isinstance(error, RunAborted):
                queued.stop()
                raise error
    if error is not None:
        raise error
