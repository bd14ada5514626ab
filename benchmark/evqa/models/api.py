"""What every model behind an API does: wait for the budget, ask, try again, count what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from evqa.models import retry
from evqa.models.base import Message, ModelError, ModelStop, Reply
from evqa.models.budget import Budget, Prices
from evqa.models.keys import Key
from evqa.models.retry import RetryPolicy, TemporaryError
from evqa.schema import Usage

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class Calling:
    """Settings of every model behind an API that decide when and at which price a reply comes, and never which."""

    timeout: float = 180.0
    """Seconds for one request."""
    tries: int = 6
    """Requests for one reply, at most."""
    first_wait: float = 1.0
    """Seconds before the second of them."""
    concurrency: int = 8
    """Requests at once."""
    rpm: float | None = None
    """Requests a minute, at most."""
    max_cost: float | None = None
    """US dollars for the run, at most."""
    max_total_tokens: int | None = None
    """Tokens for the run, at most."""
    price_in: float | None = None
    """US dollars a million tokens of prompt; None = not known."""
    price_out: float | None = None
    """US dollars a million tokens of reply, with the reasoning before it; None = not known."""
    price_source: str | None = None
    """Where the prices were read, and when."""
    largest_prompt: int | None = None
    """Tokens of a prompt up to which the prices hold."""


class Answer(NamedTuple):
    """One answer of a server, understood."""

    reply: Reply
    """Without usage."""
    input_tokens: int | None
    output_tokens: int | None
    served: str | None = None


class Caller:
    """Sends requests within a budget, and again where that may help."""

    def __init__(self, calling: Calling, key: Key) -> None:
        self.prices = prices = Prices(
            price_in=calling.price_in,
            price_out=calling.price_out,
            source=calling.price_source,
            largest_prompt=calling.largest_prompt,
        )
        self.budget = Budget(max_cost=calling.max_cost, max_total_tokens=calling.max_total_tokens, rpm=calling.rpm)
        self.retries = RetryPolicy(tries=calling.tries, first_wait=calling.first_wait)
        for flag, price in (("--price-in", prices.price_in), ("--price-out", prices.price_out)):
            if price is not None and not 0 <= price < float("inf"):
                raise ValueError(f"{flag} is in US dollars a million tokens, at least 0, got {price}")
        if calling.max_cost is not None and (prices.price_in is None or prices.price_out is None):
            raise ValueError(
                "--max-cost needs the prices of the model, and its row has none: give --price-in and "
                "--price-out in US dollars a million tokens"
            )
        self._key = key

    def reply(self, messages: Sequence[Message], request: Callable[[], Answer]) -> Reply:
        """The reply to a conversation, with what it took; the key is hidden in its text.

        What empty replies before it took is part of that; where none says anything, it is in the error's `usage`.
        """
        started = time.perf_counter()
        paid: list[Usage] = []
        try:
            answer, tries = retry.call(lambda: self._attempt(request, paid), self.retries, seed=_seed(messages))
        except (ModelError, ModelStop) as error:
            error.usage = _together(paid) if paid else None
            raise
        seconds = round(time.perf_counter() - started, 3)
        usage = _together(paid).model_copy(update={"seconds": seconds, "tries": tries, "served": answer.served})
        return Reply(self._key.hide(answer.reply.text), usage=usage, finish=answer.reply.finish)

    def _attempt(self, request: Callable[[], Answer], paid: list[Usage]) -> Answer:
        """One request, once the budget allows it; what it took is appended to `paid`."""
        self.budget.admit()
        tokens: tuple[int | None, int | None] | None = None
        try:
            answer = request()
            tokens = (answer.input_tokens, answer.output_tokens)
        except TemporaryError as error:
            tokens = error.tokens
            raise
        finally:
            usage = self._usage(*tokens) if tokens is not None else None
            paid += [usage] if usage is not None else []
            self.budget.settle(usage)
        return answer

    def _usage(self, input_tokens: int | None, output_tokens: int | None) -> Usage:
        cost = self.prices.cost(input_tokens, output_tokens)
        return Usage(input_tokens=input_tokens, output_tokens=output_tokens, seconds=0.0, cost=cost)


def _together(paid: Sequence[Usage]) -> Usage:
    """What several requests took."""
    return Usage(
        input_tokens=_total([one.input_tokens for one in paid]),
        output_tokens=_total([one.output_tokens for one in paid]),
        seconds=0.0,
        cost=_total([one.cost for one in paid]),
        tries=len(paid),
    )


def _total(numbers: Sequence[Number | None]) -> Number | None:
    """The sum; None where one of them is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(numbers) else None


def _seed(messages: Sequence[Message]) -> str:
    """The conversation as a seed: the same question waits the same times, two questions do not wait in step."""
    parts = [part for message in messages for part in message.parts]
    return "\n".join(part if isinstance(part, str) else str(part.path) for part in parts)
