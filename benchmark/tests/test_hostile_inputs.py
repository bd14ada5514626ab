"""Files as they should not be: each gives a `ValueError` with file and reason, or a counted row."""

import csv
import re

import numpy as np
import pytest
from benchmark.tests.broken_videos import (
    clip,
    cut_short,
    cut_within_the_header,
    emptied,
    empty_folder,
    file_list,
    folder_of_a_bomb,
    folder_of_broken_images,
    noise_for_pictures,
    one_frame_without_duration,
    play_list,
    png_bomb,
    removed,
    sound_only,
    text,
    without_rate,
)
from PIL import Image

from evqa import datasets, masks, media
from evqa.datasets.formats.st_evidence import read_gen, read_instruct
from evqa.media import images

ROW = {
    "entry_id": "a_1",
    "video_id": "a",
    "video_path": "videos/a.mp4",
    "question": "What?",
    "candidates": "['x', 'y']",
    "answer": "x",
    "segment": "[[0.0, 1.0]]",
}


# Videos


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut_short, "is truncated: its frames extend to byte .*fetch it again"),
        (cut_within_the_header, "is truncated: its moov box extends to byte"),
        (emptied, r"is empty \(0 bytes\): fetch it again"),
        (text, "cannot be read as a video .*fetch it again"),
        (play_list, "cannot be read as a video"),
        (file_list, "cannot be read as a video"),
        (removed, "no such file: .*expected a video"),
        (sound_only, "has no video stream, it contains audio"),
        (noise_for_pictures, "cannot be read as a video|has no picture that can be decoded"),
        (empty_folder, r"has no \.jpg, \.jpeg or \.png file"),
        (folder_of_broken_images, r"frame_0000\.jpg cannot be read as PNG or JPEG"),
        (folder_of_a_bomb, r"frame_0000\.png (states a size of 60000 x 60000|is too large)"),
    ],
)
def test_a_video_that_is_none_says_which_file_and_why(tmp_path, spoil, reason):
    path = clip(tmp_path)
    spoil(path)
    with pytest.raises(ValueError, match=reason) as caught:
        media.probe_video(path)
    assert str(path) in str(caught.value)
    assert type(caught.value) is ValueError


def test_a_video_damaged_in_the_middle_never_gives_a_wrong_number_of_frames_or_a_foreign_error(tmp_path):
    rng = np.random.default_rng(5)
    noise = [rng.integers(0, 256, (32, 48, 3)).astype(np.uint8) for _ in range(12)]
    path = tmp_path / "clip.mp4"
    media.write_video(path, noise, fps=6)
    whole = path.read_bytes()
    start = whole.find(b"mdat") + 800
    outcomes = set()
    for trial in range(30):
        content = bytearray(whole)
        at = int(rng.integers(start, len(content) - 64))
        content[at : at + 64] = rng.integers(0, 256, 64).astype(np.uint8).tobytes()
        damaged = tmp_path / f"{trial}.mp4"
        damaged.write_bytes(bytes(content))
        outcomes.add(outcome_of(damaged))
    assert outcomes <= {"12 frames", "ValueError"}


def outcome_of(path):
    try:
        video = media.probe_video(path)
        return f"{len(list(media.read_frames(video, range(video.num_frames))))} frames"
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017
        return type(error).__name__


def test_a_single_frame_without_any_duration_is_a_video_of_one_frame(tmp_path):
    path = tmp_path / "one.mp4"
    one_frame_without_duration(path)
    video = media.probe_video(path)
    assert (video.num_frames, video.times.tolist()) == (1, [0.0])
    assert 0 < video.duration < 10
    assert video.fps > 0
    assert media.load_frames(video, media.indices_at_fps(video, 1.0, 8)).shape == (1, 32, 48, 3)


def test_a_video_without_a_frame_rate_is_read_by_its_frame_times(tmp_path):
    path = tmp_path / "clip.mkv"
    without_rate(path)
    video = media.probe_video(path)
    np.testing.assert_allclose(video.times, [0, 31 / 30, 100], atol=1e-3)
    assert video.duration > 100


# Images and masks


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "00000.png"
    path.write_bytes(png_bomb())
    for read in (masks.read_png, masks.read_labels, images.image_size):
        with pytest.raises(ValueError, match=r"00000\.png (states a size of|is too large)"):
            read(path)


@pytest.mark.parametrize("keep", [0, 8, 30, 60])
def test_a_cut_png_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "00000.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"00000\.png cannot be read"):
        masks.read_png(path)


def test_a_mask_that_is_no_png_is_refused_by_name(tmp_path):
    path = tmp_path / "00000.png"
    Image.new("L", (4, 4)).save(path, format="GIF")
    with pytest.raises(ValueError, match=r"00000\.png cannot be read as PNG or JPEG"):
        masks.read_png(path)


def test_a_mask_that_links_out_of_its_folder_is_refused(tmp_path):
    masks.write_folder(tmp_path / "other", [(0, np.eye(4, dtype=bool))])
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "00000.png").symlink_to(tmp_path / "other" / "00000.png")
    with pytest.raises(ValueError, match="leads out of its folder"):
        masks.read_folder(tmp_path / "masks")


# Tables


def gen_folder(folder, *rows):
    with (folder / "st_evidence_gen.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


HOSTILE_CELLS = [
    ("candidates", "[__import__('os').system('touch hacked'), 'x']", "candidates is no list literal"),
    ("candidates", "[open('hacked', 'w'), 'x']", "candidates is no list literal"),
    ("candidates", "['x' for _ in range(10**9)]", "candidates is no list literal"),
    ("candidates", "['x'] * 10**9", "candidates is no list literal"),
    ("candidates", "(" * 5000, "candidates is no list literal"),
    ("candidates", "[" * 5000 + "]" * 5000, "candidates is no list literal"),
    ("candidates", "-" * 19_000 + "1", "candidates is no list literal"),
    ("candidates", "'x'+" * 4_000 + "'x'", "candidates is no list literal"),
    ("candidates", "['x', 'y", "candidates is no list literal"),
    ("candidates", "['" + "x" * 30_000 + "']", "candidates is too long"),
    ("candidates", "{'x': 'y'}", "candidates is no list of texts"),
    ("candidates", "['x', ['y']]", "candidates is no list of texts"),
    ("candidates", "['x', None]", "candidates is no list of texts"),
    ("candidates", "[]", "candidates are too few"),
    ("candidates", str([str(number) for number in range(30)]), "candidates are too few or too many"),
    ("candidates", "['x', 'x']", "answer is ambiguous"),
    ("answer", "A", "answer is not among the candidates"),
    ("answer", "", "answer is not among the candidates"),
    ("question", "  ", "question is empty"),
    ("segment", "[[nan, 1.0]]", "segment is no list literal"),
    ("segment", "[[1e999, 1e999]]", "segment has an impossible span"),
    ("segment", "[[0.0, 1e999]]", "segment has an impossible span"),
    ("segment", f"[[0, 1{'0' * 400}]]", "segment has an impossible span"),
    ("segment", "[[5.0, 1.0]]", "segment has an impossible span"),
    ("segment", "[[-1.0, 1.0]]", "segment has an impossible span"),
    ("segment", "[[1.0]]", "segment is no list of"),
    ("segment", "[[1.0, 2.0, 3.0]]", "segment is no list of"),
    ("segment", "[1.0, 2.0]", "segment is no list of"),
    ("segment", "[['0:01', '0:02']]", "segment is no list of"),
    ("segment", "[[True, True]]", "segment is no list of"),
    ("segment", "12", "segment is no list of"),
    ("segment", "exit()", "segment is no list literal"),
    ("video_path", "../../etc/passwd", "path leaves its folder"),
    ("video_path", "videos/../../a.mp4", "path leaves its folder"),
    ("video_path", "/etc/passwd", "path leaves its folder"),
    ("video_path", "C:\\a.mp4", "path leaves its folder"),
    ("video_path", "a\x01b.mp4", "path leaves its folder"),
    ("video_path", "", "video_path is no file name"),
    ("video_path", "a" * 5000, "video_path is no file name"),
    ("entry_id", "../a", "an id has 1-200 characters"),
    ("entry_id", "a/b", "an id has 1-200 characters"),
    ("entry_id", "", "an id has 1-200 characters"),
    ("entry_id", "a" * 201, "an id has 1-200 characters"),
    ("on_screen", "many", "on_screen is no count"),
]


@pytest.mark.parametrize(("column", "cell", "reason"), HOSTILE_CELLS)
def test_a_hostile_cell_costs_its_row_only_and_is_counted(tmp_path, monkeypatch, column, cell, reason):
    monkeypatch.chdir(tmp_path)
    good = ROW | {"entry_id": "good"} | ({column: "1"} if column not in ROW else {})
    samples, bad = read_gen(gen_folder(tmp_path, ROW | {column: cell}, good))
    is_gold = column == "segment"  # without what cannot be read, the row stays in the denominator, as published
    assert [sample.id for sample in samples] == (["a_1", "good"] if is_gold else ["good"])
    assert {line.line for line in bad} == {2}
    assert bad[0].reason.startswith(f"left out, span: {reason}" if is_gold else reason)
    assert [path.name for path in tmp_path.iterdir()] == ["st_evidence_gen.csv"]


def test_a_second_row_of_the_same_id_is_counted(tmp_path):
    samples, bad = read_gen(gen_folder(tmp_path, ROW, ROW | {"question": "Other?"}))
    assert [sample.question for sample in samples] == ["What?"]
    assert bad == [(3, "duplicate id: a_1 is on line 2 already")]


def test_a_video_that_links_out_of_the_folder_is_counted(tmp_path):
    folder = tmp_path / "set"
    (folder / "videos").mkdir(parents=True)
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (folder / "videos" / "a.mp4").symlink_to(tmp_path / "secret.mp4")
    samples, bad = read_gen(gen_folder(folder, ROW))
    assert samples == []
    assert re.match(r"path leaves its folder: .*is a link to", bad[0].reason)
    line = '{"id": "a", "video_id": "a", "video": "videos/a.mp4", "question": "What?"}\n'
    (folder / "samples.jsonl").write_text(line)
    with pytest.raises(ValueError, match="is a link to"):
        datasets.load(str(folder))


def test_links_in_a_circle_are_counted(tmp_path):
    (tmp_path / "videos").symlink_to(tmp_path / "videos")
    _, bad = read_gen(gen_folder(tmp_path, ROW))
    assert len(bad) == 1
    assert bad[0].reason.startswith("path cannot be followed")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"lacks the columns entry_id.*found none, the file is empty"),
        (
            b"entry_id,video,question,options,answer\n",
            r"lacks the columns segment: expected entry_id.*found entry_id, video,",
        ),
        (",".join(ROW).encode() + b",answer\n", "has a column twice"),
        (",".join(ROW).encode() + b"\na,b,caf\xe9.mp4,q,['x'],x,[]\n", "is not UTF-8"),
        (b"\xff\xfee\x00n\x00t\x00r\x00y\x00", "is not UTF-8"),
        (b"PK\x03\x04" + bytes(100), "lacks the columns|is not CSV"),
        (b'"' + b"x" * 200_000, "is not CSV in its first line"),
    ],
)
def test_a_table_that_is_none_says_what_was_expected_and_found(tmp_path, content, reason):
    (tmp_path / "st_evidence_gen.csv").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_gen(tmp_path)
    assert str(tmp_path / "st_evidence_gen.csv") in str(caught.value)


def test_a_folder_without_a_table_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"has no st_evidence_gen\.csv.*fetch it"):
        read_gen(tmp_path)
    with pytest.raises(ValueError, match=r"has no st_evidence\.csv.*fetch it"):
        read_instruct(tmp_path)


def test_a_field_of_fifty_megabytes_and_ragged_rows_are_counted(tmp_path):
    header = ",".join(ROW)
    good = "good,a,a.mp4,What?,\"['x']\",x,[]"
    huge = "huge,a,a.mp4," + "x" * 50_000_000 + ",\"['x']\",x,[]"
    table = f'{header}\n{huge}\nfew,a\n{good}\nmany{"," * 20}\n\nopen,"quote\n'
    (tmp_path / "st_evidence_gen.csv").write_text(table)
    samples, bad = read_gen(tmp_path)
    assert [sample.id for sample in samples] == ["good"]
    assert [line.line for line in bad] == [2, 3, 5, 7]
    words = ["field larger than field limit", "expected 7, found 2", "expected 7, found 21", "not CSV"]
    for line, word in zip(bad, words, strict=True):
        assert word in line.reason


def test_a_table_beyond_any_real_size_is_refused_unread(tmp_path):
    with (tmp_path / "st_evidence_gen.csv").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ValueError, match="expected a table below"):
        read_gen(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"width": 9, "height": 9, "evidence_objects": '
        b'[{"masks": [{"frame": 0, "mask": {"exterior": [[0, 0], [NaN, 1], [1, 1]]}}]}]}',
        b'{"width": 1e9, "height": 1e9, "evidence_objects": '
        b'[{"masks": [{"frame": 0, "mask": {"exterior": [[0, 0], [9, 0], [9, 9]]}}]}]}',
        b'{"width": 60000, "height": 60000, "evidence_objects": '
        b'[{"masks": [{"frame": 0, "mask": {"exterior": [[0, 0], [9, 0], [9, 9]]}}]}]}',
        b'[[{"size": [100000, 100000], "counts": [10000000000]}]]',
        b'[[{"size": [-1, -1], "counts": [1]}]]',
        b'[[{"size": [2, 2], "counts": [-1, 5]}]]',
        b"\xff\xfe\x00",
        b"\x80\x04\x95 a pickle",
    ],
)
def test_a_hostile_mask_file_is_counted(tmp_path, content):
    table = "entry_id,video_path,question,answer,candidates\na_1,a.mp4,What?,x,\"['x', 'y']\"\n"
    (tmp_path / "st_evidence.csv").write_text(table)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a_1.json").write_bytes(content)
    samples, bad = read_instruct(tmp_path)
    assert samples == []
    assert [line.line for line in bad] == [2]
    assert bad[0].reason.startswith("masks cannot be read: masks/a_1.json")
