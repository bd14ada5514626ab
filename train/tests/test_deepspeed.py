"""Training through DeepSpeed as a user starts it: two processes over gloo, batches of other kinds, a kill."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from evqa import datasets
from evqa.jsonl import write_records
from evqa.schema import NO_VIDEO, Exchange, Sample, Track
from unipixel import sft
from unipixel.configs import DataConfig
from unipixel.data import mixture

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4


@pytest.fixture(scope="module")
def words_and_masks(squares, tmp_path_factory):
    """Six samples with a video and masks, six of words alone."""
    folder = tmp_path_factory.mktemp("words_and_masks")
    samples = []
    for number, sample in enumerate(datasets.load(str(squares)).samples[:6]):
        tracks = tuple(Track(label=track.label, masks=track.masks) for track in sample.tracks)
        samples.append(sample.model_copy(update={"video": Path("videos") / sample.video.name, "tracks": tracks}))
        turns = (Exchange(question=f"What is {number} + 1?", response=f"It is {number + 1}."),)
        told = {"video_id": "none", "video": NO_VIDEO, "question": "", "form": "conversation"}
        samples.append(Sample(id=f"words-{number}", turns=turns, **told))
    shutil.copytree(squares / "videos", folder / "videos")
    write_records(folder / "samples.jsonl", samples)
    return folder


def flags(checkpoint, data, *more):
    text = f"""tiny tiny --weights {checkpoint} --datasets {data} 1 --num-frames 4 --mask-frames 2 --batch 1
    --global-batch 2 --max-steps {STEPS} --save-steps 1 --log-steps 1 --rank 4 --alpha 8 --dropout 0 --lr 0.002
    --lora-lr 0.002 --sam2-lr 0.0005 --modules embedding projector ref seg msk sam2 --tensorboard False
    --eval-data None --num-workers 0 --seed {seed_of_mixed_batches(data)}"""
    return [*text.split(), *more]


def seed_of_mixed_batches(data):
    """A seed by which the two processes have samples of different kinds, each its turn, in the first steps."""
    for seed in range(1000):
        loaded = mixture.load(DataConfig(datasets=((str(data), 1.0),)), seed)
        kinds = [loaded.sample(draw).has_video for draw in loaded.order(4)]
        if kinds == [True, False, False, True]:
            return seed
    raise AssertionError("no seed found")


def processes(arguments):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'benchmark'}{os.pathsep}{ROOT / 'train'}"}
    environment |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "unipixel.sft"]
    return subprocess.Popen(
        [sys.executable, *launcher, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def log_of(out):
    state = json.loads((out / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    return [row for row in state["log_history"] if "loss" in row]


def assert_same_run(one, two):
    for name in ("loss", "loss_lm", "grad_norm"):
        assert [row[name] for row in log_of(two)] == pytest.approx([row[name] for row in log_of(one)], rel=1e-4), name
    dice = [[row.get("loss_dice", 0.0) for row in log_of(run)] for run in (one, two)]
    assert dice[1] == pytest.approx(dice[0], rel=1e-4)
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert torch.allclose(weight, second[name], atol=1e-4), name


def test_a_killed_run_of_two_deepspeed_processes_ends_as_an_unbroken_one_of_one_process(
    tiny_checkpoint, words_and_masks, tmp_path
):
    """Words alone in one process, masks in the other; no sample of the two kinds shares a batch."""
    arguments = flags(tiny_checkpoint, words_and_masks)
    deepspeed = [*arguments, "--zero", "2", "--out", str(tmp_path / "two")]
    killed_at = random.Random(time.time_ns()).randint(1, STEPS - 2)
    first = processes(deepspeed)
    wait_for(tmp_path / "two" / f"checkpoint-{killed_at}", first)
    kill_all(first)
    assert not (tmp_path / "two" / "model").exists()
    second = processes(deepspeed)
    assert sft.main([*arguments, "--out", str(tmp_path / "one")]) == 0
    output = second.communicate()[0]
    assert second.returncode == 0, output
    assert "going on from" in output, killed_at
    assert_same_run(tmp_path / "one", tmp_path / "two")


def kill_all(running):
    """SIGKILL to the launcher and to every process that trains; these would live on without it."""
    family = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    for process in family:
        process.kill()
    psutil.wait_procs(family)
    running.wait()


def wait_for(path, running):
    end = time.monotonic() + 900
    while not path.exists():
        assert running.poll() is None, running.stdout.read()
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.02)
