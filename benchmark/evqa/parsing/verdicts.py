"""Parser of a pairwise judge's verdict: `TA=1, VQ=1, MQ=0, OA=1`.

1 and 2 name the better video, 0 is a tie. The last `<Answer>` counts, unless a tool call follows it. A dimension that
is missing, has another value, or is given twice with different values makes the whole unparsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from evqa.parsing import reply_text

DIMENSIONS = ("TA", "MQ", "VQ", "OA")
"""Text alignment, motion quality, visual quality, overall quality."""

_ANSWER = re.compile(r"<(?:final )?answer>(.{0,500}?)(?:</(?:final )?answer>|$)", re.IGNORECASE | re.DOTALL)
_TOOL_CALL = re.compile(r"<tool_call>", re.IGNORECASE)
_PAIR = re.compile(
    r"(?<![A-Za-z])([A-Za-z]{1,20})[\"'*]{0,3}\s{0,2}[=:]\s{0,2}[\"'*]{0,3}(-?\d+(?:\.\d+)?)(?![\w.]\d|\w)"
)


def parse_verdict(text: str, dimensions: Sequence[str] = DIMENSIONS) -> Mapping[str, int] | None:
    """Parse a judge's reply: dimension -> 0, 1 or 2; None = the verdict is incomplete."""
    text = reply_text.plain(reply_text.without_markers(reply_text.without_thoughts(text)))
    answers = list(_ANSWER.finditer(text))
    if answers and _TOOL_CALL.search(text, answers[-1].end()):
        return None
    statement = answers[-1][1] if answers else text
    values: dict[str, set[str]] = {name.upper(): set() for name in dimensions}
    for match in _PAIR.finditer(statement):
        if match[1].upper() in values:
            values[match[1].upper()].add(match[2])
    if not all(choices <= {"0", "1", "2"} and len(choices) == 1 for choices in values.values()):
        return None
    return {name: int(values[name.upper()].pop()) for name in dimensions}
