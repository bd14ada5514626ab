"""Evidence of one prediction as files: a video with sound and overlaid masks, and a contact sheet.

Frames are read and written one at a time, so memory does not depend on the length of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from evqa import masks, media
from evqa.media import Video
from evqa.report.captions import load_font
from evqa.report.colours import Colour, object_colours, text_colour
from evqa.report.overlay import (
    SPAN_COLOUR,
    Frame,
    Mask,
    OverlayMask,
    PromptMark,
    caption,
    draw_objects,
    draw_prompts,
    font_size,
    timeline,
)
from evqa.schema import RLE, Prediction, Track

MAX_FPS = 30.0
"""Maximum frame rate of the overlay; a lower mean rate of the video is kept."""

MIN_WIDTH, MAX_SIDE = 480, 960
"""Minimum width (for legible text) and maximum longer side of a frame in pixels."""

SHEET_FRAMES = 12

TILE_WIDTH, MAX_TILE_HEIGHT, GAP = 320, 720, 6
"""Width and maximum height of a frame on the contact sheet, and the gap between frames, in pixels."""

PROMPT_SECONDS = 0.5
"""Seconds before and after its time in which a click or box is visible."""


@dataclass(frozen=True, kw_only=True)
class EvidenceDrawing:
    """Drawing of the evidence of a prediction; writes overlay.mp4 and sheet.png."""

    video: Video
    prediction: Prediction
    caption: str
    """Question and answer, shown above the frames."""
    prompts: Sequence[PromptMark] = ()
    """Clicks and boxes of the user."""
    prompt_objects: Sequence[Track] = ()
    """Masks of the objects at the user's prompts."""

    def write_video(self, path: Path) -> None:
        """Write an H.264 file with a constant frame rate and the sound of the video: caption, masks, timeline."""
        fps = min(self.video.fps, MAX_FPS)
        seconds = [number / fps for number in range(max(1, round(self.video.duration * fps)))]
        media.write_video(path, self._film(seconds), fps, audio=self.video)

    def sheet(self) -> Image.Image:
        """Contact sheet of evenly spaced frames, including both ends and the frames of prompts."""
        tiles = [
            self._tile(index, image) for index, image in media.read_frames(self.video, self._sheet_indices, keep=True)
        ]
        columns = min(4, len(tiles))
        width = GAP + columns * (tiles[0].width + GAP)
        head = Image.fromarray(caption(self.caption, width, background=(255, 255, 255)))
        bar = Image.fromarray(timeline(width, duration=self.video.duration, spans=self.prediction.spans or ()))
        row_height = tiles[0].height + GAP
        page = Image.new(
            "RGB", (width, head.height + bar.height + GAP + row_height * -(-len(tiles) // columns)), "white"
        )
        page.paste(head, (0, 0))
        page.paste(bar, (0, head.height))
        top = head.height + bar.height + GAP
        for number, tile in enumerate(tiles):
            page.paste(tile, (GAP + number % columns * (tile.width + GAP), top + number // columns * row_height))
        return page

    def write_sheet(self, path: Path) -> None:
        """Write the contact sheet as PNG."""
        self.sheet().save(path)

    def _film(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """Yield an image for each of the ascending `seconds`: the nearest frame, drawn once."""
        nearest = media.nearest_index(self.video, seconds)
        moments = iter(zip(nearest, seconds, strict=True))
        index, second = next(moments)
        head: Frame | None = None
        for current, frame in media.read_frames(self.video, sorted(set(nearest)), keep=True):
            image = self._draw(frame, current, _film_size(self.video))
            width = image.shape[1]
            head = caption(self.caption, width) if head is None else head
            while index == current:
                bar = timeline(width, duration=self.video.duration, spans=self.prediction.spans or (), second=second)
                yield np.concatenate([head, image, bar])
                index, second = next(moments, (-1, 0.0))

    def _tile(self, index: int, frame: Frame) -> Image.Image:
        """Frame of the contact sheet with its time; a border marks frames inside an evidence span."""
        second = float(self.video.times[index])
        is_evidence = any(span.start <= second <= span.end for span in self.prediction.spans or ())
        picture = Image.fromarray(self._draw(frame, index, _tile_size(self.video)))
        font = load_font("0", font_size(TILE_WIDTH) + 3)
        head = sum(font.getmetrics()) + 4
        tile = Image.new("RGB", (TILE_WIDTH, picture.height + head), SPAN_COLOUR if is_evidence else "white")
        tile.paste(picture, ((TILE_WIDTH - picture.width) // 2, head))
        draw = ImageDraw.Draw(tile)
        label = f"{second:.2f} s, evidence" if is_evidence else f"{second:.2f} s"
        draw.text((4, 2), label, fill=text_colour(SPAN_COLOUR), font=font)
        if is_evidence:
            draw.rectangle((0, 0, tile.width - 1, tile.height - 1), outline=SPAN_COLOUR, width=4)
        return tile

    def _draw(self, frame: Frame, index: int, size: tuple[int, int]) -> Frame:
        """Draw a frame of size (H, W) with its masks and prompts."""
        image = np.asarray(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        second = float(self.video.times[index])
        objects = [*self._prompt_masks(index, size), *self._object_masks(index, size)]
        marks = [mark for mark in self.prompts if abs(mark.second - second) <= PROMPT_SECONDS]
        return draw_prompts(draw_objects(image, objects), marks, size[1] / frame.shape[1])

    def _object_masks(self, index: int, size: tuple[int, int]) -> list[OverlayMask]:
        tracks = self.prediction.tracks or ()
        return [
            OverlayMask(
                mask=_resized(track.masks[index], size), colour=colour, label=_label(track, number, len(tracks))
            )
            for number, (track, colour) in enumerate(zip(tracks, self._colours, strict=True), start=1)
            if index in track.masks
        ]

    def _prompt_masks(self, index: int, size: tuple[int, int]) -> list[OverlayMask]:
        return [
            OverlayMask(mask=_resized(track.masks[index], size), label=track.label or "", is_prompt=True)
            for track in self.prompt_objects
            if index in track.masks
        ]

    @cached_property
    def _sheet_indices(self) -> list[int]:
        """Evenly spaced frame indices; the frame of a prompt replaces the nearest one."""
        indices = media.uniform_indices(self.video, min(SHEET_FRAMES, self.video.num_frames))
        for index in media.nearest_index(self.video, [mark.second for mark in self.prompts]):
            indices[int(np.argmin(np.abs(np.array(indices) - index)))] = index
        return sorted(set(indices))

    @cached_property
    def _colours(self) -> list[Colour]:
        """Colour per track that differs from the object's own on the frames of the contact sheet."""
        tracks = self.prediction.tracks or ()
        pixels: list[list[NDArray[np.uint8]]] = [[] for _ in tracks]
        indices = [index for index in self._sheet_indices if any(index in track.masks for track in tracks)]
        for index, frame in media.read_frames(self.video, indices, keep=True):
            for track, values in zip(tracks, pixels, strict=True):
                if index in track.masks:
                    values.append(frame[_resized(track.masks[index], frame.shape[:2])])
        return object_colours([np.concatenate(values) if values else None for values in pixels])


def _film_size(video: Video) -> tuple[int, int]:
    """(H, W) of a frame of the overlay video; even, as video codecs require."""
    scale = min(max(1.0, MIN_WIDTH / video.width), MAX_SIDE / max(video.height, video.width))
    return 2 * max(1, round(video.height * scale / 2)), 2 * max(1, round(video.width * scale / 2))


def _tile_size(video: Video) -> tuple[int, int]:
    """(H, W) of a frame of the contact sheet."""
    scale = min(TILE_WIDTH / video.width, MAX_TILE_HEIGHT / video.height)
    return max(1, round(video.height * scale)), max(1, round(video.width * scale))


def _resized(rle: RLE, size: tuple[int, int]) -> Mask:
    mask = masks.decode(rle)
    return mask if mask.shape == size else masks.resize(mask, size)


def _label(track: Track, number: int, count: int) -> str:
    """Name of an object, with its number if there are several objects."""
    name = track.label or ("" if count > 1 else "evidence")
    return f"{number} {name}".strip() if count > 1 else name
