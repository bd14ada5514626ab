"""What a model is asked: the text of the question, and the text that a model of ours is trained to reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evqa.schema import LETTERS, Sample, Spans

PROMPT_VERSION = 1
"""Part of a run's identity; raised with every change of a text below."""

Dialect = Literal["trained", "json"]
"""How the reply is to be written: as our models are trained to, or as JSON for general models."""

TRAINED_INSTRUCTION = "Answer with temporal evidence [[start1, end1], ...] and spatial evidence masks."
"""Ends every prompt of the trained dialect, in training as at test time; never varied."""


def evidence_prompt(
    sample: Sample, dialect: Dialect, *, duration: float | None = None, times: Sequence[float] | None = None
) -> str:
    """The prompt that asks for the answer with its evidence.

    Args:
        sample: With options a choice, without an open question.
        dialect: Which form of reply to ask for.
        duration: Of the video in seconds, told to general models.
        times: Seconds of the frames that the model is shown, told to general models.
    """
    if dialect == "trained":
        return f"{question_lines(sample)}\n{TRAINED_INSTRUCTION}"
    parts = [
        _clock_lines(duration, times),
        question_lines(sample),
        _json_request(has_options=bool(sample.options)),
    ]
    return "\n\n".join(part for part in parts if part)


def question_lines(sample: Sample) -> str:
    """The question, and below it the options where there are any."""
    question = sample.question.strip()
    return f"{question}\nOptions:\n{option_lines(sample.options)}" if sample.options else question


def option_lines(options: Sequence[str]) -> str:
    """One line per option: `(A) text`."""
    if len(options) > len(LETTERS):
        raise ValueError(f"a question has at most {len(LETTERS)} options, one per letter, got {len(options)}")
    return "\n".join(f"({letter}) {text.strip()}" for letter, text in zip(LETTERS, options, strict=False))


def evidence_target(answer_index: int, spans: Spans) -> str:
    """The reply that our models are trained to give.

    `Answer: B. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence: <|seg|>.`; seconds have one decimal, and
    without spans there is no temporal part.
    """
    if not 0 <= answer_index < len(LETTERS):
        raise ValueError(f"an answer is an index from 0 to {len(LETTERS) - 1}, got {answer_index}")
    pairs = ", ".join(f"[{start:.1f}, {end:.1f}]" for start, end in spans)
    temporal = f"Temporal Evidence: [{pairs}]. " if spans else ""
    return f"Answer: {LETTERS[answer_index]}. {temporal}Spatial Evidence: <|seg|>."


def _clock_lines(duration: float | None, times: Sequence[float] | None) -> str:
    lines: list[str] = []
    if duration is not None:
        lines.append(f"The video lasts {duration:.1f} seconds.")
    if times:
        lines.append(f"You see its frames at these seconds: {', '.join(f'{time:.1f}' for time in times)}.")
    return "\n".join(lines)


def _json_request(*, has_options: bool) -> str:
    answer, example = ("the letter of the right option", "B") if has_options else ("a short phrase", "a red cup")
    return f"""\
Watch the video, answer the question, and say where in the video the proof of your answer can be seen.
Reply with one JSON object and nothing else. Its keys:
- "answer": {answer}.
- "segments": every stretch of the video that is needed to answer, as [start, end] in seconds; [] if none is.
- "referring_expressions": one short phrase for each object or region that proves the answer, both what the
  question speaks of and what the answer speaks of. A phrase must single out its object in a still frame: name
  it by kind, colour, size, material, simple action or position, and leave out time and long relations. Name
  nothing that is not needed.
Example: {{"answer": "{example}", "segments": [[3.0, 7.5]], "referring_expressions": ["the man in blue"]}}"""
