"""Against Meta's own package (extra "reference"): the same random weights in both, part by part and over a clip."""

import numpy as np
import pytest
import torch
from PIL import Image

from unipixel.model.config import DecoderSize
from unipixel.model.sam2 import prompts, weights
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.memory import FrameMemory, first_bank
from unipixel.model.sam2.streaming import VideoPrompts, propagate
from unipixel.model.sam2.tracker import MaskTracker

pytest.importorskip("sam2", reason="Meta's package is not installed (see docs/installation.md)")
pytestmark = pytest.mark.filterwarnings("ignore")

SIDE, NUM_FRAMES = 128, 20
SIZE = DecoderSize(
    embed=16, heads=1, blocks=(1, 1, 2, 1), global_blocks=(3,), hidden=64, memory=16, memory_layers=2,
    memory_feed_forward=128, dropout=0.0,
)  # fmt: skip
OVERRIDES = [
    "image_size=128",
    "image_encoder.trunk.embed_dim=16",
    "image_encoder.trunk.stages=[1,1,2,1]",
    "image_encoder.trunk.global_att_blocks=[3]",
    "image_encoder.neck.position_encoding.num_pos_feats=64",
    "image_encoder.neck.d_model=64",
    "image_encoder.neck.backbone_channel_list=[128,64,32,16]",
    "memory_attention.d_model=64",
    "memory_attention.layer.dim_feedforward=128",
    "memory_attention.layer.d_model=64",
    "memory_attention.num_layers=2",
    "memory_attention.layer.self_attention.embedding_dim=64",
    "memory_attention.layer.self_attention.feat_sizes=[8,8]",
    "memory_attention.layer.cross_attention.embedding_dim=64",
    "memory_attention.layer.cross_attention.feat_sizes=[8,8]",
    "memory_attention.layer.cross_attention.kv_in_dim=16",
    "memory_encoder.out_dim=16",
    "memory_encoder.in_dim=64",
    "memory_encoder.position_encoding.num_pos_feats=16",
    "memory_encoder.mask_downsampler.embed_dim=64",
    "memory_encoder.fuser.layer.dim=64",
]


@pytest.fixture(scope="module")
def tracker():
    torch.manual_seed(3)
    model = MaskTracker(decoder_config(SIZE, SIDE)).eval()
    model.start_from_scratch()
    with torch.no_grad():
        for layer in model.memory_encoder.memory_fuser.layers:
            layer.scale.fill_(0.5)
        for name in ("no_object_pointer", "occlusion_spatial_embedding_parameter", "no_memory_embedding"):
            getattr(model, name).normal_(std=0.5)
        model.memory_temporal_positional_encoding.normal_(std=0.5)
        model.mask_decoder.pred_obj_score_head.proj_out.weight.mul_(40)
    return model


@pytest.fixture(scope="module")
def meta(tracker):
    from sam2.build_sam import build_sam2_video_predictor

    model = build_sam2_video_predictor(
        "configs/sam2.1/sam2.1_hiera_t.yaml",
        device="cpu",
        hydra_overrides_extra=[f"++model.{override}" for override in OVERRIDES],
    )
    model.fill_hole_area = 0  # it needs a compiled extension, and skips the step with a warning
    model.load_state_dict(weights.in_metas_names(tracker), strict=True)
    return model


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder of frames as Meta's package reads it."""
    folder = tmp_path_factory.mktemp("clip")
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    for index in range(NUM_FRAMES):
        frame = np.asarray(Image.fromarray(ground).resize((160, 120), Image.Resampling.BICUBIC)).copy()
        frame[30:70, 10 + 5 * index : 40 + 5 * index] = (220, 40, 40)
        if index % 5:
            frame[80:110, 120 - 5 * index : 150 - 5 * index] = (40, 40, 220)
        Image.fromarray(frame).save(folder / f"{index:05d}.jpg", quality=95)
    return folder


@pytest.fixture
def state(meta, clip):
    return meta.init_state(str(clip))


@torch.no_grad()
def test_the_encoder_gives_the_same_pyramid(meta, tracker, state):
    images = state["images"][:3]
    for ours, theirs in zip(tracker.encode(images), meta.forward_image(images)["backbone_fpn"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_decoder_draws_the_same_and_so_does_the_memory_encoder_remember(meta, tracker, state):
    pyramid = tracker.encode(state["images"][:1])
    setting = tracker.setting(occlude=True)
    image = tracker.without_memory(pyramid.coarse)
    theirs = meta._forward_sam_heads(image, high_res_features=list(pyramid[:2]), multimask_output=True)
    decoded = tracker.decode(pyramid, image, setting.no_point, setting.no_mask, setting)
    for ours, expected in (
        (decoded.candidates.masks, theirs[0]),
        (decoded.candidates.ious, theirs[2]),
        (decoded.candidates.best()[0][:, None], theirs[3]),
        (decoded.candidates.objectness[:, None], theirs[6]),
        (tracker.pointer(decoded), theirs[5]),
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    sequence = pyramid.coarse.flatten(2).permute(2, 0, 1)
    written, _ = meta._encode_new_memory([sequence], [(8, 8)], theirs[4], theirs[6], is_mask_from_pts=False)
    ours = tracker.encode_memory(pyramid.coarse, decoded.candidates, is_binary=False)
    torch.testing.assert_close(ours, written.flatten(2).permute(2, 0, 1), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_memory_attention_reads_the_same_of_twenty_remembered_frames(meta, tracker, state):
    pyramid = tracker.encode(state["images"][:1])
    generator = torch.Generator().manual_seed(0)
    memories = [
        FrameMemory(torch.randn(64, 2, 16, generator=generator), torch.randn(2, 64, generator=generator))
        for _ in range(20)
    ]
    bank = first_bank(memories[0])
    for memory in memories[1:]:
        bank = bank.after(memory)
    coarse = pyramid.coarse.expand(2, -1, -1, -1)
    setting = tracker.setting(occlude=True)
    ours = tracker.attend_memory(coarse, bank, setting, tracker.pointer_scale([30]))
    place = meta.memory_encoder.position_encoding(torch.zeros(2, 16, 8, 8))
    kept = [
        {
            "maskmem_features": memory.spatial.permute(1, 2, 0).unflatten(2, (8, 8)),
            "maskmem_pos_enc": [place],
            "obj_ptr": memory.pointer,
        }
        for memory in memories
    ]
    theirs = meta._prepare_memory_conditioned_features(
        frame_idx=20,
        is_init_cond_frame=False,
        current_vision_feats=[coarse.flatten(2).permute(2, 0, 1)],
        current_vision_pos_embeds=[setting.sine.expand(-1, 2, -1)],
        feat_sizes=[(8, 8)],
        output_dict={"cond_frame_outputs": {0: kept[0]}, "non_cond_frame_outputs": dict(enumerate(kept[1:], 1))},
        num_frames=30,
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


SIGNS = {
    "a click": {"points": [[40, 50]], "labels": [1]},
    "three clicks": {"points": [[40, 50], [60, 60], [100, 20]], "labels": [1, 1, 0]},
    "a box": {"box": [30, 30, 90, 70]},
    "a mask": None,
}


@pytest.mark.parametrize("start", [0, 8, NUM_FRAMES - 1])
@torch.no_grad()
def test_a_clip_is_tracked_alike_from_clicks_boxes_and_masks_both_ways(meta, tracker, state, monkeypatch, start):
    """Their predictor keeps feature maps in 16 bits, which is the only thing that ours is made to do here."""
    given = np.zeros((120, 160), dtype=bool)
    given[30:70, 40:90] = True
    for number, sign in enumerate(SIGNS.values()):
        if sign is None:
            meta.add_new_mask(state, start, number, given)
        else:
            arrays = {name: np.array(value, dtype=np.float32) for name, value in sign.items()}
            meta.add_new_points_or_box(state, start, number, **arrays)
    for is_reverse in (False, True):
        for _ in meta.propagate_in_video(state, start_frame_idx=start, reverse=is_reverse):
            pass
    signs = [_sign(sign, given) for sign in SIGNS.values()]
    write = tracker.write
    monkeypatch.setattr(tracker, "encode_memory", lambda *a, **k: write(*a, **k).bfloat16().float())
    order = [*range(start, NUM_FRAMES), *range(start - 1, -1, -1)]
    frames = [state["images"][index] for index in order]
    absent = 0
    for index, drawn in zip(order, propagate(tracker, VideoPrompts(frames, signs, NUM_FRAMES, start)), strict=True):
        ours = drawn.best()[0]
        for number in range(len(SIGNS)):
            outputs = state["output_dict_per_obj"][number]
            out = outputs["cond_frame_outputs"].get(index) or outputs["non_cond_frame_outputs"][index]
            theirs = out["pred_masks"][0, 0]
            assert bool((theirs == -1024).all()) == bool((ours[number] == -1024).all()), (index, number)
            absent += int((theirs == -1024).all())
            torch.testing.assert_close(ours[number], theirs, rtol=1e-3, atol=2e-3, msg=f"frame {index}, {number}")
    assert 0 < absent < len(SIGNS) * NUM_FRAMES


def _sign(sign, given):
    if sign is None:
        return torch.from_numpy(given)
    size = np.array([160, 120])
    if "box" in sign:
        return prompts.box_prompt(*(np.array(sign["box"]).reshape(2, 2) / size).ravel().tolist())
    return prompts.PointPrompt(tuple(map(tuple, (np.array(sign["points"]) / size).tolist())), tuple(sign["labels"]))
