"""Many pairs of a judge: command, data sets with preferences, presets, rankings, reward, hostile input."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import wave
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark.tests.scripted_server import images_of

from evqa import datasets, judge, media, models
from evqa.agents.settings import AgentSettings, JudgeSettings
from evqa.cli import pairs as command
from evqa.datasets import pairs
from evqa.datasets.formats import video_pairs
from evqa.files import jsonl
from evqa.files.jsonl import BadLine
from evqa.metrics import preference
from evqa.metrics.bradley_terry import Comparison, strengths
from evqa.models.base import Model
from evqa.models.options import ModelOptions, ServerOptions
from evqa.runs.options import ExecutionOptions
from evqa.schema import Prediction, Sample
from evqa.scoring.baselines import baselines
from evqa.scoring.engine import System, score
from evqa.tasks.registry import task_of

SIZE, NUM_FRAMES, FPS = 64, 12, 8.0
KINDS = ("blur", "jitter", "colour", "freeze")
DIMENSION_OF = {"blur": "VQ", "jitter": "MQ", "colour": "TA", "freeze": "MQ"}


# Synthetic pairs with controlled degradations


def clean_frames(seed: int) -> np.ndarray:
    """uint8 [T, H, W, 3]: a bright square that moves steadily over a checkered background."""
    frames = np.full((NUM_FRAMES, SIZE, SIZE, 3), 90, dtype=np.uint8)
    frames[:, (np.add.outer(np.arange(SIZE), np.arange(SIZE)) // 4) % 2 == 0] = 60
    for place in range(NUM_FRAMES):
        x = 2 + 3 * place + seed % 5
        frames[place, 16:40, x : x + 20] = (220, 60, 60)
    return frames


def degraded(frames: np.ndarray, kind: str) -> np.ndarray:
    if kind == "blur":
        kernel = np.ones(9) / 9
        blurred = frames.astype(np.float32)
        for axis in (1, 2):
            blurred = np.apply_along_axis(lambda row: np.convolve(row, kernel, mode="same"), axis, blurred)
        return blurred.astype(np.uint8)
    if kind == "jitter":
        return np.stack([np.roll(frame, (-1) ** place * 9, axis=0) for place, frame in enumerate(frames)])
    if kind == "colour":
        return frames[..., ::-1].copy()
    return np.repeat(frames[:1], len(frames), axis=0)


def verdict_of(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> dict[str, int]:
    """Verdict by rules on the frames of two videos: sharpness, steadiness of motion, redness."""

    def compare(measure: Any, margin: float) -> int:
        first_value, second_value = measure(np.stack(first).astype(float)), measure(np.stack(second).astype(float))
        return 0 if abs(first_value - second_value) <= margin else 1 if first_value > second_value else 2

    def sharpness(video: np.ndarray) -> float:
        return float(np.abs(np.diff(video.mean(axis=3), axis=2)).mean())

    def steadiness(video: np.ndarray) -> float:
        """0 where the square moves steadily to the right, negative the more it does not."""
        is_square = np.abs(video[..., 0] - video[..., 2]) > 60
        columns = [float(np.flatnonzero(mask.any(axis=0)).mean()) for mask in is_square]
        rows = [float(np.flatnonzero(mask.any(axis=1)).mean()) for mask in is_square]
        return -float(np.ptp(rows)) - max(0.0, 10.0 - (columns[-1] - columns[0]))

    def redness(video: np.ndarray) -> float:
        return float((video[..., 0] - video[..., 2]).mean())

    labels = {"TA": compare(redness, 2.0), "MQ": compare(steadiness, 3.0), "VQ": compare(sharpness, 1.0)}
    values = [label for label in labels.values() if label]
    return labels | {"OA": values[0] if values else 0}


class _RuleServer(ThreadingHTTPServer):
    """Server of the chat protocol with a judge that looks at the images; counts the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _RuleHandler)
        self.pairs: Counter[str] = Counter()
        self.biased = False
        self.delay = 0.0
        self.lock = threading.Lock()


class _RuleHandler(BaseHTTPRequestHandler):
    server: _RuleServer

    def log_message(self, format: str, *arguments: object) -> None:
        """Write no log."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = request["messages"][1]
        images = [pixels for _, pixels in images_of(message)]
        time.sleep(self.server.delay)
        verdict = verdict_of(images[: len(images) // 2], images[len(images) // 2 :])
        if self.server.biased:
            verdict = {name: label or 1 for name, label in verdict.items()}
        prompt = message["content"][-1]["text"].partition("Prompt of both videos:\n")[2].partition("\n")[0]
        with self.server.lock:
            self.server.pairs[prompt] += 1
        text = ", ".join(f"{name}={label}" for name, label in verdict.items())
        reply = {"role": "assistant", "content": f"<Answer>{text}</Answer>"}
        body = {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": reply}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[_RuleServer]:
    monkeypatch.setenv("EVQA_SERVER_KEY", "key")
    server = _RuleServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def url_of(server: _RuleServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with 200 pairs: table.csv; a kind of degradation a pair, which side is degraded alternates; 20 ties."""
    folder = tmp_path_factory.mktemp("synthetic")
    for seed in range(5):
        frames = clean_frames(seed)
        media.write_video(folder / f"clean{seed}.mp4", iter(frames), fps=FPS)
        for kind in KINDS:
            media.write_video(folder / f"{kind}{seed}.mp4", iter(degraded(frames, kind)), fps=FPS)
    rows = []
    for number in range(200):
        seed, kind = number % 5, KINDS[number // 5 % 4]
        clean, bad, swaps = f"clean{seed}.mp4", f"{kind}{seed}.mp4", number % 2
        if number % 10 == 9:  # the same clip under another name
            (folder / f"copy{seed}.mp4").write_bytes((folder / clean).read_bytes())
            bad, choice = f"copy{seed}.mp4", "tie"
        else:
            choice = "b" if swaps else "a"
        pair = (bad, clean) if swaps else (clean, bad)
        rows.append([f"p{number:03d}", *pair, f"prompt {number}", choice])
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "video_a", "video_b", "prompt", "OA"], *rows])
    return folder


def server_options(server: _RuleServer) -> dict[str, Any]:
    options = ModelOptions(server=ServerOptions(base_url=url_of(server), model_id="m"))
    return {"model": "openai-compatible", "options": options, "canary": "off"}


def test_200_synthetic_pairs_in_both_orders(synthetic: Path, tmp_path: Path, rules: _RuleServer) -> None:
    table, out = synthetic / "table.csv", tmp_path / "out"
    execution = ExecutionOptions(concurrency=4)
    assert command.judge(pairs=table, out=out, execution=execution, **server_options(rules)) == 0
    assert rules.pairs == Counter({f"prompt {number}": 2 for number in range(200)})
    with (out / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open(encoding="utf-8", newline="") as file:
        expected = {row["id"]: {"a": "1", "b": "2", "tie": "0"}[row["OA"]] for row in csv.DictReader(file)}
    assert len(rows) == 200
    assert {row["id"]: row["OA"] for row in rows} == expected
    assert {row["consistent"] for row in rows} == {"true"}
    assert Counter(row["OA"] for row in rows) == {"1": 100, "2": 80, "0": 20}
    for row in rows:  # the degradation is seen in its own dimension
        kind = next((name for name in KINDS if name in row["video_a"] + row["video_b"]), None)
        if kind is not None:
            assert row[DIMENSION_OF[kind]] == row["OA"]
    dataset = datasets.load(str(out / "pairs"))
    assert task_of(dataset).method == "judge"
    predictions = list(jsonl.read_records(out / "run" / "predictions.jsonl", Prediction))
    (row_scores,) = score(dataset, [System("run", predictions=predictions)], ["pairwise"])
    assert row_scores.metrics["tau OA"].mean == 1
    assert row_scores.metrics["diff OA"].n_total == 180
    assert row_scores.metrics["consistent"].mean == 1
    assert row_scores.metrics["images"].mean == 16
    before = len(predictions)
    assert command.judge(pairs=table, out=out, execution=execution, **server_options(rules)) == 0
    assert len(list(jsonl.read_records(out / "run" / "predictions.jsonl", Prediction))) == before
    assert sum(rules.pairs.values()) == 400
    with (out / "ranking.csv").open(encoding="utf-8", newline="") as file:
        ranking = list(csv.DictReader(file))
    assert "clean" in Path(ranking[0]["video"]).name or "copy" in Path(ranking[0]["video"]).name


def test_a_judge_with_a_preference_for_the_first_video_is_inconsistent(
    synthetic: Path, tmp_path: Path, rules: _RuleServer
) -> None:
    """Ties become votes for the first video: both orders disagree there, and the pair is a tie."""
    rules.biased = True
    bad: list[BadLine] = []
    listed = pairs.read_pairs(synthetic / "table.csv", ["OA"], bad)
    config = judge.JudgeConfig(
        model="openai-compatible", overrides={"base_url": url_of(rules), "model_id": "m"}, canary="off"
    )
    judgements = judge.judge_pairs(listed[:10], config, tmp_path / "both", ExecutionOptions())
    ties = judgements.predictions["p009"]
    assert ties.order_verdicts is not None
    assert [verdict and verdict["OA"] for verdict in ties.order_verdicts] == [1, 2]
    assert ties.verdicts is not None
    assert ties.verdicts["OA"] == 0
    single = judge.JudgeConfig(
        model="openai-compatible",
        canary="off",
        overrides=config.overrides,
        settings=AgentSettings(judge=JudgeSettings(swap="none")),
    )
    published = judge.judge_pairs(listed[:10], single, tmp_path / "none", ExecutionOptions())
    assert published.predictions["p009"].order_verdicts is None
    assert published.predictions["p009"].verdicts is not None
    assert published.predictions["p009"].verdicts["OA"] == 1


def test_a_killed_run_resumes_without_judging_a_pair_twice(synthetic: Path, tmp_path: Path, rules: _RuleServer) -> None:
    rules.delay = 0.005
    table, out = synthetic / "table.csv", tmp_path / "out"
    arguments = [
        *(sys.executable, "-m", "evqa", "judge", "--pairs", str(table), "--out", str(out), "--model"),
        *("openai-compatible", "--base-url", url_of(rules), "--model-id", "m", "--canary", "off", "--concurrency", "4"),
    ]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    file = out / "run" / "predictions.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not file.is_file() or file.read_bytes().count(b"\n") < 60):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = file.read_bytes().count(b"\n")
    assert 60 <= saved < 200
    rules.delay = 0.0
    assert command.judge(pairs=table, out=out, **server_options(rules)) == 0
    predictions = list(jsonl.read_records(file, Prediction))
    assert len(predictions) == 200
    assert len({prediction.sample_id for prediction in predictions}) == 200
    numbers = [int(prediction.sample_id[1:]) for prediction in predictions[:saved]]
    assert {rules.pairs[f"prompt {number}"] for number in numbers} == {2}
    assert sum(rules.pairs.values()) <= 2 * 200 + 2 * 4  # of the pairs in progress when the process was killed
    assert all(prediction.verdicts is not None for prediction in predictions)


# One pair, several videos, reward


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{name}.mp4" for name in "abc"]
    for number, path in enumerate(paths):
        media.write_video(path, iter(clean_frames(number)), fps=FPS)
    return paths


def scripted(folder: Path, *replies: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "replies.json"
    path.write_text(json.dumps({"*": replies}), encoding="utf-8")
    return str(path)


ALWAYS_FIRST = "<Think>sharper</Think><Answer>TA=1, MQ=1, VQ=0, OA=1, CF=2</Answer>"


def test_the_command_prints_the_published_json(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = AgentSettings(judge=JudgeSettings(swap="none"))
    model = scripted(tmp_path, ALWAYS_FIRST)
    code = command.judge(tuple(clips[:2]), prompt="A square.", model=model, out=tmp_path / "o", agent_settings=settings)
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert json.loads(lines[0]) == {"TA": 1, "MQ": 1, "VQ": 0, "OA": 1}
    assert "confidence: CF=2 (1 = sure, 3 = a guess)" in lines
    assert "frames of video 2: 0.12, 0.50, 0.88, 1.25 s" in lines
    assert "reasoning: sharper" in lines
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    data = next((tmp_path / "o" / "report_files" / "samples").glob("*.js")).read_text(encoding="utf-8")
    assert 'id="other"' in page
    assert len(list((tmp_path / "o" / "report_files" / "videos").iterdir())) == 2
    evidence = json.loads(data.removeprefix("evqaSample(").rstrip().removesuffix(");"))
    assert len(evidence["others"]) == 1
    assert evidence["runs"][0]["verdicts"] == {"TA": 1, "MQ": 1, "VQ": 0, "OA": 1}


def test_each_prompt_has_a_folder_and_missing_files_are_named_as_given(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = scripted(tmp_path, ALWAYS_FIRST)
    for prompt in ("one", "two", "one"):
        assert command.judge(tuple(clips[:2]), prompt=prompt, model=model) == 0
    folders = sorted(path.name for path in (tmp_path / "outputs" / "judge").iterdir())
    assert len(folders) == 2
    assert all(name.startswith("a-b-") for name in folders)
    with pytest.raises(ValueError, match=r"no such file: c\.mp4, d\.mp4; expected videos"):
        command.judge((clips[0], Path("c.mp4"), Path("d.mp4")), prompt="one", model=model)
    assert len(list((tmp_path / "outputs" / "judge").iterdir())) == 2


def test_each_model_has_a_folder_for_a_table_of_pairs(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "pairs.csv"
    table.write_text(f"video_a,video_b,prompt\n{clips[0]},{clips[1]},A square.\n", encoding="utf-8")
    model = scripted(tmp_path, ALWAYS_FIRST)
    other = Path(model).with_name("other.json")
    other.write_bytes(Path(model).read_bytes())
    for name in (model, str(other), model):
        assert command.judge(pairs=table, model=name) == 0
    folders = sorted(path.name for path in (tmp_path / "outputs" / "judge").iterdir())
    assert len(folders) == 2
    assert all(name.startswith("pairs-") for name in folders)


def test_several_videos_are_ranked_by_all_pairs(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = AgentSettings(judge=JudgeSettings(swap="none"))
    model = scripted(tmp_path, ALWAYS_FIRST)
    assert command.judge(tuple(clips), prompt="x", model=model, out=tmp_path / "o", agent_settings=settings) == 0
    output = capsys.readouterr().out
    assert [line.rsplit("/")[-1] for line in output.splitlines() if "to" in line and ". " in line[:6]] == [
        "a.mp4",
        "b.mp4",
        "c.mp4",
    ]


def test_a_judgement_without_a_verdict_fails_the_command(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = scripted(tmp_path, *["no idea"] * 5)
    assert command.judge(tuple(clips[:2]), model=model, out=tmp_path / "o") == 1
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[0]) == dict.fromkeys(("TA", "MQ", "VQ", "OA"))


def built(folder: Path, *replies: object) -> Model:
    return models.build(scripted(folder, *replies))


def test_the_reward_is_the_mean_of_both_orders(clips: list[Path], tmp_path: Path) -> None:
    first, second, _ = clips
    model = built(tmp_path, ALWAYS_FIRST)
    assert judge.reward(first, second, "x", model) == 0.0  # always the first video: no preference
    one_order = AgentSettings(judge=JudgeSettings(swap="none"))
    assert judge.reward(first, second, "x", model, settings=one_order) == 1.0
    assert judge.reward(first, second, "x", model, dimension="VQ", settings=one_order) == 0.0
    worse = built(tmp_path / "worse", "<Answer>TA=2, MQ=2, VQ=2, OA=2</Answer>")
    assert judge.reward(first, second, "x", worse, settings=one_order) == -1.0
    with pytest.raises(ValueError, match="no verdict"):
        judge.reward(first, second, "x", built(tmp_path / "silent", *[""] * 5))
    with pytest.raises(ValueError, match="no dimension"):
        judge.reward(first, second, "x", model, dimension="XX")


# Bradley-Terry


def test_strengths_of_two_items_are_the_log_odds() -> None:
    """Of 30 wins in 40, with a tie of each item with an average one: the maximum of the likelihood, by a search."""
    rows = strengths([Comparison("a", "b", 1.0)] * 30 + [Comparison("a", "b", 0.0)] * 10)
    grid = np.linspace(0, 2, 20001)
    half = grid / 2
    likelihood = 30 * -np.log1p(np.exp(-grid)) + 10 * -np.log1p(np.exp(grid))
    likelihood += 2 * 0.5 * (-np.log1p(np.exp(-half)) - np.log1p(np.exp(half)))
    assert [row.item for row in rows] == ["a", "b"]
    assert rows[0].strength - rows[1].strength == pytest.approx(grid[likelihood.argmax()], abs=2e-4)
    assert rows[0].low < rows[0].strength < rows[0].high
    assert (rows[0].wins, rows[0].comparisons) == (30, 40)


def test_strengths_recover_an_order_and_cover_the_truth() -> None:
    rng = np.random.default_rng(3)
    truth = np.linspace(1.5, -1.5, 6)
    covered = 0
    for _ in range(20):
        draws = [
            Comparison(str(i), str(j), float(rng.random() < 1 / (1 + np.exp(truth[j] - truth[i]))))
            for i in range(6)
            for j in range(i + 1, 6)
            for _ in range(20)
        ]
        rows = {int(row.item): row for row in strengths(draws)}
        covered += sum(rows[item].low <= truth[item] <= rows[item].high for item in range(6))
    assert covered >= 0.85 * 120
    assert strengths([]) == []
    parts = strengths([Comparison("a", "b", 1.0), Comparison("c", "d", 0.5)])
    assert {row.item: row.group for row in parts} == {"a": 1, "b": 1, "c": 2, "d": 2}
    assert all(np.isfinite(row.strength) for row in parts)
    with pytest.raises(ValueError, match="itself"):
        strengths([Comparison("a", "a", 1.0)])


# Published layouts and presets


def test_genai_bench_layout(tmp_path: Path) -> None:
    row = {"prompt": "q", "left_video": "l.mp4", "right_video": "r.mp4", "vote_type": "tievote"}
    rows = [
        row | {"id": 7, "prompt": "p", "vote_type": "leftvote", "left_model": "m"},
        row | {"prompt": "p", "left_video": "videos/l.mp4", "vote_type": "bothbad_vote"},
        row | {"vote_type": "unknown"},
        row | {"left_video": "../l.mp4"},
        row | {"right_video": None},
        row | {"id": 7},
        "nothing",
    ]
    (tmp_path / "genai_bench_video.json").write_text(json.dumps(rows), encoding="utf-8")
    bad: list[BadLine] = []
    first, second = video_pairs.genai_bench(tmp_path, bad)
    assert len(bad) == 5
    assert (first.id, first.preferences, first.video, first.videos) == (
        "genai-bench-video_7",
        {"OA": "first"},
        Path("l.mp4"),
        (Path("r.mp4"),),
    )
    assert second.preferences == {"OA": "bad"}
    assert first.video_id == second.video_id  # of one prompt
    assert first.metadata == {"model_1": "m"}


def test_videogen_rewardbench_layout(tmp_path: Path) -> None:
    (tmp_path / "videogen-rewardbench.csv").write_text(
        "path_A,path_B,A_model,B_model,prompt,VQ,MQ,TA,Overall,fps_A\n"
        "videos/a.mp4,videos/b.mp4,x,y,a dog,A,B,same,A,8\n"
        "videos/a.mp4,videos/b.mp4,x,y,a cat,A,?,,B,8\n"
        "videos/a.mp4,videos/b.mp4,x,y,a cat,,,,,8\n"
        "videos/a.mp4\n",
        encoding="utf-8",
    )
    bad: list[BadLine] = []
    first, second = video_pairs.videogen_rewardbench(tmp_path, bad)
    assert first.preferences == {"TA": "tie", "MQ": "second", "VQ": "first", "OA": "first"}
    assert second.preferences == {"VQ": "first", "OA": "second"}
    assert first.metadata == {"model_1": "x", "model_2": "y"}
    assert len(bad) == 3
    assert "MQ" in bad[0].reason + bad[1].reason


def test_mj_bench_layout(tmp_path: Path) -> None:
    categories = {"Alignment": "v1", "Safety": "Same", "Fineness": "Hard to judge", "Bias": "?"}
    row = {
        "caption": "p",
        "video_0_path": "x/v0.mp4",
        "video_1_path": "x/v1.mp4",
        "category_preference": categories | {"Coherence & Consistency": "x/v0.mp4"},
        "overall_preference": "video_1",
        "discard": False,
    }
    rows = [row, row | {"discard": True}, row | {"category_preference": [], "overall_preference": "Hard to judge"}]
    (tmp_path / "mj-bench-video.json").write_text(json.dumps(rows), encoding="utf-8")
    bad: list[BadLine] = []
    (sample,) = video_pairs.mj_bench(tmp_path, bad)
    assert sample.preferences == {"Alignment": "second", "Safety": "tie", "Coherence": "first", "OA": "second"}
    assert list(sample.dimensions) == ["Alignment", "Safety", "Fineness", "Coherence", "Bias", "OA"]
    assert len(bad) == 3


def pair_dataset(votes: Sequence[str | None], dimensions: Sequence[str] = ("OA",)) -> datasets.Dataset:
    samples = [
        Sample(
            id=f"s{number}",
            video_id=f"prompt{number // 2}",
            video=Path("a.mp4"),
            videos=(Path("b.mp4"),),
            question="x",
            preferences=None if vote is None else dict.fromkeys(dimensions, vote),  # type: ignore[arg-type]
        )
        for number, vote in enumerate(votes)
    ]
    return datasets.Dataset("pairs", Path(), tuple(samples), (), "0" * 64)


def predicted(labels: Sequence[int | None], dimensions: Sequence[str] = ("OA",)) -> list[Prediction]:
    return [
        Prediction(
            sample_id=f"s{number}",
            status="ok",
            verdicts=None if label is None else dict.fromkeys(dimensions, label),  # type: ignore[arg-type]
        )
        for number, label in enumerate(labels)
    ]


def test_presets_agree_with_the_definitions() -> None:
    """Against a direct count: tau, diff, both accuracies with ties, of random votes with unparsed verdicts."""
    rng = np.random.default_rng(1)
    choices = ["first", "second", "tie", "bad"]
    votes = [choices[number] for number in rng.integers(0, 4, 60)]
    labels = [[None, 1, 2, 0][number] for number in rng.integers(0, 4, 60)]
    (scores,) = score(pair_dataset(votes), [System("run", predictions=predicted(labels))], ["genai-bench-video"])
    human = [{"first": 1, "second": 2}.get(vote, 0) for vote in votes]
    right = [label == truth for label, truth in zip(labels, human, strict=True)]
    assert scores.metrics["tau OA"].mean == pytest.approx(np.mean(right))
    assert scores.metrics["tau OA"].n_unparsed == labels.count(None)
    decided = [value for value, truth in zip(right, human, strict=True) if truth]
    assert scores.metrics["diff OA"].mean == pytest.approx(np.mean(decided))
    sign = {1: 1, 2: -1, 0: 0}
    readable = [(sign[truth], sign[label]) for truth, label in zip(human, labels, strict=True) if label is not None]
    humans, margins = [pair[0] for pair in readable], [pair[1] for pair in readable]
    share = len(readable) / 60
    exact, shipped = preference.with_ties(humans, margins), preference.with_ties_as_shipped(humans, margins)
    assert exact is not None
    assert shipped is not None
    assert scores.derived["with ties OA"].value == pytest.approx(share * exact.accuracy)
    assert scores.derived["with ties OA (videoalign-compat)"].value == pytest.approx(share * shipped)
    assert scores.metrics["tau OA"].low is not None


def test_failed_and_missing_pairs_stay_in_the_denominator() -> None:
    dataset = pair_dataset(["first"] * 4)
    predictions = [*predicted([1]), Prediction(sample_id="s1", status="failed", error="x")]
    (scores,) = score(dataset, [System("run", predictions=predictions)], ["genai-bench-video"])
    assert scores.metrics["tau OA"].mean == 0.25
    assert scores.metrics["diff OA"].n_total == 4
    assert scores.metrics["people first OA"].mean == 1.0
    assert scores.derived["with ties OA"].value == 0.25


def test_joint_metrics_and_constant_judges() -> None:
    names = ("TA", "MQ", "VQ", "OA")
    dataset = pair_dataset(["first", "second", "tie"], names)
    mixed = predicted([1, 2, 0], names)
    mixed[0] = mixed[0].replace(verdicts={"TA": 1, "MQ": 1, "VQ": 2, "OA": 1})
    (scores,) = score(dataset, [System("run", predictions=mixed)], ["videogen-rewardbench"])
    assert scores.metrics["all right"].mean == pytest.approx(2 / 3)
    assert scores.metrics["dimensions right"].mean == pytest.approx((0.75 + 1 + 1) / 3)
    rows = {row.name: row for row in baselines(dataset, presets=["videogen-rewardbench"], with_masks=False)}
    assert {name: round(rows[f"always {name}"].metrics["tau OA"].mean or 0, 3) for name in ("first video", "tie")} == {
        "first video": 0.333,
        "tie": 0.333,
    }


# Hostile input


def broken_files(folder: Path) -> dict[str, Path]:
    """Files that are no videos, or not the usual ones."""
    folder.mkdir()
    clean = folder / "clean.mp4"
    media.write_video(clean, iter(clean_frames(0)), fps=FPS)
    content = clean.read_bytes()
    contents = {"empty": b"", "text": b"no video", "half": content[: len(content) // 3], "zeros": bytes(2000)}
    for name, data in contents.items():
        (folder / f"{name}.mp4").write_bytes(data)
    first_value = folder / "one.mp4"
    media.write_video(first_value, iter(clean_frames(0)[:1]), fps=FPS)
    tall = folder / "tall.mp4"
    media.write_video(tall, iter(np.repeat(clean_frames(1)[:, :, :16], 2, axis=1)), fps=25.0)
    sound = folder / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    return {path.stem: path for path in folder.iterdir()} | {"missing": folder / "missing.mp4", "folder": folder}


@pytest.mark.parametrize(
    ("name", "is_judged"),
    [
        *(("empty", False), ("text", False), ("half", False), ("zeros", False), ("sound", False), ("missing", False)),
        *(("folder", False), ("one", True), ("tall", True)),
    ],
)
def test_odd_videos_are_judged_or_reported(tmp_path: Path, name: str, is_judged: bool) -> None:
    files = broken_files(tmp_path / "files")
    model = built(tmp_path, ALWAYS_FIRST)
    for pair in ((files[name], files["clean"]), (files["clean"], files[name])):
        prediction = judge.judge_pair(*pair, "x", model)
        assert (prediction.status == "ok") == is_judged
        assert is_judged or (prediction.error and prediction.error.startswith("ValueError"))
        assert is_judged or not prediction.turns


@pytest.mark.parametrize(
    "replies",
    [
        [""] * 8,
        ["<think>" * 1000] * 8,
        ["<tool_call>" * 1000] * 8,
        [{"calls": [{"name": "select_frames", "arguments": "{" * 10_000}]}] * 8,
        [{"calls": [{"name": "select_frames", "arguments": {"frame_indices": [10**30]}}]}] * 8,
        [{"calls": [{"name": "select_frames", "arguments": {"frame_indices": [-1] * 2000}}]}] * 8,
        [{"calls": [{"name": "submit_verdict", "arguments": {"TA": 1}}]}] * 8,
        [{"calls": [{"name": "submit_verdict", "arguments": "no json"}]}] * 8,
        ["<Think><Answer>TA=1, MQ=1, VQ=1, OA=1</Answer></Think>"] * 8,
        ["TA=1, MQ=1, VQ=1, OA=12"] * 8,
    ],
)
def test_hostile_replies_end_without_a_verdict(clips: list[Path], tmp_path: Path, replies: list[object]) -> None:
    settings = AgentSettings(judge=JudgeSettings(swap="none"))
    prediction = judge.judge_pair(clips[0], clips[1], "x", built(tmp_path, *replies), settings=settings)
    assert prediction.status == "ok"
    assert prediction.verdicts is None
    assert prediction.is_unparsed
    assert len(prediction.turns) <= 6
    assert judge.reasoning_of(prediction) is not None


def test_a_long_prompt_is_sent_whole(clips: list[Path], tmp_path: Path) -> None:
    prediction = judge.judge_pair(clips[0], clips[1], "word " * 20_000, built(tmp_path, ALWAYS_FIRST))
    assert prediction.verdicts is not None
    assert "word " * 20_000 in prediction.turns[0].prompt


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "video_a"),
        (b"a,b\n1,2\n", "video_a"),
        (b"video_a,video_b,prompt\n", "no usable pair"),
        (b"video_a,video_b,prompt\nx.mp4,x.mp4,p\n", "itself"),
        (b"video_a,video_b,prompt\n,x.mp4,p\n", "video_a is empty"),
        (b"video_a,video_b,prompt,OA\nx.mp4,y.mp4,p,left\n", "OA is none of"),
        (b"id,video_a,video_b,prompt\n../x,x.mp4,y.mp4,p\n", "id has up to"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        pairs.read_pairs(table, ["OA"], [])


def test_bad_rows_are_reported_and_the_others_judged(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    first, second, third = clips
    table.write_text(
        f"id,video_a,video_b,prompt\nx,{first},{second},p\nx,{first},{third},p\ny,{first},{first},p\nz,{first}\n"
        f'w,{second},missing.mp4,"a, b"\n',
        encoding="utf-8",
    )
    assert command.judge(pairs=table, model=scripted(tmp_path, ALWAYS_FIRST), out=tmp_path / "o") == 1
    output = capsys.readouterr().out
    assert "3 rows of" in output
    with (tmp_path / "o" / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        results = {row["id"]: (row["result"], row["prompt"]) for row in csv.DictReader(file)}
    assert results == {"x": ("judged", "p"), "w": ("failed", "a, b")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no JSON object"),
        ("{", "no JSON object"),
        ("{}", "1 to 30"),
        ('{"a b": "x"}', "name of a dimension"),
        ('{"OA": 1}', "no JSON object"),
        ('{"CF": "x"}', "reserved"),
    ],
)
def test_files_of_dimensions(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "dimensions.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        judge.read_dimensions(str(path))
    with pytest.raises(ValueError, match="--dimensions"):
        judge.read_dimensions("nothing")
    path.write_text('{"Mood": "how well the mood fits"}', encoding="utf-8")
    assert judge.read_dimensions(str(path)) == {"Mood": "how well the mood fits"}
