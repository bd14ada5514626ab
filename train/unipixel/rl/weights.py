"""Weights of a run: those at its start, the merged ones at its end, and the memory that they need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from evqa.models.chat_tokens import load_tokenizer
from evqa.models.hf_chat import check_folder
from evqa.models.weights import loading_context
from unipixel import integrity
from unipixel.rl import run_record
from unipixel.rl.arguments import lora_arguments
from unipixel.rl.configs import RLConfig
from unipixel.training import checkpoint_folder
from unipixel.training.memory_estimate import GIB, ParameterCounts, estimate_memory

ADAPTER = "adapter_config.json"

LOGIT_BYTES = 10
"""Bytes of a logit in an update: in 16 bits, its log-probability and gradient in 32 bits."""


def load(folder: Path, config: RLConfig) -> tuple[Any, Any]:
    """(language model, tokenizer) of a checkpoint. `ValueError`: they cannot be loaded.

    With an adapter, the weights that are not trained have the type of computation; trained ones are in 32 bits.
    """
    check_folder(folder)
    if config.loop.num_threads:
        torch.set_num_threads(config.loop.num_threads)
    untyped: Any = transformers
    dtype = torch.bfloat16 if config.loop.bf16 and config.lora.rank else torch.float32
    with loading_context(f"the checkpoint in {folder}"):
        options = {"local_files_only": True, "use_safetensors": True}
        model = untyped.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options)
        tokenizer = load_tokenizer(folder)
    return model, tokenizer


def export_merged_model(start: Path, config: RLConfig, record: Mapping[str, Any]) -> Path:
    """Write the model with the best evaluation, or that of the last checkpoint without one, with merged adapter.

    Args:
        start: folder of the start weights.
        config: the config of the run.
        record: record of the run.

    Returns:
        The folder of the model, which is complete.
    """
    out = config.out
    best = out / run_record.BEST
    source = best if best.is_dir() else integrity.checkpoints(out)[-1]
    base = start if (source / ADAPTER).is_file() else source
    model, tokenizer = load(start, config) if base == start else (load(source, config)[0], None)
    if base == start:
        import peft

        model = peft.PeftModel.from_pretrained(model, str(source)).merge_and_unload()  # type: ignore[operator]
    partial, final = out / checkpoint_folder.PARTIAL / checkpoint_folder.MODEL, out / checkpoint_folder.MODEL
    with integrity.atomic_write(partial, final, lambda: "the same command writes it again"):
        model.save_pretrained(partial)
        (tokenizer or load(start, config)[1]).save_pretrained(partial)
        run_record.write(partial, {**record, run_record.EXPORTED: source.name})
        integrity.write_manifest(partial)
        checkpoint_folder.commit_folder(partial, final)
    return final


def memory_estimate(folder: Path, config: RLConfig, processes: int) -> str:
    """Memory of a run on one device, in one line.

    Args:
        folder: folder of the start weights.
        config: the config of the run.
        processes: number of processes.
    """
    untyped: Any = transformers
    settings = untyped.AutoConfig.from_pretrained(folder, local_files_only=True)
    adapter = lora_arguments(config)
    with torch.device("meta"):
        model = untyped.AutoModelForCausalLM.from_config(settings)
        if adapter is not None:
            import peft

            model = peft.get_peft_model(model, adapter)
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
    loop = config.loop
    estimate = estimate_memory(
        ParameterCounts(trained, total, total),
        loop,
        processes,
    )
    rollout = config.rollout
    length = min(
        config.episode.episode_turns * rollout.max_reply_tokens, rollout.max_prompt_tokens + rollout.max_reply_tokens
    )
    logits = loop.per_device_batch_size * length * settings.vocab_size * LOGIT_BYTES
    engine = f"; vLLM takes {rollout.vllm_memory:.0%} of each GPU beside it" if rollout.engine == "vllm" else ""
    return (
        f"training {trained:,} of {total:,} parameters: {estimate}; logits of an update with replies of full length "
        f"{logits / GIB:.2f} GiB{engine}"
    )
