"""A sample as tensors: frames (decoded once for the language model and for SAM 2), conversation, masks.

Each `<|seg|>` of the replies has one mask, the union of the objects that it means (as published). A sample
without masks teaches words alone, and one without a video has no pixels.

Legend: T frames of the language model, M of SAM 2, H W size of the masks, S side of SAM 2's square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evqa import masks, media
from evqa.masks.track_files import tracks_of
from evqa.schema import RLE, Sample
from unipixel.configs import DataConfig
from unipixel.data import chat_format, conversations, frame_sampling, frames, resolution, visual_prompts
from unipixel.data.clip import SampledClip
from unipixel.data.collate import SkippedSample, TrainingExample
from unipixel.data.frame_cache import FrameCache
from unipixel.data.mixture import Mixture, SampleRef
from unipixel.model import time_positions


@dataclass(frozen=True, kw_only=True)
class SFTDataset:
    """The map-style data set that Trainer loads from; its keys are the draws of a `MixtureSampler`."""

    mixture: Mixture
    config: DataConfig
    tokenizer: PreTrainedTokenizerBase
    side: int
    """S."""
    clock: str = "true"
    """See `UniPixelConfig.clock`."""

    def __len__(self) -> int:
        """Draws of an epoch."""
        return len(self.mixture)

    def __getitem__(self, draw: SampleRef) -> TrainingExample | SkippedSample:
        """The sample at a place of the run; one that does not load gives the reason."""
        sample = self.mixture.sample(draw)
        try:
            return self.example(sample, np.random.default_rng((self.mixture.seed, draw.position)))
        except (ValueError, OSError) as error:
            return SkippedSample(sample.id, str(error))

    def example(self, sample: Sample, rng: np.random.Generator) -> TrainingExample:
        """A sample with the frames and the words that `rng` draws."""
        if not sample.has_video:
            return self._of_words(conversations.build_conversation(sample, rng, self.config))
        video = media.probe_video(sample.video, *(() if sample.fps is None else (sample.fps,)))
        indices = frame_sampling.frame_indices(sample, video, self.config, rng)
        images = self._images(video, indices)  # [T, H, W, 3]
        patches = frames.llm_pixels(images, *self._pixel_bounds(len(images)))
        watched = SampledClip(video=video, indices=indices, patches=patches)
        lesson = conversations.build_conversation(sample, rng, self.config)
        marked = visual_prompts.visual_prompts_of(sample, lesson, watched, self.side, rng)
        note = time_positions.time_marks(self.clock, watched.times) + marked.note
        example = self._of_words(lesson, [patches.num_tokens], [note])
        example["pixel_values_videos"], example["video_grid_thw"] = patches.pixel_values, patches.grid_thw[None]
        example["frame_times"] = watched.times
        example["places"], example["regions"] = marked.places, marked.regions
        if lesson.masks:
            drawn = frame_sampling.stratified_indices(len(indices), self.config.mask_frames, rng)
            seen = images if len(drawn) == len(images) else images[drawn]
            example["frames"] = frames.decoder_frames(seen, self.side)
            shown = [indices[place] for place in drawn]
            objects = [gold_mask(sample, targets, shown, self.side) for targets in lesson.masks]
            example["masks"] = torch.cat(objects, dim=1)  # [M, O, S, S]
        return example

    @cached_property
    def cache(self) -> FrameCache | None:
        """Decoded frames on disk; None where the config names no folder."""
        folder = self.config.frame_cache
        return None if folder is None else FrameCache(folder, round(self.config.frame_cache_gb * 1e9))

    def _images(self, video: media.Video, indices: Sequence[int]) -> np.ndarray:
        return media.load_frames(video, indices) if self.cache is None else self.cache.load(video, indices)

    def _of_words(
        self, lesson: conversations.TrainingConversation, video_tokens: Sequence[int] = (), notes: Sequence[str] = ()
    ) -> TrainingExample:
        encoded = chat_format.encode_conversation(self.tokenizer, lesson.messages, video_tokens, notes=notes)
        if len(encoded.input_ids) > self.config.max_tokens:
            raise ValueError(f"{len(encoded.input_ids)} tokens are more than --max-tokens {self.config.max_tokens}")
        return {
            "input_ids": encoded.input_ids,
            "labels": encoded.labels,
            "pixel_values_videos": None,
            "video_grid_thw": None,
            "frame_times": None,
            "places": [],
            "regions": None,
            "frames": None,
            "masks": None,
        }

    def _pixel_bounds(self, num_frames: int) -> tuple[int, int]:
        config = self.config
        return resolution.pixel_bounds(num_frames, config.num_frames, config.min_pixels, config.max_pixels)


def gold_mask(sample: Sample, targets: conversations.Targets, indices: Sequence[int], side: int) -> Tensor:
    """Union of the objects that `targets` names, in frames of the video: bool [M, 1, S, S]."""
    if sample.masks is not None:
        found = _from_folder(sample, indices)
    elif sample.label_map is not None:
        found = _from_label_map(sample, targets, indices)
    else:
        found = _from_tracks(sample, targets, indices)
    labels = torch.zeros(len(indices), 1, side, side, dtype=torch.bool)
    for place, mask in found.items():
        labels[place] = frames.label_masks(mask[None, None], side)[0]
    return labels


def _from_tracks(sample: Sample, targets: conversations.Targets, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Place in `indices` -> bool [H, W], where an object is in the frame."""
    tracks = tracks_of(sample, targets)
    found: dict[int, np.ndarray] = {}
    for place, index in enumerate(indices):
        parts: list[RLE] = [track.masks[index] for track in tracks if index in track.masks]
        if parts:
            found[place] = masks.decode(masks.union(parts))
    return found


def _from_folder(sample: Sample, indices: Sequence[int]) -> dict[int, np.ndarray]:
    assert sample.masks is not None
    paths = masks.read_folder(sample.masks)
    return {place: masks.read_png(paths[index]) for place, index in enumerate(indices) if index in paths}


def _from_label_map(sample: Sample, targets: conversations.Targets, indices: Sequence[int]) -> dict[int, np.ndarray]:
    assert sample.label_map is not None
    labels = masks.read_labels(sample.label_map)
    mask = labels > 0 if targets is None else np.isin(labels, targets)
    return {place: mask for place, index in enumerate(indices) if index == 0 and mask.any()}
