"""The image sets in the layout of LISA: which turns, whose masks, what is dropped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import published_layouts as published
import pytest
from published_layouts import mask, union

from evqa import datasets, masks, media
from evqa.datasets.formats import prepare

ROOT = Path(__file__).resolve().parents[2]


def prepared(name, folder):
    published.PICTURE_WRITERS[name](folder)
    return again(name, folder)


def again(name, folder):
    done = prepare(name, folder)
    return datasets.load(str(done.path)).samples, done


def drawn(sample, targets):
    """The mask of a turn."""
    if sample.label_map is not None:
        return np.isin(masks.read_labels(sample.label_map), targets)
    tracks = sample.tracks if targets is None else [sample.tracks[place] for place in targets]
    return masks.decode(masks.union([track.masks[0] for track in tracks]))


def turns(sample):
    """Question -> which objects the mask shows."""
    found = {}
    for turn in sample.turns:
        pixels = drawn(sample, turn.targets)
        found[turn.question] = next(
            numbers for numbers in ((1,), (2,), (1, 2)) if np.array_equal(pixels, union(0, numbers))
        )
    return found


EXPECTED = {
    "ade20k": {"red square": (1,), "blue square": (2,)},
    "cocostuff": {"person": (1,)},
    "mapillary": {"red square": (1,), "blue square": (2,)},
    "paco-lvis": {"square": (1,), "inner side of the trash can": (2,)},
    "pascal-part": {"dog leg": (1,), "dog": (2,)},
    **{
        name: {"red one": (1,), "left one": (1,), "blue one": (2,)}
        for name in ("refcoco", "refcoco+", "refcocog", "refclef")
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_picture_is_one_sample_with_a_mask_for_each_turn(tmp_path, name):
    samples, done = prepared(name, tmp_path)
    (sample,) = samples
    assert (done.num_kept, done.dropped, done.without_video) == (1, (), 0)
    assert done.path.name == f"{name.replace('-', '_')}.jsonl"
    assert turns(sample) == EXPECTED[name]
    assert (sample.task_type, sample.source, sample.question) == (
        "query",
        name.replace("-", "_"),
        sample.turns[0].question,
    )
    video = media.probe_video(sample.video)
    assert (video.height, video.width, video.num_frames) == (*published.SIZE, 1)


def test_reason_seg_takes_out_what_is_to_be_ignored_and_has_reasons(tmp_path):
    samples, _ = prepared("reason-seg", tmp_path)
    assert [(sample.task_type, sample.question) for sample in samples] == [
        ("query", "the thing that would move"),
        ("explanatory", "What would move?"),
    ]
    assert samples[1].turns[0].response == "The red square, since it is red."
    expected = mask(1, 0)
    expected[6:8, 7:9] = False
    for sample in samples:
        np.testing.assert_array_equal(drawn(sample, None), expected)


def test_what_is_wrong_with_a_picture_costs_that_picture(tmp_path):
    published.write_paco_lvis(tmp_path)
    path = tmp_path / "vlpart/paco/annotations/paco_lvis_v1_train.json"
    content = json.loads(path.read_text())
    base = content["images"][0]
    content["images"] += [base | {"id": n, "file_name": f"{n}.jpg"} for n in (13, 14, 15, 16)]
    content["images"] += [base | {"id": 17, "file_name": "../17.jpg"}]
    one = content["annotations"][0]
    changes = {
        14: {"category_id": 9},
        15: {"segmentation": [[1, 2, 3]]},
        16: {"segmentation": {"size": [3, 3], "counts": "09"}},
        17: {},
    }
    content["annotations"] += [one | {"image_id": n} | change for n, change in changes.items()]
    path.write_text(json.dumps(content))
    samples, done = again("paco-lvis", tmp_path)
    assert [sample.id for sample in samples] == ["12_12"]
    assert [bad.reason.split(":")[0] for bad in done.dropped] == [
        "no object is annotated",
        "category is not in the file",
        "a polygon has x and y of at most 100000 corners, got 3 numbers",
        "mask has another size",
        "path leaves its folder",
    ]


def test_the_prepare_script_takes_several_sets(tmp_path):
    for name in ("refcoco", "pascal-part"):
        published.PICTURE_WRITERS[name](tmp_path)
    script = [sys.executable, str(ROOT / "data" / "lisa" / "prepare.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmark")}
    command = [*script, "refcoco", "pascal-part", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 samples kept, 0 rows dropped") == 2
    wrong = subprocess.run([*script, "mine"], capture_output=True, text=True, check=False, env=environment)
    assert wrong.returncode == 1
    assert "the data sets are: reason-seg, ade20k" in wrong.stderr
