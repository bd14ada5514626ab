import inspect
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
import pytest
from PIL import Image

from evqa import masks, media, models
from evqa.__main__ import main
from evqa.agents.settings import AgentSettings
from evqa.ask import AskResult, AskSettings, ask
from evqa.cli import load_command
from evqa.files import jsonl
from evqa.models.base import Capabilities
from evqa.models.messages import Reply
from evqa.models.options import ModelOptions, settings_with_option
from evqa.report import colours, overlay
from evqa.report.captions import load_font, wrap
from evqa.report.evidence_files import EvidenceDrawing
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


def answered(tmp_path: Path, video: Path) -> AskResult:
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
    assert (record.sample_id, record.answer, record.spans) == ("clip_one", 1, (Span(0.5, 1.5),))


def film_frames(path: Path, title: str, size: tuple[int, int]) -> np.ndarray:
    """int [N, H, W, 3]: the pictures of an overlay, without caption and timeline, of a size (H, W)."""
    film = media.probe_video(path)
    top = overlay.caption(title, size[1]).shape[0]
    return media.load_frames(film, range(film.num_frames)).astype(int)[:, top : top + size[0]]


def test_the_overlay_plays_as_long_as_the_clip_with_the_masks_on_its_frames(tmp_path: Path, video: Path) -> None:
    answer = answered(tmp_path, video)
    assert answer.overlay is not None
    film = media.probe_video(answer.overlay)
    scale = 480 / WIDTH
    assert (film.num_frames, film.width) == (NUM_FRAMES, 480)
    assert film.duration == pytest.approx(answer.answer.video.duration, abs=0.01)
    images = film_frames(answer.overlay, "Which shape moves?\n(B) square", (360, 480))
    (colour,) = colours.object_colours([np.full((1, 3), GREY, dtype=np.uint8)])
    tinted = GREY * (1 - overlay.OPACITY) + np.array(colour) * overlay.OPACITY
    for frame in (0, 6, 11):
        left = round((5 * frame + 15) * scale)
        inside = images[frame, round(45 * scale) : round(55 * scale), left : left + 37].mean((0, 1))
        assert inside == pytest.approx(tinted, abs=12)
        assert images[frame, round(85 * scale) :].mean((0, 1)) == pytest.approx([GREY] * 3, abs=8)
    assert images[15].std() < 4


def test_the_question_stands_above_the_frames_inside_the_width(tmp_path: Path, video: Path) -> None:
    question = "Which of the shapes that can be seen moves to the right before the others begin to move? " + "x" * 99
    answer = ask(video, question, ("circle", "square"), replies(tmp_path), tmp_path / "out")
    assert answer.overlay is not None
    film = media.probe_video(answer.overlay)
    strip = overlay.caption(f"{question}\n(B) square", 480)
    assert strip.shape[0] > overlay.caption("What?\n(B) square", 480).shape[0]
    shown = media.load_frames(film, [3])[0][: strip.shape[0]].astype(int)
    assert np.abs(shown - strip).mean() < 6
    text = (strip != overlay.CAPTION_COLOUR).any(axis=2).any(axis=0)
    assert text.any()
    assert not text[:4].any()
    assert not text[-4:].any()


def test_every_line_of_wrapped_text_fits_and_no_character_is_lost() -> None:
    font = load_font("a", 16)
    text = "one two three " + "w" * 200 + " four\nfive"
    lines = wrap(text, font, 120)
    assert max(font.getlength(line) for line in lines) <= 120
    assert "".join(lines).replace(" ", "") == "".join(text.split())
    assert wrap("", font, 120) == []
    assert all(len(line) == 1 for line in wrap("wide", font, 1))


@pytest.mark.parametrize("colour", [(235, 110, 40), (86, 180, 233), (0, 158, 115), (240, 228, 66), (60, 60, 60)])
def test_an_object_gets_a_colour_that_differs_from_its_own_also_for_the_colour_blind(colour: tuple[int, ...]) -> None:
    pixels = np.array([colour] * 5, dtype=np.uint8)
    first, second = colours.object_colours([pixels, pixels])
    assert first != second
    assert min(colours.colour_distance(first, colour), colours.colour_distance(second, colour)) > 25


def test_colours_do_not_repeat_before_the_palette_is_used_up() -> None:
    chosen = colours.object_colours([None] * (len(colours.PALETTE) + 1))
    assert set(chosen) == set(colours.PALETTE)
    assert colours.object_colours([]) == []


def test_clicks_and_boxes_are_drawn_at_their_moment_and_place(tmp_path: Path, video: Path) -> None:
    marks = (
        overlay.PromptMark(at=(32, 48), second=0.0, label="[1]"),
        overlay.PromptMark(at=(80, 20, 120, 60), second=0.0),
        overlay.PromptMark(at=(100, 80), second=0.0, is_negative=True),
    )
    drawing = EvidenceDrawing(
        video=media.probe_video(video), prediction=Prediction(sample_id="x", status="ok"), caption="t", prompts=marks
    )
    drawing.write_video(tmp_path / "film.mp4")
    images = film_frames(tmp_path / "film.mp4", "t", (360, 480))
    scale = 480 / WIDTH
    click, box = images[0, 180, 120], images[0, round(40 * scale), round(80 * scale) + 2]
    assert click.min() > 200
    assert box.min() > 150
    minus = images[0, round(80 * scale) - 4, round(100 * scale)]
    assert minus.max() < 80
    assert images[-1].std() < 4


def test_objects_that_the_user_points_at_are_outlined_and_not_filled() -> None:
    frame = np.full((100, 100, 3), GREY, dtype=np.uint8)
    mask = np.zeros((100, 100), dtype=np.bool_)
    mask[20:80, 20:80] = True
    drawn = overlay.draw_objects(frame, [overlay.OverlayMask(mask=mask, is_prompt=True)])
    assert (drawn[20, 50] == overlay.WHITE).all()
    assert (drawn[50, 50] == GREY).all()


def write_with_audio(path: Path, *, codec: str, seconds: float, start: float = 0.0) -> None:
    """A clip of grey frames at 10 a second; a 440 Hz tone of 0.5 s begins at second 1 after the first frame."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=32_000)
        sound.codec_context.layout = "mono"
        for number in range(round(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), GREY, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + round(start * 10), Fraction(1, 10)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        times = np.arange(round((seconds + start) * 32_000)) / 32_000 - start
        tone = np.where((times >= 1) & (times < 1.5), 0.5 * np.sin(2 * np.pi * 440 * times), 0)
        resampler = av.AudioResampler(
            sound.codec_context.format, "mono", 32_000, sound.codec_context.frame_size or 1024
        )
        samples = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = 32_000, 0
        for piece in [*resampler.resample(samples), *resampler.resample(None)]:
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))


def loudness(path: Path) -> np.ndarray:
    """Root mean square of a file's sound in steps of 0.1 s."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", 48_000)
        pieces = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
    wave = np.concatenate([piece.to_ndarray()[0] for piece in pieces])
    return np.array([np.sqrt((part**2).mean()) for part in np.array_split(wave, len(wave) // 4800)])


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac"), ("a.mov", "pcm_s16le")])
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_the_overlay_keeps_the_sound_of_the_clip_in_time(tmp_path: Path, name: str, codec: str, start: float) -> None:
    path = tmp_path / name
    write_with_audio(path, codec=codec, seconds=3, start=start)
    answer = ask(path, "What?", (), replies(tmp_path, tracks=None), tmp_path / "out")
    assert answer.overlay is not None
    level = loudness(answer.overlay)
    assert len(level) == pytest.approx(30, abs=1)
    assert level[11:14].min() > 0.3
    assert level[:9].max() < 0.02
    assert level[17:].max() < 0.02


def test_damaged_sound_does_not_cost_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_with_audio(path, codec="flac", seconds=3)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.pts is not None]
    largest = max(packets, key=lambda packet: packet.size)
    data = bytearray(path.read_bytes())
    data[largest.pos + 30 : largest.pos + largest.size - 30] = bytes(largest.size - 60)
    path.write_bytes(data)
    answer = ask(path, "What?", (), replies(tmp_path, tracks=None), tmp_path / "out")
    assert answer.overlay is not None
    assert media.probe_video(answer.overlay).num_frames == 30


def test_without_options_the_reply_is_printed_once(tmp_path: Path, video: Path) -> None:
    text = ask(video, "What happens?", (), replies(tmp_path, text="A square moves."), tmp_path / "out").text()
    assert text.count("A square moves.") == 1


def test_the_timeline_has_the_spans_in_colour_and_a_line_at_the_second_played() -> None:
    bar = overlay.timeline(300, duration=3.0, spans=(Span(0.5, 1.5),), second=2.0)
    middle = bar[bar.shape[0] // 2]
    assert (middle[55:145] == overlay.SPAN_COLOUR).all()
    assert (middle[200] == overlay.WHITE).all()
    assert (middle[:48] == overlay.BAR_COLOUR).all()
    without_time = overlay.timeline(300, duration=3.0, spans=(Span(0.5, 1.5),))
    assert (without_time[bar.shape[0] // 2, 155:] == overlay.BAR_COLOUR).all()


def test_a_timeline_keeps_spans_and_seconds_past_the_end_inside() -> None:
    bar = overlay.timeline(400, duration=2.0, spans=(Span(1.0, 50.0),), second=9.0)
    assert bar.shape[1] == 400
    assert (bar[bar.shape[0] // 2, 210:260] == overlay.SPAN_COLOUR).all()
    assert (overlay.timeline(100, duration=0.0, spans=(Span(0, 0),), second=0.0)[0, 50] == overlay.BAR_COLOUR).all()


def test_a_contour_is_the_edge_of_the_mask_inside_it() -> None:
    mask = np.zeros((7, 8), dtype=np.bool_)
    mask[1:6, 2:7] = True
    edge = overlay.contour(mask)
    assert edge.sum() == 16
    assert not edge[2:5, 3:6].any()
    assert overlay.contour(np.ones((3, 3), dtype=np.bool_)).sum() == 8
    assert not overlay.contour(np.zeros((3, 3), dtype=np.bool_)).any()


def test_an_object_is_filled_outlined_and_labelled_and_the_frame_is_left_as_it_was() -> None:
    frame = np.zeros((200, 200, 3), dtype=np.uint8)
    left, right = np.zeros((2, 200, 200), dtype=np.bool_)
    left[60:, :80], right[60:, 120:] = True, True
    red, blue = (213, 94, 0), (0, 114, 178)
    first, second = (
        overlay.OverlayMask(mask=left, colour=red, label="1 dog"),
        overlay.OverlayMask(mask=right, colour=blue),
    )
    drawn = overlay.draw_objects(frame, [first, second])
    assert (drawn[100, 0] == overlay.WHITE).all() or (drawn[100, 0] == red).all()
    assert (drawn[130, 40] == np.array(red) // 2).all()
    assert (drawn[130, 160] == np.array(blue) // 2).all()
    assert (drawn[40:59, :80] == red).all(axis=2).any()
    assert not drawn[:59, 120:].any()
    assert not drawn[:, 81:119].any()
    assert not frame.any()


def test_the_sheet_shows_twelve_frames_with_the_masks(tmp_path: Path, video: Path) -> None:
    sheet = answered(tmp_path, video).sheet
    assert sheet is not None
    page = np.asarray(Image.open(sheet)).astype(int)
    assert page.shape[1] > 4 * 320
    assert page.shape[0] > 3 * 320 * HEIGHT // WIDTH
    (colour,) = colours.object_colours([np.full((1, 3), GREY, dtype=np.uint8)])
    tinted = (GREY * (1 - overlay.OPACITY) + np.array(colour) * overlay.OPACITY).astype(int)
    assert (np.abs(page - tinted).max(axis=2) < 12).sum() > 7 * 80 * 80
    assert (page == overlay.SPAN_COLOUR).all(axis=2).sum() > 3 * 320 * 4


def test_masks_of_another_size_are_drawn_at_the_size_of_the_frame(tmp_path: Path, video: Path) -> None:
    half = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.bool_)
    half[:, : WIDTH // 4] = True
    track = {"masks": {frame: masks.encode(half).model_dump() for frame in range(NUM_FRAMES)}}
    answer = ask(video, "What?", (), replies(tmp_path, tracks=[track]), tmp_path / "out")
    assert answer.overlay is not None
    image = film_frames(answer.overlay, f"What?\n{REPLY}", (360, 480))[5]
    assert np.abs(image[180, 38:202] - GREY).max(axis=1).min() > 20
    assert np.abs(image[180, 278:442] - GREY).max() < 8


def test_a_clip_of_uneven_rate_keeps_its_time(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (33, 21), (50 * number, 0, 0)).save(folder / f"{number}.png")
    answer = ask(folder, "What?", (), replies(tmp_path, tracks=None), tmp_path / "out")
    assert answer.overlay is not None
    film = media.probe_video(answer.overlay)
    assert film.duration == pytest.approx(5 / 6, abs=0.01)
    assert film_frames(answer.overlay, f"What?\n{REPLY}", (306, 480))[4][150, 240, 0] == pytest.approx(200, abs=10)
    assert "no masks" in answer.text()


def test_a_fast_clip_is_shown_at_thirty_frames_a_second(tmp_path: Path) -> None:
    path = tmp_path / "fast.mp4"
    media.write_video(path, iter(np.zeros((60, 32, 32, 3), dtype=np.uint8)), 60.0)
    video = media.probe_video(path)
    drawing = EvidenceDrawing(video=video, prediction=Prediction(sample_id="x", status="ok"), caption="fast")
    drawing.write_video(tmp_path / "slow.mp4")
    film = media.probe_video(tmp_path / "slow.mp4")
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
        """The scripted model with the checkpoint of a model that has a note."""

        name = "my-model"
        _script = models.build(replies(tmp_path))
        settings = MappingProxyType({"checkpoint": "tiny"})
        capabilities, generate = _script.capabilities, _script.generate

    answer = ask(video, "What?", (), Named(), tmp_path / "out")
    assert "note:    tiny was trained on the synthetic shapes" in answer.text()
    assert "note:" not in answered(tmp_path, video).text()


def test_a_large_clip_is_drawn_smaller_with_its_masks_in_place(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    media.write_video(path, iter(np.full((2, 1080, 1920, 3), GREY, dtype=np.uint8)), FPS)
    left = np.zeros((1080, 1920), dtype=np.bool_)
    left[:, :960] = True
    track = Track(masks={0: masks.encode(left), 1: masks.encode(left)})
    prediction = Prediction(sample_id="x", status="ok", tracks=(track,))
    EvidenceDrawing(video=media.probe_video(path), prediction=prediction, caption="t").write_video(
        tmp_path / "film.mp4"
    )
    image = film_frames(tmp_path / "film.mp4", "t", (540, 960))[1]
    assert image.shape[1] == 960
    assert np.abs(image[270, 20:460] - GREY).max(axis=1).min() > 20
    assert np.abs(image[270, 500:940] - GREY).max() < 8


@pytest.mark.skipif(not MEDIA.is_dir(), reason="no real clips beside the repository")
def test_a_sheet_of_a_real_clip_shows_its_frames_at_their_times(tmp_path: Path) -> None:
    video = media.probe_video(min(MEDIA.glob("*.mp4"), key=lambda path: path.stat().st_size))
    prediction = Prediction(sample_id="x", status="ok", spans=(Span(0, 1),))
    EvidenceDrawing(video=video, prediction=prediction, caption="A\nB").write_sheet(tmp_path / "sheet.png")
    page = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    size = (320, round(320 * video.height / video.width))
    first = np.asarray(Image.fromarray(media.load_frames(video, [0])[0]).resize(size)).astype(int)
    marked = np.flatnonzero((page[:, 160] == overlay.SPAN_COLOUR).all(axis=1))
    head = overlay.caption("A\nB", page.shape[1]).shape[0] + 40
    top = next(row for row in marked if row + 1 not in marked and row > head)
    tile = page[top + 1 : top + 1 + size[1], 6:326]
    assert np.abs(tile - first)[10:-10, 10:-10].mean() < 12


class Answerer:
    """A model that somebody built by hand: it is in no table."""

    name = "my-model"

    def __init__(self, *texts: str, **capabilities: object) -> None:
        self.texts, self.prompts = list(texts), []
        self.capabilities = Capabilities(**capabilities)

    @property
    def settings(self) -> dict[str, str]:
        return {}

    def generate(self, messages: object, *, tools: object = (), decoding: object = None) -> Reply:
        self.prompts.append(messages[-1].parts[-1])
        return Reply(self.texts[min(len(self.prompts), len(self.texts)) - 1])


def test_a_built_model_that_is_in_no_table_is_asked_for_json(tmp_path: Path, video: Path) -> None:
    model = Answerer('{"answer": "B", "segments": [[0.5, 1.5]], "referring_expressions": ["the square"]}')
    answer = ask(video, "Which shape moves?", ("circle", "square"), model, tmp_path / "out")
    assert (answer.prediction.answer, answer.prediction.spans) == (1, (Span(0.5, 1.5),))
    assert answer.prediction.expressions == ("the square",)
    assert "JSON" in model.prompts[0]
    assert answer.answer.note == ""
    with pytest.raises(ValueError, match="model 'my-model' is built already"):
        ask(video, "Why?", (), model, tmp_path / "out", settings=AskSettings(overrides={"fps": 1.0}))


def test_a_built_model_is_asked_in_the_reply_format_of_its_capabilities(tmp_path: Path, video: Path) -> None:
    model = Answerer(REPLY, reply_format="evidence")
    answer = ask(video, "Which shape moves?", ("circle", "square"), model, tmp_path / "out")
    assert (answer.prediction.answer, answer.prediction.spans) == (1, (Span(0.5, 1.5),))
    assert "JSON" not in model.prompts[0]


def test_a_model_is_asked_by_its_default_method_whatever_its_name(tmp_path: Path, video: Path) -> None:
    model = Answerer("B", "[[0.5, 1.5]]", "It is there.", default_method="grounded-turns")
    answer = ask(video, "Which shape moves?", ("circle", "square"), model, tmp_path / "out")
    assert len(model.prompts) == 3, "grounded-turns, as by evqa predict"
    assert (answer.prediction.answer, answer.prediction.spans) == (1, (Span(0.5, 1.5),))
    single = AskSettings(method="trained")
    other = Answerer(REPLY, default_method="grounded-turns")
    ask(video, "Which shape moves?", ("circle", "square"), other, tmp_path / "out", settings=single)
    assert len(other.prompts) == 1
    with pytest.raises(ValueError, match=r"unknown method 'single'.*did you mean single-turn"):
        ask(video, "Why?", (), other, tmp_path / "out", settings=AskSettings(method="single"))


def test_an_open_question_in_turns_is_answered_by_the_first_reply(tmp_path: Path, video: Path) -> None:
    model = Answerer("A square moves.", "[[0.5, 1.5]]", "There it is.")
    settings = AskSettings(method="grounded-turns")
    text = ask(video, "What moves?", (), model, tmp_path / "out", settings=settings).text()
    assert "answer:  A square moves." in text


@pytest.mark.parametrize("command", ["ask", "predict", "benchmark", "segment"])
def test_each_command_that_asks_a_model_has_all_options_of_models(command: str) -> None:
    annotation = inspect.signature(load_command(command), eval_str=True).parameters["options"].annotation
    assert annotation.__origin__ is ModelOptions
    names = {"model_id", "base_url", "fps", "max_frames", "device", "dtype", "temperature", "mask_fps"}
    assert names <= settings_with_option()


def test_ask_reaches_a_server_with_the_options_of_predict(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    monkeypatch.delenv("EVQA_SERVER_KEY", raising=False)
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fault_server.py"))], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        given = ["ask", str(video), "Question number 001?", "--option", "circle", "--option", "square"]
        given += ["--model", "openai-compatible", "--base-url", f"{address}/v1", "--model-id", "some-model"]
        code = main([*given, "--max-frames", "2", "--fps", "1", "--out", str(tmp_path / "out")])
        text = capsys.readouterr().out
        assert code == 0, text
        assert "answer:  (" in text
        assert main([*given, "--base-url", "http://127.0.0.1:9/v1", "--tries", "1", "--out", str(tmp_path)]) == 1
        assert "failed:  " in capsys.readouterr().out
    finally:
        server.kill()
        server.wait()


def test_device_and_max_tokens_mean_the_same_for_all_models_with_weights() -> None:
    hf = ["device_map", "max_tokens"]
    given = {"device": "cpu", "max_tokens": 5}
    assert models.renamed_settings(hf, given) == {"device_map": "cpu", "max_tokens": 5}
    ours = ["device", "max_new_tokens"]
    given = {"device_map": "cpu", "max_tokens": 5}
    assert models.renamed_settings(ours, given) == {"device": "cpu", "max_new_tokens": 5}
    with pytest.raises(ValueError, match="--device-map and --device mean the same"):
        models.renamed_settings(ours, {"device": "cpu", "device_map": "cpu"})


# Agents


def agent_replies(tmp_path: Path, *turns: object) -> str:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({"*": turns}), encoding="utf-8")
    return str(path)


def tool_calls(*entries: tuple[str, object], text: str = "") -> dict[str, object]:
    return {"text": text, "calls": [{"name": name, "arguments": arguments} for name, arguments in entries]}


AGENT = AskSettings(method="agent", agent_settings=AgentSettings(encoder="none", max_turns=3))
SUBMISSION = {"answer": "a square", "spans": [[0.5, 1.5]], "objects": ["the square"]}


def test_an_agents_calls_stop_reason_and_submitted_answer_are_printed(tmp_path: Path, video: Path) -> None:
    model = agent_replies(
        tmp_path,
        tool_calls(("overview", {}), ("zoom", {"second": -1, "box": [0, 0, 1, 1]})),
        tool_calls(("submit", SUBMISSION), text="It is there."),
    )
    result = ask(video, "What moves?", (), model, tmp_path / "out", settings=AGENT)
    lines = result.text().splitlines()
    assert lines[1:6] == [
        "answer:  a square",
        "when:    0.5-1.5 s",
        "where:   no masks; in words: the square",
        "stop:    submitted after 2 turns, 2 tool calls (1 invalid), 3 frames",
        "calls:   turn 1: overview({}): 3 frames",
    ]
    assert lines[6].startswith('         turn 1: zoom({"second": -1, "box": [0, 0, 1, 1]}): error: invalid arguments')
    assert lines[7].startswith("         turn 2: submit(")
    assert lines[8] == "reply:   It is there."
    (record,) = jsonl.read_records(result.record, Prediction)
    assert [call.name for turn in record.turns for call in turn.calls] == ["overview", "zoom", "submit"]


def test_models_of_further_roles_are_asked(tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segments = tool_calls(("submit_segments", {"spans": [[0, 1]]}))
    model = agent_replies(tmp_path, segments)
    inspector = tmp_path / "inspector.json"
    inspector.write_text(json.dumps({"*": '{"answer": "a square", "segments": [[0.5, 1]]}'}), encoding="utf-8")
    options = ["--method", "inspected", "--encoder", "none", "--out", str(tmp_path / "out")]
    command = ["ask", str(video), "What moves?", "--model", model, *options]
    assert main([*command, "--agent", f"inspector={inspector}"]) == 0
    assert "answer:  a square\n" in capsys.readouterr().out
    assert main([*command, "--agent", "inspector"]) == 2
    assert "an agent is NAME=MODEL" in capsys.readouterr().err


def test_the_answer_of_an_agents_last_reply_is_printed_and_calls_before_an_error(tmp_path: Path, video: Path) -> None:
    answer = '{"answer": "a circle", "segments": [], "referring_expressions": []}'
    model = agent_replies(tmp_path, tool_calls(("frames_at", {"seconds": [1]}), text="Let me see."), answer)
    text = ask(video, "What moves?", (), model, tmp_path / "out", settings=AGENT).text()
    assert "answer:  a circle\n" in text
    assert "stop:    answered after 2 turns, 1 tool call, 1 frame\n" in text
    assert "Let me see." not in text
    model = agent_replies(tmp_path, tool_calls(("frames_at", {"seconds": [1]})), {"error": "the server is gone"})
    text = ask(video, "What moves?", (), model, tmp_path / "out", settings=AGENT).text()
    assert "failed:  ModelError: the server is gone\nstop:    failed after 1 turn, 1 tool call" in text
    assert 'frames_at({"seconds": [1]})' in text


def test_printed_text_of_models_controls_no_terminal(tmp_path: Path, video: Path) -> None:
    hostile = "\x1b[2Jwiped\u202egnp\x07\u200b"
    many = [tool_calls(*[(f"fly{hostile}\n\n", hostile * 5000)] * 8)] * 3
    text = ask(
        video, "What moves?", (), agent_replies(tmp_path, *many, hostile), tmp_path / "out", settings=AGENT
    ).text()
    assert not set(hostile[:1] + "\u202e\x07\u200b") & set(text)
    assert "answer:  <U+001B>[2Jwiped<U+202E>gnp<U+0007><U+200B>" in text
    assert "stop:    max_turns after 4 turns, 24 tool calls (24 invalid), 0 frames" in text
    assert "and 4 more calls" in text
    assert max(map(len, text.splitlines())) < 170
