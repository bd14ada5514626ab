"""Budget of a run (dollars, tokens) and rate limit of a model (requests a minute), shared by all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
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


def usages(prediction: Prediction, prices: Prices, team_prices: Mapping[str, Prices] | None = None) -> list[Usage]:
    """Usage of each reply of a prediction; the cost of one that was recorded without follows from the prices.

    Args:
        prediction: whose turns are counted.
        prices: of the main model.
        team_prices: name of a further model (`Turn.model`) -> its prices.
    """
    priced: list[Usage] = []
    for turn in prediction.turns:
        if (usage := turn.usage) is None:
            continue
        if usage.cost is None:
            of_model = (team_prices or {}).get(turn.model or "", prices)
            usage = usage.replace(cost=of_model.cost(usage.input_tokens, usage.output_tokens))
        priced.append(usage)
    return priced


MAX_UNPRICED = 3
"""Requests in a row, from the first on, that may leave open what they took (a filter's refusal does, a cut reply)."""


class RateLimiter:
    """Spaces the requests to a model evenly: at most so many a minute."""

    def __init__(
        self,
        rpm: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`rpm`: requests a minute, at most; None = no limit."""
        if rpm is not None and not rpm > 0:
            raise ValueError(f"rpm is above 0, got {rpm}")
        self._gap = 60.0 / rpm if rpm is not None else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next_slot = float("-inf")

    def wait(self) -> None:
        """Wait for the next free slot."""
        with self._lock:
            slot = max(self._clock(), self._next_slot)
            self._next_slot = slot + self._gap
        if (seconds := slot - self._clock()) > 0:
            self._sleep(seconds)


@dataclass
class BudgetShare:
    """Share of one model in a budget."""

    output_cost: float
    """US dollars that its longest reply costs, the prompt apart."""
    output_tokens: int
    """Tokens of its longest reply."""
    largest_cost: float = 0.0
    """US dollars of its dearest reply so far."""
    largest_tokens: int = 0
    """Tokens of its largest reply so far, the prompt included."""
    is_priced: bool = False
    """Whether any of its replies states its cost."""
    is_counted: bool = False
    """Whether any of its replies states its tokens."""
    in_flight: int = 0
    """Requests in progress."""

    def count(self, usage: Usage) -> None:
        """Add a reply."""
        total = TotalUsage().plus(usage)
        self.largest_cost = max(self.largest_cost, total.cost)
        self.largest_tokens = max(self.largest_tokens, total.tokens)
        self.is_priced = self.is_priced or usage.cost is not None
        self.is_counted = self.is_counted or (usage.input_tokens is not None and usage.output_tokens is not None)


class Budget:
    """Limits on the dollars and tokens of a run; one object for all its models and threads."""

    def __init__(self, *, max_cost: float | None = None, max_total_tokens: int | None = None) -> None:
        """Start with nothing spent.

        Args:
            max_cost: US dollars, at most; None = no limit.
            max_total_tokens: tokens, at most.
        """
        for name, value in (("max_cost", max_cost), ("max_total_tokens", max_total_tokens)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is above 0, got {value}")
        self.max_cost, self._max_tokens = max_cost, max_total_tokens
        self._free = threading.Condition()
        self._spent = TotalUsage()
        self._shares: list[BudgetShare] = []
        self._uncounted = 0
        """Replies that do not say how many tokens they took."""
        self._broken = ""
        """Why a limit cannot be kept any more."""

    def share(self, output_cost: float, output_tokens: int) -> BudgetShare:
        """Register a model that draws on the budget.

        Args:
            output_cost: US dollars that its longest reply costs, the prompt apart.
            output_tokens: tokens of its longest reply.
        """
        share = BudgetShare(output_cost, output_tokens)
        with self._free:
            self._shares.append(share)
        return share

    @property
    def usage(self) -> TotalUsage:
        """Usage so far, earlier calls of the run included."""
        with self._free:
            return self._spent

    def add_earlier(self, earlier: Iterable[Usage]) -> None:
        """Add the usage of earlier calls of the same run, of any of its models."""
        with self._free:
            for usage in earlier:
                self._count(usage, self._shares)

    def acquire(self, share: BudgetShare) -> None:
        """Wait until a request may be sent; `release` must follow. `RunAborted`: the budget allows no further request.

        With a limit, the requests of a model go alone until a reply states what one costs; then each in progress is
        taken to cost as much as the dearest of its model so far, and each reply that does not state its cost as much as
        the dearest of all. Near the limit, where the longest replies to all requests in progress would exceed it, they
        go alone again.
        """
        with self._free:
            while self._is_busy() and (self._is_blind(share) or self._is_near(share) or self._excess(share)):
                self._free.wait()
            if excess := self._excess(share):
                raise RunAborted(excess)
            share.in_flight += 1

    def release(self, share: BudgetShare, usage: Usage | None, *, is_reply: bool = True) -> None:
        """End a request and charge its usage; None = it is free of charge.

        A reply that leaves open what it took ends a run with a limit. A request that may be charged and brought no
        reply (`is_reply=False`) is taken to cost as much as the dearest reply so far.
        """
        with self._free:
            share.in_flight -= 1
            if usage is not None:
                self._count(usage, [share])
                if is_reply:
                    self._broken = self._broken or self._unknown(usage)
            self._free.notify_all()

    def _count(self, usage: Usage, shares: Iterable[BudgetShare]) -> None:
        self._spent = self._spent.plus(usage)
        is_counted = usage.input_tokens is not None and usage.output_tokens is not None
        self._uncounted += max(usage.num_unknown, not is_counted)
        for share in shares:
            share.count(usage)

    def _unknown(self, usage: Usage) -> str:
        """Reason why a reply ends the run: its usage lacks a count that a limit needs; empty where it does not."""
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

    def _is_busy(self) -> bool:
        """Whether any request is in progress."""
        return any(share.in_flight for share in self._shares)

    def _is_blind(self, share: BudgetShare) -> bool:
        """Whether a limit applies whose count no reply of the model has stated yet."""
        return (self.max_cost is not None and not share.is_priced) or (
            self._max_tokens is not None and not share.is_counted
        )

    def _coming_cost(self, share: BudgetShare, *, longest: bool) -> float:
        """US dollars of the requests in progress, of the next request and of the replies without a cost.

        Args:
            share: of the model that the next request goes to.
            longest: whether each is assumed to get the longest reply, besides the largest prompt so far.
        """
        costs = {id(member): member.largest_cost + (member.output_cost if longest else 0.0) for member in self._shares}
        coming = sum(member.in_flight * costs[id(member)] for member in self._shares) + costs[id(share)]
        return coming + self._spent.num_unpriced * max(costs.values())

    def _coming_tokens(self, share: BudgetShare, *, longest: bool) -> int:
        """Tokens of the requests in progress and of the next one; arguments as for `_coming_cost`."""
        tokens = {
            id(member): max(member.largest_tokens, 1) + (member.output_tokens if longest else 0)
            for member in self._shares
        }
        coming = sum(member.in_flight * tokens[id(member)] for member in self._shares) + tokens[id(share)]
        return coming + self._uncounted * max(tokens.values())

    def _is_near(self, share: BudgetShare) -> bool:
        """Whether the longest replies to the requests in progress and to one more would exceed the budget."""
        cost = self._spent.cost + self._coming_cost(share, longest=True)
        tokens = self._spent.tokens + self._coming_tokens(share, longest=True)
        return (self.max_cost is not None and cost > self.max_cost) or (
            self._max_tokens is not None and tokens > self._max_tokens
        )

    def _excess(self, share: BudgetShare) -> str | None:
        """Why another request might exceed the budget; None = it does not."""
        spent = self._spent
        if self._broken:
            return self._broken
        if self.max_cost is not None:
            if not share.is_priced and spent.num_unpriced >= MAX_UNPRICED:
                return "no reply says what it cost, so that --max-cost cannot be kept: run without it"
            coming = self._coming_cost(share, longest=False)
            if spent.cost + coming > self.max_cost or spent.cost >= self.max_cost:
                return (
                    f"the next reply may exceed --max-cost {self.max_cost:g}: ${spent.cost:.4f} is spent, a reply "
                    f"costs up to ${share.largest_cost:.4f}; the same command with a higher --max-cost goes on"
                )
        if self._max_tokens is not None:
            if not share.is_counted and self._uncounted >= MAX_UNPRICED:
                return (
                    "no reply says how many tokens it took, so that --max-total-tokens cannot be kept: run without it"
                )
            if spent.tokens + self._coming_tokens(share, longest=False) > self._max_tokens:
                return (
                    f"the next reply may exceed --max-total-tokens {self._max_tokens}: {spent.tokens} are spent, a "
                    f"reply takes up to {share.largest_tokens}; the same command with a higher number goes on"
                )
        return None


class PricedModel(Model, Protocol):
    """Model with the capability `is_priced`."""

    budget: Budget
    prices: Prices


def priced_model(model: Model) -> PricedModel | None:
    """The model with its budget and prices; None for a model whose replies are free."""
    return cast("PricedModel", model) if model.capabilities.is_priced else None
