"""Hostile videos and replies for the judge and for staged localisation: a failure with its reason, never a crash."""

import json
import math
import time

import pytest
from benchmark.tests import broken_videos

from evqa import judge, media, methods, models
from evqa.agents.settings import AgentSettings, JudgeSettings, StageSettings
from evqa.models.base import Models
from evqa.schema import Sample

VERDICT = "<Answer>TA=1, MQ=1, VQ=1, OA=1</Answer>"
SPOILED = [
    broken_videos.cut_within_the_header,
    broken_videos.emptied,
    broken_videos.text,
    broken_videos.play_list,
    broken_videos.file_list,
    broken_videos.removed,
    broken_videos.sound_only,
    broken_videos.noise_for_pictures,
    broken_videos.empty_folder,
    broken_videos.folder_of_broken_images,
    broken_videos.folder_of_a_bomb,
]
READABLE = [
    broken_videos.one_frame_without_duration,
    broken_videos.without_rate,
    broken_videos.tall_and_fast,
    broken_videos.slow,
]


def scripted(folder, replies):
    path = folder / "replies.json"
    path.write_text(json.dumps({"*": replies}))
    return models.build(str(path))


def localise(folder, path, replies, question="Where is the cup?", **fields):
    fields = {"stage_samples": 1, "stage_cache": folder / "cache", **fields}
    predict = methods.predictor("stages", times=True, settings=AgentSettings(stages=StageSettings(**fields)))
    return predict(Models(scripted(folder, replies)), Sample(id="a", video_id="v", video=path, question=question))


def compare(folder, first, second, replies, prompt="A square."):
    settings = AgentSettings(judge=JudgeSettings(swap="none"))
    return judge.judge_pair(first, second, prompt, scripted(folder, replies), settings=settings)


# Videos


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_a_video_that_cannot_be_read_fails_before_any_request(spoil, tmp_path):
    path = broken_videos.clip(tmp_path)
    good = tmp_path / "good.mp4"
    good.write_bytes(path.read_bytes())
    spoil(path)
    for prediction in (localise(tmp_path, path, "0s - 1s"), compare(tmp_path, good, path, VERDICT)):
        assert (prediction.status, prediction.turns) == ("failed", ())
        assert prediction.error.startswith("ValueError: ")
        assert path.name in prediction.error


@pytest.mark.parametrize("style", ["stage-analysis", "coarse-cot", "frame-labeling", "shots", "baseline"])
@pytest.mark.parametrize("write", READABLE, ids=lambda write: write.__name__)
def test_odd_videos_are_localised_within_their_length(write, style, tmp_path):
    path = tmp_path / "odd.mp4"
    write(path)
    prediction = localise(tmp_path, path, "1. 0s - 9999s: x\nVerdict: Relevant", stage_style=style)
    assert prediction.status == "ok", prediction.error
    duration = media.probe_video(path).duration
    assert prediction.spans == ((0, pytest.approx(duration)),)
    assert all(math.isfinite(frame.second) for turn in prediction.turns for frame in turn.frames)


@pytest.mark.parametrize("pairing", ["fraction", "time"])
@pytest.mark.parametrize("write", READABLE, ids=lambda write: write.__name__)
def test_odd_videos_are_judged(write, pairing, tmp_path):
    path = tmp_path / "odd.mp4"
    write(path)
    settings = AgentSettings(judge=JudgeSettings(swap="both", pairing=pairing))
    pair = broken_videos.clip(tmp_path), path
    prediction = judge.judge_pair(*pair, "A square.", scripted(tmp_path, VERDICT), settings=settings)
    assert prediction.status == "ok", prediction.error
    assert prediction.verdicts["OA"] == 0  # the first one in both orders
    assert "nan" not in prediction.turns[0].prompt


def test_a_damaged_frame_is_left_out_and_a_hit_says_what_the_request_said(tmp_path):
    """One file of a folder of frames is broken: the prompt counts those that are sent, also where the cache replies."""
    folder = tmp_path / "frames"
    folder.mkdir()
    path = broken_videos.clip(tmp_path)
    for number, image in media.read_frames(media.probe_video(path), range(12)):
        broken_videos.write_image(folder / f"frame_{number:04d}.jpg", image)
    (folder / "frame_0004.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (folder / "fps.txt").write_text("1")
    first, again = (localise(tmp_path, folder, "0s - 2s", stage_style="frame-labeling") for _ in range(2))
    assert first.status == "ok", first.error
    assert first.turns[0].prompt.count("11 frames") == 1
    assert [frame.index for frame in first.turns[0].frames] == [0, 1, 2, 3, *range(5, 12)]
    assert [turn.usage.num_attempts for turn in again.turns] == [0, 0, 0]
    for turn, repeated in zip(first.turns, again.turns, strict=True):
        assert turn.replace(usage=None) == repeated.replace(usage=None)


# Replies

HOSTILE = {
    "silence": "",
    "space": " \n\t",
    "open thought": "<think>" * 2000,
    "verdict in a thought": "<think>1. 0s - 1s:\nVerdict: Relevant</think>",
    "huge numbers": f"0s - {'9' * 5000}s",
    "exponents": "1e400s - 1e500s\n-5s - -1s",
    "not numbers": "nan s - inf s: x\nNaN - 2",
    "many segments": "\n".join(f"{number}. {number / 1000}s - {(number + 1) / 1000}s: x" for number in range(5000)),
    "nested JSON": '{"segments": ' + "[" * 5000,
    "control characters": "\x00\x1b[31m0s\u202e - 1s\ufffe",
    "contradiction": "1. 0s - 1s:\nVerdict: Relevant\nVerdict: Irrelevant",
    "confidence": "1. 0s - 1s:\nConfidence Score: 99999999\nVerdict: Relevant",
    "tool call": '<tool_call>{"name": "select_frames", "arguments": {}}</tool_call>',
    "a megabyte": "Relevant " * 110_000,
}


@pytest.mark.parametrize("selection", ["votes", "verifier"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_replies_of_stages_end_soon_within_the_video(name, selection, tmp_path):
    path = broken_videos.clip(tmp_path)
    start = time.process_time()
    prediction = localise(tmp_path, path, HOSTILE[name], stage_selection=selection, stage_style="coarse-cot")
    assert time.process_time() - start < 5
    assert prediction.status == "ok", prediction.error
    assert len(prediction.turns) <= 14
    for span in prediction.spans or ():
        assert 0 <= span.start <= span.end <= 2
    assert all(0 <= score <= 1 for score in prediction.span_scores or ())
    if name in {"silence", "space", "open thought", "verdict in a thought", "contradiction", "tool call", "a megabyte"}:
        assert prediction.spans is None


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_replies_of_a_judge_are_no_verdict(name, tmp_path):
    first, second = broken_videos.clip(tmp_path), tmp_path / "b.mp4"
    second.write_bytes(first.read_bytes())
    prediction = compare(tmp_path, first, second, [HOSTILE[name]] * 8)
    assert (prediction.status, prediction.verdicts) == ("ok", None)


def test_a_prompt_of_100_kilobytes_is_sent_whole(tmp_path):
    first, second = broken_videos.clip(tmp_path), tmp_path / "b.mp4"
    second.write_bytes(first.read_bytes())
    text = "cup \u202e\x1b " * 15_000
    assert text in compare(tmp_path, first, second, VERDICT, text).turns[0].prompt
    assert text.strip() in localise(tmp_path, first, "0s - 1s", text).turns[-1].prompt
