"""Frames and label maps of a scene."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evqa.datasets.shapes.scene import COLORS, SIZE, SceneObject, SyntheticScene

Image = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def draw(scene: SyntheticScene) -> Iterator[tuple[Image, Labels]]:
    """Yield each frame as (uint8 RGB [H, W, 3], uint8 labels [H, W]: 0 = none, i + 1 = visible pixels of object i)."""
    empty = background(scene)
    for frame in range(scene.num_frames):
        yield draw_frame(scene, frame, empty)


def draw_frame(scene: SyntheticScene, frame: int, empty: Image) -> tuple[Image, Labels]:
    """Return a frame and its label map, drawn on the scene's background."""
    image = empty.copy()
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for index, item in enumerate(scene.things):
        if item.present(frame):
            _draw_object(image, labels, item, (frame, scene.num_frames), index + 1)
    _draw_pillar(image, labels, scene, frame)
    return image, labels


def background(scene: SyntheticScene) -> Image:
    """Return the background, uint8 RGB [H, W, 3]: a gradient with coarse and fine static noise."""
    rng = np.random.default_rng((scene.seed, 7))
    low, high = rng.uniform(60, 110, 3), rng.uniform(110, 160, 3)
    angle = rng.uniform(0, 2 * np.pi)
    ramp: NDArray[np.float64] = ((_X - SIZE / 2) * np.cos(angle) + (_Y - SIZE / 2) * np.sin(angle)) / SIZE + 0.5
    coarse = rng.normal(0, 8, (16, 16, 1)).repeat(8, 0).repeat(8, 1)
    fine = rng.normal(0, 4, (SIZE, SIZE, 3))
    image = low + (high - low) * ramp.clip(0, 1)[..., None] + coarse + fine
    return image.clip(0, 255).astype(np.uint8)


def _draw_object(image: Image, labels: Labels, item: SceneObject, when: tuple[int, int], label: int) -> None:
    frame, num_frames = when
    x, y = item.position(frame, num_frames)
    event = item.event if item.active(frame) else None
    radius = item.radius * {"grows": 1.45, "shrinks": 0.55}.get(event or "", 1.0)
    dx, dy = _X - x, _Y - y
    mask = shape_mask(item.shape, dx, dy, radius)
    distance = np.hypot(dx, dy)
    if event == "glows":
        image[(distance > radius * 1.2) & (distance < radius * 1.45)] = 255
    image[mask] = COLORS[item.color]
    if event == "opens":
        image[mask & (distance < radius * 0.5)] = 15
    if event == "splits":
        image[mask & (np.abs(dy) < radius * 0.25)] = 15
    labels[mask] = label


def shape_mask(shape: str, dx: NDArray[np.float32], dy: NDArray[np.float32], radius: float) -> Mask:
    """Return the mask of a shape from the offsets to its centre in pixels (y points down)."""
    ax, ay = np.abs(dx), np.abs(dy)
    if shape == "circle":
        return dx * dx + dy * dy < radius * radius
    if shape == "square":
        return np.maximum(ax, ay) < 0.86 * radius
    if shape == "diamond":
        return ax + ay < 1.2 * radius
    if shape == "triangle":
        return (dy < 0.75 * radius) & (ax < 0.56 * (dy + 1.05 * radius))
    assert shape == "cross", shape
    return ((ax < 0.36 * radius) & (ay < 1.05 * radius)) | ((ay < 0.36 * radius) & (ax < 1.05 * radius))


def _draw_pillar(image: Image, labels: Labels, scene: SyntheticScene, frame: int) -> None:
    if scene.pillar is None or not scene.pillar[0] <= frame <= scene.pillar[1]:
        return
    share = (frame - scene.pillar[0]) / max(1, scene.pillar[1] - scene.pillar[0])
    center = -20 + share * (SIZE + 40)
    covered = np.abs(_X - center) < 18
    image[covered] = 40
    labels[covered] = 0
