"""The trace of an agent as a few lines of text: stop reason, totals, and one line per tool call."""

from __future__ import annotations

import re

from evqa.report.trace import num_calls, num_invalid_calls, totals
from evqa.schema import Prediction, ToolCall, Turn

MAX_CALLS = 20
"""Calls that are listed."""
MAX_LINE = 140
"""Characters of a line of a call."""

HIDDEN = re.compile(
    r"[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Characters that are invisible, change the order of what follows, or control a terminal; as in `elements.js`."""


def visible_text(text: str) -> str:
    """The text with invisible characters as code points, `<U+202E>`; line breaks and tabs stay."""
    return HIDDEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", text.replace("\r\n", "\n"))


def trace_lines(prediction: Prediction) -> list[str]:
    """Lines with stop reason, totals and tool calls of an agent's prediction; empty where there are none."""
    calls = [(number, turn, call) for number, turn in enumerate(prediction.turns, 1) for call in turn.calls]
    if prediction.stop is None and not calls:
        return []
    lines = [f"stop:    {_stop(prediction)}"]
    for place, (number, turn, call) in enumerate(calls[:MAX_CALLS]):
        label = "calls:" if place == 0 else ""
        lines.append(f"{label:9}turn {number}: {_call(turn, call)}")
    if len(calls) > MAX_CALLS:
        lines.append(f"{'':9}and {len(calls) - MAX_CALLS} more calls")
    return lines


def _stop(prediction: Prediction) -> str:
    """Stop reason with its note, and totals in words."""
    values = totals(prediction)
    invalid = f" ({number} invalid)" if (number := num_invalid_calls(prediction)) else ""
    calls = _count(num_calls(prediction), "tool call")
    amounts = [_count(len(prediction.turns), "turn"), f"{calls}{invalid}"]
    amounts += [_count(int(values["frames"]), "frame")] if "frames" in values else []
    amounts += [f"${values['cost']:.4f}"] if values.get("cost") else []
    note = f" ({one_line(prediction.stop_note)})" if prediction.stop_note else ""
    return f"{prediction.stop or 'failed'}{note} after {', '.join(amounts)}"


def _call(turn: Turn, call: ToolCall) -> str:
    """A call and its result in one line."""
    result = next((result for result in turn.results if result.call == call.id), None)
    outcome = "no result" if result is None else one_line(result.text)
    if result is not None and result.ok and result.frames:
        outcome = _count(len(result.frames), "frame")
    arguments = one_line(call.arguments)
    return one_line(f"{call.name}({arguments}): {outcome}" if arguments else f"{call.name}(): {outcome}", MAX_LINE)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def one_line(text: str, length: int = 80) -> str:
    """Text in one line of visible characters, cut to a length."""
    line = visible_text(" ".join(text[: 4 * length].split()))
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 3]}..."
