"""Tokens, cost and time of model calls."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from evqa.schema.record import StrictRecord


class Usage(StrictRecord):
    """What one call cost."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float
    """Wall time of the call."""
    cost: float | None = None
    """US dollars, by the prices of the run; None = the prices are not known, or nothing is charged."""
    num_attempts: Annotated[int, Field(alias="tries")] = 1
    """Requests that it took; those before the last one brought no reply."""
    num_unknown: Annotated[int, Field(alias="unknown")] = 0
    """Requests among them that may be charged and whose tokens or cost are not known; the counts are of the others."""
    model_version: Annotated[str | None, Field(alias="served")] = None
    """The version of the model that the server says it ran."""


class TotalUsage(StrictRecord):
    """What the replies of a run took, those of failed samples and of repeated tries included."""

    num_replies: Annotated[int, Field(alias="replies")] = 0
    input_tokens: int = 0
    """Of prompts, as far as they were counted."""
    output_tokens: int = 0
    cost: float = 0.0
    """US dollars, of the replies whose cost is known."""
    num_unpriced: Annotated[int, Field(alias="unpriced")] = 0
    """Replies, and requests that may be charged, whose cost is not known."""

    @property
    def tokens(self) -> int:
        """Of prompts and replies."""
        return self.input_tokens + self.output_tokens

    def plus(self, usage: Usage) -> TotalUsage:
        """The sum with one more reply."""
        return TotalUsage(
            num_replies=self.num_replies + 1,
            input_tokens=self.input_tokens + (usage.input_tokens or 0),
            output_tokens=self.output_tokens + (usage.output_tokens or 0),
            cost=self.cost + (usage.cost or 0.0),
            num_unpriced=self.num_unpriced + max(usage.num_unknown, usage.cost is None),
        )
