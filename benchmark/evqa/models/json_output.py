"""JSON schema of a reply, for servers with structured output."""

from __future__ import annotations

from collections.abc import Sequence

from evqa.schema import AnswerField

Json = dict[str, object]

NAMES: dict[AnswerField, str] = {"answer": "answer", "spans": "segments", "expressions": "referring_expressions"}
"""Requested field -> its key in the JSON object that the prompt describes."""

VALUES: dict[AnswerField, Json] = {
    "answer": {"type": "string"},
    "spans": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    "expressions": {"type": "array", "items": {"type": "string"}},
}


def json_schema(keys: Sequence[AnswerField]) -> Json:
    """Schema of an object with exactly these keys, in the subset of OpenAI's strict mode, Gemini and vLLM."""
    properties = {NAMES[key]: VALUES[key] for key in keys}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
