"""How many threads torch computes with: what the process may use, and what is idle."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evqa import doctor, threads


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/user/job\n", {"user/job/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/user/job\n", {"user/job/cpu.max": "max 100000\n"}, None),
        ("0::/user/job\n", {"user/cpu.max": "200000 100000\n", "user/job/cpu.max": "max 100000\n"}, 2.0),
        ("0::/user/job\n", {"user/cpu.max": "800000 100000\n", "user/job/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3.0),
        (
            "3:cpu,cpuacct:/docker/x\n1:memory:/docker/x\n",
            {
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
            },
            4.0,
        ),
        ("3:cpu:/docker/x\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 2.0),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/../../host\n", {}, None),
        ("garbage", {"cpu.max": "garbage"}, None),
        ("", {}, None),
    ],
)
def test_a_quota_of_either_version_is_read_with_all_that_stand_above(
    tmp_path: Path, own: str, files: dict[str, str], expected: float | None
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert threads.cgroup_cores(tmp_path / "own", tmp_path / "root") == expected
    assert threads.cgroup_cores(tmp_path / "gone", tmp_path / "gone") is None


def run(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_the_variable_of_openmp_decides_where_it_is_set() -> None:
    code = "from evqa import threads; print(threads.thread_policy())"
    assert run(code, OMP_NUM_THREADS="3") == "ThreadPolicy(number=3, reason='OMP_NUM_THREADS=3')"
    assert "OMP_NUM_THREADS" not in run(code, OMP_NUM_THREADS="many")


def test_one_core_of_affinity_is_one_thread() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from evqa import threads; print(threads.thread_policy())"
    found = run(code)
    assert found.startswith("ThreadPolicy(number=1, ")
    assert (os.cpu_count() or 1) == 1 or "affinity allows 1" in found


def test_threads_wait_asleep_and_a_model_computes_with_as_many_as_the_policy_says(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    code = (
        "import os; from evqa import models, threads\n"
        "try: models.build('qwen3-vl-8b', checkpoint='/gone')\n"
        "except ValueError: pass\n"
        "import torch; print(torch.get_num_threads() <= threads.MAX_THREADS, os.environ['OMP_WAIT_POLICY'],"
        " os.environ['KMP_BLOCKTIME'], os.environ['GOMP_SPINCOUNT'])"
    )
    assert run(code, GOMP_SPINCOUNT="7") == "True PASSIVE 0 7"
    code = "import torch; from evqa import threads\nfor given in (9, 1): torch.set_num_threads(given); "
    code += " threads.set_num_threads(); print(torch.get_num_threads())"
    assert run(code, OMP_NUM_THREADS="2") == "2\n1", "what a caller has lowered is not raised"


def test_the_doctor_reports_threads_with_their_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert re.search(r"threads +2 \(OMP_NUM_THREADS=2\)", doctor.report(doctor.diagnose(imports=False)))
