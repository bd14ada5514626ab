"""Colours of objects that differ from each other and from the object itself, also for colour-blind viewers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""sRGB colour, 0 to 255."""

PALETTE: tuple[Colour, ...] = (
    (86, 180, 233),  # sky blue
    (213, 94, 0),  # vermillion
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (0, 114, 178),  # blue
)
"""Okabe and Ito, Color Universal Design (2008), without black and orange (orange marks the evidence spans)."""

MAX_USE_PENALTY = 1000.0
"""Distance bonus of a colour that no other object has."""

VISION = (
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
)
"""Linear RGB as seen with normal vision, protanopia, deuteranopia: Machado et al. 2009, table of severity 1.0."""

XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
"""Linear sRGB to CIE XYZ, IEC 61966-2-1."""

WHITE = XYZ.sum(axis=1)


def object_colours(pixels: Sequence[NDArray[np.uint8] | None]) -> list[Colour]:
    """Choose a colour of `PALETTE` per object: the unused one with the largest distance to its median colour.

    Args:
        pixels: pixels of each object, uint8 RGB [N, 3]; None or empty = it covers none.
    """
    uses, colours = np.zeros(len(PALETTE)), list[Colour]()
    for rgb in pixels:
        distances = -np.arange(len(PALETTE), dtype=np.float64)
        if rgb is not None and len(rgb):
            median = np.median(rgb, axis=0)
            distances = np.array([colour_distance(colour, median) for colour in PALETTE])
        choice = int(np.argmax(distances - MAX_USE_PENALTY * uses))
        uses[choice] += 1
        colours.append(PALETTE[choice])
    return colours


def colour_distance(
    first: Sequence[float] | NDArray[np.float64], second: Sequence[float] | NDArray[np.float64]
) -> float:
    """Smallest CIE76 distance of two sRGB colours over normal vision, protanopia and deuteranopia."""
    return min(float(np.linalg.norm(_lab(first, vision) - _lab(second, vision))) for vision in VISION)


def text_colour(background: Colour) -> Colour:
    """Text colour with the higher contrast on a background: black or white."""
    return (0, 0, 0) if _lab(background, VISION[0])[0] > 55 else (255, 255, 255)


def _lab(colour: Sequence[float] | NDArray[np.float64], vision: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* [3] of an sRGB colour under one of `VISION`."""
    values = np.asarray(colour, dtype=np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(vision @ linear, 0, 1) / WHITE)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
