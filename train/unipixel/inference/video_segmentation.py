"""Video object segmentation: tracks (RLE masks) of prompted objects over the visited frames of videos.

Frames are read and masks are encoded one at a time, so memory use does not depend on the length of the video.
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
    """Video, visits and prompts of the objects to track."""

    video: Video
    plan: MaskFramePlan
    prompts: Prompts


def segment_video(tracker: MaskTracker, request: SegmentationRequest) -> list[Track]:
    """Return one track for each prompt; a track has no empty masks."""
    return segment_videos(tracker, [request])[0]


def segment_videos(tracker: MaskTracker, requests: Sequence[SegmentationRequest]) -> list[list[Track]]:
    """Return the tracks of several requests, computed in one batch; each result equals that of `segment_video`."""
    recorders = [_TrackRecorder(request) for request in requests]
    busy = [recorder for recorder in recorders if len(recorder.request.prompts)]
    for row in propagate_all(tracker, [_footage(tracker, recorder.request) for recorder in busy]):
        for recorder, masks in zip(busy, row, strict=True):
            if masks is not None:
                recorder.add(masks)
    return [recorder.tracks() for recorder in recorders]


class _TrackRecorder:
    """Recorder of the masks and scores of a request."""

    def __init__(self, request: SegmentationRequest) -> None:
        self.request = request
        self._filling = MaskInterpolator(request.plan)
        self._num_covered = len(request.plan.covered)
        self._masks: list[dict[int, RLE]] = [{} for _ in request.prompts]
        self._scores = torch.zeros(len(request.prompts))

    def add(self, masks: MaskCandidates) -> None:
        """Add the masks of the next visit and the interpolated masks of the frames since the last visit."""
        size = (self.request.video.height, self.request.video.width)
        for index, logits in self._filling.add(masks):
            frame = masks_of(logits, size)
            self._scores += frame.scores / self._num_covered
            for track_masks, mask in zip(self._masks, frame.masks, strict=True):
                if mask.any():
                    track_masks[index] = encode(mask.numpy())

    def tracks(self) -> list[Track]:
        """Return one track for each object, in the order of the prompts. `ModelError`: scores are NaN or infinite."""
        if not bool(self._scores.isfinite().all()):
            raise ModelError("the mask decoder computed values that are NaN or infinite: try --dtype float32")
        scored = zip(self._scores.clamp(max=1.0).tolist(), self._masks, strict=True)
        return [Track(score=score, masks=dict(sorted(track_masks.items()))) for score, track_masks in scored]


def _footage(tracker: MaskTracker, request: SegmentationRequest) -> VideoPrompts:
    planned = request.plan
    return VideoPrompts(_squares(tracker, request), request.prompts, len(planned.order), len(planned.before))


def _squares(tracker: MaskTracker, request: SegmentationRequest) -> Iterator[Tensor]:
    for image in mask_frames.read_frames(request.video, request.plan):
        yield decoder_frames(image[None], tracker.side, tracker.device)[0]
