"""Checkpoints that would load into a model with other values than were trained, or end in a traceback."""

import json
import pickle
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from evqa import models
from evqa.models.base import ModelError
from evqa.models.messages import Message, VideoPart
from evqa.models.sampling import RowDecoding
from unipixel.convert import ConversionConfig, convert
from unipixel.inference.chat import UniPixelChat
from unipixel.model import checkpoints, lora
from unipixel.model.config import DECODERS
from unipixel.model.sam2 import weights as sam2_weights
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.tracker import MaskTracker

QUERY = "model.layers.0.self_attn.q_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def rewrite(folder, change, name="model.safetensors"):
    weights = load_file(folder / name)
    change(weights)
    save_file(weights, folder / name, metadata={"format": "pt"})


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder, reason, **arguments):
    with pytest.raises(ValueError, match=reason) as caught:
        checkpoints.load_checkpoint(folder, **arguments)
    assert "\n" not in str(caught.value)


def fp8(weights):
    weights[QUERY] = weights[QUERY].to(torch.float8_e4m3fn)
    weights[QUERY.replace("weight", "scale_weight")] = torch.ones(())


def int8(weights):
    weights[QUERY] = weights[QUERY].to(torch.int8)


def nan(weights):
    weights[QUERY][3, 5] = torch.nan


def infinite(weights):
    weights["sam2.no_mem_embed"][0, 0, 1] = torch.inf


def lone_head(weights):
    weights["lm_head.weight"] = weights.pop(EMBEDDING)


def other_head(weights):
    weights["lm_head.weight"] = weights[EMBEDDING] + 1


def two_spellings(weights):
    weights[QUERY.replace("model.", "model.language_model.")] = weights[QUERY].clone()


def further_layer(weights):
    weights[QUERY.replace(".0.", ".2.")] = weights[QUERY].clone()


def broadcastable(weights):
    weights["model.norm.weight"] = weights["model.norm.weight"][:1].clone()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (fp8, "holds quantised weights"),
        (int8, r"quantised weights \(model\.layers\.0\.self_attn\.q_proj\.weight is I8\)"),
        (nan, r"model\.layers\.0\.self_attn\.q_proj\.weight has 1 of 4,096 values that are NaN or infinite as float32"),
        (infinite, r"sam2\.no_mem_embed has 1 of"),
        (lone_head, r"lacks 1 weights of a UniPixel: model\.embed_tokens\.weight"),
        (other_head, "holds lm_head.weight and another model.embed_tokens.weight"),
        (two_spellings, "holds one weight twice"),
        (further_layer, "has 1 weights that the model of its config.json does not have"),
        (broadcastable, r"model\.norm\.weight \[1\] -> \[64\]"),
    ],
)
def test_weights_that_would_load_into_other_values_are_refused(folder, change, reason):
    rewrite(folder, change)
    refused(folder, reason)


def test_a_file_that_ends_in_zeros_is_refused_and_a_matrix_of_zeros_named(folder, caplog):
    rewrite(folder, lambda weights: weights[QUERY].zero_())
    checkpoints.load_checkpoint(folder)
    assert f"all values of {QUERY} are 0" in caplog.text
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
    refused(folder, "ends in 65,536 zeros: its download is incomplete")


def test_a_head_that_equals_the_embedding_it_is_tied_to_loads(folder):
    rewrite(folder, lambda weights: weights.update({"lm_head.weight": weights[EMBEDDING].clone()}))
    model = checkpoints.load_checkpoint(folder)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_a_type_that_is_too_narrow_for_the_weights_is_named(folder):
    rewrite(folder, lambda weights: weights[QUERY].fill_(1e6))
    assert checkpoints.load_checkpoint(folder).dtype == torch.float32
    refused(folder, "4,096 of 4,096 values that are NaN or infinite as float16", dtype=torch.float16)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen9_vl"}, "model_type 'qwen9_vl', expected 'pixel_qwen2_5_vl'"),
        ({"text_config": {}}, r"does not fit its config|hidden_size"),
        ({"sam2_image_size": "128"}, "sam2_image_size is '128', expected a whole number from 32 to 8,192"),
        ({"sam2_image_size": -32}, "sam2_image_size is -32, expected"),
        ({"sam2_hidden_tokens": 0}, "sam2_hidden_tokens is 0, expected"),
        ({"sam2_hidden_tokens": 10**9}, "sam2_hidden_tokens is 1000000000, expected"),
        ({"sam2_sizes": [1]}, "unknown decoder sizes"),
        ({"sam2_sizes": {"embed": 10**9}}, "embed is 1000000000, expected"),
        ({"sam2_config": 3}, "sam2_config is 3, expected text"),
        ({"seg_token_id": 10**6}, "seg_token_id is 1000000, expected a token below the vocab_size"),
        ({"seg_token_id": True}, "seg_token_id is True, expected"),
        ({"clock_horizon": float("nan")}, "clock_horizon is nan, expected a number"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised weights are not supported"),
        ({"transformers_weights": "../other.safetensors"}, "transformers_weights names"),
        ({"tie_word_embeddings": "true"}, "tie_word_embeddings is 'true', expected true or false"),
        ({"dtype": "float8_e4m3fn"}, "dtype is torch.float8_e4m3fn, expected"),
        ({"dtype": "float99"}, "cannot load"),
        ({"vision_config": 7}, "cannot load"),
    ],
)
def test_a_config_that_no_model_can_be_built_by_is_refused_by_its_field(folder, changes, reason):
    edit(folder / "config.json", **changes)
    refused(folder, reason)


@pytest.mark.parametrize(
    ("part", "changes", "reason"),
    [
        ("text_config", {"hidden_size": "64"}, r"text_config\.hidden_size is '64', expected a whole number"),
        ("text_config", {"num_hidden_layers": 10**9}, r"text_config\.num_hidden_layers is 1000000000"),
        ("text_config", {"num_hidden_layers": 1}, r"num_hidden_layers|layer_types"),
        ("text_config", {"num_attention_heads": 0}, r"num_attention_heads is 0, expected"),
        ("text_config", {"num_attention_heads": 8}, "mrope_section"),
        ("text_config", {"vocab_size": 10**7}, r"embed_tokens\.weight \[\d+, 64\] -> \[10000000, 64\]"),
        ("text_config", {"hidden_act": "nothing"}, "cannot load a model by"),
        ("text_config", {"rms_norm_eps": -1e-6}, "rms_norm_eps is -1e-06, expected a number above 0"),
        ("vision_config", {"depth": -2}, r"vision_config\.depth is -2"),
        ("vision_config", {"num_heads": 3}, "3 heads do not divide"),
        ("vision_config", {"out_hidden_size": 128}, "out_hidden_size is 128"),
        ("vision_config", {"fullatt_block_indexes": [9]}, "are no blocks of a depth of 2"),
        (
            "text_config",
            {"head_dim": 10**9},
            "head_dim is 1000000000, where a hidden_size of 64 gives a head 16 channels",
        ),
        ("vision_config", {"head_dim": 2.5}, "head_dim is 2.5, where a hidden_size of 32 gives a head 16"),
        ("vision_config", {"window_size": 3}, "a window_size of 3 holds no merged patch"),
        ("text_config", {"rms_norm_eps": 2.5}, "rms_norm_eps is 2.5, expected a number above 0 and below 1"),
        ("text_config", {"rope_parameters": None}, r"mrope_section \[16, 24, 24\] covers 128 of the 16 channels"),
        (
            "text_config",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8]}},
            r"mrope_section is \[8\], expected three numbers",
        ),
    ],
)
def test_sizes_that_are_none_or_not_those_of_the_weights_are_refused(folder, part, changes, reason):
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", **{part: config[part] | changes})
    refused(folder, reason)


@pytest.mark.parametrize("content", ["[]", "{}", "null", "<html>gone</html>", '{"model_type": "pixel_qwen2_5_vl"}'])
def test_a_config_that_is_none_is_refused_before_a_model_is_made(folder, content):
    (folder / "config.json").write_text(content)
    refused(folder, r"config\.json|out_hidden_size|does not fit its config")
    with pytest.raises(ValueError, match="checkpoint"):
        models.build(str(folder))


def test_a_full_model_beside_an_adapter_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc"}')
    refused(folder, r"holds a full model and adapter_config\.json")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{", "<html>", "[]", "{}"])
def test_a_tokenizer_that_is_none_is_refused(folder, name, content):
    (folder / name).write_text(content)
    if (name, content) == ("tokenizer_config.json", "{}"):
        return  # everything that counts is in tokenizer.json
    with pytest.raises(ValueError, match=r"tokenizer") as caught:
        checkpoints.load_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_checkpoint_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", seg_token_id=config["ref_token_id"], ref_token_id=config["seg_token_id"])
    with pytest.raises(ValueError, match=r"<\|seg\|> is \d+ in the tokenizer and \d+ in config\.json"):
        checkpoints.load_tokenizer(folder)


@pytest.fixture
def trained(tiny_model, tmp_path):
    """What a run in training leaves."""
    adapted = lora.attach_lora(tiny_model, rank=4, alpha=8, dropout=0.0)
    lora.set_trainable(adapted, ["seg", "embedding"])
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    checkpoints.save_trained(adapted, tmp_path / "trained")
    return tmp_path / "trained"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"r": 8}, "of rank 4, where adapter_config.json has r=8"),
        ({"r": "4"}, "r is '4', expected the rank"),
        ({"r": None}, "r is None, expected"),
        ({"r": 0}, "r is 0, expected"),
        ({"r": -4}, "r is -4, expected"),
        ({"r": True}, "r is True, expected"),
        ({"lora_alpha": "8"}, "lora_alpha is '8', expected a number"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"lora_alpha": float("inf")}, "lora_alpha is inf"),
        ({"init_lora_weights": "pissa"}, "only init_lora_weights=True can be merged"),
        ({"fan_in_fan_out": True}, "only fan_in_fan_out=False can be merged"),
        ({"rank_pattern": {"q_proj": 2}}, "only rank_pattern={} can be merged"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes'"),
        ({"peft_type": "IA3"}, "only peft_type='LORA' can be merged"),
        ({"use_bdlora": True}, "use_bdlora is 'True': only plain LoRA adapters can be merged"),
        ({"velora_config": {"rank": 4}}, "velora_config is .* only plain"),
        ({"alora_invocation_tokens": [1]}, "only alora_invocation_tokens=None can be merged"),
        ({"target_parameters": ["experts.weight"]}, "only target_parameters=None can be merged"),
        ({"target_modules": ["q_proj", "gate_proj"]}, "has no weights for gate_proj, which adapter_config.json has"),
        ({"layers_to_transform": "all"}, "layers_to_transform is 'all', expected numbers of layers"),
    ],
)
def test_an_adapter_config_that_does_not_say_how_to_merge_is_refused(trained, tiny_checkpoint, changes, reason):
    edit(trained / "adapter_config.json", **changes)
    refused(trained, reason, base=tiny_checkpoint)


def test_an_adapter_config_without_a_rank_or_that_is_none_is_refused(trained, tiny_checkpoint):
    path = trained / "adapter_config.json"
    config = json.loads(path.read_text())
    del config["r"]
    path.write_text(json.dumps(config))
    refused(trained, "r is None, expected the rank", base=tiny_checkpoint)
    path.write_text("[]")
    refused(trained, r"adapter_config\.json is no JSON object", base=tiny_checkpoint)
    path.unlink()
    refused(trained, r"without its adapter_config\.json", base=tiny_checkpoint)


LORA_A = "base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_A.weight"


def without_factor(weights):
    del weights[LORA_A]


def without_layer(weights):
    del weights[LORA_A], weights[LORA_A.replace("lora_A", "lora_B")]


def factor_twice(weights):
    weights[LORA_A.replace(".weight", ".default.weight")] = weights[LORA_A] + 1


def of_another_width(weights):
    weights[LORA_A] = torch.zeros(4, 32)


def of_a_deeper_base(weights):
    for name in (LORA_A, LORA_A.replace("lora_A", "lora_B")):
        weights[name.replace(".1.", ".7.")] = weights[name].clone()


def adapter_nan(weights):
    weights[LORA_A][0, 0] = torch.nan


def adapter_fp8(weights):
    weights[LORA_A] = weights[LORA_A].to(torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_factor, "without its other factor"),
        (without_layer, r"lacks model\.language_model\.layers\.1\.self_attn\.q_proj\.weight, but has them for other"),
        (of_another_width, "an adapter of another base"),
        (factor_twice, "has one factor twice"),
        (of_a_deeper_base, "an adapter of another base"),
        (adapter_nan, "values that are NaN or infinite"),
        (adapter_fp8, "quantised adapters are not supported"),
        (dict.clear, "has no weights"),
    ],
)
def test_an_adapter_that_is_not_whole_or_of_another_base_is_refused(trained, tiny_checkpoint, change, reason):
    rewrite(trained, change, "adapter_model.safetensors")
    refused(trained, reason, base=tiny_checkpoint)


def test_layers_that_the_config_leaves_out_need_no_adapter(trained, tiny_checkpoint):
    edit(trained / "adapter_config.json", layers_to_transform=[0, 1])
    rewrite(trained, without_layer, "adapter_model.safetensors")
    refused(trained, r"lacks model\.language_model\.layers\.1\.self_attn\.q_proj", base=tiny_checkpoint)
    edit(trained / "adapter_config.json", layers_to_transform=None, exclude_modules=["layers.1.self_attn.q_proj"])
    checkpoints.load_checkpoint(trained, base=tiny_checkpoint)


def test_a_lone_head_over_a_tied_base_is_refused(trained, tiny_checkpoint, tmp_path):
    assert EMBEDDING in load_file(trained / "pytorch_model.safetensors")
    checkpoints.load_checkpoint(trained, base=tiny_checkpoint)
    rewrite(trained, lone_head, "pytorch_model.safetensors")
    refused(trained, r"lm_head\.weight without model\.embed_tokens\.weight", base=tiny_checkpoint)
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        convert(ConversionConfig(out=tmp_path / "full", base=tiny_checkpoint, trained=trained))
    assert not (tmp_path / "full").exists()


def test_trained_weights_that_are_not_whole_are_refused(trained, tiny_checkpoint, tiny_model):
    whole = load_file(trained / "pytorch_model.safetensors")
    rewrite(trained, dict.clear, "pytorch_model.safetensors")
    refused(trained, r"pytorch_model\.safetensors holds no weights", base=tiny_checkpoint)
    whole[EMBEDDING].fill_(torch.nan)
    save_file(whole, trained / "pytorch_model.safetensors", metadata={"format": "pt"})
    refused(trained, r"pytorch_model\.safetensors: model\.embed_tokens\.weight has", base=tiny_checkpoint)
    (trained / "adapter_model.safetensors").unlink()
    refused(trained, r"adapter_config\.json without adapter_model\.safetensors", base=tiny_checkpoint)


def test_a_run_does_not_go_on_from_a_part_of_its_checkpoint(trained, tiny_checkpoint):
    adapted = lora.attach_lora(checkpoints.load_checkpoint(tiny_checkpoint), rank=4, alpha=8, dropout=0.0)
    lora.set_trainable(adapted, ["seg", "embedding"])
    checkpoints.load_trained(adapted, trained)
    rewrite(trained, lambda weights: weights.pop("seg_head.1.weight"), "pytorch_model.safetensors")
    with pytest.raises(ValueError, match=r"lacks seg_head\.1\.weight, which is trained here"):
        checkpoints.load_trained(adapted, trained)
    rewrite(trained, without_layer, "adapter_model.safetensors")
    with pytest.raises(ValueError, match="is incomplete: it lacks"):
        checkpoints.load_trained(adapted, trained)


# SAM 2.1 files


@pytest.fixture
def sam(tmp_path):
    """A SAM 2.1 file of the tiny size, and its weights."""
    torch.manual_seed(3)
    tracker = MaskTracker(decoder_config(DECODERS["tiny"], 128))
    tracker.start_from_scratch()
    return tmp_path / "sam2.1_hiera_ours.pt", sam2_weights.in_metas_names(tracker)


def read_refused(path, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        sam2_weights.read_decoder_weights(path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_sam_2_0_is_recognised(sam):
    path, weights = sam
    older = {
        name: weight
        for name, weight in weights.items()
        if not name.startswith(("no_obj_embed_spatial", "obj_ptr_tpos_proj"))
    }
    assert len(weights) - len(older) == 3
    torch.save({"model": older}, path)
    read_refused(path, r"is SAM 2\.0 .*expected SAM 2\.1; bash scripts/download\.sh")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><html><title>Not found</title></html>", "it is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b'<?xml version="1.0"?><Error/>', "an XML document"),
        (b'{"error": "gated"}', "JSON text"),
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(40), "does not contain tensors only"),
        (pickle.dumps({"model": {}}), "not a checkpoint of SAM|tensors only"),
        (b"\x80\x02}q\x00(X\x05", "does not contain tensors only"),
        (bytes(range(256)), "does not contain tensors only"),
    ],
)
def test_what_is_no_sam_file_is_named_and_never_advised_to_be_unpickled(tmp_path, content, reason):
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    path.write_bytes(content)
    read_refused(path, reason)


def test_a_file_that_grows_when_it_is_read_is_refused(sam):
    path, weights = sam
    torch.save({"model": weights}, path)
    with zipfile.ZipFile(path) as stored:
        files = {entry.filename: stored.read(entry) for entry in stored.infolist()}
    files["archive/data/0"] = bytes(2**26)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    read_refused(path, "is not a file of torch.save: it has [0-9,]+ bytes in")


def test_weights_of_a_decoder_that_are_no_numbers_or_not_there_are_refused(sam):
    path, weights = sam
    name = "no_mem_embed"
    for value, reason in (
        (torch.full_like(weights[name], torch.nan), "no_mem_embed has 64 of 64 values that are NaN"),
        (weights[name].to(torch.int8), r"quantised weights \(no_mem_embed is int8\)"),
        (weights[name].to("meta"), "no_mem_embed has no values"),
        (torch.zeros(1).expand(10**12), r"no_mem_embed has too few values for its shape \[1000000000000\]"),
    ):
        torch.save({"model": weights | {name: value}}, path)
        read_refused(path, reason)


# Logits


def test_logits_that_are_no_numbers_make_a_failed_record(tiny_model, tokenizer, video):
    with torch.no_grad():
        tiny_model.lm_head.weight = torch.nn.Parameter(tiny_model.lm_head.weight.clone())
        tiny_model.lm_head.weight[50] = torch.inf
    chat = UniPixelChat(tiny_model, tokenizer, decoding=RowDecoding(0.0, 0, 3))
    with pytest.raises(ModelError, match=r"logits that are NaN or infinite .*--dtype float32"):
        chat.generate([Message("user", (VideoPart(video), "What?"))])


def test_a_decoder_that_draws_no_numbers_makes_a_failed_record(speaker, video):
    chat = speaker("#")
    with torch.no_grad():
        chat.model.sam2.mask_decoder.iou_token.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"the mask decoder computed values that are NaN"):
        chat.generate([Message("user", (VideoPart(video), "Where?"))])
