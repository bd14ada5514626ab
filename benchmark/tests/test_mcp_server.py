"""The server of the Model Context Protocol: tools over the videos of a folder, through the official client."""

import asyncio
import base64
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from PIL import Image

from evqa import masks, media
from evqa.__main__ import main
from evqa.agents.settings import AgentSettings
from evqa.ask import AskSettings, build_models
from evqa.serve.mcp_server import build_server
from evqa.serve.video_library import VideoLibrary
from evqa.serve.video_tools import VideoTools

HEIGHT, WIDTH, NUM_FRAMES = 96, 128, 18
REPLY = "Answer: B. Temporal Evidence: [[0.5, 1.5]]. Spatial Evidence: <|seg|>."
WITHOUT_SEARCH = AgentSettings(encoder="none", grid_fps=6.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two videos, subtitles of one, a file that is no video, and a link that leads out."""
    root = tmp_path / "videos"
    (root / "trip").mkdir(parents=True)
    frames = np.stack([np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8) for number in range(NUM_FRAMES)])
    media.write_video(root / "one.mp4", iter(frames), 6.0)
    media.write_video(root / "trip" / "two.mp4", iter(frames[:6]), 6.0)
    (root / "one.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello there\n", encoding="utf-8")
    (root / "broken.mp4").write_bytes(b"no video")
    media.write_video(tmp_path / "secret.mp4", iter(frames[:2]), 6.0)
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    return root


def replies(tmp_path: Path) -> str:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[24:48, 32:64] = True
    track = {"masks": {frame: masks.encode(mask).model_dump() for frame in range(NUM_FRAMES)}}
    path = tmp_path / "replies.json"
    path.write_text(json.dumps({"*": {"text": REPLY, "tracks": [track], "num_frames": NUM_FRAMES}}), encoding="utf-8")
    return str(path)


def with_client(tools: VideoTools, use: Callable[[Client], Awaitable[Any]]) -> Any:
    async def connected() -> Any:
        async with Client(build_server(tools)) as client:
            return await use(client)

    return asyncio.run(connected())


def call(tools: VideoTools, name: str, **arguments: object) -> Any:
    return with_client(tools, lambda client: client.call_tool(name, arguments))


def texts(result: Any) -> list[str]:
    return [block.text for block in result.content if block.type == "text"]


def images(result: Any) -> list[np.ndarray]:
    data = [base64.b64decode(block.data) for block in result.content if block.type == "image"]
    return [np.asarray(Image.open(io.BytesIO(entry))).astype(int) for entry in data]


@pytest.fixture
def tools(folder: Path) -> VideoTools:
    return VideoTools(VideoLibrary([folder]), WITHOUT_SEARCH)


def test_tools_are_those_of_agents_with_the_name_of_a_video(folder: Path, tools: VideoTools, tmp_path: Path) -> None:
    listed = {tool.name: tool for tool in with_client(tools, lambda client: client.list_tools()).tools}
    assert list(listed) == [
        "list_videos", "overview", "frames_at", "frames_between", "zoom", "subtitles", "search_subtitles",
    ]  # fmt: skip
    schema = listed["frames_at"].input_schema
    assert schema["required"] == ["video", "seconds"]
    assert schema["properties"]["seconds"]["description"] == "times in seconds"
    assert all(tool.annotations.read_only_hint for tool in listed.values())
    every = VideoTools(VideoLibrary([folder]), AgentSettings(), build_models(replies(tmp_path), AskSettings()))
    assert [spec.name for spec in every.specs()][-3:] == ["search_subtitles", "ask", "segment"]
    assert "search" in [spec.name for spec in every.specs()]


def test_frames_have_their_times_as_text_and_drawn(tools: VideoTools) -> None:
    assert texts(call(tools, "list_videos")) == ["4 videos\nbroken.mp4\nlink.mp4\none.mp4\ntrip/two.mp4"]
    assert texts(call(tools, "list_videos", pattern="TWO")) == ["1 videos\ntrip/two.mp4"]
    result = call(tools, "frames_at", video="one.mp4", seconds=[1, 2])
    assert not result.is_error
    assert texts(result) == ["2 frames", "frame 7 at 1.0 s", "frame 13 at 2.0 s"]
    first, second = images(result)
    assert (first[60:, 60:].mean(), second[60:, 60:].mean()) == pytest.approx((60, 120), abs=3)
    assert first[:20, :60].max() > 200, "the time is drawn in white"
    assert texts(call(tools, "subtitles", video="one.mp4", start=0, end=3)) == ["1.0-2.0 s: Hello there"]
    assert "contact sheet of 6 frames" in texts(call(tools, "overview", video="trip/two.mp4"))[0]


def test_a_model_answers_and_segments(folder: Path, tmp_path: Path) -> None:
    tools = VideoTools(VideoLibrary([folder]), WITHOUT_SEARCH, build_models(replies(tmp_path), AskSettings()))
    result = call(tools, "ask", video="one.mp4", question="Which shape moves?", options=["circle", "square"])
    assert "answer:  (B) square" in texts(result)[0]
    assert "when:    0.5-1.5 s" in texts(result)[0]
    assert images(result)[0].shape[1] > 4 * 320
    result = call(tools, "segment", video="one.mp4", expression="the square", second=1)
    assert texts(result)[0] == "the square: box [0.25, 0.25, 0.5, 0.5], 6.2% of the frame"
    assert texts(call(tools, "ask", video="one.mp4", question=" ")) == ["error: the question is empty"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("frames_at", {"video": "../secret.mp4", "seconds": [0]}, "there is no video '../secret.mp4' among the 4"),
        ("frames_at", {"video": "/etc/passwd", "seconds": [0]}, "there is no video '/etc/passwd'"),
        ("frames_at", {"video": "link.mp4", "seconds": [0]}, "there is no video 'link.mp4'"),
        ("frames_at", {"video": "trip/../one.mp4", "seconds": [0]}, "there is no video"),
        ("frames_at", {"video": "x" * 5000, "seconds": [0]}, "there is no video"),
        ("frames_at", {"video": "one\0.mp4", "seconds": [0]}, "there is no video"),
        ("frames_at", {"video": "", "seconds": [0]}, "there is no video ''"),
        ("frames_at", {"video": "One.mp4", "seconds": [0]}, "did you mean one.mp4"),
        ("frames_at", {"video": 3, "seconds": [0]}, "the argument video is the name of a video (list_videos), got 3"),
        ("frames_at", {"seconds": [0]}, "got None"),
        ("frames_at", {"video": "broken.mp4", "seconds": [0]}, "broken.mp4"),
        ("frames_at", {"video": "one.mp4", "seconds": [99]}, "the video lasts 3.0 s"),
        ("frames_at", {"video": "one.mp4", "seconds": ["x"]}, "invalid arguments of frames_at: seconds"),
        ("frames_at", {"video": "one.mp4", "seconds": [0], "more": 1}, "invalid arguments of frames_at: more"),
        ("subtitles", {"video": "trip/two.mp4", "start": 0, "end": 1}, "subtitles does not work for trip/two.mp4: it"),
        ("get_frames_by_id", {"video": "one.mp4", "frame_ids": [1]}, "there is no tool 'get_frames_by_id'"),
        ("ask", {"video": "one.mp4", "question": "What?"}, "there is no tool 'ask'"),
    ],
)
def test_invalid_calls_are_results_that_say_what_to_change(
    tools: VideoTools, name: str, arguments: dict[str, object], message: str
) -> None:
    result = call(tools, name, **arguments)
    assert result.is_error
    assert message in texts(result)[0]
    assert texts(call(tools, "frames_at", video="one.mp4", seconds=[0]))[0] == "1 frame"


def test_a_video_that_is_replaced_is_read_again(folder: Path, tools: VideoTools) -> None:
    assert images(call(tools, "frames_at", video="one.mp4", seconds=[1]))[0][60:, 60:].mean() < 70
    media.write_video(folder / "one.mp4", iter(np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), 200, np.uint8)), 6.0)
    assert images(call(tools, "frames_at", video="one.mp4", seconds=[1]))[0][60:, 60:].mean() > 190


def test_folders_are_checked_and_named_where_there_are_several(folder: Path, tmp_path: Path, capsys: Any) -> None:
    library = VideoLibrary([folder, folder / "trip"])
    assert library.names()[:2] == ["trip/two.mp4", "videos/broken.mp4"]
    assert library.path("trip/two.mp4") == library.path("videos/trip/two.mp4")
    (tmp_path / "other" / "videos").mkdir(parents=True)
    with pytest.raises(ValueError, match="the folders need names of their own"):
        VideoLibrary([folder, tmp_path / "other" / "videos"])
    assert main(["mcp", str(tmp_path / "missing")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["mcp"]) == 2


def test_the_command_serves_a_client_that_starts_it(folder: Path) -> None:
    command = ["-m", "evqa", "mcp", str(folder), "--encoder", "none", "--grid-fps", "6"]

    async def session() -> list[str]:
        parameters = StdioServerParameters(command=sys.executable, args=command)
        async with Client(stdio_client(parameters)) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            calls = [client.call_tool("frames_at", {"video": "one.mp4", "seconds": [second]}) for second in (0, 1, 2)]
            results = await asyncio.gather(*calls)
            return [*names[:2], *(texts(result)[1] for result in results)]

    expected = ["list_videos", "overview", "frame 1 at 0.0 s", "frame 7 at 1.0 s", "frame 13 at 2.0 s"]
    assert asyncio.run(session()) == expected


def test_the_command_serves_over_http(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "evqa", "mcp", str(folder), "--encoder", "none", "--transport", "http"]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.PIPE)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)

        async def session() -> list[str]:
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                return texts(await client.call_tool("list_videos", {"pattern": "one"}))

        assert asyncio.run(session()) == ["1 videos\none.mp4"]
    finally:
        process.terminate()
        process.wait(20)
