"""Pairwise judge against recorded conversations with expected results (oracles/agents/judge)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark.tests.scripted_server import ScriptedServer, images_of, scripted_server

from evqa import methods, models
from evqa.agents.pair_tools import CONCAT_SLOTS, PairFrames, open_pair
from evqa.agents.settings import AgentSettings, JudgeSettings
from evqa.agents.tool import spec_of
from evqa.models.base import Model, Models
from evqa.models.messages import ImagePart
from evqa.models.tool_dialects import CONCAT_NUMBERING
from evqa.parsing.verdicts import parse_verdict, read_labels
from evqa.schema import Prediction, Sample

FOLDER = Path(__file__).parents[3] / "shared" / "oracles" / "agents" / "judge"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the oracle data of the agents")


@cache
def expected() -> dict[str, Any]:
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@cache
def videos() -> dict[str, dict[str, Any]]:
    return json.loads((FOLDER / "videos.json").read_text(encoding="utf-8"))


CASES = [entry["case"] for entry in expected()["conversations"]] if FOLDER.is_dir() else []


def conversation(case: str) -> dict[str, Any]:
    return next(entry for entry in expected()["conversations"] if entry["case"] == case)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture(scope="module")
def model(server: ScriptedServer) -> Model:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVQA_SERVER_KEY", "key")
        return models.build(
            "openai-compatible", base_url=server.url, model_id="scripted", rpm=None, tool_dialect="vrthinker"
        )


def run(case: str, server: ScriptedServer, model: Model, **settings: Any) -> Prediction:
    entry = conversation(case)
    server.play([{"content": reply} for reply in entry["replies"]])
    sample = Sample(
        id="pair",
        video_id=case,
        video=FOLDER / "videos" / entry["video1"],
        videos=(FOLDER / "videos" / entry["video2"],),
        question=entry["prompt"],
    )
    judge = JudgeSettings(**({"swap": "none", "judge_rounds": 5, "judge_corrections": 5} | settings))
    return methods.predictor("judge", times=True, settings=AgentSettings(judge=judge))(Models(model), sample)


def marker(pixels: np.ndarray, size: tuple[int, int], block: int) -> tuple[int, int]:
    """(video number, frame) in the blocks at the top left of a picture that was (width, height) before resizing."""
    height, width = pixels.shape[0] / size[1], pixels.shape[1] / size[0]
    bits = [
        pixels[int((row + 0.5) * block * height), int((column + 0.5) * block * width)].mean() > 127
        for row in range(2)
        for column in range(8)
    ]
    return divmod(sum(bit << (15 - place) for place, bit in enumerate(bits)), 1024)


def check_images(
    images: list[tuple[str, np.ndarray]], expected_images: list[list[Any]], *, is_square: bool = False
) -> None:
    """Pictures show the wanted [file, frame, second] in order; labels give the time to half a frame."""
    assert len(images) == len(expected_images)
    for (label, pixels), (file, frame, second) in zip(images, expected_images, strict=True):
        video = videos()[file]
        size = video["width"], video["height"]
        assert marker(pixels, size, video["marker_block"]) == (video["video"], frame)
        assert (pixels.shape[1], pixels.shape[0]) == ((448, 448) if is_square else size)
        times = re.findall(r"at (\d+\.\d+) s", label)
        half_frame = min(later - earlier for earlier, later in pairwise(video["pts"])) / 2
        assert len(times) == 1
        assert abs(float(times[0]) - second) <= half_frame, label


def images_sent(server: ScriptedServer) -> list[list[tuple[str, np.ndarray]]]:
    """Pictures of each user message of the last request."""
    request: Any = server.requests[-1]
    return [images_of(message) for message in request["messages"] if images_of(message)]


@pytest.mark.parametrize("case", CASES)
def test_status_verdict_and_number_of_requests(case: str, server: ScriptedServer, model: Model) -> None:
    right = conversation(case)["right"]
    prediction = run(case, server, model)
    assert len(server.requests) == len(right["steps"]) == len(prediction.turns)
    assert prediction.verdicts == right["verdict"]
    status = "media_error" if prediction.status == "failed" else "unparsed" if prediction.is_unparsed else "answered"
    assert status == right["status"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("image_size", ["keep", "published"])
def test_opening_frames(case: str, image_size: str, server: ScriptedServer, model: Model) -> None:
    right = conversation(case)["right"]
    run(case, server, model, image_size=image_size)
    if right["status"] == "media_error":
        assert not server.requests
        return
    start = right["start"]
    check_images(images_sent(server)[0], start["video1"] + start["video2"], is_square=image_size == "published")
    text = str(server.requests[0]["messages"][1]["content"])  # type: ignore[index]
    for number, key in enumerate(("video1", "video2"), start=1):
        for index in start["unreadable"][key]:
            assert f"video {number}, frame {index}" in text.partition("cannot be read")[2]


@pytest.mark.parametrize("case", CASES)
def test_results_of_the_tool(case: str, server: ScriptedServer, model: Model) -> None:
    steps = conversation(case)["right"]["steps"]
    prediction = run(case, server, model)
    pictures = images_sent(server)[1:] if server.requests else []
    for turn, step in zip(prediction.turns, steps, strict=True):
        if step["kind"] != "call":
            assert not any(result.ok for result in turn.results)
            assert not any(result.frames for result in turn.results)
            continue
        (result,) = turn.results
        assert result.ok
        expected_images = [picture for _, *pair in step["pairs"] for picture in pair]
        check_images(pictures.pop(0), expected_images)
        assert [(frame.video, frame.index) for frame in result.frames] == [
            (place % 2, frame) for place, (_, frame, _) in enumerate(expected_images)
        ]
        slots_of_text = re.findall(r"video [12], frame (\d+)", result.text)
        assert list(map(int, slots_of_text)) == [index for index, *_ in step["pairs"] for _ in (1, 2)]
        for reason, key in (
            ("do not exist", "out_of_range"),
            ("not shown", "over_limit"),
            ("cannot be read", "unreadable"),
            ("asked for more than once", "repeated"),
        ):
            listed_numbers = re.search(rf"{reason}: ([\d, -]+)", result.text)
            assert ([] if listed_numbers is None else json.loads(f"[{listed_numbers[1].strip()}]")) == step[key]
    assert not pictures


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_reply_is_corrected(case: str, server: ScriptedServer, model: Model) -> None:
    steps = conversation(case)["right"]["steps"]
    run(case, server, model)
    requests: Any = server.requests
    for number, step in enumerate(steps[:-1]):
        if step["kind"] != "correct":
            continue
        correction = str(requests[number + 1]["messages"][-1]["content"])
        if step.get("verdict_so_far"):
            assert all(name in correction for name, label in step["verdict_so_far"].items() if label is None)
        assert "error" in correction or "verdict" in correction
    if len(steps) == 6:
        assert "Give the verdict now" in str(requests[5]["messages"][-1]["content"])


@pytest.mark.parametrize("entry", expected()["replies"] if FOLDER.is_dir() else [])
def test_labels_of_replies(entry: dict[str, Any]) -> None:
    right = entry["right"]
    labels = right.get("verdict")
    if labels is None or "<tool_call>" in entry["reply"]:
        return
    assert read_labels(entry["reply"], tuple(labels)) == labels
    complete = labels if None not in labels.values() else None
    assert parse_verdict(entry["reply"], tuple(labels)) == complete


def frames_tool_schema(frames: PairFrames) -> dict[str, Any]:
    """JSON Schema of the argument of the tool."""
    parameters: Any = spec_of(frames.tool).parameters
    return parameters["properties"]["target_frames"]


@pytest.mark.parametrize("entry", expected()["dialects"]["calls_in_the_second_dialect"] if FOLDER.is_dir() else [])
def test_calls_in_the_second_dialect(entry: dict[str, Any]) -> None:
    pair = open_pair([FOLDER / "videos" / "cfr128.mp4", FOLDER / "videos" / "cfr300.mp4"])
    slots = entry["frames_in_concatenation"] // 2
    frames = PairFrames(videos=pair, slots=slots, numbering=CONCAT_NUMBERING)
    right = entry["right"]
    if right["correct"]:
        if not entry["target_frames"]:  # refused by the schema of the tool
            assert frames_tool_schema(frames)["minItems"] == 1
            return
        with pytest.raises(ValueError, match="exists"):
            frames.select(entry["target_frames"])
        return
    output = frames.select(entry["target_frames"])
    images = [part for part in output.parts if isinstance(part, ImagePart)]
    assert [image.label.partition(" at ")[0] for image in images] == [
        f"video {slot['video']}, frame {slot['number']}" for slot in right["shown"]
    ]
    for image, slot in zip(images, right["shown"], strict=True):
        total = pair[slot["video"] - 1].num_frames
        assert image.ref is not None
        assert (image.ref.video, image.ref.index) == (
            slot["video"] - 1,
            slot["slot"] * total // slots,
        )
    for reason, key in (("do not exist", "out_of_range"), ("not shown", "over_limit")):
        listed_numbers = re.search(rf"{reason}: ([\d, -]+)", output.text)
        assert ([] if listed_numbers is None else json.loads(f"[{listed_numbers[1].strip()}]")) == right[key]
    assert CONCAT_SLOTS * 2 == 96


def test_the_window_keeps_the_images_of_the_opening_and_of_the_latest_result(
    server: ScriptedServer, model: Model
) -> None:
    run("j08_six_turns_no_verdict", server, model, judge_rounds=1)
    requests: Any = server.requests
    counts = [sum(len(images_of(message)) for message in request["messages"]) for request in requests]
    assert counts == [8, 10, 10, 10, 10, 10]
    last = json.dumps(requests[5]["messages"])
    assert last.count("no longer shown") == 2 * 4
    run("j08_six_turns_no_verdict", server, model, judge_rounds=5)
    requests = server.requests
    assert sum(len(images_of(message)) for message in requests[5]["messages"]) == 8 + 2 * 5


def test_corrections_are_bounded(server: ScriptedServer, model: Model) -> None:
    prediction = run("j13_partial_verdict", server, model, judge_corrections=2)
    assert (len(prediction.turns), prediction.stop, prediction.verdicts) == (4, "invalid", None)
    assert "Give the verdict now" in prediction.turns[-1].prompt


def test_both_orders_see_the_videos_reversed_and_disagreement_is_a_tie(server: ScriptedServer, model: Model) -> None:
    prediction = run("j01_at_once", server, model, swap="both")
    assert len(server.requests) == 2
    first, second = (images_of(request["messages"][1]) for request in server.requests)  # type: ignore[index]
    start = conversation("j01_at_once")["right"]["start"]
    check_images(first, start["video1"] + start["video2"])
    check_images(second, start["video2"] + start["video1"])
    assert [label.partition(",")[0] for label, _ in second] == ["video 1"] * 4 + ["video 2"] * 4
    assert [frame.video for frame in prediction.turns[1].frames] == [1] * 4 + [0] * 4
    assert prediction.order_verdicts == (
        {"TA": 1, "MQ": 0, "VQ": 1, "OA": 1},
        {"TA": 2, "MQ": 0, "VQ": 2, "OA": 2},
    )
    assert prediction.verdicts == {"TA": 0, "MQ": 0, "VQ": 0, "OA": 0}
