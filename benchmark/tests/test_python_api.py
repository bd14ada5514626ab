"""The Python interface: `import evqa`, questions about videos, runs and scores as tables."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import evqa
from evqa import masks, media
from evqa.files import jsonl
from evqa.schema import Prediction, Span

REPLY = "Answer: B. Temporal Evidence: [[0.5, 1.5]]. Spatial Evidence: <|seg|>."
HEIGHT, WIDTH, NUM_FRAMES = 96, 128, 18


def square(frame: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[30:70, 5 * frame : 5 * frame + 40] = True
    return mask


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    media.write_video(path, iter(np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), 60, dtype=np.uint8)), 6.0)
    return path


@pytest.fixture
def replies(tmp_path: Path) -> str:
    track = {"label": "the square", "masks": {frame: masks.encode(square(frame)).model_dump() for frame in range(12)}}
    path = tmp_path / "replies.json"
    reply = {"text": REPLY, "tracks": [track], "num_frames": NUM_FRAMES}
    path.write_text(json.dumps({"*": reply}), encoding="utf-8")
    return str(path)


def test_the_import_loads_no_library_and_names_the_interface() -> None:
    code = (
        "import sys, evqa; "
        "print(sorted({'numpy', 'torch', 'pydantic', 'PIL', 'av'} & set(sys.modules)), "
        "set(evqa.__all__) <= set(dir(evqa)), callable(evqa.load))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["[]", "True", "True"]
    with pytest.raises(AttributeError, match="module 'evqa' has no attribute 'laod'"):
        evqa.laod  # noqa: B018


def test_an_answer_has_text_spans_and_masks(video: Path, replies: str) -> None:
    answer = evqa.load(replies).ask(str(video), "Which shape moves?", ["circle", "square"])
    assert (answer.text, answer.option, answer.spans, answer.error) == ("(B) square", 1, (Span(0.5, 1.5),), None)
    assert answer.masks is not None
    (moving,) = answer.masks
    assert (moving.label, moving.frames, len(moving)) == ("the square", tuple(range(12)), NUM_FRAMES)
    assert np.array_equal(moving[3], square(3))
    assert not moving[15].any()
    assert np.array_equal(moving[-NUM_FRAMES], square(0))
    stack = np.asarray(moving)
    assert (stack.shape, stack.dtype) == ((NUM_FRAMES, HEIGHT, WIDTH), np.bool_)
    assert np.array_equal(stack, np.stack(moving[:]))
    assert np.asarray(moving, dtype=np.uint8).sum() == stack.sum()
    with pytest.raises(IndexError, match="frame 18 of a video with 18 frames"):
        moving[18]
    assert str(answer).splitlines()[:2] == ["Which shape moves?", "answer:  (B) square"]


def test_an_answer_is_saved_as_video_picture_and_record(video: Path, replies: str, tmp_path: Path) -> None:
    answer = evqa.load(replies).ask(video, "Which shape moves?", ["circle", "square"])
    assert media.probe_video(answer.save(tmp_path / "new" / "overlay.mp4")).num_frames == NUM_FRAMES
    with Image.open(answer.save(str(tmp_path / "sheet.png"))) as sheet:
        assert np.array_equal(np.asarray(sheet), np.asarray(answer.image()))
    (record,) = jsonl.read_records(answer.save(tmp_path / "answer.jsonl"), Prediction)
    assert record == answer.prediction
    with pytest.raises(ValueError, match=r"saved as \.mp4, \.png, \.jsonl, got 'a\.gif'"):
        answer.save("a.gif")
    before = video.read_bytes()
    with pytest.raises(ValueError, match="is the video that was asked about"):
        answer.save(video)
    assert video.read_bytes() == before


def test_a_failure_of_the_model_is_the_answer_and_invalid_questions_are_errors(video: Path, tmp_path: Path) -> None:
    path = tmp_path / "failing.json"
    path.write_text(json.dumps({"*": {"text": "", "error": "no memory"}}), encoding="utf-8")
    model = evqa.load(path)
    answer = model.ask(video, "What?")
    assert answer.error is not None
    assert "no memory" in answer.error
    assert (answer.option, answer.spans, answer.masks) == (None, None, None)
    with pytest.raises(ValueError, match=r"there is no evidence to draw: .*no memory"):
        answer.save(tmp_path / "overlay.mp4")
    assert not (tmp_path / "overlay.mp4").exists()
    with pytest.raises(ValueError, match="the question is empty"):
        model.ask(video, " ")
    with pytest.raises(ValueError, match=r"missing\.mp4"):
        model.ask(tmp_path / "missing.mp4", "What?")
    with pytest.raises(ValueError, match="unknown method 'single-trun'"):
        model.ask(video, "What?", method="single-trun")
    with pytest.raises(ValueError, match="unknown model 'unipixel-3'"):
        evqa.load("unipixel-3")


def test_a_run_and_its_scores_are_tables_for_pandas(tmp_path: Path, bench) -> None:
    data = bench.data(tmp_path / "data", 6)
    model = bench.replies(tmp_path / "replies.json", 6)
    first = evqa.run(str(data), str(model), out=str(tmp_path / "run"), limit=4)
    assert (first.num_ok, first.num_skipped, dict(first.failed)) == (4, 0, {})
    result = evqa.run(data, model, out=tmp_path / "run")
    assert (result.num_ok, result.num_skipped) == (2, 4)
    assert len(list(result.predictions())) == 6
    scores = result.score("strict")
    assert scores.path.is_file()
    table = pd.DataFrame(scores.rows()).set_index("metric")
    assert table.loc["Acc", ["mean", "n_total", "unit"]].tolist() == [50.0, 6, "percent"]
    samples = pd.DataFrame(scores.samples())
    assert samples["Acc"].mean() == 50.0
    assert len(samples) == 6
    again = evqa.score(str(result.folder), preset="strict", baselines="none")
    assert again.rows() == scores.rows()
    assert len(scores.rows(baselines=True)) > len(scores.rows()) == len(again.rows(baselines=True))
    assert "Acc" in str(again)
    with pytest.raises(ValueError, match="unknown preset"):
        evqa.score(result.folder, preset="strcit")
