"""Types of the parser's tables of rules: a rule, what it reads, and a reply prepared for the rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, NamedTuple, TypeVar

from evqa.parsing import reply_json, reply_text
from evqa.parsing.reply_json import JsonObject

MAX_CHARS = 100_000
"""Of a longer reply the end is read: the last thing said counts."""

T_co = TypeVar("T_co", covariant=True)
C = TypeVar("C")
R = TypeVar("R")


class RuleResult(NamedTuple, Generic[T_co]):
    """What the reply says about one field, and why."""

    value: T_co | None
    """None = unparsed."""
    rule: str
    """Name of the rule that decided; "" = no rule fits."""
    text: str
    """The part of the reply that the rule matched, at most 200 characters."""


@dataclass(frozen=True)
class Rule(Generic[C, R]):
    """One way in which replies state something; rules are applied in order, the first that fits decides."""

    name: str
    read: Callable[[C], R | None]
    """None = the rule does not fit."""
    example: str
    """A reply that the rule decides."""
    counter: str
    """A reply that looks similar and that the rule does not fit."""


class Guard(NamedTuple):
    """A context in which a statement does not count."""

    name: str
    pattern: str
    """Regular expression, upper and lower case alike, of the words before or after the statement."""
    example: str
    counter: str

    def fits(self, words: str) -> bool:
        """Whether the words before or after a statement make it count for nothing."""
        return re.search(self.pattern, words, re.IGNORECASE) is not None


@dataclass(frozen=True)
class ReplyText:
    """A reply without thoughts and markers, its objects, and the prose around them."""

    text: str
    objects: tuple[JsonObject, ...]

    @cached_property
    def outside(self) -> str:
        """The text with `{}` in place of each object, in plain letters."""
        parts: list[str] = []
        end = 0
        for each in self.objects:
            parts.append(self.text[end : each.start])
            end = each.end
        parts.append(self.text[end:])
        return reply_text.plain("{}".join(parts))

    @cached_property
    def prose(self) -> str:
        """As `outside`, without markup and tables."""
        return excerpt(self.outside)

    @cached_property
    def after(self) -> str:
        """The prose behind the last object."""
        return excerpt(reply_text.plain(self.text[self.objects[-1].end :])) if self.objects else self.prose

    @cached_property
    def is_list(self) -> bool:
        """Whether all objects are elements of one list, with nothing but commas between them."""
        pairs = zip(self.objects, self.objects[1:], strict=False)
        return len(self.objects) > 1 and all(self.text[a.end : b.start].strip() == "," for a, b in pairs)


_CURLY = str.maketrans("\u201c\u201d\u201e", '"""')


@lru_cache(maxsize=4)
def prepare_reply(reply: str) -> ReplyText:
    """Prepare a raw reply; the last few are kept, as each field is read from the same one."""
    text = reply_text.without_markers(reply_text.without_thoughts(reply[-MAX_CHARS:]))
    found = reply_json.find_objects(text)
    if '"' not in text and ("\u201c" in text or "\u201d" in text):
        text = text.translate(_CURLY)
        found = reply_json.find_objects(text)
    if not found and "\uff5b" in text:
        text = reply_text.plain(text)
        found = reply_json.find_objects(text)
    return ReplyText(text, tuple(found))


def excerpt(text: str) -> str:
    """Plain text as a reader sees it."""
    return reply_text.without_markup(reply_text.without_tables(text)).strip()
