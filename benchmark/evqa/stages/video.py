"""Video of a stage: the frames that exist, those of a sampling plan, its shots, and images for a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evqa import media, models
from evqa.agents.frame_images import frame_ref, read_frame_parts
from evqa.agents.sample_video import open_grid
from evqa.models.cached_replies import facts_digest
from evqa.models.messages import ImagePart
from evqa.schema import Sample, Span
from evqa.stages import plans, shots
from evqa.stages.cache import SHOTS, CachedReply, StageCache, content_digest
from evqa.stages.plans import SamplingPlan
from evqa.stages.shots import ShotDetector

THUMBNAIL = (32, 18)
"""Pixels (width, height) of the frames that are compared for shots."""

SHOT_FRAMES = 7200
"""Most frames that are compared for shots; of a longer video evenly spread ones."""

DETECTOR_VERSION = 1
"""Part of the key of the shots in the cache; raised with every change of what a detector finds."""

NO_CUT = "no cut was found: equal parts in place of shots"


class StageVideo:
    """Video of a question, on its own clock."""

    def __init__(
        self, sample: Sample, fps: float, *, detector: ShotDetector = "difference", cache: StageCache | None = None
    ) -> None:
        """Open the video.

        Args:
            sample: its video, and the rate of a folder of frames.
            fps: frames per second that exist for the stages.
            detector: detector of shots.
            cache: cache of shots; None = they are detected anew.

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
        self._detector, self._cache = detector, cache or StageCache(None)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the video's content."""
        return content_digest(self.grid.video.path)

    @cached_property
    def shots(self) -> list[Span]:
        """Shots of the video, from the cache or the detector.

        Raises:
            ValueError: frames cannot be read, or a package of the detector is not installed.
        """
        stage = f"{SHOTS}{self._detector}"
        key = facts_digest(
            {"media": self.digest, "stage": stage, "version": DETECTOR_VERSION, "frames": self._detected()}
        )
        with self._cache.entry(key) as cached:
            cuts = None if cached is None else _read_cuts(cached.text, self.grid.video.num_frames)
            if cuts is None:
                cuts = self._transitions() if self._detector == "transnetv2" else self._differences()
                self._cache.put(key, CachedReply(stage=stage, text=json.dumps(cuts)))
        return shots.shots_of_cuts(cuts, self.grid.video.times, self.duration)

    def _detected(self) -> list[int]:
        """Indices of the frames that the detector sees."""
        if self._detector == "transnetv2":
            return list(range(self.grid.video.num_frames))
        rows = plans.uniform(len(self.seconds), min(len(self.seconds), SHOT_FRAMES))
        return [int(self.grid.indices[row]) for row in rows]

    def _differences(self) -> list[int]:
        indices = self._detected()
        images = media.read_frames(self.grid.video, indices)
        thumbnails = [np.asarray(Image.fromarray(image).resize(THUMBNAIL)) for _, image in images]
        cuts = shots.difference_cuts(np.stack(thumbnails), np.asarray(self.grid.video.times)[indices])
        return [indices[cut] for cut in cuts]

    def _transitions(self) -> list[int]:
        images = media.read_frames(self.grid.video, self._detected())
        return shots.transition_cuts(_transnetv2()(image for _, image in images))

    def frames(self, plan: SamplingPlan, window: Span) -> plans.SampledFrames:
        """Places among the existing frames that a plan chooses in a window of the video."""
        rows = self._rows(window)
        if not len(rows):
            return plans.SampledFrames(plans.nearest(self.seconds, [(window.start + window.end) / 2]), "")
        spans, note = self._shots_of(plan, window) if plan.kind == "shots" else ([], "")
        frames = plan.frames(self.seconds[rows], spans)
        return plans.SampledFrames([int(rows[place]) for place in frames.places], frames.note or note)

    def segments(self, plan: SamplingPlan, places: Sequence[int], window: Span) -> list[Span]:
        """Segments of a window that its frames bound: the shots of a plan of shots, else the gaps between frames."""
        if plan.kind == "shots":
            return self._shots_of(plan, window)[0]
        bounds = [float(self.seconds[place]) for place in places]
        return [span for span in shots.gaps(bounds, window.end) if span.end - span.start > 1e-6]

    def _rows(self, window: Span) -> NDArray[np.int64]:
        """Places of the frames that exist in a window."""
        return np.flatnonzero((self.seconds >= window.start - 1e-6) & (self.seconds <= window.end + 1e-6))

    def _shots_of(self, plan: SamplingPlan, window: Span) -> tuple[list[Span], str]:
        """Shots of a plan in a window, and what could not be done: equal parts where there is no cut."""
        number, seconds = int(plan.value), self.seconds[self._rows(window)]
        in_window = [
            Span(max(shot.start, window.start), min(shot.end, window.end))
            for shot in self.shots
            if shot.end > window.start and shot.start < window.end
        ]
        in_window = shots.join_empty(in_window, seconds)
        number = min(number, max(1, len(seconds)))
        if len(in_window) != 1 or number == 1:
            return shots.merge_shots(in_window, number), ""
        return shots.split_shots(in_window, (in_window[0].end - in_window[0].start) / number), NO_CUT

    def images(self, places: Sequence[int], side: int) -> list[ImagePart]:
        """Frames as parts of a message, each labelled with its time; those that cannot be read are left out.

        Raises:
            ValueError: none of them can be read.
        """
        parts, _ = read_frame_parts(self.grid, [int(self.grid.indices[place]) for place in places], side)
        return [replace(part, label=f"{part.second:.6g}s") for part in parts]

    def references(self, indices: Sequence[int]) -> list[ImagePart]:
        """Frames as parts that refer to them, without their pixels, for the record of a reply from the cache."""
        refs = [frame_ref(self.grid, index) for index in indices]
        return [ImagePart(path=self.grid.video.path, second=ref.second, ref=ref) for ref in refs]


def check_detector(detector: ShotDetector) -> None:
    """Raise a `ValueError` for a detector of shots whose package is not installed."""
    if detector == "transnetv2":
        _transnetv2()


def _transnetv2() -> Callable[[Iterable[NDArray[np.uint8]]], NDArray[np.float32]]:
    """Frames in order of time -> probability of each that it belongs to a transition between shots."""
    name = "evqa.models.transnetv2:transition_probabilities"
    return models.adapter(name, needed_by="--stage-shots transnetv2", extra="shots")


def _read_cuts(text: str, num_frames: int) -> list[int] | None:
    """Read cuts from the cache: ascending indices of frames; None = the text has none."""
    try:
        cuts = cast("object", json.loads(text))
    except ValueError:
        return None
    if not isinstance(cuts, list) or not all(type(cut) is int for cut in cast("list[object]", cuts)):
        return None
    frames = [0, *cast("list[int]", cuts), num_frames]
    return frames[1:-1] if all(first < second for first, second in pairwise(frames)) else None
