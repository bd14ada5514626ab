"""Keys of options as TVQA names them: `a0` to `a4`, in the <answer> tag of a reply."""

from __future__ import annotations

import re

from evqa.parsing.action_tags import last_answer
from evqa.parsing.reply_rules import RuleResult

MAX_CHARACTERS = 2_000
"""Characters of an answer in which a key is searched."""

RULE = "option key"

_KEY = re.compile(r"(?<![^\W_])a(\d{1,3})(?![^\W_])", re.ASCII | re.IGNORECASE)


def option_key(index: int) -> str:
    """Return the key of an option."""
    return f"a{index}"


def explain_key(text: str, num_options: int) -> RuleResult[int] | None:
    """Return the option that the <answer> of a reply names by its key; None = the reply names none by a key.

    The value is None where the answer has several keys, or one of no option.
    """
    answer = last_answer(text)
    keys = {int(match[1]): match[0] for match in _KEY.finditer(answer[:MAX_CHARACTERS])} if answer else {}
    if not answer or not keys:
        return None
    index = next(iter(keys))
    is_one = len(keys) == 1 and index < num_options
    return RuleResult(index if is_one else None, RULE, answer[:200])


def is_exact_key(text: str, index: int) -> bool:
    """Return whether the whole <answer> of a reply is the key of an option, in lower or upper case."""
    answer = last_answer(text)
    return answer is not None and answer.lower() == option_key(index)
