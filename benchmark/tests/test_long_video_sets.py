"""LVBench, LongVidSearch and Video SimpleQA in their published layouts: samples, spans, and what is reported."""

import json
from pathlib import Path

import numpy as np
import published_layouts as published
import pytest
from published_layouts import FRAMES, write_json, write_lines

from evqa import datasets, media
from evqa.__main__ import main
from evqa.datasets.formats import prepare
from evqa.datasets.formats.fields import split_options
from evqa.retrieval.frame_grid import frame_grid
from evqa.schema import Span
from evqa.tasks.registry import task_of

RETRIEVE = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "agents" / "retrieve" / "data"


def prepared(name, folder):
    """(id -> sample, what was dropped) of a folder."""
    done = prepare(name, folder)
    return {sample.id: sample for sample in datasets.load(str(done.path)).samples}, done


# LVBench


@pytest.mark.parametrize("writer", [published.write_lvbench, published.write_lvbench_flat])
def test_lvbench(tmp_path, writer):
    writer(tmp_path)
    samples, done = prepared("lvbench", tmp_path)
    assert (done.num_kept, done.dropped, done.without_video) == (3, (), 0)
    assert list(samples) == ["7", "8", "9"]
    first = samples["7"]
    assert (first.video_id, first.video) == ("-abc_DEF123", tmp_path / "videos" / "-abc_DEF123.mp4")
    assert (first.question, first.options, first.answer) == (
        "What does the mouse do?",
        ("eat", "run", "hide", "sing"),
        1,
    )
    assert (first.spans, first.duration, first.fps) == ((Span(2, 4),), 3630, None)
    assert first.question_type == "event understanding, reasoning"
    assert samples["8"].spans == (Span(3600, 3601),)  # a range within one second lasts it
    assert samples["9"].spans == (Span(0, 1),)


def test_times_of_a_folder_of_frames_follow_from_the_duration(tmp_path):
    published.write_lvbench(tmp_path)
    sample = prepared("lvbench", tmp_path)[0]["9"]
    assert sample.video == tmp_path / "frames" / "ghi"
    assert (sample.duration, sample.fps) == (6, FRAMES / 6)
    grid = frame_grid(media.probe_video(sample.video, sample.fps), duration=sample.duration)
    assert grid.ids.tolist() == list(range(1, FRAMES + 1))
    np.testing.assert_allclose(grid.seconds, np.arange(FRAMES) * 6 / FRAMES)


def test_files_of_video2dataset_are_found_by_their_address(tmp_path):
    published.write_lvbench(tmp_path)
    video = tmp_path / "videos" / "-abc_DEF123.mp4"
    numbered = tmp_path / "videos" / "00000" / "000000012.mp4"
    numbered.parent.mkdir()
    video.rename(numbered)
    write_json(
        numbered.with_suffix(".json"), {"url": "https://www.youtube.com/watch?v=-abc_DEF123", "status": "success"}
    )
    write_json(numbered.with_name("000000013.json"), {"url": "https://www.youtube.com/watch?v=ghi"})
    samples, _ = prepared("lvbench", tmp_path)
    assert samples["7"].video == numbered
    assert samples["9"].video == tmp_path / "frames" / "ghi"


QUESTION = "What is it?\n(A) a\n(B) b\n(C) c\n(D) d"


def lvbench_rows(tmp_path, *rows, **info):
    """What becomes of flat rows: (id -> sample, reasons)."""
    entries = [{"key": "v", "question": f"{place} {QUESTION}", "answer": "A", **row} for place, row in enumerate(rows)]
    info = info or {"duration_minutes": 2}
    write_json(tmp_path / "lvbench.json", [{"video_info": info, **entry} for entry in entries])
    samples, done = prepared("lvbench", tmp_path)
    return samples, [bad.reason for bad in done.dropped]


@pytest.mark.parametrize(
    ("reference", "spans"),
    [
        ("00:15-00:19", [(15, 19)]),
        ("00:00:15-00:00:19", [(15, 19)]),
        ("0:15 - 0:19", [(15, 19)]),
        ("00:15\u201300:19", [(15, 19)]),
        ("00:15~00:19", [(15, 19)]),
        ("00:15-00:19, 01:00-01:05", [(15, 19), (60, 65)]),
        ("00:15-00:19\n01:00-01:05", [(15, 19), (60, 65)]),
        ("from 00:15 to 00:19", [(15, 19)]),
        ("00:15", [(15, 16)]),
        ("00:15-00:15", [(15, 16)]),
    ],
)
def test_time_references(tmp_path, reference, spans):
    samples, reasons = lvbench_rows(tmp_path, {"uid": 1, "time_reference": reference})
    assert samples["1"].spans == tuple(Span(*pair) for pair in spans)
    assert reasons == []


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("00:19-00:15", "ends before it starts"),
        ("whole video", "no range of clock times"),
        ("15-19", "no range of clock times"),
        ("00:15-", "no range of clock times"),
        ("00:15-00:19, then later", "no range of clock times"),
        ("03:30-03:40", "starts after the video"),
        ([[1, 2]], "is no text"),
        (7, "is no text"),
    ],
)
def test_time_references_that_cannot_be_read_are_reported_and_not_guessed(tmp_path, reference, reason):
    samples, reasons = lvbench_rows(tmp_path, {"uid": 1, "time_reference": reference})
    assert samples["1"].spans is None
    assert len(reasons) == 1
    assert reasons[0].startswith("left out, spans: 1: ")
    assert reason in reasons[0]


@pytest.mark.parametrize("reference", [None, "", "  "])
def test_a_question_without_a_time_reference_has_no_spans(tmp_path, reference):
    samples, reasons = lvbench_rows(tmp_path, {"uid": 1, "time_reference": reference})
    assert (samples["1"].spans, reasons) == (None, [])


def test_uids_that_are_missing_or_repeated(tmp_path):
    rows = [{"uid": "u"}, {}, {"uid": "u"}, {"uid": None}, {"uid": ""}, {"uid": 5}]
    samples, reasons = lvbench_rows(tmp_path, *rows)
    assert list(samples) == ["u", "v_2", "v_3", "v_4", "v_5", "5"]
    assert reasons == ["left out, uid: u: u is that of another question; the id is v_3"]


def test_a_repeated_question_is_kept_once(tmp_path):
    samples, reasons = lvbench_rows(tmp_path, {"uid": 1, "question": QUESTION}, {"uid": 2, "question": QUESTION})
    assert list(samples) == ["1"]
    assert reasons == ["question is repeated: 2: the same words about the same video came before"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "What is it?"}, "question has no list of options"),
        ({"question": "What?\n(A) a\n(C) c"}, "question has no list of options"),
        ({"question": "What?\n(A)\n(B) b"}, "question or an option is empty"),
        ({"question": None}, "question is no text"),
        ({"question": "Q?\n" + "A. a\n" * 100_000}, "question has too many lines"),
        ({"answer": "E"}, "answer is no letter of an option"),
        ({"answer": "the first"}, "answer is no letter of an option"),
        ({"answer": None}, "answer is no text"),
        ({"key": "../outside"}, "path leaves its folder"),
        ({"key": ""}, "key is no text"),
    ],
)
def test_rows_that_cannot_be_used_are_rejected_with_the_reason(tmp_path, row, reason):
    samples, reasons = lvbench_rows(tmp_path, {"uid": 1}, {"uid": 2, **row})
    assert list(samples) == ["1"]
    assert [text.startswith(reason) for text in reasons] == [True]


@pytest.mark.parametrize("minutes", [0, -3, "soon", True])
def test_a_duration_that_is_none_is_reported(tmp_path, minutes):
    samples, reasons = lvbench_rows(tmp_path, {"uid": 1}, duration_minutes=minutes)
    assert samples["1"].duration is None
    assert reasons[0].startswith("left out, duration: 1: duration_minutes is no number above 0")


def test_broken_lines_are_reported_and_the_others_kept(tmp_path):
    write_lines(tmp_path / "video_info.meta.jsonl", [published.LVBENCH_VIDEOS[1]])
    with (tmp_path / "video_info.meta.jsonl").open("a") as file:
        file.write('{"key": "x", "qa": \n[1]\n' + json.dumps({"key": "y", "qa": [3]}) + "\n")
    samples, done = prepared("lvbench", tmp_path)
    assert list(samples) == ["9"]
    assert [bad.line for bad in done.dropped] == [2, 3, 4]


def test_a_folder_without_a_table_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no video_info\.meta\.jsonl and no list"):
        prepare("lvbench", tmp_path)


@pytest.mark.skipif(not RETRIEVE.is_dir(), reason=f"no {RETRIEVE}")
def test_the_rows_of_the_reference_script(tmp_path):
    """Questions with the case's name in front, frames from 0 or in steps, a row without duration, one without uid."""
    (tmp_path / "lvbench_rows.json").write_bytes((RETRIEVE / "lvbench_rows.json").read_bytes())
    (tmp_path / "frames").mkdir()
    for folder in (RETRIEVE / "frames").iterdir():
        (tmp_path / "frames" / folder.name).mkdir()
        for path in folder.iterdir():
            (tmp_path / "frames" / folder.name / path.name).write_bytes(path.read_bytes())
    samples, done = prepared("lvbench", tmp_path)
    rows = json.loads((RETRIEVE / "lvbench_rows.json").read_text())
    assert len(samples) == len(rows) == 25
    assert [bad.reason for bad in done.dropped] == ["left out, duration: dev-022: duration_minutes is missing"]
    assert list(samples)[-1] == "vdog_21"  # the row without a uid: the 21st question about this video
    for sample, row in zip(samples.values(), rows, strict=True):
        assert "ABCD"[sample.answer] == row["answer"]
        assert sample.options == ("a dog runs", "a car stops", "a man sings", "a cat sleeps")
        assert sample.question == row["question"].split("\n")[0]
        assert sample.video == tmp_path / "frames" / row["key"]
    assert samples["dev-001"].duration == pytest.approx(24)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Q?\n(A) a\n(B) b", ("Q?", ("a", "b"))),
        ("Q?\nOptions:\nA. a\nB. b of\n E. coli\nC. c", ("Q?", ("a", "b of E. coli", "c"))),
        ("Q? (A) a (B) b (C) c", ("Q?", ("a", "b", "c"))),
        ("Line one\nline two\n(A) a\nmore\n(B) b", ("Line one\nline two", ("a more", "b"))),
        ("Is (A) the first?\n(A) yes\n(B) no", ("Is (A) the first?", ("yes", "no"))),
    ],
)
def test_options_of_a_question(words, expected):
    assert split_options(words) == expected


# LongVidSearch


def test_longvidsearch_with_measured_slices(tmp_path):
    published.write_longvidsearch(tmp_path)
    samples, done = prepared("longvidsearch", tmp_path)
    assert (done.num_kept, done.dropped) == (3, ())
    assert list(samples) == ["v1_1", "v1_2", "-v2_1"]
    first = samples["v1_1"]
    assert (first.question, first.response, first.options) == (
        "Which cup is red first and blue later?",
        "The small cup.",
        (),
    )
    assert first.duration == pytest.approx(1)
    np.testing.assert_allclose(first.spans, [(0, 0.25), (0.75, 1)], atol=1e-9)
    assert (first.question_type, first.metadata) == ("State_Mutation", {"hop_level": "2-Hop", "slices": "measured"})
    second = samples["-v2_1"]  # without a video and embeddings
    assert second.spans == (Span(0, 30), Span(90, 120))
    assert second.metadata["slices"] == "nominal"
    assert second.video == tmp_path / "videos" / "-v2.mp4"


def test_longvidsearch_as_in_its_repository(tmp_path):
    published.write_longvidsearch_per_video(tmp_path)
    samples, _ = prepared("longvidsearch", tmp_path)
    assert sorted(samples) == ["-v2_1", "v1_1", "v1_2"]
    assert samples["v1_2"].spans == (Span(0, 30), Span(30, 60), Span(60, 90))
    assert samples["v1_2"].duration is None


@pytest.mark.parametrize("slices", [[], [0, 2], [2, 5], ["a"], None, [1.5], {"1": 2}])
def test_slices_that_are_none_of_the_video_are_reported(tmp_path, slices):
    published.write_longvidsearch(tmp_path)
    row = {"vid": "v1", **published.SEARCH_QUESTIONS[0], "evidence_slices": slices}
    write_json(tmp_path / "full-QA(3000).json", [row])
    samples, done = prepared("longvidsearch", tmp_path)
    assert samples["v1_1"].spans is None
    assert samples["v1_1"].metadata == {"hop_level": "2-Hop"}
    assert [bad.reason.partition(": ")[0] for bad in done.dropped] == ["left out, spans"]


def test_rows_of_longvidsearch_that_cannot_be_used(tmp_path):
    good = {"vid": "v1", **published.SEARCH_QUESTIONS[0]}
    rows = [good, good, {**good, "vid": None}, {**good, "question": ""}, {**good, "question": "Q", "answer": None}, 3]
    write_json(tmp_path / "full-QA(3000).json", [*rows, {**good, "vid": "../x"}])
    samples, done = prepared("longvidsearch", tmp_path)
    assert list(samples) == ["v1_1"]
    assert len(done.dropped) == 6


def test_embeddings_of_objects_are_not_unpickled(tmp_path):
    published.write_longvidsearch(tmp_path)
    np.save(tmp_path / "video_embeddings" / "frame_embeddings_v1.npy", np.array([{}] * 4, dtype=object))
    write_json(
        tmp_path / "full-QA(3000).json", [{"vid": "v1", **published.SEARCH_QUESTIONS[0], "evidence_slices": [1]}]
    )
    samples, _ = prepared("longvidsearch", tmp_path)
    assert samples["v1_1"].metadata["slices"] == "nominal"


# Video SimpleQA


def test_video_simpleqa(tmp_path):
    published.write_video_simpleqa(tmp_path)
    samples, done = prepared("video-simpleqa", tmp_path)
    assert (done.num_kept, done.dropped, done.without_video) == (7, (), 0)
    assert list(samples) == ["0001_hop1", "0001_hop2", "0001_multi", *(f"0002_hop{i}" for i in (1, 2, 3)), "0002_multi"]
    first = samples["0001_multi"]
    assert (first.question_type, first.response, first.spans) == ("multi-hop", "1929", None)
    assert (first.video_id, first.video) == ("2009-06-02", tmp_path / "videos" / "2009-06-02.mp4")
    assert samples["0002_hop3"].question_type == "hop 3"
    assert samples["0002_hop3"].metadata == {"hops": "3", "entry": "0002"}
    assert samples["0002_multi"].video == tmp_path / "frames_32" / "2009-06-13"


@pytest.mark.parametrize(
    ("change", "ids", "reason"),
    [
        ({"QA_Pair_1_Question": None}, [], "chain has a gap"),
        ({"date": ""}, [], "date is no text"),
        ({"date": "../../x"}, [], "path leaves its folder"),
        ({"QA_Pair_2_Answer": ""}, ["hop1", "multi"], "left out, question"),
        ({"Multi_hop_Answer": None}, ["hop1", "hop2"], "left out, question"),
    ],
)
def test_entries_that_cannot_be_used_whole(tmp_path, change, ids, reason):
    entry = {key: value for key, value in {**published.SIMPLEQA[0], **change}.items() if value is not None}
    write_json(tmp_path / "VideoSimpleQA.json", [entry, published.SIMPLEQA[1]])
    samples, done = prepared("video-simpleqa", tmp_path)
    assert [name for name in samples if name.startswith("0001")] == [f"0001_{ending}" for ending in ids]
    assert [bad.reason.startswith(reason) for bad in done.dropped] == [True]


# Tasks


@pytest.mark.parametrize(
    ("name", "writer", "method"),
    [
        ("lvbench", published.write_lvbench, "retrieve"),
        ("longvidsearch", published.write_longvidsearch, "agent"),
        ("video-simpleqa", published.write_video_simpleqa, "single-turn"),
    ],
)
def test_a_data_set_is_prepared_below_evqa_data_and_has_its_task(tmp_path, monkeypatch, capsys, name, writer, method):
    monkeypatch.setenv("EVQA_DATA", str(tmp_path))
    folder = tmp_path / datasets.DATASETS[name].folder
    folder.mkdir()
    writer(folder)
    prepare(name, folder)
    task = task_of(datasets.load(name))
    assert (task.data, task.presets[0], task.method) == (name, name, method)
    assert main(["list", "tasks"]) == 0
    assert name in capsys.readouterr().out
