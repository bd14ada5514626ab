"""Groups of replies to prompts: the prompt is read once and its key-value cache is shared by the replies.

Legend: B prompts, G replies each, N = B * G rows (the replies to a prompt are consecutive), L tokens of the longest
prompt, R tokens of the longest reply, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from unipixel.model.unipixel import UniPixel


class PromptBatch(NamedTuple):
    """Embedded prompts, padded on the left."""

    embeds: Tensor
    """[B, L, D] token embeddings, with the vision features of the videos."""
    mask: Tensor
    """[B, L], 0 at padding."""
    positions: Tensor
    """[3, B, L] time, height, width."""
    following: Tensor
    """[B, 1] position of the first token of a reply."""

    def repeated(self, group: int) -> PromptBatch:
        """The prompts with `group` consecutive copies each."""
        return PromptBatch(
            self.embeds.repeat_interleave(group, dim=0),
            self.mask.repeat_interleave(group, dim=0),
            self.positions.repeat_interleave(group, dim=1),
            self.following.repeat_interleave(group, dim=0),
        )

    def row_mask(self, num_tokens: int) -> Tensor:
        """Attention mask [B, L + num_tokens] of prompts with a part of their replies."""
        return torch.cat([self.mask, self.mask.new_ones(len(self.mask), num_tokens)], dim=1)

    def reply_positions(self, start: int, num_tokens: int) -> Tensor:
        """Positions [3, B, num_tokens] of the tokens of a reply from token `start` on."""
        steps = torch.arange(start, start + num_tokens, device=self.following.device)
        return (self.following + steps).expand(3, -1, -1)


class ReplyBatch(NamedTuple):
    """Prompts and replies to score, an input of `UniPixel.forward`."""

    prompts: PromptBatch
    ids: Tensor
    """int64 [N, R], padded on the right with any token."""
    is_shared: bool = True
    """Whether each prompt is read once; False = every row has the prompt of its own (for activation checkpointing)."""


class ReplyStep(NamedTuple):
    """Outputs of the language model for the last tokens of some rows."""

    states: Tensor
    """[N, n, D] before the last norm."""
    normed: Tensor
    """[N, n, D] inputs of the output layer."""
    cache: Any


def embed_prompts(model: UniPixel, inputs: Mapping[str, Any]) -> PromptBatch:
    """Embed prompts without gradient: vision tower and token embedding are frozen.

    Args:
        model: the model.
        inputs: arguments of `UniPixel.forward`, `input_ids` and `attention_mask` padded on the left.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad():
        embeds, positions = model.embed(inputs)
    following = mask.sum(1, keepdim=True) + positions.offset
    return PromptBatch(embeds, mask, positions.ids.to(ids.device), following)


def read_prompts(model: UniPixel, prompts: PromptBatch, group: int) -> ReplyStep:
    """Read each prompt once.

    Returns:
        Outputs [B * group, 1, D] at the last token of the prompt, with the cache of `group` rows per prompt. The
        gradient of all rows goes through the cache.
    """
    step = advance(model, prompts.embeds, prompts.mask, prompts.positions, None)
    step.cache.batch_repeat_interleave(group)
    states, normed = (values[:, -1:].repeat_interleave(group, dim=0) for values in (step.states, step.normed))
    return ReplyStep(states, normed, step.cache)


def advance(model: UniPixel, embeds: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> ReplyStep:
    """Read further tokens [N, n, D] of rows with a cache; None = the first tokens."""
    with model.norm_inputs() as states:
        outputs = model.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
    return ReplyStep(states[-1], outputs.last_hidden_state, outputs.past_key_values)


def reply_logits(model: UniPixel, batch: ReplyBatch) -> Tensor:
    """Logits [N, R, vocabulary] of every token of every reply, given its prompt and the tokens before it."""
    prompts, ids = batch.prompts, batch.ids
    group, rest = divmod(len(ids), len(prompts.embeds))
    if rest:
        raise ValueError(f"expected equally many replies to each of {len(prompts.embeds)} prompts, got {len(ids)}")
    num_read = ids.shape[1] - 1  # the last token predicts nothing
    embeds = model.get_input_embeddings()(ids[:, :num_read])
    rows = prompts.repeated(group)
    mask, positions = rows.row_mask(num_read), rows.reply_positions(0, num_read)
    if not batch.is_shared:
        whole = torch.cat([rows.embeds, embeds], dim=1)
        outputs = model.model(
            inputs_embeds=whole,
            attention_mask=mask,
            position_ids=torch.cat([rows.positions.to(positions), positions], dim=2),
            use_cache=False,
        )
        return model.lm_head(outputs.last_hidden_state[:, -num_read - 1 :])
    first = read_prompts(model, prompts, group)
    if num_read == 0:
        return model.lm_head(first.normed)
    rest_step = advance(model, embeds, mask, positions, first.cache)
    return model.lm_head(torch.cat([first.normed, rest_step.normed], dim=1))
