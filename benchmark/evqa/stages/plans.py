"""Sampling plans: which frames of a video a stage sees, as data that can be inspected before anything is spent.

A plan chooses among the seconds of the frames that exist. Written `KIND` or `KIND:VALUE`:

    uniform:8       8 frames at even places among the existing ones, ends included
    fps:1           a frame at each multiple of 1 s, of a long video at most MAX_FRAMES evenly spread ones
    dense:0.5       the existing frame nearest to each multiple of 1 / 0.5 s, all of them
    windows:30/15   the first frame of each window of 30 s that starts every 15 s
    shots:20        one frame in the middle of each of at most 20 shots (see `stages.shots`)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast, get_args

import numpy as np

from evqa.media.sampling import nearest_places
from evqa.schema import Span
from evqa.stages.shots import Seconds, merge_shots

PlanKind = Literal["uniform", "fps", "dense", "windows", "shots"]

MAX_FRAMES = 256
"""Most frames of the plan `fps`."""
DENSE_LIMIT = 20_000
"""Most frames of any plan."""

_FORM = re.compile(r"(\w+):(\d{1,6}(?:\.\d{1,6})?)(?:/(\d{1,6}(?:\.\d{1,6})?))?")


class SampledFrames(NamedTuple):
    """Frames that a plan chooses."""

    places: list[int]
    """Places among the frames that exist, ascending, each once."""
    note: str
    """What the plan could not do; "" = nothing."""


@dataclass(frozen=True)
class SamplingPlan:
    """A sampling plan."""

    kind: PlanKind
    value: float
    """Number of frames or shots, frames per second, or seconds of a window."""
    step: float | None = None
    """Seconds between the starts of windows; None = windows side by side."""

    def __post_init__(self) -> None:
        is_count = self.kind in {"uniform", "shots"}
        if not 0 < self.value < math.inf or (is_count and self.value != int(self.value)):
            needed = "a whole number above 0" if is_count else "a number above 0"
            raise ValueError(f"plan {self.kind} needs {needed}, got {self.value:g}")
        if self.step is not None and (self.kind != "windows" or not 0 < self.step < math.inf):
            raise ValueError(f"only windows have a step, in seconds above 0, got {self}")

    @classmethod
    def read(cls, text: str) -> SamplingPlan:
        """Read a plan as it is written. `ValueError`: it is none."""
        match = _FORM.fullmatch(text.strip())
        if match is None or match[1] not in get_args(PlanKind):
            raise ValueError(
                "expected a sampling plan uniform:N, fps:RATE, dense:RATE, windows:SECONDS/STEP or shots:N, "
                f"got {text[:80]!r}"
            )
        return cls(cast("PlanKind", match[1]), float(match[2]), None if match[3] is None else float(match[3]))

    def __str__(self) -> str:
        step = "" if self.step is None else f"/{self.step:g}"
        return f"{self.kind}:{self.value:g}{step}"

    def frames(self, seconds: Seconds, shots: Sequence[Span] = ()) -> SampledFrames:
        """Choose frames.

        Args:
            seconds: frames that exist, at least one.
            shots: shots of the video, for the plan of that kind.
        """
        if self.kind == "uniform":
            return SampledFrames(uniform(len(seconds), int(self.value)), "")
        if self.kind == "shots":
            middles = [(shot.start + shot.end) / 2 for shot in merge_shots(shots, int(self.value))]
            return SampledFrames(nearest(seconds, middles), "")
        if self.kind == "windows":
            starts = [window.start for window in windows(self.value, self.step, seconds)]
            return SampledFrames(nearest(seconds, starts), "")
        places, note = dense(seconds, self.value)
        if self.kind == "fps" and len(places) > MAX_FRAMES:
            note = f"{len(places)} frames at {self.value:g} per second, of which {MAX_FRAMES} are used"
            places = [places[place] for place in uniform(len(places), MAX_FRAMES)]
        return SampledFrames(places, note)


def uniform(num_frames: int, number: int) -> list[int]:
    """Places of at most `number` evenly spaced frames, the first and the last among them, rounded down, no repeats."""
    if number == 1:
        return [0]
    return sorted({place * (num_frames - 1) // (number - 1) for place in range(number)})


def dense(seconds: Seconds, rate: float) -> tuple[list[int], str]:
    """Places of the frames nearest to the multiples of 1 / rate seconds, and a note where fewer frames exist."""
    count = math.floor((float(seconds[-1]) - float(seconds[0])) * rate + 1e-6) + 1
    note = ""
    if count > DENSE_LIMIT:
        note, count = f"{count} frames at {rate:g} per second, of which the first {DENSE_LIMIT} are used", DENSE_LIMIT
    places = nearest(seconds, float(seconds[0]) + np.arange(count) / rate)
    interval = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    if interval * rate > 1 + 1e-6:
        note = f"{rate:g} frames per second were asked for, the frames that exist are {interval:g} s apart"
    return places, note


def nearest(seconds: Seconds, times: Sequence[float] | Seconds) -> list[int]:
    """Places of the frames nearest to times, the earlier one of two, each once, ascending."""
    return np.unique(nearest_places(seconds, times, tolerance=1e-9)).tolist()


def windows(length: float, step: float | None, seconds: Seconds) -> list[Span]:
    """Windows of a length in seconds that together cover a video, the last one cut at its last frame."""
    end, step = float(seconds[-1]), step or length
    count = min(max(1, math.ceil((end - float(seconds[0])) / step)), DENSE_LIMIT)
    starts = [float(seconds[0]) + place * step for place in range(count)]
    return [Span(start, min(start + length, end)) for start in starts]
