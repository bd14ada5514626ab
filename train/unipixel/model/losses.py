"""The loss of drawn masks (SAM 2's recipe): focal and dice of the best candidate, IoU and objectness.

Legend: T frames, O objects, h side of the mask logits, S side of the labels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unipixel.model.tracker import Drawn

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT, OBJECTNESS_WEIGHT = 100.0, 5.0, 5.0, 5.0


class MaskLoss(NamedTuple):
    """Parts of the loss, means over frames and objects, unweighted; absent objects have objectness only."""

    focal: Tensor
    dice: Tensor
    iou: Tensor
    """L1 between estimated and actual IoU, mean of the three candidates."""
    objectness: Tensor

    @property
    def total(self) -> Tensor:
        """The weighted sum that is minimised."""
        return (
            FOCAL_WEIGHT * self.focal
            + DICE_WEIGHT * self.dice
            + IOU_WEIGHT * self.iou
            + OBJECTNESS_WEIGHT * self.objectness
        )


def mask_loss(drawn: Drawn, labels: Tensor) -> MaskLoss:
    """Loss of one sample's objects. The S x S work of a frame is computed again in backward rather than kept.

    Args:
        drawn: what `MaskTracker` returns, with leading T.
        labels: bool [T, O, S, S].
    """
    frames = [
        checkpoint(_frame_loss, masks, ious, objectness, label, use_reentrant=False)
        for masks, ious, objectness, label in zip(*drawn, labels, strict=True)
    ]
    return MaskLoss(*(torch.stack(part).mean() for part in zip(*frames, strict=True)))


def average(losses: list[MaskLoss]) -> MaskLoss:
    """Mean over samples."""
    return MaskLoss(*(torch.stack(part).mean() for part in zip(*losses, strict=True)))


def _frame_loss(masks: Tensor, ious: Tensor, objectness: Tensor, label: Tensor) -> MaskLoss:
    """One frame: logits [O, 3, h, h], estimates [O, 3] and [O], labels [O, S, S]; means over objects."""
    logits = F.interpolate(masks.float(), size=label.shape[-2:], mode="bilinear")  # [O, 3, S, S]
    target = label[:, None].float().expand_as(logits)
    is_present = label.flatten(1).any(-1).float()  # [O]
    focal, dice = _focal(logits, target), _dice(logits, target)  # [O, 3]
    best = (FOCAL_WEIGHT * focal + DICE_WEIGHT * dice).argmin(-1, keepdim=True)
    iou = (ious.float() - _iou(logits, target)).abs().mean(-1)
    return MaskLoss(
        focal=(focal.gather(-1, best)[:, 0] * is_present).mean(),
        dice=(dice.gather(-1, best)[:, 0] * is_present).mean(),
        iou=(iou * is_present).mean(),
        objectness=F.binary_cross_entropy_with_logits(objectness.float(), is_present),
    )


def _focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    missed = probability * (1 - target) + (1 - probability) * target
    balance = alpha * target + (1 - alpha) * (1 - target)
    return (balance * missed**gamma * error).flatten(-2).mean(-1)


def _dice(logits: Tensor, target: Tensor) -> Tensor:
    probability = logits.sigmoid()
    overlap = (probability * target).flatten(-2).sum(-1)
    total = (probability + target).flatten(-2).sum(-1)
    return 1 - (2 * overlap + 1) / (total + 1)


def _iou(logits: Tensor, target: Tensor) -> Tensor:
    drawn, wanted = logits > 0, target > 0
    overlap = (drawn & wanted).flatten(-2).sum(-1)
    union = (drawn | wanted).flatten(-2).sum(-1)
    return overlap / union.clamp(min=1)
