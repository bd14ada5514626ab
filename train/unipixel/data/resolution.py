"""Frame sizes for the language model. Nothing here needs torch.

Legend: H W original size.
"""

from __future__ import annotations

import math

PATCH = 14
"""Side of a patch of the vision tower, in pixels."""
MERGE = 2
"""Side of a merged cell (one token), in patches."""
FRAMES_PER_STEP = 2
"""Frames per grid step."""
MAX_ASPECT = 200
"""Maximum aspect ratio of a frame."""


def fit_size(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Size (H, W) with nearest aspect ratio, sides that are multiples of 28, and a number of pixels within bounds.

    Raises:
        ValueError: the aspect ratio is too large.
    """
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"frames of {width} x {height} are too narrow: the aspect ratio must be at most {MAX_ASPECT}")
    factor = PATCH * MERGE
    rows, columns = (max(factor, round(side / factor) * factor) for side in (height, width))
    if rows * columns > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(factor, math.floor(s / shrink / factor) * factor) for s in (height, width))
    elif rows * columns < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(s * grow / factor) * factor for s in (height, width))
    return rows, columns


def pixel_bounds(num_frames: int, sample_frames: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Bounds of the number of pixels of a frame; larger if a video has fewer frames than `sample_frames`."""
    return min_pixels, max_pixels * max(1, min(sample_frames // max(num_frames, 1), sample_frames))
