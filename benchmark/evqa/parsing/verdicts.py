"""Parser of a pairwise judge's verdict: `TA=1, VQ=1, MQ=0, OA=1`.

1 and 2 name the better video, 0 is a tie. The last `<Answer>` counts, unless a tool call follows it. A dimension that
is missing, has another value, or is given twice with different values makes the whole unparsed. What stands inside
thoughts (`<Think>`, `<Snapshot>`) or a provisional `<Recommend Answer>` is no verdict.

A judge that sees a pair in both orders gives two verdicts: where they disagree on a dimension, it is a tie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from evqa.parsing import reply_text

DIMENSIONS: Mapping[str, str] = {
    "TA": "text alignment: how well the video shows what the prompt describes",
    "MQ": "motion quality: how natural, smooth and physically plausible the motion is",
    "VQ": "visual quality: how sharp, clean and free of artifacts the pictures are",
    "OA": "overall quality: which video is better on the whole",
}
"""The published dimensions -> what they mean."""

OVERALL = "OA"
"""Dimension of the overall verdict."""

CONFIDENCE = "CF"
"""Label of a judge's stated confidence: 1 = most sure, to 3."""

SWAPPED_LABELS: Mapping[int, int] = {0: 0, 1: 2, 2: 1}
"""Label in one order of the videos -> label in the other."""

MAX_CHARS = 100_000
"""Number of characters at the end of a reply that are read."""

_ANSWER = re.compile(r"<(?:final )?answer>(.{0,2000}?)(?:</(?:final )?answer>|$)", re.IGNORECASE | re.DOTALL)
_TOOL_CALL = re.compile(r"<tool_call>", re.IGNORECASE)
_ASIDE = re.compile(r"<(/?)(snapshot|recommend answer)>", re.IGNORECASE)


def parse_verdict(text: str, dimensions: Sequence[str] = tuple(DIMENSIONS)) -> Mapping[str, int] | None:
    """Parse a judge's reply: dimension -> 0, 1 or 2; None where the verdict is incomplete."""
    labels = read_labels(text, dimensions)
    complete = {name: label for name, label in labels.items() if label is not None}
    return complete if len(complete) == len(dimensions) else None


def read_labels(text: str, dimensions: Sequence[str]) -> Mapping[str, int | None]:
    """Read the label of each dimension of a judge's reply; None = none, an invalid one, or two different ones."""
    values: dict[str, set[str]] = {name.upper(): set() for name in dimensions}
    for match in _pairs(tuple(dimensions)).finditer(_statement(text)):
        values[match[1].upper()].add(match[2])
    return {name: _label(values[name.upper()]) for name in dimensions}


def parse_confidence(text: str) -> int | None:
    """Parse the stated confidence of a judge's reply, `CF=1` (most sure) to `CF=3`; None = none is stated."""
    text = _without_asides(text)
    values = {match[2] for match in _pairs((CONFIDENCE,)).finditer(text)}
    return int(next(iter(values))) if len(values) == 1 and values <= {"1", "2", "3"} else None


def swap_verdict(verdict: Mapping[str, int] | None) -> Mapping[str, int] | None:
    """The verdict with the videos numbered in the other order."""
    return None if verdict is None else {name: SWAPPED_LABELS[label] for name, label in verdict.items()}


def reconcile(first: Mapping[str, int] | None, second: Mapping[str, int] | None) -> Mapping[str, int] | None:
    """Verdict of both orders, in one numbering of the videos: a tie where they disagree; None = one is unparsed."""
    if first is None or second is None:
        return None
    return {name: label if second[name] == label else 0 for name, label in first.items()}


def _label(choices: set[str]) -> int | None:
    return int(next(iter(choices))) if len(choices) == 1 and choices <= {"0", "1", "2"} else None


def _statement(text: str) -> str:
    """Part of a reply that states its verdict; "" where a tool call follows it."""
    text = _without_asides(text)
    answers = list(_ANSWER.finditer(text))
    if answers and _TOOL_CALL.search(text, answers[-1].end()):
        return ""
    return answers[-1][1] if answers else text


def _without_asides(text: str) -> str:
    """Plain text without thoughts and provisional answers; one without end is kept."""
    text = reply_text.without_markers(reply_text.without_thoughts(text[-MAX_CHARS:]))
    parts: list[str] = []
    opened: re.Match[str] | None = None
    end = 0
    for tag in _ASIDE.finditer(text):
        if not tag[1]:
            opened = opened or tag
        elif opened is not None and opened[2].lower() == tag[2].lower():
            parts.append(text[end : opened.start()])
            end, opened = tag.end(), None
    return reply_text.plain(" ".join([*parts, text[end:]]))


@lru_cache(maxsize=64)
def _pairs(names: tuple[str, ...]) -> re.Pattern[str]:
    """Pattern of `NAME=value`."""
    words = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    return re.compile(
        rf"(?<![A-Za-z0-9])({words})[\"'*_]{{0,3}}\s{{0,2}}[=:]\s{{0,2}}[\"'*_]{{0,3}}"
        r"(-?\d+(?:\.\d+)?)(?![\w.]\d|\w)",
        re.IGNORECASE,
    )
