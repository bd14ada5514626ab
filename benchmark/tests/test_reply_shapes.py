"""Replies in the shape that each provider documents: what is read of them, and that the rest does no harm."""

import json

import pytest

from evqa.models.api.retry import TemporaryError

openai_api = pytest.importorskip("evqa.models.openai_chat")
gemini_api = pytest.importorskip("evqa.models.gemini_chat")

SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}


def completion(message: dict, finish: str, usage: dict, model: str, choice: dict | None = None, **more: object) -> str:
    """What chat completions of all providers have in common, with what one of them adds."""
    first = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish} | (choice or {})
    whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [first]}
    return json.dumps(whole | {"usage": usage} | more)


def counts(prompt: int, output: int, **more: object) -> dict:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output} | more


OPENAI = {
    "gpt-4o": completion(
        {"content": '{"answer": "B"}', "refusal": None, "annotations": []},
        "stop",
        counts(2900, 12, prompt_tokens_details={"cached_tokens": 1024, "audio_tokens": 0}),
        "gpt-4o-2024-08-06",
        {"logprobs": None},
        service_tier="default",
        system_fingerprint="fp_1",
    ),
    "gpt-4o refuses": completion(
        {"content": None, "refusal": "I cannot help with that."}, "stop", counts(2900, 9), "gpt-4o-2024-08-06"
    ),
    "gpt-5": completion(
        {"content": "B", "refusal": None},
        "stop",
        counts(2900, 713, completion_tokens_details={"reasoning_tokens": 704, "accepted_prediction_tokens": 0}),
        "gpt-5-2025-08-07",
    ),
    "o3 reasons to the end": completion(
        {"content": "", "refusal": None},
        "length",
        counts(2900, 16384, completion_tokens_details={"reasoning_tokens": 16384}),
        "o3-2025-04-16",
    ),
    "azure": completion(
        {"content": "B", "refusal": None},
        "stop",
        counts(2900, 1),
        "gpt-4o-2024-08-06",
        {"content_filter_results": SAFE | {"protected_material_text": {"filtered": False, "detected": False}}},
        prompt_filter_results=[{"prompt_index": 0, "content_filter_results": SAFE}],
    ),
    "azure filters the reply": completion(
        {"content": "He takes"}, "content_filter", counts(2900, 4), "gpt-4o", {"content_filter_results": SAFE}
    ),
    "ark": completion(
        {"content": "B", "reasoning_content": "The options are A and B."},
        "stop",
        counts(2900, 64, completion_tokens_details={"reasoning_tokens": 60}),
        "doubao-seed-1-6-vision-250815",
        {"logprobs": None},
        service_tier="default",
    ),
    "vllm serve": completion(
        {"content": "B", "reasoning_content": None, "tool_calls": []},
        "stop",
        counts(2900, 2, prompt_tokens_details=None),
        "Qwen/Qwen3-VL-8B-Instruct",
        {"stop_reason": None, "logprobs": None},
        prompt_logprobs=None,
        kv_transfer_params=None,
    ),
    "a server that counts nothing": completion({"content": "B"}, "stop", counts(0, 0), "local").replace(
        json.dumps(counts(0, 0)), "null"
    ),
}

READ_OPENAI = {
    "gpt-4o": ('{"answer": "B"}', "stop", 2900, 12, "gpt-4o-2024-08-06"),
    "gpt-4o refuses": ("I cannot help with that.", "refusal", 2900, 9, "gpt-4o-2024-08-06"),
    "gpt-5": ("B", "stop", 2900, 713, "gpt-5-2025-08-07"),
    "o3 reasons to the end": ("", "length", 2900, 16384, "o3-2025-04-16"),
    "azure": ("B", "stop", 2900, 1, "gpt-4o-2024-08-06"),
    "azure filters the reply": ("He takes", "refusal", 2900, 4, "gpt-4o"),
    "ark": ("B", "stop", 2900, 64, "doubao-seed-1-6-vision-250815"),
    "vllm serve": ("B", "stop", 2900, 2, "Qwen/Qwen3-VL-8B-Instruct"),
    "a server that counts nothing": ("B", "stop", None, None, "local"),
}


@pytest.mark.parametrize("name", OPENAI)
def test_a_chat_completion_of_each_provider_is_understood(name: str) -> None:
    answer = openai_api.read(OPENAI[name].encode())
    read = (answer.reply.text, answer.reply.finish, answer.input_tokens, answer.output_tokens, answer.model_version)
    assert read == READ_OPENAI[name]


def gemini(finish: str, *parts: dict, thoughts: int | None = None) -> dict:
    usage = {"promptTokenCount": 7800, "candidatesTokenCount": 20, "totalTokenCount": 7820}
    usage |= {
        "promptTokensDetails": [{"modality": "VIDEO", "tokenCount": 7600}, {"modality": "TEXT", "tokenCount": 200}]
    }
    if thoughts is not None:
        usage |= {"thoughtsTokenCount": thoughts, "totalTokenCount": 7820 + thoughts}
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finishReason": finish, "index": 0}
    return {
        "candidates": [candidate if parts else {"finishReason": finish, "index": 0}],
        "usageMetadata": usage,
        "modelVersion": "gemini-2.5-pro",
        "responseId": "r1",
    }


GEMINI = {
    "thinks": gemini("STOP", {"text": "Hm.", "thought": True}, {"text": "B", "thoughtSignature": "Cg=="}, thoughts=900),
    "thinks of nothing": gemini("STOP", {"text": "B"}),
    "thinks to the end": gemini("MAX_TOKENS", thoughts=9218),
    "refuses": gemini("SAFETY"),
    "is blocked": {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 7800},
    },
}

READ_GEMINI = {
    "thinks": ("B", "stop", 7800, 920),
    "thinks of nothing": ("B", "stop", 7800, 20),
    "thinks to the end": ("", "length", 7800, 9238),
    "refuses": ("refused: SAFETY", "refusal", 7800, 20),
    "is blocked": ("blocked: PROHIBITED_CONTENT", "refusal", 7800, 0),
}


@pytest.mark.parametrize("name", GEMINI)
def test_a_response_of_gemini_is_understood(name: str) -> None:
    answer = gemini_api.read(json.dumps(GEMINI[name]))
    read = (answer.reply.text, answer.reply.finish, answer.input_tokens, answer.output_tokens)
    assert read == READ_GEMINI[name]


@pytest.mark.parametrize("content", ["", "[]", '{"choices": []}', "<html>502 Bad Gateway</html>", "\x00\xff"])
def test_what_is_no_reply_may_be_one_the_next_time(content: str) -> None:
    with pytest.raises(TemporaryError):
        openai_api.read(content.encode())
    with pytest.raises(TemporaryError):
        gemini_api.read(content)
