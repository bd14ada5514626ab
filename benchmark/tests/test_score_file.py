"""Prediction files of other benchmarks: small ones worked by hand, broken ones, and the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from evqa.__main__ import main
from evqa.official import FORMATS
from evqa.official.scores import FileScores, OfficialFiles
from evqa.report.official_files import tables
from evqa.scoring.official_files import score_file


def written(folder: Path, name: str, value: object) -> Path:
    """A text as it is, a list as JSON Lines, anything else as JSON."""
    path = folder / name
    if isinstance(value, str):
        path.write_text(value)
    elif isinstance(value, list):
        path.write_text("".join(json.dumps(row) + "\n" for row in value))
    else:
        path.write_text(json.dumps(value))
    return path


def scored(folder: Path, name: str, predictions: object, gold: object = None, extra: object = None) -> FileScores:
    paths = [
        None if value is None else written(folder, f"{place}.txt", value)
        for place, value in enumerate((predictions, gold, extra))
    ]
    assert paths[0] is not None
    return score_file(name, OfficialFiles(paths[0], paths[1], paths[2]))


def means(scores: FileScores, place: int = 0) -> dict[str, float | None]:
    return {title: mean.mean for title, mean in scores.tables[place].metrics.items()}


def test_every_format_says_what_it_reads_and_whose_numbers_it_gives():
    for name, row in FORMATS.items():
        assert (row.read or row.score).__doc__, name
        assert row.source, name
    with pytest.raises(ValueError, match="unknown format 'csv'; the formats are: st-evidence,"):
        score_file("csv", OfficialFiles(Path("x"), None, None))


GOLD_VIDEO = {"v": {"duration": 40, "location": {"0": [[0, 10], [20, 30]], "1": [[0, 10]], "2": [[5, 8]]}}}


def test_next_gqa_drops_questions_without_a_prediction_and_strict_does_not(tmp_path: Path):
    predictions = {"v_0": [20, 35], "v_1": [5, 5], "stranger": [0, 1]}
    answers = {f"v_{place}": {"prediction": 1, "answer": right} for place, right in enumerate((1, 1, 1))}
    scores = scored(tmp_path, "nextgqa", predictions, GOLD_VIDEO, answers)
    official, strict = means(scores), means(scores, 1)
    # v_0: the second segment fits best: 10 of 15; v_1: a point in time inside gold; v_2: no prediction
    assert official["mIoU"] == pytest.approx((10 / 15 + 0) / 2)
    assert official["mIoP"] == pytest.approx((10 / 15 + 1) / 2)
    assert official["Acc@GQA"] == 1.0
    assert strict["mIoU"] == pytest.approx((10 / 15) / 3)
    assert strict["Acc@GQA"] == pytest.approx(2 / 3)
    for table in scores.tables[:2]:
        assert (table.metrics["mIoU"].n_total, table.metrics["mIoU"].n_missing) == (3, 1)
    assert scores.notes == ["1 predictions are for unknown questions, such as 'stranger'"]


def test_baselines_stand_beside_the_predictions(tmp_path: Path):
    scores = scored(tmp_path, "nextgqa", {"v_0": [0, 10]}, GOLD_VIDEO, {"v_0": {"prediction": 1, "answer": 1}})
    rows = {table.name: table.metrics for table in scores.tables if table.convention == "official"}
    assert rows["whole video"]["mIoU"].mean == pytest.approx((10 / 40 + 10 / 40 + 3 / 40) / 3)
    assert rows["middle half"]["mIoU"].mean == pytest.approx((10 / 20 + 0 + 0) / 3)  # [10, 30] touches [0, 10]
    assert rows["first third"]["mIoU"].mean == pytest.approx((2 * 10 / (40 / 3) + 3 / (40 / 3)) / 3)
    assert rows["chance"]["Acc@QA"].mean == pytest.approx(0.2)
    fitted = next(metrics for name, metrics in rows.items() if name.startswith("constant span fitted"))
    assert (fitted["mIoU"].mean or 0) >= max(rows[name]["mIoU"].mean or 0 for name in ("whole video", "middle half"))
    text = tables(scores)
    assert "n_missing" in text
    assert "first third" in text


def test_rextime_needs_answer_and_window(tmp_path: Path):
    gold = [
        {"qid": f"q{place}", "vid": f"v{place}", "duration": 20, "relevant_windows": [[0, 10]], "ans": "A"}
        for place in range(4)
    ]
    predictions = [
        {"qid": "q0", "pred_relevant_windows": [[0, 5]], "ans": "A"},
        {"qid": "q1", "pred_relevant_windows": [[0, 5]], "ans": "B"},
        {"qid": "q2", "pred_relevant_windows": [[15, 20]], "ans": "A"},
        {"qid": "q3", "ans": "A"},
    ]
    scores = scored(tmp_path, "rextime", predictions, gold)
    assert means(scores)["VQA"] == 0.75
    assert means(scores)["MR-full-R1@0.5"] == 0.5
    assert means(scores)["VQA,mIoU@0.5"] == 0.25
    assert scores.tables[0].metrics["VQA,mIoU@0.5"].n_unparsed == 1


def test_cg_bench_counts_thresholds_and_recovery(tmp_path: Path):
    gold = [
        {"qid": place, "video_uid": "v", "right_answer": "A", "clue_intervals": [[0, 4], [6, 10]], "duration": 20}
        for place in range(2)
    ]
    predictions = [
        {"qid": 0, "intervals": [[0, 4], [0, 4]], "answer": "A", "clue_answer": "A"},
        {"qid": 1, "intervals": [[12, 13]], "answer": "B", "clue_answer": "A"},
    ]
    scores = scored(tmp_path, "cg-bench", predictions, gold)
    assert means(scores)["mIoU"] == 0.25
    assert means(scores)["rec@IoU"] == 0.5  # IoU 0.5 reaches all of 0.1 to 0.5
    assert means(scores, 1)["rec@IoU"] == pytest.approx(0.4)  # and exceeds four of the five
    assert means(scores)["acc@IoU"] == 0.5
    assert scores.official("CRR") == 0.5


def test_tvqa_plus_joins_answer_and_span(tmp_path: Path):
    gold = [{"qid": place, "vid_name": "v", "ts": [0, 10], "answer_idx": 2} for place in range(3)]
    predictions = {"0": [[0, 5], 2], "1": [[0, 4], 2], "2": [[0, 10], 1]}
    scores = scored(tmp_path, "tvqa-plus", predictions, gold)
    assert means(scores)["ASA"] == pytest.approx(1 / 3)
    assert means(scores)["QA Acc"] == pytest.approx(2 / 3)
    assert means(scored(tmp_path, "tvqa-plus", {"ts_answer": predictions}, gold)) == means(scores)


def test_tvqa_plus_boxes_are_met_once_per_label_and_image(tmp_path: Path):
    """Raj: hit, miss (the box is taken), hit, of 2 gold boxes: AP = (1 + 2/3) / 2. Penny is never drawn: 0."""
    raj, far = {"label": "Raj", "left": 10, "top": 10, "width": 100, "height": 50}, [300, 200, 400, 300]
    penny = {"label": "Penny", "left": 300, "top": 200, "width": 100, "height": 100}
    images = {"1": [raj, penny], "4": [raj], "7": []}
    gold = [{"qid": 3, "vid_name": "v", "ts": [0, 10], "answer_idx": 2, "bbox": images}]
    box = [10, 10, 110, 60]
    drawn = {
        "v_3_00001": [["raj", 0.9, box], ["raj", 0.8, box], ["leonard", 0.95, far]],
        "v_3_00004": [["raj", 0.7, [12, 10, 110, 60]]],
        "v_3_00007": [["raj", 1.0, box]],
    }
    submission = {"ts_answer": {"3": [[0, 5], 2]}, "bbox": drawn}
    scores = scored(tmp_path, "tvqa-plus", submission, gold)
    assert scores.official("Grd. mAP") == pytest.approx((1 + 2 / 3) / 2 / 2)
    assert scores.official("Grd. mAP of the whole frame") == 0.0
    known = scored(tmp_path, "tvqa-plus", submission, gold, {"raj": 7})
    assert known.official("Grd. mAP") == pytest.approx((1 + 2 / 3) / 2)


def test_qvhighlights_meets_each_gold_window_once_and_ranks_clips(tmp_path: Path):
    gold = [
        {
            "qid": 1,
            "vid": "v",
            "duration": 8,
            "relevant_windows": [[0, 4], [4, 8]],
            "relevant_clip_ids": [0, 1],
            "saliency_scores": [[4, 4, 4], [2, 0, 0]],
        }
    ]
    predictions = [
        {
            "qid": 1,
            "pred_relevant_windows": [[0, 4, 0.9], [0, 4, 0.8], [4, 8, 0.1]],
            "pred_saliency_scores": [0.9, 0.1, 0.5, 0.2],
        }
    ]
    scores = scored(tmp_path, "qvhighlights", predictions, gold)
    # hits at ranks 1 and 3; the repeated window is a miss: precision 1 and 2/3
    assert means(scores)["MR-full-mAP"] == pytest.approx((1 + 2 / 3) / 2)
    assert means(scores)["MR-short-mAP"] == means(scores)["MR-full-mAP"]
    assert means(scores)["MR-long-mAP"] is None
    # Fair, first annotator: clips 0 and 1, which rank 1 and 4: precision 1 and 1/2; the others: clip 0 alone
    assert means(scores)["HL-min-Fair-mAP"] == pytest.approx((0.75 + 1 + 1) / 3)
    assert means(scores)["HL-min-VeryGood-Hit1"] == 1.0


def test_nlq_thresholds_must_be_exceeded(tmp_path: Path):
    queries = [{"clip_start_sec": 0, "clip_end_sec": 10}] * 2
    annotation = {"annotation_uid": "a", "language_queries": queries}
    gold = {"videos": [{"video_uid": "v", "clips": [{"clip_uid": "c", "annotations": [annotation]}]}]}
    base = {"clip_uid": "c", "annotation_uid": "a"}
    results = [
        {**base, "query_idx": 0, "predicted_times": [[0, 5]]},
        {**base, "query_idx": 1, "predicted_times": [[20, 30], [0, 5.1]]},
    ]
    scores = scored(tmp_path, "ego4d-nlq", {"results": results}, gold)
    assert (means(scores)["R1@0.5"], means(scores)["R5@0.5"], means(scores)["R1@0.3"]) == (0.0, 0.5, 0.5)


def test_charades_tells_repeated_sentences_apart_and_notes_bad_lines(tmp_path: Path):
    gold = "V 0.0 10.0##a person sits.\nV 20.0 30.0##a person sits.\n"
    predictions = "V 0.0 5.0##a person sits.\nnonsense\nV 20.0 30.0##a person sits.\nV 1 nan##x\n"
    scores = scored(tmp_path, "charades-sta", predictions, gold)
    assert means(scores)["mIoU"] == 0.75
    assert (means(scores)["R1@0.5"], means(scores, 1)["R1@0.5"]) == (1.0, 0.5)
    assert [note.split(" is left out")[0] for note in scores.notes] == ["0.txt:2", "0.txt:4"]


def test_next_qa_counts_previous_as_next(tmp_path: Path):
    gold = "video,qid,type,answer,a0,a1\nv,0,TP,1,x,y\nv,1,TN,0,x,y\nw,0,CW,0,x,y\n"
    scores = scored(tmp_path, "nextqa", {"v_0": {"prediction": 1}, "v_1": {"prediction": 1}}, gold)
    assert means(scores)["Acc"] == pytest.approx(1 / 3)
    assert means(scores)["Acc_T (temporal)"] == 0.5
    assert scores.tables[0].groups["TN"]["Acc"].n_total == 2
    assert scores.tables[0].metrics["Acc"].n_missing == 1


def test_activitynet_free_depends_on_the_order_of_the_file_in_the_original_only(tmp_path: Path):
    gold = [{"question_id": f"v_{place}", "answer": "yes", "type": kind} for place, kind in enumerate((3, 4, 0, 1, 1))]
    predictions = [{"question_id": "v_0", "answer": "yes"}, {"question_id": "v_1", "answer": "no"}]
    scores = scored(tmp_path, "activitynet-qa", predictions, gold)
    assert scores.official("Free") == 0.5  # 1 of the free ones over the 2 questions of the fourth type in the file
    assert scores.tables[1].numbers["Free"] == 0.5
    again = scored(tmp_path, "activitynet-qa", predictions, gold[::-1])
    assert again.official("Free") == 1.0  # over the 1 question of the type that now comes fourth
    assert again.tables[1].numbers["Free"] == 0.5


def test_multiple_choice_of_st_evidence(tmp_path: Path):
    entries = {
        "e0": {
            "answer": "A",
            "gt_answer": "A",
            "evidence_t": "B",
            "gt_evidence_t": "B",
            "evidence_s": "C",
            "gt_evidence_s": "C",
        },
        "e1": {
            "answer": "A",
            "gt_answer": "A",
            "evidence_t": None,
            "gt_evidence_t": "B",
            "evidence_s": "C",
            "gt_evidence_s": "D",
        },
        "e2": {"answer": "A", "gt_answer": None, "evidence_t": "B", "gt_evidence_t": "B"},
    }
    scores = scored(tmp_path, "st-evidence-mcq", entries)
    assert means(scores)["qa accuracy"] == 1.0
    assert means(scores)["temporal accuracy"] == pytest.approx(2 / 3)
    assert means(scores)["temporal coverage"] == pytest.approx(2 / 3)
    assert means(scores)["spatial accuracy"] == 0.5
    assert scores.official("overall accuracy") == pytest.approx(5 / 7)
    strict = scores.tables[1].metrics["all three right"]
    assert (strict.mean, strict.n_total, strict.n_unparsed) == (0.5, 2, 1)
    assert means(scores, 2)["all three right"] == pytest.approx(1 / 5 / 4 / 4)


def test_genai_bench_reads_verdicts_and_ties(tmp_path: Path):
    humans = [
        {"idx": place, "human_vote": vote}
        for place, vote in enumerate(["leftvote", "rightvote", "tievote", "bothbad_vote"])
    ]
    replies = [
        {"idx": 0, "response": "**Verdict**: [[A>B]]"},
        {"idx": 1, "response": "I cannot say."},
        {"idx": 2, "response": "[[A=B]]"},
        {"idx": 3, "response": "[[A=B=Good]]"},
    ]
    scores = scored(tmp_path, "genai-bench", replies, humans)
    assert means(scores) == {"accuracy": 0.5, "tau": 0.75, "diff": 0.5}
    assert scores.tables[0].metrics["accuracy"].n_unparsed == 1
    always = {table.name: table.metrics["accuracy"].mean for table in scores.tables[1:]}
    assert always == dict.fromkeys(
        [f"always {label}" for label in ("[[A>B]]", "[[B>A]]", "[[A=B=Good]]", "[[A=B=Bad]]")], 0.25
    )


def test_a_judge_may_give_its_verdict_in_numbers(tmp_path: Path):
    """Of four pairs: right, a tie where people prefer, right about a tie, and one that is no whole verdict."""
    humans = [
        {"idx": str(n), "human_vote": vote} for n, vote in enumerate(["leftvote", "rightvote", "tievote", "leftvote"])
    ]
    said = ["TA=1, MQ=2, VQ=1, OA=1", "<Answer>TA: 1, MQ: 2, VQ: 0, OA: 0</Answer>", "ta=0 mq=0 vq=0 oa=0", "OA=1"]
    replies = [{"idx": str(n), "response": text} for n, text in enumerate(said)]
    scores = scored(tmp_path, "genai-bench", replies, humans)
    assert scores.official("accuracy") == 0.5  # a tie of no kind agrees with either kind
    assert scores.official("tau") == 0.5
    assert scores.official("diff") == pytest.approx(1 / 3)
    assert scores.tables[0].metrics["tau"].n_unparsed == 1


def test_preferences_with_and_without_ties(tmp_path: Path):
    pairs = [{"human": human, "model": margin} for human, margin in ((1, 0.9), (-1, -0.8), (0, 0.1), (1, -0.05))]
    scores = scored(tmp_path, "preference", pairs)
    assert scores.official("without ties") == pytest.approx(2 / 3)
    assert scores.tables[1].numbers == {"with ties": 0.75, "threshold of a tie": 0.1}
    ranker = [{"human": human, "model": human * 0.5} for human in (1, -1, 1)]
    perfect = scored(tmp_path, "preference", ranker)
    assert perfect.tables[1].numbers["with ties"] == 1.0  # nothing is a tie
    assert perfect.tables[0].numbers["with ties"] == pytest.approx(2 / 3)  # never tried by the original


def vstar_record(**changes: object) -> dict[str, object]:
    return {
        "vid": "v",
        "fps": 10.0,
        "frame_count": 200,
        "timestamps": [0, 10],
        "bboxes": [{"timestamp": second, "xmin": 0, "ymin": 0, "xmax": 10, "ymax": 10} for second in (1, 2)],
        "answer_vqa": "a dog",
        "VQA_score": 3,
        "answer_temporal": [0, 5],
        "answer_temporal_2": "[0, 5]",
        "answer_spatial": {"1": [[0, 0, 10, 5], [0, 0, 10, 10]], "2.0": [0, 0, 10, 10]},
        "answer_spatial_2": None,
        **changes,
    }


def test_v_star_keeps_records_without_an_answer_in_accuracy_only(tmp_path: Path):
    records = [vstar_record(), vstar_record(answer_vqa=None)]
    scores = scored(tmp_path, "v-star", records)
    official, strict = means(scores), means(scores, 1)
    assert (official["Acc"], official["m_tIoU1"], official["m_vIoU1"]) == (0.5, 0.5, 0.5)
    assert (official["m_tIoU2"], official["m_vIoU2"]) == (0.5, 0.0)
    assert (strict["Acc"], strict["m_tIoU1"]) == (0.5, 0.25)
    assert scores.official("AM1") == 0.5
    assert scores.official("LGM1") == pytest.approx(math.log(2))
    assert scores.official("mLGM") == pytest.approx((math.log(2) + 2 * math.log(2) / 3) / 2)
    assert official["all three, 1"] == 0.5


def test_video_zero_bench_levels(tmp_path: Path):
    boxes = json.dumps([{"time": 3, "bbox_2d": [0, 0, 500, 500]}])
    record = {
        "answer": "Red",
        "evidence_windows": [{"start": 0, "end": 10}],
        "evidence_boxes": [{"time": 3.001, "box": [0, 0, 0.5, 0.5]}],
        "prediction": json.dumps(
            {
                "level-1": {"model_answer": "blue"},
                "level-3": {"model_answer": "<answer>red.</answer>"},
                "level-4": {"model_answer": "From 0 to 4"},
                "level-5": {"model_answer": boxes},
            }
        ),
    }
    scores = scored(tmp_path, "video-zero-bench", [record])
    assert [means(scores)[f"Level-{level}_acc"] for level in (1, 2, 3)] == [0, 0, 1]
    assert means(scores)["Level-4_mean_tIoU"] == pytest.approx(0.4)
    assert (means(scores)["Level-4_score"], means(scores)["Level-5_score"]) == (1.0, 1.0)
    assert means(scores)["Level-5_mean_vIoU"] == 1.0
    assert scores.tables[0].metrics["Level-2_acc"].n_missing == 1


def test_moments_of_one_query(tmp_path: Path):
    scores = scored(tmp_path, "omtg", [{"pred": [[0, 4], [3, 10]], "gt": [[0, 4], [4.5, 10]]}])
    official, strict = means(scores), means(scores, 1)
    assert strict["tF1@0.7"] == 1.0  # 1 and 5.5 of 7
    assert official["tF1@0.7"] == 0.5  # the first one counts as [0, 10]
    assert strict["EtF1"] == 1.0


def test_a_constant_moment_stands_beside_moments(tmp_path: Path):
    """Gold is [0, 4] and [4.5, 10] of at most 10 s: of all spans in steps of 0.5 s, all of it covers most."""
    found = scored(tmp_path, "omtg", [{"pred": [[0, 4]], "gt": [[0, 4], [4.5, 10]]}]).tables[-1]
    assert found.name == "constant moment fitted on this data set (0.0 to 10.0 s)"
    assert found.metrics["tIoU"].mean == pytest.approx(0.95)
    empty = scored(tmp_path, "omtg", [{"pred": [[0, 4]], "gt": []}]).tables[-1]
    assert empty.name == "no moment"


def labels(folder: Path, sequence: str, frames: list[np.ndarray]) -> None:
    (folder / sequence).mkdir(parents=True)
    for place, frame in enumerate(frames):
        Image.fromarray(frame.astype(np.uint8)).save(folder / sequence / f"{place:05d}.png")


def test_davis_leaves_out_the_ends_and_tells_objects_apart(tmp_path: Path):
    frame = np.zeros((20, 30), np.uint8)
    frame[2:8, 2:8], frame[10:16, 10:20] = 1, 2
    swapped = np.where(frame == 1, 2, np.where(frame == 2, 1, 0))
    labels(tmp_path / "gold", "run", [frame] * 6)
    labels(tmp_path / "gold", "walk", [frame] * 6)
    labels(tmp_path / "ours", "run", [frame * 0, *[frame] * 2, *[swapped] * 2, frame * 0])
    files = OfficialFiles(tmp_path / "ours", tmp_path / "gold", None)
    one, many = score_file("davis-2016", files), score_file("davis-2017", files)
    assert one.samples["run"]["J-Mean"] == one.samples["run"]["F-Mean"] == 1.0
    assert one.samples["walk"]["J&F-Mean"] == 0.0
    assert one.tables[0].metrics["J&F-Mean"].n_missing == 1
    assert many.samples["run/1"]["J-Mean"] == many.samples["run/2"]["J-Mean"] == 0.5
    assert many.samples["run/1"]["J-Decay"] == 1.0
    assert "sequence walk has no prediction" in one.notes[0]


def test_davis_has_baselines_that_track_nothing(tmp_path: Path):
    """A square of 4 x 4 that moves by 2 pixels a frame: after one step 8 of 24 pixels are shared, after two none."""
    frames = []
    for step in range(4):
        frame = np.zeros((10, 20), np.uint8)
        frame[2:6, 2 * step : 2 * step + 4] = 1
        frames.append(frame)
    labels(tmp_path / "gold", "slide", frames)
    labels(tmp_path / "ours", "slide", frames)
    scores = score_file("davis-2017", OfficialFiles(tmp_path / "ours", tmp_path / "gold", None))
    found = {table.name: table.metrics["J-Mean"].mean for table in scores.tables}
    assert found["predictions"] == 1.0
    assert found["static masks of the first frame"] == pytest.approx((8 / 24 + 0) / 2)
    assert found["full-frame mask"] == pytest.approx(16 / 200)


def test_davis_counts_f_by_outlines_alone_where_a_mask_fills_the_frame(tmp_path: Path):
    """The official evaluator compares outlines, and neither an empty mask nor a full one has any; strict does not."""
    full, empty, half = np.ones((8, 8)), np.zeros((8, 8)), np.tri(8)
    labels(tmp_path / "gold", "s", [half, full, empty, full, full, half])
    labels(tmp_path / "ours", "s", [half, empty, full, full, half, half])
    labels(tmp_path / "gold", "away", [half, full, half])
    for name, key in (("davis-2016", "s"), ("davis-2017", "s/1")):
        scores = score_file(name, OfficialFiles(tmp_path / "ours", tmp_path / "gold", None))
        official, strict = (table.metrics["F-Mean"].mean for table in scores.tables[:2])
        assert scores.samples[key]["F-Mean"] == 3 / 4  # full against empty twice, full against full, full against half
        assert scores.samples[key]["J-Mean"] == pytest.approx((0 + 0 + 1 + 36 / 64) / 4)
        assert (official, strict) == ((3 / 4 + 0) / 2, (1 / 4 + 0) / 2)  # no prediction is no empty mask


@pytest.mark.parametrize("name", ["davis-2016", "davis-2017"])
def test_a_sequence_of_davis_that_counts_nowhere_is_named(tmp_path: Path, name: str):
    square = np.pad(np.ones((4, 4)), 3)
    for sequence, count in (("long", 4), ("one", 1), ("three", 3), ("two", 2)):
        labels(tmp_path / "gold", sequence, [square] * count)
        labels(tmp_path / "ours", sequence, [square] * count)
    labels(tmp_path / "gold", "blank", [square * 0] * 3)
    labels(tmp_path / "ours", "stranger", [square])
    (tmp_path / "gold" / "nothing").mkdir()
    scores = score_file(name, OfficialFiles(tmp_path / "ours", tmp_path / "gold", None))
    notes = "\n".join(scores.notes)
    for sequence, count in (("one", 1), ("two", 2), ("nothing", 0)):
        assert f"sequence {sequence} is in no mean: it has {count} frames, and none is left" in notes
    assert ("sequence blank is in no mean" in notes) == (name == "davis-2017")
    assert "predictions are for unknown sequences, such as 'stranger'" in notes
    assert not any(f"sequence {sequence} is in no mean" in notes for sequence in ("long", "three"))
    assert scores.tables[0].metrics["J-Mean"].n_total == (3 if name == "davis-2016" else 2)


def official_qvhighlights(predicted, gold, thresholds):
    """AP and R1 of one query by the evaluator's formulas, stated here once more with numpy."""
    ours, theirs = np.array(predicted, float), np.array(gold, float)
    left, right = (f(ours[:, None, k], theirs[None, :, k]) for k, f in ((0, np.maximum), (1, np.minimum)))
    shared = np.clip(right - left, 0, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        ious = shared / ((ours[:, 1] - ours[:, 0])[:, None] + (theirs[:, 1] - theirs[:, 0])[None] - shared)
    aps = []
    for threshold in thresholds:
        met, hits = set(), []
        for row in ious:
            hits.append(False)
            for place in row.argsort(kind="stable")[::-1]:
                if row[place] < threshold:
                    break
                if place not in met:
                    met.add(place)
                    hits[-1] = True
                    break
        found = np.cumsum(hits)
        precision, recall = found / (np.arange(len(hits)) + 1), found / len(gold)
        envelope = np.maximum.accumulate(np.concatenate(([0], precision, [0]))[::-1])[::-1]
        steps = np.diff(np.concatenate(([0], recall, [1])))
        aps.append(float((steps * envelope[1:]).sum()))
    best = theirs[np.argmax(ious[0])]
    hull = max(ours[0, 1], best[1]) - min(ours[0, 0], best[0])
    met = max(0.0, min(ours[0, 1], best[1]) - max(ours[0, 0], best[0]))
    return float(np.mean(aps)), met / hull if hull else 0.0


WINDOWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).map(list), min_size=1, max_size=5)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(predicted=WINDOWS, gold=WINDOWS)
@example(predicted=[[6, 2]], gold=[[1, 5]])
@example(predicted=[[6, 2], [1, 5]], gold=[[1, 5], [8, 12]])
def test_windows_of_qvhighlights_that_run_backwards_count_as_in_the_official_code(tmp_path: Path, predicted, gold):
    query = {"qid": 1, "vid": "v", "duration": 150, "relevant_windows": gold}
    ranked = [[*window, 1 - place / 10] for place, window in enumerate(predicted)]
    scores = scored(tmp_path, "qvhighlights", [{"qid": 1, "pred_relevant_windows": ranked}], [query])
    thresholds = [round(0.5 + 0.05 * step, 2) for step in range(10)]
    ap, iou = official_qvhighlights(predicted, gold, thresholds)
    assert scores.samples["1"]["MR-full-mAP"] == pytest.approx(ap)
    assert scores.samples["1"]["MR-full-R1@0.5"] == (iou >= 0.5)
    num_reversed = sum(start > end for start, end in predicted)
    assert any(f"{num_reversed} predicted windows end before they start" in note for note in scores.notes) == bool(
        num_reversed
    )


# Broken files


@pytest.mark.parametrize("name", [name for name in FORMATS if not name.startswith("davis")])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00bad", b"[" * 5000, b"null", b'{"a": NaN}\n[1, 2', b"\x00" * 50]
)
def test_a_broken_file_is_an_error_that_says_so_or_is_noted(tmp_path: Path, name: str, content: bytes):
    predictions, gold = tmp_path / "predictions", tmp_path / "gold"
    predictions.write_bytes(content)
    gold.write_bytes(content)
    problem, scores = "", None
    try:
        scores = score_file(name, OfficialFiles(predictions, gold, None))
    except ValueError as error:
        problem = str(error)
    if scores is None:
        assert str(predictions) in problem or str(gold) in problem
    else:
        assert all(mean.n_scored == 0 for table in scores.tables for mean in table.metrics.values())


def test_bad_records_are_named_and_nothing_else_is_lost(tmp_path: Path):
    gold = [
        {"qid": f"q{place}", "vid": "v", "duration": 20, "relevant_windows": [[0, 10]], "ans": "A"}
        for place in range(3)
    ]
    predictions = written(tmp_path, "p.jsonl", [{"qid": "q0", "ans": "A"}])
    with predictions.open("a") as file:
        file.write('{"qid": "q1", "pred_relevant_windows": "soon"}\n')
        file.write('{"qid": "q2", "pred_relevant_windows": [[1e999, 2]]}\n{oops\n')
    scores = score_file("rextime", OfficialFiles(predictions, written(tmp_path, "g.jsonl", gold), None))
    assert [note.split(" is left out")[0] for note in scores.notes] == ["p.jsonl:2", "p.jsonl:3", "p.jsonl:4"]
    assert scores.tables[0].metrics["VQA"].mean == pytest.approx(1 / 3)
    assert scores.tables[0].metrics["VQA"].n_missing == 2


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pairs = written(tmp_path, "pairs.jsonl", [{"human": 1, "model": 0.5}, {"human": -1, "model": 0.2}])
    out = tmp_path / "scores.json"
    assert main(["score-official", "preference", str(pairs), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "preference, official: VideoAlign's code" in text
    assert "without ties" in text
    assert FileScores.model_validate_json(out.read_text()).official("without ties") == 0.5
    assert main(["score-official", "rextime", str(pairs)]) == 2
    assert "needs the file of gold" in capsys.readouterr().err
    assert main(["score-official", "nothing", str(pairs)]) == 2
    assert "unknown format 'nothing'" in capsys.readouterr().err
    assert main(["list", "formats"]) == 0
    listed = capsys.readouterr().out
    assert "qvhighlights" in listed
    assert "{qid, pred_relevant_windows, pred_saliency_scores}" in listed.replace("\n", " ")


def test_scores_are_never_written_over_what_is_read_and_files_that_nothing_reads_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pairs = written(tmp_path, "pairs.jsonl", [{"human": 1, "model": 0.5}])
    assert main(["score-official", "preference", str(pairs), "--out", str(pairs)]) == 2
    assert "would be written over" in capsys.readouterr().err
    assert json.loads(pairs.read_text()) == {"human": 1, "model": 0.5}
    assert main(["score-official", "preference", str(pairs), "--out", str(tmp_path / "new" / "scores.json")]) == 0
    capsys.readouterr()
    assert main(["score-official", "preference", str(pairs), "--out", str(pairs / "scores.json")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert main(["score-official", "preference", str(pairs), str(tmp_path / "gold.csv")]) == 2
    assert "which is not read" in capsys.readouterr().err
    assert main(["score-official", "qvhighlights", str(pairs), str(pairs), "--extra", str(pairs)]) == 2
    assert "which is not read" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["ours", "gold"])
def test_a_folder_of_davis_that_is_not_there_is_an_error(tmp_path: Path, missing: str):
    folders = {name: tmp_path / name for name in ("ours", "gold")}
    for name, folder in folders.items():
        (folder / "s" if name != missing else tmp_path).mkdir(parents=True, exist_ok=True)
    with pytest.raises(ValueError, match=f"{missing} is no folder"):
        score_file("davis-2016", OfficialFiles(folders["ours"], folders["gold"], None))


def test_a_gold_file_without_a_question_is_no_score(tmp_path: Path):
    with pytest.raises(ValueError, match=r"1\.txt has no question of rextime to score: 1\.txt:1 is left out: qid"):
        scored(tmp_path, "rextime", [{"qid": "q", "ans": "A"}], [{"id": "q"}])


@pytest.mark.parametrize("bad", [None, "x", float("nan")])
def test_a_prediction_that_cannot_be_read_stays_in_the_mean(tmp_path: Path, bad: object):
    moments = scored(tmp_path, "omtg", [{"pred": bad, "gt": [[0, 1]]}, {"pred": [[0, 1]], "gt": [[0, 1]]}])
    assert [table.metrics["tIoU"].mean for table in moments.tables[:2]] == [0.5, 0.5]
    assert moments.tables[0].metrics["EtF1"].n_unparsed == 1
    pairs = scored(tmp_path, "preference", [{"human": 1, "model": bad}, {"human": 1, "model": 0.5}])
    assert pairs.official("without ties") == pairs.tables[1].numbers["with ties"] == 0.5
    assert pairs.tables[1].metrics["without ties"].n_unparsed == 1
