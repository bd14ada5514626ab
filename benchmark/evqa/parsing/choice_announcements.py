"""Answer rules for announcements, contrasts and corrections: `the answer is B`, `not A but C`, `wait, actually D`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evqa.parsing.announcements import RETRACTION
from evqa.parsing.choice_prose import ChoiceMatch, Prose
from evqa.parsing.option_matching import (
    CAPITAL,
    CONNECTIVES,
    DENIAL,
    LETTER,
    NEXT_WORD,
    NO_OPTION,
    SECOND_LETTER,
    OptionSet,
    option_of_letter,
    option_text_at,
    options_with_text,
    union_of,
    with_alternatives,
)

_ANNOUNCEMENT_SEPARATOR = re.compile(
    r"[^\n.]{1,60}?[}>\"')\]]?\s{0,2}(?:\b(?:or|and)\b|[/&,;])\s{0,2}\\?", re.IGNORECASE
)
r"""Text between two announcements that are alternatives: `\boxed{A} or \boxed{C}`."""

_CONDITION = re.compile(
    r"""["')\].]{0,3}(?:\s(?:only\s)?(?:if|unless)\b|\s?\?|[}>]?\s(?:is|was|seems|looks)\s(?:\w+\s)?(?:wrong|incorrect|not\b|false|tempting|out\b|eliminated|common|popular|frequent|typical)
        |\ ?(?:\u9009\u9879|\u9879)?\u662f?(?:\u9519|\u4e0d\u5bf9|\u4e0d\u6b63\u786e|\u4e0d\u53ef\u80fd)
        |[ :\-.(]{1,4}(?:incorrect|wrong|false|\u2717|\u2718|\u274c|\u9519\u8bef)(?![A-Za-z]))""",
    re.VERBOSE | re.IGNORECASE,
)
"""Text after an announced choice that makes it conditional, a question, or denies it: `if`, `?`, `is wrong`."""


def match_announcement(prose: Prose) -> ChoiceMatch | None:
    """Match the last announcement that names an option and is not retracted: `Answer: B`, `the correct option is D`."""
    denied_options: OptionSet = NO_OPTION
    for index, (announcement, options) in enumerate(prose.announcements):
        if announcement.is_denied:
            denied_options |= options or NO_OPTION
            continue
        if options is not None and not _is_conditional(prose.text, announcement.end, prose.options):
            text = prose.text[announcement.start : announcement.end + 40].split("\n\n")[0]
            for previous, alternative in prose.announcements[index + 1 : index + 2]:
                if _ANNOUNCEMENT_SEPARATOR.fullmatch(prose.text, previous.end, announcement.start):
                    options |= alternative or NO_OPTION
            return ChoiceMatch(options - denied_options if len(options) == 1 else options, text)
    return None


def _is_conditional(text: str, position: int, options: Sequence[str]) -> bool:
    """Whether a condition, a question or a denial follows the choice at a position."""
    text_options, end = option_text_at(text, position, options)
    match = LETTER.match(text, position)
    end_of_choice = end if text_options else (match.end() if match else position)
    return _CONDITION.match(text, end_of_choice) is not None


def _has_announcement(prose: Prose, start: int = 0) -> bool:
    """Whether an announcement at or after a position names an option."""
    return any(
        options
        for announcement, options in prose.announcements
        if announcement.start >= start and not announcement.is_denied
    )


# Contrasts


_NOT_BUT = re.compile(
    r"""(?:\bnot\s|n't\s|n't\sbe\s|\u4e0d\u662f|\u4e0d\u9009|\u5e76\u975e|\u975e|\u4e0d(?:\u4f1a|\u53ef\u80fd|\u5e94)\u662f)\s?(?:the\s)?(?:option\s)?(?:["'(]?[A-Z]["')]?(?:,\s|,?\s(?:or|nor|and)\s)){0,4}["'(]?([A-Z])["')]?[\s.;,]{1,4}
        (?:but(?:\srather)?|rather|it's|it\sis|it\swas|\u800c\u662f|(?<=[,;\s])\u662f|\u5e94\u8be5\u662f|\u9009|instead)[\s:,]{0,3}(?:the\s)?(?:option\s)?["'(]?([A-Z])(?![A-Za-z0-9_'])
      | (?<![A-Za-z0-9'])["'(]?([A-Z])["')]?,?\s\(?(?:and\snot|not|rather\sthan|instead\sof
        |over)\s(?:option\s)?["'(]?([A-Z])(?![A-Za-z0-9_'])""",
    re.VERBOSE | re.IGNORECASE,
)
"""A contrast of letters: groups 1 and 2 of `not A but C`, groups 3 and 4 of `C rather than A`."""
_TEXT_NOT = re.compile(r"(.{1,200}?),?\s(?:and\snot|not|rather\sthan|instead\sof)\s(.{1,200}?)[.!]?", re.IGNORECASE)
"""A contrast of texts: `the cat, not the dog`."""
_NOT_TEXT_BUT = re.compile(r"\bnot\s([^.,;\n]{1,100}?),?\sbut\s(?:rather\s)?(?=\S)", re.IGNORECASE)
"""Start of a contrast of texts: `not the dog but `."""


def match_contrast(prose: Prose) -> ChoiceMatch | None:
    """Match the last contrast of letters, `not A but C` or `C rather than A`, unless an announcement follows it."""
    contrasts = list(_NOT_BUT.finditer(prose.text))
    if not contrasts or _has_announcement(prose, contrasts[-1].end()):
        return None
    match = contrasts[-1]
    chosen_letter, rejected_letter = (match[2], match[1]) if match[2] else (match[3], match[4])
    if not (chosen_letter.isupper() and rejected_letter.isupper()):
        return None
    if not option_of_letter(rejected_letter, prose.options):
        return None
    return ChoiceMatch(option_of_letter(chosen_letter, prose.options), match[0])


def match_text_contrast(prose: Prose) -> ChoiceMatch | None:
    """Match a contrast of options' texts: `not the dog but the cat`."""
    for sentence in prose.sentences:
        contrast = _TEXT_NOT.fullmatch(sentence)
        chosen_options, rejected_options = (
            options_with_text(contrast[n], prose.options) if contrast else NO_OPTION for n in (1, 2)
        )
        if chosen_options and rejected_options:
            return ChoiceMatch(chosen_options, sentence)
    match = _NOT_TEXT_BUT.search(prose.text)
    if match is None or not options_with_text(match[1], prose.options):
        return None
    options, end = option_text_at(prose.text, match.end(), prose.options)
    return ChoiceMatch(options, prose.text[match.start() : end]) if end else None


# Corrections


_FILLER = re.compile(
    r"""[\s.,:;!\u2014-]{0,6}(?:(?:so|then|and|but|that|I\s(?:think|believe|mean|meant|now\sthink)|(?:it|this|that)(?:'s|\sis|\swas)|it\s(?:must|should|would|has\sto)\sbe
        |should\sbe|must\sbe|make\sthat|more\slike|probably|option|choice|actually|the\sright\sone\sis|\u5e94\u8be5|\u5e94\u8be5\u662f|\u662f|\u9009|\u5e94\u4e3a)
        [\s,:]{0,3}){0,5}""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words between a correction and the choice: `wait, I think it is ...`."""

_ALL_WRONG = re.compile(
    r"[\s.,:;!-]{0,4}(?:no[.,]?\s)?(?:(?:that|this|it)(?:'s|\sis|\swas|\smay\sbe)\s)?(?:wrong|incorrect|not\s(?:right|correct)|a\smistake)\b",
    re.IGNORECASE,
)
"""Start of a correction that only rejects what came before: `that is wrong`."""

_STRICT_LETTER = re.compile(
    r"""["'(\[]{0,2}([A-Z])["')\]]{0,2}(?=\s*(?:$|[.,;!\n]|because\b|since\b|as\b|given\b|\u3002|for\b|instead\b|is\s(?:the\s)?(?:right|correct|better|best)|fits|[-\u2013\u2014]\s|:\s))"""
)
"""A letter whose next word or punctuation shows that it is a choice, not an article or an initial."""


def match_correction(prose: Prose) -> ChoiceMatch | None:
    """Match the choice after a retraction such as `wait, actually`; a correction that names several is ambiguous."""
    text = prose.text
    for mark in reversed(list(RETRACTION.finditer(text))[-20:]):
        if _NOT_BUT.search(text, mark.end()) or _has_announcement(prose, mark.end()):
            return None
        correction = _correction_after(prose, mark)
        if correction is not None:
            return correction
    return None


def _correction_after(prose: Prose, mark: re.Match[str]) -> ChoiceMatch | None:
    """Choice that follows one retraction; `NO_OPTION` if the retraction leaves the earlier answer in doubt."""
    tail = prose.text[mark.end() :]
    filler = _FILLER.match(tail)
    position = filler.end() if filler else 0
    options = _strict_options_at(tail, position, prose.options)
    if options is not None:
        return ChoiceMatch(options, f"{mark[0]}{tail[: position + 40]}")
    if not _has_announcement(prose):
        return None
    sentence = tail.split("\n")[0][:300]
    letters = [
        option_of_letter(match[0], prose.options)
        for match in CAPITAL.finditer(sentence)
        if not _is_article_or_pronoun(match, sentence)
    ]
    is_ambiguous = len(union_of(letters)) > 1 or _ALL_WRONG.match(tail) is not None
    return ChoiceMatch(NO_OPTION, f"{mark[0]}{tail[:80]}") if is_ambiguous else None


def _strict_options_at(text: str, position: int, options: Sequence[str]) -> OptionSet | None:
    """Options at a position, by a letter that cannot be a word, or by an option's text; None = neither."""
    match = _STRICT_LETTER.match(text, position)
    if match and not DENIAL.match(text, match.end()):
        second = SECOND_LETTER.match(text, match.end())
        alternative = option_of_letter(second[1] or second[2], options) if second else NO_OPTION
        return option_of_letter(match[1], options) | alternative
    matches, end = option_text_at(text, position, options)
    return with_alternatives(text, matches, end, options) if end else None


def _is_article_or_pronoun(match: re.Match[str], text: str) -> bool:
    """Whether a capital is the article A or the pronoun I."""
    word = NEXT_WORD.match(text, match.end())
    return match[0] in "AI" and word is not None and word[1].casefold() not in CONNECTIVES
