"""A video with sampled frames as input of the language model, and the visual prompts in it.

Legend: T sampled frames, t grid steps of two frames, h w merged cells, S side of the square input of SAM 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evqa import masks, media
from evqa.models.messages import PointOrBox, VideoPart
from unipixel.data import chat_format, frames, resolution
from unipixel.model import visual_prompts


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """Settings of frame sampling and frame size at inference."""

    num_frames: int | None
    """Number of evenly spaced frames; None = by `fps` or `every`."""
    fps: float | None
    every: int | None
    """Frame stride, from the first frame."""
    max_frames: int
    trained_frames: int
    """Number of frames in training; a clip with fewer frames has more pixels per frame."""
    min_pixels: int
    max_pixels: int

    def indices(self, video: media.Video, needed: list[int]) -> list[int]:
        """Indices of the sampled frames; each needed frame replaces the nearest sampled one."""
        if self.every is not None:
            sampled = media.indices_every(video, self.every)
        elif self.fps is not None:
            sampled = media.indices_at_fps(video, self.fps, self.max_frames)
        else:
            sampled = media.uniform_indices(video, self.num_frames or 1)
        return frames.frames_including(sampled, needed)


@dataclass(frozen=True, kw_only=True)
class SampledClip:
    """A video with its sampled frames and patches."""

    video: media.Video
    indices: list[int]
    patches: frames.VideoPatches

    @property
    def times(self) -> list[float]:
        """Seconds of the sampled frames."""
        return [float(self.video.times[index]) for index in self.indices]

    @property
    def size(self) -> tuple[int, int, int]:
        """Grid (t, h, w) in merged cells."""
        steps, height, width = self.patches.grid_thw.tolist()
        return steps, height // resolution.MERGE, width // resolution.MERGE

    def place(self, place: PointOrBox, side: int) -> visual_prompts.PromptPlace:
        """A point or box in pixels of the square input of SAM 2, with the relative time of its frame."""
        (index,) = media.nearest_index(self.video, [place.second])
        corners = np.asarray(place.at, dtype=np.float64).reshape(-1, 2)
        limits = (self.video.width, self.video.height)
        if not np.isfinite(corners).all() or (corners < 0).any() or (corners > limits).any():
            raise ValueError(f"a point must be within the frame of {limits[0]} x {limits[1]} pixels, got {place.at}")
        scaled = corners * side / np.asarray(limits)
        points = tuple((float(x), float(y)) for x, y in scaled)
        return visual_prompts.PromptPlace(points, self.indices.index(index) / (2 * self.size[0] - 1))

    def cells(self, clip: VideoPart) -> Tensor | None:
        """Merged cells of the regions of a clip, bool [t, O, h, w]; None without regions."""
        if not clip.regions:
            return None
        shape = (self.video.height, self.video.width)
        region_masks = torch.zeros(len(self.indices), len(clip.regions), *shape, dtype=torch.bool)
        for number, track in enumerate(clip.regions):
            for at, index in enumerate(self.indices):
                if index in track.masks:
                    mask = masks.decode(track.masks[index])
                    if mask.shape != shape:
                        raise ValueError(f"region [{number + 1}] has masks of {mask.shape}, the clip frames of {shape}")
                    region_masks[at, number] = torch.from_numpy(mask)
        return visual_prompts.region_cells(region_masks, self.size)

    def region_note(self, cells: Tensor | None, labels: Sequence[str | None] | None = None) -> str:
        """Text that lists the regions; see `chat_format.region_note`."""
        if cells is None:
            return ""
        present = cells.flatten(2).any(-1).T.tolist()  # [O][t]
        return chat_format.region_note(present, is_image=self.video.num_frames == 1, labels=labels)


def load_clip(clip: VideoPart, plan: FrameSampling) -> SampledClip:
    """Read the sampled frames of a clip; frames with its visual prompts are included."""
    video = media.probe_video(clip.path)
    indices = sampled_indices(clip, video, plan)
    bounds = resolution.pixel_bounds(len(indices), plan.trained_frames, plan.min_pixels, plan.max_pixels)
    images = (
        image for _, image in media.read_frames(video, indices, keep=True)
    )  # the mask decoder will ask for them too
    return SampledClip(video=video, indices=indices, patches=frames.llm_pixels(images, *bounds))


def sampled_indices(clip: VideoPart, video: media.Video, plan: FrameSampling) -> list[int]:
    """Indices of the sampled frames of a clip; frames with its visual prompts are included."""
    pointed = media.nearest_index(video, [place.second for place in clip.prompts]) if clip.prompts else []
    indices = plan.indices(video, pointed)
    missing = [track for track in clip.regions if track.masks and not any(index in track.masks for index in indices)]
    if missing:
        middles = [sorted(track.masks)[len(track.masks) // 2] for track in missing]
        indices = plan.indices(video, [*pointed, *(index for index in middles if index < video.num_frames)])
    return indices
