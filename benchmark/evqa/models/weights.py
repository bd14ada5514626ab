"""Weights and logits of models in this process: errors of loading, and values that are no numbers.

A weight or a logit that is NaN or infinite makes every reply meaningless while nothing fails, so both are errors.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import LogitsProcessor
from transformers.utils import logging as transformers_logging

from evqa.models.base import ModelError

MALFORMED = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RecursionError),
    *(ImportError, RuntimeError, EOFError, struct.error, pickle.UnpicklingError, StrictDataclassError, SafetensorError),
)
"""What libraries raise on files that are not what they expect; RuntimeError holds torch's own errors."""


@contextmanager
def loading(what: str) -> Generator[None]:
    """Errors of a library that loads `what`, as one line for the user; without its progress bars."""
    try:
        with without_progress_bars():
            yield
    except MALFORMED as error:
        raise ValueError(f"cannot load {what}: {_line(error)}") from error
    except Exception as error:
        if type(error) is not Exception:  # the tokenizers library raises nothing narrower
            raise
        raise ValueError(f"cannot load {what}: {_line(error)}") from error


@contextmanager
def without_progress_bars() -> Generator[None]:
    """Switch the bars of transformers off, and on again where they were on."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()


def check_finite(weights: Iterable[tuple[str, Tensor]], source: Path, named: Callable[[str], str] = str) -> None:
    """A `ValueError` that names a weight with a value that is NaN or infinite.

    One pass over the memory, tensor by tensor, with no copy: 16 to 25 GB/s on one core, so about 0.25 s for 4 GB that
    are in memory.

    Args:
        weights: (name, tensor); what is no float, or has no memory yet, is passed over.
        source: where they come from.
        named: the name on disk of a name.
    """
    for name, weight in weights:
        if not weight.is_floating_point() or weight.is_meta or not weight.numel() or is_finite(weight):
            continue
        count = int((~torch.isfinite(weight.float())).sum())
        raise ValueError(
            f"{source}: {named(name)} has {count:,} of {weight.numel():,} values that are NaN or infinite as "
            f"{str(weight.dtype).removeprefix('torch.')}: the file is damaged, its training diverged, or the type is "
            f"too narrow; fetch it again, or take an earlier checkpoint or --dtype float32"
        )


def is_finite(values: Tensor) -> bool:
    """Whether all values of a float tensor are finite: extremes carry every NaN and infinity."""
    if values.element_size() == 1:
        values = values.float()
    return bool(torch.isfinite(torch.stack(torch.aminmax(values.detach()))).all())


class FiniteLogits(LogitsProcessor):
    """Refuses logits with NaN or +inf, and rows that allow no token; -inf alone stands for a suppressed token."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Logits [B, vocabulary] of the next token, unchanged. `ModelError`: they are no numbers."""
        if not bool(torch.isfinite(scores.amax(-1)).all()):  # amax is NaN where one is, -inf where all are
            position = int(input_ids.shape[-1])
            raise ModelError(
                f"the model computed logits that are NaN or infinite (at token {position}): its weights are damaged or "
                f"its type is too narrow; try --dtype float32, or bfloat16 instead of float16"
            )
        return scores


def _line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def tensors_of(model: Any) -> Iterable[tuple[str, Tensor]]:
    """(name, tensor) of the parameters and buffers of a module."""
    yield from model.named_parameters()
    yield from model.named_buffers()
