"""Tool that segments an object in a frame with a model that predicts masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from evqa import masks, prompts
from evqa.agents import frame_images
from evqa.agents.arguments import Second, require_text
from evqa.agents.frame_tools import FrameTools
from evqa.agents.tool import ToolOutput
from evqa.agents.transcript import Transcript
from evqa.models.base import Model
from evqa.models.messages import Message, Reply, VideoPart
from evqa.schema import Sample, Track

SEGMENTER = "segmenter"
"""Role of the model that segments."""


@dataclass(kw_only=True)
class SegmentTool:
    """Segmentation of the objects that expressions name."""

    segmenter: Model
    """Model that predicts masks."""
    sample: Sample
    frames: FrameTools
    transcript: Transcript

    def segment(
        self,
        expression: Annotated[str, Field(description="a short phrase that names the object", max_length=300)],
        second: Annotated[Second, Field(description="time in seconds")],
    ) -> ToolOutput:
        """Segment an object in the frame at a time; return its box and the frame with the object marked."""
        require_text(expression, "the expression", "name an object")
        index = self.frames.index_at(second)
        mask = self._mask(expression, index)
        images, _ = frame_images.read_frame_images(self.frames.grid, [index])
        label = frame_images.frame_label(self.frames.grid, index)
        if not mask.any():
            raise ValueError(f"no mask of {expression!r} in {label}: the object may not be visible there")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        height, width = mask.shape
        edges = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
        text = f"{expression}: box {[round(float(edge), 3) for edge in edges]}, {mask.mean():.1%} of the frame"
        image = frame_images.mark_region(images[index], mask)
        part = frame_images.image_part(
            self.frames.grid, index, image, self.frames.limits.max_side, f"{label}, object marked"
        )
        return ToolOutput((text, part))

    def _mask(self, expression: str, index: int) -> np.ndarray:
        """Mask of an expression in a frame, boolean [H, W]."""
        message = Message("user", (VideoPart(self.sample.video), prompts.segment_request([expression])))
        with self.transcript.record_errors([message], agent=SEGMENTER, model=self.segmenter.name):
            reply = self.segmenter.generate((message,))
        tracks = _tracks_at(reply, index)
        self.transcript.add_turn([message], reply, agent=SEGMENTER, model=self.segmenter.name, tracks=tracks)
        pixels = np.zeros((self.frames.grid.video.height, self.frames.grid.video.width), dtype=np.bool_)
        for mask in (track.masks[index] for track in tracks):
            pixels |= masks.resize(masks.decode(mask), pixels.shape)
        return pixels


def _tracks_at(reply: Reply, index: int) -> tuple[Track, ...]:
    """Masks of a reply for one frame."""
    tracks = () if reply.masks is None else reply.masks.tracks
    return tuple(track.replace(masks={index: track.masks[index]}) for track in tracks if index in track.masks)
