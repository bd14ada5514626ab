"""Against tensors of the upstream implementation (random tiny model, fp32)."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file

from unipixel.model import checkpoints, weight_names
from unipixel.model.visual_prompts import PromptPlace

CASES = ["seg_1obj_4f", "seg_2obj_4f", "seg_1obj_1f_image", "mem_ref_2obj_4f"]


def places_of(case):
    """The case's points and boxes; times are those of frame numbers over (2 grid steps - 1)."""
    if "in.b0.point_frames.0" not in case:
        return []
    last = 2 * int(case["in.video_grid_thw"][0, 0]) - 1
    numbers = case["in.b0.point_frames.0"].tolist()
    corners = [case[f"in.b0.point_coords.{index}"][0].tolist() for index in range(len(numbers))]
    return [PromptPlace(tuple(map(tuple, at)), number / last) for at, number in zip(corners, numbers, strict=True)]


def forward(model, case):
    return model(
        input_ids=case["in.input_ids"],
        attention_mask=case["in.attention_mask"],
        labels=case["in.labels"],
        pixel_values_videos=case["in.pixel_values_videos"],
        video_grid_thw=case["in.video_grid_thw"],
        places=places_of(case),
        frames=[case["in.frames.0"]],
        masks=[case["in.label_mask.0"]],
    )


@pytest.mark.parametrize("name", CASES)
def test_losses_and_masks_equal_those_of_upstream(oracle, oracle_model, name):
    case = load_file(oracle / f"train_{name}.safetensors")
    golden = json.loads((oracle / "golden_train.json").read_text())[f"train_{name}"]
    with torch.no_grad():
        out = forward(oracle_model, case)
    num_frames = len(case["in.frames.0"])
    parts = golden["seg_components"]
    assert len(places_of(case)) == golden["n_ref"]
    assert out.loss.item() == pytest.approx(golden["loss"], rel=1e-5)
    assert out.lm_loss.item() == pytest.approx(golden["lm_loss"], rel=1e-5)
    for ours, theirs in zip(out.mask_loss, ("loss_mask", "loss_dice", "loss_iou", "loss_class"), strict=True):
        assert ours.item() * num_frames == pytest.approx(parts[theirs][0], rel=1e-5)
    torch.testing.assert_close(out.logits, case["out.logits"], rtol=0, atol=1e-4)
    torch.testing.assert_close(out.states, case["out.pre_norm_state"], rtol=0, atol=1e-4)
    torch.testing.assert_close(out.prompts[0], case["out.sam0.hidden"], rtol=0, atol=1e-4)
    drawn = out.candidates[0]
    for index in range(num_frames):
        frame = f"out.sam0.f{index}"
        torch.testing.assert_close(drawn.masks[index], case[f"{frame}.multimasks"], rtol=0, atol=1e-4)
        torch.testing.assert_close(drawn.ious[index], case[f"{frame}.ious"], rtol=0, atol=1e-4)
        torch.testing.assert_close(drawn.objectness[index], case[f"{frame}.obj_score"][:, 0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_those_of_upstream_with_its_rotary_slip_undone(oracle, oracle_model, name):
    case = load_file(oracle / f"train_{name}.safetensors")
    golden = json.loads((oracle / f"gradnorms_train_{name}_ropegrad.json").read_text())
    oracle_model.zero_grad()
    forward(oracle_model, case).loss.backward()
    ours = {}
    for parameter_name, parameter in oracle_model.named_parameters():
        published = weight_names.published_name(parameter_name)
        is_decoder = parameter_name.startswith("sam2.")
        norm = 0.0 if parameter.grad is None else parameter.grad.norm().item()
        ours[published if is_decoder else parameter_name] = norm
    oracle_model.zero_grad()
    compared = {key: value for key, value in golden.items() if value is not None}
    assert len(compared) > 250
    for key, value in compared.items():
        assert ours[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key


def test_places_stand_in_the_input_as_upstream_puts_them_there(oracle, oracle_model):
    case = load_file(oracle / "train_mem_ref_2obj_4f.safetensors")
    seen = []
    hook = oracle_model.model.language_model.register_forward_pre_hook(
        lambda _, inputs, named: seen.append(named["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        forward(oracle_model, case)
    hook.remove()
    torch.testing.assert_close(seen[0], case["out.inputs_embeds"], rtol=0, atol=1e-5)


def test_losses_are_the_same_through_saving_and_loading(oracle, oracle_model, tmp_path):
    oracle_model.save_pretrained(tmp_path)
    again = checkpoints.load_checkpoint(tmp_path)
    case = load_file(oracle / "train_mem_ref_2obj_4f.safetensors")
    with torch.no_grad():
        assert forward(again, case).loss.item() == pytest.approx(27.163488388061523, rel=1e-6)


def test_generated_masks_equal_those_of_upstream_to_the_pixel(oracle, oracle_config):
    golden = load_file(oracle / "infer.safetensors")
    model = checkpoints.load_checkpoint(oracle / "tiny_full", config=oracle_config)
    written = model.generate_one(
        golden["gen.input_ids"],
        pixel_values_videos=golden["gen.pixel_values_videos"],
        video_grid_thw=golden["gen.video_grid_thw"],
        do_sample=False,
        max_new_tokens=4,
    )
    assert written.ids.tolist() == json.loads((oracle / "golden_infer.json").read_text())["gen"]["new_ids"]
    drawn = list(model.segment(written.prompts, golden["gen.frames"], (168, 224)))
    ours = torch.stack([frame.masks for frame in drawn], dim=1)  # [4, 6, H, W]
    for index in range(4):
        assert torch.equal(ours[index], golden[f"gen.seg{index}"][0])
    assert int(ours.sum()) == 84224 + 84733 + 84732 + 84732


def test_seg_tokens_in_the_prompt_are_drawn_as_upstream_draws_them(oracle, oracle_config):
    golden = load_file(oracle / "infer.safetensors")
    model = checkpoints.load_checkpoint(oracle / "tiny_full", config=oracle_config)
    with torch.no_grad():
        out = model(
            input_ids=golden["pre.input_ids"],
            pixel_values_videos=golden["pre.pixel_values_videos"],
            video_grid_thw=golden["pre.video_grid_thw"],
        )
    torch.testing.assert_close(out.logits, golden["pre.logits_lm"], rtol=0, atol=1e-4)
    drawn = list(model.segment(out.prompts[0], golden["gen.frames"], (168, 224)))
    assert torch.equal(torch.stack([frame.masks for frame in drawn], dim=1)[0], golden["pre.seg0"][0])


def test_in_bfloat16_the_loss_is_off_by_thousandths_and_frequencies_are_exact(oracle, oracle_model):
    case = load_file(oracle / "train_seg_2obj_4f.safetensors")
    exact = {name: buffer for name, buffer in oracle_model.named_buffers() if name.endswith("inv_freq")}
    half = copy.deepcopy(oracle_model).bfloat16()
    with torch.no_grad():
        out = forward(half, case)
    assert out.loss.item() == pytest.approx(27.055950, abs=0.03)
    assert {name.rpartition(".")[0] for name in exact} == {
        "model.visual.rotary_pos_emb",
        "model.language_model.rotary_emb",
        "sam2.memory_attention.rotary_emb",
    }
    assert all(torch.equal(dict(half.named_buffers())[name], buffer) for name, buffer in exact.items())
