"""Special tokens of Qwen2.5-VL and UniPixel."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

START, END = "<|im_start|>", "<|im_end|>"
VISION_START, VIDEO, VISION_END = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>"


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer has all special tokens.

    Raises:
        ValueError: it lacks some.
    """
    vocabulary = tokenizer.get_vocab()
    if missing := [t for t in (START, END, VISION_START, VIDEO, VISION_END, "<|seg|>") if t not in vocabulary]:
        raise ValueError(f"the tokenizer lacks {', '.join(missing)}: it is not that of a UniPixel checkpoint")
