"""Weights of a mask decoder alone: Meta's SAM 2.1 files (`sam2.1_hiera_*.pt`) and transformers' layout of them.

A .pt file is a pickle; it is read by torch's loader for tensors alone, which runs no code of the file. SAM 2.0 has
the same names but for the three weights of `ONLY_IN_2_1`, without which memory is encoded in another way, so it is
recognised and refused.
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

from evqa.hub import checkpoint_files
from evqa.hub.checkpoint_files import first_names
from evqa.models.weights import MALFORMED, check_finite
from unipixel.model import weight_names
from unipixel.model.config import DECODERS, DecoderSize
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.tracker import MaskTracker

FOLDER_FILE = "model.safetensors"
"""The weights in a folder of transformers' layout."""

OFFICIAL_SIDE = 1024
"""Side in pixels of the square that the official weights were trained at."""

ONLY_IN_2_1 = (
    "occlusion_spatial_embedding_parameter",
    "temporal_positional_encoding_projection_layer.weight",
    "temporal_positional_encoding_projection_layer.bias",
)
"""Weights that SAM 2.1 has and SAM 2.0 has not (Meta's names: no_obj_embed_spatial, obj_ptr_tpos_proj)."""

WHERE = "bash scripts/download.sh sam2.1-base-plus fetches SAM 2.1; its .pt files are named sam2.1_hiera_*.pt"


def load_tracker(path: Path, image_size: int = OFFICIAL_SIDE) -> tuple[str, MaskTracker]:
    """The mask tracker of official weights, in fp32, with its name in `DECODERS`.

    Args:
        path: Meta's .pt file, or a folder or file in transformers' layout (`facebook/sam2.1-hiera-*`).
        image_size: side of the square that it sees, in pixels; official weights were trained at 1024.
    """
    weights = read_decoder_weights(path)
    name = size_name(weights, path)
    tracker = MaskTracker(decoder_config(DECODERS[name], image_size))
    copy_weights(tracker, weights, path)
    return name, tracker


def read_decoder_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file, or in a folder with one, by the names of `MaskTracker`."""
    path = _file_of(path) if path.is_dir() else path
    if not path.is_file():
        raise ValueError(
            f"{path} is not there: a mask decoder is a .pt file of SAM 2.1, or a folder with {FOLDER_FILE} or a .pt"
        )
    weights = _pickled(path) if path.suffix in {".pt", ".pth"} else _packed(path)
    _check_values(weights, path)
    if "prompt_encoder.point_embed.weight" in weights:
        named = _of_transformers(weights)
    elif any(name.startswith("image_encoder.trunk.") for name in weights):
        named = {_of_meta(name): weight.float() for name, weight in weights.items()}
    else:
        raise ValueError(f"{path} holds no SAM 2.1: {_family(weights)}; {WHERE}")
    if not named.keys() & set(ONLY_IN_2_1):
        raise ValueError(f"{path} is SAM 2.0 (it has none of {', '.join(ONLY_IN_2_1)}), expected SAM 2.1; {WHERE}")
    return named


def _file_of(folder: Path) -> Path:
    """The file of weights in a folder; the folder where there is none."""
    files = [*folder.glob(FOLDER_FILE)] or sorted(folder.glob("*.pt"))
    if len(files) > 1:
        raise ValueError(f"{folder} holds {first_names([path.name for path in files])}: give one of these files")
    return files[0] if files else folder


def _family(weights: Mapping[str, Tensor]) -> str:
    """What other weights than SAM 2.1 most likely are."""
    if any(name.startswith(("image_encoder.blocks.", "vision_encoder.layers.")) for name in weights):
        return "it is the first SAM, which follows nothing through a video"
    return f"its first weights are {', '.join(sorted(weights)[:3]) or 'none'}"


def _check_values(weights: Mapping[str, Tensor], path: Path) -> None:
    """A `ValueError` where tensors are no plain float weights, or claim more memory than the file gives them."""
    for name, weight in weights.items():
        if not weight.is_floating_point() or weight.element_size() == 1 or weight.layout != torch.strided:
            kind = str(weight.dtype).removeprefix("torch.")
            raise ValueError(
                f"{path} holds quantised weights ({name} is {kind}), expected floats of 16 bits or more; {WHERE}"
            )
        if weight.is_meta:
            raise ValueError(f"{path}: {name} has no values: it was saved before it was filled; {WHERE}")
        if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
            raise ValueError(f"{path}: {name} is {list(weight.shape)} and has too few values for it; {WHERE}")
    check_finite(weights.items(), path)


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
        f"{source} has {len(blocks)} blocks of width {width}; "
        f"the decoders are: {', '.join(map(_describe_names, DECODERS))}"
    )


def copy_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy weights into a module; a `ValueError` names all that is lacking, unknown or of another shape."""
    wanted = module.state_dict()
    shapes = [
        f"{name} is {list(weights[name].shape)} instead of {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & weights.keys())
        if wanted[name].shape != weights[name].shape
    ]
    lacking, unknown = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    problems = [
        *([f"it lacks {first_names(lacking)}"] if lacking else []),
        *([f"nothing here takes {first_names(unknown)}"] if unknown else []),
        *([first_names(shapes)] if shapes else []),
    ]
    if problems:
        raise ValueError(f"the weights in {source} do not fit: {'; '.join(problems)}")
    module.load_state_dict(dict(weights))


PICKLED = ("a ZIP archive, as torch.save writes them", "a Python pickle")
"""Kinds of content that a .pt file can have."""


def _describe_names(name: str) -> str:
    size: DecoderSize = DECODERS[name]
    return f"{name} ({sum(size.blocks)} of {size.embed})"


def _pickled(path: Path) -> dict[str, Tensor]:
    kind = checkpoint_files.content_kind(path)
    if kind not in (None, *PICKLED):
        raise ValueError(f"{path} is no checkpoint: it is {kind}; {WHERE}")
    _check_archive(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (*MALFORMED, MemoryError) as error:
        # torch's own message advises to unpickle whatever is in the file, so it is not repeated
        raise ValueError(
            f"{path} is no file of tensors alone, so it is not read ({type(error).__name__}): it is damaged, or holds "
            f"Python objects that loading would run; {WHERE}"
        ) from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(weight, Tensor) for weight in model.values()):
        raise ValueError(f"{path} is no checkpoint of SAM 2.1: expected tensors by name under 'model'; {WHERE}")
    if not model or not all(isinstance(name, str) for name in model):
        raise ValueError(f"{path} is no checkpoint of SAM 2.1: it has no tensors with names; {WHERE}")
    return cast("dict[str, Tensor]", model)


def _check_archive(path: Path) -> None:
    """A `ValueError` where a file would grow when it is read: torch.save does not compress."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(f"{path} is a damaged ZIP archive ({error}); {WHERE}") from error
    if size > path.stat().st_size:
        raise ValueError(
            f"{path} is no file of torch.save: it packs {size:,} bytes into {path.stat().st_size:,}; {WHERE}"
        )


def _packed(path: Path) -> dict[str, Tensor]:
    checkpoint_files.check_plain(checkpoint_files.read_header(path))
    return load_file(path)


def _of_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Transformers keeps the four point embeddings in one tensor, and the Fourier matrix twice."""
    left = dict(weights)
    points = left.pop("prompt_encoder.point_embed.weight")
    if points.ndim != 2:
        points = points[None]  # `copy_weights` names the shapes that do not fit
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
