"""Answer rules for lists of options: check boxes, a verdict on each option, a choice above an explanation of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from evqa.parsing.choice_prose import ChoiceMatch, Prose
from evqa.parsing.choice_sentences import match_declaration, match_sentence_end
from evqa.parsing.option_matching import (
    BARE_LETTER,
    NO_OPTION,
    OptionSet,
    choice_of_segment,
    choice_of_text,
    option_of_letter,
    options_at,
    union_of,
)

_BOX = re.compile(
    r"(?:\[([ xX\u2713\u2714])\]|\(([ xX])\)"
    r"|([\u2610\u2611\u2612\u2705\u2714\u2713\u25c9\u25cb\u25cf\u25ef\U0001f518\u274c\u2717\u2718\u2b1c]))"
    r"[ \t]{1,3}(?=\S)"
)
r"""A check box or sign before an option: `[x] C`, `(x) C`, `\u2705 C`."""

_LEADING_LABEL = re.compile(r"\s{0,8}(?:[-\u2022]\s)?\(?[A-Z](?![A-Za-z])")
r"""Start of a line with a letter; there a sign follows what it judges: `A) \u2717 B) \u2713`."""

_TRAILING_BOX = re.compile(
    r"^[ \t]*(?:[-\u2022][ \t])?(\(?[A-Z](?![A-Za-z0-9])[^\n\[\]]{0,100}?)[ \t]{0,3}\[[xX\u2713\u2714]\][ \t]*$",
    re.MULTILINE,
)
"""A check box after its option: `C [x]`."""
_CHECK_SIGNS = "xX\u2713\u2714\u2611\u2705\u25c9\u25cf\U0001f518"
"""Signs of a checked box."""


def match_checkbox(prose: Prose) -> ChoiceMatch | None:
    """Match options with a checked box: `[x] C`."""
    checked_options: OptionSet = NO_OPTION
    text, has_check = "", False
    has_empty = "\u2610" in prose.text
    for match in _BOX.finditer(prose.text):
        sign = match[1] or match[2] or match[3]
        line = prose.text[max(0, match.start() - 300) : match.start()].rpartition("\n")[2]
        if match[3] and _LEADING_LABEL.match(line):
            continue
        options = options_at(prose.text, match.end(), prose.options)
        if options and (sign in _CHECK_SIGNS or (sign == "\u2612" and has_empty)):
            checked_options |= options
            has_check, text = True, prose.text[match.start() : match.end() + 40].split("\n")[0]
    for match in _TRAILING_BOX.finditer(prose.text):
        if options := options_at(prose.text, match.start(1), prose.options):
            checked_options |= options
            has_check, text = True, match[0]
    return ChoiceMatch(checked_options, text) if has_check else None


# Verdicts


_ENTRY = re.compile(
    r"""(?<![A-Za-z0-9'"])(?<!\bnot\s)(?<!\bNot\s)(?<!\bor\s)(?:[Oo]ption\s|[Cc]hoice\s|\u9009\u9879)?[(\["]?([A-Z])
        (?:[)\]:.]{1,2}(?![A-Za-z0-9])|\s{1,2}[-\u2013\u2014:](?=\s)|\s(?=(?:is|was|seems|looks)\s|\()
        |\s?(?=[\u2713\u2714\u2705\u2717\u2718\u274c\u2611]|\u9519|\u6b63\u786e|\u4e0d|\u5bf9))""",
    re.VERBOSE,
)
"""Start of a list element with its letter: `A)`, `Option B:`, `C is`."""

_VERDICT = re.compile(
    r"""(?:^[\s:\-,(\[\u2192=>]{0,6}|[-\u2013\u2014:,.;(\[\u2192>|]\s{0,3}|\b(?:is|are|was|seems)\s(?:the\s|an?\s|clearly\s|therefore\s){0,2}|\n\s{0,4})
        (?:(not\s)?(?:(correct|right|true|yes|accurate|supported)|(incorrect|wrong|false|no|not|inaccurate|unsupported|implausible|impossible|eliminated))
        (?![A-Za-z']))
        |([\u2713\u2714\u2705\u2611]|\u6b63\u786e|\u5bf9(?![\u4e00-\u9fff]))|([\u2717\u2718\u274c]|\u9519\u8bef|\u9519|\u4e0d\u5bf9|\u4e0d\u6b63\u786e|\u4e0d)""",
    re.VERBOSE | re.IGNORECASE,
)
"""A verdict on a list element; group 2 or 4 = correct, unless group 1 negates it."""


class ListedOption(NamedTuple):
    """Element of a list of options in a reply."""

    letter: str
    verdict: bool | None
    """True = called correct, False = called wrong, None = no verdict."""
    text: str


def _list_entries(prose: Prose) -> list[ListedOption]:
    """List elements that start with an option's letter, in order, the last 60."""
    matches = [match for match in _ENTRY.finditer(prose.text) if option_of_letter(match[1], prose.options)][-60:]
    ends = [*(match.start() for match in matches[1:]), len(prose.text)][: len(matches)]
    entries: list[ListedOption] = []
    for match, end in zip(matches, ends, strict=True):
        text = prose.text[match.end() : min(end, match.end() + 300)]
        entries.append(ListedOption(match[1], _verdict_of(text), f"{match[0]} {text.strip()}"))
    return entries


def _verdict_of(text: str) -> bool | None:
    """Verdict in the text of a list element; None if it has none."""
    match = _VERDICT.search(text.split("\n\n")[0])
    if match is None:
        return None
    return bool(match[4] or (match[2] and not match[1]))


def match_verdict_list(prose: Prose) -> ChoiceMatch | None:
    """Match a list of options with verdicts: the options called correct, else the conclusion from the wrong ones."""
    entries = _list_entries(prose)
    if len({entry.letter for entry in entries}) < 2 or all(entry.verdict is None for entry in entries):
        return None
    correct_entries = [entry for entry in entries if entry.verdict]
    if not correct_entries:
        return _remaining_option(prose, entries)
    letters = {entry.letter for entry in correct_entries}
    return ChoiceMatch(
        union_of(option_of_letter(letter, prose.options) for letter in letters), correct_entries[-1].text
    )


def _remaining_option(prose: Prose, entries: Sequence[ListedOption]) -> ChoiceMatch | None:
    """Conclusion from a list of wrong options: `A is wrong, B is wrong, so C`; `NO_OPTION` if the list has none."""
    last_sentence = prose.own_sentences[-1:] or [""]
    letter = BARE_LETTER.fullmatch(last_sentence[0])
    conclusion = (
        ChoiceMatch(option_of_letter(letter[1], prose.options), last_sentence[0])
        if letter
        else match_sentence_end(prose)
    )
    wrong_options = union_of(
        option_of_letter(entry.letter, prose.options) for entry in entries if entry.verdict is False
    )
    if conclusion and len(conclusion.options) == 1 and not conclusion.options & wrong_options:
        return conclusion
    is_list = len(entries) > 2 and any(entry.verdict is not None for entry in entries[:2])
    return ChoiceMatch(NO_OPTION, entries[-1].text) if is_list else None


def match_first_line(prose: Prose) -> ChoiceMatch | None:
    """Match a first line that consists of a choice, above an explanation that calls no other option correct."""
    first, _, rest = prose.text.partition("\n")
    options = choice_of_text(first, prose.options)
    entries = _list_entries(prose)
    if options is None or len(options) != 1 or not rest.strip() or (entries and entries[0].verdict is False):
        return None
    remainder = Prose(rest, prose.options)
    lines = [choice_of_segment(line.strip(), prose.options) for line in rest.splitlines()[:400] if line.strip()]
    conclusions = [
        match.options for rule in (match_declaration, match_sentence_end) if (match := rule(remainder)) is not None
    ]
    correct_options = [
        option_of_letter(entry.letter, prose.options) for entry in _list_entries(remainder) if entry.verdict
    ]
    contradictions = [
        choice for choice in (*lines, *conclusions, *correct_options) if choice is not None and choice != options
    ]
    return None if contradictions else ChoiceMatch(options, first)
