import csv
import io
from pathlib import Path

import pytest

from evqa.datasets import Dataset
from evqa.metrics import presets
from evqa.report import tables as report_tables
from evqa.schema import Prediction, Sample, Span
from evqa.scoring.engine import System, score
from evqa.scoring.results import Scores

SAMPLES = tuple(
    Sample(
        id=f"s{number}",
        video_id=f"v{number}",
        video=Path(f"/nowhere/v{number}.mp4"),
        question="?",
        options=("x", "y"),
        answer=0,
        spans=(Span(0, 10),),
        question_type=("what", "when")[number % 2],
    )
    for number in range(4)
)
DATASET = Dataset("four", Path("/nowhere"), SAMPLES, (), "0" * 64)
PREDICTIONS = [
    Prediction(sample_id="s0", status="ok", answer=0, spans=(Span(0, 10),)),
    Prediction(sample_id="s1", status="ok", answer=1, spans=(Span(0, 5),)),
    Prediction(sample_id="s2", status="failed", error="no reply"),
    Prediction(sample_id="s2", status="ok", answer=None, spans=None),
    Prediction(sample_id="who", status="ok"),
]


@pytest.fixture(scope="module")
def scores() -> list[Scores]:
    return score(DATASET, [System("run", PREDICTIONS)], ["strict", "st-evidence"])


def test_a_table_shows_percent_with_its_interval(scores: list[Scores]):
    lines = report_tables.main_table(scores[:1]).splitlines()
    assert lines[0].split() == ["Acc", "mIoU", "mIoP", "t-mean"] or lines[0].split()[:4] == [
        "Acc",
        "mIoU",
        "mIoP",
        "t-mean",
    ]
    mean = scores[0].metrics["mIoU"]
    assert mean.mean == pytest.approx(1.5 / 4)
    assert mean.low is not None
    assert mean.high is not None
    assert f"37.5 [{100 * mean.low:.1f}, {100 * mean.high:.1f}]" in lines[1]
    assert len({len(line) for line in lines}) <= 2


def test_both_presets_show_the_same_scale(scores: list[Scores]):
    strict, original = (report_tables.cell(entry.metrics["Acc"]) for entry in scores)
    assert strict == original
    assert strict.startswith("25.0 [")


def test_a_metric_that_does_not_apply_is_a_dash(scores: list[Scores]):
    assert report_tables.cell(scores[0].metrics["J"]) == "-"
    assert report_tables.cell(None) == "-"


def test_the_counts_name_what_went_wrong(scores: list[Scores]):
    assert report_tables.counts_line(scores[0]) == (
        "run: 4 samples; 3 predicted; 0 failed; 1 missing; 1 answers unparsed; 1 spans unparsed; "
        "1 duplicate predictions, the last one counts; 1 predictions for unknown samples"
    )


def test_a_report_names_both_presets_and_the_question_types(scores: list[Scores]):
    text = report_tables.report(scores)
    assert "preset strict: spans merged" in text
    assert "preset st-evidence: the original's convention" in text
    assert text.index("preset strict") < text.index("preset st-evidence")
    assert text.count("run, by question type") == 2
    assert "what" in text
    assert "when" in text
    assert text.endswith("\n")


def test_question_types_have_their_own_rows(scores: list[Scores]):
    lines = report_tables.group_table(scores[0], "question_type").splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["what", "2", "50.0"], ["when", "2", "0.0"]]
    assert report_tables.group_table(scores[0], "no such axis") == ""


def test_every_mean_of_a_table_has_its_counts(scores: list[Scores]):
    """Of 'what' (s0, s2) one reply is unreadable; of 'when' (s1, s3) one sample has no prediction."""
    tables = dict.fromkeys(("run", "baseline"), scores[0].metrics) | scores[0].groups["question_type"]
    lines = [line.split() for line in report_tables.sample_counts(tables, presets.COLUMNS).splitlines()[1:]]
    assert lines[0] == ["means", "n_total", "n_scored", "n_missing", "n_failed", "n_unparsed"]
    titles = ["Acc,", "mIoU,", "mIoP,", "t-mean"]
    assert lines[1:] == [
        ["run", *titles, "4", "2", "1", "0", "1"],
        ["baseline", *titles, "4", "2", "1", "0", "1"],
        ["what", *titles, "2", "1", "0", "0", "1"],
        ["when", *titles, "2", "1", "1", "0", "0"],
    ]
    assert report_tables.report(scores).count("over how many samples") == 4


def test_metrics_whose_counts_differ_have_lines_of_their_own():
    predictions = [*PREDICTIONS[:2], PREDICTIONS[3].model_copy(update={"answer": 1})]
    found = score(DATASET, [System("run", predictions)], ["strict"])[0]
    lines = report_tables.sample_counts({"run": found.metrics}, ("Acc", "mIoU", "J")).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["run", "Acc", "4", "3", "1", "0", "0"],
        ["run", "mIoU", "4", "2", "1", "0", "1"],
    ]


def test_counts_are_words_where_every_sample_was_scored():
    right = PREDICTIONS[0].model_copy(update={"answer": 1, "spans": ((0.0, 1.0),)})
    every = [right.model_copy(update={"sample_id": sample.id}) for sample in DATASET.samples]
    (whole,) = score(DATASET, [System("whole", every)], ["strict"])
    (broken,) = score(DATASET, [System("broken", PREDICTIONS)], ["strict"])
    words = "each mean is over 4 samples, each with a prediction that could be read"
    assert report_tables.sample_counts({"whole": whole.metrics}, presets.COLUMNS) == words
    assert report_tables.sample_counts(whole.groups["question_type"], presets.COLUMNS) == words.replace("4", "2")
    mixed = report_tables.sample_counts({"whole": whole.metrics, "broken": broken.metrics}, presets.COLUMNS)
    assert mixed.endswith(f"\n\n{words.replace('mean is', 'mean that is not listed is')}")
    assert "broken" in mixed
    assert "whole" not in mixed
    parts = {"two": whole.groups["question_type"]["what"], "four": whole.metrics}
    assert report_tables.sample_counts(parts, presets.COLUMNS) == words.replace("4", "2 to 4")


def test_a_summary_has_the_main_tables_and_no_details(scores: list[Scores]):
    text = report_tables.summary(scores)
    assert report_tables.main_table(scores[:1]) in text
    assert "by question type" not in text
    assert "every mean" not in text


def test_markdown_has_a_rule_and_escapes_its_bars():
    assert report_tables.table(["", "n"], [["a|b", "1"]], "markdown") == "|  | n |\n| --- | ---: |\n| a\\|b | 1 |"


def test_baselines_stand_below_the_runs_of_their_preset(scores: list[Scores]):
    trivial = [entry.model_copy(update={"name": f"trivial {entry.preset}"}) for entry in scores]
    strict = report_tables.report(scores, trivial, "markdown").split("### ")[1]
    assert strict.index("| run |") < strict.index("| trivial strict |")
    assert "trivial st-evidence" not in strict


def test_one_table_does_not_mix_presets(scores: list[Scores]):
    with pytest.raises(ValueError, match="one table shows one preset, got rows of st-evidence, strict"):
        report_tables.main_table(scores)


def test_words_below_a_table_are_about_the_runs_and_not_the_baselines(scores: list[Scores]):
    """All of a baseline can be scored; the run lacks three of its four predictions."""
    right = PREDICTIONS[0].model_copy(update={"answer": 1})
    every = [right.model_copy(update={"sample_id": sample.id}) for sample in DATASET.samples]
    trivial = score(DATASET, [System("chance", every)], ["strict"])
    text = report_tables.summary(scores[:1], trivial)
    assert "chance" in text
    assert "none of them missing" not in text
    assert "could be read" not in text
    assert [line.split()[0] for line in text.split("over how many samples")[1].splitlines()[2:3]] == ["run"]


# One row a run


@pytest.fixture(scope="module")
def two(scores: list[Scores]) -> list[Scores]:
    """run: 1 of 4 right; other_run: 2 of 4, and no spans."""
    better = [PREDICTIONS[0], PREDICTIONS[0].model_copy(update={"sample_id": "s1", "spans": None})]
    return [scores[0], *score(DATASET, [System("other_run", better)], ["strict"])]


def test_a_compact_table_has_one_row_a_run_and_the_best_in_bold(two: list[Scores]):
    lines = report_tables.compact_table(two, "markdown", intervals=False).splitlines()
    assert lines[0].startswith("|  | Acc | mIoU | mIoP | t-mean |")
    assert lines[2].startswith("| run | 25.0 | **37.5** | **50.0** | **43.8** |")
    assert lines[3].startswith("| other_run | **50.0** | 25.0 | 25.0 | 25.0 |")
    assert len(lines) == 4
    latex = report_tables.compact_table(two, "latex", intervals=False)
    assert r"run & 25.0 & \textbf{37.5} & \textbf{50.0} & \textbf{43.8}" in latex
    assert r"other\_run & \textbf{50.0} & 25.0" in latex
    assert latex.startswith(r"\begin{tabular}{lrrrr")


def test_a_compact_table_shows_intervals_where_they_are_wanted(two: list[Scores]):
    mean = two[0].metrics["mIoU"]
    assert mean.low is not None
    assert mean.high is not None
    shown = f"**37.5** [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"
    assert shown in report_tables.compact_table(two, "markdown")
    assert "[" not in report_tables.compact_table(two, "markdown", intervals=False)
    assert r"\textbf{37.5} [" in report_tables.compact_table(two, "latex")


def test_equal_means_are_both_the_best_and_no_mean_is_none(two: list[Scores]):
    twin = two[0].model_copy(update={"name": "twin"})
    lines = report_tables.compact_table([two[0], twin], "markdown", intervals=False).splitlines()
    assert [line.count("**25.0**") for line in lines[2:]] == [1, 1]
    assert "**-**" not in "".join(lines)


def test_a_compact_table_as_csv_reads_back(two: list[Scores]):
    rows = list(csv.DictReader(io.StringIO(report_tables.compact_table(two, "csv"))))
    assert [row["run"] for row in rows] == ["run", "other_run"]
    assert [(row["unit"], row["samples"], row["data_set_samples"]) for row in rows] == [("percent", "4", "4")] * 2
    assert [float(row["Acc"]) for row in rows] == [25.0, 50.0]
    assert two[0].metrics["Acc"].low is not None
    assert float(rows[0]["Acc low"]) == pytest.approx(100 * two[0].metrics["Acc"].low)
    plain = next(csv.reader(io.StringIO(report_tables.compact_table(two, "csv", intervals=False))))
    assert not any(title.endswith((" low", " high")) for title in plain)
