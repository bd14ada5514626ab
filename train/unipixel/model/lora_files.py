"""A low-rank adapter on disk (PEFT's files), added into the weights of a model: what loading needs without PEFT."""

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
"""Fields of an adapter's config, and the values with which W + B A scale is the adapted weight. Other initialisations
(PiSSA, OLoRA, orthogonal, ...) take their start off the base's weights, so that the adapter does not fit the base."""

_NO_VARIANT = frozenset({"eva_config", "loftq_config", "corda_config", "lora_ga_config", "megatron_config"})
"""Settings of how factors start, or are shared out while training; every other `*_config` and each `use_*` is a
variant of the method, which adds something else than B A scale."""


def base_name(folder: Path) -> str | None:
    """What an adapter's config calls the model that it belongs to."""
    path = folder / ADAPTER_CONFIG
    name = checkpoint_files.read_object(path).get("base_model_name_or_path") if path.is_file() else None
    return name if isinstance(name, str) else None


def check_adapter(folder: Path) -> dict[str, Any]:
    """The config of an adapter. A `ValueError` where it is not whole, or cannot be merged; no weight is read."""
    config = _config(folder)
    _check_targets(config, _layers(folder, _rank(config, folder)), folder)
    return config


def merge_into(model: nn.Module, folder: Path) -> int:
    """Add the adapter of a folder into the model's weights: W + B A scale; the number of layers it changed."""
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
    """Weight of the model -> {"A": name, "B": name} of its factors in the file, which have the config's rank."""
    path = folder / ADAPTER
    header = checkpoint_files.read_header(path)
    layers: dict[str, dict[str, str]] = defaultdict(dict)
    for name, tensor in header.items():
        found = _NAME.match(name)
        if found is None:
            raise ValueError(f"{path}: {name} is no weight of a plain low-rank adapter")
        _check_factor(name, tensor, found[2], rank)
        factors = layers[weight_names.module_name(f"{found[1]}.weight")]
        if found[2] in factors:
            raise ValueError(f"{path} holds one factor twice, as {factors[found[2]]} and {name}: remove one of them")
        factors[found[2]] = name
    if not layers:
        raise ValueError(f"{path} holds no weights: fetch or copy the adapter again")
    for pair in layers.values():
        if pair.keys() != {"A", "B"}:
            raise ValueError(f"{path} holds {next(iter(pair.values()))} without its other factor: copy it again")
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
    """Every layer is one of the model, of its shape; of each kind of layer all are there, unless the config says so."""
    path = folder / ADAPTER
    header = checkpoint_files.read_header(path)
    for name, pair in layers.items():
        if name not in parameters:
            raise ValueError(f"{path}: {name} fits no layer of this model: it is an adapter of another base")
        shape = [header[pair["B"]].shape[0], header[pair["A"]].shape[1]]
        if shape != list(parameters[name].shape):
            raise ValueError(
                f"{path}: {name} is {shape} where the model has {list(parameters[name].shape)}: it is an adapter of "
                f"another base"
            )
    kinds = {_kind(name) for name in layers}
    alike = (name for name in parameters if name not in layers and _kind(name) in kinds)
    if lacking := sorted(name for name in alike if not _is_left_out(name, config)):
        raise ValueError(f"{path} lacks {first_names(lacking)}, which it has for other layers: copy the adapter again")


def _check_targets(config: Mapping[str, Any], layers: Iterable[str], folder: Path) -> None:
    """A `ValueError` where the config names layers as adapted of which the file has none."""
    named = config.get("target_modules")
    targets = cast("list[object]", named) if isinstance(named, list) else []
    lacking = [target for target in targets if not any(_matches(name, [target]) for name in layers)]
    if lacking:
        raise ValueError(
            f"{folder / ADAPTER} has no weights for {first_names([str(target) for target in lacking])}, which "
            f"{ADAPTER_CONFIG} has as target_modules: copy both files of one adapter"
        )


def _is_left_out(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a config says that a layer has no adapter, though others of its kind have."""
    numbers, excluded = config.get("layers_to_transform"), config.get("exclude_modules")
    layer = re.search(r"\.(\d+)\.", name)
    if numbers is not None and layer is not None:
        given = cast("list[int]", numbers) if isinstance(numbers, list) else [numbers]
        if int(layer[1]) not in given:
            return True
    if isinstance(excluded, str):
        return bool(excluded)  # an expression of a file may take for ever, so it is not applied
    return isinstance(excluded, list) and _matches(name, cast("list[object]", excluded))


def _matches(name: str, ends: Iterable[object]) -> bool:
    """Whether one of PEFT's ends of module names is that of a weight, in today's or published names."""
    modules = [one.removesuffix(".weight") for one in (name, weight_names.published_name(name))]
    dotted = tuple(f".{end}" for end in ends)
    return any(f".{module}".endswith(dotted) for module in modules)


def _kind(name: str) -> str:
    """The name of a weight without the number of its layer."""
    return re.sub(r"\.\d+\.", ".N.", name, count=1)


def _check_numbers_of_layers(numbers: object, path: Path) -> None:
    given = cast("list[object]", numbers) if isinstance(numbers, list) else [numbers]
    if numbers is not None and not all(type(one) is int and one >= 0 for one in given):
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
    """The config of a plain adapter."""
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} has an adapter without its {ADAPTER_CONFIG}")
    config = checkpoint_files.read_object(path)
    for key, values in _PLAIN.items():
        if key in config and not any(type(config[key]) is type(one) and config[key] == one for one in values):
            raise ValueError(f"{path}: only {key}={values[0]!r} can be merged, got {config[key]!r}")
    for key, value in config.items():
        is_variant = key.startswith("use_") or (key.endswith("_config") and key not in _NO_VARIANT)
        if is_variant and value and key != "use_rslora":
            raise ValueError(f"{path}: {key} is {str(value)[:60]!r}: only plain low-rank adapters can be merged")
    _check_numbers_of_layers(config.get("layers_to_transform"), path)
    if type(config.get("use_rslora", False)) is not bool:
        raise ValueError(f"{path}: use_rslora is {config['use_rslora']!r}, expected true or false")
    _scale(config, folder)
    return config
