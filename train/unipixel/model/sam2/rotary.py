"""SAM 2.1's attention with rotary positions, in fewer passes over memory than transformers' takes.

Turning a pair of channels by an angle is a product of complex numbers; the angles of a feature map's cells are the
same in every remembered map, so they are not repeated. Numbers are fp32 while they turn, as there.

Legend: N objects, h heads, d channels of a head, g*g cells of a feature map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention


class RotaryAttention(Sam2VideoRoPEAttention):
    """Self-attention of a feature map, or its look at R remembered ones and at tokens without a place."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        num_k_exclude_rope: int = 0,
    ) -> tuple[Tensor, None]:
        """As transformers' has it.

        Args:
            query: [N, 1, g*g, D].
            key: [N, 1, R*g*g + n, D']; the last n tokens, `num_k_exclude_rope`, have no place.
            value: as `key`.
            position_embeddings: cosine and sine [..., g*g, d] of each cell, each number twice.
            num_k_exclude_rope: n.

        Returns:
            [N, 1, g*g, D], and None where transformers has weights.
        """
        num_objects, num_points = query.shape[:2]
        cos, sin = (part.reshape(-1, self.head_dim)[:, ::2].float() for part in position_embeddings)
        turn = torch.complex(cos, sin)  # [g*g, d/2]
        queries, keys, values = (
            projection(tokens).view(num_objects * num_points, -1, self.num_attention_heads, self.head_dim)
            for projection, tokens in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        num_placed = keys.shape[1] - num_k_exclude_rope
        placed = _turned(keys[:, :num_placed], turn)
        attended = nn.functional.scaled_dot_product_attention(
            _turned(queries, turn).transpose(1, 2),
            torch.cat([placed, keys[:, num_placed:]], dim=1).transpose(1, 2),
            values.transpose(1, 2),
            dropout_p=self.dropout_p if self.training else 0.0,
            scale=self.scaling,
        )
        return self.o_proj(attended.transpose(1, 2).reshape(num_objects, num_points, -1, self.internal_dim)), None


def use_rotary(module: nn.Module) -> None:
    """Let the attention layers inside a module be ours; weights stay."""
    for layer in module.modules():
        if type(layer) is Sam2VideoRoPEAttention:
            layer.__class__ = RotaryAttention


def _turned(tokens: Tensor, turn: Tensor) -> Tensor:
    """Tokens [N, R*g*g, h, d], each pair of channels turned by its cell's angle [g*g, d/2]."""
    pairs = torch.view_as_complex(tokens.float().unflatten(-1, (-1, 2)))  # [N, R*g*g, h, d/2]
    turned = pairs.unflatten(1, (-1, len(turn))) * turn[:, None]
    return torch.view_as_real(turned).flatten(-2).flatten(1, 2).type_as(tokens)
