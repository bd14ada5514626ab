"""SAM 2.1 prompted by vectors: draws objects on a video's first frame and follows them through the others.

The modules are transformers' `Sam2Video*`; the loop over time is ours, because theirs handles one object at a
time, takes no prompt vectors and is not differentiable. All objects of all videos of a call advance together,
every frame is encoded once, and the same step serves training (gradients through time) and streaming (bounded
memory).

Legend: V videos, T frames, O objects over all videos, K prompt vectors, S side of the square image, g = S/16
side of the coarse features, C hidden width, M memory width, h = S/4 side of the mask logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention

from unipixel.model.config import DecoderSize

ABSENT = -1024.0
"""Mask logit of an object that the decoder says is not in the frame (inference only)."""

NUM_MEMORIES = 7
"""Remembered feature maps that a frame reads: the first frame's and those of the six frames before it."""

NUM_POINTERS = 16
"""Object pointers that a frame reads: the first frame's and those of the fifteen frames before it."""

ENCODE_CHUNK = 16
"""Images that go through the image encoder at once."""

OBJECTS_AT_ONCE = 16
"""Objects that advance together when a video is streamed; more of them take turns on each frame."""

NEVER_TRAINED = (
    "mask_downsample.",
    "prompt_encoder.mask_embed.",
    "prompt_encoder.point_embeddings.",
    "no_memory_positional_encoding",
)
"""Weights that prompts by vectors never use; they are kept for the checkpoint's sake and frozen."""


class Pyramid(NamedTuple):
    """Image features of N frames."""

    fine: Tensor
    """[N, C/8, 4g, 4g]"""
    middle: Tensor
    """[N, C/4, 2g, 2g]"""
    coarse: Tensor
    """[N, C, g, g]"""


class Drawn(NamedTuple):
    """What the decoder draws; one frame, or all with a leading T."""

    masks: Tensor
    """[(T,) O, 3, h, h] logits of three candidates."""
    ious: Tensor
    """[(T,) O, 3] the decoder's own estimate of each candidate's IoU, in [0, 1]."""
    objectness: Tensor
    """[(T,) O] logit of "the object is in the frame"."""

    def best(self) -> tuple[Tensor, Tensor]:
        """Logits [(T,) O, h, h] and estimated IoU [(T,) O] of the candidate with the highest estimate."""
        index = self.ious.argmax(-1, keepdim=True)  # [(T,) O, 1]
        masks = self.masks.take_along_dim(index[..., None, None], dim=-3).squeeze(-3)
        return masks, self.ious.take_along_dim(index, dim=-1).squeeze(-1)


class Memory(NamedTuple):
    """What is kept of a frame, per object."""

    spatial: Tensor | None
    """[g*g, O, M]; None once it is too old to be read."""
    pointer: Tensor
    """[O, C]"""


class Bank(NamedTuple):
    """Memories of the frames so far; a new frame makes a new bank, so that backward can repeat a step."""

    first: Memory
    recent: tuple[Memory, ...]
    """Of frames t-1, t-2, ..., at most fifteen, without the first frame."""
    frame_index: int
    """t, the frame that reads this bank."""


class Setting(NamedTuple):
    """What stays the same from frame to frame."""

    first_prompt: Tensor
    """[O, 1, 2+K, C]"""
    later_prompt: Tensor
    """[O, 1, 2, C]"""
    no_mask: Tensor
    """[1, C, 1, 1]"""
    place: Tensor
    """[1, C, g, g] Fourier encoding of the cells, for the decoder."""
    sine: Tensor
    """[g*g, 1, C] sine encoding of the cells, for the frame that reads."""
    memory_sine: Tensor
    """[g*g, 1, M] the same for the memory that is read."""
    num_frames: int
    occlude: bool
    """Erase the mask of an object that is said to be absent, as inference does and training does not."""


def decoder_config(size: DecoderSize, image_size: int) -> Sam2VideoConfig:
    """Config of transformers' SAM 2.1 for a square image of `image_size` pixels."""
    grid, stages = image_size // 16, (1, 2, 4, 8)
    widths = [size.embed * scale for scale in stages]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": size.embed,
        "num_attention_heads": size.heads,
        "image_size": [image_size, image_size],
        "blocks_per_stage": list(size.blocks),
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [size.heads * scale for scale in stages],
        "window_size_per_stage": list(size.windows),
        "global_attention_blocks": list(size.global_blocks),
        "window_positional_embedding_background_size": [size.background, size.background],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": size.hidden,
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[grid * scale, grid * scale] for scale in (4, 2, 1)],
    }
    return Sam2VideoConfig(
        image_size=image_size,
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=size.hidden, image_size=image_size),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(hidden_size=size.hidden),
        memory_attention_hidden_size=size.hidden,
        memory_attention_num_layers=size.memory_layers,
        memory_attention_feed_forward_hidden_size=size.memory_feed_forward,
        memory_attention_rope_feat_sizes=[grid, grid],
        memory_attention_dropout=size.dropout,
        memory_attention_rope_dropout=size.dropout,
        memory_encoder_hidden_size=size.hidden,
        memory_encoder_output_channels=size.memory,
        mask_downsampler_embed_dim=size.hidden,
        memory_fuser_embed_dim=size.hidden,
        memory_fuser_intermediate_dim=4 * size.hidden,
    )


class MaskTracker(Sam2VideoModel):
    """SAM 2.1 over time for prompt vectors. Published weight names load and save (see `weight_names`)."""

    supports_gradient_checkpointing = True

    def __init__(self, config: Sam2VideoConfig) -> None:
        super().__init__(config)
        del self.shared_image_embedding  # a second copy of prompt_encoder.shared_embedding
        del self.prompt_encoder.point_embed
        points = [nn.Embedding(1, self.hidden_dim) for _ in range(4)]
        self.prompt_encoder.point_embeddings = nn.ModuleList(points)
        if self.mem_dim != 64:  # transformers builds these layers for a memory width of 64 only
            for layer in self.memory_attention.layers:
                layer.cross_attn_image = Sam2VideoRoPEAttention(config, kv_in_dim=self.mem_dim, rope_k_repeat=True)
        assert isinstance(config.image_size, int), config.image_size
        self._side = config.image_size
        self.gradient_checkpointing = False
        self.freeze_unused()

    def freeze_unused(self) -> None:
        """Freeze what prompt vectors never reach (loading a checkpoint forgets it)."""
        for name, parameter in self.named_parameters():
            if name.startswith(NEVER_TRAINED):
                parameter.requires_grad_(False)  # noqa: FBT003

    @property
    def side(self) -> int:
        """S, the side of the square image in pixels."""
        return self._side

    def forward(  # type: ignore[override]
        self, frames: Tensor, prompts: Tensor, video_index: Tensor | None = None
    ) -> Drawn:
        """Draw and follow every object through its whole video; for training.

        Args:
            frames: [V, T, 3, S, S] (see `unipixel.data.frames.decoder_frames`); T = 1 draws on single images.
            prompts: [O, K, C].
            video_index: [O] long, the video of each object; None where there is one video.

        Returns:
            Masks of all T frames [T, O, 3, h, h], with gradients through time.
        """
        num_videos, num_frames = frames.shape[:2]
        pyramid = self.encode(frames.flatten(0, 1))
        levels = [level.unflatten(0, (num_videos, num_frames)) for level in pyramid]
        setting = self._setting(prompts, num_frames, occlude=False)
        bank, drawn = None, []
        for frame_index in range(num_frames):
            features = Pyramid(*(_of_objects(level[:, frame_index], video_index) for level in levels))
            step = self._step_again if self.gradient_checkpointing and self.training else self._step
            frame, memory = step(features, bank, setting, is_read_later=frame_index < num_frames - 1)
            bank = _remember(bank, memory)
            drawn.append(frame)
        return Drawn(*(torch.stack(values) for values in zip(*drawn, strict=True)))

    def stream(self, frames: Iterable[Tensor], prompts: Tensor, num_frames: int) -> Iterator[Drawn]:
        """Draw and follow the objects of one video, frame by frame; memory does not grow with its length.

        Args:
            frames: [3, S, S] each, on any device.
            prompts: [O, K, C].
            num_frames: how many frames will come; it scales the time of object pointers below 16 frames.
        """
        settings = [self._setting(part, num_frames, occlude=True) for part in prompts.split(OBJECTS_AT_ONCE)]
        banks: list[Bank | None] = [None] * len(settings)
        for chunk in _chunks(frames, ENCODE_CHUNK):
            pyramid = self.encode(torch.stack(chunk).to(self.device))
            for index in range(len(chunk)):
                features = Pyramid(*(level[index : index + 1] for level in pyramid))
                steps = [
                    self._step(features, bank, setting, is_read_later=True)
                    for bank, setting in zip(banks, settings, strict=True)
                ]
                banks = [_remember(bank, memory) for bank, (_, memory) in zip(banks, steps, strict=True)]
                drawn = zip(*(frame for frame, _ in steps), strict=True)
                yield Drawn(*(torch.cat(values) for values in drawn))

    def encode(self, frames: Tensor) -> Pyramid:
        """Image features of frames [N, 3, S, S]."""
        assert frames.shape[-2:] == (self.side, self.side), f"frames of {self.side} px expected, got {frames.shape}"
        dtype = self.no_memory_embedding.dtype
        parts = [self.vision_encoder(part).fpn_hidden_states for part in frames.to(dtype).split(ENCODE_CHUNK)]
        fine, middle, coarse = (torch.cat(level) for level in zip(*parts, strict=True))
        return Pyramid(self.mask_decoder.conv_s0(fine), self.mask_decoder.conv_s1(middle), coarse)

    def start_from_scratch(self) -> None:
        """Torch's own random start for every weight; transformers' (normal 0.02) starves small decoders."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding | nn.LayerNorm):
                module.reset_parameters()
        for layer in self.memory_encoder.memory_fuser.layers:
            nn.init.constant_(layer.get_parameter("scale"), 1e-6)
        for name in (
            "no_memory_embedding",
            "no_memory_positional_encoding",
            "memory_temporal_positional_encoding",
            "no_object_pointer",
            "occlusion_spatial_embedding_parameter",
            "vision_encoder.backbone.pos_embed",
            "vision_encoder.backbone.pos_embed_window",
        ):
            nn.init.trunc_normal_(self.get_parameter(name), std=0.02)

    def _step_again(
        self, features: Pyramid, bank: Bank | None, setting: Setting, *, is_read_later: bool
    ) -> tuple[Drawn, Memory | None]:
        """`_step`, computed once more in backward instead of kept."""
        step = partial(self._step, is_read_later=is_read_later)
        return checkpoint(step, features, bank, setting, use_reentrant=False)  # type: ignore[return-value]

    def _step(
        self, features: Pyramid, bank: Bank | None, setting: Setting, *, is_read_later: bool
    ) -> tuple[Drawn, Memory | None]:
        """One frame of all objects; features have batch O, or 1 where all objects share the frame."""
        objects = len(setting.first_prompt)
        image = self._read(features.coarse.expand(objects, -1, -1, -1), bank, setting)
        masks, ious, tokens, objectness = self.mask_decoder(
            image_embeddings=image,
            image_positional_embeddings=setting.place,
            sparse_prompt_embeddings=setting.first_prompt if bank is None else setting.later_prompt,
            dense_prompt_embeddings=setting.no_mask,
            multimask_output=True,
            high_resolution_features=[features.fine, features.middle],
        )
        masks, ious, tokens, objectness = masks[:, 0], ious[:, 0], tokens[:, 0], objectness[:, 0, 0]
        is_present = objectness > 0  # [O]
        if setting.occlude:
            masks = torch.where(is_present[:, None, None, None], masks, ABSENT)
        frame = Drawn(masks, ious, objectness)
        if not is_read_later:
            return frame, None
        token = tokens[torch.arange(objects, device=tokens.device), ious.argmax(-1)]
        pointer = torch.where(is_present[:, None], self.object_pointer_proj(token), self.no_object_pointer)
        return frame, Memory(self._write(features.coarse, frame, is_present), pointer)

    def _read(self, coarse: Tensor, bank: Bank | None, setting: Setting) -> Tensor:
        """Features [O, C, g, g] in the light of what is remembered."""
        if bank is None:
            return coarse + self.no_memory_embedding.view(1, -1, 1, 1)
        memory, positions, num_pointer_tokens = self._recall(bank, setting)
        sequence = coarse.flatten(2).permute(2, 0, 1)  # [g*g, O, C]
        read = self.memory_attention(sequence, memory, setting.sine, positions, num_pointer_tokens)
        return read.squeeze(0).transpose(1, 2).unflatten(2, coarse.shape[-2:])  # [O, C, g, g]

    def _recall(self, bank: Bank, setting: Setting) -> tuple[Tensor, Tensor, int]:
        """What frame t reads: features and positions [L, O, M], and how many of the last tokens are pointers.

        First frame, then t-6 ... t-1; a feature map is told its distance in time by one of seven learned
        vectors. Then the pointers of the first frame, t-1, t-2, ..., each cut into C/M tokens of width M,
        with a sine of the distance.
        """
        time = self.memory_temporal_positional_encoding[:, 0]  # [7, 1, M]
        near = [(memory.spatial, i) for i, memory in enumerate(bank.recent[: NUM_MEMORIES - 1])]
        maps = [(bank.first.spatial, NUM_MEMORIES - 1), *reversed(near)]
        features = [spatial for spatial, _ in maps if spatial is not None]
        positions = [(setting.memory_sine + time[i]).expand_as(features[0]) for _, i in maps]

        recent = bank.recent[: NUM_POINTERS - 1]
        pointers = torch.stack([bank.first.pointer, *(memory.pointer for memory in recent)])  # [P, O, C]
        distances = [bank.frame_index, *range(1, len(recent) + 1)]
        scaled = torch.tensor(distances, device=pointers.device) / max(min(setting.num_frames, NUM_POINTERS) - 1, 1)
        when = self.temporal_positional_encoding_projection_layer(_sine_1d(scaled, self.hidden_dim).to(pointers.dtype))
        pieces = self.hidden_dim // self.mem_dim
        tokens = pointers.unflatten(2, (pieces, self.mem_dim)).transpose(1, 2).flatten(0, 1)  # [P*pieces, O, M]
        when = when.repeat_interleave(pieces, 0)[:, None].expand_as(tokens)
        return torch.cat([*features, tokens]), torch.cat([*positions, when]), len(tokens)

    def _write(self, coarse: Tensor, frame: Drawn, is_present: Tensor) -> Tensor:
        """Features of the frame with the best mask drawn in, to be read later: [g*g, O, M]."""
        logits = F.interpolate(frame.best()[0][:, None].float(), size=(self.side, self.side), mode="bilinear")
        mask = logits.sigmoid() * self.config.sigmoid_scale_for_mem_enc + self.config.sigmoid_bias_for_mem_enc
        features, _ = self.memory_encoder(coarse, mask.to(coarse.dtype))
        absent = self.get_parameter("occlusion_spatial_embedding_parameter") * (~is_present[:, None]).to(
            coarse.dtype
        )  # [O, M]
        return (features + absent[:, :, None, None]).flatten(2).permute(2, 0, 1)

    def _setting(self, prompts: Tensor, num_frames: int, *, occlude: bool) -> Setting:
        """Position encodings are computed in fp32 whatever the model's type: bf16 is off by up to 0.07."""
        dtype, grid = self.no_memory_embedding.dtype, self.side // 16
        no_point = self.prompt_encoder.not_a_point_embed.weight.expand(len(prompts), 1, 2, -1)
        matrix = self.prompt_encoder.shared_embedding.positional_embedding.float()  # [2, C/2]
        centres = (torch.arange(grid, device=matrix.device) + 0.5) / grid * 2 - 1
        cells = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)  # [g, g, (x, y)]
        angles = 2 * math.pi * (cells @ matrix)
        place = torch.cat([angles.sin(), angles.cos()], dim=-1).permute(2, 0, 1)[None]
        return Setting(
            first_prompt=torch.cat([no_point, prompts[:, None].to(dtype)], dim=2),
            later_prompt=no_point,
            no_mask=self.prompt_encoder.no_mask_embed.weight[:, :, None, None],
            place=place.to(dtype),
            sine=_sine_2d(grid, self.hidden_dim, matrix.device).to(dtype),
            memory_sine=_sine_2d(grid, self.mem_dim, matrix.device).to(dtype),
            num_frames=num_frames,
            occlude=occlude,
        )


def _remember(bank: Bank | None, memory: Memory | None) -> Bank | None:
    if memory is None:
        return bank
    if bank is None:
        return Bank(memory, (), 1)
    recent = [memory, *bank.recent[: NUM_POINTERS - 2]]
    old = [m._replace(spatial=None) for m in recent[NUM_MEMORIES - 1 :]]
    return Bank(bank.first, (*recent[: NUM_MEMORIES - 1], *old), bank.frame_index + 1)


def _of_objects(level: Tensor, video_index: Tensor | None) -> Tensor:
    """Features per object from features per video; a single video's stay as they are and broadcast."""
    return level if len(level) == 1 or video_index is None else level[video_index]


def _chunks(frames: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    chunk: list[Tensor] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _sine_1d(times: Tensor, width: int) -> Tensor:
    """Sines of times [P] at width/2 wavelengths, then their cosines: [P, width]."""
    half = torch.arange(width // 2, device=times.device)
    angles = times[:, None].float() / 10000.0 ** (2 * (half // 2) / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _sine_2d(grid: int, width: int, device: torch.device) -> Tensor:
    """Row, then column of each cell, as interleaved sines and cosines: [grid*grid, 1, width]."""
    place = torch.arange(1, grid + 1, device=device) / (grid + 1e-6) * 2 * math.pi
    half = torch.arange(width // 2, device=device)
    angles = place[:, None] / 10000.0 ** (2 * (half // 2) / (width // 2))  # [grid, width/2]
    line = torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)
    rows = line[:, None].expand(grid, grid, -1)
    columns = line[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)[:, None]
