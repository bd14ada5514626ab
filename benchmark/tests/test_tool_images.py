"""Images in tool results: their transport, and the check at the start of a run, by a real server that reads pixels."""

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_api_bodies import server, shared_server
from test_api_models import KEY, FaultServer, clip, compatible, gemini, write_dataset

from evqa import datasets, media, models
from evqa.agents import frame_images
from evqa.methods.chat_session import ChatSession
from evqa.models import canary
from evqa.models.base import Model, Models
from evqa.models.frame_policy import FramePolicy, JpegCache, jpeg_of
from evqa.models.messages import ImagePart, Message, ToolSpec
from evqa.models.tool_images import NOT_SHOWN, place_tool_images
from evqa.retrieval.frame_grid import FrameGrid, frame_grid
from evqa.runs import image_checks, merge, run_folder, runner, thread_executor
from evqa.runs.shards import Selection, Shard
from evqa.schema import ImageCheck, Prediction, Run, Sample, ToolCall

pytest.importorskip("openai")
pytest.importorskip("google.genai")
__all__ = ["clip", "server", "shared_server"]

FRAME = np.full((16, 24, 3), 200, dtype=np.uint8)
TOOL = ToolSpec("look", "Look.", {"type": "object", "properties": {"second": {"type": "number"}}})
CALL = ToolCall(id="c1", name="look", arguments='{"second": 2.5}')


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "EVQA_SERVER_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, KEY)


@pytest.fixture(autouse=True)
def seeing(shared_server: FaultServer) -> None:
    images(shared_server, "see")


def images(server: FaultServer, policy: str) -> None:
    body = json.dumps({"policy": policy}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/images", body)) as reply:
        reply.read()


def bodies(server: FaultServer, start: int = 0) -> list[dict]:
    return [request["body"] for request in server.stats()["requests"]][start:]


def shape(body: dict) -> list[tuple[str, list[str]]]:
    """(role, types of content parts) of each message."""
    contents = [(message["role"], message["content"]) for message in body["messages"]]
    return [
        (role, [part["type"] for part in content] if isinstance(content, list) else ["text"] if content else [])
        for role, content in contents
    ]


def look_then_answer(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """A method that shows a frame by a tool result."""
    with ChatSession(models, sample, times=times, opening=()) as session:
        session.messages += [Message("user", (sample.question,)), Message("assistant", (), calls=(CALL,))]
        session.generate([Message("tool", ("One frame:", ImagePart(image=FRAME, second=2.5)), call_id=CALL.id)])
    return session.prediction()


def predict(
    model: Model, data: datasets.Dataset, folder: Path, *, limit: int | None = None, **options: Any
) -> runner.RunSummary:
    executor = thread_executor.ThreadExecutor(Models(model))
    selection = options.pop("selection", Selection(limit=limit))
    return runner.run_samples(
        executor,
        look_then_answer,
        data,
        selection.folder(folder),
        runner.identity_of(executor, "look", data),
        selection=selection,
        progress=False,
        image_roles=("main",),
        **options,
    )


def checks(folder: Path) -> tuple[ImageCheck, ...]:
    return run_folder.read_run_info(folder).image_checks


@pytest.fixture
def data(tmp_path: Path, clip: Path) -> datasets.Dataset:
    return datasets.load(str(write_dataset(tmp_path / "data", clip, 4)))


IN_TOOL = [("user", ["text"]), ("assistant", []), ("tool", ["text", "image_url"])]
IN_USER = [("user", ["text"]), ("assistant", []), ("tool", ["text"]), ("user", ["image_url"])]


@pytest.mark.parametrize(
    ("policy", "outcomes"),
    [
        ("see", [("tool", "ok")]),
        ("reject-tool", [("tool", "rejected"), ("user", "ok")]),
        ("ignore-tool", [("tool", "ignored"), ("user", "ok")]),
    ],
)
def test_a_run_takes_the_first_transport_that_is_seen(
    server: FaultServer, data: datasets.Dataset, tmp_path: Path, policy: str, outcomes: list[tuple[str, str]]
) -> None:
    images(server, policy)
    start = len(bodies(server))
    summary = predict(compatible(server.url, price_in=1.0, price_out=2.0), data, tmp_path / "run", limit=1)
    sent = bodies(server, start)
    assert [shape(body) for body in sent[:-1]] == [IN_TOOL, IN_USER][: len(outcomes)]
    assert all(body["tools"][0]["function"]["name"] == "show_image" for body in sent[:-1])
    (check,) = checks(tmp_path / "run")
    assert [(attempt.transport, attempt.outcome) for attempt in check.attempts] == outcomes
    assert (check.role, check.model, check.outcome, check.transport) == (
        *("main", "openai-compatible", "ok"),
        outcomes[-1][0],
    )
    assert not any(check.code in json.dumps(body) for body in sent), "the code is in pixels alone"
    marked = {"tool": ("tool", ["text", "text", "image_url"]), "user": ("user", ["text", "image_url"])}
    assert shape(sent[-1])[-1] == marked[check.transport]
    replies = sum(attempt.outcome != "rejected" for attempt in check.attempts) + 1
    usage = run_folder.read_run_info(tmp_path / "run").usage
    assert (usage.num_replies, usage.input_tokens, usage.output_tokens) == (replies, 120 * replies, 30 * replies)
    assert summary.usage == usage
    assert usage.cost == pytest.approx(replies * 180e-6)


@pytest.mark.parametrize(
    ("policy", "outcome", "words"),
    [
        ("reject", "rejected", "Image URLs are only allowed for messages with role 'user'"),
        ("ignore", "ignored", "the reply lacks the characters (replied 'I see no image.')"),
        ("silent", "error", "--canary off"),
    ],
)
def test_a_run_whose_model_sees_no_image_is_stopped_before_any_sample(
    server: FaultServer, data: datasets.Dataset, tmp_path: Path, policy: str, outcome: str, words: str
) -> None:
    images(server, policy)
    model = compatible(server.url, timeout=0.5 if policy == "silent" else 60.0, tries=1)
    with pytest.raises(ValueError, match="the image") as error:
        predict(model, data, tmp_path / "run")
    message = str(error.value)
    assert words in message
    if policy != "silent":
        assert "openai-compatible does not see the images of tool results" in message
        assert "--tool-images text" in message
    (check,) = checks(tmp_path / "run")
    assert check.code in message
    num_attempts = 1 if policy == "silent" else 2  # a server that does not respond is asked once
    assert (check.outcome, [attempt.outcome for attempt in check.attempts]) == ("failed", [outcome] * num_attempts)
    assert not (tmp_path / "run" / run_folder.PREDICTIONS).exists()
    images(server, "see")
    assert predict(compatible(server.url), data, tmp_path / "run").num_ok == 4
    usage = run_folder.read_run_info(tmp_path / "run").usage
    paid = {"reject": 0, "ignore": 2, "silent": 1}[policy]  # a request without a reply may be charged
    assert usage.num_replies == 4 + 1 + paid, "the failed check is paid for too"


def test_text_alone_needs_no_check_and_sends_labels(
    server: FaultServer, data: datasets.Dataset, tmp_path: Path
) -> None:
    images(server, "reject")
    start = len(bodies(server))
    model = compatible(server.url, tool_images="text")
    assert predict(model, data, tmp_path / "run", limit=1).num_ok == 1
    (body,) = bodies(server, start)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool"]
    assert body["messages"][-1]["content"] == f"One frame:\n[2.5 s]\n{NOT_SHOWN}"
    (check,) = checks(tmp_path / "run")
    assert (check.transport, check.outcome, check.attempts) == ("text", "skipped", ())
    assert run_folder.read_run_info(tmp_path / "run").identity["model.tool_images"] == "text"
    assert "tool_images" not in compatible(server.url).settings, "earlier runs keep their identity"


@pytest.mark.parametrize("setting", ["tool", "user"])
def test_a_given_transport_is_checked_and_not_replaced(
    server: FaultServer, data: datasets.Dataset, tmp_path: Path, setting: str
) -> None:
    assert predict(compatible(server.url, tool_images=setting), data, tmp_path / "seen", limit=1).num_ok == 1
    assert [attempt.transport for attempt in checks(tmp_path / "seen")[0].attempts] == [setting]
    images(server, "reject")
    with pytest.raises(ValueError, match="does not see"):
        predict(compatible(server.url, tool_images=setting), data, tmp_path / "rejected")
    assert len(checks(tmp_path / "rejected")[0].attempts) == 1


def test_the_check_can_be_left_out(server: FaultServer, data: datasets.Dataset, tmp_path: Path) -> None:
    images(server, "ignore")
    start = len(bodies(server))
    assert predict(compatible(server.url), data, tmp_path / "run", limit=1, canary="off").num_ok == 1
    (body,) = bodies(server, start)
    assert shape(body)[-1] == ("user", ["text", "image_url"])
    assert [(check.transport, check.outcome) for check in checks(tmp_path / "run")] == [("user", "skipped")]


def test_a_resumed_run_keeps_its_transport_or_stops(
    server: FaultServer, data: datasets.Dataset, tmp_path: Path
) -> None:
    images(server, "reject-tool")
    predict(compatible(server.url), data, tmp_path / "run", limit=1)
    images(server, "see")  # `tool` would work now
    start = len(bodies(server))
    predict(compatible(server.url), data, tmp_path / "run", limit=2)
    assert [shape(body)[-1][0] for body in bodies(server, start)] == ["user", "user"]
    images(server, "ignore")
    with pytest.raises(ValueError, match=r"earlier predictions of the run got images in this way \(user\)"):
        predict(compatible(server.url), data, tmp_path / "run", limit=3)
    start = len(bodies(server))
    predict(compatible(server.url), data, tmp_path / "run", limit=2)
    assert not bodies(server, start), "nothing is left to predict, so nothing is checked"
    predict(compatible(server.url), data, tmp_path / "run", limit=3, canary="off")
    assert shape(bodies(server, start)[-1])[-1][0] == "user"
    assert [check.transport for check in checks(tmp_path / "run")] == ["user"] * 4
    assert [check.outcome for check in checks(tmp_path / "run")] == ["ok", "ok", "failed", "skipped"]


def test_checks_count_against_the_budget_of_later_calls(
    server: FaultServer, data: datasets.Dataset, tmp_path: Path
) -> None:
    priced = {"price_in": 1.0, "price_out": 2.0}
    predict(compatible(server.url, **priced), data, tmp_path / "run", limit=1)
    with pytest.raises(ValueError, match="--max-cost"):
        predict(compatible(server.url, **priced, max_cost=2.5 * 180e-6), data, tmp_path / "run")
    assert [check.outcome for check in checks(tmp_path / "run")] == ["ok"]


def test_shards_are_merged_with_their_checks_or_refused(
    server: FaultServer, data: datasets.Dataset, tmp_path: Path
) -> None:
    for folder, policies in (("alike", ("see", "see")), ("unlike", ("see", "reject-tool"))):
        for index, policy in enumerate(policies):
            images(server, policy)
            predict(compatible(server.url), data, tmp_path / folder, selection=Selection(shard=Shard(index, 2)))
    for _ in range(2):  # repeated, it counts nothing twice
        merge.merge(tmp_path / "alike", data)
        info = run_folder.read_run_info(tmp_path / "alike")
        assert (len(info.image_checks), info.usage.num_replies) == (2, 4 + 2)
    with pytest.raises(ValueError, match="by 'user' and by 'tool'"):
        merge.merge(tmp_path / "unlike", data)


def test_local_models_are_checked_only_if_asked(tmp_path: Path) -> None:
    replies = tmp_path / "replies.json"
    replies.write_text(json.dumps({"*": ["", "I see no image."]}))
    model = models.build(str(replies))
    assert canary.check_images(model, "main").outcome == "skipped"
    check = canary.check_images(model, "main", "on")
    assert (check.outcome, check.transport, check.attempts[0].outcome) == ("failed", "tool", "ignored")


@pytest.mark.parametrize(
    ("model_id", "policy", "transports"),
    [
        ("gemini-2.5-pro", "see", ["user"]),
        ("gemini-3-pro-preview", "see", ["tool"]),
        ("gemini-3.1-flash", "ignore-tool", ["tool", "user"]),
    ],
)
def test_gemini_is_checked_in_its_own_form(
    server: FaultServer, model_id: str, policy: str, transports: list[str]
) -> None:
    images(server, policy)
    start = len(bodies(server))
    check = canary.check_images(gemini(server.url, model_id=model_id), "main")
    assert (check.outcome, [attempt.transport for attempt in check.attempts]) == ("ok", transports)
    body = bodies(server, start)[0]
    (call,) = body["contents"][1]["parts"]
    assert call.get("thoughtSignature") == (None if "2.5" in model_id else "skip_thought_signature_validator")
    response = body["contents"][2]["parts"][0]["functionResponse"]
    if transports[0] == "tool":
        assert response["response"] == {"result": "Image 1:\n(image_1.jpg)"}
        (image,) = response["parts"]
        assert image["inlineData"].keys() == {"mimeType", "data", "displayName"}
        assert len(body["contents"]) == 3
    else:
        assert "parts" not in response
        assert [list(part) for part in body["contents"][3]["parts"]] == [["inlineData"]]


@pytest.mark.parametrize(
    ("text", "is_code"),
    [
        ("ACE347", True),
        ("It says: a c e 3 4 7.", True),
        ("**ACE-347**", True),
        ("ACE341", True),
        ("ACEEA1", False),
        ("no image", False),
        ("", False),
        ("AC E34", False),
    ],
)
def test_a_reply_has_the_code_with_at_most_one_character_misread(text: str, is_code: bool) -> None:
    assert canary.has_code(text, "ACE347") is is_code


def test_each_check_has_a_code_of_its_own(server: FaultServer) -> None:
    codes = {canary.check_images(compatible(server.url), "main").code for _ in range(3)}
    assert len(codes) == 3


def test_an_image_is_encoded_once_for_all_requests_of_a_conversation(clip: Path) -> None:
    policy = FramePolicy(fps=1.0, max_frames=8, max_side=64)
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    cache = JpegCache(policy, 90)
    first = cache.get(ImagePart(image=noise, second=1.0))
    assert first == jpeg_of(ImagePart(image=noise, second=1.0), policy, 90)
    again = cache.get(ImagePart(image=noise.copy(), second=2.0))
    assert again.content is first.content, "equal pixels of another part share one file"
    assert again.second == 2.0
    assert cache.get(ImagePart(image=noise[:, ::-1])).content != first.content
    small = JpegCache(policy, 90, capacity=2 * len(first.content))
    parts = [ImagePart(image=np.roll(noise, shift, 1)) for shift in range(6)]
    kept = [small.get(part).content for part in parts]
    assert small.get(parts[-1]).content is kept[-1]
    assert small.get(parts[0]).content is not kept[0], "the bound holds"
    assert small.get(parts[0]).content == kept[0]


def test_an_image_file_that_changes_is_encoded_again(tmp_path: Path) -> None:
    cache, path = JpegCache(FramePolicy(fps=1.0, max_frames=8, max_side=None), 90), tmp_path / "option.png"
    Image.new("RGB", (8, 8), "red").save(path)
    first = cache.get(ImagePart(path))
    assert cache.get(ImagePart(path)).content is first.content
    Image.new("RGB", (9, 8), "blue").save(path)
    assert cache.get(ImagePart(path)).content != first.content


def test_agents_on_one_video_share_its_frames(tmp_path: Path) -> None:
    def video(shade: int) -> FrameGrid:
        images = (np.full((32, 48, 3), shade + index, dtype=np.uint8) for index in range(18))
        media.write_video(path, images, 6.0)
        os.utime(path, ns=(shade, shade))
        return frame_grid(media.probe_video(path), fps=1.0)

    path = tmp_path / "clip.mp4"
    first, _ = frame_images.read_frame_parts(video(40), [0, 12], 32)
    again, missing = frame_images.read_frame_parts(frame_grid(media.probe_video(path), fps=1.0), [12, 6], 32)
    assert again[1] is first[1]
    assert [part.label for part in again] == ["frame 2 at 1.0 s", "frame 3 at 2.0 s"]
    assert [part.pixels().shape for part in again] == [(21, 32, 3)] * 2
    assert missing == []
    larger, _ = frame_images.read_frame_parts(frame_grid(media.probe_video(path), fps=1.0), [12], 48)
    assert larger[0].pixels().shape == (32, 48, 3)
    replaced, _ = frame_images.read_frame_parts(video(140), [0, 12], 32)
    assert replaced[0] is not first[0]
    assert replaced[0].pixels().mean() > first[0].pixels().mean() + 50, "a file that changed is read again"


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (90, 160)])
def test_tiles_of_a_contact_sheet_are_those_of_whole_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (10, 10, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize(size[::-1]))
    path = tmp_path / "clip.mp4"
    media.write_video(path, iter([picture, picture[:, ::-1]] * 3), 2.0)
    grid = frame_grid(media.probe_video(path), fps=1.0)
    indices = grid.indices.tolist()
    whole, _ = frame_images.read_frame_images(grid, indices)
    tiles, _ = frame_images.read_frame_parts(grid, indices, frame_images.tile_side(grid.video))
    labels = ["x"] * len(whole)
    sheets = [
        frame_images.contact_sheet(images, labels)
        for images in (list(whole.values()), [tile.pixels() for tile in tiles])
    ]
    assert np.array_equal(*sheets)


def test_results_without_images_are_the_same_in_every_transport() -> None:
    messages = [Message("user", ("Q",)), Message("assistant", (), calls=(CALL,)), Message("tool", ("R",), call_id="c1")]
    assert [place_tool_images(messages, transport) for transport in ("tool", "user", "text")] == [messages] * 3


def test_a_description_of_a_run_without_checks_still_loads() -> None:
    run = Run.model_validate({"identity": {"data": "d"}, "spent": {"replies": 1}})
    assert run.image_checks == ()
    assert "image_checks" not in run.model_dump(mode="json")
    assert image_checks.transports(run.image_checks) == {}
