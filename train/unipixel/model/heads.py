"""Heads of the tokens `<|seg|>` (mask prompt), `<|ref|>` (point or box) and `<|mem|>` (object).

Their weights are part of every published checkpoint, with the published names; `visual_prompts` computes their inputs.

Legend: C width of SAM 2 (256), D width of the language model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierEncoding(nn.Module):
    """Random Fourier features of coordinates, with a random matrix that is stored in the checkpoint."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(dimensions, width // 2))

    def forward(self, coordinates: Tensor) -> Tensor:
        """Features [..., C] in fp32 of coordinates [..., dimensions] in [0, 1]."""
        matrix = self.positional_encoding_gaussian_matrix.float()
        angles = 2 * math.pi * ((2 * coordinates.to(matrix) - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PointEncoder(nn.Module):
    """Prompt encoder of SAM for points and boxes.

    `mask_downscaling` and `no_mask_embed` are unused: published checkpoints include their weights.
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
        """Embeddings of points or boxes, followed by the padding token of SAM.

        Args:
            points: [N, P, 2] in [0, 1]; P = 1 for points, 2 for boxes (top left, bottom right).

        Returns:
            [N, P + 1, C].
        """
        roles = {1: (1,), 2: (2, 3)}[points.shape[1]]  # labels of SAM: foreground point; the two corners of a box
        role = torch.cat([self.point_embeddings[label].get_parameter("weight") for label in roles])  # [P, C]
        places = self.pe_layer(points).to(role) + role
        return torch.cat([places, self.not_a_point_embed.weight.expand(len(points), 1, -1)], dim=1)


def mask_prompt_head(width: int, num_vectors: int, prompt_width: int) -> nn.Sequential:
    """`seg_head`: hidden states of the language model [N, D] -> mask prompts [N, K*C]."""
    return nn.Sequential(
        nn.RMSNorm(width, eps=1e-6),
        nn.Linear(width, width),
        nn.GELU(),
        nn.Linear(width, num_vectors * prompt_width),
    )


def object_projector(vision_width: int, width: int) -> nn.Sequential:
    """`msk_proj`: mean cell features of objects [N, M] -> embeddings of `<|mem|>` [N, D]."""
    return nn.Sequential(nn.Linear(vision_width, vision_width), nn.GELU(), nn.Linear(vision_width, width))


def place_projector(prompt_width: int, width: int) -> nn.Sequential:
    """`ref_proj`: features of place and time, each [N, 3C] -> embeddings of `<|ref|>` [N, D]."""
    return nn.Sequential(nn.GELU(), nn.Linear(6 * prompt_width, width))
