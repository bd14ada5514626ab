"""Zero terms for weights that a batch does not use, needed in distributed training.

Data parallelism waits for a gradient of every trained weight, and DeepSpeed for all of them in one order. A batch
without video, masks or visual prompts therefore adds zeros that depend on the unused weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.distributed
from torch import Tensor, nn

if TYPE_CHECKING:
    from unipixel.model.unipixel import UniPixel


def is_distributed_training(model: nn.Module) -> bool:
    """Whether the model is in training mode in a process group."""
    return model.training and torch.distributed.is_available() and torch.distributed.is_initialized()


def unused_parameter_term(model: UniPixel) -> Tensor:
    """Zero that depends on all weights that some batches do not use.

    It is computed before the forward pass, so that their gradients are complete last.
    """
    zero = torch.zeros((), device=model.device)
    pointers = (model.ref_encoder, model.ref_proj_single, model.ref_proj_double, model.ref_proj)
    for part in (model.sam2, model.seg_head, model.msk_proj, *pointers, model.tem_emb, model.tem_proj):
        for weight in part.parameters():
            if weight.requires_grad:
                zero = zero + weight.sum() * 0.0
    return zero


def dummy_vision_pass(model: UniPixel) -> Tensor:
    """Zero from a pass of one blank cell through the vision tower, for a batch without video."""
    side = model.config.vision.spatial_merge_size
    patches = model.get_submodule("model.visual.patch_embed.proj")
    assert isinstance(patches, nn.Conv3d), patches
    width = patches.in_channels * math.prod(patches.kernel_size)
    blank = torch.zeros(side * side, width, device=model.device)
    grid = torch.tensor([[1, side, side]], device=model.device)
    features = model.model.get_video_features(blank, grid, return_dict=True).pooler_output  # type: ignore[call-arg]
    return torch.cat(list(features)).sum() * 0.0
