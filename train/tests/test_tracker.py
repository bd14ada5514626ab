"""The tracker over time: objects together as one by one, streamed as at once, memory that stays bounded."""

import pytest
import torch
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from unipixel.model.config import DECODERS
from unipixel.model.losses import mask_loss
from unipixel.model.tracker import (
    NUM_MEMORIES,
    NUM_POINTERS,
    MaskTracker,
    Pyramid,
    _remember,
    decoder_config,
)


@pytest.fixture
def tracker():
    """A random tracker whose objects come and go: its objectness depends strongly on what it sees."""
    torch.manual_seed(1)
    model = MaskTracker(decoder_config(DECODERS["tiny"], 128)).eval()
    model.start_from_scratch()
    with torch.no_grad():
        for layer in model.memory_encoder.memory_fuser.layers:
            layer.scale.fill_(0.5)
        for name in (
            "no_object_pointer",
            "occlusion_spatial_embedding_parameter",
            "memory_temporal_positional_encoding",
        ):
            getattr(model, name).normal_(std=0.5)
        head = model.mask_decoder.pred_obj_score_head.proj_out
        head.weight.mul_(40)
        head.bias.zero_()
        seen = model(*[part[None] if part.ndim == 4 else part for part in a_case()]).objectness
        head.bias.fill_(-seen.median().item())
    return model


def a_case(num_frames=20, num_objects=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(num_frames, 3, 128, 128, generator=generator) * 2
    prompts = torch.randn(num_objects, 2, 64, generator=generator) * 3
    return frames, prompts


@torch.no_grad()
def test_objects_together_equal_objects_one_by_one_over_twenty_frames(tracker):
    frames, prompts = a_case()
    together = tracker(frames[None], prompts)
    absent = (together.objectness <= 0).float().mean()
    assert 0.1 < absent < 0.9, "the case must have frames with and without the objects"
    for index in range(3):
        alone = tracker(frames[None], prompts[index : index + 1])
        torch.testing.assert_close(together.masks[:, index], alone.masks[:, 0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(together.objectness[:, index], alone.objectness[:, 0], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_videos_together_equal_videos_one_by_one(tracker):
    (first, one), (second, two) = a_case(5, 2, seed=3), a_case(5, 1, seed=4)
    together = tracker(torch.stack([first, second]), torch.cat([one, two]), torch.tensor([0, 0, 1]))
    torch.testing.assert_close(together.masks[:, :2], tracker(first[None], one).masks, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(together.masks[:, 2:], tracker(second[None], two).masks, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_streaming_draws_what_tracking_draws_but_nothing_of_absent_objects(tracker):
    """An absent object is remembered otherwise by design: they are compared while every object is there."""
    frames, prompts = a_case(20, 3)
    with torch.no_grad():
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(1000.0)
    at_once = tracker(frames[None], prompts)
    streamed = list(tracker.stream(iter(frames), prompts, len(frames)))
    masks = torch.stack([frame.masks for frame in streamed])
    torch.testing.assert_close(masks, at_once.masks, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(-1000.0)
    assert all((frame.best()[0] == -1024).all() for frame in tracker.stream(frames[:3], prompts, 3))


@torch.no_grad()
def test_many_objects_take_turns_without_a_change(tracker):
    frames, prompts = a_case(3, 20)
    few = torch.cat([torch.stack([f.masks for f in tracker.stream(frames, part, 3)]) for part in prompts.split(7)], 1)
    many = torch.stack([frame.masks for frame in tracker.stream(frames, prompts, 3)])
    torch.testing.assert_close(many, few, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_frame_reads_seven_feature_maps_and_sixteen_pointers_of_a_long_video(tracker, monkeypatch):
    frames, prompts = a_case(24, 1)
    lengths = []
    read = tracker.memory_attention.forward

    def recording(sequence, memory, sine, positions, num_pointer_tokens):
        lengths.append((len(memory) - num_pointer_tokens, num_pointer_tokens))
        return read(sequence, memory, sine, positions, num_pointer_tokens)

    monkeypatch.setattr(tracker.memory_attention, "forward", recording)
    list(tracker.stream(frames, prompts, len(frames)))
    cells = 8 * 8
    assert lengths[:3] == [(1 * cells, 1), (2 * cells, 2), (3 * cells, 3)]
    assert lengths[-1] == (NUM_MEMORIES * cells, NUM_POINTERS)
    assert max(lengths) == lengths[-1]


@torch.no_grad()
def test_every_frame_is_encoded_once_whatever_the_number_of_objects(tracker, monkeypatch):
    frames, prompts = a_case(20, 18)
    encoded = []
    encode = tracker.encode
    monkeypatch.setattr(tracker, "encode", lambda images: encoded.append(len(images)) or encode(images))
    list(tracker.stream(frames, prompts, len(frames)))
    assert encoded == [16, 4]


def test_a_recomputed_step_gives_the_same_gradients(tracker):
    frames, prompts = a_case(4, 2)
    labels = torch.rand(4, 2, 128, 128) > 0.7
    tracker.train()
    gradients = []
    for is_checkpointing in (False, True):
        tracker.gradient_checkpointing = is_checkpointing
        tracker.zero_grad()
        wanted = prompts.clone().requires_grad_()
        mask_loss(tracker(frames[None], wanted), labels).total.backward()
        named = {name: p.grad.clone() for name, p in tracker.named_parameters() if p.grad is not None}
        gradients.append(named | {"prompts": wanted.grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-5)


def test_every_weight_that_is_not_frozen_gets_a_gradient_from_a_video(tracker):
    frames, prompts = a_case(3, 2)
    mask_loss(tracker(frames[None], prompts), torch.rand(3, 2, 128, 128) > 0.7).total.backward()
    missing = [name for name, p in tracker.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_the_loss_falls_to_near_nothing_for_masks_that_are_right():
    from unipixel.model.tracker import Drawn

    labels = torch.zeros(1, 2, 64, 64, dtype=torch.bool)
    labels[0, 0, 16:48, 16:48] = True  # the second object is absent
    logits = torch.where(labels[:, :, None].expand(1, 2, 3, 64, 64), 20.0, -20.0)
    objectness = torch.tensor([[20.0, -20.0]])
    good = mask_loss(Drawn(logits, torch.ones(1, 2, 3), objectness), labels)
    bad = mask_loss(Drawn(-logits, torch.ones(1, 2, 3), -objectness), labels)
    assert good.total.item() < 0.05
    assert bad.focal.item() == pytest.approx((0.25 * 20 * 0.25 + 0.75 * 20 * 0.75) / 2, rel=1e-3)
    assert bad.objectness.item() == pytest.approx(20, rel=1e-3)
    assert bad.dice.item() == pytest.approx(0.5, rel=1e-3), "an absent object has no dice"


def test_a_frame_of_another_size_is_refused(tracker):
    with pytest.raises(AssertionError, match="128 px expected"):
        tracker(torch.zeros(1, 1, 3, 64, 64), torch.zeros(1, 2, 64))


@torch.no_grad()
def test_what_a_frame_reads_equals_transformers_own_account_of_a_long_video(tracker):
    """transformers gathers the memories of one object; past 7 maps and 16 pointers both must agree."""
    frames, prompts = a_case(24, 1, seed=5)
    pyramid = tracker.encode(frames)
    sine = tracker.vision_encoder(frames[:1]).fpn_position_encoding[-1].flatten(2).permute(2, 0, 1)
    setting = tracker._setting(prompts, len(frames), occlude=True)
    torch.testing.assert_close(setting.sine, sine, rtol=0, atol=1e-5)
    session = Sam2VideoInferenceSession(dtype=torch.float32)
    outputs = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    session.output_dict_per_obj = {0: outputs}
    bank, absent = None, 0
    for index in range(len(frames)):
        features = Pyramid(*(level[index : index + 1] for level in pyramid))
        if index:
            sequence = features.coarse.flatten(2).permute(2, 0, 1)
            theirs = tracker._prepare_memory_conditioned_features(
                session, index, 0, False, sequence, sine, num_total_frames=len(frames)
            )
            ours = tracker._read(features.coarse, bank, setting)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        drawn, memory = tracker._step(features, bank, setting, is_read_later=True)
        absent += int(drawn.objectness.item() <= 0)
        _, place = tracker.memory_encoder(features.coarse, torch.zeros(1, 1, 128, 128))
        entry = {
            "maskmem_features": memory.spatial,
            "maskmem_pos_enc": place.flatten(2).permute(2, 0, 1),
            "object_pointer": memory.pointer,
        }
        outputs["non_cond_frame_outputs" if index else "cond_frame_outputs"][index] = entry
        bank = _remember(bank, memory)
    assert 0 < absent < 24
