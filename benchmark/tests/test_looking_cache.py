"""Looking cache: looks that are kept for further questions and runs; replay of runs with caches."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_episode_sets import CLIPS, LONG, write_set
from test_episodes import look, predictions, script

from evqa import masks, media
from evqa.__main__ import main
from evqa.agents.looking_cache import Look, LookingCache, look_key
from evqa.datasets.formats import prepare
from evqa.schema import Prediction

WORDS = {CLIPS[0]: "the kite is torn", CLIPS[1]: "Penny brought a purple cup", CLIPS[2]: "nothing happens here"}
RELOCATE = {"text": "elsewhere", "calls": [{"name": "request_grounding", "arguments": {}}]}
MASTER = {
    "What color is the cup": [look("what is purple?"), RELOCATE, look("what is torn?"), "<answer>a3</answer>"],
    "Who brought": [look("what is purple? "), "<answer>a1</answer>"],
}


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """Data set of two questions about one episode, which look at the same clip with the same query."""
    folder = tmp_path / "episodes"
    folder.mkdir()
    rows = [
        LONG | {"q": "What color is the cup that Penny brought, where the kite is?"},
        LONG | {"qid": 2, "q": "Who brought the cup?", "answer": "a1"},
    ]
    write_set(folder, *rows)
    (folder / "clip_subtitles.json").write_text(json.dumps(WORDS | {CLIPS[3]: "another episode"}))
    prepare("longtvqa-plus", folder)
    return folder


def command(episodes: Path, tmp_path: Path, out: str, *options: str, vision: dict[str, Any] | None) -> list[str]:
    master = script(tmp_path / "master.json", MASTER)
    agent = [] if vision is None else ["--agent", f"vision={script(tmp_path / 'vision.json', vision)}"]
    start = ["predict", str(episodes), master, "--method", "episode", "--out", str(tmp_path / out)]
    return [*start, *agent, *options]


def run(
    episodes: Path, tmp_path: Path, out: str, *options: str, vision: dict[str, Any] | None
) -> dict[str, Prediction]:
    assert main(command(episodes, tmp_path, out, *options, vision=vision)) == 0
    return predictions(tmp_path / out)


def comparable(records: dict[str, Prediction]) -> dict[str, Any]:
    """Records without what a look costs."""
    turns = {name: tuple(turn.replace(usage=None) for turn in record.turns) for name, record in records.items()}
    return {name: record.replace(seconds=0.0, turns=turns[name]) for name, record in records.items()}


def grounded_reply() -> dict[str, Any]:
    mask = np.zeros((8, 16), np.bool_)
    mask[2:4, 3:9] = True
    tracks = [{"label": "cup", "masks": {"3": masks.encode(mask).model_dump()}}]
    return {"text": "[[1.0, 2.0]]", "tracks": tracks, "num_frames": 18, "mask_frames": [3, 6]}


VISION = {"words": {"*": "a purple cup"}, "evidence": {"*": grounded_reply()}}


@pytest.mark.parametrize("kind", VISION)
def test_a_look_is_asked_once_and_gives_the_same_records(episodes: Path, tmp_path: Path, kind: str) -> None:
    whole = run(episodes, tmp_path, "whole", vision=VISION[kind])
    cache = tmp_path / "looks.jsonl"
    option = ("--looking-cache", str(cache))
    first = run(episodes, tmp_path, "first", *option, "--concurrency", "1", vision=VISION[kind])
    assert comparable(first) == comparable(whole)
    looks = [json.loads(line) for line in cache.read_text().splitlines()]
    assert [(entry["clip"], entry["query"]) for entry in looks] == [
        (CLIPS[1], "what is purple?"),
        (CLIPS[0], "what is torn?"),
    ]
    again = run(episodes, tmp_path, "again", *option, vision=VISION[kind])
    assert comparable(again) == comparable(whole)
    usages = [turn.usage for record in again.values() for turn in record.turns if turn.agent == "vision"]
    assert [usage and usage.num_attempts for usage in usages] == [0, 0, 0]
    assert len(cache.read_text().splitlines()) == 2
    if kind == "evidence":
        assert whole["2"].mask_frames == (15, 18)


def test_another_model_frame_number_or_clip_is_another_look(episodes: Path, tmp_path: Path) -> None:
    cache = tmp_path / "looks.jsonl"
    option = ("--looking-cache", str(cache))
    run(episodes, tmp_path, "first", *option, vision={"*": "a purple cup"})
    run(episodes, tmp_path, "model", *option, vision={"*": "a red cup"})
    run(episodes, tmp_path, "frames", *option, "--clip-frames", "4", vision={"*": "a red cup"})
    (episodes / "frames" / CLIPS[1] / "00018.jpg").unlink()
    run(episodes, tmp_path, "clip", *option, "--clip-frames", "4", vision={"*": "a red cup"})
    assert len(cache.read_text().splitlines()) == 2 + 2 + 2 + 1


def test_a_file_of_looks_is_the_vision_agent(episodes: Path, tmp_path: Path) -> None:
    cache = tmp_path / "looks.jsonl"
    entries = [
        {"clip": CLIPS[1], "query": "what is purple?", "text": "an old cup"},
        {"clip": CLIPS[1], "query": "what is purple?", "text": "a cup", "model": "gpt-4o"},
    ]
    cache.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    records = run(episodes, tmp_path, "file", "--no-look", "--looking-cache", str(cache), vision=None)
    turns = [turn for turn in records["1"].turns if turn.agent == "vision"]
    assert [(turn.reply, turn.model, turn.prompt) for turn in turns] == [("a cup", "gpt-4o", "what is purple?")]
    results = [result for turn in records["1"].turns for result in turn.results]
    assert [result.ok for result in results] == [True, True, False]
    assert "the looking cache has no look" in results[2].text
    replay = ["replay", str(tmp_path / "file"), "--data", str(episodes)]
    assert main([*replay, "--looking-cache", str(cache)]) == 0
    assert main(replay) == 2
    cache.write_text(cache.read_text() + f"{json.dumps(entries[0])}\n")
    assert main([*replay, "--looking-cache", str(cache)]) == 2


@pytest.mark.parametrize("line", ["{}", "7", '{"clip": "c", "query": "q", "text": 7}', '{"clip": "c", "extra": 1}'])
def test_a_line_that_is_no_look_is_named_before_the_run(
    episodes: Path, tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "looks.jsonl"
    cache.write_text(f'{{"clip": "c", "query": "q", "text": "t"}}\n{line}\n')
    options = ("--looking-cache", str(cache))
    assert main(command(episodes, tmp_path, "bad", *options, vision={"*": "a cup"})) == 2
    assert f"{cache}:2 is no look" in capsys.readouterr().err
    assert not (tmp_path / "bad" / "predictions.jsonl").exists()


def test_the_cache_belongs_to_the_method_episode(
    episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    master = script(tmp_path / "master.json", {"*": "<answer>a1</answer>"})
    start = ["predict", str(episodes), master, "--method", "episode-frames", "--out", str(tmp_path / "x")]
    assert main([*start, "--looking-cache", str(tmp_path / "looks.jsonl")]) == 2
    assert "--looking-cache" in capsys.readouterr().err


# The file


def _append(path: str, writer: int) -> None:
    cache = LookingCache(Path(path))
    for number in range(25):
        cache.add(Look(clip=f"c{writer}", query=f"q{number}", text="x" * 5000, model="m", key="k"))


def test_processes_append_whole_lines_and_see_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "looks.jsonl"
    reader = LookingCache(path)
    with reader.entry("c0", "q24", "m", "k") as found:
        assert found is None
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(str(path), number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert (
        len({(look.clip, look.query) for look in map(Look.model_validate_json, path.read_bytes().splitlines())}) == 75
    )
    for number in range(3):
        with reader.entry(f"c{number}", " q24 ", "m", "k") as found:
            assert found is not None


def test_the_line_of_a_killed_writer_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "looks.jsonl"
    cache = LookingCache(path)
    cache.add(Look(clip="c", query="q", text="t"))
    with path.open("ab") as file:
        file.write(b'{"clip": "c", "que')
    other = LookingCache(path)
    other.check()
    other.add(Look(clip="c", query="r", text="t"))
    assert cache.any_look("c", "r") is not None
    assert len(path.read_bytes().splitlines()) == 2


def test_threads_with_one_look_ask_once(tmp_path: Path) -> None:
    cache = LookingCache(tmp_path / "looks.jsonl")
    asked: list[int] = []

    def ask(number: int) -> None:
        with cache.entry("c", "q", "m", "k") as found:
            if found is None:
                asked.append(number)
                cache.add(Look(clip="c", query="q", text="t", model="m", key="k"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(32)))
    assert len(asked) == 1


def test_keys_do_not_depend_on_the_order_of_facts() -> None:
    assert look_key(a=1, b={"x": 1, "y": 2}) == look_key(b={"y": 2, "x": 1}, a=1)
    assert look_key(a=1) != look_key(a=2)


def test_a_cache_that_cannot_be_written_fails_the_sample_with_a_reason(episodes: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    options = ("--looking-cache", str(tmp_path / "folder"))
    assert main(command(episodes, tmp_path, "out", *options, vision={"*": "a cup"})) == 2


# Replay


@pytest.mark.parametrize("kind", VISION)
def test_runs_of_recorded_agents_are_replayed(
    episodes: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [{"question": "Who brought the cup?", "clip": CLIPS[2], "status": "ok"}]
    cache = tmp_path / "cache.json"
    cache.write_text(json.dumps(entries))
    run(episodes, tmp_path, "run", "--grounding-cache", str(cache), vision=VISION[kind])
    replay = ["replay", str(tmp_path / "run"), "--data", str(episodes)]
    capsys.readouterr()
    assert main([*replay, "--grounding-cache", str(cache)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 records reproduced, 0 different"
    assert main(replay) == 2
    assert "--grounding-cache" in capsys.readouterr().err


def test_another_model_answers_from_the_frames_of_the_looks(episodes: Path, tmp_path: Path) -> None:
    frames = episodes / "videos" / "s01e02.mp4"
    frames.parent.mkdir()
    media.write_video(frames, [np.full((16, 16, 3), 90, np.uint8)] * 36, 3)
    cache = tmp_path / "cache.json"
    cache.write_text(json.dumps([{"question": "Who brought the cup?", "clip": CLIPS[1], "status": "ok"}]))
    run(episodes, tmp_path, "run", "--grounding-cache", str(cache), "--clip-frames", "3", vision={"*": "a cup"})
    other = script(tmp_path / "other.json", {"*": "(B)"})
    replay = ["replay", str(tmp_path / "run"), "--data", str(episodes), "--with", other]
    assert main([*replay, "--out", str(tmp_path / "with")]) == 0
    assert [len(turn.frames) for turn in predictions(tmp_path / "with")["2"].turns] == [3]
