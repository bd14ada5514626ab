"""Replay of recorded agents: the tools again without a model, and the evidence for another model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark.tests.scripted_server import scripted_server

from evqa import masks, media
from evqa.__main__ import main
from evqa.files import jsonl
from evqa.runs.replay import first_difference
from evqa.schema import Prediction, Sample

SIZE, NUM_FRAMES, FPS = (48, 64), 24, 4.0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "videos").mkdir(parents=True)
    frames = np.zeros((NUM_FRAMES, *SIZE, 3), dtype=np.uint8)
    frames += np.arange(20, 20 + NUM_FRAMES, dtype=np.uint8)[:, None, None, None]
    media.write_video(folder / "videos" / "clip.mp4", iter(frames), FPS)
    (folder / "videos" / "clip.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nA red cup\n", encoding="utf-8")
    samples = [
        Sample(
            id=f"s{number}",
            video_id="clip",
            video=Path("videos/clip.mp4"),
            question=f"Question number {number}?",
            options=("circle", "square"),
            answer=1,
        )
        for number in range(len(SCRIPTS))
    ]
    jsonl.write_records(folder / "samples.jsonl", samples)
    return folder


def calls(*entries: tuple[str, object]) -> dict[str, object]:
    return {"calls": [{"name": name, "arguments": arguments} for name, arguments in entries]}


SUBMIT = calls(("submit", {"answer": "B", "spans": [[1, 2]], "objects": ["a cup"]}))
ANSWER = '```json\n{"answer": "B", "segments": [[1, 2]], "referring_expressions": []}\n```'
SCRIPTS: list[list[object]] = [
    [calls(("overview", {}), ("get_frames_by_id", {"frame_ids": [2, 99]})), SUBMIT],
    [calls(("zoom", {"second": 1, "box": [0, 0, 0.5, 0.5]})), calls(("search_subtitles", {"query": "cup"})), ANSWER],
    [calls(("nothing", {})), calls(("frames_at", "{broken")), {"text": ""}, ANSWER],
    [calls(("segment", {"expression": "the cup", "second": 1})), SUBMIT],
    [calls(("frames_between", {"start": 1, "end": 3, "n": 4})), {"error": "the server is gone"}],
    [calls(("frames_at", {"seconds": [number]})) for number in range(4)],
]


def model_file(path: Path) -> Path:
    script = {f"Question number {number}?": replies for number, replies in enumerate(SCRIPTS)}
    path.write_text(json.dumps(script), encoding="utf-8")
    return path


def segmenter_file(path: Path) -> Path:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[8:20, 4:16] = True
    track = {"masks": {index: masks.encode(mask).model_dump() for index in range(NUM_FRAMES)}}
    path.write_text(json.dumps({"*": {"text": "<|seg|>", "tracks": [track], "num_frames": NUM_FRAMES}}), "utf-8")
    return path


def run_agent(data: Path, folder: Path, method: str = "agent") -> Path:
    run = folder / f"run-{method}"
    model, segmenter = model_file(folder / "model.json"), segmenter_file(folder / "segmenter.json")
    team = f"--agent segmenter={segmenter}" if method == "agent" else ""
    main(f"predict {data} {model} --method {method} --encoder none --max-turns 3 --out {run} {team}".split())
    (folder / "model.json").unlink()
    (folder / "segmenter.json").unlink()
    return run


def records(run: Path) -> dict[str, Prediction]:
    return {record.sample_id: record for record in jsonl.read_records(run / "predictions.jsonl", Prediction)}


@pytest.mark.parametrize("method", ["agent", "retrieve", "uniform"])
def test_a_replay_without_models_reproduces_every_record(
    data: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_agent(data, tmp_path, method)
    before = records(run)
    if method == "agent":
        assert [before[f"s{number}"].status for number in range(6)] == ["ok"] * 4 + ["failed", "ok"]
        assert before["s5"].stop == "max_turns"
        assert before["s3"].turns[0].results[0].ok
    assert main(["replay", str(run), "--data", str(data)]) == 0
    assert "6 records reproduced, 0 different" in capsys.readouterr().out


def test_a_record_with_another_result_is_reported_with_its_place(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_agent(data, tmp_path)
    path = run / "predictions.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("A red cup", "A blue cup"), encoding="utf-8")
    assert main(["replay", str(run), "--data", str(data)]) == 1
    printed = capsys.readouterr().out
    assert "s1: turns.1.results.0.text: recorded '1.0-2.0 s: A blue cup', replayed '1.0-2.0 s: A red cup'" in printed
    assert "5 records reproduced, 1 different" in printed


def test_a_changed_video_is_noticed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_agent(data, tmp_path)
    frames = np.zeros((8, *SIZE, 3), dtype=np.uint8)
    media.write_video(data / "videos" / "clip.mp4", iter(frames), FPS)
    assert main(["replay", str(run), "--data", str(data)]) == 1
    assert "0 different" not in capsys.readouterr().out


def test_a_video_that_is_gone_is_the_difference(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_agent(data, tmp_path)
    (data / "videos" / "clip.mp4").unlink()
    assert main(["replay", str(run), "--data", str(data)]) == 1
    assert "s0: error: recorded None, replayed 'ValueError: " in capsys.readouterr().out


def test_excerpts_of_long_texts_show_what_differs() -> None:
    first, second = (
        Prediction(sample_id="q", status="failed", error=f"{'the same words ' * 100}{end}") for end in ("one", "two")
    )
    difference = first_difference(first, second)
    assert difference is not None
    assert difference.recorded.endswith("the same words one'")
    assert difference.replayed.endswith("the same words two'")
    assert len(difference.recorded) < 120


def test_another_model_answers_from_the_evidence_of_the_first_turns(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_agent(data, tmp_path)
    second_model = tmp_path / "other.json"
    second_model.write_text(json.dumps({"*": ANSWER}), encoding="utf-8")
    out = tmp_path / "evidence"
    assert main(["replay", str(run), "--with", str(second_model), "--data", str(data), "--out", str(out)]) == 0
    evidence = records(out)
    assert {record.answer for record in evidence.values()} == {1}
    seconds = {name: [frame.second for frame in record.turns[0].frames] for name, record in evidence.items()}
    assert seconds["s1"] == [1.0]
    assert seconds["s2"] == []
    assert seconds["s5"] == [0.0, 1.0, 2.0]
    assert main(["replay", str(run), "--with", str(second_model), "--turns", "2", "--data", str(data)]) == 0
    (folder,) = tmp_path.glob("run-agent-with-*-2-turns")
    first = records(folder)
    assert [frame.second for frame in first["s5"].turns[0].frames] == [0.0, 1.0]
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert info["identity"]["evidence.method"] == "agent"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--turns", "2"], "give one with --with MODEL"), ([], "only runs of agent, retrieve, inspected, uniform")],
)
def test_what_cannot_be_replayed_is_explained(
    data: Path, tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    script = tmp_path / "plain.json"
    script.write_text(json.dumps({"*": "Answer: B."}), encoding="utf-8")
    main(["predict", str(data), str(script), "--method", "json", "--out", str(run)])
    assert main(["replay", str(run), "--data", str(data), *arguments]) != 0
    captured = capsys.readouterr()
    assert words in " ".join((captured.out + captured.err).split())


def test_a_run_of_a_server_is_replayed_without_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVQA_SERVER_KEY", "key")
    call = {"id": "c1", "name": "get_frames_by_id", "arguments": '{"frame_ids": [3]}'}
    run = tmp_path / "run"
    with scripted_server() as server:
        server.play([{"content": None, "tool_calls": [call]}, {"content": ANSWER}])
        main(
            f"predict {data} openai-compatible --base-url {server.url} --model-id m --method retrieve --encoder none "
            f"--limit 1 --canary off --out {run}".split()
        )
    assert records(run)["s0"].answer == 1
    assert main(["replay", str(run), "--data", str(data)]) == 0
    assert "1 record reproduced, 0 different" in capsys.readouterr().out
