"""Drawing tokens at random so that a reply depends on its own conversation and seed alone, not on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor


class Sampling(LogitsProcessor):
    """Adds Gumbel noise to logits / temperature: the likeliest token of the sum is a draw from their softmax.

    Each row of a batch has a stream of noise of its own (Gumbel-max; Maddison et al. 2014, "A* sampling").
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        """`seeds`: one for each row."""
        self._temperature = temperature
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Logits [B, vocabulary] of the next token with noise; what is suppressed stays so."""
        assert len(scores) == len(self._streams), (len(scores), len(self._streams))
        noise = [-torch.empty(scores.shape[1]).exponential_(generator=stream).log() for stream in self._streams]
        return scores / self._temperature + torch.stack(noise).to(scores)
