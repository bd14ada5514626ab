"""Tool calls, tool results, images in memory and decoding through the adapters of APIs, by a real server."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_api_bodies import server, shared_server
from test_api_models import KEY, FaultServer, clip, compatible, gemini

from evqa.models import messages
from evqa.models.base import Model, ModelError
from evqa.models.messages import Decoding, ImagePart, Message, ToolSpec, VideoPart
from evqa.models.tool_dialects import MALFORMED
from evqa.schema import ToolCall

pytest.importorskip("openai")
pytest.importorskip("google.genai")
__all__ = ["clip", "server", "shared_server"]

ORACLES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "agents"
PARAMETERS = {"type": "object", "properties": {"frame_ids": {"type": "array", "items": {"type": "integer"}}}}
TOOLS = (ToolSpec("get_frames_by_id", "Show frames.", PARAMETERS),)
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
FRAME = np.full((16, 24, 3), 200, dtype=np.uint8)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "EVQA_SERVER_KEY"):
        monkeypatch.setenv(name, KEY)


def completion(message: Mapping[str, Any], finish: str | None = "stop") -> dict:
    choice = {"index": 0, "message": {"role": "assistant"} | dict(message), "finish_reason": finish}
    return {"model": "m", "choices": [choice], "usage": USAGE}


def openai_call(identifier: str, name: str, arguments: object) -> dict:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def gemini_response(parts: list[dict], finish: str = "STOP") -> dict:
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3"}


def plan(server: FaultServer, *answers: object) -> None:
    server.plan(*({"body": answer} for answer in answers))  # type: ignore[arg-type]


def bodies(server: FaultServer) -> list[dict]:
    return [request["body"] for request in server.stats()["requests"]]


def ask(text: str = "Which?") -> list[Message]:
    return [Message("user", (text,))]


# What is read


def test_a_reply_of_calls_alone_is_one_request_and_no_empty_reply(server: FaultServer) -> None:
    call = openai_call("c1", "get_frames_by_id", '{"frame_ids": [3]}')
    plan(server, completion({"content": None, "tool_calls": [call]}, "tool_calls"))
    before = len(bodies(server))
    reply = compatible(server.url).generate(ask(), tools=TOOLS)
    assert len(bodies(server)) == before + 1
    assert (reply.text, reply.finish) == ("", "tool_calls")
    assert reply.calls == (ToolCall(id="c1", name="get_frames_by_id", arguments='{"frame_ids": [3]}'),)
    assert reply.usage is not None
    assert reply.usage.num_attempts == 1


def test_a_gemini_reply_of_calls_alone_is_one_request_and_no_empty_reply(server: FaultServer) -> None:
    plan(server, gemini_response([{"functionCall": {"name": "get_frames_by_id", "args": {"frame_ids": [3]}}}]))
    before = len(bodies(server))
    reply = gemini(server.url).generate(ask(), tools=TOOLS)
    assert len(bodies(server)) == before + 1
    assert (reply.text, reply.finish) == ("", "tool_calls")
    assert reply.calls == (ToolCall(id="call_1", name="get_frames_by_id", arguments='{"frame_ids": [3]}'),)


@pytest.mark.parametrize(
    ("message", "calls"),
    [
        ({"tool_calls": [openai_call("a", "f", {"x": 1})]}, [("a", "f", '{"x": 1}')]),
        ({"tool_calls": [openai_call("a", "f", None)]}, [("a", "f", "")]),
        (
            {"tool_calls": [openai_call("a", "f", "{}"), openai_call("a", "g", "{}"), openai_call("", "h", "{}")]},
            [("a", "f", "{}"), ("a_2", "g", "{}"), ("call_3", "h", "{}")],
        ),
        ({"function_call": {"name": "f", "arguments": "{}"}}, [("call_1", "f", "{}")]),
        ({"tool_calls": [{"id": "a", "type": "function"}]}, [("a", MALFORMED, '{"id": "a", "type": "function"}')]),
        ({"tool_calls": [openai_call("a", "f", '{"x": [1, 2')]}, [("a", "f", '{"x": [1, 2')]),
    ],
)
def test_calls_are_read_in_every_form(server: FaultServer, message: dict, calls: list[tuple[str, str, str]]) -> None:
    plan(server, completion({"content": "I look."} | message))
    reply = compatible(server.url).generate(ask(), tools=TOOLS)
    assert (reply.text, reply.finish) == ("I look.", "tool_calls")
    assert [(call.id, call.name, call.arguments) for call in reply.calls] == calls


def test_the_pieces_of_a_streamed_call_are_joined(server: FaultServer) -> None:
    deltas = [
        {"content": "I "},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]},
        {"content": "look.", "tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas] + [{"choices": [], "usage": USAGE}]
    plan(server, "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks))
    reply = compatible(server.url).generate(ask(), tools=TOOLS)
    assert reply.text == "I look."
    assert [(call.id, call.name, call.arguments) for call in reply.calls] == [("a", "f", '{"x": 1}'), ("b", "g", "{}")]


def test_a_key_in_a_call_is_hidden(server: FaultServer) -> None:
    plan(server, completion({"tool_calls": [openai_call("a", "f", json.dumps({"key": KEY}))]}))
    assert compatible(server.url).generate(ask(), tools=TOOLS).calls[0].arguments == '{"key": "[key]"}'


def test_a_reply_without_text_and_calls_is_still_empty(server: FaultServer) -> None:
    plan(server, *[completion({"content": None, "tool_calls": []})] * 2)
    with pytest.raises(ModelError, match="the reply is empty"):
        compatible(server.url).generate(ask(), tools=TOOLS)


# What is sent


def session(reply_calls: tuple[ToolCall, ...], raw: object = None) -> list[Message]:
    """A conversation in which two calls were answered, the first with an image."""
    image = ImagePart(image=FRAME, second=2.5)
    return [
        *ask(),
        Message("assistant", ("Two looks.",), calls=reply_calls, raw=raw),
        Message("tool", ("Frame 3.", image), call_id=reply_calls[0].id),
        Message("tool", ("No frame 99.",), call_id=reply_calls[1].id),
    ]


CALLS = tuple(ToolCall(id=name, name="get_frames_by_id", arguments='{"frame_ids": [3]}') for name in ("a", "b"))


def test_tools_calls_and_results_are_sent_in_openais_form(server: FaultServer) -> None:
    compatible(server.url).generate([*session(CALLS), Message("user", ("1 call left.",), ("answer",))], tools=TOOLS)
    body = bodies(server)[-1]
    assert body["tools"][0]["function"]["parameters"] == PARAMETERS
    assert "response_format" not in body  # tools and a form of the text exclude each other
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    _, assistant, first, second, images = body["messages"]
    assert assistant["content"] == "Two looks."
    assert [call["id"] for call in assistant["tool_calls"]] == ["a", "b"]
    assert assistant["tool_calls"][0]["function"] == {"name": "get_frames_by_id", "arguments": '{"frame_ids": [3]}'}
    assert (first["tool_call_id"], first["content"]) == ("a", "Frame 3.")
    assert (second["tool_call_id"], second["content"]) == ("b", "No frame 99.")
    assert [part["type"] for part in images["content"]] == ["text", "image_url", "text"]
    assert (images["content"][0]["text"], images["content"][2]["text"]) == ("[2.5 s]", "1 call left.")


def test_images_of_results_that_end_a_conversation_follow_in_one_message(server: FaultServer) -> None:
    compatible(server.url).generate(session(CALLS), tools=TOOLS)
    sent = bodies(server)[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert [part["type"] for part in sent[-1]["content"]] == ["text", "image_url"]


def test_arguments_that_are_no_json_are_sent_as_json(server: FaultServer) -> None:
    broken = (CALLS[0].model_copy(update={"arguments": '{"frame_ids": [3'}), CALLS[1])
    compatible(server.url).generate(session(broken), tools=TOOLS)
    call = bodies(server)[-1]["messages"][1]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"raw": '{"frame_ids": [3'}


def test_a_gemini_reply_goes_back_as_it_came(server: FaultServer) -> None:
    parts = [
        {"text": "thinking", "thought": True, "thoughtSignature": "a+b/c="},
        {
            "functionCall": {"id": "x1", "name": "get_frames_by_id", "args": {"frame_ids": [3]}},
            "newField": {"snake_key": 1},
        },
        {"functionCall": {"name": "get_frames_by_id", "args": {"frame_ids": [99]}}, "thoughtSignature": "d+e/f="},
    ]
    plan(server, gemini_response(parts))
    model = gemini(server.url)
    reply = model.generate(ask(), tools=TOOLS)
    assert [call.id for call in reply.calls] == ["x1", "call_2"]
    model.generate(
        [
            *ask(),
            reply.message(),
            Message("tool", ("Frame 3.", ImagePart(image=FRAME, second=2.5)), call_id="x1"),
            Message("tool", ("No frame 99.",), call_id="call_2"),
        ],
        tools=TOOLS,
    )
    body = bodies(server)[-1]
    assert body["contents"][1] == {"role": "model", "parts": parts}
    responses = [part["functionResponse"] for part in body["contents"][2]["parts"]]
    assert responses == [
        {"id": "x1", "name": "get_frames_by_id", "response": {"result": "Frame 3."}},
        {"name": "get_frames_by_id", "response": {"result": "No frame 99."}},
    ]
    assert [list(part) for part in body["contents"][3]["parts"]] == [["text"], ["inlineData"]]
    assert body["contents"][3]["parts"][0] == {"text": "[2.5 s]"}
    (tool,) = body["tools"]
    (declaration,) = tool["functionDeclarations"]
    assert declaration["parametersJsonSchema"] == PARAMETERS


def test_calls_of_another_model_are_sent_in_geminis_form(server: FaultServer) -> None:
    gemini(server.url).generate(session(CALLS), tools=TOOLS)
    _, assistant, results, _ = bodies(server)[-1]["contents"]
    assert assistant["role"] == "model"
    assert assistant["parts"][0] == {"text": "Two looks."}
    call = {"id": "a", "name": "get_frames_by_id", "args": {"frame_ids": [3]}}
    assert assistant["parts"][1] == {"functionCall": call}
    assert [part["functionResponse"]["id"] for part in results["parts"]] == ["a", "b"]


@pytest.mark.parametrize("build", [compatible, gemini])
@pytest.mark.parametrize(
    ("results", "message"), [(["a"], "'b' has no tool message"), (["a", "b", "b"], "'b' needs exactly one")]
)
def test_a_missing_or_repeated_result_is_refused_before_anything_is_sent(
    server: FaultServer, build: Any, results: list[str], message: str
) -> None:
    before = len(bodies(server))
    conversation = [*ask(), Message("assistant", (), calls=CALLS)]
    conversation += [Message("tool", ("r",), call_id=name) for name in results]
    with pytest.raises(ValueError, match=message):
        build(server.url).generate(conversation, tools=TOOLS)
    assert len(bodies(server)) == before


@pytest.mark.parametrize("build", [compatible, gemini])
def test_an_image_in_memory_follows_its_time_mark(server: FaultServer, build: Any) -> None:
    image = ImagePart(image=FRAME, second=7.25)
    build(server.url).generate([Message("user", ("Look.", image, ImagePart(image=FRAME), "What?"))])
    body = bodies(server)[-1]
    parts = body["messages"][0]["content"] if "messages" in body else body["contents"][0]["parts"]
    assert [part.get("text") for part in parts] == ["Look.", "[7.2 s]", None, None, "What?"]


def test_a_video_in_a_system_message_is_refused_by_gemini(server: FaultServer, clip: Path) -> None:
    with pytest.raises(ValueError, match="system message for Gemini is text, got a VideoPart"):
        gemini(server.url).generate([Message("system", ("Watch", VideoPart(clip))), *ask()])


@pytest.mark.parametrize("build", [compatible, gemini])
def test_decoding_of_a_call_replaces_the_settings_of_the_model(server: FaultServer, build: Any) -> None:
    model: Model = build(server.url, temperature=0.0, max_tokens=100)
    model.generate(ask(), decoding=Decoding(temperature=0.7, top_p=0.9, seed=3, max_tokens=20, stop=("END",)))
    body = bodies(server)[-1]
    model.generate(ask())
    default = bodies(server)[-1]
    if "generationConfig" in body:
        sent, default = body["generationConfig"], default["generationConfig"]
        names = ("temperature", "topP", "seed", "maxOutputTokens", "stopSequences")
    else:
        sent, names = body, ("temperature", "top_p", "seed", "max_tokens", "stop")
    assert [sent[name] for name in names] == [0.7, 0.9, 3, 20, ["END"]]
    assert [default.get(name) for name in names] == [0.0, None, None, 100, None]


def test_images_in_memory_have_keys_of_their_own() -> None:
    same, other = ImagePart(image=FRAME.copy()), ImagePart(image=FRAME[:8])
    key = messages.conversation_key
    assert key([Message("user", (ImagePart(image=FRAME),))]) == key([Message("user", (same,))])
    assert key([Message("user", (same,))]) != key([Message("user", (other,))])
    assert "array" not in key([Message("user", (same,))])


@pytest.mark.skipif(not ORACLES.is_dir(), reason=f"no recorded agents in {ORACLES}")
def test_recorded_calls_of_the_retrieval_agent_are_read_and_sent_back(server: FaultServer) -> None:
    script = json.loads((ORACLES / "retrieve" / "expected.json").read_text(encoding="utf-8"))["conversations"]
    entries = [entry for conversation in script for entry in conversation["script"] if entry.get("tool_calls")]
    model = compatible(server.url)
    for entry in entries:
        written = [openai_call(call["id"], call["name"], call["arguments"]) for call in entry["tool_calls"]]
        plan(server, completion({"content": entry["content"], "tool_calls": written}, "tool_calls"))
        reply = model.generate(ask(), tools=TOOLS)
        assert [call.model_dump() for call in reply.calls] == entry["tool_calls"]
        assert reply.text == (entry["content"] or "")
        results = [Message("tool", ("ok",), call_id=call.id) for call in reply.calls]
        model.generate([*ask(), reply.message(), *results], tools=TOOLS)
        sent = bodies(server)[-1]["messages"]
        assert [message.get("tool_call_id") for message in sent[2:]] == [call["id"] for call in entry["tool_calls"]]
        assert sent[1]["content"] == entry["content"]
    assert len(entries) > 20


def test_everything_that_an_adapter_reads_reaches_the_caller(server: FaultServer) -> None:
    plan(server, gemini_response([{"text": "B", "thoughtSignature": "c2ln"}]))
    reply = gemini(server.url).generate(ask())
    assert reply.raw == {"role": "model", "parts": [{"text": "B", "thoughtSignature": "c2ln"}]}
    assert replace(reply, usage=None, raw=None) == messages.Reply("B")
