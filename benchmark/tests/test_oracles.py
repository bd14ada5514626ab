"""Data with known results: the published numbers of other benchmarks, reproduced to their last digit.

Where the data are absent the tests say so and skip; `test_score_file.py` covers the same functions everywhere.
"""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evqa import masks
from evqa.metrics import boundary, boxes, grounded_qa, preference, sequence, spatial, temporal
from evqa.official import spatio_temporal
from evqa.official.preference import parse_vote
from evqa.official.scores import FileScores, OfficialFiles
from evqa.schema import RLE, Span
from evqa.scoring.official_files import score_file

ORACLES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles"
pytestmark = pytest.mark.skipif(not ORACLES.is_dir(), reason=f"no data with known results in {ORACLES}")


def known(name: str) -> dict:
    return json.loads((ORACLES / name).read_text())


def fixture_rows(name: str) -> list[dict]:
    return known(f"function_fixtures/{name}.json")


def spans(pairs: list[list[float]]) -> tuple[Span, ...]:
    return tuple(Span(*pair) for pair in pairs)


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[[str], Path]:
    """A file of the oracles, unpacked."""

    def unpacked(name: str) -> Path:
        path = tmp_path / name.replace("/", "_").removesuffix(".gz")
        data = (ORACLES / name).read_bytes()
        path.write_bytes(gzip.decompress(data) if name.endswith(".gz") else data)
        return path

    return unpacked


def percent(scores: FileScores, title: str, digits: int) -> float:
    return round(100 * scores.official(title), digits)


# Time


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ("sample_val_preds", "sample_val_preds_metrics_raw"),
        ("moment_detr_ckpt_val_preds", "moment_detr_ckpt_val_metrics"),
        ("vtg_gpt_val_preds", "vtg_gpt_val_metrics_official_run"),
        ("univtg_val_preds", "univtg_val_metrics_official_run"),
    ],
)
def test_qvhighlights(unpack: Callable[[str], Path], predictions: str, expected: str):
    truth = known(f"qvhighlights/{expected}.json")
    gold = unpack("qvhighlights/highlight_val_release.jsonl.gz")
    scores = score_file("qvhighlights", OfficialFiles(unpack(f"qvhighlights/{predictions}.jsonl.gz"), gold, None))
    ours = {title: percent(scores, title, 2) for title in truth["brief"]}
    assert ours == truth["brief"]
    assert scores.tables[0].metrics["MR-full-mAP"].n_total == 1550


def test_ego4d_nlq(unpack: Callable[[str], Path], tmp_path: Path):
    truth = known("ego4d_nlq_synthetic/expected.json")
    gold, predictions = (ORACLES / "ego4d_nlq_synthetic" / name for name in ("gt.json", "predictions.json"))
    scores = score_file("ego4d-nlq", OfficialFiles(predictions, gold, None))
    for row, threshold in zip(truth["recall[thr][k]"], truth["thresholds"], strict=True):
        assert [scores.official(f"R{k}@{threshold}") for k in truth["topk"]] == pytest.approx(row, abs=1e-12)
    assert scores.official("mIoU") == pytest.approx(truth["mIoU_official"], abs=1e-12)
    assert scores.notes == []
    on_the_video = tmp_path / "video_clock.json"
    results = [
        {"clip_uid": clip["clip_uid"], "annotation_uid": annotation["annotation_uid"], "query_idx": place}
        | {"predicted_times": [[query["video_start_sec"], query["video_end_sec"]]]}
        for video in json.loads(gold.read_text())["videos"]
        for clip in video["clips"]
        for annotation in clip["annotations"]
        for place, query in enumerate(annotation["language_queries"])
    ]
    on_the_video.write_text(json.dumps({"results": results}))
    wrong = score_file("ego4d-nlq", OfficialFiles(on_the_video, gold, None))
    exact = [row["mIoU"] for row in wrong.samples.values()]
    assert (
        sum(value == pytest.approx(1) for value in exact if value) / 48
        == truth["coverage_acc_if_scored_with_clip_times"]
    )
    assert "clock of the whole video (mean IoU 1.000)" in wrong.notes[0]


@pytest.mark.parametrize("name", ["full_video", "first_third", "mid50", "gt_plus_2s"])
def test_charades_sta(unpack: Callable[[str], Path], tmp_path: Path, name: str):
    truth = known("charades_sta/expected.json")
    gold = unpack("charades_sta/charades_sta_test.txt.gz")
    durations = known("charades_sta/durations.json")
    guesses: dict[str, Callable[[float, float, float], tuple[float, float]]] = {
        "full_video": lambda start, end, seconds: (0, seconds),
        "first_third": lambda start, end, seconds: (0, seconds / 3),
        "mid50": lambda start, end, seconds: (seconds / 4, 3 * seconds / 4),
        "gt_plus_2s": lambda start, end, seconds: (start + 2, end + 2),
    }
    lines = []
    for line in gold.read_text().splitlines():
        head, _, sentence = line.partition("##")
        video, start, end = head.split()
        guess = guesses[name](float(start), float(end), durations[video])
        lines.append(f"{video} {guess[0]!r} {guess[1]!r}##{sentence}")
    predictions = tmp_path / "predictions.txt"
    predictions.write_text("\n".join(lines))
    scores = score_file("charades-sta", OfficialFiles(predictions, gold, ORACLES / "charades_sta/durations.json"))
    official, strict = scores.tables[:2]
    for threshold in (0.3, 0.5, 0.7):
        assert percent(scores, f"R1@{threshold}", 2) == truth[name][f"R1@{threshold}_ge"]
    assert percent(scores, "mIoU", 2) == truth[name]["mIoU"]
    above = strict.metrics["R1@0.5"].mean
    assert above is not None
    assert round(100 * above, 2) == truth[name]["R1@0.5_gt"]
    assert official.metrics["mIoU"].n_scored == truth["n"]
    assert scores.notes == [f"{truth['gt_end_beyond_duration']} of 3720 gold windows end beyond their video"]
    rows = {table.name: table for table in scores.tables if table.convention == "official"}
    trivial = {"full_video": "whole video", "first_third": "first third", "mid50": "middle half"}
    if name in trivial:
        assert rows[trivial[name]].metrics["mIoU"].mean == pytest.approx(official.metrics["mIoU"].mean, abs=1e-9)


# Answers with evidence in time


@pytest.mark.parametrize("name", ["mid50", "gt_hull", "point_mid", "jitter_seed7", "mid50_drop_every_3rd"])
def test_next_gqa_val(unpack: Callable[[str], Path], tmp_path: Path, name: str):
    truth = known("nextgqa/expected_official_eval_ground.json")["val"]
    predictions = tmp_path / "spans.json"
    predictions.write_text(json.dumps(json.loads(unpack("nextgqa/synthetic_spans_val.json.gz").read_text())[name]))
    answers = unpack("nextqa_hga/HGA-bert-ft-h256-val-example.json.gz")
    scores = score_file("nextgqa", OfficialFiles(predictions, unpack("nextgqa/gsub_val.json.gz"), answers))
    assert {title: percent(scores, title, 1) for title in truth["metrics"][name]} == truth["metrics"][name]
    mean = scores.tables[0].metrics["mIoU"]
    assert mean.n_total == truth["questions"]
    if name == "mid50_drop_every_3rd":
        assert mean.n_missing == mean.n_total - mean.n_scored > 1000
        assert scores.tables[1].convention == "strict"
        kept = scores.tables[1].metrics["mIoU"].mean
        assert kept is not None
        assert kept == pytest.approx(scores.official("mIoU") * mean.n_scored / mean.n_total)
    else:
        assert percent(scores, "Acc@QA", 2) == truth.get("HGA_Acc@QA_on_gsub_pct", 47.35)


@pytest.mark.parametrize("name", ["full", "gt_first_plus2s"])
def test_next_gqa_test(unpack: Callable[[str], Path], tmp_path: Path, name: str):
    """`full` is the row Random of the paper's table: 21.1, 20.6, 8.7."""
    truth = known("nextgqa/expected_official_eval_ground.json")["test"]["metrics"][name]
    predictions = tmp_path / "spans.json"
    predictions.write_text(json.dumps(json.loads(unpack("nextgqa/synthetic_spans_test.json.gz").read_text())[name]))
    scores = score_file("nextgqa", OfficialFiles(predictions, unpack("nextgqa/gsub_test.json.gz"), None))
    assert {title: percent(scores, title, 1) for title in truth if title != "Acc@GQA"} == {
        title: value for title, value in truth.items() if title != "Acc@GQA"
    }


def test_rextime(unpack: Callable[[str], Path], tmp_path: Path):
    truth = known("rextime_val/expected_official.json")
    gold = unpack("rextime_val/rextime_val.jsonl.gz")
    trivial = tmp_path / "trivial.jsonl"
    rows = [json.loads(line) for line in gold.read_text().splitlines()]
    trivial.write_text(
        "\n".join(
            json.dumps({"qid": row["qid"], "pred_relevant_windows": [[0, row["duration"]]], "ans": "A"}) for row in rows
        )
    )
    for name, path in {
        "synthetic": unpack("rextime_val/synthetic_submission.jsonl.gz"),
        "full_video_and_answer_A": trivial,
    }.items():
        scores = score_file("rextime", OfficialFiles(path, gold, None))
        assert scores.official("VQA") == pytest.approx(truth[name]["VQA"], abs=1e-12)
        assert percent(scores, "MR-full-mIoU", 2) == truth[name]["full"]["MR-mIoU"]
        for threshold, value in truth[name]["full"]["MR-R1"].items():
            assert percent(scores, f"MR-full-R1@{threshold}", 2) == value
        for title, value in truth[name]["full"]["VQA,mIoU"].items():
            assert scores.official(title) == pytest.approx(value, abs=1e-12)
    rows_by_name = {table.name: table for table in scores.tables}
    assert rows_by_name["whole video"].metrics["MR-full-R1@0.5"].mean == pytest.approx(0.3214, abs=5e-5)


def test_cg_bench(unpack: Callable[[str], Path]):
    truth = known("cgbench_mini/expected.json")
    files = OfficialFiles(unpack("cgbench_mini/synthetic_preds.json.gz"), unpack("cgbench_mini/gt_slim.json.gz"), None)
    scores = score_file("cg-bench", files)
    official, other = (table.metrics for table in scores.tables[:2])
    assert (scores.tables[0].convention, scores.tables[1].convention) == ("official", "VLMEvalKit")
    assert official["mIoU"].mean == pytest.approx(truth["mIoU"], abs=1e-12)
    assert official["long_acc"].mean == pytest.approx(truth["long_acc"], abs=1e-12)
    assert official["rec@IoU"].mean == pytest.approx(truth["rec@IoU_ge(official stat_with_key)"], abs=1e-12)
    assert official["acc@IoU"].mean == pytest.approx(truth["acc@IoU_ge(official stat_with_key)"], abs=1e-12)
    assert other["rec@IoU"].mean == pytest.approx(truth["rec@IoU_gt(VLMEvalKit)"], abs=1e-12)
    assert other["acc@IoU"].mean == pytest.approx(
        truth["acc@IoU_gt(VLMEvalKit, before its 4-digit rounding)"], abs=1e-12
    )
    assert official["mIoU"].n_total == truth["n"]


def test_tvqa_plus(unpack: Callable[[str], Path]):
    truth = known("tvqa_plus_val/expected_official_temporal.json")
    files = OfficialFiles(
        unpack("tvqa_plus_val/synthetic_ts_answer.json.gz"), unpack("tvqa_plus_val/gt_slim.json.gz"), None
    )
    scores = score_file("tvqa-plus", files)
    titles = {"miou": "mIoU", "ans_span_joint_acc@.5": "ASA", "qa_acc": "QA Acc"}
    for title, value in truth["metrics"].items():
        assert scores.official(titles.get(title, title)) == pytest.approx(value, abs=1e-12)
    assert scores.tables[0].metrics["ASA"].n_total == truth["n"]


def test_tvqa_plus_gold_boxes_as_predictions_are_all_met(unpack: Callable[[str], Path], tmp_path: Path):
    path = unpack("tvqa_plus_val/gt_slim.json.gz")
    gold = json.loads(path.read_text())[:300]
    drawn = {
        f"{row['vid_name']}_{row['qid']}_{int(frame):05d}": [
            [label, 1 - place / 100, [left, top, left + width, top + height]]
            for place, (label, left, top, width, height) in enumerate(boxes)
        ]
        for row in gold
        for frame, boxes in row["bbox"].items()
    }
    answers = {str(row["qid"]): [row["ts"], row["answer_idx"]] for row in gold}
    (tmp_path / "gold.json").write_text(json.dumps(gold))
    (tmp_path / "mine.json").write_text(json.dumps({"ts_answer": answers, "bbox": drawn}))
    scores = score_file("tvqa-plus", OfficialFiles(tmp_path / "mine.json", tmp_path / "gold.json", None))
    assert scores.official("Grd. mAP") > 0.99  # a box that is there twice is met once
    assert scores.official("ASA") == 1.0
    assert 0.0 < scores.official("Grd. mAP of the whole frame") < 0.1


# Answers


def test_next_qa(unpack: Callable[[str], Path]):
    truth = known("nextqa_hga/expected.json")
    files = OfficialFiles(
        unpack("nextqa_hga/HGA-bert-ft-h256-val-example.json.gz"), unpack("nextqa_hga/val.csv.gz"), None
    )
    scores = score_file("nextqa", files)
    kinds = {"C": "causal", "T": "temporal", "D": "descriptive"}
    assert percent(scores, "Acc", 2) == truth["Acc"]
    for letter, about in kinds.items():
        assert percent(scores, f"Acc_{letter} ({about})", 2) == truth[f"Acc_{letter}"]
    for title, value in truth.items():
        if match := re.search(r"\(([CTD][WHNCLO])", title):
            mean = scores.tables[0].groups[match[1]]["Acc"].mean
            assert mean is not None
            assert round(100 * mean, 2) == value


def test_activitynet_qa(unpack: Callable[[str], Path]):
    truth = known("activitynet_qa/expected.json")
    files = OfficialFiles(
        unpack("activitynet_qa/pred_val_example.json.gz"), unpack("activitynet_qa/val_a.json.gz"), None
    )
    scores = score_file("activitynet-qa", files)
    ours = {group: means["All"].mean for group, means in scores.tables[0].groups.items()}
    assert len(ours) == 9
    ours |= {"All": scores.official("All"), "Free": scores.official("Free")}
    assert {title: round(value or 0, 4) for title, value in ours.items()} == truth
    assert scores.tables[1].numbers["Free"] == pytest.approx(0.505476, abs=1e-6)


# Preferences


@pytest.mark.parametrize(
    "model", sorted(path.name.split(".votes")[0] for path in (ORACLES / "genai_bench_video").glob("*.votes.*"))
)
def test_genai_bench(unpack: Callable[[str], Path], model: str):
    truth = known("genai_bench_video/expected.json")[model]
    votes = unpack(f"genai_bench_video/{model}.votes.jsonl.gz")
    scores = score_file("genai-bench", OfficialFiles(votes, None, None))
    mean = scores.tables[0].metrics["accuracy"]
    assert (percent(scores, "accuracy", 2), mean.n_total) == (truth["accuracy_pct"], truth["n"])
    assert mean.n_unparsed == truth["three_class"]["invalid_votes"]
    assert percent(scores, "tau", 2) == truth["three_class"]["tau_acc_pct"]
    assert percent(scores, "diff", 2) == truth["three_class"]["diff_acc_pct"]
    assert scores.tables[0].metrics["diff"].n_total == truth["n"] - truth["three_class"]["human_ties"]


@pytest.mark.parametrize("model", ["gpt4o", "idefics2", "minicpm-V-2.5", "qwenVL"])
def test_genai_bench_from_what_the_judges_wrote(unpack: Callable[[str], Path], model: str):
    truth = known("genai_bench_video/expected.json")[model]
    votes = unpack(f"genai_bench_video/{model}.votes.jsonl.gz")
    replies = unpack(f"genai_bench_video/{model}.responses.jsonl.gz")
    theirs = [json.loads(line)["model_vote"] for line in votes.read_text().splitlines()]
    ours = [parse_vote(json.loads(line)["response"]) for line in replies.read_text().splitlines()]
    assert ours == theirs
    assert ours.count(None) == truth["unparsed"]
    scores = score_file("genai-bench", OfficialFiles(replies, votes, None))
    assert percent(scores, "accuracy", 2) == truth["accuracy_pct"]


def test_preferences_by_margin(tmp_path: Path):
    rows = fixture_rows("videoalign_ties")
    for row in rows:
        best = preference.with_ties(row["human"], row["model"])
        assert best is not None
        assert best.accuracy == pytest.approx(row["with_ties_exhaustive"], abs=1e-12)
        shipped = preference.with_ties_as_shipped(row["human"], row["model"])
        assert shipped == pytest.approx(row["with_ties_official"], abs=1e-12)
        assert preference.without_ties(row["human"], row["model"]) == pytest.approx(row["without_ties_official"])
    differing = [row for row in rows if row["with_ties_official"] != pytest.approx(row["with_ties_exhaustive"])]
    assert (len(rows), len(differing)) == (201, 46)
    path = tmp_path / "margins.jsonl"
    row = rows[0]
    path.write_text(
        "\n".join(json.dumps({"human": h, "model": m}) for h, m in zip(row["human"], row["model"], strict=True))
    )
    scores = score_file("preference", OfficialFiles(path, None, None))
    assert scores.official("with ties") == pytest.approx(row["with_ties_official"], abs=1e-12)
    assert scores.official("without ties") == pytest.approx(row["without_ties_official"], abs=1e-12)


# Functions


def test_hull_iou_and_iop_of_next_gqa():
    rows = fixture_rows("nextgqa_get_tIoU")
    for row in rows:
        ours, theirs = Span(*row["pred"]), Span(*row["gt"])
        assert temporal.hull_iou(ours, theirs) == pytest.approx(row["iou_clipped"], abs=1e-12)
        assert temporal.hull_iop(ours, theirs) == pytest.approx(row["iop_clipped"], abs=1e-12)
    assert len(rows) == 299


def test_iou_of_sets_of_cg_bench_and_video_zero_bench():
    for row in fixture_rows("cgbench_intervals_iou"):
        assert temporal.tiou(spans(row["a"]), spans(row["b"])) == pytest.approx(row["iou"], abs=1e-9)
    for row in fixture_rows("videozerobench_tiou_multi"):
        assert temporal.tiou(spans(row["pred"]), spans(row["gt"])) == pytest.approx(row["tiou"], abs=1e-9)


def test_one_to_many_as_it_is_and_as_it_was_shipped():
    rows = fixture_rows("omtg_one_to_many")
    versions = {
        "with_copied_inputs": grounded_qa.one_to_many,
        "as_shipped_list_inputs": grounded_qa.one_to_many_as_shipped,
    }
    for row in rows:
        for name, measure in versions.items():
            found = measure(spans(row["pred"]), spans(row["gt"]))
            ours = {"C-Acc": found.right_count, "tIoU": found.tiou, "EtF1": found.effective_f1}
            for place, threshold in enumerate(grounded_qa.OMTG_THRESHOLDS):
                ours[f"tP@{threshold}"] = found.precision[place]
                ours[f"tR@{threshold}"] = found.recall[place]
                ours[f"tF1@{threshold}"] = found.f1[place]
            assert ours == pytest.approx(row[name], abs=1e-12)
    assert sum(row["with_copied_inputs"] != row["as_shipped_list_inputs"] for row in rows) == 9


def test_boxes_of_video_zero_bench_and_v_star():
    for row in fixture_rows("videozerobench_viou_frame"):
        assert boxes.union_iou(row["pred"], row["gt"]) == pytest.approx(row["viou"], abs=1e-12)
    for row in fixture_rows("vstar_spatial"):
        gold = [(str(box["timestamp"]), (box["xmin"], box["ymin"], box["xmax"], box["ymax"])) for box in row["gt"]]
        values = spatio_temporal.box_ious(row["pred"], gold)
        assert boxes.mean_over_gold(values) == pytest.approx(row["mIoU"], abs=1e-12)
        shares = [boxes.share_reaching(values, threshold) for threshold in spatio_temporal.BOX_THRESHOLDS]
        assert shares == pytest.approx(row["ap@[.1,.3,.5,.7,.9]"], abs=1e-12)


def test_times_and_summaries_of_v_star():
    for row in fixture_rows("vstar_temporal_iou"):
        assert spatio_temporal.time_iou(row["pred"], Span(*row["gt"])) == pytest.approx(row["iou"], abs=1e-12)
    for row in fixture_rows("vstar_am_lgm"):
        for chain in "12":
            parts = (row["acc"], row[f"mtIoU{chain}"], row[f"mvIoU{chain}"])
            assert grounded_qa.arithmetic_mean(*parts) == pytest.approx(row[f"AM{chain}"], abs=1e-12)
            assert grounded_qa.log_geometric_mean(*parts) == pytest.approx(row[f"LGM{chain}"], abs=1e-12)


def test_replies_of_video_zero_bench():
    for row in fixture_rows("videozerobench_parse_windows"):
        windows = spatio_temporal.zero_bench_windows(row["text"])
        assert windows == (None if row["windows"] is None else spans(row["windows"])), row
    for row in fixture_rows("videozerobench_is_correct"):
        assert spatio_temporal.is_zero_bench_correct(row["gt"], row["pred"]) == row["correct"], row


def test_mean_recall_and_decay_of_davis():
    for row in fixture_rows("davis_db_statistics"):
        mean, recall, decay = row["M_O_D_official"]
        shipped, exact = sequence.statistics_as_shipped(row["J"]), sequence.statistics(row["J"])
        assert (shipped.mean, shipped.recall) == pytest.approx((mean, recall), abs=1e-12)
        assert shipped.decay == pytest.approx(decay, abs=1e-12)
        assert exact.decay is not None
        assert decay is None or exact.decay == pytest.approx(decay, abs=1e-12)


def test_j_and_f_of_small_masks():
    for row in fixture_rows("davis_JF_small"):
        ours, theirs = (
            np.array([[pixel == "1" for pixel in line] for line in row[f"{k}_rows"]]) for k in ("pred", "gt")
        )
        assert spatial.region_j(ours, theirs) == pytest.approx(row["J"], abs=1e-12)
        assert boundary.boundary_f(ours, theirs) == pytest.approx(row["F"], abs=1e-12)


# Masks


def test_davis_2016(tmp_path: Path):
    truth = known("davis_osvos/expected_official.json")["sequences"]
    for side in ("gt", "pred"):
        (tmp_path / side).mkdir()
        for name in ("libby", "drift-chicane"):
            (tmp_path / side / name).symlink_to(ORACLES / "davis_osvos" / side / name)
    scores = score_file("davis-2016", OfficialFiles(tmp_path / "pred", tmp_path / "gt", None))
    for name in ("libby", "drift-chicane"):
        for kind in "JF":
            ours = [scores.samples[name][f"{kind}-{statistic}"] for statistic in ("Mean", "Recall", "Decay")]
            assert ours == pytest.approx(truth[name][kind], abs=1e-6)


@pytest.mark.parametrize("kind", ["manual", "auto"])
def test_sav_run_lengths(kind: str):
    truth = known(f"sav_rle/expected_{kind}.json")
    video = json.loads(gzip.decompress((ORACLES / f"sav_rle/sav_000001_{kind}.json.gz").read_bytes()))
    areas = [[masks.area(RLE(**rle)) for rle in frame] for frame in video["masklet"]]
    if isinstance(truth["areas_pycocotools[frame][obj]"], list):
        assert areas == truth["areas_pycocotools[frame][obj]"]
    visible = [[area for area in column if area] for column in zip(*areas, strict=True)]
    means = [float(np.mean(column)) for column in visible]
    assert means == pytest.approx(truth["published_masklet_size_abs"], abs=1e-6)
