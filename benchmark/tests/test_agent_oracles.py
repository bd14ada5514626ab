"""Frame-retrieval agent against recorded conversations with expected results (oracles/agents/retrieve)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark.tests.scripted_server import ScriptedServer, images_of, scripted_server

from evqa import methods, models
from evqa.agents.settings import AgentSettings
from evqa.models.base import Model, Models
from evqa.parsing import replies
from evqa.schema import LETTERS, Prediction, Sample

FOLDER = Path(__file__).parents[3] / "shared" / "oracles" / "agents" / "retrieve"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the oracle data of the agents")


@cache
def expected() -> dict[str, Any]:
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@cache
def rows() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "data" / "lvbench_rows.json").read_text(encoding="utf-8"))


def sample_of(row: dict[str, Any]) -> Sample:
    question, *options = re.split(r"\n\([A-D]\) ", row["question"])
    minutes = row["video_info"].get("duration_minutes")
    return Sample(
        id=row.get("uid", "without-uid"),
        video_id=row["key"],
        video=FOLDER / "data" / "frames" / row["key"],
        question=question,
        options=tuple(options),
        answer=LETTERS.index(row["answer"]),
        duration=None if minutes is None else minutes * 60,
    )


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
        return models.build("openai-compatible", base_url=server.url, model_id="scripted", rpm=None)


SETTINGS = AgentSettings(encoder=str(FOLDER / "data" / "siglip_tiny"), embeddings=FOLDER / "data" / "embeddings")


def run(case: str, server: ScriptedServer, model: Model) -> Prediction:
    entry = conversation(case)
    server.play(entry["script"])
    return methods.predictor("retrieve", times=True, settings=SETTINGS)(Models(model), sample_of(rows()[entry["row"]]))


@pytest.mark.parametrize("case", CASES)
def test_status_answer_and_number_of_requests(case: str, server: ScriptedServer, model: Model) -> None:
    right = conversation(case)["right"]
    prediction = run(case, server, model)
    assert len(server.requests) == right["http_attempts"]
    assert prediction.status == ("failed" if right["status"] == "api_error" else "ok")
    assert (None if prediction.answer is None else LETTERS[prediction.answer]) == right["answer"]
    row = rows()[conversation(case)["row"]]
    assert (prediction.answer == LETTERS.index(row["answer"])) == right["correct"]


@pytest.mark.parametrize("case", CASES)
def test_results_of_tools(case: str, server: ScriptedServer, model: Model) -> None:
    right = conversation(case)["right"]
    prediction = run(case, server, model)
    turns = [turn for turn in prediction.turns if turn.calls]
    wanted = [turn for turn in right["turns"] if "results" in turn]
    assert len(turns) == len(wanted)
    ids = grid_ids(case)
    for turn, wanted_turn in zip(turns, wanted, strict=True):
        assert len(turn.results) == len(wanted_turn["results"])
        for result, wanted_result in zip(turn.results, wanted_turn["results"], strict=True):
            acceptable = [wanted_result, *(wanted_result | other for other in wanted_result.get("also_fine", ()))]
            assert any(fits(result, option, ids) for option in acceptable), (result, wanted_result)


def grid_ids(case: str) -> list[int]:
    """Ids of the frames of the case's video in order of their frame index."""
    folder = FOLDER / "data" / "frames" / conversation(case)["key"]
    return sorted(int(path.stem[6:]) for path in folder.glob("frame_*.jpg"))


def fits(result: Any, wanted: dict[str, Any], ids: list[int]) -> bool:
    if result.ok != wanted["ok"] or result.call != wanted["call"]:
        return False
    if not wanted["ok"]:
        return not result.frames and "error" in result.text
    shown = [ids[frame.index] for frame in result.frames]
    named = [wanted.get("unknown", []), wanted.get("over_limit", [])]
    numbers = {int(number) for number in re.findall(r"-?\d+", result.text)}
    if wanted.get("scores"):
        scores = dict(re.findall(r"frame (\d+) \((\d+\.\d+)\)", result.text))
        if any(abs(float(scores[frame]) - score) > 6e-3 for frame, score in wanted["scores"].items()):
            return False
    return shown == wanted["frames"] and all(number in numbers for group in named for number in group)


@pytest.mark.parametrize("case", CASES)
def test_images_show_the_frames_that_their_labels_name(case: str, server: ScriptedServer, model: Model) -> None:
    right = conversation(case)["right"]
    prediction = run(case, server, model)
    if prediction.status == "failed":
        return
    messages = [message for message in longest_request(server)["messages"] if images_of(message)]
    wanted = [turn["images"] for turn in right["turns"] if turn.get("images")]
    if any(result.get("also_fine") for turn in right["turns"] for result in turn.get("results", ())):
        wanted = wanted[: len(messages)]
    assert len(messages) == len(wanted)
    for message, wanted_images in zip(messages, wanted, strict=True):
        images = images_of(message)
        assert [marker(pixels) for _, pixels in images] == [image["id"] for image in wanted_images]
        for (label, _), image in zip(images, wanted_images, strict=True):
            assert re.search(rf"\bframe {image['id']}\b", label)
            seconds = re.findall(r"at (\d+\.\d) s", label)
            assert bool(seconds) == (image["t"] is not None)
            if seconds:
                assert abs(float(seconds[0]) - image["t"]) <= 1.0


def longest_request(server: ScriptedServer) -> Any:
    return max(server.requests, key=lambda request: len(request["messages"]))  # type: ignore[arg-type]


def marker(pixels: np.ndarray) -> int:
    """Number in the blocks at the top left, two rows of eight, most significant first; without the video's number."""
    for block in (8, 16):
        bits = [
            pixels[row * block + 2 : row * block + block - 2, column * block + 2 : column * block + block - 2].mean()
            for row in range(2)
            for column in range(8)
        ]
        if all(value < 60 or value > 195 for value in bits):
            return int("".join("1" if value > 127 else "0" for value in bits), 2) % 1024
    raise AssertionError("the picture has no marker")


@pytest.mark.parametrize("case", CASES)
def test_order_of_messages(case: str, server: ScriptedServer, model: Model) -> None:
    right = conversation(case)["right"]
    prediction = run(case, server, model)
    roles = [message["role"] for message in longest_request(server)["messages"]]
    if prediction.status == "ok":
        roles.append("assistant")
    wanted = right["message_order"]
    if any("correction" in turn for turn in right["turns"]):  # an empty reply may be left out
        wanted = [*wanted[:2], *wanted[4:]]
    if case == "d19_ids_not_a_list":
        wanted = [*wanted[:4], *wanted[5:]]  # the call is refused, so that no image follows
    assert [role for place, role in enumerate(roles) if (role, roles[place - 1]) != ("user", "user")] == wanted


@pytest.mark.parametrize("case", CASES)
def test_the_opening_states_ids_duration_and_tools(case: str, server: ScriptedServer, model: Model) -> None:
    opening = conversation(case)["right"]["opening"]
    run(case, server, model)
    request: Any = server.requests[0]
    text = str(request["messages"][1]["content"])
    assert f"{opening['frames']} frames with ids from {opening['first_id']} to {opening['last_id']}" in text
    if opening["id_step"] > 1:
        assert f"in steps of {opening['id_step']}" in text
    seconds = opening["seconds"]
    assert (f"lasts {seconds:.1f} seconds" if seconds is not None else "not known") in text
    assert [tool["function"]["name"] for tool in request["tools"]] == opening["tools"]


@pytest.mark.parametrize("case", CASES)
def test_the_record_holds_the_evidence(case: str, server: ScriptedServer, model: Model) -> None:
    right = conversation(case)["right"]
    prediction = run(case, server, model)
    refs = {frame.index: frame for turn in prediction.turns for result in turn.results for frame in result.frames}
    ids = grid_ids(case)
    if not any(result.get("also_fine") for turn in right["turns"] for result in turn.get("results", ())):
        assert sorted(ids[index] for index in refs) == right["evidence_frames"]
        for index, wanted in zip(sorted(refs), right["evidence_seconds"], strict=True):
            second = refs[index].second
            assert (second is None) == (wanted is None)
            assert wanted is None or (second is not None and abs(second - wanted) <= 1.0)
    assert "base64" not in prediction.model_dump_json()


def test_accuracy_counts_every_row(server: ScriptedServer, model: Model) -> None:
    wanted = expected()["metrics"]["right"]
    predictions = {case: run(case, server, model) for case in CASES}
    golds = {case: LETTERS.index(rows()[conversation(case)["row"]]["answer"]) for case in CASES}
    correct = sum(predictions[case].answer == golds[case] for case in CASES)
    answered = sum(prediction.answer is not None for prediction in predictions.values())
    assert (len(predictions), answered, correct) == (wanted["n_total"], wanted["n_answered"], wanted["n_correct"])
    assert correct / len(predictions) == pytest.approx(wanted["accuracy_all"])
    assert sum(prediction.status == "failed" for prediction in predictions.values()) == wanted["n_api_error"]


@pytest.mark.parametrize("number", range(len(expected()["answers"]) if FOLDER.is_dir() else 0))
def test_answers_in_words(number: int) -> None:
    entry = expected()["answers"][number]
    options = tuple(expected()["answers_option_texts"])
    answer = replies.parse(entry["reply"] or "", ("answer",), options).answer
    letter = None if answer is None else LETTERS[answer]
    assert letter in [entry["right"]["answer"], *entry["right"].get("also_fine", [])]
