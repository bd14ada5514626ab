"""Messages in the form of Gemini's protocol (generateContent, v1beta): contents with parts."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from evqa.models.api import body
from evqa.models.api.body import Json
from evqa.models.frame_policy import with_time_marks
from evqa.models.messages import ImagePart, Message, ToolSpec, with_unique_ids
from evqa.models.tool_dialects import MALFORMED
from evqa.models.tool_images import place_tool_images
from evqa.schema import ImageTransport, ToolCall

SKIPPED_SIGNATURE = "skip_thought_signature_validator"
"""In place of the thought signature of a call that another model made; Gemini 3 refuses calls without one
(https://ai.google.dev/gemini-api/docs/thought-signatures)."""


@dataclass(frozen=True)
class ContentFormat:
    """Differences between conversations with models of this protocol."""

    write_parts: Callable[[Message], Iterable[Json]]
    """Writes the parts of a message without calls."""
    write_image: Callable[[ImagePart], Json]
    """Writes the data of an image as `inlineData`."""
    tool_images: ImageTransport = "user"
    needs_signatures: bool = False
    """Whether calls need a thought signature (Gemini 3 and later)."""


def contents(messages: Sequence[Message], content_format: ContentFormat) -> list[Json]:
    """Contents of a conversation without its system messages.

    An assistant message with `raw` is sent back unchanged, with its thought signatures. The tool results of one reply
    form one content.

    Args:
        messages: the conversation. `ValueError`: a tool call has not exactly one result.
        content_format: how parts, images and calls are written.
    """
    result: list[Json] = []
    names: dict[str, Json] = {}
    signature: Json = {"thoughtSignature": SKIPPED_SIGNATURE} if content_format.needs_signatures else {}
    conversation = place_tool_images(
        [message for message in messages if message.role != "system"], content_format.tool_images
    )
    for role, group in itertools.groupby(conversation, key=lambda message: message.role):
        if role == "tool":
            responses = [_response(message, names, content_format.write_image) for message in group]
            result.append({"role": "user", "parts": responses})
            continue
        for message in group:
            names = {call.id: _function_name(call, message.raw) for call in message.calls}
            content = _raw_content(message.raw) if role == "assistant" else None
            calls = [_call(call) | signature for call in message.calls]
            result.append(content or {"role": ROLES[role], "parts": [*content_format.write_parts(message), *calls]})
    return result


ROLES = {"user": "user", "assistant": "model"}


def system_text(messages: Sequence[Message]) -> str:
    """Text of the system messages. `ValueError`: one contains a video or image, which the protocol does not allow."""
    parts = [part for message in messages if message.role == "system" for part in message.parts]
    if odd := [part for part in parts if not isinstance(part, str)]:
        raise ValueError(
            f"a system message for Gemini is text, got a {type(odd[0]).__name__}: put it in a user message"
        )
    return "\n".join(part for part in parts if isinstance(part, str))


def declarations(tools: Sequence[ToolSpec]) -> list[Json]:
    """Tools as the field `tools` of a request."""
    functions = [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": dict(tool.parameters)}
        for tool in tools
    ]
    return [{"functionDeclarations": functions}]


def inline(mime_type: str, content: bytes) -> Json:
    """A part with the bytes of a file."""
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(content).decode("ascii")}}


def read_calls(parts: Sequence[Mapping[str, object]]) -> tuple[ToolCall, ...]:
    """Tool calls in the parts of a reply; calls without an id are numbered call_1, call_2, ..."""
    functions = [function for part in parts if (function := body.json_object(part.get("functionCall")))]
    return with_unique_ids([_read_call(function) for function in functions])


def _read_call(function: Json) -> ToolCall:
    identifier, name = body.name(function.get("id")) or "", body.name(function.get("name"))
    arguments = body.valid(json.dumps(function.get("args") or {}, ensure_ascii=False))
    if name is None:
        return ToolCall(id=identifier, name=MALFORMED, arguments=body.valid(json.dumps(function, ensure_ascii=False)))
    return ToolCall(id=identifier, name=name, arguments=arguments)


def _raw_content(raw: object) -> Json | None:
    """`Message.raw` as a content of this protocol; None = not one."""
    content = cast("Json", raw) if isinstance(raw, dict) else {}
    return {"role": "model"} | {key: value for key, value in content.items() if value} if content.get("parts") else None


def _function_name(call: ToolCall, raw: object) -> Json:
    """Fields of a function response that identify its call: the name, and the id if the server assigned one."""
    content = _raw_content(raw)
    if content is None:
        return {"id": call.id, "name": call.name}
    functions = [body.json_object(part.get("functionCall")) for part in body.objects(content["parts"])]
    is_known = any(function.get("id") == call.id for function in functions)
    return {"id": call.id, "name": call.name} if is_known else {"name": call.name}


def _call(call: ToolCall) -> Json:
    arguments = body.strict_object(call.arguments)
    value = {"raw": call.arguments} if arguments is None else arguments
    return {"functionCall": {"id": call.id, "name": call.name, "args": value}}


def _response(message: Message, names: Mapping[str, Json], write_image: Callable[[ImagePart], Json]) -> Json:
    """The result of a call; its images are parts of the response, and their names stand in its text."""
    lines: list[str] = []
    parts: list[Json] = []
    for part in with_time_marks(message.parts):
        if isinstance(part, str):
            lines.append(part)
        elif isinstance(part, ImagePart):
            name = f"image_{len(parts) + 1}.jpg"
            lines.append(f"({name})")
            parts.append({"inlineData": body.json_object(write_image(part)["inlineData"]) | {"displayName": name}})
    images: Json = {"parts": parts} if parts else {}
    return {"functionResponse": names[message.call_id or ""] | {"response": {"result": "\n".join(lines)}} | images}
