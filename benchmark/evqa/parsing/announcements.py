"""Announcements of an answer in a reply: `the answer is`, `I'd say`, `<answer>`, in several languages.

An announcement that is denied, hypothetical or reported does not count.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from evqa.parsing.reply_rules import Guard

MAX_PLACES = 50
"""Number of matches from the end that are considered if a reply states the same field many times."""


class AnnouncementForm(NamedTuple):
    """A way to announce an answer; the announced answer follows directly."""

    name: str
    pattern: str
    example: str
    """Text that ends where the answer would begin."""
    counterexample: str
    """Similar text that is not an announcement."""


_ADVERBS = (
    r"(?:(?:most\s)?(?:likely|probably|clearly|definitely|therefore|thus|indeed|actually|simply|certainly"
    r"|obviously|still|just)\s|as\sfollows\s?:?\s?){0,2}"
)
_COPULA = (
    r"(?:(?:is|was|would\sbe|should\sbe|must\sbe|has\sto\sbe|remains)(?![A-Za-z'])\s{0,3}"
    + _ADVERBS
    + r"|:|=|->|\u2192|[-\u2013\u2014]\s)"
)
_OTHER_ADJECTIVES = (
    r"(?:\s(?!in|un|fals|falsch|fauss|mauvais|sbagl|err|\u043d\u0435|no\b|non\b|ne\b|n\u00e3o|tidak"
    r"|bukan)[^\W\d_]{2,14}){0,2}"
)

FORMS = (
    AnnouncementForm(
        "the answer is",
        rf"(?<![A-Za-z/])(?:ans(?:wer)?|(?<!first\s)(?<!second\s)(?<!third\s)(?<!fourth\s)(?<!fifth\s)(?<!last\s)option|choice|letter|solution|(?:right|correct|best)\sone)[\"')]{{0,2}}"
        rf"(?:\s(?:to|for)\s(?:the|this)\squestion|\shere)?\s{{0,3}}{_COPULA}[\s:]{{0,4}}(?:[-\u2022]\s{{1,2}})?",
        "The correct answer to this question is ",
        "The answers are ",
    ),
    AnnouncementForm(
        "correct answer B",
        r"\b(?:correct|right|final)\s(?:answer|option|choice)\s(?=[(\[\"]?[A-Z](?![A-Za-z0-9]))|(?<![A-Za-z])(?:correct|right|final|verdict|conclusion)\s?:\s{0,3}(?=[(\[]?[A-Z]\b)",
        "Correct option ",
        "The correct way ",
    ),
    AnnouncementForm(
        "I choose",
        r"\b(?:(?:I|we)(?:'d|'ll|'m|\swould|\swill|\scan|\sam|\smust|\stherefore|\shave\sto)?|let's|let\sus)\s"
        r"(?:say|choose|pick|select|answer|conclude|suggest|(?:go|going|went)\s(?:with|for)|think|believe|guess|opt\sfor|vote\sfor|bet\son|lean\stowards?|settle\son)"
        r"(?:\sthat)?(?:\sit\sis|\sit's|\sit\swould\sbe)?(?::|\s)|\bif\sI\s(?:had|have)\sto\s(?:guess|choose|pick)[,:]?\s(?:I(?:'d|\swould)\ssay\s)?",
        "I'd go with ",
        "I would not choose ",
    ),
    AnnouncementForm(
        "choose B",
        r"(?<![A-Za-z])(?:choose|select|pick)\s(?=(?:option\s)?[(\[\"]{0,2}(?-i:[A-Z])(?![A-Za-z']))",
        "You should choose ",
        "Do not select ",
    ),
    AnnouncementForm(
        "my guess is",
        r"\bmy\s(?:final\s|best\s)?(?:guess|pick|choice|vote|bet|selection|verdict|conclusion)\s{0,2}(?:is|would\sbe|:)\s?",
        "My best guess is ",
        "My friend is ",
    ),
    AnnouncementForm(
        "tag",
        r"<(?:(?:final|correct|my)[_ ]?)?(?:answer|choice|option|letter|prediction)>"
        r"|\[(?:(?:final|correct|my)[_ ]?)?answer\]\s?:?\s?"
        r"|(?<![A-Za-z/])answer[\"']?>",
        "<answer>",
        "</answer>",
    ),
    AnnouncementForm("boxed", r"boxed\{", "\\boxed{", "a box"),
    AnnouncementForm(
        "heading",
        r"(?<![^\n])(?:final\s|correct\s|my\s|the\s)?answer\s{0,2}\n{1,3}\s{0,3}",
        "Answer\n",
        "the answers\n",
    ),
    AnnouncementForm(
        "Chinese",
        r"(?:\u7b54\u6848|\u6b63\u786e\u9009\u9879|\u6b63\u78ba\u9078\u9805|\u9009\u9879|\u9078\u9805|\u6b63\u786e\u7684|\u6b63\u78ba\u7684)(?:\u5e94\u8be5|\u61c9\u8a72|\u5e94|\u5c31)?\s?(?:\u9009\u62e9|\u662f|\u4e3a|\u70ba|\u9009|\u9078|:|=|\])\s{0,3}:?\s{0,3}(?:\u9009\u9879|\u9078\u9805)?"
        r"|(?:\u5e94\u8be5|\u5e94|\u6545|\u6211\u4f1a|\u6211|\u6240\u4ee5|\u56e0\u6b64)?(?:\u9009\u62e9|\u9078\u64c7|\u9009|\u9078)(?!\u9879|\u9805)\s{0,2}:?\s{0,2}(?=[(\[\"]?[A-Z])",
        "\u6b63\u786e\u7b54\u6848\u662f",
        "\u6211\u770b\u5230",
    ),
    AnnouncementForm(
        "Japanese, Korean",
        r"(?:\u7b54\u3048|\u6b63\u89e3|\u56de\u7b54|\u89e3\u7b54)(?:\u306f)?\s?:?\s{0,3}|(?:\uc815\ub2f5|(?<!\uc624)\ub2f5|\uc815\ub2f5\ubc88\ud638)(?:\uc740|\ub294)?\s?:?\s{0,3}",
        "\uc815\ub2f5\uc740 ",
        "\uc624\ub2f5\uc740 ",
    ),
    AnnouncementForm(
        "other languages",
        r"(?<![^\W\d_])(?:respuesta|opci\u00f3n|r\u00e9ponse|reponse|antwort|antwoord|resposta|op\u00e7\u00e3o|risposta|opzione|\u043e\u0442\u0432\u0435\u0442|\u0432\u0430\u0440\u0438\u0430\u043d\u0442|jawaban|cevap"
        r"|odpowied\u017a|\u0111\u00e1p\s\u00e1n|\u0909\u0924\u094d\u0924\u0930|\u0627\u0644\u0625\u062c\u0627\u0628\u0629|\u0627\u0644\u062c\u0648\u0627\u0628|\u0e04\u0e33\u0e15\u0e2d\u0e1a|svar(?:et)?|vastaus)"
        + _OTHER_ADJECTIVES
        + r"\s{0,2}(?:\s(?:es|est|ist|lautet|\u00e9|\u00e8|e'|jest|adalah|\u0647\u064a|\u0647\u0648|l\u00e0|er"
        r"|\u00e4r|on)\s|\u0e04\u0e37\u0e2d|\u0939\u0948|:|=|[-\u2013\u2014]|(?<=\u0930)\s)\s{0,3}"
        r"(?:(?:la|el|die|der|das|de|a|la\sopci\u00f3n|opci\u00f3n|option|l'option|letra|lettre|buchstabe|\u0432\u0430\u0440\u0438\u0430\u043d\u0442)\s(?=[(\"]?[A-Z](?![A-Za-z])))?",
        "La respuesta correcta es la ",
        "La respuesta incorrecta es ",
    ),
)
"""Ways to announce an answer."""

_ANY_FORM = re.compile("|".join(f"(?:{form.pattern})" for form in FORMS), re.IGNORECASE)

DENIALS_BEFORE = (
    Guard(
        "wrong",
        r"(?:wrong|incorrect|false|falsch\w*|bad|worst|worse|mistaken|tempting|distract\w+|distractor|unlikely|least\slikely|rejected|eliminated"
        r"|excluded|invalid|impossible|another|alternative|second|runner-up|initial|preliminary|tentative|original|previous|earlier|draft|common|popular|naive|possible|"
        r"user's|student's|incorrecta?|fausse|mauvaise|errada|errata|sbagliata|\u043d\u0435\u043f\u0440\u0430\u0432\u0438\u043b\u044c\u043d\w+|\u043d\u0435\u0432\u0435\u0440\u043d\w+)[\s\"'-]{1,3}(?:(?!(?:and|but|so)\b)\w+[\s\"'-]{1,3}){0,2}$",
        "a common wrong ",
        "the wrong box is red. The ",
    ),
    Guard(
        "not the",
        r"\b(?:(?:not|never|no(?!\sdoubt)|isn't|non|cannot)|\w+n't)[\s-](?:(?:the|a|an|my|correct|right|best)\s){0,3}$",
        "not the ",
        "not clear, but the ",
    ),
    Guard(
        "not believed",
        r"(?:(?:\b(?:not|never|cannot)|n't)\s(?:\w{1,12}ly\s)?(?:believe|think|say|claim|agree|sure|certain|convinced|clear|true|(?:the\s)?case|mean|suggest"
        r"|prove|confident|imply|conclude|tell|obvious|know)\w*"
        r"|\b(?:no\s(?:way|chance|reason|evidence|proof)|hardly|(?<!\bno\s)(?<!\bwithout\s)(?<!\bwithout\sa\s)(?<!\bbeyond\s)doubt\w*|unlikely|disagree\w*|false|untrue|wrong))"
        r"(?:\s(?:that|if|whether|in|of|to\s\w{1,12}))?\s(?:(?:the|my|our|correct|right|best|only|option)\s){0,4}$",
        "I do not believe that the ",
        "It does not fall, so the ",
    ),
    Guard(
        "refused",
        r"\b(?:refus|declin|avoid|hesitat|reluctan|against|opposite|revers|contrary|negation)\w*\s(?:to|of|from)?\s?(?:the\s)?(?:correct\s)?$",
        "I refuse to ",
        "I want to ",
    ),
    Guard(
        "reported",
        r"(?<!\bI\s)(?<!\bwe\s)\b(?:says|said|saying|reads|reading|claims|claimed|shouts|shouted|writes|wrote|written|tells|told|asks|asked)"
        r"(?:\s(?:us|him|her|them|me))?(?:\sthat)?[\s:,]{0,2}[\s\"'(]{1,3}(?:(?:the|my|our|correct|right|best)\s){0,3}$",
        'The subtitle says "the ',
        "I said the ",
    ),
    Guard(
        "each",
        r"\b(?:each|every|any|which|another|per|no|next|following)\s(?:(?:answer|possible|given|single|of\sthe)\s){0,2}$",
        "Let me evaluate each ",
        "Each frame shows it. The ",
    ),
    Guard(
        "wrong, Chinese",
        r"(?:\u9519\u8bef|\u932f\u8aa4|\u4e0d\u6b63\u786e|\u975e|\u4e0d|\u6392\u9664|\u5e72\u6270|\u52ff|\u9593\u9055\u3044\u306e?|\uc624\ub2f5|\u4e0d(?:\u8ba4\u4e3a|\u8a8d\u70ba|\u89c9\u5f97|\u76f8\u4fe1|\u786e\u5b9a|\u540c\u610f))\u7684?(?:\u4f1a|\u80fd|\u5e94|\u8be5)?\s?$",
        "\u9519\u8bef",
        "\u6b63\u786e",
    ),
)
"""Words before an announcement that make it a denial."""

SUPPOSITION = re.compile(
    r"\b(?:might|may|could|would|can|will)\s(?:(?:be\stempted\sto|first|initially|also|then)\s)?(?:think|say|assume|guess|believe|argue|answer|choose|pick|suppose)\b"
    r"|\b(?:thought|assumed|expected)\b|\btempting\b|\b(?:user|student|teacher|friend|annotator)(?:'s)?\b",
    re.IGNORECASE,
)
"""Words that make an announcement hypothetical or reported."""
_AT_FIRST = re.compile(
    r"\b(?:initially|at\sfirst|first\s(?:thought|guess|impression|assumed)|originally|had\sthought)\b", re.IGNORECASE
)
_FIRST_OF_SEVERAL = re.compile(r"\bfirst\s$", re.IGNORECASE)
_PAST_TENSE = re.compile(r"\bwas\b", re.IGNORECASE)
_CLAUSE_START = re.compile(r",\s(?=(?:I|we|the|my|it|so|then)\b)", re.IGNORECASE)
_FIRST_PERSON = re.compile(
    r"\b(?:I|we)(?:'d|\swould|\swill|\scan|\smight)?\s(?:say|think|believe|guess|choose|pick|answer)\b", re.IGNORECASE
)
_CONDITION = re.compile(r"\b(?:if|unless|had)\b", re.IGNORECASE)
_HYPOTHETICAL = re.compile(r"\b(?:would|was)\b|\bcould\b", re.IGNORECASE)
_DENIAL = re.compile(
    r"(?<![A-Za-z/])(?:answer|option|choice)\s{0,3}(?:is\snot|isn't|was\snot|wasn't|cannot\sbe|can't\sbe|could\snot\sbe|couldn't\sbe"
    r"|\u4e0d\u662f)\s{0,3}(?:the\s)?(?:option\s)?",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|cannot|neither|nor|never|rule[sd]?\sout|exclud\w+|eliminat\w+|except|wrong|incorrect|instead|rather|unlike|than|versus|vs"
    r"|between|either|both|without|reject\w*|no)\b|n't\b|\u4e0d|\u9519|\u975e",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[.!?;\n](?=\s|$)|[\n;]|,?\s(?:but|however|yet|whereas)\b", re.IGNORECASE)


RETRACTION = re.compile(
    r"""\b(?:wait|hold\son|actually|on\ssecond\sthought|(?:on|upon)\s(?:closer|further)\s(?:look|inspection|review)
        |correction|scratch\sthat|let\sme\s(?:re\w{1,12}|correct\s\w{1,10})|my\s(?:mistake|bad)|I\swas\swrong|I\smeant?|sorry
        |apologies|hmm+|oops|no,|rather,|changed?\smy\s(?:mind|answer)|after\sreview)(?![A-Za-z])
      |\u7b49\u7b49|\u4e0d\u5bf9|\u66f4\u6b63|\u7ea0\u6b63|\u4fee\u6b63""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words that retract the preceding statement."""


class Announcement(NamedTuple):
    """An announcement or denial of an answer, `text[start:end]`; the answer begins at `end`."""

    start: int
    end: int
    is_denied: bool
    """Whether it is a denial: `the answer is not`."""


def find_announcements(text: str) -> Iterator[Announcement]:
    """Announcements that count and denials, from last to first."""
    announcements = deque(
        (Announcement(match.start(), match.end(), is_denied=False) for match in _ANY_FORM.finditer(text)),
        maxlen=MAX_PLACES,
    )
    denials = deque(
        (Announcement(match.start(), match.end(), is_denied=True) for match in _DENIAL.finditer(text)),
        maxlen=MAX_PLACES,
    )
    for entry in sorted([*announcements, *denials], key=lambda entry: entry.end, reverse=True):
        if entry.is_denied or _is_commitment(text, entry):
            yield entry


def answer_positions(text: str, start: int = 0) -> Iterator[int]:
    """Positions at which announced answers begin, from last to first, of announcements at or after `start`."""
    return (
        announcement.end
        for announcement in find_announcements(text)
        if not announcement.is_denied and announcement.start >= start
    )


def is_discounted(sentence: str) -> bool:
    """Whether a sentence announces answers and none of the announcements counts."""
    announcements = [
        Announcement(match.start(), match.end(), is_denied=False) for match in _ANY_FORM.finditer(sentence)
    ]
    return bool(announcements) and not any(_is_commitment(sentence, announcement) for announcement in announcements)


def is_denied(clause: str) -> bool:
    """Whether a clause retracts or compares what it names."""
    return _NEGATION.search(clause) is not None


def _is_commitment(text: str, announcement: Announcement) -> bool:
    """Whether an announcement states the reply's own answer, and not a wrong, hypothetical or reported one."""
    window = text[max(0, announcement.start - 120) : announcement.start]
    stops = [match.end() for match in _CLAUSE_END.finditer(window)]
    before = window[stops[-1] :] if stops else window
    if any(guard.fits(before) for guard in DENIALS_BEFORE):
        return False
    announcement_text = text[announcement.start : announcement.end]
    clause = _CLAUSE_START.split(before + announcement_text)[-1]
    if _HYPOTHETICAL.search(announcement_text) and not _FIRST_PERSON.search(announcement_text):
        text_after = text[announcement.end : announcement.end + 80]
        stop = _CLAUSE_END.search(text_after)
        if _CONDITION.search(before + announcement_text) or _CONDITION.search(
            text_after[: stop.start()] if stop else text_after
        ):
            return False
    if _AT_FIRST.search(before) or (_FIRST_OF_SEVERAL.search(before) and _PAST_TENSE.search(announcement_text)):
        return False
    return not SUPPOSITION.search(
        clause[: max(0, len(clause) - len(announcement_text))] if _FIRST_PERSON.search(announcement_text) else clause
    )
