"""Checks of weights and logits of local models: loading errors, and NaN or infinite values.

A NaN or infinite weight or logit makes every reply meaningless without an exception, so both are errors.
"""

from __future__ import annotations

import logging
import math
import pickle
import re
import struct
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import LogitsProcessor
from transformers.utils import logging as transformers_logging

from evqa.hub import checkpoint_files
from evqa.hub.checkpoint_files import first_names
from evqa.models.base import ModelError

logger = logging.getLogger(__name__)

VALUES_PER_BYTE = 4
"""Maximum number of weights per byte of a quantised checkpoint: the narrowest published formats have 2 bits."""

MIN_MATRIX = 4096
"""Minimum number of values of a matrix whose zeros mean missing data instead of an initial value."""

MALFORMED = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RecursionError),
    *(ImportError, RuntimeError, EOFError, struct.error, pickle.UnpicklingError, StrictDataclassError, SafetensorError),
)
"""Exceptions of libraries for invalid files; RuntimeError includes those of torch."""


@contextmanager
def loading_context(description: str) -> Generator[None]:
    """Context that raises a library's loading errors as a `ValueError` of one line, without progress bars.

    Args:
        description: description of the loaded object, for the message.
    """
    try:
        with without_progress_bars():
            yield
    except MALFORMED as error:
        raise ValueError(f"cannot load {description}: {line_of(error)}") from error
    except Exception as error:
        if type(error) is not Exception:  # the tokenizers library raises nothing narrower
            raise
        raise ValueError(f"cannot load {description}: {line_of(error)}") from error


@contextmanager
def without_progress_bars() -> Generator[None]:
    """Context without the progress bars of transformers."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()


def check_finite(weights: Iterable[tuple[str, Tensor]], source: Path, disk_name: Callable[[str], str] = str) -> None:
    """Raise a `ValueError` for a weight with a NaN or infinite value, and warn of matrices of zeros.

    One pass over each tensor without a copy: 16 to 25 GB/s on one core, so about 0.25 s for 4 GB in memory.

    Args:
        weights: (name, tensor) pairs; tensors that are not float or have no memory yet are skipped.
        source: checkpoint, for the message.
        disk_name: maps the name of a weight to its name on disk.
    """
    empty: list[str] = []
    for name, weight in weights:
        if not weight.is_floating_point() or weight.is_meta or not weight.numel():
            continue
        extremes = _extremes(weight)
        if bool(torch.isfinite(extremes).all()):
            if weight.ndim > 1 and weight.numel() >= MIN_MATRIX and not bool(extremes.any()):
                empty.append(disk_name(name))
            continue
        count = int((~torch.isfinite(weight.float())).sum())
        raise ValueError(
            f"{source}: {disk_name(name)} has {count:,} of {weight.numel():,} values that are NaN or infinite as "
            f"{str(weight.dtype).removeprefix('torch.')}: the file is damaged, its training diverged, or the type is "
            f"too narrow; fetch it again, or take an earlier checkpoint or --dtype float32"
        )
    if empty:
        logger.warning(
            "%s: all values of %s are 0, as in a file of which parts are missing", source, first_names(empty)
        )


def check_size(config: Any, loader: Any, folder: Path) -> None:
    """Raise a `ValueError` if a config describes far more weights than its folder has; allocates no memory.

    Args:
        config: transformers config.
        loader: transformers class of the model, such as `AutoModelForImageTextToText`.
        folder: checkpoint folder, whose files `checkpoint_files.check_open` has checked.
    """
    with torch.device("meta"), loading_context(f"a model by {folder / 'config.json'}"):
        plan: Any = loader.from_config(config)
    needed = sum(int(weight.numel()) for weight in plan.parameters())
    files = checkpoint_files.weight_files(folder)
    if getattr(config, "quantization_config", None):
        num_stored = sum(path.stat().st_size for path in files) * VALUES_PER_BYTE
    else:
        num_stored = sum(math.prod(tensor.shape) for tensor in checkpoint_files.read_weights(folder).values())
    if needed > 2 * num_stored:
        raise ValueError(
            f"{folder} holds {num_stored:,} weights where a {type(plan).__name__} by its config.json has {needed:,}: "
            f"config.json is of another checkpoint, or files are missing; fetch or copy both again"
        )


def check_loaded(model: Any, info: Mapping[str, Any], folder: Path) -> None:
    """Raise a `ValueError` for missing, mismatched or unexpected weights of a loaded model.

    Args:
        model: loaded model.
        info: `missing_keys`, `mismatched_keys` and `unexpected_keys` of `from_pretrained`.
        folder: checkpoint folder.
    """
    kind = type(model).__name__
    if lacking := sorted(info["missing_keys"]):
        raise ValueError(
            f"{folder} lacks {len(lacking)} weights of a {kind}, which would be random: {first_names(lacking)}; "
            f"fetch or copy the checkpoint again"
        )
    if wrong := sorted(
        f"{name} {list(stored)} -> {list(expected)}" for name, stored, expected in info["mismatched_keys"]
    ):
        raise ValueError(f"{folder} does not fit its config.json: {first_names(wrong)}; fetch or copy both again")
    names = {name for name, _ in tensors_of(model)}
    layers = {_without_numbers(name.rpartition(".")[0]) for name in names}
    excess = [name for name in info["unexpected_keys"] if _without_numbers(name.rpartition(".")[0]) in layers]
    if excess:
        raise ValueError(
            f"{folder} holds {len(excess)} weights that a {kind} by its config.json does not have: "
            f"{first_names(sorted(excess))}; fetch or copy both again"
        )


def _without_numbers(name: str) -> str:
    """Name of a module with a placeholder for each layer number."""
    return re.sub(r"\.\d+(?=\.|$)", ".N", name)


def is_finite(values: Tensor) -> bool:
    """Whether all values of a float tensor are finite; tests minimum and maximum, which propagate NaN."""
    return bool(torch.isfinite(_extremes(values)).all())


def _extremes(values: Tensor) -> Tensor:
    """Minimum and maximum [2]; NaN if any value is NaN."""
    if values.element_size() == 1:
        values = values.float()
    return torch.stack(torch.aminmax(values.detach()))


class FiniteLogits(LogitsProcessor):
    """Logits processor that refuses NaN, +inf, and rows without an allowed token; -inf marks a suppressed token."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Logits [B, vocabulary] of the next token, unchanged. `ModelError`: they are not finite."""
        if not bool(torch.isfinite(scores.amax(-1)).all()):  # amax is NaN where one is, -inf where all are
            position = int(input_ids.shape[-1])
            raise ModelError(
                f"the model computed logits that are NaN or infinite (at token {position}): its weights are damaged or "
                f"its type is too narrow; try --dtype float32, or bfloat16 instead of float16"
            )
        return scores


def line_of(error: BaseException) -> str:
    """One-line message of an error."""
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def tensors_of(model: Any) -> Iterable[tuple[str, Tensor]]:
    """(name, tensor) of the parameters and buffers of a module."""
    yield from model.named_parameters()
    yield from model.named_buffers()
