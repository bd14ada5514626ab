import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig
from transformers.core_model_loading import revert_weight_conversion

from unipixel.model import checkpoints, lora, weight_names
from unipixel.model.config import UniPixelConfig, decoder_size
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.tracker import NEVER_TRAINED, MaskTracker
from unipixel.model.unipixel import UniPixel


@pytest.mark.parametrize("size", ["3B", "7B"])
def test_names_and_shapes_are_those_of_the_published_models(oracle, published_config, size):
    golden = json.loads((oracle.parent / "unipixel-state-dict.json").read_text())[size]
    with torch.device("meta"):
        model = UniPixel(published_config(size))
    ours = {weight_names.published_name(name): list(weight.shape) for name, weight in model.state_dict().items()}
    theirs = {entry["disk"]: entry["shape"] for entry in golden["keys"].values()}
    assert ours == theirs
    assert len(ours) == golden["n_keys_in_memory"]
    assert sum(parameter.numel() for parameter in model.parameters()) == golden["n_params"]
    written = revert_weight_conversion(model, model.state_dict())
    assert {name: list(weight.shape) for name, weight in written.items()} == theirs, "what save_pretrained writes"
    loaded = {weight_names.module_name(name) for name in theirs}
    assert loaded == model.state_dict().keys()
    frequencies = {"ref_encoder.pe_layer", "tem_pe", "sam2.sam_prompt_encoder.pe_layer"}
    assert {f"{name}.positional_encoding_gaussian_matrix" for name in frequencies} <= written.keys()


@pytest.mark.parametrize(("name", "parameters"), [("t", 38962498), ("s", 46060354), ("b+", 80850178), ("l", 224446642)])
def test_decoders_have_the_published_number_of_parameters(name, parameters):
    with torch.device("meta"):
        tracker = MaskTracker(decoder_config(decoder_size(name), 768))
    assert sum(parameter.numel() for parameter in tracker.parameters()) == parameters


def test_a_published_folder_loads_whole_and_is_written_back_bit_by_bit(oracle, oracle_config, tmp_path):
    model = checkpoints.load_checkpoint(oracle / "tiny_full", config=oracle_config)
    checkpoints.save_checkpoint(model, tmp_path, checkpoints.load_tokenizer(oracle / "tiny_full"))
    before = load_file(oracle / "tiny_full" / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["PixelQwen2_5_VLForConditionalGeneration"]
    assert config["model_type"] == "pixel_qwen2_5_vl"
    assert config["sam2_checkpoint"] == "/data/model_zoo/sam2_sam2.1_oracle_tiny.pt", "what we do not use is kept"


def test_a_published_config_means_the_legacy_clock_and_published_frames(oracle):
    config = AutoConfig.from_pretrained(oracle / "tiny_full")
    assert isinstance(config, UniPixelConfig)
    assert (config.time_encoding, config.clock_horizon, config.sample_frames) == ("fixed-2fps", 0.0, 16)
    assert (config.min_pixels, config.max_pixels) == (128 * 784, 256 * 784)
    assert (config.ref_token_id, config.seg_token_id, config.mem_token_id) == (270, 271, 272)


def test_our_model_comes_back_from_disk_as_it_was(tiny_model, tokenizer, tmp_path):
    tiny_model.config.time_encoding, tiny_model.config.clock_horizon = "absolute", 12.0
    checkpoints.save_checkpoint(tiny_model, tmp_path, tokenizer)
    again = checkpoints.load_checkpoint(tmp_path)
    assert (again.config.time_encoding, again.config.clock_horizon) == ("absolute", 12.0)
    for name, weight in tiny_model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    frozen = {name for name, parameter in again.named_parameters() if not parameter.requires_grad}
    assert frozen == {n for n, _ in again.named_parameters() if n.startswith(tuple("sam2." + s for s in NEVER_TRAINED))}
    assert len(checkpoints.load_tokenizer(tmp_path)) == len(tokenizer)


def test_shards_load_and_a_missing_one_is_named(tiny_model, tokenizer, tmp_path):
    tiny_model.save_pretrained(tmp_path, max_shard_size="1MB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert torch.equal(checkpoints.load_checkpoint(tmp_path).seg_head[3].weight, tiny_model.seg_head[3].weight)
    shards[1].unlink()
    with pytest.raises(ValueError, match=f"lacks {shards[1].name}"):
        checkpoints.load_checkpoint(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused(oracle, oracle_config, tmp_path):
    weights = load_file(oracle / "tiny_full" / "model.safetensors")
    del weights["sam2.obj_ptr_proj.layers.1.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    oracle_config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks 1 weights.*sam2\.obj_ptr_proj\.layers\.1"):
        checkpoints.load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no config.json"),
        (["config.json"], "lacks model.safetensors or"),
        (["config.json", "pytorch_model.bin"], "lacks model.safetensors or"),
        (["config.json", "adapter_model.safetensors"], "an adapter only; its base model is not named in it"),
    ],
)
def test_a_folder_without_safetensors_weights_is_refused_with_what_it_lacks(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=message):
        checkpoints.load_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_weights_that_broke_off_are_named(tiny_model, tokenizer, tmp_path, kept):
    checkpoints.save_checkpoint(tiny_model, tmp_path / "full", tokenizer)
    checkpoints.save_trained(lora.attach_lora(tiny_model, rank=4, alpha=8, dropout=0.0), tmp_path / "trained")
    for path in (tmp_path / "trained" / "adapter_model.safetensors", tmp_path / "full" / "model.safetensors"):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match=f"{path} is no whole safetensors file"):
            checkpoints.load_checkpoint(path.parent, base=tmp_path / "full")


def test_an_index_cannot_lead_out_of_its_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    index = {"weight_map": {"lm_head.weight": "../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="expected a safetensors file of its folder"):
        checkpoints.load_checkpoint(tmp_path)


def test_the_documents_explain_every_field_of_the_config():
    table = (Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md").read_text()
    assert [name for name in UniPixelConfig.__annotations__ if f"`{name}`" not in table] == []


def test_unknown_decoders_and_sizes_are_refused():
    with pytest.raises(ValueError, match="the decoders are: t, s, b\\+, l, tiny"):
        decoder_size("configs/sam2.1_hiera_xxl")
    with pytest.raises(ValueError, match="unknown decoder sizes"):
        decoder_size("b+", {"colour": 3})
    with pytest.raises(ValueError, match="time_encoding is"):
        UniPixelConfig(time_encoding="swiss")


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("qkvo_llm", 8),
        ("qkvo_visual", 4),
        ("qkvo_all", 12),
        ("linear_llm", 14),
        ("linear_visual", 10),
        ("linear_all", 24),
    ],
)
def test_an_adapter_sits_on_the_layers_of_its_scope(tiny_model, scope, expected):
    adapted = lora.attach_lora(tiny_model, rank=4, alpha=8, dropout=0.0, scope=scope)
    names = [name for name, _ in adapted.named_modules() if name.endswith("lora_A.default")]
    assert len(names) == expected
    assert not any("sam2" in name for name in names)


def test_only_the_adapter_and_the_named_groups_are_trained(tiny_model):
    adapted = lora.attach_lora(tiny_model, rank=4, alpha=8, dropout=0.0)
    lora.set_trainable(adapted, ["seg", "sam2", "embedding", "ref", "msk"])
    trained = {name for name, p in lora.unwrap(adapted).named_parameters() if p.requires_grad}
    tops = {name.split(".")[0] for name in trained if "lora_" not in name}
    places = {"ref_proj_single", "ref_proj_double", "ref_proj", "tem_emb", "tem_proj"}
    assert tops == {"seg_head", "sam2", "model", "msk_proj", *places}
    assert {n for n in trained if n.startswith("model.") and "lora_" not in n} == {
        "model.language_model.embed_tokens.weight"
    }
    assert not any(name.startswith(tuple("sam2." + start for start in NEVER_TRAINED)) for name in trained)
    with pytest.raises(ValueError, match="unknown groups"):
        lora.set_trainable(adapted, ["sam3"])


def test_what_was_trained_goes_to_disk_and_back(tiny_model, tmp_path):
    adapted = lora.attach_lora(tiny_model, rank=4, alpha=8, dropout=0.0)
    lora.set_trainable(adapted, ["seg", "sam2"])
    before = {name: weight.clone() for name, weight in adapted.state_dict().items()}
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    after = {name: weight.clone() for name, weight in adapted.state_dict().items()}
    checkpoints.save_trained(adapted, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "pytorch_model.safetensors",
    ]
    assert any(
        name.startswith("sam2.image_encoder.trunk.") for name in load_file(tmp_path / "pytorch_model.safetensors")
    )
    adapted.load_state_dict(before)
    checkpoints.load_trained(adapted, tmp_path)
    assert all(torch.equal(adapted.state_dict()[name], weight) for name, weight in after.items())


def test_a_merged_adapter_gives_the_same_states(tiny_model):
    adapted = lora.attach_lora(tiny_model, rank=4, alpha=8, dropout=0.0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        ids = torch.arange(10, 30)[None]
        wanted = adapted(input_ids=ids).states
        merged = lora.merge_lora(adapted)
        torch.testing.assert_close(merged(input_ids=ids).states, wanted, rtol=1e-4, atol=1e-4)
    assert isinstance(merged, UniPixel)
    assert not any("lora" in name for name in merged.state_dict())


def test_another_decoder_takes_the_place_of_the_one_that_is_there(tiny_model, tmp_path):
    """Weights in transformers' own layout of SAM 2.1, as its authors publish them."""
    from transformers import Sam2VideoModel

    from unipixel.model.config import DECODERS

    torch.manual_seed(5)
    other = Sam2VideoModel(decoder_config(DECODERS["tiny"], 128))
    other.save_pretrained(tmp_path)
    checkpoints.replace_decoder(tiny_model, "tiny", tmp_path)
    assert torch.equal(tiny_model.sam2.mask_decoder.iou_token.weight, other.mask_decoder.iou_token.weight)
    assert torch.equal(
        tiny_model.sam2.prompt_encoder.point_embeddings[2].weight[0],
        other.prompt_encoder.point_embed.weight[2],
    )
    with pytest.raises(ValueError, match="prompts of width 256"):
        checkpoints.replace_decoder(tiny_model, "l", tmp_path)
