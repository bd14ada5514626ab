"""Parts of a data set, and the shares of several machines joined."""

from pathlib import Path
from typing import Any

import pytest

from evqa import datasets, models
from evqa.__main__ import main
from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.runs import run_folder
from evqa.runs.run_folder import PREDICTIONS, RUN
from evqa.runs.shards import Selection, Shard, file_name_of, shards_of
from evqa.schema import Prediction, Turn, Usage

Bench = Any
"""The fixture of conftest.py."""


@pytest.fixture
def data(tmp_path: Path, bench: Bench) -> Dataset:
    return datasets.load(str(bench.data(tmp_path / "data", 7)))


@pytest.fixture
def model(tmp_path: Path, bench: Bench) -> models.Model:
    return models.build(str(bench.replies(tmp_path / "replies.json", 7)))


def ids(selection: Selection, data: Dataset) -> list[str]:
    return [sample.id for sample in selection.of(data)]


def test_shards_take_turns_and_leave_nothing_out(data: Dataset) -> None:
    parts = [ids(Selection(shard=Shard(index, 3)), data) for index in range(3)]
    assert parts == [["s000", "s003", "s006"], ["s001", "s004"], ["s002", "s005"]]


def test_a_limit_comes_before_the_shards(data: Dataset) -> None:
    assert ids(Selection(shard=Shard(1, 2), limit=4), data) == ["s001", "s003"]


def test_more_shards_than_samples_leave_some_empty(data: Dataset) -> None:
    assert ids(Selection(shard=Shard(8, 9)), data) == []


@pytest.mark.parametrize("text", ["8/8", "1/0", "-1/8", "1", "a/b", "", "1/8/2", "1000000000/2000000000"])
def test_what_is_no_shard_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"I/N with 0 <= I < N"):
        Shard.read(text)


def test_a_name_becomes_one_part_of_a_path() -> None:
    assert file_name_of("outputs/shapes/model.json") == "shapes-model"
    assert file_name_of("st-evidence-3b") == "st-evidence-3b"
    assert file_name_of("data/set-1.0") == "data-set-1.0"


def test_no_two_models_share_a_folder() -> None:
    assert len({file_name_of(name) for name in models.MODELS}) == len(models.MODELS)
    assert file_name_of("qwen2.5-vl-7b") == "qwen2.5-vl-7b"


def test_shards_are_merged_into_what_an_unbroken_run_gives(
    tmp_path: Path, data: Dataset, model: models.Model, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    for index in range(3):
        summary = bench.run(model, data, folder, shard=Shard(index, 3))
        assert summary.folder == folder / f"shard-{index}-of-3"
    bench.run(model, data, tmp_path / "unbroken")
    assert main(["merge", str(folder)]) == 0
    assert "3 shards, 7 predicted, 0 failed, 0 missing" in capsys.readouterr().out
    assert bench.latest(folder) == bench.latest(tmp_path / "unbroken")
    order = [one.sample_id for one in bench.records(folder)]
    assert order == [sample.id for sample in data.samples], "in the order of the data set"
    spent = run_folder.read_run_info(folder).usage
    assert spent == run_folder.read_run_info(tmp_path / "unbroken").usage
    assert main(["merge", str(folder)]) == 0
    assert run_folder.read_run_info(folder).usage == spent, "what was merged before is not counted again"
    assert run_folder.read_run_info(folder).identity == run_folder.read_run_info(tmp_path / "unbroken").identity
    assert bench.run(model, data, folder).skipped == 7


def test_what_a_lost_machine_left_is_told_and_filled_by_a_run_without_shard(
    tmp_path: Path, data: Dataset, model: models.Model, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    bench.run(model, data, folder, shard=Shard(0, 2))
    bench.run(model, data, folder, shard=Shard(1, 2))
    cut = folder / "shard-1-of-2" / PREDICTIONS
    cut.write_bytes(cut.read_bytes()[:-10])
    assert main(["merge", str(folder)]) == 1
    assert "2 shards, 6 predicted, 0 failed, 1 missing" in capsys.readouterr().out
    summary = bench.run(model, data, folder)
    assert (summary.num_ok, summary.skipped) == (1, 6)
    assert main(["merge", str(folder)]) == 0, "merging again loses nothing"
    assert sorted(one.sample_id for one in bench.records(folder)) == [f"s{number:03d}" for number in range(7)]


def test_a_later_success_replaces_a_failure_whichever_shard_has_it(
    tmp_path: Path, data: Dataset, model: models.Model, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    clip = data.folder / "videos" / "clip6.mp4"
    whole = clip.read_bytes()
    clip.write_bytes(whole[:100])
    bench.run(model, data, folder, shard=Shard(0, 2))
    clip.write_bytes(whole)
    bench.run(model, data, folder, shard=Shard(1, 2))
    assert main(["merge", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "3 predicted, 4 failed, 0 missing" in out
    assert "s000: ValueError" in out
    assert bench.run(model, data, folder).num_ok == 4
    assert main(["merge", str(folder)]) == 0
    assert {one.status for one in bench.records(folder)} == {"ok"}


def test_what_failed_replies_took_is_counted_by_whatever_follows_a_merge(
    tmp_path: Path, data: Dataset, model: models.Model, bench: Bench
) -> None:
    folder = tmp_path / "run"
    usage = Usage(input_tokens=100, output_tokens=10, seconds=1.0, cost=0.5)
    turn = Turn(answer_fields=("answer",), prompt="?", reply="", usage=usage)
    cut = Prediction(sample_id="s000", status="failed", error="ModelError: cut", turns=(turn,))
    shard = bench.run(model, data, folder, shard=Shard(0, 2)).folder
    jsonl.write_records(shard / PREDICTIONS, [cut, *bench.records(shard)])
    main(["merge", str(folder)])
    assert bench.run(model, data, folder).usage.cost == 0.5
    main(["merge", str(folder)])
    main(["merge", str(folder)])
    assert run_folder.read_run_info(folder).usage.cost == 0.5
    assert run_folder.read_run_info(folder).usage.num_replies == 8


def test_shards_of_different_runs_are_not_merged(
    tmp_path: Path, data: Dataset, model: models.Model, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(model, data, tmp_path / "run", shard=Shard(0, 2))
    bench.run(model, data, tmp_path / "run", shard=Shard(1, 2), seed=7)
    assert main(["merge", str(tmp_path / "run")]) == 2
    assert "seed was 0, now 7" in capsys.readouterr().err
    bench.run(model, data, tmp_path / "run", shard=Shard(1, 3))
    assert main(["merge", str(tmp_path / "run")]) == 2
    assert "shards of different counts" in capsys.readouterr().err


def test_parts_of_a_data_set_add_up_and_nothing_is_predicted_twice(
    tmp_path: Path, data: Dataset, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["predict", str(data.folder), str(bench.replies(tmp_path / "replies.json", 7)), "--out", str(out)]
    for options, done, skipped in (
        (("--sample-ids", "s005", "s002"), 2, 0),
        (("--sample-ids", "s005", "s001", "s002", "--limit", "2"), 1, 1),
        (("--limit", "4"), 2, 2),
        ((), 2, 5),
    ):
        assert main([*command, *options]) == 0
        earlier = f"{skipped} already done (skipped), " if skipped else ""
        assert f"{done} predicted, {earlier}0 failed" in capsys.readouterr().out, options
    assert sorted(one.sample_id for one in bench.records(out)) == [f"s{number:03d}" for number in range(7)]
    for options, done, skipped in (
        (("--shard", "1/2", "--sample-ids", "s002", "s004"), 1, 0),
        (("--shard", "1/2", "--limit", "4"), 2, 0),
        (("--shard", "1/2"), 1, 2),
        (("--shard", "0/2"), 4, 0),
    ):
        assert main([*command, *options]) == 0
        earlier = f"{skipped} already done (skipped), " if skipped else ""
        assert f"{done} predicted, {earlier}0 failed" in capsys.readouterr().out, options
    assert main(["merge", str(out)]) == 0
    assert sorted(one.sample_id for one in bench.records(out)) == [f"s{number:03d}" for number in range(7)]


def test_a_folder_without_shards_says_how_they_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(tmp_path)]) == 2
    assert "evqa predict ... --shard I/N" in capsys.readouterr().err


def test_shards_run_by_command_line_and_score_after_the_merge(
    tmp_path: Path, data: Dataset, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = bench.replies(tmp_path / "replies.json", 7)
    command = ["predict", str(data.folder), str(replies), "--out", str(tmp_path / "run")]
    for index in range(2):
        assert main([*command, "--shard", f"{index}/2"]) == 0
    assert f"next: evqa merge {tmp_path / 'run'}" in capsys.readouterr().out
    assert list(shards_of(tmp_path / "run")) == [Shard(0, 2), Shard(1, 2)]
    assert main(["merge", str(tmp_path / "run")]) == 0
    assert main(["score", str(tmp_path / "run"), "--preset", "strict"]) == 0
    assert "Acc" in capsys.readouterr().out
    assert (tmp_path / "run" / RUN).is_file()
