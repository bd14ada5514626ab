import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evqa import doctor
from evqa.doctor import Finding

DIAGNOSE = "from evqa import doctor; print(doctor.report(doctor.diagnose(imports=False)))"


def diagnosis(*folders: Path) -> str:
    """What the doctor says where these folders come first on the path."""
    path = os.pathsep.join([*map(str, folders), *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, "-c", DIAGNOSE], capture_output=True, text=True, env=environment, check=True
    )
    return result.stdout


def row(text: str, check: str) -> str:
    """The first row of a check in a report: "LEVEL  RESULT"."""
    rows = (re.fullmatch(rf"(\w+) +{check}  +(.*)", line) for line in text.splitlines())
    match = next(match for match in rows if match)
    return f"{match[1]}  {match[2]}"


def install(folder: Path, name: str, version: str, requires: str = "") -> Path:
    """A package as pip lays it down: its folder and its metadata."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").touch()
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", requires]
    (metadata / "METADATA").write_text("\n".join(line for line in lines if line) + "\n")
    return package


def test_a_torchvision_for_cuda_beside_a_torch_without_is_broken_and_says_what_breaks(tmp_path: Path) -> None:
    install(tmp_path, "torch", "2.13.0+cpu")
    package = install(tmp_path, "torchvision", "0.28.0", "Requires-Dist: torch (==2.13.0)")
    (package / "_C.so").write_bytes(b"\x7fELF" + bytes(100) + b"libc10_cuda.so\0libtorch_cuda.so\0")
    text = diagnosis(tmp_path)
    assert row(text, "torchvision") == "broken  0.28.0 is a CUDA build, torch is a CPU build"
    assert "Trainer, Sam2VideoModel" in text
    assert "pip uninstall -y torchvision" in text


def test_the_same_torchvision_beside_a_torch_for_cuda_is_fine(tmp_path: Path) -> None:
    torch = install(tmp_path, "torch", "2.13.0")
    (torch / "lib").mkdir()
    (torch / "lib" / "libtorch_cuda.so").touch()
    package = install(tmp_path, "torchvision", "0.28.0", "Requires-Dist: torch (==2.13.0)")
    (package / "_C.so").write_bytes(b"\x7fELF" + b"libtorch_cuda.so\0")
    assert row(diagnosis(tmp_path), "torchvision") == "ok  0.28.0 fits torch (not needed)"


def test_a_torchvision_for_another_torch_is_broken(tmp_path: Path) -> None:
    install(tmp_path, "torch", "2.13.0+cpu")
    package = install(tmp_path, "torchvision", "0.29.2", "Requires-Dist: torch (==2.15.0)")
    (package / "_C.so").write_bytes(b"\x7fELF libtorch_cpu.so")
    assert row(diagnosis(tmp_path), "torchvision") == "broken  0.29.2 requires torch==2.15.0, installed is 2.13.0+cpu"


def test_a_real_library_that_loads_no_cuda_is_told_apart() -> None:
    torch = pytest.importorskip("torch")
    if doctor.has_cuda_build():
        pytest.skip("the torch here is a CUDA build")
    libraries = sorted((Path(torch.__file__).parent / "lib").glob("libtorch_python*"))
    assert libraries
    assert not doctor.needs_cuda(libraries[0])


def test_a_version_out_of_range_is_broken(tmp_path: Path) -> None:
    install(tmp_path, "transformers", "4.40.0")
    metadata = tmp_path / "evqa-9.dist-info"
    metadata.mkdir()
    requires = "Requires-Dist: transformers<5.24,>=5.17; extra == 'models'"
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: evqa\nVersion: 9\n{requires}\n")
    assert row(diagnosis(tmp_path), "versions") == "broken  transformers is 4.40.0, expected <5.24,>=5.17"


def test_a_missing_extra_says_what_does_not_work_without_it() -> None:
    packages, features = doctor.EXTRAS["train"]
    findings = list(doctor.missing_extras({"train": doctor.Extra((*packages, "no-such-package"), features)}))
    assert [finding.level for finding in findings] == ["note"]
    assert findings[0].result == "'train' lacks no-such-package"
    assert findings[0].impact == "needed for: fine-tuning: bash scripts/sft.sh"


def test_this_environment_is_diagnosed_and_nothing_in_it_is_broken() -> None:
    findings = doctor.diagnose(imports=False)
    results = " ".join(f"{finding.check}: {finding.result}" for finding in findings)
    assert [finding.result for finding in findings if finding.level == "broken"] == []
    for expected in ("Python: 3", "core packages: installed", "PyAV", "GiB free", "checkpoints: installed in"):
        assert expected in results


def test_the_report_is_a_table_of_checks_that_counts_problems_and_shows_fixes() -> None:
    broken = Finding(level="broken", check="masks", result="x", impact="no masks", fix="install y")
    text = doctor.report([broken, Finding(level="ok", check="disk", result="z")])
    rows = ["broken  masks  x", f"{'':15}no masks", f"{'':15}fix: install y", "ok      disk   z", "1 problem"]
    assert text.splitlines() == rows
    assert doctor.report([broken, broken]).endswith("\n2 problems")
    assert doctor.report([]) == "no problems"


def test_the_messages_are_sentences_that_name_the_check() -> None:
    findings = doctor.diagnose(imports=False)
    assert {finding.check for finding in findings} <= set(doctor.CHECKS)
    for text in (doctor.report(findings), *(extra.features for extra in doctor.EXTRAS.values())):
        assert "there is no" not in text
        assert "our model:" not in text


def test_it_says_whether_masks_are_compared_in_c_and_what_to_do_if_not() -> None:
    assert doctor.compiled_part("compiled") == Finding(level="ok", result="available: masks are compared in C")
    missing = doctor.compiled_part("not built")
    assert missing.level == "note"
    assert "pip install -e ." in missing.fix
    environment = os.environ | {"EVQA_NO_C": "1"}
    result = subprocess.run([sys.executable, "-c", DIAGNOSE], capture_output=True, text=True, env=environment)
    assert row(result.stdout, "compiled code") == "note  switched off"
    assert "unset EVQA_NO_C" in result.stdout
