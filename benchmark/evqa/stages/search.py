"""Search for the segments of a question: runs the stages of a style, narrows the best segment, and ranks candidates.

The search gets the question and its video; it has no access to the ground truth of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from evqa.agents.settings import AgentSettings, StageSettings
from evqa.schema import Span
from evqa.stages import selection
from evqa.stages.plans import SamplingPlan
from evqa.stages.prompts import StageInputs
from evqa.stages.runner import StageRunner
from evqa.stages.selection import Candidate, EvidenceReply
from evqa.stages.styles import RANKING, STYLES, VERIFICATION, Style

MAX_DEPTH = 8
"""Most searches of ever shorter segments."""

SHRINKAGE = 0.9
"""A segment is searched again only if it is shorter than this part of the one before."""

CANDIDATE_FRAMES = SamplingPlan("uniform", 4)
"""Frames of a candidate for the verifier; the ranking has one each."""


ANSWER_FRAMES = SamplingPlan("uniform", 8)
"""Frames of the best segment for the answer."""


class SearchResult(NamedTuple):
    """Segments of a question."""

    candidates: list[Candidate] | None
    """Best first; [] = the replies state that there is none; None = no reply could be read."""
    window: Span
    """Part of the video that was searched last."""


def plan_of(settings: StageSettings, style: Style) -> SamplingPlan:
    """Sampling plan of a run. `ValueError`: the setting is no plan."""
    return SamplingPlan.read(settings.stage_plan or style.plan)


def grid_fps(settings: AgentSettings) -> float:
    """Frames per second that exist for the stages: those of the grid, or more where a plan by rate asks for more."""
    plan = plan_of(settings.stages, STYLES[settings.stages.stage_style])
    return max(settings.grid_fps, plan.value) if plan.kind in {"fps", "dense"} else settings.grid_fps


class Search:
    """Search for the segments of one question."""

    def __init__(self, runner: StageRunner, question: str, settings: StageSettings) -> None:
        self._runner, self._settings = runner, settings
        self.style = STYLES[settings.stage_style]
        self._plan = plan_of(settings, self.style)
        whole = Span(0.0, runner.video.duration)
        self.inputs = StageInputs(duration=runner.video.duration, window=whole, question=question)

    def run(self) -> SearchResult:
        """Find the segments, in the whole video and then in the best segment until it is short enough."""
        window = self.inputs.window
        result = SearchResult(self._candidates(self._plan, window), window)
        target = self._settings.stage_target or self.style.target_seconds
        for depth in range(MAX_DEPTH if target else 0):
            best = result.candidates[0].span if result.candidates else None
            if best is None or target is None or _seconds(best) <= target:
                break
            if depth and _seconds(best) >= SHRINKAGE * _seconds(window):
                break
            window = best
            inner = self._candidates(SamplingPlan.read(self._settings.stage_refine), window)
            if not inner:
                break
            result = SearchResult(selection.distinct([*inner, *(result.candidates or [])]), window)
        return result

    def _candidates(self, plan: SamplingPlan, window: Span) -> list[Candidate] | None:
        """Candidates of one window, best first."""
        video = self._runner.video
        frames = video.frames(plan, window)
        if frames.note:
            self._runner.notes.append(frames.note)
        inputs = replace(self.inputs, window=window, segments=video.segments(plan, frames.places, window))
        inputs = self._with_context(inputs, frames.places)
        stage = self.style.evidence
        texts = self._runner.replies(stage, inputs, frames.places)
        replies = [reply for text in texts if (reply := selection.read_evidence(text, stage.reading, inputs.duration))]
        return self._ranked(replies) if replies else None

    def _with_context(self, inputs: StageInputs, places: Sequence[int]) -> StageInputs:
        """The inputs of the last stage: with the texts of the stages that it reads."""
        texts: dict[str, str] = {}
        for stage in self.style.context:
            read = {name: texts[name] for name in stage.reads}
            replies = self._runner.replies(stage, replace(inputs, texts=read), places)
            if stage.reading == "segmentation":
                texts[stage.name] = selection.choose_segmentation(replies, texts["understanding"], inputs.segments)
            else:
                texts[stage.name] = replies[0]
        return replace(inputs, texts={name: texts[name] for name in self.style.evidence.reads})

    def _ranked(self, replies: Sequence[EvidenceReply]) -> list[Candidate]:
        method = self._settings.stage_selection
        if method == "first":
            return selection.in_order(replies)
        if method == "confidence":
            return selection.by_confidence(replies)
        candidates = selection.by_votes(replies)
        if method == "verifier" and candidates:
            return selection.by_verification(candidates, [self._verified(item.span) for item in candidates])
        if method == "ranking" and len(candidates) > 1:
            return self._by_ranking(candidates)
        return candidates

    def _verified(self, span: Span) -> str:
        places = self._runner.video.frames(CANDIDATE_FRAMES, span).places
        return self._runner.replies(VERIFICATION, replace(self.inputs, window=span), places)[0]

    def _by_ranking(self, candidates: list[Candidate]) -> list[Candidate]:
        middle = SamplingPlan("uniform", 3)
        spans = [candidate.span for candidate in candidates]
        places = sorted({self._middle(self._runner.video.frames(middle, span).places) for span in spans})
        text = self._runner.replies(RANKING, replace(self.inputs, segments=spans), places)[0]
        ranked = selection.by_ranking(candidates, text)
        if ranked is None:
            self._runner.notes.append("ranking: unparsed, the order by votes is kept")
        return ranked or candidates

    @staticmethod
    def _middle(places: Sequence[int]) -> int:
        return places[len(places) // 2]


def _seconds(span: Span) -> float:
    return span.end - span.start
