"""Points, boxes and masks as text, and models that take words only."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evqa import media, models
from evqa.__main__ import main
from evqa.models.frame_policy import FramePolicy
from evqa.models.messages import Message, PointOrBox, VideoPart
from evqa.models.openai_content import OpenAIContent
from evqa.models.visual_prompts import VisualPrompts, places_of, region


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Six frames of 64 x 48, 4 a second."""
    media.write_video(tmp_path / "clip.mp4", iter(np.full((6, 48, 64, 3), 90, dtype=np.uint8)), 4.0)
    return tmp_path / "clip.mp4"


def test_points_come_before_boxes_each_with_its_second(clip: Path) -> None:
    found = places_of(media.probe_video(clip), VisualPrompts(boxes=("1,2,30,40",), points=("5,6.5@0.5", "64,48")))
    assert found == (
        PointOrBox((5.0, 6.5), 0.5),
        PointOrBox((64.0, 48.0), 0.0),
        PointOrBox((1.0, 2.0, 30.0, 40.0), 0.0),
    )


def test_a_mask_is_an_object_in_the_frame_nearest_to_its_second(clip: Path, tmp_path: Path) -> None:
    drawn = np.zeros((48, 64), dtype=np.uint8)
    drawn[3:9, 4:8] = 1
    Image.fromarray(drawn).save(tmp_path / "m.png")
    assert list(region(f"{tmp_path / 'm.png'}@0.8", media.probe_video(clip)).masks) == [3]
    Image.fromarray(drawn[:, :50]).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="is 50 x 48, the video 64 x 48"):
        region(str(tmp_path / "small.png"), media.probe_video(clip))
    Image.fromarray(0 * drawn).save(tmp_path / "empty.png")
    with pytest.raises(ValueError, match="is empty"):
        region(str(tmp_path / "empty.png"), media.probe_video(clip))


@pytest.mark.parametrize(
    ("pointing", "reason"),
    [
        (VisualPrompts(points=("5",)), "expected 2 numbers"),
        (VisualPrompts(points=("5,1e3",)), "expected 2 numbers"),
        (VisualPrompts(points=("65,3",)), "outside of the frame"),
        (VisualPrompts(points=("5,6@",)), "behind @ stands a second"),
        (VisualPrompts(points=("5,6@-1",)), "behind @ stands a second"),
        (VisualPrompts(points=("5,6@9",)), "behind the end of the video, which lasts 1.5 s"),
        (VisualPrompts(boxes=("9,9,3,12",)), "x0 < x1"),
    ],
)
def test_what_is_no_place_is_refused_with_its_reason(clip: Path, pointing: VisualPrompts, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        places_of(media.probe_video(clip), pointing)


def test_a_model_that_takes_words_only_refuses_and_ignores_nothing(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "replies.json").write_text(json.dumps({"*": "A dog."}))
    script = str(tmp_path / "replies.json")
    assert main(["ask", str(clip), "What is [1]?", "--point", "3,3", "--model", script, "--out", str(tmp_path)]) == 2
    assert f"model '{script}' takes words only" in capsys.readouterr().err
    asked = (Message("user", (VideoPart(clip, prompts=(PointOrBox((3, 3)),)), "What is <|ref|>?")),)
    with pytest.raises(ValueError, match="takes words only"):
        models.build(script).generate(asked)
    content = OpenAIContent(FramePolicy(fps=1.0, max_frames=2, max_side=None), 95, 1)
    with pytest.raises(ValueError, match="takes words only"):
        content.messages(asked)
