"""Pairwise judge: frames of two videos, verdicts of both orders, records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from evqa import media, methods, models
from evqa.agents.pair_tools import PairFrames, open_pair
from evqa.agents.settings import AgentSettings, JudgeSettings
from evqa.agents.tool import call_tool, spec_of, tool_table
from evqa.agents.verdict_tool import verdict_tool
from evqa.models.base import Capabilities, ModelError, Models
from evqa.models.messages import ImagePart, Message, move_tool_images
from evqa.parsing.verdicts import DIMENSIONS, parse_confidence, parse_verdict, read_labels
from evqa.runs import reparse, replay
from evqa.schema import FrameRef, Prediction, Sample, ToolCall

VERDICT = "<Answer>TA=1, MQ=2, VQ=0, OA=1, CF=2</Answer>"
REVERSED = "<Answer>TA=2, MQ=1, VQ=0, OA=2, CF=1</Answer>"


def write_clip(path: Path, num_frames: int, fps: float, size: tuple[int, int] = (64, 48), shade: int = 0) -> Path:
    """A clip whose frame `i` is grey of value `shade + i`."""
    height, width = size[1], size[0]
    frames = (np.full((height, width, 3), min(shade + index, 255), dtype=np.uint8) for index in range(num_frames))
    media.write_video(path, frames, fps=fps)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return write_clip(folder / "a.mp4", 64, 16.0), write_clip(folder / "b.mp4", 96, 12.0, (96, 48), 100)


@pytest.fixture
def sample(clips: tuple[Path, Path]) -> Sample:
    return Sample(id="pair", video_id="pair", video=clips[0], videos=(clips[1],), question="A grey square.")


def scripted(folder: Path, *replies: object) -> models.Model:
    path = folder / "replies.json"
    path.write_text(json.dumps({"*": replies}), encoding="utf-8")
    return models.build(str(path))


def judge(sample: Sample, *team: models.Model, times: bool = True, **settings: Any) -> Prediction:
    """Prediction of the first model; the second one judges the reversed order."""
    others = {"swapped": team[1]} if len(team) > 1 else {}
    chosen = AgentSettings(judge=JudgeSettings(**settings))
    return methods.predictor("judge", times=times, settings=chosen)(Models(team[0], others), sample)


def call(name: str, **arguments: object) -> dict[str, object]:
    return {"calls": [{"name": name, "arguments": arguments}]}


# Frames


def test_images_of_two_videos_keep_their_order() -> None:
    def image(video: int, index: int) -> ImagePart:
        pixels = np.zeros((2, 2, 3), dtype=np.uint8)
        return ImagePart(image=pixels, ref=FrameRef(video=video, index=index, second=float(index)))

    def order_after(*refs: tuple[int, int]) -> list[tuple[int, int]]:
        messages = [
            Message("assistant", (), calls=(ToolCall(id="c", name="t", arguments=""),)),
            Message("tool", tuple(image(*ref) for ref in refs), call_id="c"),
        ]
        images = move_tool_images(messages)[-1].parts
        return [(part.ref.video, part.ref.index) for part in images if isinstance(part, ImagePart) and part.ref]

    assert order_after((0, 9), (1, 9), (0, 2), (1, 2)) == [(0, 9), (1, 9), (0, 2), (1, 2)]
    assert order_after((0, 2), (1, 0), (0, 2), (1, 5)) == [(0, 2), (1, 0), (0, 2), (1, 5)]  # each pair is whole
    assert order_after((1, 9), (1, 2), (1, 9)) == [(1, 2), (1, 9)]


def frames_of(clips: tuple[Path, Path], **settings: Any) -> PairFrames:
    return PairFrames(videos=open_pair(clips), **settings)


@pytest.mark.parametrize(
    ("pairing", "expected"),
    [
        ("fraction", [(0, 0), (16, 24), (63, 95)]),
        ("time", [(0, 0), (16, 12), (63, 47)]),  # both within the first 4 seconds, the length of the shorter one
    ],
)
def test_pairs_are_at_the_same_fraction_or_at_the_same_time(
    clips: tuple[Path, Path], pairing: Any, expected: list[tuple[int, int]]
) -> None:
    output = frames_of(clips, pairing=pairing).select([0, 32, 127])
    refs = [(frame.video, frame.index) for frame in output.all_frames]
    assert refs == [(video, index) for pair in expected for video, index in enumerate(pair)]
    shades = [int(part.pixels().mean().round()) for part in output.parts if isinstance(part, ImagePart)]
    expected = [index + 100 * video for video, index in refs]
    assert np.abs(np.subtract(shades, expected)).max() <= 2


def test_the_aspect_ratio_is_kept_except_in_the_published_size(clips: tuple[Path, Path]) -> None:
    def sizes(**settings: Any) -> set[tuple[int, ...]]:
        parts = frames_of(clips, **settings).opening()
        return {part.image.shape[:2] for part in parts if isinstance(part, ImagePart) and part.image is not None}

    assert sizes() == {(48, 64), (48, 96)}
    assert sizes(max_side=32) == {(24, 32), (16, 32)}
    assert sizes(image_size="published") == {(448, 448)}


def test_times_can_be_withheld(sample: Sample, tmp_path: Path) -> None:
    replies = [call("select_frames", frame_indices=[3]), VERDICT]
    timed = judge(sample, scripted(tmp_path, *replies), swap="none")
    untimed = judge(sample, scripted(tmp_path, *replies), swap="none", times=False)
    assert "4.00 seconds" in timed.turns[0].prompt
    assert "at 0.06 s" in timed.turns[0].results[0].text
    assert "second" not in untimed.turns[0].prompt.lower()
    assert " s" not in untimed.turns[0].results[0].text.replace(" shown", "")


def test_frames_of_a_video_with_one_frame_are_reported_as_one(tmp_path: Path) -> None:
    short = write_clip(tmp_path / "one.mp4", 1, 8.0)
    long = write_clip(tmp_path / "other.mp4", 16, 8.0)
    texts = [part for part in frames_of((short, long)).opening() if isinstance(part, str)]
    assert texts == ["the same frame: frames 16, 48, 80, 112 of video 1"]


def test_every_file_that_cannot_be_read_is_reported_before_a_model_call(tmp_path: Path, sample: Sample) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    pair = sample.replace(video=broken, videos=(tmp_path / "missing.mp4",))
    prediction = judge(pair, scripted(tmp_path, VERDICT))
    assert prediction.status == "failed"
    assert "broken.mp4" in str(prediction.error)
    assert "missing.mp4" in str(prediction.error)
    assert prediction.turns == ()


MEDIA = Path(__file__).parents[3] / "shared" / "media"


@pytest.mark.skipif(not MEDIA.is_dir(), reason="needs the real clips")
def test_frames_of_real_clips_are_those_of_decoding_the_whole_files() -> None:
    paths = [MEDIA / "01_dog.mp4", MEDIA / "02_cups.mp4"]
    frames = PairFrames(videos=open_pair(paths), max_side=10_000)
    parts = [*frames.opening(), *frames.select([0, 127, 63, 64, 5]).parts]
    images = [part for part in parts if isinstance(part, ImagePart)]
    assert len(images) == 18
    for number, path in enumerate(paths):
        expected = {part.ref.index: part for part in images if part.ref and part.ref.video == number}
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in expected:
                    part = expected.pop(index)
                    assert np.abs(part.pixels().astype(int) - frame.to_ndarray(format="rgb24")).mean() < 3
                    assert part.second == pytest.approx(frame.time - frames_start(path), abs=2e-3)
        assert not expected


def frames_start(path: Path) -> float:
    """Time stamp of the first frame of a file."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).time


# Verdicts


def test_the_tool_for_verdicts_requires_every_dimension() -> None:
    tool = verdict_tool(tuple(DIMENSIONS.items()))
    schema: Any = spec_of(tool).parameters
    assert schema["required"] == ["reasoning", *DIMENSIONS, "CF"]
    assert schema["properties"]["TA"]["enum"] == [0, 1, 2]
    labels: dict[str, object] = {"reasoning": "TA=2", "TA": 1, "MQ": 0, "VQ": 2, "OA": 1, "CF": 1}

    def ends(changes: dict[str, object], without: str = "") -> bool:
        arguments = {key: value for key, value in {**labels, **changes}.items() if key != without}
        output = call_tool(tool_table([tool]), ToolCall(id="c", name="submit_verdict", arguments=json.dumps(arguments)))
        assert output.ok == output.ends_episode
        return output.ends_episode

    assert ends({})
    assert not any(ends({}, without=name) for name in DIMENSIONS)
    assert not any(ends({"TA": value}) for value in (3, -1, "tie", None, 1.5))


def test_a_submitted_verdict_counts_and_its_reasoning_does_not(sample: Sample, tmp_path: Path) -> None:
    labels = {"TA": 1, "MQ": 0, "VQ": 2, "OA": 1, "CF": 3}
    prediction = judge(
        sample, scripted(tmp_path, call("submit_verdict", reasoning="TA=2, OA=2", **labels)), swap="none"
    )
    assert prediction.verdicts == {"TA": 1, "MQ": 0, "VQ": 2, "OA": 1}
    assert prediction.stop == "submitted"


@pytest.mark.parametrize(
    ("second", "verdicts"),
    [
        (REVERSED, {"TA": 1, "MQ": 2, "VQ": 0, "OA": 1}),
        (VERDICT, {"TA": 0, "MQ": 0, "VQ": 0, "OA": 0}),
        ("<Answer>TA=2, MQ=0, VQ=1, OA=2</Answer>", {"TA": 1, "MQ": 0, "VQ": 0, "OA": 1}),
        ("no verdict", None),
    ],
)
def test_orders_that_disagree_are_a_tie(sample: Sample, tmp_path: Path, second: str, verdicts: object) -> None:
    (tmp_path / "second").mkdir()
    swapped = scripted(tmp_path / "second", *[second] * 4)
    prediction = judge(sample, scripted(tmp_path, VERDICT), swapped)
    assert prediction.verdicts == verdicts
    assert prediction.is_unparsed == (verdicts is None)
    assert {turn.agent for turn in prediction.turns} == {"main", "swapped"}
    assert prediction.order_verdicts is not None
    assert prediction.order_verdicts[0] == {"TA": 1, "MQ": 2, "VQ": 0, "OA": 1}
    assert Prediction.model_validate_json(prediction.model_dump_json()) == prediction
    assert reparse.reparse_prediction(prediction.replace(verdicts=None, order_verdicts=None), sample) == prediction


def test_what_the_first_order_cost_is_recorded_where_the_second_fails(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    swapped = scripted(tmp_path / "second", {"error": "in trouble"})
    prediction = judge(sample, scripted(tmp_path, VERDICT), swapped)
    assert (prediction.status, prediction.verdicts) == ("failed", None)
    assert [turn.reply for turn in prediction.turns] == [VERDICT]
    assert ModelError.__name__ in str(prediction.error)


def test_dimensions_of_the_user(sample: Sample, tmp_path: Path) -> None:
    pair = sample.replace(dimensions={"Safety": "shows nothing harmful", "x_2": "another one"})
    prediction = judge(pair, scripted(tmp_path, "<Answer>safety=1, x_2=0</Answer>"), swap="none")
    assert prediction.verdicts == {"Safety": 1, "x_2": 0}
    assert "- Safety: shows nothing harmful" in prediction.turns[0].prompt
    with pytest.raises(ValueError, match="name of a dimension"):
        Sample(id="a", video_id="a", video=sample.video, question="", dimensions={"a b": ""})
    with pytest.raises(ValueError, match="names of their own"):
        Sample(id="a", video_id="a", video=sample.video, question="", dimensions={"a": "", "A": ""})
    with pytest.raises(ValueError, match="reserved"):
        Sample(id="a", video_id="a", video=sample.video, question="", dimensions={"cf": ""})


@pytest.mark.parametrize(
    ("reply", "labels", "confidence"),
    [
        (VERDICT, [1, 2, 0, 1], 2),
        ("<Snapshot><Answer>TA=2, MQ=2, VQ=2, OA=2</Answer></Snapshot>" + VERDICT, [1, 2, 0, 1], 2),
        ("<Recommend Answer>TA=2, MQ=2, VQ=2, OA=2, CF=1</Recommend Answer>", [None] * 4, None),
        ("<Recommend Answer>OA=2, CF=1</Recommend Answer>" + VERDICT, [1, 2, 0, 1], 2),
        ("<final answer>TA=0, MQ=0, VQ=0, OA=0</final answer>", [0, 0, 0, 0], None),
        ("<Snapshot>never closed " + VERDICT, [1, 2, 0, 1], 2),
        ("<snapshot>" * 20_000, [None] * 4, None),
        ("TA=1 " * 20_000, [1, None, None, None], None),
    ],
)
def test_labels_and_confidence(reply: str, labels: list[int | None], confidence: int | None) -> None:
    assert list(read_labels(reply, tuple(DIMENSIONS)).values()) == labels
    assert parse_confidence(reply) == confidence
    assert (parse_verdict(reply) is None) == (None in labels)


# Models


def test_a_model_without_tools_judges_the_opening_frames(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scripted(tmp_path, VERDICT)
    monkeypatch.setattr(model, "capabilities", Capabilities(tools="none"))
    prediction = judge(sample, model, swap="none")
    assert prediction.verdicts is not None
    assert "select_frames" not in prediction.turns[0].prompt
    assert len(prediction.turns[0].frames) == 8


def test_a_judgement_can_be_replayed(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    replies = [call("select_frames", frame_indices=[3, 200]), call("other"), VERDICT]
    swapped = scripted(tmp_path / "second", call("select_frames", frame_indices=[5]), "nothing", REVERSED)
    record = judge(sample, scripted(tmp_path, *replies), swapped)
    repeated = replay.replay_sample("judge", sample, record, AgentSettings(), capabilities={}, times=True)
    assert replay.first_difference(record, repeated) is None


def test_settings_of_the_judge_are_its_identity() -> None:
    def identity(**settings: Any) -> dict[str, object]:
        return {**methods.settings_identity("judge", AgentSettings(judge=JudgeSettings(**settings)))}

    assert identity() != identity(swap="none") != identity(pairing="time")
    assert identity()["method.swap"] == "both"
    assert methods.settings_identity("judge", AgentSettings(encoder="none", max_turns=3)) == identity()
    agent = methods.settings_identity("agent", AgentSettings())
    assert agent == methods.settings_identity("agent", AgentSettings(judge=JudgeSettings(swap="none")))


@pytest.mark.parametrize(
    "settings", [{"opening_frames": 0}, {"opening_frames": 1000}, {"judge_rounds": -1}, {"judge_corrections": -1}]
)
def test_settings_are_checked(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"--[a-z-]+ is"):
        JudgeSettings(**settings)  # type: ignore[arg-type]
