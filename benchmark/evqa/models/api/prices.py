"""Prices of models behind APIs, read from `prices.toml` in this folder; each has a date and a source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evqa.models.api.budget import Prices

LIST = Path(__file__).with_name("prices.toml")


class ListedPrice(BaseModel):
    """Price of a model at its provider, in US dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: str
    """API of the provider; the price applies to no other API."""
    model: str
    """Full model id of the API."""
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    date: str
    """Date of the price."""
    source: str
    """Address of the price."""
    largest_prompt: int | None = None
    """Maximum prompt length in tokens for which the price applies."""


class _List(BaseModel):
    price: list[ListedPrice]


def listed_prices() -> list[ListedPrice]:
    """All prices of the list; empty if the file is missing, so that costs are unknown."""
    if not LIST.is_file():
        return []
    try:
        return _List.model_validate(tomllib.loads(LIST.read_text("utf-8"))).price
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{LIST} is no list of prices: {str(error)[:500]}") from error


def of(api: str, model: str) -> Prices:
    """Prices of a model at its provider; without values if the list has no entry of exactly this name."""
    for price in listed_prices():
        if (price.api, price.model) == (api, model):
            source = f"{price.source}, {price.date}"
            return Prices(
                price_in=price.input, price_out=price.output, source=source, largest_prompt=price.largest_prompt
            )
    return Prices()


def of_settings(adapter: str, settings: Mapping[str, object]) -> Prices:
    """Prices of a model by the settings of its registry entry and of the command, before it is built.

    Args:
        adapter: `ModelSpec.adapter`.
        settings: arguments of the adapter: `price_in` and `price_out` go first, then the list.
    """
    name = "gemini" if "gemini" in adapter else str(settings.get("api", "openai"))
    prices = of(name, str(settings.get("model_id", "")))
    overrides = {key: value for key in ("price_in", "price_out") if isinstance(value := settings.get(key), int | float)}
    return replace(prices, **overrides, source="as given") if overrides else prices
