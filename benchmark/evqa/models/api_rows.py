"""Rows of models behind APIs.

Frames, tokens and temperature are those of the published scripts (32 frames at one a second; temperature 0 with GPT-4o,
none with reasoning models; 0.1 with Gemini) with three differences: frames keep their proportion, each has its time,
and reasoning models get more tokens, since their reasoning counts among them.

Prices are quoted from where `price_source` says, in US dollars a million tokens, without discounts for cached prompts;
they age: give --price-in and --price-out for today's. A row without prices has no cost, rather than a guess.
"""

from __future__ import annotations

from evqa.models.row import ModelRow, Setting

OPENAI = "evqa.models.openai_api:OpenAIChat"
GEMINI = "evqa.models.gemini_api:GeminiChat"

OPENAI_2026 = "openai.com/api/pricing, quoted 2026-Q2 by docs.rs/crate/openai-cost"
OPENAI_4O = "openai.com/api/pricing, quoted by docs.rs/crate/openai-models 0.1.1"
OPENAI_MINI = "github.com/github/docs, data/tables/copilot/models-and-pricing.yml, 2026"
GEMINI_2026 = "ai.google.dev/gemini-api/docs/pricing, quoted 2026 by docs.rs/crate/gemini-cost"


def _openai(model_id: str | None, about: str, **arguments: Setting) -> ModelRow:
    settings: dict[str, Setting] = {
        "model_id": model_id,
        "api": "openai",
        "fps": 1.0,
        "max_frames": 32,
        "max_side": 512,
    }
    return ModelRow(adapter=OPENAI, arguments=settings | arguments, extra="api", dialect="json", about=about)


def _reasoning(model_id: str, about: str, **arguments: Setting) -> ModelRow:
    """A model that reasons before it replies: no temperature, and another name for the number of tokens."""
    return _openai(model_id, about, token_field="max_completion_tokens", max_tokens=16384, **arguments)


def _gemini(model_id: str, about: str, **arguments: Setting) -> ModelRow:
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
    return ModelRow(adapter=GEMINI, arguments=settings | arguments, extra="api", dialect="json", about=about)


API_MODELS: dict[str, ModelRow] = {
    "gpt-4o": _openai(
        "gpt-4o",
        "GPT-4o by OpenAI's API (key: OPENAI_API_KEY)",
        temperature=0.0,
        max_tokens=4096,
        price_in=2.5,
        price_out=10.0,
        price_source=OPENAI_4O,
    ),
    "gpt-5": _reasoning("gpt-5", "GPT-5 by OpenAI's API", price_in=1.25, price_out=10.0, price_source=OPENAI_2026),
    "gpt-5-mini": _reasoning(
        "gpt-5-mini", "GPT-5 mini by OpenAI's API", price_in=0.25, price_out=2.0, price_source=OPENAI_MINI
    ),
    "o3": _reasoning("o3", "o3 by OpenAI's API; no price is known here"),
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
        price_in=0.0,
        price_out=0.0,
        price_source="your own server: nothing is charged; give --price-in and --price-out where it is",
    ),
    "gemini-2.5-pro": _gemini(
        "gemini-2.5-pro",
        "Gemini 2.5 Pro by Google's API, the video itself or --video frames (GEMINI_API_KEY)",
        price_in=1.25,
        price_out=10.0,
        price_source=GEMINI_2026,
        largest_prompt=200_000,
    ),
    "gemini-2.5-flash": _gemini(
        "gemini-2.5-flash", "Gemini 2.5 Flash by Google's API, as gemini-2.5-pro; no price is known here"
    ),
}
