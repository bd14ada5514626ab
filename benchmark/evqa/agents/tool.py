"""Tools of agents: typed Python methods with docstrings.

The signature of a tool is its JSON Schema, its docstring is its description, and pydantic validates each call:

    def frames_at(self, seconds: Annotated[list[float], Field(description="times in seconds")]) -> ToolOutput:
        \"""Return the frames at given times.\"""

A call that is invalid (unknown tool, arguments that are no JSON or do not fit) and a `ValueError` of the tool become a
result with `ok=False` whose text states what to change. Any other exception is a failure of the sample.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from evqa.files import jsonl
from evqa.models.base import ModelError, RunAborted
from evqa.models.messages import ImagePart, Part, ToolSpec
from evqa.models.tool_dialects import MALFORMED
from evqa.schema import FrameRef, Spans, ToolCall

MAX_ARGUMENTS = 20_000
"""Characters of the arguments of a call; longer ones are refused unread."""


class ToolFailure(Exception):
    """A tool raised an exception that is not its model's fault: the sample fails with it."""


@dataclass(frozen=True)
class ToolOutput:
    """Result of a tool call."""

    parts: tuple[Part, ...]
    """Texts and images for the model, in order."""
    ok: bool = True
    """False = the call was invalid or was refused, and the text says why."""
    frames: tuple[FrameRef, ...] = ()
    """Frames that the parts show beside those of `ImagePart.ref`, such as those of a contact sheet."""
    spans: Spans = ()
    """Time segments that the result is about, in seconds."""
    ends_episode: bool = False
    """Whether the call submits the final answer."""

    @property
    def text(self) -> str:
        """The result in words, with the label of each image at its place."""
        texts = (
            part if isinstance(part, str) else part.label if isinstance(part, ImagePart) else "" for part in self.parts
        )
        return "\n".join(text for text in texts if text)

    @property
    def all_frames(self) -> tuple[FrameRef, ...]:
        """All frames that the result shows."""
        refs = (part.ref for part in self.parts if isinstance(part, ImagePart) and part.ref is not None)
        return (*refs, *self.frames)


Tool = Callable[..., ToolOutput]
"""A bound method or function; its `__name__` is the name of the tool."""


def tool_table(tools: Sequence[Tool]) -> dict[str, Tool]:
    """Tools by name, in order. `ValueError`: two have one name."""
    table = {tool.__name__: tool for tool in tools}
    if len(table) != len(tools):
        raise ValueError(f"tools have names of their own, got {[tool.__name__ for tool in tools]}")
    return table


def spec_of(tool: Tool) -> ToolSpec:
    """Description of a tool for a model: its name, its docstring, and the JSON Schema of its parameters."""
    return _spec_of_function(_function(tool))


@cache
def _spec_of_function(function: Callable[..., object]) -> ToolSpec:
    """Description of a tool; an episode has the same tools as thousands of others."""
    schema = _arguments_type(function).model_json_schema()
    properties = {name: _without_title(entry) for name, entry in schema.get("properties", {}).items()}
    parameters = {key: value for key, value in schema.items() if key != "title"} | {"properties": properties}
    return ToolSpec(function.__name__, inspect.cleandoc(function.__doc__ or ""), parameters)


def call_tool(tools: Mapping[str, Tool], call: ToolCall) -> ToolOutput:
    """Run a call, or say why it is invalid.

    Args:
        tools: tools by name.
        call: call as the model wrote it.

    Raises:
        ModelError, RunAborted: a model that the tool asks did not reply.
        ToolFailure: the tool raised anything else but a `ValueError`.
    """
    try:
        tool, arguments = _validated(tools, call)
        return tool(**arguments)
    except ValidationError as error:
        return _refusal(f"invalid arguments of {call.name}: {jsonl.validation_message(error)}")
    except ValueError as error:
        return _refusal(str(error))
    except (ModelError, RunAborted, ToolFailure):
        raise
    except Exception as error:
        raise ToolFailure(f"the tool {call.name} failed: {type(error).__name__}: {error}") from error


def _validated(tools: Mapping[str, Tool], call: ToolCall) -> tuple[Tool, dict[str, Any]]:
    if call.name == MALFORMED:
        raise ValueError(f"the call cannot be read, call one of {', '.join(tools)}; got {call.arguments[:200]!r}")
    if call.name not in tools:
        raise ValueError(f"there is no tool {call.name[:80]!r}: call one of {', '.join(tools)}")
    if len(call.arguments) > MAX_ARGUMENTS:
        raise ValueError(f"the arguments have {len(call.arguments)} characters, at most {MAX_ARGUMENTS} are accepted")
    tool = tools[call.name]
    arguments = _arguments_type(_function(tool)).model_validate_json(call.arguments.strip() or "{}")
    return tool, {name: getattr(arguments, name) for name in type(arguments).model_fields}


def _refusal(reason: str) -> ToolOutput:
    return ToolOutput((f"error: {reason}",), ok=False)


def _function(tool: Tool) -> Callable[..., object]:
    return getattr(tool, "__func__", tool)


@cache
def _arguments_type(function: Callable[..., object]) -> type[BaseModel]:
    """Type of the arguments of a tool: a field per parameter, none beside them."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    }
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def _without_title(entry: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in entry.items() if key != "title"}
