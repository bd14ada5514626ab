"""Conversations as the model takes them: tokens and what these stand for, several as one batch.

Legend: B conversations, L tokens, T sampled frames, O objects.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evqa.models.frame_policy import VideoCache
from evqa.models.messages import ImagePart, Message, VideoPart
from unipixel.data import chat_format, frames
from unipixel.data.clip import FrameSampling, SampledClip, load_clip
from unipixel.model import time_positions, visual_prompts
from unipixel.model.unipixel import UniPixel

KEPT_CLIPS = 2
"""Clips that are kept as patches (a long one takes 300 MB): several turns on one video decode it once."""


class VisualInput(NamedTuple):
    """A video or a picture as tokens and times of the language model."""

    patches: frames.VideoPatches
    times: list[float]
    """Seconds of the frames; a picture is at 0."""


class ModelInputs(NamedTuple):
    """A conversation as the model takes it."""

    input_ids: Tensor
    """int64 [L]"""
    clip: SampledClip | None
    """Its video."""
    visual: list[VisualInput]
    """Its clips and pictures, in order."""
    places: list[visual_prompts.PromptPlace]
    regions: list[Tensor | None]
    """One for each of `visual`."""
    draw: int = 0
    """Number of the sampled reply to the same question: each has noise of its own."""

    def digest(self, seed: int) -> int:
        """A number that follows from a seed, the number of the draw and what is asked of which pixels."""
        start = zlib.crc32(b"%d" % self.draw, seed) if self.draw else seed
        parts = [self.input_ids, *(one.patches.pixel_values for one in self.visual)]
        return functools.reduce(lambda so_far, part: zlib.crc32(part.numpy().data, so_far), parts, start)


class InputProcessor:
    """Reads conversations for a model; any number of threads may."""

    def __init__(self, model: UniPixel, tokenizer: PreTrainedTokenizerBase, plan: FrameSampling) -> None:
        self.plan = plan
        self._model, self._tokenizer = model, tokenizer
        self._padding = chat_format.eos_token_ids(tokenizer)[-1]
        self._clips: VideoCache[SampledClip] = VideoCache(
            lambda path: load_clip(VideoPart(path), plan), kept=KEPT_CLIPS
        )

    def read(self, messages: Sequence[Message], *, is_open: bool = True) -> ModelInputs:
        """Tokens and what they stand for; `is_open` = a reply is to follow."""
        watched = self.load_video(messages)
        config = self._model.config
        seen, notes, places, regions = [], [], [], []
        for part in (part for message in messages for part in message.parts):
            if isinstance(part, VideoPart):
                assert watched is not None
                cells = watched.cells(part)
                seen.append(VisualInput(watched.patches, watched.times))
                notes.append(time_positions.time_marks(config.clock, watched.times) + watched.region_note(cells))
                places += [watched.place(place, config.sam2_image_size) for place in part.prompts]
                regions.append(cells)
            elif isinstance(part, ImagePart):
                seen.append(VisualInput(self._still(part), [0.0]))
                notes.append("")
                regions.append(None)
        tokens = [one.patches.num_tokens for one in seen]
        encoded = chat_format.encode_conversation(self._tokenizer, messages, tokens, notes=notes, reply=is_open)
        self._check_places(encoded.input_ids, places)
        return ModelInputs(encoded.input_ids, watched, seen, places, regions)

    def load_video(self, messages: Sequence[Message]) -> SampledClip | None:
        """The conversation's video. One that nothing is pointed at in is kept for the next questions about it."""
        clips = [part for message in messages for part in message.parts if isinstance(part, VideoPart)]
        if len(paths := {clip.path for clip in clips}) > 1:
            raise ValueError(f"one video per conversation, got {', '.join(sorted(map(str, paths)))}")
        if not clips:
            return None
        places = tuple(place for clip in clips for place in clip.prompts)
        regions = tuple(region for clip in clips for region in clip.regions)
        if places or regions:
            return load_clip(VideoPart(clips[0].path, places, regions), self.plan)
        return self._clips.get(clips[0].path)

    def collate(self, asked: Sequence[ModelInputs]) -> dict[str, Any]:
        """Inputs of the model for several conversations [B, L], padded on the left."""
        rows = [one.input_ids for one in asked]
        longest = max(map(len, rows))
        padded = [torch.nn.functional.pad(row, (longest - len(row), 0), value=self._padding) for row in rows]
        lengths = torch.tensor([len(row) for row in rows])
        is_token = torch.arange(longest) >= longest - lengths[:, None]
        device = self._model.device
        text = {"input_ids": torch.stack(padded).to(device), "attention_mask": is_token.long().to(device)}
        return text | self._shown([one for row in asked for one in row.visual]) | self._pointed(asked)

    def _shown(self, seen: Sequence[VisualInput]) -> dict[str, Any]:
        if not seen:
            return {}
        pixels = torch.cat([one.patches.pixel_values for one in seen])
        return {
            "pixel_values_videos": pixels.to(self._model.device, self._model.dtype),
            "video_grid_thw": torch.stack([one.patches.grid_thw for one in seen]).to(self._model.device),
            "frame_times": [one.times for one in seen],
        }

    def _pointed(self, asked: Sequence[ModelInputs]) -> dict[str, Any]:
        """Nothing where nothing is pointed at."""
        places = [place for row in asked for place in row.places]
        regions = [region for row in asked for region in row.regions]
        is_shown = any(region is not None for region in regions)
        return ({"places": places} if places else {}) | ({"regions": regions} if is_shown else {})

    def _check_places(self, input_ids: Tensor, places: Sequence[visual_prompts.PromptPlace]) -> None:
        count = int((input_ids == self._model.config.ref_token_id).sum())
        if count != len(places):
            raise ValueError(f"the conversation has {count} <|ref|> tokens, and {len(places)} places came for them")

    def _still(self, still: ImagePart) -> frames.VideoPatches:
        return frames.llm_pixels(still.pixels()[None], self.plan.min_pixels, self.plan.max_pixels)
