"""Image encoder of SAM 2.1 (Hiera with a feature pyramid): its config, without unused computations of transformers.

Legend: S side of the square input in pixels, g = S/16 side of the coarse features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Sam2VideoConfig
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleAttention, do_pool
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)

from unipixel.model.config import DecoderSize


def decoder_config(size: DecoderSize, image_size: int) -> Sam2VideoConfig:
    """Config of SAM 2.1 in transformers.

    Args:
        size: sizes of the decoder.
        image_size: side of the square input in pixels.
    """
    grid, stages = image_size // 16, (1, 2, 4, 8)
    widths = [size.embed * scale for scale in stages]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": size.embed,
        "num_attention_heads": size.heads,
        "image_size": [image_size, image_size],
        "blocks_per_stage": list(size.blocks),
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [size.heads * scale for scale in stages],
        "window_size_per_stage": list(size.windows),
        "global_attention_blocks": list(size.global_blocks),
        "window_positional_embedding_background_size": [size.background, size.background],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": size.hidden,
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[grid * scale, grid * scale] for scale in (4, 2, 1)],
    }
    return Sam2VideoConfig(
        image_size=image_size,
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=size.hidden, image_size=image_size),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(hidden_size=size.hidden),
        memory_attention_hidden_size=size.hidden,
        memory_attention_num_layers=size.memory_layers,
        memory_attention_feed_forward_hidden_size=size.memory_feed_forward,
        memory_attention_rope_feat_sizes=[grid, grid],
        memory_attention_dropout=size.dropout,
        memory_attention_rope_dropout=size.dropout,
        memory_encoder_hidden_size=size.hidden,
        memory_encoder_output_channels=size.memory,
        mask_downsampler_embed_dim=size.hidden,
        memory_fuser_embed_dim=size.hidden,
        memory_fuser_intermediate_dim=4 * size.hidden,
    )


def replace_attention(encoder: nn.Module) -> None:
    """Remove two computations with unused results; features are identical bit for bit."""
    for module in encoder.modules():
        if type(module) is Sam2MultiScaleAttention:
            module.__class__ = Attention  # keeps the weights, and draws no new random ones
    encoder.get_submodule("neck").position_encoding = NoPositions()


class Attention(Sam2MultiScaleAttention):
    """Attention of Hiera without the weights [windows, positions, heads, heads], which transformers discards."""

    def forward(self, hidden_states: Tensor, **kwargs: object) -> Tensor:
        """Compute [N, H', W', D'] from [N, H, W, D]; a block with pooled queries halves the size."""
        batch, height, width = hidden_states.shape[:3]
        qkv = self.qkv(hidden_states).reshape(batch, height * width, 3, self.num_attention_heads, -1)
        query, key, value = qkv.unbind(2)  # [N, H*W, heads, d]
        if self.query_stride:
            query = do_pool(query.reshape(batch, height, width, -1), self.query_stride)  # type: ignore[arg-type]
            height, width = query.shape[1:3]
            query = query.reshape(batch, height * width, self.num_attention_heads, -1)
        attended = nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=self.scale
        )
        return self.proj(attended.transpose(1, 2).reshape(batch, height, width, -1))


class NoPositions(nn.Module):
    """Replacement of the position encodings of the pyramid, which `MaskTracker.setting` computes once."""

    def forward(self, _shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return an empty tensor."""
        return torch.empty(0, device=device, dtype=dtype)
