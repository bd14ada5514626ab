"""Tools over the subtitles of one video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from evqa.agents.arguments import Query, Second, require_text, time_range
from evqa.agents.tool import Tool, ToolOutput
from evqa.retrieval.subtitles import SubtitleLine, Subtitles
from evqa.schema import Span


@dataclass(kw_only=True)
class SubtitleTools:
    """Tools over the subtitles of a video."""

    lines: Subtitles
    duration: float | None
    """Length of the video in seconds; None = unknown."""
    max_lines: int = 40
    """Lines of one result."""
    hits_per_search: int = 5

    def all(self) -> list[Tool]:
        """All tools over subtitles."""
        return [self.subtitles, self.search_subtitles]

    def subtitles(
        self,
        start: Annotated[Second, Field(description="start in seconds")],
        end: Annotated[Second, Field(description="end in seconds")],
    ) -> ToolOutput:
        """Return the subtitles of a time range, each line with its times."""
        first, last = time_range(math.inf if self.duration is None else self.duration, start, end)
        return self._output(self.lines.lines_between(first, last))

    def search_subtitles(self, query: Query) -> ToolOutput:
        """Return the subtitle lines that match words, best first, each with its times."""
        require_text(query, "the query", "give words to look for")
        return self._output([hit.line for hit in self.lines.search(query, k=self.hits_per_search)])

    def _output(self, lines: Sequence[SubtitleLine]) -> ToolOutput:
        if not lines:
            return ToolOutput(("no subtitles",))
        texts = [_text(line) for line in lines[: self.max_lines]]
        if len(lines) > self.max_lines:
            texts.append(f"{len(lines) - self.max_lines} further lines: ask for a shorter range")
        spans = tuple(Span(line.start, line.end) for line in lines[: self.max_lines])
        return replace(ToolOutput(("\n".join(texts),)), spans=spans)


def _text(line: SubtitleLine) -> str:
    speaker = f"{line.speaker}: " if line.speaker else ""
    return f"{line.start:.1f}-{line.end:.1f} s: {speaker}{line.text}"
