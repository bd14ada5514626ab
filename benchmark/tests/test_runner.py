import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evqa import datasets, methods, models
from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.models.base import Models
from evqa.runs import run_folder, runner, thread_executor
from evqa.runs.run_folder import PREDICTIONS, RUN
from evqa.runs.shards import Selection, Shard
from evqa.schema import Prediction, Turn, Usage


@pytest.fixture
def data(bench: Any, tmp_path: Path) -> Dataset:
    return datasets.load(str(bench.data(tmp_path / "data", 4)))


@pytest.fixture
def model(bench: Any, tmp_path: Path) -> models.Model:
    return models.build(str(bench.replies(tmp_path / "replies.json", 4)))


def run(
    model: models.Model,
    data: Dataset,
    folder: Path,
    *,
    limit: int | None = None,
    only: tuple[str, ...] | None = None,
    shard: Shard | None = None,
    restart: bool = False,
    **settings: bool | int,
) -> runner.RunSummary:
    executor = thread_executor.ThreadExecutor(Models(model))
    selection = Selection(limit=limit, only=only, shard=shard)
    return runner.run_samples(
        executor,
        methods.method("single-turn"),
        data,
        selection.folder(folder),
        runner.identity_of(executor, "single-turn", data, **settings),
        selection=selection,
        progress=False,
        restart=restart,
    )


def records(folder: Path) -> list[Prediction]:
    return list(jsonl.read_records(folder / PREDICTIONS, Prediction))


def without_times(predictions: list[Prediction]) -> dict[str, dict[str, object]]:
    return {one.sample_id: one.model_dump(exclude={"seconds"}) for one in predictions}


def command(data: Path, replies: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "evqa", "predict", str(data), str(replies), "--out", str(out)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def test_a_run_writes_one_record_a_sample_and_describes_itself(
    data: Dataset, model: models.Model, tmp_path: Path
) -> None:
    summary = run(model, data, tmp_path / "run")
    assert (summary.num_ok, summary.skipped, summary.failed) == (4, 0, {})
    about, predictions = (
        run_folder.read_run_info(tmp_path / "run"),
        run_folder.last_predictions(tmp_path / "run" / PREDICTIONS),
    )
    assert [one.sample_id for one in predictions] == ["s000", "s001", "s002", "s003"]
    assert [one.answer for one in predictions] == [0, 1, 0, 1]
    assert about.identity["data_sha256"] == data.sha256
    assert about.identity["method"] == "single-turn"
    assert about.identity["model.replies"] == model.settings["replies"]
    assert about.packages["numpy"] == np.__version__


def test_a_run_tells_what_it_took_with_its_failed_tries_and_after_a_kill(bench: Any, tmp_path: Path) -> None:
    data = datasets.load(str(bench.data(tmp_path / "data", 2)))
    script = json.loads(bench.replies(tmp_path / "replies.json", 2).read_text())
    model = models.build(str(tmp_path / "replies.json"))
    run(model, data, tmp_path / "run", limit=1)
    once = run_folder.read_run_info(tmp_path / "run").usage
    words = len(script["Question number 000?"]["text"].split())
    assert (once.num_replies, once.output_tokens, once.num_unpriced, once.cost) == (1, words, 1, 0.0)
    jsonl.append_record(tmp_path / "run" / PREDICTIONS, failed_after_a_reply("s001"))  # as a killed run leaves it
    summary = run(model, data, tmp_path / "run")
    assert summary.usage == run_folder.read_run_info(tmp_path / "run").usage
    assert (summary.usage.num_replies, summary.usage.input_tokens, summary.usage.cost) == (3, 100, 0.5)


def failed_after_a_reply(sample: str) -> Prediction:
    usage = Usage(input_tokens=100, output_tokens=10, seconds=1.0, cost=0.5)
    turn = Turn(answer_fields=("answer",), prompt="?", reply="B", usage=usage)
    return Prediction(sample_id=sample, status="failed", error="ModelError: cut", turns=(turn,))


def test_the_same_run_again_skips_what_is_done(data: Dataset, model: models.Model, tmp_path: Path) -> None:
    run(model, data, tmp_path / "run", limit=3)
    before = (tmp_path / "run" / PREDICTIONS).read_bytes()
    summary = run(model, data, tmp_path / "run")
    assert (summary.num_ok, summary.skipped) == (1, 3)
    assert (tmp_path / "run" / PREDICTIONS).read_bytes().startswith(before)
    assert len(records(tmp_path / "run")) == 4


def test_a_failed_sample_is_a_record_and_is_tried_again(bench: Any, tmp_path: Path) -> None:
    folder = bench.data(tmp_path / "data", 2)
    clip = folder / "videos" / "clip6.mp4"
    whole = clip.read_bytes()
    data = datasets.load(str(folder))
    model = models.build(str(bench.replies(tmp_path / "replies.json", 2)))
    clip.write_bytes(whole[: len(whole) // 2])
    first = run(model, data, tmp_path / "run")
    assert list(first.failed) == ["s000", "s001"]
    assert "clip6.mp4" in first.failed["s000"]
    clip.write_bytes(whole)
    second = run(model, data, tmp_path / "run")
    assert (second.num_ok, second.skipped, second.failed) == (2, 0, {})
    assert [one.status for one in records(tmp_path / "run")] == ["failed", "failed", "ok", "ok"]
    assert [one.status for one in run_folder.last_predictions(tmp_path / "run" / PREDICTIONS)] == ["ok", "ok"]


def test_only_the_named_samples_run_and_an_unknown_name_is_an_error(
    data: Dataset, model: models.Model, tmp_path: Path
) -> None:
    run(model, data, tmp_path / "run", only=("s002",))
    assert [one.sample_id for one in records(tmp_path / "run")] == ["s002"]
    with pytest.raises(ValueError, match="has no sample s999"):
        run(model, data, tmp_path / "run", only=("s999",))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_an_error(data: Dataset, model: models.Model, tmp_path: Path, limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        run(model, data, tmp_path / "run", limit=limit)


def test_a_folder_of_another_run_is_refused_with_the_differences(
    data: Dataset, model: models.Model, bench: Any, tmp_path: Path
) -> None:
    run(model, data, tmp_path / "run")
    before = (tmp_path / "run" / PREDICTIONS).read_bytes()
    with pytest.raises(ValueError, match=r"another run \(seed was 0, now 7\): .*--overwrite"):
        run(model, data, tmp_path / "run", seed=7)
    other = models.build(str(bench.replies(tmp_path / "other.json", 3)))
    with pytest.raises(ValueError, match=r"model was .*replies\.json', now .*other\.json'; model\.replies was"):
        run(other, data, tmp_path / "run")
    assert (tmp_path / "run" / PREDICTIONS).read_bytes() == before


def test_a_changed_data_set_is_another_run(bench: Any, tmp_path: Path, model: models.Model) -> None:
    folder = bench.data(tmp_path / "data", 2)
    run(model, datasets.load(str(folder)), tmp_path / "run")
    samples = folder / "samples.jsonl"
    samples.write_text(samples.read_text().replace("number 001", "number 003"))
    with pytest.raises(ValueError, match="data_sha256 was"):
        run(model, datasets.load(str(folder)), tmp_path / "run")


def test_restart_begins_anew(data: Dataset, model: models.Model, tmp_path: Path) -> None:
    run(model, data, tmp_path / "run")
    summary = run(model, data, tmp_path / "run", seed=7, restart=True, limit=1)
    assert (summary.num_ok, summary.skipped) == (1, 0)
    assert [one.sample_id for one in records(tmp_path / "run")] == ["s000"]
    assert run_folder.read_run_info(tmp_path / "run").identity["seed"] == 7


def test_predictions_that_no_run_describes_are_left_alone(data: Dataset, model: models.Model, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / PREDICTIONS).write_text("mine\n")
    with pytest.raises(ValueError, match=r"no run\.json"):
        run(model, data, tmp_path / "run", restart=True)
    assert (tmp_path / "run" / PREDICTIONS).read_text() == "mine\n"


def test_a_line_cut_by_a_crash_is_written_again(data: Dataset, model: models.Model, tmp_path: Path) -> None:
    run(model, data, tmp_path / "run")
    path = tmp_path / "run" / PREDICTIONS
    whole = records(tmp_path / "run")
    path.write_bytes(path.read_bytes()[:-20])
    summary = run(model, data, tmp_path / "run")
    assert (summary.num_ok, summary.skipped) == (1, 3)
    assert without_times(records(tmp_path / "run")) == without_times(whole)


def test_a_record_damaged_in_the_middle_is_an_error_with_its_line(
    data: Dataset, model: models.Model, tmp_path: Path
) -> None:
    run(model, data, tmp_path / "run")
    path = tmp_path / "run" / PREDICTIONS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"sample": \n', *lines[2:]]))
    with pytest.raises(ValueError, match=r"predictions\.jsonl:2 is no Prediction"):
        run(model, data, tmp_path / "run")


def test_a_damaged_description_of_a_run_is_an_error(data: Dataset, model: models.Model, tmp_path: Path) -> None:
    run(model, data, tmp_path / "run")
    (tmp_path / "run" / RUN).write_text("{")
    with pytest.raises(ValueError, match=r"run\.json does not describe a run"):
        run(model, data, tmp_path / "run")


def test_two_runs_cannot_share_a_folder(data: Dataset, model: models.Model, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "file.write('4711'); file.flush(); print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(folder / run_folder.LOCK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(ValueError, match=r"another run \(process 4711\) is writing"):
        run(model, data, folder)
    holder.communicate()
    assert run(model, data, folder).num_ok == 4


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(data: Dataset, model: models.Model) -> None:
    with pytest.raises(ValueError, match=r"cannot write to /proc/evqa-run: .*--out"):
        run(model, data, Path("/proc/evqa-run"))


def test_a_full_disk_stops_the_run_and_loses_nothing(bench: Any, tmp_path: Path) -> None:
    data = bench.data(tmp_path / "data", 12)
    replies = bench.replies(tmp_path / "replies.json", 12)
    out = tmp_path / "run"
    room = 8000

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    full = subprocess.run(
        command(data, replies, out),
        env=environment(),
        preexec_fn=fill,
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 2
    assert "cannot write to" in full.stderr
    assert "Traceback" not in full.stderr
    assert (out / PREDICTIONS).stat().st_size == room
    kept = records(out)
    assert 0 < len(kept) < 12
    again = subprocess.run(command(data, replies, out), env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert records(out)[: len(kept)] == kept
    assert [one.sample_id for one in records(out)] == [f"s{number:03d}" for number in range(12)]


def test_a_run_killed_again_and_again_ends_as_an_unbroken_one(bench: Any, tmp_path: Path) -> None:
    count = 60
    data = bench.data(tmp_path / "data", count)
    replies = bench.replies(tmp_path / "replies.json", count)
    unbroken = run(models.build(str(replies)), datasets.load(str(data)), tmp_path / "unbroken")
    assert unbroken.num_ok == count
    out = broken(tmp_path, command(data, replies, Path()))
    assert without_times(records(out)) == without_times(records(tmp_path / "unbroken"))
    assert len(records(out)) == count
    identities = [run_folder.read_run_info(folder).identity for folder in (out, tmp_path / "unbroken")]
    assert identities[0] == identities[1]


def broken(folder: Path, command: list[str], kills: int = 4) -> Path:
    """A run that was killed so often; one that ended before its last kill, while this process slept, is run anew."""
    chance = random.Random(0)
    for attempt in range(10):
        out, left = folder / f"killed{attempt}", kills
        while True:
            process = subprocess.Popen(
                [*command[:-1], str(out)], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if not left or not killed_past(process, out / PREDICTIONS, more_bytes=chance.randrange(200, 9_000)):
                break
            left -= 1
        assert process.wait() == 0
        if not left:
            return out
    raise TimeoutError


def killed_past(process: subprocess.Popen[bytes], path: Path, more_bytes: int) -> bool:
    """Kill a process when a file has grown by so much; False where it ended before."""
    start = path.stat().st_size if path.exists() else 0
    while process.poll() is None:
        if path.exists() and path.stat().st_size >= start + more_bytes:
            process.send_signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.0005)
    return False
