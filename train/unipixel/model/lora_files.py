"""Merging of LoRA adapters in the file format of PEFT into the weights of a model, without PEFT."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from evqa.hub import checkpoint_files
from evqa.hub.checkpoint_files import ADAPTER, ADAPTER_CONFIG, TensorInfo, first_names
from unipixel.model import weight_names

MAX_RANK = 2**14

_NAME = re.compile(r"^(?:base_model\.model\.)?(.+)\.lora_(A|B)(?:\.default)?\.weight$")

_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "lora_bias": (False,),
    "use_dora": (False,),
    "use_qalora": (False,),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None,),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None,),
    "init_lora_weights": (True, False, None, "gaussian", "eva"),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
}
"""Fields of adapter_config.json -> values for which the merged weight is W + B A scale. Other initialisations (PiSSA,
OLoRA, orthogonal, ...) change the base weights, so that the adapter does not fit the base model."""

_NO_VARIANT = frozenset({"eva_config", "loftq_config", "corda_config", "lora_ga_config", "megatron_config"})
"""Settings of initialisation and distribution, without effect on the merged weight; all other `*_config` and `use_*`
are variants of LoRA that do not add B A scale."""


def base_name(folder: Path) -> str | None:
    """Name of the base model in the config of an adapter, or None."""
    path = folder / ADAPTER_CONFIG
    name = checkpoint_files.read_object(path).get("base_model_name_or_path") if path.is_file() else None
    return name if isinstance(name, str) else None


def check_adapter(folder: Path) -> dict[str, Any]:
    """Check the config and the header of an adapter, and return its config.

    Raises:
        ValueError: it is incomplete, or cannot be merged.
    """
    config = _config(folder)
    _check_targets(config, _layers(folder, _rank(config, folder)), folder)
    return config


def merge_into(model: nn.Module, folder: Path) -> int:
    """Merge an adapter into the weights of a model: W + B A scale.

    Args:
        model: the base model, which is changed.
        folder: folder of the adapter.

    Returns:
        The number of changed layers.

    Raises:
        ValueError: the adapter is incomplete, or of another base model.
    """
    config = _config(folder)
    layers = _layers(folder, _rank(config, folder))
    parameters = dict(model.named_parameters())
    _check_layers(layers, parameters, folder, config)
    weights = load_file(folder / ADAPTER)
    scale = _scale(config, folder)
    for name, pair in layers.items():
        _add(parameters[name], weights[pair["A"]], weights[pair["B"]], scale)
    return len(layers)


def _add(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> None:
    delta = up.float() @ down.float() * scale
    with torch.no_grad():
        weight.copy_(weight.float() + delta.to(weight.device))


def _layers(folder: Path, rank: int) -> dict[str, dict[str, str]]:
    """Name of a weight of the model -> {"A": name, "B": name} of its factors in the file, after a check of the rank."""
    path = folder / ADAPTER
    header = checkpoint_files.read_header(path)
    layers: dict[str, dict[str, str]] = defaultdict(dict)
    for name, tensor in header.items():
        match = _NAME.match(name)
        if match is None:
            raise ValueError(f"{path}: {name} is not a weight of a plain LoRA adapter")
        _check_factor(name, tensor, match[2], rank)
        factors = layers[weight_names.module_name(f"{match[1]}.weight")]
        if match[2] in factors:
            raise ValueError(f"{path} has one factor twice, as {factors[match[2]]} and {name}: remove one of them")
        factors[match[2]] = name
    if not layers:
        raise ValueError(f"{path} has no weights: download or copy the adapter again")
    for pair in layers.values():
        if pair.keys() != {"A", "B"}:
            raise ValueError(f"{path} has {next(iter(pair.values()))} without its other factor: copy it again")
    return layers


def _check_factor(name: str, tensor: TensorInfo, factor: str, rank: int) -> None:
    path, dtype, shape = tensor
    if dtype not in checkpoint_files.FLOATS:
        raise ValueError(f"{path}: {name} is {dtype}, expected F32, BF16 or F16: quantised adapters are not supported")
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{path}: {name} is {list(shape)}, expected a matrix of rank {rank}")
    if (came := shape[0 if factor == "A" else 1]) != rank:
        raise ValueError(
            f"{path}: {name} is {list(shape)}, of rank {came}, where {ADAPTER_CONFIG} has r={rank}: its scale would be "
            f"wrong; copy both files of one adapter"
        )


def _check_layers(
    layers: Mapping[str, dict[str, str]], parameters: Mapping[str, Tensor], folder: Path, config: Mapping[str, Any]
) -> None:
    """Check that the layers fit the model and that, per kind of layer, none is missing; a `ValueError` otherwise."""
    path = folder / ADAPTER
    header = checkpoint_files.read_header(path)
    for name, pair in layers.items():
        if name not in parameters:
            raise ValueError(f"{path}: {name} fits no layer of this model: it is an adapter of another base model")
        shape = [header[pair["B"]].shape[0], header[pair["A"]].shape[1]]
        if shape != list(parameters[name].shape):
            raise ValueError(
                f"{path}: {name} is {shape} where the model has {list(parameters[name].shape)}: it is an adapter of "
                f"another base model"
            )
    kinds = {_kind(name) for name in layers}
    alike = (name for name in parameters if name not in layers and _kind(name) in kinds)
    if lacking := sorted(name for name in alike if not _is_left_out(name, config)):
        raise ValueError(f"{path} lacks {first_names(lacking)}, but has them for other layers: copy the adapter again")


def _check_targets(config: Mapping[str, Any], layers: Iterable[str], folder: Path) -> None:
    """Check that the file has weights for all target modules of the config; a `ValueError` otherwise."""
    target_modules = config.get("target_modules")
    targets = cast("list[object]", target_modules) if isinstance(target_modules, list) else []
    lacking = [target for target in targets if not any(_matches(name, [target]) for name in layers)]
    if lacking:
        raise ValueError(
            f"{folder / ADAPTER} has no weights for {first_names([str(target) for target in lacking])}, which "
            f"{ADAPTER_CONFIG} has as target_modules: copy both files of one adapter"
        )


def _is_left_out(name: str, config: Mapping[str, Any]) -> bool:
    """Whether the config excludes a layer of an adapted kind."""
    numbers, excluded = config.get("layers_to_transform"), config.get("exclude_modules")
    layer = re.search(r"\.(\d+)\.", name)
    if numbers is not None and layer is not None:
        layer_numbers = cast("list[int]", numbers) if isinstance(numbers, list) else [numbers]
        if int(layer[1]) not in layer_numbers:
            return True
    if isinstance(excluded, str):
        return bool(excluded)  # a regular expression of a file may be exponential, so it is not applied
    return isinstance(excluded, list) and _matches(name, cast("list[object]", excluded))


def _matches(name: str, ends: Iterable[object]) -> bool:
    """Whether the module of a weight ends with one of the target modules, by its name or published name."""
    modules = [value.removesuffix(".weight") for value in (name, weight_names.published_name(name))]
    dotted = tuple(f".{end}" for end in ends)
    return any(f".{module}".endswith(dotted) for module in modules)


def _kind(name: str) -> str:
    """The name of a weight without its layer number."""
    return re.sub(r"\.\d+\.", ".N.", name, count=1)


def _check_numbers_of_layers(numbers: object, path: Path) -> None:
    layer_numbers = cast("list[object]", numbers) if isinstance(numbers, list) else [numbers]
    if numbers is not None and not all(type(value) is int and value >= 0 for value in layer_numbers):
        raise ValueError(f"{path}: layers_to_transform is {str(numbers)[:60]!r}, expected numbers of layers")


def _scale(config: Mapping[str, Any], folder: Path) -> float:
    rank, alpha = _rank(config, folder), config.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha) or alpha == 0:
        raise ValueError(f"{folder / ADAPTER_CONFIG}: lora_alpha is {alpha!r}, expected a number other than 0")
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _rank(config: Mapping[str, Any], folder: Path) -> int:
    rank = config.get("r")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise ValueError(
            f"{folder / ADAPTER_CONFIG}: r is {rank!r}, expected the rank, a whole number from 1 to {MAX_RANK}"
        )
    return rank


def _config(folder: Path) -> dict[str, Any]:
    """Read and check the config of a plain adapter."""
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} has an adapter without its {ADAPTER_CONFIG}")
    config = checkpoint_files.read_object(path)
    for key, values in _PLAIN.items():
        if key in config and not any(type(config[key]) is type(value) and config[key] == value for value in values):
            raise ValueError(f"{path}: only {key}={values[0]!r} can be merged, got {config[key]!r}")
    for key, value in config.items():
        is_variant = key.startswith("use_") or (key.endswith("_config") and key not in _NO_VARIANT)
        if is_variant and value and key != "use_rslora":
            raise ValueError(f"{path}: {key} is {str(value)[:60]!r}: only plain LoRA adapters can be merged")
    _check_numbers_of_layers(config.get("layers_to_transform"), path)
    if type(config.get("use_rslora", False)) is not bool:
        raise ValueError(f"{path}: use_rslora is {config['use_rslora']!r}, expected true or false")
    _scale(config, folder)
    return config
