"""What the bar says of a run: how much is done, the time that is left, and the score so far."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evqa import masks
from evqa.runs.live_scores import live_scores
from evqa.runs.progress import Progress
from evqa.schema import AnswerField, Prediction, Sample, Span, Track, Turn

SIZE = (32, 48)
ASKS: tuple[AnswerField, ...] = ("answer", "spans", "masks")


def square(left: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[8:24, left : left + 16] = True
    return mask


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A clip of 20 frames whose evidence is a square on frames 0 to 9."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for frame in range(10):
        Image.fromarray(square(4).astype(np.uint8) * 255).save(folder / f"{frame:05d}.png")
    return Sample(
        id="one",
        video_id="v",
        video=Path("v.mp4"),
        question="?",
        options=("a", "b"),
        answer=1,
        spans=(Span(0, 2),),
        masks=folder,
    )


def predicted(frames: range, left: int = 4, asks: tuple[AnswerField, ...] = ASKS) -> Prediction:
    drawn = Track(masks={frame: masks.encode(square(left)) for frame in frames})
    turn = Turn(answer_fields=asks, prompt="?", reply="!")
    return Prediction(
        sample_id="one", status="ok", turns=(turn,), answer=1, spans=(Span(0, 1),), tracks=(drawn,), num_frames=20
    )


def test_gold_scores_one_in_each_part_and_nothing_scores_what_is_empty_in_both(sample: Sample) -> None:
    assert live_scores(sample, predicted(range(10))) == {"Acc": 1.0, "IoU": 0.5, "J&F": 1.0}
    nothing = live_scores(sample, predicted(range(0)))
    assert nothing is not None
    assert nothing["J&F"] == 0.5, "of the eight frames that are looked at, four hold evidence"
    elsewhere = live_scores(sample, predicted(range(10), left=30))
    assert elsewhere is not None
    assert elsewhere["J&F"] == 0.5


def test_masks_are_compared_on_few_frames_only(sample: Sample) -> None:
    looked_at = {0, 3, 5, 8, 11, 14, 16, 19}
    unread = predicted(range(10))
    broken = masks.encode(square(4)).model_copy(update={"counts": "x?"})
    assert unread.tracks is not None
    track = unread.tracks[0]
    others = {frame: broken for frame in track.masks if frame not in looked_at}
    odd = unread.model_copy(update={"tracks": (track.model_copy(update={"masks": track.masks | others}),)})
    assert live_scores(sample, odd) == live_scores(sample, unread)
    bad = unread.model_copy(update={"tracks": (track.model_copy(update={"masks": track.masks | {3: broken}}),)})
    found = live_scores(sample, bad)
    assert found is not None
    assert found["J&F"] == 0.0, "masks that cannot be read are none"


def test_what_was_not_asked_for_or_has_no_gold_has_no_score(sample: Sample) -> None:
    found = live_scores(sample, predicted(range(10), asks=("answer",)))
    assert found == {"Acc": 1.0}
    without = sample.model_copy(update={"masks": None, "spans": None})
    assert live_scores(without, predicted(range(10))) == {"Acc": 1.0}
    gone = sample.model_copy(update={"masks": Path("/nowhere")})
    assert live_scores(gone, predicted(range(10))) == {"Acc": 1.0, "IoU": 0.5}


def test_the_bar_counts_failures_as_zero_and_earlier_records_too(
    sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = {name: sample.model_copy(update={"id": name}) for name in ("one", "two", "three")}
    with Progress(samples, live_scores, show=True) as bar:
        bar.add_earlier(predicted(range(10)))
        bar.start(1, {"two": 3.0, "three": 1.0})
        bar.add(Prediction(sample_id="two", status="failed", error="no"))
        assert bar.means() == {"Acc": 0.5, "IoU": 0.25, "J&F": 0.5}
        text = bar.text()
        assert text.startswith("left 00:0")
        assert text.endswith("Acc 50.0, IoU 25.0, J&F 50.0, failed 1")
    assert "J&F 50.0" in capsys.readouterr().err


def test_a_run_without_a_bar_compares_nothing(sample: Sample) -> None:
    with Progress({"one": sample}, live_scores, show=False) as bar:
        bar.add(predicted(range(10)))
        assert bar.means() == {}
