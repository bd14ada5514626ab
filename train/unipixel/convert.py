"""Creation of full checkpoints: `python -m unipixel.convert OUT --base FOLDER [--decoder FILE] [--trained FOLDER]`.

    python -m unipixel.convert model_zoo/mine --base model_zoo/unipixel-3b --trained outputs/sft/run/checkpoint-500
    python -m unipixel.convert model_zoo/new --base Qwen2.5-VL-3B-Instruct --decoder sam2.1_hiera_base_plus.pt
    python -m unipixel.convert model_zoo/large --base model_zoo/unipixel-3b --decoder sam2.1_hiera_large.pt

The first merges an adapter. The second creates a new model from a Qwen2.5-VL and SAM 2.1, to be trained before use. The
third replaces the mask decoder; train seg and sam2 before use.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLConfig
from tyro.conf import Positional, arg

from evqa.files.output_streams import checked_output_streams
from evqa.hub import checkpoint_files
from evqa.hub import checkpoints as hub_checkpoints
from evqa.models.options import option
from unipixel import integrity
from unipixel.model import checkpoints
from unipixel.model.sam2 import weights
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """Options of a conversion."""

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of the new checkpoint; it must not exist."""
    base: Path
    """Folder of a full UniPixel, or of a plain Qwen2.5-VL."""
    decoder: Annotated[Path | None, option("PATH", default="that of the base")] = None
    """Mask decoder: a .pt file of SAM 2.1, or a folder in the format of transformers."""
    trained: Annotated[Path | None, option("FOLDER", default="nothing to merge")] = None
    """Folder with an adapter and other trained weights to merge into the base model."""
    image_size: int = 768
    """Side of the square input of the mask decoder of a new model, in pixels."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the written weights; auto = that of the base."""


def convert(config: ConversionConfig) -> UniPixel:
    """Write a checkpoint and return its model.

    Raises:
        ValueError: the parts do not fit together, or the output folder exists.
    """
    if config.out.exists():
        raise ValueError(f"{config.out} already exists: choose another folder, or remove it")
    model, tokenizer = _load_parts(config)
    if config.dtype != "auto":
        model = model.to(getattr(torch, config.dtype))
    partial = config.out.with_name(config.out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)  # of an interrupted conversion
    with integrity.atomic_write(partial, config.out, lambda: "then run the same command again"):
        checkpoints.save_checkpoint(model, partial, tokenizer)
        partial.rename(config.out)
    return model


def _load_parts(config: ConversionConfig) -> tuple[UniPixel, PreTrainedTokenizerBase]:
    checkpoints.check_full_checkpoint(config.base)
    settings = checkpoint_files.read_object(config.base / "config.json")
    if settings.get("model_type") == Qwen2_5_VLConfig.model_type:
        return _new_model(config)
    if config.trained is None:
        model = checkpoints.load_checkpoint(config.base)
    else:
        dtype = settings.get("dtype") or settings.get("torch_dtype") or "auto"
        model = checkpoints.load_checkpoint(config.trained, base=config.base, dtype=dtype)
        _warn_of_other_base(config.trained, config.base)
    if config.decoder is not None:
        name = weights.size_name(weights.read_decoder_weights(config.decoder), config.decoder)
        checkpoints.replace_decoder(model, name, config.decoder)
    return model, checkpoints.load_tokenizer(config.base)


def _warn_of_other_base(trained: Path, base: Path) -> None:
    """Warn if the record of a run has other start weights than those that its adapter is merged into."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # of another program, or of an earlier version
        start = json.loads((trained / integrity.RECORD).read_text(encoding="utf-8"))["weights"]["start"]
        if start != hub_checkpoints.fingerprint(base):
            logger.warning("%s was trained from other weights than %s: is that the right --base?", trained, base)


def _new_model(config: ConversionConfig) -> tuple[UniPixel, PreTrainedTokenizerBase]:
    if config.decoder is None:
        raise ValueError(f"{config.base} has no mask decoder: add --decoder")
    if config.trained is not None:
        raise ValueError(f"{config.base} is a plain Qwen2.5-VL: convert it with --decoder first, then merge --trained")
    return checkpoints.start_from(config.base, config.decoder, config.image_size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process. Exit codes: 0 = done, 2 = invalid input."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        model = convert(tyro.cli(ConversionConfig, args=arguments, description=__doc__))
    except BrokenPipeError:
        raise  # `checked_output_streams` ends the process
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{sum(p.numel() for p in model.parameters()):,} weights written\n")
    return 0


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(main())
