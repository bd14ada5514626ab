"""SAM 2.1 for videos: objects are prompted by vectors, points, boxes or masks on one frame and propagated.

    frame -> encode -> attend_memory -> decode (mask candidates) -> make_memory

The modules are those of `Sam2Video*` of transformers; the loop over time is ours, because theirs processes one object
at a time, has no prompts by vectors and is not differentiable. All objects of all videos of a call are processed
together, each frame is encoded once, and the same `step` is used in training (`forward`: gradients through time) and
for long videos (`unipixel.model.sam2.streaming`: constant memory).

Legend: V videos, T frames, O objects over all videos, K prompt vectors, S side of the square image, g = S/16
side of the coarse features, C hidden width, M memory width, h = S/4 side of the mask logits.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention

from unipixel.model.sam2.encoder import replace_attention
from unipixel.model.sam2.memory import NUM_POINTERS, FrameMemory, MemoryBank, first_bank, sine_1d, sine_2d
from unipixel.model.sam2.outputs import ABSENT, DecoderOutput, ImageFeatures, MaskCandidates, StepConstants
from unipixel.model.sam2.rotary import use_rotary

ENCODE_CHUNK = 16
"""Batch size of the image encoder."""

NEVER_TRAINED = (
    "mask_downsample.",
    "prompt_encoder.mask_embed.",
    "prompt_encoder.point_embeddings.",
    "no_memory_positional_encoding",
)
"""Weights that are not used with prompt vectors; they are frozen, and used for points, boxes and masks."""


class MaskTracker(Sam2VideoModel):
    """SAM 2.1 for videos, with published names of weights (see `weight_names`)."""

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
        replace_attention(self.vision_encoder)
        use_rotary(self.memory_attention)
        assert isinstance(config.image_size, int), config.image_size
        self._side = config.image_size
        self.gradient_checkpointing = False
        self.freeze_unused()

    def freeze_unused(self) -> None:
        """Freeze the weights of `NEVER_TRAINED`; to be repeated after loading a checkpoint."""
        for name, parameter in self.named_parameters():
            if name.startswith(NEVER_TRAINED):
                parameter.requires_grad_(False)  # noqa: FBT003

    @property
    def side(self) -> int:
        """S, the side of the square input in pixels."""
        return self._side

    def forward(  # type: ignore[override]
        self, frames: Tensor, prompts: Tensor, video_index: Tensor | None = None
    ) -> MaskCandidates:
        """Segment and track every object through its video, for training.

        Args:
            frames: [V, T, 3, S, S] (see `unipixel.data.frames.decoder_frames`); T = 1 for images.
            prompts: [O, K, C].
            video_index: [O] long, the video of each object; None = a single video.

        Returns:
            Mask candidates of all frames [T, O, 3, h, h], with gradients through time.
        """
        num_videos, num_frames = frames.shape[:2]
        pyramid = self.encode(frames.flatten(0, 1))
        levels = [level.unflatten(0, (num_videos, num_frames)) for level in pyramid]
        setting = self.setting(occlude=False)
        scale = self.pointer_scale([num_frames])
        step = self._step_again if self.gradient_checkpointing and self.training else self.step
        bank, candidates = None, []
        for frame_index in range(num_frames):
            features = ImageFeatures(*(of_objects(level[:, frame_index], video_index) for level in levels))
            read_by = bank if bank is not None else self.vector_prompt(prompts)
            frame, memory = step(features, read_by, setting, scale, is_read_later=frame_index < num_frames - 1)
            if memory is not None:
                bank = first_bank(memory) if bank is None else bank.after(memory)
            candidates.append(frame)
        return MaskCandidates(*(torch.stack(values) for values in zip(*candidates, strict=True)))

    def encode(self, frames: Tensor) -> ImageFeatures:
        """Image features of frames [N, 3, S, S]."""
        assert frames.shape[-2:] == (self.side, self.side), f"expected frames of {self.side} px, got {frames.shape}"
        dtype = self.no_memory_embedding.dtype
        parts = [self.vision_encoder(part).fpn_hidden_states for part in frames.to(dtype).split(ENCODE_CHUNK)]
        fine, middle, coarse = (torch.cat(level) for level in zip(*parts, strict=True))
        return ImageFeatures(self.mask_decoder.conv_s0(fine), self.mask_decoder.conv_s1(middle), coarse)

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

    def setting(self, *, occlude: bool) -> StepConstants:
        """Constants of all steps of a call; position encodings are computed in fp32, as bf16 has errors up to 0.07.

        Args:
            occlude: erase the masks of absent objects, as in inference.
        """
        dtype, grid = self.no_memory_embedding.dtype, self.side // 16
        device = self.no_memory_embedding.device
        centres = (torch.arange(grid, device=device) + 0.5) / grid
        cells = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)  # [g, g, (x, y)]
        return StepConstants(
            no_point=self.prompt_encoder.not_a_point_embed.weight.expand(1, 1, 2, -1),
            no_mask=self.prompt_encoder.no_mask_embed.weight[:, :, None, None],
            place=self.fourier(cells).permute(2, 0, 1)[None].to(dtype),
            sine=sine_2d(grid, self.hidden_dim, device).to(dtype),
            memory_sine=sine_2d(grid, self.mem_dim, device).to(dtype),
            occlude=occlude,
        )

    def fourier(self, places: Tensor) -> Tensor:
        """Fourier encoding [..., C] in fp32 of points [..., (x, y)], relative to the side of the image."""
        matrix = self.prompt_encoder.shared_embedding.positional_embedding.float()  # [2, C/2]
        angles = 2 * math.pi * ((2 * places.float() - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def vector_prompt(self, vectors: Tensor) -> Tensor:
        """Prompt tokens [O, 1, 2+K, C] from prompt vectors [O, K, C], for the prompted frame."""
        no_point = self.prompt_encoder.not_a_point_embed.weight.expand(len(vectors), 1, 2, -1)
        return torch.cat([no_point, vectors[:, None].to(no_point.dtype)], dim=2)

    def pointer_scale(self, num_frames: list[int]) -> Tensor:
        """Scale of the temporal encoding of object pointers for videos of `num_frames` frames: [len(num_frames)]."""
        scales = [max(min(count, NUM_POINTERS) - 1, 1) for count in num_frames]
        return torch.tensor(scales, device=self.no_memory_embedding.device)

    def step(
        self,
        features: ImageFeatures,
        reads: MemoryBank | Tensor,
        setting: StepConstants,
        scale: Tensor,
        *,
        is_read_later: bool,
    ) -> tuple[MaskCandidates, FrameMemory | None]:
        """Segment one frame for all objects and encode its memory.

        Args:
            features: image features with batch size O, or 1 if all objects share the frame.
            reads: the memory bank or, on the prompted frame, prompt tokens [O, 1, N, C].
            setting: see `setting`.
            scale: [O] or [1], see `pointer_scale`.
            is_read_later: whether to return the memory; else None is returned for it.
        """
        is_prompted = isinstance(reads, Tensor)
        objects = len(reads) if is_prompted else len(reads.first.pointer)
        coarse = features.coarse.expand(objects, -1, -1, -1)
        image = self.without_memory(coarse) if is_prompted else self.attend_memory(coarse, reads, setting, scale)
        sparse = reads if is_prompted else setting.no_point.expand(objects, -1, -1, -1)
        decoded = self.decode(features, image, sparse, setting.no_mask, setting)
        if not is_read_later:
            return decoded.candidates, None
        return decoded.candidates, self.make_memory(features.coarse, decoded, is_binary=False)

    def without_memory(self, coarse: Tensor) -> Tensor:
        """Features [O, C, g, g] of the prompted frame, which has no memory to attend to."""
        return coarse + self.no_memory_embedding.view(1, -1, 1, 1)

    def attend_memory(self, coarse: Tensor, bank: MemoryBank, setting: StepConstants, scale: Tensor) -> Tensor:
        """Memory attention: features [O, C, g, g] conditioned on the memory bank."""
        memory, positions, num_pointer_tokens = self._gather_memory(bank, setting, scale)
        sequence = coarse.flatten(2).permute(2, 0, 1)  # [g*g, O, C]
        read = self.memory_attention(sequence, memory, setting.sine, positions, num_pointer_tokens)
        return read.squeeze(0).transpose(1, 2).unflatten(2, coarse.shape[-2:])  # [O, C, g, g]

    def decode(
        self,
        features: ImageFeatures,
        image: Tensor,
        sparse: Tensor,
        dense: Tensor,
        setting: StepConstants,
        *,
        candidates: bool = True,
    ) -> DecoderOutput:
        """Mask decoder: predict masks from conditioned features.

        Args:
            features: image features of the frame, for the high-resolution skip connections.
            image: [O, C, g, g], output of `attend_memory` or `without_memory`.
            sparse: [O, 1, N, C] prompt tokens.
            dense: [1 or O, C, 1 or g, 1 or g] embedding of a mask prompt.
            setting: see `setting`.
            candidates: predict three masks rather than one.
        """
        masks, ious, tokens, objectness = self.mask_decoder(
            image_embeddings=image,
            image_positional_embeddings=setting.place,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=candidates,
            high_resolution_features=[features.fine, features.middle],
        )
        masks, ious, tokens, objectness = masks[:, 0], ious[:, 0], tokens[:, 0], objectness[:, 0, 0]
        if setting.occlude:
            masks = torch.where((objectness > 0)[:, None, None, None], masks, ABSENT)
        return DecoderOutput(MaskCandidates(masks, ious, objectness), tokens)

    def make_memory(self, coarse: Tensor, decoded: DecoderOutput, *, is_binary: bool) -> FrameMemory:
        """Memory of a frame for later frames: encoded features with the best mask, and the object pointer.

        Args:
            coarse: [1 or O, C, g, g] image features.
            decoded: output of the mask decoder.
            is_binary: encode a binary mask, as inference does for prompts of a user.
        """
        return FrameMemory(self.encode_memory(coarse, decoded.candidates, is_binary=is_binary), self.pointer(decoded))

    def pointer(self, decoded: DecoderOutput) -> Tensor:
        """Object pointers [O, C]; a learned vector for absent objects."""
        candidates, tokens = decoded
        token = tokens[torch.arange(len(tokens), device=tokens.device), candidates.ious.argmax(-1)]
        is_present = candidates.objectness > 0
        return torch.where(is_present[:, None], self.object_pointer_proj(token), self.no_object_pointer)

    def encode_memory(self, coarse: Tensor, candidates: MaskCandidates, *, is_binary: bool) -> Tensor:
        """Memory encoder: features [g*g, O, M] of a frame with its best mask."""
        logits = F.interpolate(candidates.best()[0][:, None].float(), size=(self.side, self.side), mode="bilinear")
        mask = (logits > 0).float() if is_binary else logits.sigmoid()
        mask = mask * self.config.sigmoid_scale_for_mem_enc + self.config.sigmoid_bias_for_mem_enc
        features, _ = self.memory_encoder(coarse, mask.to(coarse.dtype))
        is_absent = (candidates.objectness <= 0)[:, None].to(coarse.dtype)  # [O, 1]
        absent = self.get_parameter("occlusion_spatial_embedding_parameter") * is_absent  # [O, M]
        return (features + absent[:, :, None, None]).flatten(2).permute(2, 0, 1)

    def _gather_memory(self, bank: MemoryBank, setting: StepConstants, scale: Tensor) -> tuple[Tensor, Tensor, int]:
        """Memory tokens of a frame: features and positions [L, O, M], and the number of pointer tokens at the end.

        One of seven learned vectors encodes the distance of a feature map in steps. Each pointer is split into C/M
        tokens of width M, with a sine encoding of its distance.
        """
        time = self.memory_temporal_positional_encoding[:, 0]  # [7, 1, M]
        maps = bank.maps()
        features = [spatial for spatial, _ in maps]
        positions = [(setting.memory_sine + time[distance - 1]).expand_as(features[0]) for _, distance in maps]

        pointers = bank.pointers()  # [P, O, C]
        scaled = torch.tensor(bank.layout, device=pointers.device)[:, None] / scale  # [P, 1 or O]
        times = self.temporal_positional_encoding_projection_layer(sine_1d(scaled, self.hidden_dim).to(pointers.dtype))
        pieces = self.hidden_dim // self.mem_dim
        tokens = pointers.unflatten(2, (pieces, self.mem_dim)).transpose(1, 2).flatten(0, 1)  # [P*pieces, O, M]
        times = times.repeat_interleave(pieces, 0).expand_as(tokens)
        return torch.cat([*features, tokens]), torch.cat([*positions, times]), len(tokens)

    def _step_again(
        self,
        features: ImageFeatures,
        reads: MemoryBank | Tensor,
        setting: StepConstants,
        scale: Tensor,
        *,
        is_read_later: bool,
    ) -> tuple[MaskCandidates, FrameMemory | None]:
        """`step` with activation checkpointing."""
        step = partial(self.step, is_read_later=is_read_later)
        return checkpoint(step, features, reads, setting, scale, use_reentrant=False)  # type: ignore[return-value]


def of_objects(level: Tensor, video_index: Tensor | None) -> Tensor:
    """Features per object from features per video; those of a single video are broadcast."""
    return level if len(level) == 1 or video_index is None else level[video_index]
