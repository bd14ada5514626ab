"""Tasks: the method and the presets of a benchmark come from its row, those of a folder from all of its samples."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from evqa import datasets, methods, models
from evqa.__main__ import main
from evqa.datasets import Dataset
from evqa.datasets.registry import DATASETS
from evqa.files import jsonl
from evqa.metrics.presets import PRESETS
from evqa.runs import locate
from evqa.schema import Sample, Span
from evqa.scoring import evaluate
from evqa.tasks import registry
from evqa.tasks.registry import TASKS, task_of

Bench = Any
"""The fixture of conftest.py."""

TIMES = {"time_options": ((Span(0, 0.5),), (Span(0.5, 1),)), "time_answer": 1}


def with_options(folder: Path, numbers: set[int], **fields: object) -> Dataset:
    """The data set with temporal options (or other fields) in the samples of these numbers."""
    samples = list(jsonl.read_records(folder / "samples.jsonl", Sample))
    changed = [
        sample.model_copy(update=fields or TIMES) if number in numbers else sample
        for number, sample in enumerate(samples)
    ]
    jsonl.write_records(folder / "samples.jsonl", changed)
    return datasets.load(str(folder))


@pytest.fixture
def folder(tmp_path: Path, bench: Bench) -> Path:
    return bench.data(tmp_path / "data", 4)


@pytest.mark.parametrize("name", TASKS)
def test_each_task_names_a_data_set_a_method_and_presets_that_exist(name: str) -> None:
    task = TASKS[name]
    assert task.data in DATASETS
    assert task.method in methods.METHODS
    assert task.presets
    assert set(task.presets) <= set(PRESETS)
    assert task.baselines in get_args(registry.BaselineChoice)
    assert task.description
    assert registry.data_of(name) == task.data


def test_a_data_set_has_one_task_and_each_benchmark_has_one() -> None:
    names = [task.data for task in TASKS.values()]
    assert len(set(names)) == len(names)
    assert {name for name, row in DATASETS.items() if row.is_benchmark} == set(names)


@pytest.mark.parametrize(
    ("numbers", "method", "preset"), [(set(), "single-turn", "strict"), (set(range(4)), "choose", "mcq")]
)
def test_the_task_of_a_folder_is_the_kind_of_all_samples(
    folder: Path, numbers: set[int], method: str, preset: str
) -> None:
    dataset = with_options(folder, numbers)
    task = task_of(dataset)
    assert (task.data, task.method, task.presets[0]) == (str(folder), method, preset)
    assert evaluate.presets_of(evaluate.BOTH, dataset) == list(task.presets)


def test_a_published_row_without_usable_options_is_multiple_choice_all_the_same(folder: Path) -> None:
    with_options(folder, {0, 1, 2})
    dataset = with_options(folder, {3}, metadata={"time": "missing", "space": "missing"})
    assert task_of(dataset).method == "choose"


@pytest.mark.parametrize("numbers", [{0}, {3}, {1, 2, 3}])
def test_samples_of_two_kinds_need_a_method_and_a_preset(
    folder: Path, tmp_path: Path, bench: Bench, capsys: pytest.CaptureFixture[str], numbers: set[int]
) -> None:
    with_options(folder, numbers)
    replies, run = str(bench.replies(tmp_path / "replies.json", 4)), str(tmp_path / "run")
    assert main(["predict", str(folder), replies, "--out", run]) == 2
    assert f"expected samples of one kind, got {len(numbers)} of 4 with options" in capsys.readouterr().err
    assert not Path(run).exists()
    assert main(["predict", str(folder), replies, "--out", run, "--method", "single-turn"]) == 0
    assert main(["score", run, "--baselines", "none"]) == 2
    assert "give --method to predict, --preset to score" in capsys.readouterr().err
    assert main(["score", run, "--baselines", "none", "--preset", "strict"]) == 0


def test_a_named_data_set_takes_method_and_presets_from_its_row_whatever_its_samples_are(
    folder: Path, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`st-evidence-mcq` stays multiple choice with a row that has no options, and that is its first."""
    root = tmp_path / "root"
    root.mkdir()
    with_options(folder, {1, 2, 3})
    folder.rename(root / "st_evidence_mcq")
    monkeypatch.setenv("EVQA_DATA", str(root))
    monkeypatch.setenv("EVQA_OUTPUTS", str(tmp_path / "outputs"))
    assert main(["predict", "st-evidence-mcq", str(bench.replies(tmp_path / "replies.json", 4))]) == 0
    (run,) = (tmp_path / "outputs" / "st-evidence-mcq").iterdir()
    assert run.name.endswith("-choose")
    assert json.loads((run / "run.json").read_text())["identity"]["method"] == "choose"
    assert evaluate.presets_of(evaluate.BOTH, locate.dataset_of(run, None)) == ["mcq", "st-evidence-mcq"]


def test_the_default_folder_of_a_run_is_named_by_data_model_and_method(
    folder: Path, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root" / "shapes"
    root.mkdir(parents=True)
    folder.rename(root / "test")
    monkeypatch.setenv("EVQA_DATA", str(root.parent))
    monkeypatch.setenv("EVQA_OUTPUTS", str(tmp_path / "outputs"))
    replies = bench.replies(tmp_path / "replies.json", 4)
    assert main(["predict", "shapes-test", str(replies)]) == 0
    (run,) = (tmp_path / "outputs" / "shapes-test").iterdir()
    assert run.name.endswith("-single-turn")
    assert json.loads((run / "run.json").read_text())["identity"]["data"] == "shapes-test"


SINGLE, GROUNDED, CHOICE = "single-turn", "grounded-turns", "choose"


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        ("tiny", "shapes-test", SINGLE),
        ("st-evidence-3b", "st-evidence-gen", SINGLE),
        ("unipixel-3b", "st-evidence-gen", GROUNDED),
        ("sa2va-qwen2.5-vl-7b", "shapes2-test", GROUNDED),
        ("gpt-4o", "st-evidence-gen", SINGLE),
        ("unipixel-3b", "st-evidence-mcq", CHOICE),
        ("gpt-4o", "st-evidence-mcq", CHOICE),
    ],
)
def test_a_model_keeps_its_own_method_where_the_task_has_a_single_turn(model: str, data: str, expected: str) -> None:
    assert methods.default_method(models.model_spec(model).method, TASKS[data].method) == expected


def test_evqa_list_shows_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tasks"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in TASKS)
    assert "method choose, presets mcq and st-evidence-mcq" in text


def test_the_baselines_of_a_task_are_scored_unless_others_are_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = datasets.load(str(folder))
    every = evaluate.trivial_scores(dataset, None, "strict", "all")
    assert every
    assert evaluate.trivial_scores(dataset, None, "strict") == every, "a folder without a row has all baselines"
    monkeypatch.setitem(TASKS, "shapes-test", replace(TASKS["shapes-test"], data=dataset.name, baselines="none"))
    assert evaluate.trivial_scores(dataset, None, "strict") == []
    assert evaluate.trivial_scores(dataset, None, "strict", "all") == every
