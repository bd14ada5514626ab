"""Dynamic batching over threads: items requested at about the same time are computed in one forward pass.

There is no worker thread: a thread that requests an item while none is being computed computes all waiting items. A
single request thus runs in the requesting thread, where interrupts, debuggers and profilers work as usual.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

from evqa.models.base import ModelError, RequestTooLarge

Item = TypeVar("Item")
Result = TypeVar("Result")

LINGER = 0.02
"""Seconds that an incomplete batch waits for a thread that prepares an item."""


class Batcher(Generic[Item, Result]):
    """Passes items to `compute` in batches of at most `size`, in order.

    A batch that fails is computed again in halves, so that an invalid item or a lack of memory fails no other item.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Result]],
        size: int,
        record: Callable[[Result, tuple[str, ...]], Result] = lambda result, _: result,
    ) -> None:
        """Make a batcher.

        Args:
            compute: computes the results of a batch.
            size: most items of a batch.
            record: records in a result the steps in which its batch was halved for want of memory.
        """
        if size < 1:
            raise ValueError(f"batch_size is a number of questions, at least 1, got {size}")
        self._compute, self._size, self._record = compute, size, record
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()
        self._preparing = 0
        self._is_computing = False

    @contextmanager
    def preparing(self) -> Generator[None]:
        """Context of a thread that prepares an item (decodes a video); an incomplete batch waits for it."""
        with self._changed:
            self._preparing += 1
        try:
            yield
        finally:
            with self._changed:
                self._preparing -= 1
                self._changed.notify_all()

    def result(self, item: Item) -> Result:
        """Result of `compute` for an item. Raises the errors of `compute`."""
        future: Future[Result] = Future()
        with self._changed:
            self._waiting.append((item, future))
            self._changed.notify_all()
        while self._is_my_turn(future):
            try:
                self._release_waiters(self._next())
            finally:
                with self._changed:
                    self._is_computing = False
                    self._changed.notify_all()
        return future.result()

    def _is_my_turn(self, future: Future[Result]) -> bool:
        """Wait until no thread computes (True: the caller computes) or until the caller's item has been computed."""
        with self._changed:
            self._changed.wait_for(lambda: future.done() or not self._is_computing)
            if future.done():
                return False
            self._is_computing = True
            return True

    def _release_waiters(self, batch: Sequence[tuple[Item, Future[Result]]], steps: tuple[str, ...] = ()) -> None:
        error = self._settle(batch, steps)
        if error is None:
            return
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            step = (f"batch {len(batch)} to {len(part)}",) if isinstance(error, RequestTooLarge) else ()
            self._release_waiters(part, (*steps, *step))

    def _settle(
        self, batch: Sequence[tuple[Item, Future[Result]]], steps: tuple[str, ...]
    ) -> ModelError | ValueError | None:
        """Compute a batch; returns its error if it failed and its halves may succeed."""
        try:
            results = list(zip(batch, self._compute([item for item, _ in batch]), strict=True))
        except BaseException as error:  # noqa: BLE001  (raised again by the threads that asked)
            if len(batch) > 1 and isinstance(error, ModelError | ValueError):
                return error
            if isinstance(error, RequestTooLarge):
                error.steps = steps
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), result in results:
                future.set_result(self._record(result, steps) if steps else result)
        return None

    def _next(self) -> list[tuple[Item, Future[Result]]]:
        """Next batch; not empty, since the caller's item is waiting."""
        with self._changed:
            self._changed.wait_for(self._is_full, LINGER)
            self._changed.wait_for(lambda: self._is_full() or not self._preparing)
            return [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._size
