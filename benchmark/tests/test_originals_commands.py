"""The table in docs/published_commands.md: it has every script of the original, and each of our commands parses."""

import functools
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from published_layouts import write_table
from tyro.conf import FlagCreatePairsOff

from evqa import datasets, media, models
from evqa.cli import COMMANDS, load_command
from evqa.official.scripts import SCRIPTS as TRANSLATED
from evqa.official.scripts import ScriptCommand, translate
from evqa.tasks.suites import SUITES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "published_commands.md").read_text(encoding="utf-8")
ROWS = [re.split(r"(?<!\\)\|", line)[1:3] for line in TEXT.splitlines() if line.startswith("| `")]

MODELS = ("gpt", "gemini", "qwen2_5vl", "qwen3vl", "videollama3", "llava_ov1_5", "unipixel", "sa2va", "ours")
SCRIPTS = (
    *(f"{model}_st_evidence.py" for model in MODELS),
    *(f"{model}_st_evidence_mcq.py" for model in (*MODELS, "internvl3_5")),
    *("internvl_3_5.py", "ours_st_evidence_single.py", "unipixel_video_seg.py"),
    *("ours_st_evidence_multigpu.sh", "ours_st_evidence_mcq_multigpu.sh", "unipixel_video_seg_multigpu.sh"),
    *("eval_st_evidence.py", "eval_st_evidence_mcq.py", "eval_st_evidence_all.sh", "eval_st_evidence_ours.sh"),
)
"""What lies in the original's two folders of the benchmark."""

PLACEHOLDERS = {"MODEL": "gpt-4o", "N": "3", "X": "1.5", "I/N": "0/3", "ID": "s0", "...": "s1", "FILE.json": "f.json"}
PLACEHOLDERS |= {"DATA": "longtvqa-plus", "MASTER": "gpt-4o", "data/NAME/prepare.py": "data/longtvqa_plus/prepare.py"}
OPTIONS = {
    "predict": ["predict", "d", "m"],
    "segment": ["segment", "r"],
    "score": ["score", "r"],
    "ground": ["ground", "longtvqa-plus"],
    "export": ["export", "r"],
}
"""Commands of which a row may name an option alone."""
TRAINING_OPTIONS = (ROOT / "train" / "unipixel" / "rl" / "configs.py").read_text(encoding="utf-8")
"""Options of `bash scripts/rl.sh`, as fields of its configs."""


def given(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The subcommand that a command line reaches, and what it is given; nothing is run."""
    reached: list[tuple[str, dict[str, Any]]] = []

    def kept(name: str, command: Any) -> Any:
        @functools.wraps(command)
        def keep(*positional: Any, **named: Any) -> int:
            reached.append((name, inspect.signature(command).bind(*positional, **named).arguments))
            return 0

        return keep

    table = {name: kept(name, load_command(name)) for name in COMMANDS}
    tyro.extras.subcommand_cli_from_dict(table, prog="evqa", args=arguments, config=(FlagCreatePairsOff,))
    return reached[0]


def spans(cell: str) -> list[str]:
    return [span.replace("\\|", "|") for span in re.findall(r"`([^`]+)`", cell)]


def arguments_of(line: str) -> list[list[str]]:
    """A line of ours as arguments: one list for each of `a|b|c`, with a value for what stands in capitals."""
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line)]
    choices = next((word.split("|") for word in words if "|" in word), None)
    return [words] if choices is None else [[one if "|" in word else word for word in words] for one in choices]


def test_the_table_has_every_script_of_the_original() -> None:
    named = " ".join(there for there, _ in ROWS)
    assert len(SCRIPTS) == 29
    assert [script for script in SCRIPTS if not re.search(rf"`{re.escape(script)}\b", named)] == []


@pytest.mark.parametrize(("there", "here"), ROWS)
def test_each_row_names_a_command_or_an_option_that_there_is(there: str, here: str) -> None:
    for span in spans(here):
        for words in arguments_of(span):
            if words[0] == "evqa":
                check_command(words[1:])
            elif words[0].startswith("--"):
                check_option(words)
            elif words[:2] == ["bash", "scripts/benchmark.sh"]:
                check_command(["benchmark", *words[2:4], "--workers", words[4]])
            elif words[:2] == ["bash", "scripts/sft.sh"]:
                assert words[2:] == ["3b", "base", "--from-scratch"], "train/tests/test_sft.py has the others"
            elif words[-1].startswith("data/"):
                assert (ROOT / words[-1]).is_file(), span
    assert spans(here) or here.strip().startswith("nothing:"), f"{there} has nothing here"


def check_command(words: list[str]) -> None:
    name, found = given(["list" if words == ["list"] else words[0], *words[1:]])
    if found.get("suite"):
        assert found["suite"] in SUITES
        assert found["data"] in models.MODELS
    elif name in ("predict", "benchmark"):
        assert found["data"] in datasets.DATASETS
        assert found["model"] in models.MODELS


def check_option(words: list[str]) -> None:
    """Check an option alone: of one of `OPTIONS` (`--data` and `--masks` are those of `evqa score`), or of training."""
    if f"    {words[0].removeprefix('--').replace('-', '_')}: " in TRAINING_OPTIONS:
        return
    for command in OPTIONS.values():
        try:
            given([*command, *with_value(words)])
        except SystemExit:
            continue
        return
    raise AssertionError(f"no command has {' '.join(words)}")


def with_value(words: list[str]) -> list[str]:
    values = {"--batch-size": "4", "--tensor-parallel": "2", "--device-map": "auto", "--dtype": "bfloat16"}
    values |= {"--fps": "1", "--max-frames": "8", "--max-size": "64", "--max-cost": "5", "--data": "d"}
    values |= {"--episode-turns": "5", "--concurrency": "4", "--limit": "4", "--temperature": "0.6", "--out": "o"}
    values |= {"--max-tokens": "2500", "--base-url": "http://127.0.0.1:8000/v1", "--boxes": "f", "--sample-ids": "s0"}
    return [*words, values[words[0]]] if len(words) == 1 and words[0] in values else words


# As they are typed

OURS, UNIPIXEL = "Salesforce/ST-Evidence-3B", "PolyU-ChenLab/UniPixel-3B"
PREDICT, CHOOSE = "evqa predict st-evidence-gen", "evqa predict st-evidence-mcq"

TYPED = [
    (
        "gpt_st_evidence.py --model gpt-4o --mode single-turn --fps 1 --max-frames 32",
        f"{PREDICT} gpt-4o --fps 1 --max-frames 32 --out results/openai/gpt_4o_st_evidence_single_turn_1fps",
    ),
    (
        "gpt_st_evidence.py --model o3 --mode multi-turn --delay 0.5",
        f"{PREDICT} o3 --method multi-turn --rpm 120 --out results/openai/o3_st_evidence_multi_turn_1.0fps",
    ),
    (
        "gemini_st_evidence.py --model gemini-2.5-flash --fps 1 --project-id p --location us-central1",
        f"{PREDICT} gemini-2.5-flash --fps 1 --out results/gemini/gemini_2_5_flash_st_evidence_single_1fps",
    ),
    (
        "internvl_3_5.py --model OpenGVLab/InternVL3_5-4B --fps 1.0 --batch-size 8 --max-num 1",
        f"{PREDICT} internvl3.5-4b --fps 1.0 --batch-size 8 "
        "--out results/internvl/internvl3_5_4b_st_evidence_single_1.0fps",
    ),
    (
        "qwen2_5vl_st_evidence.py --model Qwen/Qwen2.5-VL-72B-Instruct --gpu-num 4 --batch-size 8 --max-frames 768",
        f"{PREDICT} qwen2.5-vl-72b --max-frames 768 --batch-size 8 --device-map auto "
        "--out results/qwen2_5vl/qwen2.5_vl_72b_instruct_st_evidence_single_turn_1fps",
    ),
    (
        "qwen3vl_st_evidence.py --model Qwen/Qwen3-VL-235B-A22B-Instruct --gpu-num 8 --mode multi-turn",
        f"{PREDICT} qwen3-vl-235b-a22b-vllm --method multi-turn --tensor-parallel 8 "
        "--out results/qwen3vl/qwen3_vl_235b_a22b_instruct_st_evidence_multi_turn_1fps",
    ),
    (
        "videollama3_st_evidence.py --model lkhl/VideoLLaMA3-2B-Image-HF --max-frames 128",
        f"{PREDICT} videollama3-2b-image --max-frames 128 "
        "--out results/videollama3/videollama3_2b_image_hf_st_evidence_single_turn_1.0fps",
    ),
    (
        "llava_ov1_5_st_evidence.py --max-size 512 --fps 1.0",
        f"{PREDICT} llava-onevision-1.5-8b --trust-remote-code --fps 1.0 --max-size 512 "
        "--out results/llava_ov/llava_onevision_1.5_8b_instruct_st_evidence_single_turn_1.0fps",
    ),
    (
        f"unipixel_st_evidence.py --model {UNIPIXEL} --fps 1.0 --max-frames 128 --device auto --dtype bfloat16",
        f"{PREDICT} unipixel-3b --fps 1.0 --max-frames 128 --dtype bfloat16 "
        "--out results/unipixel/unipixel_3b_st_evidence_1.0fps",
    ),
    (
        "sa2va_st_evidence.py --max-frames 16 --device cuda",
        f"{PREDICT} sa2va-qwen2.5-vl-7b --trust-remote-code --max-frames 16 "
        "--out results/sa2va/sa2va_qwen2_5_vl_7b_st_evidence_1.0fps",
    ),
    (
        f"ours_st_evidence.py --model {OURS} --chunk 8 --index 3 --max-new-tokens 512 --resume --num-threads 8",
        f"{PREDICT} st-evidence-3b --max-new-tokens 512 --shard 3/8 "
        "--out results/ours/3b_st_evidence_3b_st_evidence_1.0fps",
    ),
    (
        f"ours_st_evidence.py --model {OURS} --do-sample --temperature 0.7 --end-idx 20 --output-dir here",
        f"{PREDICT} st-evidence-3b --temperature 0.7 --limit 20 --out here/3b_st_evidence_3b_st_evidence_1.0fps",
    ),
    (
        f"ours_st_evidence_multigpu.sh {OURS} 4",
        f"{PREDICT} st-evidence-3b --out results/ours/3b_st_evidence_3b_st_evidence_1.0fps --workers 4",
    ),
    (
        "ours_st_evidence_single.py --video v.mp4 --question Q --options a b "
        "--model Salesforce/ST-Evidence-7B --save-masks",
        "evqa ask v.mp4 Q --option a --option b --model st-evidence-7b --out ./inference_output",
    ),
    (
        f"ours_st_evidence_single.py --video v.mp4 --prompt P --model {OURS} --output-dir here",
        "evqa ask v.mp4 P --model st-evidence-3b --out here",
    ),
    (
        "unipixel_video_seg.py f.json --mode seperate --target_fps 2 --save_masks --skip_viz --batch_size 5",
        "evqa segment f.json --segmenter unipixel-3b --mode separate --fps 2 --data st-evidence-gen",
    ),
    (
        "unipixel_video_seg.py f.json --every-n-frames 3 --chunk 2 --index 1 --output_dir masks",
        "evqa segment f.json --segmenter unipixel-3b --mode both --frame-stride 3 --data st-evidence-gen "
        "--shard 1/2 --out masks",
    ),
    (
        "unipixel_video_seg.py f.json --model_path PolyU-ChenLab/UniPixel-7B --mode concat --frame_num 16",
        "evqa segment f.json --segmenter unipixel-7b --mode concat --num-frames 16 --data st-evidence-gen",
    ),
    (
        "unipixel_video_seg_multigpu.sh f.json",
        "evqa segment f.json --segmenter unipixel-3b --mode separate --fps 1.0 --data st-evidence-gen --workers 8",
    ),
    (
        "eval_st_evidence.py --pred_file f.json --eval_masks --pred_mask_dir f --num_workers 4 --output_file o.json",
        "evqa score f.json --data st-evidence-gen --masks f --workers 4",
    ),
    ("eval_st_evidence_mcq.py f.json --verbose --save-metrics m.json", "evqa score f.json --data st-evidence-mcq"),
    ("auto_eval.sh work_dirs/mine", "evqa benchmark --suite unipixel work_dirs/mine"),
    (
        "gpt_st_evidence_mcq.py --task qa --model gpt-4o --video_dir data/NextQA-Video",
        f"{CHOOSE} gpt-4o --method choose-answer --out result/gpt/gpt-4o_qa_1.0fps",
    ),
    (
        "gemini_st_evidence_mcq.py --task multiturn --print_thinking",
        f"{CHOOSE} gemini-2.5-pro --method choose-chat --out result/gemini/gemini-2.5-pro_multiturn_1fps",
    ),
    (
        "internvl3_5_st_evidence_mcq.py --task time_evidence --max_num 1 --input_size 448",
        f"{CHOOSE} internvl3.5-8b --method choose-time --out result/internvl/InternVL3_5-8B_time_evidence_1.0fps",
    ),
    (
        "llava_ov1_5_st_evidence_mcq.py --task spatial_evidence --max_frames 64 --max_size 512",
        f"{CHOOSE} llava-onevision-1.5-8b --method choose-space --trust-remote-code --max-frames 64 --max-size 512 "
        "--out result/llava_ov/llava_onevision_1.5_8b_instruct_spatial_evidence_1.0fps",
    ),
    (
        "qwen2_5vl_st_evidence_mcq.py --gpu_num 1 --batch_size 1 --max_tokens 512",
        f"{CHOOSE} qwen2.5-vl-7b --method choose --batch-size 1 --max-tokens 512 "
        "--out result/qwen2_5/Qwen2.5-VL-7B-Instruct_all_1fps",
    ),
    (
        "qwen3vl_st_evidence_mcq.py --task all",
        f"{CHOOSE} qwen3-vl-8b --method choose --out result/qwen/Qwen3-VL-8B-Instruct_all_1fps",
    ),
    (
        "videollama3_st_evidence_mcq.py --task all --model lkhl/VideoLLaMA3-2B-Image-HF",
        f"{CHOOSE} videollama3-2b-image --method choose --out result/videollama3/videollama3_2b_image_hf_all_1.0fps",
    ),
    (
        f"ours_st_evidence_mcq.py --task all --model {OURS} --split test --temperature None "
        "--video_dir data/NextQA-Video --data_file data/st_evidence_mcq.csv",
        f"{CHOOSE} st-evidence-3b --method choose --out result/ours/3b_st_evidence_3b_all_1.0fps",
    ),
    (
        "sa2va_st_evidence.py --skip-stage2",
        "evqa predict st-evidence-gen sa2va-qwen2.5-vl-7b --trust-remote-code "
        "--out results/sa2va/sa2va_qwen2_5_vl_7b_st_evidence_1.0fps",
    ),
    (
        "sa2va_st_evidence_mcq.py --task all --model models/Sa2VA-Qwen2_5-VL-7B",
        f"{CHOOSE} sa2va-qwen2.5-vl-7b --method choose --trust-remote-code "
        "--out result/sa2va/sa2va_qwen2_5_vl_7b_all_1.0fps",
    ),
    (
        "unipixel_st_evidence_mcq.py --task all --fps 2.0 --num_threads 8",
        f"{CHOOSE} unipixel-3b --method choose --fps 2.0 --out result/unipixel/unipixel_3b_all_2.0fps",
    ),
    (
        f"ours_st_evidence_mcq.py --task all --model {OURS} --save_file result/mine.json",
        f"{CHOOSE} st-evidence-3b --method choose --out result/mine",
    ),
    (
        f"ours_st_evidence_mcq_multigpu.sh {OURS} 2 0 qa",
        f"{CHOOSE} st-evidence-3b --method choose-answer --out result/ours/3b_st_evidence_3b_qa_1.0fps --workers 2",
    ),
]
"""A published command, and ours."""


@pytest.mark.parametrize(("typed", "ours"), TYPED)
def test_a_published_command_becomes_ours(
    typed: str, ours: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script, *arguments = shlex.split(typed)
    step = translate(script, arguments)
    assert shlex.join(["evqa", *step.arguments]) == ours
    assert translate(script, [swapped(word) for word in arguments]) == step, "- and _ are the same in names of options"
    name, found = given(step.arguments)
    if name == "predict":
        check_settings(found["model"], found["options"].overrides())


def swapped(word: str) -> str:
    other = {"-": "_", "_": "-"}
    return f"--{''.join(other.get(one, one) for one in word[2:])}" if word.startswith("--") else word


def check_settings(name: str, overrides: dict[str, Any]) -> None:
    """The model has every setting that the command line changes."""
    if models.MODELS[name].extra != "vllm":
        assert [setting for setting in overrides if not models.has_setting(name, setting)] == []


def test_every_published_script_is_there_under_its_name_and_has_an_example() -> None:
    assert set(TRANSLATED) == {*SCRIPTS, "auto_eval.sh"}
    assert {typed.split()[0] for typed, _ in TYPED} | {"eval_st_evidence_all.sh", "eval_st_evidence_ours.sh"} == set(
        TRANSLATED
    )
    for script in TRANSLATED:
        folder = (
            "train/scripts"
            if script == "auto_eval.sh"
            else f"benchmark/st_evidence_{'mcq' if 'mcq' in script else 'gen'}"
        )
        target = ROOT / folder / script
        assert target.resolve() == ROOT / "benchmark" / f"published{target.suffix}", f"{target} is no link"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("gpt_st_evidence.py --modell gpt-4o", "unrecognized arguments: --modell"),
        ("gpt_st_evidence.py --mode both", "invalid choice: 'both'"),
        ("gpt_st_evidence_mcq.py", "--task is needed: one of all, qa"),
        ("ours_st_evidence.py --device tpu", "--device is auto, cpu, cuda or cuda:N, got 'tpu'"),
        ("ours_st_evidence.py --fps one", "expected a number above 0, got 'one'"),
        ("gpt_st_evidence.py --delay -1", "expected seconds of at least 0, got '-1'"),
        ("ours_st_evidence.py --data-file gone.csv", "--data_file: gone.csv is no file"),
        ("unipixel_video_seg.py", "ref_exp_file"),
        ("unipixel_video_seg.py f.json --target_fps 1 --frame_num 3", "not allowed with"),
        ("eval_st_evidence_all.sh", "no predictions in"),
        ("ours_st_evidence_multigpu.sh m 0", "expected at least 1 GPU"),
        ("gpt5_st_evidence.py", "unknown script 'gpt5_st_evidence.py'"),
    ],
)
def test_a_published_command_that_cannot_be_is_refused(
    typed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script, *arguments = typed.split()
    with pytest.raises(ValueError, match=re.escape(message)):
        translate(script, arguments)


@pytest.mark.parametrize("script", ["scripts/download.sh", "train/scripts/sft.sh", "scripts/sft.sh"])
def test_a_script_runs_through_a_link_to_it(script: str, tmp_path: Path) -> None:
    (tmp_path / "mine.sh").symlink_to(ROOT / script)
    command = ["bash", str(tmp_path / "mine.sh"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "usage" in done.stdout.lower()) == (0, True), done.stderr


def test_what_has_no_effect_is_told_and_gpus_are_chosen() -> None:
    step = translate("ours_st_evidence_multigpu.sh", ["m", "2", "4"])
    assert step.gpus == "4,5"
    assert translate("ours_st_evidence.py", ["--device", "cuda:3"]).gpus == "3"
    assert translate("ours_st_evidence.py", ["--device", "cpu"]).gpus == ""
    assert translate("ours_st_evidence.py", ["--num-threads", "8"]) == ScriptCommand(
        translate("ours_st_evidence.py", []).arguments,
        notes=("--num_threads has no effect: a video is decoded by as many threads as help",),
    )


def test_published_commands_work_one_after_the_other_in_the_published_folder(tmp_path: Path) -> None:
    """Files as downloaded, predict, score, report: each command as it is published, in a process of its own."""
    row = {"video_id": "v", "question": "Q?", "candidates": "['a', 'b']", "answer": "b", "segment": "[[0.0, 1.0]]"}
    rows = [row | {"entry_id": f"e{number}", "video_path": "videos/v.mp4"} for number in range(3)]
    write_table(tmp_path / "data" / "st_evidence_gen.csv", *rows)
    video = tmp_path / "data" / "videos_6fps" / "videos" / "v.mp4"
    video.parent.mkdir(parents=True)
    media.write_video(video, (np.full((32, 48, 3), 10 * index, np.uint8) for index in range(12)), 6.0)
    reply = "Answer: B. Temporal Evidence: [[0.0, 1.0]]. Spatial Evidence: <|seg|>."
    (tmp_path / "replies.json").write_text(json.dumps({"*": reply}))

    def run(*arguments: str) -> str:
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        for name in ("EVQA_DATA", "EVQA_ZOO"):
            environment.pop(name, None)
        done = subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    here = ROOT / "benchmark" / "st_evidence_gen"
    run(sys.executable, str(here / "ours_st_evidence.py"), "--model", "replies.json", "--start-idx", "1")
    output = "results/ours/replies.json_st_evidence_1.0fps.json"
    assert len((tmp_path / output).with_suffix("").joinpath("predictions.jsonl").read_text().splitlines()) == 2
    scored = run(sys.executable, str(here / "eval_st_evidence.py"), "--pred_file", output)
    assert (tmp_path / output).with_suffix("").joinpath("scores.json").is_file()
    assert "3 samples" in scored or "n_total" in scored
    assert "replies.json_st_evidence_1.0fps" in run("bash", str(here / "eval_st_evidence_all.sh"))
