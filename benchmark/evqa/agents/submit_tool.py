"""Tool by which an agent submits its answer with evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from evqa.agents.arguments import Second, require_text
from evqa.agents.tool import ToolOutput
from evqa.parsing import replies
from evqa.schema import LETTERS


@dataclass(kw_only=True)
class SubmitTool:
    """Submission of the answer to a question."""

    options: tuple[str, ...]
    """Texts of the options; () = open question."""

    def submit(
        self,
        answer: Annotated[str, Field(description="letter of the option, or a short phrase where there are none")],
        spans: Annotated[
            list[tuple[Second, Second]],
            Field(description="time segments that prove the answer, as [start, end] in seconds"),
        ],
        objects: Annotated[
            list[str],
            Field(description="one short phrase for each object that proves the answer; [] = none", max_length=100),
        ],
    ) -> ToolOutput:
        """Submit the final answer with its evidence. Ends the conversation."""
        del objects
        if reversed_spans := [list(span) for span in spans if not span[0] <= span[1]]:
            raise ValueError(f"a segment is [start, end] with start <= end, got {reversed_spans[:3]}")
        require_text(answer, "the answer", "give a letter or a phrase")
        self._check_option(answer)
        return ToolOutput(("submitted",), ends_episode=True)

    def _check_option(self, answer: str) -> None:
        options = self.options
        if options and replies.parse(answer, ("answer",), options).answer is None:
            letters = ", ".join(LETTERS[: len(options)])
            raise ValueError(f"the answer is the letter of an option, {letters}; got {answer[:80]!r}")
