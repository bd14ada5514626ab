"""Which frames of a video one draw of a sample shows.

What must be seen takes the place of the nearest frame that was drawn: a marked object is in one of the frames at
least, and with `DataConfig.sampling` "evidence" so is every span of the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from evqa import media
from evqa.datasets import ground_truth
from evqa.masks.track_files import tracks_of
from evqa.schema import Sample
from unipixel.configs import DataConfig
from unipixel.data import conversations, frames

CONVERSATION_FPS = 2.0
"""Frames a second of the videos of conversations (as published), at most `DataConfig.num_frames`."""


def frame_indices(sample: Sample, video: media.Video, config: DataConfig, rng: np.random.Generator) -> list[int]:
    """Frame indices, ascending, out of those that the sample is about."""
    ground_truth.check_ground_truth(sample, video)
    about = _frames_about(sample, video, config)
    part = video if len(about) == video.num_frames else replace(video, times=video.times[list(about)])
    drawn = [about[place] for place in _places(sample, part, config, rng)]
    seen = set(drawn)
    needed: list[int] = []
    for group in _wanted(sample, video, config):
        choice = sorted(seen & group) or sorted(group & set(about))
        if choice:
            needed.append(int(rng.choice(choice)))
    return frames.frames_including(drawn, needed)


def _frames_about(sample: Sample, video: media.Video, config: DataConfig) -> Sequence[int]:
    """The frames that a draw comes from.

    Of evidence whose masks are annotated in some frames (gen_mask of ST-Evidence-Instruct), the record names these, as
    published; with `DataConfig.evidence_frames` "all" it is the whole video, and the others count as without evidence.
    """
    is_sparse = sample.task_type == "evidence" and bool(sample.tracks)
    if sample.frames is None or (is_sparse and config.evidence_frames == "all"):
        return range(video.num_frames)
    return sample.frames


def stratified_indices(num_frames: int, num_chosen: int, rng: np.random.Generator) -> list[int]:
    """One random place from each of `num_chosen` equal parts of `num_frames`; 0 = all places."""
    if num_chosen == 0 or num_chosen >= num_frames:
        return list(range(num_frames))
    edges = np.arange(num_chosen + 1) * num_frames // num_chosen
    return [int(place) for place in rng.integers(edges[:-1], edges[1:])]


def _places(sample: Sample, video: media.Video, config: DataConfig, rng: np.random.Generator) -> list[int]:
    if sample.task_type == "conversation":
        return media.indices_at_fps(video, CONVERSATION_FPS, config.num_frames)
    if config.sampling == "uniform":
        return media.uniform_indices(video, config.num_frames)
    return media.random_in_bins(video, config.num_frames, rng)


def _wanted(sample: Sample, video: media.Video, config: DataConfig) -> list[set[int]]:
    """Groups of frames, of each of which one must be seen."""
    if sample.task_type in conversations.MARKED_FORMS:
        return [set(track.masks) for track in sample.tracks or ()]
    if config.sampling != "evidence" or sample.task_type not in conversations.PIXEL_FORMS:
        return []
    if sample.spans:
        return [_inside(video, *span) for span in sample.spans[: config.num_frames]]
    asked: Iterable[Sequence[int] | None] = {turn.targets for turn in sample.turns} or [sample.targets]
    tracks = [track for targets in asked for track in tracks_of(sample, targets)]
    return [set(track.masks) for track in tracks[: config.num_frames]]


def _inside(video: media.Video, start: float, end: float) -> set[int]:
    """Frames shown in a span; of one between two frames the nearest."""
    inside = np.flatnonzero((video.times >= start) & (video.times <= end)).tolist()
    return set(inside or media.nearest_index(video, [(start + end) / 2]))
