"""Training data set: samples as tensors of frames, tokens and masks.

Frames are decoded once for language model and SAM 2. Each `<|seg|>` of the responses has one mask, the union of its
objects (as published). Samples without masks have the token loss only; samples without video have no pixels.

Legend: T frames of the language model, M of SAM 2, H W size of the masks, S side of the square input of SAM 2.
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
    """Map-style data set; its keys are those of a `MixtureSampler`."""

    mixture: Mixture
    config: DataConfig
    tokenizer: PreTrainedTokenizerBase
    side: int
    """S, side of the square input of SAM 2."""
    time_encoding: str = "absolute"
    """See `UniPixelConfig.time_encoding`."""
    has_masks: bool = True
    """Whether examples have frames and masks for SAM 2, if their samples have masks."""

    def __len__(self) -> int:
        """Number of samples per epoch."""
        return len(self.mixture)

    def __getitem__(self, draw: SampleRef) -> TrainingExample | SkippedSample:
        """The example at a position of the run, or a `SkippedSample` with the error."""
        sample = self.mixture.sample(draw)
        try:
            return self.example(sample, np.random.default_rng((self.mixture.seed, draw.position)))
        except (ValueError, OSError) as error:
            return SkippedSample(sample.id, str(error))

    def example(self, sample: Sample, rng: np.random.Generator) -> TrainingExample:
        """Load a sample.

        Args:
            sample: the sample.
            rng: selects frames, templates and turns.

        Raises:
            ValueError: the sample cannot be used, or has too many tokens.
            OSError: a file cannot be read.
        """
        if not sample.has_video:
            return self._text_example(conversations.build_conversation(sample, rng, self.config))
        video = media.probe_video(sample.video, *(() if sample.fps is None else (sample.fps,)))
        indices = frame_sampling.frame_indices(sample, video, self.config, rng)
        images = self._images(video, indices)  # [T, H, W, 3]
        patches = frames.llm_pixels(images, *self._pixel_bounds(len(images)))
        clip = SampledClip(video=video, indices=indices, patches=patches)
        conversation = conversations.build_conversation(sample, rng, self.config)
        marked = visual_prompts.visual_prompts_of(sample, conversation, clip, self.side, rng)
        note = time_positions.time_marks(self.time_encoding, clip.times) + marked.note
        example = self._text_example(conversation, [patches.num_tokens], [note])
        example["pixel_values_videos"], example["video_grid_thw"] = patches.pixel_values, patches.grid_thw[None]
        example["frame_times"] = clip.times
        example["places"], example["regions"] = marked.places, marked.regions
        if conversation.masks and self.has_masks:
            places = frame_sampling.stratified_indices(len(indices), self.config.mask_frames, rng)
            mask_images = images if len(places) == len(images) else images[places]
            example["frames"] = frames.decoder_frames(mask_images, self.side)
            mask_indices = [indices[place] for place in places]
            objects = [gold_mask(sample, targets, mask_indices, self.side) for targets in conversation.masks]
            example["masks"] = torch.cat(objects, dim=1)  # [M, O, S, S]
        return example

    @cached_property
    def cache(self) -> FrameCache | None:
        """Cache of decoded frames on disk; None without `DataConfig.frame_cache`."""
        folder = self.config.frame_cache
        return None if folder is None else FrameCache(folder, round(self.config.frame_cache_gb * 1e9))

    def _images(self, video: media.Video, indices: Sequence[int]) -> np.ndarray:
        return media.load_frames(video, indices) if self.cache is None else self.cache.load(video, indices)

    def _text_example(
        self,
        conversation: conversations.TrainingConversation,
        video_tokens: Sequence[int] = (),
        notes: Sequence[str] = (),
    ) -> TrainingExample:
        encoded = chat_format.encode_conversation(self.tokenizer, conversation.messages, video_tokens, notes=notes)
        if len(encoded.input_ids) > self.config.max_tokens:
            raise ValueError(f"{len(encoded.input_ids)} tokens exceed --max-tokens {self.config.max_tokens}")
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
    """Ground truth mask of some objects, as their union: bool [M, 1, S, S].

    Args:
        sample: with masks, tracks or a label map.
        targets: indices of the objects; None = all.
        indices: M frame indices.
        side: S.
    """
    if sample.masks is not None:
        object_masks = _from_folder(sample, indices)
    elif sample.label_map is not None:
        object_masks = _from_label_map(sample, targets, indices)
    else:
        object_masks = _from_tracks(sample, targets, indices)
    labels = torch.zeros(len(indices), 1, side, side, dtype=torch.bool)
    for place, mask in object_masks.items():
        labels[place] = frames.label_masks(mask[None, None], side)[0]
    return labels


def _from_tracks(sample: Sample, targets: conversations.Targets, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Position in `indices` -> bool [H, W], for frames with an object."""
    tracks = tracks_of(sample, targets)
    object_masks: dict[int, np.ndarray] = {}
    for place, index in enumerate(indices):
        parts: list[RLE] = [track.masks[index] for track in tracks if index in track.masks]
        if parts:
            object_masks[place] = masks.decode(masks.union(parts))
    return object_masks


def _from_folder(sample: Sample, indices: Sequence[int]) -> dict[int, np.ndarray]:
    assert sample.masks is not None
    paths = masks.read_folder(sample.masks)
    return {place: masks.read_png(paths[index]) for place, index in enumerate(indices) if index in paths}


def _from_label_map(sample: Sample, targets: conversations.Targets, indices: Sequence[int]) -> dict[int, np.ndarray]:
    assert sample.label_map is not None
    labels = masks.read_labels(sample.label_map)
    mask = labels > 0 if targets is None else np.isin(labels, targets)
    return {place: mask for place, index in enumerate(indices) if index == 0 and mask.any()}
