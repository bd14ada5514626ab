"""Upstream's protocol, restated plainly: for each object, encode the whole video and track that object alone.

The yardstick of `tracker.py` beside it, and a second opinion for the tests: it shares the weights with
`unipixel.model.sam2.tracker` and none of its code over time; position encodings are transformers' own.

Legend: T frames, K prompt vectors, S side of the square image, C hidden width, h side of the mask logits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPositionEmbeddingSine, get_1d_sine_pe

from unipixel.model.sam2.tracker import MaskTracker

IMAGES_AT_ONCE = 16


class Frame(NamedTuple):
    """What is drawn and kept of a frame."""

    masks: Tensor
    """[1, 3, h, h] logits."""
    ious: Tensor
    """[1, 3]"""
    objectness: Tensor
    """[1, 1] logit."""
    memory: Tensor
    """[g*g, 1, M]"""
    memory_place: Tensor
    """[g*g, 1, M]"""
    pointer: Tensor
    """[1, C]"""


def each_object(model: MaskTracker, frames: Tensor, prompts: Tensor, *, occlude: bool) -> list[list[Frame]]:
    """All objects [O, K, C] of a video [T, 3, S, S], one after the other."""
    return [one_object(model, frames, prompt[None], occlude=occlude) for prompt in prompts]


def one_object(model: MaskTracker, frames: Tensor, prompt: Tensor, *, occlude: bool) -> list[Frame]:
    """One object [1, K, C]; `occlude` erases its mask where it is said to be absent, as at inference."""
    levels = _encoded(model, frames)
    done: list[Frame] = []
    for now in range(len(frames)):
        features = [level[now : now + 1] for level in levels]
        coarse = features[2]
        if now == 0:
            image = coarse + model.no_memory_embedding.view(1, -1, 1, 1)
        else:
            image = _with_memory(model, coarse, done, now, len(frames))
        done.append(_frame(model, features, image, prompt if now == 0 else None, occlude=occlude))
    return done


def _encoded(model: MaskTracker, frames: Tensor) -> list[Tensor]:
    parts = [model.vision_encoder(part).fpn_hidden_states for part in frames.split(IMAGES_AT_ONCE)]
    fine, middle, coarse = (torch.cat(level) for level in zip(*parts, strict=True))
    return [model.mask_decoder.conv_s0(fine), model.mask_decoder.conv_s1(middle), coarse]


def _with_memory(model: MaskTracker, coarse: Tensor, done: list[Frame], now: int, num_frames: int) -> Tensor:
    """The frame in the light of frame 0, the six frames before it, and sixteen object pointers."""
    recent = [index for index in range(now - 6, now) if index > 0]
    time = model.memory_temporal_positional_encoding
    memory = [done[0].memory, *(done[index].memory for index in recent)]
    places = [done[0].memory_place + time[6], *(done[i].memory_place + time[now - i - 1] for i in recent)]
    most = min(num_frames, 16)
    distances = [now, *(d for d in range(1, most) if now - d > 0)]
    pointers = torch.stack([done[now - d].pointer for d in distances])  # [P, 1, C]
    pieces = model.hidden_dim // model.mem_dim
    when = get_1d_sine_pe(torch.tensor(distances) / max(most - 1, 1), model.hidden_dim).to(pointers)
    when = model.temporal_positional_encoding_projection_layer(when)[:, None]  # [P, 1, M]
    memory.append(pointers.reshape(-1, 1, pieces, model.mem_dim).permute(0, 2, 1, 3).flatten(0, 1))
    places.append(when.repeat_interleave(pieces, 0))
    sine = Sam2VideoPositionEmbeddingSine(model.hidden_dim // 2, normalize=True)
    here = sine(coarse.shape, coarse.device, coarse.dtype).flatten(2).permute(2, 0, 1)
    sequence = coarse.flatten(2).permute(2, 0, 1)
    read = model.memory_attention(sequence, torch.cat(memory), here, torch.cat(places), len(memory[-1]))
    return read.squeeze(0).transpose(1, 2).reshape(coarse.shape)


def _frame(model: MaskTracker, features: list[Tensor], image: Tensor, prompt: Tensor | None, *, occlude: bool) -> Frame:
    encoder = model.prompt_encoder
    grid = image.shape[-1]
    ticks = (torch.arange(grid, device=image.device, dtype=torch.float32) + 0.5) / grid
    cells = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1)
    place = encoder.shared_embedding(cells[None]).permute(0, 3, 1, 2)
    nothing = encoder.not_a_point_embed.weight.expand(1, 1, 2, -1)
    masks, ious, tokens, objectness = model.mask_decoder(
        image_embeddings=image,
        image_positional_embeddings=place.to(image.dtype),
        sparse_prompt_embeddings=nothing if prompt is None else torch.cat([nothing, prompt[:, None]], 2),
        dense_prompt_embeddings=encoder.no_mask_embed.weight.view(1, -1, 1, 1).expand_as(image),
        multimask_output=True,
        high_resolution_features=features[:2],
    )
    masks, ious, tokens, objectness = masks[:, 0], ious[:, 0], tokens[:, 0], objectness[:, 0]
    is_there = bool(objectness > 0)
    if occlude and not is_there:
        masks = torch.full_like(masks, -1024.0)
    best = int(ious.argmax())
    enlarged = F.interpolate(masks.float(), size=(model.side, model.side), mode="bilinear")
    mask = enlarged[:, best : best + 1].sigmoid() * 20 - 10
    memory, memory_place = model.memory_encoder(features[2], mask.to(image.dtype))
    pointer = model.object_pointer_proj(tokens[:, best]) if is_there else model.no_object_pointer.expand(1, -1)
    if not is_there:
        memory = memory + model.get_parameter("occlusion_spatial_embedding_parameter")[..., None, None]
    flat = [each.flatten(2).permute(2, 0, 1) for each in (memory, memory_place)]
    return Frame(masks, ious, objectness, flat[0], flat[1], pointer)
