"""Ego4D natural language queries: the reader, the two clocks, and the scores of localisation."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evqa import datasets
from evqa.__main__ import main
from evqa.datasets.formats import prepare
from evqa.files.jsonl import write_records
from evqa.metrics import localisation
from evqa.metrics.case import Case
from evqa.official.scores import OfficialFiles
from evqa.report import plots
from evqa.schema import ClipSpan, ClipWindow, ClockError, Prediction, Sample, Span, VideoSpan
from evqa.scoring.baselines import span_system
from evqa.scoring.engine import System, score
from evqa.scoring.official_files import score_file

ORACLES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles"
STAGES = ORACLES / "agents" / "stages"
SYNTHETIC = ORACLES / "ego4d_nlq_synthetic"


def query(**fields):
    times = {"clip_start_sec": 20.0, "clip_end_sec": 26.0, "video_start_sec": 28.0, "video_end_sec": 34.0}
    return {"query": "Where is the cup?", "template": "Place: Where is X?", **times, **fields}


def clip(*queries, uid="c1", annotation="a1"):
    return {
        "clip_uid": uid,
        "clip_start_sec": 0,
        "clip_end_sec": 48.0,
        "video_start_sec": 8.0,
        "video_end_sec": 56.0,
        "annotations": [{"annotation_uid": annotation, "language_queries": list(queries)}],
    }


def folder_of(tmp_path, *clips, split="val"):
    annotations = tmp_path / "v2" / "annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    videos = [{"video_uid": "v1", "clips": list(clips)}]
    (annotations / f"nlq_{split}.json").write_text(json.dumps({"version": "1", "videos": videos}))
    (tmp_path / "ego4d.json").write_text(json.dumps({"videos": [{"video_uid": "v1", "duration_sec": 64.0}]}))
    return tmp_path


def prepared(folder, name="ego4d-nlq"):
    done = prepare(name, folder)
    return datasets.load(str(done.path)), done


def test_a_query_becomes_a_sample_on_the_clock_of_the_video(tmp_path):
    data, done = prepared(folder_of(tmp_path, clip(query())))
    (sample,) = data.samples
    assert (sample.id, sample.video_id, sample.question) == ("a1_0", "v1", "Where is the cup?")
    assert (sample.spans, sample.duration) == ((Span(28, 34),), 64)
    assert sample.clip_window == ClipWindow(id="c1", start=8, end=56)
    assert (sample.question_type, sample.metadata) == ("Place: Where is X?", {"first_word": "where"})
    assert sample.video == tmp_path / "v2" / "full_scale" / "v1.mp4"
    assert not done.dropped


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"query": None}, "no query"),
        ({"query": " "}, "no query"),
        ({"query": 7}, "query is no text"),
        ({"video_start_sec": 20.0, "video_end_sec": 26.0}, "clocks disagree"),
        ({"clip_start_sec": 26.0, "clip_end_sec": 20.0}, "a span needs"),
        ({"clip_start_sec": None}, "clip_start_sec is no number"),
        ({"clip_start_sec": -1}, "clip_start_sec is no number"),
    ],
)
def test_queries_that_cannot_be_used_are_rejected_and_counted(tmp_path, change, reason):
    data, done = prepared(folder_of(tmp_path, clip(query(**change), query())))
    assert [sample.id for sample in data.samples] == ["a1_1"]
    (bad,) = done.dropped
    assert bad.reason.startswith(reason)


def test_clips_share_ids_of_annotations_only_once(tmp_path):
    clips = [clip(query()), clip(query(), uid="c2"), clip(query(), uid="c2"), {"clip_uid": 5}, None]
    data, done = prepared(folder_of(tmp_path, *clips))
    assert [sample.id for sample in data.samples] == ["a1_0", "c2_a1_0"]
    reasons = [bad.reason.partition(":")[0] for bad in done.dropped]
    assert sorted(reasons) == [
        "annotation is repeated",
        "annotations is no JSON list",
        "clip is no JSON object",
        "left out, id",
    ]


def test_the_training_split_has_a_file_of_its_own(tmp_path):
    data, done = prepared(folder_of(tmp_path, clip(query()), split="train"), "ego4d-nlq-train")
    assert (len(data.samples), done.path.name) == (1, "train.jsonl")


def test_uids_that_leave_the_folder_are_refused(tmp_path):
    folder = folder_of(tmp_path, clip(query()))
    path = folder / "v2" / "annotations" / "nlq_val.json"
    path.write_text(path.read_text().replace('"v1"', '"../../v1"'))
    with pytest.raises(ValueError, match="path leaves its folder"):
        prepare("ego4d-nlq", folder)


def test_clocks_convert_only_explicitly():
    window = ClipWindow(id="c", start=8, end=56, origin=2)
    assert window.to_video(ClipSpan(22, 28)) == VideoSpan(28, 34)
    assert window.to_clip(VideoSpan(28, 34)) == ClipSpan(22, 28)
    assert VideoSpan(1, 2) != ClipSpan(1, 2)
    with pytest.raises(ClockError, match="expected a ClipSpan"):
        window.to_video(VideoSpan(22, 28))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ClockError, match="expected a VideoSpan"):
        window.to_clip(Span(22, 28))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a span needs"):
        window.to_clip(VideoSpan(0, 3))


def perfect(sample, clock="video"):
    spans = sample.spans
    if clock == "clip":
        spans = tuple(
            Span(s.start, s.end) for s in (sample.clip_window.to_clip(VideoSpan(*span)) for span in sample.spans)
        )
    return Prediction(sample_id=sample.id, status="ok", spans=spans, clock=clock)


def means(data, predict, preset, name="run"):
    (scores,) = score(data, [System(name, predict=predict, gives=frozenset({"spans"}))], [preset])
    return {title: value.mean for title, value in scores.metrics.items()}


def test_perfect_spans_score_one_on_the_video_clock_and_are_refused_on_the_clip_clock(tmp_path):
    data, _ = prepared(folder_of(tmp_path, clip(query())))
    for preset in ("ego4d-nlq", "localisation", "containment"):
        values = means(data, perfect, preset)
        assert {values[name] for name in values if name.startswith(("R", "mI", "cont"))} == {1.0}
    with pytest.raises(ClockError, match="seconds of a clip, expected seconds of the video: add 8 to each"):
        means(data, lambda sample: perfect(sample, "clip"), "localisation")


def test_a_prediction_without_clock_is_written_as_before():
    row = Prediction(sample_id="a", status="ok", spans=(Span(0, 1),))
    assert "clock" not in row.model_dump_json()
    assert Prediction.model_validate_json(row.replace(clock="clip").model_dump_json()).clock == "clip"


def case(spans, gold=((10, 20),), duration=100.0):
    sample = Sample(id="a", video_id="v", video=Path("v.mp4"), question="?", spans=gold, duration=duration)
    return Case(sample, Prediction(sample_id="a", status="ok", spans=spans))


@pytest.mark.parametrize(
    ("spans", "coverage", "contains", "seconds", "budgets"),
    [
        ([(10, 20)], 1, 1, 10, (0, 1, 1)),
        ([(15, 18)], 0.3, 0, 3, (0.3, 0.3, 0.3)),
        ([(10, 15), (14, 20)], 1, 0, 10, (0, 1, 1)),
        ([(0, 100)], 1, 1, 100, (0, 0, 0)),
        ([(90, 400)], 0, 0, 10, (0, 0, 0)),
        ([], 0, 0, 0, (0, 0, 0)),
    ],
)
def test_coverage_is_reported_with_its_length(spans, coverage, contains, seconds, budgets):
    of = case(spans)
    assert localisation.coverage(of.predicted_spans, of.gold_spans) == pytest.approx(coverage)
    assert localisation.contains(of.predicted_spans, of.gold_spans) == contains
    assert localisation.predicted_seconds(of) == seconds
    assert [localisation.coverage_within(b)(of) for b in localisation.BUDGETS] == pytest.approx(budgets)


def test_the_whole_video_contains_everything_and_covers_nothing_at_a_budget():
    data = datasets.Dataset("x", Path(), (case([]).sample.replace(video=Path()),), (), "0")
    system = span_system("whole video", 0.0, 1.0)
    (scores,) = score(data, [system], ["containment"])
    assert scores.metrics["containment"].mean == 1
    (scores,) = score(data, [system], ["localisation"])
    assert (scores.metrics["coverage"].mean, scores.metrics["coverage at 20%"].mean) == (1, 0)


needs_oracle = pytest.mark.skipif(not STAGES.is_dir(), reason="needs the oracles beside the project")


@needs_oracle
def test_the_oracle_folder_has_the_spans_of_the_video_clock(tmp_path):
    for path in ("ego4d.json", "v2/annotations/nlq_val.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((STAGES / "data" / path).read_bytes())
    data, done = prepared(tmp_path)
    truth = json.loads((STAGES / "expected.json").read_text())["truth"]
    usable = {row["id"]: row for row in truth if row["usable"]}
    assert [sample.id for sample in data.samples] == list(usable)
    assert [list(sample.spans[0]) for sample in data.samples] == [row["span_video_clock"] for row in usable.values()]
    assert [sample.question_type for sample in data.samples] == [row["template"] for row in usable.values()]
    assert [bad.reason.partition(":")[0] for bad in done.dropped] == ["no query"]


@needs_oracle
def test_the_export_has_the_columns_of_the_original_and_scores_in_the_challenge(tmp_path, capsys):
    shutil.copytree(STAGES / "data", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("frames*"))
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755)
    data, _ = prepared(tmp_path)
    run = tmp_path / "run.jsonl"
    runs = json.loads((STAGES / "expected.json").read_text())["runs"]
    rows = runs["first_commit/stage_analysis_uniform8"]["original"]
    write_records(run, [perfect(sample) for sample in data.samples[1:]])
    out = str(tmp_path / "out")
    arguments = ["export", str(run), "--data", str(tmp_path), "--format", "localisation", "--out", out]
    assert main(arguments) == 0
    written = list(csv.DictReader((tmp_path / "out" / "run.csv").open(newline="")))
    original = list(csv.DictReader(rows["csv_rows"]))[:4]  # the fifth has no query
    assert [list(row) for row in written] == [list(row) for row in original]
    assert [row.pop("correct_segment") for row in written] == ["False", "True", "True", "True"]
    for row in original:
        row.pop("correct_segment")
    assert written == original
    challenge = tmp_path / "out" / "run.nlq.json"
    gold = tmp_path / "v2" / "annotations" / "nlq_val.json"
    scores = score_file("ego4d-nlq", OfficialFiles(challenge, gold, None))
    assert scores.tables[0].metrics["R1@0.5"].mean == pytest.approx(3 / 5)  # of the queries with the empty one
    assert main(arguments) != 0  # the folder is there


def test_the_report_plots_scores_by_template_and_first_word(tmp_path):
    queries = [query(), query(query="Who came in?", template="People: Who?"), query(query="What did I cut?")]
    data, _ = prepared(folder_of(tmp_path, clip(*queries)))
    (scores,) = score(data, [System("run", predict=perfect, gives=frozenset({"spans"}))], ["localisation"])
    titles = [plot.title for plot in plots.all_plots([scores], [], [], {}, [], {})]
    assert {"Scores by question type", "Scores by first word of the question"} <= set(titles)


def test_scores_by_template_and_first_word_are_written_as_bar_charts(tmp_path, capsys):
    queries = [query(), query(query="Who came in?", template="People: Who?"), query(query="What did I cut?")]
    data, _ = prepared(folder_of(tmp_path / "data", clip(*queries)))
    write_records(tmp_path / "run.jsonl", [perfect(sample) for sample in data.samples])
    command = ["score", str(tmp_path / "run.jsonl"), "--data", str(tmp_path / "data"), "--preset", "localisation"]
    assert main([*command, "--plots", str(tmp_path / "charts")]) == 0
    assert "bar charts written to" in capsys.readouterr().out
    charts = sorted((tmp_path / "charts").iterdir())
    assert [path.name for path in charts] == ["localisation_first_word.png", "localisation_question_type.png"]
    for path in charts:
        pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
        is_blue = (pixels == (0x0B, 0x5F, 0xC0)).all(axis=1)  # a dot per bar, in the colour of the page
        assert is_blue.sum() > 100
        assert (pixels.min(axis=0) > 0).all()  # no placeholder of a colour is left
        assert (pixels[0] == 255).all()


def test_a_run_without_question_types_has_no_chart(tmp_path, capsys):
    data, _ = prepared(folder_of(tmp_path / "data", clip(query())))
    write_records(tmp_path / "run.jsonl", [perfect(sample) for sample in data.samples])
    command = ["score", str(tmp_path / "run.jsonl"), "--data", str(tmp_path / "data"), "--preset", "localisation"]
    assert main([*command, "--plots", str(tmp_path / "charts")]) == 0
    assert "no chart: " in capsys.readouterr().out
    assert not (tmp_path / "charts").exists()


@needs_oracle
def test_synthetic_queries_are_covered_on_the_video_clock_only(tmp_path):
    gold = json.loads((SYNTHETIC / "gt.json").read_text())
    expected = json.loads((SYNTHETIC / "expected.json").read_text())
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "nlq_val.json").write_text(json.dumps(gold))
    data, _ = prepared(tmp_path)
    key = "coverage_acc_if_scored_with_video_times"
    assert means(data, perfect, "containment")["containment"] == expected[key] == 1.0

    def without_clock(sample):
        return perfect(sample, "clip").replace(clock="video")

    # spans of the clip, said to be of the video, cover the ground truth only where the clip starts with the video
    mixed = means(data, without_clock, "containment")["containment"]
    assert mixed == expected["coverage_acc_if_scored_with_clip_times"] == 0.25


@needs_oracle
def test_recall_of_the_challenge_file_on_the_video_clock(tmp_path):
    gold = json.loads((SYNTHETIC / "gt.json").read_text())
    rows = json.loads((SYNTHETIC / "predictions.json").read_text())["results"]
    expected = json.loads((SYNTHETIC / "expected.json").read_text())
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "nlq_val.json").write_text(json.dumps(gold))
    data, _ = prepared(tmp_path)
    windows = {(row["clip_uid"], f"{row['annotation_uid']}_{row['query_idx']}"): row["predicted_times"] for row in rows}

    def predict(sample):
        spans = [
            sample.clip_window.to_video(ClipSpan(*window)).span for window in windows[sample.clip_window.id, sample.id]
        ]
        return Prediction(sample_id=sample.id, status="ok", spans=tuple(spans))

    values = means(data, predict, "localisation")
    recalls = [[values[f"R{k}@{t}"] for k in expected["topk"]] for t in expected["thresholds"]]
    for row, right in zip(recalls, expected["recall[thr][k]"], strict=True):
        assert row == pytest.approx(right)
