"""The verdict of a pairwise judge in a reply's text: `TA=1, VQ=1, MQ=0, OA=1`.

1 and 2 name the better video, 0 is a tie. The last `<Answer>` counts, unless a tool call comes after it. A
dimension that is missing, that has another value, or that is given twice with different values makes the whole
unparsed: no dimension is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from evqa.parsing import reply_text

DIMENSIONS = ("TA", "MQ", "VQ", "OA")
"""Text alignment, motion quality, visual quality, overall."""

_ANSWER = re.compile(r"<(?:final )?answer>(.{0,500}?)(?:</(?:final )?answer>|$)", re.IGNORECASE | re.DOTALL)
_TOOL_CALL = re.compile(r"<tool_call>", re.IGNORECASE)
_PAIR = re.compile(
    r"(?<![A-Za-z])([A-Za-z]{1,20})[\"'*]{0,3}\s{0,2}[=:]\s{0,2}[\"'*]{0,3}(-?\d+(?:\.\d+)?)(?![\w.]\d|\w)"
)


def parse_verdict(text: str, dimensions: Sequence[str] = DIMENSIONS) -> Mapping[str, int] | None:
    """Dimension -> 0, 1 or 2; None where the reply is no whole verdict."""
    text = reply_text.plain(reply_text.without_markers(reply_text.without_thoughts(text)))
    answers = list(_ANSWER.finditer(text))
    if answers and _TOOL_CALL.search(text, answers[-1].end()):
        return None
    said = answers[-1][1] if answers else text
    found: dict[str, set[str]] = {name.upper(): set() for name in dimensions}
    for match in _PAIR.finditer(said):
        if match[1].upper() in found:
            found[match[1].upper()].add(match[2])
    if not all(values <= {"0", "1", "2"} and len(values) == 1 for values in found.values()):
        return None
    return {name: int(found[name.upper()].pop()) for name in dimensions}
