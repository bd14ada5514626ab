"""Sampled replies of a policy to prompts with videos: tokens, log-probabilities and mask prompts.

Legend: as in `unipixel.model.replies`; K prompt vectors of a `<|seg|>`, C width of SAM 2.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evqa.models.sampling import RowDecoding, Sampling
from unipixel.data import chat_format
from unipixel.model.replies import PromptBatch, ReplyStep, advance, read_prompts
from unipixel.model.unipixel import UniPixel
from unipixel.rl.evidence_rewards import ReplyParts


class ReplySettings(NamedTuple):
    """Settings of sampling, which determine the distribution of a reply."""

    temperature: float
    """0 = greedy."""
    max_tokens: int
    end_ids: tuple[int, ...]
    """Tokens that end a reply."""
    suppressed_ids: tuple[int, ...]
    """Tokens that are never generated; generation and scoring exclude them alike."""

    @classmethod
    def of_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, temperature: float, max_tokens: int) -> ReplySettings:
        """The settings of the chat model for a tokenizer."""
        suppressed = chat_format.ids_of_known(tokenizer, chat_format.SUPPRESSED)
        return cls(temperature, max_tokens, tuple(chat_format.eos_token_ids(tokenizer)), tuple(suppressed))

    def scaled(self, logits: Tensor) -> Tensor:
        """Logits [..., vocabulary] over the temperature, in fp32, without suppressed tokens."""
        scaled = logits.float() / (self.temperature or 1.0)
        index = torch.tensor(self.suppressed_ids, dtype=torch.long, device=logits.device)
        return scaled.index_fill(-1, index, float("-inf"))

    def log_probabilities(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Log-probabilities [N, R] of tokens [N, R] from logits [N, R, vocabulary]."""
        return self.scaled(logits).log_softmax(-1).gather(-1, ids[..., None])[..., 0]


class SampledReplies(NamedTuple):
    """Replies [N, R], padded on the right."""

    ids: Tensor
    """int64 [N, R]"""
    lengths: Tensor
    """int64 [N] number of tokens, the end token included."""
    has_ended: Tensor
    """bool [N] whether the end token was generated."""
    log_probabilities: Tensor
    """[N, R] of the tokens when they were generated."""
    prompts: list[Tensor]
    """Per row [O, K, C], mask prompts of its `<|seg|>` tokens."""

    @property
    def is_token(self) -> Tensor:
        """Mask of the tokens, bool [N, R], False at padding."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]


@torch.no_grad()
def sample_replies(
    model: UniPixel, prompts: PromptBatch, group: int, settings: ReplySettings, seeds: Sequence[int]
) -> SampledReplies:
    """Sample `group` replies to each prompt.

    Args:
        model: the policy, in evaluation mode.
        prompts: B prompts.
        group: replies per prompt.
        settings: of sampling.
        seeds: N seeds, one per row; equal seeds of a prompt give equal replies.
    """
    noise = Sampling([RowDecoding(1.0, 0, settings.max_tokens)] * len(seeds), seeds)  # the logits are scaled already
    mask, step = prompts.repeated(group), read_prompts(model, prompts, group)
    ids: list[Tensor] = []
    states: list[Tensor] = []
    log_probabilities: list[Tensor] = []
    is_over = torch.zeros(len(seeds), dtype=torch.bool, device=prompts.embeds.device)
    lengths = torch.zeros(len(seeds), dtype=torch.long, device=prompts.embeds.device)
    ends = torch.tensor(settings.end_ids, device=prompts.embeds.device)
    for num_tokens in range(1, settings.max_tokens + 1):
        logits = settings.scaled(model.lm_head(step.normed[:, -1]))
        tokens = (noise(prompts.mask, logits) if settings.temperature else logits).argmax(-1)
        ids.append(torch.where(is_over, ends[-1], tokens))
        states.append(step.states[:, -1])
        log_probabilities.append(logits.log_softmax(-1).gather(-1, ids[-1][:, None])[:, 0])
        lengths += ~is_over
        is_over |= torch.isin(ids[-1], ends)
        if bool(is_over.all()) or num_tokens == settings.max_tokens:
            break
        step = _read_token(model, mask, step, ids[-1], num_tokens)
    sampled = torch.stack(ids, dim=1)
    replies = SampledReplies(sampled, lengths, is_over, torch.stack(log_probabilities, dim=1), [])
    is_segment = (sampled == model.config.seg_token_id) & replies.is_token
    vectors = model.mask_prompts(torch.stack(states, dim=1)[is_segment])
    return replies._replace(prompts=list(vectors.split(is_segment.sum(1).tolist())))


def _read_token(model: UniPixel, prompts: PromptBatch, step: ReplyStep, tokens: Tensor, num_tokens: int) -> ReplyStep:
    """Read the token `num_tokens` (from 1) of each row."""
    embeds = model.get_input_embeddings()(tokens[:, None])
    mask, positions = prompts.row_mask(num_tokens), prompts.reply_positions(num_tokens - 1, 1)
    return advance(model, embeds, mask, positions, step.cache)


def reply_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Text of tokens, special tokens included."""
    text = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    assert isinstance(text, str), text
    return text


def part_lengths(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], parts: ReplyParts) -> tuple[int, int]:
    """Numbers of tokens up to the end of the answer and of the spans."""

    def num_tokens(end: int) -> int:
        return bisect.bisect_left(range(len(ids) + 1), end, key=lambda count: len(reply_text(tokenizer, ids[:count])))

    return num_tokens(parts.answer), num_tokens(parts.spans)


def tokens_at(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], places: Sequence[tuple[int, int]]) -> list[int]:
    """Indices of the tokens that cover any character of places [start, end) in the text of tokens."""
    ends = [len(reply_text(tokenizer, ids[: count + 1])) for count in range(len(ids))] if places else []
    starts = [0, *ends[:-1]]
    return [
        index
        for index, (first, last) in enumerate(zip(starts, ends, strict=False))
        if any(first < end and start < last for start, end in places)
    ]


def pad_replies(rows: Sequence[Tensor], length: int, padding: int) -> Tensor:
    """Rows of tokens as one tensor [N, length]."""
    return torch.stack([F.pad(row, (0, length - len(row)), value=padding) for row in rows])
