"""Our calls of vLLM against the signatures that it documents (docs.vllm.ai: LLM, LLM.chat, SamplingParams, outputs).

vLLM needs a GPU to be installed with; in its place stands a module of the same signatures, so that an argument which
it does not have is an error here. What it computes is not tested.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from evqa import media, models
from evqa.hub import checkpoints
from evqa.models.base import RequestTooLarge
from evqa.models.messages import Decoding, ImagePart, Message, ToolSpec, VideoPart
from evqa.models.tool_images import NOT_SHOWN
from evqa.schema import ToolCall

ENGINE_ARGUMENTS = {"limit_mm_per_prompt", "max_model_len", "gpu_memory_utilization"}
"""Some of `EngineArgs`, which LLM takes by name besides its own."""


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    stop: str | list[str] | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int] | None
    outputs: list[CompletionOutput]


class LLM:
    def __init__(
        self, model: str, *, tensor_parallel_size: int = 1, dtype: str = "auto", seed: int | None = None, **engine: Any
    ) -> None:
        assert engine.keys() <= ENGINE_ARGUMENTS
        self.built = {"model": model, "tensor_parallel_size": tensor_parallel_size, "dtype": dtype} | engine
        self.passes: list[int] = []

    def chat(
        self,
        messages: list[list[dict[str, Any]]],
        sampling_params: SamplingParams | list[SamplingParams] | None = None,
        use_tqdm: bool = True,
        lora_request: object = None,
        chat_template: str | None = None,
    ) -> list[RequestOutput]:
        assert isinstance(sampling_params, list)
        assert all(isinstance(one, list) for one in messages), "one list of messages a conversation"
        self.passes.append(len(messages))
        limit = self.built["limit_mm_per_prompt"]["image"]
        self.sampling_params = sampling_params
        pairs = zip(messages, sampling_params, strict=True)
        return [self._said(talk, sampling.max_tokens, limit) for talk, sampling in pairs]

    def _said(self, talk: list[dict[str, Any]], max_tokens: int | None, limit: int) -> RequestOutput:
        pieces = [piece for message in talk for piece in message["content"] if isinstance(piece, dict)]
        pictures = [piece["image_url"]["url"] for piece in pieces if piece["type"] == "image_url"]
        assert len(pictures) <= limit
        assert all(url.startswith("data:image/jpeg;base64,") for url in pictures)
        words = [piece["text"] for piece in pieces if piece["type"] == "text"]
        text = f"{len(pictures)} pictures, {words[-1]}" if pictures else str(talk[-1]["content"])
        reason = "length" if max_tokens == 1 else "stop"
        return RequestOutput("1", [1] * 7, [CompletionOutput(0, text, (1, 2, 3), reason)])


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder with a checkpoint, and a module of vLLM's signatures."""
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.delitem(sys.modules, "evqa.models.vllm_chat", raising=False)
    monkeypatch.setenv("EVQA_ZOO", str(tmp_path))
    folder = tmp_path / "qwen3-vl-8b"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3_vl"}')
    (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    yield folder
    sys.modules.pop("evqa.models.vllm_chat", None)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    media.write_video(path, iter(np.full((18, 32, 48, 3), 90, dtype=np.uint8)), 6.0)
    return path


def test_a_question_is_asked_as_vllm_documents_it(vllm: Path, clip: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "option.png"
    Image.new("RGB", (64, 48)).save(picture)
    assert checkpoints.locate_checkpoint("qwen3-vl-8b") == vllm
    model: Any = models.build("qwen3-vl-8b-vllm", tensor_parallel=2, batch_size=4)
    assert model._engine.built == {
        "model": str(vllm),
        "tensor_parallel_size": 2,
        "dtype": "auto",
        "limit_mm_per_prompt": {"image": 768 + 8},
    }
    reply = model.generate((Message("user", (VideoPart(clip), "Which?", ImagePart(picture))),))
    assert (reply.text, reply.finish) == ("4 pictures, Which?", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (7, 3)
    assert model.settings["engine"] == "vllm"
    assert model.settings["max_frames"] == 768


def test_a_reply_that_is_cut_says_so(vllm: Path, clip: Path) -> None:
    model = models.build("qwen3-vl-8b-vllm", max_tokens=1)
    assert model.generate((Message("user", (VideoPart(clip), "Which?")),)).finish == "length"


def test_decoding_and_tools_of_a_call_reach_the_engine(vllm: Path) -> None:
    model: Any = models.build("qwen3-vl-8b-vllm", batch_size=2)
    call = '<tool_call>{"name": "zoom", "arguments": {"second": 1}}</tool_call>'
    decoding = Decoding(temperature=0.7, top_p=0.9, seed=5, max_tokens=7, stop=("END",))
    tools = (ToolSpec("zoom", "Zoom in.", {"type": "object"}),)
    reply = model.generate((Message("user", (f"Look. {call}",)),), tools=tools, decoding=decoding)
    assert model._engine.sampling_params == [SamplingParams(1, 0.7, 0.9, 5, 7, ["END"])]
    assert (reply.text, reply.finish) == ("Look.", "tool_calls")
    assert [(one.name, one.arguments) for one in reply.calls] == [("zoom", '{"second": 1}')]
    model.generate((Message("user", ("Look.",)),))
    assert model._engine.sampling_params == [SamplingParams(temperature=0.0, max_tokens=4096)]


def test_images_of_tool_results_follow_them_or_are_left_out(vllm: Path) -> None:
    call = ToolCall(id="1", name="zoom", arguments="{}")
    frame = ImagePart(image=np.zeros((8, 8, 3), np.uint8), second=2.0)
    conversation = (
        Message("user", ("Look.",)),
        Message("assistant", (), calls=(call,)),
        Message("tool", ("Enlarged:", frame), call_id="1"),
    )
    model: Any = models.build("qwen3-vl-8b-vllm")
    assert model.generate(conversation).text.startswith("1 pictures")
    blind: Any = models.build("qwen3-vl-8b-vllm", tool_images="text")
    text = blind.generate(conversation).text
    assert text == f"<tool_response>\nEnlarged:\n[2.0 s]\n{NOT_SHOWN}\n</tool_response>"
    assert (model.settings.get("tool_images"), blind.settings["tool_images"]) == (None, "text")
    with pytest.raises(ValueError, match="has no --tool-images tool: leave it out, or give user or text"):
        models.build("qwen3-vl-8b-vllm", tool_images="tool")


@pytest.mark.parametrize(
    "message",
    [
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "At most 66 image(s) may be provided in one prompt.",
    ],
)
def test_a_prompt_that_vllm_refuses_for_its_size_is_too_large(
    vllm: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    model = models.build("qwen3-vl-8b-vllm")

    def refuse(*_: object, **__: object) -> None:
        raise ValueError(message)

    monkeypatch.setattr(LLM, "chat", refuse)
    with pytest.raises(RequestTooLarge, match="smaller frames need less"):
        model.generate((Message("user", ("hello",)),))
    message = "no such parameter"
    with pytest.raises(ValueError, match="no such parameter"):
        model.generate((Message("user", ("hello",)),))
