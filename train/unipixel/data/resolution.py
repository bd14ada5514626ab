"""How large a frame is for the language model. Nothing here needs torch.

Legend: H W original size.
"""

from __future__ import annotations

import math

PATCH = 14
"""Side of a patch of the vision tower in pixels."""
MERGE = 2
"""Patches along a side of a merged cell, which is one token."""
FRAMES_PER_STEP = 2
"""Frames of a grid step."""
MAX_ASPECT = 200
"""Of a frame's longer side to its shorter one."""


def fit_size(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The size (H, W) nearest in aspect, both sides multiples of 28, between the two numbers of pixels."""
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"frames of {width} x {height} are too narrow: one side is at most {MAX_ASPECT} times the other"
        )
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
    """Bounds of a frame's pixels; the frames that a short video or an image lacks enlarge those it has."""
    return min_pixels, max_pixels * max(1, min(sample_frames // max(num_frames, 1), sample_frames))
