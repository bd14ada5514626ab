"""Prompts that a person gives to SAM 2.1: clicks, a box or a mask on one frame.

They follow Meta's video predictor: one click gives three candidates, a box or several clicks one mask (or the best
of three where that one is unstable), and a given mask is taken as it is. What is remembered of the prompted frame
is binary, as the user saw it (`binarize_mask_from_pts_for_mem_enc`). Small holes are not filled.

Legend: as in `tracker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unipixel.model.sam2.memory import FrameMemory
from unipixel.model.sam2.outputs import DecoderOutput, ImageFeatures, MaskCandidates, StepConstants
from unipixel.model.sam2.tracker import MaskTracker

BACKGROUND, OBJECT, BOX_START, BOX_END = range(4)
"""Labels of a place; the last two are the corners of a box."""

GIVEN_MASK_LOGIT = 10.0
"""Logit of a pixel inside a given mask; outside it is the negative."""


class PointPrompt(NamedTuple):
    """Places of one object on the prompted frame; a box comes before other clicks."""

    places: tuple[tuple[float, float], ...]
    """(x, y) in parts of the frame's width and height, 0 to 1."""
    labels: tuple[int, ...]
    """`OBJECT`, `BACKGROUND`, or the corners of a box."""


Prompt = PointPrompt | Tensor
"""What says which object is meant: clicks, or a mask bool [H, W] of any size."""


def box_prompt(x0: float, y0: float, x1: float, y1: float) -> PointPrompt:
    """A box by its corners in parts of the frame's size."""
    return PointPrompt(((x0, y0), (x1, y1)), (BOX_START, BOX_END))


def first_frame(
    tracker: MaskTracker, features: ImageFeatures, signs: Sequence[Prompt], setting: StepConstants
) -> tuple[MaskCandidates, FrameMemory]:
    """The prompted frame [1, ...] of all objects, each drawn as its sign says: masks [O, 1, h, h]."""
    drawn, memories = zip(*(_of_prompt(tracker, features, sign, setting) for sign in signs), strict=True)
    merged = MaskCandidates(*(torch.cat(values) for values in zip(*drawn, strict=True)))
    spatial = torch.cat([memory.spatial for memory in memories if memory.spatial is not None], 1)
    return merged, FrameMemory(spatial, torch.cat([memory.pointer for memory in memories]))


def _of_prompt(
    tracker: MaskTracker, features: ImageFeatures, sign: Prompt, setting: StepConstants
) -> tuple[MaskCandidates, FrameMemory]:
    if isinstance(sign, Tensor):
        return _from_mask(tracker, features, sign, setting)
    decoded = _from_points(tracker, features, sign, setting)
    mask, iou = decoded.candidates.best()
    drawn = MaskCandidates(mask[:, None], iou[:, None], decoded.candidates.objectness)
    return drawn, tracker.make_memory(features.coarse, decoded, is_binary=True)


def _from_points(
    tracker: MaskTracker, features: ImageFeatures, clicks: PointPrompt, setting: StepConstants
) -> DecoderOutput:
    device = features.coarse.device
    places = torch.tensor(clicks.places, device=device) + 0.5 / tracker.side  # [N, 2]: a pixel's centre
    names = torch.cat(list(tracker.prompt_encoder.get_submodule("point_embeddings").parameters()))  # [4, C]
    tokens = tracker.fourier(places).to(names.dtype) + names[torch.tensor(clicks.labels, device=device)]
    sparse = torch.cat([tokens[None, None], setting.no_point[:, :, :1]], dim=2)  # [1, 1, N+1, C]
    image = tracker.without_memory(features.coarse)
    return tracker.decode(features, image, sparse, setting.no_mask, setting, candidates=len(places) == 1)


def _from_mask(
    tracker: MaskTracker, features: ImageFeatures, mask: Tensor, setting: StepConstants
) -> tuple[MaskCandidates, FrameMemory]:
    """The mask itself is the answer; the decoder only gives the pointer."""
    square = _square(mask.to(features.coarse.device), tracker.side)
    prompt = tracker.mask_downsample(square.to(features.coarse.dtype))  # [1, 1, h, h]
    dense = tracker.prompt_encoder.mask_embed(prompt)  # [1, C, g, g]
    decoded = tracker.decode(features, features.coarse, setting.no_point, dense, setting, candidates=False)
    pointer = tracker.pointer(decoded)
    logits = (2 * square - 1) * GIVEN_MASK_LOGIT
    small = F.interpolate(logits, size=decoded.candidates.masks.shape[-2:], mode="bilinear", antialias=True)
    is_there = bool(square.any())
    objectness = torch.full_like(decoded.candidates.objectness, GIVEN_MASK_LOGIT if is_there else -GIVEN_MASK_LOGIT)
    drawn = MaskCandidates(small, torch.ones_like(decoded.candidates.ious), objectness)
    pointer = pointer if is_there else tracker.no_object_pointer.expand_as(pointer)
    return drawn, FrameMemory(tracker.encode_memory(features.coarse, drawn, is_binary=True), pointer)


def _square(mask: Tensor, side: int) -> Tensor:
    """A mask [H, W] as float [1, 1, S, S] of zeros and ones."""
    stretched = F.interpolate(mask[None, None].float(), size=(side, side), mode="bilinear", antialias=True)
    return (stretched >= 0.5).float()
