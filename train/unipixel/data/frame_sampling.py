"""Frame sampling in training.

Required frames replace the nearest sampled ones: every marked object is visible in at least one frame, and with
`DataConfig.sampling` "evidence" every evidence span has at least one frame.
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
"""Frame rate for videos of conversations (as published), with at most `DataConfig.num_frames` frames."""


def frame_indices(sample: Sample, video: media.Video, config: DataConfig, rng: np.random.Generator) -> list[int]:
    """Sample frame indices, in ascending order.

    Args:
        sample: the sample.
        video: its video.
        config: with `sampling`, `num_frames` and `evidence_frames`.
        rng: selects the frames.
    """
    ground_truth.check_ground_truth(sample, video)
    eligible = _eligible_frames(sample, video, config)
    part = video if len(eligible) == video.num_frames else replace(video, times=video.times[list(eligible)])
    sampled = [eligible[place] for place in _places(sample, part, config, rng)]
    sampled_set = set(sampled)
    needed: list[int] = []
    for group in _required_groups(sample, video, config):
        choice = sorted(sampled_set & group) or sorted(group & set(eligible))
        if choice:
            needed.append(int(rng.choice(choice)))
    return frames.frames_including(sampled, needed)


def _eligible_frames(sample: Sample, video: media.Video, config: DataConfig) -> Sequence[int]:
    """The frames to sample from.

    If only some frames have annotated masks (gen_mask of ST-Evidence-Instruct), these are sampled, as published; with
    `DataConfig.evidence_frames` "all" the whole video, where the other frames count as without evidence.
    """
    is_sparse = sample.task_type == "evidence" and bool(sample.tracks)
    if sample.frames is None or (is_sparse and config.evidence_frames == "all"):
        return range(video.num_frames)
    return sample.frames


def stratified_indices(num_frames: int, num_samples: int, rng: np.random.Generator) -> list[int]:
    """One random index from each of `num_samples` equal parts of `num_frames`; 0 = all indices."""
    if num_samples == 0 or num_samples >= num_frames:
        return list(range(num_frames))
    edges = np.arange(num_samples + 1) * num_frames // num_samples
    return [int(place) for place in rng.integers(edges[:-1], edges[1:])]


def _places(sample: Sample, video: media.Video, config: DataConfig, rng: np.random.Generator) -> list[int]:
    if sample.task_type == "conversation":
        return media.indices_at_fps(video, CONVERSATION_FPS, config.num_frames)
    if config.sampling == "uniform":
        return media.uniform_indices(video, config.num_frames)
    return media.random_in_bins(video, config.num_frames, rng)


def _required_groups(sample: Sample, video: media.Video, config: DataConfig) -> list[set[int]]:
    """Sets of frames, each of which must have a sampled frame."""
    if sample.task_type in conversations.MARKED_FORMS:
        return [set(track.masks) for track in sample.tracks or ()]
    if config.sampling != "evidence" or sample.task_type not in conversations.PIXEL_FORMS:
        return []
    if sample.spans:
        return [_frames_in_span(video, *span) for span in sample.spans[: config.num_frames]]
    targets_of_turns: Iterable[Sequence[int] | None] = {turn.targets for turn in sample.turns} or [sample.targets]
    tracks = [track for targets in targets_of_turns for track in tracks_of(sample, targets)]
    return [set(track.masks) for track in tracks[: config.num_frames]]


def _frames_in_span(video: media.Video, start: float, end: float) -> set[int]:
    """Frames within a span, or the nearest frame if there is none."""
    frames_in_span = np.flatnonzero((video.times >= start) & (video.times <= end)).tolist()
    return set(frames_in_span or media.nearest_index(video, [(start + end) / 2]))
