"""Method `episode` against recorded conversations with expected results (oracles/agents/episode)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from benchmark.tests.scripted_server import ChatServer, images_of, running
from benchmark.tests.test_agent_oracles import marker

from evqa import datasets, methods, models
from evqa.agents import episode_clips, grounding, tag_actions
from evqa.agents.settings import AgentSettings, EpisodeSettings
from evqa.datasets.formats import prepare
from evqa.datasets.formats.tvqa import frame_numbers
from evqa.models.base import Models
from evqa.models.messages import Reply
from evqa.models.tool_dialects import MALFORMED, with_text_calls
from evqa.parsing import option_keys, replies
from evqa.parsing.action_tags import last_answer
from evqa.schema import Prediction, Sample

FOLDER = Path(__file__).parents[3] / "shared" / "oracles" / "agents" / "episode"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the oracle data of the agents")

EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text()) if FOLDER.is_dir() else {"evaluator": {}}
FILES = {
    "tvqa_val.jsonl": "tvqa",
    "tvqa_plus_val.json": "tvqa-plus",
    "LongTVQA_val.jsonl": "longtvqa",
    "LongTVQA_plus_val.json": "longtvqa-plus",
}
QUESTIONS = {
    question["case"]: (file, place)
    for file, part in EXPECTED["evaluator"].items()
    for place, question in enumerate(part["questions"])
}
SETTINGS = AgentSettings(episode=EpisodeSettings(actions="tags"))


class Team(ChatServer):
    """Server of three models, which are told apart by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: dict[str, list[str]] = {}
        self.requests: list[dict[str, Any]] = []

    def next_reply(self, request: dict[str, Any]) -> dict[str, object]:
        text = self.text_of_reply(request)
        return {"http": 500} if text.startswith("!500") else {"content": text}

    def text_of_reply(self, request: dict[str, Any]) -> str:
        role = str(request["model"])
        is_retry = bool(self.requests) and self.requests[-1]["messages"] == request["messages"]
        self.requests.append(request)
        if role == "vision":
            query = text_of(request)
            words = re.search(r"\[(.*?)\]", query)
            return "!500" if "!500" in query else f"I see the thing of {words[1] if words else 'it'}."
        script = self.scripts[role]
        reply = script[0]
        if reply.startswith("!500"):
            if role == "master" and is_retry:  # the retry succeeds
                del script[0]
                return script.pop(0)
            return reply
        del script[: len(script) > 1]
        return f"<clip>{reply}</clip>" if role == "grounding" and reply else reply


def text_of(request: dict[str, Any]) -> str:
    contents = [message["content"] for message in request["messages"]]
    pieces = [piece for content in contents if isinstance(content, list) for piece in content]
    texts = [content for content in contents if isinstance(content, str)]
    return "\n".join([*texts, *(piece["text"] for piece in pieces if piece["type"] == "text")])


class World:
    """Samples of the oracle, and a server that plays its scripts."""

    def __init__(self, folder: Path, server: Team) -> None:
        self.server = server
        self.samples: dict[str, list[Sample]] = {}
        for file, name in FILES.items():
            self.samples[file] = list(datasets.load(str(prepare(name, folder, f"{name}.jsonl").path)).samples)
        build = {
            role: models.build(
                "openai-compatible", base_url=server.url, model_id=role, rpm=None, tries=2, first_wait=0.01
            )
            for role in ("master", "grounding", "vision")
        }
        self.models = Models(build["master"], {role: build[role] for role in ("grounding", "vision")})

    def play(self, case: str, settings: AgentSettings = SETTINGS) -> tuple[Prediction, Sample, dict[str, Any]]:
        file, place = QUESTIONS[case]
        question = EXPECTED["evaluator"][file]["questions"][place]
        sample = self.samples[file][place]
        self.server.requests = []
        self.server.scripts = {
            "master": list(question["master_script"]),
            "grounding": [*question["grounder_script"]],
        }
        prediction = methods.predictor("episode", times=True, settings=settings)(self.models, sample)
        return prediction, sample, question


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("episode") / "data"
    shutil.copytree(FOLDER / "data", folder)
    with running(Team()) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVQA_SERVER_KEY", "key")
        yield World(folder, server)


def requests_to(world: World, role: str) -> list[dict[str, Any]]:
    return [request for request in world.server.requests if request["model"] == role]


def master_turns(prediction: Prediction) -> list[Any]:
    return [turn for turn in prediction.turns if turn.agent == "main"]


@pytest.mark.parametrize("case", QUESTIONS)
def test_answer_and_clips(world: World, case: str) -> None:
    prediction, sample, question = world.play(case)
    right = question["right"]
    assert prediction.status == "ok", prediction.error
    assert prediction.answer == (None if right["key"] is None else int(right["key"][1]))
    assert (prediction.answer == sample.answer) == right["correct_lenient"]
    last = master_turns(prediction)[-1].reply
    assert option_keys.is_exact_key(last, sample.answer or 0) == right["correct_strict"]
    assert list(dict.fromkeys(prediction.clips or ())) == right["clips_visited"]
    located = prediction.clips[0] if prediction.clips else None
    assert located == right["initial_clip"]
    assert (prediction.stop == "answered") == (right["end"] == "answered")


@pytest.mark.parametrize("case", QUESTIONS)
def test_actions_turn_by_turn(world: World, case: str) -> None:
    prediction, _, question = world.play(case)
    turns = master_turns(prediction)
    assert len(turns) == len(question["right"]["turns"])
    for place, (turn, right) in enumerate(zip(turns, question["right"]["turns"], strict=True)):
        names = [call.name for call in turn.calls]
        actions = {right["action"], *(variant.get("action") for variant in right.get("also_fine", ()))}
        if right["action"] == "look":
            assert names == ["visual_query"]
            assert json.loads(turn.calls[0].arguments) == {"question": right["query"]}
            is_failed = "outcome" in right or place == SETTINGS.episode.episode_turns - 1
            assert turn.results[0].ok != is_failed
        elif names == ["request_grounding"]:
            assert "relocate" in actions
            assert turn.results[0].ok == ("failed" not in right)
            assert right.get("failed", "") in turn.results[0].text
        elif right["action"] == "answer":
            assert not names
            assert last_answer(turn.reply) == right["text"]
        else:
            assert "invalid" in actions
            assert names in ([], [MALFORMED])
            assert turn.answer_fields == () or not names


@pytest.mark.parametrize("case", QUESTIONS)
def test_grounding_sees_every_clip_of_the_episode(world: World, case: str) -> None:
    _, _, question = world.play(case)
    right = question["right"]
    clips = right["clips_of_the_episode"]
    relocations = [turn for turn in right["turns"] if turn["action"] == "relocate"]
    distinct: list[dict[str, Any]] = []
    for request in requests_to(world, "grounding"):
        if not distinct or distinct[-1]["messages"] != request["messages"]:
            distinct.append(request)
    assert len(distinct) == 1 + len(relocations)
    for request, relocation in zip(distinct, [None, *relocations], strict=True):
        text = text_of(request)
        places = [text.index(f"<{clip}>") for clip in clips]
        assert places == sorted(places)
        assert set(re.findall(r"<(\w+_clip_\d+)>", text)) == set(clips)
        if relocation is not None:
            assert f"The clip {relocation['told_to_avoid']} may not contain the answer" in text


@pytest.mark.parametrize("case", QUESTIONS)
def test_vision_gets_frames_of_the_current_clip_and_their_true_number(world: World, case: str) -> None:
    prediction, _, question = world.play(case)
    expected_looks = [turn for turn in question["right"]["turns"] if turn["action"] == "look"][
        : SETTINGS.episode.episode_turns - 1
    ]
    requests = [request for request in requests_to(world, "vision") if "!500" not in text_of(request)]
    assert len(requests) == sum("outcome" not in look for look in expected_looks)
    for request, look in zip(requests, [look for look in expected_looks if "outcome" not in look], strict=True):
        images = images_of(request["messages"][-1])
        assert len(images) == min(look["frames_available"], 15)
        assert f"The {len(images)} images" in text_of(request)
        numbers = [marker(pixels) for _, pixels in images]
        assert numbers == [int(re.search(r"frame (\d+)", label)[1]) for label, _ in images]  # type: ignore[index]
        assert numbers == sorted(set(numbers))
        assert look["query"] in text_of(request)
    vision_turns = [turn for turn in prediction.turns if turn.agent == "vision"]
    assert all(len(turn.frames) <= 15 for turn in vision_turns)


@pytest.mark.parametrize("case", QUESTIONS)
def test_the_conversation_of_the_master_only_grows(world: World, case: str) -> None:
    world.play(case)
    requests = requests_to(world, "master")
    for before, after in pairwise(requests):
        assert after["messages"][: len(before["messages"])] == before["messages"]
    scripts = [message["content"] for message in requests[-1]["messages"] if message["role"] == "assistant"]
    file, place = QUESTIONS[case]
    script = [turn for turn in EXPECTED["evaluator"][file]["questions"][place]["master_script"] if turn != "!500"]
    assert scripts == script[: len(scripts)]
    is_last = ["This is the last turn" in text_of(request) for request in requests]
    assert is_last == [number == SETTINGS.episode.episode_turns - 1 for number in range(len(requests))] or case == "l2"


@pytest.mark.parametrize("case", QUESTIONS)
def test_no_prompt_depends_on_the_ground_truth(world: World, case: str) -> None:
    _, sample, _ = world.play(case)
    prompts = [request["messages"] for request in world.server.requests]
    file, place = QUESTIONS[case]
    changed = sample.replace(
        answer=((sample.answer or 0) + 1) % 5, spans=None, boxes=None, labelled_boxes=(), evidence_clips=None
    )
    world.samples[file][place] = changed
    try:
        world.play(case)
        assert [request["messages"] for request in world.server.requests] == prompts
    finally:
        world.samples[file][place] = sample
    text = "\n".join(text_of(request) for request in world.server.requests)
    for tube in sample.labelled_boxes:
        for box in tube.boxes.values():
            assert str([box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0]) not in text


@pytest.mark.parametrize("file", EXPECTED["evaluator"])
def test_sums_of_a_file(world: World, file: str) -> None:
    part = EXPECTED["evaluator"][file]
    played = [world.play(question["case"]) for question in part["questions"]]
    right = part["right"]
    assert len(played) == right["n_total"]
    assert sum(prediction.answer == sample.answer for prediction, sample, _ in played) == right["correct_lenient"]
    assert sum(prediction.answer is not None for prediction, _, _ in played) == right["answered"]
    final = sum((prediction.clips or ("",))[-1:] == sample.evidence_clips for prediction, sample, _ in played)
    assert final == right["final_clip_right"]
    names = [call.name for prediction, _, _ in played for turn in prediction.turns for call in turn.calls]
    assert names.count("visual_query") == right["looks"]
    assert names.count("request_grounding") == right["relocations"]


# Single texts


@pytest.mark.parametrize("number", range(len(EXPECTED.get("actions", ()))))
def test_actions(number: int) -> None:
    entry = EXPECTED["actions"][number]
    reply = with_text_calls(Reply(entry["turn"]), tag_actions.TAGS)
    right = entry["right"]
    accepted = {right["action"], *(variant.get("action") for variant in right.get("also_fine", ()))}
    if reply.calls:
        name = reply.calls[0].name
        action = {"visual_query": "look", "request_grounding": "relocate"}.get(name, "invalid")
        content = json.loads(reply.calls[0].arguments).get("question") if name == "visual_query" else None
    else:
        content = last_answer(reply.text)
        action = "invalid" if content is None else "answer"
    assert action in accepted
    if action == right["action"] and "content" in right:
        assert content == right["content"]


@pytest.mark.parametrize("number", range(len(EXPECTED.get("grounder_replies", ()))))
def test_replies_of_grounders(number: int) -> None:
    entry = EXPECTED["grounder_replies"][number]
    located = grounding.parse_clip(entry["reply"], entry["episode_clips"])
    clip = None if located.place is None else entry["episode_clips"][located.place]
    assert clip == entry["right"]
    assert bool(located.failure) == (clip is None)


@pytest.mark.parametrize("number", range(len(EXPECTED.get("answers", ()))))
def test_answers(number: int) -> None:
    entry = EXPECTED["answers"][number]
    text = f"<reasoning>a1 or a3</reasoning><answer>{entry['answer']}</answer>"
    key = replies.parse(text, ("answer",), tuple(entry["options"].values())).answer
    acceptable = [entry["right"]["key"], *(variant["key"] for variant in entry["right"].get("also_fine", ()))]
    assert (None if key is None else f"a{key}") in acceptable
    strict = next((f"a{index}" for index in range(5) if option_keys.is_exact_key(text, index)), None)
    assert strict == entry["right"]["strict"]


@pytest.mark.parametrize("number", range(len(EXPECTED.get("frames", ()))))
def test_frame_plan(world: World, number: int) -> None:
    entry = EXPECTED["frames"][number]
    sample = next(
        sample
        for samples in world.samples.values()
        for sample in samples
        if entry["clip"] in {clip.id for clip in sample.clips}
    )
    clip = next(clip for clip in sample.clips if clip.id == entry["clip"])
    assert clip.duration == pytest.approx(entry["seconds"])
    frames = episode_clips.read_frames(sample, clip, 15)
    numbers = [frame.number for frame in frames]
    total = entry["frames_in_folder"]
    assert len(numbers) == min(15, total)
    assert not set(numbers) & set(entry["missing"])
    assert numbers[0] <= total / 15
    assert numbers[-1] > total - total / 15
    gaps = {second - first for first, second in pairwise(numbers)}
    assert max(gaps) - min(gaps) <= (1 if not entry["missing"] else 3)
    for frame in frames:
        assert frame.second == pytest.approx((frame.number - 1) / 3)
        assert marker(frame.image) == frame.number


# Single turns of the published trainer


@pytest.mark.parametrize("number", range(len(EXPECTED.get("trainer", {"turns": ()})["turns"])))
def test_a_turn_of_the_trainer_is_one_of_evaluation(world: World, number: int) -> None:
    entry = EXPECTED["trainer"]["turns"][number]
    right = entry["right"]
    sample = sample_with(world, entry["clip"])
    world.server.requests = []
    world.server.scripts = {
        "master": [entry["turn"], "<reasoning>enough</reasoning><answer>a0</answer>"],
        "grounding": [entry["clip"], entry["grounder_says"] or ""],
    }
    prediction = methods.predictor("episode", times=True, settings=SETTINGS)(world.models, sample)
    turns = master_turns(prediction)
    assert len(turns) == (1 if right["episode"] == "ends" else 2)
    assert (prediction.clips or ("",))[-1] == right["clip_afterwards"]
    failures = {"the failure is named": "failed", "the same clip again is named": grounding.SAME}
    for words, reason in failures.items():
        if words in right["episode"]:
            assert not turns[0].results[0].ok
            assert reason in turns[0].results[0].text
            assert reason in turns[1].prompt
    if right["episode"] == "goes on":
        assert turns[0].results[0].ok
        assert turns[0].results[0].text in turns[1].prompt  # no observation is cut
    if right["episode"] == "goes on after a correction":
        assert (turns[0].calls, "Write exactly one action" in turns[1].prompt) == ((), True)


def sample_with(world: World, clip: str) -> Sample:
    samples = [sample for samples in world.samples.values() for sample in samples]
    return next(sample for sample in samples if clip in {ref.id for ref in sample.clips})


# The baseline without agents


@pytest.mark.parametrize(
    "number", range(len(EXPECTED.get("baseline_of_the_seed_readme", {}).get("original", {}).get("requests", ())))
)
def test_the_baseline_shows_middle_frames_and_subtitles_of_the_episode(world: World, number: int) -> None:
    entry = EXPECTED["baseline_of_the_seed_readme"]["original"]["requests"][number]
    file, place = QUESTIONS[entry["question"]]
    sample = world.samples[file][place]
    world.server.requests = []
    world.server.scripts = {"master": [entry["reply"]]}
    team = Models(world.models.main)
    prediction = methods.predictor("episode-frames", times=True, settings=SETTINGS)(team, sample)
    assert prediction.status == "ok", prediction.error
    request = world.server.requests[0]
    assert re.findall(r"<(\w+_clip_\d+)>", text_of(request)) == [clip.id for clip in sample.clips]
    assert [clip.id for clip in sample.clips] == entry["clips_in_prompt"]
    images = images_of(request["messages"][-1])
    expected = [
        episode_clips.frame_plan(numbers, 1)[0] for clip in sample.clips if (numbers := frame_numbers(clip.path))
    ]
    assert [marker(pixels) for _, pixels in images] == expected
    assert f"The {len(expected)} images" in text_of(request)
    answer = last_answer(entry["reply"])
    assert prediction.answer == (None if answer is None else int(answer[1]))
