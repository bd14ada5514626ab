"""Table of answer rules: ways in which prose chooses an option, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Sequence

from evqa.parsing.choice_announcements import match_announcement, match_contrast, match_correction, match_text_contrast
from evqa.parsing.choice_lists import match_checkbox, match_first_line, match_verdict_list
from evqa.parsing.choice_prose import AnswerRule, ChoiceMatch, Prose
from evqa.parsing.choice_sentences import (
    match_declaration,
    match_line,
    match_only_mention,
    match_sentence_end,
    match_sentence_start,
    match_whole_reply,
    match_yes_no,
)
from evqa.parsing.reply_rules import Rule

RULES: tuple[AnswerRule, ...] = (
    Rule("whole reply", match_whole_reply, "B) blue ball", "The ball is blue."),
    Rule(
        "correction", match_correction, "The answer is A. Wait, actually C.", "Answer: B. Actually the video is short."
    ),
    Rule("contrast", match_contrast, "It shows not A but C.", "It shows not a ball but a cup."),
    Rule(
        "contrast of texts", match_text_contrast, "It is not the red ball but the blue ball.", "It is not red but blue."
    ),
    Rule(
        "announcement",
        match_announcement,
        "The correct option is D because two dogs play.",
        "A common wrong answer is A.",
    ),
    Rule("checkbox", match_checkbox, "- [ ] A\n- [x] C\n- [ ] D", "- [ ] A\n- [ ] C\n- [ ] D"),
    Rule("first line", match_first_line, "B) blue ball\n\nA is wrong: it is not red.", "A) red ball\nB) blue ball"),
    Rule("verdict list", match_verdict_list, "A. No. B. No. C. Yes.", "A. red ball\nB. blue ball\nC. a man running"),
    Rule("declaration", match_declaration, "I looked twice. D is correct.", "D is not the correct answer."),
    Rule("yes or no", match_yes_no, "No, he does not.", "No problem."),
    Rule("line", match_line, "Sure, I watched it.\nB", "The ball rolls.\nIt stops."),
    Rule("start of a sentence", match_sentence_start, "B. The ball rolls away.", "A: B"),
    Rule("end of a sentence", match_sentence_end, "A man walks by, so C.", "Therefore it is not C."),
    Rule("only mention", match_only_mention, "Looking at (D) we see them.", "It is not (B)."),
)
"""Ways in which prose chooses an option, in the order in which they are tried."""


def first_match(prose: Prose, rules: Sequence[AnswerRule] = RULES) -> tuple[str, ChoiceMatch] | None:
    """Name and result of the first rule that matches; None if none does."""
    for rule in rules:
        match = rule.match(prose)
        if match is not None:
            return rule.name, match
    return None
