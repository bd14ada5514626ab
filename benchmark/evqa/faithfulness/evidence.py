"""Cited evidence of a sample: frames of its spans, and pixels of its masks or boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evqa import masks, media
from evqa.media.sampling import nearest_places
from evqa.metrics.frames import Frames, gold_masks, predicted_masks
from evqa.schema import Box, Prediction, Sample, Spans, Tube

Parts = Literal["both", "spans", "masks"]
"""Parts of the evidence that are edited: spans and masks, or one of them."""

EvidenceSource = Literal["cited", "gold"]
"""Evidence of the predictions, or of the ground truth."""

TOLERANCE = 1e-6
"""Seconds by which times may differ and be equal."""

ReadMask = Callable[[], NDArray[np.bool_]]
"""Reads the evidence pixels of a frame, bool [H, W] at the size of the video."""


@dataclass(frozen=True)
class Evidence:
    """Evidence in a video with `N` frames."""

    spans: Spans = ()
    """Cited spans, in seconds."""
    frames: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Frame indices in the spans, ascending; empty = no span that lies in the video."""
    masks: Mapping[int, ReadMask] = field(default_factory=dict[int, ReadMask])
    """Frame index -> reader of its evidence pixels; a frame without an entry has none."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the video is evidence."""
        return not len(self.frames) and not self.masks

    def select(self, parts: Parts) -> Evidence:
        """The evidence of some parts."""
        if parts == "both":
            return self
        return replace(self, masks={}) if parts == "spans" else Evidence(masks=self.masks)


def evidence_of(video: media.Video, spans: Spans, frames: Frames, computed: frozenset[int] | None) -> Evidence:
    """Evidence of spans and masks in a video.

    Args:
        video: the video.
        spans: spans in seconds.
        frames: frame index -> reader of its mask, of any size.
        computed: frames that masks were computed for; between them that of the nearest one is held. None = every frame.

    Raises:
        ValueError: a mask cannot be read.
    """
    owners = _mask_owners(frames, computed, video.num_frames)
    size = (video.height, video.width)
    areas = {owner: bool(masks.to_array(frames[owner]()).any()) for owner in set(owners.values())}
    readers = {index: _reader(frames, owner, size) for index, owner in owners.items() if areas[owner]}
    return Evidence(spans, frames_in(video, spans), readers)


def cited_evidence(sample: Sample, prediction: Prediction, video: media.Video) -> Evidence:
    """Evidence that a prediction cites: spans, else the chosen option about time, and masks, else boxes.

    Raises:
        ValueError: a mask cannot be read.
    """
    spans = prediction.spans if prediction.clock == "video" else None
    if spans is None and prediction.time_choice is not None and prediction.time_choice < len(sample.time_options):
        spans = sample.time_options[prediction.time_choice]
    mask_frames = predicted_masks(prediction)
    if not mask_frames.frames and prediction.boxes:
        return evidence_of(video, spans or (), _box_masks(prediction.boxes, video), None)
    return evidence_of(video, spans or (), mask_frames.frames, mask_frames.computed)


def gold_evidence(sample: Sample, video: media.Video) -> Evidence:
    """Evidence of the ground truth: spans, and masks, else boxes."""
    frames = gold_masks(sample) or _box_masks(sample.boxes or {}, video)
    return evidence_of(video, sample.spans or (), frames, None)


def frames_in(video: media.Video, spans: Spans) -> NDArray[np.int64]:
    """Indices of the frames in spans, ascending: a frame lies in a span that contains its second, ends included.

    A frame that is shown while a span lasts belongs to it too, so that a span shorter than a frame has one.
    """
    starts, ends = video.times, video.ends
    is_inside = np.zeros(video.num_frames, np.bool_)
    for start, end in spans:
        is_inside |= (starts <= end + TOLERANCE) & (ends > start + TOLERANCE)
    return np.flatnonzero(is_inside)


def _mask_owners(frames: Frames, computed: frozenset[int] | None, num_frames: int) -> dict[int, int]:
    """Frame index -> index of the frame whose mask it has; frames without a mask are left out."""
    if computed is None:
        return {index: index for index in sorted(frames) if 0 <= index < num_frames}
    sources = np.array(sorted(index for index in computed if 0 <= index < num_frames), np.int64)
    if not len(sources):
        return {}
    nearest = sources[nearest_places(sources.astype(np.float64), np.arange(num_frames))]
    return {index: owner for index, owner in enumerate(nearest.tolist()) if owner in frames}


def _reader(frames: Frames, owner: int, size: tuple[int, int]) -> ReadMask:
    def read() -> NDArray[np.bool_]:
        mask = masks.to_array(frames[owner]())
        return mask if mask.shape == size else masks.resize(mask, size)

    return read


def _box_masks(boxes: Tube, video: media.Video) -> Frames:
    return {index: _box_reader(box, (video.height, video.width)) for index, box in boxes.items()}


def _box_reader(box: Box, size: tuple[int, int]) -> ReadMask:
    def read() -> NDArray[np.bool_]:
        mask = np.zeros(size, np.bool_)
        x0, y0 = max(0, int(np.floor(box.x0))), max(0, int(np.floor(box.y0)))
        mask[y0 : max(0, int(np.ceil(box.y1))), x0 : max(0, int(np.ceil(box.x1)))] = True
        return mask

    return read
