"""Result files of LVBench, LongVidSearch and Video SimpleQA against numbers computed by hand from their code."""

import json

import published_layouts as published
import pytest
from published_layouts import write_json, write_lines

from evqa.__main__ import main
from evqa.official.long_videos import grade_of
from evqa.official.scores import OfficialFiles
from evqa.scoring.official_files import score_file


@pytest.fixture
def scored(tmp_path):
    def scored(name, predictions, gold=None):
        write_json(tmp_path / "predictions.json", predictions)
        if gold is not None:
            (write_lines if name == "lvbench" else write_json)(tmp_path / "gold.json", gold)
        files = OfficialFiles(tmp_path / "predictions.json", tmp_path / "gold.json" if gold is not None else None, None)
        return score_file(name, files)

    return scored


def means(scores, place=0):
    return {title: mean.mean for title, mean in scores.tables[place].metrics.items()}


# LVBench


def test_lvbench_divides_by_answers_and_strict_by_questions(scored):
    """Questions 7 (B, two categories), 8 (D), 9 (A); answers: right, none, wrong."""
    scores = scored("lvbench", {"7": "B", "9": "C", "unknown": "A"}, published.LVBENCH_VIDEOS)
    official, strict = means(scores), means(scores, 1)
    assert (official["Acc"], official["EU"], official["Rea"], official["ER"], official["TG"]) == (0.5, 1, 1, 0, None)
    assert strict["Acc"] == pytest.approx(1 / 3)
    assert (strict["TG"], strict["Acc answered"]) == (0, 0.5)
    assert any("unknown questions" in note for note in scores.notes)


def test_lvbench_counts_what_is_no_letter_as_wrong(scored):
    scores = scored("lvbench", {"7": "b", "8": "D.", "9": None}, published.LVBENCH_VIDEOS)
    assert (means(scores)["Acc"], means(scores, 1)["Acc"]) == (0, 0)
    assert scores.tables[0].metrics["Acc"].n_missing == 1


def test_lvbench_with_a_flat_list_and_questions_without_uid(scored, tmp_path):
    rows = [{"key": "v", "question_type": "reasoning", "answer": "A", **more} for more in ({"uid": 1}, {}, {"uid": 1})]
    write_json(tmp_path / "flat.json", rows)
    write_json(tmp_path / "answers.json", {"1": "A", "v_2": "B", "v_3": "A"})
    scores = score_file("lvbench", OfficialFiles(tmp_path / "answers.json", tmp_path / "flat.json", None))
    assert means(scores)["Acc"] == pytest.approx(2 / 3)
    assert any("uid 1 is that of another question" in note for note in scores.notes)


# LongVidSearch


LOGS = {
    "0": {"corr1": 1, "corr2": 1, "corr3": 0, "general_corr": 1, "cost": 1, "category": "State_Mutation"}
    | {"golden_evidence_clip": [1, 4], "sampled_clips": [1, 2, 4]},
    "1": {"corr1": 0, "corr2": 1, "corr3": 0, "general_corr": 0, "cost": 2, "category": "Global_Summary"}
    | {"golden_evidence_clip": [1, 2, 3], "sampled_clips": [1, 7]},
}
SEARCH_GOLD = [{"vid": "v1", **row} for row in published.SEARCH_QUESTIONS] + [
    {"vid": "v2", **published.SEARCH_QUESTIONS[0]}
]


def test_longvidsearch_votes_and_slices(scored):
    scores = scored("longvidsearch", LOGS)
    official, strict = means(scores), means(scores, 1)
    assert official == {"judge 1": 0.5, "judge 2": 1, "judge 3": 0, "majority": 0.5}
    assert scores.tables[0].numbers == {"mean tool calls": 1.5}
    assert strict == pytest.approx(
        {"majority": 0.5, "slice recall": (1 + 1 / 3) / 2, "slice precision": (2 / 3 + 0.5) / 2, "all slices": 0.5}
    )
    assert scores.tables[1].groups["Global_Summary"]["majority"].mean == 0


def test_longvidsearch_with_ground_truth_counts_questions_that_ended_with_an_error(scored):
    scores = scored("longvidsearch", LOGS | {"9": LOGS["0"]}, SEARCH_GOLD)
    strict = scores.tables[1].metrics
    assert strict["majority"].n_missing == 1
    assert strict["majority"].mean == pytest.approx(2 / 4)
    assert any("unknown questions" in note for note in scores.notes)
    without_votes = {**LOGS["0"], "corr1": "?", "corr2": None, "corr3": None, "sampled_clips": "none"}
    strict = scored("longvidsearch", {"0": without_votes}).tables[1].metrics
    assert (strict["majority"].mean, strict["majority"].n_unparsed, strict["slice recall"].n_unparsed) == (0, 1, 1)


# Video SimpleQA


def result(place, multi, *hops):
    entry = {"date": f"d{place}", "Multi_hop_Question": f"Q{place}", "Multi_hop_grade": multi}
    for hop, grade in enumerate(hops, 1):
        entry[f"QA_Pair_{hop}_Question"] = "q"
        if grade != "absent":
            entry[f"QA_Pair_{hop}_grade"] = grade
    return entry


RESULTS = [
    result(1, "A", "A", "A"),
    result(2, "B", "A", "B", "A"),
    result(3, "C", "A", "absent", "A"),
    result(4, "A", "B", None),
    result(5, "B", "A", "A"),
    result(6, "A", "A", "A", "A"),
    result(7, None, "C", "C"),
]


def test_video_simpleqa_official_numbers_are_rounded_as_the_script_rounds(scored):
    """Multi-hop: 3 A, 2 B of 7. Accuracy of attempted 60.0; F = 2 * 0.6 * 3/7 / (0.6 + 3/7) = 50.0.

    Hop 1: 5 A, 1 B of 7: attempted 83.3, F = 2 * 0.833 * 5/7 / (0.833 + 5/7) = 76.9.
    Hop 2, without the third entry, whose second verdict is absent: 3 A, 1 B of 6: 75.0, F = 60.0.
    Hop 3, without the third entry as well: 2 A of 2: 100.
    """
    scores = scored("video-simpleqa", RESULTS)
    assert scores.tables[0].numbers == {
        "Multi_hop": 50.0,
        "accuracy_given_attempted": 60.0,
        "QA_Pair_1": 76.9,
        "QA_Pair_2": 60.0,
        "QA_Pair_3": 100.0,
        "QA_Pair_4": None,
    }
    assert means(scores) == pytest.approx({"is_correct": 3 / 7, "is_incorrect": 2 / 7, "is_not_attempted": 1 / 7})


def test_video_simpleqa_strict_numbers_and_chains(scored):
    """Hop 2: 3 A, 1 B of 7; hop 3: 3 A of 3. Chains: entries 1 and 6. All hops correct: 1, 5, 6."""
    scores = scored("video-simpleqa", RESULTS)
    numbers, values = scores.tables[1].numbers, means(scores, 1)
    assert numbers["F-score"] == pytest.approx(2 * 3 / (7 + 3 + 2))
    assert numbers["F-score hop 2"] == pytest.approx(2 * 3 / (7 + 3 + 1))
    assert numbers["F-score hop 3"] == pytest.approx(1)
    assert numbers["F-score hop 4"] is None
    assert values["chain"] == pytest.approx(2 / 7)
    assert values["correct, all hops correct"] == pytest.approx(2 / 3)
    assert scores.tables[1].metrics["correct"].n_unparsed == 1
    assert set(scores.tables[1].groups) == {"2 hops", "3 hops"}


def test_verdicts_of_a_run_by_sample_id(scored):
    verdicts = {"0001_multi": "correct", "0001_hop1": "A", "0001_hop2": "CORRECT", "0002_multi": "B: INCORRECT"}
    scores = scored("video-simpleqa", verdicts | {"0003_multi": "A", "other": "A"}, published.SIMPLEQA)
    numbers = scores.tables[1].numbers
    assert numbers["F-score"] == pytest.approx(2 * 1 / (2 + 1 + 1))
    assert numbers["F-score hop 1"] == pytest.approx(2 * 1 / (2 + 1))  # the second entry has no verdict
    assert numbers["F-score hop 3"] == 0
    assert scores.tables[0].numbers["Multi_hop"] == 50.0
    assert len(scores.notes) == 2
    without_gold = scored("video-simpleqa", {"0001_multi": "A"})
    assert without_gold.tables[1].numbers["F-score"] == 1


def test_ground_truth_adds_the_entries_that_a_result_file_lacks(scored):
    entry = {**published.SIMPLEQA[0], "Multi_hop_grade": "A", "QA_Pair_1_grade": "A", "QA_Pair_2_grade": "A"}
    scores = scored("video-simpleqa", [entry], published.SIMPLEQA)
    assert scores.tables[1].numbers["F-score"] == pytest.approx(2 / 3)
    assert scores.tables[1].numbers["F-score hop 3"] == 0


@pytest.mark.parametrize(
    ("verdict", "grade"),
    [
        ("A", "correct"),
        (" b ", "incorrect"),
        ("C: NOT_ATTEMPTED", "not_attempted"),
        ("NOT_ATTEMPTED", "not_attempted"),
        ("A.", "correct"),
        ("An answer", None),
        ("AB", None),
        ("", None),
        (1, None),
        (None, None),
    ],
)
def test_verdicts(verdict, grade):
    assert grade_of(verdict) == grade


@pytest.mark.parametrize("content", [3, [], [{"a": 1}], {}, {"a": "A"}])
def test_files_of_another_kind_are_refused(scored, content):
    with pytest.raises(ValueError, match=r"video-simpleqa|no list of results"):
        scored("video-simpleqa", content)


def test_the_command_prints_the_numbers(tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    assert main(["score-official", "video-simpleqa", str(tmp_path / "results.json")]) == 0
    assert "Multi_hop 50.0" in capsys.readouterr().out
