"""Files of a checkpoint folder, checked before memory is allocated for them: JSON objects and safetensors headers.

Nothing here needs torch. For a file with unexpected content (a web page, a Git LFS pointer, a truncated download) a
`ValueError` states the file, its content and the fix.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"

MAX_JSON_BYTES = 2**28
"""Limit of a JSON file; tokenizers of published models are below 40 MB."""

MAX_HEADER_BYTES = 10**8
"""As in the safetensors library."""

MIN_BYTES_OF_TAIL, TAIL_BYTES = 2**20, 2**16
"""Weight files from this size on do not end in that many zeros."""

MAX_LISTED = 5
"""Number of names that an error message lists before it counts the rest."""

BITS: dict[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of a value of each type of the safetensors format."""

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types of weights that are not quantised."""

_QUANTISED = re.compile(
    r"(^|[._])(scale_weight|scale_input|weight_scales?(_inv|_2)?|input_scale|scaled_fp8|qweight|qzeros|scales|g_idx|"
    r"(nested_)?absmax|(nested_)?quant_map|quant_state(\..*)?|SCB|weight_format|weight_packed|weight_shape|"
    r"weight_zero_point|comfy_quant)$"
)
"""Names that hold the scales, tables or packed values of quantised weights, by fp8 exporters, GPTQ, AWQ, bitsandbytes
and compressed-tensors."""

_ADAPTED = re.compile(r"\.(lora_[A-Za-z_]+|base_layer|modules_to_save)(\.|$)")
"""Names of weights in a model whose adapter is not merged."""

_COUNTS = re.compile(r"(_ids?|_index(es)?|_indices|_tracked)$")
"""Names of integer buffers of models that are not quantised."""

_READ_BY_TRANSFORMERS = (
    *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "preprocessor_config.json", "processor_config.json", "chat_template.json"),
)
"""JSON objects that transformers reads beside the weights."""

_WITH_SIZES = ("config.json", "preprocessor_config.json", "processor_config.json")

_MOST = (
    (re.compile(r"(layers|depth)$"), 1024),
    (re.compile(r"(heads|experts)$"), 2**13),
    (re.compile(r"(_dim|hidden_size|intermediate_size)$"), 2**20),
    (re.compile(r"(vocab_size|max_position_embeddings|min_pixels|shortest_edge)$"), 2**26),
    (re.compile(r"(patch_size|merge_size|^size|^height|^width)$"), 2**14),
    (re.compile(r"eps$"), 0.1),
)
"""Names of sizes in configs, and their limits."""

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com", "a Git LFS pointer, not the file itself (git lfs pull fetches it)"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document, as servers send for errors"),
    (b"<error", "an XML document, as servers send for errors"),
    (b"<", "a page of markup"),
    (b"pk\x03\x04", "a ZIP archive, as torch.save writes them"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"gguf", "a GGUF file"),
    (b"{", "JSON text"),
    (b"[", "JSON text"),
)


class TensorInfo(NamedTuple):
    """Header entry of a tensor in a safetensors file."""

    file: Path
    dtype: str
    """Type in the format's spelling: "F32", "BF16", ..."""
    shape: tuple[int, ...]


def first_names(names: Collection[str]) -> str:
    """Return the first names and the number of the others, as text."""
    rest = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(list(names)[:MAX_LISTED]) + rest


def content_kind(path: Path) -> str | None:
    """Return the kind of content by the first bytes, such as "an HTML page", "a Git LFS pointer"; None = unknown."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        return f"not readable ({error.strerror})"
    if not start:
        return "empty"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for beginning, kind in _BEGINNINGS if text.startswith(beginning)), None)


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file of a checkpoint; a `ValueError` states what the file contains instead."""
    try:
        with path.open("rb") as file:
            content: object = json.loads(file.read(MAX_JSON_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        kind = content_kind(path)
        reason = f"it is {kind}" if kind not in (None, "JSON text") else str(error).splitlines()[0]
        raise ValueError(f"{path} is no JSON ({reason}): fetch or copy it again") from error
    if isinstance(content, dict):
        return cast("dict[str, Any]", content)
    raise ValueError(f"{path} is no JSON object (it holds {json.dumps(content)[:40]}): fetch or copy it again")


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read the header of a safetensors file: tensors by name. A `ValueError` for a file that is not complete."""
    try:
        header, num_bytes = _header(path)
        tensors = {name: _tensor(path, name, entry) for name, entry in header.items() if name != "__metadata__"}
        _check_places(tensors, {name: header[name]["data_offsets"] for name in tensors}, num_bytes)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        kind = content_kind(path)
        reason = f"it is {kind}" if kind is not None else error
        raise ValueError(f"{path} is no whole safetensors file ({reason}): fetch or copy it again") from error
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a full checkpoint: one, or the shards of its index, which all have to exist."""
    index = folder / INDEX
    if not index.is_file():
        if not (folder / WEIGHTS).is_file():
            raise ValueError(f"{folder} is incomplete: it lacks {WEIGHTS} or {INDEX}")
        return [folder / WEIGHTS]
    if (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} holds both {WEIGHTS} and {INDEX}: remove the one that is not meant")
    shards = sorted(set(weight_map(index).values()))
    if missing := [shard for shard in shards if not (folder / shard).is_file()]:
        raise ValueError(f"{folder} is incomplete: it lacks {first_names(missing)}, which {INDEX} names")
    return [folder / shard for shard in shards]


def weight_map(index: Path) -> dict[str, str]:
    """Read an index of shards: weight name -> file name."""
    entries = read_object(index).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise ValueError(
            f"{index} is no index of safetensors shards: expected 'weight_map', an object of weight: file; "
            f"fetch or copy it again"
        )
    files = cast("dict[str, object]", entries)
    for shard in files.values():
        if not isinstance(shard, str) or not re.fullmatch(r"\w[\w.-]{0,200}\.safetensors", shard):
            raise ValueError(f"{index} names {shard!r}, expected a safetensors file of its folder")
    return cast("dict[str, str]", files)


def read_weights(folder: Path) -> dict[str, TensorInfo]:
    """Read the headers of the weight files of a full checkpoint: tensors by their names on disk."""
    weights: dict[str, TensorInfo] = {}
    for path in weight_files(folder):
        header = read_header(path)
        _check_tail(path)
        if twice := sorted(weights.keys() & header.keys()):
            raise ValueError(
                f"{path} and {weights[twice[0]].file.name} both hold {first_names(twice)}: shards of two checkpoints "
                f"are mixed; fetch or copy the folder again"
            )
        weights |= header
    index = folder / INDEX
    if index.is_file() and (absent := sorted(weight_map(index).keys() - weights.keys())):
        raise ValueError(f"{index} names {first_names(absent)}, which no shard holds: fetch or copy the folder again")
    return weights


def _check_tail(path: Path) -> None:
    """Raise a `ValueError` for a large weight file that ends in zeros: a truncated download.

    Tools that download a file in parts allocate its whole length first.
    """
    if path.stat().st_size < MIN_BYTES_OF_TAIL:
        return
    with path.open("rb") as file:
        file.seek(-TAIL_BYTES, os.SEEK_END)
        if not any(file.read(TAIL_BYTES)):
            raise ValueError(f"{path} ends in {TAIL_BYTES:,} zeros: its download is incomplete; fetch or copy it again")


def check_plain(weights: Mapping[str, TensorInfo]) -> None:
    """Raise a `ValueError` for weights that are quantised or have an adapter that is not merged."""
    for name, (path, dtype, _) in weights.items():
        if _ADAPTED.search(name):
            raise ValueError(
                f"{path} holds {name}, a part of an adapter that is not merged: merge it where it was trained "
                f"(PEFT's merge_and_unload), or keep {ADAPTER} in a folder of its own"
            )
        if _QUANTISED.search(name) or (dtype not in FLOATS and not _COUNTS.search(name)):
            raise ValueError(
                f"{path} holds quantised weights ({name} is {dtype}), expected F32, BF16 or F16: fetch the checkpoint "
                f"that is not quantised"
            )


def check_open(folder: Path) -> None:
    """Raise a `ValueError` for a checkpoint of transformers that cannot be loaded.

    Quantised weights need a `quantization_config` in config.json.
    """
    config = read_object(folder / "config.json")
    objects = {name: read_object(folder / name) for name in _READ_BY_TRANSFORMERS if (folder / name).is_file()}
    for name, content in {"config.json": config, **objects}.items():
        for problem in _too_large(content, "") if name in _WITH_SIZES else ():
            raise ValueError(f"{folder / name}: {problem}; fetch or copy the checkpoint again")
    weights = read_weights(folder)
    check_no_adapter(folder, "give the folder of the model alone")
    if not config.get("quantization_config"):
        check_plain(weights)


def check_no_adapter(folder: Path, advice: str) -> None:
    """Raise a `ValueError` for a full model beside an adapter: whether the adapter is merged is ambiguous."""
    if names := [name for name in (ADAPTER, ADAPTER_CONFIG) if (folder / name).is_file()]:
        raise ValueError(
            f"{folder} holds a full model and {' and '.join(names)}: move the adapter to a folder of its own "
            f"({advice}), or remove it"
        )


def _too_large(config: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield messages for sizes in a config, and in its nested configs, that exceed their limits."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _too_large(cast("dict[str, Any]", value), f"{prefix}{name}.")
        elif isinstance(value, int | float):
            most = next((limit for pattern, limit in _MOST if pattern.search(name)), None)
            if most is not None and not value <= most:
                yield f"{prefix}{name} is {value}, expected {most:,} at most"


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and the number of bytes of values after it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise ValueError(f"{size:,} bytes are too few for its header")
        header: object = json.loads(file.read(length).decode("utf-8"))
    if isinstance(header, dict):
        return cast("dict[str, Any]", header), size - 8 - length
    raise ValueError("its header is no JSON object")


def _tensor(path: Path, name: str, entry: object) -> TensorInfo:
    fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    dtype, shape, place = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or not _are_counts(shape) or not _are_counts(place) or len(cast("Any", place)) != 2:
        raise ValueError(f"its header describes {name!r} by {json.dumps(entry)[:80]}")
    return TensorInfo(path, dtype, tuple(cast("list[int]", shape)))


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in cast("list[object]", value))


def _check_places(tensors: Mapping[str, TensorInfo], places: Mapping[str, list[int]], num_bytes: int) -> None:
    """Check that the tensors follow one another from the header to the end of the file, without gaps."""
    end = 0
    for name in sorted(tensors, key=lambda name: places[name]):
        begin, next_end = places[name]
        _, dtype, shape = tensors[name]
        bits = prod(shape) * BITS.get(dtype, 0)
        if begin != end or next_end < begin or (dtype in BITS and (next_end - begin) * 8 != bits):
            raise ValueError(f"the byte range of {name} does not fit its shape {list(shape)} of {dtype}")
        end = next_end
    if end != num_bytes:
        raise ValueError(f"its header describes {end:,} bytes of values, the file has {num_bytes:,}")
