"""Trying again what a provider calls temporary: bounded, as late as it asks, with a jitter that a seed decides."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from evqa.models.base import ModelError

Result = TypeVar("Result")

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP answers that may be otherwise the next time; 529 is "overloaded" with some providers."""


class TemporaryError(Exception):
    """A request that failed and may succeed when it is sent again."""

    def __init__(
        self, reason: str, after: float | None = None, *, tokens: tuple[int | None, int | None] | None = None
    ) -> None:
        super().__init__(reason)
        self.after = after
        """Seconds that the server asks to wait, where it does."""
        self.tokens = tokens
        """(in, out) of a reply that came, is charged, and says nothing; None = no reply came."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how late."""

    tries: int = 6
    """Requests in all, the first one included."""
    first_wait: float = 1.0
    """Seconds; doubled with each try."""
    longest_wait: float = 60.0
    """Seconds between two tries; a server that asks for more ends the tries."""

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries is a number of requests, at least 1, got {self.tries}")


def call(
    request: Callable[[], Result],
    policy: RetryPolicy,
    *,
    seed: str,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Result, int]:
    """The result of `request`, and how many tries it took.

    `seed` decides the jitter (half of each wait), so that a run can be repeated. `ModelError`: the tries are
    used up, or the server asks to wait longer than the policy does.
    """
    jitter = random.Random(seed)
    reason, after = "no request was sent", None
    for number in range(1, policy.tries + 1):
        try:
            return request(), number
        except TemporaryError as error:
            reason, after = str(error), error.after
        if number == policy.tries:
            break
        if after is not None and after > policy.longest_wait:
            raise ModelError(f"{reason}; the server asks to wait {after:.0f} s, at most {policy.longest_wait:.0f} s is")
        backoff = min(policy.longest_wait, policy.first_wait * 2 ** (number - 1))
        sleep(max(after or 0.0, backoff * jitter.uniform(0.5, 1.0)))
    raise ModelError(f"{reason}; gave up after {policy.tries} tries")


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
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())
