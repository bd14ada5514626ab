"""Official files as records: one engine for runs and for files of other benchmarks."""

import json
from pathlib import Path

import pytest

from evqa.__main__ import main
from evqa.datasets import Dataset
from evqa.metrics.case import Metric
from evqa.metrics.presets import PRESETS
from evqa.official import FORMATS
from evqa.official.scores import OfficialFiles
from evqa.schema import Prediction, Sample, Span
from evqa.scoring.engine import PredictionReport, System, score
from evqa.scoring.official_files import official_scores, read_official, scores_of_file
from evqa.scoring.results import read_scores

GOLD = [
    {"qid": f"q{place}", "vid": f"v{place % 2}", "duration": 20, "relevant_windows": [[0, 10]], "ans": "B"}
    for place in range(4)
]


def rextime_files(folder: Path, name: str, answers: str, ends: list[float]) -> OfficialFiles:
    rows = [
        {"qid": f"q{place}", "pred_relevant_windows": [[0, end]], "ans": answer}
        for place, (answer, end) in enumerate(zip(answers, ends, strict=True))
    ]
    predictions, gold = folder / f"{name}.jsonl", folder / "gold.jsonl"
    predictions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    gold.write_text("".join(json.dumps(row) + "\n" for row in GOLD))
    return OfficialFiles(predictions, gold, None)


def test_every_format_has_presets_with_definitions_or_its_own_scores():
    for name, row in FORMATS.items():
        assert (row.read is None) == (not row.presets) == (row.score is not None), name
        for preset in row.presets.values():
            metrics = PRESETS[preset].metrics
            assert set(row.titles) <= set(metrics), name
            assert all(metric.definition and metric.source and metric.needs for metric in metrics.values()), name
    with pytest.raises(ValueError, match="v-star files have their own scores and are not read as records"):
        read_official("v-star", OfficialFiles(Path("x"), None, None))


def test_a_file_is_scored_as_a_run_with_the_same_predictions(tmp_path: Path):
    """Answers B, A, Z, none; windows of IoU 0.5, 1, 0.3, 1."""
    files = rextime_files(tmp_path, "mine", "BAZB", [5, 10, 3, 10])
    data = read_official("rextime", files)
    assert [sample.options for sample in data.dataset.samples] == [("A", "B", "C", "D")] * 4
    assert [sample.answer for sample in data.dataset.samples] == [1] * 4
    file_scores, scores = official_scores("rextime", files)
    assert scores is not None
    (run,) = score(data.dataset, [System("run", list(data.predictions.values()))], ["rextime"])
    assert run.metrics == scores[0].metrics
    assert run.metrics["VQA"].mean == 0.5
    assert run.metrics["VQA"].n_scored == 4  # Z is an answer, and a wrong one
    assert run.metrics["mIoU"].mean == pytest.approx((0.5 + 1 + 0.3 + 1) / 4)
    assert run.metrics["mIoU"].low is not None
    assert file_scores.official("MR-full-mIoU") == run.metrics["mIoU"].mean
    assert scores[0].source.endswith("mine.jsonl: rextime (ReXTime, rextime_eval.py), 4 predictions")
    assert [row.name for row in scores[1:3]] == ["whole video", "middle half"]
    assert {row.source for row in scores[1:]} == {""}


def test_scores_of_two_files_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    outputs = []
    for name, answers in (("first", "AAAA"), ("second", "BBBA")):
        files = rextime_files(tmp_path, name, answers, [10, 10, 10, 10])
        outputs.append(str(tmp_path / f"{name}.scores.json"))
        paths = [str(files.predictions), str(files.gold)]
        assert main(["score-official", "rextime", *paths, "--scores", outputs[-1]]) == 0
    assert [row.preset for row in read_scores(Path(outputs[0]))][:2] == ["rextime", "rextime"]
    capsys.readouterr()
    assert main(["compare", *outputs]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("VQA "))
    assert line.split()[1:3] == ["0.0", "75.0"]
    assert main(["score-official", "rextime", *paths, "--scores", str(tmp_path / "x.json")]) == 2
    assert "expected a name that ends with scores.json" in capsys.readouterr().err
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"human": 1, "model": 0.5}\n')
    assert main(["score-official", "preference", str(pairs), "--scores", str(tmp_path / "scores.json")]) == 2
    assert "leave --scores out" in capsys.readouterr().err
    assert not (tmp_path / "scores.json").exists()


def test_windows_that_end_before_they_start_stay_as_they_are(tmp_path: Path):
    (tmp_path / "gold").write_text('{"qid": 1, "vid": "v", "duration": 150, "relevant_windows": [[0, 10]]}\n')
    (tmp_path / "mine").write_text('{"qid": 1, "pred_relevant_windows": [[9, -1, 0.2], [0, 10, 0.7]]}\n')
    data = read_official("qvhighlights", OfficialFiles(tmp_path / "mine", tmp_path / "gold", None))
    assert data.predictions["1"].spans == (Span(9, -1), Span(0, 10))
    assert data.predictions["1"].span_scores == (0.2, 0.7)


def test_scores_of_spans_rank_them_and_their_order_does_without(tmp_path: Path):
    sample = Sample(id="a", video_id="v", video=Path("v.mp4"), question="?", spans=(Span(0, 4),))
    dataset = Dataset("d", tmp_path, (sample,), (), "0" * 64)
    spans = (Span(10, 14), Span(0, 4))
    for span_scores, expected in ((None, 0.5), ((0.1, 0.9), 1.0), ((0.9, 0.1), 0.5)):
        prediction = Prediction(sample_id="a", status="ok", spans=spans, span_scores=span_scores)
        (row,) = score(dataset, [System("run", [prediction])], ["qvhighlights"])
        assert row.metrics["mAP"].mean == expected
        assert row.metrics["R1@0.5"].mean == 0.0  # of the first in the file, whatever the scores


def test_open_answers_are_read_from_the_last_reply_of_a_run(tmp_path: Path):
    samples = tuple(Sample(id=name, video_id=name, video=Path("v.mp4"), question="?", response="yes") for name in "abc")
    turn = {"asks": ["answer"], "prompt": "?", "finish": "stop"}
    predictions = [
        Prediction.model_validate({"sample": "a", "status": "ok", "turns": [{**turn, "reply": "yes"}]}),
        Prediction.model_validate({"sample": "b", "status": "ok", "turns": [{**turn, "reply": "Yes"}]}),
    ]
    dataset = Dataset("d", tmp_path, samples, (), "0" * 64)
    (row,) = score(dataset, [System("run", predictions)], ["activitynet-qa"])
    mean = row.metrics["All"]
    assert (mean.mean, mean.n_scored, mean.n_missing) == (pytest.approx(1 / 3), 2, 1)


def test_questions_that_the_answers_file_lacks_count_as_wrong(tmp_path: Path):
    gold = {"v": {"duration": 10, "location": {"0": [[0, 5]], "1": [[0, 5]]}}}
    (tmp_path / "gold").write_text(json.dumps(gold))
    (tmp_path / "mine").write_text(json.dumps({"v_0": [0, 5], "v_1": [0, 5]}))
    (tmp_path / "answers").write_text(json.dumps({"v_0": {"prediction": 1, "answer": 1}}))
    files = OfficialFiles(tmp_path / "mine", tmp_path / "gold", tmp_path / "answers")
    scores = official_scores("nextgqa", files).file_scores
    assert scores.official("Acc@GQA") == scores.official("Acc@QA") == 0.5
    assert scores.tables[0].metrics["Acc@QA"].n_total == 2


def test_numbers_of_duplicate_omtg_ids_are_not_lost(tmp_path: Path):
    rows = [{"id": "x", "pred": [[0, 1]], "gt": [[0, 1]]}, {"id": "x", "pred": [[2, 3]], "gt": [[0, 1]]}]
    (tmp_path / "mine").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = official_scores("omtg", OfficialFiles(tmp_path / "mine", None, None)).file_scores
    assert scores.official("tIoU") == 0.5
    assert {name: row["tIoU"] for name, row in scores.samples.items()} == {"x": 1.0, "x#1": 0.0}


# One entry for all systems


def questions(count: int) -> Dataset:
    samples = tuple(
        Sample(
            id=f"s{place}",
            video_id=f"v{place % 3}",
            video=Path("v.mp4"),
            question="?",
            options=("a", "b"),
            answer=place % 2,
            spans=(Span(0, 4),),
            question_type=f"type {place}",
        )
        for place in range(count)
    )
    return Dataset("d", Path(), samples, (), "0" * 64)


def test_systems_scored_together_equal_systems_scored_alone():
    dataset = questions(7)
    stranger = Prediction(sample_id="who", status="ok")
    first = [Prediction(sample_id=f"s{place}", status="ok", answer=0) for place in (4, 0, 0, 2)]
    second = [Prediction(sample_id=f"s{place}", status="ok", answer=1, spans=(Span(0, 2),)) for place in range(7)]
    systems = [System("first", [*first, stranger]), System("second", second)]
    together = score(dataset, systems, ["strict", "nextgqa"])
    alone = [row for system in systems for row in score(dataset, [system], ["strict", "nextgqa"])]
    assert [(row.name, row.preset) for row in together] == [
        ("first", "strict"),
        ("first", "nextgqa"),
        ("second", "strict"),
        ("second", "nextgqa"),
    ]
    assert together == alone
    assert (together[0].counts.duplicates, together[0].counts.unknown, together[0].counts.missing) == (1, 1, 4)
    assert score(dataset, []) == []


def test_scores_carry_how_predictions_were_read_and_what_was_left_out():
    def report(bad_masks: object) -> PredictionReport:
        assert bad_masks == ()
        return PredictionReport("a file", ("line 3 is broken",), duplicates=2, unknown=3, malformed=1)

    system = System(
        "run",
        predictions=lambda sample: Prediction(sample_id=sample.id, status="ok", answer=0),
        gives=frozenset({"answer"}),
        gives_reason="answers alone were asked for",
        report=report,
    )
    (row,) = score(questions(2), [system])
    assert (row.source, row.problems) == ("a file", ("line 3 is broken",))
    assert (row.counts.duplicates, row.counts.unknown, row.counts.malformed, row.counts.ok) == (2, 3, 1, 2)
    assert list(row.metrics) == ["Acc"]
    assert row.left_out["mIoU"] == row.left_out["Acc@GQA"] == "answers alone were asked for"
    assert "J" not in row.left_out  # the data set has no masks


def test_expected_values_are_of_metrics_with_one_need():
    def expect(sample: Sample, metric: Metric) -> float | None:
        return None if sample.id == "s0" else 0.25

    (row,) = score(questions(3), [System("chance", expect=expect, gives=frozenset({"answer", "spans"}))])
    assert "Acc@GQA" not in row.metrics
    assert (row.metrics["Acc"].mean, row.metrics["Acc"].n_total) == (0.25, 2)


def test_types_of_questions_group_however_many_there_are(tmp_path: Path):
    """CG-Bench has more than fifty; a metadata key with as many values makes no groups."""
    (row,) = score(questions(60), [System("run", [])])
    assert len(row.groups["question_type"]) == 60
    data = read_official("rextime", rextime_files(tmp_path, "mine", "BBBB", [1, 1, 1, 1]))
    assert scores_of_file("rextime", data)[0].groups == {}
