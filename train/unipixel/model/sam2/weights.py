"""Loading of SAM 2.1 weights: files of Meta (`sam2.1_hiera_*.pt`) and the format of transformers.

A .pt file is a pickle; it is read with `weights_only=True`, which runs no code of the file. SAM 2.0 has the same names
except the three weights of `ONLY_IN_2_1`, and another memory encoding, so it is refused.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from evqa.files import roots
from evqa.hub import checkpoint_files
from evqa.hub.checkpoint_files import first_names
from evqa.models.weights import MALFORMED, check_finite
from unipixel.model import weight_names
from unipixel.model.config import DECODERS, DecoderSize
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.tracker import MaskTracker

FOLDER_FILE = "model.safetensors"
"""Name of the weights in a folder in the format of transformers."""

OFFICIAL_SIDE = 1024
"""Side in pixels of the square input of the official weights."""

ONLY_IN_2_1 = (
    "occlusion_spatial_embedding_parameter",
    "temporal_positional_encoding_projection_layer.weight",
    "temporal_positional_encoding_projection_layer.bias",
)
"""Weights of SAM 2.1 that SAM 2.0 lacks (names of Meta: no_obj_embed_spatial, obj_ptr_tpos_proj)."""


def load_tracker(path: Path, image_size: int = OFFICIAL_SIDE) -> tuple[str, MaskTracker]:
    """Load official weights as a mask tracker in fp32; returns its name in `DECODERS` too.

    Args:
        path: a .pt file of Meta, or a folder or file in the format of transformers (`facebook/sam2.1-hiera-*`).
        image_size: side of the square input in pixels; official weights were trained with 1024.
    """
    weights = read_decoder_weights(path)
    name = size_name(weights, path)
    tracker = MaskTracker(decoder_config(DECODERS[name], image_size))
    copy_weights(tracker, weights, path)
    return name, tracker


def read_decoder_weights(path: Path) -> dict[str, Tensor]:
    """Read weights from a file or a folder with a file.

    Returns:
        fp32 weights by the names of `MaskTracker`.

    Raises:
        ValueError: the file is missing, damaged, or not of SAM 2.1.
    """
    path = _file_of(path) if path.is_dir() else path
    if not path.is_file():
        raise ValueError(
            f"no mask decoder at {path}: expected a .pt file of SAM 2.1, or a folder with {FOLDER_FILE} or a .pt"
        )
    weights = _pickled(path) if path.suffix in {".pt", ".pth"} else _packed(path)
    _check_values(weights, path)
    if "prompt_encoder.point_embed.weight" in weights:
        renamed = _of_transformers(weights)
    elif any(name.startswith("image_encoder.trunk.") for name in weights):
        renamed = {_of_meta(name): weight.float() for name, weight in weights.items()}
    else:
        raise ValueError(f"{path} is not SAM 2.1: {_family(weights)}; {_download_advice()}")
    if not renamed.keys() & set(ONLY_IN_2_1):
        raise ValueError(
            f"{path} is SAM 2.0 (it has none of {', '.join(ONLY_IN_2_1)}), expected SAM 2.1; {_download_advice()}"
        )
    return renamed


def _download_advice() -> str:
    command = roots.download_command("sam2.1-base-plus")
    return f"{command} downloads SAM 2.1; its .pt files are named sam2.1_hiera_*.pt"


def _file_of(folder: Path) -> Path:
    """The weights file of a folder, or the folder if there is none."""
    files = [*folder.glob(FOLDER_FILE)] or sorted(folder.glob("*.pt"))
    if len(files) > 1:
        raise ValueError(f"{folder} has {first_names([path.name for path in files])}: specify one of these files")
    return files[0] if files else folder


def _family(weights: Mapping[str, Tensor]) -> str:
    """Description of weights that are not SAM 2.1."""
    if any(name.startswith(("image_encoder.blocks.", "vision_encoder.layers.")) for name in weights):
        return "it is SAM 1, which does not track objects"
    return f"its first weights are {', '.join(sorted(weights)[:3]) or 'none'}"


def _check_values(weights: Mapping[str, Tensor], path: Path) -> None:
    """Check that tensors are plain floats and have as many values as their shapes; a `ValueError` otherwise."""
    for name, weight in weights.items():
        if not weight.is_floating_point() or weight.element_size() == 1 or weight.layout != torch.strided:
            kind = str(weight.dtype).removeprefix("torch.")
            raise ValueError(
                f"{path} has quantised weights ({name} is {kind}), expected F32, BF16 or F16; {_download_advice()}"
            )
        if weight.is_meta:
            raise ValueError(f"{path}: {name} has no values (meta device); {_download_advice()}")
        if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
            raise ValueError(
                f"{path}: {name} has too few values for its shape {list(weight.shape)}; {_download_advice()}"
            )
    check_finite(weights.items(), path)


def size_name(weights: Mapping[str, Tensor], source: Path) -> str:
    """Name in `DECODERS` of weights, by depth and width of the image encoder.

    Args:
        weights: weights by the names of `MaskTracker`.
        source: their file, for the error message.
    """
    blocks = {
        int(match[1]) for name in weights if (match := re.match(r"vision_encoder\.backbone\.blocks\.(\d+)\.", name))
    }
    first = weights.get("vision_encoder.backbone.patch_embed.projection.weight")
    width = 0 if first is None else len(first)
    for name, size in DECODERS.items():
        if (sum(size.blocks), size.embed) == (len(blocks), width):
            return name
    raise ValueError(
        f"{source} has {len(blocks)} blocks of width {width}; "
        f"the decoders are: {', '.join(map(_describe_names, DECODERS))}"
    )


def copy_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy weights into a module.

    Args:
        module: the module, which is changed.
        weights: weights by the names of the module.
        source: their file, for the error message.

    Raises:
        ValueError: weights are missing, unknown or of another shape.
    """
    expected = module.state_dict()
    shapes = [
        f"{name} is {list(weights[name].shape)} instead of {list(expected[name].shape)}"
        for name in sorted(expected.keys() & weights.keys())
        if expected[name].shape != weights[name].shape
    ]
    lacking, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    problems = [
        *([f"it lacks {first_names(lacking)}"] if lacking else []),
        *([f"unknown weights {first_names(unknown)}"] if unknown else []),
        *([first_names(shapes)] if shapes else []),
    ]
    if problems:
        raise ValueError(f"the weights in {source} do not fit: {'; '.join(problems)}")
    module.load_state_dict(dict(weights))


PICKLED = ("a ZIP archive, as torch.save writes them", "a Python pickle")
"""Content types of .pt files."""


def _describe_names(name: str) -> str:
    size: DecoderSize = DECODERS[name]
    return f"{name} ({sum(size.blocks)} of {size.embed})"


def _pickled(path: Path) -> dict[str, Tensor]:
    kind = checkpoint_files.content_kind(path)
    if kind not in (None, *PICKLED):
        raise ValueError(f"{path} is not a checkpoint: it is {kind}; {_download_advice()}")
    _check_archive(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (*MALFORMED, MemoryError) as error:
        # the message of torch recommends unpickling the file, so it is not repeated
        raise ValueError(
            f"{path} does not contain tensors only, so it is not read ({type(error).__name__}): it is damaged, or has "
            f"Python objects that loading would execute; {_download_advice()}"
        ) from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(weight, Tensor) for weight in model.values()):
        raise ValueError(
            f"{path} is not a checkpoint of SAM 2.1: expected tensors by name under 'model'; {_download_advice()}"
        )
    if not model or not all(isinstance(name, str) for name in model):
        raise ValueError(f"{path} is not a checkpoint of SAM 2.1: it has no tensors with names; {_download_advice()}")
    return cast("dict[str, Tensor]", model)


def _check_archive(path: Path) -> None:
    """Check that a file is not compressed (torch.save does not compress); a `ValueError` otherwise."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(f"{path} is a damaged ZIP archive ({error}); {_download_advice()}") from error
    if size > path.stat().st_size:
        raise ValueError(
            f"{path} is not a file of torch.save: it has {size:,} bytes in {path.stat().st_size:,}; "
            f"{_download_advice()}"
        )


def _packed(path: Path) -> dict[str, Tensor]:
    checkpoint_files.check_plain(checkpoint_files.read_header(path))
    return load_file(path)


def _of_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the point embeddings and drop the second Fourier matrix of the format of transformers."""
    left = dict(weights)
    points = left.pop("prompt_encoder.point_embed.weight")
    if points.ndim != 2:
        points = points[None]  # `copy_weights` names the shapes that do not fit
    left.pop("shared_image_embedding.positional_embedding", None)
    left |= {f"prompt_encoder.point_embeddings.{index}.weight": row[None] for index, row in enumerate(points)}
    return {name: weight.float() for name, weight in left.items()}


def in_metas_names(tracker: MaskTracker) -> dict[str, Tensor]:
    """The weights of a tracker by the names of the package of Meta (in its files under "model")."""
    renamed = {}
    for name, tensor in tracker.state_dict().items():
        published = weight_names.published_name(f"sam2.{name}").removeprefix("sam2.")
        renamed[re.sub(r"(memory_encoder\.fuser\.layers\.\d+)\.weight$", r"\1.gamma", published)] = tensor
    return renamed


def _of_meta(name: str) -> str:
    """The published name of a weight of Meta; only the scale of the layers of the fuser differs."""
    published = re.sub(r"^(memory_encoder\.fuser\.layers\.\d+)\.gamma$", r"\1.weight", name)
    return weight_names.module_name(f"sam2.{published}").removeprefix("sam2.")
