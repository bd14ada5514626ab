"""Visual prompts of the marked objects of a sample: points and boxes for `<|ref|>`, cells for `<|mem|>`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from evqa import masks
from evqa.models.messages import PointOrBox, VideoPart
from evqa.schema import RLE, Sample, Track
from unipixel.data.clip import SampledClip
from unipixel.data.conversations import TrainingConversation
from unipixel.model.visual_prompts import PromptPlace

BOX_NOISE, MAX_BOX_NOISE = 0.1, 20.0
"""Maximum noise of a side of a box, relative to the box and in pixels (published)."""

SINGLE_STEP_SHARE = {"inst_it": 0.5}
"""Source -> share of samples whose objects are marked in a single grid step (published)."""


class PromptEmbeddingInputs(NamedTuple):
    """Inputs of `model.visual_prompts` for a sample."""

    places: list[PromptPlace]
    """Points and boxes of the `<|ref|>` tokens."""
    regions: Tensor | None
    """bool [t, O, h, w] in merged cells, for the `<|mem|>` tokens; None without regions."""
    note: str
    """Text that lists the regions."""


def visual_prompts_of(
    sample: Sample, conversation: TrainingConversation, clip: SampledClip, side: int, rng: np.random.Generator
) -> PromptEmbeddingInputs:
    """Sample the visual prompts of a conversation.

    Args:
        sample: with tracks of the marked objects.
        conversation: its conversation.
        clip: its sampled frames.
        side: side of the square input of SAM 2.
        rng: selects frames, points and boxes.

    Raises:
        ValueError: an object is not visible in the sampled frames.
    """
    tracks = sample.tracks or ()
    is_box = bool(conversation.pointed) and rng.random() < 0.5
    spots = [_spot(tracks[place], clip, rng, is_box=is_box) for place in conversation.pointed]
    places = [clip.place(spot, side) for spot in spots]
    if not conversation.are_listed:
        return PromptEmbeddingInputs(places, None, "")
    cells = clip.cells(VideoPart(sample.video, regions=tracks))
    assert cells is not None, f"{sample.id} has no track"
    if rng.random() < SINGLE_STEP_SHARE.get(sample.source or "", 0.0):
        cells = _in_one_step(cells, rng)
    return PromptEmbeddingInputs(places, cells, clip.region_note(cells, [track.label for track in tracks]))


def _spot(track: Track, clip: SampledClip, rng: np.random.Generator, *, is_box: bool) -> PointOrBox:
    """A point or box of an object in a random one of the frames where it is visible."""
    visible = [index for index in clip.indices if index in track.masks]
    if not visible:
        raise ValueError(f"object [{track.label}] is not visible in the sampled frames")
    index = visible[rng.integers(len(visible))]
    at = _box(track.masks[index], rng) if is_box else _point(track.masks[index], rng)
    return PointOrBox(at, float(clip.video.times[index]))


def _point(mask: RLE, rng: np.random.Generator) -> tuple[float, float]:
    """A uniformly random pixel (x, y) of a mask."""
    rows, columns = np.nonzero(masks.decode(mask))
    number = rng.integers(len(rows))
    return float(columns[number]), float(rows[number])


def _box(mask: RLE, rng: np.random.Generator) -> tuple[float, ...]:
    """The bounding box (x0, y0, x1, y1) of a mask with noise, clipped to the frame."""
    height, width = mask.size
    rows, columns = np.nonzero(masks.decode(mask))
    corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)
    reach = np.minimum(BOX_NOISE * np.tile(corners[2:] - corners[:2], 2), MAX_BOX_NOISE)
    moved = np.clip(corners + rng.uniform(-reach, reach), 0, [width, height, width, height])
    return tuple(float(value) for value in moved)


def _in_one_step(cells: Tensor, rng: np.random.Generator) -> Tensor:
    """Keep one random grid step of each object."""
    single_step = cells.new_zeros(cells.shape)
    for number, steps in enumerate(_steps(cells)):
        if steps:
            step = steps[int(rng.integers(len(steps)))]
            single_step[step, number] = cells[step, number]
    return single_step


def _steps(cells: Tensor) -> list[list[int]]:
    """Grid steps in which each object is visible."""
    return [steps.nonzero()[:, 0].tolist() for steps in cells.flatten(2).any(-1).T]
