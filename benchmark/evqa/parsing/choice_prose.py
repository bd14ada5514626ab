"""Types of the answer rules: `Prose` (their input), `ChoiceMatch` (their result) and `AnswerRule`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from evqa.parsing import reply_text
from evqa.parsing.announcements import Announcement, find_announcements, is_discounted
from evqa.parsing.option_matching import OptionSet, options_at
from evqa.parsing.reply_rules import Rule

MAX_TAIL = 60_000
"""Number of characters at the end of the prose that are split into sentences."""


class ChoiceMatch(NamedTuple):
    """Result of a rule that matched."""

    options: OptionSet
    """Exactly one option = the choice; none or several = the reply commits to no single option."""
    text: str
    """Part of the reply that matched."""


@dataclass(frozen=True)
class Prose:
    """Prose of a reply, without markup, with the options in plain letters (`reply_text.plain`)."""

    text: str
    options: tuple[str, ...]

    @cached_property
    def sentences(self) -> list[str]:
        """Last sentences of the text."""
        return reply_text.sentences(self.text[-MAX_TAIL:])

    @cached_property
    def announcements(self) -> list[tuple[Announcement, OptionSet | None]]:
        """Announcements and denials from last to first, with the options that each names.

        None = neither a letter nor an option's text.
        """
        return [
            (announcement, options_at(self.text, announcement.end, self.options))
            for announcement in find_announcements(self.text)
        ]

    @cached_property
    def own_sentences(self) -> list[str]:
        """Sentences except those whose announcements are all denied, hypothetical or reported."""
        return [sentence for sentence in self.sentences if not is_discounted(sentence)]


AnswerRule = Rule[Prose, ChoiceMatch]
"""A rule for the chosen option."""
