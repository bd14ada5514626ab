"""Checkpoints come from a hub that speaks the Hugging Face protocol, here a small one on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from evqa.hub import checkpoints

REPO = "facebook/sam2.1-hiera-tiny"
COMMIT, OLDER = "a" * 40, "b" * 40
WEIGHTS = b"weights of the newest revision"


class Hub(BaseHTTPRequestHandler):
    """Serves one repository with two revisions; files by (commit, name)."""

    files: ClassVar[dict[tuple[str, str], bytes]] = {
        (COMMIT, "config.json"): b"{}",
        (COMMIT, "model.safetensors"): WEIGHTS,
        (COMMIT, "evil.bin"): b"a pickle",
        (OLDER, "config.json"): b"{}",
        (OLDER, "model.safetensors"): b"older weights",
    }
    served: ClassVar[bytes | None] = None
    """Sent for the weights in their place, where set."""

    def do_HEAD(self) -> None:
        self._answer(is_head=True)

    def do_GET(self) -> None:
        self._answer(is_head=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, *, is_head: bool) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._about(parts[4] if len(parts) > 4 else "", parts[5] if len(parts) > 5 else "main")
            return
        commit, name = parts[3], "/".join(parts[4:])
        commit = COMMIT if commit == "main" else commit
        content = self.files.get((commit, name))
        if content is None:
            self.send_error(404)
            return
        is_large = name.endswith(".safetensors")
        tag = hashlib.sha256(content).hexdigest() if is_large else hashlib.sha1(content).hexdigest()
        if is_large and self.served is not None:
            content = self.served
        self._send(content, {"X-Repo-Commit": commit, "ETag": f'"{tag}"'}, is_head=is_head)

    def _about(self, what: str, revision: str) -> None:
        commit = COMMIT if revision in {"main", ""} else revision
        names = [(name, content) for (at, name), content in self.files.items() if at == commit]
        if not names:
            self.send_error(404)
        elif what == "tree":
            rows = [{"type": "file", "path": name, "size": len(c), "oid": "0" * 40} for name, c in names]
            self._send(json.dumps(rows).encode(), {"Content-Type": "application/json"}, is_head=False)
        else:
            about = {"id": REPO, "sha": commit, "siblings": [{"rfilename": name} for name, _ in names]}
            self._send(json.dumps(about).encode(), {"Content-Type": "application/json"}, is_head=False)

    def _send(self, content: bytes, headers: dict[str, str], *, is_head: bool) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not is_head:
            self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    Hub.served = None


def fetch(folder: Path, hub: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "EVQA_ZOO": str(folder),
        "HF_ENDPOINT": hub,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-m", "evqa.hub.download", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_download_keeps_revision_and_hashes_and_is_checked_later_without_network(
    tmp_path: Path, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = fetch(tmp_path, hub, "sam2.1-tiny")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "sam2.1-tiny"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not (folder / "evil.bin").exists()
    assert checkpoints.download_record(folder) == {
        "hub": REPO,
        "revision": COMMIT,
        "licence": "Apache-2.0",
        "sha256": {"model.safetensors": hashlib.sha256(WEIGHTS).hexdigest()},
    }
    monkeypatch.setenv("EVQA_ZOO", str(tmp_path))
    assert checkpoints.verify_hashes("sam2.1-tiny") == folder
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1])
    with pytest.raises(ValueError, match="is not the published file: its SHA-256 is"):
        checkpoints.verify_hashes("sam2.1-tiny")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "source.json is no JSON"),
        ("[]", "source.json is no JSON object"),
        ('{"sha256": ["0"]}', "was not downloaded with hashes"),
        ('{"sha256": {"gone.safetensors": "0"}}', "gone.safetensors cannot be read"),
    ],
)
def test_a_check_names_what_is_wrong_with_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, about: str, message: str
) -> None:
    folder = tmp_path / "sam2.1-tiny"
    folder.mkdir()
    for name, content in (("config.json", "{}"), ("model.safetensors", "x"), ("source.json", about)):
        (folder / name).write_text(content)
    monkeypatch.setenv("EVQA_ZOO", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        checkpoints.verify_hashes("sam2.1-tiny")


def test_a_certain_revision_can_be_asked_for(tmp_path: Path, hub: str) -> None:
    result = fetch(tmp_path, hub, f"sam2.1-tiny@{OLDER}")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "sam2.1-tiny" / "model.safetensors").read_bytes() == b"older weights"
    assert checkpoints.download_record(tmp_path / "sam2.1-tiny")["revision"] == OLDER


def test_weights_that_changed_on_the_way_are_refused(tmp_path: Path, hub: str) -> None:
    Hub.served = b"WEIGHTS OF THE NEWEST REVISION"
    result = fetch(tmp_path, hub, "sam2.1-tiny")
    assert result.returncode == 2
    assert "is not the published file" in result.stderr
    assert not (tmp_path / "sam2.1-tiny" / "source.json").exists()


def test_without_network_a_complete_folder_is_said_to_be_one(tmp_path: Path) -> None:
    folder = tmp_path / "sam2.1-tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    result = fetch(tmp_path, "http://127.0.0.1:9", "sam2.1-tiny")
    assert result.returncode == 2
    assert "is complete (revision unknown) and can be used as it is" in result.stderr
    checked = fetch(tmp_path, "http://127.0.0.1:9", "--check", "sam2.1-tiny")
    assert checked.returncode == 2
    assert "was not downloaded with hashes" in checked.stderr
