"""Which attention runs: flash-attn where it can be imported, else torch's own; no bars and no noise while loading."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
ROOT = Path(__file__).resolve().parents[2]


def site_with_flash(folder: Path, body: str) -> Path:
    """A folder of packages with an installed flash-attn whose module has this body."""
    (folder / "flash_attn").mkdir()
    (folder / "flash_attn" / "__init__.py").write_text(body)
    about = folder / "flash_attn-2.8.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: flash-attn\nVersion: 2.8.2\n")
    (about / "RECORD").write_text("flash_attn/__init__.py,,\n")
    (about / "top_level.txt").write_text("flash_attn\n")
    return folder


PROGRAM = """
import torch
torch.cuda.is_available = lambda: True  # flash-attn is looked for on CUDA machines only
from transformers.utils import import_utils
import_utils.is_torch_cuda_available.cache_clear()
from evqa.models.attention import best_attention
print(best_attention("bfloat16", "cuda"), best_attention(torch.float32, "cuda"), best_attention("bfloat16", "cpu"))
"""


@pytest.mark.parametrize(
    ("body", "found", "message"),
    [
        ("__version__ = '2.8.2'", "flash_attention_2 sdpa sdpa", ""),
        (
            "raise ImportError('undefined symbol: _Z')",
            "sdpa sdpa sdpa",
            "flash-attn cannot be imported (und",
        ),
    ],
)
def test_flash_attention_is_used_where_it_can_be_imported(tmp_path: Path, body: str, found: str, message: str) -> None:
    path = os.pathsep.join([str(site_with_flash(tmp_path, body)), *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == found, done.stderr
    assert message in done.stderr


def test_the_extra_and_the_documents_name_flash_attn_and_sam2() -> None:
    assert re.search(r'"flash": \["flash-attn', (ROOT / "setup.py").read_text())
    for name in ("requirements.txt", "docs/installation.md"):
        text = (ROOT / name).read_text()
        assert "flash-attn" in text
        assert "sam2" in text


def test_an_ordinary_run_shows_no_bars_of_loading_and_no_warnings_of_libraries(tmp_path: Path) -> None:
    if not (ROOT / "model_zoo" / "tiny" / "model.safetensors").is_file():
        pytest.skip("model_zoo/tiny has no weights: git checkout model_zoo")
    program = "from evqa import models; models.build('tiny')\n"
    program += "import importlib.util as u\nif u.find_spec('deepspeed'): import deepspeed"
    path = os.pathsep.join([str(ROOT / "benchmark"), str(ROOT / "train")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Loading weights" not in done.stderr
    assert "WARNING" not in done.stdout + done.stderr
