"""Which option a reply chooses.

The last choice that a reply commits to counts. What can be read in two ways is no choice, never a guess.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence

from evqa.schema import LETTERS

MAX_PLACES = 50
"""So many places from the end are looked at where a reply names the same thing again and again."""

Meant = frozenset[int]
"""Options that a text means: one = a choice, several = ambiguous, none = something that is no option."""

_COMMIT = re.compile(
    r"""(?<![A-Za-z/])(?:
        (?:answer|option|choice|letter|\u7b54\u6848)["')]{0,2}\s{0,3}
            (?:(?:is|was|would\ be|should\ be|must\ be)(?![A-Za-z'])|:|=|\uff1a|\u662f|->|[-\u2013\u2014]\s)
            [\s:]{0,4}(?:[-\u2022]\s{1,2})?
        | answer["']?>
        | I(?:'d|'ll|\ would|\ will)?\ (?:choose|pick|select|answer|go\ with|think|believe)(?:\ it\ is|\ it's)?\s
        | boxed\{
    )""",
    re.VERBOSE | re.IGNORECASE,
)
"""What announces an answer; what is announced stands right behind."""
_QUOTED = re.compile(r'\s{0,4}(\[?)\s{0,4}"((?:[^"\\]|\\.){1,500})"(\s{0,4},)?')
"""A JSON string, or the first one of a JSON list and whether more follow."""
_LETTER = re.compile(
    r"""[\s"'(\[{<>$\\]{0,8}(?:boxed\{)?(?:(?:option|choice|letter)\s{0,3}:?\s{0,3})?["'(\[]{0,2}
        ([A-Za-z])(?![A-Za-z0-9_]|['\u2019-][A-Za-z])""",
    re.VERBOSE | re.IGNORECASE,
)
"""A letter that stands alone, with what may stand around it."""
_AND_LETTER = re.compile(
    r"""["')\].]{0,3}\s{0,3}(?:,|/|&|\||\bor\b|\band\b)\s{0,3}(?:or\s|and\s)?(?:option\s)?["'(\[]{0,2}
        ([A-Z])(?![A-Za-z0-9_]|['\u2019-][A-Za-z]|\s+[a-z])""",
    re.VERBOSE,
)
"""A second letter: `A or B`, `A, B`."""
_DENIED = re.compile(
    r"""not\s(?:option\s)?["'(]?([B-HJ-Z]|[AI](?!\s(?!but\b|because\b|since\b|as\b)[a-z]))
        (?![A-Za-z0-9_]|['\u2019-][A-Za-z])""",
    re.VERBOSE,
)
"""An answer that is taken back: `the answer is not B`."""
_OR = re.compile(r"\s{1,3}(?:or|/)\b|/", re.IGNORECASE)
"""A second option's text may follow."""
_WORD_ON = re.compile(r"[\w%]|[.,]\d|['\u2019-]\w")
"""The word before goes on, so it is not the option's text."""
_JSON_KEY = re.compile(r"""["'](?:answer|segments|referring_expressions)["']\s{0,3}:""")
"""The reply is JSON, whole or broken."""
_WORD_AFTER = re.compile(r"[ \t]+([A-Za-z']+)")
"""The word behind a letter."""
_CONNECTIVES = frozenset(["because", "since", "as", "for", "with", "given", "is", "was", "and", "or", "so", "when"])
"""Words that may follow the letters A and I; before any other word they are an article and a pronoun."""
_BARE = re.compile(
    r"""[("'\[<]{0,2}(?:(?:the\ )?(?:option|choice|letter|answer)\s{0,3}:?\s{0,3})?["'(\[]{0,2}
        ([A-Za-z])["')\].:,!>]{0,4}""",
    re.VERBOSE | re.IGNORECASE,
)
"""A text that is nothing but a letter."""
_LABELLED = re.compile(r"[(\[]?([A-Za-z])(?:[)\]:][.:]?|\.(?=\s)|\s[-\u2013\u2014](?=\s))\s{0,4}(\S.*)", re.DOTALL)
"""A letter and words behind it: `B) blue ball`."""
_TRAILING = re.compile(
    r"""(?:[.!?:;,\n\u2026]|\b(?:so|thus|therefore|hence|is|be|[Ii]t's))\s{0,3}
        [("'\[]?([A-Z])[)"'\]]?[.!\s]{0,4}$""",
    re.VERBOSE,
)
"""A letter that ends the reply and stands apart from its sentence."""
_DECLARED = re.compile(
    r"""(?:^|(?<=[.!?:;,\n\u2026])|\b(?:so|thus|hence|therefore)[ ,])[ \n]{0,3}(?:[Oo]ption\s|[Cc]hoice\s)?\(?([A-Z])\)?
        \sis\s(?:clearly\s|therefore\s)?(?:the\s)?(?:most\s|best\s)?(?:correct|right|answer)\b""",
    re.VERBOSE,
)
"""A letter that is called the right one: `D is the correct answer`."""
_MARKUP = re.compile(r"[*`]|__|</s>|<\|(?:im_end|endoftext|eot_id|end)\|>|<(?:eos|end_of_turn)>")
"""Emphasis, and marks of where a reply ends."""
_TEX_TEXT = re.compile(r"\\text(?:bf|rm)?\{([^{}]{0,200})\}")
_MENTION = re.compile(r"\(([A-Z])\)|\b[Oo]ption\s([A-Z])(?![A-Za-z0-9_'])")
"""An option named in passing."""
_ARTICLE = re.compile(r"^(?:a|an|the) ")
_DOUBT = re.compile(
    r"\b(?:not|never|wrong|incorrect|neither|nor|except|eliminate|unlikely|unclear|unsure|rather)\b|n't\b",
    re.IGNORECASE,
)
"""Words with which a mention may be meant the other way round."""


def read_answer(text: str, options: Sequence[str]) -> int | None:
    """Index of the option that the reply commits to; None where it commits to none, or to several."""
    if not options:
        return None
    plain = _TEX_TEXT.sub(r"\1", _MARKUP.sub("", text)).strip()
    for rule in (_whole, _committed, _unkeyed, _declared, _on_a_line, _at_the_start, _at_the_end, _mentioned):
        meant = rule(plain, options)
        if meant is not None:
            return next(iter(meant)) if len(meant) == 1 else None
    return None


def letter_place(text: str) -> int | None:
    """Index of the capital by which a reply names its answer: the last one announced, or all that it says, or its head.

    None where it names none so, or in words alone.
    """
    plain = _MARKUP.sub(lambda match: " " * len(match[0]), text)
    for place in _announced(plain):
        match = _LETTER.match(plain, place)
        if match and not _is_article(match, plain):
            return match.start(1) if match[1].isupper() else None
    bare = plain.strip()
    match = _BARE.fullmatch(bare) or _LABELLED.match(bare[:500])
    return plain.index(bare) + match.start(1) if match and match[1].isupper() else None


def _whole(text: str, options: Sequence[str]) -> Meant | None:
    return _choice(text, options) if len(text) <= 2000 else None


def _committed(text: str, options: Sequence[str]) -> Meant | None:
    """`Answer: B`, `"answer": "B"`, `the correct option is D`: the last one that names something."""
    denied: Meant = frozenset()
    for place in _announced(text):
        if match := _DENIED.match(text, place):
            denied |= _letter(match[1], options)
        meant = _named_at(text, place, options)
        if meant is not None:
            return meant - denied if len(meant) == 1 else meant
    return None


def _unkeyed(text: str, options: Sequence[str]) -> Meant | None:
    """A JSON reply speaks by its keys; where they give no answer, nothing else in it is one."""
    return frozenset() if _JSON_KEY.search(text) else None


def _declared(text: str, options: Sequence[str]) -> Meant | None:
    """`D is correct`: what is called right, if only one thing is."""
    letters = {match[1] for match in _DECLARED.finditer(text)}
    return frozenset[int]().union(*(_letter(letter, options) for letter in letters)) if letters else None


def _on_a_line(text: str, options: Sequence[str]) -> Meant | None:
    """A line that is nothing but a choice. Lines that repeat several options are a list, and choose none."""
    lines = [line.strip() for line in deque(text.splitlines(), maxlen=200) if 0 < len(line.strip()) <= 500]
    meant = [choice for line in lines if (choice := _choice(line, options)) is not None]
    if meant and _BARE.fullmatch(lines[-1]):
        return meant[-1]
    return frozenset[int]().union(*meant) if meant else None


def _at_the_start(text: str, options: Sequence[str]) -> Meant | None:
    """A reply that starts like `B. The man lifts it.`."""
    match = _LABELLED.match(text[:500])
    return _labelled(match, options) if match else None


def _at_the_end(text: str, options: Sequence[str]) -> Meant | None:
    """A reply that ends like `the man lifts it, so C.`."""
    match = _TRAILING.search(text[-60:])
    return _letter(match[1], options) if match else None


def _mentioned(text: str, options: Sequence[str]) -> Meant | None:
    """The only option that is named anywhere, if nothing in the reply takes it back."""
    letters = {match[1] or match[2] for match in _MENTION.finditer(text)}
    if not letters or _DOUBT.search(text):
        return None
    return frozenset[int]().union(*(_letter(letter, options) for letter in letters))


def _choice(text: str, options: Sequence[str]) -> Meant | None:
    """What a text means that is all choice: a letter, an option's text, or both; None = no choice."""
    by_text = _by_text(text, options)
    if match := _BARE.fullmatch(text.strip()):
        return by_text | _letter(match[1], options)
    match = _LABELLED.fullmatch(text.strip())
    if match and (named := _by_text(match[2], options)):
        return by_text | named | _letter(match[1], options)
    return by_text or None


def _labelled(match: re.Match[str], options: Sequence[str]) -> Meant:
    """A letter with words behind it; the words may not be another option's."""
    return _letter(match[1], options) | _by_text(match[2].splitlines()[0], options)


def _announced(text: str) -> Iterator[int]:
    """Where announced answers begin, from the last one back."""
    return reversed(deque((match.end() for match in _COMMIT.finditer(text)), maxlen=MAX_PLACES))


def _named_at(text: str, at: int, options: Sequence[str]) -> Meant | None:
    """What stands where an answer is announced; None = neither a letter nor an option's text."""
    if match := _QUOTED.match(text, at):
        if match[1] and match[3]:
            return frozenset()
        quoted = match[2].replace('\\"', '"')
        label = _LABELLED.fullmatch(quoted.strip())
        return _choice(quoted, options) or (_labelled(label, options) if label else None)
    by_text, end = _text_at(text, at, options)
    match = _LETTER.match(text, at)
    if match is None or _is_article(match, text) or end > match.end(1):
        behind = _MENTION.match(text, end + 1) if end and text[end : end + 1] == " " else None
        named = behind and (behind[1] or behind[2])
        return (by_text | _letter(named, options) if named else by_text) if end else None
    meant = by_text | _letter(match[1], options)
    if another := _AND_LETTER.match(text, match.end()):
        return meant | _letter(another[1], options) if meant else meant
    label = _LABELLED.match(text[match.start(1) : match.start(1) + 500])
    return meant | _by_text(label[2].splitlines()[0], options) if label and meant else meant


def _text_at(text: str, at: int, options: Sequence[str]) -> tuple[Meant, int]:
    """Options whose text stands at a place, the longest ones, and where it ends, else 0; none of them in `x or y`."""
    while at < len(text) and text[at] in " \t\n\"'(":
        at += 1
    for skip in ("", "the ", "a ", "an "):
        start = at + len(skip)
        if text[at:start].lower() != skip:
            continue
        fits = {index: len(option) for index, option in enumerate(options) if _stands_at(text, start, option)}
        longest = max(fits.values(), default=0)
        if fits and _OR.match(text, start + longest):
            return frozenset(), start + longest
        if fits:
            return frozenset(index for index, length in fits.items() if length == longest), start + longest
    return frozenset(), 0


def _stands_at(text: str, at: int, option: str) -> bool:
    end = at + len(option)
    return bool(option) and text[at:end].casefold() == option.casefold() and not _WORD_ON.match(text, end)


def _is_article(match: re.Match[str], text: str) -> bool:
    """Whether the letter is a word of a sentence: `the answer is a person`, `Answer: I think`."""
    letter = match[1]
    word = _WORD_AFTER.match(text, match.end())
    if letter not in "aAiI" or word is None or word[1] in _CONNECTIVES:
        return False
    return letter.islower() or word[1][0].islower()


def _letter(letter: str, options: Sequence[str]) -> Meant:
    index = LETTERS.index(letter.upper())
    return frozenset({index}) if index < len(options) else frozenset()


def _by_text(text: str, options: Sequence[str]) -> Meant:
    wanted = _normal(text)
    same = frozenset(index for index, option in enumerate(options) if wanted and _normal(option) == wanted)
    if same or not wanted:
        return same
    bare = _ARTICLE.sub("", wanted)
    return frozenset(index for index, option in enumerate(options) if _ARTICLE.sub("", _normal(option)) == bare)


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!\"'")
