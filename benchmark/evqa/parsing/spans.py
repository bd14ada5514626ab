"""Which spans of the video a reply gives as evidence: a table of rules, and a table of contexts that do not count.

Only what is presented as evidence counts. The last thing that a reply commits to counts; what can be read in two ways
is unparsed (None), never guessed.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

from evqa.parsing import literals, reply_text
from evqa.parsing.announcements import MAX_PLACES, RETRACTION
from evqa.parsing.literals import Literal, LocatedList, Node, NoLiteral, TimeRange, Truncated
from evqa.parsing.reply_json import JsonValue
from evqa.parsing.reply_rules import Guard, ReplyText, Rule, RuleResult, prepare_reply
from evqa.schema import Span, Spans

MAX_SECONDS = 1e7
"""A later time is no time in a video."""

MAX_TAIL = 30_000
"""So many characters from the end are searched for evidence that no key announces."""

Pairs = list[tuple[float, float]]


class SpanMatch(NamedTuple):
    """What a rule found; None = what it found cannot be read."""

    spans: Spans | None
    text: str


@dataclass(frozen=True)
class TimedText:
    """Prose that may state times."""

    text: str
    is_alone: bool
    """Whether nothing but spans was asked for."""

    @cached_property
    def tail(self) -> str:
        """Its end, with times in one notation."""
        return literals.with_clocks(self.text[-MAX_TAIL:])

    @cached_property
    def sentences(self) -> list[str]:
        """Sentences of `tail`."""
        return reply_text.sentences(self.tail)


def read_spans(text: str, *, is_alone: bool = False) -> Spans | None:
    """Spans that the reply commits to, in its order; () where it says that there are none."""
    return explain_spans(text, is_alone=is_alone).value


def explain_spans(text: str, *, is_alone: bool = False) -> RuleResult[Spans]:
    """As `read_spans`, with the rule that decided.

    Args:
        text: The raw reply.
        is_alone: Whether nothing but spans was asked for, so that numbers need no unit.
    """
    said = prepare_reply(text)
    if said.objects and (found := _of_objects(said)):
        rule, match = found
        return RuleResult(match.spans, rule, match.text[:200])
    prose = TimedText(said.prose, is_alone)
    for each in RULES:
        match = each.read(prose)
        if match is not None:
            return RuleResult(match.spans, each.name, match.text.strip()[:200])
    return RuleResult(None, "", "")


# Contexts that do not count

_ROUGH = (
    r"(?:(?:about|around|approximately|roughly|nearly|only|just|some|an?|the|last|first|next|final|another"
    r"|at\sleast|up\sto|almost)\s){0,4}"
)
_VIDEO = r"(?:video|clip|footage|recording|film|movie)"

LENGTHS = (
    Guard(
        "duration",
        rf"(?:\bfor|\blast(?:s|ed|ing)?|\b(?:tak(?:es?|ing)|took)(?:\s(?:him|her|them|it|me|us|you|(?:the|a|an)\s\w{{1,20}}))?"
        r"|\bunder|\b(?:less|more)\sthan|\bintervals\sof|\u6bcf\u9694?|\u95f4\u9694|\u7b49\u5f85?\u4e86?|\u82b1\u8d39?\u4e86?|\u7528\u4e86|\u8fc7\u4e86|"
        r"\ban?\s(?:\w{1,12}\s)?(?:span|period|interval|stretch|window|total|time)\sof|\bevery|\bafter|\bwithin|\bover|\bspen[dt]\w*|\bwait\w*|\bonly|\banother|\b(?:first|last|next)"
        rf"|\b(?:pause|delay|duration|length|total|gap|wait|break|course|speed|time)\s(?:of|is|was)|\b(?:duration|length|speed|runtime|delay|pause)\s?[:=]"
        rf"|\u6301\u7eed\u4e86?|\u65f6\u957f\u4e3a?|\u5386\u65f6|\u9577\u3055\u306f)\s?{_ROUGH}$",
        "He holds it for about ",
        "He holds it from ",
    ),
    Guard("object of a measure", r"\b(?:span|period|stretch|total)s?\sof\s$", "spans of ", "span from "),
    Guard("article", r"\b(?:an?|each|every|this)\s(?:(?:short|brief|long|quick)\s)?$", "This is a ", "This is at "),
)
"""Words right before a range with which it is a length of time, not a place in it; not behind `from` or `between`."""

LENGTHS_AFTER = (
    Guard(
        "length",
        r"^[\s-]{0,2}(?:long|later|earlier|ago|apart|old|each|pass(?:es|ed)?|elapsed?|per\b|in\s(?:length|duration|total)|of\s(?:footage|video|silence|time)|delay|pause|gap"
        r"|clip|video|at\sa\stime|afterwards?|before|after|ahead|to\s(?:finish|complete|react|reach|do|get|make))\b",
        " later",
        " on the left",
    ),
)
"""Words right behind a range with which it is a length of time; not where `from` or `between` stands before it."""

BETWEEN = (
    Guard(
        "duration",
        rf"(?:\bfor|\blast(?:s|ed|ing)?|\b(?:tak(?:es?|ing)|took)(?:\s(?:him|her|them|it))?|\bspen[dt]\w*|\bwait\w*|\b(?:duration|length|total)\s(?:of|is|was))\s{_ROUGH}(?:(?:any|some)where\s)?$",
        "It lasts ",
        "It takes place ",
    ),
)
"""Words right before `between 3 and 5 seconds` with which it is a length of time."""

FIRST = (
    Guard(
        "length",
        r"^[\s-]{0,2}(?:long|later|earlier|ago|apart|old|in\s(?:length|duration|total)|delay|pause|gap|after|before|each|apiece|pass(?:es|ed)?|elapsed?)\b|^\s?(?:\u4e4b|\u4ee5)?\u540e(?!\u9762)",
        " long",
        " longer clip",
    ),
)
"""Words behind a range that starts a clause with which it is a length of time."""

CONTEXTS = (
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
"""Words before a range with which it is no evidence."""

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
"""Words behind a range with which it is no evidence."""

OF_THE_DAY = re.compile(
    r"\b(?:clock|watch\s(?:shows|reads|says)|[ap]\.?m\b|o'clock|morning|afternoon|evening|noon|midnight|tonight|opening|open|schedule|score|ratio"
    r"|aspect|won|odds|verse|chapter|psalm|scoreboard)\b",
    re.IGNORECASE,
)
"""Words of a sentence in which numbers with colons are no times of the video."""

LIST_CONTEXTS = (
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
"""Words before a list with which it is no evidence."""

_OR_BEFORE = re.compile(r"[\])]\s{0,3},?\s{0,3}(?:or|ou|oder|\u6216\u8005?)\s{0,3}(?:\w{1,12}\s){0,2}$", re.IGNORECASE)
"""What stands before a list that is an alternative to the one before it."""
_LISTS_BEFORE = re.compile(r"(?:[\[(][^\[\]()]{1,60}[\])][\s,;&]{0,3}(?:and\s)?)+$")
_LIST_AFTER = re.compile(r"^\s{0,2}(?:in\s)?(?:pixels?|px|coordinates|frames)\b", re.IGNORECASE)
_FROM = re.compile(r"\b(?:from|at|in|during|between)\s(?:the\s)?$", re.IGNORECASE)
_IN = re.compile(r"\bin\s$", re.IGNORECASE)
_SPELLED = re.compile(r"\s?(?:seconds?|secs?)$", re.IGNORECASE)
_SEEN = re.compile(
    r"\b(?:seen|visible|shown?|shows|appears?|occurs?|happens?|found|located|present|evidence|segment|interval|moment|proof|event|action|is|are|was|it)\b",
    re.IGNORECASE,
)
"""Words before `in 3 to 7 seconds` with which it is a place in the video, not how long something takes."""
_DECADE = re.compile(r"\d{3}0s\b")
_DECIMAL_COMMA = re.compile(r"(?:^|[^\d.:\-~])\d{1,4},$")


def _fits(guards: Sequence[Guard], text: str) -> bool:
    return any(guard.fits(text) for guard in guards)


_CLAUSE = re.compile(
    r"[;\n]|[.!?](?=\s)|,\s(?:and|then|so|while|when|it|he|she|they|the)\s|\s(?:but|however)\s(?!not\b)|,\s?(?=[\u800c\u4f46\u5374])",
    re.IGNORECASE,
)


_CONTRAST = re.compile(r"[;\n]|[.!?](?=\s)|,?\s(?:while|but|whereas|although|though|however|and)\s", re.IGNORECASE)


def _is_evidence(sentence: str, each: TimeRange) -> bool:
    """Whether the context of a range lets it be evidence."""
    before = _CLAUSE.split(sentence[max(0, each.start - 160) : each.start])[-1]
    after = _CONTRAST.split(sentence[each.end : each.end + 120], maxsplit=1)[0]
    written = sentence[each.start : each.end]
    is_place = each.is_between or _FROM.search(before) is not None
    behind = LENGTHS_AFTER if before.strip() else FIRST
    if not is_place and (_fits(LENGTHS, before) or (not each.has_colons and _fits(behind, after))):
        return False
    if each.is_between and _fits(BETWEEN, before):
        return False
    if _IN.search(before) and _SPELLED.search(written) and not each.has_colons and not _SEEN.search(before):
        return False
    if _fits(CONTEXTS, before) or _fits(CONTEXTS_AFTER, after) or _DECADE.search(written):
        return False
    return not (each.has_colons and OF_THE_DAY.search(sentence))


def _evidence_of(sentence: str, *, is_announced: bool = False) -> Pairs | None:
    """Pairs that a sentence in one notation gives as evidence; None where a number may have a decimal comma."""
    found = literals.range_matches(sentence)
    is_all = is_announced and literals.is_all_ranges(sentence, found)
    kept = [each for each in found if (is_all or each.has_unit) and _is_evidence(sentence, each)]
    if _has_exception(sentence, found, kept) or _has_alternatives(sentence, kept):
        return None
    if any(_DECIMAL_COMMA.search(sentence[max(0, each.start - 8) : each.start]) for each in kept):
        return None
    return [each.pair for each in kept]


_OR = re.compile(
    r"(?:\s{0,3},)?\s{0,3}\(?(?:or|ou|oder|\u6216\u8005?)\s{0,3}(?:(?:possibly|perhaps|maybe|else|from|at|in|during)\s){0,3}",
    re.IGNORECASE,
)


def _has_alternatives(sentence: str, kept: Sequence[TimeRange]) -> bool:
    """Whether two ranges are alternatives: `3s-7s or 12s-15s`."""
    return any(_OR.fullmatch(sentence, a.end, b.start) for a, b in itertools.pairwise(kept))


def _has_exception(sentence: str, found: Sequence[TimeRange], kept: Sequence[TimeRange]) -> bool:
    """Whether a range that is taken out, `except from 13s to 14s`, lies inside one that is kept."""
    out = [
        each for each in found if each not in kept and _EXCEPTION.search(sentence[max(0, each.start - 40) : each.start])
    ]
    return any(a.pair[0] <= b.pair[0] and b.pair[1] <= a.pair[1] for a in kept for b in out)


_EXCEPTION = re.compile(
    r"\b(?:except\w*|excluding|without|but\snot|apart|other\sthan|save)\b[^;.\n]{0,20}$", re.IGNORECASE
)

# Announced by a key

_KEY = re.compile(
    r"""(?<![A-Za-z])(?:temporal[ _]evidence|(?:time[ _-]?)?(?:segments?|spans?|intervals?|ranges?|windows?)
        |timestamps?|evidence\s(?:time|in\stime))
        ["'*]{0,4}(?:\s?\([^()\n]{0,30}\))?["'*]{0,4}\s{0,3}(?:is|are|:|=)\s{0,8}["'*]{0,2}\s{0,8}
      |(?<![A-Za-z])times?\s{0,2}["'*]{0,3}[:=]\s{0,8}
      |(?:\u65f6\u95f4\u6bb5|\u65f6\u95f4\u8bc1\u636e|\u8bc1\u636e\u65f6\u95f4|\u65f6\u95f4\u8303\u56f4|\u7247\u6bb5|\u65f6\u95f4)\s?(?:\u662f|\u4e3a|:|=)\s{0,4}""",
    re.VERBOSE | re.IGNORECASE,
)
_NOT_THE_KEY = re.compile(
    r"\b(?:duration|length|number|count|wrong|incorrect|other|rejected|irrelevant|excluded|not\s(?:the|a|in)|no)\s(?:(?:of|the|each|this|such|a)\s){0,3}(?:\w+\s)?$",
    re.IGNORECASE,
)
_NONE = re.compile(
    r"(?:there (?:is|are) )?(?:none(?! of)|n/a|not applicable|no (?:temporal |visual |such )?(?:evidence"
    r"|segments?|spans?))\b"
    r"(?![^.\n]{0,60}\d)",
    re.IGNORECASE,
)
_BESIDE = re.compile(r"\s{0,3}(?:[,;&\n]\s{0,3}|and\b\s{0,3}|)(?:and\s{1,3}|[-*\u2022]\s|\d{1,2}[.)]\s)?(?=[\[({])")
"""What may stand between two pairs that are said together."""
_TIMED_BULLET = re.compile(
    r"\s{0,4}(?:[-*\u2022]|\d{1,2}[.)])\s{1,3}(?=[\[({]?[\"']?\d|from\b|between\b)", re.IGNORECASE
)
"""The start of a line of a list of times."""
_WITHOUT_TIME = re.compile(r"Answer:\s{0,3}\(?[A-Z]\)?\s{0,3}\.\s{0,3}Spatial Evidence:")


def _keyed(prose: TimedText) -> SpanMatch | None:
    """`Temporal Evidence: [[0.0, 14.5]]`, `Segments: 12.0 - 15.0`: the last key that something stands behind."""
    text = prose.text
    matches = deque(_KEY.finditer(text), maxlen=MAX_PLACES)
    for match in reversed(matches):
        line = text[max(0, match.start() - 60) : match.start()].rpartition("\n")[2]
        if _NOT_THE_KEY.search(line):
            continue
        place = match.end()
        if text[place : place + 1] in ("[", "{", "("):
            return SpanMatch(_spans_of_literal(text, place), text[match.start() : place + 100])
        spans = _spans_of_line(text, place)
        if spans is not None:
            return SpanMatch(spans, text[match.start() : place + 60].strip())
    return None


def _spans_of_line(text: str, at: int) -> Spans | None:
    """Ranges in the rest of an announced line; () where it says that there are none."""
    line, *below = text[at : at + 5000].split("\n")
    if _NONE.match(line):
        return ()
    pairs = _ranges_of_line(line[:1000])
    for item in below if len(text) <= at + 5000 else below[:-1]:
        match = _TIMED_BULLET.match(item)
        more = _ranges_of_line(item[match.end() :]) if match and pairs else []
        if not more:
            break
        pairs += more
    return _checked(pairs) or None


def _ranges_of_line(line: str) -> Pairs:
    match = _TIMED_BULLET.match(line)
    bare = line[match.end() :] if match else line
    if bare.startswith(("[", "(", "{")):
        try:
            pair = _pair(literals.read_literal(bare, 0).node)
        except (Truncated, NoLiteral):
            pair = None
        if pair:
            return [pair]
    plain = literals.with_clocks(bare)
    first = next(iter(reply_text.sentences(plain)), "")
    return _evidence_of(first, is_announced=True) or _evidence_of(plain) or []


def _spans_of_literal(text: str, at: int) -> Spans | None:
    try:
        found = literals.read_literal(text, at)
    except Truncated:
        return None
    except NoLiteral:
        return _spans_of_line(text, at)
    pairs, _ = _pairs_in_a_row(text, found)
    return _checked(pairs) if pairs else _spans_of(found.node)


def _pairs_in_a_row(text: str, found: Literal) -> tuple[Pairs, int]:
    """Pairs that follow one another, `[5, 10], [12, 15]`, from one that is read on, and the character after them."""
    pairs: Pairs = []
    end = found.end
    while isinstance(found.node, list | dict) and (pair := _pair(found.node)) is not None:
        pairs.append(pair)
        end = found.end
        match = _BESIDE.match(text, end)
        if match is None:
            break
        try:
            found = literals.read_literal(text, match.end())
        except (Truncated, NoLiteral):
            break
    return pairs, end


# Announced by tags, or by "start" and "end"

_TAG = re.compile(
    r"<(answer|segments?|spans?|time(?:[ _]?(?:range|span|segment))?|timestamps?|intervals?"
    r"|temporal[ _]?(?:evidence|grounding)?)>([^<>]{1,400})(?:</\1>|$)",
    re.IGNORECASE,
)
_DECIMAL = re.compile(r"\d\.\d")


def _tagged(prose: TimedText) -> SpanMatch | None:
    """`<answer>12.54 to 17.83</answer>`, `<segment>12-15</segment><segment>20-25</segment>`."""
    found = deque(_TAG.finditer(prose.text), maxlen=MAX_PLACES)
    pairs: Pairs = []
    for match in found:
        if match[1].lower() == "answer":
            if not (prose.is_alone or _DECIMAL.search(match[2])):
                continue
            pairs = []  # the last answer counts
        pairs += _bare_pairs(literals.with_clocks(match[2].strip())) or []
    return SpanMatch(_checked(pairs), found[-1][0]) if pairs else None


_TIME = rf"[\"']?({literals.NUMBER})(?:{literals.UNIT})?"
_START_END = re.compile(
    rf"(?<![A-Za-z])(?:start|begin|from|\u5f00\u59cb|\u8d77\u59cb)(?:ning|s|ing)?(?:[ _-]?(?:times?|sec\w*|timestamp"
    rf"|point|\u65f6\u95f4|\u65f6\u523b|\u70b9"
    rf"|at))?(?:\s?\([^()\n]{{0,20}}\))?[\"']?(?:\s{{0,2}}[:=>]|\s-\s)\s{{0,3}}{_TIME}"
    rf"[^\d\n]{{0,20}}?\n{{0,2}}[^\d\n]{{0,20}}?(?<![A-Za-z])(?:end|stop|finish|to|\u7ed3\u675f|\u7ec8\u6b62"
    rf"|\u622a\u6b62)(?:s|ing)?(?:[ _-]?(?:times?|\u65f6\u95f4|\u65f6\u523b|\u70b9"
    rf"|sec\w*|timestamp|point|at))?(?:\s?\([^()\n]{{0,20}}\))?[\"']?(?:\s{{0,2}}[:=>]"
    rf"|\s-\s)\s{{0,3}}{_TIME}",
    re.IGNORECASE,
)


def _start_end(prose: TimedText) -> SpanMatch | None:
    """`Start: 12.0, End: 15.5`."""
    found = deque(_START_END.finditer(prose.tail), maxlen=MAX_PLACES)
    pairs = [(literals.seconds(match[1]), literals.seconds(match[2])) for match in found]
    whole = [(start, end) for start, end in pairs if start is not None and end is not None]
    return SpanMatch(_checked(whole), found[-1][0]) if whole else None


# Not announced


_EMPTY = re.compile(r"\[\s{0,3}\](?!\s{0,3}[\w(]{0,1}\d)")


def _none(prose: TimedText) -> SpanMatch | None:
    if _WITHOUT_TIME.search(prose.text):
        return SpanMatch((), prose.text[:80])
    empty = _EMPTY.match(prose.tail) if prose.is_alone else None
    behind = TimedText(prose.tail[empty.end() :], is_alone=True) if empty else None
    if empty and behind and "[" not in behind.text and _in_prose(behind) is None:
        return SpanMatch((), empty[0])
    if literals.range_matches(prose.tail) or "[" in prose.tail:
        return None
    stated = next((sentence for sentence in prose.sentences if _NONE.match(sentence)), None)
    return None if stated is None else SpanMatch((), stated)


def _counting_lists(text: str) -> list[LocatedList]:
    return [each for each in deque(literals.find_lists(text), maxlen=MAX_PLACES) if _list_counts(text, each)]


def _list_counts(text: str, each: LocatedList) -> bool:
    before = _LISTS_BEFORE.sub("", text[max(0, each.start - 160) : each.start])[-80:]
    return not _fits(LIST_CONTEXTS, before) and not _LIST_AFTER.search(text[each.end : each.end + 40])


def _nested(prose: TimedText) -> SpanMatch | None:
    """The last nested list that stands anywhere, and is no list of boxes."""
    for each in reversed(_counting_lists(prose.tail)):
        node = each.node
        if isinstance(node, list) and any(isinstance(item, list | dict) for item in node) and not _is_boxes(node):
            return SpanMatch(_unless_alternative(prose.tail, each, _spans_of(node)), prose.tail[each.start : each.end])
    return None


def _unless_alternative(text: str, each: LocatedList, spans: Spans | None) -> Spans | None:
    """The spans of a list; None where it is one of two alternatives: `[[3, 7]] or [[12, 14]]`."""
    return None if _OR_BEFORE.search(text[max(0, each.start - 40) : each.start]) else spans


def _is_boxes(node: list[Node]) -> bool:
    """Whether all elements are lists of four numbers or of points, or objects without times."""
    return all(
        (isinstance(item, list) and len(item) == 4 and all(isinstance(each, float) for each in item))
        or (isinstance(item, dict) and "bbox_2d" in item)
        for item in node
    )


def _rows(prose: TimedText) -> SpanMatch | None:
    """The last row of several pairs: `[5, 10] and [12, 15]`."""
    rows = deque(_rows_of_pairs(prose.tail), maxlen=1)
    return SpanMatch(_checked(rows[0]), str(rows[0])) if rows and len(rows[0]) > 1 else None


def _rows_of_pairs(text: str) -> Iterator[Pairs]:
    """Pairs that follow one another, row by row."""
    end = 0
    for each in literals.find_lists(text):
        if each.end > end and each.start >= end:
            pairs, end = _pairs_in_a_row(text, Literal(each.node, each.end))
            if pairs and _list_counts(text, LocatedList(each.start, each.node, end)):
                yield pairs


def _flat(prose: TimedText) -> SpanMatch | None:
    """The last pair in brackets, or a reply that is one list or one pair in parentheses."""
    bare = prose.tail.strip()
    for each in reversed(_counting_lists(prose.tail)):
        if isinstance(each.node, list) and (len(each.node) == 2 or prose.tail[each.start : each.end] == bare):
            lines = _pairs_of_lines(prose.tail)
            if len(lines) > 1:
                return SpanMatch(_checked(lines), prose.tail[each.start : each.end])
            spans = _spans_of(each.node)
            if spans is None:
                return None
            return SpanMatch(_unless_alternative(prose.tail, each, spans), prose.tail[each.start : each.end])
    if bare[:1] + bare[-1:] == "()":
        spans = _spans_of_literal(bare, 0)
        return None if spans is None else SpanMatch(spans, bare)
    return None


_FIRST_OF_LINE = re.compile(
    r"(?:^|;(?=[ \t]))[ \t]{0,4}(?:(?:[-*\u2022]|\d{1,2}[.)])[ \t]{1,3})?(?=[\[(]\d)", re.MULTILINE
)


def _pairs_of_lines(text: str) -> Pairs:
    """Pairs with which the lines of a list start: `- [3, 7]: he lifts it`."""
    starts = deque((match.end() for match in _FIRST_OF_LINE.finditer(text)), maxlen=MAX_PLACES)
    pairs: Pairs = []
    for at in starts:
        try:
            pair = _pair(literals.read_literal(text, at).node)
        except (Truncated, NoLiteral):
            return []
        if pair is None or not _list_counts(text, LocatedList(at, None, text.find("\n", at))):
            return []
        pairs.append(pair)
    return pairs


_CUE = re.compile(
    r"\b(?:evidence|proof|relevant\s(?:segment|part|moment)|key\s(?:moment|segment))\b|\u8bc1\u636e", re.IGNORECASE
)
_CONTINUED = re.compile(
    r"(?:also|again|then|another|second|and|additionally|later|it\s(?:also|continues))\b", re.IGNORECASE
)


class StatedRange(NamedTuple):
    """A sentence that gives evidence."""

    pairs: Pairs
    has_cue: bool
    sentence: str


def _in_prose(prose: TimedText) -> SpanMatch | None:
    """Ranges in sentences: those behind a correction, else those called evidence, else all that can be evidence."""
    marks = list(RETRACTION.finditer(prose.tail))
    if marks:
        stated = _stated(reply_text.sentences(prose.tail[marks[-1].end() :]), is_alone=prose.is_alone)
        if stated:
            return _joined(stated)
    stated = _stated(prose.sentences, is_alone=prose.is_alone)
    return _joined(stated) if stated else None


def _stated(sentences: Sequence[str], *, is_alone: bool) -> list[StatedRange]:
    found: list[StatedRange] = []
    has_cue = False
    for sentence in sentences:
        pairs = _bare_pairs(_first_part(_without_announcement(sentence))) if is_alone else None
        pairs = pairs or _evidence_of(sentence)
        has_cue = _CUE.search(sentence) is not None or (has_cue and _CONTINUED.match(sentence) is not None)
        if pairs is None:
            return []
        if pairs:
            found.append(StatedRange(pairs, has_cue, sentence))
    return found


_ANSWER_IS = re.compile(
    r"(?:the\s)?(?:final\s|correct\s|my\s)?answer\s?(?:is|:)\s{0,3}(?=\D{0,6}\d{1,5}\.\d)", re.IGNORECASE
)


def _without_announcement(sentence: str) -> str:
    """The sentence without `The answer is`, where numbers with decimals follow, which count nothing."""
    match = _ANSWER_IS.match(sentence)
    return sentence[match.end() :] if match else sentence


def _joined(stated: Sequence[StatedRange]) -> SpanMatch:
    kept = [each for each in stated if each.has_cue] or stated
    return SpanMatch(_checked(pair for each in kept for pair in each.pairs) or None, kept[-1].sentence)


_NEXT_SENTENCE = re.compile(
    r"(?<=[\d\])s])\s{1,3}(?=(?:The|This|These|There|It|They|He|She|We|In|At|On|As|Because|My|Let|Please|Note|Hope|Thank|Thanks|You|I)\b)"
)
_NUMBERS = re.compile(
    rf"[\[(]?\s?{literals.NUMBER}(?:{literals.UNIT})?(?:\s{{0,2}}[,;]\s{{0,2}}|\s{{1,2}}){literals.NUMBER}(?:{literals.UNIT})?"
    rf"(?:\s{{0,2}}[,;]\s{{0,2}}{literals.NUMBER}(?:{literals.UNIT})?)*\s?[\])]?\.?",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^(?:[-*\u2022]|\d{1,2}[.)])\s{1,3}(?=[\[({]?\d)")
_ONE_NUMBER = re.compile(rf"(?:{literals.NUMBER})")


def _are_years(each: TimeRange) -> bool:
    return not each.has_unit and all(1900 <= time <= 2100 and time.is_integer() for time in each.pair)


def _first_part(sentence: str) -> str:
    return _NEXT_SENTENCE.split(sentence, maxsplit=1)[0]


def _bare_pairs(text: str) -> Pairs | None:
    """Pairs of a text that is nothing but ranges, `3 to 7`, or an even list of numbers, `12.0, 15.5`."""
    bare = _BULLET.sub("", text, count=1)
    found = literals.range_matches(bare)
    if literals.is_all_ranges(bare, found):
        return None if any(_are_years(each) for each in found) else [each.pair for each in found]
    if bare.startswith("["):
        try:
            return list(_spans_of(literals.read_literal(bare, 0).node) or ()) or None
        except (Truncated, NoLiteral):
            return None
    if not _NUMBERS.fullmatch(bare):
        return None
    times = [literals.seconds(match[0]) for match in _ONE_NUMBER.finditer(bare)]
    numbers = [time for time in times if time is not None]
    return list(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) % 2 == 0 else None


RULES: tuple[Rule[TimedText, SpanMatch], ...] = (
    Rule("key", _keyed, "Temporal Evidence: 12.0 - 15.0", "Duration of the segment: 2 - 3 s"),
    Rule("tag", _tagged, "<answer>12.54 to 17.83</answer>", "<answer>B</answer>"),
    Rule("start and end", _start_end, "Start: 12.0, End: 15.5", "Start now, end later."),
    Rule("nested list", _nested, "It is seen at [[12, 15]].", "The box is [[10, 20, 30, 40]]."),
    Rule("row of pairs", _rows, "It is seen at [5, 10] and [12, 15].", "The bounding box is [100, 200], [300, 400]."),
    Rule("pair", _flat, "[12.0, 15.5]", "The ball is at coordinates [320, 240]."),
    Rule("none", _none, "There is no temporal evidence.", "There is no evidence from 12s to 15s."),
    Rule("range in prose", _in_prose, "It happens from 12s to 15s.", "He holds it for about 2 to 3 seconds."),
)
"""Ways in which prose gives spans, in the order in which they are tried."""


# Objects

SPAN_KEYS = frozenset(
    [
        "segments",
        "segment",
        "temporal_evidence",
        "time_segments",
        "time_segment",
        "timestamps",
        "timestamp",
        "spans",
        "span",
        "intervals",
        "interval",
        "time_range",
        "time_ranges",
        "time",
        "times",
        "temporal_segments",
        "evidence_segments",
        "evidence_spans",
        "time_spans",
        "evidence_time",
        "temporal_grounding",
        "windows",
        "temporal",
        "time_interval",
        "time_intervals",
        "evidence_intervals",
        "时间",
        "时间段",
        "片段",
        "时间证据",
    ]
)
_STARTS = ("start", "start_time", "start_sec", "start_seconds", "begin", "from")
_ENDS = ("end", "end_time", "end_sec", "end_seconds", "stop", "to")


def _of_objects(said: ReplyText) -> tuple[str, SpanMatch] | None:
    """What the own keys of the objects say; None where only prose outside of them can."""
    found = [match for each in said.objects if (match := _of_object(said.text, each.values)) is not None]
    ends = [match for each in said.objects if (match := _ends_of_object(said.text, each.values)) is not None]
    if found:
        has_one = not said.is_list or len({match.spans for match in found}) == 1
        return "JSON key", found[-1] if has_one else SpanMatch(None, found[-1].text)
    if ends:
        pairs = [pair for match in ends for pair in match.spans or ()]
        return "JSON start and end", SpanMatch(_checked(pairs), ends[-1].text)
    later = _keyed(TimedText(said.prose, is_alone=False))
    return ("key", later) if later else ("JSON without spans", SpanMatch(None, ""))


def _of_object(text: str, values: Mapping[str, JsonValue]) -> SpanMatch | None:
    keys = [key for key in values if key in SPAN_KEYS]
    read = [_of_value(text, values[key]) for key in keys]
    if not keys:
        return None
    shown = ", ".join(f'"{key}": {text[values[key].start : values[key].end].strip()}' for key in keys)
    known = {spans for spans in read if spans is not None}
    return SpanMatch(known.pop() if len(known) == 1 else None, shown)


def _of_value(text: str, value: JsonValue) -> Spans | None:
    written = reply_text.plain(text[value.start : value.end]).strip()
    if written[:1] in ("[", "(", "{"):
        return _spans_of_literal(written, 0)
    bare = literals.with_clocks(written.strip("\"'"))
    if _NONE.match(bare):
        return ()
    pairs = _bare_pairs(bare) or _evidence_of(bare)
    return (_checked(pairs) or None) if pairs else None


def _ends_of_object(text: str, values: Mapping[str, JsonValue]) -> SpanMatch | None:
    start, end = (next((key for key in keys if key in values), None) for keys in (_STARTS, _ENDS))
    if start is None or end is None:
        return None
    times = [literals.seconds(text[values[key].start : values[key].end].strip().strip("\"'")) for key in (start, end)]
    if times[0] is None or times[1] is None:
        return None
    spans = _checked([(times[0], times[1])])
    return SpanMatch(spans, f'"{start}": {times[0]:g}, "{end}": {times[1]:g}')


# Literals


def _spans_of(node: Node) -> Spans | None:
    """Spans of a literal: pairs, objects with start and end, ranges in strings, or an even flat list."""
    if isinstance(node, dict):
        pair = _pair(node)
        return _checked([pair]) if pair else None
    if not isinstance(node, list):
        return None
    times = [_time(item) for item in node]
    if node and all(time is not None for time in times):
        numbers = [time for time in times if time is not None]
        return _checked(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) % 2 == 0 else None
    if len(node) == 1 and isinstance(node[0], list) and node[0] and isinstance(node[0][0], list):
        return _spans_of(node[0])
    pairs = [_pair(item) for item in node]
    return None if None in pairs else _checked(pair for pair in pairs if pair is not None)


def spans_of_json(value: object) -> Spans | None:
    """Spans of parsed JSON in any notation that a reply may use; None where one element is none."""
    try:
        node = _node_of_json(value)
    except ValueError:
        return None
    return _spans_of(node) if isinstance(node, list | dict) else None


def _node_of_json(value: object, depth: int = 0) -> Node:
    if isinstance(value, bool) or depth > literals.MAX_DEPTH:
        raise ValueError(f"no times: {str(value)[:80]!r}")
    if isinstance(value, int | float):
        return float(value) if -MAX_SECONDS <= value <= MAX_SECONDS else math.nan
    if isinstance(value, list):
        return [_node_of_json(item, depth + 1) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value)
        return {key: _node_of_json(item, depth + 1) for key, item in entries.items()}
    return value if isinstance(value, str) else None


def _pair(node: Node) -> tuple[float, float] | None:
    ends: list[float | None] = []
    if isinstance(node, str):
        found = literals.ranges(node, is_announced=True)
        return found[0] if len(found) == 1 else None
    if isinstance(node, list):
        ends = [_time(item) for item in node]
    if isinstance(node, dict):
        inner = [node[key] for key in node if key in SPAN_KEYS]
        if len(inner) == 1 and isinstance(inner[0], list):
            return _pair(inner[0])
        ends = [_time(next((node[key] for key in keys if key in node), None)) for keys in (_STARTS, _ENDS)]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def _time(node: Node) -> float | None:
    if isinstance(node, str):
        return literals.seconds(node)
    return node if isinstance(node, float) else None


def _checked(pairs: Iterable[tuple[float, float]]) -> Spans | None:
    """The pairs as spans; one that runs backwards makes the whole unreadable."""
    spans = tuple(dict.fromkeys(Span(start, end) for start, end in pairs))
    return spans if all(0 <= start <= end <= MAX_SECONDS for start, end in spans) else None
