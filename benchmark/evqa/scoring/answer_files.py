"""Submission files of multiple choice whose answers are on a server: JSON written from a run, checked by its rules.

    egoschema    {"q_uid": 0 to 4}                                         -1 = no answer
    mlvu         [{"question_id", "question_type", "option": "A"}]         "" = no answer

A question whose prediction is missing, failed or has no readable letter is in the file, without an answer: the server
counts it as wrong.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from evqa.files.jsonl import replace_file
from evqa.schema import LETTERS, Sample

Answer = int | None
"""Index of the chosen option; None = there is none."""


@dataclass(frozen=True, kw_only=True)
class AnswerFormat:
    """Layout of a file of answers."""

    value: Callable[[Sequence[tuple[Sample, Answer]]], object]
    """Content of the file, from all samples of the data set with their answers."""
    ids: Callable[[object], list[str]]
    """Ids of the questions of a file's content. `ValueError`: it has another structure."""
    source: str
    """Where the rules are from."""


def write_answers(layout: AnswerFormat, answers: Sequence[tuple[Sample, Answer]], path: Path) -> None:
    """Write a file of answers at once."""
    with replace_file(path) as file:
        file.write(json.dumps(layout.value(answers), indent=1).encode())


def check_answers(layout: AnswerFormat, path: Path, samples: Sequence[Sample]) -> list[str]:
    """Return the violations of the rules by a file: structure, values, and questions that it lacks or repeats."""
    try:
        ids = layout.ids(cast("object", json.loads(path.read_bytes())))
    except (OSError, ValueError, RecursionError) as error:
        return [f"{path} is no file of answers: {error}"]
    return name_problems("questions", ids, {sample.id for sample in samples})


def name_problems(noun: str, names: Sequence[str], expected: Set[str]) -> list[str]:
    """Return the problems of the names in a submission: missing, not expected, or contained twice.

    Args:
        noun: what they name, in the plural.
        names: names in the submission.
        expected: names that the rules expect.
    """
    lists = {
        "missing": sorted(expected - set(names)),
        "not expected": sorted(set(names) - expected),
        "contained twice": sorted(name for name, count in Counter(names).items() if count > 1),
    }
    return [f"{len(group)} {noun} are {title}, the first is {group[0]}" for title, group in lists.items() if group]


def _egoschema(answers: Sequence[tuple[Sample, Answer]]) -> object:
    return {sample.id: -1 if answer is None else answer for sample, answer in answers}


def _egoschema_ids(content: object) -> list[str]:
    entries = _object(content)
    wrong = [key for key, value in entries.items() if type(value) is not int or not -1 <= value < EGOSCHEMA_OPTIONS]
    if wrong:
        raise ValueError(f"{wrong[0]} has the answer {entries[wrong[0]]!r}, expected a whole number from -1 to 4")
    return list(entries)


EGOSCHEMA_OPTIONS = 5
MLVU_KEYS = ("question_id", "question_type", "option")


def _mlvu(answers: Sequence[tuple[Sample, Answer]]) -> object:
    return [
        {
            "question_id": sample.id,
            "question_type": sample.question_type or "",
            "option": "" if answer is None else LETTERS[answer],
        }
        for sample, answer in answers
    ]


def _mlvu_ids(content: object) -> list[str]:
    if not isinstance(content, list):
        raise ValueError(f"expected a list, got {type(content).__name__}")  # noqa: TRY004  (a value of a file)
    ids: list[str] = []
    for entry in map(_object, cast("list[object]", content)):
        values = [entry.get(key) for key in MLVU_KEYS]
        if set(entry) != set(MLVU_KEYS) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"expected the texts {', '.join(MLVU_KEYS)}, got {str(entry)[:80]}")
        if values[-1] not in ("", *LETTERS):
            raise ValueError(f"{values[0]} has the option {values[-1]!r}, expected a letter or nothing")
        ids.append(str(values[0]))
    return ids


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")  # noqa: TRY004  (a value of a file)
    return cast("dict[str, object]", value)


ANSWER_FILES: dict[str, AnswerFormat] = {
    "egoschema": AnswerFormat(
        value=_egoschema, ids=_egoschema_ids, source="EgoSchema, README: {question uid: answer from 0 to 4}"
    ),
    "mlvu": AnswerFormat(value=_mlvu, ids=_mlvu_ids, source="MLVU Test, test_res.json of its repository"),
}
"""Format of a file of answers by name; a task names it in `Task.submission`."""
