"""What a server of an API may answer, by a real one: what is read of it, what it costs, how often it is asked."""

import datetime
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from test_api_models import KEY, FaultServer, write_dataset

from evqa import datasets, media, models
from evqa.__main__ import main
from evqa.methods.single_turn import single_turn
from evqa.models.api import body, prices, server_errors
from evqa.models.base import Model, ModelError, Models, RunAborted
from evqa.models.messages import Message
from evqa.runs import run_folder, runner, thread_executor
from evqa.schema import Prediction

openai_api = pytest.importorskip("evqa.models.openai_chat")
gemini_api = pytest.importorskip("evqa.models.gemini_chat")

QUESTION = (Message("user", ("Which one?",)),)
PRICES: dict[str, Any] = {"price_in": 1000.0, "price_out": 1000.0}
"""Dollars a million tokens: 120 tokens in and 30 out are $0.15."""

USAGE = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}
GEMINI_USAGE = {"promptTokenCount": 120, "candidatesTokenCount": 20, "thoughtsTokenCount": 10, "totalTokenCount": 150}


@pytest.fixture(scope="module")
def shared_server() -> Iterator[FaultServer]:
    found = FaultServer()
    yield found
    found.stop()


@pytest.fixture
def server(shared_server: FaultServer) -> FaultServer:
    shared_server.plan()
    return shared_server


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "ARK_API_KEY", "GEMINI_API_KEY", "EVQA_SERVER_KEY"):
        monkeypatch.setenv(name, KEY)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    media.write_video(path, iter(np.zeros((6, 32, 32, 3), dtype=np.uint8)), 6.0)
    return path


def compatible(server: FaultServer, **settings: Any) -> Model:
    options = {"base_url": f"{server.url}/v1", "model_id": "m", "first_wait": 0.01, "timeout": 60.0} | PRICES
    return models.build("openai-compatible", **(options | settings))


def gemini(server: FaultServer, **settings: Any) -> Model:
    options = {"base_url": server.url, "first_wait": 0.01, "timeout": 60.0} | PRICES
    return models.build("gemini-2.5-pro", **(options | settings))


def num_requests(server: FaultServer) -> int:
    return len(server.stats()["requests"])


def completion(message: object, finish: object = "stop", **more: object) -> dict:
    whole = {"model": "m", "choices": [{"message": message, "finish_reason": finish}], "usage": USAGE}
    return {key: value for key, value in (whole | more).items() if value is not ...}


def response(parts: object, finish: object = "STOP", **more: object) -> dict:
    whole = {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish}]}
    return {key: value for key, value in (whole | {"usageMetadata": GEMINI_USAGE} | more).items() if value is not ...}


def reply_of(server: FaultServer, model: Model, *answers: object) -> Any:
    server.plan(*({"body": one} for one in answers))  # type: ignore[arg-type]
    return model.generate(QUESTION)


KNOWN, UNKNOWN = (120, 30), (None, None)
B = {"role": "assistant", "content": "B"}

ACCEPTED: dict[str, tuple[object, str, str, tuple[int | None, int | None]]] = {
    "content of parts": (
        completion({"content": [{"type": "text", "text": "The "}, {"type": "text", "text": "B"}]}),
        "The B",
        "stop",
        KNOWN,
    ),
    "parts without a type, of output, of words": (
        completion({"content": [{"text": "a"}, {"type": "output_text", "text": "b"}, "c", None, 7]}),
        "abc7",
        "stop",
        KNOWN,
    ),
    "parts with thinking": (
        completion(
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "A?"}]},
                    {"type": "reasoning", "text": "A!"},
                    {"type": "text", "text": None},
                    {"type": "text", "text": "B"},
                ]
            }
        ),
        "B",
        "stop",
        KNOWN,
    ),
    "an object as content": (completion({"content": {"type": "text", "text": "B"}}), "B", "stop", KNOWN),
    "a text value": (completion({"content": [{"type": "text", "text": {"value": "B"}}]}), "B", "stop", KNOWN),
    "no usage": (completion(B, usage=...), "B", "stop", UNKNOWN),
    "null usage": (completion(B, usage=None), "B", "stop", UNKNOWN),
    "empty usage": (completion(B, usage={}), "B", "stop", UNKNOWN),
    "usage of null": (completion(B, usage={"prompt_tokens": None, "completion_tokens": None}), "B", "stop", UNKNOWN),
    "partial usage": (completion(B, usage={"prompt_tokens": 120}), "B", "stop", (120, None)),
    "usage with its total": (completion(B, usage={"prompt_tokens": 120, "total_tokens": 150}), "B", "stop", KNOWN),
    "usage without reasoning": (completion(B, usage=USAGE | {"completion_tokens": 4}), "B", "stop", KNOWN),
    "negative usage": (completion(B, usage={"prompt_tokens": -1, "completion_tokens": 30}), "B", "stop", (None, 30)),
    "fractional usage": (completion(B, usage={"prompt_tokens": 120.5, "completion_tokens": 0.1}), "B", "stop", UNKNOWN),
    "usage as a whole float": (
        completion(B, usage={"prompt_tokens": 120.0, "completion_tokens": 30.0}),
        "B",
        "stop",
        KNOWN,
    ),
    "usage as text": (completion(B, usage={"prompt_tokens": "120", "completion_tokens": "30"}), "B", "stop", KNOWN),
    "usage as words": (completion(B, usage={"prompt_tokens": "many", "completion_tokens": ""}), "B", "stop", UNKNOWN),
    "usage as bool": (completion(B, usage={"prompt_tokens": True, "completion_tokens": False}), "B", "stop", UNKNOWN),
    "usage as NaN": (
        completion(B, usage={"prompt_tokens": float("nan"), "completion_tokens": float("inf")}),
        "B",
        "stop",
        UNKNOWN,
    ),
    "usage of nothing": (completion(B, usage={"prompt_tokens": 0, "completion_tokens": 0}), "B", "stop", UNKNOWN),
    "usage as a list": (completion(B, usage=[1, 2]), "B", "stop", UNKNOWN),
    "usage as a number": (completion(B, usage=150), "B", "stop", UNKNOWN),
    "usage with odd details": (
        completion(B, usage=USAGE | {"prompt_tokens_details": None, "completion_tokens_details": "none"}),
        "B",
        "stop",
        KNOWN,
    ),
    "usage of the other protocol": (
        completion(B, usage={"input_tokens": 120, "output_tokens": 30}),
        "B",
        "stop",
        KNOWN,
    ),
    "numeric model and id": (completion(B, model=7, id=7, created="x", object=None), "B", "stop", KNOWN),
    "a null choice first": (
        {"choices": [None, {"message": B, "finish_reason": "stop"}], "usage": USAGE},
        "B",
        "stop",
        KNOWN,
    ),
    "text of the older completions": (
        {"choices": [{"text": "B", "finish_reason": "stop"}], "usage": USAGE},
        "B",
        "stop",
        KNOWN,
    ),
    "a message of text": (completion("B"), "B", "stop", KNOWN),
    "an error of null": (completion(B, error=None), "B", "stop", KNOWN),
    "an empty error": (completion(B, error={"code": None, "message": ""}), "B", "stop", KNOWN),
    "a list of one": ([completion(B)], "B", "stop", KNOWN),
    "a byte order mark": ("\xef\xbb\xbf" + json.dumps(completion(B)), "B", "stop", KNOWN),
    "trailing data": (json.dumps(completion(B)) + "\n\ngarbage}", "B", "stop", KNOWN),
    "invalid UTF-8": (json.dumps(completion({"content": "B @"})).replace("@", "\xff"), "B \ufffd", "stop", KNOWN),
    "half a character": (json.dumps(completion({"content": "B @"})).replace("@", "\\ud83d"), "B \ufffd", "stop", KNOWN),
    "a raw line break": (json.dumps(completion({"content": "B@C"})).replace("@", "\n"), "B\nC", "stop", KNOWN),
    "a number of 5000 digits": (
        json.dumps(completion(B, created="@")).replace('"@"', "1" * 5000),
        "B",
        "stop",
        KNOWN,
    ),
    "repeated keys": (json.dumps(completion(B))[:-1] + ', "usage": null, "choices": null}', "B", "stop", KNOWN),
    "a stream unasked": (
        "\n\n".join(
            f"data: {json.dumps(chunk)}"
            for chunk in (
                {"model": "m", "choices": [{"delta": {"role": "assistant", "content": ""}}]},
                {"choices": [{"delta": {"content": "The "}, "finish_reason": None}]},
                {"choices": [{"delta": {"content": "B"}, "finish_reason": "stop"}]},
                {"choices": [], "usage": USAGE},
            )
        )
        + "\n\ndata: [DONE]\n\n",
        "The B",
        "stop",
        KNOWN,
    ),
    "reasoning alone": (
        completion({"content": None, "reasoning_content": "So the answer is B"}),
        "So the answer is B",
        "stop",
        KNOWN,
    ),
    "reasoning beside an answer": (completion({"content": "B", "reasoning_content": "A?"}), "B", "stop", KNOWN),
    "reasoning that was cut": (
        completion({"content": None, "reasoning_content": "A or"}, "length"),
        "",
        "length",
        KNOWN,
    ),
    "calls of tools": (
        completion({"content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}, "tool_calls"),
        "",
        "tool_calls",
        KNOWN,
    ),
    "calls that end with stop": (
        completion({"content": "I look.", "tool_calls": [{"id": "1"}], "reasoning_content": "hm"}),
        "I look.",
        "tool_calls",
        KNOWN,
    ),
    "a refusal as a part": (completion({"content": [{"type": "refusal", "refusal": "No."}]}), "No.", "refusal", KNOWN),
    "an unknown end": (completion(B, "because"), "B", "unknown", KNOWN),
    "an end of null": (completion(B, None), "B", "unknown", KNOWN),
    "an end as a number": (completion(B, 1), "B", "unknown", KNOWN),
    "max_tokens": (completion(B, "MAX_TOKENS"), "B", "length", KNOWN),
    "end_turn": (completion(B, "end_turn"), "B", "stop", KNOWN),
    "a filter": (completion({"content": None}, "content_filter"), "", "refusal", KNOWN),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_completion_is_accepted_with_what_can_be_read_of_it(name: str, server: FaultServer) -> None:
    answer, text, finish, tokens = ACCEPTED[name]
    before = num_requests(server)
    reply = reply_of(server, compatible(server), answer)
    assert (reply.text, reply.finish, (reply.usage.input_tokens, reply.usage.output_tokens)) == (text, finish, tokens)
    assert num_requests(server) - before == reply.usage.num_attempts == 1
    assert reply.usage.num_unknown == (tokens != KNOWN)
    Prediction.model_validate_json(
        Prediction(sample_id="s", status="failed", error=reply.text or "x").model_dump_json().encode()
    )


ACCEPTED_GEMINI: dict[str, tuple[object, str, str, tuple[int | None, int | None]]] = {
    "explicit nulls": (
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "B", "thought": None, "inlineData": None}], "role": None},
                    "finishReason": "STOP",
                    "safetyRatings": None,
                }
            ],
            "promptFeedback": None,
            "usageMetadata": GEMINI_USAGE | {"promptTokensDetails": None},
            "modelVersion": None,
        },
        "B",
        "stop",
        KNOWN,
    ),
    "a part of null": (response([None, {"text": None}, {"text": "B"}]), "B", "stop", KNOWN),
    "thinking": (response([{"text": "A?", "thought": True}, {"text": "B"}]), "B", "stop", KNOWN),
    "usage of null": (response([{"text": "B"}], usageMetadata=None), "B", "stop", UNKNOWN),
    "counts of null": (
        response([{"text": "B"}], usageMetadata={"promptTokenCount": None, "candidatesTokenCount": None}),
        "B",
        "stop",
        UNKNOWN,
    ),
    "counts as text": (
        response([{"text": "B"}], usageMetadata={"promptTokenCount": "120", "candidatesTokenCount": "30"}),
        "B",
        "stop",
        KNOWN,
    ),
    "a negative count": (
        response([{"text": "B"}], usageMetadata={"promptTokenCount": 120, "candidatesTokenCount": -1}),
        "B",
        "stop",
        (120, None),
    ),
    "an end of null": (response([{"text": "B"}], None), "B", "unknown", KNOWN),
    "another end": (response([{"text": "B"}], "OTHER"), "B", "unknown", KNOWN),
    "a call": (response([{"functionCall": {"name": "f"}}]), "", "tool_calls", KNOWN),
    "a numeric model": (response([{"text": "B"}], modelVersion=2.5), "B", "stop", KNOWN),
    "a list of one": ([response([{"text": "B"}])], "B", "stop", KNOWN),
    "tools are input": (
        response(
            [{"text": "B"}],
            usageMetadata={"promptTokenCount": 100, "toolUsePromptTokenCount": 20, "candidatesTokenCount": 30},
        ),
        "B",
        "stop",
        KNOWN,
    ),
}


@pytest.mark.parametrize("name", ACCEPTED_GEMINI)
def test_a_response_of_gemini_is_accepted_with_what_can_be_read_of_it(name: str, server: FaultServer) -> None:
    answer, text, finish, tokens = ACCEPTED_GEMINI[name]
    before = num_requests(server)
    reply = reply_of(server, gemini(server), answer)
    assert (reply.text, reply.finish, (reply.usage.input_tokens, reply.usage.output_tokens)) == (text, finish, tokens)
    assert num_requests(server) - before == 1


BROKEN: dict[str, tuple[object, object]] = {
    "an error with partial text": (completion(B, "error"), response([{"text": "B"}], "MALFORMED_FUNCTION_CALL")),
    "no choices": (completion(B, choices=[]), response([], candidates=[])),
    "choices of null": (completion(B, choices=None), response([], candidates=None)),
    "a choice of null": (completion(B, choices=[None]), response([], candidates=[None])),
    "no message": (completion(B, choices=[{}]), response([], candidates=[{}])),
    "a message of null": (completion(None), response([], candidates=[{"content": None, "finishReason": "STOP"}])),
    "content of null": (completion({"content": None}), response(None)),
    "content of thinking": (
        completion({"content": [{"type": "thinking", "text": "B"}]}),
        response([{"text": "B", "thought": True}]),
    ),
    "an error object with usage": (
        completion(B, choices=..., error={"message": "upstream failed", "code": 502}),
        response([], candidates=..., error={"message": "upstream failed", "code": 502}),
    ),
}


@pytest.mark.parametrize("build", [compatible, gemini])
@pytest.mark.parametrize("name", BROKEN)
def test_a_reply_that_is_charged_and_of_no_use_is_counted_each_time(name: str, build: Any, server: FaultServer) -> None:
    answer = {"body": BROKEN[name][build is gemini]}
    model = build(server, tries=3, temperature=0.7)
    server.plan(answer, answer, answer, answer)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="gave up after 3 tries") as failed:
        model.generate(QUESTION)
    usage = failed.value.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.num_unknown) == (360, 90, 0)
    assert usage.cost == pytest.approx(0.45)
    assert model.budget.usage.cost == pytest.approx(0.45)  # type: ignore[attr-defined]
    limited = build(server, tries=6, temperature=0.7, max_cost=0.4)
    before = num_requests(server)
    server.plan(*[answer] * 6)  # type: ignore[arg-type]
    with pytest.raises(RunAborted, match=r"--max-cost 0\.4"):
        limited.generate(QUESTION)
    assert num_requests(server) - before == 2, "$0.30 are spent, and a third would exceed the limit"


def test_partial_text_of_an_error_is_kept_in_the_failed_record(server: FaultServer, clip: Path, tmp_path: Path) -> None:
    data = datasets.load(str(write_dataset(tmp_path / "data", clip, 1)))
    server.plan(*[{"body": completion({"content": "The ans"}, "error")}] * 2)  # type: ignore[arg-type]
    executor = thread_executor.ThreadExecutor(Models(compatible(server, tries=2)))
    summary = runner.run_samples(
        executor,
        single_turn,
        data,
        tmp_path / "run",
        runner.identity_of(executor, "single-turn", data),
        progress=False,
    )
    record = run_folder.last_predictions(tmp_path / "run" / "predictions.jsonl")[0]
    assert (summary.num_ok, record.status, record.answer) == (0, "failed", None)
    assert (record.turns[0].reply, record.turns[0].finish) == ("The ans", "error")
    assert record.turns[0].usage is not None
    assert record.turns[0].usage.cost == pytest.approx(0.3)


@pytest.mark.parametrize(
    "answer",
    [
        *(ACCEPTED[name][0] for name in ("no usage", "partial usage", "usage as words", "usage as bool")),
        "<html><title>Sign in</title></html>",
        "",
        "{",
        "null",
        '"text"',
    ],
)
@pytest.mark.parametrize("limit", [{"max_cost": 10.0}, {"max_total_tokens": 100000}])
def test_a_reply_of_unknown_usage_ends_a_run_with_a_limit(answer: object, limit: dict, server: FaultServer) -> None:
    model = compatible(server, **limit)
    model.generate(QUESTION)
    server.plan({"body": answer})  # type: ignore[arg-type]
    before = num_requests(server)
    with suppress(RunAborted):  # one that is no answer is asked for again, and ends the run there
        model.generate(QUESTION)
    with pytest.raises(RunAborted, match=r"does not say what it took .* cannot be kept"):
        model.generate(QUESTION)
    assert num_requests(server) - before == 1


def test_without_a_limit_unknown_usage_is_told_as_unknown(
    server: FaultServer, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", clip, 3)
    command = ["predict", str(data), "openai-compatible", "--base-url", f"{server.url}/v1", "--model-id", "m"]
    command += ["--out", str(tmp_path / "run"), "--concurrency", "1", "--price-in", "1000", "--price-out", "1000"]
    server.plan({"body": completion(B, usage=None)}, {"body": "{"})  # type: ignore[arg-type]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "240 input tokens, 60 output tokens, $0.3000, 2 responses of unknown cost (prices: as given)" in told
    spent = run_folder.read_run_info(tmp_path / "run").usage
    assert (spent.num_unpriced, spent.cost) == (2, pytest.approx(0.3))


def test_a_limit_is_not_exceeded_where_replies_grow(server: FaultServer) -> None:
    small = completion(B, usage={"prompt_tokens": 1, "completion_tokens": 1})
    large = completion(B, usage={"prompt_tokens": 100, "completion_tokens": 900})
    model = compatible(server, max_cost=1.5, max_tokens=900, concurrency=8)
    server.plan({"body": small}, *[{"body": large}] * 20)  # type: ignore[arg-type]
    model.generate(QUESTION)
    stops: list[RunAborted] = []

    def ask() -> None:
        try:
            model.generate(QUESTION)
        except RunAborted as stop:
            stops.append(stop)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.budget.usage.cost == pytest.approx(1.002)  # type: ignore[attr-defined]
    assert len(stops) == 7


def test_an_empty_reply_at_temperature_0_is_asked_for_once_more(server: FaultServer) -> None:
    server.plan(*["empty"] * 6)
    before = num_requests(server)
    with pytest.raises(ModelError, match="the reply is empty; gave up after 2 tries"):
        compatible(server, temperature=0.0).generate(QUESTION)
    assert num_requests(server) - before == 2
    server.plan("500", "empty")
    assert compatible(server).generate(QUESTION).text, "another fault before it does not count"


# Errors


SHAPES: dict[str, tuple[object, str]] = {
    "FastAPI": ({"detail": "Model not loaded"}, "Model not loaded"),
    "FastAPI, of fields": (
        {"detail": [{"loc": ["body", "messages", 0], "msg": "field required", "type": "value_error.missing"}]},
        "body.messages.0: field required",
    ),
    "a list": (
        [{"error": {"code": 400, "message": "API key expired", "status": "INVALID_ARGUMENT"}}],
        "API key expired",
    ),
    "a list of two": ([{"message": "first"}, {"message": "second"}], "first; second"),
    "errors": ({"errors": ["first", {"message": "second"}]}, "first; second"),
    "error as text": ({"error": "unknown field `min_p`"}, "unknown field `min_p`"),
    "error with a reason": ({"error": "Bad Request", "message": "no images"}, "Bad Request; no images"),
    "problem details": ({"title": "Invalid", "detail": "too many frames", "status": 400}, "Invalid; too many frames"),
    "plain text": ("no such route", "no such route"),
    "JSON text": ('"just words"', "just words"),
    "HTML": ("<!DOCTYPE html><html><head><title>400 &amp; gone</title></head><body>x</body></html>", "400 & gone"),
    "HTML without a title": ("<html><body><h1>Bad gateway</h1><p>nginx</p></body></html>", "Bad gateway nginx"),
    "nothing": ("", "(no message)"),
    "an empty object": ({}, "{}"),
    "another object": ({"why": {"deep": 1}}, '{"why": {"deep": 1}}'),
    "control characters": ({"error": {"message": "a\x1b[31mb\nc"}}, "a [31mb c"),
    "of another provider": (
        {"error": {"message": "Provider error", "metadata": {"raw": '{"error": {"message": "max_tokens"}}'}}},
        "Provider error; max_tokens",
    ),
    "MiniMax": ({"base_resp": {"status_code": 2013, "status_msg": "invalid params"}}, "invalid params"),
    "error of null": ({"error": None, "message": "nothing"}, "nothing"),
    "invalid bytes": ("\xff\xfe no", "no"),
}


@pytest.mark.parametrize("build", [compatible, gemini])
@pytest.mark.parametrize("name", SHAPES)
def test_an_error_body_of_any_shape_is_shown(name: str, build: Any, server: FaultServer) -> None:
    content, message = SHAPES[name]
    server.plan({"status": 400, "body": content})  # type: ignore[arg-type]
    before = num_requests(server)
    with pytest.raises(ModelError) as failed:
        build(server).generate(QUESTION)
    assert "answers 400" in str(failed.value)
    assert message in str(failed.value)
    assert num_requests(server) - before == 1


@pytest.mark.parametrize("build", [compatible, gemini])
@pytest.mark.parametrize(
    ("error", "kind", "tries"),
    [
        ({"code": 401, "message": "no"}, RunAborted, 1),
        ({"code": "402", "message": "Insufficient credits"}, RunAborted, 1),
        ({"code": 403, "message": "no"}, RunAborted, 1),
        ({"code": "invalid_api_key", "message": "no"}, RunAborted, 1),
        ({"type": "insufficient_quota", "message": "no"}, RunAborted, 1),
        ({"code": 400, "message": "bad"}, ModelError, 1),
        ({"type": "invalid_request_error", "message": "bad"}, ModelError, 1),
        ({"code": 429, "message": "Request too large for m"}, ModelError, 1),
        ({"code": 429, "message": "slow down"}, None, 2),
        ({"code": 503, "message": "overloaded"}, None, 2),
        ("try later", None, 2),
        ({"message": "odd"}, None, 2),
    ],
)
def test_an_error_in_a_reply_with_status_200_means_what_it_says(
    error: object, kind: type | None, tries: int, build: Any, server: FaultServer
) -> None:
    server.plan({"body": {"error": error}})  # type: ignore[arg-type]
    before = num_requests(server)
    if kind is None:
        assert build(server).generate(QUESTION).text
    else:
        with pytest.raises(kind):
            build(server).generate(QUESTION)
    assert num_requests(server) - before == tries


@pytest.mark.parametrize("build", [compatible, gemini])
def test_a_request_that_is_too_large_is_not_sent_again(build: Any, server: FaultServer) -> None:
    message = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000."
    limit = {"error": {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}}
    server.plan({"status": 429, "headers": {"Retry-After": "0"}, "body": limit})  # type: ignore[arg-type]
    before = num_requests(server)
    with pytest.raises(ModelError, match=r"Request too large.*--max-frames"):
        build(server).generate(QUESTION)
    assert num_requests(server) - before == 1


@pytest.mark.parametrize("asks", ["86400", "date", "retryDelay"])
def test_a_long_wait_ends_the_run_whichever_way_it_is_asked_for(asks: str, server: FaultServer) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=5)
    headers = {"Retry-After": f"{later:%a, %d %b %Y %H:%M:%S} GMT" if asks == "date" else asks}
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "18000s"}
    error = {"error": {"message": "quota", "details": [info] if asks == "retryDelay" else []}}
    headers = {} if asks == "retryDelay" else headers
    server.plan({"status": 429, "headers": headers, "body": error})  # type: ignore[arg-type]
    with pytest.raises(RunAborted, match=r"asks to wait .* run the same command again after 20\d\d-"):
        gemini(server).generate(QUESTION)


def test_all_threads_wait_where_one_is_told_to(server: FaultServer) -> None:
    model = compatible(server, concurrency=4)
    told = {"status": 429, "headers": {"Retry-After": "1"}, "body": {"error": {"message": "slow down"}}}
    server.plan(told)  # type: ignore[arg-type]
    first = threading.Thread(target=lambda: model.generate(QUESTION))
    first.start()
    while "given" not in server.stats()["faults"] or server.stats()["faults"]["given"] == 0:
        time.sleep(0.01)
    time.sleep(0.1)
    started = time.monotonic()
    model.generate(QUESTION)
    assert time.monotonic() - started > 0.5, "another question waits too"
    first.join()


def test_three_identical_refusals_before_the_first_success_end_the_run(
    server: FaultServer, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", clip, 8)
    message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    refused = {"status": 400, "body": {"error": {"message": message, "code": "unsupported_parameter"}}}
    command = ["predict", str(data), "openai-compatible", "--base-url", f"{server.url}/v1", "--model-id", "m"]
    command += ["--out", str(tmp_path / "run"), "--concurrency", "1"]
    server.plan(*[refused] * 20)  # type: ignore[arg-type]
    before = num_requests(server)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "--token-field max_completion_tokens" in error
    assert num_requests(server) - before == 3
    server.plan("ok", *[refused] * 7)  # type: ignore[arg-type]
    assert main(command) == 1, "after a success each is a failed record"
    assert num_requests(server) - before == 11
    server.plan(*[{"status": 400, "body": {"error": f"question {name}"}} for name in "abcdefg"])  # type: ignore[arg-type]
    assert main(command) == 1, "different errors are no reason to end"


# Settings of requests


def body_sent(server: FaultServer) -> dict:
    return server.stats()["requests"][-1]["body"]


def test_fields_of_a_request_are_omitted_renamed_and_added(
    server: FaultServer, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", clip, 1)
    command = ["predict", str(data), "openai-compatible", "--base-url", f"{server.url}/v1", "--model-id", "o4-mini"]
    more = ["--temperature", "omit", "--token-field", "max_completion_tokens", "--top-p", "0.9"]
    more += ["--extra-body", '{"top_k": 20, "reasoning": {"effort": "low"}}']
    more += ["--header", "X-Title: mine", "--header", "X-Secret: 0123456789secret"]
    assert main([*command, *more, "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    sent = body_sent(server)
    assert not {"temperature", "max_tokens"} & set(sent)
    assert (sent["max_completion_tokens"], sent["top_p"], sent["top_k"]) == (4096, 0.9, 20)
    assert sent["reasoning"] == {"effort": "low"}
    identity = run_folder.read_run_info(tmp_path / "run").identity
    assert identity["model.header"] == "X-Secret, X-Title"
    assert json.loads(str(identity["model.extra_body"])) == {"top_k": 20, "reasoning": {"effort": "low"}}
    written = "".join(path.read_text() for path in (tmp_path / "run").iterdir() if path.suffix in {".json", ".jsonl"})
    assert "0123456789secret" not in written
    assert main([*command, "--token-field", "omit", "--out", str(tmp_path / "other")]) == 0
    assert body_sent(server)["temperature"] == 0.0
    assert not {"max_completion_tokens", "max_tokens"} & set(body_sent(server))


def test_headers_are_sent_and_hidden_in_what_comes_back(server: FaultServer) -> None:
    server.plan({"status": 400, "body": {"error": {"message": "token s3cr3t-0123456789 expired"}}})  # type: ignore[arg-type]
    model = compatible(server, header=("Authorization: Bearer s3cr3t-0123456789",))
    with pytest.raises(ModelError, match=r"token \[key\] expired"):
        model.generate(QUESTION)


def test_gemini_takes_the_same_options(server: FaultServer) -> None:
    extra = '{"generationConfig": {"topK": 5}, "cachedContent": "c"}'
    gemini(server, top_p=0.5, temperature=None, extra_body=extra, header=("X-Title: a",)).generate(QUESTION)
    sent = body_sent(server)
    assert (sent["generationConfig"]["topP"], sent["generationConfig"]["topK"], sent["cachedContent"]) == (0.5, 5, "c")
    assert "temperature" not in sent["generationConfig"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"extra_body": "[1]"}, "--extra-body is a JSON object"),
        ({"extra_body": "{"}, "--extra-body is a JSON object"),
        ({"extra_body": '{"a": NaN}'}, "NaN"),
        ({"extra_body": '{"stream": true}'}, "'stream' cannot be changed"),
        ({"extra_body": '{"model": "x"}'}, "give --model-id"),
        ({"header": ("no colon",)}, "--header is NAME:VALUE"),
        ({"header": ("A: b\r\nC: d",)}, "one line of ASCII"),
        ({"header": ("Host: x",)}, "sets it itself"),
        ({"top_p": 1.5}, "--top-p is a share"),
        ({"token_field": "max tokens"}, "--token-field is the name of a field"),
    ],
)
def test_an_option_of_requests_that_cannot_be_is_named(settings: dict, reason: str, server: FaultServer) -> None:
    with pytest.raises(ValueError, match=reason):
        compatible(server, **settings)


# Prices


def test_prices_hold_for_one_model_at_its_own_provider_alone() -> None:
    for one in prices.listed_prices():
        assert one.date[:2] == "20"
        assert one.source
    own = models.build("gpt-5")
    assert (own.prices.price_in, own.prices.price_out) == (1.25, 10.0)  # type: ignore[attr-defined]
    here = {"base_url": "http://localhost:1/v1"}
    for name, settings in (
        ("gpt-5", {"api": "compatible", "model_id": "o4-mini"} | here),
        ("gpt-5", {"api": "compatible"} | here),
        ("gpt-5", {"api": "azure", "model_id": "mine", "base_url": "http://localhost:1"}),
        ("gpt-5", {"model_id": "o3"}),
        ("gpt-4o", {"model_id": "gpt-4o-2024-05-13"}),
        ("openai-compatible", {"model_id": "gpt-5"} | here),
        ("gemini-2.5-pro", {"base_url": "http://localhost:1"}),
        ("gemini-2.5-pro", {"model_id": "gemini-3-pro"}),
    ):
        model = models.build(name, **settings)
        assert model.prices.cost(1000, 1000) is None, (name, settings)  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="--price-in and --price-out"):
            models.build(name, max_cost=1.0, **settings)
    other = models.build("gpt-5", model_id="gpt-4o")
    assert other.prices.price_in == 2.5  # type: ignore[attr-defined]
    given = models.build("gpt-5", price_in=9.0, price_out=9.0)
    assert given.prices.cost(10**6, 10**6) == 18.0  # type: ignore[attr-defined]


def test_nothing_a_hostile_body_holds_breaks_the_reader() -> None:
    for content in (b"[" * 100_000, b'{"a":' * 100_000, b"\xff" * 1000, b"", b"NaN", b'{"choices": ' + b"[" * 5000):
        assert body.document(content) is None or isinstance(body.document(content), float)
        server_errors.describe_error(content)
    deep: object = "B"
    for _ in range(50):
        deep = [{"type": "text", "text": deep}]
    assert body.text(deep) == ""
