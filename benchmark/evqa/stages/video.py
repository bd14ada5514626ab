"""Video of a stage: the frames that exist, those of a sampling plan, its shots, and images for a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evqa import media
from evqa.agents.frame_images import frame_ref, read_frame_parts
from evqa.agents.sample_video import open_grid
from evqa.models.messages import ImagePart
from evqa.schema import Sample, Span
from evqa.stages import plans
from evqa.stages.cache import content_digest
from evqa.stages.plans import SamplingPlan

THUMBNAIL = (32, 18)
"""Pixels (width, height) of the frames that are compared for shots."""

SHOT_FRAMES = 7200
"""Most frames that are compared for shots; of a longer video evenly spread ones."""


class StageVideo:
    """Video of a question, on its own clock."""

    def __init__(self, sample: Sample, fps: float) -> None:
        """Open the video.

        Args:
            sample: its video, and the rate of a folder of frames.
            fps: frames per second that exist for the stages.

        Raises:
            ValueError: the video cannot be read, or the times of its frames are unknown.
        """
        self.grid = open_grid(sample, fps)
        seconds, duration = self.grid.seconds, self.grid.duration
        if seconds is None or duration is None:
            raise ValueError(f"the times of the frames of {sample.video} are unknown: give their rate or duration")
        self.seconds: NDArray[np.float64] = seconds
        """[N] times of the frames that exist."""
        self.duration = max(duration, float(seconds[-1]))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the video's content."""
        return content_digest(self.grid.video.path)

    @cached_property
    def shots(self) -> list[Span]:
        """Shots, by the difference of frames."""
        rows = plans.uniform(len(self.seconds), min(len(self.seconds), SHOT_FRAMES))
        images = media.read_frames(self.grid.video, [int(self.grid.indices[row]) for row in rows])
        thumbnails = [np.asarray(Image.fromarray(image).resize(THUMBNAIL)) for _, image in images]
        return plans.find_shots(np.stack(thumbnails), self.seconds[rows], self.duration)

    def frames(self, plan: SamplingPlan, window: Span) -> plans.SampledFrames:
        """Places among the existing frames that a plan chooses in a window of the video."""
        rows = np.flatnonzero((self.seconds >= window.start - 1e-6) & (self.seconds <= window.end + 1e-6))
        if not len(rows):
            return plans.SampledFrames(plans.nearest(self.seconds, [(window.start + window.end) / 2]), "")
        frames = plan.frames(self.seconds[rows], self._shots_in(window) if plan.kind == "shots" else ())
        return plans.SampledFrames([int(rows[place]) for place in frames.places], frames.note)

    def segments(self, plan: SamplingPlan, places: Sequence[int], window: Span) -> list[Span]:
        """Segments of a window that its frames bound: the shots of a plan of shots, else the gaps between frames."""
        if plan.kind == "shots":
            return plans.merge_shots(self._shots_in(window), int(plan.value))
        bounds = [float(self.seconds[place]) for place in places]
        return [span for span in plans.gaps(bounds, window.end) if span.end - span.start > 1e-6]

    def _shots_in(self, window: Span) -> list[Span]:
        return [shot for shot in self.shots if shot.end > window.start and shot.start < window.end]

    def images(self, places: Sequence[int], side: int) -> list[ImagePart]:
        """Frames as parts of a message, each labelled with its time; those that cannot be read are left out.

        Raises:
            ValueError: none of them can be read.
        """
        parts, _ = read_frame_parts(self.grid, [int(self.grid.indices[place]) for place in places], side)
        return [replace(part, label=f"{part.second:.6g}s") for part in parts]

    def references(self, places: Sequence[int]) -> list[ImagePart]:
        """Frames as parts that refer to them, without their pixels, for the record of a reply from the cache."""
        refs = [frame_ref(self.grid, int(self.grid.indices[place])) for place in places]
        return [ImagePart(path=self.grid.video.path, second=ref.second, ref=ref) for ref in refs]
