"""Chat template: messages as token ids and labels, in the ChatML format of Qwen2.5-VL.

    <|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n
    <|im_start|>user\\n<|vision_start|><|video_pad|>...<|vision_end|>question<|im_end|>\\n
    <|im_start|>assistant\\nanswer<|im_end|>

The loss is on the assistant turns, including the `<|im_end|>` of each.
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
"""Label of a token without loss."""

RESERVED = (START, END, VISION_START, VIDEO, VISION_END, "<|image_pad|>", "<|endoftext|>", "<|mem|>")
"""Tokens of the chat structure, which the text of a message must not contain."""

SUPPRESSED = (START, VISION_START, VIDEO, VISION_END, "<|image_pad|>", "<|ref|>", "<|mem|>")
"""Tokens that are not generated: a response with one could not be part of the next prompt."""


class EncodedConversation(NamedTuple):
    """Token ids and labels of a conversation."""

    input_ids: Tensor
    """int64 [L]"""
    labels: Tensor
    """int64 [L]: the token id at tokens with loss, else -100."""


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
        tokenizer: with the special tokens of ChatML and Qwen2.5-VL.
        messages: in order; without a system message, the default one of Qwen is added.
        video_tokens: number of tokens of each video and image, in order (see `frames.VideoPatches.num_tokens`).
        notes: text after each video, such as its regions; None = no text.
        reply: add the start of an assistant turn, for generation.
        tools: tools that the response may call; they are described in the system message.
    """
    if (not messages or messages[0].role != "system") and tools:
        messages = [Message("system", (SYSTEM,)), *messages]
    messages = to_text_messages(messages, tools)
    if not messages or messages[0].role != "system":
        messages = [Message("system", (SYSTEM,)), *messages]
    if reply and messages[-1].role == "assistant":
        raise ValueError("a prompt must end with a user message, got an assistant message")
    counts = iter(zip(video_tokens, [""] * len(video_tokens) if notes is None else notes, strict=True))
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        for piece, has_loss in _turn(tokenizer, message, counts):
            ids += piece
            labels += piece if has_loss else [IGNORE] * len(piece)
    if (left := next(counts, None)) is not None:
        raise ValueError(f"more videos than clips in the messages: no clip for a video of {left[0]} tokens")
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
    """Text that lists the regions of a question with their `<|mem|>` tokens, in the published format.

    Args:
        present: per object, whether it is visible in each grid step [t] of two frames.
        is_image: the clip is a single image.
        labels: name of each object in the conversation, in square brackets; None = "1", "2", ...
    """
    if not present:
        return ""
    names = [str(number) for number in range(1, len(present) + 1)] if labels is None else labels
    visible_steps = [[step for step, is_there in enumerate(steps) if is_there] for steps in present]
    if missing := [name for name, steps in zip(names, visible_steps, strict=True) if not steps]:
        raise ValueError(f"region [{missing[0]}] has no pixel in the sampled frames")
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
            for name, steps in zip(names, visible_steps, strict=True)
        ]
    return "\n".join([head, *lines, ""])


def eos_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens that end a response; the last one is the padding token."""
    return ids_of_known(tokenizer, (END, "<|endoftext|>"))


def ids_of_known(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> list[int]:
    """Ids of the tokens that are in the vocabulary."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[token] for token in tokens if token in vocabulary]


def _turn(
    tokenizer: PreTrainedTokenizerBase, message: Message, videos: Iterator[tuple[int, str]]
) -> Iterator[tuple[list[int], bool]]:
    """Yield the token ids of a turn in pieces, with whether they have a loss, including the newline after it."""
    is_answer = message.role == "assistant"
    header = f"{message.role}\n"
    yield _special(tokenizer, START), False
    if is_answer:  # encoded separately, as in generation
        yield encode_plain(tokenizer, header), False
        header = ""
    for count, text in _merged(message, header, videos):
        yield (_video(tokenizer, count) if count else encode_plain(tokenizer, text)), is_answer
    yield _special(tokenizer, END), is_answer
    yield encode_plain(tokenizer, "\n"), False


def _merged(message: Message, header: str, videos: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield (0, text) for text between videos, which is tokenized as a whole, and (number of tokens, "") for videos."""
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
            if reserved := [token for token in RESERVED if token in part]:
                raise ValueError(f"the text of a message must not contain {reserved[0]}, got {part[:80]!r}")
            text += part
    if text:
        yield 0, text


def _video(tokenizer: PreTrainedTokenizerBase, count: int) -> list[int]:
    return _special(tokenizer, VISION_START) + _special(tokenizer, VIDEO) * count + _special(tokenizer, VISION_END)


def _special(tokenizer: PreTrainedTokenizerBase, token: str) -> list[int]:
    index = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(index, int), index
    assert index != tokenizer.unk_token_id, f"{token} is not a token of {tokenizer}"
    return [index]


def encode_plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text within a conversation."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
