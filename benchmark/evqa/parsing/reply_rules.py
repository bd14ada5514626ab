"""Types of the parser's tables of rules: `Rule`, `Guard`, `RuleResult`, and `ReplyText` (a prepared reply)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, NamedTuple, TypeVar

from evqa.parsing import reply_json, reply_text
from evqa.parsing.reply_json import JsonObject

MAX_CHARS = 100_000
"""Number of characters at the end of a reply that are parsed."""

T_co = TypeVar("T_co", covariant=True)
C = TypeVar("C")
R = TypeVar("R")


class RuleResult(NamedTuple, Generic[T_co]):
    """Value of one field of a reply, and the rule that read it."""

    value: T_co | None
    """None = unparsed."""
    rule: str
    """Name of the rule that decided; "" = no rule matched."""
    text: str
    """Part of the reply that the rule matched, at most 200 characters."""


@dataclass(frozen=True)
class Rule(Generic[C, R]):
    """Rule for a way to state a field. The rules of a table are tried in order; the first match decides."""

    name: str
    match: Callable[[C], R | None]
    """Function from the prepared text to the rule's result; None = no match."""
    example: str
    """A reply that this rule decides."""
    counterexample: str
    """A similar reply that this rule does not match."""


class Guard(NamedTuple):
    """Context in which a statement is ignored."""

    name: str
    pattern: str
    """Regular expression, case-insensitive, of the words before or after the statement."""
    example: str
    counterexample: str

    def fits(self, words: str) -> bool:
        """Whether the words before or after a statement match, so that the statement is ignored."""
        return re.search(self.pattern, words, re.IGNORECASE) is not None


@dataclass(frozen=True)
class ReplyText:
    """A reply without thoughts and markers, its JSON objects, and the prose around them."""

    text: str
    objects: tuple[JsonObject, ...]

    @cached_property
    def outside_objects(self) -> str:
        """Text with `{}` in place of each object, in plain letters."""
        parts: list[str] = []
        end = 0
        for entry in self.objects:
            parts.append(self.text[end : entry.start])
            end = entry.end
        parts.append(self.text[end:])
        return reply_text.plain("{}".join(parts))

    @cached_property
    def prose(self) -> str:
        """Text outside of objects, without markup and tables."""
        return excerpt(self.outside_objects)

    @cached_property
    def after_objects(self) -> str:
        """Prose after the last object; all prose if there is no object."""
        return excerpt(reply_text.plain(self.text[self.objects[-1].end :])) if self.objects else self.prose

    @cached_property
    def is_list(self) -> bool:
        """Whether the objects are the elements of one list, separated only by commas."""
        pairs = zip(self.objects, self.objects[1:], strict=False)
        return len(self.objects) > 1 and all(
            self.text[first.end : second.start].strip() == "," for first, second in pairs
        )


_CURLY = str.maketrans("\u201c\u201d\u201e", '"""')


@lru_cache(maxsize=4)
def prepare_reply(reply: str) -> ReplyText:
    """Prepare a raw reply for the rules. The last 4 are cached, because each field is read from the same reply."""
    text = reply_text.without_markers(reply_text.without_thoughts(reply[-MAX_CHARS:]))
    objects = reply_json.find_objects(text)
    if '"' not in text and ("\u201c" in text or "\u201d" in text):
        text = text.translate(_CURLY)
        objects = reply_json.find_objects(text)
    if not objects and "\uff5b" in text:
        text = reply_text.plain(text)
        objects = reply_json.find_objects(text)
    return ReplyText(text, tuple(objects))


def excerpt(text: str) -> str:
    """Plain text without markup, tables as lines."""
    return reply_text.without_markup(reply_text.without_tables(text)).strip()
