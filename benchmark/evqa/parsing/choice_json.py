"""Choice in the JSON objects of a reply, read from their own top-level keys."""

from __future__ import annotations

from collections.abc import Mapping

from evqa.parsing import literals, reply_text
from evqa.parsing.choice_prose import ChoiceMatch, Prose
from evqa.parsing.choice_rules import RULES, first_match
from evqa.parsing.literals import Node, NoLiteral, Truncated
from evqa.parsing.option_matching import NO_OPTION, OptionSet, options_with_text, union_of
from evqa.parsing.reply_json import JsonValue
from evqa.parsing.reply_rules import ReplyText

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
"""Keys whose value is the answer, in lower case with `_` between words."""

WEAK_KEYS = frozenset(
    ["choice", "option", "letter", "prediction", "selected", "selection", "\u9009\u9879", "pred", "response"]
)
"""Keys whose value is the answer of an object without any of `ANSWER_KEYS`."""
_LETTER_KEYS = ("letter", "option", "choice", "answer", "label", "id", "value", "text")
"""Keys of an object that is itself the value of an answer key, in order of preference."""


def choice_of_objects(reply: ReplyText, options: tuple[str, ...]) -> tuple[str, ChoiceMatch] | None:
    """Name of the rule and choice of a reply that has JSON objects.

    An announcement after the last object takes precedence over the objects; other prose is used only if no object has
    an answer, and only as an announcement, a contrast or a correction.
    """
    commitment_rules = [rule for rule in RULES if rule.name in {"correction", "contrast", "announcement"}]
    announcement_match = first_match(Prose(reply.after_objects, options), commitment_rules)
    if announcement_match is not None:
        return announcement_match
    matches = [_choice_of_object(reply.text, entry.values, options) for entry in reply.objects]
    choices = [match for match in matches if match is not None]
    if reply.is_list and choices:
        return "JSON list", ChoiceMatch(union_of(match.options for match in choices), choices[-1].text)
    if choices:
        return "JSON key", choices[-1]
    return first_match(Prose(reply.prose, options), commitment_rules) or (
        "JSON without an answer",
        ChoiceMatch(NO_OPTION, ""),
    )


def _choice_of_object(text: str, values: Mapping[str, JsonValue], options: tuple[str, ...]) -> ChoiceMatch | None:
    """Choice of an object by its answer keys; None = it has none."""
    keys = [key for key in values if key in ANSWER_KEYS] or [key for key in values if key in WEAK_KEYS]
    if not keys:
        return None
    choices = [_options_of_value(text[values[key].start : values[key].end].strip(), options) for key in keys]
    excerpt = ", ".join(f'"{key}": {text[values[key].start : values[key].end].strip()}' for key in keys)
    return ChoiceMatch(union_of(choices) if all(choices) else NO_OPTION, excerpt)


def _options_of_value(source: str, options: tuple[str, ...]) -> OptionSet:
    """Options named by the source text of a JSON value."""
    try:
        node = literals.read_literal(source, 0).node
    except NoLiteral:
        node = source
    except Truncated:
        return NO_OPTION
    return _options_of_node(node, source, options)


def _options_of_node(node: Node, source: str, options: tuple[str, ...]) -> OptionSet:
    """Options named by a parsed value; `source` is its source text, for numbers such as `2.0`."""
    if isinstance(node, list):
        return _options_of_node(node[0], "", options) if len(node) == 1 else NO_OPTION
    if isinstance(node, dict):
        entry = next((node[key] for key in _LETTER_KEYS if key in node), None)
        return _options_of_node(entry, "", options) if isinstance(entry, str) else NO_OPTION
    if isinstance(node, bool):
        return options_with_text(str(node), options)
    if isinstance(node, float):
        return options_with_text(source, options) or options_with_text(f"{node:g}", options)
    if not isinstance(node, str):
        return NO_OPTION
    prose = Prose(reply_text.without_markup(reply_text.plain(node)).strip(), options)
    rule_match = first_match(prose)
    return rule_match[1].options if rule_match else NO_OPTION
