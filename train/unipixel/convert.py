"""Make a full checkpoint: `python -m unipixel.convert OUT --base FOLDER [--decoder FILE] [--trained FOLDER]`.

    python -m unipixel.convert model_zoo/mine --base model_zoo/unipixel-3b --trained outputs/sft/run/checkpoint-500
    python -m unipixel.convert model_zoo/new --base Qwen2.5-VL-3B-Instruct --decoder sam2.1_hiera_base_plus.pt
    python -m unipixel.convert model_zoo/large --base model_zoo/unipixel-3b --decoder sam2.1_hiera_large.pt

The first merges an adapter, the second starts a new model from its two halves (train it before use), the third
puts another mask decoder in (train seg and sam2 before use).
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
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
from unipixel import integrity
from unipixel.model import checkpoints
from unipixel.model.sam2 import weights
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """What is put together."""

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of the new checkpoint; it must not be there yet."""
    base: Path
    """Folder of a full UniPixel, or of a plain Qwen2.5-VL."""
    decoder: Path | None = None
    """SAM 2.1 in its place: Meta's .pt file, or a folder in transformers' layout."""
    trained: Path | None = None
    """Folder with an adapter and other trained weights to merge into the base."""
    image_size: int = 768
    """Side in pixels of the square that a new model's mask decoder sees."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the weights that are written; auto is the base's."""


def convert(wanted: ConversionConfig) -> UniPixel:
    """Write the checkpoint and return its model; a `ValueError` says what does not fit."""
    if wanted.out.exists():
        raise ValueError(f"{wanted.out} is there already: choose another folder, or remove it")
    model, tokenizer = _whole(wanted)
    if wanted.dtype != "auto":
        model = model.to(getattr(torch, wanted.dtype))
    partial = wanted.out.with_name(wanted.out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)  # a conversion that was cut off
    with integrity.atomic_write(partial, wanted.out, lambda: "then give the same command again"):
        checkpoints.save_checkpoint(model, partial, tokenizer)
        partial.rename(wanted.out)
    return model


def _whole(wanted: ConversionConfig) -> tuple[UniPixel, PreTrainedTokenizerBase]:
    checkpoints.check_full_checkpoint(wanted.base)
    config = checkpoint_files.read_object(wanted.base / "config.json")
    if config.get("model_type") == Qwen2_5_VLConfig.model_type:
        return _new(wanted)
    if wanted.trained is None:
        model = checkpoints.load_checkpoint(wanted.base)
    else:
        dtype = config.get("dtype") or config.get("torch_dtype") or "auto"
        model = checkpoints.load_checkpoint(wanted.trained, base=wanted.base, dtype=dtype)
        _warn_of_other_base(wanted.trained, wanted.base)
    if wanted.decoder is not None:
        name = weights.size_name(weights.read_decoder_weights(wanted.decoder), wanted.decoder)
        checkpoints.replace_decoder(model, name, wanted.decoder)
    return model, checkpoints.load_tokenizer(wanted.base)


def _warn_of_other_base(trained: Path, base: Path) -> None:
    """Say where the record of a run names other start weights than those that its adapter is merged into."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # of another program, or of an earlier version
        start = json.loads((trained / integrity.RECORD).read_text(encoding="utf-8"))["weights"]["start"]
        if start != hub_checkpoints.fingerprint(base):
            logger.warning("%s was trained from other weights than %s: is that the right --base?", trained, base)


def _new(wanted: ConversionConfig) -> tuple[UniPixel, PreTrainedTokenizerBase]:
    if wanted.decoder is None:
        raise ValueError(f"{wanted.base} has no mask decoder: give one with --decoder")
    if wanted.trained is not None:
        raise ValueError(f"{wanted.base} is a plain Qwen2.5-VL: make a checkpoint of it first, then merge --trained")
    return checkpoints.start_from(wanted.base, wanted.decoder, wanted.image_size)


def main() -> int:
    """Run the command. 0: done; 2: it cannot be done as asked."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        model = convert(tyro.cli(ConversionConfig, description=__doc__))
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
