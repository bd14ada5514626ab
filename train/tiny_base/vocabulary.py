"""Word-level tokenizer of the synthetic world: whole words, one token per 0.1 s, special tokens as published.

It is a `tokenizers` file that `AutoTokenizer` loads. Decoding restores the text exactly, as tokens include the
preceding space.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evqa.datasets.shapes.questions import ACTS, VALUES

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|ref|>",
    "<|seg|>",
    "<|mem|>",
)
"""Special tokens of Qwen2.5-VL and UniPixel."""

PHRASES = (
    "Answer: ",
    "Temporal Evidence: [[",
    "Spatial Evidence: ",
    "]]. ",
    "], [",
    ", ",
    ". ",
    "(A)",
    "(B)",
    "(C)",
    "(D)",
    "(E)",
)
"""Fixed strings of the response format, one token each."""

WORDS = (
    "system user assistant You are a helpful assistant What does the object do is color shape that acts first "
    "last Options Answer with temporal evidence start1 end1 and spatial evidence masks in seconds Please segment It "
    "one moved while stood still video this"
)
MAX_SECONDS = 12.0


def build_tokenizer(instruction: str) -> PreTrainedTokenizerFast:
    """Build the tokenizer.

    Args:
        instruction: the fixed sentence that requests evidence; its words are added to the vocabulary.
    """
    split = Regex(r"\d+\.\d|\n| ?\w+| ?[^\w\s]|\s")
    pieces = pre_tokenizers.Split(split, behavior="isolated")
    words = ["<unk>", "\n", " ", *LETTERS, *numbers()]
    values = [word for group in VALUES.values() for word in group]
    text = " ".join([WORDS, *ACTS.values(), *values, instruction])
    for piece, _ in pieces.pre_tokenize_str(text):
        bare = piece.strip()
        words += [bare, f" {bare}"] if bare else []
    words += [mark for sign in ".,:?[]()" for mark in (sign, f" {sign}")]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


LETTERS = tuple("ABCDE")


def numbers() -> list[str]:
    """The tokens of times, one per 0.1 s: "0.0" to "12.0"."""
    return [f"{index / 10:.1f}" for index in range(int(MAX_SECONDS * 10) + 1)]


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
