"""Result files of LongVideoAgent and of the servers of TVQA: read, scored and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_episode_sets import CLIPS, LONG, ORACLE, QUESTION, needs_oracle, write_set
from test_episodes import WORDS, script

from evqa.__main__ import main
from evqa.datasets.formats import prepare
from evqa.official.scores import OfficialFiles
from evqa.scoring.official_files import score_file

EXPECTED: dict[str, Any] = json.loads((ORACLE / "expected.json").read_text()) if ORACLE.is_dir() else {"evaluator": {}}


def scored(predictions: Path, gold: Path) -> dict[str, float | None]:
    table = score_file("longvideoagent", OfficialFiles(predictions, gold, None)).tables[0]
    return {title: mean.mean for title, mean in table.metrics.items()} | table.numbers


def published(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"total": len(rows), "metadata": {"accuracy": 0.5}, "results": list(rows)}))
    return path


@needs_oracle
@pytest.mark.parametrize("file", EXPECTED["evaluator"])
def test_accuracy_of_the_published_evaluator(tmp_path: Path, file: str) -> None:
    part = EXPECTED["evaluator"][file]
    questions = (
        [json.loads(line) for line in (ORACLE / "data" / file).read_text().splitlines()]
        if (file == "tvqa_val.jsonl")
        else json.loads((ORACLE / "data" / file).read_text())
    )
    rows = [
        {"vid": question["gold_clip"], "question": row["q"]}
        | {key: question["original"][key] for key in ("final_answer", "num_turns", "predicted_clip")}
        for row, question in zip(questions, part["questions"], strict=True)
    ]
    # results stand in order of completion
    scores = scored(published(tmp_path / "results.json", *reversed(rows)), ORACLE / "data" / file)
    summary = part["original"]["summary"]["metadata"]
    assert scores["Acc"] == pytest.approx(summary["accuracy"])
    assert scores["avg_turns"] == pytest.approx(summary["avg_turns"])
    assert scores["completion_rate"] == pytest.approx(summary["completion_rate"])
    if file.startswith("tvqa"):  # its accuracy script reads no gold of the long sets
        assert scores["Acc lenient"] == pytest.approx(part["original"]["accuracy_script"]["overall_accuracy"])
    clips = [question["original"]["predicted_clip"] == question["gold_clip"] for question in part["questions"]]
    assert scores["grounding"] == pytest.approx(sum(clips) / len(clips))


@needs_oracle
def test_results_of_the_published_baseline(tmp_path: Path) -> None:
    original = EXPECTED["baseline_of_the_seed_readme"]["original"]
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(original["summary"]))
    scores = scored(path, ORACLE / "data" / "tvqa_plus_val.json")
    assert scores["Acc"] == pytest.approx(original["summary"]["metadata"]["accuracy"])
    assert "grounding" not in scores


def test_results_are_matched_by_id_then_by_text_and_clip(tmp_path: Path) -> None:
    gold = tmp_path / "gold.json"
    rows = [LONG, LONG | {"qid": 2, "occur_clip": CLIPS[0]}, LONG | {"qid": 3, "q": "Else?"}, LONG | {"qid": 4}]
    gold.write_text(json.dumps([*rows, LONG | {"qid": 5, "answer": "a7"}]))
    answer = {"question": "What  does Penny hold? ", "final_answer": "a3"}
    results = published(
        tmp_path / "results.json",
        answer | {"vid": CLIPS[0]},
        answer | {"vid": CLIPS[1]},  # two questions fit
        answer,
        answer | {"qid": 4},
        {"question": "Else?", "vid": "of another spelling", "final_answer": "a3. thing", "history_vids": list(CLIPS)},
        answer | {"qid": "unknown"},
        {"question": 7, "final_answer": "a3"},
        {"question": "Else?", "final_answer": None},
    )
    scores = score_file("longvideoagent", OfficialFiles(results, gold, None))
    values = {key: row["Acc"] for key, row in scores.samples.items()}
    assert values == {"1": 0, "2": 1, "3": 0, "4": 1}
    assert scores.samples["3"]["Acc lenient"] == 1
    assert scores.samples["3"]["grounding"] == 1
    means = scores.tables[0].metrics
    assert (means["Acc"].n_total, means["Acc"].n_missing) == (4, 1)
    assert any("4 results are for no question" in note for note in scores.notes), scores.notes
    assert sum("left out" in note for note in scores.notes) == 2


@pytest.mark.parametrize("content", ["", "{", "7", "{}", '{"results": {}}', "[" * 100_000])
def test_a_file_that_has_no_results(tmp_path: Path, content: str) -> None:
    write_set(tmp_path, LONG)
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"results\.json"):
        scored(path, tmp_path / "LongTVQA_plus_val.json")


def test_a_run_is_exported_and_its_files_have_the_scores_of_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [LONG | {"q": "Who brought the cup?"}, LONG | {"qid": 2, "q": "What is torn?", "occur_clip": CLIPS[0]}]
    write_set(folder, *rows, LONG | {"qid": 3, "q": "Zzz?"})
    (folder / "clip_subtitles.json").write_text(json.dumps(WORDS))
    prepare("longtvqa-plus", folder)
    move = {"text": "elsewhere", "calls": [{"name": "request_grounding", "arguments": {}}]}
    replies = {"Who brought": "<answer>a3</answer>", "torn": [move, "<answer>a3. it</answer>"], "Zzz": {"error": "x"}}
    run = tmp_path / "run"
    master = script(tmp_path / "master.json", replies)
    assert main(["predict", str(folder), master, "--method", "episode", "--no-look", "--out", str(run)]) == 1
    assert main(["export", str(run), "--data", str(folder), "--format", "episode"]) == 0
    assert main(["export", str(run), "--data", str(folder), "--format", "episode"]) == 2
    summary = json.loads((run / "episode" / "run.json").read_text())
    assert [row["qid"] for row in summary["results"]] == ["1", "2", "3"]
    assert [row["final_answer"] for row in summary["results"]] == ["a3", "a3. it", ""]
    assert [row["history_vids"] for row in summary["results"]] == [[CLIPS[1]], [CLIPS[0]], []]
    assert summary["metadata"] == {
        "avg_turns": 1,
        "vision_calls_total": 0,
        "grounding_calls_total": 1,
        "completed_questions": 2,
        "completion_rate": 2 / 3,
        "accuracy": 1 / 3,
    }
    assert (summary["max_turn"], summary["total"]) == (5, 3)
    assert json.loads((run / "episode" / "run.qid2preds.json").read_text()) == {"1": 3, "2": 3, "3": -1}
    details = json.loads((run / "episode" / "run.detailed.json").read_text())
    assert details[1]["last_llm_response"] == "<answer>a3. it</answer>"
    assert '"request_grounding"' in details[1]["conversation_history"][1]["content"]
    assert not (run / "episode" / "run.ts_answer.json").exists()
    scores = scored(run / "episode" / "run.json", folder / "LongTVQA_plus_val.json")
    assert main(["score", str(run), "--data", str(folder), "--preset", "longvideoagent"]) == 0
    ours = next(entry for entry in json.loads((run / "scores.json").read_text()))["metrics"]
    assert {title: scores[title] for title in ours} == {title: entry["mean"] for title, entry in ours.items()}


def test_a_run_on_a_test_split_is_exported_for_the_servers(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    row = {key: value for key, value in QUESTION.items() if key not in {"answer_idx", "ts"}}
    write_set(folder, row, row | {"qid": 2}, file="tvqa_test_public.jsonl")
    prepare("tvqa-test", folder, "samples.jsonl")
    run = tmp_path / "run"
    master = script(tmp_path / "master.json", {"*": '{"answer": "B", "segments": [[1.0, 2.5]]}'})
    assert main(["predict", str(folder), master, "--method", "single-turn", "--out", str(run)]) == 0
    assert main(["export", str(run), "--data", str(folder), "--format", "episode"]) == 0
    assert json.loads((run / "episode" / "run.qid2preds.json").read_text()) == {"1": 1, "2": 1}
    spans = json.loads((run / "episode" / "run.ts_answer.json").read_text())
    assert spans == {"ts_answer": {"1": [[1.0, 2.5], 1], "2": [[1.0, 2.5], 1]}}
    assert json.loads((run / "episode" / "run.json").read_text())["metadata"]["accuracy"] is None
