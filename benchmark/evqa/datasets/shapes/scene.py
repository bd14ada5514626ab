"""Scenes: three objects of distinct colours and shapes, each with one timed event.

Level 1: every object is visible all the time; an event changes its appearance.
Level 2: objects also enter late, vanish or move across, and a grey pillar may pass in front of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

FPS = 6.0
SIZE = 128
"""Width and height in pixels."""

COLORS = {
    "red": (220, 50, 50),
    "green": (50, 180, 70),
    "blue": (60, 90, 230),
    "yellow": (235, 215, 60),
    "purple": (160, 70, 190),
    "orange": (240, 140, 40),
}
SHAPES = ("circle", "square", "triangle", "cross", "diamond")
LOOKS = ("glows", "grows", "shrinks", "opens", "splits")
"""Events that change the appearance: a white ring, 1.45 x or 0.55 x the size, a dark hole, a dark bar."""
PATHS = ("enters", "vanishes", "moves")
"""Events of level 2: absent before, absent after, moves to another position."""

Level = Literal[1, 2]


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene. Positions and radius in pixels, frames 0-based, `end` exclusive."""

    color: str
    shape: str
    event: str
    events: tuple[tuple[int, int], ...]
    """(start, end) frame ranges of the event; it may occur twice."""
    center: tuple[float, float]
    radius: float
    drift: tuple[float, float]
    """Displacement over the whole clip; for `moves`, over the event."""

    def active(self, frame: int) -> bool:
        """Whether the event occurs in a frame."""
        return any(start <= frame < end for start, end in self.events)

    def present(self, frame: int) -> bool:
        """Whether the object is in the scene in a frame."""
        start, end = self.events[0]
        middle = (start + end) // 2
        if self.event == "enters":
            return frame >= middle
        if self.event == "vanishes":
            return frame < middle
        return True

    def position(self, frame: int, num_frames: int) -> tuple[float, float]:
        """Return (x, y) of the centre in a frame, in pixels."""
        if self.event == "moves":
            start, end = self.events[0]
            share = float(np.clip((frame - start) / max(1, end - 1 - start), 0, 1))
        else:
            share = frame / max(1, num_frames - 1)
        return self.center[0] + share * self.drift[0], self.center[1] + share * self.drift[1]

    def spans(self) -> tuple[tuple[float, float], ...]:
        """Return the spans of the event in seconds, rounded to 0.1 s."""
        return tuple((round(start / FPS, 1), round(end / FPS, 1)) for start, end in self.events)


@dataclass(frozen=True)
class SyntheticScene:
    """Content of a clip: its objects and their events."""

    seed: int
    level: Level
    num_frames: int
    things: tuple[SceneObject, ...]
    pillar: tuple[int, int] | None
    """(first, last) frame of a grey pillar that moves from left to right in front of all objects; None = no pillar."""

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return self.num_frames / FPS


def scene(seed: int, level: Level = 1) -> SyntheticScene:
    """Return the scene of a seed: 18-48 frames (3-8 s); events last 15-35 % of the clip, at least 3 frames."""
    rng = np.random.default_rng((seed, level))
    num_frames = int(rng.integers(18, 49))
    colors, shapes = shuffle(rng, COLORS), shuffle(rng, SHAPES)
    kinds = _events(rng, level)
    centers = _centers(rng)
    things = tuple(
        SceneObject(
            color=colors[i],
            shape=shapes[i],
            event=kinds[i],
            events=_ranges(rng, num_frames, twice=kinds[i] in LOOKS and rng.random() < 0.2),
            center=centers[i],
            radius=float(rng.uniform(16.5, 19.5)),
            drift=_drift(rng, centers[i], far=kinds[i] == "moves"),
        )
        for i in range(3)
    )
    pillar = None
    if level == 2 and rng.random() < 0.4:
        first = int(rng.integers(0, num_frames // 2))
        pillar = (first, first + int(rng.integers(num_frames // 4, num_frames // 2 + 1)))
    return SyntheticScene(seed, level, num_frames, things, pillar)


def shuffle(rng: np.random.Generator, words: Iterable[str]) -> list[str]:
    """Return the words in random order."""
    items = list(words)
    return [items[int(index)] for index in rng.permutation(len(items))]


def _events(rng: np.random.Generator, level: Level) -> list[str]:
    kinds = shuffle(rng, LOOKS)[:3]
    if level == 2:
        kinds[int(rng.integers(3))] = PATHS[int(rng.integers(len(PATHS)))]
    return kinds


def _ranges(rng: np.random.Generator, num_frames: int, *, twice: bool) -> tuple[tuple[int, int], ...]:
    share = rng.uniform(0.15, 0.35)
    if not twice:
        length = max(3, round(share * num_frames))
        start = int(rng.integers(0, num_frames - length + 1))
        return ((start, start + length),)
    length = max(3, round(share * num_frames / 2))
    gap = max(3, num_frames // 6)
    start = int(rng.integers(0, num_frames - 2 * length - gap + 1))
    second = int(rng.integers(start + length + gap, num_frames - length + 1))
    return ((start, start + length), (second, second + length))


def _centers(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Three points at least 47 px apart, 26 px from the border, by rejection."""
    points: list[tuple[float, float]] = []
    tries = 0
    while len(points) < 3:
        tries += 1
        point = (float(rng.uniform(26, SIZE - 26)), float(rng.uniform(26, SIZE - 26)))
        if all(np.hypot(point[0] - x, point[1] - y) >= 47 for x, y in points):
            points.append(point)
        elif tries > 60:
            points, tries = [], 0
    return points


def _drift(rng: np.random.Generator, center: tuple[float, float], *, far: bool) -> tuple[float, float]:
    if not far:
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0, 5)
        return float(length * np.cos(angle)), float(length * np.sin(angle))
    toward = [SIZE / 2 - center[0], SIZE / 2 - center[1]]
    axis = int(rng.integers(2))
    step = float(np.copysign(rng.uniform(28, 40), toward[axis]))
    return (step, 0.0) if axis == 0 else (0.0, step)
