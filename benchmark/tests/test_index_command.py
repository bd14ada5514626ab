"""The command evqa index: data sets and videos, resume, broken videos; its workers are in test_workers."""

from pathlib import Path

import pytest
from conftest import Bench
from tiny_clip import write_clip_checkpoint

from evqa.__main__ import main


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clip_checkpoint(tmp_path_factory.mktemp("encoder") / "tiny-clip"))


def test_a_broken_video_costs_only_itself_and_the_same_command_continues(
    bench: Bench, tmp_path: Path, encoder: str, capsys: pytest.CaptureFixture[str]
):
    data = bench.data(tmp_path / "data", 6, frames=(6, 12, 18))
    broken = data / "videos" / "clip12.mp4"
    content = broken.read_bytes()
    broken.write_bytes(content[:300])
    command = ["index", str(data), "--encoder", encoder, "--fps", "2", "--index", str(tmp_path / "root")]
    assert main(command) == 1
    output = capsys.readouterr().out
    assert "2 indices built, 1 failed, 8 frames in all" in output
    assert "clip12.mp4" in output
    broken.write_bytes(content)
    assert main(command) == 0
    assert "1 index built, 2 already there, 12 frames in all" in capsys.readouterr().out
    assert len(list((tmp_path / "root" / "tiny-clip").glob("*/record.json"))) == 3


def test_an_index_of_a_changed_video_is_built_again(
    bench: Bench, tmp_path: Path, encoder: str, capsys: pytest.CaptureFixture[str]
):
    video = bench.data(tmp_path / "data", 1) / "videos" / "clip6.mp4"
    command = ["index", str(video), "--encoder", encoder, "--index", str(tmp_path / "root")]
    assert main(command) == 0
    assert "1 index built, 1 frame in all" in capsys.readouterr().out
    content = video.read_bytes()
    video.write_bytes(content + b"\x00\x00\x00\x08free")
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "1 index built" in output
    assert "built again" in output
    assert "the video changed" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4"], "no such file: missing.mp4"),
        (["no-such-data"], "unknown data set 'no-such-data'"),
        (["VIDEO", "--fps", "nan"], "frames per second above 0"),
        (["VIDEO", "--fps", "-1"], "frames per second above 0"),
        (["VIDEO", "--encoder", "imagenet-minilm2"], "did you mean imagenet-minilm"),
        (["VIDEO", "--device", "gpu"], "expected the device auto, cpu, cuda"),
        (["VIDEO", "--cluster", "auto"], "give --workers N"),
        (["VIDEO", "--workers", "0"], "at least 1 worker"),
        (["TEXT"], "text.mp4"),
    ],
)
def test_invalid_input_is_one_clear_line_and_nothing_is_written(
    arguments: list[str],
    message: str,
    bench: Bench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    video = bench.data(tmp_path / "data", 1) / "videos" / "clip6.mp4"
    (tmp_path / "text.mp4").write_text("no video")
    monkeypatch.chdir(tmp_path)
    names = {"VIDEO": str(video), "TEXT": "text.mp4"}
    assert main(["index", *(names.get(word, word) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "outputs").exists()


def test_an_unwritable_place_is_a_failure_of_each_video(
    bench: Bench, tmp_path: Path, encoder: str, capsys: pytest.CaptureFixture[str]
):
    video = bench.data(tmp_path / "data", 1) / "videos" / "clip6.mp4"
    (tmp_path / "file").write_text("mine")
    assert main(["index", str(video), "--encoder", encoder, "--index", str(tmp_path / "file")]) == 1
    output = capsys.readouterr().out
    assert "cannot write the frame index" in output
    assert "--index" in output
    assert (tmp_path / "file").read_text() == "mine"


def test_encoders_are_listed(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "encoders"]) == 0
    output = capsys.readouterr().out
    assert "imagenet-minilm" in output
    assert "siglip-so400m-patch14-384" in output
