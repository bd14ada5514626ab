"""The tracker over time: objects together as one by one, streamed as at once, memory that stays bounded."""

import copy
import gc
import itertools

import pytest
import torch
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession, Sam2VideoRoPEAttention

from unipixel.model import losses
from unipixel.model.config import DECODERS
from unipixel.model.losses import average, batch_loss, mask_loss
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.memory import NUM_MEMORIES, NUM_POINTERS, first_bank
from unipixel.model.sam2.outputs import ABSENT, ImageFeatures, MaskCandidates
from unipixel.model.sam2.streaming import VideoPrompts, propagate, propagate_all
from unipixel.model.sam2.tracker import MaskTracker

EXACT = {"rtol": 0, "atol": 1e-5}


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


def a_case(num_frames=20, num_objects=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(num_frames, 3, 128, 128, generator=generator) * 2
    prompts = torch.randn(num_objects, 2, 64, generator=generator) * 3
    return frames.to(dtype), prompts.to(dtype)


@pytest.fixture
def exact(tracker):
    """The same in double precision: random weights amplify single rounding from frame to frame."""
    return copy.deepcopy(tracker).double()


def footage(frames, prompts, start=0):
    """A video that is prompted at frame `start`."""
    order = [*range(start, len(frames)), *range(start - 1, -1, -1)]
    return VideoPrompts([frames[index] for index in order], prompts, len(frames), start), order


def stacked(drawn):
    return MaskCandidates(*(torch.stack(values) for values in zip(*drawn, strict=True)))


def assert_same(drawn, expected):
    for ours, theirs in zip(drawn, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("is_streamed", [False, True])
def test_objects_together_equal_a_plain_restatement_of_each_alone_over_twenty_frames(exact, perf, is_streamed):
    """More than 7 memories and 16 pointers are there to choose from, and objects come and go."""
    frames, prompts = a_case(dtype=torch.float64)
    drawn = stacked(propagate(exact, footage(frames, prompts)[0])) if is_streamed else exact(frames[None], prompts)
    absent = (drawn.objectness <= 0).double().mean()
    assert 0.1 < absent < 0.9, "the case must have frames with and without the objects"
    alone = perf("one_by_one").each_object(exact, frames, prompts, occlude=is_streamed)
    for index, frames_of_one in enumerate(alone):
        assert_same(
            MaskCandidates(*(values[:, index] for values in drawn)),
            (
                torch.cat([frame.masks for frame in frames_of_one]),
                torch.cat([frame.ious for frame in frames_of_one]),
                torch.cat([frame.objectness[0] for frame in frames_of_one]),
            ),
        )


@torch.no_grad()
def test_in_single_precision_objects_together_equal_objects_one_by_one(tracker):
    frames, prompts = a_case(8)
    together = tracker(frames[None], prompts)
    for index in range(3):
        alone = tracker(frames[None], prompts[index : index + 1])
        torch.testing.assert_close(together.masks[:, index], alone.masks[:, 0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_videos_together_equal_videos_one_by_one(exact):
    (first, one), (second, two) = a_case(5, 2, 3, torch.float64), a_case(5, 1, 4, torch.float64)
    together = exact(torch.stack([first, second]), torch.cat([two, one]), torch.tensor([1, 0, 0]))
    torch.testing.assert_close(together.masks[:, 1:], exact(first[None], one).masks, **EXACT)
    torch.testing.assert_close(together.masks[:, :1], exact(second[None], two).masks, **EXACT)


@torch.no_grad()
def test_videos_of_different_lengths_side_by_side_equal_each_alone(exact):
    """One has more objects than go at once, one a single frame, one is prompted in its middle."""
    cases = [a_case(*shape, seed=seed, dtype=torch.float64) for seed, shape in enumerate([(19, 2), (3, 18), (1, 1)])]
    cases.append(a_case(8, 1, 5, torch.float64))
    starts = [0, 0, 0, 4]
    videos = [footage(*case, start)[0] for case, start in zip(cases, starts, strict=True)]
    together = list(propagate_all(exact, videos))
    assert [sum(drawn is not None for drawn in row) for row in zip(*together, strict=True)] == [19, 3, 1, 8]
    for row, video in zip(zip(*together, strict=True), videos, strict=True):
        assert_same(stacked([drawn for drawn in row if drawn is not None]), stacked(propagate(exact, video)))


@torch.no_grad()
def test_many_objects_take_turns_without_a_change(exact):
    frames, prompts = a_case(3, 20, dtype=torch.float64)
    few = [stacked(propagate(exact, VideoPrompts(frames, part, 3))).masks for part in prompts.split(7)]
    many = stacked(propagate(exact, VideoPrompts(frames, prompts, 3))).masks
    torch.testing.assert_close(many, torch.cat(few, 1), **EXACT)


@torch.no_grad()
def test_an_absent_object_has_no_pixel_when_streamed(tracker):
    frames, prompts = a_case(3)
    tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(-1000.0)
    assert all((drawn.best()[0] == ABSENT).all() for drawn in propagate(tracker, VideoPrompts(frames, prompts, 3)))


@torch.no_grad()
def test_prompted_in_the_middle_the_later_frames_are_as_if_the_video_began_there(exact):
    frames, prompts = a_case(20, 2, dtype=torch.float64)
    both_ways = list(propagate(exact, footage(frames, prompts, 4)[0]))
    cut = list(propagate(exact, VideoPrompts(frames[4:], prompts, 16)))
    assert_same(stacked(both_ways[:16]), stacked(cut))


@torch.no_grad()
def test_prompted_at_its_end_a_video_is_tracked_as_its_reverse_is_from_the_start(exact):
    frames, prompts = a_case(20, 2, dtype=torch.float64)
    backwards = propagate(exact, footage(frames, prompts, 19)[0])
    assert_same(stacked(backwards), stacked(propagate(exact, VideoPrompts(frames.flip(0), prompts, 20))))


@torch.no_grad()
def test_a_frame_reads_seven_feature_maps_and_sixteen_pointers_of_a_long_video(tracker, monkeypatch):
    frames, prompts = a_case(24, 1)
    lengths = []
    read = tracker.memory_attention.forward

    def recording(sequence, memory, sine, positions, num_pointer_tokens):
        lengths.append((len(memory) - num_pointer_tokens, num_pointer_tokens))
        return read(sequence, memory, sine, positions, num_pointer_tokens)

    monkeypatch.setattr(tracker.memory_attention, "forward", recording)
    list(propagate(tracker, footage(frames, prompts)[0]))
    cells = 8 * 8
    assert lengths[:3] == [(1 * cells, 1), (2 * cells, 2), (3 * cells, 3)]
    assert lengths[-1] == (NUM_MEMORIES * cells, NUM_POINTERS)
    assert max(lengths) == lengths[-1]
    lengths.clear()
    list(propagate(tracker, footage(frames, prompts, 22)[0]))
    assert lengths[:3] == [(1 * cells, 1), (2 * cells, 2), (3 * cells, 3)], "forwards, then back, with the one after"
    assert lengths[-1] == (NUM_MEMORIES * cells, NUM_POINTERS)


@torch.no_grad()
@pytest.mark.parametrize("start", [0, 40])
def test_memory_does_not_grow_with_the_length_of_a_video(tracker, start):
    frames, prompts = a_case(4, 2)
    endless = (frame.clone() for frame in itertools.cycle(frames))
    held = []
    for step, _ in enumerate(propagate(tracker, VideoPrompts(endless, prompts, 96, start))):
        if step in (30, 47, 79, 95):  # the last frames of chunks of sixteen, and one amid
            gc.collect()
            storages = {
                each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
                for each in gc.get_objects()
                if isinstance(each, torch.Tensor) and each.layout is torch.strided
            }
            held.append(sum(storages.values()))
        if step == 95:
            break
    assert max(held[1:]) <= held[0] * 1.02, held


@torch.no_grad()
def test_every_frame_is_encoded_once_whatever_the_number_of_objects_and_directions(tracker, monkeypatch):
    frames, prompts = a_case(20, 18)
    encoded = []
    encode = tracker.encode
    monkeypatch.setattr(tracker, "encode", lambda images: encoded.append(len(images)) or encode(images))
    list(propagate(tracker, footage(frames, prompts, 7)[0]))
    assert encoded == [16, 4]
    encoded.clear()
    list(propagate_all(tracker, [footage(frames, prompts[:1])[0], footage(frames[:10], prompts[:2])[0]]))
    assert encoded == [16, 10, 4]


@pytest.mark.parametrize("promised", [2, 4])
def test_another_number_of_frames_than_promised_is_refused(tracker, promised):
    frames, prompts = a_case(3, 1)
    with pytest.raises(ValueError, match=f"expected {promised} frames, got"):
        list(propagate(tracker, VideoPrompts(frames, prompts, promised)))


@torch.no_grad()
def test_the_lean_encoder_gives_the_features_of_transformers_bit_for_bit(tracker):
    frames, _ = a_case(2)
    plain = Sam2VideoModel(decoder_config(DECODERS["tiny"], 128)).eval()
    plain.vision_encoder.load_state_dict(tracker.vision_encoder.state_dict())
    theirs = plain.vision_encoder(frames)
    for ours, expected in zip(tracker.vision_encoder(frames).fpn_hidden_states, theirs.fpn_hidden_states, strict=True):
        assert torch.equal(ours, expected)
    sine = theirs.fpn_position_encoding[-1][:1].flatten(2).permute(2, 0, 1)
    torch.testing.assert_close(tracker.setting(occlude=True).sine, sine, **EXACT)


@pytest.mark.parametrize("num_maps", [1, 3])
def test_the_attention_with_rotary_positions_is_transformers_own(tracker, num_maps):
    """To itself, and to maps and tokens without a place; with its gradients."""
    ours = tracker.memory_attention.layers[0].cross_attn_image
    theirs = copy.deepcopy(ours)
    theirs.__class__ = Sam2VideoRoPEAttention
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(2, 1, 64, 64, generator=generator)
    key, value = (torch.randn(2, 1, num_maps * 64 + 5, 64, generator=generator) for _ in range(2))
    memory = tracker.memory_attention
    places = memory.rotary_emb(query, memory.position_ids)
    found = []
    for attention in (ours, theirs):
        inputs = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
        out = attention(*inputs, position_embeddings=places, num_k_exclude_rope=5)[0]
        found.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


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
    labels = torch.zeros(1, 2, 64, 64, dtype=torch.bool)
    labels[0, 0, 16:48, 16:48] = True  # the second object is absent
    logits = torch.where(labels[:, :, None].expand(1, 2, 3, 64, 64), 20.0, -20.0)
    objectness = torch.tensor([[20.0, -20.0]])
    good = mask_loss(MaskCandidates(logits, torch.ones(1, 2, 3), objectness), labels)
    bad = mask_loss(MaskCandidates(-logits, torch.ones(1, 2, 3), -objectness), labels)
    assert good.total.item() < 0.05
    assert bad.focal.item() == pytest.approx((0.25 * 20 * 0.25 + 0.75 * 20 * 0.75) / 2, rel=1e-3)
    assert bad.objectness.item() == pytest.approx(20, rel=1e-3)
    assert bad.dice.item() == pytest.approx(0.5, rel=1e-3), "an absent object has no dice"


def test_a_frame_of_another_size_is_refused(tracker):
    with pytest.raises(AssertionError, match="expected frames of 128 px"):
        tracker(torch.zeros(1, 1, 3, 64, 64), torch.zeros(1, 2, 64))


@torch.no_grad()
def test_what_a_frame_reads_equals_transformers_own_account_of_a_long_video(tracker):
    """transformers gathers the memories of one object; past 7 maps and 16 pointers both must agree."""
    frames, prompts = a_case(24, 1, seed=5)
    pyramid = tracker.encode(frames)
    setting, scale = tracker.setting(occlude=True), tracker.pointer_scale([len(frames)])
    session = Sam2VideoInferenceSession(dtype=torch.float32)
    outputs = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    session.output_dict_per_obj = {0: outputs}
    bank, absent = None, 0
    for index in range(len(frames)):
        features = ImageFeatures(*(level[index : index + 1] for level in pyramid))
        if bank is not None:
            sequence = features.coarse.flatten(2).permute(2, 0, 1)
            theirs = tracker._prepare_memory_conditioned_features(
                session, index, 0, False, sequence, setting.sine, num_total_frames=len(frames)
            )
            ours = tracker.attend_memory(features.coarse, bank, setting, scale)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        reads = tracker.vector_prompt(prompts) if bank is None else bank
        drawn, memory = tracker.step(features, reads, setting, scale, is_read_later=True)
        absent += int(drawn.objectness.item() <= 0)
        _, place = tracker.memory_encoder(features.coarse, torch.zeros(1, 1, 128, 128))
        entry = {
            "maskmem_features": memory.spatial,
            "maskmem_pos_enc": place.flatten(2).permute(2, 0, 1),
            "object_pointer": memory.pointer,
        }
        outputs["non_cond_frame_outputs" if index else "cond_frame_outputs"][index] = entry
        bank = first_bank(memory) if bank is None else bank.after(memory)
    assert 0 < absent < 24


def test_the_loss_of_a_batch_in_parts_and_at_once_is_the_mean_over_its_samples(monkeypatch):
    torch.manual_seed(0)
    shapes = [(4, 2), (3, 1)]
    labels = [torch.rand(*shape, 64, 64) > 0.6 for shape in shapes]
    labels[0][1:, 1] = False
    leaves = [torch.randn(*shape, 3, 16, 16, requires_grad=True) for shape in shapes]
    drawn = [MaskCandidates(leaf, leaf.mean((-2, -1)).sigmoid(), leaf.mean((-3, -2, -1))) for leaf in leaves]
    each = average([mask_loss(*pair) for pair in zip(drawn, labels, strict=True)])
    expected = torch.autograd.grad(each.total, leaves, retain_graph=True)
    for kept in (losses.MAX_STORED_PIXELS, 2 * 3 * 64 * 64):
        monkeypatch.setattr(losses, "MAX_STORED_PIXELS", kept)
        whole = batch_loss(drawn, labels)
        torch.testing.assert_close(torch.stack(whole), torch.stack(each), rtol=1e-6, atol=0)
        for ours, theirs in zip(torch.autograd.grad(whole.total, leaves, retain_graph=True), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)
