"""Registry entries of models with open weights; licences, repositories and revisions are in `zoo.CHECKPOINTS`.

Frame sampling is that of the published scripts (1 frame per second; at most 768 for Qwen, 128 for the others) with two
differences: InternVL has a limit as well, and each frame has a timestamp. Decoding is greedy, thus reproducible.
"""

from __future__ import annotations

from dataclasses import replace

from evqa.models.registry import ModelSpec, Setting

HF = "evqa.models.hf_chat:HFChat"
VLLM = "evqa.models.vllm_chat:VllmChat"
TEXT = "evqa.models.hf_text:HFText"


def _hf(checkpoint: str, description: str, **arguments: Setting) -> ModelSpec:
    settings: dict[str, Setting] = {"checkpoint": checkpoint, "fps": 1.0, "max_frames": 128, "max_side": 448}
    return ModelSpec(adapter=HF, arguments=settings | arguments, extra="models", description=description)


def _vllm(checkpoint: str, description: str, **arguments: Setting) -> ModelSpec:
    settings: dict[str, Setting] = {"checkpoint": checkpoint, "fps": 1.0, "max_frames": 128, "max_side": 448}
    return ModelSpec(adapter=VLLM, arguments=settings | arguments, extra="vllm", description=description)


def _text(checkpoint: str, description: str) -> ModelSpec:
    arguments: dict[str, Setting] = {"checkpoint": checkpoint}
    return ModelSpec(adapter=TEXT, arguments=arguments, extra="models", method="episode", description=description)


OPEN_FOLDER = _hf("", "the checkpoint in a folder, of an architecture that transformers knows")
"""Registry entry of a checkpoint folder of an open model."""

TEXT_FOLDER = _text("", "the language model in a folder, the master of questions about episodes")
"""Registry entry of a checkpoint folder of a language model."""

OPEN_MODELS: dict[str, ModelSpec] = {
    "qwen2.5-3b": _text("qwen2.5-3b", "Qwen2.5 3B, reads text only: the master of questions about episodes"),
    "qwen2.5-7b": _text("qwen2.5-7b", "Qwen2.5 7B, reads text only: the master of questions about episodes"),
    "qwen2.5-vl-3b": _hf("qwen2.5-vl-3b", "Qwen2.5-VL 3B", max_frames=768),
    "qwen2.5-vl-7b": _hf("qwen2.5-vl-7b", "Qwen2.5-VL 7B", max_frames=768),
    "qwen2.5-vl-72b": _hf("qwen2.5-vl-72b", "Qwen2.5-VL 72B over all GPUs", max_frames=768),
    "vrthinker": replace(
        _hf("vrthinker", "VR-Thinker 7B, a judge of two videos (evqa judge)", tool_dialect="vrthinker"), method="judge"
    ),
    "qwen3-vl-4b": _hf("qwen3-vl-4b", "Qwen3-VL 4B", max_frames=768),
    "qwen3-vl-8b": _hf("qwen3-vl-8b", "Qwen3-VL 8B", max_frames=768),
    "qwen3-vl-30b-a3b": _hf("qwen3-vl-30b-a3b", "Qwen3-VL 30B-A3B over all GPUs", max_frames=768),
    "internvl3.5-4b": _hf("internvl3.5-4b", "InternVL3.5 4B, one tile a frame"),
    "internvl3.5-8b": _hf("internvl3.5-8b", "InternVL3.5 8B, one tile a frame"),
    "videollama3-2b-image": _hf("videollama3-2b-image", "VideoLLaMA3 2B (image stage) as converted for transformers"),
    "llava-onevision-1.5-8b": _hf(
        "llava-onevision-1.5-8b",
        "LLaVA-OneVision-1.5 8B by its published code (--trust-remote-code)",
        auto_class="AutoModelForCausalLM",
    ),
    "sa2va-qwen2.5-vl-7b": ModelSpec(
        adapter="evqa.models.sa2va:Sa2VAChat",
        arguments={"checkpoint": "sa2va-qwen2.5-vl-7b", "fps": 1.0, "max_frames": 16, "max_side": 512},
        extra="models",
        predicts_masks=True,
        method="grounded-turns",
        description="Sa2VA 7B, which draws masks, by its published code (--trust-remote-code)",
    ),
    "qwen3-vl-8b-vllm": _vllm("qwen3-vl-8b", "Qwen3-VL 8B in vLLM's engine", max_frames=768),
    "qwen3-vl-235b-a22b-vllm": _vllm(
        "qwen3-vl-235b-a22b", "Qwen3-VL 235B-A22B in vLLM's engine over 8 GPUs", max_frames=768, tensor_parallel=8
    ),
    "qwen2.5-vl-72b-vllm": _vllm(
        "qwen2.5-vl-72b", "Qwen2.5-VL 72B in vLLM's engine over 4 GPUs", max_frames=768, tensor_parallel=4
    ),
}
