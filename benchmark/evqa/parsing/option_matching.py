"""Options named by a piece of text: by letter, by the option's text, by both, or by a leading yes or no.

Functions take the options in plain letters and return an `OptionSet`. Text is matched literally; the rules
(`choice_rules`) decide whether the reply commits to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from evqa.schema import LETTERS

OptionSet = frozenset[int]
"""Indices of the options that a text names: one = a choice, several = ambiguous, none = not an option of the question.
"""
NO_OPTION: OptionSet = frozenset()
"""Choice of a nonexistent option, such as letter F of four options."""


# Patterns


LETTER = re.compile(
    r"""[\s"'(\[{<$\\]{0,8}(?:boxed\{)?(?:(?:(?:option|choice|letter|answer)(?![A-Za-z])|\u9009\u9879|\u9078\u9805)\s{0,3}:?\s{0,3})?
        ["'(\[]{0,2}([A-Za-z])(?![A-Za-z0-9_]|['-][A-Za-z])""",
    re.VERBOSE | re.IGNORECASE,
)
"""A single letter, with brackets and words such as `option` that may precede it."""

_CONJUNCTION = (
    r"(?:[,;/&|+]|->|\u2192|\b(?:or|and|then|plus|oder|und|ou|et|y|o|e)\b|\u548c|\u6216|\u4e0e|\u53ca|\u3068|\u8207)"
)
_HEDGE = r"(?:(?:or|and|also|maybe|possibly|perhaps|even|both|option|the)\s{1,2}){0,3}"

_STRONG_CONJUNCTION = (
    r"(?:[/&|+]|->|\u2192|\u8fd8\u662f|[,;]?\s{0,2}\b(?:and/or|or|and|(?:and\s)?then|plus|oder|und|ou|et|y|as\swell\sas)\b|\u548c|\u6216|\u4e0e"
    r"|\u53ca|\u3068|\u8207)"
)

SECOND_LETTER = re.compile(
    rf"""["')\].}}]{{0,3}}\s{{0,3}}(?:
        {_STRONG_CONJUNCTION}\s{{0,3}}{_HEDGE}(?:\\?boxed\{{|["'(\[]{{0,2}})((?-i:[A-Z]))(?![A-Za-z0-9_]|['-][A-Za-z]|(?<=[AI])\s+(?!(?:are|and|or|is|if|fit)\b)[a-z])
      | (?:[,;]\s{{0,3}}{_HEDGE}|\s?(?=\()|\n\s{{0,4}}(?:[-*]\s)?(?=[(\[]?[A-Z][)\].]?\s*$))["'(\[]{{0,2}}((?-i:[A-Z]))
        (?![A-Za-z0-9_]|['-][A-Za-z]|[)\]]?\s+(?:is|was|shows?|seems?|looks?|does|has|can|would|were|are|because)\b|\s+[a-z]|[.:)]\s?[A-Za-z]))""",
    re.VERBOSE | re.MULTILINE,
)
"""A second letter after the first: `A or B`, `A, B`."""

_LETTER_LIST = re.compile(
    rf"""(?:both\s|either\s|neither\s|options?\s)?["'(\[]{{0,3}}([A-Z])["')\]]{{0,3}}
        (?:(?:\s{{0,3}}{_CONJUNCTION}\s{{0,3}}{_HEDGE}|\s{{1,3}})["'(\[]{{0,2}}([A-Z])["')\]]{{0,3}}(?![A-Za-z])){{1,20}}[.!\s\]]{{0,3}}""",
    re.VERBOSE,
)
"""Several letters and nothing else: `A, B and C`."""
CAPITAL = re.compile(r"(?<![A-Za-z0-9_'])[A-Z](?![A-Za-z0-9_'])")

BARE_LETTER = re.compile(
    r"""[("'\[<]{0,2}(?:(?:the\ )?(?:(?:option|choice|letter|answer)(?![A-Za-z])|\u9009\u9879)\s{0,3}:?\s{0,3})?
        ["'(\[{]{0,2}
        ([A-Za-z])["')\].:,;!>}]{0,4}(?:\s?[\u2713\u2714\u2705\u2611])?""",
    re.VERBOSE | re.IGNORECASE,
)
"""A text that consists of one letter: `(B)`, `Option B.`."""

LABEL = re.compile(
    r"""[(\[]?(?:[Oo]ption\s)?([A-Za-z])(?:[)\]:][.:]?|\.(?=\s|[^\x00-\x7f])|\s[-\u2013\u2014](?=\s)|\n(?=\())
        \s{0,4}(\S.*)""",
    re.DOTALL | re.VERBOSE,
)
"""A letter followed by words: `B) blue ball`."""

_LETTER_WITH_TEXT = re.compile(r"([A-Za-z])\s\(([^()\n]{1,300})\)\.?")
"""A letter followed by words in parentheses: `C (a man running)`."""

_LETTER_BEFORE_TEXT = re.compile(r"(?:[Oo]ption\s)?([A-Z])[,:]?\s{1,4}(\S.{0,1000})")
"""A capital followed by words without punctuation: `B blue ball`."""

_LETTER_TEXT_SEPARATOR = re.compile(
    r"""["')\]]{0,2}(?:\s?[(]|,\s(?:(?:which\sis|i\.e\.,?|namely|that\sis,?)\s)?|\s?[-\u2013\u2014]\s?|\s(?=["']))["'(\[]{0,2}"""
)
"""Text between a letter and the option's text: `B (blue ball)`, `B, the blue ball`."""
_TEXT_END = re.compile(r"""["')\]]{0,3}[.!]?["')\]]{0,2}\s{0,3}(?:$|\n)|["']?[)\]]""")
"""End of the line or of the parenthesis after an option's text."""
NEXT_WORD = re.compile(r"[ \t]+([A-Za-z']+)")

CONNECTIVES = frozenset(
    [
        "because",
        "since",
        "as",
        "for",
        "with",
        "given",
        "is",
        "was",
        "and",
        "or",
        "so",
        "when",
        "but",
        "not",
        "rather",
        "instead",
        "if",
        "unless",
        "only",
    ]
)
"""Words that may follow the letters A and I; before any other word these letters are an article and a pronoun."""

MENTION = re.compile(r"\(([A-Z])\)|\b[Oo]ption\s([A-Z])(?![A-Za-z0-9_'])")
"""An option mentioned in a sentence: `(B)`, `option B`."""
_ARTICLE = re.compile(r"(?:a|an|the)\s(?=\S)", re.IGNORECASE)

_TEXT_FOLLOWER = re.compile(
    r"""\s*(?:$|[.,;:!?)"'\]}<>\n({]|[-\u2013\u2014]{1,2}\s|\|
        |(?:because|since|as|which|that|who|whose|where|when|while|in|on|at|from|to|by|near|with|without|of|under|over
        |behind|beside|next|seen|shown|visible|holding|is|was|are|were|has|instead|rather|not|but|so|given|due|based)\b
        |(?:and|or)\s(?:it|he|she|they|this|that|we|I|there|you|the\sanswer)\b|[^\x00-\x7f])|/|\s*(?:{})""",
    re.VERBOSE,
)
"""Text that may follow an option's text; before any other word the option's text is part of a longer phrase."""
_ALTERNATIVE_SEPARATOR = re.compile(rf"[\"')]{{0,2}}\s{{0,3}}\(?(?:{_CONJUNCTION})\s{{0,3}}{_HEDGE}", re.IGNORECASE)
"""Conjunction between two options: `the dog / the pole`."""
_LONGER_WORD = re.compile(r"[.,]\d|['-]\w|[\w%]")
"""Characters after an option's text that make it part of a longer word or number: `1` in `1.5`."""

_YES_NO = re.compile(
    r"(yes|no|true|false|\u662f\u7684?|\u4e0d\u662f|\u5426|s\u00ed|oui|non|ja|nein)(?![A-Za-z])", re.IGNORECASE
)

_AFTER_YES_NO = re.compile(
    r"\s*(?:$|[,.;:!\n]|[-\u2013\u2014]{1,2}\s|\(|\s(?:he|she|it|they|the|there|this|that|I|we|because|since)\b|[^\x00-\x7f])"
)

_LEAD_IN = re.compile(
    r"(?:[\u2192\u27a1>=\U0001f449\u25b6\u2234-]{1,2}\s{1,2})?(?:(?:so|thus|hence|therefore|then|and"
    r"|but)[, ]{1,3})?(?:(?:probably|definitely|clearly|certainly|likely|most\slikely|obviously|surely"
    r"|presumably)\s|(?:he|she|it|they)\s(?=[a-z]{3})|(?:it|this|that|there|they|he|she)(?:'s|'re|\s(?:is"
    r"|was|are|must be|should be|would be|has to be))\s|)"
    r"(?:(?:clearly|probably|likely|definitely|actually|option|most likely)\s){0,2}",
    re.IGNORECASE,
)
"""Start of a sentence before its choice: `So it is probably ...`."""
_BULLET = re.compile(r"(?:[-\u2022\u25cf]|\d{1,2}[.)])\s{1,3}")

_QUOTED = re.compile(r'\s{0,4}(\[?)\s{0,4}"((?:[^"\\]|\\.){1,500})"(\s{0,4},)?')
"""A string, or the first string of a list; group 3 matches if more elements follow."""

DENIAL = re.compile(
    r"\s*(?:(?:is|was|are|seems|looks|this is|it is|it's)\s(?:\w+\s)?)?"
    r"(?:not\b|wrong|incorrect|no\b|false|isn't|wasn't|cannot|can't|doesn't|unlikely|\u9519|\u4e0d)",
    re.IGNORECASE,
)
"""Words after an option that reject it: `is wrong`, `cannot be`."""


# A letter, or an option's text


def union_of(sets: Iterable[OptionSet]) -> OptionSet:
    """Union of option sets."""
    return frozenset[int]().union(*sets)


def option_of_letter(letter: str, options: Sequence[str]) -> OptionSet:
    """Option with a letter (either case); `NO_OPTION` for a letter beyond the last option."""
    index = LETTERS.index(letter.upper())
    return frozenset({index}) if index < len(options) else NO_OPTION


def options_with_text(text: str, options: Sequence[str]) -> OptionSet:
    """Options whose whole text equals `text`.

    Case, white space, quotation marks and a final full stop are ignored; articles too, unless the options differ only
    by them.
    """
    normal = _normal_form(text)
    matches = frozenset(index for index, option in enumerate(options) if normal and _normal_form(option) == normal)
    if matches or not normal:
        return matches
    normal_without_article = _without_article(normal)
    return frozenset(
        index
        for index, option in enumerate(options)
        if _without_article(_normal_form(option)) == normal_without_article
    )


def _without_article(text: str) -> str:
    return _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text


def _normal_form(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!\"'")


def options_of_yes_no(text: str, options: Sequence[str]) -> OptionSet:
    """Options that begin with the same yes or no as `text`: `No, he does not`.

    Empty unless some options begin with yes and others with no.
    """
    word = _YES_NO.match(text)
    if word is None or not _AFTER_YES_NO.match(text, word.end()):
        return NO_OPTION
    first_words = [_YES_NO.match(option.strip()) for option in options]
    word_kinds = {head[1].casefold() for head in first_words if head}
    if len(word_kinds) < 2:
        return NO_OPTION
    return frozenset(i for i, head in enumerate(first_words) if head and head[1].casefold() == word[1].casefold())


def is_article(match: re.Match[str], text: str) -> bool:
    """Whether a matched letter is a word of a sentence: `the answer is a person`, `Answer: I think`."""
    letter = match[1]
    word = NEXT_WORD.match(text, match.end())
    if letter not in "aAiI" or word is None or word[1].casefold() in CONNECTIVES:
        return False
    return letter.islower() or word[1][0].islower()


# A text that is nothing but a choice


def choice_of_text(text: str, options: Sequence[str]) -> OptionSet | None:
    """Options named by a text that consists of a choice: a letter, an option's text, or both.

    None for any other text.
    """
    content = text.strip()
    text_options = options_with_text(content, options)
    if match := BARE_LETTER.fullmatch(content):
        return text_options | option_of_letter(match[1], options)
    match = LABEL.fullmatch(content)
    if match and (label_options := options_with_text(match[2].strip("()"), options)):
        return text_options | label_options | option_of_letter(match[1], options)
    if (match := _LETTER_WITH_TEXT.fullmatch(content)) and (label_options := options_with_text(match[2], options)):
        return text_options | label_options | option_of_letter(match[1], options)
    match = _LETTER_BEFORE_TEXT.fullmatch(content)
    if match and not text_options and (label_options := options_with_text(match[2], options)):
        return label_options | option_of_letter(match[1], options)
    if not text_options and _LETTER_LIST.fullmatch(content):
        letters = [option_of_letter(letter, options) for letter in CAPITAL.findall(content)]
        return union_of(letters) if all(letters) else NO_OPTION
    return text_options or None


def choice_of_segment(text: str, options: Sequence[str]) -> OptionSet | None:
    """Options named by a line or sentence that is a choice, after an optional bullet or lead-in such as `It is`."""
    choice = choice_of_text(text, options)
    if choice is not None:
        return choice
    segment = _BULLET.sub("", text, count=1) if _BULLET.match(text) else text
    match = _LEAD_IN.match(segment)
    rest = segment[match.end() :] if match else segment
    if rest == text or (match and BARE_LETTER.fullmatch(rest.strip()) and rest.strip()[:1].islower()):
        return None
    return choice_of_text(rest, options)


# A choice at a position of a text


def options_at(text: str, position: int, options: Sequence[str]) -> OptionSet | None:
    """Options named at a position of a text, such as the end of an announcement.

    None = neither a letter nor an option's text.
    """
    if (match := _QUOTED.match(text, position)) and not _ALTERNATIVE_SEPARATOR.match(text, match.end()):
        if match[1] and match[3]:
            return NO_OPTION
        quotation = match[2].replace('\\"', '"')
        label = LABEL.fullmatch(quotation.strip())
        return choice_of_text(quotation, options) or (options_of_label(label, options) if label else None)
    text_options, end = option_text_at(text, position, options)
    match = LETTER.match(text, position)
    if match is None or is_article(match, text) or end > match.end(1):
        if end:
            return _text_before_letter(text, text_options, end, options)
        start = (
            position + len(text[position : position + 20]) - len(text[position : position + 20].lstrip(" \t\n\"'(["))
        )
        return options_of_yes_no(text[start : start + 100], options) or None
    matches = text_options | option_of_letter(match[1], options)
    if second := SECOND_LETTER.match(text, match.end()):
        return matches | option_of_letter(second[1] or second[2], options) if matches else matches
    label = LABEL.match(text[match.start(1) : match.start(1) + 500])
    if label and matches:
        matches |= options_with_text(label[2].splitlines()[0], options)
    return matches | _text_after_letter(text, match.end(), options) if matches else matches


def options_of_label(match: re.Match[str], options: Sequence[str]) -> OptionSet:
    """Options named by a letter and the words after it.

    Only the letter is used if its own text follows. `NO_OPTION` if the words deny it; both options if the words name
    another one.
    """
    words = match[2].splitlines()[0]
    word_options = options_with_text(words, options) or options_of_yes_no(words, options)
    if option_of_letter(match[1], options) <= option_text_at(words, 0, options)[0]:
        return option_of_letter(match[1], options)
    if not word_options and words[:1].isupper() and (second_letter := BARE_LETTER.fullmatch(words)):
        return option_of_letter(match[1], options) | option_of_letter(second_letter[1], options)
    if not word_options and DENIAL.match(words):
        return NO_OPTION
    return option_of_letter(match[1], options) | word_options


def option_text_at(text: str, position: int, options: Sequence[str]) -> tuple[OptionSet, int]:
    """Options whose text is at a position, the longest matches, and the position after it; 0 = no option."""
    while position < len(text) and text[position] in " \t\n\"'([<":
        position += 1
    match_with_article = _longest_text_at(text, position, options)
    if match_with_article[1]:
        return match_with_article
    article = _ARTICLE.match(text, position)
    return _longest_text_at(
        text, article.end() if article else position, [_without_article(option.strip()) for option in options]
    )


def _longest_text_at(text: str, position: int, options: Sequence[str]) -> tuple[OptionSet, int]:
    lengths = {
        index: len(option.strip())
        for index, option in enumerate(options)
        if _is_text_at(text, position, option.strip())
    }
    longest = max(lengths.values(), default=0)
    return frozenset(
        index for index, length in lengths.items() if length == longest
    ), position + longest if lengths else 0


def _is_text_at(text: str, position: int, option: str) -> bool:
    option = option.rstrip(".!")
    end = position + len(option)
    return (
        bool(option)
        and text[position:end].casefold() == option.casefold()
        and not _LONGER_WORD.match(text, end)
        and (bool(_TEXT_FOLLOWER.match(text, end)) or bool(_ALTERNATIVE_SEPARATOR.match(text, end)))
    )


def with_alternatives(text: str, first: OptionSet, end: int, options: Sequence[str]) -> OptionSet:
    """Options named by a list of options' texts that starts with `first`, which ends at `end`: `the dog / the pole`.

    `NO_OPTION` if an alternative is not an option.
    """
    separator = _ALTERNATIVE_SEPARATOR.match(text, end)
    if separator is None:
        return first
    alternative, _ = option_text_at(text, separator.end(), options)
    letter = LETTER.match(text, separator.end())
    if not alternative and letter and letter[1].isupper() and not is_article(letter, text):
        alternative = option_of_letter(letter[1], options)
    if alternative:
        return first | alternative
    is_continuation = separator[0].strip() in {",", ";", "|"} or (
        _TEXT_FOLLOWER.match(text, end) and "or" not in separator[0]
    )
    return first if is_continuation else NO_OPTION


def _text_after_letter(text: str, position: int, options: Sequence[str]) -> OptionSet:
    """Option whose text follows a letter and fills the rest of its line or parenthesis."""
    match = _LETTER_TEXT_SEPARATOR.match(text, position)
    if match is None:
        return NO_OPTION
    text_options, end = option_text_at(text, match.end(), options)
    return text_options if end and _TEXT_END.match(text, end) else NO_OPTION


def _text_before_letter(text: str, text_options: OptionSet, end: int, options: Sequence[str]) -> OptionSet:
    """Options of a text together with the letter or the alternatives that follow it."""
    mention = MENTION.match(text, end + 1) if text[end : end + 1] == " " else None
    if mention:
        return text_options | option_of_letter(mention[1] or mention[2], options)
    return with_alternatives(text, text_options, end, options)
