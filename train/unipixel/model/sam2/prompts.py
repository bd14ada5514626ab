"""User prompts of SAM 2.1: points, a box or a mask on one frame.

They follow the video predictor of Meta: one point gives three candidates, a box or several points one mask (or the
best of three if it is unstable), and a mask prompt is used unchanged. The memory of the prompted frame has a binary
mask (`binarize_mask_from_pts_for_mem_enc`). Small holes are not filled.

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
"""Labels of points; the last two are the corners of a box."""

GIVEN_MASK_LOGIT = 10.0
"""Logit of a pixel inside a mask prompt; the negative outside."""


class PointPrompt(NamedTuple):
    """Points of one object on the prompted frame; a box precedes other points."""

    places: tuple[tuple[float, float], ...]
    """(x, y) relative to width and height of the frame, 0 to 1."""
    labels: tuple[int, ...]
    """`OBJECT`, `BACKGROUND`, or the corners of a box."""


Prompt = PointPrompt | Tensor
"""Prompt of an object: points, or a mask bool [H, W] of any size."""


def box_prompt(x0: float, y0: float, x1: float, y1: float) -> PointPrompt:
    """A box prompt from its corners, relative to the size of the frame."""
    return PointPrompt(((x0, y0), (x1, y1)), (BOX_START, BOX_END))


def first_frame(
    tracker: MaskTracker, features: ImageFeatures, prompts: Sequence[Prompt], setting: StepConstants
) -> tuple[MaskCandidates, FrameMemory]:
    """Masks [O, 1, h, h] and memory of the prompted frame for all objects.

    Args:
        tracker: the mask tracker.
        features: image features of the frame, with batch size 1.
        prompts: one per object.
        setting: see `MaskTracker.setting`.
    """
    candidates, memories = zip(*(_of_prompt(tracker, features, prompt, setting) for prompt in prompts), strict=True)
    merged = MaskCandidates(*(torch.cat(values) for values in zip(*candidates, strict=True)))
    spatial = torch.cat([memory.spatial for memory in memories if memory.spatial is not None], 1)
    return merged, FrameMemory(spatial, torch.cat([memory.pointer for memory in memories]))


def _of_prompt(
    tracker: MaskTracker, features: ImageFeatures, prompt: Prompt, setting: StepConstants
) -> tuple[MaskCandidates, FrameMemory]:
    if isinstance(prompt, Tensor):
        return _from_mask(tracker, features, prompt, setting)
    decoded = _from_points(tracker, features, prompt, setting)
    mask, iou = decoded.candidates.best()
    candidates = MaskCandidates(mask[:, None], iou[:, None], decoded.candidates.objectness)
    return candidates, tracker.make_memory(features.coarse, decoded, is_binary=True)


def _from_points(
    tracker: MaskTracker, features: ImageFeatures, prompt: PointPrompt, setting: StepConstants
) -> DecoderOutput:
    device = features.coarse.device
    places = torch.tensor(prompt.places, device=device) + 0.5 / tracker.side  # [N, 2]: centres of pixels
    names = torch.cat(list(tracker.prompt_encoder.get_submodule("point_embeddings").parameters()))  # [4, C]
    tokens = tracker.fourier(places).to(names.dtype) + names[torch.tensor(prompt.labels, device=device)]
    sparse = torch.cat([tokens[None, None], setting.no_point[:, :, :1]], dim=2)  # [1, 1, N+1, C]
    image = tracker.without_memory(features.coarse)
    return tracker.decode(features, image, sparse, setting.no_mask, setting, candidates=len(places) == 1)


def _from_mask(
    tracker: MaskTracker, features: ImageFeatures, mask: Tensor, setting: StepConstants
) -> tuple[MaskCandidates, FrameMemory]:
    """The mask prompt is the result; the decoder computes the object pointer only."""
    square = _square(mask.to(features.coarse.device), tracker.side)
    prompt = tracker.mask_downsample(square.to(features.coarse.dtype))  # [1, 1, h, h]
    dense = tracker.prompt_encoder.mask_embed(prompt)  # [1, C, g, g]
    decoded = tracker.decode(features, features.coarse, setting.no_point, dense, setting, candidates=False)
    pointer = tracker.pointer(decoded)
    logits = (2 * square - 1) * GIVEN_MASK_LOGIT
    small = F.interpolate(logits, size=decoded.candidates.masks.shape[-2:], mode="bilinear", antialias=True)
    is_present = bool(square.any())
    objectness = torch.full_like(decoded.candidates.objectness, GIVEN_MASK_LOGIT if is_present else -GIVEN_MASK_LOGIT)
    candidates = MaskCandidates(small, torch.ones_like(decoded.candidates.ious), objectness)
    pointer = pointer if is_present else tracker.no_object_pointer.expand_as(pointer)
    return candidates, FrameMemory(tracker.encode_memory(features.coarse, candidates, is_binary=True), pointer)


def _square(mask: Tensor, side: int) -> Tensor:
    """Resize a mask [H, W] to a binary float [1, 1, S, S]."""
    stretched = F.interpolate(mask[None, None].float(), size=(side, side), mode="bilinear", antialias=True)
    return (stretched >= 0.5).float()
