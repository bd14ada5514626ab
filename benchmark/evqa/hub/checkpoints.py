"""The table of checkpoints: their sources, their folders, download and verification.

Weights are compared with the hub's hashes during `download_checkpoint`, and with the same hashes later, without network
(`verify_hashes`); `evqa.hub.download` is the command for both.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any, cast

from evqa import schema, suggestions
from evqa.files import jsonl, roots
from evqa.hub import checkpoint_files

MODEL_TYPE = "pixel_qwen2_5_vl"
"""`model_type` in the config.json of every checkpoint that our model loads."""

DOWNLOADED = ["*.safetensors", "*.json", "*.txt", "*.jinja"]
"""Patterns of weights, configuration and vocabulary; no file that runs code when it is loaded."""

CODE = ["*.py"]
"""Patterns of files that are also downloaded for a checkpoint that runs code."""

UNREAD = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
"""Suffixes of weight files that are pickles, which are not read."""

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A row of `CHECKPOINTS`: a set of weights."""

    folder: str
    """Folder below a root of checkpoints (see `roots.MODELS`)."""
    hub: str | None
    """Repository on the Hugging Face Hub; None = comes with this repository."""
    revision: str | None = None
    """Commit on the hub; None = the newest, whose commit is written to source.json."""
    licence: str
    note: str = ""
    """Limitation that users must know, printed with each answer."""
    runs_code: bool = False
    """Whether loading it runs Python code of the repository; a download then needs the reviewed commit."""


UNSTATED = "see its model card"
NON_COMMERCIAL = "CC-BY-NC-4.0"
TINY_NOTE = (
    "tiny was trained on the synthetic shapes of data/shapes alone: on any other video its answer, spans and "
    "masks are meaningless. It exists to demonstrate and test the pipeline on a CPU."
)

DECODER_NOTE = "SAM 2.1 alone, for evqa track, or as the mask decoder of another checkpoint (unipixel.sft SIZE large)"

CHECKPOINTS: dict[str, Checkpoint] = {
    "tiny": Checkpoint(folder="tiny", hub=None, licence="Apache-2.0", note=TINY_NOTE),
    "unipixel-3b": Checkpoint(folder="unipixel-3b", hub="PolyU-ChenLab/UniPixel-3B", licence=UNSTATED),
    "unipixel-7b": Checkpoint(folder="unipixel-7b", hub="PolyU-ChenLab/UniPixel-7B", licence=UNSTATED),
    "st-evidence-3b": Checkpoint(folder="st-evidence-3b", hub="Salesforce/ST-Evidence-3B", licence=NON_COMMERCIAL),
    "st-evidence-7b": Checkpoint(folder="st-evidence-7b", hub="Salesforce/ST-Evidence-7B", licence=NON_COMMERCIAL),
    **{
        f"sam2.1-{size}": Checkpoint(
            folder=f"sam2.1-{size}", hub=f"facebook/sam2.1-hiera-{size}", licence="Apache-2.0", note=DECODER_NOTE
        )
        for size in ("tiny", "small", "base-plus", "large")
    },
    **{
        folder: Checkpoint(folder=folder, hub=hub, licence=licence)
        for folder, hub, licence in (
            ("qwen2.5-3b", "Qwen/Qwen2.5-3B-Instruct", "Qwen Research (non-commercial)"),
            ("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct", "Apache-2.0"),
            ("qwen2.5-vl-3b", "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen Research (non-commercial)"),
            ("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct", "Apache-2.0"),
            ("qwen2.5-vl-72b", "Qwen/Qwen2.5-VL-72B-Instruct", "Qwen"),
            ("vrthinker", "qunwang13/vrthinker", UNSTATED),
            ("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", "Apache-2.0"),
            ("qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct", "Apache-2.0"),
            ("qwen3-vl-30b-a3b", "Qwen/Qwen3-VL-30B-A3B-Instruct", "Apache-2.0"),
            ("qwen3-vl-235b-a22b", "Qwen/Qwen3-VL-235B-A22B-Instruct", "Apache-2.0"),
            ("internvl3.5-4b", "OpenGVLab/InternVL3_5-4B-HF", "Apache-2.0"),
            ("internvl3.5-8b", "OpenGVLab/InternVL3_5-8B-HF", "Apache-2.0"),
            ("videollama3-2b-image", "lkhl/VideoLLaMA3-2B-Image-HF", UNSTATED),
        )
    },
    "llava-onevision-1.5-8b": Checkpoint(
        folder="llava-onevision-1.5-8b",
        hub="lmms-lab/LLaVA-OneVision-1.5-8B-Instruct",
        licence=UNSTATED,
        runs_code=True,
    ),
    "sa2va-qwen2.5-vl-7b": Checkpoint(
        folder="sa2va-qwen2.5-vl-7b", hub="ByteDance/Sa2VA-Qwen2_5-VL-7B", licence=UNSTATED, runs_code=True
    ),
}

SOURCE = "source.json"
"""File in a downloaded folder: hub, revision, licence, SHA-256 of each weight file."""


def checkpoint_row(name: str) -> Checkpoint:
    """Return the row of a name or of a hub id; a `ValueError` for an unknown one lists the names."""
    row = published_row(name)
    if row is None:
        more = "; or give an existing folder"
        raise suggestions.unknown_name_message(
            "checkpoint", name, CHECKPOINTS, aliases=hub_ids() if "/" in name else (), more=more
        )
    return row


def hub_ids() -> list[str]:
    """Return the Hugging Face ids of all rows."""
    return [row.hub for row in CHECKPOINTS.values() if row.hub is not None]


def published_row(name: str) -> Checkpoint | None:
    """Return the row of a name or of a Hugging Face id; None = there is none."""
    if name in CHECKPOINTS:
        return CHECKPOINTS[name]
    return next((row for row in CHECKPOINTS.values() if (row.hub or "").casefold() == name.casefold()), None)


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hugging Face id and is no path that exists."""
    return bool(roots.HUB_ID.fullmatch(name)) and name[0] != "." and not Path(name).exists()


def locate_checkpoint(name: str) -> Path:
    """Return the folder of a complete checkpoint: a name of `CHECKPOINTS`, a Hugging Face id, or a path to a folder.

    Raises:
        ValueError: It is missing or incomplete; the message has the missing files, the searched folders and the
            download command.
    """
    folders = _folders(name)
    complete = next((folder for folder in folders if not missing_files(folder)), None)
    if complete is not None:
        return complete
    if published_row(name) is None and not any(folder.is_dir() for folder in folders):
        raise ValueError(
            f"{name} is neither a folder nor in the Hugging Face cache {roots.hub_cache()}; "
            f"if it is a Hugging Face id, fetch it: hf download {name}"
        )
    folder = next((folder for folder in folders if folder.is_dir()), None)
    state, unread = "not on this machine", ""
    if folder is not None:
        state, unread = f"not complete: {folder} has no {', '.join(missing_files(folder))}", _unread(folder)
    raise ValueError(f"checkpoint {name!r} is {state}; {unread or _fetch(name)}{_searched(name, folders)}")


def _unread(folder: Path) -> str:
    """Return the message about weights in a folder that are pickles; "" = it has none."""
    names = sorted(path.name for path in folder.glob("*") if path.suffix in UNREAD)
    if not names:
        return ""
    return (
        f"it has {checkpoint_files.first_names(names)}, which is not read because loading a pickle can run code: "
        f"fetch the same checkpoint as safetensors"
    )


def locate_weights(name: str) -> Path:
    """Return the path of weights: as `locate_checkpoint`, also of a file or a folder without config.json."""
    if Path(name).exists() and name not in CHECKPOINTS:
        return Path(name)
    if published_row(name) is not None or is_hub_id(name):
        return locate_checkpoint(name)
    question = suggestions.did_you_mean(name, CHECKPOINTS)
    expected = "expected a file, a folder, or a name of `evqa list checkpoints`"
    raise ValueError(f"no such file: {name}; {expected}{question}")


def find_checkpoint(name: str) -> Path | None:
    """Return the folder of a complete checkpoint; None = not on this machine. `ValueError`: its files are damaged."""
    for folder in _folders(name):
        download_record(folder)  # raises where source.json is damaged, as `missing_files` does for the index of shards
        if not missing_files(folder):
            if any((folder / name).is_file() for name in (checkpoint_files.WEIGHTS, checkpoint_files.INDEX)):
                checkpoint_files.read_weights(folder)  # raises where a file broke off or is something else
            return folder
    return None


def _folders(name: str) -> list[Path]:
    """Return the folders that may hold a checkpoint, at least one; the first complete one is used."""
    if model_type(name) and not is_hub_id(name):
        return [Path(name)]
    row = checkpoint_row(name) if not is_hub_id(name) else published_row(name)
    local = [] if row is None else [root / row.folder for root in roots.searched(roots.MODELS)]
    hub, revision = (name, None) if row is None else (row.hub, row.revision)
    snapshot = None if hub is None else roots.cached_snapshot(hub, revision)
    cached = [] if snapshot is None else [snapshot]
    return (cached + local if is_hub_id(name) else local + cached) or [roots.hub_cache() / name]


def _searched(name: str, folders: Sequence[Path]) -> str:
    row = published_row(name)
    places = [str(folder) for folder in folders]
    if row is None or row.hub is not None:
        places.append(f"the Hugging Face cache {roots.hub_cache()}")
    return f" (searched: {', '.join(dict.fromkeys(places))})"


def is_folder(name: str) -> bool:
    """Whether a folder or a Hugging Face id in the cache is a UniPixel checkpoint, by its config.json."""
    return model_type(name) == MODEL_TYPE


def model_type(name: str) -> str | None:
    """Return `model_type` of the checkpoint in a folder, or of a Hugging Face id in the cache; None = no checkpoint.

    `ValueError`: its config.json has no `model_type`.
    """
    folder = _folder(name)
    config = None if name in CHECKPOINTS else _config(folder)
    if config is None:
        return None
    if isinstance(kind := config.get("model_type"), str):
        return kind
    raise ValueError(
        f"{folder / 'config.json'} has model_type {kind!r}, expected the name of an architecture, such as "
        f"{MODEL_TYPE!r}: fetch or copy the checkpoint again"
    )


VISION_FIELDS = frozenset({"vision_config", "vision_tower", "mm_vision_tower", "auto_map"})
"""Fields of config.json of models with images, or with code of their own."""


def is_text_model(name: str) -> bool:
    """Whether the checkpoint in a folder is a language model without images, by its config.json."""
    config = _config(_folder(name)) or {}
    architectures: object = config.get("architectures")
    names = cast("list[object]", architectures) if isinstance(architectures, list) else []
    return bool(names) and str(names[0]).endswith("ForCausalLM") and not VISION_FIELDS & config.keys()


def checkpoint_note(name: str) -> str:
    """Return the limitation that users must know, from the row or from `note` in config.json; "" = none."""
    row = published_row(name)
    return row.note if row is not None else str((_config(_folder(name)) or {}).get("note") or "")


def _folder(name: str) -> Path:
    """Return the folder of a path or of a Hugging Face id in the cache."""
    return (roots.cached_snapshot(name) if is_hub_id(name) else None) or Path(name)


def missing_files(folder: Path) -> list[str]:
    """Return the files that a checkpoint folder lacks: config, weights, each shard of the index."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    index = folder / checkpoint_files.INDEX
    if index.is_file():
        shards = sorted(set(checkpoint_files.weight_map(index).values()))
        return missing + [shard for shard in shards if not (folder / shard).is_file()]
    weights = (checkpoint_files.WEIGHTS, checkpoint_files.ADAPTER)
    if not any((folder / name).is_file() for name in weights):
        missing.append(weights[(folder / checkpoint_files.ADAPTER_CONFIG).is_file()])
    return missing


def download_checkpoint(name: str) -> Path:
    """Download a checkpoint from the hub (existing files are kept) and return its folder.

    `NAME@COMMIT` selects a revision and is required for a checkpoint that runs code. Weights that differ from the hub's
    hashes are an error.
    """
    name, _, commit = name.partition("@")
    row = checkpoint_row(name)
    if commit:
        row = replace(row, revision=commit)
    if row.runs_code and not COMMIT.fullmatch(row.revision or ""):
        raise ValueError(
            f"{name} comes with Python code that runs when it is loaded: read it on https://huggingface.co/{row.hub} "
            f"and name the commit that you have read: {roots.download_command(f'{name}@COMMIT')} (40 digits)"
        )
    if row.hub is None:
        raise ValueError(f"checkpoint {name!r} is on no hub; {_fetch(name)}")
    folder = roots.writable(roots.MODELS) / row.folder
    revision, hashes = _snapshot(replace(row, revision=commit or row.revision), folder)
    _compare(folder, hashes)
    record = {"hub": row.hub, "revision": revision, "licence": row.licence, "sha256": hashes}
    jsonl.write_json(folder / SOURCE, record)
    if missing := missing_files(folder):
        raise ValueError(f"{row.hub} has no {', '.join(missing)}: {folder} holds no complete checkpoint")
    return folder


def download_record(folder: Path) -> dict[str, Any]:
    """Return source.json of a downloaded folder; {} = it was not downloaded."""
    path = folder / SOURCE
    return checkpoint_files.read_object(path) if path.is_file() else {}


def verify_hashes(name: str) -> Path:
    """Compare the weights of a downloaded checkpoint with the hashes of the hub; return its folder."""
    folder = locate_checkpoint(name)
    hashes = download_record(folder).get("sha256")
    if not isinstance(hashes, dict) or not hashes:
        raise ValueError(f"{folder} was not downloaded with hashes to compare with; {_fetch(name)}")
    _compare(folder, cast("dict[str, str]", hashes))
    return folder


def _compare(folder: Path, hashes: Mapping[str, str]) -> None:
    for name, expected in hashes.items():
        try:
            with (folder / schema.check_id(name)).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ValueError(f"{folder / name} cannot be read ({error.strerror}): download it again") from error
        if actual != expected:
            raise ValueError(
                f"{folder / name} is not the published file: its SHA-256 is {actual}, expected {expected}; "
                f"remove it and download again"
            )


def _snapshot(row: Checkpoint, folder: Path) -> tuple[str, dict[str, str]]:
    """Download the files of a row into a folder; return their commit and the hub's hashes of the weights."""
    try:
        hub: Any = importlib.import_module("huggingface_hub")  # only a download needs it
    except ModuleNotFoundError as error:
        raise ValueError('a download needs huggingface_hub: pip install "evqa[models]"') from error
    request = {
        "repo_id": row.hub,
        "revision": row.revision,
        "local_dir": folder,
        "allow_patterns": DOWNLOADED + CODE * row.runs_code,
    }
    try:
        files = hub.snapshot_download(**request, dry_run=True)
        _check_space(folder, sum(file.file_size or 0 for file in files if file.will_download))
        hub.snapshot_download(**request)
        hashes = {
            str(file.filename): _hash(hub, row, file) for file in files if str(file.filename).endswith(".safetensors")
        }
    except hub.errors.HfHubHTTPError.__bases__ as error:  # OSError, and the HTTP library's
        raise ValueError(f"cannot download {row.hub} ({_first_line(error)}); {_by_hand(row, folder)}") from error
    if not files:
        raise ValueError(f"{row.hub} has no file like {', '.join(DOWNLOADED)}: the checkpoint is not there")
    return str(files[0].commit_hash), {name: value for name, value in hashes.items() if value}


def _hash(hub: Any, row: Checkpoint, file: Any) -> str:
    """Return the SHA-256 of a large file on the hub; "" for a small one, which is in git."""
    url = hub.hf_hub_url(row.hub, file.filename, revision=file.commit_hash)
    tag = str(hub.get_hf_file_metadata(url).etag or "")
    return tag if len(tag) == 64 else ""


def _check_space(folder: Path, size_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise ValueError(
            f"{folder} has {free / 2**30:.1f} GiB free, and the download needs {size_bytes / 2**30:.1f} GiB: "
            f"make room, or set EVQA_ZOO to a folder on another disk"
        )


def installed_revision(folder: Path) -> str | None:
    """Return the commit of a downloaded checkpoint; None = it is not known."""
    if folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name):  # of the Hugging Face cache
        return folder.name
    revision = download_record(folder).get("revision")
    return revision if isinstance(revision, str) else None


def fingerprint(folder: Path, num_blocks: int = 16, block: int = 2**16) -> str:
    """Return a hash of blocks of the weights, which distinguishes two trainings without reading 16 GB."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for number in range(num_blocks):
                file.seek(number * max(size - block, 0) // (num_blocks - 1))
                digest.update(file.read(block))
    return digest.hexdigest()[:16]


def require_trust(name: str, folder: Path, *, trust: bool) -> None:
    """Raise a `ValueError` for a checkpoint with code, unless the user trusts it and its commit is known."""
    if not trust:
        raise ValueError(
            f"model {name!r} runs the Python code in {folder}, which can do whatever you can: review it, "
            f"then give --trust-remote-code"
        )
    if published_row(name) is not None and not COMMIT.fullmatch(installed_revision(folder) or ""):
        command = roots.download_command(f"{name}@COMMIT")
        raise ValueError(f"{folder} has no record of its commit; download it again: {command}")


def _config(folder: Path) -> dict[str, Any] | None:
    """Return config.json of a folder; None = it has none. `ValueError`: it is no JSON object."""
    try:
        is_there = (folder / "config.json").is_file()
    except (OSError, ValueError):  # no path at all: too long, or with a null byte
        return None
    return checkpoint_files.read_object(folder / "config.json") if is_there else None


def _fetch(name: str) -> str:
    row = published_row(name)
    if row is None and is_hub_id(name):
        return f"fetch it: hf download {name}"
    if row is None:
        return "its training run was interrupted, or files were lost: write or copy it again"
    if row.hub is None:
        return f"it comes with the repository: {_checkout(row)}"
    return f"fetch it: {roots.download_command(name)}"


def _checkout(row: Checkpoint) -> str:
    """Return the command that restores a checkpoint of the repository."""
    source = roots.clone()
    if source is None:
        return f"clone it, and set EVQA_ZOO to its folder model_zoo ({row.folder} is in there)"
    option = "" if source == Path() else f"-C {quote(str(source))} "
    return f"git {option}checkout -- model_zoo/{row.folder}"


def _by_hand(row: Checkpoint, folder: Path) -> str:
    if not missing_files(folder):
        revision = download_record(folder).get("revision", "unknown")
        return f"{folder} is complete (revision {revision}) and can be used as it is"
    return (
        f"check the network and try again (downloaded files are kept), or on a machine with network run "
        f"`hf download {row.hub} --local-dir {row.folder}` and copy that folder to {folder}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
