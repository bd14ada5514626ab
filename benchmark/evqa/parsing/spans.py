"""Parser of temporal evidence: `parse_spans` reads the spans of the video that a reply states as evidence.

The rules for prose are the table `span_rules.RULES`, the ignored contexts are the tables of `span_contexts`, JSON
objects are read by `span_json`. The last statement to which a reply commits is used; an ambiguous reply is unparsed
(None), never guessed.
"""

from __future__ import annotations

from evqa.parsing.reply_rules import RuleResult, prepare_reply
from evqa.parsing.span_json import spans_of_objects
from evqa.parsing.span_rules import TimedText, first_match
from evqa.schema import Spans


def parse_spans(text: str, *, spans_only: bool = False) -> Spans | None:
    """Spans (seconds) that a reply states as evidence, in order; () = states that there are none; None = unparsed."""
    return explain_spans(text, spans_only=spans_only).value


def explain_spans(text: str, *, spans_only: bool = False) -> RuleResult[Spans]:
    """Result of `parse_spans` with the rule that decided and the text that it matched.

    Args:
        text: Raw reply.
        spans_only: Whether the prompt requested spans only, so that numbers need no unit.
    """
    reply = prepare_reply(text)
    rule_match = spans_of_objects(reply) if reply.objects else first_match(TimedText(reply.prose, spans_only))
    if rule_match is None:
        return RuleResult(None, "", "")
    rule, match = rule_match
    return RuleResult(match.spans, rule, match.text[:200])
