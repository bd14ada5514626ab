"""Drawing of evidence on frames: masks with outlines and labels, prompts, a caption, a timeline.

`H, W` are pixels; frames are uint8 RGB `[H, W, 3]`, masks bool `[H, W]`; coordinates are (x, y) of the drawn frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont

from evqa.report.captions import load_font, wrap
from evqa.report.colours import Colour, text_colour
from evqa.schema import Span

Frame = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SPAN_COLOUR: Colour = (255, 176, 0)
BAR_COLOUR: Colour = (52, 54, 60)
CAPTION_COLOUR: Colour = (24, 25, 28)
WHITE: Colour = (255, 255, 255)
MAX_LINES = 8
"""Maximum number of lines of a caption."""

OPACITY = 0.5
"""Opacity of an object's colour."""


@dataclass(frozen=True, kw_only=True)
class OverlayMask:
    """Mask of one object on one frame, with colour and label."""

    mask: Mask
    colour: Colour = WHITE
    label: str = ""
    is_prompt: bool = False
    """Whether it is an object at a user's prompt, drawn as a white outline without fill."""


@dataclass(frozen=True, kw_only=True)
class PromptMark:
    """Click or box of the user, in original pixels."""

    at: tuple[float, ...]
    """(x, y), or (x0, y0, x1, y1)."""
    second: float
    label: str = ""
    is_negative: bool = False
    """Whether the click is negative (outside of the object)."""


def font_size(width: int) -> int:
    """Font size in pixels for an image width: about 60 characters per line, 13 to 24."""
    return min(max(13, round(width / 38)), 24)


def draw_objects(frame: Frame, objects: Sequence[OverlayMask]) -> Frame:
    """Return a copy of a frame with the mask of each object, outlined in its colour and white, and its label."""
    image = frame.copy()
    width = max(1, round(min(frame.shape[:2]) / 200))
    visible = [item for item in objects if item.mask.any()]
    for item in visible:
        colour = np.array(WHITE if item.is_prompt else item.colour, dtype=np.float32)
        if not item.is_prompt:
            image[item.mask] = (image[item.mask] * (1 - OPACITY) + colour * OPACITY).astype(np.uint8)
        outline = contour(item.mask, 2 * width)
        image[outline] = colour.astype(np.uint8)
        image[outline & ~contour(item.mask, width)] = CAPTION_COLOUR if item.is_prompt else WHITE
    return _draw_labels(image, [item for item in visible if item.label])


def contour(mask: Mask, width: int = 1) -> Mask:
    """Pixels of a mask within `width` steps (not diagonal) of its outside or of the image border."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _draw_labels(frame: Frame, objects: Sequence[OverlayMask]) -> Frame:
    if not objects:
        return frame
    image = Image.fromarray(frame)
    for item in objects:
        rows, columns = np.flatnonzero(item.mask.any(axis=1)), np.flatnonzero(item.mask.any(axis=0))
        colour = WHITE if item.is_prompt else item.colour
        _draw_tag(image, item.label, (int(columns[0]), int(rows[0])), colour)
    return np.asarray(image)


def _draw_tag(image: Image.Image, text: str, at: tuple[float, float], colour: Colour) -> None:
    """Draw text on a filled rectangle with its lower left corner at a point; moved into the image, cut to its width."""
    font = load_font(text, font_size(image.width))
    line = wrap(text, font, image.width * 0.6)[0] if text else ""
    line = line if line == " ".join(text.split()) else f"{line[:-1]}…"
    width, height, pad = font.getlength(line), sum(font.getmetrics()), 3
    left = min(max(at[0], 0), max(image.width - width - 2 * pad, 0))
    top = min(max(at[1] - height - pad, 0), max(image.height - height, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, left + width + 2 * pad, top + height), fill=colour)
    draw.text((left + pad, top), line, fill=text_colour(colour), font=font)


def draw_prompts(frame: Frame, marks: Sequence[PromptMark], scale: float) -> Frame:
    """Return a copy of a frame with clicks (ring with plus or minus) and boxes; `scale`: drawn per original pixel."""
    if not marks:
        return frame
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    width = max(2, round(min(image.size) / 180))
    for mark in marks:
        x, y, *corner = (value * scale for value in mark.at)
        if corner:
            draw.rectangle((x, y, corner[0], corner[1]), outline=CAPTION_COLOUR, width=3 * width)
            inner = (x + width, y + width, max(corner[0] - width, x + width), max(corner[1] - width, y + width))
            draw.rectangle(inner, outline=WHITE, width=width)
        else:
            _draw_click(draw, (x, y), width, is_negative=mark.is_negative)
        if mark.label:
            _draw_tag(image, mark.label, (x + 6 * width, y - 2 * width), WHITE)
    return np.asarray(image)


def _draw_click(draw: ImageDraw.ImageDraw, at: tuple[float, float], width: int, *, is_negative: bool) -> None:
    (x, y), radius, arm = at, 5 * width, 3 * width
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=CAPTION_COLOUR, outline=WHITE, width=width)
    draw.line((x - arm, y, x + arm, y), fill=WHITE, width=width)
    if not is_negative:
        draw.line((x, y - arm, x, y + arm), fill=WHITE, width=width)


def caption(text: str, width: int, *, background: Colour = CAPTION_COLOUR) -> Frame:
    """Image `[h, width, 3]` of a wrapped text, truncated at `MAX_LINES`; of even height, as video codecs require."""
    font = load_font(text, font_size(width))
    pad, line_height = font_size(width) // 2, round(sum(font.getmetrics()) * 1.15)
    lines = wrap(text, font, width - 2 * pad)
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], f"{lines[MAX_LINES - 1][:-1]}…"]
    height = 2 * pad + line_height * len(lines)
    image = Image.new("RGB", (width, height + height % 2), background)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((pad, pad + number * line_height), line, fill=text_colour(background), font=font)
    return np.asarray(image)


def timeline(width: int, *, duration: float, spans: Sequence[Span], second: float | None = None) -> Frame:
    """Image `[h, width, 3]` of a timeline: spans in colour, a white line and the time at `second`."""
    font = load_font("0", font_size(width))
    height = 2 * (sum(font.getmetrics()) // 2 + 4)
    bar = np.full((height, width, 3), BAR_COLOUR, dtype=np.uint8)
    margin = height // 5
    for span in spans:
        left, right = _column(span.start, duration, width), _column(span.end, duration, width)
        bar[margin : height - margin, left : max(right, left + 1)] = SPAN_COLOUR
    if second is None:
        return bar
    playhead = min(_column(second, duration, width), width - 1)
    half = max(1, width // 400)
    bar[:, max(0, playhead - half) : playhead + half] = WHITE
    return _draw_time(bar, f"{second:.1f} / {duration:.1f} s", font, playhead)


def _draw_time(bar: Frame, text: str, font: FreeTypeFont, playhead: int) -> Frame:
    """Draw the time next to the line at `playhead`, on the side with enough space."""
    image = Image.fromarray(bar)
    length = font.getlength(text) + 8
    left = playhead + 6 if playhead + 6 + length <= image.width else max(playhead - 6 - length, 0)
    top = (image.height - sum(font.getmetrics())) // 2
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, left + length, image.height - top - 1), fill=CAPTION_COLOUR)
    draw.text((left + 4, top), text, fill=WHITE, font=font)
    return np.asarray(image)


def _column(second: float, duration: float, width: int) -> int:
    return round(min(max(second / duration, 0.0), 1.0) * width) if duration > 0 else 0
