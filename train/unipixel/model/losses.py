"""Mask loss of SAM 2: focal and dice loss of the best candidate, IoU and objectness.

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

MAX_STORED_PIXELS = 2**22
"""Maximum number of logits at label size that are stored for the backward pass, about ten times each: 200 MB."""

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT, OBJECTNESS_WEIGHT = 100.0, 5.0, 5.0, 5.0


class MaskLossTerms(NamedTuple):
    """Loss terms, unweighted means over frames and objects; absent objects contribute to objectness only.

    The published code divides the sum of a sample by the number of objects averaged over processes. Here each sample
    has its own mean, so the loss does not depend on the number of processes.
    """

    focal: Tensor
    dice: Tensor
    iou: Tensor
    """L1 distance of predicted and actual IoU, mean over the three candidates."""
    objectness: Tensor

    @property
    def total(self) -> Tensor:
        """Weighted sum of the terms."""
        return (
            FOCAL_WEIGHT * self.focal
            + DICE_WEIGHT * self.dice
            + IOU_WEIGHT * self.iou
            + OBJECTNESS_WEIGHT * self.objectness
        )


def mask_loss(candidates: MaskCandidates, labels: Tensor) -> MaskLossTerms:
    """Mask loss of one sample.

    Args:
        candidates: output of `MaskTracker`, with leading T.
        labels: bool [T, O, S, S].
    """
    return batch_loss([candidates], [labels])


def batch_loss(candidates: Sequence[MaskCandidates], labels: Sequence[Tensor]) -> MaskLossTerms:
    """Mean of the mask losses of samples, computed in one pass over all frames and objects.

    Beyond `MAX_STORED_PIXELS` logits, it is computed in chunks with activation checkpointing.
    """
    flat = MaskCandidates(
        *(torch.cat([values.flatten(0, 1) for values in part]) for part in zip(*candidates, strict=True))
    )
    label = torch.cat([label_map.flatten(0, 1) for label_map in labels])  # [N, S, S]
    counts = [label_map.shape[0] * label_map.shape[1] for label_map in labels]
    chunk_size = max(1, MAX_STORED_PIXELS // (flat.ious.shape[-1] * label.shape[-2] * label.shape[-1]))
    if len(label) <= chunk_size:
        parts = _losses(*flat, label)
    else:
        pieces = zip(*(values.split(chunk_size) for values in (*flat, label)), strict=True)
        losses = [checkpoint(_losses, *piece, use_reentrant=False) for piece in pieces]
        parts = MaskLossTerms(*(torch.cat(part) for part in zip(*losses, strict=True)))
    return MaskLossTerms(*(torch.stack([sample.mean() for sample in part.split(counts)]).mean() for part in parts))


def average(losses: list[MaskLossTerms]) -> MaskLossTerms:
    """Mean of the loss terms of several samples."""
    return MaskLossTerms(*(torch.stack(part).mean() for part in zip(*losses, strict=True)))


def _losses(masks: Tensor, ious: Tensor, objectness: Tensor, label: Tensor) -> MaskLossTerms:
    """Loss terms [N] of N object masks: logits [N, 3, h, h], predicted IoU [N, 3], objectness [N], labels [N, S, S]."""
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
    candidates = logits > 0
    overlap = (candidates & target).sum(-1)
    union = candidates.sum(-1) + target.sum(-1) - overlap
    return overlap / union.clamp(min=1)
