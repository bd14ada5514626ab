"""Checkpoints on disk: safetensors in the published names, never pickle.

A full checkpoint holds config.json, model.safetensors (or shards with their index) and the tokenizer. A
checkpoint of a run in training holds what is trained: adapter_model.safetensors with its config, and
pytorch_model.safetensors (the name is the published one; it is no pickle) with the other trained weights and the
random Fourier matrices that they were trained against.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLConfig
from transformers.utils.import_utils import is_flash_attn_2_available

from unipixel import integrity
from unipixel.data.conversation import check_tokenizer
from unipixel.model import adapter, decoder_weights, weight_names
from unipixel.model.adapter import ADAPTER
from unipixel.model.config import DECODERS, UniPixelConfig
from unipixel.model.encoder import decoder_config
from unipixel.model.tracker import MaskTracker
from unipixel.model.unipixel import EXACT, UniPixel

logger = logging.getLogger(__name__)

WEIGHTS, INDEX, TRAINED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.safetensors"


def load(
    folder: Path,
    *,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "cpu",
    attention: str | None = None,
    config: UniPixelConfig | None = None,
    base: Path | None = None,
) -> UniPixel:
    """The model of a checkpoint, in evaluation mode; an adapter is merged.

    Args:
        folder: config.json and safetensors weights, or an adapter and the other trained weights.
        dtype: type of the weights; "auto" = as saved.
        device: where they go.
        attention: implementation for language model and vision tower; None = flash attention where it is
            installed and the weights are 16 bits on a GPU, else torch's own.
        config: instead of the folder's config.json.
        base: the full checkpoint that an adapter belongs to; None = where the adapter says.
    """
    is_partial = holds_trained_only(folder)
    start = base_of(folder, base) if is_partial else folder
    check(start)
    if is_partial:
        _check_whole(folder)
        check_trained(folder)
    if config is None:
        config = UniPixelConfig.from_pretrained(folder if (folder / "config.json").is_file() else start)
    wanted = config.dtype if dtype == "auto" else dtype
    provided = _trained_names(folder) if is_partial else frozenset[str]()
    model = _read(start, config, wanted, attention or best_attention(wanted, device), provided)
    if is_partial:
        add_trained(model, folder)
    model.sam2.freeze_unused()
    return model.to(device).eval()  # type: ignore[arg-type]


def start_from(qwen: Path, decoder: Path, image_size: int = 768) -> tuple[UniPixel, PreTrainedTokenizerBase]:
    """A UniPixel to train, in fp32, of a plain Qwen2.5-VL and SAM 2.1; see `UniPixel.start_new_parts`.

    Args:
        qwen: folder of a Qwen2.5-VL, with its tokenizer.
        decoder: see `decoder_weights.load_tracker`.
        image_size: side of the square that the decoder sees, in pixels.
    """
    check(qwen)
    tokenizer = AutoTokenizer.from_pretrained(qwen, local_files_only=True)
    new = [AddedToken(token, special=True, normalized=False) for token in ("<|ref|>", "<|seg|>", "<|mem|>")]
    tokenizer.add_tokens(new, special_tokens=True)
    name, tracker = decoder_weights.load_tracker(decoder, image_size)
    parent = Qwen2_5_VLConfig.from_pretrained(qwen).to_dict()
    if len(tokenizer) > parent["text_config"]["vocab_size"]:
        raise ValueError(f"{qwen} has no room for new tokens: {len(tokenizer)} are more than its embedding has")
    ref, seg, mem = (tokenizer.convert_tokens_to_ids(str(token)) for token in new)
    config = UniPixelConfig(
        **{key: value for key, value in parent.items() if key not in {"model_type", "architectures", "dtype"}},
        sam2_config=f"configs/sam2.1_hiera_{name}",
        sam2_image_size=image_size,
        ref_token_id=ref,
        seg_token_id=seg,
        mem_token_id=mem,
        mem_order="raster",
        clock="true",
    )
    model = _read(qwen, config, torch.float32, "sdpa", provided=None)
    model.sam2 = tracker
    model.start_new_parts()
    torch.nn.init.normal_(model.tem_pe.positional_encoding_gaussian_matrix)
    return model.eval(), tokenizer


def _read(
    folder: Path,
    config: UniPixelConfig,
    dtype: torch.dtype | str | None,
    attention: str,
    provided: frozenset[str] | None,
) -> UniPixel:
    """Full weights on the CPU; `provided` names those that will come from elsewhere, None = all that are lacking."""
    model, info = UniPixel.from_pretrained(  # type: ignore[misc]
        folder,
        config=config,
        dtype=torch.float32 if dtype is None else dtype,
        attn_implementation=attention,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are an error below, which names them
    )
    model._weight_conversions = None  # so that it is saved in the published names, whichever were loaded
    if wrong := sorted(info["mismatched_keys"]):
        shapes = [f"{weight_names.published_name(name)} {list(came)} -> {list(here)}" for name, came, here in wrong]
        raise ValueError(
            f"{folder} does not fit its config (mask decoder {config.sam2_config}): {decoder_weights.listed(shapes)}"
        )
    lacking = set() if provided is None else set(info["missing_keys"]) - provided
    if lacking:
        names = sorted(map(weight_names.published_name, lacking))
        raise ValueError(f"{folder} lacks {len(names)} weights of a UniPixel: {decoder_weights.listed(names)}")
    if unknown := sorted(info["unexpected_keys"]):
        if any(name.startswith("sam2.") for name in unknown):
            raise ValueError(
                f"{folder} holds another mask decoder than {config.sam2_config}: "
                f"nothing here takes {decoder_weights.listed(unknown)}"
            )
        logger.warning("%s holds weights that the model has no use for: %s", folder, decoder_weights.listed(unknown))
    return model


def holds_trained_only(folder: Path) -> bool:
    """Whether a folder holds what was trained (an adapter, other weights) without the rest of its model."""
    is_full = any((folder / name).is_file() for name in (WEIGHTS, INDEX))
    return not is_full and any((folder / name).is_file() for name in (ADAPTER, TRAINED))


def base_of(folder: Path, base: Path | None = None) -> Path:
    """The full checkpoint behind a folder of trained weights, or a `ValueError` that says what it is called."""
    if base is not None:
        return base
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named = [name for name in (config.get("base_model_path"), adapter.base_name(folder)) if name]
    for name in named:
        if Path(name).is_dir():
            return Path(name)
    called = f"{named[0]}, which is not here" if named else "named nowhere in it"
    raise ValueError(
        f"{folder} holds an adapter only; its base is {called}: "
        f"python -m unipixel.convert OUT --base FOLDER --trained {folder}"
    )


def add_trained(model: UniPixel, folder: Path) -> None:
    """Merge what `save_trained`, or another tool for the published models, wrote into the plain model."""
    if (folder / TRAINED).is_file():
        _load_weights(model, folder / TRAINED)
    if (folder / ADAPTER).is_file():
        adapter.merge_into(model, folder)


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

    The config goes with them: it says by which clock and of how many pixels they learnt. `state` are all weights by
    the names of `model`, where the model's own are sharded.
    """
    from peft import PeftModel, get_peft_model_state_dict  # with the extra "train", which loading does without

    folder.mkdir(parents=True, exist_ok=True)
    inside = _inside(model)
    assert isinstance(inside, UniPixel), type(inside)
    inside.config.save_pretrained(folder)
    prefix = "base_model.model." if isinstance(model, PeftModel) else ""
    if isinstance(model, PeftModel):
        adapter = get_peft_model_state_dict(model, state_dict=None if state is None else dict(state))
        save_file(_packed(adapter), folder / ADAPTER, metadata={"format": "pt"})
        model.peft_config["default"].save_pretrained(str(folder))
    weights = {name.removeprefix(prefix): tensor for name, tensor in (state or model.state_dict()).items()}
    names = [n for n, p in inside.named_parameters() if p.requires_grad and "lora_" not in n]
    if names:
        names += [name for name in weights if name.endswith(EXACT)]  # without these, what was trained means nothing
        trained = {weight_names.published_name(name): weights[name] for name in names}
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
        if lacking := [name for name in result.missing_keys if "lora_" in name]:
            raise ValueError(f"{folder / ADAPTER} lacks {len(lacking)} weights: {decoder_weights.listed(lacking)}")
    wanted = {n for n, p in _inside(model).named_parameters() if p.requires_grad and "lora_" not in n}
    if wanted:
        _load_weights(_inside(model), _existing(folder, TRAINED))
        if lacking := sorted(wanted - _trained_names(folder)):
            names = list(map(weight_names.published_name, lacking))
            raise ValueError(f"{folder / TRAINED} lacks {len(names)} weights: {decoder_weights.listed(names)}")


def replace_decoder(model: UniPixel, name: str, folder: Path) -> None:
    """Put another SAM 2.1 in the model: `name` of `DECODERS`, weights as `decoder_weights.load_tracker` takes them.

    The prompts that the model writes were learnt for the decoder it had: train seg and sam2 afterwards.
    """
    size = DECODERS[name]
    if size.hidden != model.config.mask_decoder.hidden:
        raise ValueError(f"decoder {name!r} takes prompts of width {size.hidden}, the model writes others")
    tracker = MaskTracker(decoder_config(size, model.config.sam2_image_size))
    decoder_weights.fill(tracker, decoder_weights.read(folder), folder)
    model.sam2 = tracker.to(model.dtype).to(model.device)  # type: ignore[call-arg]
    model.config.sam2_config, model.config.sam2_sizes = f"configs/sam2.1_hiera_{name}", None
    logger.info("mask decoder replaced: %s", asdict(size))


def check(folder: Path) -> None:
    """A `ValueError` that names the files which a full checkpoint in `folder` lacks, or that broke off."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no config.json")
    if (folder / INDEX).is_file():
        shards = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
        if odd := [shard for shard in shards if not re.fullmatch(r"[\w.-]+\.safetensors", shard)]:
            raise ValueError(f"{folder / INDEX} names {odd[0]!r}, which is no safetensors file of its folder")
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise ValueError(f"{folder} is incomplete: it lacks {', '.join(missing)}")
    elif not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} is incomplete: it lacks {WEIGHTS} or {INDEX}")
    _check_whole(folder)


def check_trained(folder: Path) -> None:
    """A `ValueError` where trained weights of a run are missing, or are not as they were written."""
    if damage := integrity.weights_damage(folder):
        good = (
            integrity.newest_whole(folder.parent, integrity.weights_damage) if integrity.step_of(folder) >= 0 else None
        )
        advice = "copy it again" if good is None else f"the newest complete checkpoint there is {good}"
        raise ValueError(f"{folder} is not complete: {'; '.join(damage)}; {advice}")


def _check_whole(folder: Path) -> None:
    """A `ValueError` that names a file of weights which is not as long as it says itself."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{path} is no whole safetensors file ({error}): fetch or copy it again") from error


def best_attention(dtype: torch.dtype | str | None, device: torch.device | str) -> str:
    """Flash attention where it is installed and can run, else torch's own."""
    is_half = dtype in (torch.bfloat16, torch.float16, "bfloat16", "float16")
    can_flash = is_half and torch.device(device).type == "cuda" and is_flash_attn_2_available()
    return "flash_attention_2" if can_flash else "sdpa"


def _inside(model: nn.Module) -> nn.Module:
    """The model inside an adapted one, or the model itself."""
    return model if isinstance(model, UniPixel) else model.get_submodule("base_model.model")


def _trained_names(folder: Path) -> frozenset[str]:
    if not (folder / TRAINED).is_file():
        return frozenset()
    with safe_open(folder / TRAINED, framework="pt") as file:
        return frozenset(weight_names.module_name(name) for name in file.keys())  # noqa: SIM118  (it is no dict)


def _load_weights(model: nn.Module, path: Path) -> None:
    """Copy weights of published names into a model that has them all."""
    here = model.state_dict(keep_vars=True)
    for name, tensor in load_file(path).items():
        weight = here.get(weight_names.module_name(name))
        if weight is None or weight.shape != tensor.shape:
            raise ValueError(f"{path}: {name} {tuple(tensor.shape)} fits no weight of this model")
        with torch.no_grad():
            weight.copy_(tensor)


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ValueError(f"{folder} lacks {name}")
    return folder / name


def _packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each in memory of its own, as safetensors wants them."""
    return {name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}
