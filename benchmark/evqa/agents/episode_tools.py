"""Tools over an episode: look at the current clip, and locate another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from evqa.agents.episode_clips import EpisodeClips
from evqa.agents.episode_prompts import STYLES, ClipFacts, PromptStyle
from evqa.agents.grounding import Grounder, Located
from evqa.agents.looking import BoxLines, Looker
from evqa.agents.tool import Tool, ToolOutput
from evqa.agents.transcript import Transcript
from evqa.schema import Spans

MAX_CLIP_CHARACTERS = 20_000
"""Characters of the subtitles of the current clip in a prompt."""


@dataclass(kw_only=True)
class EpisodeTools:
    """Tools over an episode, with the clips that were visited."""

    episode: EpisodeClips
    transcript: Transcript
    grounder: Grounder | None
    """None = clips are not located: the current clip is the first one."""
    looker: Looker | None
    """None = there are no looks."""
    can_relocate: bool = True
    """Whether the master may ask for another clip."""
    style: PromptStyle = STYLES["full"]
    """Texts of results."""
    boxes: BoxLines = field(default_factory=dict[str, "list[str]"])
    place: int | None = None
    """Index of the current clip; None = none is known."""
    visited: list[int] = field(default_factory=list[int])
    """Clips in the order in which they became the current one."""
    spans: Spans = ()
    """Evidence of the last look of a grounded model in the current clip."""

    def start(self) -> str:
        """Locate the first clip; return its facts in words, or that none is known and why."""
        if self.grounder is None:
            self._move(0)
            return self.style.clip(self.facts())
        located = self._locate()
        if located.place is None:
            return self.style.problem(f"No clip is known yet: the grounding failed ({_reason(located)}).")
        self._move(located.place)
        return self.style.clip(self.facts())

    def all(self) -> list[Tool]:
        """The tools that work."""
        looks = [self.visual_query] if self.looker is not None else []
        return [*looks, *([self.request_grounding] if self.grounder is not None and self.can_relocate else [])]

    def visual_query(
        self, question: Annotated[str, Field(description="what has to be seen, as a question", max_length=4000)]
    ) -> ToolOutput:
        """Ask what is visible in the current clip."""
        if self.place is None:
            raise ValueError("there is no current clip: locate one first")
        if not question.strip():
            raise ValueError("the question is empty: say what has to be seen")
        assert self.looker is not None
        name = self.episode.ids[self.place]
        sight = self.looker.look(self.episode, self.place, question.strip(), self.boxes.get(name, ()))
        if not sight.ok:
            return ToolOutput((f"error: {sight.text}",), ok=False)
        self.spans = sight.spans
        self.transcript.masks = sight.masks or self.transcript.masks
        return ToolOutput((self.style.description(name, sight.text),), spans=sight.spans)

    def request_grounding(self) -> ToolOutput:
        """Locate another clip, because the current one may not contain the answer."""
        located = self._locate()
        if located.place is None:
            state = (
                "no clip is known" if self.place is None else f"the current clip stays {self.episode.ids[self.place]}"
            )
            return ToolOutput((f"error: the grounding failed ({_reason(located)}): {state}",), ok=False)
        self._move(located.place)
        return ToolOutput((self.style.new_clip(self.facts()),))

    def facts(self) -> ClipFacts:
        """What a prompt states about the current clip."""
        assert self.place is not None
        text = self.episode.texts[self.place]
        limit = MAX_CLIP_CHARACTERS if len(text) > MAX_CLIP_CHARACTERS else None
        return ClipFacts(self.episode.refs[self.place], self.place + 1, len(self.episode.refs), text[:limit], limit)

    def cited_spans(self) -> Spans:
        """Time segments that the answer rests on: those of the last look, else the current clip; () = none is known."""
        if self.spans or self.place is None:
            return self.spans
        return self.episode.span_of(self.place)

    def _locate(self) -> Located:
        assert self.grounder is not None
        sample = self.episode.sample
        return self.grounder.locate(sample.question, sample.options, self.episode, self.place)

    def _move(self, place: int) -> None:
        self.place, self.spans = place, ()
        self.visited.append(place)


def _reason(located: Located) -> str:
    return f"{located.failure}: {located.details}" if located.details else located.failure
