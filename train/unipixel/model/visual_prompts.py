"""Embeddings of visual prompts: `<|ref|>` is a point or box in a frame, `<|mem|>` an object in two frames.

    point or box -> ref_encoder -> ref_proj_single | ref_proj_double -+
    frame's place in time -> tem_pe -> + tem_emb -> tem_proj ---------+-> ref_proj -> embedding of <|ref|>
    mask -> merged cells of the vision tower under it -> mean -> msk_proj -> embedding of <|mem|>

Legend: C width of SAM 2, D width of the language model, M width of a merged cell of the vision tower, O objects,
t h w grid of a video in merged cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from unipixel.model.unipixel import UniPixel


@dataclass(frozen=True)
class PromptPlace:
    """A point or a box in a frame of a video.

    It has numbers instead of tensors, which mixed precision would round, and is no tuple, which Trainer would rebuild.
    """

    points: tuple[tuple[float, float], ...]
    """One (x, y), or the two corners of a box, in pixels of the square input of SAM 2."""
    moment: float
    """Time of the frame: its 0-based index among the sampled frames, divided by 2 t - 1."""


def place_embeddings(model: UniPixel, places: Sequence[PromptPlace]) -> Tensor:
    """Embeddings [N, D] of points and boxes; coordinates and times are encoded in fp32."""
    rows = [_encode_place(model, place) for place in places]
    moments = torch.tensor([[place.moment] for place in places], device=model.device)
    times = model.tem_pe(moments).to(rows[0]) + model.tem_emb.weight
    return model.ref_proj(torch.cat([torch.cat(rows), model.tem_proj(times)], dim=-1))


def region_embeddings(model: UniPixel, cells: Tensor, grids: Tensor, regions: Sequence[Tensor | None]) -> Tensor:
    """Embeddings [N, D] of each object in each grid step with a cell of it, ordered by video, object and time.

    The released checkpoints were trained with a bug: cells were indexed in raster order, while the vision tower outputs
    them in window order. `config.mem_order` is the order that a checkpoint was trained with.

    Args:
        model: with `msk_proj` and the config.
        cells: [all merged cells, M] inputs of the MLP of the merger, in window order.
        grids: [videos, 3] grids in unmerged patches.
        regions: per video bool [t, O, h, w], or None.
    """
    merge = model.config.vision.spatial_merge_size
    sizes = [(t, h // merge, w // merge) for t, h, w in grids.tolist()]
    parts = cells.split([t * h * w for t, h, w in sizes])
    if len(regions) != len(sizes):
        raise ValueError(f"expected regions for each of {len(sizes)} videos, got {len(regions)}")
    means = [
        _means(model, part, size, region)
        for part, size, region in zip(parts, sizes, regions, strict=True)
        if region is not None
    ]
    return model.msk_proj(torch.cat(means) if means else cells[:0])


def window_order(size: tuple[int, int, int], side: int) -> Tensor:
    """Raster index of the n-th merged cell of the vision tower, [t * h * w], with windows of side x side cells."""
    steps, height, width = size
    index = torch.arange(height * width).view(height, width)
    windows = [
        index[row : row + side, column : column + side].flatten()
        for row in range(0, height, side)
        for column in range(0, width, side)
    ]
    return (torch.arange(steps)[:, None] * (height * width) + torch.cat(windows)).flatten()


def region_cells(masks: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Merged cells with at least one pixel of an object.

    Args:
        masks: bool [T, O, H, W]; an odd last frame is repeated, as in the vision tower.
        size: (t, h, w).

    Returns:
        bool [t, O, h, w].
    """
    steps, height, width = size
    missing = 2 * steps - len(masks)
    padded = torch.cat([masks, masks[-1:].expand(missing, -1, -1, -1)]).float()
    pooled = F.adaptive_max_pool2d(padded, (height, width))  # [2t, O, h, w]
    return pooled.unflatten(0, (steps, 2)).amax(1) > 0


def _encode_place(model: UniPixel, place: PromptPlace) -> Tensor:
    """Projected point or box [1, 3C]."""
    side = model.config.sam2_image_size
    points = (torch.tensor([place.points], device=model.device) + 0.5) / side  # centres of pixels
    tokens = model.ref_encoder(points).flatten(1)  # [1, (P + 1) C]
    return (model.ref_proj_single if len(place.points) == 1 else model.ref_proj_double)(tokens)


def _means(model: UniPixel, cells: Tensor, size: tuple[int, int, int], region: Tensor) -> Tensor:
    """Mean cell features [N, M] of the objects of a video."""
    if (region.shape[0], *region.shape[2:]) != size:
        raise ValueError(f"expected a region [t, O, h, w] with (t, h, w) = {size}, got {tuple(region.shape)}")
    if model.config.mem_order == "raster":
        vision = model.config.vision
        assert isinstance(vision.patch_size, int), vision.patch_size
        order = window_order(size, vision.window_size // vision.patch_size // vision.spatial_merge_size)
        cells = cells[torch.argsort(order).to(cells.device)]
    steps = cells.unflatten(0, (size[0], -1))  # [t, h*w, M]
    weights = region.to(cells.device).flatten(2).transpose(0, 1).to(cells.dtype)  # [O, t, h*w]
    sums = torch.einsum("otc,tcm->otm", weights, steps)
    counts = weights.sum(-1, keepdim=True)
    return (sums / counts.clamp(min=1))[counts.squeeze(-1) > 0]
