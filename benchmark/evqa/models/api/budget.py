"""What a run may spend: dollars, tokens, requests a minute. One object for all threads of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, cast

from evqa.models.base import Model, RunAborted
from evqa.schema import Prediction, TotalUsage, Usage


@dataclass(frozen=True, kw_only=True)
class Prices:
    """US dollars a million tokens, with where they were read; None = not known."""

    price_in: float | None = None
    price_out: float | None = None
    source: str | None = None
    """Where and when the prices were read; None = there are none."""
    largest_prompt: int | None = None
    """Tokens of a prompt up to which the prices hold; above it the cost is not known."""

    @property
    def are_known(self) -> bool:
        """Whether there is a price for both."""
        return self.price_in is not None and self.price_out is not None

    @property
    def are_free(self) -> bool:
        """Whether nothing is charged, whatever a reply takes."""
        return self.price_in == 0 and self.price_out == 0

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """Dollars of one reply; None where a price or a count is not known."""
        if self.are_free:
            return 0.0
        if self.price_in is None or self.price_out is None or input_tokens is None or output_tokens is None:
            return None
        if self.largest_prompt is not None and input_tokens > self.largest_prompt:
            return None
        return (input_tokens * self.price_in + output_tokens * self.price_out) / 1e6


def usages(prediction: Prediction, prices: Prices) -> list[Usage]:
    """What the replies of a prediction took; one that was recorded without a cost is counted by `prices`."""
    found = [turn.usage for turn in prediction.turns if turn.usage is not None]
    return [
        usage.model_copy(update={"cost": prices.cost(usage.input_tokens, usage.output_tokens)})
        if usage.cost is None
        else usage
        for usage in found
    ]


MAX_UNPRICED = 3
"""Requests in a row, from the first on, that may leave open what they took (a filter's refusal does, a cut reply)."""


class Budget:
    """Lets requests through as long as there is money, tokens and a free slot of the minute."""

    def __init__(  # noqa: PLR0913  (each is a limit, or a function of the system)
        self,
        *,
        max_cost: float | None = None,
        max_total_tokens: int | None = None,
        rpm: float | None = None,
        output_cost: float = 0.0,
        output_tokens: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is spent yet.

        Args:
            max_cost: US dollars, at most; None = no limit.
            max_total_tokens: tokens, at most.
            rpm: requests a minute, at most.
            output_cost: dollars that the longest reply costs, its prompt apart.
            output_tokens: of the longest reply.
            clock: seconds.
            sleep: waits for seconds.
        """
        for name, value in (("max_cost", max_cost), ("max_total_tokens", max_total_tokens), ("rpm", rpm)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is above 0, got {value}")
        self.max_cost, self._max_tokens = max_cost, max_total_tokens
        self._gap = 60.0 / rpm if rpm is not None else 0.0
        self._clock, self._sleep = clock, sleep
        self._free = threading.Condition()
        self._spent = TotalUsage()
        self._largest_cost, self._largest_tokens = 0.0, 0
        """Of the dearest reply so far: what the next one is taken to cost."""
        self._output_cost, self._output_tokens = output_cost, output_tokens
        self._priced = self._counted = False
        """Whether any reply tells its cost, its tokens."""
        self._uncounted = 0
        """Replies that do not say how many tokens they took."""
        self._broken = ""
        """Why a limit cannot be kept any more."""
        self._in_flight = 0
        self._next_slot = float("-inf")

    @property
    def usage(self) -> TotalUsage:
        """What was spent, with what was carried over."""
        with self._free:
            return self._spent

    def add_earlier(self, earlier: Iterable[Usage]) -> None:
        """Count what earlier calls of the same run spent."""
        with self._free:
            for usage in earlier:
                self._count(usage)

    def acquire(self) -> None:
        """Wait until a request may be sent; `release` must follow. `RunAborted`: the budget does not allow another.

        Where a budget is set, requests go alone until a reply tells what one costs; then each that is under way,
        and each reply that does not tell, is taken to cost as much as the dearest so far. Near the limit, where the
        longest replies to all that are under way would exceed it, they go alone again.
        """
        with self._free:
            while self._in_flight and (self._is_blind() or self._is_near() or self._excess()):
                self._free.wait()
            if excess := self._excess():
                raise RunAborted(excess)
            self._in_flight += 1
            slot = max(self._clock(), self._next_slot)
            self._next_slot = slot + self._gap
        if (wait := slot - self._clock()) > 0:
            self._sleep(wait)

    def release(self, usage: Usage | None, *, is_reply: bool = True) -> None:
        """The request has ended; None = nothing is charged for it.

        A reply that leaves open what it took ends a run with a limit. A request that may be charged and brought no
        reply (`is_reply=False`) is taken to cost as much as the dearest reply so far.
        """
        with self._free:
            self._in_flight -= 1
            if usage is not None:
                self._count(usage)
                if is_reply:
                    self._broken = self._broken or self._unknown(usage)
            self._free.notify_all()

    def _count(self, usage: Usage) -> None:
        one = TotalUsage().plus(usage)
        self._spent = self._spent.plus(usage)
        self._largest_cost = max(self._largest_cost, one.cost)
        self._largest_tokens = max(self._largest_tokens, one.tokens)
        self._priced = self._priced or usage.cost is not None
        is_counted = usage.input_tokens is not None and usage.output_tokens is not None
        self._counted = self._counted or is_counted
        self._uncounted += max(usage.num_unknown, not is_counted)

    def _unknown(self, usage: Usage) -> str:
        """Why a reply ends the run: it leaves open what a limit is kept by; empty = it does not."""
        is_counted = usage.input_tokens is not None and usage.output_tokens is not None
        for flag, limit, is_known in (
            ("--max-cost", self.max_cost, usage.cost is not None),
            ("--max-total-tokens", self._max_tokens, is_counted),
        ):
            if limit is not None and not is_known:
                return (
                    f"a reply does not say what it took (the usage in the server's answer is missing or unreadable, "
                    f"or no price holds for it), so that {flag} {limit:g} cannot be kept: run without {flag}; the same "
                    f"command again takes each such reply to be as large as the largest so far"
                )
        return ""

    def _is_blind(self) -> bool:
        """Whether a budget is set, and no reply yet tells what one takes of it."""
        return (self.max_cost is not None and not self._priced) or (self._max_tokens is not None and not self._counted)

    def _is_near(self) -> bool:
        """Whether the longest replies to what is under way and to one request more would exceed the budget."""
        coming, spent = self._in_flight + 1, self._spent
        cost = spent.cost + (coming + spent.num_unpriced) * (self._largest_cost + self._output_cost)
        tokens = spent.tokens + (coming + self._uncounted) * (self._largest_tokens + self._output_tokens)
        return (self.max_cost is not None and cost > self.max_cost) or (
            self._max_tokens is not None and tokens > self._max_tokens
        )

    def _excess(self) -> str | None:
        """Why another request might exceed the budget; None = it does not."""
        coming, spent, largest = self._in_flight + 1, self._spent, self._largest_cost
        if self._broken:
            return self._broken
        if self.max_cost is not None:
            if not self._priced and spent.num_unpriced >= MAX_UNPRICED:
                return "no reply says what it cost, so that --max-cost cannot be kept: run without it"
            if spent.cost + (coming + spent.num_unpriced) * largest > self.max_cost or spent.cost >= self.max_cost:
                return (
                    f"the next reply may exceed --max-cost {self.max_cost:g}: ${spent.cost:.4f} is spent, a reply "
                    f"costs up to ${largest:.4f}; the same command with a higher --max-cost goes on"
                )
        if self._max_tokens is not None:
            if not self._counted and self._uncounted >= MAX_UNPRICED:
                return (
                    "no reply says how many tokens it took, so that --max-total-tokens cannot be kept: run without it"
                )
            if spent.tokens + (coming + self._uncounted) * max(self._largest_tokens, 1) > self._max_tokens:
                return (
                    f"the next reply may exceed --max-total-tokens {self._max_tokens}: {spent.tokens} are spent, a "
                    f"reply takes up to {self._largest_tokens}; the same command with a higher number goes on"
                )
        return None


class PricedModel(Model, Protocol):
    """Model with the capability `is_priced`."""

    budget: Budget
    prices: Prices


def priced_model(model: Model) -> PricedModel | None:
    """The model with its budget and prices; None for a model whose replies are free."""
    return cast("PricedModel", model) if model.capabilities.is_priced else None
