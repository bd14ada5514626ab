import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evqa import masks, media, methods, models
from evqa.hub import checkpoints
from evqa.models.base import ModelError, Models
from evqa.models.messages import Message, VideoPart
from evqa.models.scripted import ScriptedModel
from evqa.schema import RLE, Sample, Span

REPLY = "Answer: B. Temporal Evidence: [[0.5, 1.5]]. Spatial Evidence: <|seg|>."


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames of a square that moves to the right, 6 a second, 48 x 64 pixels."""
    path = tmp_path / "square.mp4"
    frames = np.full((12, 48, 64, 3), 40, dtype=np.uint8)
    for number in range(12):
        frames[number, 10:30, 2 * number : 2 * number + 20] = (200, 30, 30)
    media.write_video(path, iter(frames), 6.0)
    return path


def sample_of(video: Path, **fields: object) -> Sample:
    facts = {"id": "one", "video_id": "square", "video": video, "question": "What moves?"}
    return Sample.model_validate(facts | {"options": ("circle", "square")} | fields)


def scripted(tmp_path: Path, script: object) -> ScriptedModel:
    path = tmp_path / "replies.json"
    path.write_text(json.dumps(script), encoding="utf-8")
    model = models.build(str(path))
    assert isinstance(model, ScriptedModel)
    return model


def mask_of(frame: int) -> RLE:
    mask = np.zeros((48, 64), dtype=np.bool_)
    mask[10:30, 2 * frame : 2 * frame + 20] = True
    return masks.encode(mask)


def ask(text: str, video: str = "square.mp4", turns: int = 0) -> tuple[Message, ...]:
    past = (Message("user", ("x",)), Message("assistant", ("y",)))
    return (*past * turns, Message("user", (VideoPart(Path(video)), text)))


def test_a_reply_becomes_a_prediction_with_answer_spans_and_masks(tmp_path: Path, video: Path) -> None:
    track = {"masks": {frame: mask_of(frame).model_dump() for frame in range(12)}}
    model = scripted(tmp_path, {"What moves?": {"text": REPLY, "tracks": [track], "num_frames": 12}})
    prediction = methods.METHODS["single-turn"](Models(model), sample_of(video))
    assert prediction.status == "ok"
    assert prediction.answer == 1
    assert prediction.spans == (Span(0.5, 1.5),)
    assert prediction.tracks is not None
    assert masks.decode(prediction.tracks[0].masks[3])[15, 6:26].all()
    assert (prediction.mask_size, prediction.num_frames, prediction.mask_frames) == ((48, 64), 12, None)
    assert prediction.turns[0].reply == REPLY
    assert prediction.turns[0].answer_fields == ("answer", "spans", "masks")
    assert "What moves?" in prediction.turns[0].prompt
    assert "(B) square" in prediction.turns[0].prompt


def test_no_reply_is_a_failed_prediction_with_its_reason(tmp_path: Path, video: Path) -> None:
    model = scripted(tmp_path, {"*": {"error": "out of memory"}})
    prediction = methods.METHODS["single-turn"](Models(model), sample_of(video))
    assert (prediction.status, prediction.error) == ("failed", "ModelError: out of memory")
    assert prediction.turns == ()


def test_a_video_that_cannot_be_read_is_a_failed_prediction(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    prediction = methods.METHODS["single-turn"](Models(scripted(tmp_path, {"*": REPLY})), sample_of(broken))
    assert prediction.status == "failed"
    assert prediction.error is not None
    assert "broken.mp4" in prediction.error


def test_a_question_without_options_is_not_asked_for_a_letter(tmp_path: Path, video: Path) -> None:
    model = scripted(tmp_path, {"*": REPLY})
    prediction = methods.METHODS["single-turn"](Models(model), sample_of(video, options=()))
    assert prediction.turns[0].answer_fields == ("spans", "masks")
    assert prediction.answer is None


def test_a_method_that_is_not_known_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'twice'; the methods are: single-turn"):
        methods.method("twice")


def test_the_longest_key_found_in_the_prompt_chooses_the_scripted_reply(tmp_path: Path) -> None:
    model = scripted(tmp_path, {"moves": "short", "What moves?": "long", "clip": "by video", "*": "any"})
    assert model.generate(ask("What moves?")).text == "long"
    assert model.generate(ask("It moves")).text == "short"
    assert model.generate(ask("Who?", video="clip.mp4")).text == "by video"
    assert model.generate(ask("Who?")).text == "any"


def test_a_script_can_have_a_reply_for_each_turn_and_fails_past_the_last(tmp_path: Path) -> None:
    model = scripted(tmp_path, {"*": ["first", "second"]})
    assert [model.generate(ask("?", turns=turns)).text for turns in (0, 1)] == ["first", "second"]
    with pytest.raises(ModelError, match="2 replies for '\\*', turn 3 was asked"):
        model.generate(ask("?", turns=2))


def test_a_question_that_the_script_does_not_know_gets_no_reply(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no reply for 'Who"):
        scripted(tmp_path, {"What?": "x"}).generate(ask("Who?"))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"*": {"text": "x", "trackz": []}}, "trackz"),
        ({"*": {"text": "x", "tracks": [{"masks": {"0": {"size": [2, 2], "counts": "4"}}}]}}, "num_frames"),
        ([], "should be an object"),
    ],
)
def test_a_file_that_is_no_script_is_refused_with_the_reason(tmp_path: Path, script: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        scripted(tmp_path, script)


def test_a_change_of_the_script_changes_the_settings_of_the_model(tmp_path: Path) -> None:
    one = scripted(tmp_path, {"*": "a"}).settings
    assert one == scripted(tmp_path, {"*": "a"}).settings
    assert one != scripted(tmp_path, {"*": "b"}).settings


def test_a_model_that_is_not_known_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'unipixel-300b'; the models are: tiny, unipixel-3b"):
        models.build("unipixel-300b")


def test_a_missing_package_is_an_error_that_names_the_extra() -> None:
    program = "import sys; sys.modules['torch'] = None; from evqa import models; models.build('tiny')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert "model 'tiny' needs the package torch: pip install \"evqa[models]\"" in result.stderr


def test_a_folder_with_a_checkpoint_of_our_kind_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "pixel_qwen2_5_vl"}')
    row = models.model_spec(str(tmp_path))
    assert row.arguments["checkpoint"] == str(tmp_path)
    assert (row.adapter, row.predicts_masks) == ("unipixel.inference.chat:load_chat", True)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    assert models.model_spec(str(tmp_path)).adapter == "evqa.models.hf_chat:HFChat"
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="unknown model"):
        models.model_spec(str(tmp_path))


def test_the_letters_of_the_options_are_kept_with_the_turn(tmp_path: Path, video: Path) -> None:
    reply = {"text": REPLY, "letters": {"A": -2.5, "B": -0.1, "C": -4.0}}
    prediction = methods.METHODS["single-turn"](Models(scripted(tmp_path, {"*": reply})), sample_of(video))
    assert prediction.turns[0].option_logprobs == {"A": -2.5, "B": -0.1}
    open_question = methods.METHODS["single-turn"](
        Models(scripted(tmp_path, {"*": reply})), sample_of(video, options=())
    )
    assert open_question.turns[0].option_logprobs is None


def test_a_checkpoint_that_is_not_here_is_named_with_what_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVQA_ZOO", str(tmp_path))
    with pytest.raises(ValueError, match=r"not on this machine; fetch it: bash scripts/download\.sh unipixel-3b"):
        checkpoints.locate_checkpoint("unipixel-3b")


def test_a_sharded_checkpoint_names_the_shard_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVQA_ZOO", str(tmp_path))
    folder = tmp_path / "st-evidence-3b"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "one.safetensors").touch()
    with pytest.raises(ValueError, match=r"has no two\.safetensors; fetch it"):
        checkpoints.locate_checkpoint("st-evidence-3b")
    (folder / "two.safetensors").touch()
    assert checkpoints.locate_checkpoint("st-evidence-3b") == folder


def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "pixel_qwen2_5_vl"}')
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../outside.safetensors"}}')
    with pytest.raises(ValueError, match="expected a safetensors file of its folder"):
        checkpoints.locate_checkpoint(str(tmp_path))


def test_a_download_without_network_says_what_to_do(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "EVQA_ZOO": str(tmp_path),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "evqa.hub.download", "unipixel-3b"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "cannot download PolyU-ChenLab/UniPixel-3B" in result.stderr
    assert "hf download PolyU-ChenLab/UniPixel-3B" in result.stderr


def test_the_note_of_a_checkpoint_comes_from_its_row_or_its_config(tmp_path: Path) -> None:
    assert "shapes" in checkpoints.checkpoint_note("tiny")
    assert checkpoints.checkpoint_note("unipixel-3b") == ""
    (tmp_path / "config.json").write_text('{"model_type": "pixel_qwen2_5_vl", "note": "shapes only"}')
    assert checkpoints.checkpoint_note(str(tmp_path)) == "shapes only"
