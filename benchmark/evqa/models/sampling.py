"""Decoding with settings per row of a batch, so that a reply does not depend on the other rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from evqa.models.messages import Decoding


class RowDecoding(NamedTuple):
    """Complete decoding settings of one reply."""

    temperature: float
    """0 = greedy."""
    seed: int
    max_tokens: int
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def updated(self, decoding: Decoding | None) -> RowDecoding:
        """Copy with the settings of one call."""
        if decoding is None:
            return self
        fields = {name: getattr(decoding, name) for name in ("temperature", "seed", "max_tokens", "top_p")}
        return self._replace(**{name: value for name, value in fields.items() if value is not None}, stop=decoding.stop)

    def before_stop(self, text: str) -> str:
        """Text before the first stop string."""
        places = [place for string in self.stop if (place := text.find(string)) >= 0]
        return text[: min(places)] if places else text


def decoding_name(row: RowDecoding) -> str:
    """Value of the setting `decoding` in the identity of a run."""
    return f"temperature {row.temperature}, seed {row.seed}" if row.temperature else "greedy"


class Sampling(LogitsProcessor):
    """Logits processor that adds Gumbel noise to logits / temperature: the argmax is a sample of their softmax.

    Each row of a batch has its own noise stream (Gumbel-max; Maddison et al. 2014, "A* sampling"). A row with
    temperature 0 is unchanged.
    """

    def __init__(self, rows: Sequence[RowDecoding], seeds: Sequence[int]) -> None:
        """`seeds`: seed of the noise of each row."""
        self._rows = rows
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Logits [B, vocabulary] of the next token with noise; suppressed tokens stay suppressed."""
        assert len(scores) == len(self._streams), (len(scores), len(self._streams))
        return torch.stack([self._sampled(*row) for row in zip(scores, self._rows, self._streams, strict=True)])

    def _sampled(self, logits: Tensor, row: RowDecoding, stream: torch.Generator) -> Tensor:
        if not row.temperature:
            return logits
        noise = -torch.empty(len(logits)).exponential_(generator=stream).log()
        return nucleus(logits / row.temperature, row.top_p) + noise.to(logits)


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Logits [vocabulary] where those outside the smallest set with a probability of `top_p` are -inf."""
    if top_p >= 1:
        return logits
    order = logits.argsort(descending=True)
    shares = logits[order].float().softmax(-1)
    excluded = order[shares.cumsum(-1) - shares >= top_p]
    return logits.index_fill(0, excluded, float("-inf"))


class ReplyLimits(StoppingCriteria):
    """Stopping criterion with a token limit and stop strings per row; `lengths`: tokens of each row that has ended."""

    def __init__(self, rows: Sequence[RowDecoding], prompt_length: int, decode: Callable[[list[int]], str]) -> None:
        """`decode`: text of tokens; `prompt_length`: padded length of the prompts."""
        self._rows, self._prompt_length, self._decode = rows, prompt_length, decode
        self.lengths: list[int | None] = [None] * len(rows)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # type: ignore[override]
        """Whether each row [B] has ended."""
        count = input_ids.shape[1] - self._prompt_length
        for index, row in enumerate(self._rows):
            if self.lengths[index] is None and (count >= row.max_tokens or self._has_stop(input_ids[index], row)):
                self.lengths[index] = count
        return torch.tensor([length is not None for length in self.lengths], device=input_ids.device)

    def _has_stop(self, ids: Tensor, row: RowDecoding) -> bool:
        """Whether the last tokens complete a stop string; each token has at least a byte of a character."""
        if not row.stop:
            return False
        count = 4 * max(map(len, row.stop)) + 4
        last: list[int] = ids[max(self._prompt_length, len(ids) - count) :].tolist()  # type: ignore[reportUnknownMemberType]
        text = self._decode(last)
        return any(string in text for string in row.stop)
