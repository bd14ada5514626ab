"""What the model gives back: of reading, and of writing.

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
    """Parts of the mask loss, mean over the samples that have masks; None without any."""
    mask_share: float | None = None
    """Share of the batch's samples that have masks: a sample's masks weigh the same whatever it is batched with."""
    states: Tensor | None = None
    """[B, L, D] before the language model's last norm."""
    prompts: list[Tensor] | None = None
    """Per sample [O, K, C], what its `<|seg|>` tokens tell the mask decoder."""
    candidates: list[MaskCandidates | None] | None = None
    """Per sample, what the decoder drew; None where the sample has no frames or no `<|seg|>`."""


class Generation(NamedTuple):
    """A generated reply."""

    ids: Tensor
    """[n] the new tokens."""
    prompts: Tensor
    """[O, K, C] one for each `<|seg|>` among them, in order."""
    states: Tensor
    """[n, D] the state that predicted each token, for `UniPixel.log_probabilities`."""
