"""Loading and saving of checkpoints: safetensors with the published names of weights, no pickle.

A full checkpoint has config.json, model.safetensors (or shards with their index) and the tokenizer. A training
checkpoint has the trained weights only: adapter_model.safetensors with its config, and pytorch_model.safetensors (the
published name; it is no pickle) with the other trained weights and the random Fourier matrices.
"""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLConfig

from evqa.hub import checkpoint_files
from evqa.hub.checkpoint_files import ADAPTER, ADAPTER_CONFIG, INDEX, WEIGHTS, TensorInfo, first_names
from evqa.models.attention import best_attention
from evqa.models.weights import check_finite, loading_context, tensors_of, without_progress_bars
from unipixel import integrity
from unipixel.model import lora_files, weight_names
from unipixel.model.config import DECODERS, UniPixelConfig
from unipixel.model.config_files import read_config
from unipixel.model.sam2 import weights as sam2_weights
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.tracker import MaskTracker
from unipixel.model.tokenizer import check_tokenizer
from unipixel.model.unipixel import FP32_BUFFERS, UniPixel

logger = logging.getLogger(__name__)

TRAINED = "pytorch_model.safetensors"

PARENT = ("model.", "lm_head.")
"""Prefixes of the names of weights that a plain Qwen2.5-VL has too."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def load_checkpoint(
    folder: Path,
    *,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "cpu",
    attention: str | None = None,
    config: UniPixelConfig | None = None,
    base: Path | None = None,
) -> UniPixel:
    """Load the model of a checkpoint, in evaluation mode and with its adapter merged.

    Args:
        folder: config.json and safetensors weights, or an adapter and the other trained weights.
        dtype: type of the weights; "auto" = as saved.
        device: device of the weights.
        attention: implementation for language model and vision tower; None = flash attention if it is installed and
            the weights are 16 bits on a GPU, else that of torch.
        config: replaces config.json of the folder.
        base: the full checkpoint of an adapter; None = as named by the adapter.

    Raises:
        ValueError: files are missing, damaged or do not fit together.
    """
    is_partial = holds_trained_only(folder)
    start = base_of(folder, base) if is_partial else folder
    weights = check_full_checkpoint(start)
    if is_partial:
        check_trained(folder)
    if config is None:
        config = read_config(folder if (folder / "config.json").is_file() else start)
    plan = _planned(config, start)
    if is_partial:
        _check_fit_of_trained(plan, folder)
    check_fit(plan, weights, start, provided=_trained_names(folder) if is_partial else frozenset())
    expected = config.dtype if dtype == "auto" else dtype
    model = _read(start, config, expected, attention or best_attention(expected, device))
    if is_partial:
        add_trained(model, folder)
    model.sam2.freeze_unused()
    model = model.to(device).eval()  # type: ignore[arg-type]
    check_finite(tensors_of(model), folder, weight_names.published_name)
    return model


def start_from(qwen: Path, decoder: Path, image_size: int = 768) -> tuple[UniPixel, PreTrainedTokenizerBase]:
    """Create a UniPixel to train, in fp32, from a plain Qwen2.5-VL and SAM 2.1; see `UniPixel.start_new_parts`.

    Args:
        qwen: folder of a Qwen2.5-VL, with its tokenizer.
        decoder: weights of SAM 2.1, see `sam2.weights.load_tracker`.
        image_size: side of the square input of SAM 2, in pixels.
    """
    weights = check_full_checkpoint(qwen)
    parent = read_config(qwen, Qwen2_5_VLConfig).to_dict()
    tokenizer = _tokenizer(qwen)
    new = [AddedToken(token, special=True, normalized=False) for token in ("<|ref|>", "<|seg|>", "<|mem|>")]
    tokenizer.add_tokens(new, special_tokens=True)
    name, tracker = sam2_weights.load_tracker(decoder, image_size)
    if len(tokenizer) > parent["text_config"]["vocab_size"]:
        raise ValueError(f"{qwen} has no room for new tokens: {len(tokenizer)} tokens exceed the size of its embedding")
    ref, seg, mem = (tokenizer.convert_tokens_to_ids(str(token)) for token in new)
    config = UniPixelConfig(
        **{key: value for key, value in parent.items() if key not in {"model_type", "architectures", "dtype"}},
        sam2_config=f"configs/sam2.1_hiera_{name}",
        sam2_image_size=image_size,
        ref_token_id=ref,
        seg_token_id=seg,
        mem_token_id=mem,
        mem_order="raster",
        time_encoding="absolute",
    )
    check_fit(_planned(config, qwen), weights, qwen, provided=None)
    model = _read(qwen, config, torch.float32, "sdpa")
    model.sam2 = tracker
    model.start_new_parts()
    check_finite(model.model.named_parameters(), qwen)
    torch.nn.init.normal_(model.tem_pe.positional_encoding_gaussian_matrix)
    return model.eval(), tokenizer


def _planned(config: UniPixelConfig, folder: Path) -> UniPixel:
    """Create the model of a config on the meta device."""
    with torch.device("meta"), loading_context(f"a model by {folder / 'config.json'}"):
        return UniPixel(copy.deepcopy(config))


def check_fit(plan: UniPixel, weights: Mapping[str, TensorInfo], folder: Path, provided: frozenset[str] | None) -> None:
    """Check that weights on disk have the names and shapes of a planned model.

    Args:
        plan: the model, on the meta device.
        weights: weights by their names on disk.
        folder: their folder.
        provided: names of the model whose weights have another source; None = all that a plain Qwen2.5-VL lacks.

    Raises:
        ValueError: weights are missing, unknown or of another shape.
    """
    stored = _by_module(weights, folder)
    expected = {name: tuple(weight.shape) for name, weight in plan.state_dict().items()}
    decoder = plan.config.sam2_config
    if wrong := sorted(name for name in expected.keys() & stored.keys() if expected[name] != stored[name].shape):
        shapes = [
            f"{weight_names.published_name(name)} {list(stored[name].shape)} -> {list(expected[name])}"
            for name in wrong
        ]
        raise ValueError(f"{folder} does not fit its config (mask decoder {decoder}): {first_names(shapes)}")
    if unknown := _published(stored.keys() - expected.keys()):
        _refuse_unknown(unknown, plan, folder)
    lacking = expected.keys() - stored.keys() - _tied(plan).keys()
    lacking = {name for name in lacking if name.startswith(PARENT)} if provided is None else lacking - provided
    if lacking:
        raise ValueError(f"{folder} lacks {len(lacking)} weights of a UniPixel: {first_names(_published(lacking))}")


def _refuse_unknown(unknown: list[str], plan: UniPixel, folder: Path) -> None:
    """Handle weights that the model does not have: an error within its modules, else a warning."""
    if any(name.startswith("sam2.") for name in unknown):
        raise ValueError(
            f"{folder} has another mask decoder than {plan.config.sam2_config}: unknown weights {first_names(unknown)}"
        )
    modules = tuple(f"{name}." for name, _ in plan.named_children())
    if unexpected := [name for name in unknown if weight_names.module_name(name).startswith(modules)]:
        raise ValueError(
            f"{folder} has {len(unexpected)} weights that the model of its config.json does not have: "
            f"{first_names(unexpected)}; download or copy both again"
        )
    logger.warning("%s has unused weights: %s", folder, first_names(unknown))


def _by_module(weights: Mapping[str, TensorInfo], folder: Path) -> dict[str, TensorInfo]:
    """Weights by the names of the model; a `ValueError` if one has two spellings."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in weights:
        spellings[weight_names.module_name(name)].append(name)
    for names in spellings.values():
        if len(names) > 1:
            raise ValueError(f"{folder} holds one weight twice, as {' and '.join(names)}: remove one of them")
    return {name: weights[names[0]] for name, names in spellings.items()}


def _published(names: Iterable[str]) -> list[str]:
    return sorted(map(weight_names.published_name, names))


def _tied(model: UniPixel) -> dict[str, str]:
    """Tied weight -> weight whose values it shares, by the names of the model."""
    return dict(model.all_tied_weights_keys)


def _read(folder: Path, config: UniPixelConfig, dtype: torch.dtype | str | None, attention: str) -> UniPixel:
    """Load full weights on the CPU, after `check_fit`."""
    with loading_context(str(folder)):
        model, info = UniPixel.from_pretrained(  # type: ignore[misc]
            folder,
            config=config,
            dtype=torch.float32 if dtype is None else dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    assert not info["mismatched_keys"], info["mismatched_keys"]
    model._weight_conversions = None  # so that it is saved with the published names
    if config.tie_word_embeddings and model.lm_head.weight is not model.get_input_embeddings().weight:
        raise ValueError(
            f"{folder} holds lm_head.weight and another model.embed_tokens.weight, where its config.json has "
            f"tie_word_embeddings: true; set that to false, or fetch or copy the checkpoint again"
        )
    return model


def holds_trained_only(folder: Path) -> bool:
    """Whether a folder has trained weights (an adapter, other weights) without the rest of the model."""
    is_full = any((folder / name).is_file() for name in (WEIGHTS, INDEX))
    return not is_full and any((folder / name).is_file() for name in (ADAPTER, TRAINED))


def base_of(folder: Path, base: Path | None = None) -> Path:
    """The full checkpoint of a folder of trained weights.

    Args:
        folder: trained weights.
        base: returned if given.

    Raises:
        ValueError: it is not given, and not found by its stored name.
    """
    if base is not None:
        return base
    path = folder / "config.json"
    config = checkpoint_files.read_object(path) if path.is_file() else {}
    stored = [name for name in (config.get("base_model_path"), lora_files.base_name(folder)) if name]
    if odd := [name for name in stored if not isinstance(name, str)]:
        raise ValueError(f"{path}: base_model_path is {odd[0]!r}, expected a folder")
    for name in stored:
        if Path(name).is_dir():
            return Path(name)
    origin = f"{stored[0]}, which was not found" if stored else "not named in it"
    raise ValueError(
        f"{folder} has an adapter only; its base model is {origin}: "
        f"python -m unipixel.convert OUT --base FOLDER --trained {folder}"
    )


def add_trained(model: UniPixel, folder: Path) -> None:
    """Merge trained weights, written by `save_trained` or published, into the base model."""
    if (folder / TRAINED).is_file():
        _load_weights(model, folder / TRAINED)
    if (folder / ADAPTER).is_file():
        lora_files.merge_into(model, folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint."""
    tokenizer = _tokenizer(folder)
    check_tokenizer(tokenizer)
    if (folder / "config.json").is_file():
        _check_tokens(tokenizer, checkpoint_files.read_object(folder / "config.json"), folder)
    return tokenizer


def _tokenizer(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ValueError(
            f"{folder} has no tokenizer: one of {', '.join(TOKENIZER_FILES)} is required beside the weights"
        )
    for name in (*TOKENIZER_FILES, *TOKENIZER_SETTINGS):
        if (folder / name).is_file():
            checkpoint_files.read_object(folder / name)
    with loading_context(f"the tokenizer in {folder}"):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _check_tokens(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, object], folder: Path) -> None:
    """Check that tokenizer and config have the same ids of special tokens; a `ValueError` otherwise."""
    tokens = {"seg": "<|seg|>", "ref": "<|ref|>", "mem": "<|mem|>", "video": "<|video_pad|>", "image": "<|image_pad|>"}
    vocabulary = tokenizer.get_vocab()
    for name, token in tokens.items():
        expected, actual = config.get(f"{name}_token_id"), vocabulary.get(token)
        if isinstance(expected, int) and actual is not None and actual != expected:
            raise ValueError(
                f"{folder}: {token} is {actual} in the tokenizer and {expected} in config.json ({name}_token_id): copy "
                f"both from one checkpoint"
            )


def save_checkpoint(model: UniPixel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a full checkpoint in the published format."""
    with without_progress_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_trained(model: nn.Module, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write the trained weights: the adapter, the other weights that require a gradient, and the config.

    Args:
        model: a UniPixel, with or without adapter.
        folder: output folder.
        state: all weights by the names of `model`, if those of the model are sharded.
    """
    from peft import PeftModel, get_peft_model_state_dict  # with the extra "train", which loading does without

    folder.mkdir(parents=True, exist_ok=True)
    base_model = _base_model(model)
    assert isinstance(base_model, UniPixel), type(base_model)
    base_model.config.save_pretrained(folder)
    prefix = "base_model.model." if isinstance(model, PeftModel) else ""
    if isinstance(model, PeftModel):
        adapter = get_peft_model_state_dict(model, state_dict=None if state is None else dict(state))
        save_file(_packed(adapter), folder / ADAPTER, metadata={"format": "pt"})
        model.peft_config["default"].save_pretrained(str(folder))
    weights = {name.removeprefix(prefix): tensor for name, tensor in (state or model.state_dict()).items()}
    names = [n for n, p in base_model.named_parameters() if p.requires_grad and "lora_" not in n]
    if names:
        names += [
            name for name in weights if name.endswith(FP32_BUFFERS)
        ]  # without these, what was trained means nothing
        trained = {weight_names.published_name(name): weights[name] for name in names}
        save_file(_packed(trained), folder / TRAINED, metadata={"format": "pt"})


def load_trained(model: nn.Module, folder: Path) -> None:
    """Load weights of `save_trained` into a model with the same adapter.

    Raises:
        ValueError: files are missing, or are of another adapter or base model.
    """
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    if isinstance(model, PeftModel):
        path = _existing(folder, ADAPTER)
        settings = lora_files.check_adapter(folder)
        for key in ("r", "lora_alpha", "use_rslora"):
            actual, expected = settings.get(key, False), getattr(model.peft_config["default"], key)
            if actual != expected:
                raise ValueError(f"{folder / ADAPTER_CONFIG}: {key} is {actual!r}, this run has {expected!r}")
        weights = load_file(path)
        expected = get_peft_model_state_dict(model).keys()
        if odd := sorted(weights.keys() - expected):
            raise ValueError(f"{folder / ADAPTER} is not an adapter of this model: unknown weights {first_names(odd)}")
        if lacking := sorted(expected - weights.keys()):
            raise ValueError(f"{folder / ADAPTER} is incomplete: it lacks {first_names(lacking)}")
        check_finite(weights.items(), folder / ADAPTER)
        with loading_context(str(folder / ADAPTER)):
            set_peft_model_state_dict(model, weights)
    base_model = _base_model(model)
    trained = {name for name, weight in base_model.named_parameters() if weight.requires_grad and "lora_" not in name}
    if trained or (folder / TRAINED).is_file():
        path = _existing(folder, TRAINED)
        if lacking := trained - _trained_names(folder):
            raise ValueError(f"{path} lacks {first_names(_published(lacking))}, which is trained here")
        _load_weights(base_model, path)


def replace_decoder(model: UniPixel, name: str, folder: Path) -> None:
    """Replace SAM 2.1 in a model; train seg and sam2 afterwards, as the mask prompts fit the previous decoder.

    Args:
        model: the model, which is changed.
        name: name of the decoder in `DECODERS`.
        folder: weights, see `sam2.weights.load_tracker`.
    """
    size = DECODERS[name]
    if size.hidden != model.config.mask_decoder.hidden:
        raise ValueError(
            f"decoder {name!r} has prompts of width {size.hidden}, the model {model.config.mask_decoder.hidden}"
        )
    tracker = MaskTracker(decoder_config(size, model.config.sam2_image_size))
    sam2_weights.copy_weights(tracker, sam2_weights.read_decoder_weights(folder), folder)
    model.sam2 = tracker.to(model.dtype).to(model.device)  # type: ignore[call-arg]
    model.config.sam2_config, model.config.sam2_sizes = f"configs/sam2.1_hiera_{name}", None
    logger.info("mask decoder replaced: %s", asdict(size))


def check_full_checkpoint(folder: Path) -> dict[str, TensorInfo]:
    """Check the files of a full checkpoint by their headers.

    Returns:
        Weights by their names on disk.

    Raises:
        ValueError: a file is missing, truncated or of another format, or weights are quantised.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no config.json")
    weights = checkpoint_files.read_weights(folder)
    checkpoint_files.check_plain(weights)
    advice = f"python -m unipixel.convert OUT --base {folder} --trained FOLDER merges it"
    checkpoint_files.check_no_adapter(folder, advice)
    return weights


def check_trained(folder: Path) -> None:
    """Check the trained weights of a run.

    Raises:
        ValueError: files are missing or have changed.
    """
    if damage := integrity.weights_damage(folder):
        good = (
            integrity.newest_complete(folder.parent, integrity.weights_damage)
            if integrity.step_of(folder) >= 0
            else None
        )
        advice = "copy it again" if good is None else f"the newest complete checkpoint there is {good}"
        raise ValueError(f"{folder} is not complete: {'; '.join(damage)}; {advice}")


def _check_fit_of_trained(plan: UniPixel, folder: Path) -> None:
    """Check that trained weights fit a planned model, by the headers of their files; a `ValueError` otherwise."""
    if (folder / ADAPTER).is_file():
        lora_files.check_adapter(folder)
    elif (folder / ADAPTER_CONFIG).is_file():
        raise ValueError(f"{folder} has {ADAPTER_CONFIG} without {ADAPTER}: copy both from one checkpoint")
    if (folder / TRAINED).is_file():
        _check_names(plan, folder / TRAINED)


def _base_model(model: nn.Module) -> nn.Module:
    """The base model of an adapted model, or the model itself."""
    return model if isinstance(model, UniPixel) else model.get_submodule("base_model.model")


def _trained_names(folder: Path) -> frozenset[str]:
    if not (folder / TRAINED).is_file():
        return frozenset()
    return frozenset(map(weight_names.module_name, checkpoint_files.read_header(folder / TRAINED)))


def _check_names(model: nn.Module, path: Path) -> None:
    """Check that a model has all weights of a file; a `ValueError` otherwise."""
    header = checkpoint_files.read_header(path)
    checkpoint_files.check_plain(header)
    if not header:
        raise ValueError(f"{path} holds no weights: fetch or copy it again")
    state = model.state_dict()
    stored = _by_module(header, path)
    for name, tensor in stored.items():
        weight = state.get(name)
        if weight is None or tuple(weight.shape) != tensor.shape:
            published = weight_names.published_name(name)
            raise ValueError(
                f"{path}: {published} {tensor.shape} fits no weight of this model: it is of another base model"
            )
    for name, source in (_tied(model) if isinstance(model, UniPixel) else {}).items():
        if name in stored and source not in stored:
            raise ValueError(
                f"{path} holds {weight_names.published_name(name)} without {weight_names.published_name(source)}, "
                f"which are tied in this model (tie_word_embeddings): use the base model that it was trained on"
            )


def _load_weights(model: nn.Module, path: Path) -> None:
    """Copy weights with published names into a model."""
    _check_names(model, path)
    weights = {weight_names.module_name(name): tensor for name, tensor in load_file(path).items()}
    check_finite(weights.items(), path, weight_names.published_name)
    for name, source in (_tied(model) if isinstance(model, UniPixel) else {}).items():
        if name in weights and not torch.equal(weights[name], weights[source]):
            raise ValueError(
                f"{path} holds different values for {weight_names.published_name(name)} and "
                f"{weight_names.published_name(source)}, which are tied in this model (tie_word_embeddings)"
            )
    state = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in weights.items():
            state[name].copy_(tensor)


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ValueError(f"{folder} lacks {name}")
    return folder / name


def _packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, as safetensors requires."""
    return {name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}
