"""What stands for a sample's marked objects in the frames of one draw: places for `<|ref|>`, cells for `<|mem|>`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from evqa import masks
from evqa.models.messages import PointOrBox as Spot
from evqa.models.messages import VideoPart
from evqa.schema import RLE, Sample, Track
from unipixel.data.clip import SampledClip
from unipixel.data.conversations import TrainingConversation
from unipixel.model.visual_prompts import PromptPlace

BOX_NOISE, MAX_BOX_NOISE = 0.1, 20.0
"""A side of a box is off by at most this share of the box, and so many pixels (published)."""

SEEN_ONCE = {"inst_it": 0.5}
"""Source -> how often an object is shown in one grid step alone (published), as someone marks it in one frame."""


class PromptEmbeddingInputs(NamedTuple):
    """The marks of one sample."""

    places: list[PromptPlace]
    """One for each `<|ref|>`."""
    regions: Tensor | None
    """bool [t, O, h, w] in merged cells."""
    note: str
    """What the conversation says of the regions."""


def visual_prompts_of(
    sample: Sample, lesson: TrainingConversation, watched: SampledClip, side: int, rng: np.random.Generator
) -> PromptEmbeddingInputs:
    """The marks that `rng` draws; `side` is that of the mask decoder's square."""
    tracks = sample.tracks or ()
    is_box = bool(lesson.pointed) and rng.random() < 0.5
    spots = [_spot(tracks[place], watched, rng, is_box=is_box) for place in lesson.pointed]
    places = [watched.place(spot, side) for spot in spots]
    if not lesson.are_listed:
        return PromptEmbeddingInputs(places, None, "")
    cells = watched.cells(VideoPart(sample.video, regions=tracks))
    assert cells is not None, f"{sample.id} has no track"
    if rng.random() < SEEN_ONCE.get(sample.source or "", 0.0):
        cells = _in_one_step(cells, rng)
    return PromptEmbeddingInputs(places, cells, watched.region_note(cells, [track.label for track in tracks]))


def _spot(track: Track, watched: SampledClip, rng: np.random.Generator, *, is_box: bool) -> Spot:
    """A point or a box of an object, in a random one of the frames that show it."""
    shown = [index for index in watched.indices if index in track.masks]
    if not shown:
        raise ValueError(f"object [{track.label}] is in none of the frames that the model sees")
    index = shown[rng.integers(len(shown))]
    at = _box(track.masks[index], rng) if is_box else _point(track.masks[index], rng)
    return Spot(at, float(watched.video.times[index]))


def _point(mask: RLE, rng: np.random.Generator) -> tuple[float, float]:
    """A pixel of the mask, each as likely as another: (x, y)."""
    rows, columns = np.nonzero(masks.decode(mask))
    number = rng.integers(len(rows))
    return float(columns[number]), float(rows[number])


def _box(mask: RLE, rng: np.random.Generator) -> tuple[float, ...]:
    """The mask's box (x0, y0, x1, y1), each side moved a little, inside the frame."""
    height, width = mask.size
    rows, columns = np.nonzero(masks.decode(mask))
    corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)
    reach = np.minimum(BOX_NOISE * np.tile(corners[2:] - corners[:2], 2), MAX_BOX_NOISE)
    moved = np.clip(corners + rng.uniform(-reach, reach), 0, [width, height, width, height])
    return tuple(float(value) for value in moved)


def _in_one_step(cells: Tensor, rng: np.random.Generator) -> Tensor:
    """Of each object one random grid step that shows it."""
    kept = cells.new_zeros(cells.shape)
    for number, steps in enumerate(_steps(cells)):
        if steps:
            step = steps[int(rng.integers(len(steps)))]
            kept[step, number] = cells[step, number]
    return kept


def _steps(cells: Tensor) -> list[list[int]]:
    """Per object the grid steps that show it."""
    return [steps.nonzero()[:, 0].tolist() for steps in cells.flatten(2).any(-1).T]
