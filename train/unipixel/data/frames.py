"""Frames as the halves of the model see them: patches for the language model, squares for the mask decoder.

Legend: T frames, H W original size, p patch side (14), m merge (2), S side of the decoder's square.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unipixel.data.resolution import FRAMES_PER_STEP, MERGE, PATCH, fit_size

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class VideoPatches(NamedTuple):
    """A video for the language model."""

    pixel_values: Tensor
    """float32 [t * h * w, 3 * 2 * p * p] in Qwen's order: the four patches of a merged cell together."""
    grid_thw: Tensor
    """int64 [3]: t grid steps of two frames, h and w patches."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the language model that the video takes."""
        return int(self.grid_thw.prod()) // MERGE**2


def frames_including(sampled: Sequence[int], needed: Sequence[int]) -> list[int]:
    """Frame indices with the needed ones, ascending: each takes the place of the sampled frame nearest to it."""
    found = set(sampled)
    for index in sorted(set(needed) - found):
        free = found - set(needed)
        if free:
            found.remove(min(free, key=lambda other: (abs(other - index), other)))
        found.add(index)
    return sorted(found) if needed else list(sampled)


def llm_pixels(frames: np.ndarray | Iterable[np.ndarray], min_pixels: int, max_pixels: int) -> VideoPatches:
    """uint8 [T, H, W, 3], or T frames [H, W, 3] of one size, -> patches.

    An odd last frame (and so a single image) stands for two. Frames are resized one by one as they come.
    """
    resized = [_fitted(frame, min_pixels, max_pixels) for frame in frames]
    if not resized:
        raise ValueError("frames are uint8 [T, H, W, 3] with T > 0, got none")
    return patchify(_normalise(torch.cat(resized), CLIP_MEAN, CLIP_STD))


def _fitted(frame: np.ndarray, min_pixels: int, max_pixels: int) -> Tensor:
    """uint8 [H, W, 3] -> uint8 [1, 3, h, w] of the size that the language model gets."""
    image = _channels_first(frame[None])
    size = fit_size(image.shape[2], image.shape[3], min_pixels, max_pixels)
    return image if image.shape[-2:] == size else F.interpolate(image, size=size, mode="bicubic", antialias=True)


def patchify(pixels: Tensor) -> VideoPatches:
    """Normalised [T, 3, H, W] with sides that are multiples of 28 -> patches in Qwen's order."""
    missing = -len(pixels) % FRAMES_PER_STEP
    pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
    steps, rows, columns = len(pixels) // FRAMES_PER_STEP, pixels.shape[2] // PATCH, pixels.shape[3] // PATCH
    cells = pixels.view(steps, FRAMES_PER_STEP, 3, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH)
    ordered = cells.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)  # [t, h/m, w/m, m, m, 3, 2, p, p]
    return VideoPatches(ordered.flatten(5).flatten(0, 4).contiguous(), torch.tensor([steps, rows, columns]))


def decoder_frames(frames: np.ndarray, side: int, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [T, H, W, 3] -> float32 [T, 3, S, S], stretched to the square; computed on the device."""
    video = _channels_first(frames).to(device).float() / 255
    video = F.interpolate(video, size=(side, side), mode="bilinear", antialias=True)
    return _standardise(video, IMAGENET_MEAN, IMAGENET_STD)


def label_masks(masks: np.ndarray | Tensor, side: int) -> Tensor:
    """Masks [T, O, H, W] -> bool [T, O, S, S]: true where an object covers more than half of a pixel."""
    labels = torch.as_tensor(masks).float()
    return F.interpolate(labels, size=(side, side), mode="bilinear", antialias=True) > 0.5


def _channels_first(frames: np.ndarray) -> Tensor:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
        raise ValueError(f"frames are uint8 [T, H, W, 3] with T > 0, got {frames.dtype} {frames.shape}")
    writable = frames if frames.flags.writeable else frames.copy()  # torch warns of the others
    return torch.from_numpy(writable).permute(0, 3, 1, 2)


def _normalise(video: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return _standardise(video.float() / 255, mean, std)


def _standardise(video: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    shape = (1, 3, 1, 1)
    return (video - torch.tensor(mean, device=video.device).view(shape)) / torch.tensor(std, device=video.device).view(
        shape
    )
