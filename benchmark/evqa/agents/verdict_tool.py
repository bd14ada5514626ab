"""Tool by which a pairwise judge submits its verdict, with a parameter per dimension."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from evqa.agents.tool import Tool, ToolOutput
from evqa.parsing.replies import SUBMIT_VERDICT
from evqa.parsing.verdicts import CONFIDENCE


@cache
def verdict_tool(dimensions: tuple[tuple[str, str], ...]) -> Tool:
    """Tool `submit_verdict` for dimensions.

    Args:
        dimensions: (name, what it means) of each; all of them are required.
    """

    def submit_verdict(**labels: object) -> ToolOutput:
        """Submit the verdict, a label per dimension: 1 = video 1 is better, 2 = video 2, 0 = a tie. It is final."""
        del labels
        return ToolOutput(("submitted",), ends_episode=True)

    annotations: dict[str, object] = {"reasoning": Annotated[str, Field(description="what decides the verdict")]}
    annotations |= {name: Annotated[Literal[0, 1, 2], Field(description=text)] for name, text in dimensions}
    annotations[CONFIDENCE] = Annotated[Literal[1, 2, 3], Field(description="1 = sure, 2 = rather sure, 3 = a guess")]
    submit_verdict.__annotations__ = annotations
    submit_verdict.__signature__ = _signature(list(annotations))  # type: ignore[attr-defined]
    assert submit_verdict.__name__ == SUBMIT_VERDICT
    return submit_verdict


def _signature(names: list[str]) -> inspect.Signature:
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names])
