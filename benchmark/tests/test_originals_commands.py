"""The table of the original's commands in benchmark/README.md: it is whole, and each command of ours can be given."""

import functools
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro
from tyro.conf import FlagCreatePairsOff

from evqa import datasets, models
from evqa.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (
    (ROOT / "benchmark" / "README.md").read_text(encoding="utf-8").partition("## The original's commands and ours")[2]
)
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
OPTIONS = ("predict", "segment", "score")
"""Commands of which a row may name an option alone."""


def given(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The subcommand that a command line reaches, and what it is given; nothing is run."""
    reached: list[tuple[str, dict[str, Any]]] = []

    def kept(name: str, command: Any) -> Any:
        @functools.wraps(command)
        def keep(*positional: Any, **named: Any) -> int:
            reached.append((name, inspect.signature(command).bind(*positional, **named).arguments))
            return 0

        return keep

    table = {name: kept(name, command) for name, command in COMMANDS.items()}
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
            elif words[-1].startswith("data/"):
                assert (ROOT / words[-1]).is_file(), span
    assert spans(here) or here.strip().startswith("nothing:"), f"{there} has nothing here"


def check_command(words: list[str]) -> None:
    name, found = given(["list" if words == ["list"] else words[0], *words[1:]])
    if name in ("predict", "benchmark"):
        assert found["data"] in datasets.DATASETS
        assert found["model"] in models.MODELS


def check_option(words: list[str]) -> None:
    """Of a command that takes it; `--data` and `--masks` are those of `evqa score`."""
    lines = {"predict": ["predict", "d", "m"], "segment": ["segment", "r"], "score": ["score", "r"]}
    for name in OPTIONS:
        try:
            given([*lines[name], *with_value(words)])
        except SystemExit:
            continue
        return
    raise AssertionError(f"no command has {' '.join(words)}")


def with_value(words: list[str]) -> list[str]:
    values = {"--batch-size": "4", "--tensor-parallel": "2", "--device-map": "auto", "--dtype": "bfloat16"}
    values |= {"--fps": "1", "--max-frames": "8", "--max-side": "64", "--max-cost": "5", "--data": "d"}
    return [*words, values[words[0]]] if len(words) == 1 and words[0] in values else words
