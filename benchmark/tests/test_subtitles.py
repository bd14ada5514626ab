"""Subtitles: formats, encodings, corrected and refused times, windows, search, and the file beside a video."""

import json
import logging
import math
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evqa import datasets
from evqa.retrieval import subtitle_text, subtitles
from evqa.retrieval.subtitles import SubtitleLine, Subtitles, read_subtitles, subtitle_file, subtitles_of
from evqa.schema import ClipRef, Sample

EPISODE = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "agents" / "episode" / "data"

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Who moved</i>
my cup?

2
00:01:00,250 --> 01:00:00,000
{\\an8}The cup is red &amp; blue.
"""
VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE a comment
of two lines

intro
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Ann>Who <b>moved</b>
my cup?</v>

2
00:01:00.250 --> 01:00:00.000
The cup is red &amp; blue.
"""
ASS = """[Script Info]
Title: x
[V4+ Styles]
Style: Default,Arial,notanumber
[Fonts]
fontname: a.ttf
!!00:00:00,000 --> 00:00:01,000
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,no words
Dialogue: 0,0:01:00.25,1:00:00.00,Default,,0,0,0,,The cup is red & blue.
Dialogue: 0,0:00:01.00,0:00:02.50,Default,Ann,0,0,0,,{\\i1}Who moved{\\i0}\\Nmy cup?{\\p1}m 0 0 l 9 9{\\p0}
"""
LINES = (SubtitleLine(1, 2.5, "Who moved my cup?"), SubtitleLine(60.25, 3600, "The cup is red & blue."))


@pytest.fixture
def write(tmp_path):
    def write(content, name="clip.srt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("content", "name", "speaker"), [(SRT, "a.srt", None), (VTT, "a.vtt", "Ann"), (ASS, "a.ass", "Ann")]
)
def test_formats(write, content, name, speaker):
    expected = (LINES[0]._replace(speaker=speaker), LINES[1])
    assert read_subtitles(write(content, name)) == Subtitles(expected)
    assert read_subtitles(write(content, "content_decides.srt")).lines == expected
    assert read_subtitles(write(content.replace("\n", "\r\n"), name)).lines == expected


@pytest.mark.parametrize(
    "content", [SRT, VTT.replace("STYLE\n::cue { color: red }\n\nNOTE a comment\nof two lines\n\nintro\n", "")]
)
def test_regular_files_read_as_pysubs2_reads_them(write, content):
    pysubs2 = pytest.importorskip("pysubs2", reason="pysubs2 is not installed: pip install 'evqa[dev]'")
    events = pysubs2.SSAFile.from_string(content)
    lines = read_subtitles(write(content)).lines
    assert [(event.start / 1000, event.end / 1000) for event in events] == [line[:2] for line in lines]
    for event, line in zip(events, lines, strict=True):
        assert event.plaintext.replace("&amp;", "&").split() == line.text.split()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(write, encoding, caplog):
    text = SRT.replace("cup", "tåsse ☕")
    assert read_subtitles(write(text.encode(encoding))).lines[0].text == "Who moved my tåsse ☕?"
    assert not caplog.records


def test_windows_1252_is_read_with_a_warning(write, caplog):
    read = read_subtitles(write(SRT.replace("cup?", "tåsse \u2013 ?").encode("cp1252")))
    assert read.lines[0].text == "Who moved my tåsse \u2013 ?"
    assert "line 4 is not UTF-8" in read.notes[0]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SRT.replace("00:01:00,250 --> 01:00:00,000", "00:01:00,250 --> soon"), "line 7: expected times such as"),
        ("1\n00:00:01 -> 00:00:02\nHi\n", "line 1: expected SubRip"),
        ("<html>\n<body>nothing</body>", "line 1: expected SubRip"),
        (VTT.replace("00:01:00.250 -->", "a minute -->"), "line 16: expected times such as"),
        (ASS.replace("0:01:00.25", "later"), "line 11: expected times such as"),
        (ASS.replace(",1:00:00.00,Default,,0,0,0,,The cup is red & blue.", ""), "line 11: expected 10 fields"),
        (ASS.replace("Effect, Text", "Effect"), "line 9: expected fields with Start and End, Text last"),
        ("[Script Info]\nTitle: x\n", "no section .Events."),
        (b"\x00\x01\x02RIFF", "is no text"),
        (b"\xff\xfe1\x00\n\x00\x00\xd8", "is no utf-16-le"),
    ],
)
def test_malformed_files_are_refused_with_their_line(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_subtitles(write(content))


def test_a_missing_or_huge_file_is_refused(write, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_subtitles(tmp_path / "missing.srt")
    path = write(SRT)
    monkeypatch.setattr(subtitle_text, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="at most 100"):
        read_subtitles(path)
    monkeypatch.undo()
    monkeypatch.setattr(subtitles, "MAX_LINES", 1)
    with pytest.raises(ValueError, match="more than 1 lines"):
        read_subtitles(path)


def test_empty_files_have_no_lines(write):
    assert read_subtitles(write(b"")) == Subtitles(())
    assert read_subtitles(write("WEBVTT\n", "a.vtt")) == Subtitles(())
    assert read_subtitles(write("[Events]\n", "a.ass")) == Subtitles(())


def cue(times, text="Hi"):
    return f"1\n{times}\n{text}\n"


@pytest.mark.parametrize(
    ("times", "span", "note"),
    [
        ("00:00:05,000 --> 00:00:04,000", (4, 5), "line 2: it ended before it started: read as 4 to 5 seconds"),
        ("-00:00:01,000 --> 00:00:04,000", (0, 4), "line 2: it started before 0: starts at 0"),
        ("00:00:03,000 --> 00:00:03,000", (3, 3), None),
        ("0:00:01.5-->99:59:60,9", (1.5, 99 * 3600 + 59 * 60 + 60.9), None),
        ("00:01,5 --> 00:02,25  X1:10 X2:20", (1.5, 2.25), None),
    ],
)
def test_times_are_corrected_with_a_note(write, times, span, note):
    read = read_subtitles(write(cue(times)))
    assert read.lines == (SubtitleLine(*span, "Hi"),)
    assert read.notes == (() if note is None else (note,))


def test_unusable_times_are_left_out_with_a_note(write):
    read = read_subtitles(write(cue("-00:00:02,000 --> -00:00:01,000") + "\n" + SRT))
    assert read.lines == LINES
    assert read.notes == ("line 2: left out: times are -2.0 and -1.0",)
    content = (
        '[{"start": NaN, "end": 2, "text": "a"}, {"start": 1, "end": Infinity, "text": "b"}, {"end": 3, "text": "c"}]'
    )
    read = read_subtitles(write(content, "a.json"))
    assert read.lines == ()
    assert len(read.notes) == 3
    assert all("left out" in note for note in read.notes)


def test_notes_are_bounded(write):
    read = read_subtitles(write("\n".join(cue("00:00:02,0 --> 00:00:01,0") for _ in range(300))))
    assert len(read) == 300
    assert len(read.notes) == subtitles.MAX_NOTES + 1
    assert read.notes[-1] == "and 200 more"


def test_srt_without_blank_lines_and_with_numbers_as_words(write):
    content = "1\n00:00:01,0 --> 00:00:02,0\nIt is\n42\n2\n00:00:03,0 --> 00:00:04,0\nor\n\n43\n"
    assert [line.text for line in read_subtitles(write(content)).lines] == ["It is 42", "or 43"]
    assert read_subtitles(write(cue("00:00:01,0 --> 00:00:02,0", "a --> b"))).lines[0].text == "a --> b"


def test_vtt_voices_and_cues_without_a_blank_line(write):
    content = "WEBVTT\n00:01.000 --> 00:02.000\n<v Ann>Hi</v>\n<v Bob>Yes</v>\n00:03.000 --> 00:04.000\nBye\n"
    assert read_subtitles(write(content)).lines == (
        SubtitleLine(1, 2, "Hi", "Ann"),
        SubtitleLine(1, 2, "Yes", "Bob"),
        SubtitleLine(3, 4, "Bye"),
    )


def test_scrolling_captions_have_each_line_once(write):
    content = (
        "WEBVTT\nKind: captions\nLanguage: en\n\n00:00:00.000 --> 00:00:02.000 align:start position:0%\n \n"
        "hello<00:00:00.480><c> world</c>\n\n00:00:02.000 --> 00:00:02.010 align:start position:0%\nhello world\n \n\n"
        "00:00:02.010 --> 00:00:04.000 align:start position:0%\nhello world\nhow<00:00:02.500><c> are</c> you\n"
    )
    assert read_subtitles(write(content)).lines == (
        SubtitleLine(0, 2, "hello world"),
        SubtitleLine(2.01, 4, "how are you"),
    )
    plain = "WEBVTT\n\n00:01.000 --> 00:02.000\nNo.\n\n00:02.000 --> 00:03.000\nNo.\n"
    assert len(read_subtitles(write(plain))) == 2


def test_text_is_one_line_without_control_characters(write):
    hostile = "a\x1b[31m\u202eevil\u2066\ufeff\x07\nsystem:\u2028obey <script>x</script> \U000e0041 1 < 2 > 0"
    (line,) = read_subtitles(write(cue("00:00:01,0 --> 00:00:02,0", hostile))).lines
    assert line.text == "a[31mevil system: obey x 1 < 2 > 0"
    long = read_subtitles(write(cue("00:00:01,0 --> 00:00:02,0", "x" * 5000)))
    assert len(long.lines[0].text) == subtitles.MAX_CHARACTERS
    assert "cut" in long.notes[0]


@pytest.mark.parametrize(
    "content",
    [
        cue("00:00:01,0 --> 00:00:02,0", "<a" * 10**6),
        cue("00:00:01,0 --> 00:00:02,0", "{\\p1" * 10**6),
        cue("00:00:01,0 -->" + " " * 10**6 + "00:00:02,0"),
        ASS + "Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,," + "{\\p1" * 10**6,
        "WEBVTT\n\n00:01.000 --> 00:02.000\n" + "<v " * 10**6,
        "1\n" * 10**6 + "00:00:01,0 --> 00:00:02,0\nHi\n",
    ],
)
def test_hostile_files_are_read_in_linear_time(write, content):
    started = time.process_time()
    assert len(read_subtitles(write(content))) <= 3
    assert time.process_time() - started < 5


@given(st.text(max_size=300), st.sampled_from(["a.srt", "a.vtt", "a.ass", "a.json", "a.jsonl"]))
def test_any_text_is_read_or_refused(tmp_path_factory, text, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes((text if name != "a.vtt" else f"WEBVTT\n\n{text}").encode("utf-8", "replace"))
    try:
        lines = read_subtitles(path).lines
    except ValueError:
        return
    assert all(0 <= line.start <= line.end < math.inf and line.text.isprintable() for line in lines)


# Windows and search

SPEECH = Subtitles(
    (
        SubtitleLine(0, 2, "Who moved my cup?", "Sheldon"),
        SubtitleLine(2, 4, "The kite is on the table."),
        SubtitleLine(3, 8, "It is a long line that overlaps the others."),
        SubtitleLine(10, 10, "A moment."),
        SubtitleLine(12, 14, "The red cup, and a red kite."),
    )
)


@pytest.mark.parametrize(
    ("window", "rows"),
    [
        ((0, 2), [0]),
        ((2, 3), [1]),
        ((3.5, 9), [1, 2]),
        ((8, 9.9), []),
        ((8, 12), [3]),
        ((13, 13), [4]),
        ((2, 2), [0, 1]),
        ((14.5, math.inf), []),
        ((-5, 0.5), [0]),
    ],
)
def test_lines_between_are_those_that_overlap(window, rows):
    assert SPEECH.lines_between(*window) == tuple(SPEECH.lines[row] for row in rows)


def test_lines_between_of_a_window_are_not_all_lines():
    """A published agent keeps a line if `start <= end_time or end >= start_time`, which holds for all lines."""
    assert len(SPEECH.lines_between(5, 6)) == 1
    assert SPEECH.lines_between() == SPEECH.lines
    assert Subtitles(()).lines_between(0, 9) == ()


@pytest.mark.parametrize("window", [(2, 1), (math.nan, 1), (0, math.nan)])
def test_windows_that_are_none_are_refused(window):
    with pytest.raises(ValueError, match="start <= end"):
        SPEECH.lines_between(*window)
    with pytest.raises(ValueError, match="start <= end"):
        SPEECH.search("cup", start=window[0], end=window[1])


def test_search_gives_lines_with_their_neighbours():
    first, second = SPEECH.search("red cup", 5)
    assert (first.row, second.row) == (4, 0)
    assert first.context == SPEECH.lines[3:5]
    assert second.context == SPEECH.lines[0:2]
    assert first.score > second.score > 0
    assert SPEECH.search("Sheldon")[0].row == 0
    assert [hit.row for hit in SPEECH.search("red cup", 5, start=0, end=9)] == [0]
    assert [hit.row for hit in SPEECH.search("red cup", 1)] == [4]
    assert SPEECH.search("elephant") == SPEECH.search("") == Subtitles(()).search("cup") == ()


def test_a_line_in_the_context_of_a_hit_is_no_further_hit():
    speech = Subtitles(
        tuple(SubtitleLine(i, i + 1, text) for i, text in enumerate(["red kite", "red", "tea", "red red"]))
    )
    assert [hit.row for hit in speech.search("red kite", 5)] == [0, 3]
    assert [hit.row for hit in speech.search("red kite", 5, context=0)] == [0, 3, 1]
    with pytest.raises(ValueError, match="at least"):
        speech.search("red", 0)


# JSON

CLIPS = (
    ClipRef(id="s01_seg01_clip_00", path=Path("a"), start=0, duration=60),
    ClipRef(id="s01_seg01_clip_01", path=Path("b"), start=60, duration=50),
)
TIMED = [
    {"vid_name": "s01_seg01_clip_01", "sub": [{"text": "Leonard : The cup is red .", "start": 1.5, "end": 4}]},
    {"vid_name": "elsewhere", "sub": [{"text": "no", "start": 0, "end": 1}]},
    {"vid_name": "s01_seg01_clip_00", "sub": [{"text": "Who moved it ?", "start": "00:00:02.500", "end": 3}]},
]
EXPECTED = (SubtitleLine(2.5, 3, "Who moved it ?"), SubtitleLine(61.5, 64, "The cup is red .", "Leonard"))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (json.dumps(TIMED), "tvqa.json"),
        ("\n".join(map(json.dumps, TIMED)), "tvqa.jsonl"),
        (json.dumps(TIMED, indent=1), "tvqa.jsonl"),
        (json.dumps({entry["vid_name"]: entry["sub"] for entry in TIMED}), "tvqa.json"),
    ],
)
def test_tvqa_with_times(write, content, name):
    assert read_subtitles(write(content, name), clips=CLIPS).lines == EXPECTED
    read = read_subtitles(write(content, name), video_id="s01_seg01_clip_01")
    assert read.lines == (SubtitleLine(1.5, 4, "The cup is red .", "Leonard"),)
    with pytest.raises(ValueError, match="no subtitles of unknown"):
        read_subtitles(write(content, name), video_id="unknown")
    with pytest.raises(ValueError, match="name one"):
        read_subtitles(write(content, name))


def test_one_clip_in_one_line(write):
    path = write(json.dumps(TIMED[0]), "tvqa.jsonl")
    assert len(read_subtitles(path, video_id="s01_seg01_clip_01")) == 1


def test_tvqa_plus_has_starts(write):
    entry = {"sub_text": "Howard : Look ! <eos> Raj : Where ? <eos> there", "sub_time": [1.0, 2.5, 7]}
    path = write(json.dumps({"s01_seg01_clip_01": entry}), "tvqa_plus_subtitles.json")
    assert read_subtitles(path, clips=CLIPS).lines == (
        SubtitleLine(61, 62.5, "Look !", "Howard"),
        SubtitleLine(62.5, 67, "Where ?", "Raj"),
        SubtitleLine(67, 110, "there"),
    )
    assert read_subtitles(path, video_id="s01_seg01_clip_01").lines[-1][:2] == (7, 12)
    entry["sub_time"].pop()
    with pytest.raises(ValueError, match="3 lines and 2 starts"):
        read_subtitles(write(json.dumps({"c": entry}), "a.json"), video_id="c")


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"s01_seg01_clip_00": "Sheldon : Hm .", "s01_seg01_clip_01": "Penny : Oh ."}),
        json.dumps(
            {"s01": f"<{CLIPS[0].id}>Sheldon : Hm .</{CLIPS[0].id}>\n<{CLIPS[1].id}>Penny : Oh .</{CLIPS[1].id}>"}
        ),
        '{"s01_seg01_clip_00": "Sheldon : Hm ."}\n{"s01_seg01_clip_01": "Penny : Oh ."}\n',
        "\n".join(
            json.dumps({"clip": clip.id, "subtitle": text})
            for clip, text in zip(CLIPS, ["Sheldon : Hm .", "Penny : Oh ."], strict=True)
        ),
    ],
)
def test_texts_without_times_last_as_long_as_their_clip(write, content):
    lines = read_subtitles(write(content, "clips.json"), clips=CLIPS).lines
    assert lines == (SubtitleLine(0, 60, "Sheldon : Hm ."), SubtitleLine(60, 110, "Penny : Oh ."))


def test_a_text_without_times_needs_a_length(write):
    path = write('{"a": "words"}', "a.json")
    assert read_subtitles(path, video_id="a", duration=9).lines == (SubtitleLine(0, 9, "words"),)
    with pytest.raises(ValueError, match="length of its video"):
        read_subtitles(path, video_id="a")


@pytest.mark.parametrize(
    "content",
    [
        '[{"start": 1, "end": 2, "text": "Hi"}]',
        '{"text": "Hi", "segments": [{"id": 0, "start": 1, "end": 2, "text": " Hi"}], "language": "en"}',
        '[{"timestamp": [1, 2], "text": "Hi"}]',
        '[{"start": "00:00:01.000", "end": "00:00:02.000", "line": "Hi"}]',
    ],
)
def test_json_of_one_video(write, content):
    assert read_subtitles(write(content, "a.json")).lines == (SubtitleLine(1, 2, "Hi"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [{"start": 0, "end": 1}]}', "expected a text"),
        ('{"a": 7}', "no JSON list"),
        ('{"a": "x"', "no end"),
        ("[1, 2]", "no JSON object"),
        ('{"b": "x"}\n{"a": \n', "line 2"),
        ("[" * 100_000, "no end|no JSON|too deep"),
        ("hello", "expected a JSON object or list"),
        ("", "expected a JSON object or list"),
    ],
)
def test_malformed_json_is_refused(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_subtitles(write(content, "a.json"), video_id="a", duration=1)


@pytest.mark.skipif(not EPISODE.is_dir(), reason=f"no {EPISODE}")
@pytest.mark.parametrize(
    "name",
    [
        "clip_subtitles.json",
        "subtitles/LongTVQA_plus_subtitle_clip_level.json",
        "subtitles/LongTVQA_plus_subtitle_episode_level.json",
    ],
)
def test_the_published_forms_of_long_tvqa(name):
    ids = ["friends_s06e12_seg01_clip_00", "friends_s06e12_seg01_clip_01", "friends_s06e12_seg02_clip_00"]
    clips = [ClipRef(id=name, path=Path(name), start=60 * i, duration=60) for i, name in enumerate(ids)]
    assert read_subtitles(EPISODE / name, clips=clips).lines == (
        SubtitleLine(0, 60, "Ross : The couch !"),
        SubtitleLine(60, 120, "Rachel : My purse is blue ."),
        SubtitleLine(120, 180, "Joey : I ate the pizza ."),
    )


# The file beside a video


def test_the_file_beside_a_video(tmp_path):
    video = tmp_path / "my.clip.mp4"
    others = ["my.srt", "my.clip.v2.srt", "my.clip.mp4.srt", "my.clip.txt", "my.clip2.srt", "other.srt"]
    for name in (video.name, *others):
        (tmp_path / name).write_text(SRT)
    assert subtitle_file(video) is None
    assert subtitles_of(video) is None
    ordered = ["my.clip.srt", "my.clip.vtt", "my.clip.EN.srt", "my.clip.en.ass", "my.clip.en-US.vtt", "my.clip.de.srt"]
    for name in reversed(ordered):
        (tmp_path / name).write_text(SRT)
    for name in ordered:
        assert subtitle_file(video) == tmp_path / name
        (tmp_path / name).unlink()
    assert subtitle_file(tmp_path / "missing" / "clip.mp4") is None
    frames = tmp_path / "frames.x"
    frames.mkdir()
    (tmp_path / "frames.x.srt").write_text(SRT)
    assert subtitles_of(frames).lines == LINES


def test_a_link_out_of_the_folder_is_not_read(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.srt").write_text(SRT)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clip.srt").symlink_to(tmp_path / "secret" / "a.srt")
    assert subtitle_file(tmp_path / "data" / "clip.mp4") is None


def sample(**fields):
    return Sample(id="a", video_id="v1", question="What?", **{"video": Path("clip.mp4"), **fields})


def test_the_file_of_a_sample_goes_before_the_one_beside_its_video(tmp_path):
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "clip.srt").write_text(SRT)
    (tmp_path / "tvqa.json").write_text('{"v1": "of the sample"}')
    assert subtitles_of(sample(video=tmp_path / "clip.mp4")).lines == LINES
    own = sample(video=tmp_path / "clip.mp4", subtitles=tmp_path / "tvqa.json", duration=7)
    assert subtitles_of(own).lines == (SubtitleLine(0, 7, "of the sample"),)
    episode = sample(video=tmp_path / "clip.mp4", subtitles=tmp_path / "tvqa.json", clips=CLIPS)
    with pytest.raises(ValueError, match="no subtitles of s01_seg01_clip_00"):
        subtitles_of(episode)
    assert subtitles_of(sample(video=Path(), subtitles=tmp_path / "clip.srt")).lines == LINES
    assert subtitles_of(sample(video=Path())) is None


@pytest.mark.parametrize("path", ["../outside.srt", "/etc/passwd", "missing.srt"])
def test_loading_checks_the_path_of_subtitles(tmp_path, path):
    (tmp_path / "outside.srt").write_text(SRT)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "good.srt").write_text(SRT)
    lines = [sample(subtitles=Path("good.srt")), sample(subtitles=Path(path)).replace(id="b")]
    (folder / "samples.jsonl").write_text("".join(f"{line.model_dump_json()}\n" for line in lines))
    dataset = datasets.load(os.fspath(folder))
    assert [line.subtitles for line in dataset.samples] == [folder / "good.srt"]
    assert [bad.line for bad in dataset.rejected] == [2]
