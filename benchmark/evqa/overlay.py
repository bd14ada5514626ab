"""Evidence drawn on frames: tinted masks with a contour, a timeline with the spans, a sheet of frames.

`H, W` are pixels; frames are uint8 RGB `[H, W, 3]`, masks bool `[H, W]`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from evqa.schema import Span

Frame = NDArray[np.uint8]
Mask = NDArray[np.bool_]

OBJECT_COLOURS = ((230, 75, 53), (77, 187, 213), (0, 160, 135), (243, 155, 127), (145, 97, 242))
"""One an object, in order; after the last from the start again."""

SPAN_COLOUR = (255, 176, 0)
BAR_COLOUR = (52, 54, 60)
PLAYHEAD_COLOUR = (255, 255, 255)
TINT = 0.45
"""How much of an object's colour covers its pixels."""
MAX_TILE_HEIGHT = 720
"""Pixels of a frame on a sheet; tall clips become narrower."""


def tinted(frame: Frame, masks: Sequence[Mask]) -> Frame:
    """A frame with each mask in its object's colour, and a line along its inner edge."""
    drawn = frame.copy()
    width = max(1, round(min(frame.shape[:2]) / 240))
    for number, mask in enumerate(masks):
        if mask.any():
            colour = np.array(OBJECT_COLOURS[number % len(OBJECT_COLOURS)], dtype=np.float32)
            drawn[mask] = (drawn[mask] * (1 - TINT) + colour * TINT).astype(np.uint8)
            drawn[contour(mask, width)] = colour.astype(np.uint8)
    return drawn


def contour(mask: Mask, width: int = 1) -> Mask:
    """The pixels of a mask within `width` steps (not diagonal) of its outside or the frame's edge."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def timeline(width: int, *, duration: float, spans: Sequence[Span], second: float) -> Frame:
    """A bar `[h, width, 3]` over the clip's duration: spans in colour, a white line at `second`."""
    height = 2 * max(8, width // 64)
    bar = np.full((height, width, 3), BAR_COLOUR, dtype=np.uint8)
    margin = height // 4
    for span in spans:
        left, right = _column(span.start, duration, width), _column(span.end, duration, width)
        bar[margin : height - margin, left : max(right, left + 1)] = SPAN_COLOUR
    playhead = min(_column(second, duration, width), width - 1)
    half = max(1, width // 400)
    bar[:, max(0, playhead - half) : playhead + half] = PLAYHEAD_COLOUR
    return bar


def sheet(frames: Sequence[Frame], seconds: Sequence[float], spans: Sequence[Span], title: str) -> Image.Image:
    """Frames in rows of four under a title, each with its time; a border marks one inside a span."""
    columns, tile_width, gap, head = min(4, len(frames)), 320, 6, 22
    height, width = frames[0].shape[:2]
    scale = min(tile_width / width, MAX_TILE_HEIGHT / height)
    tile = max(1, round(width * scale)), max(1, round(height * scale))
    rows = -(-len(frames) // columns)
    lines = _wrapped(title, columns * 46)
    top = gap + head * len(lines)
    size = (gap + columns * (tile_width + gap), top + rows * (tile[1] + head + gap))
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    draw.multiline_text((gap, gap), "\n".join(lines), fill="black", font=font, spacing=6)
    for number, (frame, second) in enumerate(zip(frames, seconds, strict=True)):
        left = gap + number % columns * (tile_width + gap)
        upper = top + number // columns * (tile[1] + head + gap)
        page.paste(Image.fromarray(frame).resize(tile), (left, upper + head))
        inside = any(span.start <= second <= span.end for span in spans)
        label = f"{second:.2f} s, evidence" if inside else f"{second:.2f} s"
        draw.text((left, upper + 2), label, fill="black", font=font)
        if inside:
            box = (left, upper + head, left + tile[0] - 1, upper + head + tile[1] - 1)
            draw.rectangle(box, outline=SPAN_COLOUR, width=4)
    return page


def _column(second: float, duration: float, width: int) -> int:
    return round(min(max(second / duration, 0.0), 1.0) * width) if duration > 0 else 0


def _wrapped(text: str, length: int) -> list[str]:
    """Lines of at most `length` characters where words allow it; the text's own line ends are kept."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            if line and len(line) + 1 + len(word) > length:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    return lines
