"""What the caches of replies share: the key of a reply, the replies that are kept, and their usage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from evqa.schema import Usage

KEPT_FINISHES = ("stop", "length")
"""Ends of replies that are kept: a refusal or an interrupted reply is asked for again."""

CACHED_USAGE = Usage(input_tokens=0, output_tokens=0, seconds=0.0, cost=0.0, num_attempts=0)
"""Usage of a reply from a cache."""


def facts_digest(facts: Mapping[str, object]) -> str:
    """Hexadecimal SHA-256 of JSON values by name, which decide a reply; other values count by their text."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
