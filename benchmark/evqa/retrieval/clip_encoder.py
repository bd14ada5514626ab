"""Encoder of a checkpoint of the CLIP or SigLIP kind, by transformers; scores are cosines.

SigLIP was trained on texts padded to 64 tokens, and reads others badly, so that its texts are padded to that length.
torchvision is not needed: image processors of the "pil" kind are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from evqa.hub import checkpoint_files, checkpoints
from evqa.models.hf_chat import check_folder, load_model
from evqa.models.weights import loading_context
from evqa.retrieval.encoders import EncoderError

SIGLIP_LENGTH = 64
"""Tokens of a text of SigLIP and SigLIP 2, padding included."""

SIGLIP_BATCH = 32768
"""Pairs of a training batch of SigLIP; the prior probability of a pair is its inverse."""

SIGLIP_THRESHOLD = 32.0
"""Lift of SigLIP: how many times as probable as for a random pair; here a probability of 0.001."""

CLIP_SCALE = 100.0
"""Factor of cosines in the logits of CLIP, where a checkpoint states none."""

CLIP_THRESHOLD = 20.0
"""Lift of CLIP: odds against the median frame; here a cosine 0.03 above it."""

MAX_LOGIT = 50.0

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


class ClipEncoder:
    """Encoder of a CLIP-like checkpoint (see `encoders.Encoder`)."""

    is_cosine = True

    def __init__(self, name: str, folder: Path, device: str) -> None:
        """Load a checkpoint. `ValueError`: it is damaged, or of another kind."""
        self.name = name
        is_on_gpu = (device == "auto" and torch.cuda.is_available()) or device.startswith("cuda")
        check_folder(folder)
        self._model = load_model(
            folder, "AutoModel", "cuda" if device == "auto" and is_on_gpu else device, _dtype(is_on_gpu), trust=False
        )
        if not all(hasattr(self._model, f"get_{kind}_features") for kind in ("text", "image")):
            raise ValueError(f"{folder} holds a {type(self._model).__name__}, expected a model like CLIP or SigLIP")
        untyped: Any = transformers
        with loading_context(f"the processor in {folder}"):
            self._images = untyped.AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
            self._tokenizer = untyped.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._is_siglip = str(self._model.config.model_type).startswith("siglip")
        self._max_length = int(getattr(self._model.config.text_config, "max_position_embeddings", SIGLIP_LENGTH))
        self._scale, self._bias = _logit_scale(self._model), _logit_bias(self._model)
        self.revision = _revision(folder)
        self.batch_size = 64 if is_on_gpu else 8
        self.dim = len(self.encode_text("a photo"))

    @property
    def note(self) -> str:
        """Limits in words."""
        return f"text is matched to whole frames; the first {self._max_length} tokens of a query are read"

    @property
    def presence_threshold(self) -> float:
        """Least lift of a text that is taken to be in the video."""
        return CLIP_THRESHOLD if self._bias is None else SIGLIP_THRESHOLD

    @torch.inference_mode()
    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors [n, D] of norm 1 of n images, uint8 RGB [H, W, 3]."""
        inputs = self._images([Image.fromarray(image) for image in images], return_tensors="pt")
        inputs = inputs.to(self._model.device, self._model.dtype)
        return self._unit(self._model.get_image_features(**inputs))

    @torch.inference_mode()
    def encode_text(self, text: str) -> NDArray[np.float32]:
        """Vector [D] of norm 1 of a text."""
        length = min(self._max_length, SIGLIP_LENGTH) if self._is_siglip else self._max_length
        inputs = self._tokenizer(
            [text.lower() if self._is_siglip else text],  # as SigLIP was trained
            padding="max_length" if self._is_siglip else False,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        return self._unit(self._model.get_text_features(**inputs.to(self._model.device)))[0]

    def lift(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lift [N]: of SigLIP its probability over that of a random pair; of CLIP the odds against the median frame."""
        scores64 = scores.astype(np.float64)
        if self._bias is None:
            logits = self._scale * (scores64 - np.median(scores64))
            return np.exp(np.clip(logits, -MAX_LOGIT, MAX_LOGIT)).astype(np.float32)
        logits = np.clip(self._scale * scores64 + self._bias, -MAX_LOGIT, MAX_LOGIT)
        return (SIGLIP_BATCH / (1 + np.exp(-logits))).astype(np.float32)

    def _unit(self, features: Any) -> NDArray[np.float32]:
        """Features of the model, a tensor or an output of transformers 5, as vectors of norm 1."""
        tensor: Tensor = features if isinstance(features, Tensor) else features.pooler_output
        vectors = torch.nn.functional.normalize(tensor.float(), dim=-1).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise EncoderError(
                f"encoder {self.name!r} computed values that are NaN or infinite as {self._model.dtype}: --device cpu "
                f"computes in float32"
            )
        return vectors


def load_clip_encoder(name: str, device: str, checkpoint: str) -> ClipEncoder:
    """Load the encoder of a checkpoint (see `encoders.load_encoder`): a folder or a Hugging Face id."""
    return ClipEncoder(name, checkpoints.locate_checkpoint(checkpoint), device)


def _dtype(is_on_gpu: bool) -> str:  # noqa: FBT001
    return "float16" if is_on_gpu else "float32"


def _logit_scale(model: Any) -> float:
    scale = getattr(model, "logit_scale", None)
    return CLIP_SCALE if scale is None else float(scale.detach().float().exp())


def _logit_bias(model: Any) -> float | None:
    bias = getattr(model, "logit_bias", None)
    return None if bias is None else float(bias.detach().float())


def _revision(folder: Path) -> str:
    """Hash of blocks of the weights and of the image processor's settings."""
    digest = hashlib.sha256(checkpoints.fingerprint(folder).encode())
    for name in ("config.json", *PROCESSOR_FILES):
        if (folder / name).is_file():
            digest.update(repr(sorted(checkpoint_files.read_object(folder / name).items())).encode())
    return digest.hexdigest()[:16]
