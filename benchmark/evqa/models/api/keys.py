"""Keys of APIs: read from the environment, held here, and hidden in every text that leaves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import quote

HIDDEN = "[key]"

SHORTEST = 8
"""Characters of a key that is looked for in texts: a shorter one ("none", "EMPTY") guards nothing."""


class SecretKey:
    """The key of one environment variable; its representation does not show it."""

    def __init__(self, variable: str, value: str, others: Iterable[str] = ()) -> None:
        """`others`: further secrets that are hidden with it."""
        self.variable = variable
        self._value, self._others = value, tuple(others)

    def __repr__(self) -> str:
        return f"<key of {self.variable}>"

    def get_secret_value(self) -> str:
        """The key, for the one client that sends it."""
        return self._value

    def redact(self, text: str) -> str:
        """A text from outside without the key: a server may send back what it was sent."""
        for secret in (self._value, *self._others):
            if len(secret) >= SHORTEST:
                text = text.replace(secret, HIDDEN).replace(quote(secret, safe=""), HIDDEN)
        return text

    def also(self, others: Iterable[str]) -> SecretKey:
        """The same key, with further secrets that are hidden too: headers; of "Bearer TOKEN" the token."""
        values = [part for other in others for part in (other, other.rpartition(" ")[2])]
        return SecretKey(self.variable, self._value, (*self._others, *values))


def key_from_environment(variable: str, model: str, *, needed: bool = True) -> SecretKey:
    """The key that an environment variable holds; where none is needed, a stand-in that says so.

    `ValueError`: it is not set, or cannot be a key; the message never holds its value.
    """
    value = os.environ.get(variable, "").strip()
    if not value and needed:
        raise ValueError(
            f"model {model!r} needs a key: set the environment variable {variable} "
            f"(keys are read from the environment alone, and written nowhere)"
        )
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{variable} cannot be a key: it holds characters that no key has; set it again")
    return SecretKey(variable, value or "none")
