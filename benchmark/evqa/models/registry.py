"""Registry entry of a model, readable before the model is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Setting = str | int | float | bool | Path | tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Registry entry of a model: its adapter, arguments and properties needed before it is built."""

    adapter: str
    """Adapter class, "module:Class"; called with `name` and the arguments."""
    arguments: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    extra: str | None = None
    """Extra of the distribution that the adapter needs: `pip install "evqa[EXTRA]"`."""
    description: str
    """One line for `evqa list`."""
    method: str = "single-turn"
    """Default prompting method; `Capabilities.default_method` of the model."""
    predicts_masks: bool | None = False
    """Whether replies come with masks; None = known once the model is built (cheap), from its `Capabilities`."""
    is_behind_api: bool = False
    """Whether the model runs on a server."""


@dataclass(frozen=True)
class AgentConfig:
    """Additional model of a run: its name, and settings that replace those of its registry entry."""

    model: str
    overrides: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
