"""Frame-retrieval agent against recorded conversations with expected results (oracles/agents/retrieve)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from benchmark.tests.scripted_server import ScriptedServer, images_of, scripted_server

from evqa import methods, models
from evqa.agents.settings import AgentSettings
from evqa.datasets.formats import lvbench
from evqa.files.jsonl import BadLine
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


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """The rows as samples, by the reader of the published files."""
    folder = tmp_path_factory.mktemp("lvbench")
    shutil.copy(FOLDER / "data" / "lvbench_rows.json", folder)
    shutil.copytree(FOLDER / "data" / "frames", folder / "frames")
    rejected: list[BadLine] = []
    samples = list(lvbench.samples(folder, rejected))
    assert [entry.reason for entry in rejected] == ["left out, duration: dev-022: duration_minutes is missing"]
    assert len({sample.id for sample in samples}) == len(rows())
    return [sample.model_copy(update={"video": folder / sample.video}) for sample in samples]


CASES = [entry["case"] for entry in expected()["conversations"]] if FOLDER.is_dir() else []


def conversation(case: str) -> dict[str, Any]:
    return next(entry for entry in expected()["conversations"] if entry["case"] == case)


SETTINGS = AgentSettings(encoder=str(FOLDER / "data" / "siglip_tiny"), embeddings=FOLDER / "data" / "embeddings")


class PublishedAgent(NamedTuple):
    """The method `retrieve` with a model behind a server that plays the recorded replies."""

    server: ScriptedServer
    model: Model
    samples: list[Sample]

    def run(self, case: str) -> Prediction:
        """The prediction for a case."""
        entry = conversation(case)
        self.server.play(entry["script"])
        predict = methods.predictor("retrieve", times=True, settings=SETTINGS)
        return predict(Models(self.model), self.samples[entry["row"]])

    def longest_request(self) -> Any:
        """The request with the most messages."""
        return max(self.server.requests, key=lambda request: len(request["messages"]))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def agent(samples: list[Sample]) -> Iterator[PublishedAgent]:
    with scripted_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVQA_SERVER_KEY", "key")
        model = models.build("openai-compatible", base_url=server.url, model_id="scripted", rpm=None)
        yield PublishedAgent(server, model, samples)


@pytest.mark.parametrize("case", CASES)
def test_status_answer_and_number_of_requests(case: str, agent: PublishedAgent) -> None:
    right = conversation(case)["right"]
    prediction = agent.run(case)
    assert len(agent.server.requests) == right["http_attempts"]
    assert prediction.status == ("failed" if right["status"] == "api_error" else "ok")
    assert (None if prediction.answer is None else LETTERS[prediction.answer]) == right["answer"]
    row = rows()[conversation(case)["row"]]
    assert (prediction.answer == LETTERS.index(row["answer"])) == right["correct"]


@pytest.mark.parametrize("case", CASES)
def test_results_of_tools(case: str, agent: PublishedAgent) -> None:
    right = conversation(case)["right"]
    prediction = agent.run(case)
    turns = [turn for turn in prediction.turns if turn.calls]
    reference = [turn for turn in right["turns"] if "results" in turn]
    assert len(turns) == len(reference)
    ids = grid_ids(case)
    for turn, reference_turn in zip(turns, reference, strict=True):
        assert len(turn.results) == len(reference_turn["results"])
        for result, reference_result in zip(turn.results, reference_turn["results"], strict=True):
            acceptable = [
                reference_result,
                *(reference_result | variant for variant in reference_result.get("also_fine", ())),
            ]
            assert any(fits(result, option, ids) for option in acceptable), (result, reference_result)


def grid_ids(case: str) -> list[int]:
    """Ids of the frames of the case's video in order of their frame index."""
    folder = FOLDER / "data" / "frames" / conversation(case)["key"]
    return sorted(int(path.stem[6:]) for path in folder.glob("frame_*.jpg"))


def fits(result: Any, reference: dict[str, Any], ids: list[int]) -> bool:
    if result.ok != reference["ok"] or result.call != reference["call"]:
        return False
    if not reference["ok"]:
        return not result.frames and "error" in result.text
    frame_ids = [ids[frame.index] for frame in result.frames]
    numbers_to_name = [reference.get("unknown", []), reference.get("over_limit", [])]
    numbers = {int(number) for number in re.findall(r"-?\d+", result.text)}
    if reference.get("scores"):
        scores = dict(re.findall(r"frame (\d+) \((\d+\.\d+)\)", result.text))
        if any(abs(float(scores[frame]) - score) > 6e-3 for frame, score in reference["scores"].items()):
            return False
    return frame_ids == reference["frames"] and all(number in numbers for group in numbers_to_name for number in group)


@pytest.mark.parametrize("case", CASES)
def test_images_show_the_frames_that_their_labels_name(case: str, agent: PublishedAgent) -> None:
    right = conversation(case)["right"]
    prediction = agent.run(case)
    if prediction.status == "failed":
        return
    messages = [message for message in agent.longest_request()["messages"] if images_of(message)]
    reference = [turn["images"] for turn in right["turns"] if turn.get("images")]
    if any(result.get("also_fine") for turn in right["turns"] for result in turn.get("results", ())):
        reference = reference[: len(messages)]
    assert len(messages) == len(reference)
    for message, reference_images in zip(messages, reference, strict=True):
        images = images_of(message)
        assert [marker(pixels) for _, pixels in images] == [image["id"] for image in reference_images]
        for (label, _), image in zip(images, reference_images, strict=True):
            assert re.search(rf"\bframe {image['id']}\b", label)
            seconds = re.findall(r"at (\d+\.\d) s", label)
            assert bool(seconds) == (image["t"] is not None)
            if seconds:
                assert abs(float(seconds[0]) - image["t"]) <= 1.0


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
def test_order_of_messages(case: str, agent: PublishedAgent) -> None:
    right = conversation(case)["right"]
    prediction = agent.run(case)
    roles = [message["role"] for message in agent.longest_request()["messages"]]
    if prediction.status == "ok":
        roles.append("assistant")
    reference = right["message_order"]
    if any("correction" in turn for turn in right["turns"]):  # an empty reply may be left out
        reference = [*reference[:2], *reference[4:]]
    if case == "d19_ids_not_a_list":
        reference = [*reference[:4], *reference[5:]]  # the call is refused, so that no image follows
    assert [role for place, role in enumerate(roles) if (role, roles[place - 1]) != ("user", "user")] == reference


@pytest.mark.parametrize("case", CASES)
def test_the_opening_states_ids_duration_and_tools(case: str, agent: PublishedAgent) -> None:
    opening = conversation(case)["right"]["opening"]
    agent.run(case)
    request: Any = agent.server.requests[0]
    text = str(request["messages"][1]["content"])
    assert f"{opening['frames']} frames with ids from {opening['first_id']} to {opening['last_id']}" in text
    if opening["id_step"] > 1:
        assert f"in steps of {opening['id_step']}" in text
    seconds = opening["seconds"]
    assert (f"lasts {seconds:.1f} seconds" if seconds is not None else "not known") in text
    assert [tool["function"]["name"] for tool in request["tools"]] == opening["tools"]


@pytest.mark.parametrize("case", CASES)
def test_the_record_holds_the_evidence(case: str, agent: PublishedAgent) -> None:
    right = conversation(case)["right"]
    prediction = agent.run(case)
    refs = {frame.index: frame for turn in prediction.turns for result in turn.results for frame in result.frames}
    ids = grid_ids(case)
    if not any(result.get("also_fine") for turn in right["turns"] for result in turn.get("results", ())):
        assert sorted(ids[index] for index in refs) == right["evidence_frames"]
        for index, reference in zip(sorted(refs), right["evidence_seconds"], strict=True):
            second = refs[index].second
            assert (second is None) == (reference is None)
            assert reference is None or (second is not None and abs(second - reference) <= 1.0)
    assert "base64" not in prediction.model_dump_json()


def test_accuracy_counts_every_row(agent: PublishedAgent) -> None:
    reference = expected()["metrics"]["right"]
    predictions = {case: agent.run(case) for case in CASES}
    golds = {case: LETTERS.index(rows()[conversation(case)["row"]]["answer"]) for case in CASES}
    correct = sum(predictions[case].answer == golds[case] for case in CASES)
    answered = sum(prediction.answer is not None for prediction in predictions.values())
    assert (len(predictions), answered, correct) == (
        reference["n_total"],
        reference["n_answered"],
        reference["n_correct"],
    )
    assert correct / len(predictions) == pytest.approx(reference["accuracy_all"])
    assert sum(prediction.status == "failed" for prediction in predictions.values()) == reference["n_api_error"]


@pytest.mark.parametrize("number", range(len(expected()["answers"]) if FOLDER.is_dir() else 0))
def test_answers_in_words(number: int) -> None:
    entry = expected()["answers"][number]
    options = tuple(expected()["answers_option_texts"])
    answer = replies.parse(entry["reply"] or "", ("answer",), options).answer
    letter = None if answer is None else LETTERS[answer]
    assert letter in [entry["right"]["answer"], *entry["right"].get("also_fine", [])]
