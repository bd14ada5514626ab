"""Files of checkpoints that are not what their names say; no torch is needed to see it."""

import json
import struct
from pathlib import Path

import pytest

from evqa import models
from evqa.hub import checkpoint_files, checkpoints
from evqa.hub.checkpoint_files import TensorInfo

HTML = b"<!DOCTYPE html><html><title>404</title></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"
XML = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'


def packed(tensors: dict[str, tuple[str, list[int], int]]) -> bytes:
    """A safetensors file: name -> (type, shape, bytes)."""
    header: dict[str, object] = {}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


PLAIN = {"a": ("F32", [2, 3], 24), "b": ("BF16", [], 2)}


def test_a_header_tells_names_types_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed(PLAIN))
    assert checkpoint_files.read_header(path) == {
        "a": TensorInfo(path, "F32", (2, 3)),
        "b": TensorInfo(path, "BF16", ()),
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (HTML, "an HTML page"),
        (LFS, "a Git LFS pointer"),
        (XML, "an XML document"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"\x80\x02}q\x00.", "a Python pickle"),
        (b'{"error": "gated"}', "JSON text"),
        (b"\x00" * 20, "too few for its header"),
        (struct.pack("<Q", 2**62) + bytes(50), "too few for its header"),
        (packed(PLAIN)[:-1], "describes 26 bytes of values, the file has 25"),
        (packed(PLAIN) + b"more", "26 bytes of values, the file has 30"),
        (packed({"a": ("F32", [2, 3], 20)}), r"the byte range of a does not fit its shape \[2, 3\]"),
        (packed({"a": ("F32", [-1], 4)}), "describes 'a'"),
        (struct.pack("<Q", 2) + b"[]", "no JSON object"),
        (struct.pack("<Q", 4) + b"nope", "Expecting value"),
    ],
)
def test_what_is_no_safetensors_file_is_named_with_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is no whole safetensors file .*{reason}") as caught:
        checkpoint_files.read_header(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HTML, "an HTML page"),
        (LFS, "a Git LFS pointer"),
        (XML, "an XML document"),
        (b"", "empty"),
        (b"{", "Expecting property name"),
        (b"[" * 100_000, "recursion"),
        (b"\xff\xfe{}", "codec can't decode"),
        (b"[]", r"object \(it holds \[\]\)"),
        (b"null", r"object \(it holds null\)"),
    ],
)
def test_what_is_no_json_is_named_with_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is no JSON.*{reason}"):
        checkpoint_files.read_object(path)
    with pytest.raises(ValueError, match=f"{path} is no JSON"):
        models.model_spec(str(tmp_path))


def test_a_config_that_names_no_architecture_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json has model_type None, expected"):
        models.model_spec(str(tmp_path))


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("{}", "expected 'weight_map'"),
        ("[]", "no JSON object"),
        ('{"weight_map": {}}', "expected 'weight_map'"),
        ('{"weight_map": ["a"]}', "expected 'weight_map'"),
        ('{"weight_map": {"a": 3}}', "names 3, expected a safetensors file of its folder"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "expected a safetensors file of its folder"),
        ('{"weight_map": {"a": "' + "x" * 300 + '.safetensors"}}', "expected a safetensors file of its folder"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "lacks gone.safetensors"),
        ('{"weight_map": {"a": "1.safetensors", "c": "1.safetensors"}}', "names c, which no shard holds"),
        ('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}', "both hold a"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(tmp_path: Path, index: str, reason: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    for number in (1, 2):
        (tmp_path / f"{number}.safetensors").write_bytes(packed(PLAIN))
    with pytest.raises(ValueError, match=reason):
        checkpoint_files.read_weights(tmp_path)
    if "weight_map'" in reason:
        with pytest.raises(ValueError, match=reason):
            checkpoints.missing_files(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_a_folder_whose_weights_are_a_pickle_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    (tmp_path / name).write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match=f"no model.safetensors; it has {name}, which is not read because .* pickle"):
        checkpoints.locate_checkpoint(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    assert checkpoints.missing_files(tmp_path) == ["adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", {"text_config": {"num_hidden_layers": 10**9}}, "text_config.num_hidden_layers is 1000000000"),
        ("config.json", {"text_config": {"head_dim": 10**9}}, "text_config.head_dim is 1000000000, expected 1,048,576"),
        ("config.json", {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, expected 0.1 at most"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 10**9}}, "size.shortest_edge is 1000000000"),
        ("processor_config.json", [], "is no JSON object"),
        ("adapter_config.json", {}, "holds a full model and adapter_config.json"),
    ],
)
def test_what_lies_beside_the_weights_is_checked(tmp_path: Path, name: str, content: object, reason: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(packed(PLAIN))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=reason):
        checkpoint_files.check_open(tmp_path)


def test_weights_that_broke_off_are_not_listed_as_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    (tmp_path / "model.safetensors").write_bytes(packed(PLAIN))
    assert checkpoints.find_checkpoint(str(tmp_path)) == tmp_path
    (tmp_path / "model.safetensors").write_bytes(packed(PLAIN)[:-1])
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        checkpoints.find_checkpoint(str(tmp_path))


def test_a_folder_with_two_sets_of_weights_is_refused(tmp_path: Path) -> None:
    for name in ("model.safetensors", "1.safetensors"):
        (tmp_path / name).write_bytes(packed(PLAIN))
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors"}}')
    with pytest.raises(ValueError, match="holds both"):
        checkpoint_files.read_weights(tmp_path)


@pytest.mark.parametrize(
    ("name", "dtype", "reason"),
    [
        ("q_proj.weight", "F8_E4M3", "quantised weights"),
        ("q_proj.weight", "I8", "quantised weights"),
        ("q_proj.weight", "U8", "quantised weights"),
        ("q_proj.scale_weight", "F32", "quantised weights"),
        ("q_proj.weight_scale_inv", "F32", "quantised weights"),
        ("q_proj.weight.absmax", "F32", "quantised weights"),
        ("q_proj.weight.quant_state.bitsandbytes__nf4", "U8", "quantised weights"),
        ("q_proj.qweight", "I32", "quantised weights"),
        ("q_proj.SCB", "F32", "quantised weights"),
        ("scaled_fp8", "F8_E4M3", "quantised weights"),
        ("layers.0.q_proj.lora_A.default.weight", "F32", "not merged"),
        ("layers.0.q_proj.base_layer.weight", "F32", "not merged"),
    ],
)
def test_weights_that_are_not_the_weights_are_refused(name: str, dtype: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        checkpoint_files.check_plain({name: TensorInfo(Path("model.safetensors"), dtype, (2, 2))})
    plain = {"norm.weight": ("F16", [2], 4), "num_batches_tracked": ("I64", [], 8), "rope.scale": ("F32", [], 4)}
    checkpoint_files.check_plain({key: TensorInfo(Path("x"), kind, ()) for key, (kind, _, _) in plain.items()})
