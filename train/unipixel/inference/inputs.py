"""Model inputs of conversations: tokens, frames and visual prompts, collated into batches.

Legend: B conversations, L tokens, T sampled frames, O objects.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evqa.models.frame_policy import VideoCache
from evqa.models.messages import ImagePart, Message, ToolSpec, VideoPart
from evqa.models.sampling import RowDecoding
from unipixel.data import chat_format, frames
from unipixel.data.clip import FrameSampling, SampledClip, load_clip
from unipixel.model import time_positions, visual_prompts
from unipixel.model.unipixel import UniPixel

KEPT_CLIPS = 2
"""Number of videos with cached patches (a long one takes 300 MB): several turns about one video decode it once."""


GREEDY = RowDecoding(temperature=0.0, seed=0, max_tokens=512)
"""Default decoding."""


class VisualInput(NamedTuple):
    """Tokens and times of a video or image for the language model."""

    patches: frames.VideoPatches
    times: list[float]
    """Frame times in seconds; 0 for an image."""


class ModelInputs(NamedTuple):
    """Model inputs of one conversation."""

    input_ids: Tensor
    """int64 [L]"""
    clip: SampledClip | None
    """First video, for which masks are predicted; None = no video. In an evaluation it is `Sample.video`."""
    visual: list[VisualInput]
    """Videos and images, in order."""
    places: list[visual_prompts.PromptPlace]
    regions: list[Tensor | None]
    """Regions, one entry per element of `visual`."""
    draw: int = 0
    """Index of the sample for the same conversation; each has its own noise."""
    decoding: RowDecoding = GREEDY
    has_tools: bool = False
    """Whether the reply may call tools, so that its text is parsed for calls."""

    def noise_seed(self) -> int:
        """Seed of the noise, derived from the decoding seed, the index of the sample, the tokens and the pixels."""
        seed = self.decoding.seed
        start = zlib.crc32(b"%d" % self.draw, seed) if self.draw else seed
        parts = [self.input_ids, *(visual.patches.pixel_values for visual in self.visual)]
        return functools.reduce(lambda digest, part: zlib.crc32(part.numpy().data, digest), parts, start)


class InputProcessor:
    """Processor that builds the model inputs of conversations; thread-safe."""

    def __init__(self, model: UniPixel, tokenizer: PreTrainedTokenizerBase, plan: FrameSampling) -> None:
        self.plan = plan
        self._model, self._tokenizer = model, tokenizer
        self._padding = chat_format.eos_token_ids(tokenizer)[-1]
        self._clips: VideoCache[SampledClip] = VideoCache(
            lambda path: load_clip(VideoPart(path), plan), capacity=KEPT_CLIPS
        )

    def read(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), is_open: bool = True) -> ModelInputs:
        """Encode a conversation; `is_open` = a reply follows. `ValueError`: a video or image cannot be read."""
        videos = self.load_videos(messages)
        config = self._model.config
        visual: list[VisualInput] = []
        notes: list[str] = []
        places: list[visual_prompts.PromptPlace] = []
        regions: list[Tensor | None] = []
        for part in (part for message in messages for part in message.parts):
            if isinstance(part, VideoPart):
                video = videos[part.path]
                cells = video.cells(part)
                visual.append(VisualInput(video.patches, video.times))
                notes.append(time_positions.time_marks(config.time_encoding, video.times) + video.region_note(cells))
                places += [video.place(place, config.sam2_image_size) for place in part.prompts]
                regions.append(cells)
            elif isinstance(part, ImagePart):
                visual.append(VisualInput(self._still(part), [0.0]))
                notes.append("")
                regions.append(None)
        num_tokens = [visual_input.patches.num_tokens for visual_input in visual]
        encoded = chat_format.encode_conversation(
            self._tokenizer, messages, num_tokens, notes=notes, reply=is_open, tools=tools
        )
        self._check_places(encoded.input_ids, places)
        first = next(iter(videos.values()), None)
        return ModelInputs(encoded.input_ids, first, visual, places, regions, has_tools=bool(tools))

    def load_videos(self, messages: Sequence[Message]) -> dict[Path, SampledClip]:
        """Sampled frames of the videos of a conversation, in order. Videos without prompts are cached."""
        parts: dict[Path, list[VideoPart]] = {}
        for part in (part for message in messages for part in message.parts):
            if isinstance(part, VideoPart):
                parts.setdefault(part.path, []).append(part)
        return {path: self._load_video(path, uses) for path, uses in parts.items()}

    def _load_video(self, path: Path, uses: Sequence[VideoPart]) -> SampledClip:
        """Load a video with the points, boxes and regions of all its parts; their frames are among the sampled ones."""
        places = tuple(place for part in uses for place in part.prompts)
        regions = tuple(region for part in uses for region in part.regions)
        if places or regions:
            return load_clip(VideoPart(path, places, regions), self.plan)
        return self._clips.get(path)

    def collate(self, batch: Sequence[ModelInputs]) -> dict[str, Any]:
        """Batch of several conversations [B, L], padded on the left."""
        rows = [inputs.input_ids for inputs in batch]
        longest = max(map(len, rows))
        padded = [torch.nn.functional.pad(row, (longest - len(row), 0), value=self._padding) for row in rows]
        lengths = torch.tensor([len(row) for row in rows])
        is_token = torch.arange(longest) >= longest - lengths[:, None]
        device = self._model.device
        text = {"input_ids": torch.stack(padded).to(device), "attention_mask": is_token.long().to(device)}
        return text | self._visual_inputs([visual for row in batch for visual in row.visual]) | self._prompts(batch)

    def _visual_inputs(self, batch: Sequence[VisualInput]) -> dict[str, Any]:
        if not batch:
            return {}
        pixels = torch.cat([visual.patches.pixel_values for visual in batch])
        return {
            "pixel_values_videos": pixels.to(self._model.device, self._model.dtype),
            "video_grid_thw": torch.stack([visual.patches.grid_thw for visual in batch]).to(self._model.device),
            "frame_times": [visual.times for visual in batch],
        }

    def _prompts(self, batch: Sequence[ModelInputs]) -> dict[str, Any]:
        """Points, boxes and regions of a batch; empty = none."""
        places = [place for row in batch for place in row.places]
        regions = [region for row in batch for region in row.regions]
        has_regions = any(region is not None for region in regions)
        return ({"places": places} if places else {}) | ({"regions": regions} if has_regions else {})

    def _check_places(self, input_ids: Tensor, places: Sequence[visual_prompts.PromptPlace]) -> None:
        count = int((input_ids == self._model.config.ref_token_id).sum())
        if count != len(places):
            raise ValueError(f"the conversation has {count} <|ref|> tokens, and {len(places)} places came for them")

    def _still(self, still: ImagePart) -> frames.VideoPatches:
        return frames.llm_pixels(still.pixels()[None], self.plan.min_pixels, self.plan.max_pixels)
