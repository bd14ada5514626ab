"""The JSON schema of a reply, for servers that hold a model to one."""

from __future__ import annotations

from collections.abc import Sequence

from evqa.schema import AnswerField

Json = dict[str, object]

NAMES: dict[AnswerField, str] = {"answer": "answer", "spans": "segments", "expressions": "referring_expressions"}
"""What the prompt asks for -> the key of the object that it names."""

VALUES: dict[AnswerField, Json] = {
    "answer": {"type": "string"},
    "spans": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    "expressions": {"type": "array", "items": {"type": "string"}},
}


def json_schema(keys: Sequence[AnswerField]) -> Json:
    """An object with exactly these keys, in the subset that OpenAI's strict mode, Gemini and vLLM all take."""
    properties = {NAMES[key]: VALUES[key] for key in keys}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
