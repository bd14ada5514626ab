"""Checkpoints on disk: safetensors in the published names, never pickle.

A full checkpoint holds config.json, model.safetensors (or shards with their index) and the tokenizer. A
checkpoint of a run in training holds what is trained: adapter_model.safetensors with its config, and
pytorch_model.safetensors (the name is the published one; it is no pickle) with the other trained weights.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.import_utils import is_flash_attn_2_available

from unipixel.data.conversation import check_tokenizer
from unipixel.model import weight_names
from unipixel.model.config import DECODERS, UniPixelConfig
from unipixel.model.tracker import MaskTracker, decoder_config
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)

WEIGHTS, INDEX, ADAPTER, TRAINED = (
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "pytorch_model.safetensors",
)


def load(
    folder: Path,
    *,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "cpu",
    attention: str | None = None,
    config: UniPixelConfig | None = None,
) -> UniPixel:
    """The model of a full checkpoint, in evaluation mode.

    Args:
        folder: config.json and safetensors weights.
        dtype: type of the weights; "auto" = as saved.
        device: where they go.
        attention: implementation for language model and vision tower; None = flash attention where it is
            installed and the weights are 16 bits on a GPU, else torch's own.
        config: instead of the folder's config.json.
    """
    check(folder)
    config = UniPixelConfig.from_pretrained(folder) if config is None else config
    wanted = config.dtype if dtype == "auto" else dtype
    model, info = UniPixel.from_pretrained(  # type: ignore[misc]
        folder,
        config=config,
        dtype=torch.float32 if wanted is None else wanted,
        attn_implementation=attention or best_attention(wanted, device),
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        names = sorted(info["missing_keys"])
        raise ValueError(f"{folder} lacks {len(names)} weights of a UniPixel, such as {', '.join(names[:5])}")
    if info["unexpected_keys"]:
        logger.warning(
            "%s holds weights that the model has no use for: %s", folder, sorted(info["unexpected_keys"])[:5]
        )
    model.sam2.freeze_unused()
    return model.to(device).eval()  # type: ignore[arg-type]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that lies in a checkpoint."""
    names = ("tokenizer.json", "vocab.json")
    if not any((folder / name).is_file() for name in names):
        raise ValueError(f"{folder} has no tokenizer: one of {', '.join(names)} is needed beside the weights")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    check_tokenizer(tokenizer)
    return tokenizer


def save(model: UniPixel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a full checkpoint that `load`, and other tools for the published ones, can read."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_trained(model: nn.Module, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write what is trained: the adapter of an adapted model, and the other weights that require a gradient.

    `state` are all weights by the names of `model`, where the model's own are sharded.
    """
    from peft import PeftModel, get_peft_model_state_dict  # with the extra "train", which loading does without

    folder.mkdir(parents=True, exist_ok=True)
    prefix = "base_model.model." if isinstance(model, PeftModel) else ""
    if isinstance(model, PeftModel):
        adapter = get_peft_model_state_dict(model, state_dict=None if state is None else dict(state))
        save_file(_packed(adapter), folder / ADAPTER, metadata={"format": "pt"})
        model.peft_config["default"].save_pretrained(str(folder))
    weights = {name.removeprefix(prefix): tensor for name, tensor in (state or model.state_dict()).items()}
    trained = {
        weight_names.published_name(name): weights[name]
        for name, parameter in _inside(model).named_parameters()
        if parameter.requires_grad and "lora_" not in name
    }
    if trained:
        save_file(_packed(trained), folder / TRAINED, metadata={"format": "pt"})


def load_trained(model: nn.Module, folder: Path) -> None:
    """Read what `save_trained` wrote into a model that has the same adapter."""
    from peft import PeftModel, set_peft_model_state_dict

    if isinstance(model, PeftModel):
        result = set_peft_model_state_dict(model, load_file(_existing(folder, ADAPTER)))
        if result.unexpected_keys:
            raise ValueError(
                f"{folder / ADAPTER} is no adapter of this model: {result.unexpected_keys[:3]} fit nowhere"
            )
    path = folder / TRAINED
    if not path.is_file():
        return
    parameters = dict(_inside(model).named_parameters())
    for name, tensor in load_file(path).items():
        parameter = parameters.get(weight_names.module_name(name))
        if parameter is None or parameter.shape != tensor.shape:
            raise ValueError(f"{path}: {name} {tuple(tensor.shape)} fits no weight of this model")
        with torch.no_grad():
            parameter.copy_(tensor)


def replace_decoder(model: UniPixel, name: str, folder: Path) -> None:
    """Put another SAM 2.1 in the model: `name` of `DECODERS`, weights in the layout of `Sam2VideoModel`.

    The prompts that the model writes were learnt for the decoder it had: train seg and sam2 afterwards.
    """
    size = DECODERS[name]
    if size.hidden != model.config.mask_decoder.hidden:
        raise ValueError(f"decoder {name!r} takes prompts of width {size.hidden}, the model writes others")
    weights = load_file(_existing(folder, WEIGHTS))
    points = weights.pop("prompt_encoder.point_embed.weight")
    weights |= {f"prompt_encoder.point_embeddings.{i}.weight": row[None] for i, row in enumerate(points)}
    weights.pop("shared_image_embedding.positional_embedding", None)
    tracker = MaskTracker(decoder_config(size, model.config.sam2_image_size))
    tracker.load_state_dict(weights)
    model.sam2 = tracker.to(model.dtype).to(model.device)  # type: ignore[call-arg]
    model.config.sam2_config, model.config.sam2_sizes = f"configs/sam2.1_hiera_{name}", None
    logger.info("mask decoder replaced: %s", asdict(size))


def check(folder: Path) -> None:
    """A `ValueError` that names the files which a full checkpoint in `folder` lacks."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no config.json")
    if (folder / INDEX).is_file():
        shards = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
        if odd := [shard for shard in shards if not re.fullmatch(r"[\w.-]+\.safetensors", shard)]:
            raise ValueError(f"{folder / INDEX} names {odd[0]!r}, which is no safetensors file of its folder")
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise ValueError(f"{folder} is incomplete: it lacks {', '.join(missing)}")
    elif not (folder / WEIGHTS).is_file():
        hint = "; it holds an adapter only: merge it into its base first" if (folder / ADAPTER).is_file() else ""
        raise ValueError(f"{folder} is incomplete: it lacks {WEIGHTS} or {INDEX}{hint}")


def best_attention(dtype: torch.dtype | str | None, device: torch.device | str) -> str:
    """Flash attention where it is installed and can run, else torch's own."""
    is_half = dtype in (torch.bfloat16, torch.float16, "bfloat16", "float16")
    can_flash = is_half and torch.device(device).type == "cuda" and is_flash_attn_2_available()
    return "flash_attention_2" if can_flash else "sdpa"


def _inside(model: nn.Module) -> nn.Module:
    """The model inside an adapted one, or the model itself."""
    return model if isinstance(model, UniPixel) else model.get_submodule("base_model.model")


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ValueError(f"{folder} lacks {name}")
    return folder / name


def _packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each in memory of its own, as safetensors wants them."""
    return {name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}
