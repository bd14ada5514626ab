"""Published data as it was downloaded: read in place, by links that the user allows, and what of it is rejected."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import published_layouts as published
import pytest
from PIL import Image
from published_layouts import FRAMES, write_frames, write_json, write_table

from evqa import datasets, masks, media
from evqa.__main__ import main
from evqa.datasets.formats import prepare, prepare_command
from evqa.datasets.registry import DATASETS
from evqa.files import links

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_allowed_roots(monkeypatch):
    """No root is allowed, before and after."""
    monkeypatch.setenv(links.VARIABLE, "")


def write_published(root):
    """Every set of the mixture in the folders of the original's train/data."""
    ours = {"ref-sav", "llava-instruct", "st-evidence-instruct", "st-evidence-instruct-qa"}
    for name, writer in published.WRITERS.items():
        if name not in ours:
            writer(root / DATASETS[name].folder)
    published.write_gen_mask(root / "st-evidence-instruct" / "gen_mask")
    write_table(root / "st-evidence-instruct" / "gen_qa" / "vicas" / "st_evidence_vicas.csv", published.QA)
    published.write_ref_sav(root / "ref_sav")
    (root / "sav").mkdir()
    (root / "ref_sav" / "sav_train").rename(root / "sav" / "sav_train")
    published.write_llava_instruct(root)
    (root / "general").mkdir()
    file = "llava_v1_5_mix665k_with_videogpt_plus_576k.json"
    (root / file).rename(root / "general" / file)
    (root / "llava_instruct").mkdir()
    (root / "coco").rename(root / "llava_instruct" / "coco")
    return root


def prepare_script(name, *arguments):
    """`python data/NAME/prepare.py`, as a call."""
    folder = ROOT / "data" / name.replace("-", "_")
    return prepare_command.run("About.", [name], folder, list(arguments))


@pytest.mark.parametrize("name", published.WRITERS)
def test_every_set_of_the_published_layout_is_read_in_place(name, tmp_path, monkeypatch, capsys):
    root = write_published(tmp_path / "data")
    monkeypatch.setenv("EVQA_DATA", str(root))
    assert prepare_script(name) == 0, capsys.readouterr().err
    data = datasets.load(name)
    assert data.name == name
    assert data.folder.is_relative_to(root)
    assert all(sample.video.exists() for sample in data.samples if sample.has_video)
    assert datasets.load(str(data.folder / Path(capsys.readouterr().out.split(":")[0]).name)).name == name


@pytest.mark.parametrize("is_root", [True, False], ids=["train/data", "its own folder"])
@pytest.mark.parametrize("name", published.WRITERS)
def test_every_set_is_linked_from_the_folder_of_the_download(name, is_root, tmp_path, monkeypatch, capsys):
    root = write_published(tmp_path / "download")
    own = {"st-evidence-instruct": "st-evidence-instruct/gen_mask", "st-evidence-instruct-qa": "st-evidence-instruct"}
    before = sorted(str(path) for path in root.rglob("*"))
    source = root if is_root else root / own.get(name, DATASETS[name].folder)
    monkeypatch.setenv("EVQA_DATA", str(tmp_path / "data"))
    if name == "st-evidence-instruct-qa" and not is_root:
        assert prepare_script("vicas", "--source", str(root / "vicas")) == 0  # whose frames and masks it needs
        monkeypatch.setenv(links.VARIABLE, str(root / "vicas"))
    assert prepare_script(name, "--source", str(source)) == 0, capsys.readouterr().err
    assert sorted(str(path) for path in root.rglob("*")) == before, "nothing is written to the download"
    (exported,) = re.findall(rf"export {links.VARIABLE}=(\S+)", capsys.readouterr().out)[-1:]
    earlier = str(root / "vicas") if name == "st-evidence-instruct-qa" else ""
    monkeypatch.setenv(links.VARIABLE, f"{exported}{os.pathsep}{earlier}")
    data = datasets.load(name)
    assert all(sample.video.exists() for sample in data.samples if sample.has_video)
    assert any(sample.video.resolve().is_relative_to(root) for sample in data.samples)
    monkeypatch.setenv(links.VARIABLE, "")
    if name == "llava-instruct":  # one conversation of it is about nothing to see
        assert [sample.has_video for sample in datasets.load(name).samples] == [False]
        return
    with pytest.raises(ValueError, match=r"is a link to .*--allow-root"):
        datasets.load(name)


def test_a_link_out_of_a_data_set_is_read_where_its_target_is_allowed_and_nowhere_else(tmp_path, monkeypatch, capsys):
    frames, folder = tmp_path / "big" / "frames", tmp_path / "gen_mask"
    published.write_gen_mask(folder)
    frames.parent.mkdir()
    (folder / "video_frames_6fps").rename(frames)
    (folder / "video_frames_6fps").symlink_to(frames)
    arguments = ["--folder", str(folder)]
    assert prepare_script("st-evidence-instruct", *arguments) == 1
    assert f"is a link to {frames / 'clevrer' / 'video_1'}; --allow-root" in capsys.readouterr().out + str(
        (folder / "rejected.jsonl").read_text()
    )
    for wrong in (tmp_path / "gen_mask", tmp_path / "bi"):
        wrong.mkdir(exist_ok=True)
        monkeypatch.setenv(links.VARIABLE, str(wrong))
        assert prepare_script("st-evidence-instruct", *arguments) == 1
    monkeypatch.setenv(links.VARIABLE, "")
    assert prepare_script("st-evidence-instruct", *arguments, "--allow-root", str(tmp_path / "big")) == 0
    monkeypatch.setenv(links.VARIABLE, f"/nowhere{os.pathsep}{tmp_path / 'big'}")
    assert len(datasets.load(str(folder)).samples) == 1
    assert prepare_script("st-evidence-instruct", *arguments, "--allow-root", str(tmp_path / "gone")) == 1
    assert "--allow-root: expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", [["--allow-root", "DIR"], ["--allow_root=DIR"]])
def test_predict_and_score_take_the_option(spelling, tmp_path, monkeypatch, capsys):
    """In another process too, for the variable is what the option sets."""
    data, big = tmp_path / "data", tmp_path / "big"
    big.mkdir()
    media.write_video(big / "v.mp4", [np.zeros((32, 32, 3), np.uint8)] * 6, 6)
    data.mkdir()
    (data / "videos").symlink_to(big)
    sample = {"id": "a", "video_id": "v", "video": "videos/v.mp4", "question": "Q?", "options": ["x", "y"], "answer": 1}
    write_json(data / "samples.jsonl", sample)
    (tmp_path / "replies.json").write_text(json.dumps({"*": "Answer: B."}))
    (data / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    run = str(tmp_path / "run")
    predict = ["predict", str(data), str(tmp_path / "replies.json"), "--out", run]
    allowed = [word.replace("DIR", str(big)) for word in spelling]
    assert main(predict) == 2
    assert "--allow-root" in capsys.readouterr().err
    assert main([*predict, *allowed]) == 0
    monkeypatch.setenv(links.VARIABLE, "")
    assert main(["score", run, "--baselines", "none"]) == 2
    done = subprocess.run(
        [sys.executable, "-m", "evqa", "score", run, "--baselines", "none"],
        env=os.environ | {links.VARIABLE: str(big), "PYTHONPATH": str(ROOT / "benchmark")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert main(["score", run, "--allow-root"]) == 2
    assert "--allow-root needs a folder" in capsys.readouterr().err


def test_a_mask_that_is_a_link_is_read_where_its_target_is_allowed(tmp_path, monkeypatch):
    published.write_frames(tmp_path, ["unused"])
    Image.new("L", (4, 4), 255).save(tmp_path / "0.png")
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / "00000.png").symlink_to(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"leads out of its folder.*--allow-root"):
        masks.read_folder(folder)
    monkeypatch.setenv(links.VARIABLE, str(tmp_path))
    assert list(masks.read_folder(folder)) == [0]


# What is rejected


def gen_mask(folder, regions, frames=range(FRAMES), **row):
    """An entry with a mask file, and a folder of frames with these numbers."""
    about = {"entry_id": "e", "video_path": "c/v.mp4", "question": "Q?", "answer": "a", "candidates": "['a', 'b']"}
    write_table(folder / "st_evidence.csv", about | {"temporal_evidence": "[[0.0, 0.5]]"} | row)
    write_frames(folder / "video_frames_6fps" / "c" / "v", [f"frame_{number:04d}" for number in frames])
    content = {"width": published.SIZE[1], "height": published.SIZE[0], "evidence_objects": [{"masks": regions}]}
    write_json(folder / "masks" / "e.json", content)
    return folder


def drawn(number, x=0):
    return {"frame": number, "mask": {"exterior": published.square(x, 0, 4)}}


def rejected(folder):
    return [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame": 1},
        {"frame": 1, "mask": None},
        {"frame": 1, "mask": {}},
        {"frame": 1, "mask": {"exterior": None}},
        {"frame": 1, "mask": {"exterior": [[0, "x"]]}},
        {"frame": -1, "mask": {"exterior": []}},
        {"mask": {"exterior": []}},
        "a text",
        None,
        drawn(FRAMES),
        drawn(10**9),
    ],
)
def test_a_frame_of_gen_mask_that_cannot_be_used_costs_only_itself(wrong, tmp_path):
    done = prepare("st-evidence-instruct", gen_mask(tmp_path, [drawn(0), wrong, drawn(3)]))
    (sample,) = datasets.load(str(tmp_path)).samples
    assert sorted(sample.tracks[0].masks) == [0, 3]
    assert done.num_kept == 1
    (row,) = rejected(tmp_path)
    assert (row["line"], row["id"], row["file"]) == (2, "e", "st_evidence.csv")
    assert row["reason"].startswith("left out, mask of a frame: ")
    assert "left out, mask of a frame" in done.summary()


@pytest.mark.parametrize("wrong", ["0", {"size": [20, 30]}, {"size": published.SIZE, "counts": [5]}])
def test_run_lengths_of_gen_mask_that_cannot_be_used_cost_only_their_frame(wrong, tmp_path):
    folder = gen_mask(tmp_path, [])
    good = published.rle(published.mask(1, 0))
    write_json(folder / "masks" / "e.json", [[good, wrong, good]])
    prepare("st-evidence-instruct", folder)
    (sample,) = datasets.load(str(folder)).samples
    assert sorted(sample.tracks[0].masks) == [0, 2]
    assert [row["id"] for row in rejected(folder)] == ["e"]


def test_a_missing_frame_file_shifts_no_mask(tmp_path):
    """Frame 2 is lost: what is drawn for frame 3 stays with its picture, which is now the third."""
    regions = [drawn(number, x=2 * number) for number in range(FRAMES)]
    folder = gen_mask(tmp_path, regions, frames=[number for number in range(FRAMES) if number != 2])
    prepare("st-evidence-instruct", folder)
    (sample,) = datasets.load(str(folder)).samples
    names = media.image_names(sample.video)
    for place, rle in sample.tracks[0].masks.items():
        number = int(names[place].removeprefix("frame_"))
        columns = np.flatnonzero(masks.decode(rle).any(0))
        assert columns[0] == 2 * number, (place, number)
    assert len(sample.tracks[0].masks) == FRAMES - 1
    assert "frame 2" in rejected(folder)[0]["reason"]


@pytest.mark.parametrize(
    ("regions", "row", "reason"),
    [
        ([{"frame": 0, "mask": {"exterior": []}}], {}, "no mask in any frame"),
        ([], {}, "no mask in any frame"),
        ([drawn(0)], {"temporal_evidence": "[[100.0, 120.0]]"}, "span is outside the clip"),
        ([drawn(0)], {"temporal_evidence": "[[0.0, 0.5], [0.5, 9.0]]"}, "span is outside the clip"),
        ([drawn(0)], {"temporal_evidence": "[[0.5, 0.1]]"}, "impossible span"),
        ([drawn(0)], {"answer": "c"}, "answer is not among the candidates"),
        ([drawn(0)], {"candidates": "['a', 'a']"}, "answer is ambiguous"),
    ],
)
def test_an_entry_of_gen_mask_that_teaches_what_is_wrong_is_rejected_with_its_reason(regions, row, reason, tmp_path):
    with pytest.raises(ValueError, match="no row is usable"):
        prepare("st-evidence-instruct", gen_mask(tmp_path, regions, **row))
    (found,) = rejected(tmp_path)
    assert (found["id"], found["file"]) == ("e", "st_evidence.csv")
    assert reason in found["reason"]
    assert not (tmp_path / "samples.jsonl").exists()


def test_a_span_that_ends_shortly_behind_the_clip_is_kept(tmp_path):
    prepare("st-evidence-instruct", gen_mask(tmp_path, [drawn(0)], temporal_evidence="[[0.0, 1.5]]"))
    assert datasets.load(str(tmp_path)).samples[0].spans == ((0.0, 1.5),)
    assert rejected(tmp_path) == []


@pytest.mark.parametrize(
    "times",
    [
        {"action_start": "3:04", "action_end": "3:01"},
        {"action_start": "2:00", "action_end": "2:10"},
        {"action_start": None, "action_end": "x"},
        {"action_start": "9:00", "action_end": "9:10"},
    ],
)
def test_groundmore_keeps_a_question_whatever_its_times_are(times, tmp_path):
    """Training does not use them."""
    published.write_groundmore(tmp_path)
    content = json.loads((tmp_path / "trainval_v2.json").read_text())
    content["videos"]["film_0300_0310"]["questions"]["0"].update(times)
    write_json(tmp_path / "trainval_v2.json", content)
    assert prepare("groundmore", tmp_path).num_kept == 2
    assert rejected(tmp_path) == []


def test_masks_of_ref_sav_beyond_the_video_are_left_out_and_named(tmp_path):
    published.write_ref_sav(tmp_path)
    path = tmp_path / "sav_train" / "sav_000" / "sav_000001_manual.json"
    content = json.loads(path.read_text())
    content["masklet"].append(content["masklet"][0])
    write_json(path, content)
    assert prepare("ref-sav", tmp_path).num_kept == 2
    for sample in datasets.load(str(tmp_path)).samples:
        video = media.probe_video(sample.video)
        assert sample.frames[-1] < video.num_frames
        assert all(index < video.num_frames for track in sample.tracks for index in track.masks)
    assert [(row["id"], row["file"]) for row in rejected(tmp_path)] == [("sav_000001", "Ref-SAV-Min-Ratio-0.3.json")]
