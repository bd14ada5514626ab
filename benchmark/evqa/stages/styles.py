"""Styles of staged localisation: each is a graph of pure stages, from the video to the segments of a question.

A stage is a function of what it declares: the frames it sees, the texts of earlier stages, and the question. One that
does not use the question has the same inputs for every question about a video, so that the cache shares its replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evqa.stages import prompts
from evqa.stages.prompts import Prompt

StyleName = Literal["stage-analysis", "coarse-cot", "frame-labeling", "shots", "baseline"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage: one prompt, and what it depends on."""

    name: str
    prompt: Prompt
    reads: tuple[str, ...] = ()
    """Names of the earlier stages whose texts it gets."""
    sees_frames: bool = True
    uses_question: bool = False
    is_sampled: bool = False
    """Whether several replies are sampled."""
    reading: Literal["text", "segmentation", "segments", "verdicts"] = "text"
    """How its replies are read; "segments" and "verdicts" are evidence."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """Stages in order, the last of which gives the segments."""

    stages: tuple[Stage, ...]
    plan: str
    """Sampling plan by default."""
    target_seconds: float | None = None
    """Length down to which a chosen segment is searched again, by default."""
    has_answer: bool = False
    """Whether the last stage answers the question as well."""

    @property
    def context(self) -> tuple[Stage, ...]:
        """Stages before the last."""
        return self.stages[:-1]

    @property
    def evidence(self) -> Stage:
        """Stage that gives the segments."""
        return self.stages[-1]


UNDERSTANDING = Stage(name="understanding", prompt=prompts.understanding)
SEGMENTATION = Stage(name="segmentation", prompt=prompts.segmentation, reads=("understanding",), reading="segmentation")
LABELLING = Stage(name="labelling", prompt=prompts.labelling)
VERIFICATION = Stage(name="verification", prompt=prompts.verification, uses_question=True)
RANKING = Stage(name="ranking", prompt=prompts.ranking, uses_question=True)
ANSWER = Stage(name="answer", prompt=prompts.answer, uses_question=True)


def _selection(*reads: str) -> Stage:
    return Stage(
        name="selection",
        prompt=prompts.selection,
        reads=reads,
        sees_frames=False,
        uses_question=True,
        is_sampled=True,
        reading="segments",
    )


def _relevance(*reads: str) -> Stage:
    return Stage(
        name="relevance",
        prompt=prompts.relevance,
        reads=reads,
        sees_frames=not reads,
        uses_question=True,
        is_sampled=True,
        reading="verdicts",
    )


STYLES: dict[StyleName, Style] = {
    "stage-analysis": Style(stages=(UNDERSTANDING, SEGMENTATION, _selection("segmentation")), plan="uniform:8"),
    "coarse-cot": Style(
        stages=(
            UNDERSTANDING,
            Stage(
                name="segmentation",
                prompt=prompts.segmentation,
                reads=("understanding",),
                is_sampled=True,
                reading="segmentation",
            ),
            _relevance("understanding", "segmentation"),
        ),
        plan="uniform:8",
    ),
    "frame-labeling": Style(stages=(LABELLING, _selection("labelling")), plan="fps:1"),
    "shots": Style(stages=(_relevance(),), plan="shots:20", target_seconds=20.0),
    "baseline": Style(
        stages=(Stage(name="baseline", prompt=prompts.single_answer, uses_question=True, reading="segments"),),
        plan="uniform:8",
        has_answer=True,
    ),
}
"""Name -> style, as the published pipeline has them."""

EVIDENCE_STAGES = frozenset(style.evidence.name for style in STYLES.values())
"""Names of the stages whose replies list the segments of a question."""
