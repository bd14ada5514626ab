"""Following objects through videos of any length: frames come one by one, and no more than a few are kept.

Several videos advance side by side: their frames share the image encoder's batches, and objects whose memories
have the same layout share one pass. Beside the frames of a chunk, what is kept per object are seven feature maps
and sixteen pointers.

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
"""Objects that advance together; more of them take turns on each frame."""

Prompts = Tensor | Sequence[prompts.Prompt]
"""Of O objects: vectors [O, K, C], or a sign for each."""


class FrameLogits(NamedTuple):
    """What a frame shows, at the decoder's size."""

    logits: Tensor
    """[O, h, h]"""
    scores: Tensor
    """[O] in [0, 1]: probability that the object is there, times the estimated IoU of its mask."""


class FrameMasks(NamedTuple):
    """Masks of one frame, on the CPU."""

    masks: Tensor
    """bool [O, H, W]"""
    scores: Tensor
    """[O] as in `FrameLogits`."""


class VideoPrompts(NamedTuple):
    """A video, and what to follow in it."""

    frames: Iterable[Tensor]
    """[3, S, S] each, on any device: the prompted frame and those after it; then those before it, nearest first."""
    prompts: Prompts
    num_frames: int
    """How many frames will come; below 16 it scales the time of object pointers."""
    num_before: int = 0
    """How many of them, the last ones, lie before the prompted frame."""


def propagate(tracker: MaskTracker, footage: VideoPrompts) -> Iterator[MaskCandidates]:
    """What is drawn on each frame of one video, in the order in which its frames come."""
    for drawn in propagate_all(tracker, [footage]):
        frame = drawn[0]
        assert frame is not None
        yield frame


@torch.no_grad()
def propagate_all(tracker: MaskTracker, videos: Sequence[VideoPrompts]) -> Iterator[list[MaskCandidates | None]]:
    """What is drawn on the first frames of all videos, on the second ones, and so on; None = its frames are over.

    A video's objects are drawn as if it were alone.
    """
    setting = tracker.setting(occlude=True)
    lanes = [_lanes(tracker, video) for video in videos]
    sources = [_counted(video) for video in videos]
    share = max(1, ENCODE_CHUNK // max(len(videos), 1))
    while chunks := {row: chunk for row, source in enumerate(sources) if (chunk := list(islice(source, share)))}:
        pyramid = _encoded(tracker, list(chunks.values()))
        for index in range(share):
            rows = [row for row, chunk in chunks.items() if index < len(chunk)]
            if not rows:
                break
            places = _places(chunks, rows, index)
            drawn: list[MaskCandidates | None] = [None] * len(videos)
            for row, frame in zip(
                rows, _advance(tracker, pyramid, places, [lanes[row] for row in rows], setting), strict=True
            ):
                drawn[row] = frame
            yield drawn


def logits_in(drawn: MaskCandidates) -> FrameLogits:
    """The best candidates."""
    logits, ious = drawn.best()
    return FrameLogits(logits.float(), (drawn.objectness.sigmoid() * ious).float())


def masks_of(seen: FrameLogits, size: tuple[int, int]) -> FrameMasks:
    """Masks enlarged to (H, W) pixels."""
    enlarged = F.interpolate(seen.logits[:, None], size=size, mode="bilinear")[:, 0]
    return FrameMasks((enlarged > 0).cpu(), seen.scores.cpu())


@dataclass
class _ObjectGroup:
    """Objects of one video that advance together."""

    prompts: Prompts
    scale: Tensor
    """[1], see `MaskTracker.pointer_scale`."""
    last: int
    """Step of the last frame after the prompted one."""
    num_before: int
    bank: MemoryBank | None = None
    first_memory: list[tuple[int, FrameMemory]] = field(default_factory=list)
    """Memories of the frames right after the prompted one, which those before it read too."""

    @property
    def num_objects(self) -> int:
        return len(self.prompts)

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for lanes that can share a pass."""
        if self.bank is not None:
            return self.bank.layout
        return ("vectors", self.prompts.shape[1]) if isinstance(self.prompts, Tensor) else ("signs", id(self))

    @property
    def is_read_later(self) -> bool:
        """Whether any frame comes that may read the current one."""
        step = 0 if self.bank is None else self.bank.step
        if step < 0:
            return step > -self.num_before
        return self.num_before > 0 or step < self.last

    def remember(self, memory: FrameMemory) -> None:
        """Go on to the next frame: forward to the last one, then back from the prompted one."""
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


def _lanes(tracker: MaskTracker, video: VideoPrompts) -> list[_ObjectGroup]:
    scale = tracker.pointer_scale([video.num_frames])
    prompts = video.prompts
    starts = range(0, len(prompts), OBJECTS_AT_ONCE)
    last = video.num_frames - video.num_before - 1
    return [_ObjectGroup(prompts[start : start + OBJECTS_AT_ONCE], scale, last, video.num_before) for start in starts]


def _counted(video: VideoPrompts) -> Iterator[Tensor]:
    """The frames, as many as were promised."""
    count = 0
    for frame in video.frames:
        count += 1
        if count > video.num_frames:
            raise ValueError(f"{video.num_frames} frames were to come, there are more")
        yield frame
    if count < video.num_frames:
        raise ValueError(f"{video.num_frames} frames were to come, the video ended after {count}")


def _encoded(tracker: MaskTracker, chunks: Sequence[Sequence[Tensor]]) -> ImageFeatures:
    frames = [frame for chunk in chunks for frame in chunk]
    return tracker.encode(torch.stack([frame.to(tracker.device, non_blocking=True) for frame in frames]))


def _places(chunks: dict[int, list[Tensor]], rows: Sequence[int], index: int) -> list[int]:
    """Where in the encoded chunk the frames `index` of some videos lie."""
    starts, total = {}, 0
    for row, chunk in chunks.items():
        starts[row], total = total, total + len(chunk)
    return [starts[row] + index for row in rows]


def _advance(
    tracker: MaskTracker,
    pyramid: ImageFeatures,
    places: Sequence[int],
    lanes: Sequence[Sequence[_ObjectGroup]],
    setting: StepConstants,
) -> list[MaskCandidates]:
    """One frame of each video, whose features lie at `places`."""
    waiting: dict[tuple[object, ...], list[tuple[int, _ObjectGroup]]] = {}
    for place, of_video in zip(places, lanes, strict=True):
        for lane in of_video:
            waiting.setdefault((*lane.kind, lane.is_read_later), []).append((place, lane))
    drawn: dict[int, MaskCandidates] = {}
    for alike in waiting.values():
        for group in _groups(alike):
            drawn |= _pass(tracker, pyramid, group, setting)
    return [
        MaskCandidates(*(_cat(v) for v in zip(*(drawn[id(lane)] for lane in video), strict=True))) for video in lanes
    ]


def _groups(alike: Sequence[tuple[int, _ObjectGroup]]) -> Iterator[list[tuple[int, _ObjectGroup]]]:
    """Lanes in groups of at most `OBJECTS_AT_ONCE` objects."""
    group: list[tuple[int, _ObjectGroup]] = []
    for place, lane in alike:
        if group and sum(each.num_objects for _, each in group) + lane.num_objects > OBJECTS_AT_ONCE:
            yield group
            group = []
        group.append((place, lane))
    if group:
        yield group


def _pass(
    tracker: MaskTracker, pyramid: ImageFeatures, group: Sequence[tuple[int, _ObjectGroup]], setting: StepConstants
) -> dict[int, MaskCandidates]:
    """One pass for lanes of one kind; their memories go on."""
    lanes, counts = [lane for _, lane in group], [lane.num_objects for _, lane in group]
    features = _features(pyramid, [place for place, _ in group], counts)
    banks = [lane.bank for lane in lanes if lane.bank is not None]
    vectors = [lane.prompts for lane in lanes if isinstance(lane.prompts, Tensor)]
    is_read_later = lanes[0].is_read_later
    if not banks and not vectors:
        drawn, memory = prompts.first_frame(tracker, features, list(lanes[0].prompts), setting)
    else:
        reads = merge(banks) if banks else tracker.vector_prompt(_cat(vectors))
        scale = _cat([lane.scale.expand(count) for lane, count in zip(lanes, counts, strict=True)])
        drawn, memory = tracker.step(features, reads, setting, scale, is_read_later=is_read_later)
    if is_read_later and memory is not None:
        for lane, part in zip(lanes, split(memory, counts), strict=True):
            lane.remember(part)
    pieces = zip(*(values.split(counts) for values in drawn), strict=True)
    return {id(lane): MaskCandidates(*piece) for lane, piece in zip(lanes, pieces, strict=True)}


def _features(pyramid: ImageFeatures, places: Sequence[int], counts: Sequence[int]) -> ImageFeatures:
    """Features for each object; of one video, once for all."""
    if len(set(places)) == 1:
        return ImageFeatures(*(level[places[0] : places[0] + 1] for level in pyramid))
    index = torch.tensor([place for place, count in zip(places, counts, strict=True) for _ in range(count)])
    return ImageFeatures(*(level[index.to(level.device)] for level in pyramid))


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
