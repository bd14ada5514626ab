"""Tiny master: a small Qwen2 language model with a word-level tokenizer, for the text episodes on a CPU.

The model starts with attention heads that look up words of the context (`initialise_copying`), because the reading of a
context of a hundred words is what a model of this size does not learn within minutes from other weights. The
initialisation knows words by identity only and nothing of the task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch import Tensor

from evqa.datasets.shapes.text_episodes import NUM_OPTIONS, WORDS
from evqa.parsing.option_keys import option_key
from unipixel.rl.warm_start_config import TinyMasterConfig

USER, ASSISTANT, SYSTEM, END, PAD, UNKNOWN = "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|pad|>", "<|unk|>"
TAGS = (
    *("<reasoning>", "</reasoning>", "<visual_query>", "</visual_query>", "<request_grounding/>"),
    *("<answer>", "</answer>", "<clip>", "</clip>", "<information>", "</information>"),
)
MASTER_WORDS = ("in", "not", "find", "look", "guess", "visible", "error", "answer", "now")
"""Words of reasoning and results: `in` and `not` say whether the current clip mentions the item of the question."""

VOCABULARY = tuple(
    dict.fromkeys(
        (PAD, UNKNOWN, END, USER, ASSISTANT, SYSTEM, *TAGS, *MASTER_WORDS, *map(option_key, range(NUM_OPTIONS)), *WORDS)
    )
)

DEFAULT_SIZE = TinyMasterConfig()

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% set content = message.content if message.content is string else message.content[0].text %}"
    "<|{{ message.role }}|> {{ content }} <|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Return the tokenizer: a token per word of the closed vocabulary and per tag."""
    model = Tokenizer(WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token=UNKNOWN))
    model.pre_tokenizer = Split(Regex(r"<[^<>\s]{1,40}>|[^\s<>]+|[<>]"), behavior="removed", invert=True)  # type: ignore[assignment]
    tokens = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token=END, pad_token=PAD, unk_token=UNKNOWN, clean_up_tokenization_spaces=False
    )
    tokens.chat_template = CHAT_TEMPLATE
    tokens.padding_side = "left"
    return tokens


def new_master(seed: int, config: TinyMasterConfig = DEFAULT_SIZE) -> transformers.Qwen2ForCausalLM:
    """Return an untrained model of a seed."""
    torch.manual_seed(seed)
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=len(VOCABULARY),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            initializer_range=0.04,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            bos_token_id=None,
            eos_token_id=VOCABULARY.index(END),
            pad_token_id=VOCABULARY.index(PAD),
        )
    )
    initialise_copying(model)
    return model


@torch.no_grad()
def initialise_copying(model: transformers.Qwen2ForCausalLM) -> None:
    """Initialise attention so that the model can look up words of its context.

    Layer 0: two heads attend to the previous token by their biases and write it to the residual stream through a
    random map; the others, as all heads of later layers but the second, attend to earlier copies of a token. Layer 1
    attends to the token that follows an earlier copy of the current one, which it recognises by what layer 0 wrote.
    """
    layers = list(model.model.layers)
    for layer in layers:
        _attend_to_copies(layer)
    previous = _attend_to_previous(layers[0].self_attn, num_heads=2, frequencies=model.model.rotary_emb.inv_freq)
    if len(layers) > 1:
        _attend_behind_copies(layers[1].self_attn, previous)


def _attend_to_copies(layer: Any) -> None:
    """Queries equal keys, so that a token attends to tokens like itself; what is written is small."""
    attention = layer.self_attn
    _set(attention.q_proj, _orthogonal(attention.q_proj.weight))
    _set(attention.k_proj, attention.q_proj.weight)
    _set(attention.v_proj, _orthogonal(attention.v_proj.weight))
    _set(attention.o_proj, 0.02 * attention.v_proj.weight.T)
    layer.mlp.down_proj.weight.mul_(0.1)


def _attend_to_previous(attention: Any, *, num_heads: int, frequencies: Tensor) -> Tensor:
    """Heads that attend to the previous token; return the map from an embedding to what they write."""
    size = attention.head_dim
    rows = slice(0, num_heads * size)
    strength = 3.0
    key = torch.cat([torch.full_like(frequencies, strength), torch.zeros_like(frequencies)])
    query = strength * torch.cat([frequencies.cos(), -frequencies.sin()])  # the key, turned back by one position
    attention.q_proj.weight[rows] *= 0.1
    attention.k_proj.weight[rows] *= 0.1
    attention.q_proj.bias[rows] = query.repeat(num_heads)
    attention.k_proj.bias[rows] = key.repeat(num_heads)
    output = _orthogonal(attention.o_proj.weight)
    attention.o_proj.weight[:, rows] = 0.12 * output.T[:, rows]
    return output.T[:, rows] @ attention.v_proj.weight[rows]


def _attend_behind_copies(attention: Any, previous: Tensor) -> None:
    """Heads that attend to tokens whose previous token, written through the map `previous`, equals the current one."""
    query = 2.0 * _orthogonal(attention.q_proj.weight)
    _set(attention.q_proj, query)
    _set(attention.k_proj, query @ previous.T)
    attention.o_proj.weight.mul_(4.0)


def _orthogonal(weight: Tensor) -> Tensor:
    return torch.nn.init.orthogonal_(torch.empty_like(weight))


def _set(linear: Any, weight: Tensor) -> None:
    linear.weight.copy_(weight)
    if linear.bias is not None:
        linear.bias.zero_()


def save(model: transformers.Qwen2ForCausalLM, folder: Path) -> None:
    """Write a checkpoint with its tokenizer."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def encode(words: str) -> list[int]:
    """Return the token ids of words and tags that are separated by spaces. `KeyError`: a word is not known."""
    return [_NUMBERS[word] for word in words.split()]


_NUMBERS = {word: number for number, word in enumerate(VOCABULARY)}
