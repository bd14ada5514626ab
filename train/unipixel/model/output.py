"""Outputs of the model: of a forward pass, and of generation.

Legend: B samples, L tokens, D width of the language model, O `<|seg|>` tokens of one sample, K prompt vectors each,
C width of SAM 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast

from unipixel.model.losses import MaskLossTerms
from unipixel.model.sam2.outputs import MaskCandidates


@dataclass
class UniPixelOutput(CausalLMOutputWithPast):
    """Output of `UniPixel.forward`; `loss` = `lm_loss` + `mask_share` times the mask loss's total."""

    lm_loss: Tensor | None = None
    mask_loss: MaskLossTerms | None = None
    """Mask loss terms, mean over the samples with masks; None without any."""
    mask_share: float | None = None
    """Share of the samples with masks, so that the weight of a mask does not depend on its batch."""
    states: Tensor | None = None
    """Hidden states [B, L, D] before the last norm of the language model."""
    prompts: list[Tensor] | None = None
    """Per sample [O, K, C], mask prompts of its `<|seg|>` tokens."""
    candidates: list[MaskCandidates | None] | None = None
    """Mask candidates per sample; None if the sample has no frames or no `<|seg|>`."""


class Generation(NamedTuple):
    """A generated response."""

    ids: Tensor
    """[n] ids of the generated tokens."""
    prompts: Tensor
    """[O, K, C] mask prompts of its `<|seg|>` tokens, in order."""
    states: Tensor
    """[n, D] hidden states that predicted the tokens, for `UniPixel.log_probabilities`."""
