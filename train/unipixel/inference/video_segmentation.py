"""Objects of videos followed through the frames to be visited, as tracks of run lengths.

Frames go from the file to the decoder and masks into run lengths one by one, so any length fits in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from evqa.masks import encode
from evqa.media import Video
from evqa.models.base import ModelError
from evqa.schema import RLE, Track
from unipixel.data.frames import decoder_frames
from unipixel.inference import mask_frames
from unipixel.inference.mask_frames import MaskFramePlan
from unipixel.inference.mask_interpolation import MaskInterpolator
from unipixel.model.sam2.outputs import MaskCandidates
from unipixel.model.sam2.streaming import Prompts, VideoPrompts, masks_of, propagate_all
from unipixel.model.sam2.tracker import MaskTracker


class SegmentationRequest(NamedTuple):
    """What is to be followed in a video."""

    video: Video
    plan: MaskFramePlan
    prompts: Prompts


def segment_video(tracker: MaskTracker, scene: SegmentationRequest) -> list[Track]:
    """One track for each object; an empty mask is left out of its track."""
    return segment_videos(tracker, [scene])[0]


def segment_videos(tracker: MaskTracker, scenes: Sequence[SegmentationRequest]) -> list[list[Track]]:
    """`tracks` of several scenes, which advance side by side; each is as if it were alone."""
    recorders = [_TrackRecorder(scene) for scene in scenes]
    busy = [recorder for recorder in recorders if len(recorder.scene.prompts)]
    for row in propagate_all(tracker, [_footage(tracker, recorder.scene) for recorder in busy]):
        for recorder, masks in zip(busy, row, strict=True):
            if masks is not None:
                recorder.add(masks)
    return [recorder.tracks() for recorder in recorders]


class _TrackRecorder:
    """Keeps the masks of a scene as they are drawn."""

    def __init__(self, scene: SegmentationRequest) -> None:
        self.scene = scene
        self._filling = MaskInterpolator(scene.plan)
        self._num_covered = len(scene.plan.covered)
        self._masks: list[dict[int, RLE]] = [{} for _ in scene.prompts]
        self._scores = torch.zeros(len(scene.prompts))

    def add(self, masks: MaskCandidates) -> None:
        """Note what is drawn on the next visit, and what that means for the frames since the last one."""
        size = (self.scene.video.height, self.scene.video.width)
        for index, logits in self._filling.add(masks):
            frame = masks_of(logits, size)
            self._scores += frame.scores / self._num_covered
            for track_masks, mask in zip(self._masks, frame.masks, strict=True):
                if mask.any():
                    track_masks[index] = encode(mask.numpy())

    def tracks(self) -> list[Track]:
        """One for each object, in the order of the prompts. `ModelError`: the decoder's values are no numbers."""
        if not bool(self._scores.isfinite().all()):
            raise ModelError("the mask decoder computed values that are NaN or infinite: try --dtype float32")
        scored = zip(self._scores.clamp(max=1.0).tolist(), self._masks, strict=True)
        return [Track(score=score, masks=dict(sorted(track_masks.items()))) for score, track_masks in scored]


def _footage(tracker: MaskTracker, scene: SegmentationRequest) -> VideoPrompts:
    planned = scene.plan
    return VideoPrompts(_squares(tracker, scene), scene.prompts, len(planned.order), len(planned.before))


def _squares(tracker: MaskTracker, scene: SegmentationRequest) -> Iterator[Tensor]:
    for image in mask_frames.read_frames(scene.video, scene.plan):
        yield decoder_frames(image[None], tracker.side, tracker.device)[0]
