"""Reading of config.json of a checkpoint, with checks of types and ranges before a model is built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from transformers import Qwen2_5_VLConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from evqa.hub.checkpoint_files import read_object
from evqa.models.weights import loading_context
from unipixel.model.config import UniPixelConfig

Config = TypeVar("Config", bound=Qwen2_5_VLConfig)

Json = dict[str, Any]

SUB_CONFIGS = ("text_config", "vision_config")

LIMITS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("num_hidden_layers", "depth"), (1, 1024)),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads"), (1, 4096)),
    **dict.fromkeys(("hidden_size", "intermediate_size", "out_hidden_size"), (1, 2**20)),
    **dict.fromkeys(("vocab_size", "max_position_embeddings"), (1, 2**26)),
    **dict.fromkeys(
        ("in_channels", "patch_size", "spatial_merge_size", "temporal_patch_size", "window_size"), (1, 4096)
    ),
    "tokens_per_second": (1, 10**6),
    "sam2_image_size": (32, 8192),
    "sam2_hidden_tokens": (1, 1024),
    "sample_objects": (-1, 10**6),
    "sample_frames": (1, 10**6),
    **dict.fromkeys(("min_pixels", "max_pixels"), (1, 2**32)),
    **dict.fromkeys(("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"), (0, 2**26)),
    **dict.fromkeys(("ref_token_id", "seg_token_id", "mem_token_id"), (0, 2**26)),
}
"""Integer field -> (minimum, maximum)."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

POSITIVE = {"rope_theta": 1e12, "rms_norm_eps": 1.0}
"""Positive number field -> exclusive maximum."""

MROPE_SECTIONS = (16, 24, 24)
"""Default channels for time, height and width (modeling_qwen2_5_vl.py of transformers)."""

ROTARY = ("rope_parameters", "rope_scaling")
"""Names of the settings of rotary positions, in new and old files."""


def read_config(folder: Path, kind: type[Config] = UniPixelConfig) -> Config:
    """Read the config of a checkpoint.

    Args:
        folder: with a config.json.
        kind: class of the config, with the expected `model_type`.

    Raises:
        ValueError: a field is missing or invalid.
    """
    path = folder / "config.json"
    config = read_object(path)
    if config.get("model_type") != kind.model_type:
        raise ValueError(
            f"{path} has model_type {config.get('model_type')!r}, expected {kind.model_type!r}: "
            f"use a checkpoint of that type"
        )
    for problem in _problems(config):
        raise ValueError(f"{path}: {problem}; download or copy the checkpoint again")
    with loading_context(str(path)):
        parsed = kind.from_pretrained(folder, local_files_only=True)
        assert isinstance(parsed, kind), type(parsed)
        if isinstance(parsed, UniPixelConfig):
            _ = parsed.mask_decoder  # raises where there is no such decoder
    for problem in _conflicts(parsed):
        raise ValueError(f"{path}: {problem}; download or copy the checkpoint again")
    return parsed


def _problems(config: Json) -> Iterator[str]:
    """Yield settings that cannot be loaded, or that would load other files or values than those of the checkpoint."""
    if config.get("quantization_config"):
        yield "quantization_config: quantised weights are not supported, expected plain F32, BF16 or F16 weights"
    if config.get("transformers_weights"):
        yield f"transformers_weights names {config['transformers_weights']!r}, expected the usual names of weights"
    defaults = UniPixelConfig().to_dict()
    text = cast("Json", defaults["text_config"])
    yield from _wrong_types(config, {**text, **defaults}, "")
    for part in SUB_CONFIGS:
        if isinstance(values := config.get(part), dict):
            yield from _wrong_types(cast("Json", values), cast("Json", defaults[part]), f"{part}.")


def _wrong_types(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in values.items():
        if name in LIMITS:
            expected = _range_problem(name, value)
        elif name in POSITIVE:
            is_fine = _is_number(value) and 0 < value < POSITIVE[name]
            expected = None if is_fine else f"a number above 0 and below {POSITIVE[name]:g}"
        elif name in ROTARY:
            expected = _rope_problem(value)
        else:
            expected = _type_problem(value, defaults.get(name))
        if expected is not None:
            yield f"{prefix}{name} is {_short_repr(value)}, expected {expected}"


def _range_problem(name: str, value: object) -> str | None:
    least, most = LIMITS[name]
    is_fine = type(value) is int and least <= value <= most and (name != "sample_objects" or value != 0)
    is_fine = is_fine or (value is None and name.endswith("_token_id"))
    return None if is_fine else f"a whole number from {least} to {most:,}"


def _rope_problem(value: object) -> str | None:
    if value is None:
        return None
    rope = cast("Json", value) if isinstance(value, dict) else {}
    theta, sections = rope.get("rope_theta", 1.0), rope.get("mrope_section", [1])
    kind = rope.get("rope_type", rope.get("type", "default"))
    is_known = isinstance(kind, str) and kind in {"default", "mrope", "axial", *ROPE_INIT_FUNCTIONS}
    is_fine = is_known and _is_number(theta) and theta > 0 and isinstance(sections, list)
    if is_fine and rope and all(type(number) is int and number > 0 for number in cast("list[object]", sections)):
        return None
    return "an object with a known rope_type, a positive rope_theta and whole numbers in mrope_section"


def _type_problem(value: object, default: object) -> str | None:
    """The expected type of a field by its default, or None if the value has it."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        is_fine = value is None or _is_number(value)
        return None if is_fine and (isinstance(default, float) or value is None or type(value) is int) else "a number"
    if isinstance(default, str):
        return None if isinstance(value, str) else "text"
    if isinstance(default, list):
        return None if value is None or isinstance(value, list) else "a list"
    return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _conflicts(config: Qwen2_5_VLConfig) -> Iterator[str]:
    """Yield sizes that contradict each other, which PyTorch would report late or not at all."""
    text, vision = cast("Any", config.text_config), cast("Any", config.vision_config)
    width, heads, groups = text.hidden_size, text.num_attention_heads, text.num_key_value_heads
    if width % heads or heads % groups:
        yield f"{heads} attention heads with {groups} key-value heads do not divide a hidden_size of {width}"
    if vision.hidden_size % vision.num_heads:
        yield f"{vision.num_heads} heads do not divide the vision hidden_size of {vision.hidden_size}"
    if vision.out_hidden_size != width:
        yield f"vision out_hidden_size is {vision.out_hidden_size}, the language model's hidden_size {width}"
    if not all(type(index) is int and 0 <= index < vision.depth for index in vision.fullatt_block_indexes):
        yield f"fullatt_block_indexes {vision.fullatt_block_indexes} are no blocks of a depth of {vision.depth}"
    yield from _position_conflicts(text, vision)
    if config.dtype not in (None, "auto", *DTYPES):
        yield f"dtype is {config.dtype}, expected float32, bfloat16 or float16"
    if isinstance(config, UniPixelConfig):
        yield from _conflicts_of_ours(config, text.vocab_size)


def _position_conflicts(text: Any, vision: Any) -> Iterator[str]:
    """Yield settings of positions and windows that do not fit the attention heads."""
    channels = text.hidden_size // text.num_attention_heads
    sections = list((text.rope_parameters or {}).get("mrope_section") or MROPE_SECTIONS)
    if len(sections) != len(MROPE_SECTIONS):
        yield f"mrope_section is {sections}, expected three numbers, for time, height and width"
    if 2 * sum(sections) != channels:
        yield f"mrope_section {sections} covers {2 * sum(sections)} of the {channels} channels of a head"
    if vision.window_size // vision.spatial_merge_size // vision.patch_size < 1:
        yield f"a window_size of {vision.window_size} holds no merged patch"
    for part, heads in ((text, text.num_attention_heads), (vision, vision.num_heads)):
        values, width = getattr(part, "head_dim", None), part.hidden_size // heads
        if values is not None and (type(values) is not int or values != width):
            yield f"head_dim is {values!r}, where a hidden_size of {part.hidden_size} gives a head {width} channels"


def _conflicts_of_ours(config: UniPixelConfig, vocabulary: int) -> Iterator[str]:
    names = ("image", "video", "vision_start", "vision_end", "ref", "seg", "mem")
    ids = {f"{name}_token_id": getattr(config, f"{name}_token_id") for name in names}
    for name, number in ids.items():
        if number is None or number >= vocabulary:
            yield f"{name} is {number}, expected a token below the vocab_size of {vocabulary}"
    if len(set(ids.values())) < len(ids):
        yield f"tokens have the same id: {', '.join(f'{name} {number}' for name, number in ids.items())}"
    if config.min_pixels > config.max_pixels:
        yield f"min_pixels {config.min_pixels} is above max_pixels {config.max_pixels}"
    if config.clock_horizon < 0:
        yield f"clock_horizon is {config.clock_horizon}, expected seconds from 0 on"


def _short_repr(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
