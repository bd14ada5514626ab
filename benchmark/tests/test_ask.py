import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evqa import jsonl, masks, media, models, overlay
from evqa.ask import Answer, ask, write_overlay, write_sheet
from evqa.schema import Prediction, Span, Track

REPLY = "Answer: B. Temporal Evidence: [[0.5, 1.5]]. Spatial Evidence: <|seg|>."
HEIGHT, WIDTH, NUM_FRAMES, FPS = 96, 128, 18, 6.0
GREY = 60
MEDIA = Path(__file__).resolve().parents[2].parent / "shared" / "media"


def square(frame: int) -> np.ndarray:
    """Where the square is: bool [H, W]; it is gone in the last third."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    if frame < 12:
        mask[30:70, 5 * frame : 5 * frame + 40] = True
    return mask


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip one.mp4"
    frames = np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), GREY, dtype=np.uint8)
    media.write_video(path, iter(frames), FPS)
    return path


def replies(tmp_path: Path, **reply: object) -> str:
    """The path of a script that gives every question the same reply, with the square's masks."""
    track = {"masks": {frame: masks.encode(square(frame)).model_dump() for frame in range(12)}}
    path = tmp_path / "replies.json"
    path.write_text(json.dumps({"*": {"text": REPLY, "tracks": [track], "num_frames": NUM_FRAMES} | reply}))
    return str(path)


def answered(tmp_path: Path, video: Path) -> Answer:
    return ask(video, "Which shape moves?", ("circle", "square"), replies(tmp_path), tmp_path / "out")


def test_the_answer_tells_option_time_and_objects_and_where_the_files_are(tmp_path: Path, video: Path) -> None:
    text = answered(tmp_path, video).text()
    assert "answer:  (B) square" in text
    assert "when:    0.5-1.5 s" in text
    assert "where:   1 object(s), in 12 of 18 frames" in text
    for name in ("overlay.mp4", "sheet.png", "prediction.jsonl"):
        assert str(tmp_path / "out" / name) in text
        assert (tmp_path / "out" / name).stat().st_size > 0
    (record,) = jsonl.read_records(tmp_path / "out" / "prediction.jsonl", Prediction)
    assert (record.sample, record.answer, record.spans) == ("clip_one", 1, (Span(0.5, 1.5),))


def test_the_overlay_plays_as_long_as_the_clip_with_the_masks_on_its_frames(tmp_path: Path, video: Path) -> None:
    answer = answered(tmp_path, video)
    assert answer.overlay is not None
    film = media.probe(answer.overlay)
    assert (film.num_frames, film.width) == (NUM_FRAMES, WIDTH)
    assert film.duration == pytest.approx(answer.video.duration, abs=0.01)
    assert film.height > HEIGHT
    images = media.load(film, range(NUM_FRAMES)).astype(int)[:, :HEIGHT]
    colour = np.array(overlay.OBJECT_COLOURS[0])
    tinted = GREY * (1 - overlay.TINT) + colour * overlay.TINT
    for frame in (0, 6, 11):
        inside = images[frame, 45:55, 5 * frame + 15 : 5 * frame + 25].mean((0, 1))
        assert inside == pytest.approx(tinted, abs=12)
        assert images[frame, 85:, :].mean((0, 1)) == pytest.approx([GREY] * 3, abs=8)
    assert images[15].std() < 4


def test_the_timeline_has_the_spans_in_colour_and_a_line_at_the_second_played() -> None:
    bar = overlay.timeline(300, duration=3.0, spans=(Span(0.5, 1.5),), second=2.0)
    middle = bar[bar.shape[0] // 2]
    assert (middle[55:145] == overlay.SPAN_COLOUR).all()
    assert (middle[200] == overlay.PLAYHEAD_COLOUR).all()
    assert (middle[:48] == overlay.BAR_COLOUR).all()
    assert (middle[250:] == overlay.BAR_COLOUR).all()


def test_a_timeline_keeps_spans_and_seconds_past_the_end_inside() -> None:
    bar = overlay.timeline(100, duration=2.0, spans=(Span(1.0, 50.0),), second=9.0)
    assert bar.shape[1] == 100
    assert (bar[bar.shape[0] // 2, 60:97] == overlay.SPAN_COLOUR).all()
    assert (overlay.timeline(100, duration=0.0, spans=(Span(0, 0),), second=0.0)[0, 50] == overlay.BAR_COLOUR).all()


def test_a_contour_is_the_edge_of_the_mask_inside_it() -> None:
    mask = np.zeros((7, 8), dtype=np.bool_)
    mask[1:6, 2:7] = True
    edge = overlay.contour(mask)
    assert edge.sum() == 16
    assert not edge[2:5, 3:6].any()
    assert overlay.contour(np.ones((3, 3), dtype=np.bool_)).sum() == 8
    assert not overlay.contour(np.zeros((3, 3), dtype=np.bool_)).any()


def test_objects_have_colours_of_their_own_and_the_frame_is_left_as_it_was() -> None:
    frame = np.zeros((20, 20, 3), dtype=np.uint8)
    left, right = np.zeros((2, 20, 20), dtype=np.bool_)
    left[:, :8], right[:, 12:] = True, True
    drawn = overlay.tinted(frame, [left, right])
    assert (drawn[10, 0] == overlay.OBJECT_COLOURS[0]).all()
    assert (drawn[10, 19] == overlay.OBJECT_COLOURS[1]).all()
    assert drawn[10, 4].sum() > 0
    assert not drawn[:, 8:12].any()
    assert not frame.any()


def test_the_sheet_shows_twelve_frames_with_the_masks(tmp_path: Path, video: Path) -> None:
    sheet = answered(tmp_path, video).sheet
    assert sheet is not None
    page = np.asarray(Image.open(sheet)).astype(int)
    assert page.shape[1] > 4 * 320
    assert page.shape[0] > 3 * 320 * HEIGHT // WIDTH
    tinted = (GREY * (1 - overlay.TINT) + np.array(overlay.OBJECT_COLOURS[0]) * overlay.TINT).astype(int)
    assert (np.abs(page - tinted).max(axis=2) < 12).sum() > 7 * 90 * 90
    assert (page == overlay.SPAN_COLOUR).all(axis=2).sum() > 3 * 320 * 4


def test_masks_of_another_size_are_drawn_at_the_size_of_the_frame(tmp_path: Path, video: Path) -> None:
    half = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.bool_)
    half[:, : WIDTH // 4] = True
    track = {"masks": {frame: masks.encode(half).model_dump() for frame in range(NUM_FRAMES)}}
    answer = ask(video, "What?", (), replies(tmp_path, tracks=[track]), tmp_path / "out")
    assert answer.overlay is not None
    image = media.load(media.probe(answer.overlay), [5])[0].astype(int)
    assert np.abs(image[48, 10:54] - GREY).max(axis=1).min() > 20
    assert np.abs(image[48, 74:118] - GREY).max() < 8


def test_a_clip_of_uneven_rate_keeps_its_time(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (33, 21), (50 * number, 0, 0)).save(folder / f"{number}.png")
    answer = ask(folder, "What?", (), replies(tmp_path, tracks=None), tmp_path / "out")
    assert answer.overlay is not None
    film = media.probe(answer.overlay)
    assert film.duration == pytest.approx(5 / 6, abs=0.01)
    assert media.load(film, [4])[0][5, 5, 0] == pytest.approx(200, abs=10)
    assert "no masks" in answer.text()


def test_a_fast_clip_is_shown_at_thirty_frames_a_second(tmp_path: Path) -> None:
    path = tmp_path / "fast.mp4"
    media.write_video(path, iter(np.zeros((60, 32, 32, 3), dtype=np.uint8)), 60.0)
    video = media.probe(path)
    write_overlay(tmp_path / "slow.mp4", video, Prediction(sample="x", status="ok"))
    film = media.probe(tmp_path / "slow.mp4")
    assert (film.num_frames, film.duration) == (30, pytest.approx(1.0, abs=0.01))


def test_a_model_that_fails_leaves_a_record_and_no_pictures(tmp_path: Path, video: Path) -> None:
    answered(tmp_path, video)
    answer = ask(video, "What?", (), replies(tmp_path, error="no memory"), tmp_path / "out")
    assert "failed:  ModelError: no memory" in answer.text()
    assert answer.overlay is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["prediction.jsonl"]


def test_what_cannot_be_asked_is_an_error(tmp_path: Path, video: Path) -> None:
    script = replies(tmp_path)
    with pytest.raises(ValueError, match="question is empty"):
        ask(video, " ", (), script, tmp_path / "out")
    with pytest.raises(ValueError, match="at most 26 options"):
        ask(video, "What?", [str(number) for number in range(27)], script, tmp_path / "out")
    with pytest.raises(ValueError, match=r"missing\.mp4"):
        ask(tmp_path / "missing.mp4", "What?", (), script, tmp_path / "out")
    with pytest.raises(ValueError, match="cannot write to /proc/evqa-ask"):
        ask(video, "What?", (), script, Path("/proc/evqa-ask"))
    assert not (tmp_path / "out").exists()


def test_a_note_of_the_checkpoint_is_told_with_the_answer(tmp_path: Path, video: Path) -> None:
    class Named:
        """The scripted model under the name of a model whose checkpoint has a note."""

        name = "tiny"
        _script = models.build(replies(tmp_path))
        settings = _script.settings
        generate = _script.generate

    answer = ask(video, "What?", (), Named(), tmp_path / "out")
    assert "note:    tiny has seen nothing but the drawn shapes" in answer.text()
    assert "note:" not in answered(tmp_path, video).text()


def test_a_large_clip_is_drawn_smaller_with_its_masks_in_place(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    media.write_video(path, iter(np.full((2, 1080, 1920, 3), GREY, dtype=np.uint8)), FPS)
    left = np.zeros((1080, 1920), dtype=np.bool_)
    left[:, :960] = True
    track = Track(masks={0: masks.encode(left), 1: masks.encode(left)})
    write_overlay(tmp_path / "film.mp4", media.probe(path), Prediction(sample="x", status="ok", tracks=(track,)))
    image = media.load(media.probe(tmp_path / "film.mp4"), [1])[0].astype(int)
    assert image.shape[1] == 960
    assert np.abs(image[270, 20:460] - GREY).max(axis=1).min() > 20
    assert np.abs(image[270, 500:940] - GREY).max() < 8


@pytest.mark.skipif(not MEDIA.is_dir(), reason="no real clips beside the repository")
def test_a_sheet_of_a_real_clip_shows_its_frames_at_their_times(tmp_path: Path) -> None:
    video = media.probe(min(MEDIA.glob("*.mp4"), key=lambda path: path.stat().st_size))
    write_sheet(tmp_path / "sheet.png", video, Prediction(sample="x", status="ok", spans=(Span(0, 1),)), "A\nB")
    page = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    size = (320, round(320 * video.height / video.width))
    first = np.asarray(Image.fromarray(media.load(video, [0])[0]).resize(size)).astype(int)
    top = next(row for row in range(page.shape[0]) if (page[row, 100] == overlay.SPAN_COLOUR).all())
    tile = page[top : top + size[1], 6:326]
    assert np.abs(tile - first)[10:-10, 10:-10].mean() < 12
