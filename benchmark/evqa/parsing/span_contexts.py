"""Contexts of times: whether a range or a list in a sentence is presented as evidence.

The tables of `Guard` state the words before and after a range with which it is a length, a time of day, a coordinate,
or a denied or hypothetical time. `evidence_pairs` applies them to a sentence.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Sequence

from evqa.parsing import literals
from evqa.parsing.announcements import MAX_PLACES
from evqa.parsing.literals import LocatedList, TimeRange
from evqa.parsing.reply_rules import Guard
from evqa.parsing.span_literals import Pairs
from evqa.schema import Spans

_APPROXIMATION = (
    r"(?:(?:about|around|approximately|roughly|nearly|only|just|some|an?|the|last|first|next|final|another"
    r"|at\sleast|up\sto|almost)\s){0,4}"
)
_VIDEO = r"(?:video|clip|footage|recording|film|movie)"

LENGTHS_BEFORE = (
    Guard(
        "duration",
        rf"(?:\bfor|\blast(?:s|ed|ing)?|\b(?:tak(?:es?|ing)|took)(?:\s(?:him|her|them|it|me|us|you|(?:the|a|an)\s\w{{1,20}}))?"
        r"|\bunder|\b(?:less|more)\sthan|\bintervals\sof|\u6bcf\u9694?|\u95f4\u9694|\u7b49\u5f85?\u4e86?|\u82b1\u8d39?\u4e86?|\u7528\u4e86|\u8fc7\u4e86|"
        r"\ban?\s(?:\w{1,12}\s)?(?:span|period|interval|stretch|window|total|time)\sof|\bevery|\bafter|\bwithin|\bover|\bspen[dt]\w*|\bwait\w*|\bonly|\banother|\b(?:first|last|next)"
        rf"|\b(?:pause|delay|duration|length|total|gap|wait|break|course|speed|time)\s(?:of|is|was)|\b(?:duration|length|speed|runtime|delay|pause)\s?[:=]"
        rf"|\u6301\u7eed\u4e86?|\u65f6\u957f\u4e3a?|\u5386\u65f6|\u9577\u3055\u306f)\s?{_APPROXIMATION}$",
        "He holds it for about ",
        "He holds it from ",
    ),
    Guard("object of a measure", r"\b(?:span|period|stretch|total)s?\sof\s$", "spans of ", "span from "),
    Guard("article", r"\b(?:an?|each|every|this)\s(?:(?:short|brief|long|quick)\s)?$", "This is a ", "This is at "),
)
"""Words before a range with which it is a length of time, unless `from` or `between` stands before it."""

LENGTHS_AFTER = (
    Guard(
        "length",
        r"^[\s-]{0,2}(?:long|later|earlier|ago|apart|old|each|pass(?:es|ed)?|elapsed?|per\b|in\s(?:length|duration|total)|of\s(?:footage|video|silence|time)|delay|pause|gap"
        r"|clip|video|at\sa\stime|afterwards?|before|after|ahead|to\s(?:finish|complete|react|reach|do|get|make))\b",
        " later",
        " on the left",
    ),
)
"""Words after a range with which it is a length of time, unless `from` or `between` stands before it."""

LENGTHS_BEFORE_BETWEEN = (
    Guard(
        "duration",
        rf"(?:\bfor|\blast(?:s|ed|ing)?|\b(?:tak(?:es?|ing)|took)(?:\s(?:him|her|them|it))?|\bspen[dt]\w*|\bwait\w*|\b(?:duration|length|total)\s(?:of|is|was))\s{_APPROXIMATION}(?:(?:any|some)where\s)?$",
        "It lasts ",
        "It takes place ",
    ),
)
"""Words before `between 3 and 5 seconds` with which it is a length of time."""

LENGTHS_AFTER_FIRST = (
    Guard(
        "length",
        r"^[\s-]{0,2}(?:long|later|earlier|ago|apart|old|in\s(?:length|duration|total)|delay|pause|gap|after|before|each|apiece|pass(?:es|ed)?|elapsed?)\b|^\s?(?:\u4e4b|\u4ee5)?\u540e(?!\u9762)",
        " long",
        " longer clip",
    ),
)
"""Words after a range at the start of a clause with which it is a length of time."""

CONTEXTS_BEFORE = (
    Guard(
        "length of the video",
        rf"(?:(?<!of\sthe\s)(?<!in\sthe\s)\b{_VIDEO}(?:\sitself|\s(?:you|I|we)\s\w{{1,12}}|'s\s(?:total\s)?(?:duration|length)|\s(?:duration|length|timeline|time))?"
        rf"(?:(?:\s|:\s?)(?:is|was|runs?|lasts?|spans?|covers?|goes|plays|ranges?|extends|starts)\b[^,;.:\d]{{0,20}}|\s?[(:,]?\s?(?:from\s)?)"
        rf"|\bfrom\s(?:the\s)?start\sto\s(?:the\s)?(?:end|finish)[\s(:,]{{0,3}}"
        rf"|\b(?:entire|whole|full|complete|total)\s{_VIDEO}[\s(:,]{{0,3}}(?:from\s)?"
        rf"|\b(?:duration|length|runtime|timeline)\sof\s(?:the|this|that|our)\s(?:\w{{1,12}}\s)?{_VIDEO}\s?(?:is|was|:|=|runs)?\s?(?:from\s)?"
        rf"|\b{_VIDEO}\sof\s"
        rf"|\u89c6\u9891(?:\u603b?\u65f6\u957f|\u603b?\u957f\u5ea6|\u5168\u957f|\u603b\u957f)?(?:\u4e3a|\u662f|\u4ece|\u5171|\u5171\u6709|:)?\s?(?:\u4ece)?\s?)$",
        "The video runs from ",
        "The video shows a man from ",
    ),
    Guard(
        "negation",
        r"(?:\b(?:not(?!\sonly)|cannot|never|apart|aside|nothing|nobody|none|neither|nor|absent|invisible|hidden|occluded|missing|except(?:ing)?|exceptions?\sof|exclud\w+|discard\w*|skip\w*|reject\w*|outside"
        r"|without|instead\sof|rather\sthan|other\sthan|unlike|no(?!\sdoubt)|disappears?|hardly|off-?screen|out\sof\s(?:view|frame|sight)|ignor\w+|unrelated|irrelevant)\b"
        r"|n't\b|\u4e0d(?!\u8fc7|\u4ec5|\u4f46)|\u6ca1|\u9664\u4e86|\u5e76\u975e|\u65e0\u5173)[^;.\n]{0,80}$",
        "The ball is not visible from ",
        "The ball is visible from ",
    ),
    Guard(
        "supposition",
        r"\b(?:thought|initially|originally|at\sfirst|assumed|guessed)\b[^;.\n]{0,40}$",
        "I first thought ",
        "I think ",
    ),
    Guard(
        "age",
        r"\bin\s(?:(?:his|her|their)\s(?:(?:early|mid|late)[\s-])?|the\s(?:early|mid|late)[\s-])$",
        "a man in his ",
        "a man in the video at ",
    ),
    Guard(
        "frame numbers",
        r"\b(?:frames?|frame\s(?:numbers?|ind\w+)|pages?|lines?|chapters?|verses?|channels?|rooms?|floors?|rows?|columns?|pixels?)\s(?:from\s)?$",
        "frames ",
        "a frame shows it from ",
    ),
)
"""Words before a range with which it is not evidence."""

CONTEXTS_AFTER = (
    Guard(
        "negation behind",
        r"^(?:[^.;\n\d]{0,8}(?:\u6ca1\u6709?|\u4e0d|\u672a)|[^.;\n\d]{0,60}?(?:\b(?:does|do|did)\s?(?:not|n't)\s(?:show|contain|have|include|support|prove|feature)\b|\bnothing\b|\bno\s(?:one|evidence|action|ball|longer|sign)\b|\bnobody\b|(?:not|n't|cannot|never)\s(?:be\s)?(?:visible|seen|shown|in\s(?:view|frame|sight)|on\sscreen"
        r"|present|there|relevant|needed|evidence|moving|move|appear)|\b(?:absent|invisible|irrelevant|off-?screen|out\sof\s(?:view|frame|sight))\b))",
        ", the ball is not visible",
        ", the ball is not red",
    ),
    Guard("time of day", r"^\s?(?:a\.?m\.?|p\.?m\.?|o'clock)(?![A-Za-z])", " am", " among others"),
    Guard(
        "other unit",
        r"^\s?(?:%|px|pixels|fps|km|cm|mm|m/s|kg|\u00b0|people|times|years|frames)(?![A-Za-z])",
        " pixels",
        " plus",
    ),
)
"""Words after a range with which it is not evidence."""

TIME_OF_DAY = re.compile(
    r"\b(?:clock|watch\s(?:shows|reads|says)|[ap]\.?m\b|o'clock|morning|afternoon|evening|noon|midnight|tonight|opening|open|schedule|score|ratio"
    r"|aspect|won|odds|verse|chapter|psalm|scoreboard)\b",
    re.IGNORECASE,
)
"""Words of a sentence in which numbers with colons are not times of the video."""

CONTEXTS_BEFORE_LIST = (
    Guard(
        "coordinates",
        r"\b(?:coordinates?|positions?|pixels?|points?|bbox\w*|bounding|box(?:es)?|cent(?:er|re)|located|location|corners?|resolution|size|frames?"
        r"|polygons?|masks?|references?|cited?|scores?|values?|ranks?|counts?|ids?|options?|x|y|rgb|colou?rs?|rows?|columns?|confidences?|probabilit\w+|years?|shape|indices)"
        r"\b[^.;\n\[\]\d]{0,25}$",
        "The bounding box is ",
        "The segment is ",
    ),
    Guard(
        "place",
        r"(?<!evidence\s)(?<!segment\s)(?<!moment\s)(?<!interval\s)(?<!event\s)(?<!action\s)(?<!proof\s)(?<!answer\s)(?<!scene\s)(?<!clip\s)(?<!time\s)"
        r"(?<!\bit\s)(?<!this\s)(?<!that\s)(?<!there\s)\b(?:is|are|was|were)\sat\s$",
        "The cup is at ",
        "The evidence is at ",
    ),
    Guard(
        "example",
        r"\b(?:for\s(?:example|instance)|e\.g\.?|examples?|(?<!requested\s)(?<!required\s)(?<!specified\s)(?<!following\s)(?<!the\s)format|in\sthe\sform)(?!\w)[^.;\n\[\]\d]{0,25}$",
        "For example, ",
        "The exact segment is ",
    ),
    Guard(
        "length of the video",
        rf"\b(?:{_VIDEO}(?:'s)?\s(?:is|was|runs?|lasts?|spans?|covers?|goes|length|duration|range)|duration|length)\b[^;.\n\[\]\d]{{0,15}}$",
        "The video is ",
        "In the video it is ",
    ),
    Guard(
        "negation",
        r"(?:\b(?:not|except|excluding|outside|without|instead\sof|rather\sthan|never|no)\b|n't\b|\u4e0d|\u9664\u4e86)[^.;\n\[\],]{0,40}$",
        "not in ",
        "now in ",
    ),
)
"""Words before a list with which it is not evidence."""

_PREPOSITION = re.compile(r"\b(?:from|at|in|during|between)\s(?:the\s)?$", re.IGNORECASE)
_WORD_IN = re.compile(r"\bin\s$", re.IGNORECASE)
_UNIT_WORD = re.compile(r"\s?(?:seconds?|secs?)$", re.IGNORECASE)

_EVIDENCE_WORD = re.compile(
    r"\b(?:seen|visible|shown?|shows|appears?|occurs?|happens?|found|located|present|evidence|segment|interval|moment|proof|event|action|is|are|was|it)\b",
    re.IGNORECASE,
)
"""Words before `in 3 to 7 seconds` with which it is a position in the video, not how long something takes."""

_DECADE = re.compile(r"\d{3}0s\b")


_CLAUSE_SEPARATOR = re.compile(
    r"[;\n]|[.!?](?=\s)|,\s(?:and|then|so|while|when|it|he|she|they|the)\s|\s(?:but|however)\s(?!not\b)|,\s?(?=[\u800c\u4f46\u5374])",
    re.IGNORECASE,
)
_CONTRAST_SEPARATOR = re.compile(
    r"[;\n]|[.!?](?=\s)|,?\s(?:while|but|whereas|although|though|however|and)\s", re.IGNORECASE
)


# Ranges in sentences

_DECIMAL_COMMA = re.compile(r"(?:^|[^\d.:\-~])\d{1,4},$")


def evidence_pairs(sentence: str, *, is_announced: bool = False) -> Pairs | None:
    """Pairs that a sentence with normalized times gives as evidence.

    None = ambiguous: alternatives, exceptions, or a number that may have a decimal comma.
    """
    ranges = literals.find_ranges(sentence)
    is_all = is_announced and literals.is_all_ranges(sentence, ranges)
    evidence = [
        time_range for time_range in ranges if (is_all or time_range.has_unit) and _is_evidence(sentence, time_range)
    ]
    if _has_exception(sentence, ranges, evidence) or _has_alternatives(sentence, evidence):
        return None
    if any(_DECIMAL_COMMA.search(sentence[max(0, time_range.start - 8) : time_range.start]) for time_range in evidence):
        return None
    return [time_range.pair for time_range in evidence]


def _is_evidence(sentence: str, time_range: TimeRange) -> bool:
    """Whether the words around a range present it as evidence."""
    before = _CLAUSE_SEPARATOR.split(sentence[max(0, time_range.start - 160) : time_range.start])[-1]
    after = _CONTRAST_SEPARATOR.split(sentence[time_range.end : time_range.end + 120], maxsplit=1)[0]
    source = sentence[time_range.start : time_range.end]
    is_position = time_range.is_between or _PREPOSITION.search(before) is not None
    lengths_after = LENGTHS_AFTER if before.strip() else LENGTHS_AFTER_FIRST
    if not is_position and (
        _any_fits(LENGTHS_BEFORE, before) or (not time_range.has_colons and _any_fits(lengths_after, after))
    ):
        return False
    if time_range.is_between and _any_fits(LENGTHS_BEFORE_BETWEEN, before):
        return False
    if (
        _WORD_IN.search(before)
        and _UNIT_WORD.search(source)
        and not time_range.has_colons
        and not _EVIDENCE_WORD.search(before)
    ):
        return False
    if _any_fits(CONTEXTS_BEFORE, before) or _any_fits(CONTEXTS_AFTER, after) or _DECADE.search(source):
        return False
    return not (time_range.has_colons and TIME_OF_DAY.search(sentence))


def _any_fits(guards: Sequence[Guard], text: str) -> bool:
    return any(guard.fits(text) for guard in guards)


_ALTERNATIVE_SEPARATOR = re.compile(
    r"(?:\s{0,3},)?\s{0,3}\(?(?:or|ou|oder|\u6216\u8005?)\s{0,3}(?:(?:possibly|perhaps|maybe|else|from|at|in|during)\s){0,3}",
    re.IGNORECASE,
)


def _has_alternatives(sentence: str, evidence: Sequence[TimeRange]) -> bool:
    """Whether two ranges are alternatives: `3s-7s or 12s-15s`."""
    return any(
        _ALTERNATIVE_SEPARATOR.fullmatch(sentence, first.end, second.start)
        for first, second in itertools.pairwise(evidence)
    )


_EXCEPTION = re.compile(
    r"\b(?:except\w*|excluding|without|but\snot|apart|other\sthan|save)\b[^;.\n]{0,20}$", re.IGNORECASE
)


def _has_exception(sentence: str, ranges: Sequence[TimeRange], evidence: Sequence[TimeRange]) -> bool:
    """Whether a range of evidence contains one that is excepted: `except from 13s to 14s`."""
    exceptions = [
        time_range
        for time_range in ranges
        if time_range not in evidence and _EXCEPTION.search(sentence[max(0, time_range.start - 40) : time_range.start])
    ]
    return any(
        outer.pair[0] <= inner.pair[0] and inner.pair[1] <= outer.pair[1] for outer in evidence for inner in exceptions
    )


# Lists


_ALTERNATIVE_BEFORE = re.compile(
    r"[\])]\s{0,3},?\s{0,3}(?:or|ou|oder|\u6216\u8005?)\s{0,3}(?:\w{1,12}\s){0,2}$", re.IGNORECASE
)
"""Text before a list that is an alternative to the previous list."""

_LISTS_BEFORE = re.compile(r"(?:[\[(][^\[\]()]{1,60}[\])][\s,;&]{0,3}(?:and\s)?)+$")
_LIST_AFTER = re.compile(r"^\s{0,2}(?:in\s)?(?:pixels?|px|coordinates|frames)\b", re.IGNORECASE)


def evidence_lists(text: str) -> list[LocatedList]:
    """Lists of a text that are presented as evidence, the last `MAX_PLACES`."""
    return [entry for entry in deque(literals.find_lists(text), maxlen=MAX_PLACES) if is_evidence_list(text, entry)]


def is_evidence_list(text: str, entry: LocatedList) -> bool:
    """Whether the words around a list present it as evidence."""
    before = _LISTS_BEFORE.sub("", text[max(0, entry.start - 160) : entry.start])[-80:]
    return not _any_fits(CONTEXTS_BEFORE_LIST, before) and not _LIST_AFTER.search(text[entry.end : entry.end + 40])


def spans_unless_alternative(text: str, entry: LocatedList, spans: Spans | None) -> Spans | None:
    """`spans` of a list; None = the list is one of two alternatives: `[[3, 7]] or [[12, 14]]`."""
    return None if _ALTERNATIVE_BEFORE.search(text[max(0, entry.start - 40) : entry.start]) else spans
