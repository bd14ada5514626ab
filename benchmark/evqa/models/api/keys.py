"""Keys of APIs: read from the environment, held as secrets, and removed from every text that leaves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import quote

from pydantic import SecretStr

REDACTED = "[key]"

MIN_SECRET = 8
"""Characters of the shortest secret that is removed from texts: a shorter one ("none", "EMPTY") protects nothing."""


def redact(text: str, secrets: Iterable[SecretStr]) -> str:
    """Text with each secret, plain or URL-encoded, replaced: a server may echo its request."""
    for secret in (secret.get_secret_value() for secret in secrets):
        if len(secret) >= MIN_SECRET:
            text = text.replace(secret, REDACTED).replace(quote(secret, safe=""), REDACTED)
    return text


@dataclass(frozen=True)
class ApiKey:
    """Key of an API; its representation does not show it."""

    variable: str
    """Environment variable that holds it."""
    secret: SecretStr
    more_secrets: tuple[SecretStr, ...] = ()
    """Further secrets of the same requests, such as values of headers."""

    def redact(self, text: str) -> str:
        """The text without the key and the further secrets."""
        return redact(text, (self.secret, *self.more_secrets))

    def with_secrets(self, values: Iterable[str]) -> ApiKey:
        """The same key with further secrets; of "Bearer TOKEN" the token is one too."""
        parts = [SecretStr(part) for value in values for part in (value, value.rpartition(" ")[2])]
        return replace(self, more_secrets=(*self.more_secrets, *parts))


def key_from_environment(variable: str, model: str, *, needed: bool = True) -> ApiKey:
    """The key in an environment variable; "none" where it is neither set nor needed.

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
    return ApiKey(variable, SecretStr(value or "none"))
