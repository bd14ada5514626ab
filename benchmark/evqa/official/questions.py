"""Questions with gold in time and an answer, and what a file says to them: the shape most benchmarks share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from evqa.metrics.means import Cell, State
from evqa.metrics.ranked import Ranked, in_given_order
from evqa.metrics.trivial import PARTS, best_constant_span
from evqa.official.records import Window
from evqa.official.scores import OFFICIAL, FileScores, QuestionRows, ScoredQuestion, file_scores
from evqa.schema import Span, Spans

Part = Literal["windows", "answer", "scores", "clue_answer"]
"""What a measure needs of a reply."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question and its gold."""

    id: str
    video: str
    windows: Spans = ()
    duration: float | None = None
    answer: str | None = None
    num_choices: int = 0
    """0 = open-ended."""
    group: str | None = None
    saliency: tuple[tuple[float, ...], ...] = ()
    """Per clip what each annotator gave."""


@dataclass(frozen=True, kw_only=True)
class QuestionReply:
    """What a file says to one question; None = nothing that could be read."""

    windows: tuple[Ranked, ...] | None = None
    """In the file's order."""
    answer: str | None = None
    scores: tuple[float, ...] | None = None
    """One per clip."""
    clue_answer: str | None = None
    """The answer given to the clues alone."""

    @property
    def spans(self) -> Spans:
        """The windows in the file's order."""
        return tuple(window.span for window in self.windows or ())

    def has(self, part: Part) -> bool:
        """Whether this part could be read."""
        return getattr(self, part) is not None


Value = Callable[[Question, QuestionReply], float]


def at_least(value: Value, threshold: float) -> Value:
    """1 where a measure is at least the threshold, else 0."""
    return lambda question, reply: float(value(question, reply) >= threshold)


def product(first: Value, second: Value) -> Value:
    """The product of two measures."""
    return lambda question, reply: first(question, reply) * second(question, reply)


class QuestionMetric(NamedTuple):
    """One metric of a benchmark."""

    value: Callable[[Question, QuestionReply], float | None]
    """None: does not apply to this question."""
    needs: tuple[Part, ...]
    drops: frozenset[State] = frozenset()
    """Replies in these states leave the mean: a defect of some published evaluators."""


@dataclass(frozen=True, kw_only=True)
class QuestionPreset:
    """Which definitions a table uses."""

    name: str = OFFICIAL
    about: str
    measures: Mapping[str, QuestionMetric]
    numbers: Callable[[Sequence[ScoredQuestion]], Mapping[str, float | None]] | None = None
    """What is made of all rows and is no mean."""


@dataclass(frozen=True)
class QuestionRecords:
    """A prediction file and its gold, read."""

    questions: Sequence[Question]
    replies: Mapping[str, QuestionReply]
    notes: list[str]


def score_questions(format_name: str, records: QuestionRecords, conventions: Sequence[QuestionPreset]) -> FileScores:
    """Scores of the replies under each convention, and of what sees no video under the first."""
    _note_strangers(records)
    tables = [_rows("predictions", convention, records.questions, records.replies.get) for convention in conventions]
    tables += _trivial(conventions[0], records.questions)
    about = {convention.name: convention.about for convention in conventions}
    return file_scores(format_name, about, tables, records.notes)


def index_replies(pairs: Iterable[tuple[str, QuestionReply]], notes: list[str]) -> dict[str, QuestionReply]:
    """Replies by question; of several the last one counts, and they are noted."""
    found: dict[str, QuestionReply] = {}
    twice = 0
    for name, reply in pairs:
        twice += name in found
        found[name] = reply
    if twice:
        notes.append(f"{twice} predictions are for questions that have one already; the last one counts")
    return found


def windows_of(pairs: Sequence[Window]) -> tuple[Ranked, ...]:
    """`[start, end]` or `[start, end, score]` in the file's order; where no score is given the order is the rank."""
    spans = tuple(Span(pair[0], pair[1]) for pair in pairs)
    scores = [pair[2] for pair in pairs if len(pair) == 3]
    if len(scores) < len(spans):
        return in_given_order(spans)
    return tuple(Ranked(span, score) for span, score in zip(spans, scores, strict=True))


def _note_strangers(records: QuestionRecords) -> None:
    strangers = records.replies.keys() - {question.id for question in records.questions}
    if strangers:
        records.notes.append(f"{len(strangers)} predictions are for unknown questions, such as {min(strangers)!r}")


def _judged(question: Question, cells: dict[str, Cell]) -> ScoredQuestion:
    return ScoredQuestion(id=question.id, video=question.video, group=question.group, cells=cells)


def _rows(
    name: str,
    convention: QuestionPreset,
    questions: Sequence[Question],
    reply_to: Callable[[str], QuestionReply | None],
) -> QuestionRows:
    rows = [
        _judged(
            question,
            {title: _cell(measure, question, reply_to(question.id)) for title, measure in convention.measures.items()},
        )
        for question in questions
    ]
    numbers: Mapping[str, float | None] = convention.numbers(rows) if convention.numbers else {}
    return QuestionRows(convention=convention.name, name=name, rows=rows, numbers=numbers)


def _cell(measure: QuestionMetric, question: Question, reply: QuestionReply | None) -> Cell:
    if reply is None:
        state: State = "missing"
    else:
        state = "scored" if all(reply.has(part) for part in measure.needs) else "unparsed"
    value = measure.value(question, reply or QuestionReply())
    if value is None:
        return Cell(None)
    if state in measure.drops:
        return Cell(None, state)
    return Cell(value if state == "scored" else 0.0, state)


# What sees no video


def _trivial(convention: QuestionPreset, questions: Sequence[Question]) -> list[QuestionRows]:
    in_time = _only(convention, ("windows",))
    of_answers = _only(convention, ("answer",))
    tables: list[QuestionRows] = []
    if in_time.measures and all(question.duration for question in questions):
        tables += [_constant(name, part, in_time, questions) for name, part in PARTS.items()]
        start, end = best_constant_span([(question.windows, question.duration or 0.0) for question in questions])
        name = f"constant span fitted on this very gold ({start:.2f} to {end:.2f})"
        tables.append(_constant(name, (start, end), in_time, questions))
    if of_answers.measures and all(question.num_choices for question in questions):
        tables.append(_chance(of_answers, questions))
    common = Counter(question.answer for question in questions if question.answer is not None).most_common(1)
    if of_answers.measures and common:
        reply = QuestionReply(answer=common[0][0])
        name = f"most frequent answer of this very gold ({common[0][0]})"
        tables.append(_rows(name, of_answers, questions, lambda _: reply))
    return tables


def _only(convention: QuestionPreset, parts: tuple[Part, ...]) -> QuestionPreset:
    chosen = {title: measure for title, measure in convention.measures.items() if set(measure.needs) <= set(parts)}
    return QuestionPreset(name=convention.name, about=convention.about, measures=chosen)


def _constant(
    name: str, part: tuple[float, float], convention: QuestionPreset, questions: Sequence[Question]
) -> QuestionRows:
    spans = {
        question.id: Span(part[0] * (question.duration or 0.0), part[1] * (question.duration or 0.0))
        for question in questions
    }
    return _rows(name, convention, questions, lambda key: QuestionReply(windows=in_given_order((spans[key],))))


def _chance(convention: QuestionPreset, questions: Sequence[Question]) -> QuestionRows:
    """The expected accuracy of guessing, without drawing."""
    rows = [
        _judged(
            question,
            {
                title: Cell(1 / question.num_choices if measure.value(question, QuestionReply()) is not None else None)
                for title, measure in convention.measures.items()
            },
        )
        for question in questions
    ]
    return QuestionRows(convention=convention.name, name="chance", rows=rows)
