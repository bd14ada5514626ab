"""Models behind OpenAI's chat completions: OpenAI, Azure, Ark, and any server that speaks the same protocol.

Which of them is a setting, never guessed from an address. The token field, the temperature and the form of
structured output differ between models and are data in their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError

from evqa.models import keys, retry, wire
from evqa.models.api import Answer, Caller, Calling
from evqa.models.base import Message, ModelError, ModelStop, Reply
from evqa.models.chat_content import ChatContent, Json
from evqa.models.frames import FramePolicy
from evqa.models.retry import TemporaryError
from evqa.models.structured import json_schema

Api = Literal["openai", "azure", "ark", "compatible"]
Structured = Literal["schema", "object", "none"]
TokenField = Literal["max_tokens", "max_completion_tokens"]


class Provider(NamedTuple):
    """How one provider is reached."""

    base_url: str | None
    """None = the user gives it."""
    key: str
    """The environment variable of the key."""
    needs_key: bool = True


PROVIDERS: dict[Api, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "azure": Provider(None, "AZURE_OPENAI_API_KEY"),
    "ark": Provider("https://ark.cn-beijing.volces.com/api/v3", "ARK_API_KEY"),
    "compatible": Provider(None, "EVQA_SERVER_KEY", needs_key=False),
}

AZURE_VERSION = "2024-10-21"
"""The general version of Azure's data plane that has structured output; newer ones by --api-version."""

OUT_OF_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
"""Codes of a 429 that no waiting cures (OpenAI's guide to error codes)."""

REFUSALS = {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}
"""Codes of a 400 that mean: the provider's filter refuses the question."""

WRONG_SETTING = {301, 302, 303, 307, 308, 401, 402, 403, 404}
"""HTTP answers that every further request would get too."""


class OpenAIChat:
    """A model that is asked by chat completions; a video is sent as frames."""

    def __init__(  # noqa: PLR0913  (each is a setting of a row)
        self,
        *,
        name: str,
        frames: FramePolicy,
        calling: Calling,
        model_id: str | None,
        api: Api,
        base_url: str | None = None,
        api_version: str | None = None,
        max_tokens: int = 4096,
        token_field: TokenField = "max_tokens",
        temperature: float | None = None,
        reasoning_effort: str | None = None,
        structured: Structured = "schema",
        jpeg_quality: int = 90,
    ) -> None:
        """Connect to nothing yet; `ValueError` names what is missing.

        Args:
            name: what the model is called in results.
            frames: what it sees of a video.
            calling: how it is asked.
            model_id: what the provider calls it; with Azure the name of the deployment.
            api: which provider; decides address, key and form of the path.
            base_url: address of the server, for Azure, a compatible server, or another region of Ark.
            api_version: Azure's.
            max_tokens: where a reply is cut; with a reasoning model its reasoning counts.
            token_field: how the model calls that.
            temperature: None = not sent; a reasoning model refuses it.
            reasoning_effort: None = the provider's default.
            structured: "schema" = held to a JSON schema, "object" = to any JSON object, "none" = not held.
            jpeg_quality: of the frames, 1 to 95.
        """
        if not model_id:
            raise ValueError(f"model {name!r} needs the name that its server knows it by: give --model-id")
        provider = PROVIDERS[api]
        self.name, self.concurrency = name, calling.concurrency
        self._key = keys.of_environment(provider.key, name, needed=provider.needs_key)
        self._url = _url(name, api, base_url)
        self._version = (api_version or AZURE_VERSION) if api == "azure" else None
        self._frames, self._quality = frames, jpeg_quality
        self._api, self._model, self._structured = api, model_id, structured
        self._decoding: dict[str, str | int | float] = {token_field: max_tokens}
        if temperature is not None:
            self._decoding["temperature"] = temperature
        if reasoning_effort is not None:
            self._decoding["reasoning_effort"] = reasoning_effort
        self._caller = Caller(calling, self._key)
        self.budget, self.prices = self._caller.budget, self._caller.prices
        self._client = self._connect(calling.timeout)
        self._content = ChatContent(frames, jpeg_quality, self.concurrency)

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What decides a reply; what only decides when and at which price it comes is left out."""
        return {
            "api": self._api,
            "id": self._model,
            "endpoint": self._url,
            "api_version": self._version,
            **self._frames.settings(),
            "jpeg_quality": self._quality,
            "structured": self._structured,
            **self._decoding,
        }

    def generate(self, messages: Sequence[Message]) -> Reply:
        """The reply to a conversation; a refusal and a cut reply say so in `finish`."""
        body = self._body(messages)
        return self._caller.reply(messages, lambda: self._ask(body))

    def _connect(self, timeout: float) -> openai.OpenAI:
        http = wire.http_client(timeout)
        if self._api == "azure":
            return openai.AzureOpenAI(
                api_key=self._key.reveal(),
                azure_endpoint=self._url,
                api_version=self._version,
                timeout=http.timeout,
                max_retries=0,
                http_client=http,
            )
        return openai.OpenAI(
            api_key=self._key.reveal(),
            base_url=self._url,
            organization="",
            project="",
            timeout=http.timeout,
            max_retries=0,
            http_client=http,
        )

    def _body(self, messages: Sequence[Message]) -> Json:
        body: Json = {"model": self._model, "messages": self._content.messages(messages), **self._decoding}
        wanted = messages[-1].json_keys
        if wanted and self._structured == "schema":
            schema = {"name": "evidence", "strict": True, "schema": json_schema(wanted)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif wanted and self._structured == "object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _ask(self, body: Json) -> Answer:
        """One request. The SDK's errors hold the request with its key: none of them is chained."""
        try:
            asked: Any = self._client.chat.completions.with_raw_response.create
            return read(asked(**body).http_response.content)
        except openai.APIStatusError as error:
            return self._refused(error)
        except openai.APIConnectionError as error:
            reason = f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}"
            raise TemporaryError(f"no reply from {self._url}: {self._key.hide(reason)}") from None
        except httpx2.HTTPError as error:
            raise TemporaryError(f"no reply from {self._url}: {type(error).__name__}: {error}") from None

    def _refused(self, error: openai.APIStatusError) -> Answer:
        """What an answer with an error status means: an answer, a reason to try again, to fail, or to stop."""
        code = error.code or error.type or ""
        said = self._key.hide(
            f"{self._url} answers {error.status_code} {code}: {' '.join(error.message.split())[:300]}"
        )
        if error.status_code == 400 and REFUSALS & {code, _inner_code(error.body)}:
            return Answer(Reply(said, finish="refusal"), None, None)
        if error.status_code == 429 and code in OUT_OF_MONEY:
            raise ModelStop(f"{said}; the account of {self._key.variable} has no money left") from None
        if error.status_code in retry.RETRYABLE_STATUS or error.status_code >= 500:
            raise TemporaryError(said, retry.retry_after(error.response.headers)) from None
        if error.status_code in WRONG_SETTING:
            raise ModelStop(f"{said}; check {self._key.variable}, --model-id {self._model} and --base-url") from None
        raise ModelError(said) from None


def _url(name: str, api: Api, base_url: str | None) -> str:
    own = PROVIDERS[api].base_url
    if base_url is not None and api == "openai":
        raise ValueError(
            f"model {name!r} is OpenAI's own: its key is sent nowhere else; with --base-url give "
            f"--api compatible, azure or ark too"
        )
    url = base_url or own
    if url is None:
        raise ValueError(f"model {name!r} needs the address of its server: give --base-url, such as {EXAMPLES[api]}")
    return wire.plain_url(url)


EXAMPLES = {"azure": "https://RESOURCE.openai.azure.com", "compatible": "http://localhost:8000/v1"}


class _Written(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Written
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Completion(BaseModel):
    """What is read of a chat completion; servers add fields of their own."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Tokens | None = None
    model: str | None = None


def read(content: bytes) -> Answer:
    """A chat completion understood; one that is none, or says nothing, may be otherwise the next time."""
    try:
        completion = _Completion.model_validate_json(content)
    except ValidationError as error:
        what = ", ".join(sorted({detail["type"] for detail in error.errors(include_url=False)}))
        raise TemporaryError(f"the server's answer is no chat completion ({what}): {content[:80]!r}") from None
    choice, tokens = completion.choices[0], completion.usage
    finish: Literal["stop", "length", "refusal"] = "stop"
    if choice.finish_reason == "length":
        finish = "length"
    elif choice.finish_reason == "content_filter" or choice.message.refusal:
        finish = "refusal"
    text = choice.message.content or choice.message.refusal or ""
    counts = (tokens.prompt_tokens, tokens.completion_tokens) if tokens else (None, None)
    if not text.strip() and finish == "stop":
        raise TemporaryError("the reply is empty", tokens=counts)
    return Answer(Reply(text, finish=finish), *counts, completion.model)


class _Inner(BaseModel):
    code: str = ""


class _AzureError(BaseModel):
    innererror: _Inner = _Inner()


def _inner_code(body: object) -> str:
    """Azure's code of the inner error."""
    try:
        return _AzureError.model_validate(body).innererror.code
    except ValidationError:
        return ""
