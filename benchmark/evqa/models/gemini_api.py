"""Gemini by Google's API (google-genai): it gets the video itself, sampled by the server at `fps`, or its frames."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import httpx2
from google import genai
from google.genai import errors, types
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from evqa.models import keys, retry, wire
from evqa.models.api import Answer, Caller, Calling
from evqa.models.base import Message, ModelError, ModelStop, Part, Reply, Still
from evqa.models.frames import ClipCache, FramePolicy, Jpeg, jpegs, kept_for, mark, still_jpeg
from evqa.models.retry import TemporaryError
from evqa.models.structured import json_schema

GOOGLE = "https://generativelanguage.googleapis.com"
KEY = "GEMINI_API_KEY"

INLINE_BYTES = 14_000_000
"""A larger video is uploaded: a request holds 20 MB (Gemini's guide to video), and base64 makes 4 bytes of 3."""

UPLOAD_SECONDS = 600.0
"""How long the server may take to make an uploaded video ready."""

POLL_SECONDS = 2.0

REFUSED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}
"""Finish reasons that mean: the model, or the filter behind it, refuses."""

WRONG_SETTING = {401, 403, 404}


class _Upload(NamedTuple):
    """A video that the server holds (for 48 hours)."""

    uri: str
    mime_type: str


class GeminiChat:
    """A Gemini model."""

    def __init__(  # noqa: PLR0913  (each is a setting of a row)
        self,
        *,
        name: str,
        frames: FramePolicy,
        calling: Calling,
        model_id: str,
        base_url: str | None = None,
        video: Literal["file", "frames"] = "file",
        max_tokens: int = 9218,
        temperature: float | None = 0.1,
        thinking_budget: int | None = None,
        structured: Literal["schema", "object", "none"] = "schema",
        jpeg_quality: int = 90,
        inline_bytes: int = INLINE_BYTES,
    ) -> None:
        """Connect to nothing yet; `ValueError` names what is missing.

        Args:
            name: what the model is called in results.
            frames: what it sees of a video; with `video="file"` their rate alone.
            calling: how it is asked.
            model_id: what Google calls it.
            base_url: another address of the same protocol.
            video: "file" = the video itself, of which the server takes frames; "frames" = pictures.
            max_tokens: where a reply is cut; its thinking counts.
            temperature: None = the model's default.
            thinking_budget: tokens to think; None = the model's default.
            structured: "schema" = held to a JSON schema, "object" = to any JSON, "none" = not held.
            jpeg_quality: of the frames, 1 to 95.
            inline_bytes: a larger video is uploaded before it is asked about.
        """
        self.name, self.concurrency = name, calling.concurrency
        self._key = keys.of_environment(KEY, name)
        self._url = wire.plain_url(base_url or GOOGLE)
        self._model, self._video, self._structured = model_id, video, structured
        self._policy, self._quality, self._inline_bytes = frames, jpeg_quality, inline_bytes
        self._max_tokens, self._temperature, self._thinking = max_tokens, temperature, thinking_budget
        self._caller = Caller(calling, self._key)
        self.budget, self.prices = self._caller.budget, self._caller.prices
        self._client = self._connect(calling.timeout)
        kept = kept_for(self.concurrency)
        self._frames: ClipCache[tuple[Jpeg, ...]] = ClipCache(
            lambda path: jpegs(path, self._policy, self._quality), kept
        )
        self._uploads: ClipCache[_Upload] = ClipCache(self._upload, kept)

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What decides a reply; what only decides when and at which price it comes is left out."""
        frames = {**self._policy.settings(), "jpeg_quality": self._quality}
        return {
            "api": "gemini",
            "id": self._model,
            "endpoint": self._url,
            "video": self._video,
            **(frames if self._video == "frames" else {"fps": self._policy.fps}),
            "structured": self._structured,
            "max_tokens": self._max_tokens,
            "temperature": self._temperature,
            "thinking_budget": self._thinking,
        }

    def generate(self, messages: Sequence[Message]) -> Reply:
        """The reply to a conversation; a refusal and a cut reply say so in `finish`."""
        contents = [
            {"role": "model" if one.role == "assistant" else "user", "parts": list(self._parts(one.parts))}
            for one in messages
            if one.role != "system"
        ]
        config = self._config(messages)
        return self._caller.reply(messages, lambda: self._ask(contents, config))

    def _connect(self, timeout: float) -> genai.Client:
        options = types.HttpOptions(
            base_url=self._url,
            api_version="v1beta",
            timeout=int(timeout * 1000),
            httpx_client=wire.http_client(timeout),
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        return genai.Client(api_key=self._key.reveal(), vertexai=False, http_options=options)

    def _config(self, messages: Sequence[Message]) -> types.GenerateContentConfig:
        system = "\n".join(str(part) for one in messages if one.role == "system" for part in one.parts)
        wanted = messages[-1].json_keys if self._structured != "none" else ()
        thinking = None if self._thinking is None else types.ThinkingConfig(thinking_budget=self._thinking)
        return types.GenerateContentConfig(
            system_instruction=system or None,
            temperature=self._temperature,
            max_output_tokens=self._max_tokens,
            thinking_config=thinking,
            response_mime_type="application/json" if wanted else None,
            response_json_schema=json_schema(wanted) if wanted and self._structured == "schema" else None,
            should_return_http_response=True,
        )

    def _parts(self, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
        for part in parts:
            if isinstance(part, str):
                yield {"text": part}
            elif isinstance(part, Still):
                picture = still_jpeg(part.path, self._policy, self._quality)
                yield {"inline_data": {"mime_type": "image/jpeg", "data": picture.content}}
            elif self._video == "file":
                yield self._file(part.in_words())
            else:
                yield from self._pictures(part.in_words())

    def _pictures(self, path: Path) -> Iterator[dict[str, Any]]:
        for frame in self._frames.get(path):
            if self._policy.time_marks:
                yield {"text": mark(frame.second)}
            yield {"inline_data": {"mime_type": "image/jpeg", "data": frame.content}}

    def _file(self, path: Path) -> dict[str, Any]:
        metadata = {"fps": self._policy.fps}
        if _mime_type(path) and path.stat().st_size <= self._inline_bytes:
            blob = {"mime_type": _mime_type(path), "data": path.read_bytes()}
            return {"inline_data": blob, "video_metadata": metadata}
        upload = self._uploads.get(path)
        return {
            "file_data": {"file_uri": upload.uri, "mime_type": upload.mime_type},
            "video_metadata": metadata,
        }

    def _upload(self, path: Path) -> _Upload:
        """Give the server a video, and wait until it is ready."""
        config = types.UploadFileConfig(mime_type=_mime_type(path), display_name=path.name)
        file, _ = retry.call(lambda: self._sent(path, config), self._caller.retries, seed=str(path))
        deadline = time.monotonic() + UPLOAD_SECONDS
        while file.state == types.FileState.PROCESSING:
            if time.monotonic() > deadline:
                raise ModelError(f"{self._url} has not made {path.name} ready in {UPLOAD_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
            ask = partial(self._state, str(file.name))
            file, _ = retry.call(ask, self._caller.retries, seed=str(path))
        if file.state != types.FileState.ACTIVE or not file.uri:
            raise ModelError(f"{self._url} cannot use the video {path.name}: {file.error or file.state}")
        return _Upload(file.uri, file.mime_type or _mime_type(path))

    def _sent(self, path: Path, config: types.UploadFileConfig) -> types.File:
        """Sent as an open file: of a path, the SDK puts the name into a header, which takes ASCII alone."""
        try:
            with path.open("rb") as file:
                return self._client.files.upload(file=file, config=config)
        except (errors.APIError, httpx2.HTTPError, ValueError, KeyError) as error:
            raise self._failure(error) from None

    def _state(self, name: str) -> types.File:
        try:
            return self._client.files.get(name=name)
        except (errors.APIError, httpx2.HTTPError, ValueError) as error:
            raise self._failure(error) from None

    def _ask(self, contents: list[dict[str, Any]], config: types.GenerateContentConfig) -> Answer:
        """One request. The SDK's errors may hold what was sent: none of them is chained."""
        try:
            ask: Any = self._client.models.generate_content
            body = ask(model=self._model, contents=contents, config=config).sdk_http_response.body
        except (errors.APIError, httpx2.HTTPError, ValueError) as error:
            raise self._failure(error) from None
        return read(str(body or ""))

    def _failure(self, error: Exception) -> Exception:
        """What an error of the SDK means: a reason to try again, to fail, or to stop."""
        if isinstance(error, errors.APIError):
            return self._refused(error)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return TemporaryError(f"no reply from {self._url}: {self._key.hide(reason)}")

    def _refused(self, error: errors.APIError) -> Exception:
        untyped = cast("Any", error)
        message = " ".join(str(error.message).split())[:300]
        said = self._key.hide(f"{self._url} answers {error.code} {error.status}: {message}")
        if error.code in retry.RETRYABLE_STATUS or error.code >= 500:
            return TemporaryError(said, _retry_delay(untyped.details) or retry.retry_after(untyped.response.headers))
        if error.code in WRONG_SETTING or "API_KEY_INVALID" in str(untyped.details):
            return ModelStop(f"{said}; check {KEY} and --model-id {self._model}")
        return ModelError(said)


def _mime_type(path: Path) -> str:
    """The type of a video by its ending; a folder of frames is none."""
    kind = mimetypes.guess_type(path.name)[0] or ""
    if path.is_dir() or not kind.startswith("video/"):
        raise ValueError(f"{path} is no video file that can be sent as it is: ask with --video frames")
    return kind


class _RetryInfo(BaseModel):
    retryDelay: str = ""


class _RpcStatus(BaseModel):
    details: list[_RetryInfo] = Field(default_factory=list[_RetryInfo])


class _RpcError(BaseModel):
    error: _RpcStatus = _RpcStatus()


def _retry_delay(body: object) -> float | None:
    """Seconds that google.rpc.RetryInfo asks to wait, such as "7s"."""
    try:
        details = _RpcError.model_validate(body).error.details
        return next((float(one.retryDelay.removesuffix("s")) for one in details if one.retryDelay), None)
    except ValueError:
        return None


class _Sent(BaseModel):
    """Google writes its names in camel case."""

    model_config = ConfigDict(alias_generator=to_camel)


class _Piece(_Sent):
    text: str = ""
    thought: bool = False


class _Content(_Sent):
    parts: list[_Piece] = Field(default_factory=list[_Piece])


class _Candidate(_Sent):
    content: _Content = _Content()
    finish_reason: str = "STOP"


class _Block(_Sent):
    block_reason: str | None = None


class _Tokens(_Sent):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Response(_Sent):
    """What is read of GenerateContentResponse; fields that come later are left unread."""

    candidates: list[_Candidate] = Field(default_factory=list[_Candidate])
    prompt_feedback: _Block = _Block()
    usage_metadata: _Tokens = _Tokens()
    model_version: str | None = None


def read(content: str) -> Answer:
    """A response understood; one that is none, or says nothing, may be otherwise the next time."""
    try:
        response = _Response.model_validate_json(content)
    except ValidationError as error:
        what = ", ".join(sorted({detail["type"] for detail in error.errors(include_url=False)}))
        raise TemporaryError(f"the server's answer is no GenerateContentResponse ({what}): {content[:80]!r}") from None
    tokens = response.usage_metadata
    counted = (tokens.candidates_token_count, tokens.thoughts_token_count)
    written = None if counted == (None, None) else sum(count or 0 for count in counted)
    counts = (tokens.prompt_token_count, written)
    if response.prompt_feedback.block_reason:
        reply = Reply(f"blocked: {response.prompt_feedback.block_reason}", finish="refusal")
        return Answer(reply, tokens.prompt_token_count, written or 0, response.model_version)
    if not response.candidates:
        raise TemporaryError("the response has no candidate", tokens=counts)
    candidate = response.candidates[0]
    text = "".join(piece.text for piece in candidate.content.parts if not piece.thought)
    if candidate.finish_reason in REFUSED:
        reply = Reply(text or f"refused: {candidate.finish_reason}", finish="refusal")
    elif candidate.finish_reason == "MAX_TOKENS":
        reply = Reply(text, finish="length")
    elif candidate.finish_reason == "STOP" and text.strip():
        reply = Reply(text)
    else:
        raise TemporaryError(f"the reply is empty or broken off ({candidate.finish_reason})", tokens=counts)
    return Answer(reply, *counts, response.model_version)
