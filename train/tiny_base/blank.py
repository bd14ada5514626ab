"""The tiny model with random weights: the classes of UniPixel with small sizes.

Word vectors are random unit vectors, frozen in pre-training, so that stages can be trained independently; those of the
times "0.0" ... "12.0" are sines and cosines of the time, so that similar times have similar vectors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from evqa.hub.checkpoints import TINY_NOTE
from evqa.prompts import TRAINED_INSTRUCTION
from tiny_base.vocabulary import build_tokenizer, numbers
from unipixel.model.config import UniPixelConfig
from unipixel.model.unipixel import UniPixel

WIDTH, LAYERS, HEADS, KEY_HEADS = 128, 6, 4, 2
CELLS = 3
"""Merged cells per side of a frame as the language model sees it."""
PIXELS = (CELLS * 28) ** 2
FRAMES = 32
"""Maximum number of frames of a clip for the language model; a clip of 3-8 s at 6 fps has 18-48."""
HORIZON = 8.5
"""`clock_horizon` in seconds: text starts at the same position after every shorter clip."""
WORDS = "model.language_model.embed_tokens.weight"
"""Name of the parameter with the word vectors."""
SPREAD = 0.08
"""Standard deviation of random weights; the usual 0.02 is too small for narrow layers."""
ATTENTION = 0.25
"""Factor on the random weights of queries and keys: attention has to start broad to learn temporal positions."""
LOGIT_SCALE = 4.0
"""Initial weight of the final norm: with unit word vectors, a weight of 1 limits any probability to about one half."""
SHORTEST, LONGEST = 0.4, 26.0
"""Range of wavelengths of the time vectors, in seconds."""


def blank(seed: int, time_encoding: str = "absolute") -> tuple[UniPixel, PreTrainedTokenizerFast]:
    """The untrained model and its tokenizer.

    Args:
        seed: random seed of the weights.
        time_encoding: see `UniPixelConfig`.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(TRAINED_INSTRUCTION)
    model = UniPixel(_config(tokenizer, time_encoding))
    model.start_new_parts()
    model.sam2.start_from_scratch()
    with torch.no_grad():
        model.get_parameter(WORDS).copy_(_word_vectors(tokenizer))
        model.get_parameter("model.language_model.norm.weight").fill_(LOGIT_SCALE)
        for name, weight in model.named_parameters():
            if name.startswith("model.language_model.") and name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.mul_(ATTENTION)
    return model, tokenizer


def _config(tokenizer: PreTrainedTokenizerFast, time_encoding: str) -> UniPixelConfig:
    def token(name: str) -> int:
        return tokenizer.encode(name, add_special_tokens=False)[0]

    config = UniPixelConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_HEADS,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
            "initializer_range": SPREAD,
            "rope_parameters": {"rope_type": "default", "mrope_section": [8, 4, 4], "rope_theta": 1e4},
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
        },
        vision_config={
            "depth": 3,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [1],
            "initializer_range": SPREAD,
            "tokens_per_second": 4,
        },
        tie_word_embeddings=True,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        ref_token_id=token("<|ref|>"),
        seg_token_id=token("<|seg|>"),
        mem_token_id=token("<|mem|>"),
        sam2_config="tiny",
        sam2_image_size=128,
        time_encoding=time_encoding,
        clock_horizon=HORIZON,
        sample_frames=FRAMES,
        min_pixels=PIXELS // 2,
        max_pixels=PIXELS,
    )
    config.note = TINY_NOTE  # type: ignore[attr-defined]  (config.json keeps unknown keys)
    return config


def _word_vectors(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Word vectors [L, D] of length about 1."""
    vectors = torch.randn(len(tokenizer), WIDTH) * WIDTH**-0.5
    times = torch.arange(len(numbers())) / 10
    ratio = torch.arange(WIDTH // 2) / (WIDTH // 2 - 1)
    angles = times[:, None] * 2 * math.pi / (SHORTEST * (LONGEST / SHORTEST) ** ratio)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1) * (WIDTH / 2) ** -0.5
    vectors[tokenizer.convert_tokens_to_ids(numbers())] = waves
    return vectors
