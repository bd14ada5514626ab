"""Weights of a mask decoder alone: Meta's SAM 2.1 files (`sam2.1_hiera_*.pt`) and transformers' layout of them.

A .pt file is a pickle; it is read by torch's loader for tensors alone, which runs no code of the file.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unipixel.model import weight_names
from unipixel.model.config import DECODERS, DecoderSize
from unipixel.model.encoder import decoder_config
from unipixel.model.tracker import MaskTracker

FOLDER_FILE = "model.safetensors"
"""The weights in a folder of transformers' layout."""

OFFICIAL_SIDE = 1024
"""Side in pixels of the square that the official weights were trained at."""

SHOWN = 5
"""Names that an error lists before it counts the rest."""


def load_tracker(path: Path, image_size: int = OFFICIAL_SIDE) -> tuple[str, MaskTracker]:
    """The mask tracker of official weights, in fp32, with its name in `DECODERS`.

    Args:
        path: Meta's .pt file, or a folder or file in transformers' layout (`facebook/sam2.1-hiera-*`).
        image_size: side of the square that it sees, in pixels; official weights were trained at 1024.
    """
    weights = read(path)
    name = size_name(weights, path)
    tracker = MaskTracker(decoder_config(DECODERS[name], image_size))
    fill(tracker, weights, path)
    return name, tracker


def read(path: Path) -> dict[str, Tensor]:
    """The weights in a file, or in a folder with one, by the names of `MaskTracker`."""
    path = next(iter([*path.glob(FOLDER_FILE), *sorted(path.glob("*.pt"))]), path) if path.is_dir() else path
    if not path.is_file():
        raise ValueError(
            f"{path} is not there: a mask decoder is a .pt file of SAM 2.1, or a folder with {FOLDER_FILE} or a .pt"
        )
    weights = _pickled(path) if path.suffix in {".pt", ".pth"} else _packed(path)
    if "prompt_encoder.point_embed.weight" in weights:
        return _of_transformers(weights)
    if any(name.startswith("image_encoder.trunk.") for name in weights):
        return {_of_meta(name): weight.float() for name, weight in weights.items()}
    raise ValueError(f"{path} holds no SAM 2.1: its first weights are {', '.join(sorted(weights)[:3])}")


def size_name(weights: Mapping[str, Tensor], source: Path) -> str:
    """The decoder of `DECODERS` that weights belong to, by depth and width of its image encoder."""
    blocks = {
        int(found[1]) for name in weights if (found := re.match(r"vision_encoder\.backbone\.blocks\.(\d+)\.", name))
    }
    first = weights.get("vision_encoder.backbone.patch_embed.projection.weight")
    width = 0 if first is None else len(first)
    for name, size in DECODERS.items():
        if (sum(size.blocks), size.embed) == (len(blocks), width):
            return name
    raise ValueError(
        f"{source} has {len(blocks)} blocks of width {width}; the decoders are: {', '.join(map(_described, DECODERS))}"
    )


def fill(module: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy weights into a module; a `ValueError` names all that is lacking, unknown or of another shape."""
    wanted = module.state_dict()
    shapes = [
        f"{name} is {list(weights[name].shape)} instead of {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & weights.keys())
        if wanted[name].shape != weights[name].shape
    ]
    lacking, unknown = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    problems = [
        *([f"it lacks {listed(lacking)}"] if lacking else []),
        *([f"nothing here takes {listed(unknown)}"] if unknown else []),
        *([listed(shapes)] if shapes else []),
    ]
    if problems:
        raise ValueError(f"the weights in {source} do not fit: {'; '.join(problems)}")
    module.load_state_dict(dict(weights))


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def _described(name: str) -> str:
    size: DecoderSize = DECODERS[name]
    return f"{name} ({sum(size.blocks)} of {size.embed})"


def _pickled(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} is no file of tensors alone, so it is not read ({reason})") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(weight, Tensor) for weight in model.values()):
        raise ValueError(f"{path} is no checkpoint of SAM 2.1: expected tensors by name under 'model'")
    return cast("dict[str, Tensor]", model)


def _packed(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}): fetch it again") from error


def _of_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Transformers keeps the four point embeddings in one tensor, and the Fourier matrix twice."""
    left = dict(weights)
    points = left.pop("prompt_encoder.point_embed.weight")
    left.pop("shared_image_embedding.positional_embedding", None)
    left |= {f"prompt_encoder.point_embeddings.{index}.weight": row[None] for index, row in enumerate(points)}
    return {name: weight.float() for name, weight in left.items()}


def in_metas_names(tracker: MaskTracker) -> dict[str, Tensor]:
    """The weights of a tracker as Meta's own package loads them (its files have them under "model")."""
    named = {}
    for name, tensor in tracker.state_dict().items():
        published = weight_names.published_name(f"sam2.{name}").removeprefix("sam2.")
        named[re.sub(r"(memory_encoder\.fuser\.layers\.\d+)\.weight$", r"\1.gamma", published)] = tensor
    return named


def _of_meta(name: str) -> str:
    """UniPixel's names are Meta's, but for the scale of the fuser's layers, which transformers 4 renamed."""
    published = re.sub(r"^(memory_encoder\.fuser\.layers\.\d+)\.gamma$", r"\1.weight", name)
    return weight_names.module_name(f"sam2.{published}").removeprefix("sam2.")
