"""Which option a reply chooses: a table of rules.

The last choice that a reply commits to counts. What can be read in two ways is no choice, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from evqa.parsing import literals, reply_text
from evqa.parsing.announcements import (
    RETRACTION,
    Announcement,
    answer_positions,
    find_announcements,
    is_denied,
    is_discounted,
)
from evqa.parsing.literals import Node, NoLiteral, Truncated
from evqa.parsing.reply_json import JsonValue
from evqa.parsing.reply_rules import ReplyText, Rule, RuleResult, prepare_reply
from evqa.schema import LETTERS

OptionSet = frozenset[int]
"""Options that a text means: one = a choice, several = ambiguous, none = something that is no option."""

MAX_TEXT = 2000
"""A longer text is no single choice."""

MAX_TAIL = 60_000
"""So many characters from the end are split into sentences."""


class ChoiceMatch(NamedTuple):
    """What a rule found."""

    meant: OptionSet
    text: str


@dataclass(frozen=True)
class Prose:
    """Text without markup, and the options in plain letters."""

    text: str
    options: tuple[str, ...]

    @cached_property
    def sentences(self) -> list[str]:
        """Its last sentences."""
        return reply_text.sentences(self.text[-MAX_TAIL:])

    @cached_property
    def announcements(self) -> list[tuple[Announcement, OptionSet | None]]:
        """Announcements and denials from the last one back, and what each names."""
        return [(place, _named_at(self.text, place.end, self.options)) for place in find_announcements(self.text)]

    @cached_property
    def own(self) -> list[str]:
        """Sentences that neither deny an answer nor report somebody else's."""
        return [sentence for sentence in self.sentences if not is_discounted(sentence)]


NONE: OptionSet = frozenset()


def parse_answer(text: str, options: Sequence[str]) -> int | None:
    """Index of the option that the reply commits to; None where it commits to none, or to several."""
    return explain_answer(text, options).value


def explain_answer(text: str, options: Sequence[str]) -> RuleResult[int]:
    """As `parse_answer`, with the rule that decided."""
    if not options:
        return RuleResult(None, "", "")
    said = prepare_reply(text)
    plain = tuple(reply_text.plain(option) for option in options)
    found = _of_objects(said, plain) if said.objects else _first(RULES, Prose(_without_echo(said.prose, plain), plain))
    if found is None:
        return RuleResult(None, "", "")
    rule, match = found
    value = next(iter(match.meant)) if len(match.meant) == 1 else None
    return RuleResult(value, rule, match.text[:200])


MAX_ECHO = 5000
"""Options of more characters in all are not looked for."""


def _without_echo(text: str, options: Sequence[str]) -> str:
    """The text without a list of all options, each with its own letter and nothing else: it repeats the question."""
    words = [option.strip().rstrip(".").split() for option in options]
    if len(words) < 2 or not all(words) or sum(map(len, options)) > MAX_ECHO or len(words) > len(LETTERS):
        return text
    texts = [r"\s{1,3}".join(map(re.escape, each)) for each in words]
    entries = [
        rf"[(\[]?{letter}(?:[)\].:]{{1,2}}|\s[-\u2013])\s{{0,3}}{each}[.,;]?"
        for letter, each in zip(LETTERS, texts, strict=False)
    ]
    echo = r"\s{1,5}(?:[-\u2022]\s{1,3})?".join(entries)
    return re.sub(
        rf"(?:(?:options|choices)\s?:?\s{{1,3}})?(?<![A-Za-z0-9]){echo}(?=[ \t]{{0,3}}(?:\n|$|[A-Z][a-z]))",
        "\n",
        text,
        flags=re.IGNORECASE,
    )


def _first(rules: Sequence[Rule[Prose, ChoiceMatch]], prose: Prose) -> tuple[str, ChoiceMatch] | None:
    for rule in rules:
        match = rule.read(prose)
        if match is not None:
            return rule.name, match
    return None


# Letters and texts

_LETTER = re.compile(
    r"""[\s"'(\[{<$\\]{0,8}(?:boxed\{)?(?:(?:(?:option|choice|letter|answer)(?![A-Za-z])|\u9009\u9879|\u9078\u9805)\s{0,3}:?\s{0,3})?
        ["'(\[]{0,2}([A-Za-z])(?![A-Za-z0-9_]|['-][A-Za-z])""",
    re.VERBOSE | re.IGNORECASE,
)
"""A letter that stands alone, with what may stand around it."""
_JOINT = (
    r"(?:[,;/&|+]|->|\u2192|\b(?:or|and|then|plus|oder|und|ou|et|y|o|e)\b|\u548c|\u6216|\u4e0e|\u53ca|\u3068|\u8207)"
)
_HEDGE = r"(?:(?:or|and|also|maybe|possibly|perhaps|even|both|option|the)\s{1,2}){0,3}"
_STRONG = (
    r"(?:[/&|+]|->|\u2192|\u8fd8\u662f|[,;]?\s{0,2}\b(?:and/or|or|and|(?:and\s)?then|plus|oder|und|ou|et|y|as\swell\sas)\b|\u548c|\u6216|\u4e0e"
    r"|\u53ca|\u3068|\u8207)"
)
_AND_LETTER = re.compile(
    rf"""["')\].}}]{{0,3}}\s{{0,3}}(?:
        {_STRONG}\s{{0,3}}{_HEDGE}(?:\\?boxed\{{|["'(\[]{{0,2}})((?-i:[A-Z]))(?![A-Za-z0-9_]|['-][A-Za-z]|(?<=[AI])\s+(?!(?:are|and|or|is|if|fit)\b)[a-z])
      | (?:[,;]\s{{0,3}}{_HEDGE}|\s?(?=\()|\n\s{{0,4}}(?:[-*]\s)?(?=[(\[]?[A-Z][)\].]?\s*$))["'(\[]{{0,2}}((?-i:[A-Z]))
        (?![A-Za-z0-9_]|['-][A-Za-z]|[)\]]?\s+(?:is|was|shows?|seems?|looks?|does|has|can|would|were|are|because)\b|\s+[a-z]|[.:)]\s?[A-Za-z]))""",
    re.VERBOSE | re.MULTILINE,
)
"""A second letter: `A or B`, `A, B`."""
_LETTER_LIST = re.compile(
    rf"""(?:both\s|either\s|neither\s|options?\s)?["'(\[]{{0,3}}([A-Z])["')\]]{{0,3}}
        (?:(?:\s{{0,3}}{_JOINT}\s{{0,3}}{_HEDGE}|\s{{1,3}})["'(\[]{{0,2}}([A-Z])["')\]]{{0,3}}(?![A-Za-z])){{1,20}}[.!\s\]]{{0,3}}""",
    re.VERBOSE,
)
_CAPITAL = re.compile(r"(?<![A-Za-z0-9_'])[A-Z](?![A-Za-z0-9_'])")
_BARE = re.compile(
    r"""[("'\[<]{0,2}(?:(?:the\ )?(?:(?:option|choice|letter|answer)(?![A-Za-z])|\u9009\u9879)\s{0,3}:?\s{0,3})?
        ["'(\[{]{0,2}
        ([A-Za-z])["')\].:,;!>}]{0,4}(?:\s?[\u2713\u2714\u2705\u2611])?""",
    re.VERBOSE | re.IGNORECASE,
)
"""A text that is nothing but a letter."""
_LABELLED = re.compile(
    r"""[(\[]?(?:[Oo]ption\s)?([A-Za-z])(?:[)\]:][.:]?|\.(?=\s|[^\x00-\x7f])|\s[-\u2013\u2014](?=\s)|\n(?=\())
        \s{0,4}(\S.*)""",
    re.DOTALL | re.VERBOSE,
)
"""A letter and words behind it: `B) blue ball`."""
_WITH_TEXT = re.compile(r"([A-Za-z])\s\(([^()\n]{1,300})\)\.?")
"""`C (a man running)`."""
_SPACED_TEXT = re.compile(r"(?:[Oo]ption\s)?([A-Z])[,:]?\s{1,4}(\S.{0,1000})")
"""`B blue ball`."""
_TEXT_BEHIND = re.compile(
    r"""["')\]]{0,2}(?:\s?[(]|,\s(?:(?:which\sis|i\.e\.,?|namely|that\sis,?)\s)?|\s?[-\u2013\u2014]\s?|\s(?=["']))["'(\[]{0,2}"""
)
"""What stands between a letter and the option's text: `B (blue ball)`, `B, the blue ball`."""
_TEXT_END = re.compile(r"""["')\]]{0,3}[.!]?["')\]]{0,2}\s{0,3}(?:$|\n)|["']?[)\]]""")
_WORD_AFTER = re.compile(r"[ \t]+([A-Za-z']+)")
_CONNECTIVES = frozenset(
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
"""Words that may follow the letters A and I; before any other word they are an article and a pronoun."""
_MENTION = re.compile(r"\(([A-Z])\)|\b[Oo]ption\s([A-Z])(?![A-Za-z0-9_'])")
"""An option named in passing."""
_ARTICLE = re.compile(r"(?:a|an|the)\s(?=\S)", re.IGNORECASE)
_GOES_ON = re.compile(
    r"""\s*(?:$|[.,;:!?)"'\]}<>\n({]|[-\u2013\u2014]{1,2}\s|\|
        |(?:because|since|as|which|that|who|whose|where|when|while|in|on|at|from|to|by|near|with|without|of|under|over
        |behind|beside|next|seen|shown|visible|holding|is|was|are|were|has|instead|rather|not|but|so|given|due|based)\b
        |(?:and|or)\s(?:it|he|she|they|this|that|we|I|there|you|the\sanswer)\b|[^\x00-\x7f])|/|\s*(?:{})""",
    re.VERBOSE,
)
"""What may stand behind an option's text; before any other word it is the beginning of something else."""
_NEXT = re.compile(rf"[\"')]{{0,2}}\s{{0,3}}\(?(?:{_JOINT})\s{{0,3}}{_HEDGE}", re.IGNORECASE)
_DOT_NUMBER = re.compile(r"[.,]\d|['-]\w|[\w%]")


def _letter(letter: str, options: Sequence[str]) -> OptionSet:
    index = LETTERS.index(letter.upper())
    return frozenset({index}) if index < len(options) else NONE


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!\"'")


def _without_article(text: str) -> str:
    return _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text


def _by_text(text: str, options: Sequence[str]) -> OptionSet:
    """Options whose text this is, whole; articles count only where they tell options apart."""
    wanted = _normal(text)
    same = frozenset(index for index, option in enumerate(options) if wanted and _normal(option) == wanted)
    if same or not wanted:
        return same
    bare = _without_article(wanted)
    return frozenset(index for index, option in enumerate(options) if _without_article(_normal(option)) == bare)


_YES_NO = re.compile(
    r"(yes|no|true|false|\u662f\u7684?|\u4e0d\u662f|\u5426|s\u00ed|oui|non|ja|nein)(?![A-Za-z])", re.IGNORECASE
)
_AFTER_YES_NO = re.compile(
    r"\s*(?:$|[,.;:!\n]|[-\u2013\u2014]{1,2}\s|\(|\s(?:he|she|it|they|the|there|this|that|I|we|because|since)\b|[^\x00-\x7f])"
)


def _yes_no(text: str, options: Sequence[str]) -> OptionSet:
    """The only option that begins with the yes or no that a text begins with: `No, he does not`."""
    word = _YES_NO.match(text)
    if word is None or not _AFTER_YES_NO.match(text, word.end()):
        return NONE
    heads = [_YES_NO.match(option.strip()) for option in options]
    kinds = {head[1].casefold() for head in heads if head}
    if len(kinds) < 2:
        return NONE
    return frozenset(i for i, head in enumerate(heads) if head and head[1].casefold() == word[1].casefold())


_PRESENTED = re.compile(
    r"(?:[\u2192\u27a1>=\U0001f449\u25b6\u2234-]{1,2}\s{1,2})?(?:(?:so|thus|hence|therefore|then|and"
    r"|but)[, ]{1,3})?(?:(?:probably|definitely|clearly|certainly|likely|most\slikely|obviously|surely"
    r"|presumably)\s|(?:he|she|it|they)\s(?=[a-z]{3})|(?:it|this|that|there|they|he|she)(?:'s|'re|\s(?:is"
    r"|was|are|must be|should be|would be|has to be))\s|)"
    r"(?:(?:clearly|probably|likely|definitely|actually|option|most likely)\s){0,2}",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:[-\u2022\u25cf]|\d{1,2}[.)])\s{1,3}")


def _choice(text: str, options: Sequence[str]) -> OptionSet | None:
    """What a text means that is all choice: a letter, an option's text, or both; None = no choice."""
    bare = text.strip()
    by_text = _by_text(bare, options)
    if match := _BARE.fullmatch(bare):
        return by_text | _letter(match[1], options)
    match = _LABELLED.fullmatch(bare)
    if match and (named := _by_text(match[2].strip("()"), options)):
        return by_text | named | _letter(match[1], options)
    if (match := _WITH_TEXT.fullmatch(bare)) and (named := _by_text(match[2], options)):
        return by_text | named | _letter(match[1], options)
    match = _SPACED_TEXT.fullmatch(bare)
    if match and not by_text and (named := _by_text(match[2], options)):
        return named | _letter(match[1], options)
    if not by_text and _LETTER_LIST.fullmatch(bare):
        letters = [_letter(letter, options) for letter in _CAPITAL.findall(bare)]
        return frozenset[int]().union(*letters) if all(letters) else NONE
    return by_text or None


def _segment(text: str, options: Sequence[str]) -> OptionSet | None:
    """As `_choice`, of a line or sentence, which may start with a bullet or `It is`."""
    found = _choice(text, options)
    if found is not None:
        return found
    bare = _BULLET.sub("", text, count=1) if _BULLET.match(text) else text
    match = _PRESENTED.match(bare)
    rest = bare[match.end() :] if match else bare
    if rest == text or (match and _BARE.fullmatch(rest.strip()) and rest.strip()[:1].islower()):
        return None
    return _choice(rest, options)


def _is_article(match: re.Match[str], text: str) -> bool:
    """Whether the letter is a word of a sentence: `the answer is a person`, `Answer: I think`."""
    letter = match[1]
    word = _WORD_AFTER.match(text, match.end())
    if letter not in "aAiI" or word is None or word[1].casefold() in _CONNECTIVES:
        return False
    return letter.islower() or word[1][0].islower()


def _text_at(text: str, at: int, options: Sequence[str]) -> tuple[OptionSet, int]:
    """Options whose text stands at a place, the longest ones, and where it ends, else 0."""
    while at < len(text) and text[at] in " \t\n\"'([<":
        at += 1
    exact = _longest(text, at, options)
    if exact[1]:
        return exact
    article = _ARTICLE.match(text, at)
    return _longest(text, article.end() if article else at, [_without_article(option.strip()) for option in options])


def _longest(text: str, at: int, options: Sequence[str]) -> tuple[OptionSet, int]:
    fits = {index: len(option.strip()) for index, option in enumerate(options) if _stands_at(text, at, option.strip())}
    longest = max(fits.values(), default=0)
    return frozenset(index for index, length in fits.items() if length == longest), at + longest if fits else 0


def _stands_at(text: str, at: int, option: str) -> bool:
    option = option.rstrip(".!")
    end = at + len(option)
    return (
        bool(option)
        and text[at:end].casefold() == option.casefold()
        and not _DOT_NUMBER.match(text, end)
        and (bool(_GOES_ON.match(text, end)) or bool(_NEXT.match(text, end)))
    )


def _with_alternatives(text: str, meant: OptionSet, end: int, options: Sequence[str]) -> OptionSet:
    """What a list of options' texts means: `the dog / the pole`; what is no option makes it none."""
    joint = _NEXT.match(text, end)
    if joint is None:
        return meant
    another, _ = _text_at(text, joint.end(), options)
    letter = _LETTER.match(text, joint.end())
    if not another and letter and letter[1].isupper() and not _is_article(letter, text):
        another = _letter(letter[1], options)
    if another:
        return meant | another
    goes_on = joint[0].strip() in {",", ";", "|"} or (_GOES_ON.match(text, end) and "or" not in joint[0])
    return meant if goes_on else NONE


_QUOTED = re.compile(r'\s{0,4}(\[?)\s{0,4}"((?:[^"\\]|\\.){1,500})"(\s{0,4},)?')
"""A string, or the first one of a list and whether more follow."""


def _named_at(text: str, at: int, options: Sequence[str]) -> OptionSet | None:
    """What stands where an answer is announced; None = neither a letter nor an option's text."""
    if (match := _QUOTED.match(text, at)) and not _NEXT.match(text, match.end()):
        if match[1] and match[3]:
            return NONE
        quoted = match[2].replace('\\"', '"')
        label = _LABELLED.fullmatch(quoted.strip())
        return _choice(quoted, options) or (_labelled(label, options) if label else None)
    by_text, end = _text_at(text, at, options)
    match = _LETTER.match(text, at)
    if match is None or _is_article(match, text) or end > match.end(1):
        if end:
            return _text_and_letter(text, by_text, end, options)
        start = at + len(text[at : at + 20]) - len(text[at : at + 20].lstrip(" \t\n\"'(["))
        return _yes_no(text[start : start + 100], options) or None
    meant = by_text | _letter(match[1], options)
    if another := _AND_LETTER.match(text, match.end()):
        return meant | _letter(another[1] or another[2], options) if meant else meant
    label = _LABELLED.match(text[match.start(1) : match.start(1) + 500])
    if label and meant:
        meant |= _by_text(label[2].splitlines()[0], options)
    return meant | _text_behind(text, match.end(), options) if meant else meant


def _text_behind(text: str, at: int, options: Sequence[str]) -> OptionSet:
    """The option whose text is all that stands behind a letter."""
    match = _TEXT_BEHIND.match(text, at)
    if match is None:
        return NONE
    by_text, end = _text_at(text, match.end(), options)
    return by_text if end and _TEXT_END.match(text, end) else NONE


def _text_and_letter(text: str, by_text: OptionSet, end: int, options: Sequence[str]) -> OptionSet:
    behind = _MENTION.match(text, end + 1) if text[end : end + 1] == " " else None
    if behind:
        return by_text | _letter(behind[1] or behind[2], options)
    return _with_alternatives(text, by_text, end, options)


_DENYING = re.compile(
    r"\s*(?:(?:is|was|are|seems|looks|this is|it is|it's)\s(?:\w+\s)?)?"
    r"(?:not\b|wrong|incorrect|no\b|false|isn't|wasn't|cannot|can't|doesn't|unlikely|\u9519|\u4e0d)",
    re.IGNORECASE,
)


def _labelled(match: re.Match[str], options: Sequence[str]) -> OptionSet:
    """A letter with words behind it; the words may not be another option's, and may not deny it."""
    words = match[2].splitlines()[0]
    named = _by_text(words, options) or _yes_no(words, options)
    if _letter(match[1], options) <= _text_at(words, 0, options)[0]:
        return _letter(match[1], options)
    if not named and words[:1].isupper() and (bare := _BARE.fullmatch(words)):
        return _letter(match[1], options) | _letter(bare[1], options)
    if not named and _DENYING.match(words):
        return NONE
    return _letter(match[1], options) | named


# Rules


def _whole(prose: Prose) -> ChoiceMatch | None:
    if len(prose.text) > MAX_TEXT:
        return None
    found = _choice(prose.text, prose.options)
    return None if found is None else ChoiceMatch(found, prose.text)


_NOT_BUT = re.compile(
    r"""(?:\bnot\s|n't\s|n't\sbe\s|\u4e0d\u662f|\u4e0d\u9009|\u5e76\u975e|\u975e|\u4e0d(?:\u4f1a|\u53ef\u80fd|\u5e94)\u662f)\s?(?:the\s)?(?:option\s)?(?:["'(]?[A-Z]["')]?(?:,\s|,?\s(?:or|nor|and)\s)){0,4}["'(]?([A-Z])["')]?[\s.;,]{1,4}
        (?:but(?:\srather)?|rather|it's|it\sis|it\swas|\u800c\u662f|(?<=[,;\s])\u662f|\u5e94\u8be5\u662f|\u9009|instead)[\s:,]{0,3}(?:the\s)?(?:option\s)?["'(]?([A-Z])(?![A-Za-z0-9_'])
      | (?<![A-Za-z0-9'])["'(]?([A-Z])["')]?,?\s\(?(?:and\snot|not|rather\sthan|instead\sof
        |over)\s(?:option\s)?["'(]?([A-Z])(?![A-Za-z0-9_'])""",
    re.VERBOSE | re.IGNORECASE,
)


def _contrasted(prose: Prose) -> ChoiceMatch | None:
    """`not A but C`, `C rather than A`, with nothing announced behind."""
    found = list(_NOT_BUT.finditer(prose.text))
    if not found or _is_announced(prose, found[-1].end()):
        return None
    match = found[-1]
    chosen, other = (match[2], match[1]) if match[2] else (match[3], match[4])
    if not (chosen.isupper() and other.isupper()):
        return None
    return ChoiceMatch(_letter(chosen, prose.options), match[0]) if _letter(other, prose.options) else None


def _text_contrasted(prose: Prose) -> ChoiceMatch | None:
    """`not the dog but the cat`."""
    for sentence in prose.sentences:
        contrast = _TEXT_NOT.fullmatch(sentence)
        if contrast and (meant := _by_text(contrast[1], prose.options)) and _by_text(contrast[2], prose.options):
            return ChoiceMatch(meant, sentence)
    match = _NOT_TEXT_BUT.search(prose.text)
    if match is None or not _by_text(match[1], prose.options):
        return None
    meant, end = _text_at(prose.text, match.end(), prose.options)
    return ChoiceMatch(meant, prose.text[match.start() : end]) if end else None


_TEXT_NOT = re.compile(r"(.{1,200}?),?\s(?:and\snot|not|rather\sthan|instead\sof)\s(.{1,200}?)[.!]?", re.IGNORECASE)
_NOT_TEXT_BUT = re.compile(r"\bnot\s([^.,;\n]{1,100}?),?\sbut\s(?:rather\s)?(?=\S)", re.IGNORECASE)

_FILLER = re.compile(
    r"""[\s.,:;!\u2014-]{0,6}(?:(?:so|then|and|but|that|I\s(?:think|believe|mean|meant|now\sthink)|(?:it|this|that)(?:'s|\sis|\swas)|it\s(?:must|should|would|has\sto)\sbe
        |should\sbe|must\sbe|make\sthat|more\slike|probably|option|choice|actually|the\sright\sone\sis|\u5e94\u8be5|\u5e94\u8be5\u662f|\u662f|\u9009|\u5e94\u4e3a)
        [\s,:]{0,3}){0,5}""",
    re.VERBOSE | re.IGNORECASE,
)
_ALL_WRONG = re.compile(
    r"[\s.,:;!-]{0,4}(?:no[.,]?\s)?(?:(?:that|this|it)(?:'s|\sis|\swas|\smay\sbe)\s)?(?:wrong|incorrect|not\s(?:right|correct)|a\smistake)\b",
    re.IGNORECASE,
)
_STRICT_LETTER = re.compile(
    r"""["'(\[]{0,2}([A-Z])["')\]]{0,2}(?=\s*(?:$|[.,;!\n]|because\b|since\b|as\b|given\b|\u3002|for\b|instead\b|is\s(?:the\s)?(?:right|correct|better|best)|fits|[-\u2013\u2014]\s|:\s))"""
)


def _corrected(prose: Prose) -> ChoiceMatch | None:
    """A letter or a text behind `wait, actually`; a correction that names several options is ambiguous."""
    text = prose.text
    for mark in reversed(list(RETRACTION.finditer(text))[-20:]):
        if _NOT_BUT.search(text, mark.end()) or _is_announced(prose, mark.end()):
            return None
        found = _correction(prose, mark)
        if found is not None:
            return found
    return None


def _is_announced(prose: Prose, start: int = 0) -> bool:
    return any(meant for place, meant in prose.announcements if place.start >= start and not place.is_denied)


def _correction(prose: Prose, mark: re.Match[str]) -> ChoiceMatch | None:
    """What stands behind one mark of a correction."""
    tail = prose.text[mark.end() :]
    filler = _FILLER.match(tail)
    at = filler.end() if filler else 0
    found = _strictly_at(tail, at, prose.options)
    if found is not None:
        return ChoiceMatch(found, f"{mark[0]}{tail[: at + 40]}")
    if not _is_announced(prose):
        return None
    sentence = tail.split("\n")[0][:300]
    named = [_letter(match[0], prose.options) for match in _CAPITAL.finditer(sentence) if not _is_word(match, sentence)]
    is_open = len(frozenset[int]().union(*named)) > 1 or _ALL_WRONG.match(tail) is not None
    return ChoiceMatch(NONE, f"{mark[0]}{tail[:80]}") if is_open else None


def _strictly_at(text: str, at: int, options: Sequence[str]) -> OptionSet | None:
    match = _STRICT_LETTER.match(text, at)
    if match and not _DENYING.match(text, match.end()):
        another = _AND_LETTER.match(text, match.end())
        return _letter(match[1], options) | (_letter(another[1] or another[2], options) if another else NONE)
    meant, end = _text_at(text, at, options)
    return _with_alternatives(text, meant, end, options) if end else None


def _is_word(match: re.Match[str], text: str) -> bool:
    """Whether a capital is the article or the pronoun."""
    word = _WORD_AFTER.match(text, match.end())
    return match[0] in "AI" and word is not None and word[1].casefold() not in _CONNECTIVES


def _announced(prose: Prose) -> ChoiceMatch | None:
    """`Answer: B`, `the correct option is D`: the last one that names something and is not taken back."""
    denied: OptionSet = NONE
    for number, (place, meant) in enumerate(prose.announcements):
        if place.is_denied:
            denied |= meant or NONE
            continue
        if meant is not None and not _is_conditional(prose.text, place.end, prose.options):
            matched = prose.text[place.start : place.end + 40].split("\n\n")[0]
            for before, other in prose.announcements[number + 1 : number + 2]:
                if _ALTERNATIVE.fullmatch(prose.text, before.end, place.start):
                    meant |= other or NONE
            return ChoiceMatch(meant - denied if len(meant) == 1 else meant, matched)
    return None


_ALTERNATIVE = re.compile(r"[^\n.]{1,60}?[}>\"')\]]?\s{0,2}(?:\b(?:or|and)\b|[/&,;])\s{0,2}\\?", re.IGNORECASE)
"""What stands between two announcements that are alternatives: `\boxed{A} or \boxed{C}`."""
_CONDITION = re.compile(
    r"""["')\].]{0,3}(?:\s(?:only\s)?(?:if|unless)\b|\s?\?|[}>]?\s(?:is|was|seems|looks)\s(?:\w+\s)?(?:wrong|incorrect|not\b|false|tempting|out\b|eliminated|common|popular|frequent|typical)
        |\ ?(?:\u9009\u9879|\u9879)?\u662f?(?:\u9519|\u4e0d\u5bf9|\u4e0d\u6b63\u786e|\u4e0d\u53ef\u80fd)
        |[ :\-.(]{1,4}(?:incorrect|wrong|false|\u2717|\u2718|\u274c|\u9519\u8bef)(?![A-Za-z]))""",
    re.VERBOSE | re.IGNORECASE,
)


def _is_conditional(text: str, at: int, options: Sequence[str]) -> bool:
    """Whether a condition, a question or a denial stands behind what is announced."""
    by_text, end = _text_at(text, at, options)
    match = _LETTER.match(text, at)
    last = end if by_text else (match.end() if match else at)
    return _CONDITION.match(text, last) is not None


_BOX = re.compile(
    r"(?:\[([ xX\u2713\u2714])\]|\(([ xX])\)"
    r"|([\u2610\u2611\u2612\u2705\u2714\u2713\u25c9\u25cb\u25cf\u25ef\U0001f518\u274c\u2717\u2718\u2b1c]))"
    r"[ \t]{1,3}(?=\S)"
)
_LABEL_FIRST = re.compile(r"\s{0,8}(?:[-\u2022]\s)?\(?[A-Z](?![A-Za-z])")
"""On a line that starts with a letter, a sign stands behind what it judges: `A) \u2717 B) \u2713`."""
_BOX_BEHIND = re.compile(
    r"^[ \t]*(?:[-\u2022][ \t])?(\(?[A-Z](?![A-Za-z0-9])[^\n\[\]]{0,100}?)[ \t]{0,3}\[[xX\u2713\u2714]\][ \t]*$",
    re.MULTILINE,
)
"""`C [x]`: a box behind its option."""
_CHECKED = "xX\u2713\u2714\u2611\u2705\u25c9\u25cf\U0001f518"


def _checkbox(prose: Prose) -> ChoiceMatch | None:
    """`[x] C`: the only box that is checked."""
    checked: OptionSet = NONE
    matched, is_checked = "", False
    has_empty = "\u2610" in prose.text
    for match in _BOX.finditer(prose.text):
        sign = match[1] or match[2] or match[3]
        line = prose.text[max(0, match.start() - 300) : match.start()].rpartition("\n")[2]
        if match[3] and _LABEL_FIRST.match(line):
            continue
        meant = _named_at(prose.text, match.end(), prose.options)
        if meant and (sign in _CHECKED or (sign == "\u2612" and has_empty)):
            checked |= meant
            is_checked, matched = True, prose.text[match.start() : match.end() + 40].split("\n")[0]
    for match in _BOX_BEHIND.finditer(prose.text):
        if meant := _named_at(prose.text, match.start(1), prose.options):
            checked |= meant
            is_checked, matched = True, match[0]
    return ChoiceMatch(checked, matched) if is_checked else None


_ENTRY = re.compile(
    r"""(?<![A-Za-z0-9'"])(?<!\bnot\s)(?<!\bNot\s)(?<!\bor\s)(?:[Oo]ption\s|[Cc]hoice\s|\u9009\u9879)?[(\["]?([A-Z])
        (?:[)\]:.]{1,2}(?![A-Za-z0-9])|\s{1,2}[-\u2013\u2014:](?=\s)|\s(?=(?:is|was|seems|looks)\s|\()
        |\s?(?=[\u2713\u2714\u2705\u2717\u2718\u274c\u2611]|\u9519|\u6b63\u786e|\u4e0d|\u5bf9))""",
    re.VERBOSE,
)
_VERDICT = re.compile(
    r"""(?:^[\s:\-,(\[\u2192=>]{0,6}|[-\u2013\u2014:,.;(\[\u2192>|]\s{0,3}|\b(?:is|are|was|seems)\s(?:the\s|an?\s|clearly\s|therefore\s){0,2}|\n\s{0,4})
        (?:(not\s)?(?:(correct|right|true|yes|accurate|supported)|(incorrect|wrong|false|no|not|inaccurate|unsupported|implausible|impossible|eliminated))
        (?![A-Za-z']))
        |([\u2713\u2714\u2705\u2611]|\u6b63\u786e|\u5bf9(?![\u4e00-\u9fff]))|([\u2717\u2718\u274c]|\u9519\u8bef|\u9519|\u4e0d\u5bf9|\u4e0d\u6b63\u786e|\u4e0d)""",
    re.VERBOSE | re.IGNORECASE,
)


class ListedOption(NamedTuple):
    """An option as an element of a list, and what is said of it."""

    letter: str
    verdict: bool | None
    text: str


def _entries(prose: Prose) -> list[ListedOption]:
    """Options in a list, in order, the last 60."""
    found = [match for match in _ENTRY.finditer(prose.text) if _letter(match[1], prose.options)][-60:]
    ends = [*(match.start() for match in found[1:]), len(prose.text)][: len(found)]
    entries: list[ListedOption] = []
    for match, end in zip(found, ends, strict=True):
        text = prose.text[match.end() : min(end, match.end() + 300)]
        entries.append(ListedOption(match[1], _verdict(text), f"{match[0]} {text.strip()}"))
    return entries


def _verdict(text: str) -> bool | None:
    match = _VERDICT.search(text.split("\n\n")[0])
    if match is None:
        return None
    return bool(match[4] or (match[2] and not match[1]))


def _verdicts(prose: Prose) -> ChoiceMatch | None:
    """A list of options with a verdict each: the only one that is called right."""
    entries = _entries(prose)
    if len({entry.letter for entry in entries}) < 2 or all(entry.verdict is None for entry in entries):
        return None
    right = [entry for entry in entries if entry.verdict]
    if not right:
        return _left(prose, entries)
    letters = {entry.letter for entry in right}
    return ChoiceMatch(frozenset[int]().union(*(_letter(letter, prose.options) for letter in letters)), right[-1].text)


def _left(prose: Prose, entries: Sequence[ListedOption]) -> ChoiceMatch | None:
    """Of a list of wrong options the one that is concluded from it: `A is wrong, B is wrong, so C`."""
    last = prose.own[-1:] or [""]
    bare = _BARE.fullmatch(last[0])
    concluded = ChoiceMatch(_letter(bare[1], prose.options), last[0]) if bare else _end(prose)
    wrong = frozenset[int]().union(*(_letter(each.letter, prose.options) for each in entries if each.verdict is False))
    if concluded and len(concluded.meant) == 1 and not concluded.meant & wrong:
        return concluded
    is_list = len(entries) > 2 and any(entry.verdict is not None for entry in entries[:2])
    return ChoiceMatch(NONE, entries[-1].text) if is_list else None


def _lead(prose: Prose) -> ChoiceMatch | None:
    """A first line that is nothing but a choice, above an explanation that calls no other option right."""
    first, _, rest = prose.text.partition("\n")
    meant = _choice(first, prose.options)
    entries = _entries(prose)
    if meant is None or len(meant) != 1 or not rest.strip() or (entries and entries[0].verdict is False):
        return None
    below = Prose(rest, prose.options)
    lines = [_segment(line.strip(), prose.options) for line in rest.splitlines()[:400] if line.strip()]
    stated = [found.meant for rule in (_declared, _end) if (found := rule(below)) is not None]
    right = [_letter(entry.letter, prose.options) for entry in _entries(below) if entry.verdict]
    others = [each for each in (*lines, *stated, *right) if each is not None and each != meant]
    return None if others else ChoiceMatch(meant, first)


_DECLARED = re.compile(
    r"""(?:^|(?<=[.!?:;,\n\u2026{}])|\b(?:so|thus|hence|therefore
            |but|and|though|So|Thus|Hence|Therefore|But)[ ,])[ \n]{0,3}(?:[Oo]nly\s)?(?:[Oo]ption\s|[Cc]hoice\s
        |\u9009\u9879)?["'(]?([A-Z])["')]?
        (?:\s(?:is|would\sbe|must\sbe|seems|looks)\s(?:clearly\s|therefore\s|definitely\s|most\slikely\s|likely\s)?(?:the\s|my\s)?(?:final\s|most\s|best\s)?
            (?:correct|right|answer|(?<=my\s)(?:choice|pick|guess)|(?<=final\s)(?:choice|pick|guess)|best|accurate|plausible|appropriate|suitable|fitting|consistent)(?!\s(?:only\s)?(?:if|unless)\b|\s?\?)\b
        |\s(?:fits|matches)\sbest\b|\s?(?:\u9009\u9879)?(?:\u662f|\u4e3a)?(?:\u6b63\u786e|\u5bf9\u7684))""",
    re.VERBOSE,
)
"""A letter that is called the right one: `D is the correct answer`."""
_TEXT_DECLARED = re.compile(
    r"(?:^|(?<=[.!?\n])\s)([^.!?\n]{1,150}?)\sis\s(?:clearly\s)?(?:the\s)?(?:correct|right|best)\b(?!\s(?:only\s)?if)",
    re.IGNORECASE,
)


_SUPPOSED = re.compile(r"\b(?:if|had|unless|were)\b[^.!?\n]{0,120}$", re.IGNORECASE)


def _is_supposed(text: str, match: re.Match[str]) -> bool:
    """`Had he left, A would be the answer`."""
    return "would" in match[0] and _SUPPOSED.search(text[max(0, match.start() - 160) : match.start()]) is not None


def _declared(prose: Prose) -> ChoiceMatch | None:
    """`D is correct`: what is called right, if only one thing is."""
    found = [match for match in _DECLARED.finditer(prose.text) if not _is_supposed(prose.text, match)]
    meant = frozenset[int]().union(*(_letter(match[1], prose.options) for match in found))
    for match in list(_TEXT_DECLARED.finditer(prose.text))[-50:]:
        by_text = _by_text(match[1], prose.options)
        if by_text:
            meant |= by_text
            found.append(match)
    return ChoiceMatch(meant, found[-1][0].strip()) if found else None


def _whole_yes_no(segment: str, options: Sequence[str]) -> OptionSet:
    meant = _yes_no(segment, options)
    return meant & (_choice(segment, options) or NONE) or meant


def _first_word(prose: Prose) -> ChoiceMatch | None:
    """`No, he does not`, where the options begin with yes and no."""
    found = [(segment, _whole_yes_no(segment, prose.options)) for segment in prose.own]
    named = [(segment, meant) for segment, meant in found if meant]
    if not named:
        return None
    return ChoiceMatch(frozenset[int]().union(*(meant for _, meant in named)), named[0][0])


def _line(prose: Prose) -> ChoiceMatch | None:
    """A line or a sentence that is nothing but a choice. Those that repeat several options choose none.

    A bare letter behind a list of options is the choice.
    """
    found = [(segment, _segment(segment, prose.options)) for segment in prose.own]
    named = [(segment, meant) for segment, meant in found if meant is not None]
    if not named:
        return None
    last, meant = named[-1]
    others = [(segment, other) for segment, other in named[:-1] if other != meant]
    is_list = len({other for _, other in others}) > 1 and not any(_BARE.fullmatch(segment) for segment, _ in others)
    if _BARE.fullmatch(last) and is_list:
        return ChoiceMatch(meant, last)
    return ChoiceMatch(frozenset[int]().union(*(each for _, each in named)), last)


_SPACED = re.compile(
    rf"[(\[]?([A-Z])[)\]]?(?:\s{{1,3}}(?={reply_text.SENTENCE_STARTS})|,?\s(?:because|since|whereas|given\s(?:that|the)|due\sto|as\s(?:the|it|he|she|they|we|I))\b"
    rf"|,\s(?:I\s(?:think|believe|guess|suppose|would)|obviously|clearly|definitely|certainly|probably)\b|\sit\sis\b|,?\s?(?=\u56e0\u4e3a))"
)
_TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|vs)\.$")


def _start(prose: Prose) -> ChoiceMatch | None:
    """A sentence that starts like `B. The man lifts it.`, if all that do name one option."""
    meant: list[OptionSet] = []
    matched = before = ""
    for segment in prose.own:
        match = _LABELLED.match(segment[:500]) or _SPACED.match(segment)
        if match and not _TITLE.search(before) and not _KEY_LETTER.match(segment):
            meant.append(_labelled(match, prose.options) if match.re is _LABELLED else _letter(match[1], prose.options))
            matched = matched or segment
        before = segment
    return ChoiceMatch(frozenset[int]().union(*meant), matched) if meant else None


_KEY_LETTER = re.compile(r"[AQ]\s?:")
"""`A:` may mean "answer"."""
_TRAILING = re.compile(
    r"""(?:[!?;\n\u2026]|(?:\b(?:question\s?\d{0,3}|assistant|user|model|output|response|result|prediction|conclusion|verdict|select(?:ion|ed)?|pick|so|is|q\d{0,3})|\u7ed3\u8bba|\u7ed3\u679c)\s?:|(?<![A-Z)"'\]])[.,]|\b(?:so|thus|therefore|hence|is|be|it's|probably|likely|definitely|leaves)(?:\sto)?)\s{0,3}(?:option\s|choice\s)?
        [("'\[]?([A-Z])[)"'\]]?[.!\s]{0,4}$""",
    re.VERBOSE | re.IGNORECASE,
)
"""A letter that ends a sentence and stands apart from it."""
_CLAUSE = re.compile(r"[.!?;\n]\s|\b(?:so|thus|therefore|hence)\b")


def _end(prose: Prose) -> ChoiceMatch | None:
    """A sentence that ends like `the man lifts it, so C.`, if all that do name one option."""
    meant: list[OptionSet] = []
    matched = ""
    for segment in prose.own:
        match = _TRAILING.search(segment[-60:])
        clause = _CLAUSE.split(segment[:-2])[-1]
        if match and match[1].isupper() and not is_denied(clause) and not _KEY_LETTER.match(segment):
            meant.append(_letter(match[1], prose.options))
            matched = segment
    return ChoiceMatch(frozenset[int]().union(*meant), matched) if meant else None


_DOUBT = re.compile(
    r"\b(?:not|never|no|wrong|incorrect|neither|nor|except|unlikely|unclear|unsure|rather|instead|unless|if|less|least|would|could|might"
    r"|(?:eliminat|exclud|reject|discard|dismiss|contradict|contrar|conflict|claim|fail|lack|rul(?:es?|ed|ing)\sout|assum|requir|oppos|unlike)\w*)\b"
    r"|n't\b|\u4e0d|\u9519",
    re.IGNORECASE,
)
"""Words with which a mention may be meant the other way round."""
_FITTING = re.compile(
    r"\b(?:match|correspond|fit|consistent|describ|support|align|agree|accord|confirm|indicat|point|suggest|favou?r|show|see|seen|saw|best|correct|right"
    r"|answer|accurate|choose|choice|select|pick|must|leav|left|lead|conclu|captur|reflect|represent|depict|state|true|likely|so|therefore|thus|hence)\w*\b"
    r"|\u7b26\u5408|\u5bf9\u5e94|\u6b63\u786e|\u9009",
    re.IGNORECASE,
)
"""Words with which a mention may be a choice."""
_BACK = re.compile(
    r"(?:but|however|no\b|yet|though|although|still|(?:this|that|it)(?:'s|\s(?:is|was|seems|may\sbe))?\s?(?:not\s(?:it|right|correct|true|the)|n't|wrong|incorrect|unlikely))\b",
    re.IGNORECASE,
)


def _mentioned(prose: Prose) -> ChoiceMatch | None:
    """The only option that is named anywhere, if nothing near it takes it back."""
    meant: list[OptionSet] = []
    matched = ""
    has_doubt = follows = is_meant = False
    for segment in prose.own:
        letters = {match[1] or match[2] for match in _MENTION.finditer(segment)}
        meant += [_letter(letter, prose.options) for letter in letters]
        matched = segment if letters else matched
        has_doubt |= bool(
            (letters or (follows and _BACK.match(segment))) and (_DOUBT.search(segment) or "?" in segment)
        )
        is_meant |= bool(letters) and _FITTING.search(segment) is not None
        follows = bool(letters)
    return ChoiceMatch(frozenset[int]().union(*meant), matched) if meant and is_meant and not has_doubt else None


AnswerRule = Rule[Prose, ChoiceMatch]

RULES: tuple[AnswerRule, ...] = (
    Rule("whole reply", _whole, "B) blue ball", "The ball is blue."),
    Rule("correction", _corrected, "The answer is A. Wait, actually C.", "Answer: B. Actually the video is short."),
    Rule("contrast", _contrasted, "It shows not A but C.", "It shows not a ball but a cup."),
    Rule("contrast of texts", _text_contrasted, "It is not the red ball but the blue ball.", "It is not red but blue."),
    Rule("announcement", _announced, "The correct option is D because two dogs play.", "A common wrong answer is A."),
    Rule("checkbox", _checkbox, "- [ ] A\n- [x] C\n- [ ] D", "- [ ] A\n- [ ] C\n- [ ] D"),
    Rule("first line", _lead, "B) blue ball\n\nA is wrong: it is not red.", "A) red ball\nB) blue ball"),
    Rule("verdict list", _verdicts, "A. No. B. No. C. Yes.", "A. red ball\nB. blue ball\nC. a man running"),
    Rule("declaration", _declared, "I looked twice. D is correct.", "D is not the correct answer."),
    Rule("yes or no", _first_word, "No, he does not.", "No problem."),
    Rule("line", _line, "Sure, I watched it.\nB", "The ball rolls.\nIt stops."),
    Rule("start of a sentence", _start, "B. The ball rolls away.", "A: B"),
    Rule("end of a sentence", _end, "A man walks by, so C.", "Therefore it is not C."),
    Rule("only mention", _mentioned, "Looking at (D) we see them.", "It is not (B)."),
)
"""Ways in which prose chooses an option, in the order in which they are tried."""


# Objects

ANSWER_KEYS = frozenset(
    [
        "answer",
        "final_answer",
        "correct_answer",
        "best_answer",
        "correct_option",
        "correct_choice",
        "answer_letter",
        "selected_option",
        "chosen_option",
        "selected_answer",
        "answer_choice",
        "correct_letter",
        "ans",
        "答案",
        "最终答案",
        "正确答案",
        "答え",
        "정답",
        "respuesta",
    ]
)
WEAK_KEYS = frozenset(
    ["choice", "option", "letter", "prediction", "selected", "selection", "\u9009\u9879", "pred", "response"]
)
"""Read only where there is none of `ANSWER_KEYS`."""
_LETTER_KEYS = ("letter", "option", "choice", "answer", "label", "id", "value", "text")


def _of_objects(said: ReplyText, options: tuple[str, ...]) -> tuple[str, ChoiceMatch] | None:
    """What the objects say; an announcement behind them counts more, and other prose only as an announcement."""
    strong = [rule for rule in RULES if rule.name in {"correction", "contrast", "announcement"}]
    later = _first(strong, Prose(said.after, options))
    if later is not None:
        return later
    found = [match for each in said.objects if (match := _of_object(said.text, each.values, options)) is not None]
    if said.is_list and found:
        return "JSON list", ChoiceMatch(frozenset[int]().union(*(match.meant for match in found)), found[-1].text)
    if found:
        return "JSON key", found[-1]
    return _first(strong, Prose(said.prose, options)) or ("JSON without an answer", ChoiceMatch(NONE, ""))


def _of_object(text: str, values: Mapping[str, JsonValue], options: tuple[str, ...]) -> ChoiceMatch | None:
    """What the own keys of an object mean; None where it has none that names an answer."""
    keys = [key for key in values if key in ANSWER_KEYS] or [key for key in values if key in WEAK_KEYS]
    if not keys:
        return None
    meant = [_of_value(text[values[key].start : values[key].end].strip(), options) for key in keys]
    shown = ", ".join(f'"{key}": {text[values[key].start : values[key].end].strip()}' for key in keys)
    return ChoiceMatch(frozenset[int]().union(*meant) if all(meant) else NONE, shown)


def _of_value(written: str, options: tuple[str, ...]) -> OptionSet:
    try:
        node = literals.read_literal(written, 0).node
    except NoLiteral:
        node = written
    except Truncated:
        return NONE
    return _of_node(node, written, options)


def _of_node(node: Node, written: str, options: tuple[str, ...]) -> OptionSet:
    if isinstance(node, list):
        return _of_node(node[0], "", options) if len(node) == 1 else NONE
    if isinstance(node, dict):
        inner = next((node[key] for key in _LETTER_KEYS if key in node), None)
        return _of_node(inner, "", options) if isinstance(inner, str) else NONE
    if isinstance(node, bool):
        return _by_text(str(node), options)
    if isinstance(node, float):
        return _by_text(written, options) or _by_text(f"{node:g}", options)
    if not isinstance(node, str):
        return NONE
    value = Prose(reply_text.without_markup(reply_text.plain(node)).strip(), options)
    found = _first(RULES, value)
    return found[1].meant if found else NONE


# The letter's place


def letter_place(text: str) -> int | None:
    """Index of the capital by which a reply names its answer: the last one announced, or all that it says, or its head.

    None where it names none so, or in words alone.
    """
    plain = _EMPHASIS.sub(lambda match: " " * len(match[0]), reply_text.plain(text))
    for place in answer_positions(plain):
        match = _LETTER.match(plain, place)
        if match and not _is_article(match, plain):
            return match.start(1) if match[1].isupper() else None
    bare = plain.strip()
    match = _BARE.fullmatch(bare) or _LABELLED.match(bare[:500])
    return plain.index(bare) + match.start(1) if match and match[1].isupper() else None


_EMPHASIS = re.compile(r"[*`]|__|</s>|<\|(?:im_end|endoftext|eot_id|end)\|>|<(?:eos|end_of_turn)>")
