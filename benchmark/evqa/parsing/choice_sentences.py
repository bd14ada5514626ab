"""Answer rules for whole replies, lines and sentences: `B`, `D is correct`, `No, he does not`, `..., so C.`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evqa.parsing import reply_text
from evqa.parsing.announcements import is_denied
from evqa.parsing.choice_prose import ChoiceMatch, Prose
from evqa.parsing.option_matching import (
    BARE_LETTER,
    LABEL,
    MENTION,
    NO_OPTION,
    OptionSet,
    choice_of_segment,
    choice_of_text,
    option_of_letter,
    options_of_label,
    options_of_yes_no,
    options_with_text,
    union_of,
)

MAX_TEXT = 2000
"""Characters of the longest text that can be a choice as a whole."""


def match_whole_reply(prose: Prose) -> ChoiceMatch | None:
    """Match a reply that consists of a choice: `B`, `B) blue ball`, `blue ball`."""
    if len(prose.text) > MAX_TEXT:
        return None
    options = choice_of_text(prose.text, prose.options)
    return None if options is None else ChoiceMatch(options, prose.text)


# Declarations


_LETTER_DECLARATION = re.compile(
    r"""(?:^|(?<=[.!?:;,\n\u2026{}])|\b(?:so|thus|hence|therefore
            |but|and|though|So|Thus|Hence|Therefore|But)[ ,])[ \n]{0,3}(?:[Oo]nly\s)?(?:[Oo]ption\s|[Cc]hoice\s
        |\u9009\u9879)?["'(]?([A-Z])["')]?
        (?:\s(?:is|would\sbe|must\sbe|seems|looks)\s(?:clearly\s|therefore\s|definitely\s|most\slikely\s|likely\s)?(?:the\s|my\s)?(?:final\s|most\s|best\s)?
            (?:correct|right|answer|(?<=my\s)(?:choice|pick|guess)|(?<=final\s)(?:choice|pick|guess)|best|accurate|plausible|appropriate|suitable|fitting|consistent)(?!\s(?:only\s)?(?:if|unless)\b|\s?\?)\b
        |\s(?:fits|matches)\sbest\b|\s?(?:\u9009\u9879)?(?:\u662f|\u4e3a)?(?:\u6b63\u786e|\u5bf9\u7684))""",
    re.VERBOSE,
)
"""A letter that is called correct: `D is the correct answer`."""

_TEXT_DECLARATION = re.compile(
    r"(?:^|(?<=[.!?\n])\s)([^.!?\n]{1,150}?)\sis\s(?:clearly\s)?(?:the\s)?(?:correct|right|best)\b(?!\s(?:only\s)?if)",
    re.IGNORECASE,
)
"""A text that is called correct: `The blue ball is correct`."""
_SUPPOSITION = re.compile(r"\b(?:if|had|unless|were)\b[^.!?\n]{0,120}$", re.IGNORECASE)
"""Words before a declaration that make it hypothetical, up to the end of the text."""


def match_declaration(prose: Prose) -> ChoiceMatch | None:
    """Match letters and texts that are called correct: `D is correct`."""
    matches = [match for match in _LETTER_DECLARATION.finditer(prose.text) if not _is_supposition(prose.text, match)]
    options = union_of(option_of_letter(match[1], prose.options) for match in matches)
    for match in list(_TEXT_DECLARATION.finditer(prose.text))[-50:]:
        text_options = options_with_text(match[1], prose.options)
        if text_options:
            options |= text_options
            matches.append(match)
    return ChoiceMatch(options, matches[-1][0].strip()) if matches else None


def _is_supposition(text: str, match: re.Match[str]) -> bool:
    """Whether a declaration is hypothetical: `Had he left, A would be the answer`."""
    return "would" in match[0] and _SUPPOSITION.search(text[max(0, match.start() - 160) : match.start()]) is not None


# Lines


def match_yes_no(prose: Prose) -> ChoiceMatch | None:
    """Match a leading yes or no where the options begin with yes and no: `No, he does not`."""
    readings = [(segment, _whole_yes_no(segment, prose.options)) for segment in prose.own_sentences]
    choices = [(segment, options) for segment, options in readings if options]
    if not choices:
        return None
    return ChoiceMatch(union_of(options for _, options in choices), choices[0][0])


def _whole_yes_no(segment: str, options: Sequence[str]) -> OptionSet:
    """Options that share the leading yes or no of a segment; of several the one whose text the segment is."""
    yes_no_options = options_of_yes_no(segment, options)
    return yes_no_options & (choice_of_text(segment, options) or NO_OPTION) or yes_no_options


def match_line(prose: Prose) -> ChoiceMatch | None:
    """Match lines and sentences that consist of a choice; lines that choose different options are ambiguous.

    A single letter after a list of options is the choice.
    """
    choices = [
        (segment, options)
        for segment in prose.own_sentences
        if (options := choice_of_segment(segment, prose.options)) is not None
    ]
    if not choices:
        return None
    last_segment, last_choice = choices[-1]
    different = [(segment, options) for segment, options in choices[:-1] if options != last_choice]
    has_letter = any(BARE_LETTER.fullmatch(segment) for segment, _ in different)
    is_list = len({options for _, options in different}) > 1 and not has_letter
    if BARE_LETTER.fullmatch(last_segment) and is_list:
        return ChoiceMatch(last_choice, last_segment)
    return ChoiceMatch(union_of(options for _, options in choices), last_segment)


# Starts and ends of sentences


_LETTER_BEFORE_SENTENCE = re.compile(
    rf"[(\[]?([A-Z])[)\]]?(?:\s{{1,3}}(?={reply_text.SENTENCE_STARTS})|,?\s(?:because|since|whereas|given\s(?:that|the)|due\sto|as\s(?:the|it|he|she|they|we|I))\b"
    rf"|,\s(?:I\s(?:think|believe|guess|suppose|would)|obviously|clearly|definitely|certainly|probably)\b|\sit\sis\b|,?\s?(?=\u56e0\u4e3a))"
)
"""A letter at the start of a sentence, followed by another sentence or a reason: `B because ...`."""
_TITLE_OF_NAME = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|vs)\.$")
"""A title at the end of a sentence, `Mr.`: the next sentence continues it."""

_QUESTION_OR_ANSWER_KEY = re.compile(r"[AQ]\s?:")
"""`A:` and `Q:` at the start of a line: they may abbreviate "answer" and "question"."""

_TRAILING_LETTER = re.compile(
    r"""(?:[!?;\n\u2026]|(?:\b(?:question\s?\d{0,3}|assistant|user|model|output|response|result|prediction|conclusion|verdict|select(?:ion|ed)?|pick|so|is|q\d{0,3})|\u7ed3\u8bba|\u7ed3\u679c)\s?:|(?<![A-Z)"'\]])[.,]|\b(?:so|thus|therefore|hence|is|be|it's|probably|likely|definitely|leaves)(?:\sto)?)\s{0,3}(?:option\s|choice\s)?
        [("'\[]?([A-Z])[)"'\]]?[.!\s]{0,4}$""",
    re.VERBOSE | re.IGNORECASE,
)
"""A letter that ends a sentence and is separate from it: `..., so C.`."""
_CLAUSE_SEPARATOR = re.compile(r"[.!?;\n]\s|\b(?:so|thus|therefore|hence)\b")


def match_sentence_start(prose: Prose) -> ChoiceMatch | None:
    """Match sentences that start with a letter, `B. The man lifts it.`; different letters are ambiguous."""
    choices: list[OptionSet] = []
    first_segment = previous = ""
    for segment in prose.own_sentences:
        match = LABEL.match(segment[:500]) or _LETTER_BEFORE_SENTENCE.match(segment)
        if match and not _TITLE_OF_NAME.search(previous) and not _QUESTION_OR_ANSWER_KEY.match(segment):
            read = options_of_label if match.re is LABEL else _option_of_match
            choices.append(read(match, prose.options))
            first_segment = first_segment or segment
        previous = segment
    return ChoiceMatch(union_of(choices), first_segment) if choices else None


def _option_of_match(match: re.Match[str], options: Sequence[str]) -> OptionSet:
    return option_of_letter(match[1], options)


def match_sentence_end(prose: Prose) -> ChoiceMatch | None:
    """Match sentences that end with a letter, `the man lifts it, so C.`; different letters are ambiguous."""
    choices: list[OptionSet] = []
    last_segment = ""
    for segment in prose.own_sentences:
        match = _TRAILING_LETTER.search(segment[-60:])
        clause = _CLAUSE_SEPARATOR.split(segment[:-2])[-1]
        if match and match[1].isupper() and not is_denied(clause) and not _QUESTION_OR_ANSWER_KEY.match(segment):
            choices.append(option_of_letter(match[1], prose.options))
            last_segment = segment
    return ChoiceMatch(union_of(choices), last_segment) if choices else None


# Mentions


_DOUBT = re.compile(
    r"\b(?:not|never|no|wrong|incorrect|neither|nor|except|unlikely|unclear|unsure|rather|instead|unless|if|less|least|would|could|might"
    r"|(?:eliminat|exclud|reject|discard|dismiss|contradict|contrar|conflict|claim|fail|lack|rul(?:es?|ed|ing)\sout|assum|requir|oppos|unlike)\w*)\b"
    r"|n't\b|\u4e0d|\u9519",
    re.IGNORECASE,
)
"""Words with which a mention may reject its option."""

_SUPPORT = re.compile(
    r"\b(?:match|correspond|fit|consistent|describ|support|align|agree|accord|confirm|indicat|point|suggest|favou?r|show|see|seen|saw|best|correct|right"
    r"|answer|accurate|choose|choice|select|pick|must|leav|left|lead|conclu|captur|reflect|represent|depict|state|true|likely|so|therefore|thus|hence)\w*\b"
    r"|\u7b26\u5408|\u5bf9\u5e94|\u6b63\u786e|\u9009",
    re.IGNORECASE,
)
"""Words with which a mention may choose its option."""

_RETRACTING_START = re.compile(
    r"(?:but|however|no\b|yet|though|although|still|(?:this|that|it)(?:'s|\s(?:is|was|seems|may\sbe))?\s?(?:not\s(?:it|right|correct|true|the)|n't|wrong|incorrect|unlikely))\b",
    re.IGNORECASE,
)
"""Start of a sentence that retracts the mention before it."""


def match_only_mention(prose: Prose) -> ChoiceMatch | None:
    """Match the only option that is mentioned anywhere, unless a sentence with or after it casts doubt on it."""
    choices: list[OptionSet] = []
    last_segment = ""
    is_doubtful = follows_mention = is_supported = False
    for segment in prose.own_sentences:
        letters = {match[1] or match[2] for match in MENTION.finditer(segment)}
        choices += [option_of_letter(letter, prose.options) for letter in letters]
        last_segment = segment if letters else last_segment
        is_doubtful |= bool(
            (letters or (follows_mention and _RETRACTING_START.match(segment)))
            and (_DOUBT.search(segment) or "?" in segment)
        )
        is_supported |= bool(letters) and _SUPPORT.search(segment) is not None
        follows_mention = bool(letters)
    return ChoiceMatch(union_of(choices), last_segment) if choices and is_supported and not is_doubtful else None
