"""Special tokens of Qwen2.5-VL and UniPixel, and the check that a tokenizer has them."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

START, END = "<|im_start|>", "<|im_end|>"
VISION_START, VIDEO, VISION_END = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>"


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """A `ValueError` that names the tokens which this tokenizer lacks."""
    vocabulary = tokenizer.get_vocab()
    if missing := [t for t in (START, END, VISION_START, VIDEO, VISION_END, "<|seg|>") if t not in vocabulary]:
        raise ValueError(f"the tokenizer lacks {', '.join(missing)}: it is not one of a UniPixel checkpoint")
