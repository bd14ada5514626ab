"""Tools over the frames of one video: by id, by time, by content; crops and a contact sheet.

Every image is labelled with the id and the time of its frame; the images of a result are in order of time. Ids and
times that do not exist and numbers above a limit are reported to the model, never replaced by others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from evqa import media
from evqa.agents import frame_images
from evqa.agents.arguments import FrameNumber, Query, Second, list_note, time_range
from evqa.agents.tool import Tool, ToolFailure, ToolOutput
from evqa.media.frame_folders import is_image_video
from evqa.models.messages import ImagePart
from evqa.retrieval.frame_grid import FrameGrid
from evqa.schema import Span, Spans

if TYPE_CHECKING:
    from evqa.retrieval.frame_index import FrameIndex, SearchResult

MAX_SPANS = 3
"""Time segments of a search result."""

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class FrameLimits:
    """Limits of the tools over frames."""

    frames_per_call: int = 10
    """Images of one call; 10 as published."""
    hits_per_search: int = 5
    """Frames of one search; 5 as published."""
    sheet_frames: int = 16
    """Frames of the contact sheet of `overview`."""
    max_side: int = 768
    """Longer side of an image in pixels."""
    min_gap: float = 2.0
    """Least distance of two frames of `search`, in seconds."""


@dataclass(kw_only=True)
class FrameTools:
    """Tools over the frames of a video."""

    grid: FrameGrid
    limits: FrameLimits
    open_index: Callable[[], FrameIndex] | None = None
    """Opens the frame index at its first use; None = there is none, and frames cannot be searched."""

    @cached_property
    def index(self) -> FrameIndex:
        """Frame index of the video. `ToolFailure`: it cannot be opened or built, which no other call would repair."""
        if self.open_index is None:
            raise ValueError("the frames of this video cannot be searched: there is no index; ask for frames by id")
        try:
            return self.open_index()
        except ValueError as error:
            raise ToolFailure(f"the frames cannot be searched: {error}") from error

    def published(self) -> list[Tool]:
        """The two tools of the published agent; only the first one where the frames cannot be searched."""
        by_id: list[Tool] = [self.get_frames_by_id]
        return by_id if self.open_index is None else [*by_id, self.get_frames_by_similarity]

    def all(self) -> list[Tool]:
        """All tools that work for the video."""
        tools: list[Tool] = [self.get_frames_by_id, self.overview]
        if self.grid.seconds is not None:
            tools += [self.frames_at, self.frames_between, self.zoom]
        return tools if self.open_index is None else [*tools, self.search]

    def get_frames_by_id(
        self, frame_ids: Annotated[list[FrameNumber], Field(description="ids of frames", min_length=1, max_length=1000)]
    ) -> ToolOutput:
        """Return up to 10 frames of the video by their ids."""
        ids = list(dict.fromkeys(frame_ids))
        rows = self.grid.rows(np.array(ids, dtype=np.int64))
        existing = [(frame_id, int(row)) for frame_id, row in zip(ids, rows, strict=True) if row >= 0]
        limit = self.limits.frames_per_call
        notes = [
            list_note(
                "unknown ids", [frame_id for frame_id, row in zip(ids, rows, strict=True) if row < 0], self._ids()
            ),
            list_note("not shown", [frame_id for frame_id, _ in existing[limit:]], f"at most {limit} frames per call"),
        ]
        if not existing:
            raise ValueError(f"none of these frames exists: {self._ids()}")
        return self._frames([int(self.grid.indices[row]) for _, row in existing[:limit]], notes)

    def get_frames_by_similarity(self, query: Query) -> ToolOutput:
        """Return the 5 frames of the video that are most similar to a description."""
        return self._search_output(self.index.search(query, k=self.limits.hits_per_search, min_gap=0))

    def search(
        self,
        query: Query,
        start: Annotated[Second | None, Field(description="search from this second on")] = None,
        end: Annotated[Second | None, Field(description="search up to this second")] = None,
        k: Annotated[int, Field(description="number of frames", ge=1, le=50)] = 5,
        offset: Annotated[int, Field(description="number of best frames to skip, to see further ones", ge=0)] = 0,
    ) -> ToolOutput:
        """Return the frames that are most similar to a description, at least 2 s apart, and when it is visible."""
        if start is not None or end is not None:
            start, end = time_range(self.duration(), start, end)
        number, gap = min(k, self.limits.frames_per_call), self.limits.min_gap
        result = self.index.search(query, k=number, start=start, end=end, min_gap=gap, offset=offset)
        output = self._search_output(result, offset)
        spans = self._visible_spans(query, start, end)
        if not spans:
            return output
        times = ", ".join(f"{span.start:.1f}-{span.end:.1f} s" for span in spans)
        return replace(output, parts=(f"probably visible, most likely first: {times}", *output.parts), spans=spans)

    def frames_at(
        self, seconds: Annotated[list[Second], Field(description="times in seconds", min_length=1, max_length=1000)]
    ) -> ToolOutput:
        """Return the frames that are nearest to given times."""
        times = sorted(set(seconds))
        later_times = [second for second in times if second > self.duration()]
        times_in_video = [second for second in times if second <= self.duration()]
        limit = self.limits.frames_per_call
        if not times_in_video:
            raise ValueError(f"the video lasts {self.duration():.1f} s")
        notes = [
            list_note("outside the video", later_times, f"it lasts {self.duration():.1f} s"),
            list_note("not shown", times_in_video[limit:], f"at most {limit} frames per call"),
        ]
        return self._frames([self._index_at(second) for second in times_in_video[:limit]], notes)

    def frames_between(
        self,
        start: Annotated[Second, Field(description="start in seconds")],
        end: Annotated[Second, Field(description="end in seconds")],
        n: Annotated[int, Field(description="number of frames", ge=1, le=1000)] = 8,
    ) -> ToolOutput:
        """Return frames at equal distances in a time range."""
        first, last = time_range(self.duration(), start, end)
        number = min(n, self.limits.frames_per_call)
        seconds = np.linspace(first, last, number) if number > 1 else [(first + last) / 2]
        indices = list(dict.fromkeys(self._index_at(float(second)) for second in seconds))
        notes = [
            f"{number} of {n} frames: at most {number} per call" if number < n else "",
            f"the video ends at {self.duration():.1f} s" if end > self.duration() else "",
        ]
        output = self._frames(indices, notes)
        return replace(output, spans=(Span(first, last),))

    def zoom(
        self,
        second: Annotated[Second, Field(description="time in seconds")],
        box: Annotated[
            tuple[Fraction, Fraction, Fraction, Fraction],
            Field(description="left, top, right, bottom as fractions of the frame from 0 to 1"),
        ],
    ) -> ToolOutput:
        """Return a region of the frame at a time, enlarged."""
        left, top, right, bottom = box
        if not (left < right and top < bottom):
            raise ValueError(f"a box is left, top, right, bottom with left < right and top < bottom, got {list(box)}")
        index = self.index_at(second)
        images, _ = frame_images.read_frame_images(self.grid, [index])
        height, width = images[index].shape[:2]
        x0, y0 = int(left * width), int(top * height)
        x1, y1 = max(x0 + 1, round(right * width)), max(y0 + 1, round(bottom * height))
        crop = frame_images.enlarge(images[index][y0:y1, x0:x1], self.limits.max_side)
        label = f"{frame_images.frame_label(self.grid, index)}, region {[round(value, 3) for value in box]}"
        return ToolOutput((frame_images.image_part(self.grid, index, crop, self.limits.max_side, label),))

    def overview(self) -> ToolOutput:
        """Return one contact sheet with frames of the whole video, each with its time."""
        rows = np.unique(np.linspace(0, len(self.grid) - 1, self.limits.sheet_frames).round().astype(int))
        side = frame_images.tile_side(self.grid.video)
        tiles, missing = frame_images.read_frame_parts(self.grid, self.grid.indices[rows].tolist(), side)
        frames = tuple(tile.ref for tile in tiles if tile.ref is not None)
        labels = [self._tile_label(frame.index) for frame in frames]
        sheet = frame_images.contact_sheet([tile.pixels() for tile in tiles], labels)
        texts = [f"contact sheet of {len(tiles)} frames: {', '.join(labels)}", self._unreadable(missing)]
        image = ImagePart(image=sheet, max_side=max(sheet.shape), label="contact sheet")
        return ToolOutput((*(text for text in texts if text), image), frames=frames)

    # Pieces

    def _frames(self, indices: Sequence[int], notes: Sequence[str]) -> ToolOutput:
        """Frames by frame index in order of time, with notes before them."""
        images, missing = frame_images.read_frame_parts(self.grid, indices, self.limits.max_side)
        texts = [f"{len(images)} frame{'s' if len(images) != 1 else ''}", *notes, self._unreadable(missing)]
        return ToolOutput((*(text for text in texts if text), *images))

    def _search_output(self, result: SearchResult, offset: int = 0) -> ToolOutput:
        """Hits as text, best first, and their frames in order of time."""
        if not result.hits:
            raise ValueError(f"no further frame: the search has {result.total} results")
        scores = ", ".join(f"frame {hit.id} ({hit.score:.2f})" for hit in result.hits)
        rank = f"{offset + 1} to {offset + len(result.hits)} of {result.total}, best first: {scores}"
        absent = "" if result.is_present else "no frame stands out: this may not be in the video"
        return self._frames([hit.index for hit in result.hits], [rank, absent, self.index.encoder.note])

    def _visible_spans(self, query: str, start: float | None, end: float | None) -> Spans:
        """Time segments in a range in which a description is probably visible, most likely first."""
        if self.grid.seconds is None:
            return ()
        first, last = time_range(self.duration(), start, end)
        spans = [Span(max(span.start, first), min(span.end, last)) for span in self.index.spans(query)]
        return tuple(span for span in spans if span.start < span.end)[:MAX_SPANS]

    def _ids(self) -> str:
        return f"ids run from {self.grid.ids[0]} to {self.grid.ids[-1]}"

    def duration(self) -> float:
        """Length of the video in seconds. `ValueError`: it is unknown."""
        if self.grid.duration is None:
            raise ValueError("the times of the frames are unknown: ask for frames by id")
        return self.grid.duration

    def index_at(self, second: float) -> int:
        """Frame index at a time. `ValueError`: the time is outside the video."""
        if second > self.duration():
            raise ValueError(f"the video lasts {self.duration():.1f} s, got {second:g}")
        return self._index_at(second)

    def _index_at(self, second: float) -> int:
        """Frame index of the frame that is nearest to a time."""
        row = self.grid.nearest_row(second)
        if is_image_video(self.grid.video.path):
            return int(self.grid.indices[row])
        return media.nearest_index(self.grid.video, [second])[0]

    def _tile_label(self, index: int) -> str:
        second = frame_images.frame_second(self.grid, index)
        return frame_images.frame_label(self.grid, index) if second is None else f"{second:.1f} s"

    def _unreadable(self, indices: Sequence[int]) -> str:
        names = [frame_images.frame_label(self.grid, index) for index in indices]
        return f"cannot be read: {', '.join(names)}" if names else ""
