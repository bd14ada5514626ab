"""Inputs and outputs of the parts of the mask tracker.

Legend: T frames, O objects, S side of the square image, g = S/16 side of the coarse features, C hidden width, M
memory width, h = S/4 side of the mask logits.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

ABSENT = -1024.0
"""Mask logit of an object that is predicted to be absent from the frame (inference only)."""


class ImageFeatures(NamedTuple):
    """Image features of N frames."""

    fine: Tensor
    """[N, C/8, 4g, 4g]"""
    middle: Tensor
    """[N, C/4, 2g, 2g]"""
    coarse: Tensor
    """[N, C, g, g]"""


class MaskCandidates(NamedTuple):
    """Masks predicted by the decoder, for one frame or with a leading T for all frames."""

    masks: Tensor
    """[(T,) O, candidates, h, h] logits; three candidates, or one for unambiguous prompts."""
    ious: Tensor
    """[(T,) O, candidates] predicted IoU of each candidate, in [0, 1]."""
    objectness: Tensor
    """[(T,) O] logit of whether the object is visible in the frame."""

    def best(self) -> tuple[Tensor, Tensor]:
        """Logits [(T,) O, h, h] and predicted IoU [(T,) O] of the candidate with the highest predicted IoU."""
        index = self.ious.argmax(-1, keepdim=True)  # [(T,) O, 1]
        masks = self.masks.take_along_dim(index[..., None, None], dim=-3).squeeze(-3)
        return masks, self.ious.take_along_dim(index, dim=-1).squeeze(-1)


class StepConstants(NamedTuple):
    """Constants of all frames and objects of a call."""

    no_point: Tensor
    """[1, 1, 2, C]"""
    no_mask: Tensor
    """[1, C, 1, 1]"""
    place: Tensor
    """[1, C, g, g] Fourier encoding of the cells, for the decoder."""
    sine: Tensor
    """[g*g, 1, C] sine encoding of the cells, for the current frame."""
    memory_sine: Tensor
    """[g*g, 1, M] sine encoding of the cells, for the memory."""
    occlude: bool
    """Erase the masks of objects that are predicted to be absent; in inference only."""


class DecoderOutput(NamedTuple):
    """Output of the mask decoder for one frame."""

    candidates: MaskCandidates
    tokens: Tensor
    """[O, candidates, C]"""
