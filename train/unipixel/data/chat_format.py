"""Messages as token ids and labels, in ChatML as Qwen2.5-VL was trained on it.

    <|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n
    <|im_start|>user\\n<|vision_start|><|video_pad|>...<|vision_end|>question<|im_end|>\\n
    <|im_start|>assistant\\nanswer<|im_end|>

Learnt are the answers and the `<|im_end|>` that closes each, of every assistant turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evqa.models.frame_policy import with_time_marks
from evqa.models.messages import Message, ToolSpec
from evqa.models.tool_dialects import to_text_messages
from unipixel.model.tokenizer import END, START, VIDEO, VISION_END, VISION_START

SYSTEM = "You are a helpful assistant."
IGNORE = -100
"""Label of a token that is not learnt."""

RESERVED = (START, END, VISION_START, VIDEO, VISION_END, "<|image_pad|>", "<|endoftext|>", "<|mem|>")
"""Tokens that give a conversation its structure, and so cannot stand in a message's text."""

SUPPRESSED = (START, VISION_START, VIDEO, VISION_END, "<|image_pad|>", "<|ref|>", "<|mem|>")
"""Tokens that only a question can hold: a reply that held one could not be quoted in the next turn."""


class EncodedConversation(NamedTuple):
    """A conversation as tokens."""

    input_ids: Tensor
    """int64 [L]"""
    labels: Tensor
    """int64 [L]: the token itself where it is learnt, else -100."""


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    video_tokens: Sequence[int],
    *,
    notes: Sequence[str] | None = None,
    reply: bool = False,
    tools: Sequence[ToolSpec] = (),
) -> EncodedConversation:
    """Encode a conversation. Tools, calls and results are text in the dialect `hermes`; images follow their time marks.

    Args:
        tokenizer: any that knows ChatML's and Qwen's vision tokens as single tokens.
        messages: in turn; without a system message first, Qwen's default one is put there.
        video_tokens: tokens of each clip and picture, in order (see `frames.Patches.num_tokens`).
        notes: what to say of each right behind it, such as its regions; None = nothing of any.
        reply: end with an opened assistant turn for the model to fill, instead of with what is there.
        tools: tools that the reply may call; they are described in the system message.
    """
    if (not messages or messages[0].role != "system") and tools:
        messages = [Message("system", (SYSTEM,)), *messages]
    messages = to_text_messages(messages, tools)
    if not messages or messages[0].role != "system":
        messages = [Message("system", (SYSTEM,)), *messages]
    if reply and messages[-1].role == "assistant":
        raise ValueError("a conversation to be answered ends with a question, this one ends with an answer")
    counts = iter(zip(video_tokens, [""] * len(video_tokens) if notes is None else notes, strict=True))
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        for piece, is_learnt in _turn(tokenizer, message, counts):
            ids += piece
            labels += piece if is_learnt else [IGNORE] * len(piece)
    if (left := next(counts, None)) is not None:
        raise ValueError(f"more videos than clips in the messages: one of {left[0]} tokens is left")
    if reply:
        ids += _special(tokenizer, START) + encode_plain(tokenizer, "assistant\n")
        labels += [IGNORE] * (len(ids) - len(labels))
    else:
        newline = len(encode_plain(tokenizer, "\n"))
        ids, labels = ids[: len(ids) - newline], labels[: len(labels) - newline]
    return EncodedConversation(torch.tensor(ids), torch.tensor(labels))


def region_note(
    present: Sequence[Sequence[bool]], *, is_image: bool, labels: Sequence[str | None] | None = None
) -> str:
    """What a question says of its regions: which `<|mem|>` shows which object when, as published models learnt it.

    Args:
        present: per object, whether it is there in each grid step [t]; steps are two frames, counted from 1.
        is_image: the clip is a single image.
        labels: what the conversation calls each object, in square brackets; None = "1", "2", ...
    """
    if not present:
        return ""
    names = [str(number) for number in range(1, len(present) + 1)] if labels is None else labels
    shown = [[step for step, is_there in enumerate(steps) if is_there] for steps in present]
    if missing := [name for name, steps in zip(names, shown, strict=True) if not steps]:
        raise ValueError(f"region [{missing[0]}] has no pixel in the frames that the model sees")
    if is_image:
        head = "Here is an image with the following highlighted regions:"
        lines = [f"[{name}]: <|mem|>" for name in names]
    else:
        frames = 2 * len(present[0])
        head = (
            f"Here is a video with {frames} frames denoted as <1> to <{frames}>. "
            f"The highlighted regions are as follows:"
        )
        lines = [
            f"[{name}]: {' '.join(f'<{2 * step + 1}>-<{2 * step + 2}> <|mem|>' for step in steps)}"
            for name, steps in zip(names, shown, strict=True)
        ]
    return "\n".join([head, *lines, ""])


def eos_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a reply; the last of them also pads."""
    return ids_of_known(tokenizer, (END, "<|endoftext|>"))


def ids_of_known(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> list[int]:
    """Ids of those special tokens that the tokenizer has."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[token] for token in tokens if token in vocabulary]


def _turn(
    tokenizer: PreTrainedTokenizerBase, message: Message, videos: Iterator[tuple[int, str]]
) -> Iterator[tuple[list[int], bool]]:
    """Pieces of one turn with whether they are learnt, up to and with the newline that follows it."""
    is_answer = message.role == "assistant"
    header = f"{message.role}\n"
    yield _special(tokenizer, START), False
    if is_answer:  # apart from the answer, as in generation
        yield encode_plain(tokenizer, header), False
        header = ""
    for count, text in _merged(message, header, videos):
        yield (_video(tokenizer, count) if count else encode_plain(tokenizer, text)), is_answer
    yield _special(tokenizer, END), is_answer
    yield encode_plain(tokenizer, "\n"), False


def _merged(message: Message, header: str, videos: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """(0, text) in between in one piece, so that it is cut into tokens as a whole; (tokens, "") for what is seen."""
    text = header
    for part in with_time_marks(message.parts):
        if not isinstance(part, str):
            video = next(videos, None)
            if video is None:
                raise ValueError("more clips in the messages than videos")
            if text:
                yield 0, text
            yield video[0], ""
            text = video[1]
        else:
            if found := [token for token in RESERVED if token in part]:
                raise ValueError(f"a message's text cannot hold {found[0]}, got {part[:80]!r}")
            text += part
    if text:
        yield 0, text


def _video(tokenizer: PreTrainedTokenizerBase, count: int) -> list[int]:
    return _special(tokenizer, VISION_START) + _special(tokenizer, VIDEO) * count + _special(tokenizer, VISION_END)


def _special(tokenizer: PreTrainedTokenizerBase, token: str) -> list[int]:
    index = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(index, int), index
    assert index != tokenizer.unk_token_id, f"{token} is no token of {tokenizer}"
    return [index]


def encode_plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text that stands inside a conversation."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
