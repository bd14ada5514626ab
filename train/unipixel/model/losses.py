"""The loss of drawn masks (SAM 2's recipe): focal and dice of the best candidate, IoU and objectness.

Legend: T frames, O objects, N = T * O over all samples, h side of the mask logits, S side of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unipixel.model.sam2.outputs import MaskCandidates

KEPT_PIXELS = 2**22
"""Logits at the labels' size that are kept for backward, some ten times over: about 200 MB."""

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT, OBJECTNESS_WEIGHT = 100.0, 5.0, 5.0, 5.0


class MaskLossTerms(NamedTuple):
    """Parts of the loss, means over frames and objects, unweighted; absent objects have objectness only.

    Upstream divides a sample's sum by a number of objects that is averaged over the processes. Each sample's own
    mean needs nothing of other processes, and one process gets the loss that several get.
    """

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


def mask_loss(drawn: MaskCandidates, labels: Tensor) -> MaskLossTerms:
    """Loss of one sample's objects.

    Args:
        drawn: what `MaskTracker` returns, with leading T.
        labels: bool [T, O, S, S].
    """
    return batch_loss([drawn], [labels])


def batch_loss(drawn: Sequence[MaskCandidates], labels: Sequence[Tensor]) -> MaskLossTerms:
    """Mean over samples of each sample's loss; all frames and objects of all samples go through one pass.

    Where that would keep more than `KEPT_PIXELS` logits, it goes in parts that are computed again in backward.
    """
    flat = MaskCandidates(*(torch.cat([values.flatten(0, 1) for values in part]) for part in zip(*drawn, strict=True)))
    label = torch.cat([each.flatten(0, 1) for each in labels])  # [N, S, S]
    counts = [each.shape[0] * each.shape[1] for each in labels]
    at_once = max(1, KEPT_PIXELS // (flat.ious.shape[-1] * label.shape[-2] * label.shape[-1]))
    if len(label) <= at_once:
        parts = _losses(*flat, label)
    else:
        pieces = zip(*(values.split(at_once) for values in (*flat, label)), strict=True)
        done = [checkpoint(_losses, *piece, use_reentrant=False) for piece in pieces]
        parts = MaskLossTerms(*(torch.cat(part) for part in zip(*done, strict=True)))
    return MaskLossTerms(*(torch.stack([sample.mean() for sample in part.split(counts)]).mean() for part in parts))


def average(losses: list[MaskLossTerms]) -> MaskLossTerms:
    """Mean over samples."""
    return MaskLossTerms(*(torch.stack(part).mean() for part in zip(*losses, strict=True)))


def _losses(masks: Tensor, ious: Tensor, objectness: Tensor, label: Tensor) -> MaskLossTerms:
    """Of N objects in frames: logits [N, 3, h, h], estimates [N, 3] and [N], labels [N, S, S]; parts [N]."""
    logits = F.interpolate(masks.float(), size=label.shape[-2:], mode="bilinear").flatten(2)  # [N, 3, S*S]
    target = label.flatten(1)[:, None]  # [N, 1, S*S]
    is_present = target.any(-1)[:, 0].float()  # [N]
    probability = logits.sigmoid()
    focal, dice = _focal(logits, probability, target.float()), _dice(probability, target.float())  # [N, 3]
    best = (FOCAL_WEIGHT * focal + DICE_WEIGHT * dice).argmin(-1, keepdim=True)
    iou = (ious.float() - _iou(logits, target)).abs().mean(-1)
    return MaskLossTerms(
        focal=focal.gather(-1, best)[:, 0] * is_present,
        dice=dice.gather(-1, best)[:, 0] * is_present,
        iou=iou * is_present,
        objectness=F.binary_cross_entropy_with_logits(objectness.float(), is_present, reduction="none"),
    )


def _focal(logits: Tensor, probability: Tensor, target: Tensor, alpha: float = 0.25) -> Tensor:
    """[N, 3] focal loss with gamma = 2."""
    error = F.softplus(logits) - logits * target  # cross-entropy
    missed = probability + target - 2 * probability * target
    balance = (1 - alpha) + (2 * alpha - 1) * target
    return (balance * missed.square() * error).mean(-1)


def _dice(probability: Tensor, target: Tensor) -> Tensor:
    overlap = (probability * target).sum(-1)
    total = probability.sum(-1) + target.sum(-1)
    return 1 - (2 * overlap + 1) / (total + 1)


def _iou(logits: Tensor, target: Tensor) -> Tensor:
    drawn = logits > 0
    overlap = (drawn & target).sum(-1)
    union = drawn.sum(-1) + target.sum(-1) - overlap
    return overlap / union.clamp(min=1)
