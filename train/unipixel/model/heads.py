"""Small modules behind the tokens `<|seg|>` (draw this), `<|ref|>` (a place) and `<|mem|>` (an object).

Their weights belong to every published checkpoint and are named as published; `unipixel.model.visual_prompts` feeds
them.

Legend: C width of SAM 2 (256), D width of the language model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierEncoding(nn.Module):
    """Random Fourier features of coordinates; the matrix, drawn once, belongs to the checkpoint."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(dimensions, width // 2))

    def forward(self, coordinates: Tensor) -> Tensor:
        """Features [..., C] of coordinates [..., dimensions] in [0, 1]; in fp32 whatever the model's type."""
        matrix = self.positional_encoding_gaussian_matrix.float()
        angles = 2 * math.pi * ((2 * coordinates.to(matrix) - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PointEncoder(nn.Module):
    """A copy of SAM's prompt encoder for points and boxes.

    `mask_downscaling` and `no_mask_embed` are never run: published checkpoints carry them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pe_layer = FourierEncoding(2, width)
        self.point_embeddings = nn.ModuleList([nn.Embedding(1, width) for _ in range(4)])
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            nn.GroupNorm(1, 4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            nn.GroupNorm(1, 16),
            nn.GELU(),
            nn.Conv2d(16, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(self, points: Tensor) -> Tensor:
        """Places as SAM sees them, and one token that says "no further point".

        Args:
            points: [N, P, 2] in [0, 1]; P = 1 for points, 2 for boxes (top left, bottom right).

        Returns:
            [N, P + 1, C].
        """
        roles = {1: (1,), 2: (2, 3)}[points.shape[1]]  # SAM's labels: a point inside; a box's two corners
        role = torch.cat([self.point_embeddings[label].get_parameter("weight") for label in roles])  # [P, C]
        places = self.pe_layer(points).to(role) + role
        return torch.cat([places, self.not_a_point_embed.weight.expand(len(points), 1, -1)], dim=1)


def mask_prompt_head(width: int, num_vectors: int, prompt_width: int) -> nn.Sequential:
    """`seg_head`: a state of the language model [N, D] -> prompt vectors of the mask decoder [N, K*C]."""
    return nn.Sequential(
        nn.RMSNorm(width, eps=1e-6),
        nn.Linear(width, width),
        nn.GELU(),
        nn.Linear(width, num_vectors * prompt_width),
    )


def object_projector(vision_width: int, width: int) -> nn.Sequential:
    """`msk_proj`: mean merged patch of an object [N, merged] -> embedding of `<|mem|>` [N, D]."""
    return nn.Sequential(nn.Linear(vision_width, vision_width), nn.GELU(), nn.Linear(vision_width, width))


def place_projector(prompt_width: int, width: int) -> nn.Sequential:
    """`ref_proj`: place and time, each [N, 3C] -> embedding of `<|ref|>` [N, D]."""
    return nn.Sequential(nn.GELU(), nn.Linear(6 * prompt_width, width))
