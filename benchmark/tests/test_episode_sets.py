"""TVQA, TVQA+, LongTVQA and LongTVQA+: samples from every published form, episodes, times, boxes, rejected rows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_layouts import write_json, write_lines

from evqa import datasets, media
from evqa.agents import box_lines
from evqa.agents.episode_clips import open_clips
from evqa.datasets import clip_ids
from evqa.datasets.formats import prepare, prepare_command, tvqa
from evqa.retrieval.subtitles import subtitles_of
from evqa.schema import Box, Span

ORACLE = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "agents" / "episode"
needs_oracle = pytest.mark.skipif(not ORACLE.is_dir(), reason="needs the oracle data of the agents")

CLIPS = ("s01e02_seg01_clip_02", "s01e02_seg01_clip_10", "s01e02_seg02_clip_00", "s01e03_seg01_clip_00")
QUESTION = {
    "qid": 1,
    "q": "What does Penny hold?",
    **{f"a{number}": f"thing {number}" for number in range(5)},
    "answer_idx": 3,
    "ts": "1.5-4",
    "vid_name": CLIPS[1],
}
LONG = {key: value for key, value in QUESTION.items() if key not in {"answer_idx", "vid_name"}} | {
    "answer": "a3",
    "occur_clip": CLIPS[1],
    "episode_name": "s01e02",
}


def write_frames(folder, numbers):
    folder.mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (16, 8), (number % 256, 0, 0)).save(folder / f"{number:05d}.jpg")


def write_set(folder, *rows, file="LongTVQA_plus_val.json"):
    """A folder with four clips, three of them of one episode: of 4, 6, 2 and 3 seconds."""
    (write_lines if file.endswith("l") else write_json)(folder / file, list(rows))
    write_json(folder / "clip_subtitles.json", {clip: f"Penny : words of {clip}" for clip in reversed(CLIPS)})
    for clip, count in zip(CLIPS, (12, 18, 6, 9), strict=True):
        write_frames(folder / "frames" / clip, range(1, count + 1))


def prepared(name, folder):
    done = prepare(name, folder)
    return {sample.id: sample for sample in datasets.load(str(done.path)).samples}, done


@pytest.mark.parametrize(
    ("clip", "episode", "show"),
    [
        ("s01e02_seg02_clip_12", "s01e02", "The Big Bang Theory"),
        ("friends_s06e12_seg01_clip_00", "friends_s06e12", "Friends"),
        ("grey_s03e09_seg02_clip_05", "grey_s03e09", "Grey's Anatomy"),
        ("house_s02e03_seg01_clip_01", "house_s02e03", "House M.D."),
        ("met_s01e05_seg02_clip_10", "met_s01e05", "How I Met Your Mother"),
        ("castle_s04e07_seg02_clip_03", "castle_s04e07", "Castle"),
    ],
)
def test_episode_and_show_of_a_clip(clip, episode, show):
    assert clip_ids.episode_of(clip) == episode
    assert clip_ids.show_of(episode) == show


@pytest.mark.parametrize("clip", ["", "s01e02", "../s01e02_seg01_clip_00", "s01e02_seg01_clip_00.mp4", "a" * 99_999])
def test_other_names_are_no_clips(clip):
    assert not clip_ids.is_clip(clip)
    with pytest.raises(ValueError, match="clip id has another form"):
        clip_ids.place_of(clip)


def test_clips_are_in_order_of_their_numbers():
    names = ["s01e02_seg10_clip_00", "s01e02_seg2_clip_10", "s01e02_seg2_clip_9"]
    assert sorted(names, key=clip_ids.place_of) == names[::-1]


def test_a_long_sample_is_about_the_episode(tmp_path):
    write_set(tmp_path, LONG)
    samples, done = prepared("longtvqa-plus", tmp_path)
    sample = samples["1"]
    assert (done.num_kept, done.dropped, done.without_video) == (1, (), 0)
    assert [(clip.id, clip.start, clip.duration) for clip in sample.clips] == [
        (CLIPS[0], 0, 4),
        (CLIPS[1], 4, 6),
        (CLIPS[2], 10, 2),
    ]
    assert [clip.path for clip in sample.clips] == [tmp_path / "frames" / clip for clip in CLIPS[:3]]
    assert (sample.video_id, sample.duration, sample.num_frames, sample.fps) == ("s01e02", 12, 36, 3)
    assert (sample.spans, sample.evidence_clips) == ((Span(5.5, 8),), (CLIPS[1],))
    assert (sample.question, sample.options, sample.answer) == (
        "What does Penny hold?",
        tuple(f"thing {number}" for number in range(5)),
        3,
    )
    assert sample.clip is None
    lines = subtitles_of(sample).lines
    assert [(line.start, line.end, line.text) for line in lines] == [
        (clip.start, clip.start + clip.duration, f"Penny : words of {clip.id}") for clip in sample.clips
    ]


def test_a_short_sample_is_about_its_clip(tmp_path):
    write_set(tmp_path, QUESTION, file="tvqa_val.jsonl")
    sample = prepared("tvqa", tmp_path)[0]["1"]
    assert (sample.video_id, sample.video) == (CLIPS[1], tmp_path / "frames" / CLIPS[1])
    assert (sample.spans, sample.duration, sample.num_frames, sample.fps) == ((Span(1.5, 4),), 6, 18, 3)
    assert [clip.id for clip in sample.clips] == list(CLIPS[:3])
    assert sample.clip == sample.clips[1]
    assert [(line.start, line.end) for line in subtitles_of(sample).lines] == [(0, 6)]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("is_list", [True, False])
def test_a_list_and_lines_under_either_suffix(tmp_path, suffix, is_list):
    write_set(tmp_path, LONG, file=f"LongTVQA_val{suffix}")
    path = tmp_path / f"LongTVQA_val{suffix}"
    path.write_text(json.dumps([LONG], indent=1) if is_list else f"{json.dumps(LONG)}\n")
    assert list(prepared("longtvqa", tmp_path)[0]) == ["1"]


@pytest.mark.parametrize("value", [3, "3", "a3", "A3", " a3 "])
def test_spellings_of_the_answer(tmp_path, value):
    write_set(tmp_path, LONG | {"answer": value})
    assert prepared("longtvqa-plus", tmp_path)[0]["1"].answer == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": value}, "answer is no option")
        for value in (5, -1, "a5", "3.0", 3.0, None, "", "b", True, [3], {"a": 3}, "٣")
    ]
    + [
        ({"a2": " "}, "option a2 is no text"),
        ({"a4": None}, "option a4 is no text"),
        ({"q": ""}, "question q is no text"),
        ({"occur_clip": None}, "vid_name or occur_clip is no text"),
        ({"occur_clip": "../../etc_seg01_clip_00"}, "clip id has another form"),
        ({"occur_clip": "s09e09_seg01_clip_00"}, "clip has neither subtitles nor frames"),
        ({"qid": 1}, "qid is repeated"),
        ({"qid": None}, "qid is no number or name"),
    ],
)
def test_rows_that_cannot_be_used_are_rejected_with_their_reason(tmp_path, change, reason):
    write_set(tmp_path, LONG, LONG | {"qid": 2} | change)
    samples, done = prepared("longtvqa-plus", tmp_path)
    assert list(samples) == ["1"]
    assert [bad.reason.startswith(reason) for bad in done.dropped] == [True], done.dropped
    assert done.dropped[0].line == 2


def test_entries_that_are_no_rows_are_rejected(tmp_path):
    write_set(tmp_path, LONG, 7, [LONG], "row")
    samples, done = prepared("longtvqa-plus", tmp_path)
    assert list(samples) == ["1"]
    assert [bad.line for bad in done.dropped] == [2, 3, 4]


@pytest.mark.parametrize("ts", ["1.5-4", "1.5 - 4.0", [1.5, 4], ["1.5", "4"]])
def test_spellings_of_a_time_segment(tmp_path, ts):
    write_set(tmp_path, LONG | {"ts": ts})
    assert prepared("longtvqa-plus", tmp_path)[0]["1"].spans == (Span(5.5, 8),)


@pytest.mark.parametrize(
    "ts", ["nan-nan", "4-1.5", "x", [1.5], [1.5, None], [1, 2, 3], ["inf", 4], [6.0, 9.0], [-3, -1], {"start": 1}, 5]
)
def test_a_time_segment_that_cannot_be_used_leaves_the_sample_without_spans(tmp_path, ts):
    write_set(tmp_path, LONG | {"ts": ts})
    samples, done = prepared("longtvqa-plus", tmp_path)
    assert samples["1"].spans is None
    assert [bad.reason.startswith("left out, spans: 1") for bad in done.dropped] == [True]


def test_a_time_segment_ends_with_its_clip(tmp_path):
    write_set(tmp_path, LONG | {"ts": [-1, 60]})
    assert prepared("longtvqa-plus", tmp_path)[0]["1"].spans == (Span(4, 10),)


BOXES = {
    "16": [{"img_id": 16, "left": 1, "top": 2, "width": 3, "height": 4, "label": "cup"}],
    "4": [
        {"img_id": 4, "left": 0, "top": 0, "width": 2, "height": 2, "label": "cup"},
        {"img_id": 4, "left": 0, "top": 0, "width": 2, "height": 2, "label": "cup"},
        {"img_id": 4, "left": 5, "top": 5, "width": 2, "height": 3, "label": "cup"},
        {"img_id": 4, "left": 9, "top": 0, "width": 1, "height": 1, "label": "Penny"},
    ],
    "10": [],
}


def test_boxes_are_moved_to_the_frames_of_the_episode(tmp_path):
    write_set(tmp_path, LONG | {"bbox": BOXES})
    sample = prepared("longtvqa-plus", tmp_path)[0]["1"]
    assert [(tube.label, tube.boxes) for tube in sample.labelled_boxes] == [
        ("cup", {15: Box(0, 0, 2, 2), 27: Box(1, 2, 4, 6)}),
        ("cup", {15: Box(5, 5, 7, 8)}),
        ("Penny", {15: Box(9, 0, 10, 1)}),
    ]
    assert sample.boxes == {15: Box(0, 0, 10, 8), 27: Box(1, 2, 4, 6)}


def test_boxes_of_a_clip_follow_the_frames_that_its_folder_has(tmp_path):
    write_set(tmp_path, QUESTION | {"bbox": BOXES}, file="tvqa_plus_val.json")
    (tmp_path / "frames" / CLIPS[1] / "00002.jpg").unlink()
    assert prepared("tvqa-plus", tmp_path)[0]["1"].boxes == {2: Box(0, 0, 10, 8), 14: Box(1, 2, 4, 6)}
    (tmp_path / "frames" / CLIPS[1] / "00016.jpg").unlink()
    samples, done = prepared("tvqa-plus", tmp_path)
    assert samples["1"].boxes == {2: Box(0, 0, 10, 8)}
    assert [bad.reason for bad in done.dropped] == ["left out, boxes: 1: frame 16 is not in the clip"]


@pytest.mark.parametrize(
    "boxes",
    [
        {"4": {"x": 0, "y": 0, "w": 2, "h": 2, "name": "cup"}},
        {"4": [[0, 0, 2, 2, "cup"]]},
        {"4": [0, 0, 2, 2, "cup"]},
        [{"frame_id": 4, "boxes": [{"x": 0, "y": 0, "w": 2, "h": 2, "category": "cup"}]}],
        [{"frame": "4", "bbox": [0, 0, 2, 2, "cup"]}],
        [{"frame_idx": 4, "objects": [{"left": 0, "y": 0, "width": 2, "h": 2, "label": "cup"}]}],
        [{"img_id": 4, "left": 0, "top": 0, "width": 2, "height": 2, "label": "cup"}],
    ],
)
def test_spellings_of_boxes(tmp_path, boxes):
    write_set(tmp_path, LONG | {"bbox": boxes})
    samples, done = prepared("longtvqa-plus", tmp_path)
    assert samples["1"].boxes == {15: Box(0, 0, 2, 2)}, done.dropped


@pytest.mark.parametrize(
    "boxes",
    [
        {"four": [[0, 0, 2, 2, "cup"]]},
        {"0": [[0, 0, 2, 2, "cup"]]},
        {"999": [[0, 0, 2, 2, "cup"]]},
        {"4": [[0, 0, 0, 2, "cup"]]},
        {"4": [[0, 0, "nan", 2, "cup"]]},
        {"4": [[0, 0, 1e999, 2, "cup"]]},
        {"4": [[0, 0, 2, 2]]},
        {"4": [[0, 0, 2, 2, 7]]},
        {"4": "cup"},
        {"4": [None]},
        [4],
        "boxes",
        7,
    ],
)
def test_boxes_that_cannot_be_used_are_reported(tmp_path, boxes):
    write_set(tmp_path, LONG | {"bbox": boxes})
    samples, done = prepared("longtvqa-plus", tmp_path)
    assert samples["1"].boxes is None
    assert [bad.reason.startswith("left out, boxes: 1") for bad in done.dropped] == [True]


def test_frames_below_a_folder_per_show_and_clips_without_frames(tmp_path):
    write_set(tmp_path, LONG)
    (tmp_path / "frames_hq").mkdir()
    shutil.move(tmp_path / "frames", tmp_path / "frames_hq" / "bbt_frames")
    shutil.rmtree(tmp_path / "frames_hq" / "bbt_frames" / CLIPS[0])
    samples, done = prepared("longtvqa-plus", tmp_path)
    sample = samples["1"]
    assert [clip.duration for clip in sample.clips] == [90, 6, 2]
    assert sample.clips[1].path == tmp_path / "frames_hq" / "bbt_frames" / CLIPS[1]
    assert [bad.reason.startswith("left out, length") for bad in done.dropped] == [True]


def test_an_episode_with_a_video_has_its_length_and_rate(tmp_path):
    write_set(tmp_path, LONG | {"bbox": {"4": [[0, 0, 2, 2, "cup"]]}})
    (tmp_path / "videos").mkdir()
    pictures = [np.zeros((16, 16, 3), np.uint8)] * 72
    media.write_video(tmp_path / "videos" / "s01e02.mp4", pictures, 6)
    sample = prepared("longtvqa-plus", tmp_path)[0]["1"]
    assert (sample.fps, sample.num_frames) == (None, None)
    assert sample.duration == pytest.approx(12, abs=0.2)
    assert sample.boxes == {30: Box(0, 0, 2, 2)}  # second 5 at 6 frames per second


@pytest.mark.parametrize(
    "subtitles",
    [
        {"s01e02": "\n".join(f"<{clip}>words of {clip}</{clip}>" for clip in CLIPS[:3])},
        [{"vid_name": clip, "sub": [{"text": f"words of {clip}", "start": 0, "end": 1}]} for clip in CLIPS[:3]],
        [{"clip": clip, "subtitle": f"words of {clip}"} for clip in CLIPS[:3]],
        {clip: {"sub_text": f"words of {clip}", "sub_time": [0]} for clip in CLIPS[:3]},
    ],
)
def test_episodes_from_every_form_of_subtitles(tmp_path, subtitles):
    write_set(tmp_path, LONG)
    shutil.rmtree(tmp_path / "frames")
    write_json(tmp_path / "clip_subtitles.json", subtitles)
    sample = prepared("longtvqa-plus", tmp_path)[0]["1"]
    assert [clip.id for clip in sample.clips] == list(CLIPS[:3])
    assert [line.text for line in subtitles_of(sample).lines] == [f"words of {clip}" for clip in CLIPS[:3]]


def test_subtitles_stay_in_their_clip(tmp_path):
    write_set(tmp_path, LONG)
    lines = [{"text": "early", "start": 0, "end": 99}, {"text": "late", "start": 50, "end": 60}]
    write_json(tmp_path / "clip_subtitles.json", [{"vid_name": clip, "sub": lines} for clip in CLIPS[:1]])
    read = subtitles_of(prepared("longtvqa-plus", tmp_path)[0]["1"]).lines
    assert [(line.text, line.start, line.end) for line in read] == [("early", 0, 4), ("late", 3.9, 4)]


SRT = """1
00:00:01,000 --> 00:00:02,500
(Penny:)words of {clip}

2
00:00:{late},000 --> 00:01:30,000
the end
"""


def write_srt(folder):
    folder.mkdir()
    for clip, late in zip(CLIPS[:3], ("03", "05", "50"), strict=True):
        (folder / f"{clip}.srt").write_text(SRT.format(clip=clip, late=late))


@pytest.mark.parametrize("parent", ["tvqa_subtitles", "subtitles"])
def test_a_file_of_subtitles_per_clip(tmp_path, parent):
    write_set(tmp_path, LONG)
    (tmp_path / "clip_subtitles.json").unlink()
    write_srt(tmp_path / parent)
    (tmp_path / parent / "readme.txt").write_text("no subtitles")
    sample = prepared("longtvqa-plus", tmp_path)[0]["1"]
    assert sample.subtitles == tmp_path / parent
    assert [(line.start, line.end, line.speaker, line.text) for line in subtitles_of(sample).lines] == [
        (1, 2.5, "Penny", f"words of {CLIPS[0]}"),
        (3, 4, None, "the end"),
        (5, 6.5, "Penny", f"words of {CLIPS[1]}"),
        (9, 10, None, "the end"),
        (11, 12, "Penny", f"words of {CLIPS[2]}"),
        (11.9, 12, None, "the end"),
    ]
    assert open_clips(sample).texts == tuple(f"Penny : words of {clip}\nthe end" for clip in CLIPS[:3])


def test_files_of_subtitles_that_are_missing_unreadable_or_elsewhere(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_set(folder, QUESTION, file="tvqa_val.jsonl")
    (folder / "clip_subtitles.json").unlink()
    write_srt(folder / "srt")
    (folder / "srt" / f"{CLIPS[0]}.srt").write_bytes(b"\x00\xff" * 100)
    (folder / "srt" / f"{CLIPS[2]}.srt").rename(tmp_path / "outside.srt")
    (folder / "srt" / f"{CLIPS[2]}.srt").symlink_to(tmp_path / "outside.srt")
    sample = prepared("tvqa", folder)[0]["1"]
    assert [(line.start, line.text) for line in subtitles_of(sample).lines] == [
        (1, f"words of {CLIPS[1]}"),
        (5, "the end"),
    ]
    assert open_clips(sample).texts == ("", f"Penny : words of {CLIPS[1]}\nthe end", "")
    (folder / "srt" / f"{CLIPS[1]}.srt").unlink()
    with pytest.raises(ValueError, match=f"srt has no subtitles of {CLIPS[1]}"):
        subtitles_of(sample)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("tvqa-train", "tvqa_train.jsonl"),
        ("tvqa-plus-train", "tvqa_plus_train.json"),
        ("tvqa-plus-train", "tvqa_plus_annotations_preproc_with_test/tvqa_plus_train_preprocessed.json"),
        ("tvqa-plus", "tvqa_plus_valid_preprocessed.json"),
        ("longtvqa-train", "LongTVQA_train.json"),
        ("longtvqa-plus-train", "LongTVQA_plus_train.json"),
    ],
)
def test_other_splits(tmp_path, name, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    write_set(tmp_path, LONG if "long" in name else QUESTION, file=file)
    samples, done = prepared(name, tmp_path)
    assert done.path.name == ("samples.jsonl" if name == "tvqa-plus" else "train.jsonl")
    assert (samples["1"].answer, len(samples["1"].options), done.dropped) == (3, 5, ())


@pytest.mark.parametrize(
    ("name", "file"),
    [("tvqa-test", "tvqa_test_public.jsonl"), ("tvqa-plus-test", "tvqa_plus_test_preprocessed_no_anno.json")],
)
def test_rows_of_a_test_split_have_no_answer(tmp_path, name, file):
    row = {key: value for key, value in QUESTION.items() if key not in {"answer_idx", "ts"}}
    write_set(tmp_path, row, row | {"qid": 2, "answer_idx": "x"}, file=file)
    samples, done = prepared(name, tmp_path)
    assert (samples["1"].answer, samples["1"].spans, len(samples["1"].options)) == (None, None, 5)
    assert [bad.reason.partition(":")[0] for bad in done.dropped] == ["answer is no option"]
    assert done.path.name == "test.jsonl"


def test_one_bad_row_of_a_list_does_not_lose_the_others(tmp_path):
    write_set(tmp_path, LONG)
    bad = [f'{{"qid": {"9" * 5000}}}', '{"qid": tru}', json.dumps(LONG | {"qid": 1e300}), json.dumps([LONG])]
    rows = [json.dumps(LONG), *bad, json.dumps(LONG | {"qid": 7})]
    (tmp_path / "LongTVQA_plus_val.json").write_text(f"[{', '.join(rows)}]")
    samples, done = prepared("longtvqa-plus", tmp_path)
    assert list(samples) == ["1", "7"]
    assert [bad.line for bad in done.dropped] == [2, 3, 4, 5]


def test_the_command_prepares_the_validation_split_and_named_splits(tmp_path, capsys):
    source = tmp_path / "published"
    source.mkdir()
    write_set(source, QUESTION, file="tvqa_val.jsonl")
    write_lines(source / "tvqa_train.jsonl", [QUESTION | {"qid": 2}])
    (source / "clip_subtitles.json").rename(source / "tvqa_preprocessed_subtitles.jsonl")
    home = tmp_path / "home"
    names = prepare_command.sets_of("tvqa")
    assert names == ("tvqa", "tvqa-train", "tvqa-test")
    command = ["--source", str(source), "--folder", str(home)]  # also files of JSON Lines are linked
    assert prepare_command.run("", names, home, command, default=names[:1]) == 0
    assert prepare_command.run("", names, home, ["tvqa-train", *command], default=names[:1]) == 0
    assert (home / "tvqa_val.jsonl").is_symlink()
    assert not (home / "samples.jsonl").is_symlink()
    assert [len((home / name).read_text().splitlines()) for name in ("samples.jsonl", "train.jsonl")] == [1, 1]
    assert prepare_command.run("", names, home, ["tvqa-test", *command], default=names[:1]) == 1
    assert "has no tvqa_test_public.jsonl or tvqa_test_public.json" in capsys.readouterr().err


def test_lines_of_boxes_from_a_mapping_and_from_questions_are_the_same(tmp_path):
    write_set(tmp_path, LONG | {"bbox": BOXES})
    mapping = tmp_path / "clip_bbox_mapping.json"
    write_json(mapping, tvqa.box_mapping(tmp_path / "LongTVQA_plus_val.json", []))
    lines = box_lines.read(mapping)
    assert lines[CLIPS[1]][0] == "frame 4: cup [0.0, 0.0, 2.0, 2.0]"
    assert len(lines[CLIPS[1]]) == 4
    assert box_lines.read(tmp_path / "LongTVQA_plus_val.json") == lines


def test_a_folder_without_subtitles_says_so(tmp_path):
    write_set(tmp_path, LONG)
    (tmp_path / "clip_subtitles.json").unlink()
    samples, done = prepared("longtvqa-plus", tmp_path)
    assert samples["1"].subtitles is None
    assert [bad.reason.startswith("left out, subtitles: the folder has none") for bad in done.dropped] == [True]
    assert "CLIP.srt in tvqa_subtitles" in done.summary()


def test_a_file_of_subtitles_that_changes_is_read_again(tmp_path):
    write_set(tmp_path, LONG)
    path = tmp_path / "clip_subtitles.json"
    sample = prepared("longtvqa-plus", tmp_path)[0]["1"]
    for words in ("first", "second text"):
        for form in (
            dict.fromkeys(CLIPS, words),
            [{"clip": clip, "subtitle": words} for clip in reversed(CLIPS)],
            {"s01e02": "".join(f"<{clip}>{words}</{clip}>" for clip in CLIPS[:3])},
        ):
            path.write_text(json.dumps(form))
            assert open_clips(sample).texts == (words,) * 3
            path.write_text("\n".join(json.dumps({clip: f"{words} in a line"}) for clip in CLIPS))
            assert open_clips(sample).texts == (f"{words} in a line",) * 3


def test_a_folder_without_questions_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"has no LongTVQA_plus_val\.jsonl or LongTVQA_plus_val\.json"):
        prepare("longtvqa-plus", tmp_path)


# The oracle


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """(expected results, a copy of the inputs)."""
    folder = tmp_path_factory.mktemp("episode") / "data"
    shutil.copytree(ORACLE / "data", folder)
    return json.loads((ORACLE / "expected.json").read_text()), folder


@needs_oracle
def test_episodes_of_the_oracle(oracle):
    for clip, episode in oracle[0]["episode_of"].items():
        assert clip_ids.episode_of(clip) == episode


@needs_oracle
def test_gold_spellings_of_the_oracle(oracle):
    for entry in oracle[0]["gold_spellings"]:
        if entry["right"] == "refused":
            with pytest.raises(ValueError, match="answer is no option"):
                tvqa.gold_option(entry["value"])
        else:
            assert tvqa.gold_option(entry["value"]) == entry["right"]


@needs_oracle
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("tvqa", "tvqa_val.jsonl"),
        ("tvqa-plus", "tvqa_plus_val.json"),
        ("longtvqa", "LongTVQA_val.jsonl"),
        ("longtvqa-plus", "LongTVQA_plus_val.json"),
    ],
)
def test_questions_of_the_oracle(oracle, name, file):
    expected, folder = oracle
    samples = datasets.load(str(prepare(name, folder, f"{name}.jsonl").path)).samples
    questions = expected["evaluator"][file]["questions"]
    assert len(samples) == len(questions)
    for sample, question in zip(samples, questions, strict=True):
        assert f"a{sample.answer}" == question["gold"]
        assert sample.evidence_clips == (question["gold_clip"],)
        assert [clip.id for clip in sample.clips] == question["right"]["clips_of_the_episode"]
        assert len(sample.options) == 5
        assert sample.spans
    published = expected["loaded"]["prepared_by_the_original"].get(name.replace("-", "_"), ())
    assert [sample.answer for sample in samples][: len(published)] == [row["answer_idx"] for row in published]


@needs_oracle
@pytest.mark.parametrize(
    ("file", "key"), [("LongTVQA_plus_val.json", None), ("tvqa_plus_val.json", "clip_bbox_mapping_of_tvqa_plus")]
)
def test_box_mapping_of_the_oracle(oracle, file, key):
    loaded = oracle[0]["loaded"]
    reference = loaded[key] if key else loaded["prepared_by_the_original"]["clip_bbox_mapping"]
    mapping = tvqa.box_mapping(oracle[1] / file, [])
    assert {clip: {frame: list(map(list, frames[frame])) for frame in frames} for clip, frames in mapping.items()} == (
        reference
    )
    assert [list(frames) for frames in mapping.values()] == [sorted(frames, key=int) for frames in mapping.values()]


@needs_oracle
def test_odd_rows_of_the_oracle(oracle, tmp_path):
    expected, folder = oracle
    shutil.copyfile(folder / "odd_rows.json", tmp_path / "tvqa_plus_val.json")
    shutil.copyfile(folder / "clip_subtitles.json", tmp_path / "clip_subtitles.json")
    samples, done = prepared("tvqa-plus", tmp_path)
    reasons = {bad.id: bad.reason for bad in done.dropped}
    for qid, right in expected["converter"]["odd"]["right"]["rows"].items():
        assert (qid in samples) != (qid in reasons)
        if right.startswith("kept") and "or skipped" not in right:
            assert qid in samples, reasons
        if right.startswith("skipped:") and "or kept" not in right:
            assert qid in reasons, right
    assert [sample.answer for sample in samples.values() if sample.id in {"6008", "6009"}] == [2, 3]
