"""A language model in memory as a model of texts, to play episodes outside of a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from evqa.models.chat_tokens import ChatTokenizer
from evqa.models.text_model import GeneratedIds, TextModel

BATCH = 128
"""Conversations per forward pass."""


def text_model_of(
    model: Any, chat: ChatTokenizer, *, max_reply_tokens: int, seed: int | None = None, max_tokens: int = 512
) -> TextModel:
    """A causal language model of transformers as a model of texts.

    Args:
        model: the model; it is put into evaluation mode.
        chat: its tokenizer and chat template.
        max_reply_tokens: maximum number of token ids of a reply.
        seed: seed of sampling at temperature 1; None = greedy decoding.
        max_tokens: maximum number of token ids of a conversation with its next reply.
    """
    model.eval()
    stream = torch.Generator(device=model.device)
    if seed is not None:
        stream.manual_seed(seed)

    def generate_ids(prompts: Sequence[list[int]]) -> list[GeneratedIds]:
        groups = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
        noise = None if seed is None else stream
        return [
            GeneratedIds(ids) for group in groups for ids in _generated(model, chat, group, max_reply_tokens, noise)
        ]

    return TextModel(
        name="policy",
        chat=chat,
        generate_ids=generate_ids,
        max_tokens=max_tokens,
        max_reply_tokens=max_reply_tokens,
        identity={"seed": seed},
    )


@torch.inference_mode()
def _generated(
    model: Any, chat: ChatTokenizer, prompts: Sequence[list[int]], max_new: int, noise: torch.Generator | None
) -> list[list[int]]:
    """Token ids of the replies, with the id that ends them; greedy without a stream of noise."""
    tokenizer = chat.tokenizer
    length = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (length - len(row)) + row for row in prompts], device=model.device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in prompts], device=model.device)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    output = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
    replies: list[list[int]] = [[] for _ in prompts]
    place = places[:, -1:]
    for _ in range(max_new):
        logits = output.logits[:, -1].float()
        if noise is not None:
            logits = logits - torch.empty_like(logits).exponential_(generator=noise).log()
        next_ids = logits.argmax(-1)
        for reply, token in zip(replies, next_ids.tolist(), strict=True):
            if not reply or reply[-1] != tokenizer.eos_token_id:
                reply.append(token)
        if all(reply[-1] == tokenizer.eos_token_id for reply in replies):
            break
        place = place + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        output = model(
            input_ids=next_ids[:, None],
            attention_mask=mask,
            position_ids=place,
            past_key_values=output.past_key_values,
            use_cache=True,
        )
    return replies
