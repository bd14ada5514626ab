"""What a row of the table of models says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evqa.schema import ReplyFormat

Setting = str | int | float | bool | Path | tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """How a model is made."""

    adapter: str
    """Dotted name of the class, "module:Class"; it is called with `name` and the arguments."""
    arguments: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    extra: str | None = None
    """The extra of the distribution (`pip install "evqa[EXTRA]"`) that the adapter needs."""
    reply_format: ReplyFormat
    """Format of the reply: "evidence" = the one-line target of ST-Evidence with masks, "json" = a JSON object."""
    about: str
    method: str = "single-turn"
    """How it is asked where no method is named."""
