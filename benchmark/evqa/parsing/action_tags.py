"""Tags of the replies of agents: thoughts, and answers outside of them."""

from __future__ import annotations

import re

_THOUGHT = re.compile(r"<(/?)(think|snapshot|reasoning)>", re.IGNORECASE)
_ANSWER = re.compile(r"<(/?)(final answer|answer)>", re.IGNORECASE)


def without_thoughts(text: str) -> str:
    """Text with thoughts replaced by blanks of equal length; a thought without end is kept.

    A closing tag without an opening one ends a thought that the prompt opened.
    """
    thoughts: list[slice] = []
    opened: re.Match[str] | None = None
    for tag in _THOUGHT.finditer(text):
        if not tag[1]:
            opened = opened or tag
        elif opened is None:
            thoughts = [slice(0, tag.end())]
        elif opened[2].lower() == tag[2].lower():
            thoughts.append(slice(opened.start(), tag.end()))
            opened = None
    pieces: list[str] = []
    end = 0
    for thought in thoughts:
        pieces += [text[end : thought.start], " " * (thought.stop - thought.start)]
        end = thought.stop
    return "".join([*pieces, text[end:]])


def last_answer(text: str) -> str | None:
    """Content of the last <answer> or <final answer> outside the thoughts; None = there is none."""
    ranges = answer_ranges(text)
    return text[ranges[-1].start : ranges[-1].stop].strip() if ranges else None


def answer_ranges(text: str) -> list[slice]:
    """Ranges of the contents of closed answer tags outside the thoughts."""
    ranges: list[slice] = []
    opened: re.Match[str] | None = None
    for tag in _ANSWER.finditer(without_thoughts(text)):
        if not tag[1]:
            opened = tag
        elif opened is not None and opened[2].lower() == tag[2].lower():
            ranges.append(slice(opened.end(), tag.start()))
            opened = None
    return ranges
