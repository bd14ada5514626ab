"""Readers of published files: masks in every form, times by frame numbers, tables and options as they are spelt."""

import json

import numpy as np
import pytest
from PIL import Image
from published_layouts import (
    FRAMES,
    QA,
    SIZE,
    mask,
    rle,
    square,
    write_frames,
    write_groundmore,
    write_json,
    write_ref_sav,
    write_table,
    write_vicas,
)

from evqa import datasets, masks, media
from evqa.datasets.formats import prepare
from evqa.datasets.formats.evidence_masks import read_tracks
from evqa.datasets.formats.st_evidence import read_gen, read_instruct
from evqa.datasets.formats.st_evidence_mcq import read_mcq
from evqa.files import links

CORNERS = square(0, 0, 4)
FLAT = [side for corner in CORNERS for side in corner]
CODED = rle(mask(1, 0))
RUNS = masks.run_lengths(masks.encode(mask(1, 0))).tolist()
HEIGHT, WIDTH = SIZE
AREA = int(mask(1, 0).sum())


@pytest.fixture(autouse=True)
def no_allowed_roots(monkeypatch):
    """No root is allowed, before and after."""
    monkeypatch.setenv(links.VARIABLE, "")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The facts of a folder of frames."""
    folder = tmp_path_factory.mktemp("video_frames_6fps") / "v"
    write_frames(folder, [f"frame_{number:04d}" for number in range(FRAMES)])
    return media.probe_video(folder, 6)


def areas(content, clip, tmp_path):
    """(frame -> pixels of each object, reasons) of a mask file."""
    (tmp_path / "e.json").write_text(content if isinstance(content, str) else json.dumps(content))
    reasons = []
    tracks = read_tracks(tmp_path / "e.json", clip, reasons) or ()
    return [{index: masks.area(each) for index, each in track.masks.items()} for track in tracks], reasons


def polygons(*entries, **fields):
    return {"width": WIDTH, "height": HEIGHT, "evidence_objects": [{"masks": list(entries)}]} | fields


def drawn(number, shape=None):
    return {"frame": number, "mask": {"exterior": CORNERS} if shape is None else shape}


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ({"exterior": CORNERS, "holes": None}, 16),
        ({"exterior": CORNERS, "holes": [square(1, 1, 2)]}, 12),
        ({"exterior": FLAT}, 16),
        ({"exterior": [CORNERS, square(20, 20, 4)]}, 32),
        ({"exterior": [[[x, y, 0] for x, y in CORNERS]]}, 16),
        ({"exterior": [[str(x), str(y)] for x, y in CORNERS]}, 16),
        ([{"exterior": CORNERS}, {"exterior": square(20, 20, 4)}], 32),
        (CORNERS, 16),
        ([FLAT, [20, 20, 24, 20, 24, 24, 20, 24]], 32),
        (CODED, AREA),
        ({"size": list(SIZE), "counts": RUNS}, AREA),
        ({"size": [str(side) for side in SIZE], "counts": [float(run) for run in RUNS]}, AREA),
        ({"size": list(SIZE), "counts": str(CODED["counts"].encode())}, AREA),
        ({"size": [HEIGHT / 2, WIDTH / 2], "counts": [0, HEIGHT * WIDTH // 4]}, HEIGHT * WIDTH),
        ([CODED, {"exterior": CORNERS}], AREA + 16 - int(mask(1, 0)[:4, :4].sum())),
    ],
)
def test_a_mask_of_a_frame_may_have_any_form(shape, pixels, clip, tmp_path):
    assert areas(polygons(drawn(0), drawn(1, shape)), clip, tmp_path) == ([{0: 16, 1: pixels}], [])
    assert areas([[shape, None, [shape]]], clip, tmp_path) == ([{0: pixels, 2: pixels}], [])


@pytest.mark.parametrize(
    "shape",
    [
        {"exterior": [[0, float("nan")], [4, 0], [4, 4]]},
        {"exterior": [[0, 1e300], [4, 0], [4, 4]]},
        {"exterior": [None, [4, 0], [4, 4]]},
        [{"exterior": CORNERS}, "a text"],
        {"size": [WIDTH, HEIGHT], "counts": [0, WIDTH * HEIGHT]},
        {"size": list(SIZE), "counts": [-1, HEIGHT * WIDTH + 1]},
        {"size": list(SIZE), "counts": "b'"},
        {"size": list(SIZE)},
        "a text",
    ],
)
def test_a_mask_that_cannot_be_read_costs_only_its_frame(shape, clip, tmp_path):
    found, reasons = areas(polygons(drawn(0), drawn(1, shape), drawn(3)), clip, tmp_path)
    assert (found, len(reasons)) == ([{0: 16, 3: 16}], 1)
    found, reasons = areas([[CODED, shape, CODED]], clip, tmp_path)
    assert (found, len(reasons)) == ([{0: AREA, 2: AREA}], 1)


@pytest.mark.parametrize("number", ["1", 1.0, "1.0", "0001", "frame_0001", "frame_0001.jpg"])
def test_the_number_of_a_frame_may_be_text(number, clip, tmp_path):
    assert areas(polygons(drawn(number)), clip, tmp_path) == ([{1: 16}], [])


@pytest.mark.parametrize(
    ("content", "expected", "num_reasons"),
    [
        (polygons(evidence_objects=[{"masks": [drawn(0)]}, None]), [{0: 16}], 1),
        (polygons(evidence_objects=[{"masks": [drawn(0)], "ref_expression": 5}, {"masks": "x"}]), [{0: 16}], 1),
        (polygons(evidence_objects={"1": {"masks": {"2": {"exterior": CORNERS}}}}), [{2: 16}], 0),
        (polygons(drawn(0), width="60", height=40.0), [{0: 16}], 0),
        (polygons(drawn(0), width=30, height=20), [{0: 64}], 0),
        (polygons(drawn(0), width=0, height="tall"), [{0: 16}], 0),
        ("\ufeff" + json.dumps(polygons(drawn(0))), [{0: 16}], 0),
        ([[CODED], None, "x"], [{0: AREA}, {}], 1),
        ([{"0": CODED, "frame_0003": CODED}], [{0: AREA, 3: AREA}], 0),
        ([CODED, None, CODED], [{0: AREA, 2: AREA}], 0),
        ([[CODED] * 100], [dict.fromkeys(range(FRAMES), AREA)], 21),
        ([[CODED, {"size": [20, 30], "counts": [0, 600]}]], [{0: AREA, 1: HEIGHT * WIDTH}], 0),
    ],
)
def test_an_object_or_field_that_is_odd_costs_only_itself(content, expected, num_reasons, clip, tmp_path):
    found, reasons = areas(content, clip, tmp_path)
    assert (found, len(reasons)) == (expected, num_reasons)


@pytest.mark.parametrize("content", ["{", "null", "<html>", "[" * 5000, '{"0": []}', "5"])
def test_a_mask_file_of_neither_form_is_refused(content, clip, tmp_path):
    with pytest.raises(ValueError, match="the file"):
        areas(content, clip, tmp_path)


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["frame_0000.jpg", "frame_0001.jpg", "frame_0003.jpg"], [0, 1, 3]),
        (["frame_0001.jpg", "frame_0002.jpg", "frame_0003.jpg"], [1, 2, 3]),
        (["frame_0000.jpg", "frame_0002.png", "cover.jpg"], [0, 2]),
        (["frame_0100.jpg", "frame_0101.jpg", "frame_0103.jpg"], [0, 1, 3]),
        (["frame_1.jpg", "frame_2.jpg", "frame_9.jpg"], [0, 1, 2]),
        (["frame_0.jpg", "frame_1.jpg", "frame_3.jpg"], [0, 1, 3]),
        (["frame_0.jpg", "frame_30.jpg", "frame_60.jpg"], [0, 1, 2]),
        (["00000.jpg", "00005.jpg", "00010.jpg"], [0, 1, 2]),
    ],
)
def test_frames_are_shown_at_the_second_of_their_number(names, places, tmp_path):
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    video = media.probe_video(tmp_path, 6)
    np.testing.assert_allclose(video.times * 6, places)
    assert video.duration * 6 == pytest.approx(places[-1] + 1)


def test_a_missing_frame_moves_neither_masks_nor_the_seconds_of_spans(tmp_path):
    row = {"entry_id": "e", "video_path": "c/v.mp4", "question": "Q?", "answer": "a", "candidates": "['a', 'b']"}
    write_table(tmp_path / "st_evidence.csv", row | {"temporal_evidence": "[[0.9, 1.9]]"})
    write_frames(tmp_path / "video_frames_6fps" / "c" / "v", ["frame_0000", "frame_0001", "frame_0005"])
    write_json(tmp_path / "masks" / "e.json", polygons(drawn(0), drawn(5), drawn(4)))
    assert prepare("st-evidence-instruct", tmp_path).num_kept == 1
    (sample,) = datasets.load(str(tmp_path)).samples
    assert (sorted(sample.tracks[0].masks), sample.frames, sample.spans) == ([0, 2], (0, 2), ((0.9, 1.9),))


def changed(path, change):
    """A JSON file with a change made to its value."""
    value = json.loads(path.read_text())
    change(value)
    write_json(path, value)


SAV = "sav_train/sav_000/sav_000001_manual.json"
CODED_WRONG = {"size": list(SIZE), "counts": "zz"}
SMALL = {"size": [20, 30], "counts": [0, 600]}


@pytest.mark.parametrize(
    ("change", "frames", "num_reasons"),
    [
        (lambda v: v["masklet"][2].__setitem__(0, CODED_WRONG), [0, 4, 12, 16, 20], 1),
        (lambda v: v["masklet"][2].__setitem__(0, SMALL), [0, 4, 12, 16, 20], 1),
        (lambda v: v["masklet"].__setitem__(2, None), [0, 4, 8, 12, 16, 20], 0),
        (lambda v: v["masklet"].extend(v["masklet"][:2]), [0, 4, 8, 12, 16, 20], 1),
    ],
)
def test_a_mask_of_ref_sav_that_cannot_be_used_costs_only_its_frame(change, frames, num_reasons, tmp_path):
    write_ref_sav(tmp_path)
    changed(tmp_path / SAV, change)
    done = prepare("ref-sav", tmp_path)
    assert (done.num_kept, [bad.reason.partition(",")[0] for bad in done.dropped]) == (2, ["left out"] * num_reasons)
    sample = datasets.load(str(tmp_path)).samples[0]
    assert list(sample.frames) == frames


@pytest.mark.parametrize("what", ["image", "mask", "size"])
def test_a_frame_of_groundmore_that_cannot_be_used_costs_only_itself(what, tmp_path):
    write_groundmore(tmp_path)
    place = tmp_path / "annotations" / "film_0300_0310"
    if what == "image":
        (place / "images" / "frame_000002.jpg").unlink()
    elif what == "mask":
        (place / "masks" / "frame_000002.png").write_bytes(b"no image")
    else:
        Image.new("L", (8, 8), 1).save(place / "masks" / "frame_000002.png")
    changed(tmp_path / "trainval_v2.json", lambda v: v["videos"][place.name]["questions"]["0"].update(obj_id=1))
    done = prepare("groundmore", tmp_path)
    assert (done.num_kept, len(done.dropped)) == (2, 1)
    assert done.dropped[0].reason.startswith("left out, mask of a frame: frame_000002: ")
    assert datasets.load(str(tmp_path)).samples[0].frames == ((1, 2) if what == "image" else (1, 3))


@pytest.mark.parametrize("cell", ["[2]", "2", "['2']", "[2.0]", "(2,)"])
def test_ids_of_evidence_are_numbers_however_they_are_written_and_ids_come_once(cell, tmp_path):
    write_vicas(tmp_path)
    rows = [QA, QA, QA | {"entry_id": "375_1", "mask_evidence": cell, "video_id": "375.0"}]
    write_table(tmp_path / "st_evidence_vicas.csv", *rows)
    done = prepare("st-evidence-instruct-qa", tmp_path)
    first, second = datasets.load(str(done.path)).samples
    assert first.targets == second.targets
    assert [bad.reason for bad in done.dropped] == ["duplicate id: 375_0 came before"]


# Links


def test_a_frame_that_is_a_link_may_not_lead_out_of_its_data_set(tmp_path, monkeypatch):
    data, outside = tmp_path / "data", tmp_path / "outside.jpg"
    folder = data / "frames"
    write_frames(folder, ["frame_0000", "frame_0001", "frame_0002"])
    (folder / "frame_0002.jpg").rename(data / "pool.jpg")
    (folder / "frame_0002.jpg").symlink_to("../pool.jpg")
    (folder / "frame_0003.jpg").symlink_to("gone.jpg")
    with pytest.raises(ValueError, match="--allow-root"):
        media.probe_video(folder, 6)
    sample = {"id": "a", "video_id": "v", "video": "frames", "question": "Q?"}
    (data / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    (loaded,) = datasets.load(str(data)).samples
    assert media.probe_video(loaded.video, 6).num_frames == 3, "a link to nothing is a missing frame"
    Image.new("RGB", (60, 40)).save(outside)
    (folder / "frame_0004.jpg").symlink_to(outside)
    with pytest.raises(ValueError, match=r"leads out of its folder.*--allow-root"):
        media.probe_video(loaded.video, 6)
    monkeypatch.setenv(links.VARIABLE, str(tmp_path))
    assert media.probe_video(loaded.video, 6).num_frames == 4


def test_a_root_that_the_variable_cannot_hold_is_refused(tmp_path):
    (tmp_path / "a:b").mkdir()
    with pytest.raises(ValueError, match="separates folders"):
        links.allow_roots([tmp_path / "a:b"])


# Tables


GEN = {
    "entry_id": "e1",
    "video_id": "v1",
    "video_path": "a/v1.mp4",
    "question": "Q?",
    "candidates": "['a', 'b']",
    "answer": "a",
    "segment": "[[0.0, 1.5]]",
}


def table_of(row, names=None):
    """A CSV text with the columns of a row under other names."""
    quoted = ['"{}"'.format(str(cell).replace('"', '""')) for cell in row.values()]
    return ",".join((names or {}).get(name, name) for name in row) + "\n" + ", ".join(quoted) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff\ufeff" + table_of(GEN),
        table_of(GEN).replace("\n", "\r\n"),
        table_of(GEN, {name: name.upper() for name in GEN}),
        table_of(GEN, {"candidates": "options", "segment": "temporal_evidence", "video_path": "video"}),
        table_of({name: cell for name, cell in GEN.items() if name != "video_id"}),
        table_of(GEN).replace("segment\n", "segment,,\n").replace('1.5]]"', '1.5]]",,'),
    ],
)
def test_a_table_is_read_under_any_spelling_of_its_columns(text, tmp_path):
    (tmp_path / "st_evidence_gen.csv").write_bytes(text.encode())
    (sample,), bad = read_gen(tmp_path)
    assert (sample.id, sample.video_id, sample.spans, bad) == ("e1", "v1", ((0.0, 1.5),), [])


@pytest.mark.parametrize(
    ("cell", "spans", "num_reasons"),
    [
        ("[['0', '1.5']]", ((0.0, 1.5),), 0),
        ("[{'start': 0, 'end': '1.5'}]", ((0.0, 1.5),), 0),
        ("nan", None, 0),
        ("[[0, 1], [2]]", ((0.0, 1.0),), 1),
        ("[[3, 1], [4, 5]]", ((4.0, 5.0),), 1),
        ("[[0, 1]", (), 1),
        ("[[True, 2]]", (), 1),
    ],
)
def test_gold_spans_that_cannot_be_read_leave_their_row_in_the_benchmark(cell, spans, num_reasons, tmp_path):
    (tmp_path / "st_evidence_gen.csv").write_text(table_of(GEN | {"segment": cell}))
    (sample,), bad = read_gen(tmp_path)
    assert (sample.spans, len(bad)) == (spans, num_reasons)
    assert all(line.reason.startswith("left out, span: ") for line in bad)
    instruct = {"temporal_evidence" if name == "segment" else name: value for name, value in GEN.items()}
    (tmp_path / "st_evidence.csv").write_text(table_of(instruct | {"temporal_evidence": cell}))
    samples, bad = read_instruct(tmp_path)
    assert (len(samples), len(bad)) == ((0, 1) if num_reasons else (1, 0)), "training rejects the row"


@pytest.mark.parametrize(
    ("candidates", "answer", "place"),
    [("[1, 2, 3]", "2.0", 1), ("['1.0', '2.0']", "2", 1), ("[True, False]", "False", 1), ("[1, '1.0']", "1.0", 1)],
)
def test_answers_that_are_numbers_name_their_option(candidates, answer, place, tmp_path):
    (tmp_path / "st_evidence_gen.csv").write_text(table_of(GEN | {"candidates": candidates, "answer": answer}))
    assert read_gen(tmp_path)[0][0].answer == place


# Options of the multiple-choice task

TIME = {"time_evidence_options": [[[0, 1]], [[1, 2]], [[2, 3]], [[3, 4]]], "correct_answer": "B"}
SPACE = {"gt": "o/gt.png", "d1": "o/d1.png", "d2": "o/d2.png", "d3": "o/d3.png", "options": ["d1", "gt", "d2", "d3"]}


def choices(tmp_path, time, space):
    """(the sample, what is left out) of a multiple-choice folder with an entry in each file of options."""
    row = {"entry_id": "e1", "video": "v1", "question": "Q?", "options": "['a', 'b']", "answer": "a"}
    write_table(tmp_path / "st_evidence_mcq.csv", row)
    (tmp_path / "o").mkdir()
    for name in ("gt", "d1", "d2", "d3"):
        Image.new("RGB", (4, 4)).save(tmp_path / "o" / f"{name}.png")
    write_json(tmp_path / "temp_options.json", time)
    write_json(tmp_path / "mask_options.json", space)
    (sample,), bad = read_mcq(tmp_path)
    return sample, bad


@pytest.mark.parametrize("written", ["B", "b", "(B)", "B.", " b ", 1, "1", 1.0, "1.0"])
def test_the_right_option_is_a_letter_or_a_number_however_it_is_written(written, tmp_path):
    sample, bad = choices(tmp_path, {"e1": TIME | {"correct_answer": written}}, {"e1": SPACE | {"answer": written}})
    assert (sample.time_answer, sample.mask_answer, bad) == (1, 1, [])


@pytest.mark.parametrize(
    ("time", "space"),
    [
        ({"e1": TIME}, {"e1": SPACE}),
        ({"e1": TIME}, {"e1": SPACE | {"correct_answer": 1}}),
        ({"e1": TIME}, {"e1": {"mcq_options": [SPACE[role] for role in SPACE["options"]], "answer": 1}}),
        ([TIME | {"entry_id": "e1"}], [SPACE | {"entry_id": "e1"}]),
        ({"e1": TIME | {"time_evidence_options": {"A": [0, 1], "B": ["1", "2"], "C": [2, 3]}}}, {"e1": SPACE}),
        ({"e1": TIME | {"ground_truth_segments": [[3, 1]]}}, {"e1": SPACE}),
        ({"e1": TIME}, {"e1": SPACE | {"gt": "/fsx/home/x/st_evidence_mcq/data/o/gt.png"}}),
    ],
)
def test_options_are_read_in_each_published_form(time, space, tmp_path):
    sample, bad = choices(tmp_path, time, space)
    assert (sample.time_answer, sample.time_options[1], sample.mask_answer) == (1, ((1.0, 2.0),), 1)
    assert len(bad) == ("ground_truth_segments" in str(time))
