"""Folders of the multiple-choice benchmark in both published spellings, written by hand, and what is read from them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_layouts import only, write_table

from evqa import datasets, prompts
from evqa.datasets.formats import prepare
from evqa.datasets.formats.st_evidence_mcq import read_mcq
from evqa.schema import Sample

ROOT = Path(__file__).resolve().parents[2]

CODE = {
    "entry_id": "e1",
    "video": "4010069381",
    "question": "What did the boy do?",
    "options": "['ran', 'sat down', 'sang']",
    "answer": "sat down",
}
CARD = {
    "entry_id": "e1",
    "video_id": "4010069381",
    "video_path": "1164/4010069381.mp4",
    "question": "What did the boy do?",
    "candidates": "['ran', 'sat down', 'sang']",
    "answer": "sat down",
    "segment": "[[0.5, 2.0]]",
    "mask_options": "",
    "temp_options": "",
}
TIME = {
    "question": "What did the boy do?",
    "time_evidence_options": [[[3.0, 4.0]], [[0.5, 2.0]], [[5, 6], [7, 8]], [[9.0, 9.5]]],
    "correct_answer": "B",
    "ground_truth_segments": [[0.5, 2.0]],
}
NEW = {
    "gt": "options/e1/gt.png",
    "d1": "options/e1/d1.png",
    "d2": "options/e1/d2.png",
    "d3": "options/e1/d3.png",
    "options": ["d2", "d1", "gt", "d3"],
    "answer": 2,
}
OLD = {"mcq_options": [f"data/options/e1/{name}.png" for name in ("d2", "d1", "gt", "d3")], "correct_answer": 2}
SHOWN = tuple(Path("options/e1", f"{name}.png") for name in ("d2", "d1", "gt", "d3"))


def mcq_folder(folder, row, time, space, lacking=()):
    write_table(folder / "st_evidence_mcq.csv", row)
    (folder / "temp_options.json").write_text(json.dumps(time))
    (folder / "mask_options.json").write_text(json.dumps(space))
    (folder / "options" / "e1").mkdir(parents=True)
    for name in {"gt", "d1", "d2", "d3"} - set(lacking):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "options" / "e1" / f"{name}.png")
    return folder


@pytest.mark.parametrize("row", [CODE, CARD], ids=["as the code reads", "as the card documents"])
@pytest.mark.parametrize(
    "space", [{"e1": NEW}, {"e1": OLD}, {"0": NEW | {"entry_id": "e1"}}], ids=["new", "old", "inner"]
)
def test_both_spellings_and_both_schemas_give_the_same_sample(tmp_path, row, space):
    folder = mcq_folder(tmp_path, row, {"e1": TIME}, space)
    video = folder / "NextQA-Video" / "1164" / "4010069381.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"")
    sample = only(read_mcq(folder))
    assert sample == Sample(
        id="e1",
        video_id="4010069381",
        video=Path("NextQA-Video/1164/4010069381.mp4"),
        question="What did the boy do?",
        options=("ran", "sat down", "sang"),
        answer=1,
        spans=((0.5, 2.0),),
        time_options=(((3.0, 4.0),), ((0.5, 2.0),), ((5.0, 6.0), (7.0, 8.0)), ((9.0, 9.5),)),
        time_answer=1,
        mask_options=SHOWN,
        mask_answer=2,
        source="1164" if row is CARD else None,
    )


def test_options_in_the_cells_of_the_table_are_read_as_json_and_as_python(tmp_path):
    row = CARD | {"temp_options": json.dumps(TIME), "mask_options": repr(NEW)}
    sample = only(read_mcq(mcq_folder(tmp_path, row, {}, {})))
    assert (sample.time_answer, len(sample.time_options), sample.mask_answer) == (1, 4, 2)


def test_a_row_without_further_questions_is_kept_and_tagged(tmp_path):
    sample = only(read_mcq(mcq_folder(tmp_path, CODE, {}, {})))
    assert (sample.time_options, sample.mask_options, sample.answer) == ((), (), 1)
    assert sample.metadata == {"time": "missing", "space": "missing"}
    assert sample.video == Path("NextQA-Video/4010069381.mp4")


BAD_TIMES = [
    (
        {"time_evidence_options": TIME["time_evidence_options"][:3], "correct_answer": "D"},
        "the answer 'D' is none of 3",
    ),
    ({"correct_answer": None}, "correct_answer"),
    ({"correct_answer": "second"}, "correct_answer"),
    ({"correct_answer": -1}, "correct_answer"),
    ({"correct_answer": True}, "correct_answer"),
    ({"time_evidence_options": [[[4, 3]], [[1, 2]]]}, "time_evidence_options.0.0"),
    ({"time_evidence_options": [[[-1, 3]], [[1, 2]]]}, "time_evidence_options.0.0"),
    ({"time_evidence_options": [[[float("nan"), 3]], [[1, 2]]]}, "time_evidence_options.0.0"),
    ({"time_evidence_options": [[[0, float("inf")]], [[1, 2]]]}, "time_evidence_options.0.0"),
    ({"time_evidence_options": "[[1, 2]]"}, "time_evidence_options"),
    ({"time_evidence_options": []}, "time_evidence_options"),
]


@pytest.mark.parametrize(("change", "field"), BAD_TIMES)
def test_a_time_question_that_cannot_be_used_is_named_and_costs_nothing_else(tmp_path, change, field):
    samples, bad = read_mcq(mcq_folder(tmp_path, CODE, {"e1": TIME | change}, {"e1": NEW}))
    assert [sample.metadata for sample in samples] == [{"time": "missing"}]
    assert (samples[0].answer, samples[0].mask_answer) == (1, 2)
    assert [line.line for line in bad] == [2]
    assert bad[0].reason.startswith("left out, time question: temp_options.json: key e1: ")
    assert field in bad[0].reason


BAD_SPACES = [
    (NEW | {"answer": 0}, "answer 0 is not the one gt"),
    ({name: value for name, value in OLD.items() if name != "correct_answer"}, "correct_answer: Field required"),
    (NEW | {"options": ["gt", "d1", "d9", "d3"]}, "options"),
    (NEW | {"gt": "../secret.png"}, "path leaves its folder"),
    (NEW | {"gt": "/etc/passwd"}, "path leaves its folder"),
    (NEW | {"gt": ""}, "no image path"),
    (OLD | {"correct_answer": 4}, "the answer 'E' is none of 4"),
    (OLD | {"mcq_options": ["options/e1/gt.png", None]}, "mcq_options.1"),
    ("options", "valid dictionary"),
    (None, None),
]


@pytest.mark.parametrize(("content", "reason"), BAD_SPACES)
def test_a_space_question_that_cannot_be_used_is_named_and_costs_nothing_else(tmp_path, content, reason):
    samples, bad = read_mcq(mcq_folder(tmp_path, CODE, {"e1": TIME}, {"e1": content}))
    assert [sample.metadata for sample in samples] == [{"space": "missing"}]
    assert (samples[0].answer, samples[0].time_answer) == (1, 1)
    if content is None:
        assert bad == []
        return
    assert bad[0].reason.startswith("left out, space question: mask_options.json: key e1: ")
    assert reason in bad[0].reason


def test_a_missing_image_never_shifts_the_letters_of_the_others(tmp_path):
    samples, bad = read_mcq(mcq_folder(tmp_path, CODE, {}, {"e1": NEW}, lacking=["d2"]))
    assert (samples[0].mask_options, samples[0].mask_answer) == ((), None)
    assert "an image is missing: 'options/e1/d2.png'" in bad[0].reason


@pytest.mark.parametrize("column", ["video", "options"])
def test_a_table_that_lacks_both_spellings_drops_its_rows_by_name(tmp_path, column):
    row = {name: value for name, value in CODE.items() if name != column}
    samples, bad = read_mcq(mcq_folder(tmp_path, row, {}, {}))
    assert samples == []
    assert "a column is missing or empty: expected " in bad[0].reason


@pytest.mark.parametrize("content", ["[", "[]", "[" * 100_000, "\udcff"])
def test_a_file_of_options_that_is_none_is_refused_by_name(tmp_path, content):
    folder = mcq_folder(tmp_path, CODE, {}, {})
    (folder / "mask_options.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"mask_options\.json is no JSON"):
        read_mcq(folder)


def test_the_script_prepares_a_data_set_that_loads_with_its_images(tmp_path):
    folder = mcq_folder(tmp_path, CODE, {"e1": TIME}, {"e1": NEW | {"answer": 0}})
    command = [sys.executable, ROOT / "data" / "st_evidence_mcq" / "prepare.py", "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 samples kept, 0 rows dropped" in done.stdout
    assert "1: left out, space question; the first is line 2: " in done.stdout
    assert datasets.load(str(folder)).samples[0].time_answer == 1


def test_paths_of_images_are_absolute_after_loading_and_stay_inside(tmp_path):
    folder = mcq_folder(tmp_path, CODE, {"e1": TIME}, {"e1": NEW})
    sample = only(read_mcq(folder))
    (folder / "samples.jsonl").write_text(sample.model_dump_json() + "\n")
    loaded = datasets.load(str(folder)).samples[0]
    assert loaded.mask_options == tuple(folder / path for path in SHOWN)
    (folder / "samples.jsonl").write_text(sample.model_dump_json().replace("options/e1/gt.png", "../gt.png") + "\n")
    with pytest.raises(ValueError, match="path leaves its folder"):
        datasets.load(str(folder))


@pytest.mark.parametrize("answer", ["Sat Down", "SAT DOWN", " sat down ", "sat down"])
def test_an_answer_that_differs_from_its_option_by_case_is_that_option(tmp_path, answer):
    """As in the published scripts; where two options differ by case alone, the one written as the answer is right."""
    sample = only(read_mcq(mcq_folder(tmp_path / "one", CODE | {"answer": answer}, {}, {})))
    assert sample.answer == 1
    twice = CODE | {"options": "['Sat Down', 'sat down', 'sang']"}
    assert only(read_mcq(mcq_folder(tmp_path / "exact", twice, {}, {}))).answer == 1
    samples, bad = read_mcq(mcq_folder(tmp_path / "none", twice | {"answer": "SAT DOWN"}, {}, {}))
    assert samples == []
    assert "answer is ambiguous" in bad[0].reason


def test_files_of_options_ask_their_own_questions(tmp_path):
    own = {"e1": TIME | {"question": "When did he sit down?"}}, {"e1": NEW | {"question": " Where did he sit? "}}
    sample = only(read_mcq(mcq_folder(tmp_path / "own", CODE, *own)))
    assert (sample.time_question, sample.mask_question) == ("When did he sit down?", "Where did he sit?")
    assert "Question: When did he sit down?" in prompts.choose_time(sample)
    assert "Question: Where did he sit?" in prompts.choose_space(sample)
    assert "What did the boy do?" in prompts.choose_answer(sample)
    for number, question in enumerate((None, "", "What did the boy do?", 3)):
        same = {"e1": TIME | {"question": question}}, {"e1": NEW | {"question": question}}
        sample = only(read_mcq(mcq_folder(tmp_path / str(number), CODE, *same)))
        assert (sample.time_question, sample.mask_question) == (None, None)
        assert "Question: What did the boy do?" in prompts.choose_time(sample)


def test_several_entries_for_one_id_are_named_and_the_last_counts(tmp_path):
    folder = mcq_folder(tmp_path, CODE, {}, {"x": NEW | {"entry_id": "e1"}, "e1": NEW})
    first, last = (json.dumps(TIME | {"correct_answer": letter}) for letter in "AB")
    (folder / "temp_options.json").write_text(f'{{"e1": {first}, "e1": {last}}}')
    done = prepare("st-evidence-mcq", folder)
    (sample,) = datasets.load(str(folder)).samples
    assert sample.time_answer == 1
    rows = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["e1", "e1"]
    assert "temp_options.json has e1 more than once" in rows[0]["reason"]
    assert "mask_options.json has e1 more than once" in rows[1]["reason"]
    assert "2: left out" in done.summary()
