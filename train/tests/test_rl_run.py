"""Commands of reinforcement learning: data, plan, dry run, a whole run on a small data set, alarms."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import agent_world
import pytest

from evqa import datasets
from evqa.__main__ import main as evqa_main
from evqa.files import jsonl
from evqa.files.jsonl import write_records
from evqa.runs import locate
from evqa.schema import Prediction
from unipixel.rl import launch, monitoring, run
from unipixel.rl.configs import RECIPES, RLDataConfig, build_recipe
from unipixel.rl.data import RolloutOrder, episode_of, load_data


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data set of four episodes, a scripted vision agent, and start weights."""
    folder = tmp_path_factory.mktemp("world")
    samples = []
    for number in range(4):
        for sample in agent_world.samples(folder / "data" / f"e{number}", 3):
            clips = tuple(
                clip.replace(id=clip.id.replace("e01", f"e{number:02d}"), path=clip.path.relative_to(folder / "data"))
                for clip in sample.clips
            )
            place = next(place for place, clip in enumerate(sample.clips) if clip.id in sample.evidence_clips)
            samples.append(
                sample.replace(
                    id=f"e{number}-{sample.id}",
                    video_id=f"s01e{number:02d}",
                    video=sample.video.relative_to(folder / "data"),
                    subtitles=write_subtitles(folder / "data" / f"e{number}", clips).relative_to(folder / "data"),
                    clips=clips,
                    evidence_clips=(clips[place].id,),
                )
            )
    write_records(folder / "data" / "samples.jsonl", samples)
    (folder / "looker.json").write_text(json.dumps({"*": "A red cup."}))
    agent_world.model().save_pretrained(folder / "start")
    agent_world.tokenizer().save_pretrained(folder / "start")
    return folder


def write_subtitles(folder, clips):
    path = folder / "subtitles.json"
    lines = ["Ann : the soup", "Ann : the boat and the lamp"]
    path.write_text(json.dumps({clip.id: line for clip, line in zip(clips, lines, strict=True)}))
    return path


def arguments(world, out, *more):
    return (
        f"""3b --recipe grounded --weights {world / "start"} --out {out} --train {world / "data"}
    --agents grounding=bm25 vision={world / "looker.json"} --held-out-share 0.25 --clip-frames 1 --episode-turns 3
    --questions-per-step 2 --group-size 4 --max-reply-tokens 2 --max-prompt-tokens 1500 --steps 3
    --per-device-batch-size 4 --updates-per-step 1 --rank 4 --alpha 8 --learning-rate 0.01 --kl 0.01 --bf16 False
    --gradient-checkpointing False --zero-stage None --save-steps 1 --eval-steps 2 --tensorboard False
    --num-threads 1""".split()
        + list(more)
    )


def test_data_are_split_by_episode_with_all_options(world):
    folder = str(world / "data")
    data = load_data(RLDataConfig(train=folder, held_out_share=0.25), seed=1)
    assert len({episode_of(sample) for sample in data.held_out}) == 1
    assert not {episode_of(sample) for sample in data.held_out} & {episode_of(sample) for sample in data.train}
    assert (len(data.train), len(data.held_out)) == (9, 3)
    assert all(len(sample.options) == 3 for sample in data.train)
    again = load_data(RLDataConfig(train=folder, held_out_share=0.25, subset=4, held_out_samples=2), seed=1)
    assert (len(again.train), len(again.held_out)) == (4, 2)
    assert {sample.id for sample in again.train} < {sample.id for sample in data.train}
    other = load_data(RLDataConfig(train=folder, held_out_share=0.25, subset=4), seed=2)
    assert other.counts != again.counts


def test_data_that_leave_nothing_are_refused(world):
    folder = str(world / "data")
    with pytest.raises(ValueError, match=r"no question of .* is left for training"):
        load_data(RLDataConfig(train=folder, held_out=folder), seed=1)
    with pytest.raises(ValueError, match="give --grounding-cache"):
        load_data(RLDataConfig(train=folder, only_located=True), seed=1)
    kept = load_data(RLDataConfig(train=folder, held_out_share=0, skip_episodes=("s01e00", "s01e01")), seed=1)
    assert {episode_of(sample) for sample in kept.train} == {"s01e02", "s01e03"}
    assert kept.held_out == ()


def test_a_reward_replaces_that_of_the_recipe():
    command = run.parse(["3b", "--reward", "strict", "--rewards.1.weight", "0.5"])
    assert [(term.name, term.weight) for term in command.config.rewards] == [("correct", 1.0), ("format", 0.5)]


def test_underscores_are_hyphens_in_names_of_options_only():
    config = run.parse(["3b", "--group_size=4", "--train=my_data", "--held_out", "my_other_data"]).config
    assert (config.rollout.group_size, config.data.train, config.data.held_out) == (4, "my_data", "my_other_data")


def test_every_recipe_builds():
    assert [build_recipe(name, "tiny" if name == "tiny" else "3b").recipe for name in RECIPES] == list(RECIPES)


def read_answers(folder):
    records = jsonl.read_records(folder / "predictions.jsonl", Prediction, [])
    return {record.sample_id: (record.answer, record.clips, record.stop) for record in records}


def test_the_order_of_a_run_can_be_skipped(world):
    order = RolloutOrder(num_samples=5, questions_per_step=2, group_size=3, passes=2, steps=5, seed=0)
    places = list(order)
    assert len(places) == len(order) == 5 * 2 * 2 * 3
    steps = [places[start : start + 12] for start in range(0, len(places), 12)]
    assert all(step[:6] == step[6:] and step[0] == step[2] != step[3] for step in steps)
    questions = [step[place] for step in steps for place in (0, 3)]
    assert sorted(questions[:5]) == sorted(questions[5:]) == list(range(5))
    assert list(order) == places


@pytest.mark.parametrize("recipe", ["longvideoagent", "grounded"])
@pytest.mark.parametrize("size", ["3b", "7b"])
def test_recipes_have_the_published_values(recipe, size):
    config = build_recipe(recipe, size)
    rollout, grpo = config.rollout, config.grpo
    assert (rollout.questions_per_step, rollout.group_size, rollout.temperature) == (16, 8, 1.0)
    assert (rollout.max_prompt_tokens, rollout.max_reply_tokens, config.episode.episode_turns) == (12_800, 1_500, 5)
    assert (config.lora.rank, config.lora.alpha) == (128, 64)
    assert (grpo.learning_rate, grpo.warmup_ratio, grpo.kl, config.loop.steps) == (5e-6, 0.1, 0.001, 401)
    assert [config.passes(processes) for processes in (1, 4, 8)] == [64, 16, 8]
    assert run.parse([size, "--recipe", recipe]).config == config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["30b"], "unknown size '30b'"),
        (["3b", "--recipe", "x"], "unknown recipe 'x'"),
        (["3b", "--reward", "x"], "unknown reward preset 'x'"),
        (["3b", "--group-size", "1"], "group_size must be a number >= 2"),
        (["3b", "--temperature", "0"], "greedy rollouts are all equal"),
        (["3b", "--from-scratch", "--resume", "x"], "give one of --resume"),
        (["3b", "--per-device-batch-size", "3"], "rollouts of a step are not"),
    ],
)
def test_invalid_settings_are_refused(words, message, capsys):
    with pytest.raises((ValueError, SystemExit)) as error:
        run.parse(words)
    captured = capsys.readouterr()
    text = f"{error.value} {captured.err} {captured.out}".replace("\u2502", " ")
    assert message in " ".join(text.split())


def test_missing_files_are_reported_together(world, tmp_path, capsys):
    words = arguments(world, tmp_path, "--dry-run")
    words[words.index("--weights") + 1] = "qwen2.5-3b"
    words[words.index("--train") + 1] = "longtvqa-plus-train"
    assert launch.main([*words, "--engine", "vllm", "--processes", "2"]) == 2
    error = capsys.readouterr().err
    for part in ("package vllm is missing", "qwen2.5-3b", "longtvqa_plus/prepare.py"):
        assert part in error
    assert list(tmp_path.iterdir()) == []


def test_a_whole_run_by_its_command(world, tmp_path, caplog):
    words = arguments(world, tmp_path)
    caplog.set_level("INFO")
    assert run.main([*words, "--dry-run"]) == 0
    assert "parameters: weights" in caplog.text
    assert "steps take about" in caplog.text
    assert list(tmp_path.iterdir()) == []
    assert run.main(words) == 0
    assert "eval step 2: Acc " in caplog.text
    assert re.search(r"step 3/3  reward \S+  right \S+  calls \S+  turns \S+  grad_norm \S+  0 s left", caplog.text)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "rl.json",
        "best",
        "model",
        "eval",
        "rollouts",
        "checkpoint-3",
    }
    record = json.loads((tmp_path / "rl.json").read_text())
    assert record["data"]["held_out"]["samples"] == 3
    assert datasets.load(str(world / "data")).sha256 == record["data"]["train"]["sha256"]
    evaluation = tmp_path / "eval" / "step-2"
    dataset = locate.dataset_of(evaluation, None)
    held_out = set(locate.selection_of(evaluation).only)
    assert len(held_out) == 3
    assert held_out < {sample.id for sample in dataset.samples}
    assert evqa_main(["score", str(evaluation)]) == 0
    predict = f"predict {world / 'data'} {tmp_path / 'model'} --method episode --agent vision={world / 'looker.json'}"
    options = f"--max-tokens 2 --clip-frames 1 --episode-turns 3 --out {tmp_path / 'predicted'} --sample-ids"
    assert evqa_main([*predict.split(), *options.split(), *sorted(held_out)]) == 0
    best = json.loads((tmp_path / "best" / "score.json").read_text())
    scored = read_answers(tmp_path / "predicted")
    assert scored == read_answers(tmp_path / "eval" / f"step-{best['step']}")
    assert run.main(words) == 0
    assert "already finished" in caplog.text
    assert run.main([*words, "--seed", "3"]) == 2


def entries(first, latest):
    rows = [first] * monitoring.WINDOW + [latest] * monitoring.WINDOW
    return list(rows)


def test_alarms():
    good = {"calls/all": 1.5, "clips/right_without_evidence": 0.1}
    assert dict(monitoring.alarms_of(entries(good, good))) == {}
    assert dict(monitoring.alarms_of(entries(good, good | {"calls/all": 0.7}))).keys() == {"call collapse"}
    assert dict(monitoring.alarms_of(entries(good | {"calls/all": 0.1}, good | {"calls/all": 0.0}))) == {}
    blind = good | {"clips/right_without_evidence": 0.6}
    assert dict(monitoring.alarms_of(entries(good, blind))).keys() == {"reward without evidence"}
    assert dict(monitoring.alarms_of(entries(blind, blind))) == {}
    assert dict(monitoring.alarms_of(entries(good, blind)[5:])) == {}


FORKS = """
import json, os, sys
from unipixel.rl import run
port, arguments = json.loads(sys.argv[1])
ranks = []
for rank in ("0", "1"):
    if not (child := os.fork()):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(place, RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        code = run.main(arguments)
        sys.stderr.flush()
        os._exit(code)
    ranks.append(child)
if any([os.waitpid(child, 0)[1] for child in ranks]):
    sys.exit(f"failed: {arguments}")
"""


def two_processes(words):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    result = subprocess.run(
        [sys.executable, "-c", FORKS, json.dumps([port, words])],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["None", "2", "3"])
def test_two_processes_with_unequal_turns(world, tmp_path, stage):
    """Episodes of one process end early; under ZeRO 3 generation is a collective operation."""
    words = arguments(world, tmp_path, "--per-device-batch-size", "2", "--kl", "0")
    words[words.index("None")] = stage
    two_processes(words)
    state = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())
    turns = [entry["episodes/turns"] for entry in state["log_history"] if "episodes/turns" in entry]
    assert len(turns) == 3
    assert any(value != round(value) for value in turns)
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(world, tmp_path):
    from safetensors.torch import load_file

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run.main(arguments(world, whole)) == 0
    program = [sys.executable, "-m", "unipixel.rl.run", *arguments(world, killed)]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL)
    while not (killed / "checkpoint-1").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "model").exists()
    assert run.main(arguments(world, killed)) == 0
    first, second = (load_file(folder / "checkpoint-3" / "adapter_model.safetensors") for folder in (whole, killed))
    assert all((first[name] == second[name]).all() for name in first)
