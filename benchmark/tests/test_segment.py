"""Expressions of stored predictions become masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evqa import masks, models
from evqa.__main__ import main
from evqa.files import jsonl
from evqa.runs import run_folder
from evqa.runs.run_folder import PREDICTIONS
from evqa.schema import Prediction, Span

Bench = Any
"""The fixture of conftest.py."""

NUM_FRAMES = 6

FIRST = {
    "Question number 000?": '{"answer": "B", "segments": [[0, 1]], "referring_expressions": ["the red ball", "a dog"]}',
    "Question number 001?": '{"answer": "A", "segments": [], "referring_expressions": []}',
    "Question number 002?": "Who knows.",
    "Question number 003?": {"error": "timed out"},
}


def mask(column: int) -> dict[str, object]:
    drawn = np.zeros((32, 48), dtype=np.bool_)
    drawn[:, column] = True
    return masks.encode(drawn).model_dump()


def drawing(*columns: int) -> dict[str, object]:
    tracks = [{"masks": {0: mask(column)}, "score": 0.5} for column in columns]
    return {"text": "<|seg|>" * len(columns), "tracks": tracks, "num_frames": NUM_FRAMES, "size": [32, 48]}


SEGMENTER = {
    "Please segment the red ball.": drawing(1),
    "Please segment a dog.": drawing(2, 3),
    "Please segment the red ball and a dog.": drawing(4, 5),
}


@pytest.fixture
def first(tmp_path: Path, bench: Bench) -> Path:
    """A run of four samples: with expressions, with none, unreadable, failed."""
    data = bench.data(tmp_path / "data", 4)
    script = tmp_path / "general.json"
    script.write_text(json.dumps(FIRST))
    folder = tmp_path / "run"
    assert main(["predict", str(data), str(script), "--method", "json", "--out", str(folder)]) == 1
    return folder


def segment(run: Path, script: object, *options: str) -> int:
    path = run.parent / "segmenter.json"
    path.write_text(json.dumps(script))
    return main(["segment", str(run), "--segmenter", str(path), *options])


def predictions(folder: Path) -> dict[str, Prediction]:
    return {one.sample_id: one for one in run_folder.last_predictions(folder / PREDICTIONS)}


def columns(prediction: Prediction) -> dict[str | None, list[int]]:
    """Label -> the columns that its objects fill in frame 0."""
    drawn: dict[str | None, list[int]] = {}
    for track in prediction.tracks or ():
        drawn.setdefault(track.label, []).append(int(masks.decode(track.masks[0]).argmax(axis=1)[0]))
    return drawn


def test_each_expression_has_its_objects_and_they_keep_its_text(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(first, SEGMENTER) == 1, "one sample of the first step has failed"
    out = capsys.readouterr().out
    assert f"{first}-separate: 3 predicted, 1 failed, 1 with masks\n" in out
    apart, joint = predictions(first.with_name("run-separate")), predictions(first.with_name("run-concat"))
    assert columns(apart["s000"]) == {"the red ball": [1], "a dog": [2, 3]}
    assert columns(joint["s000"]) == {"the red ball": [4], "a dog": [5]}
    for one in (apart["s000"], joint["s000"]):
        assert (one.answer, one.spans, one.num_frames, one.mask_size) == (1, (Span(0, 1),), NUM_FRAMES, (32, 48))
    assert [turn.prompt for turn in apart["s000"].turns[1:]] == list(SEGMENTER)[:2]
    assert apart["s001"].tracks == (), "no expression, no object"
    assert (apart["s002"].status, apart["s002"].tracks) == ("ok", None)
    assert apart["s003"].error == "ModelError: timed out"


def test_one_model_draws_for_both_modes(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    build = models.build

    def counted(name: str, **settings: models.Setting) -> models.Model:
        built.append(name)
        return build(name, **settings)

    monkeypatch.setattr(models, "build", counted)
    segment(first, SEGMENTER, "--mode", "separate", "--out", str(first.with_name("other")))
    once = len(built)
    segment(first, SEGMENTER, "--mode", "both")
    assert len(built) == 2 * once
    assert len(predictions(first.with_name("run-separate"))) == len(predictions(first.with_name("run-concat"))) == 4


def test_the_second_step_does_not_count_what_the_first_one_took(first: Path) -> None:
    segment(first, SEGMENTER, "--mode", "separate")
    assert run_folder.read_run_info(first).usage.num_replies == 3, "the fourth one failed"
    spent = run_folder.read_run_info(first.with_name("run-separate")).usage
    assert (spent.num_replies, spent.output_tokens) == (2, 2), "one drawing an expression"


def test_objects_of_a_joint_prompt_that_do_not_match_in_number_carry_all_its_expressions(first: Path) -> None:
    segment(first, {"*": drawing(7)}, "--mode", "concat")
    assert columns(predictions(first.with_name("run-concat"))["s000"]) == {"the red ball, a dog": [7]}


def test_a_failure_to_draw_keeps_the_answer_and_is_tried_again(first: Path) -> None:
    broken = SEGMENTER | {"Please segment a dog.": {"error": "no memory"}}
    assert segment(first, broken, "--mode", "separate") == 1
    folder = first.with_name("run-separate")
    one = predictions(folder)["s000"]
    assert (one.status, one.error, one.answer) == ("failed", "ModelError: no memory", 1)
    script = first.parent / "segmenter.json"
    script.write_text(json.dumps(SEGMENTER))
    command = ["segment", str(first), "--segmenter", str(script), "--mode", "separate"]
    assert main(command) == 2, "another script is another segmenter"
    assert main([*command, "--overwrite"]) == 1
    assert columns(predictions(folder)["s000"]) == {"the red ball": [1], "a dog": [2, 3]}


def test_the_same_command_again_draws_only_what_is_new_or_changed(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment(first, SEGMENTER, "--mode", "concat")
    capsys.readouterr()
    changed = predictions(first)["s000"]
    turn = changed.turns[0].model_copy(update={"reply": "another reply"})
    changed = changed.model_copy(update={"turns": (turn,), "expressions": ("a dog",)})
    jsonl.append_record(first / PREDICTIONS, changed)
    segment(first, SEGMENTER, "--mode", "concat")
    assert "1 predicted, 2 already done (skipped), 1 failed" in capsys.readouterr().out
    assert columns(predictions(first.with_name("run-concat"))["s000"]) == {"a dog": [2, 3]}


def test_a_run_is_segmented_from_inside_its_folder(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(first)
    script = first.with_name("segmenter.json")
    script.write_text(json.dumps(SEGMENTER))
    main(["segment", ".", "--segmenter", str(script), "--mode", "concat"])
    assert predictions(first.with_name("run-concat"))["s000"].tracks


def test_what_was_drawn_anew_after_a_merge_is_not_undone_by_the_next_one(first: Path) -> None:
    for shard in ("0/2", "1/2"):
        segment(first, SEGMENTER, "--mode", "concat", "--shard", shard)
    drawn = first.with_name("run-concat")
    main(["merge", str(drawn)])
    assert columns(predictions(drawn)["s000"]) == {"the red ball": [4], "a dog": [5]}
    changed = predictions(first)["s000"].model_copy(update={"expressions": ("a dog",)})
    jsonl.append_record(first / PREDICTIONS, changed)
    segment(first, SEGMENTER, "--mode", "concat")
    main(["merge", str(drawn)])
    assert columns(predictions(drawn)["s000"]) == {"a dog": [2, 3]}
    again = predictions(first)["s000"].model_copy(update={"expressions": ("the red ball",)})
    jsonl.append_record(first / PREDICTIONS, again)
    segment(first, SEGMENTER, "--mode", "concat", "--shard", "0/2")
    main(["merge", str(drawn)])
    assert columns(predictions(drawn)["s000"]) == {"the red ball": [1]}


def test_what_was_segmented_scores_as_a_run(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment(first, SEGMENTER, "--mode", "concat")
    assert main(["score", str(first.with_name("run-concat")), "--preset", "strict"]) == 0
    assert "Acc" in capsys.readouterr().out


def test_a_reply_without_masks_is_a_failure_and_not_an_empty_mask(first: Path) -> None:
    segment(first, {"*": "I see a ball.", "a prompt that is not sent": drawing(1)}, "--mode", "concat")
    error = predictions(first.with_name("run-concat"))["s000"].error
    assert error is not None
    assert "replied without masks ('I see a ball.')" in error


def test_a_model_that_predicts_no_masks_is_refused_before_any_work(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(run_folder.read_run_info(first).identity["data"])
    words = first.with_name("words.json")
    words.write_text('{"*": "I see a ball."}')
    before = sorted(first.parent.iterdir())
    for command in (["segment", str(first)], ["benchmark", data, str(first.with_name("general.json"))]):
        for name in ("gemini-2.5-pro", "qwen3-vl-8b", "qwen3-vl-8b-vllm", str(words)):
            assert main([*command, "--segmenter", name]) == 2
            assert f"{name} does not predict masks: choose a model that does" in capsys.readouterr().err
    assert sorted(first.parent.iterdir()) == before, "nothing is written"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--fps", "1", "--frame-stride", "2"), "give one of --fps, --frame-stride and --num-frames, got 2"),
        (("--fps", "1"), "has no --fps"),
        (("--shard", "3/2"), "I/N"),
        (("--cluster", "auto"), "give --workers N"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    first: Path, options: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(first, SEGMENTER, *options) == 2
    assert reason in capsys.readouterr().err


def test_a_run_without_expressions_has_nothing_to_segment(
    tmp_path: Path, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bench.data(tmp_path / "data", 1)
    script = tmp_path / "general.json"
    script.write_text('{"*": "Answer: B."}')
    main(["predict", str(data), str(script), "--out", str(tmp_path / "run")])
    assert segment(tmp_path / "run", SEGMENTER) == 2
    assert "no referring expressions" in capsys.readouterr().err


def test_a_benchmark_is_all_steps_in_one_command(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bench.data(tmp_path / "data", 2)
    replies = {key: FIRST[key] for key in list(FIRST)[:1]} | {"*": '{"answer": "B", "referring_expressions": []}'}
    (tmp_path / "general.json").write_text(json.dumps(replies))
    (tmp_path / "drawing.json").write_text(json.dumps(SEGMENTER))
    assert main(["benchmark", "data", "general.json", "--method", "json", "--segmenter", "drawing.json"]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "outputs" / "data" / "general-json-concat"
    assert "preset strict" in out
    assert (folder / "scores.json").is_file()
    assert columns(predictions(folder)["s000"]) == {"the red ball": [4], "a dog": [5]}


def test_masks_of_expressions_are_exported_in_the_folders_of_the_original(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment(first, SEGMENTER)
    for mode, folder in (("separate", "seperate"), ("concat", "concat")):
        capsys.readouterr()
        assert main(["export", f"{first}-{mode}"]) == 0
        place = first.with_name(f"run-{mode}") / "original"
        assert f"--pred_mask_dir {place / 'run' / folder}" in capsys.readouterr().out
        drawn = sorted(path.relative_to(place) for path in place.rglob("*.png"))
        assert drawn == [Path("run", folder, "s000", "masks", f"{frame:05d}.png") for frame in range(NUM_FRAMES)]
        columns = np.flatnonzero(masks.read_png(place / drawn[0]).all(axis=0)).tolist()
        assert columns == {"separate": [1, 2, 3], "concat": [4, 5]}[mode]
        entries = json.loads((place / "run.json").read_text())
        assert entries["s000"]["parsed_response"]["referring_expressions"] == ["the red ball", "a dog"]


def test_a_file_of_the_original_is_segmented_as_its_second_script_does(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = {"answer": "B", "segments": [[0, 1]], "referring_expressions": ["a dog"]}
    file = first.parent / "gpt_4o_st_evidence.json"
    file.write_text(json.dumps({"s000": {"video_id": "clip6", "parsed_response": parsed}}))
    script = first.parent / "segmenter.json"
    script.write_text(json.dumps(SEGMENTER))
    command = [
        "segment",
        str(file),
        "--segmenter",
        str(script),
        "--data",
        str(first.parent / "data"),
        "--mode",
        "concat",
    ]
    assert main(command) == 0
    drawn = predictions(first.with_name("gpt_4o_st_evidence-concat"))["s000"]
    assert (columns(drawn), drawn.answer, drawn.spans) == ({"a dog": [2, 3]}, 1, (Span(0, 1),))
    capsys.readouterr()
    assert main(command) == 0
    assert "0 predicted, 1 already done (skipped)" in capsys.readouterr().out
