"""Parser of the chosen option: `parse_answer` reads the index of the option that a reply commits to.

The rules for prose are the table `choice_rules.RULES`; JSON objects are read by `choice_json`. The last choice to which
a reply commits is used. An ambiguous reply is unparsed (None), never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evqa.parsing import reply_text
from evqa.parsing.announcements import answer_positions
from evqa.parsing.choice_json import choice_of_objects
from evqa.parsing.choice_prose import Prose
from evqa.parsing.choice_rules import first_match
from evqa.parsing.option_keys import explain_key
from evqa.parsing.option_matching import BARE_LETTER, LABEL, LETTER, is_article
from evqa.parsing.reply_rules import RuleResult, prepare_reply
from evqa.schema import LETTERS


def parse_answer(text: str, options: Sequence[str]) -> int | None:
    """Index of the option to which a reply commits; None = none or several."""
    return explain_answer(text, options).value


def explain_answer(text: str, options: Sequence[str]) -> RuleResult[int]:
    """Result of `parse_answer` with the rule that decided and the text that it matched."""
    if not options:
        return RuleResult(None, "", "")
    if (key := explain_key(text, len(options))) is not None:
        return key
    reply = prepare_reply(text)
    plain_options = tuple(reply_text.plain(option) for option in options)
    if reply.objects:
        rule_match = choice_of_objects(reply, plain_options)
    else:
        rule_match = first_match(Prose(_without_echo(reply.prose, plain_options), plain_options))
    if rule_match is None:
        return RuleResult(None, "", "")
    rule, match = rule_match
    value = next(iter(match.options)) if len(match.options) == 1 else None
    return RuleResult(value, rule, match.text[:200])


MAX_ECHO = 5000
"""Characters of all options together up to which a repetition of the options is searched."""


def _without_echo(text: str, options: Sequence[str]) -> str:
    """Text without a list of all options, each with its own letter and nothing else, which repeats the question."""
    words = [option.strip().rstrip(".").split() for option in options]
    if len(words) < 2 or not all(words) or sum(map(len, options)) > MAX_ECHO or len(words) > len(LETTERS):
        return text
    patterns = [r"\s{1,3}".join(map(re.escape, option_words)) for option_words in words]
    entries = [
        rf"[(\[]?{letter}(?:[)\].:]{{1,2}}|\s[-\u2013])\s{{0,3}}{pattern}[.,;]?"
        for letter, pattern in zip(LETTERS, patterns, strict=False)
    ]
    echo = r"\s{1,5}(?:[-\u2022]\s{1,3})?".join(entries)
    return re.sub(
        rf"(?:(?:options|choices)\s?:?\s{{1,3}})?(?<![A-Za-z0-9]){echo}(?=[ \t]{{0,3}}(?:\n|$|[A-Z][a-z]))",
        "\n",
        text,
        flags=re.IGNORECASE,
    )


# Position of the letter


_EMPHASIS = re.compile(r"[*`]|__|</s>|<\|(?:im_end|endoftext|eot_id|end)\|>|<(?:eos|end_of_turn)>")
"""Markdown emphasis and end-of-text tokens."""


def answer_letter_position(text: str) -> int | None:
    """Position in a reply of the capital that names its answer.

    This is the letter of the last announcement, or of a reply that is one letter or starts with a label. None = the
    answer is named in another way, or by its text only.
    """
    plain = _EMPHASIS.sub(lambda match: " " * len(match[0]), reply_text.plain(text))
    for position in answer_positions(plain):
        match = LETTER.match(plain, position)
        if match and not is_article(match, plain):
            return match.start(1) if match[1].isupper() else None
    content = plain.strip()
    match = BARE_LETTER.fullmatch(content) or LABEL.match(content[:500])
    return plain.index(content) + match.start(1) if match and match[1].isupper() else None
