"""Prediction files as the original's scripts write them, read as our records.

Generative, one JSON object:

    {entry_id: {"video_id": ..., "parsed_response": {"answer": "A" | null, "segments": [[start, end], ...] | null,
                "referring_expressions": [...] | null, "mask_path": ... | null} | null, "error"?: ...}}

with masks as `<file without .json>/[concat|seperate/]<entry_id>/masks/%05d.png`. Multiple-choice:

    {entry_id: {"answer", "gt_answer", "evidence_t", "gt_evidence_t", "evidence_s", "gt_evidence_s": letter | null}}

of which a file of a single question has only the first two, whatever the question is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, cast

from evqa.datasets import path_inside
from evqa.datasets.formats.csv_table import float_or_none
from evqa.metrics.answer import NUM_LETTERS
from evqa.official.records import as_list, as_object
from evqa.parsing.choices import parse_answer
from evqa.parsing.span_literals import spans_of_json
from evqa.schema import LETTERS, LiteralAnswer, Prediction, Sample, Span, Spans

Question = Literal["answer", "time_choice", "mask_choice"]
"""One question of the multiple-choice task, by the field of `Prediction` that answers it."""

CHOICES: dict[Question, tuple[str, str]] = {
    "answer": ("answer", "gt_answer"),
    "time_choice": ("evidence_t", "gt_evidence_t"),
    "mask_choice": ("evidence_s", "gt_evidence_s"),
}
"""Question -> the keys of its answer and of its right answer."""

FILE_NAMES: dict[str, Question] = {"time_evidence": "time_choice", "spatial_evidence": "mask_choice"}
"""What the name of a file of a single question holds, where the question is not the first."""

MASK_FOLDERS = ("concat", ".", "seperate")
"""Where masks lie below the folder named like the file; the original's evaluator looks in the first."""

Value = TypeVar("Value")


class EntryReading(NamedTuple):
    """One entry as a record, and what of it could not be read."""

    prediction: Prediction
    problems: tuple[str, ...] = ()
    """`field: what is wrong`, one each."""


def is_multiple_choice(entry: object) -> bool | None:
    """Whether an entry has the multiple-choice format; None = undetermined."""
    if not isinstance(entry, dict):
        return None
    if "parsed_response" in entry:
        return False
    return True if any(gold in entry for _, gold in CHOICES.values()) else None


def question_of_file(path: Path) -> Question:
    """Which question a file with only `answer` is about, by its name; the answer where the name does not say."""
    for part, question in FILE_NAMES.items():
        if part in path.stem:
            return question
    return "answer"


def mask_root(path: Path, ids: Sequence[str]) -> Path | None:
    """The folder that holds `<entry_id>/masks` for a file of predictions; None where there is none."""
    stem = path.with_suffix("")
    for name in MASK_FOLDERS:
        root = stem / name
        if root.is_dir() and any((root / entry / "masks").is_dir() for entry in ids):
            return root
    return None


# Generative


def read_generative(sample: Sample, entry: object) -> EntryReading:
    """An entry of a generative file; its masks are read from their folder when they are needed."""
    fields = as_object(entry)
    if fields is None:
        return _failed(sample, f"entry: expected an object, got {str(entry)[:80]!r}")
    folder, refused = _mask_folder(fields)
    response = fields.get("parsed_response")
    if response is None:
        error = fields.get("error")
        if error is not None:
            failed = Prediction(sample_id=sample.id, status="failed", error=_plain(error), mask_folder=folder)
            return EntryReading(failed, refused)
        return EntryReading(Prediction(sample_id=sample.id, status="ok", mask_folder=folder), refused)
    parsed = as_object(response)
    if parsed is None:
        return _failed(sample, f"parsed_response: expected an object, got {str(response)[:80]!r}")
    problems: list[str] = [*refused]
    prediction = Prediction(
        sample_id=sample.id,
        status="ok",
        answer=_field(parsed, "answer", lambda value: _answer(value, sample), problems),
        spans=_field(parsed, "segments", _spans, problems),
        expressions=_field(parsed, _expressions_key(parsed), _expressions, problems),
        mask_folder=folder,
        literal=_literal(parsed, sample),
    )
    return EntryReading(prediction, tuple(problems))


def _field(
    fields: dict[str, object], name: str, read: Callable[[object], Value | None], problems: list[str]
) -> Value | None:
    """A field's meaning; None where it is null or absent, and, with a problem, where it cannot be read."""
    value = fields.get(name)
    if value is None:
        return None
    try:
        return read(value)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return None


def _answer(value: object, sample: Sample) -> int | None:
    """The option that a text names; a number is the text of an option, never its place."""
    is_text = isinstance(value, str)
    plain = str(value).strip()
    if not is_text and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"expected a letter or an option's text, got {plain[:80]!r}")
    if plain and plain in list(LETTERS[: min(NUM_LETTERS, len(sample.options))]):
        return LETTERS.index(plain)
    if is_text:
        return parse_answer(plain, sample.options)
    same = [place for place, option in enumerate(sample.options) if option.strip() == plain]
    if len(same) != 1:
        raise ValueError(f"expected a letter or an option's text, got {plain[:80]!r}")
    return same[0]


def _spans(value: object) -> Spans:
    spans = spans_of_json(value)
    if spans is None:
        raise ValueError(f"expected [[start, end], ...] with 0 <= start <= end in seconds, got {str(value)[:80]!r}")
    return spans


def _expressions_key(fields: dict[str, object]) -> str:
    return "ref_expressions" if "ref_expressions" in fields else "referring_expressions"


def _expressions(value: object) -> tuple[str, ...]:
    text = str(value)[:80]
    items = cast("list[object]", value) if isinstance(value, list) else None
    texts = [item for item in items or () if isinstance(item, str)]
    if items is None or len(texts) < len(items):
        raise ValueError(f"expected a list of texts, got {text!r}")
    return tuple(_plain(text) for text in texts if text.strip())


def _mask_folder(fields: dict[str, object]) -> tuple[Path | None, tuple[str, ...]]:
    """An entry's own folder of masks, where it names one below the file's folder."""
    value = fields.get("mask_folder")
    if value is None:
        return None, ()
    path = value if isinstance(value, str) else None
    if path is None:
        return None, (f"mask_folder: expected a path, got {str(value)[:80]!r}",)
    try:
        path_inside(Path(), Path(path))
    except ValueError as error:
        return None, (f"mask_folder: {error}",)
    return Path(path), ()


# What the original's evaluator makes of an entry


def _literal(fields: dict[str, object], sample: Sample) -> LiteralAnswer | None:
    """The entry as the original's evaluator takes it, where our reading may differ from that."""
    answer, segments = fields.get("answer"), _written_segments(fields)
    text = None if answer is None else _plain(answer).strip()
    is_letter = text is None or text in list(LETTERS[: min(NUM_LETTERS, len(sample.options))])
    is_plain = spans_of_json(fields.get("segments")) == segments
    return None if is_letter and is_plain else LiteralAnswer(answer=text, segments=segments)


class OriginalSegments(NamedTuple):
    """The segments of an entry as the original's evaluator takes them, and what it counts as wrong with them."""

    spans: Spans
    """In any order of their ends, negative and not finite ones too."""
    problem: str | None = None
    """`none_responses`, `parse_errors`, `empty_segments` or `malformed_segments`."""


def read_segments(parsed: object) -> OriginalSegments:
    """Segments of a `parsed_response`: pairs, a flat list of numbers in pairs, or objects with start and end.

    Both ends are what Python's `float` makes of them, so that texts such as "1.5" are numbers in a pair, and not in a
    flat list. Elements that are none of these are skipped, and the entry counts as malformed once. No key is an empty
    list, null is an error.
    """
    if parsed is None:
        return OriginalSegments((), "none_responses")
    fields = as_object(parsed)
    items = None if fields is None else as_list(fields.get("segments", []))
    if items is None:
        return OriginalSegments((), "parse_errors")
    if not items:
        return OriginalSegments((), "empty_segments")
    if all(isinstance(item, int | float) for item in items):
        numbers = [number for item in items if (number := float_or_none(item)) is not None]
        return OriginalSegments(tuple(Span(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=False)))
    spans = tuple(span for item in items if (span := _segment(item)) is not None)
    return OriginalSegments(spans, "malformed_segments" if len(spans) < len(items) else None)


def _written_segments(fields: dict[str, object]) -> tuple[tuple[float, float], ...] | None:
    """As `read_segments`, None where there is no list of them.

    A pair that is not finite makes the lengths infinite or undefined, and the scores 0: then there are none.
    """
    if as_list(fields.get("segments", [])) is None:
        return None
    spans = read_segments(fields).spans
    is_finite = all(math.isfinite(end) for span in spans for end in span)
    return tuple((start, end) for start, end in spans) if is_finite else ()


SEGMENT_KEYS = (("start", "end"), ("start_time", "end_time"))
"""Of a segment that is an object; the first pair that it has both of counts."""


def _segment(item: object) -> Span | None:
    ends = (as_list(item) or [])[:2]
    if (fields := as_object(item)) is not None:
        keys = next((keys for keys in SEGMENT_KEYS if all(key in fields for key in keys)), ())
        ends = [fields[key] for key in keys]
    numbers = [number for end in ends if (number := float_or_none(end)) is not None]
    return Span(*numbers) if len(numbers) == 2 else None


# Multiple choice


def read_multiple_choice(sample: Sample, entry: object, alone: Question) -> EntryReading:
    """An entry of a multiple-choice file; `alone` is the question of a file that has only one."""
    fields = as_object(entry)
    if fields is None:
        return _failed(sample, f"entry: expected an object, got {str(entry)[:80]!r}")
    is_alone = _is_alone(fields)
    choices: dict[str, int | None] = {}
    problems: list[str] = []
    for question, keys in CHOICES.items():
        asked_question = alone if is_alone and question == "answer" else question
        choices.setdefault(asked_question, None)
        if keys[0] in fields:
            choices[asked_question] = _choice(fields, keys, sample, asked_question, problems)
    error = fields.get("error")
    if error is not None and not any(choice is not None for choice in choices.values()):
        return EntryReading(Prediction(sample_id=sample.id, status="failed", error=_plain(error)), tuple(problems))
    return EntryReading(Prediction.model_validate({"sample": sample.id, "status": "ok", **choices}), tuple(problems))


def questions_of(entry: object, alone: Question) -> tuple[Question, ...]:
    """The questions that an entry is about: those of whose keys it has one."""
    fields = as_object(entry) or {}
    if _is_alone(fields):
        return (alone,) if any(key in fields for key in CHOICES["answer"]) else ()
    return tuple(question for question, keys in CHOICES.items() if any(key in fields for key in keys))


def _is_alone(fields: dict[str, object]) -> bool:
    return not any(key in fields for question in ("time_choice", "mask_choice") for key in CHOICES[question])


def _choice(
    fields: dict[str, object], keys: tuple[str, str], sample: Sample, question: Question, problems: list[str]
) -> int | None:
    right, count = gold_choice(sample, question)
    stated_answer = fields.get(keys[1])
    if right is not None and isinstance(stated_answer, str) and stated_answer != LETTERS[right]:
        problems.append(f"{keys[1]}: the file says {stated_answer[:20]!r}, the data set {LETTERS[right]!r}")
    value = fields.get(keys[0])
    if value is None:
        return None
    if not isinstance(value, str) or len(value) != 1 or value not in LETTERS[:count]:
        problems.append(f"{keys[0]}: expected a letter of {count} options, got {str(value)[:80]!r}")
        return None
    return LETTERS.index(value)


def gold_choice(sample: Sample, question: Question) -> tuple[int | None, int]:
    """(index of the right option, number of options) of one of the three questions."""
    if question == "time_choice":
        return sample.time_answer, len(sample.time_options)
    if question == "mask_choice":
        return sample.mask_answer, len(sample.mask_options)
    return sample.answer, len(sample.options)


def _failed(sample: Sample, reason: str) -> EntryReading:
    return EntryReading(Prediction(sample_id=sample.id, status="failed", error=reason), (reason,))


def _plain(value: object) -> str:
    """Text that UTF-8 can write."""
    return str(value)[:10_000].encode("utf-8", "replace").decode()
