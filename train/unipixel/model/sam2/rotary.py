"""Attention of SAM 2.1 with rotary positions, with fewer memory accesses than the implementation of transformers.

The rotation of a pair of channels is a product of complex numbers. The angles of the cells are the same for all memory
feature maps, so they are not repeated. Rotations are computed in fp32, as in transformers.

Legend: N objects, h heads, d channels of a head, g*g cells of a feature map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention


class RotaryAttention(Sam2VideoRoPEAttention):
    """Self-attention of a feature map, or cross-attention to R memory feature maps and to tokens without position."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        num_k_exclude_rope: int = 0,
    ) -> tuple[Tensor, None]:
        """Compute attention with the signature of transformers.

        Args:
            query: [N, 1, g*g, D].
            key: [N, 1, R*g*g + n, D']; the last n tokens, `num_k_exclude_rope`, have no position.
            value: as `key`.
            position_embeddings: cosine and sine [..., g*g, d] of each cell, each number twice.
            num_k_exclude_rope: n.

        Returns:
            [N, 1, g*g, D], and None instead of attention weights.
        """
        num_objects, num_points = query.shape[:2]
        cos, sin = (part.reshape(-1, self.head_dim)[:, ::2].float() for part in position_embeddings)
        rotation = torch.complex(cos, sin)  # [g*g, d/2]
        queries, keys, values = (
            projection(tokens).view(num_objects * num_points, -1, self.num_attention_heads, self.head_dim)
            for projection, tokens in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        num_rotated = keys.shape[1] - num_k_exclude_rope
        rotated = _rotate(keys[:, :num_rotated], rotation)
        attended = nn.functional.scaled_dot_product_attention(
            _rotate(queries, rotation).transpose(1, 2),
            torch.cat([rotated, keys[:, num_rotated:]], dim=1).transpose(1, 2),
            values.transpose(1, 2),
            dropout_p=self.dropout_p if self.training else 0.0,
            scale=self.scaling,
        )
        return self.o_proj(attended.transpose(1, 2).reshape(num_objects, num_points, -1, self.internal_dim)), None


def use_rotary(module: nn.Module) -> None:
    """Replace the class of the rotary attention layers of a module; weights are unchanged."""
    for layer in module.modules():
        if type(layer) is Sam2VideoRoPEAttention:
            layer.__class__ = RotaryAttention


def _rotate(tokens: Tensor, rotation: Tensor) -> Tensor:
    """Rotate each pair of channels of tokens [N, R*g*g, h, d] by the angle of its cell [g*g, d/2]."""
    pairs = torch.view_as_complex(tokens.float().unflatten(-1, (-1, 2)))  # [N, R*g*g, h, d/2]
    rotated_pairs = pairs.unflatten(1, (-1, len(rotation))) * rotation[:, None]
    return torch.view_as_real(rotated_pairs).flatten(-2).flatten(1, 2).type_as(tokens)
