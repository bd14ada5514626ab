"""Open models in vLLM's engine inside this process, with batches and tensor parallelism.

The model `openai-compatible` uses the same models behind `vllm serve`.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from evqa.hub import checkpoint_files, checkpoints
from evqa.models.api import body
from evqa.models.base import Capabilities, ModelError, RequestTooLarge
from evqa.models.batching import Batcher
from evqa.models.frame_policy import FramePolicy
from evqa.models.messages import Decoding, Message, Reply, ToolSpec
from evqa.models.openai_content import Json, OpenAIContent
from evqa.models.tool_dialects import DIALECTS, DialectName, tool_dialect_settings, with_text_calls
from evqa.models.tool_images import ToolImages, text_dialect_transport, to_dialect_messages, tool_image_settings
from evqa.schema import Usage

vllm: Any = importlib.import_module("vllm")
"""Optional package for machines with a GPU; untyped, since it is not installed where types are checked."""

OTHER_PICTURES = 8
"""Maximum number of images of a conversation besides the frames: the options of a mask question."""


TOO_LONG = re.compile(r"longer than the maximum|maximum (?:context|model) length|at most \d{1,6} image", re.IGNORECASE)
"""What vLLM writes of a prompt that exceeds the context or the number of images."""


class VllmChat:
    """Adapter of a checkpoint in vLLM's engine; greedy decoding unless a call sets another."""

    def __init__(  # noqa: PLR0913  (each is a setting of a row)
        self,
        *,
        name: str,
        frames: FramePolicy,
        checkpoint: str,
        jpeg_quality: int = 95,
        max_tokens: int = 4096,
        batch_size: int = 16,
        tensor_parallel: int = 1,
        dtype: str = "auto",
        tool_images: ToolImages = "auto",
        tool_dialect: DialectName = "hermes",
    ) -> None:
        """Load a checkpoint.

        Args:
            name: name of the model in results.
            frames: frame sampling.
            checkpoint: checkpoint name or folder.
            jpeg_quality: JPEG quality of the frames, 1 to 95.
            max_tokens: maximum number of tokens of a response.
            batch_size: number of conversations per batch.
            tensor_parallel: number of GPUs of the model.
            dtype: data type of the weights; "auto" = as stored.
            tool_images: transport of images in tool results, "user" or "text"; "auto" = "user".
            tool_dialect: text format of tool calls that the checkpoint was trained on.
        """
        folder = checkpoints.locate_checkpoint(checkpoint)
        checkpoint_files.check_open(folder)
        self.name = name
        self.capabilities = Capabilities(
            concurrency=2 * batch_size,
            is_concurrent=True,
            tools="text",
            tool_dialect=tool_dialect,
            tool_images=text_dialect_transport(name, tool_images),
            videos=None,
        )
        self._frames, self._content = frames, OpenAIContent(frames, jpeg_quality, 2 * batch_size)
        self._engine: Any = vllm.LLM(
            model=str(folder),
            tensor_parallel_size=tensor_parallel,
            dtype=dtype,
            limit_mm_per_prompt={"image": frames.max_frames + OTHER_PICTURES},
            seed=0,
        )
        self._max_tokens, self._dialect = max_tokens, DIALECTS[tool_dialect]
        self._batcher: Batcher[_Request, Reply] = Batcher(self._replies, batch_size, Reply.after)
        self._identity = {
            "checkpoint": checkpoint,
            "weights": checkpoints.fingerprint(folder),
            "revision": checkpoints.installed_revision(folder),
            "jpeg_quality": jpeg_quality,
            "max_tokens": max_tokens,
            "dtype": dtype,
            **tool_image_settings(tool_images),
            **tool_dialect_settings(tool_dialect),
        }

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Settings that determine a reply, apart from the prompt."""
        return {**self._identity, **self._frames.settings(), "engine": "vllm", "decoding": "greedy"}

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """Generate the reply, in one batch with those that other threads request at the same time.

        Tools, calls and results are text in the dialect of the model: a batch has one chat template and many tools.
        """
        conversation = to_dialect_messages(messages, tools, self.capabilities.tool_images, self._dialect)
        with self._batcher.preparing():
            content = self._content.messages(conversation)
        return self._batcher.result(_Request(content, self._sampling(decoding or Decoding()), bool(tools)))

    def _sampling(self, decoding: Decoding) -> Any:
        """Sampling parameters of one request; greedy by default."""
        options: dict[str, Any] = {"top_p": decoding.top_p, "seed": decoding.seed, "stop": list(decoding.stop)}
        return vllm.SamplingParams(
            temperature=decoding.temperature or 0.0,
            max_tokens=decoding.max_tokens or self._max_tokens,
            **{name: value for name, value in options.items() if value not in (None, [])},
        )

    def _replies(self, batch: Sequence[_Request]) -> list[Reply]:
        start = time.perf_counter()
        conversations = [request.messages for request in batch]
        try:
            outputs = self._engine.chat(conversations, [request.sampling for request in batch], use_tqdm=False)
        except ValueError as error:
            if TOO_LONG.search(str(error)):
                raise RequestTooLarge(
                    f"{' '.join(str(error).split())[:500]}; fewer or smaller frames need less"
                ) from None
            raise
        seconds = round((time.perf_counter() - start) / len(batch), 3)
        replies = [_reply(output, seconds) for output in outputs]
        pairs = zip(batch, replies, strict=True)
        return [with_text_calls(reply, self._dialect) if request.has_tools else reply for request, reply in pairs]


class _Request(NamedTuple):
    """Conversation in the format of chat completions, with its decoding settings."""

    messages: list[Json]
    sampling: Any
    """`vllm.SamplingParams`."""
    has_tools: bool


def _reply(output: Any, seconds: float) -> Reply:
    """Parse vLLM's RequestOutput."""
    first = output.outputs[0]
    usage = Usage(input_tokens=len(output.prompt_token_ids or ()), output_tokens=len(first.token_ids), seconds=seconds)
    if (finish := body.finish(first.finish_reason)) == "error":
        raise ModelError(f"vLLM broke the reply off ({first.finish_reason})")
    return Reply(first.text, usage=usage, finish=finish)
