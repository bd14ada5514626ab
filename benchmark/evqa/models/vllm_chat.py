"""Open models in vLLM's engine inside this process: several questions in one pass, one copy over several GPUs.

The same models behind `vllm serve` are reached as `openai-compatible`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from evqa.hub import checkpoint_files, checkpoints
from evqa.models.api import body
from evqa.models.base import Capabilities, ModelError, require_no_call_options
from evqa.models.batching import Batcher
from evqa.models.frame_policy import FramePolicy
from evqa.models.messages import Decoding, Message, Reply, ToolSpec
from evqa.models.openai_content import Json, OpenAIContent
from evqa.schema import Usage

vllm: Any = importlib.import_module("vllm")
"""An extra for machines with a GPU; untyped here, since it is not installed where types are checked."""

OTHER_PICTURES = 8
"""Pictures of a conversation besides the frames: the options of a question in space."""


class VllmChat:
    """A checkpoint that replies greedily."""

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
    ) -> None:
        """Load a checkpoint.

        Args:
            name: what the model is called in results.
            frames: what it sees of a video.
            checkpoint: a name of the zoo, or a folder.
            jpeg_quality: of the frames, 1 to 95.
            max_tokens: where a reply is cut.
            batch_size: questions in one pass.
            tensor_parallel: GPUs that hold one copy of the model.
            dtype: "auto" = as the weights are stored.
        """
        folder = checkpoints.locate_checkpoint(checkpoint)
        checkpoint_files.check_open(folder)
        self.name, self.capabilities = name, Capabilities(concurrency=2 * batch_size, is_concurrent=True)
        self._frames, self._content = frames, OpenAIContent(frames, jpeg_quality, 2 * batch_size)
        self._engine: Any = vllm.LLM(
            model=str(folder),
            tensor_parallel_size=tensor_parallel,
            dtype=dtype,
            limit_mm_per_prompt={"image": frames.max_frames + OTHER_PICTURES},
            seed=0,
        )
        self._sampling: Any = vllm.SamplingParams(temperature=0.0, max_tokens=max_tokens)
        self._batcher: Batcher[list[Json], Reply] = Batcher(self._replies, batch_size)
        self._identity = {
            "checkpoint": checkpoint,
            "weights": checkpoints.fingerprint(folder),
            "revision": checkpoints.installed_revision(folder),
            "jpeg_quality": jpeg_quality,
            "max_tokens": max_tokens,
            "dtype": dtype,
        }

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What decides a reply, apart from the question."""
        return {**self._identity, **self._frames.settings(), "engine": "vllm", "decoding": "greedy"}

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """The reply; it is computed together with what other threads ask meanwhile."""
        require_no_call_options(self.name, tools, decoding)
        with self._batcher.preparing():
            written = self._content.messages(messages)
        return self._batcher.result(written)

    def _replies(self, batch: Sequence[list[Json]]) -> list[Reply]:
        start = time.perf_counter()
        outputs = self._engine.chat(list(batch), self._sampling, use_tqdm=False)
        seconds = round((time.perf_counter() - start) / len(batch), 3)
        return [_reply(output, seconds) for output in outputs]


def _reply(output: Any, seconds: float) -> Reply:
    """What vLLM's RequestOutput says."""
    first = output.outputs[0]
    usage = Usage(input_tokens=len(output.prompt_token_ids or ()), output_tokens=len(first.token_ids), seconds=seconds)
    if (finish := body.finish(first.finish_reason)) == "error":
        raise ModelError(f"vLLM broke the reply off ({first.finish_reason})")
    return Reply(first.text, usage=usage, finish=finish)
