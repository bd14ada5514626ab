"""Folders in the published layouts, written here by hand, and what the readers make of them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_layouts import only, write_table

from evqa import datasets, masks, media
from evqa.datasets.formats import prepare
from evqa.datasets.formats.st_evidence import read_gen, read_instruct
from evqa.files.jsonl import read_records
from evqa.schema import Sample

ROOT = Path(__file__).resolve().parents[2]

GEN = {
    "entry_id": "YNIWQ_868759",
    "video_id": "YNIWQ",
    "video_path": "videos/star/YNIWQ.mp4",
    "question": "What did the person do with the pillow?",
    "candidates": "['Threw it.', 'Took it, \"slowly\".', 'Washed it.']",
    "answer": "Threw it.",
    "segment": "[[0.0, 2.5], [4, 14.5]]",
}
INSTRUCT = {
    "entry_id": "entry_1",
    "video_path": "clevrer/video_1.mp4",
    "question": "Which object enters?",
    "answer": "the red cube",
    "candidates": "['the red cube', 'the ball']",
    "temporal_evidence": "[[0.0, 1.0]]",
}


def gen_folder(folder, *rows):
    write_table(folder / "st_evidence_gen.csv", *(rows or (GEN,)))
    return folder


@pytest.mark.parametrize(
    ("column", "count_table", "expected"),
    [
        ({}, None, None),
        ({"num_frames": "87"}, None, 87),
        ({"total_frames": " 88 "}, None, 88),
        ({"num_frames": "many"}, "89", 89),
        ({"num_frames": "0"}, "-3", None),
        ({}, "90", 90),
    ],
)
def test_the_number_of_frames_of_a_video_that_is_not_there_comes_from_the_published_tables(
    tmp_path, column, count_table, expected
):
    gen_folder(tmp_path, GEN | column)
    if count_table is not None:
        write_table(tmp_path / "frame_counts.csv", {"video_path": GEN["video_path"], "num_frames": count_table})
    assert only(read_gen(tmp_path)).num_frames == expected


def test_the_number_of_frames_of_a_video_that_is_there_is_its_own(tmp_path):
    gen_folder(tmp_path, GEN | {"num_frames": "87"})
    path = tmp_path / "videos_6fps" / GEN["video_path"]
    path.parent.mkdir(parents=True)
    media.write_video(path, iter(np.zeros((5, 32, 32, 3), np.uint8)), 6.0)
    assert only(read_gen(tmp_path)).num_frames == 5


@pytest.mark.parametrize("place", [".", "data"])
@pytest.mark.parametrize("masks_name", ["mask_annos_latest_img", "masks"])
@pytest.mark.parametrize("videos_name", ["videos_6fps", "videos", "."])
def test_a_generative_row_becomes_a_sample_wherever_its_files_lie(tmp_path, place, masks_name, videos_name):
    base = tmp_path / place
    write_table(base / "st_evidence_gen.csv", GEN)
    masks.write_folder(base / masks_name / GEN["entry_id"], [(2, np.eye(4, dtype=bool))])
    video = base / videos_name / GEN["video_path"]
    video.parent.mkdir(parents=True)
    video.write_bytes(b"")
    sample = only(read_gen(tmp_path))
    assert sample == Sample(
        id="YNIWQ_868759",
        video_id="YNIWQ",
        video=Path(place, videos_name, GEN["video_path"]),
        question="What did the person do with the pillow?",
        options=("Threw it.", 'Took it, "slowly".', "Washed it."),
        answer=0,
        spans=((0.0, 2.5), (4.0, 14.5)),
        masks=Path(place, masks_name, "YNIWQ_868759"),
        source="star",
    )


def test_extra_columns_and_label_maps_are_read_where_present(tmp_path):
    row = GEN | {
        "question_type": "when",
        "source": "shapes",
        "level": "2",
        "named": "named",
        "on_screen": "3",
        "expressions": "['the red cup']",
    }
    gen_folder(tmp_path, row)
    (tmp_path / "objects" / "YNIWQ").mkdir(parents=True)
    (tmp_path / "masks" / "YNIWQ_868759").mkdir(parents=True)
    sample = only(read_gen(tmp_path))
    assert (sample.question_type, sample.source, sample.expressions) == ("when", "shapes", ("the red cup",))
    assert sample.metadata == {"level": "2", "named": "named", "on_screen": "3"}
    assert sample.object_masks == Path("objects/YNIWQ")


def test_spans_tell_not_annotated_from_none(tmp_path):
    gen_folder(tmp_path, GEN | {"segment": ""}, GEN | {"entry_id": "b", "segment": "[]"})
    samples, bad = read_gen(tmp_path)
    assert bad == []
    assert [sample.spans for sample in samples] == [None, ()]


def test_a_sample_without_a_mask_folder_is_kept_and_marked(tmp_path):
    gen_folder(tmp_path, GEN, GEN | {"entry_id": "b"})
    (tmp_path / "masks" / "b").mkdir(parents=True)
    first, second = read_gen(tmp_path)[0]
    assert (first.masks, first.metadata) == (None, {"masks": "missing"})
    assert (second.masks, second.metadata) == (Path("masks/b"), {})


def test_numbers_as_candidates_are_their_text(tmp_path):
    sample = only(read_gen(gen_folder(tmp_path, GEN | {"candidates": "[1, 2, 3]", "answer": "2"})))
    assert (sample.options, sample.answer) == (("1", "2", "3"), 1)


def square(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def instruct_folder(folder, content, frames=6, size=(20, 30), **row):
    """One entry with `frames` images of `size` (H, W); `content` is its mask file."""
    write_table(folder / "st_evidence.csv", INSTRUCT | row)
    images = folder / "video_frames_6fps" / "clevrer" / "video_1"
    images.mkdir(parents=True)
    for index in range(frames):
        Image.new("RGB", size[::-1]).save(images / f"frame_{index:04d}.jpg")
    if content is not None:
        (folder / "masks").mkdir()
        (folder / "masks" / "entry_1.json").write_text(json.dumps(content))
    return folder


def evidence(*objects, width=30, height=20):
    about = {"entry_id": "entry_1", "fps": 6.0, "width": width, "height": height}
    return about | {"evidence_objects": list(objects)}


def mask_at(frame, exterior):
    return {"masks": [{"frame": frame, "mask": {"exterior": exterior}}]}


def test_instruct_polygons_become_tracks(tmp_path):
    hole = square(4, 4, 6, 6)
    cube = {
        "ref_expression": "the red cube",
        "prompts": [{"timestamp": 0.5, "bbox_norm": [1, 2, 3, 4], "frame": 3, "confidence": 0.9}],
        "masks": [
            {"frame": 3, "mask": {"exterior": square(2, 2, 9, 9), "holes": [hole]}},
            {"frame": 3, "mask": {"exterior": square(20, 10, 25, 15)}},
            {"frame": 5, "mask": [{"exterior": square(0, 0, 1, 1)}, {"exterior": square(3, 3, 4, 5)}]},
            {"frame": 1, "mask": {"exterior": []}},
        ],
    }
    sample = only(read_instruct(instruct_folder(tmp_path, evidence(cube, {"masks": []}))))
    first, second = sample.tracks
    assert (first.label, second.label, second.masks) == ("the red cube", None, {})
    assert sorted(first.masks) == [3, 5]
    expected = np.zeros((20, 30), dtype=bool)
    expected[2:9, 2:9] = True
    expected[4:6, 4:6] = False
    expected[10:15, 20:25] = True
    np.testing.assert_array_equal(masks.decode(first.masks[3]), expected)
    assert masks.area(first.masks[5]) == 3
    assert sample.video == Path("video_frames_6fps/clevrer/video_1")
    assert (sample.video_id, sample.source, sample.spans) == ("video_1", "clevrer", ((0.0, 1.0),))
    assert sample.expressions == ("the red cube",)


def test_instruct_polygons_of_another_size_are_scaled_to_the_video(tmp_path):
    cube = {"masks": [{"frame": 0, "mask": {"exterior": square(20, 20, 60, 40)}}]}
    sample = only(read_instruct(instruct_folder(tmp_path, evidence(cube, width=300, height=200))))
    rle = sample.tracks[0].masks[0]
    assert rle.size == (20, 30)
    expected = np.zeros((20, 30), dtype=bool)
    expected[2:4, 2:6] = True
    np.testing.assert_array_equal(masks.decode(rle), expected)


def test_instruct_outlines_written_by_to_polygons_come_back_exactly(tmp_path):
    mask = np.random.default_rng(0).random((20, 30)) < 0.5
    parts = [{"exterior": part.exterior, "holes": part.holes} for part in masks.to_polygons(mask)]
    content = evidence({"ref_expression": "noise", "masks": [{"frame": 4, "mask": parts}]})
    sample = only(read_instruct(instruct_folder(tmp_path, content)))
    np.testing.assert_array_equal(masks.decode(sample.tracks[0].masks[4]), mask)


def test_instruct_run_lengths_become_tracks(tmp_path):
    left, right = np.zeros((2, 20, 30), dtype=bool)
    left[:, :5], right[5:, 20:] = True, True
    coded = [masks.encode(mask).model_dump(mode="json") for mask in (left, right)]
    plain = {"size": [20, 30], "counts": masks.run_lengths(masks.encode(left)).tolist()}
    content = [[[coded[0], coded[1]], [], None, coded[1]], [plain]]
    sample = only(read_instruct(instruct_folder(tmp_path, content)))
    first, second = sample.tracks
    assert list(first.masks) == [0, 3]
    np.testing.assert_array_equal(masks.decode(first.masks[0]), left | right)
    np.testing.assert_array_equal(masks.decode(first.masks[3]), right)
    np.testing.assert_array_equal(masks.decode(second.masks[0]), left)


def test_instruct_run_lengths_of_another_size_are_scaled_to_the_video(tmp_path):
    mask = np.zeros((10, 15), dtype=bool)
    mask[2:5, 3:7] = True
    sample = only(read_instruct(instruct_folder(tmp_path, [[masks.encode(mask).model_dump(mode="json")]])))
    np.testing.assert_array_equal(masks.decode(sample.tracks[0].masks[0]), mask.repeat(2, 0).repeat(2, 1))


def test_instruct_run_lengths_of_no_object_are_no_masks(tmp_path):
    sample = only(read_instruct(instruct_folder(tmp_path, [])))
    assert (sample.tracks, sample.metadata) == (None, {"masks": "missing"})


def test_instruct_without_masks_is_kept_and_marked(tmp_path):
    for name, content in {"no-file": None, "prompts-only": evidence({"ref_expression": "a cup"})}.items():
        sample = only(read_instruct(instruct_folder(tmp_path / name, content)))
        assert (sample.tracks, sample.metadata) == (None, {"masks": "missing"})


def test_instruct_without_frames_falls_back_to_the_video_file(tmp_path):
    write_table(tmp_path / "st_evidence.csv", {k: v for k, v in INSTRUCT.items() if k != "temporal_evidence"})
    (tmp_path / "videos" / "clevrer").mkdir(parents=True)
    images = [np.zeros((20, 30, 3), dtype=np.uint8)] * 3
    media.write_video(tmp_path / "videos" / "clevrer" / "video_1.mp4", images, fps=6)
    sample = only(read_instruct(tmp_path))
    assert (sample.video, sample.spans) == (Path("videos/clevrer/video_1.mp4"), None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            evidence(mask_at(6, square(0, 0, 5, 5))),
            "no frame can be used: 1 of them, the first: mask 0: frame 6: the video has 6 frames, up to 5",
        ),
        (evidence(mask_at(-1, [])), "numbered from 0 on"),
        (evidence(mask_at(0, [[0, "x"], [1, 1], [2, 0]])), "finite numbers"),
        ([[{"size": [20, 30], "counts": "0"}]], "mask is damaged"),
        ([[{"size": [20, 30], "counts": [600, 5]}]], "add up to 600 and none is negative; got the sum 605"),
        ([[{"size": [30, 20], "counts": [0, 600]}]], r"size of a mask is \[H, W\]"),
        ({"evidence": []}, "evidence_objects"),
        ("a text", "masks cannot be read"),
    ],
)
def test_an_instruct_mask_file_that_is_wrong_costs_its_row(tmp_path, content, reason):
    samples, bad = read_instruct(instruct_folder(tmp_path, content))
    assert samples == []
    assert [line.line for line in bad] == [2]
    assert bad[0].reason.startswith("masks cannot be read: masks/entry_1.json: ")
    assert re.search(reason, bad[0].reason)


def test_prepare_writes_what_load_reads_and_counts_the_rest(tmp_path):
    gen_folder(tmp_path, GEN, GEN | {"entry_id": "b", "answer": "x"}, GEN | {"entry_id": "c", "answer": "y"}, GEN)
    done = prepare("st-evidence-gen", tmp_path)
    assert (done.num_kept, len(done.dropped), done.without_video, done.without_masks) == (1, 3, 1, 1)
    assert "dropped 2: answer is not among the candidates; the first is line 3" in done.summary()
    assert "dropped 1: duplicate id" in done.summary()
    data = datasets.load(str(tmp_path))
    assert [sample.id for sample in data.samples] == [GEN["entry_id"]]
    assert data.samples[0].options == next(read_records(done.path, Sample)).options


def test_prepare_writes_nothing_where_no_row_is_usable(tmp_path):
    with pytest.raises(ValueError, match="no row is usable"):
        prepare("st-evidence-gen", gen_folder(tmp_path, GEN | {"answer": "x"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rejected.jsonl", "st_evidence_gen.csv"]
    with pytest.raises(ValueError, match=r"unknown data set 'gen'; the data sets are: shapes-train"):
        prepare("gen", tmp_path)


def run_prepare(task, folder):
    script = ROOT / "data" / task.replace("-", "_") / "prepare.py"
    command = [sys.executable, str(script), "--folder", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmark")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("task", ["st-evidence-gen", "st-evidence-instruct"])
def test_the_prepare_script_prints_its_counts(tmp_path, task):
    if task == "st-evidence-gen":
        gen_folder(tmp_path)
    else:
        instruct_folder(tmp_path, evidence())
    done = run_prepare(task, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 samples kept, 0 rows dropped" in done.stdout
    failed = run_prepare(task, tmp_path / "absent")
    assert failed.returncode == 1
    assert "error: " in failed.stderr
    assert "fetch it" in failed.stderr
    assert "Traceback" not in failed.stderr
