"""Registry entries of models behind APIs.

Frames, tokens and temperature are those of the published scripts (1 frame per second, at most 32; temperature 0 for
GPT-4o, none for reasoning models, 0.1 for Gemini) with three differences: frames keep their aspect ratio, each frame
has a timestamp, and reasoning models get more tokens, since their reasoning counts as output.

Entries have no prices: `prices` lists them for a model at its own provider. At other providers the cost is unknown.
"""

from __future__ import annotations

from evqa.models.registry import ModelSpec, Setting

OPENAI = "evqa.models.openai_chat:OpenAIChat"
GEMINI = "evqa.models.gemini_chat:GeminiChat"


def _openai(model_id: str | None, description: str, **arguments: Setting) -> ModelSpec:
    settings: dict[str, Setting] = {
        "model_id": model_id,
        "api": "openai",
        "fps": 1.0,
        "max_frames": 32,
        "max_side": 512,
    }
    return ModelSpec(
        adapter=OPENAI, arguments=settings | arguments, extra="api", is_behind_api=True, description=description
    )


def _reasoning(model_id: str, description: str, **arguments: Setting) -> ModelSpec:
    """Registry entry of a reasoning model: no temperature, and another request field for the token limit."""
    return _openai(model_id, description, token_field="max_completion_tokens", max_tokens=16384, **arguments)


def _gemini(model_id: str, description: str, **arguments: Setting) -> ModelSpec:
    settings: dict[str, Setting] = {
        "model_id": model_id,
        "video": "file",
        "fps": 1.0,
        "max_frames": 32,
        "max_side": 512,
        "temperature": 0.1,
        "max_tokens": 9218,
        "timeout": 300.0,
    }
    return ModelSpec(
        adapter=GEMINI, arguments=settings | arguments, extra="api", is_behind_api=True, description=description
    )


API_MODELS: dict[str, ModelSpec] = {
    "gpt-4o": _openai(
        "gpt-4o",
        "GPT-4o by OpenAI's API (key: OPENAI_API_KEY)",
        temperature=0.0,
        max_tokens=4096,
    ),
    "gpt-5": _reasoning("gpt-5", "GPT-5 by OpenAI's API"),
    "gpt-5-mini": _reasoning("gpt-5-mini", "GPT-5 mini by OpenAI's API"),
    "o3": _reasoning("o3", "o3 by OpenAI's API"),
    "azure-gpt-4o": _openai(
        None,
        "GPT-4o on Azure: --base-url https://RESOURCE.openai.azure.com --model-id DEPLOYMENT (AZURE_OPENAI_API_KEY)",
        api="azure",
        temperature=0.0,
        max_tokens=4096,
    ),
    "azure-gpt-5": _openai(
        None,
        "GPT-5 on Azure, as azure-gpt-4o",
        api="azure",
        token_field="max_completion_tokens",
        max_tokens=16384,
    ),
    "doubao-seed-1.6-vision": _openai(
        "doubao-seed-1-6-vision-250815",
        "Doubao Seed 1.6 vision on Volcengine's Ark (ARK_API_KEY)",
        api="ark",
        temperature=0.0,
        max_tokens=16384,
    ),
    "openai-compatible": _openai(
        None,
        "any server that speaks chat completions (vLLM, SGLang, LM Studio): --base-url URL --model-id NAME "
        "(EVQA_SERVER_KEY where it wants a key)",
        api="compatible",
        temperature=0.0,
        max_tokens=4096,
    ),
    "gemini-2.5-pro": _gemini(
        "gemini-2.5-pro",
        "Gemini 2.5 Pro by Google's API, the video itself or --video frames (GEMINI_API_KEY)",
    ),
    "gemini-2.5-flash": _gemini("gemini-2.5-flash", "Gemini 2.5 Flash by Google's API, as gemini-2.5-pro"),
}
