"""The language model in training as a model of `evqa`: token ids of the trainer in, replies out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch

from evqa.agents.episode import Episode, ModelRequest
from evqa.agents.tag_actions import TagReply, with_action, without_actions
from evqa.models.chat_tokens import ChatTokenizer, TokenizedChat
from evqa.models.messages import Message, Reply
from evqa.models.text_model import GeneratedIds, TextModel, TextRequest

NAME = "policy"


def policy_of(trainer: Any, chat: ChatTokenizer, *, max_tokens: int, max_reply_tokens: int) -> TextModel:
    """The model of a `GRPOTrainer` as a model of texts, by the engine of its configuration.

    Args:
        trainer: the trainer.
        chat: tokenizer and chat template of the model.
        max_tokens: maximum number of token ids of a conversation with its next reply.
        max_reply_tokens: maximum number of token ids of a reply.
    """

    def generate_ids(prompts: Sequence[list[int]]) -> list[GeneratedIds]:
        return _generate(trainer, list(prompts))

    return TextModel(
        name=NAME,
        chat=chat,
        generate_ids=generate_ids,
        max_tokens=max_tokens,
        max_reply_tokens=max_reply_tokens,
        identity={"max_tokens": max_tokens, "max_reply_tokens": max_reply_tokens},
    )


def _generate(trainer: Any, prompts: list[list[int]]) -> list[GeneratedIds]:
    if not prompts:
        return []
    is_training = trainer.model.training
    with trainer.phases.measured("policy"):
        try:
            replies, logprobs = trainer._generate_single_turn(prompts, None, {}, 1)
        finally:
            trainer.model.train(is_training)
    return [
        GeneratedIds(list(ids), None if logprobs is None else list(logprobs[place]))
        for place, ids in enumerate(replies)
    ]


@contextmanager
def greedy(trainer: Any) -> Iterator[None]:
    """Context manager in which the trainer's engine decodes greedily, for evaluation."""
    if trainer.use_vllm:
        engine = trainer.vllm_generation
        temperature = engine.temperature
        engine.temperature = 0.0
        try:
            yield
        finally:
            engine.temperature = temperature
        return
    config, kwargs = trainer.generation_config, trainer.generation_kwargs
    trainer.generation_config = type(config)(
        do_sample=False,
        max_new_tokens=config.max_new_tokens,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
    )
    trainer.generation_kwargs = {"do_sample": False, "max_new_tokens": config.max_new_tokens}
    try:
        yield
    finally:
        trainer.generation_config, trainer.generation_kwargs = config, kwargs


def replies_to(model: TextModel, requests: Sequence[ModelRequest], *, has_tags: bool) -> list[Reply]:
    """Replies of the policy to requests of episodes, as evaluation gets them from `agents.loop.run`.

    Args:
        model: the policy.
        requests: requests of episodes.
        has_tags: whether actions are tags in the text.
    """
    if not has_tags:
        return model.replies([TextRequest(request.messages, request.tools) for request in requests])
    replies = model.replies([TextRequest(without_actions(request.messages)) for request in requests])
    return [with_action(reply) for reply in replies]


def tokens_of(episode: Episode) -> TokenizedChat | None:
    """Token ids of an episode up to its last reply; None = the policy did not reply."""
    return next(filter(None, map(_tokens_of_message, reversed(episode.messages))), None)


def _tokens_of_message(message: Message) -> TokenizedChat | None:
    raw = message.raw.raw if isinstance(message.raw, TagReply) else message.raw
    return raw if isinstance(raw, TokenizedChat) else None


def largest(trainer: Any, count: int) -> int:
    """The largest of the counts of all processes."""
    counts = trainer.accelerator.gather(torch.tensor([count], device=trainer.accelerator.device))
    return int(cast("torch.Tensor", counts).max())


Largest = Callable[[int], int]
"""The largest of the numbers that the processes give; each of them calls it equally often."""


class Agreement:
    """Equal numbers of calls of the engine, with equally many conversations, in all processes.

    Generation is a collective operation where the weights are sharded (ZeRO 3, FSDP), or where processes share an
    engine (vLLM over several GPUs, or its server). A process whose episodes need fewer turns would leave the others
    waiting; it generates for conversations of a single token instead, until all are done.
    """

    def __init__(self, model: TextModel, largest_of: Largest) -> None:
        self._generate_ids, self._largest_of = model.generate_ids, largest_of
        self._filler = [model.chat.tokenizer.eos_token_id]
        self.model = replace(model, generate_ids=self._padded)
        """The policy, for use until `finish`."""

    def finish(self) -> None:
        """Generate for the other processes until none has an episode left."""
        while count := self._largest_of(0):
            self._generate_ids([self._filler] * count)

    def _padded(self, prompts: Sequence[list[int]]) -> Sequence[GeneratedIds]:
        count = self._largest_of(max(len(prompts), 1))
        return self._generate_ids([*prompts, *[self._filler] * (count - len(prompts))])[: len(prompts)]
