"""Choice among sampled replies without the ground truth: votes per second, stated confidence, and ranking.

Every function takes what was read from the replies and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from evqa.parsing.edit_distance import consensus
from evqa.parsing.reply_rules import prepare_reply
from evqa.parsing.segments import SegmentVerdict, is_usable_segmentation, read_segments, read_stages, read_verdicts
from evqa.schema import Span, Spans

MAX_CANDIDATES = 10
"""Most candidates of a question."""

MAX_SPANS = 100
"""Most segments of a reply that count."""

NEAR = 0.9
"""IoU from which on two candidates are one."""


class Candidate(NamedTuple):
    """A segment with its score, in [0, 1]."""

    span: Span
    score: float


class EvidenceReply(NamedTuple):
    """Segments that one reply names, each with its confidence."""

    spans: Spans
    """() = it states that there is none."""
    confidences: tuple[float | None, ...]
    """0 to 10 per span; None = not stated."""


def read_evidence(text: str, reading: str, duration: float) -> EvidenceReply | None:
    """Read a reply of an evidence stage, "segments" or "verdicts"; None = unparsed."""
    if reading == "segments":
        spans = read_segments(text, duration).spans
        return None if spans is None else EvidenceReply(spans[:MAX_SPANS], (None,) * len(spans[:MAX_SPANS]))
    verdicts = [verdict for verdict in read_verdicts(text) if verdict.span.start < duration]
    if not any(verdict.relevant is not None for verdict in verdicts):
        return None
    relevant = [_within(verdict, duration) for verdict in verdicts if verdict.relevant][:MAX_SPANS]
    return EvidenceReply(tuple(verdict.span for verdict in relevant), tuple(verdict.confidence for verdict in relevant))


def _within(verdict: SegmentVerdict, duration: float) -> SegmentVerdict:
    return verdict._replace(span=Span(verdict.span.start, min(verdict.span.end, duration)))


def choose_segmentation(texts: Sequence[str], understanding: str, required: Sequence[Span]) -> str:
    """Return the segmentation nearest to all usable ones, else the longest text; at least one text is needed."""
    stages = read_stages(understanding)
    usable = [text for text in texts if is_usable_segmentation(text, stages, required)]
    return consensus(usable) or max(texts, key=len)


def by_votes(replies: Sequence[EvidenceReply]) -> list[Candidate]:
    """Rank segments by self-consistency: each reply votes once for every second that it names.

    Candidates are the longest segments with at least v votes, from the highest v that occurs down to 1. Their score is
    v over the number of replies.
    """
    bounds = sorted({bound for reply in replies for span in reply.spans for bound in span})
    parts = list(pairwise(bounds))
    votes = [sum(any(s.start <= a and b <= s.end for s in reply.spans) for reply in replies) for a, b in parts]
    candidates: list[Candidate] = []
    for level in range(max(votes, default=0), 0, -1):
        candidates += [Candidate(span, level / len(replies)) for span in _runs(parts, votes, level)]
    points = [Candidate(span, 1 / len(replies)) for reply in replies for span in reply.spans if span.start == span.end]
    return distinct([*candidates, *points])


def _runs(parts: Sequence[tuple[float, float]], votes: Sequence[int], level: int) -> list[Span]:
    """Longest segments whose parts all have at least a number of votes."""
    runs: list[Span] = []
    for (start, end), count in zip(parts, votes, strict=True):
        if count < level:
            continue
        if runs and runs[-1].end == start:
            runs[-1] = Span(runs[-1].start, end)
        else:
            runs.append(Span(start, end))
    return runs


def by_confidence(replies: Sequence[EvidenceReply]) -> list[Candidate]:
    """Rank segments by the sum of their stated confidences over all replies; one that is not stated adds nothing.

    Ties go to the segment that more replies name, then to the one that was named first.
    """
    sums: dict[Span, tuple[float, int]] = {}
    for reply in replies:
        for span, confidence in zip(reply.spans, reply.confidences, strict=True):
            total, count = sums.get(span, (0.0, 0))
            sums[span] = total + (confidence or 0.0), count + 1
    ordered = sorted(sums.items(), key=lambda item: (-item[1][0], -item[1][1]))
    return distinct([Candidate(span, total / (10 * len(replies))) for span, (total, _) in ordered])


def in_order(replies: Sequence[EvidenceReply]) -> list[Candidate]:
    """Segments of the first reply, in its order: the choice without sampling."""
    spans = replies[0].spans if replies else ()
    return distinct([Candidate(span, 1 - place / (len(spans) + 1)) for place, span in enumerate(spans)])


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates without those that are nearly as one before, at most `MAX_CANDIDATES`."""
    selected: list[Candidate] = []
    for candidate in candidates:
        if len(selected) < MAX_CANDIDATES and not any(
            _iou(candidate.span, earlier.span) >= NEAR for earlier in selected
        ):
            selected.append(candidate)
    return selected


def _iou(first: Span, second: Span) -> float:
    if first == second:
        return 1.0
    shared = max(0.0, min(first.end, second.end) - max(first.start, second.start))
    hull = max(first.end, second.end) - min(first.start, second.start)
    return shared / hull if hull else 1.0


def by_verification(candidates: Sequence[Candidate], texts: Sequence[str]) -> list[Candidate]:
    """Rank candidates by the verdicts of a verifier; those without a readable verdict stay behind the confirmed ones.

    Args:
        candidates: candidates that were verified, in order.
        texts: reply of the verifier to each.
    """
    ranks: list[tuple[int, float, Candidate]] = []
    for candidate, text in zip(candidates, texts, strict=True):
        verdict = next(iter(read_verdicts(text)), None)
        relevant = verdict.relevant if verdict else None
        confidence = (verdict.confidence or 0.0) / 10 if verdict else 0.0
        group = {True: 0, None: 1, False: 2}[relevant]
        score = {0: (1 + confidence) / 2, 1: candidate.score / 2, 2: (1 - confidence) / 4}[group]
        ranks.append((group, -confidence if group == 0 else confidence, Candidate(candidate.span, score)))
    return [candidate for *_, candidate in sorted(ranks, key=lambda rank: rank[:2])]


_RANKING = re.compile(r"ranking[\s*_:=\[(]{0,8}((?:\d{1,4}[\s,;>]{0,4}){1,50})", re.IGNORECASE)


def by_ranking(candidates: Sequence[Candidate], text: str) -> list[Candidate] | None:
    """Candidates in the order of the last line `Ranking: 2, 1, 3` of a reply, the others behind; None = unparsed."""
    matches = _RANKING.findall(prepare_reply(text).text)
    places = [int(number) - 1 for number in re.findall(r"\d+", matches[-1])] if matches else []
    places = [place for place in dict.fromkeys(places) if 0 <= place < len(candidates)]
    if not places:
        return None
    places += [place for place in range(len(candidates)) if place not in places]
    return [Candidate(candidates[place].span, 1 - rank / (len(places) + 1)) for rank, place in enumerate(places)]
