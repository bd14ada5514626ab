"""Runs of agents against a server that fails: every sample exactly once, whatever stops a run or a request."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_api_models import KEY, FaultServer, clip, write_dataset

from evqa.__main__ import main
from evqa.agents.settings import AgentSettings
from evqa.files import jsonl
from evqa.models.tool_images import NOT_SHOWN
from evqa.report.run_facts import run_facts
from evqa.runs import pipeline, run_folder
from evqa.runs.options import ExecutionOptions
from evqa.runs.run_folder import PREDICTIONS
from evqa.schema import Prediction

pytest.importorskip("openai")
__all__ = ["clip"]

Disk = Any
"""The fixture of conftest.py: a folder on a file system of its own, and what mounts that anew."""

NUM_REPLIES = 3
"""Of an agent of `fault_server.py`: two tool calls and the answer."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVQA_SERVER_KEY", KEY)


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultServer]]:
    servers: list[FaultServer] = []

    def start(*options: str) -> FaultServer:
        servers.append(FaultServer(*options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def command(server: FaultServer, data: Path, out: Path, *options: str) -> list[str]:
    return [
        *("predict", str(data), "openai-compatible", "--method", "retrieve", "--encoder", "none"),
        *("--base-url", f"{server.url}/v1", "--model-id", "served", "--out", str(out), *options),
    ]


def records(folder: Path) -> list[Prediction]:
    return list(jsonl.read_records(folder / PREDICTIONS, Prediction))


def by_sample(folder: Path) -> dict[str, dict[str, object]]:
    """Sample -> its last record without times."""
    return {record.sample_id: without_times(record.model_dump()) for record in records(folder)}


def without_times(record: Any) -> Any:
    if isinstance(record, dict):
        return {key: without_times(value) for key, value in record.items() if key not in {"seconds", "tries"}}
    return [without_times(value) for value in record] if isinstance(record, list | tuple) else record


def assert_each_once(folder: Path, num_samples: int) -> None:
    """Each sample has one record without an error, its last; each turn is whole."""
    done = Counter(record.sample_id for record in records(folder) if record.status == "ok")
    assert done == {f"s{number:04d}": 1 for number in range(num_samples)}
    last = {record.sample_id: record for record in records(folder)}
    assert {record.status for record in last.values()} == {"ok"}
    for record in last.values():
        assert len(record.turns) == NUM_REPLIES
        assert [len(turn.calls) for turn in record.turns] == [1, 1, 0]
        assert all(len(turn.results) == len(turn.calls) for turn in record.turns)
        assert record.answer == int(record.sample_id[1:]) % 2, "no answer of another sample"


def test_agents_on_a_server_with_30_percent_faults_end_with_each_sample_once(
    serve: Callable[..., FaultServer], clip: Path, tmp_path: Path
) -> None:
    server = serve("--share", "0.3", "--slow", "0.3")
    data = write_dataset(tmp_path / "data", clip, 24)
    config = pipeline.PredictConfig(
        data=str(data),
        model="openai-compatible",
        method="retrieve",
        overrides={
            "base_url": f"{server.url}/v1",
            "model_id": "served",
            "first_wait": 0.01,
            "tries": 2,
            "timeout": 2.0,
        },
        agent_settings=AgentSettings(encoder="none"),
    )
    failures: list[int] = []
    for _ in range(12):
        summary = pipeline.predict(config, ExecutionOptions(concurrency=8), tmp_path / "run")
        failures.append(len(summary.failed))
        if not summary.failed:
            break
    assert failures[0] > 0, "two tries are not enough for all"
    assert failures[-1] == 0
    assert_each_once(tmp_path / "run", 24)
    faults = server.stats()["faults"]
    assert sum(faults.values()) - faults["ok"] > 20
    num_failed = sum(record.status == "failed" for record in records(tmp_path / "run"))
    assert num_failed == sum(failures), "failures are recorded, and tried again"
    assert summary.usage == run_folder.read_run_info(tmp_path / "run").usage


def test_agents_that_are_killed_go_on_where_they_were(
    serve: Callable[..., FaultServer], clip: Path, tmp_path: Path
) -> None:
    server, chance = serve(), random.Random(5)
    data = write_dataset(tmp_path / "data", clip, 10)
    assert main(command(server, data, tmp_path / "unbroken", "--concurrency", "8")) == 0
    before = len(server.stats()["requests"])
    broken = command(server, data, tmp_path / "run", "--concurrency", "4", "--rpm", "2400")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    num_kills = 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "evqa", *broken],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        start = len(server.stats()["requests"])
        while process.poll() is None and len(server.stats()["requests"]) < start + chance.randint(4, 12):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        num_kills += process.wait() == -signal.SIGKILL
    assert num_kills == 2
    assert main(broken) == 0
    assert_each_once(tmp_path / "run", 10)
    assert by_sample(tmp_path / "run") == by_sample(tmp_path / "unbroken")
    lost = len(server.stats()["requests"]) - before - 10 * NUM_REPLIES - 3
    assert 0 <= lost <= 2 * 4 * NUM_REPLIES, "only the samples in progress are asked again; a check per call"


def test_agents_on_a_full_disk_lose_nothing(
    serve: Callable[..., FaultServer], clip: Path, tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    place, mount = disk
    server = serve()
    data = write_dataset(tmp_path / "data", clip, 40)
    full = command(server, data, place / "run", "--concurrency", "4")
    assert main(full) == 2
    assert "No space left on device; the predictions in it are safe" in capsys.readouterr().err
    kept = records(place / "run")
    assert 2 < len(kept) < 40
    mount("remount,size=8m")
    assert main(full) == 0
    assert records(place / "run")[: len(kept)] == kept
    assert_each_once(place / "run", 40)
    assert len(records(place / "run")) == 40


def test_a_server_that_falls_silent_is_a_failed_record_within_its_time(
    serve: Callable[..., FaultServer], clip: Path, tmp_path: Path
) -> None:
    server = serve()
    data = write_dataset(tmp_path / "data", clip, 3)
    server.plan("ok", "hold")  # the second request of the first sample is never answered
    quiet = command(server, data, tmp_path / "run", *("--concurrency", "1", "--timeout", "1", "--max-retries", "0"))
    start = time.monotonic()
    assert main(quiet) == 1
    assert time.monotonic() - start < 15
    (failed,) = [record for record in records(tmp_path / "run") if record.status == "failed"]
    assert failed.error is not None
    assert "no reply from" in failed.error
    assert len(failed.turns) >= 1, "the turns before it are kept"
    assert failed.turns[0].calls
    server.plan()
    assert main(quiet) == 0
    assert_each_once(tmp_path / "run", 3)


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (413, "<html><title>413 Request Entity Too Large</title></html>", "--keep-rounds and --image-side"),
        (413, {"error": {"message": "maximum body size exceeded"}}, "--keep-rounds and --image-side"),
        (400, {"error": {"message": "At most 4 image(s) may be provided in one prompt."}}, "--frames-per-call"),
    ],
)
def test_a_request_with_too_large_images_fails_once_with_what_to_change(
    serve: Callable[..., FaultServer], clip: Path, tmp_path: Path, status: int, message: object, hint: str
) -> None:
    server = serve()
    data = write_dataset(tmp_path / "data", clip, 2)
    server.plan("ok", {"status": status, "body": message})  # type: ignore[arg-type]
    assert main(command(server, data, tmp_path / "run", "--concurrency", "1")) == 1
    (failed,) = [record for record in records(tmp_path / "run") if record.status == "failed"]
    assert failed.error is not None
    assert f"answers {status}" in failed.error
    assert hint in failed.error
    assert len(server.stats()["requests"]) == 1 + 2 + NUM_REPLIES, "it is not sent again"
    assert main(command(server, data, tmp_path / "run")) == 0
    assert_each_once(tmp_path / "run", 2)


def images(server: FaultServer, policy: str) -> None:
    body = json.dumps({"policy": policy}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/images", body)) as reply:
        reply.read()


def test_an_agent_of_text_alone_has_seen_no_frame_and_is_replayed_as_such(
    serve: Callable[..., FaultServer], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    images(server, "reject")
    data = write_dataset(tmp_path / "data", clip, 2)
    assert main(command(server, data, tmp_path / "blind")) == 2
    assert "for a model of text alone give --tool-images text" in capsys.readouterr().err
    assert main(command(server, data, tmp_path / "run", "--tool-images", "text")) == 0
    for record in records(tmp_path / "run"):
        results = [result for turn in record.turns for result in turn.results]
        assert len(results) == 2
        assert all(result.ok and NOT_SHOWN in result.text and "frame 1 at" in result.text for result in results)
        assert not any(turn.frames for turn in record.turns)
        assert not any(result.frames for result in results)
    assert not any("image_url" in json.dumps(request["body"]) for request in server.stats()["requests"][2:])
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "run"), "--data", str(data)]) == 0
    facts = run_facts(tmp_path / "run", records(tmp_path / "run"))
    assert facts["images in tool results"] == "labels only (text), not checked"


@pytest.mark.parametrize("policy", ["see", "reject-tool", "ignore"])
def test_a_question_to_an_agent_is_checked_too(
    serve: Callable[..., FaultServer], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    server = serve()
    images(server, policy)
    question = [
        *("ask", str(clip), "Question number 0001?", "--option", "circle", "--option", "square"),
        *("--model", "openai-compatible", "--method", "retrieve", "--encoder", "none"),
        *("--base-url", f"{server.url}/v1", "--model-id", "served", "--out", str(tmp_path / "answer")),
    ]
    code = main(question)
    sent = [request["body"]["messages"] for request in server.stats()["requests"]]
    if policy == "ignore":
        assert code == 2
        assert "does not see the images of tool results" in capsys.readouterr().err
        assert len(sent) == 2
        assert main([*question, "--canary", "off"]) == 0
        return
    assert code == 0
    assert "answer:  (B) square" in capsys.readouterr().out
    roles = [message["role"] for message in sent[-1] if isinstance(message["content"], list)]
    assert set(roles) == {"tool" if policy == "see" else "user"}


def test_records_hold_references_and_no_pixels(serve: Callable[..., FaultServer], clip: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", clip, 1)
    assert main(command(serve(), data, tmp_path / "run")) == 0
    (line,) = (tmp_path / "run" / PREDICTIONS).read_text(encoding="utf-8").splitlines()
    assert len(line) < 20_000
    assert "base64" not in line
    assert json.loads(line)["turns"][0]["results"][0]["frames"]
