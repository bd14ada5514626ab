"""Tool calls as text, for models without a tool protocol of their own: one table of dialects, `DIALECTS`.

    hermes            <tool_call>{"name": ..., "arguments": {...}}</tool_call>, as Qwen was trained
    json              one JSON object {"name": ..., "arguments": {...}} in a ```json block
    tags              action tags of LongVideoAgent: <search>, <request_grounding/>, <answer>
    vrthinker         hermes with frame_indices, 0-based, each for both videos of a pair
    vrthinker-concat  hermes with target_frames, 1-based over the concatenation of both videos

Replies are untrusted text: nothing is evaluated, the number of calls is bounded, and the time is linear in the length.
A call that cannot be read is kept as a call of `MALFORMED` with its raw text as arguments, so that an agent can
correct the model. Text inside thoughts (<think>, <Think>, <Snapshot>, <reasoning>) is neither call nor answer.
"""

from __future__ import annotations

import bisect
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, cast

from evqa.models.api.body import valid
from evqa.models.messages import Message, Part, Reply, ToolSpec, check_tool_messages
from evqa.parsing.action_tags import answer_ranges, without_thoughts
from evqa.schema import ToolCall, ToolResult

MALFORMED = "malformed_call"
"""Name of a call that cannot be read; its arguments are the raw text."""

MAX_CALLS = 64
"""Maximum number of calls of a reply; the text after them becomes one malformed call."""

MAX_NAME = 200
"""Maximum length of a tool name in characters."""

_ACTION = re.compile(r"<(/?)(search|visual_query|request_grounding|answer)\s{0,8}(/?)>", re.IGNORECASE)
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\Z))|,(?=\s{0,80}[}\]])', re.DOTALL)
_SPACE = re.compile(r"\s*")
_OPENING, _CLOSING = "<tool_call>", "</tool_call>"


class ParsedText(NamedTuple):
    """Reply split into text and calls."""

    text: str
    """The reply without its calls."""
    calls: tuple[ToolCall, ...]
    """Calls in order, with ids that are unique in the reply: call_1, call_2, ..."""


class Dialect(Protocol):
    """Interface of a text format of tool calls."""

    @property
    def name(self) -> str:
        """Name in `DIALECTS`."""
        ...

    def explain(self, specs: Sequence[ToolSpec]) -> str:
        """Instructions for a system message: the tools and the format of a call."""
        ...

    def render_calls(self, calls: Sequence[ToolCall]) -> str:
        """Text of the calls of an earlier reply, in the format of the model."""
        ...

    def render_result(self, result: ToolResult) -> str:
        """Text of the result of a call, in the format of the model."""
        ...

    def parse(self, text: str) -> ParsedText:
        """Split a reply into its text and its calls."""
        ...


class _Block(NamedTuple):
    """Range of a reply with calls."""

    start: int
    end: int
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class JsonTagDialect:
    """Calls as JSON objects inside <tool_call> tags, results inside <tool_response> tags."""

    name: str
    note: str = ""
    """Sentence about the arguments after the list of tools."""
    has_answer_tags: bool = False
    """Whether a reply ends with a call or an <Answer>; the last of them is used."""

    def explain(self, specs: Sequence[ToolSpec]) -> str:
        return _explanation(specs, '<tool_call>{"name": NAME, "arguments": {...}}</tool_call>', self.note)

    def render_calls(self, calls: Sequence[ToolCall]) -> str:
        return "\n".join(f"<tool_call>\n{_call_text(call)}\n</tool_call>" for call in calls)

    def render_result(self, result: ToolResult) -> str:
        return f"<tool_response>\n{result.text}\n</tool_response>"

    def parse(self, text: str) -> ParsedText:
        blocks = list(_tagged_blocks(text, without_thoughts(text)))
        answers = answer_ranges(text) if self.has_answer_tags and blocks else []
        if answers and answers[-1].start > blocks[-1].start:
            return ParsedText(text.strip(), ())
        return _split(text, blocks)


class JsonBlockDialect:
    """Calls as JSON objects in code blocks, or as the whole reply; other JSON objects are text."""

    name = "json"

    def explain(self, specs: Sequence[ToolSpec]) -> str:
        return _explanation(specs, '```json\n{"name": NAME, "arguments": {...}}\n```', "")

    def render_calls(self, calls: Sequence[ToolCall]) -> str:
        return "\n".join(f"```json\n{_call_text(call)}\n```" for call in calls)

    def render_result(self, result: ToolResult) -> str:
        return f"Result of the tool:\n{result.text}"

    def parse(self, text: str) -> ParsedText:
        return _split(text, list(_json_blocks(text, without_thoughts(text))))


@dataclass(frozen=True)
class ActionTagDialect:
    """One action tag after the reasoning, as LongVideoAgent (arXiv 2512.20618) writes them.

    An <answer> is text, not a call. Two different actions in one reply are one malformed call; neither is executed.
    """

    name: str = "tags"

    def explain(self, specs: Sequence[ToolSpec]) -> str:
        lines = [f"{_example(spec)} {spec.description}" for spec in specs]
        return "\n".join(
            [
                "Reason inside <reasoning></reasoning>, then write exactly one action:",
                *lines,
                "<answer>ANSWER</answer> Give the final answer.",
            ]
        )

    def render_calls(self, calls: Sequence[ToolCall]) -> str:
        return "".join(_action_text(call) for call in calls)

    def render_result(self, result: ToolResult) -> str:
        return f"<information>{result.text}</information>"

    def parse(self, text: str) -> ParsedText:
        actions = _actions(text)
        if not actions:
            return ParsedText(text.strip(), ())
        first, last = actions[0], actions[-1]
        if len({(action.tool, action.argument.strip()) for action in actions}) > 1 or first.tool == MALFORMED:
            return _split(text, [_Block(first.start, last.end, (_malformed(text[first.start : last.end]),))])
        if first.tool == ANSWER:
            return ParsedText(text.strip(), ())
        arguments = {} if first.tool == GROUNDING else {QUESTION: first.argument}
        call = ToolCall(id="", name=first.tool, arguments=json.dumps(arguments, ensure_ascii=False))
        return _split(text, [_Block(action.start, action.end, (call,) * (action is first)) for action in actions])


LOOK, GROUNDING, ANSWER, QUESTION = "visual_query", "request_grounding", "answer", "question"
"""Tools of the dialect `tags`, the action that is no tool, and the parameter of `visual_query`."""


@dataclass(frozen=True)
class FrameNumbering:
    """Frame numbering of a vrthinker dialect."""

    argument: str
    first: int
    """First valid number."""
    limit: int
    """Maximum number of frames per call."""

    def read(self, arguments: str) -> list[int]:
        """Frame numbers of a call. `ValueError`: they are invalid; the message is returned to the model."""
        try:
            fields: object = json.loads(arguments)
        except (ValueError, RecursionError):
            raise ValueError("the arguments are no JSON object") from None
        if not isinstance(fields, dict) or self.argument not in fields:
            raise ValueError(f"the argument {self.argument} is missing")
        values = cast("dict[str, object]", fields)[self.argument]
        if not isinstance(values, list) or not values:
            raise ValueError(f"{self.argument} is a list of at least one number")
        return [_whole(value, self.argument) for value in cast("list[object]", values)]

    def select(self, numbers: Sequence[int], count: int) -> FrameSelection:
        """Select the frames to show of `count` valid numbers: in range, without repeats, not more than `limit`."""
        valid_range = range(self.first, self.first + count)
        counts = Counter(number for number in numbers if number in valid_range)
        unique = tuple(counts)
        return FrameSelection(
            numbers=unique[: self.limit],
            out_of_range=tuple(number for number in numbers if number not in valid_range),
            over_limit=unique[self.limit :],
            repeated=tuple(number for number, uses in counts.items() if uses > 1),
        )

    def slot(self, number: int, count: int) -> tuple[int, int]:
        """(video 1 or 2, 0-based position in it) of a number over the concatenation of two videos of `count` frames."""
        video, position = divmod(number - self.first, count // 2)
        return video + 1, position


class FrameSelection(NamedTuple):
    """Frame numbers of a call: `numbers` are shown in order of the call; the other fields are reported to the model."""

    numbers: tuple[int, ...]
    out_of_range: tuple[int, ...]
    over_limit: tuple[int, ...]
    repeated: tuple[int, ...]


PAIR_NUMBERING = FrameNumbering("frame_indices", first=0, limit=12)
"""Numbering with index i for both videos of a pair."""

CONCAT_NUMBERING = FrameNumbering("target_frames", first=1, limit=8)
"""Numbering over the concatenation of both videos: the first half is video 1."""

DialectName = Literal["hermes", "json", "vrthinker", "vrthinker-concat"]
"""Dialect of a model, as its setting `tool_dialect`; `tags` is for tools of its own only."""

HERMES = JsonTagDialect("hermes")
DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        HERMES,
        JsonBlockDialect(),
        ActionTagDialect(),
        JsonTagDialect(
            "vrthinker",
            note="frame_indices counts from 0; each index shows that frame of both videos, at most 12 in a call.",
            has_answer_tags=True,
        ),
        JsonTagDialect(
            "vrthinker-concat",
            note="target_frames counts from 1 over both videos in a row, video 1 first; at most 8 in a call.",
            has_answer_tags=True,
        ),
    )
}


def tool_dialect_settings(name: str) -> Mapping[str, str]:
    """The setting `tool_dialect` as a part of a run's identity; empty for the default."""
    return {} if name == HERMES.name else {"tool_dialect": name}


def to_text_messages(
    messages: Sequence[Message], tools: Sequence[ToolSpec], dialect: Dialect = HERMES
) -> list[Message]:
    """Write tools, calls and results as text, for a model with the roles system, user and assistant only.

    The results of one reply, each followed by its images, become one user message. `ValueError`: a call without
    exactly one result.
    """
    check_tool_messages(messages)
    converted: list[Message] = []
    results: list[Part] = []
    for message in messages:
        if message.role == "tool":
            results += _result_parts(message, dialect)
            continue
        if results:
            converted.append(Message("user", tuple(results)))
            results = []
        converted.append(_without_calls(message, dialect) if message.calls else message)
    if results:
        converted.append(Message("user", tuple(results), answer_fields=messages[-1].answer_fields))
    return _with_instructions(converted, dialect.explain(tools)) if tools else converted


def with_text_calls(reply: Reply, dialect: Dialect = HERMES) -> Reply:
    """The reply with the calls in its text as `calls`; a reply at its token limit keeps `finish="length"`."""
    text, calls = dialect.parse(reply.text)
    finish = "tool_calls" if calls and reply.finish == "stop" else reply.finish
    return replace(reply, text=text, calls=calls, finish=finish)


def template_calls(message: Message) -> dict[str, object]:
    """The field `tool_calls` of a message for a chat template of transformers; empty without calls."""
    if not message.calls:
        return {}
    functions = [{"name": call.name, "arguments": _argument_value(call.arguments)} for call in message.calls]
    return {"tool_calls": [{"type": "function", "function": function} for function in functions]}


def template_writes_calls(render: Callable[[list[dict[str, object]], list[dict[str, object]]], str]) -> bool:
    """Whether a chat template writes tools, calls and results, and calls as the dialect `hermes` does.

    Many templates drop them silently (Qwen2.5-VL's does), so that a sample conversation is rendered.

    Args:
        render: renders messages and the field `tools` of a request.
    """
    call = ToolCall(id="call_1", name="probe_tool", arguments='{"probe_key": "probe value"}')
    content = {"user": "probe question", "assistant": "", "tool": "probe result"}
    chat = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        | (template_calls(Message("assistant", (), calls=(call,))) if role == "assistant" else {})
        for role, text in content.items()
    ]
    parameters: dict[str, object] = {"type": "object", "properties": {}}
    function: dict[str, object] = {"name": call.name, "description": "probe description", "parameters": parameters}
    try:
        text = render(chat, [{"type": "function", "function": function}])
    except Exception:  # noqa: BLE001  (a template is code of the checkpoint)
        return False
    calls = [(parsed.name, _decoded(parsed.arguments)) for parsed in HERMES.parse(text).calls]
    is_call_written = (call.name, _decoded(call.arguments)) in calls
    return is_call_written and "probe description" in text and "probe result" in text


def _argument_value(arguments: str) -> object:
    value = _decoded(arguments)
    return cast("object", value) if isinstance(value, dict) else {"raw": arguments}


def _result_parts(message: Message, dialect: Dialect) -> Iterator[Part]:
    text = "\n".join(part for part in message.parts if isinstance(part, str))
    yield dialect.render_result(ToolResult(call=message.call_id or "", ok=True, text=text))
    yield from (part for part in message.parts if not isinstance(part, str))


def _without_calls(message: Message, dialect: Dialect) -> Message:
    texts = [part for part in message.parts if isinstance(part, str)]
    return replace(message, parts=("\n".join([*texts, dialect.render_calls(message.calls)]),), calls=())


def _with_instructions(messages: list[Message], instructions: str) -> list[Message]:
    if not messages or messages[0].role != "system":
        return [Message("system", (instructions,)), *messages]
    first = messages[0]
    return [replace(first, parts=(*first.parts, f"\n\n{instructions}")), *messages[1:]]


def _explanation(specs: Sequence[ToolSpec], form: str, note: str) -> str:
    lines = [
        json.dumps(
            {"name": spec.name, "description": spec.description, "parameters": spec.parameters}, ensure_ascii=False
        )
        for spec in specs
    ]
    heads = ["You can call these tools:", *lines, *([note] if note else []), "Write a call in this form, then stop:"]
    return "\n".join([*heads, form])


def _call_text(call: ToolCall) -> str:
    """Text of a call: one JSON object; a malformed call as it was written."""
    if call.name == MALFORMED:
        return call.arguments
    value = _decoded(call.arguments)
    arguments = call.arguments if value is None else value
    return json.dumps({"name": call.name, "arguments": arguments}, ensure_ascii=False)


def _split(text: str, blocks: Sequence[_Block]) -> ParsedText:
    """Text without the blocks, and their calls with ids."""
    outside: list[str] = []
    end = 0
    for block in blocks:
        outside.append(text[end : block.start])
        end = block.end
    calls = [call for block in blocks for call in block.calls]
    if len(calls) > MAX_CALLS:
        calls = [*calls[:MAX_CALLS], _malformed("\n".join(map(_call_text, calls[MAX_CALLS:])))]
    numbered = tuple(
        ToolCall(id=f"call_{number}", name=valid(call.name), arguments=valid(call.arguments))
        for number, call in enumerate(calls, start=1)
    )
    return ParsedText("".join([*outside, text[end:]]).strip(), numbered)


def _tagged_blocks(text: str, visible: str) -> Iterator[_Block]:
    start = visible.find(_OPENING)
    for _ in range(MAX_CALLS):
        if start < 0:
            return
        inner = start + len(_OPENING)
        value, end = _value_at(text, inner)
        if end is None:  # what is not JSON ends with its tag, the next call or the text
            end = min(place if (place := text.find(tag, inner)) >= 0 else len(text) for tag in (_CLOSING, _OPENING))
            value = _decoded(_unfenced(text[inner:end]))
        calls = _calls(value) or (_malformed(text[inner:end].strip()),)
        end += len(_CLOSING) if text.startswith(_CLOSING, end) else 0
        yield _Block(start, end, calls)
        start = visible.find(_OPENING, end)
    if start >= 0:
        yield _Block(start, len(text), (_malformed(text[start:]),))


def _json_blocks(text: str, visible: str) -> Iterator[_Block]:
    stripped = visible.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        yield from _json_block(text, visible.index("{"), visible.rindex("}") + 1)
        return
    fences = [fence.start() for fence in re.finditer("```", visible)]
    for opened, closed in zip(fences[::2], [*fences[1::2], len(text)], strict=False):
        yield from _json_block(text, opened, min(closed + 3, len(text)))


def _json_block(text: str, start: int, end: int) -> Iterator[_Block]:
    """Yield the block of a code block with calls; nothing for one without, such as an answer."""
    content = _unfenced(text[start:end])
    value = _decoded(content)
    if calls := _calls(value):
        yield _Block(start, end, calls)
    elif value is None and '"name"' in content and '"arguments"' in content:
        yield _Block(start, end, (_malformed(content),))


class _Action(NamedTuple):
    """Action tag with its argument."""

    tool: str
    argument: str
    start: int
    end: int


def _actions(text: str) -> list[_Action]:
    """Action tags outside the reasoning; a tag without end is a malformed call up to the end of the text."""
    tags = list(_ACTION.finditer(without_thoughts(text)))
    closings: dict[str, list[int]] = {}
    for place, tag in enumerate(tags):
        if tag[1]:
            closings.setdefault(tag[2].lower(), []).append(place)
    actions: list[_Action] = []
    place = 0
    while place < len(tags):
        tag = tags[place]
        place += 1
        if tag[1]:
            continue
        name = tag[2].lower()
        places = closings.get(name, [])
        position = bisect.bisect_left(places, place)
        closed = places[position] if position < len(places) and not tag[3] else None
        if name == GROUNDING:
            is_pair = closed == place
            actions.append(_Action(GROUNDING, "", tag.start(), tags[place].end() if is_pair else tag.end()))
            place += is_pair
        elif closed is None:
            actions.append(_Action(MALFORMED, "", tag.start(), len(text)))
            break
        else:
            tool = ANSWER if name == ANSWER else LOOK
            actions.append(_Action(tool, text[tag.end() : tags[closed].start()], tag.start(), tags[closed].end()))
            place = closed + 1
    return actions


def _example(spec: ToolSpec) -> str:
    if spec.name == GROUNDING:
        return "<request_grounding/>"
    if spec.name == LOOK:
        return "<search>QUESTION</search>"
    raise ValueError(f"the dialect tags has the tools {LOOK} and {GROUNDING}, got {spec.name!r}: use hermes or json")


def _action_text(call: ToolCall) -> str:
    if call.name == GROUNDING:
        return "<request_grounding/>"
    value = _decoded(call.arguments)
    question = cast("dict[str, object]", value).get(QUESTION) if isinstance(value, dict) else None
    return f"<search>{question}</search>" if call.name == LOOK and question is not None else call.arguments


def _calls(value: object) -> tuple[ToolCall, ...]:
    """Calls of a JSON value: an object, or a list of objects; () = none."""
    entries = cast("list[object]", value) if isinstance(value, list) else [value]
    calls = [_call(entry) for entry in entries]
    return tuple(call for call in calls if call is not None) if None not in calls else ()


def _call(entry: object) -> ToolCall | None:
    """Call of a JSON object: {"name", "arguments"}, or the same inside {"function": ...}."""
    if not isinstance(entry, dict):
        return None
    fields = cast("dict[str, object]", entry)
    if isinstance(function := fields.get("function"), dict):
        fields = cast("dict[str, object]", function)
    name = fields.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        return None
    arguments = fields.get("arguments", fields.get("parameters", {}))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id="", name=name, arguments=text)


def _malformed(raw: str) -> ToolCall:
    return ToolCall(id="", name=MALFORMED, arguments=raw)


def _value_at(text: str, place: int) -> tuple[object, int | None]:
    """JSON value at a position and the end of its block (before a tag, or the end of the text); (None, None) = none."""
    try:
        value, end = _DECODER.raw_decode(text, _skip_space(text, place))
    except (ValueError, RecursionError):
        return None, None
    end = _skip_space(text, end)
    return (value, end) if end == len(text) or text.startswith((_OPENING, _CLOSING), end) else (None, None)


def _skip_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return place if match is None else match.end()


def _unfenced(text: str) -> str:
    """Text without the marks of a code block around it."""
    stripped = text.strip()
    if not stripped.startswith("```"):
        return stripped
    return stripped.removeprefix("```").removeprefix("json").removesuffix("```").strip()


def _decoded(text: str) -> object:
    """JSON value of a text, with or without trailing commas; None = not JSON."""
    for candidate in (text.strip(), _TRAILING_COMMA.sub(r"\1", text).strip()):
        try:
            value, end = _DECODER.raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        if end == len(candidate):
            return value
    return None


def _whole(value: object, name: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s{0,8}-?\d{1,9}\s{0,8}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{name} holds whole numbers, got {json.dumps(value)[:40]}")
    return int(value)


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no number of JSON")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_constant)
