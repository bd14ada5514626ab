"""Scores of pairwise preferences: verdicts in words (GenAI-Bench) and margins of reward models (VideoAlign).

They are computed here and not by the engine: a pair has two videos and several votes, and accuracy with ties is no
mean over pairs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

from evqa.metrics import preference
from evqa.metrics.means import Cell, State
from evqa.metrics.preference import Vote
from evqa.official.records import OR_NONE, ExternalRecord, read_records
from evqa.official.scores import OFFICIAL, STRICT, FileScores, OfficialFiles, QuestionRows, ScoredQuestion, file_scores
from evqa.parsing.verdicts import OVERALL, parse_verdict

HUMAN: dict[str, Vote] = {
    "leftvote": "first",
    "rightvote": "second",
    "tievote": "both-good",
    "bothbad_vote": "both-bad",
}
"""What people chose -> vote."""

LABELS: dict[str, Vote] = {
    "[[A>B]]": "first",
    "[[B>A]]": "second",
    "[[A=B=Good]]": "both-good",
    "[[A=B=Bad]]": "both-bad",
    "[[A=B]]": "tie",
}
"""What a judge writes -> vote."""

_LABEL = re.compile(r"\[\[.*\]\]")


def parse_vote(reply: str) -> str | None:
    """The verdict in double brackets as GenAI-Bench reads it; None where there is none.

    It is on the first line that has one, from its first brackets to its last; only a text of `LABELS` is a vote.
    """
    match = _LABEL.search(reply)
    return match.group() if match else None


def vote_of(reply: str) -> Vote | None:
    """The vote that a reply commits to: a label in brackets, else the `OA` of a whole verdict in numbers."""
    label = parse_vote(reply)
    verdict = parse_verdict(reply) if label is None else None
    return LABELS.get(label or "") if verdict is None else preference.LABEL_VOTES[verdict[OVERALL]]


class _Pair(ExternalRecord):
    idx: str
    human_vote: str | None = None
    model_vote: str | None = None
    response: str | None = None


def genai_bench(files: OfficialFiles) -> FileScores:
    """`{idx, human_vote, model_vote}` a line, or `{idx, response}` with a second file of human votes.

    A response gives its verdict as `[[A>B]]`, or in numbers (`TA=1, MQ=0, VQ=1, OA=1`), of which OA counts.
    """
    notes: list[str] = []
    pairs = read_records(files.predictions, _Pair, notes)
    humans = _humans(files, pairs, notes)
    rows: list[ScoredQuestion] = []
    turns: Counter[str] = Counter()
    for pair in pairs:
        human = humans.get(pair.idx)
        if human is None:
            notes.append(f"pair {pair.idx} has no known human vote and is left out")
            continue
        turns[pair.idx] += 1
        vote = LABELS.get(pair.model_vote or "") if pair.response is None else vote_of(pair.response)
        rows.append(ScoredQuestion(id=f"{pair.idx}#{turns[pair.idx]}", video=pair.idx, cells=_vote_cells(vote, human)))
    twice = sum(turns.values()) - len(turns)
    if twice:
        notes.append(f"{twice} votes are for pairs that have one already; all of them count")
    conventions = {
        OFFICIAL: "official: accuracy over four classes, tau over three, diff without human ties; unread is wrong"
    }
    tables = [QuestionRows(convention=OFFICIAL, name="predictions", rows=rows), *_constant_votes(rows, humans)]
    return file_scores("genai-bench", conventions, tables, notes)


def _humans(files: OfficialFiles, pairs: Sequence[_Pair], notes: list[str]) -> dict[str, Vote]:
    voters = pairs if files.gold is None else read_records(files.gold, _Pair, notes)
    return {pair.idx: HUMAN[pair.human_vote] for pair in voters if pair.human_vote in HUMAN}


def _vote_cells(vote: Vote | None, human: Vote) -> dict[str, Cell]:
    state: State = "unparsed" if vote is None else "scored"
    diff = preference.same_preference(vote, human)
    return {
        "accuracy": Cell(preference.same_vote(vote, human), state),
        "tau": Cell(preference.same_verdict(vote, human), state),
        "diff": Cell(None) if diff is None else Cell(diff, state),
    }


def _constant_votes(rows: Sequence[ScoredQuestion], humans: Mapping[str, Vote]) -> list[QuestionRows]:
    """What a judge scores that always says the same."""
    return [
        QuestionRows(
            convention=OFFICIAL,
            name=f"always {label}",
            rows=[
                ScoredQuestion(id=row.id, video=row.video, cells=_vote_cells(vote, humans[row.video])) for row in rows
            ],
        )
        for label, vote in LABELS.items()
        if label != "[[A=B]]"
    ]


class _Margin(ExternalRecord):
    human: int
    model: Annotated[float | None, OR_NONE] = None
    id: str | None = None


def preference_margins(files: OfficialFiles) -> FileScores:
    """`{human: -1 | 0 | 1, model: margin}` a line: score of the first minus score of the second (VideoAlign)."""
    notes: list[str] = []
    pairs = read_records(files.predictions, _Margin, notes)
    wrong = [pair for pair in pairs if pair.human not in {-1, 0, 1}]
    if wrong:
        notes.append(f"{len(wrong)} pairs are left out: a human vote is -1, 0 or 1, got {wrong[0].human}")
    pairs = [pair for pair in pairs if pair.human in {-1, 0, 1}]
    pairs_with_margin = [(pair.human, pair.model) for pair in pairs if pair.model is not None]
    humans, margins = [human for human, _ in pairs_with_margin], [margin for _, margin in pairs_with_margin]
    share = len(margins) / len(pairs) if pairs else 0.0
    rows = [
        ScoredQuestion(
            id=f"{pair.id or place}#{place}",
            video=pair.id or str(place),
            cells={"without ties": _sign_cell(pair)},
        )
        for place, pair in enumerate(pairs)
    ]
    best = preference.with_ties(humans, margins)
    official = preference.with_ties_as_shipped(humans, margins)
    shipped = {"with ties": None if official is None else share * official}
    exact = {
        "with ties": share * best.accuracy if best else None,
        "threshold of a tie": best.threshold if best else None,
    }
    conventions = {
        OFFICIAL: "official: VideoAlign's code, which scores inside groups of equal margins",
        STRICT: "strict: best threshold of a tie, none among them; it is fitted on these very pairs",
    }
    tables = [
        QuestionRows(convention=OFFICIAL, name="predictions", rows=rows, numbers=shipped),
        QuestionRows(convention=STRICT, name="predictions", rows=rows, numbers=exact),
    ]
    return file_scores("preference", conventions, tables, notes)


def _sign_cell(pair: _Margin) -> Cell:
    """Whether the margin has the sign of the human vote; one that cannot be read is wrong."""
    if not pair.human:
        return Cell(None)
    return Cell(0.0, "unparsed") if pair.model is None else Cell(float(pair.human * pair.model > 0))
