"""Sets of questions about videos: published layouts, runs from end to end, scores computed by hand."""

import csv
import gzip
import itertools
import json
from pathlib import Path

import av
import numpy as np
import pytest

from evqa import datasets, media
from evqa.__main__ import main
from evqa.datasets.benchmark_rows import QUESTION_SETS
from evqa.datasets.formats import prepare, question_rows, question_sets
from evqa.datasets.registry import DATASETS
from evqa.files import jsonl
from evqa.media import decode as media_decode
from evqa.metrics.presets.video_qa import GROUP_SCORES, group_score
from evqa.schema import Prediction, Span
from evqa.scoring.results import read_scores
from evqa.tasks.registry import TASKS
from evqa.tasks.suites import SUITES

ORACLES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles"
FOUR = ["a red ball", "a dog", "two cats", "rain"]
LETTERED = [f"{letter}. {words}" for letter, words in zip("ABCD", FOUR, strict=True)]
SECONDS = 2.0


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_lines(path, *values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))


def write_csv(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_clip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((int(4 * SECONDS), 32, 48, 3), 40, dtype=np.uint8)
    media.write_video(path, iter(frames), 4.0)


def write_mvbench(folder):
    row = {"question": "What is it?", "candidates": FOUR}
    sequence = [row | {"video": "A1.mp4", "answer": "a dog", "start": 0.5, "end": 1.5}]
    write_json(folder / "json" / "action_sequence.json", [*sequence, sequence[0] | {"answer": "rain"}])
    write_json(folder / "json" / "object_existence.json", [row | {"video": "v2.mp4", "answer": "rain"}])
    write_clip(folder / "video" / "star" / "Charades_v1_480" / "A1.mp4")
    write_clip(folder / "video" / "clevrer" / "video_validation" / "v2.mp4")


def write_video_mme(folder):
    row = {
        "video_id": "001",
        "videoID": "fFjv93ACGo8",
        "question": "What is it?",
        "options": LETTERED,
        "domain": "Life",
    }
    write_lines(
        folder / "video_mme.jsonl",
        row | {"question_id": "001-1", "duration": "short", "task_type": "Counting", "answer": "B"},
        row | {"question_id": "001-2", "duration": "short", "task_type": "OCR", "answer": "A"},
        row | {"question_id": "301-1", "duration": "long", "task_type": "OCR", "answer": "B"},
    )
    write_clip(folder / "data" / "fFjv93ACGo8.mp4")
    (folder / "subtitle").mkdir()
    (folder / "subtitle" / "fFjv93ACGo8.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nLook at the dog.\n")


def write_video_mme_parquet(folder):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    write_video_mme(folder)
    rows = [json.loads(line) for line in (folder / "video_mme.jsonl").read_text().splitlines()]
    (folder / "video_mme.jsonl").unlink()
    (folder / "videomme").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), folder / "videomme" / "test-00000-of-00001.parquet")


EIGHT = "\n".join(f"{letter}. option {letter}" for letter in "ABCDEFGH")


def write_video_mme_v2(folder):
    """A group of independent questions with two right answers (B), and one of steps with an exchangeable pair."""
    row = {"video": "001", "question": "What is it?", "options": EIGHT, "level": "1", "third_head": "Order"}
    relevance = [row | {"group_type": "relevance", "group_structure": "None", "answer": a} for a in "BCBD"]
    steps = [row | {"group_type": "logic", "group_structure": "[1, [2, 3], 4]", "answer": a} for a in "BCBB"]
    write_lines(folder / "video_mme_v2.jsonl", *relevance, *steps)
    write_clip(folder / "videos" / "001.mp4")


def write_longvideobench(folder):
    row = {"question": "What is it?", "candidates": FOUR, "video_path": "x.mp4", "question_category": "S2E"}
    groups = ((1, 15), (2, 15), (1, 3600))
    rows = [
        row | {"id": f"x_{place}", "correct_choice": right, "duration_group": group}
        for place, (right, group) in enumerate(groups)
    ]
    write_json(folder / "lvb_val.json", rows)
    write_clip(folder / "videos" / "x.mp4")


def write_mlvu(folder):
    row = {
        "video": "m.mp4",
        "duration": 480.0,
        "question": "What is it?",
        "candidates": FOUR,
        "question_type": "plotQA",
    }
    write_json(folder / "json" / "1_plotQA.json", [row | {"answer": "a dog"}, row | {"answer": "rain"}])
    write_json(folder / "json" / "4_count.json", [row | {"answer": "a dog"}])
    write_json(folder / "json" / "9_summary.json", [{"video": "m.mp4", "question": "Sum up.", "answer": "A film."}])
    for name in ("1_plotQA", "4_count"):
        write_clip(folder / "video" / name / "m.mp4")


def write_mlvu_test(folder):
    row = {"video": "t.mp4", "question": "What is it?", "candidates": FOUR, "duration": 500.0}
    rows = [row | {"question_id": f"AR_{n}", "question_type": "anomaly_reco"} for n in range(3)]
    write_json(folder / "test_question.json", rows)
    write_clip(folder / "test_video" / "t.mp4")


def write_egoschema(folder):
    options = {f"option {place}": words for place, words in enumerate([*FOUR, "snow"])}
    rows = [{"q_uid": uid, "question": "What does C do?"} | options for uid in ("u1", "u2", "u3")]
    write_json(folder / "questions.json", rows)
    write_json(folder / "subset_answers.json", {"u1": 1, "u3": 4})
    for name in ("u1", "u2", "u3"):
        write_clip(folder / "videos" / f"{name}.mp4")


def write_video_holmes(folder):
    options = dict(zip("ABCD", FOUR, strict=True))
    row = {"video ID": "h1", "Question": "Who is it?", "Options": options}
    rows = [
        row | {"Question ID": n, "Question Type": kind, "Answer": a} for n, kind, a in ((1, "SR", "B"), (2, "TA", "C"))
    ]
    write_json(folder / "test_Video-Holmes.json", rows)
    write_clip(folder / "videos_cropped" / "h1.mp4")


def next_row(qid, kind, answer, **fields):
    options = {f"a{place}": words for place, words in enumerate([*FOUR, "snow"])}
    return {"video": "77", "question": "what is it", "answer": answer, "qid": qid, "type": kind} | options | fields


def write_nextqa(folder):
    write_csv(folder / "val.csv", next_row(0, "CW", 1), next_row(1, "TN", 3))
    write_clip(folder / "videos" / "0001" / "77.mp4")  # one folder deeper, as published


def write_nextgqa(split):
    def write(folder):
        rows = [
            next_row(qid, kind, words)
            for qid, kind, words in ((0, "CW", "a dog"), (1, "TN", "rain"), (2, "CW", "rain"))
        ]
        write_csv(folder / f"{split}.csv", *rows)
        location = {"0": [[0.0, 1.0]], "1": [[1.5, 2.0], [0.5, 1.0]]}
        write_json(folder / f"gsub_{split}.json", {"77": {"duration": SECONDS, "location": location, "fps": 4.0}})
        write_clip(folder / "videos" / "77.mp4")

    return write


def write_rextime(folder):
    row = {"query": "What then?", "duration": SECONDS, "vid": "r1", "options": FOUR}
    windows = ([[0, 1]], [[1.5, 2]])
    rows = [
        row | {"qid": f"q{n}", "ans": a, "relevant_windows": w}
        for n, (a, w) in enumerate(zip("BC", windows, strict=True))
    ]
    write_lines(folder / "rextime_val.jsonl", *rows)
    write_clip(folder / "videos" / "r1.mp4")


def write_cg_bench(folder):
    row = {"video_uid": "c1", "question": "What is it?", "choices": FOUR, "duration": SECONDS, "domain": "Life"}
    intervals = ([[0, 0.5], [0.4, 1.0]], [[1.5, 2]])
    rows = [
        row | {"qid": n, "right_answer": a, "clue_intervals": w}
        for n, (a, w) in enumerate(zip("BC", intervals, strict=True))
    ]
    write_json(folder / "cgbench_mini.json", rows)
    write_clip(folder / "videos" / "c1.mp4")


def write_qvhighlights(folder):
    row = {"query": "A dog runs.", "duration": SECONDS, "vid": "v_0.0_2.0"}
    write_lines(
        folder / "highlight_val_release.jsonl",
        row | {"qid": 1, "relevant_windows": [[0, 1]]},
        row | {"qid": 2, "relevant_windows": [[1.5, 2]]},
    )
    write_clip(folder / "videos" / "v_0.0_2.0.mp4")


def write_charades(folder):
    folder.mkdir(parents=True)
    (folder / "charades_sta_test.txt").write_text(
        "ABC12 0.0 1.0##person opens a door.\nABC12 1.5 2.0##a person sits.\n"
    )
    write_clip(folder / "Charades_v1" / "ABC12.mp4")


def write_activitynet(split):
    def write(folder):
        rows = [{"question_id": f"v_x_{n}", "video_name": "x", "question": "is it a dog"} for n in (1, 2)]
        write_json(folder / f"{split}_q.json", rows)
        answers = [
            {"question_id": "v_x_1", "answer": "a dog", "type": 3},
            {"question_id": "v_x_2", "answer": "no", "type": 3},
        ]
        write_json(folder / f"{split}_a.json", answers)
        write_clip(folder / "videos" / "v_x.mp4")

    return write


WRITERS = {
    "mvbench": write_mvbench,
    "video-mme": write_video_mme,
    "video-mme-subtitles": write_video_mme,
    "video-mme-v2": write_video_mme_v2,
    "video-mme-v2-subtitles": write_video_mme_v2,
    "longvideobench-val": write_longvideobench,
    "longvideobench-val-subtitles": write_longvideobench,
    "mlvu-dev": write_mlvu,
    "egoschema-subset": write_egoschema,
    "egoschema": write_egoschema,
    "mlvu-test": write_mlvu_test,
    "video-holmes": write_video_holmes,
    "nextqa-val": write_nextqa,
    "nextgqa-val": write_nextgqa("val"),
    "nextgqa-test": write_nextgqa("test"),
    "rextime-val": write_rextime,
    "cg-bench-mini": write_cg_bench,
    "qvhighlights-val": write_qvhighlights,
    "charades-sta-test": write_charades,
    "activitynet-qa-val": write_activitynet("val"),
    "activitynet-qa-test": write_activitynet("test"),
}

REPLIES = {
    "choose-answer": "B",
    "choose-answer-subtitles": "B",
    "answer-time": ["B", "[[0.0, 1.0]]"],
    "moments": "[[0.0, 1.0]]",
    "answer-phrase": "a dog",
}
"""Method -> the one reply of the scripted model: option B, the first second, a dog."""

HALF = 1 / 2
EXPECTED = {
    "mvbench": {"Acc action sequence": HALF, "Acc object existence": 0.0, "Acc": 1 / 3, "Avg": 1 / 4},
    "video-mme": {"Acc": 2 / 3, "Acc short": HALF, "Acc long": 1.0},
    "video-mme-v2": {"Acc": 5 / 8, "group score": (4 / 16 + 4 / 12) / 2, "group score logic": 4 / 12},
    "longvideobench-val": {"Acc": 2 / 3, "Acc 15": HALF, "Acc 3600": 1.0},
    "mlvu-dev": {"Acc": 2 / 3, "Acc plotQA": HALF, "Acc count": 1.0, "M-Avg": 3 / 4},
    "egoschema-subset": {"Acc": HALF},
    "egoschema": {"Acc": HALF},  # of the questions with an answer
    "mlvu-test": {},  # answers are on a server
    "video-holmes": {"Acc": HALF, "Acc SR": 1.0, "Acc TA": 0.0},
    "nextqa-val": {"Acc": HALF, "Acc_C (causal)": 1.0, "Acc_T (temporal)": 0.0},
    "nextgqa-val": {"Acc@QA": HALF, "Acc@GQA": HALF, "mIoP": 0.75, "mIoU": 0.75},
    "nextgqa-test": {"Acc@QA": HALF, "Acc@GQA": HALF, "mIoP": 0.75, "mIoU": 0.75},
    "rextime-val": {"VQA": HALF, "mIoU": HALF, "VQA,mIoU@0.5": HALF},
    "cg-bench-mini": {"long_acc": HALF, "mIoU": HALF, "rec@IoU": HALF, "acc@IoU": HALF},
    "qvhighlights-val": {"R1@0.5": HALF, "mAP": HALF},
    "charades-sta-test": {"R1@0.5": HALF, "mIoU": HALF},
    "activitynet-qa-val": {"All": HALF},
    "activitynet-qa-test": {"All": HALF},
}
"""Set -> scores of these replies under its first preset, computed by hand."""
EXPECTED |= {f"{name}-subtitles": EXPECTED[name] for name in ("video-mme", "video-mme-v2", "longvideobench-val")}


def prepared(root, name, monkeypatch, writer=None):
    monkeypatch.setenv("EVQA_DATA", str(root))
    monkeypatch.setenv("EVQA_OUTPUTS", str(root / "outputs"))
    folder = root / DATASETS[name].folder
    (writer or WRITERS[name])(folder)
    assert prepare(name, folder).dropped == ()
    return datasets.load(name)


def run_set(root, name):
    (root / "replies.json").write_text(json.dumps({"*": REPLIES[TASKS[name].method]}))
    run = root / "run"
    assert main(["predict", name, str(root / "replies.json"), "--out", str(run)]) == 0
    assert main(["score", str(run)]) == 0
    return next(row for row in read_scores(run / "scores.json") if row.source)


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_is_read_run_and_scored(name, tmp_path, monkeypatch):
    dataset = prepared(tmp_path, name, monkeypatch)
    assert all(sample.video.exists() for sample in dataset.samples)
    scores = run_set(tmp_path, name)
    assert scores.preset == TASKS[name].presets[0]
    values = {title: mean.mean for title, mean in scores.metrics.items()} | {
        title: number.value for title, number in scores.derived.items()
    }
    assert {title: values[title] for title in EXPECTED[name]} == pytest.approx(EXPECTED[name])
    assert set(TASKS[name].headline) <= set(values)


def test_every_set_is_tested_has_a_task_and_is_in_a_suite():
    assert set(WRITERS) == set(EXPECTED)
    assert set(WRITERS) | {"videorefer-bench-q", "pixelqa"} == set(QUESTION_SETS) <= set(TASKS)
    in_suites = {task for suite in SUITES.values() for task in suite.tasks}
    assert set(QUESTION_SETS) <= in_suites


def test_video_mme_is_read_from_parquet_too(tmp_path, monkeypatch):
    dataset = prepared(tmp_path, "video-mme", monkeypatch, write_video_mme_parquet)
    assert [sample.id for sample in dataset.samples] == ["001-1", "001-2", "301-1"]
    assert dataset.samples[0].options == tuple(FOUR)


def published_group_score(structure, rights):
    """An independent one: the score by n, where n steps are counted by going from question to question."""
    if structure == "relevance":
        return (sum(rights) / 4) ** 2
    steps = json.loads(structure)
    count, done = 0, set()
    for step in steps:
        members = step if isinstance(step, list) else [step]
        solved = [member for member in members if rights[member - 1]]
        if isinstance(step, list) and len(solved) < len(members):
            count += bool(solved)
            break
        if not solved:
            break
        count += len(solved)
        done.update(solved)
    return {4: 1.0, **dict(enumerate(GROUP_SCORES[structure][:4]))}[count]


@pytest.mark.parametrize("structure", GROUP_SCORES)
def test_group_scores_count_steps_until_the_first_error(structure):
    for rights in itertools.product((False, True), repeat=4):
        assert group_score(structure, rights) == pytest.approx(published_group_score(structure, rights)), rights


def test_a_group_that_is_not_whole_has_no_score(tmp_path, monkeypatch):
    prepared(tmp_path, "video-mme-v2", monkeypatch)
    (tmp_path / "replies.json").write_text(json.dumps({"*": "B"}))
    run = tmp_path / "run"
    words = ["predict", "video-mme-v2", str(tmp_path / "replies.json"), "--out", str(run), "--limit", "6"]
    assert main(words) == 0
    assert main(["score", str(run)]) == 0
    scores = read_scores(run / "scores.json")[0]
    assert scores.derived["group score"].value == pytest.approx(4 / 16)
    assert "group score logic" not in scores.derived


def test_an_unreadable_answer_breaks_a_chain(tmp_path, monkeypatch):
    prepared(tmp_path, "video-mme-v2", monkeypatch)
    (tmp_path / "replies.json").write_text(json.dumps({"*": "I cannot tell."}))
    run = tmp_path / "run"
    assert main(["predict", "video-mme-v2", str(tmp_path / "replies.json"), "--out", str(run)]) == 0
    assert main(["score", str(run)]) == 0
    assert read_scores(run / "scores.json")[0].derived["group score"].value == 0.0


WRONG_ROWS = {
    "at least two options": {"options": ["A. a dog"]},
    "answer is a letter": {"answer": "E"},
    "options are no list": {"options": "[open('/etc/passwd').read()]"},
    "videoID leaves": {"videoID": "../../etc/passwd"},
}


@pytest.mark.parametrize("reason", WRONG_ROWS)
def test_a_row_that_cannot_be_used_is_reported(reason, tmp_path):
    write_video_mme(tmp_path)
    row = json.loads((tmp_path / "video_mme.jsonl").read_text().splitlines()[0])
    with (tmp_path / "video_mme.jsonl").open("a") as file:
        file.write(f"{json.dumps(row | {'question_id': 'x'} | WRONG_ROWS[reason])}\n")
    bad = []
    samples = list(question_sets.samples(tmp_path, bad, "video-mme"))
    assert len(samples) == 3
    assert len(bad) == 1
    assert bad[0].line == 4


def test_options_are_read_in_every_published_form():
    for options in (FOUR, LETTERED, dict(zip("ABCD", FOUR, strict=True)), "\n".join(LETTERED), str(FOUR)):
        assert question_rows.letters_of(options) == tuple(FOUR)
    assert question_rows.letters_of(["A dog", "B-side"]) == ("A dog", "B-side")


@pytest.mark.skipif(not (ORACLES / "nextgqa").is_dir(), reason="needs the oracles beside the project")
@pytest.mark.parametrize("split", ["val", "test"])
def test_the_published_files_of_nextgqa_give_its_official_scores(split, tmp_path, monkeypatch):
    """Official predictions on samples that the reader made, without a video."""
    folder = tmp_path / "nextgqa"
    folder.mkdir()
    for name in (f"{split}.csv", f"gsub_{split}.json"):
        (folder / name).write_bytes(gzip.decompress((ORACLES / "nextgqa" / f"{name}.gz").read_bytes()))
    monkeypatch.setenv("EVQA_DATA", str(tmp_path))
    name = f"nextgqa-{split}"
    assert prepare(name, folder).dropped == ()
    dataset = datasets.load(name)
    path = ORACLES / "nextgqa" / f"synthetic_spans_{split}.json.gz"
    spans = json.loads(gzip.decompress(path.read_bytes()))["mid50"]
    official = json.loads((ORACLES / "nextgqa" / "expected_official_eval_ground.json").read_text())
    predictions = [
        Prediction(sample_id=sample.id, status="ok", spans=(Span(*spans[sample.id]),))
        for sample in dataset.samples
        if sample.id in spans
    ]
    assert len(predictions) == len(spans)
    jsonl.write_records(tmp_path / "mid50.jsonl", predictions)
    assert (
        main(["score", str(tmp_path / "mid50.jsonl"), "--data", name, "--preset", "nextgqa", "--baselines", "none"])
        == 0
    )
    scores = read_scores(tmp_path / "mid50.scores.json")[0]
    expected = official[split]["metrics"]["mid50"]
    for title in ("mIoP", "IoP@0.3", "IoP@0.5", "mIoU", "IoU@0.3", "IoU@0.5"):
        assert round(100 * scores.metrics[title].mean, 1) == expected[title], title


@pytest.mark.skipif(not (ORACLES / "charades_sta").is_dir(), reason="needs the oracles beside the project")
def test_the_published_files_of_charades_and_qvhighlights_are_read_whole(tmp_path):
    for oracle, name, count in (
        ("charades_sta/charades_sta_test.txt.gz", "charades-sta-test", 3720),
        ("qvhighlights/highlight_val_release.jsonl.gz", "qvhighlights-val", 1550),
    ):
        target = tmp_path / Path(oracle).name.removesuffix(".gz")
        target.write_bytes(gzip.decompress((ORACLES / oracle).read_bytes()))
        bad = []
        samples = list(question_sets.samples(tmp_path, bad, name))
        assert (len(samples), bad) == (count, [])
        assert all(sample.spans for sample in samples)


def write_groups(path, images, group):
    """Encode images at 25 frames per second with a keyframe in every group of frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": str(group), "bf": "0", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())


@pytest.fixture
def num_decoded(monkeypatch):
    """A list to which each decoded frame adds an entry."""
    frames, decode = [], media_decode._decode_packets

    def counted(*args):
        for frame in decode(*args):
            frames.append(frame)
            yield frame

    monkeypatch.setattr(media_decode, "_decode_packets", counted)
    return frames
