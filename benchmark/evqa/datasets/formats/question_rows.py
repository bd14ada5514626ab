"""A row of a set of questions, and the parts that rows of several sets share: options, answers, time segments."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from evqa.datasets.formats.json_stream import array, number, numbers, text
from evqa.schema import LETTERS, Span, check_span

Row = Mapping[str, object]


class SetRow(NamedTuple):
    """A row of the published files."""

    number: int
    """Place in its file, from 1."""
    file: str
    """Name of its file without suffix: some sets have a file per task."""
    fields: Row
    extra: Mapping[str, object]
    """Entries of the further file of the set, by key."""

    def text(self, *names: str) -> str:
        """Return the text of the first of some columns that the row has; numbers become text."""
        value = self.get(*names)
        return text(str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value, names[0])

    def get(self, *names: str) -> object:
        """Return the value of the first of some columns that the row has; None = it has none of them."""
        return next((self.fields[name] for name in names if self.fields.get(name) is not None), None)

    def optional_text(self, name: str) -> str | None:
        """Return the text of a column; None = the row does not have it."""
        return None if self.get(name) is None else self.text(name)

    def texts(self, *names: str) -> dict[str, str]:
        """Return column -> its text, of some columns those that the row has."""
        return {name: self.text(name) for name in names if self.get(name) is not None}


Fields = dict[str, object]
"""Fields of a `Sample`; `video` is the name of the video as the row has it."""


def letters_of(options: object) -> tuple[str, ...]:
    """Return the texts of options given as a list, as `{A: text}`, or as lines `A. ...`, without their letters."""
    if isinstance(options, Mapping):
        entries = cast("Mapping[str, object]", options)
        values = [entries[letter] for letter in LETTERS if entries.get(letter) is not None]
    elif isinstance(options, str):
        values = _options_in_text(options)
    else:
        values = list(array(options, "options"))
    texts = [text(str(value), "option").strip() for value in values]
    lettered = [
        re.fullmatch(rf"\(?{LETTERS[place]}\)?[.):]?\s+(.*)", words, re.DOTALL) for place, words in enumerate(texts)
    ]
    if texts and all(lettered):
        texts = [match[1].strip() for match in lettered if match]
    if len(texts) < 2 or not all(texts):
        raise ValueError(f"a question has at least two options with text: got {texts[:3]}")
    return tuple(texts)


def _options_in_text(words: str) -> list[object]:
    """Return options from text: a list literal, or one option per line."""
    if words.strip().startswith("["):
        try:
            return array(ast.literal_eval(words[:100_000]), "options")
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(f"options are no list: got {words[:80]!r}") from error
    return [line for line in words.splitlines() if line.strip()]


def index_of_letter(value: object, options: Sequence[str]) -> int:
    """Return the index of a letter."""
    letter = text(value, "answer").strip().strip("().").upper()
    if len(letter) != 1 or letter not in LETTERS[: len(options)]:
        raise ValueError(f"answer is a letter up to {LETTERS[len(options) - 1]}: got {str(value)[:40]!r}")
    return LETTERS.index(letter)


def index_of_text(value: object, options: Sequence[str]) -> int:
    """Return the index of the first option with the text of the answer; metrics accept any with the same text."""
    answer = text(str(value), "answer").strip()
    texts = [option.strip() for option in options]
    if answer not in texts:
        raise ValueError(f"answer is one of the options: got {answer[:60]!r}")
    return texts.index(answer)


def spans_of(value: object) -> tuple[Span, ...]:
    """Return time segments `[[start, end], ...]` in seconds."""
    pairs = [numbers(pair, "segment", 2) for pair in array(value, "segments")]
    return tuple(check_span(Span(*pair)) for pair in pairs)


def span_between(first: float, second: float) -> Span:
    """Return the time segment between two times in seconds, in either order."""
    return check_span(Span(min(first, second), max(first, second)))


def duration_of(row: SetRow, *names: str) -> float | None:
    """Return the duration in a row; None = it has none."""
    value = row.get(*names)
    return number(value, names[0]) if value is not None else None
