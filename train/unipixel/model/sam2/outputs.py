"""What the parts of the mask tracker hand to each other for a frame.

Legend: T frames, O objects, S side of the square image, g = S/16 side of the coarse features, C hidden width, M
memory width, h = S/4 side of the mask logits.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

ABSENT = -1024.0
"""Mask logit of an object that the decoder says is not in the frame (inference only)."""


class ImageFeatures(NamedTuple):
    """Image features of N frames."""

    fine: Tensor
    """[N, C/8, 4g, 4g]"""
    middle: Tensor
    """[N, C/4, 2g, 2g]"""
    coarse: Tensor
    """[N, C, g, g]"""


class MaskCandidates(NamedTuple):
    """What the decoder draws; one frame, or all with a leading T."""

    masks: Tensor
    """[(T,) O, candidates, h, h] logits; three candidates, or one where the prompt says which."""
    ious: Tensor
    """[(T,) O, candidates] the decoder's own estimate of each candidate's IoU, in [0, 1]."""
    objectness: Tensor
    """[(T,) O] logit of "the object is in the frame"."""

    def best(self) -> tuple[Tensor, Tensor]:
        """Logits [(T,) O, h, h] and estimated IoU [(T,) O] of the candidate with the highest estimate."""
        index = self.ious.argmax(-1, keepdim=True)  # [(T,) O, 1]
        masks = self.masks.take_along_dim(index[..., None, None], dim=-3).squeeze(-3)
        return masks, self.ious.take_along_dim(index, dim=-1).squeeze(-1)


class StepConstants(NamedTuple):
    """What is the same in all frames and for all objects of a call."""

    no_point: Tensor
    """[1, 1, 2, C]"""
    no_mask: Tensor
    """[1, C, 1, 1]"""
    place: Tensor
    """[1, C, g, g] Fourier encoding of the cells, for the decoder."""
    sine: Tensor
    """[g*g, 1, C] sine encoding of the cells, for the frame that reads."""
    memory_sine: Tensor
    """[g*g, 1, M] the same for the memory that is read."""
    occlude: bool
    """Erase the mask of an object that is said to be absent, as inference does and training does not."""


class DecoderOutput(NamedTuple):
    """The mask decoder's answer for one frame."""

    candidates: MaskCandidates
    tokens: Tensor
    """[O, candidates, C]"""
