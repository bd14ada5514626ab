"""A disk that is full, and one that is read-only: a real file system of a few pages, mounted for the test."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evqa import datasets, models
from evqa.__main__ import main
from evqa.runs.run_folder import PREDICTIONS, RUN
from evqa.schema import Prediction

Bench = Any
"""The fixture of conftest.py."""

Disk = Any
"""The fixture of conftest.py: a folder on a file system of its own, and what mounts that anew."""


def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(
    tmp_path: Path, bench: Bench, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    place, mount = disk
    data, replies = bench.data(tmp_path / "data", 120), bench.replies(tmp_path / "replies.json", 120)
    bench.run(models.build(str(replies)), datasets.load(str(data)), tmp_path / "unbroken")
    out = place / "run"
    command = ["predict", str(data), str(replies), "--out", str(out)]
    for _ in range(2):  # the same command again is stopped again, and breaks nothing
        assert main(command) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"evqa: cannot write to {out}: No space left on device; the predictions in it are safe")
    kept = bench.records(out)
    assert 10 < len(kept) < 120
    mount("remount,ro,size=64k")
    assert main(command) == 2
    assert f"cannot write to {out}: Read-only file system" in capsys.readouterr().err
    assert main(["score", str(out)]) == 2, "scores cannot be written"
    assert "Read-only file system" in capsys.readouterr().err
    assert bench.records(out) == kept
    mount("remount,rw,size=8m")
    assert main(command) == 0
    assert f"{120 - len(kept)} predicted, {len(kept)} already done (skipped), 0 failed" in capsys.readouterr().out
    assert bench.records(out)[: len(kept)] == kept
    assert len(bench.records(out)) == 120
    assert bench.latest(out) == bench.latest(tmp_path / "unbroken")


def test_a_disk_that_is_full_from_the_start_leaves_no_half_run(
    tmp_path: Path, bench: Bench, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    place, mount = disk
    with pytest.raises(OSError, match="No space left"):
        (place / "ballast").write_bytes(bytes(2**20))
    data, replies = bench.data(tmp_path / "data", 3), bench.replies(tmp_path / "replies.json", 3)
    command = ["predict", str(data), str(replies), "--out", str(place / "run")]
    assert main(command) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not (place / "run" / RUN).exists()
    mount("remount,size=8m")
    assert main(command) == 0
    assert len((place / "run" / PREDICTIONS).read_bytes().splitlines()) == 3


def test_shards_are_merged_or_left_as_they_are(
    tmp_path: Path, bench: Bench, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    place, mount = disk
    mount("remount,size=8m")
    data, replies = bench.data(tmp_path / "data", 40), bench.replies(tmp_path / "replies.json", 40)
    command = ["predict", str(data), str(replies), "--out", str(place / "run")]
    for index in range(2):
        assert main([*command, "--shard", f"{index}/2"]) == 0
    used = sum(path.stat().st_size for path in place.rglob("*.jsonl"))
    mount(f"remount,size={used // 1024 + 24}k")
    assert main(["merge", str(place / "run")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not (place / "run" / PREDICTIONS).exists()
    mount("remount,size=8m")
    assert main(["merge", str(place / "run")]) == 0
    assert len(bench.records(place / "run")) == 40


def test_masks_of_the_second_step_are_drawn_to_the_end_once_there_is_room(
    tmp_path: Path, bench: Bench, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    place, mount = disk
    data, segmenter = bench.data(tmp_path / "data", 40), tmp_path / "segmenter.json"
    drawing = next(iter(json.loads(bench.replies(tmp_path / "replies.json", 1).read_text()).values()))
    segmenter.write_text(json.dumps({"Please segment": drawing}))
    general = tmp_path / "general.json"
    general.write_text('{"*": "{\\"answer\\": \\"B\\", \\"referring_expressions\\": [\\"the square\\"]}"}')
    assert main(["predict", str(data), str(general), "--method", "json", "--out", str(tmp_path / "first")]) == 0
    command = ["segment", str(tmp_path / "first"), "--segmenter", str(segmenter), "--mode", "both"]
    assert main([*command, "--out", str(tmp_path / "unbroken")]) == 0
    broken = [*command, "--out", str(place / "drawn")]
    assert main(broken) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"evqa: cannot write to {place}/drawn-(separate|concat): No space left on device; the pred", error)
    kept = sum(path.read_bytes().count(b"\n") for path in place.rglob(PREDICTIONS))
    assert 10 < kept < 80
    mount("remount,ro,size=64k")
    assert main(broken) == 2
    assert "Read-only file system" in capsys.readouterr().err
    mount("remount,rw,size=8m")
    assert main(broken) == 0
    for mode in ("separate", "concat"):
        drawn, whole = place / f"drawn-{mode}", tmp_path / f"unbroken-{mode}"
        assert len(bench.records(drawn)) == 40
        assert without_seconds(bench.records(drawn)) == without_seconds(bench.records(whole))


def without_seconds(records: list[Prediction]) -> list[Prediction]:
    return [one.model_copy(update={"seconds": 0.0}) for one in records]
