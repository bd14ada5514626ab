"""Prices of models behind APIs, from `prices.toml` beside this file: each with its date and where it was read."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evqa.models.api.budget import Prices

LIST = Path(__file__).with_name("prices.toml")


class ListedPrice(BaseModel):
    """US dollars a million tokens that a provider charges for one of its models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: str
    """The provider's own API: a price holds for no other."""
    model: str
    """The id that the API is asked for, as a whole."""
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    date: str
    """When it was read."""
    source: str
    """Where it was read."""
    largest_prompt: int | None = None
    """Tokens of a prompt up to which it holds."""


class _List(BaseModel):
    price: list[ListedPrice]


def listed_prices() -> list[ListedPrice]:
    """All prices of the list; none where it is not installed, so that costs are unknown rather than guessed."""
    if not LIST.is_file():
        return []
    try:
        return _List.model_validate(tomllib.loads(LIST.read_text("utf-8"))).price
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{LIST} is no list of prices: {str(error)[:500]}") from error


def of(api: str, model: str) -> Prices:
    """Prices of a model at its provider; without values where the list has no entry of exactly this name."""
    for price in listed_prices():
        if (price.api, price.model) == (api, model):
            source = f"{price.source}, {price.date}"
            return Prices(
                price_in=price.input, price_out=price.output, source=source, largest_prompt=price.largest_prompt
            )
    return Prices()
