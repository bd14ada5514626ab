"""What the question points at: `<|ref|>` is a place in a frame, `<|mem|>` an object as it looked in two frames.

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
    """A point or a box in one of a video's frames.

    Numbers rather than tensors survive mixed precision unrounded; no tuple, since Trainer rebuilds those.
    """

    points: tuple[tuple[float, float], ...]
    """One (x, y), or the two corners of a box, in pixels of the mask decoder's square."""
    moment: float
    """Which frame: its 0-based number among those the language model sees, over (2 t - 1)."""


def place_embeddings(model: UniPixel, places: Sequence[PromptPlace]) -> Tensor:
    """Embeddings [N, D] of places; coordinates and times are encoded in fp32."""
    rows = [_where(model, place) for place in places]
    moments = torch.tensor([[place.moment] for place in places], device=model.device)
    when = model.tem_pe(moments).to(rows[0]) + model.tem_emb.weight
    return model.ref_proj(torch.cat([torch.cat(rows), model.tem_proj(when)], dim=-1))


def region_embeddings(model: UniPixel, cells: Tensor, grids: Tensor, regions: Sequence[Tensor | None]) -> Tensor:
    """Embeddings [N, D] of every object in every grid step where it has a cell: video, then object, then time.

    The released checkpoints were trained on a slip: cells were looked up by their place in the image although the
    vision tower had put them in the order of its windows. `config.mem_order` says which way a checkpoint learnt.

    Args:
        model: for its config and `msk_proj`.
        cells: [all merged cells, M] inputs of the merger's MLP, in window order.
        grids: [videos, 3] grids in unmerged patches.
        regions: per video bool [t, O, h, w], or None.
    """
    merge = model.config.vision.spatial_merge_size
    sizes = [(t, h // merge, w // merge) for t, h, w in grids.tolist()]
    parts = cells.split([t * h * w for t, h, w in sizes])
    if len(regions) != len(sizes):
        raise ValueError(f"regions are given per video: {len(sizes)} videos, regions of {len(regions)}")
    means = [
        _means(model, part, size, region)
        for part, size, region in zip(parts, sizes, regions, strict=True)
        if region is not None
    ]
    return model.msk_proj(torch.cat(means) if means else cells[:0])


def window_order(size: tuple[int, int, int], side: int) -> Tensor:
    """Where the vision tower's n-th merged cell stands in the video, [t * h * w]: windows of side x side cells."""
    steps, height, width = size
    index = torch.arange(height * width).view(height, width)
    windows = [
        index[row : row + side, column : column + side].flatten()
        for row in range(0, height, side)
        for column in range(0, width, side)
    ]
    return (torch.arange(steps)[:, None] * (height * width) + torch.cat(windows)).flatten()


def region_cells(masks: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Masks of an object's frames -> merged cells that hold a pixel of it.

    Args:
        masks: bool [T, O, H, W]; an odd last frame stands for two, as it does for the vision tower.
        size: (t, h, w).

    Returns:
        bool [t, O, h, w].
    """
    steps, height, width = size
    missing = 2 * steps - len(masks)
    padded = torch.cat([masks, masks[-1:].expand(missing, -1, -1, -1)]).float()
    pooled = F.adaptive_max_pool2d(padded, (height, width))  # [2t, O, h, w]
    return pooled.unflatten(0, (steps, 2)).amax(1) > 0


def _where(model: UniPixel, place: PromptPlace) -> Tensor:
    """Projected place [1, 3C]."""
    side = model.config.sam2_image_size
    points = (torch.tensor([place.points], device=model.device) + 0.5) / side  # centres of pixels
    tokens = model.ref_encoder(points).flatten(1)  # [1, (P + 1) C]
    return (model.ref_proj_single if len(place.points) == 1 else model.ref_proj_double)(tokens)


def _means(model: UniPixel, cells: Tensor, size: tuple[int, int, int], region: Tensor) -> Tensor:
    """Mean cells [N, M] of one video's objects."""
    if (region.shape[0], *region.shape[2:]) != size:
        raise ValueError(f"a region of cells is [t, O, h, w] with t h w = {size}, got {tuple(region.shape)}")
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
