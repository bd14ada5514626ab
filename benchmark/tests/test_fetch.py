"""Fetching data sets from a hub (a local server that answers as the Hub does), and unpacking archives safely."""

import gzip
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from evqa.hub import archives

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tar_of(**files):
    """Bytes of a .tar.gz with the files of that content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Hub(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012
    stated: dict[str, str] = {}  # noqa: RUF012
    """File -> a hash that is stated instead of the true one."""
    unknown: tuple[str, ...] = ()
    """Repositories that do not exist."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if any(f"/{name}" in path and f"/{name}-" not in path for name in self.unknown):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "/tree/" in path:
            tree = [{"type": "file", "path": name, "size": len(c), "oid": "0"} for name, c in self.files.items()]
            self.reply(json.dumps(tree).encode(), {"Content-Type": "application/json"})
            return
        if path.startswith("/api/datasets/"):
            self.reply(json.dumps(self.info()).encode(), {"Content-Type": "application/json"})
            return
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if name not in self.files:
            self.send_error(404)
            return
        content = self.files[name]
        self.reply(content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})

    def info(self):
        hashes = {
            name: self.stated.get(name, hashlib.sha256(content).hexdigest()) for name, content in self.files.items()
        }
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": "0",
                "lfs": {"sha256": hashes[name], "size": len(content), "pointerSize": 1},
            }
            for name, content in self.files.items()
        ]
        return {
            "id": "a/b",
            "sha": COMMIT,
            "siblings": siblings,
            "tags": [],
            "private": False,
            "downloads": 0,
            "likes": 0,
        }

    def reply(self, content, headers):
        self.send_response(200)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    """(address, handler class whose `files` can be set)."""
    handler = type("Files", (Hub,), {"files": {}, "stated": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()


def fetched(address, folder, *names):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "benchmark"),
        "EVQA_DATA": str(folder),
        "HF_ENDPOINT": address,
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-m", "evqa.hub.download", *names]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_data_set_is_fetched_checked_and_unpacked_once(tmp_path, hub):
    pytest.importorskip("huggingface_hub")
    address, handler = hub
    handler.files = {
        "gen_mask/st_evidence.csv": b"entry_id\n",
        "gen_mask/masks.tar.gz": tar_of(**{"masks/a.json": b"[]"}),
        "gen_qa/other.csv": b"not asked for",
    }
    done = fetched(address, tmp_path, "st-evidence-instruct")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "st_evidence_instruct"
    assert (folder / "gen_mask" / "masks" / "a.json").read_text() == "[]"
    assert not (folder / "gen_qa").exists()
    about = json.loads((folder / "source-st-evidence-instruct.json").read_text())
    assert (about["revision"], about["hub"]) == (COMMIT, "Salesforce/ST-Evidence-Instruct")
    assert about["sha256"]["gen_mask/masks.tar.gz"] == archives.sha256(folder / "gen_mask" / "masks.tar.gz")
    (folder / "gen_mask" / "masks" / "a.json").write_text("mine")
    assert fetched(address, tmp_path, "st-evidence-instruct").returncode == 0
    assert (folder / "gen_mask" / "masks" / "a.json").read_text() == "mine"


@pytest.mark.parametrize("unknown", [(), ("Salesforce/ST-Evidence-Bench",)])
def test_the_benchmarks_own_set_lands_in_its_folder_from_either_name_of_the_repository(tmp_path, hub, unknown):
    pytest.importorskip("huggingface_hub")
    address, handler = hub
    handler.unknown = unknown
    handler.files = {
        "st_evidence_gen/st_evidence_gen.csv": b"entry_id\n",
        "st_evidence_gen/masks.tar.gz": tar_of(**{"masks/a/00000.png": b"png"}),
        "st_evidence_mcq/st_evidence_mcq.csv": b"not asked for",
    }
    done = fetched(address, tmp_path, "st-evidence-gen")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "st_evidence_gen"
    assert done.stdout == f"st-evidence-gen: {folder}\n"
    assert "licence CC-BY-NC-4.0" in done.stderr
    assert "data/st_evidence_gen/prepare.py" in done.stderr
    assert (folder / "st_evidence_gen.csv").is_file()
    assert (folder / "masks" / "a" / "00000.png").read_bytes() == b"png"
    assert not (tmp_path / "st_evidence_mcq").exists()
    hub_name = json.loads((folder / "source-st-evidence-gen.json").read_text())["hub"]
    assert hub_name == ("Salesforce/ST-Evidence" if unknown else "Salesforce/ST-Evidence-Bench")


def test_a_repository_without_the_files_is_an_error(tmp_path, hub):
    pytest.importorskip("huggingface_hub")
    address, handler = hub
    handler.files = {"other.txt": b"x"}
    done = fetched(address, tmp_path, "mevis")
    assert done.returncode == 2
    assert "has no file like mevis/*, mevis.*" in done.stderr
    assert not (tmp_path / "mevis").exists()


def test_the_help_of_the_download_lists_what_there_is_and_exits_with_0(tmp_path):
    done = fetched("http://127.0.0.1:9", tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    sets = done.stdout.partition("data sets, into")[2]
    for number, name in enumerate(("st-evidence-gen", "st-evidence-mcq"), start=1):
        assert sets.splitlines()[number].startswith(f"  {name}: Salesforce/ST-Evidence-Bench (CC-BY-NC-4.0)")
    for name in ("revos", "unipixel-3b", "sam2.1-large"):
        assert f"  {name}: " in done.stdout
    for wrong in ([], ["--chek", "tiny"]):
        assert fetched("http://127.0.0.1:9", tmp_path, *wrong).returncode == 2


def test_a_damaged_archive_is_removed_and_not_unpacked(tmp_path, hub):
    pytest.importorskip("huggingface_hub")
    address, handler = hub
    handler.files = {"gen_mask/masks.tar.gz": tar_of(**{"masks/a.json": b"[]"})}
    handler.stated = {"gen_mask/masks.tar.gz": "0" * 64}
    done = fetched(address, tmp_path, "st-evidence-instruct")
    assert done.returncode == 2
    assert "masks.tar.gz" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "st_evidence_instruct" / "gen_mask" / "masks").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("revos", "has to be fetched by hand from https://huggingface.co/datasets/PolyU-ChenLab/UniPixel-SFT-1M"),
        ("nothing", "unknown name 'nothing'; what can be downloaded: tiny, "),
        ("tiny", "is on no hub"),
        ("osprey-pos-neg", "has to be fetched by hand from Osprey-724K"),
        ("shapes-test", "run `python "),
        ("nobody/Nothing", "`hf download nobody/Nothing`"),
        ("Salesforce/ST-Evidence-3", "did you mean Salesforce/ST-Evidence-3B"),
    ],
)
def test_what_cannot_be_fetched_says_why(tmp_path, name, message):
    done = fetched("http://127.0.0.1:9", tmp_path, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_archives_of_each_kind_unpack_beside_themselves(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(tar_of(**{"x/1.txt": b"one", "x/2.txt": b"two"}))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("y/3.txt", "three")
    assert (archives.unpack(tmp_path / "a.tar.gz"), archives.unpack(tmp_path / "b.zip")) == (2, 1)
    assert [(tmp_path / name).read_text() for name in ("x/1.txt", "x/2.txt", "y/3.txt")] == ["one", "two", "three"]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        special("../out.txt", tarfile.REGTYPE),
        special("/tmp/evqa_out.txt", tarfile.REGTYPE),
        special("link", tarfile.SYMTYPE, "../.."),
        special("link", tarfile.SYMTYPE, "/etc"),
        special("hard", tarfile.LNKTYPE, "../../secret"),
        special("pipe", tarfile.FIFOTYPE),
        special("device", tarfile.CHRTYPE),
        special("c:\\x", tarfile.REGTYPE),
    ],
)
def test_an_archive_that_leaves_its_folder_is_refused_as_a_whole(tmp_path, member):
    folder = tmp_path / "data"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as file:
        file.addfile(special("good.txt", tarfile.REGTYPE))
        file.addfile(member)
    with pytest.raises(ValueError, match=r"."):
        archives.unpack(folder / "a.tar")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "data"]


def test_a_zip_that_leaves_its_folder_is_refused_as_a_whole(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("good.txt", "x")
        file.writestr("../out.txt", "x")
    with pytest.raises(ValueError, match="path leaves its folder"):
        archives.unpack(folder / "a.zip")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "data"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.tar"])
@pytest.mark.parametrize("content", [b"", b"nothing", tar_of(x=b"y" * 5000)[:40]], ids=["empty", "text", "cut"])
def test_a_broken_archive_is_a_value_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        archives.unpack(tmp_path / name)


def kept_as_it_is(count):
    """A .tar.gz of pictures that gzip cannot make smaller, so that a wrong byte is one of a picture."""
    noise = np.random.default_rng(0).bytes(50_000)
    return tar_of(**{f"{number}.png": noise for number in range(count)})


def test_one_wrong_byte_in_a_compressed_archive_is_found_before_anything_is_written(tmp_path):
    content = bytearray(kept_as_it_is(20))
    content[len(content) // 3] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        archives.unpack(tmp_path / "a.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize(("cut", "wrong"), [(3, b""), (3, b"\0" * 100), (3, b"x" * 512)])
def test_an_archive_that_breaks_off_between_two_files_is_not_taken_for_whole(tmp_path, cut, wrong):
    whole = gzip.decompress(tar_of(**{str(number): b"y" * 512 for number in range(9)}))
    (tmp_path / "a.tar").write_bytes(whole[: cut * 1024] + wrong)
    with pytest.raises(ValueError, match=r"cannot be unpacked.*truncated after 3072 bytes"):
        archives.unpack(tmp_path / "a.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_damage_that_is_found_while_unpacking_is_a_value_error(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.addfile(special("hard", tarfile.LNKTYPE, "not there"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("x", np.random.default_rng(0).bytes(5000))
    content = bytearray((tmp_path / "b.zip").read_bytes())
    content[60:100] = bytes(40)
    (tmp_path / "b.zip").write_bytes(content)
    for name in ("a.tar", "b.zip"):
        with pytest.raises(ValueError, match="cannot be unpacked"):
            archives.unpack(tmp_path / name)
