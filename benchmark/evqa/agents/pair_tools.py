"""Frames of two videos for a pairwise judge: opening frames, and the tool `select_frames`.

Both videos are read as strips of equally many slots. By the policy "fraction", slot `i` of `n` is frame
`floor(i * N / n)` of a video with `N` frames, as published; by "time", it is the frame of either video that is shown at
`i / n` of the shorter duration. Slots that do not exist, repeats, slots above the limit and frames that cannot be read
are reported to the model: no frame is ever replaced by another one.

The checkpoints of VR-Thinker number slots in two ways (`tool_dialects.FrameNumbering`): from 0, each for both videos,
or from 1 over the slots of video 1 followed by those of video 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from evqa import media
from evqa.agents import frame_images
from evqa.agents.arguments import FrameNumber, list_note, list_values
from evqa.agents.frame_images import RGB
from evqa.agents.tool import Tool, ToolOutput
from evqa.media import Video
from evqa.models.messages import ImagePart, Part
from evqa.models.tool_dialects import CONCAT_NUMBERING, PAIR_NUMBERING, FrameNumbering, FrameSelection
from evqa.schema import FrameRef

Pairing = Literal["fraction", "time"]
"""What makes frames of two videos a pair: the same fraction of either video, or the same time."""

ImageSize = Literal["keep", "published"]
"""Size of the images: with the aspect ratio of the video, or 448 x 448 as VR-Thinker was trained."""

SLOTS = 128
"""Slots of each video, as published."""

CONCAT_SLOTS = 48
"""Slots of each video where the numbers run over both, as in the published training code."""

OPENING_FRAMES = 4
"""Frames of each video that are shown at the start."""

PUBLISHED_SIDE = 448


class Slot(NamedTuple):
    """A slot of one of the two videos."""

    number: int
    """Number by which the model asks for it."""
    side: int
    """0 = the first video that the model sees, 1 = the second."""
    position: int
    """0-based place in the strip of the video."""


@dataclass(frozen=True, kw_only=True)
class PairFrames:
    """Two videos of a pair as a judge sees them, and the tool over their frames."""

    videos: tuple[Video, Video]
    """In the order in which the judge sees them."""
    video_numbers: tuple[int, int] = (0, 1)
    """Indices of the videos in the sample (`FrameRef.video`)."""
    pairing: Pairing = "fraction"
    image_size: ImageSize = "keep"
    max_side: int = 768
    """Longer side of an image in pixels, for the size "keep"."""
    slots: int = SLOTS
    """Slots of each video."""
    numbering: FrameNumbering = PAIR_NUMBERING
    states_times: bool = True
    """Whether labels and facts state seconds."""
    opening_frames: int = OPENING_FRAMES
    """Frames of each video at the start."""

    @property
    def is_concatenated(self) -> bool:
        """Whether the numbers run over both videos."""
        return self.numbering is CONCAT_NUMBERING

    @property
    def tool(self) -> Tool:
        """Tool `select_frames` with the argument of the numbering."""
        return (_ConcatTool(self) if self.is_concatenated else _PairTool(self)).select_frames

    def opening(self) -> tuple[Part, ...]:
        """Frames of the first video, then as many of the second, with notes on those that cannot be read.

        `ValueError`: none of a video can be read.
        """
        number = self.opening_frames
        positions = [(2 * place + 1) * self.slots // (2 * number) for place in range(number)]
        slots = [self._slot(position, side) for side in (0, 1) for position in positions]
        pictures = self._read(slots)
        for side in (0, 1):
            if not any(slot.side == side for slot in pictures.images):
                video = self.videos[side].path
                raise ValueError(f"{video}: none of the first frames can be read: {pictures.reasons[side]}")
        notes = [list_note("cannot be read", [self._name(slot) for slot in pictures.unreadable]), self._same(pictures)]
        return *filter(None, notes), *(self._image(slot, pictures.images[slot]) for slot in pictures.images)

    def select(self, numbers: Sequence[int]) -> ToolOutput:
        """Result of a call of the tool: pairs in the order of the call, or frames where the numbers run over both."""
        count = 2 * self.slots if self.is_concatenated else self.slots
        selection = self.numbering.select(numbers, count)
        valid_range = f"{self.numbering.argument} run from {self.numbering.first} to {self.numbering.first + count - 1}"
        if not selection.numbers:
            raise ValueError(f"none of these frames exists: {valid_range}; got {list_values(list(numbers))}")
        groups = [self._group(number, count) for number in selection.numbers]
        pictures = self._read([slot for group in groups for slot in group])
        visible = [group for group in groups if all(slot in pictures.images for slot in group)]
        left_out = [group[0].number for group in groups if group not in visible]
        if not visible:
            raise ValueError(f"none of these frames can be read: {list_values(left_out)}")
        unit = "frame" if self.is_concatenated else "frame pair"
        parts: list[Part] = [f"{len(visible)} {unit}{'s' if len(visible) != 1 else ''}"]
        notes = [*self._notes(selection, valid_range), list_note("cannot be read", left_out), self._same(pictures)]
        parts += filter(None, notes)
        parts += [self._image(slot, pictures.images[slot]) for group in visible for slot in group]
        return ToolOutput(tuple(parts))

    def facts(self) -> str:
        """Durations and frames of the videos and their slots in words."""
        lines = [
            f"Video {side + 1} has {video.num_frames} frames in {video.duration:.2f} seconds."
            for side, video in enumerate(self.videos)
            if self.states_times
        ]
        first = self.numbering.first
        if self.is_concatenated:
            lines.append(
                f"Frames are numbered from {first} to {self.slots} for video 1 and from {self.slots + first} to "
                f"{2 * self.slots} for video 2."
            )
        else:
            lines.append(f"Frame indices run from {first} to {self.slots - 1} and are the same for both videos.")
        if self.pairing == "fraction":
            lines.append(
                f"Each video is divided into {self.slots} equal parts, so that a part of the longer is longer."
            )
        elif self.states_times:
            shorter = min(video.duration for video in self.videos)
            lines.append(f"The first {shorter:.2f} seconds of both are divided into {self.slots} equal parts.")
        return "\n".join(lines)

    def frame_index(self, side: int, position: int) -> int:
        """0-based frame index in a video of a slot."""
        video = self.videos[side]
        if self.pairing == "fraction":
            return position * video.num_frames // self.slots
        second = position * min(video.duration for video in self.videos) / self.slots
        return max(0, int(np.searchsorted(video.times, second + 1e-9, side="right")) - 1)

    def _group(self, number: int, count: int) -> list[Slot]:
        """Slots that a number shows: one of each video, or one where the numbers run over both."""
        if self.is_concatenated:
            video, position = self.numbering.slot(number, count)
            return [Slot(number, video - 1, position)]
        position = number - self.numbering.first
        return [Slot(number, 0, position), Slot(number, 1, position)]

    def _slot(self, position: int, side: int) -> Slot:
        offset = self.numbering.first + (side * self.slots if self.is_concatenated else 0)
        return Slot(position + offset, side, position)

    def _read(self, slots: Sequence[Slot]) -> _Pictures:
        """Pixels of slots in their order; each video is read once, in order of time."""
        images: dict[tuple[int, int], RGB] = {}
        reasons: list[str] = []
        for side in (0, 1):
            indices = {self.frame_index(side, slot.position) for slot in slots if slot.side == side}
            frames, reason = self._read_side(side, sorted(indices))
            images |= {(side, index): frame for index, frame in frames.items()}
            reasons.append(str(reason or ""))
        keys = {slot: (slot.side, self.frame_index(slot.side, slot.position)) for slot in slots}
        return _Pictures(
            {slot: images[key] for slot, key in keys.items() if key in images},
            [slot for slot, key in keys.items() if key not in images],
            reasons,
        )

    def _read_side(self, side: int, indices: Sequence[int]) -> tuple[dict[int, RGB], ValueError | None]:
        """Pixels of frames of a video, resized, and why some are missing; frames of the other order are cached."""
        size = self.max_side if self.image_size == "keep" else self.image_size
        parts, _, reason = frame_images.cached_parts(
            self.videos[side],
            dict.fromkeys(indices, (size, "pair")),
            lambda _, image: ImagePart(image=self._resized(image)),
        )
        return {index: part.pixels() for index, part in parts.items()}, reason

    def _resized(self, image: RGB) -> RGB:
        if self.image_size == "keep":
            return frame_images.fit(image, self.max_side)
        size = (PUBLISHED_SIDE, PUBLISHED_SIDE)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))

    def _image(self, slot: Slot, image: RGB) -> ImagePart:
        index = self.frame_index(slot.side, slot.position)
        second = round(float(self.videos[slot.side].times[index]), 3)
        ref = FrameRef(video=self.video_numbers[slot.side], index=index, second=second)
        label = f"{self._name(slot)} at {second:.2f} s" if self.states_times else self._name(slot)
        return ImagePart(image=image, second=second, label=label, ref=ref)

    def _name(self, slot: Slot) -> str:
        """Video and number of a slot as a model reads them."""
        return f"video {slot.side + 1}, frame {slot.number}"

    def _notes(self, selection: FrameSelection, valid_range: str) -> list[str]:
        limit = self.numbering.limit
        return [
            list_note("do not exist", selection.out_of_range, valid_range),
            list_note("not shown", selection.over_limit, f"at most {limit} per call"),
            list_note("asked for more than once", selection.repeated, "shown once"),
        ]

    def _same(self, pictures: _Pictures) -> str:
        """Note on numbers that show the same frame of a short video; "" = there are none."""
        groups: dict[tuple[int, int], list[str]] = {}
        for slot in pictures.images:
            key = slot.side, self.frame_index(slot.side, slot.position)
            groups.setdefault(key, []).append(str(slot.number))
        repeated = [(side, numbers) for (side, _), numbers in groups.items() if len(numbers) > 1]
        texts = [f"frames {', '.join(numbers)} of video {side + 1}" for side, numbers in repeated]
        return f"the same frame: {'; '.join(texts)}" if texts else ""


class _Pictures(NamedTuple):
    """Pixels of slots."""

    images: dict[Slot, RGB]
    unreadable: list[Slot]
    reasons: list[str]
    """Why frames of each video cannot be read; "" = all can."""


def open_pair(paths: Sequence[Path]) -> tuple[Video, Video]:
    """Open both videos of a pair. `ValueError`: one cannot be read; the message names each such file."""
    videos: list[Video] = []
    problems: list[str] = []
    for path in paths:
        try:
            videos.append(media.probe_video(path, allow_truncated=True))
        except (ValueError, OSError) as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    first, second = videos
    return first, second


def swapped(frames: PairFrames) -> PairFrames:
    """The same pair in the other order."""
    first, second = frames.videos
    return replace(frames, videos=(second, first), video_numbers=frames.video_numbers[::-1])


@dataclass(frozen=True)
class _PairTool:
    frames: PairFrames

    def select_frames(
        self,
        frame_indices: Annotated[
            list[FrameNumber],
            Field(description="indices of frames; each shows both videos", min_length=1, max_length=1000),
        ],
    ) -> ToolOutput:
        """Show further frames of both videos: for each index the frame of video 1, then that of video 2."""
        return self.frames.select(frame_indices)


@dataclass(frozen=True)
class _ConcatTool:
    frames: PairFrames

    def select_frames(
        self,
        target_frames: Annotated[
            list[FrameNumber], Field(description="numbers of frames over both videos", min_length=1, max_length=1000)
        ],
    ) -> ToolOutput:
        """Show further frames by their numbers, which run over both videos, video 1 first."""
        return self.frames.select(target_frames)


def published_slots(numbering: FrameNumbering) -> int:
    """Slots of each video in the published system with a numbering."""
    return CONCAT_SLOTS if numbering is CONCAT_NUMBERING else SLOTS
