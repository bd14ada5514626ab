"""The synthetic world: scenes, pictures, questions, and the files that `data/shapes/prepare.py` writes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evqa import datasets, masks, media
from evqa.datasets.shapes.draw import draw
from evqa.datasets.shapes.questions import questions
from evqa.datasets.shapes.scene import FPS, LOOKS, SIZE, scene

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("level", [1, 2])
def test_a_seed_always_gives_the_same_clip(level):
    first, second = (list(draw(scene(7, level))) for _ in range(2))
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(first, second, strict=True))


def test_events_take_15_to_35_percent_of_the_clip():
    shares = [
        sum(end - start for start, end in thing.events) / made.num_frames
        for made in map(scene, range(300))
        for thing in made.things
    ]
    assert min(shares) > 0.12
    assert max(shares) < 0.40  # rounding to whole frames, at least three of them
    assert 0.20 < float(np.mean(shares)) < 0.30


def test_level_1_objects_are_always_visible_and_never_overlap():
    for seed in range(40):
        made = scene(seed, 1)
        for _, labels in draw(made):
            assert set(np.unique(labels)) >= {1, 2, 3}
        assert {thing.event for thing in made.things} <= set(LOOKS)


def test_level_2_objects_enter_vanish_or_move():
    seen = {thing.event for seed in range(60) for thing in scene(seed, 2).things}
    assert {"enters", "vanishes", "moves"} <= seen
    for seed in range(60):
        made = scene(seed, 2)
        for index, thing in enumerate(made.things):
            visible = [bool((labels == index + 1).any()) for _, labels in draw(made)]
            if thing.event == "vanishes":
                assert not visible[-1]
            if thing.event == "enters":
                assert not visible[0]


def test_every_question_has_five_options_and_one_right_answer():
    for seed in range(50):
        made = scene(seed, 1 + seed % 2)
        for question in questions(made):
            attribute = question.kind.split(">")[1]
            assert len(set(question.options)) == 5
            assert question.options[question.answer] == getattr(made.things[question.target], attribute)
            others = [getattr(thing, attribute) for thing in made.things]
            assert len(set(others)) == 3, "the right answer has to be the only one of its kind"


def test_a_question_that_does_not_name_its_object_gives_neither_color_nor_shape():
    for seed in range(50):
        made = scene(seed, 2)
        for question in questions(made):
            target = made.things[question.target]
            if not question.is_named:
                words = re.findall(r"\w+", question.text)
                assert target.color not in words
                assert target.shape not in words


def test_answers_do_not_prefer_a_letter():
    counts = np.bincount([question.answer for seed in range(200) for question in questions(scene(seed))], minlength=5)
    assert counts.min() > 0.8 * counts.mean()


def test_the_first_and_the_last_really_are():
    asked = {"first": 0, "last": 0}
    for made in map(scene, range(80)):
        for question in questions(made):
            if not question.cue.startswith("acts"):
                continue
            asked[question.cue.removeprefix("acts ")] += 1
            mine = made.things[question.target].events
            others = [event for i, thing in enumerate(made.things) if i != question.target for event in thing.events]
            if question.cue == "acts first":
                assert mine[0][0] < min(start for start, _ in others)
            else:
                assert mine[0][0] > max(start for start, _ in others)
                assert mine[-1][1] > max(end for _, end in others)
    assert min(asked.values()) > 40


def test_the_cue_of_a_question_stands_in_its_text():
    for seed in range(40):
        for question in questions(scene(seed, 1 + seed % 2)):
            assert question.cue in question.text


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small world, written by the real command into a copy of the folder."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    folder.mkdir()
    (folder / "prepare.py").write_bytes((ROOT / "data/shapes/prepare.py").read_bytes())
    path = os.pathsep.join(str(ROOT / part) for part in ("benchmark", "train"))
    command = [sys.executable, str(folder / "prepare.py"), "--clips", "3", "--workers", "1"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    return folder


@pytest.mark.parametrize("split", ["val", "test", "test2"])
def test_a_written_split_reads_back_with_its_masks_and_times(written, split):
    dataset = datasets.load(str(written / split))
    assert not dataset.rejected
    for sample in dataset.samples:
        video = media.probe_video(sample.video)
        seed, level = int(sample.video_id.removeprefix("shapes_")), int(sample.metadata["level"])
        made = scene(seed, level)
        assert (video.num_frames, video.width, video.height) == (made.num_frames, SIZE, SIZE)
        assert video.duration == pytest.approx(made.duration, abs=1e-6)
        assert video.fps == pytest.approx(FPS)
        asked = next(q for q in questions(made) if q.text == sample.question and q.options == sample.options)
        assert sample.answer == asked.answer
        assert [tuple(span) for span in sample.spans] == list(made.things[asked.target].spans())
        gold = {index: masks.read_png(path) for index, path in masks.read_folder(sample.masks).items()}
        for index, (_, labels) in enumerate(draw(made)):
            wanted = labels == asked.target + 1
            assert (gold.get(index, np.zeros_like(wanted)) == wanted).all()


def test_the_training_split_has_frames_and_run_lengths(written):
    dataset = datasets.load(str(written / "train"))
    assert len(dataset.samples) == 12
    for sample in dataset.samples:
        video = media.probe_video(sample.video)
        made = scene(int(sample.video_id.removeprefix("shapes_")), int(sample.metadata["level"]))
        assert video.num_frames == made.num_frames
        assert len(sample.tracks) == 1


def test_splits_share_no_scene(written):
    seeds = [
        {sample.video_id for sample in datasets.load(str(written / split)).samples}
        for split in ("train", "val", "test", "test2")
    ]
    assert sum(map(len, seeds)) == len(set.union(*seeds))


@pytest.mark.parametrize("wrong", [("--clips", "0"), ("--clips", "-1"), ("--workers", "0")])
def test_a_number_below_one_is_refused_and_leaves_what_is_there(written, wrong):
    path = os.pathsep.join(str(ROOT / part) for part in ("benchmark", "train"))
    command = [sys.executable, str(written / "prepare.py"), "--splits", "val", *wrong]
    done = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"{wrong[0]} is at least 1, got {wrong[1]}\n")
    assert len(datasets.load(str(written / "val")).samples) == 3
