"""The sets about marked objects: which words, which object each mark means, what is dropped."""

import json

import numpy as np
import published_layouts as published
import pytest
from published_layouts import FRAMES, mask

from evqa import datasets, masks, media
from evqa.datasets.formats import prepare

EVERY = tuple(range(FRAMES))


def prepared(name, folder):
    published.MARKED_WRITERS[name](folder)
    return again(name, folder)


def again(name, folder):
    done = prepare(name, folder)
    return datasets.load(str(done.path)).samples, done


def words(sample):
    return [(turn.question, turn.response) for turn in sample.turns]


def shown(sample):
    """Label -> (object of the world, frames); fails where a mask is of none."""
    found = {}
    for track in sample.tracks:
        for number in (1, 2):
            if all(np.array_equal(masks.decode(part), mask(number, frame)) for frame, part in track.masks.items()):
                found[track.label] = (number, tuple(track.masks))
    assert len(found) == len(sample.tracks)
    return found


EXPECTED = {
    "videorefer-short-caption": ("pointing", [("What is [0]?", "A red square.")], {"0": (1, (2,))}, None),
    "videorefer-detailed-caption": (
        "region",
        [("Describe [0].", "It is red and moves.")],
        {"0": (1, (1, 2, 5))},
        (1, 2, 5),
    ),
    "videorefer-qa": (
        "region",
        [("Does [0] pass [1]?", "No, [0] does not.")],
        {"0": (1, (0, 3)), "1": (2, (3,))},
        (0, 3),
    ),
    "videorefer-qa-mem": (
        "memory",
        [("There are two objects: [0], [1].\nDoes [0] pass [1]?", "No, [0] does not.")],
        {"0": (1, (0, 3)), "1": (2, (3,))},
        (0, 3),
    ),
    "inst-it-video-qa": (
        "region",
        [("What does [1] do at <1>?", "It moves away from [2].")],
        {"1": (1, EVERY), "2": (2, EVERY[:4])},
        None,
    ),
    "inst-it-video-qa-mem": (
        "memory",
        [("What does [1] do at <1>?", "It moves away from [2].")],
        {"1": (1, EVERY), "2": (2, EVERY[:4])},
        None,
    ),
    "osprey-conversation": (
        "region",
        [("What is [1]?", "A square."), ("Where is [2]?", "Below [1].")],
        {"1": (1, (0,)), "2": (2, (0,))},
        None,
    ),
    "osprey-pos-neg": ("region", [("Is [2] a dog?", "No.")], {"2": (2, (0,))}, None),
    "osprey-detail-description": (
        "region",
        [("[1]", "A red square at the left."), ("[2]", "A blue one.")],
        {"1": (1, (0,)), "2": (2, (0,))},
        None,
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_marks_name_the_tracks_that_they_mean(tmp_path, name):
    (sample,), done = prepared(name, tmp_path)
    form, said, objects, frames = EXPECTED[name]
    assert (sample.task_type, words(sample), sample.frames) == (form, said, frames)
    assert shown(sample) == objects
    assert done.without_video == 0
    assert media.probe_video(sample.video).num_frames == (1 if "osprey" in name else FRAMES)


def test_each_object_of_a_picture_has_its_description(tmp_path):
    samples, _ = prepared("inst-it-image", tmp_path)
    assert [words(sample) for sample in samples] == [[("[0]", "a red square")], [("[0]", "a blue square")]]
    assert [shown(sample) for sample in samples] == [{"0": (1, (0,))}, {"0": (2, (0,))}]
    assert {sample.task_type for sample in samples} == {"pointing"}


def test_a_pair_about_no_object_is_dropped(tmp_path):
    done = prepared("inst-it-video-qa", tmp_path)[1]
    assert [bad.reason for bad in done.dropped] == ["too few or too many objects: w3 1: expected 1 to 5, got 0"]


def test_an_entry_that_is_wrong_costs_only_itself(tmp_path):
    published.write_videorefer_qa(tmp_path)
    path = tmp_path / "VideoRefer-700K" / "videorefer-qa-75k-wo-masks.json"
    (good,) = json.loads(path.read_text())
    bad = [
        good | {"ratio": 0.2},
        good | {"annotation": []},
        good | {"annotation": good["annotation"][:1]},
        good | {"video": "../v.mp4"},
        good,  # its masks are not there
    ]
    path.write_text(json.dumps([good, *bad]))
    for number in (1, 2, 3, 4):
        (path.parent / "masks_qa" / f"{number}.json").write_bytes((path.parent / "masks_qa" / "0.json").read_bytes())
    samples, done = again("videorefer-qa", tmp_path)
    assert [sample.id for sample in samples] == ["0_v_1"]
    assert [bad.reason.split(":")[0] for bad in done.dropped] == [
        "too few frames are annotated",
        "too few or too many objects",
        "marks do not fit the objects",
        "path leaves its folder",
        "file cannot be read",
    ]


@pytest.mark.parametrize("mark", ["<region>", "<region three>", "<region9>", "<regi"])
def test_a_mark_that_means_no_region_drops_the_conversation(tmp_path, mark):
    published.write_osprey(
        tmp_path, "osprey_conversation.json", "coco/train2014", conversations=published.conversation_of(mark, "x")
    )
    with pytest.raises(ValueError, match="no row is usable"):
        prepare("osprey-conversation", tmp_path)
