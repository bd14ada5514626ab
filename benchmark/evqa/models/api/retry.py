"""Retries of temporary errors: bounded, after the wait that the server requests, with seeded jitter."""

from __future__ import annotations

import datetime
import email.utils
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from evqa.models.base import ModelError, RunAborted

Result = TypeVar("Result")

LOG = logging.getLogger(__name__)

LONG_WAIT = 10.0
"""Seconds: a longer wait of all threads is logged."""

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP answers that may be otherwise the next time; 529 is "overloaded" with some providers."""

FAR_FUTURE = 366 * 86400.0
"""Seconds: a date further away is not told."""


class TemporaryError(Exception):
    """A request that failed and may succeed when it is sent again."""

    def __init__(
        self,
        reason: str,
        after: float | None = None,
        *,
        tokens: tuple[int | None, int | None] | None = None,
        may_be_charged: bool = False,
        is_shared: bool = False,
        is_once: bool = False,
    ) -> None:
        super().__init__(reason)
        self.after = after
        """Seconds that the server asks to wait, where it does."""
        self.tokens = tokens
        """(in, out) of a reply that came and is of no use; None = no reply came."""
        self.may_be_charged = may_be_charged
        """Whether a request without a reply may have been charged."""
        self.is_shared = is_shared
        """Whether the server is overloaded or limits the rate, so that no other request should be sent either."""
        self.is_once = is_once
        """Whether it is tried again once only: the same would come again."""
        self.partial = ""
        """Text of a reply that broke off."""
        self.is_refused_request = False
        """See `ModelError`."""
        self.is_unanswered = False
        """See `ModelError`."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how late."""

    tries: int = 6
    """Requests in all, the first one included."""
    first_wait: float = 1.0
    """Seconds; doubled with each try."""
    longest_wait: float = 60.0
    """Seconds between two tries where the server does not ask for more."""
    longest_asked: float = 600.0
    """Seconds that the server may ask to wait; more ends the run."""

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries is a number of requests, at least 1, got {self.tries}")


class Backoff:
    """When requests may be sent again: one object for all threads that ask a server."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._until = float("-inf")

    def hold(self, seconds: float) -> None:
        """Let no request be sent before so many seconds have passed."""
        with self._lock:
            self._until = max(self._until, self._clock() + seconds)

    def wait(self, spread: float = 0.0) -> None:
        """Wait until requests may be sent; `spread`: share of the wait that is added, so that threads part."""
        started = self._clock()
        while (left := self._left()) > 0:
            self._sleep(left)
        if (waited := self._clock() - started) > 0 and spread > 0 and self._until >= started:
            self._sleep(waited * spread)

    def sleep(self, seconds: float) -> None:
        """Wait for one request alone."""
        self._sleep(seconds)

    def _left(self) -> float:
        with self._lock:
            return self._until - self._clock()


def call(
    request: Callable[[], Result], policy: RetryPolicy, *, seed: str, backoff: Backoff | None = None
) -> tuple[Result, int]:
    """The result of `request`, and how many tries it took.

    `seed` decides the jitter (half of each wait), so that a run can be repeated. `ModelError`: the tries are
    used up. `RunAborted`: the server asks to wait longer than the policy does.
    """
    jitter, backoff = random.Random(seed), backoff or Backoff()
    repeats = 0
    for number in range(1, policy.tries + 1):
        backoff.wait(0.1 * jitter.random())
        try:
            return request(), number
        except TemporaryError as error:
            failure = error
        repeats += failure.is_once
        if failure.after is not None and failure.after > policy.longest_asked:
            raise RunAborted(f"{failure}; the server asks to wait {_until(failure.after)}")
        if number == policy.tries or repeats > 1:
            raise _given_up(failure, number)
        wait = min(policy.longest_wait, policy.first_wait * 2 ** (number - 1)) * jitter.uniform(0.5, 1.0)
        wait = max(failure.after or 0.0, wait)
        if failure.is_shared:
            if wait > LONG_WAIT:
                LOG.warning("all requests wait %.0f s: %s", wait, failure)
            backoff.hold(wait)
        else:
            backoff.sleep(wait)
    raise AssertionError("the last try returns or raises")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait; None = it does not ask.

    `Retry-After` is in seconds or a date (RFC 9110, section 10.2.3); `retry-after-ms` is OpenAI's.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _given_up(failure: TemporaryError, tries: int) -> ModelError:
    error = ModelError(f"{failure}; gave up after {tries} tries" if tries > 1 else f"{failure}; asked once")
    error.partial, error.is_refused_request = failure.partial, failure.is_refused_request
    error.is_unanswered = failure.is_unanswered
    return error


def _until(seconds: float) -> str:
    """A wait in words, with the time at which it ends."""
    hours, minutes = divmod(round(seconds / 60), 60)
    duration = f"{seconds:.0f} s ({hours} h {minutes} min)"
    if seconds > FAR_FUTURE:
        return f"{duration}: ask another server"
    end = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=seconds)
    return f"{duration}: run the same command again after {end:%Y-%m-%d %H:%M %Z}"
