"""Choice of the attention implementation for models with open weights."""

from __future__ import annotations

import importlib
import logging
from functools import cache

import torch
from transformers.utils.import_utils import is_flash_attn_2_available

logger = logging.getLogger(__name__)

FLASH, TORCH = "flash_attention_2", "sdpa"
"""Names in transformers of the package flash-attn and of torch's own attention."""


def best_attention(dtype: torch.dtype | str | None, device: torch.device | str) -> str:
    """Name of the attention to use: flash-attn if it can be imported and run (16 bits, CUDA), else that of torch."""
    is_half = dtype in (torch.bfloat16, torch.float16, "bfloat16", "float16")
    return FLASH if is_half and torch.device(device).type == "cuda" and flash_attention_works() else TORCH


@cache
def flash_attention_works() -> bool:
    """Whether flash-attn is installed and can be imported; a build for another torch cannot."""
    if not is_flash_attn_2_available():
        return False
    try:
        importlib.import_module("flash_attn")
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logger.warning("flash-attn cannot be imported (%s): attention runs in torch instead", reason)
        return False
    return True
