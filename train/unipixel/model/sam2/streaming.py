"""Propagation of masks through videos of any length in constant memory: frames are read one by one.

Several videos are processed side by side: their frames share batches of the image encoder, and objects with memory
banks of the same layout share a batch of the decoder. The state is the frames of a chunk and, per object, seven
feature maps and sixteen pointers.

Legend: as in `tracker`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unipixel.model.sam2 import prompts
from unipixel.model.sam2.memory import (
    NUM_MEMORIES,
    NUM_POINTERS,
    FrameMemory,
    MemoryBank,
    first_bank,
    memory_at,
    merge,
    split,
)
from unipixel.model.sam2.outputs import ImageFeatures, MaskCandidates, StepConstants
from unipixel.model.sam2.tracker import ENCODE_CHUNK, MaskTracker

OBJECTS_AT_ONCE = 16
"""Maximum number of objects per batch of the decoder."""

Prompts = Tensor | Sequence[prompts.Prompt]
"""Prompts of O objects: vectors [O, K, C], or a sequence of points, boxes and masks."""


class FrameLogits(NamedTuple):
    """Mask logits of a frame at the resolution of the decoder."""

    logits: Tensor
    """[O, h, h]"""
    scores: Tensor
    """[O] in [0, 1]: probability that the object is visible, times the predicted IoU of its mask."""


class FrameMasks(NamedTuple):
    """Masks of a frame, on the CPU."""

    masks: Tensor
    """bool [O, H, W]"""
    scores: Tensor
    """[O] as in `FrameLogits`."""


class VideoPrompts(NamedTuple):
    """A video, and the prompts of the objects to track."""

    frames: Iterable[Tensor]
    """[3, S, S] each, on any device: the prompted frame, the frames after it, then those before it, nearest first."""
    prompts: Prompts
    num_frames: int
    """Number of frames; below 16 it scales the temporal encoding of object pointers."""
    num_before: int = 0
    """Number of frames before the prompted one, which are the last ones of `frames`."""


def propagate(tracker: MaskTracker, video: VideoPrompts) -> Iterator[MaskCandidates]:
    """Yield the mask candidates of each frame of a video, in the order of its frames."""
    for outputs in propagate_all(tracker, [video]):
        frame = outputs[0]
        assert frame is not None
        yield frame


@torch.no_grad()
def propagate_all(tracker: MaskTracker, videos: Sequence[VideoPrompts]) -> Iterator[list[MaskCandidates | None]]:
    """Yield the mask candidates of the first frames of all videos, of the second ones, and so on.

    The result of a video does not depend on the others; it is None after the last frame of a shorter video.
    """
    setting = tracker.setting(occlude=True)
    groups = [_object_groups(tracker, video) for video in videos]
    sources = [_counted(video) for video in videos]
    share = max(1, ENCODE_CHUNK // max(len(videos), 1))
    while chunks := {row: chunk for row, source in enumerate(sources) if (chunk := list(islice(source, share)))}:
        image_features = _encoded(tracker, list(chunks.values()))
        for index in range(share):
            rows = [row for row, chunk in chunks.items() if index < len(chunk)]
            if not rows:
                break
            places = _places(chunks, rows, index)
            outputs: list[MaskCandidates | None] = [None] * len(videos)
            for row, frame in zip(
                rows,
                _decode_frame(tracker, image_features, places, [groups[row] for row in rows], setting),
                strict=True,
            ):
                outputs[row] = frame
            yield outputs


def logits_in(outputs: MaskCandidates) -> FrameLogits:
    """Logits and scores of the best candidates."""
    logits, ious = outputs.best()
    return FrameLogits(logits.float(), (outputs.objectness.sigmoid() * ious).float())


def masks_of(frame: FrameLogits, size: tuple[int, int]) -> FrameMasks:
    """Masks at the size (H, W) in pixels."""
    enlarged = F.interpolate(frame.logits[:, None], size=size, mode="bilinear")[:, 0]
    return FrameMasks((enlarged > 0).cpu(), frame.scores.cpu())


@dataclass
class _ObjectGroup:
    """Objects of a video that are processed together, with their memory bank."""

    prompts: Prompts
    scale: Tensor
    """[1], see `MaskTracker.pointer_scale`."""
    last: int
    """Step of the last frame in forward direction."""
    num_before: int
    bank: MemoryBank | None = None
    first_memory: list[tuple[int, FrameMemory]] = field(default_factory=list)
    """Memories of the frames after the prompted one that the frames before it attend to."""

    @property
    def num_objects(self) -> int:
        return len(self.prompts)

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for groups that can share a batch of the decoder."""
        if self.bank is not None:
            return self.bank.layout
        return ("vectors", self.prompts.shape[1]) if isinstance(self.prompts, Tensor) else ("prompts", id(self))

    @property
    def is_read_later(self) -> bool:
        """Whether a later frame attends to the current one."""
        step = 0 if self.bank is None else self.bank.step
        if step < 0:
            return step > -self.num_before
        return self.num_before > 0 or step < self.last

    def remember(self, memory: FrameMemory) -> None:
        """Add the memory of the current frame and advance: forward, then backward from the prompted frame."""
        if self.bank is None:
            self.bank = first_bank(memory)
        else:
            self._keep_opened(memory)
            self.bank = self.bank.after(memory)
        if self.bank.step == self.last + 1 and self.num_before:
            self.bank = memory_at(self.bank.first, self.first_memory, -1)

    def _keep_opened(self, memory: FrameMemory) -> None:
        assert self.bank is not None
        if self.num_before and 0 < self.bank.step < NUM_POINTERS - 1:
            is_near = self.bank.step < NUM_MEMORIES - 1
            self.first_memory.append((self.bank.step, memory if is_near else memory._replace(spatial=None)))


def _object_groups(tracker: MaskTracker, video: VideoPrompts) -> list[_ObjectGroup]:
    scale = tracker.pointer_scale([video.num_frames])
    prompts = video.prompts
    starts = range(0, len(prompts), OBJECTS_AT_ONCE)
    last = video.num_frames - video.num_before - 1
    return [_ObjectGroup(prompts[start : start + OBJECTS_AT_ONCE], scale, last, video.num_before) for start in starts]


def _counted(video: VideoPrompts) -> Iterator[Tensor]:
    """Yield the frames of a video; a `ValueError` if their number is not `num_frames`."""
    count = 0
    for frame in video.frames:
        count += 1
        if count > video.num_frames:
            raise ValueError(f"expected {video.num_frames} frames, got more")
        yield frame
    if count < video.num_frames:
        raise ValueError(f"expected {video.num_frames} frames, got {count}")


def _encoded(tracker: MaskTracker, chunks: Sequence[Sequence[Tensor]]) -> ImageFeatures:
    frames = [frame for chunk in chunks for frame in chunk]
    return tracker.encode(torch.stack([frame.to(tracker.device, non_blocking=True) for frame in frames]))


def _places(chunks: dict[int, list[Tensor]], rows: Sequence[int], index: int) -> list[int]:
    """Positions of the frames `index` of some videos in the encoded chunk."""
    starts, total = {}, 0
    for row, chunk in chunks.items():
        starts[row], total = total, total + len(chunk)
    return [starts[row] + index for row in rows]


def _decode_frame(
    tracker: MaskTracker,
    image_features: ImageFeatures,
    places: Sequence[int],
    groups: Sequence[Sequence[_ObjectGroup]],
    setting: StepConstants,
) -> list[MaskCandidates]:
    """Decode one frame of each video, whose image features are at `places`."""
    groups_by_kind: dict[tuple[object, ...], list[tuple[int, _ObjectGroup]]] = {}
    for place, groups_of_video in zip(places, groups, strict=True):
        for group in groups_of_video:
            groups_by_kind.setdefault((*group.kind, group.is_read_later), []).append((place, group))
    outputs: dict[int, MaskCandidates] = {}
    for members in groups_by_kind.values():
        for batch in _batches(members):
            outputs |= _decode_batch(tracker, image_features, batch, setting)
    return [
        MaskCandidates(*(_cat(v) for v in zip(*(outputs[id(group)] for group in video), strict=True)))
        for video in groups
    ]


def _batches(members: Sequence[tuple[int, _ObjectGroup]]) -> Iterator[list[tuple[int, _ObjectGroup]]]:
    """Batches of object groups with at most `OBJECTS_AT_ONCE` objects each."""
    batch: list[tuple[int, _ObjectGroup]] = []
    for place, group in members:
        if batch and sum(member.num_objects for _, member in batch) + group.num_objects > OBJECTS_AT_ONCE:
            yield batch
            batch = []
        batch.append((place, group))
    if batch:
        yield batch


def _decode_batch(
    tracker: MaskTracker,
    image_features: ImageFeatures,
    batch: Sequence[tuple[int, _ObjectGroup]],
    setting: StepConstants,
) -> dict[int, MaskCandidates]:
    """Decode one frame for groups of one kind and add its memory to their banks."""
    groups, counts = [group for _, group in batch], [group.num_objects for _, group in batch]
    features = _features(image_features, [place for place, _ in batch], counts)
    banks = [group.bank for group in groups if group.bank is not None]
    vectors = [group.prompts for group in groups if isinstance(group.prompts, Tensor)]
    is_read_later = groups[0].is_read_later
    if not banks and not vectors:
        outputs, memory = prompts.first_frame(tracker, features, list(groups[0].prompts), setting)
    else:
        reads = merge(banks) if banks else tracker.vector_prompt(_cat(vectors))
        scale = _cat([group.scale.expand(count) for group, count in zip(groups, counts, strict=True)])
        outputs, memory = tracker.step(features, reads, setting, scale, is_read_later=is_read_later)
    if is_read_later and memory is not None:
        for group, part in zip(groups, split(memory, counts), strict=True):
            group.remember(part)
    pieces = zip(*(values.split(counts) for values in outputs), strict=True)
    return {id(group): MaskCandidates(*piece) for group, piece in zip(groups, pieces, strict=True)}


def _features(image_features: ImageFeatures, places: Sequence[int], counts: Sequence[int]) -> ImageFeatures:
    """Image features per object; those of a single video once for all objects."""
    if len(set(places)) == 1:
        return ImageFeatures(*(level[places[0] : places[0] + 1] for level in image_features))
    index = torch.tensor([place for place, count in zip(places, counts, strict=True) for _ in range(count)])
    return ImageFeatures(*(level[index.to(level.device)] for level in image_features))


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
