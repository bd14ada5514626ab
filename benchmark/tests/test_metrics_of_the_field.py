"""Metrics of other benchmarks by hand on their edges; joint scores, objects, presets, paired comparison."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evqa import masks
from evqa.__main__ import main
from evqa.datasets import Dataset, load
from evqa.files.jsonl import write_records
from evqa.metrics import METRICS, boxes, grounded_qa, joint, preference, ranked, sequence, temporal, trivial
from evqa.metrics.case import Case
from evqa.metrics.frames import compare as compare_frames
from evqa.metrics.frames import frames_of, gold_masks
from evqa.metrics.intervals import holm, mcnemar, paired_difference
from evqa.metrics.means import Cell, mean_of
from evqa.metrics.objects import mean_over_objects
from evqa.metrics.objects import object_scores as scores_of_objects
from evqa.metrics.presets import PRESETS
from evqa.metrics.spatial import FrameScore, MaskScores
from evqa.report import differences, tables
from evqa.schema import Box, Prediction, Sample, Span, Track
from evqa.scoring import baselines
from evqa.scoring.engine import System, score
from evqa.scoring.results import read_scores


def spans(*pairs: tuple[float, float]) -> tuple[Span, ...]:
    return tuple(Span(*pair) for pair in pairs)


# Time


@pytest.mark.parametrize(
    ("predicted", "gold", "iou", "iop"),
    [
        ((0, 10), (0, 10), 1, 1),
        ((0, 5), (0, 10), 0.5, 1),
        ((20, 30), (0, 10), 0, 0),
        ((10, 20), (0, 10), 0, 0),
        ((5, 5), (0, 10), 0, 1),
        ((10, 10), (0, 10), 0, 1),
        ((11, 11), (0, 10), 0, 0),
        ((5, 2), (0, 10), 0, None),
    ],
)
def test_single_spans_with_their_hull(predicted: tuple, gold: tuple, iou: float, iop: float | None):
    assert temporal.hull_iou(Span(*predicted), Span(*gold)) == iou
    assert iop is None or temporal.hull_iop(Span(*predicted), Span(*gold)) == iop


def test_the_first_span_meets_the_gold_span_that_suits_it():
    best = temporal.first_to_best(temporal.hull_iou)
    assert best(spans((20, 30), (0, 10)), spans((0, 10), (20, 25))) == 0.5
    assert best((), spans((0, 10))) == best(spans((0, 10)), ()) == 0.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=2))
def test_the_hull_changes_nothing_for_two_spans_that_overlap(pairs: list):
    first, second = (Span(min(pair), max(pair) + 1) for pair in pairs)
    assert temporal.hull_iou(first, second) == pytest.approx(temporal.tiou((first,), (second,)), abs=1e-12)


def test_a_hit_reaches_or_exceeds():
    half = spans((0, 5))
    assert ranked.hit_at(half, spans((0, 10)), k=1, threshold=0.5) == 1.0
    assert ranked.hit_above(half, spans((0, 10)), k=1, threshold=0.5) == 0.0
    assert ranked.hit_above(spans((50, 60), (0, 9)), spans((0, 10)), k=1, threshold=0.5) == 0.0
    assert ranked.hit_above(spans((50, 60), (0, 9)), spans((0, 10)), k=2, threshold=0.5) == 1.0


def test_average_precision_by_hand():
    gold = spans((0, 10), (20, 30))

    def ap(*windows: tuple[float, float]) -> float:
        return ranked.mean_average_precision(ranked.in_given_order(spans(*windows)), gold, (0.5,))

    assert ap((0, 10), (20, 30)) == 1.0
    assert ap((0, 10)) == 0.5
    assert ap((50, 60), (0, 10), (20, 30)) == pytest.approx(2 / 3)  # interpolated: 2/3 at both steps of recall
    assert ap((0, 10), (0, 10), (20, 30)) == pytest.approx((1 + 2 / 3) / 2)
    assert ap() == 0.0
    assert ranked.mean_average_precision(ranked.in_given_order(spans((0, 1))), (), (0.5,)) == 0.0
    by_score = [ranked.Ranked(Span(50, 60), 0.1), ranked.Ranked(Span(0, 10), 0.9)]
    assert ranked.mean_average_precision(by_score, gold, (0.5,)) == 0.5


def test_highlights_by_hand():
    assert ranked.highlight_ap([0.9, 0.1], [True, False]) == 1.0
    assert ranked.highlight_ap([0.1, 0.9], [True, False]) == 0.5
    assert ranked.highlight_ap([0.5, 0.5], [True, False]) == 0.5  # a tie is one step
    assert (ranked.highlight_ap([], [True, True]), ranked.highlight_ap([1.0], [False])) == (1.0, 0.0)
    assert ranked.highlight_ap([0.2, 0.9, 5.0], [False, True]) == 1.0  # beyond the video
    assert ranked.highlight_hit([0.1, 0.9], [False, True]) == 1.0
    assert ranked.highlight_hit([0.1, 0.9], [True]) == ranked.highlight_hit([], [True]) == 0.0


def test_the_best_constant_span_is_that_of_gold_at_one_place():
    assert trivial.best_constant_span([(spans((5, 10)), 20.0), (spans((10, 20)), 40.0)]) == (0.25, 0.5)


# Boxes, tubes, sequences


def test_boxes_by_hand():
    assert boxes.box_iou((0, 0, 10, 10), (0, 0, 10, 5)) == 0.5
    assert boxes.box_iou((0, 0, 1, 1), (5, 5, 6, 6)) == boxes.box_iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0
    left, right, whole = (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 1)
    assert boxes.union_iou([left, right], [whole]) == 1.0
    assert boxes.union_iou([left, left], [whole]) == 0.5
    assert boxes.union_iou([(-1, 0, 0.5, 2)], [whole]) == 0.5  # cut to the frame
    assert boxes.union_iou([], [whole]) == 0.0
    assert boxes.union_iou([left], []) == 1.0


def test_tubes_divide_by_the_moments_of_either_side():
    box = (0.0, 0.0, 10.0, 10.0)
    half = (0.0, 0.0, 10.0, 5.0)
    assert boxes.tube_iou({0: box, 1: half}, {0: box, 1: box}) == 0.75
    assert boxes.tube_iou({0: box, 5: box}, {0: box, 1: box}) == pytest.approx(1 / 3)
    assert boxes.tube_iou({}, {}) == 0.0


def test_boxes_of_our_own_records_are_scored_frame_by_frame(tmp_path, capsys):
    """Gold at 0 to 3; the prediction is right at 0, half right at 1, nowhere at 2, and one frame late at 4."""
    gold = {index: Box(0, 0, 10, 10) for index in range(4)}
    said = {0: Box(0, 0, 10, 10), 1: Box(0, 0, 10, 5), 3: Box(20, 20, 30, 30), 4: Box(0, 0, 10, 10)}
    samples = [
        Sample(id=name, video_id=name, video=Path("v.mp4"), question="?", boxes=gold)
        for name in ("right", "so-so", "mute")
    ]
    write_records(tmp_path / "samples.jsonl", samples)
    predictions = [
        Prediction(sample_id="right", status="ok", boxes=gold),
        Prediction(sample_id="so-so", status="ok", boxes=said),
    ]
    write_records(tmp_path / "mine.jsonl", predictions)
    for preset in ("strict", "hc-stvg", "v-star"):
        assert main(["score", str(tmp_path / "mine.jsonl"), "--data", str(tmp_path), "--preset", preset]) == 0
    assert "m_vIoU box" in capsys.readouterr().out
    found = read_scores(tmp_path / "mine.scores.json")[0]
    assert found.samples["so-so"].values["m_vIoU box"] == (1 + 0.5 + 0 + 0) / 4
    assert found.metrics["m_vIoU box"].mean == pytest.approx((1 + 1.5 / 4 + 0) / 3)
    strict = score(load(str(tmp_path)), [System("run", predictions)], ["strict", "hc-stvg"])
    assert strict[0].samples["so-so"].values["vIoU box"] == (1 + 0.5) / 5
    assert strict[1].metrics["vIoU@0.3 box"].mean == pytest.approx(2 / 3)
    assert strict[0].metrics["vIoU box"].n_missing == 1
    assert "J obj" not in strict[0].metrics


def test_a_box_around_every_frame_stands_beside_scores_of_boxes(tmp_path):
    """Of 4 frames of 20 x 10 pixels gold holds the left half of two."""
    (tmp_path / "v").mkdir()
    for index in range(4):
        Image.new("RGB", (20, 10)).save(tmp_path / "v" / f"{index:05d}.png")
    gold = {index: Box(0, 0, 10, 10) for index in range(2)}
    write_records(tmp_path / "samples.jsonl", [Sample(id="s", video_id="v", video=Path("v"), question="?", boxes=gold)])
    found = {scores.name: scores.metrics for scores in baselines.baselines(load(str(tmp_path)))}
    row = found["full-frame box"]
    assert (row["m_vIoU box"].mean, row["vIoU box"].mean) == (0.5, 2 * 0.5 / 4)
    assert set(row) == {"m_vIoU box", "vIoU box"}


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 0, 3, 4], [0, 0, float("inf"), 1], [0, 0, 1]])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(ValueError, match="boxes"):
        Prediction.model_validate({"sample": "s", "status": "ok", "boxes": {"0": box}})


def test_tubes_of_masks_agree_with_tubes_of_boxes():
    """Masks that are boxes; 3 frames of both, 1 only predicted, 1 only gold."""
    scores = MaskScores(
        {
            0: FrameScore(1.0, 1.0, has_gold=True),
            1: FrameScore(0.5, 0.5, has_gold=True),
            2: FrameScore(0.0, 0.0, has_gold=False),
            3: FrameScore(0.0, 0.0, has_gold=True),
            4: FrameScore(1.0, 1.0, has_gold=False),
        },
        10,
    )
    assert scores.tube() == pytest.approx(1.5 / 4)
    assert MaskScores({4: FrameScore(1.0, 1.0, has_gold=False)}, 10).tube() is None


@pytest.mark.parametrize("count", [4, 255, 256, 400, 600])
def test_decay_is_first_quarter_minus_last(count: int):
    values = [1.0] * (count - count // 4 - 1) + [0.0] * (count // 4 + 1)
    assert sequence.statistics(values).decay == pytest.approx(1.0, abs=0.3 if count == 4 else 0.02)
    shipped = sequence.statistics_as_shipped(values).decay
    if count < 256:
        assert shipped == sequence.statistics(values).decay
    else:
        assert shipped is None or abs(shipped) < 0.5  # not the quarters it means
    assert sequence.statistics([]) == (None, None, None)


# Preferences and summaries


def test_ties_by_hand():
    assert preference.with_ties([0, 1], [1, 1]) == (0.5, -1.0)
    assert preference.with_ties_as_shipped([0, 1], [1, 1]) == 1.0  # an unreachable threshold
    assert preference.with_ties_as_shipped([1, 0], [1, 1]) == 0.5  # the same pairs in another order
    assert preference.with_ties([1, -1], [0.2, -0.3]) == (1.0, -1.0)
    assert preference.with_ties([], []) is None
    assert preference.with_ties_as_shipped([], []) is None
    assert preference.without_ties([0, 0], [1, 2]) is None
    assert preference.without_ties([1, -1, 0], [0, -1, 5]) == 0.5  # a margin of 0 is wrong


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.integers(-3, 3)), min_size=1, max_size=12))
def test_the_best_threshold_is_the_best_of_all(pairs: list):
    humans, margins = zip(*pairs, strict=True)

    def share(threshold: float) -> float:
        verdicts = [0 if abs(margin) <= threshold else (margin > 0) - (margin < 0) for margin in margins]
        return sum(
            verdict == human and (verdict != 0 or abs(margin) <= threshold)
            for verdict, human, margin in zip(verdicts, humans, margins, strict=True)
        ) / len(pairs)

    best = preference.with_ties(humans, margins)
    assert best is not None
    assert best.accuracy == pytest.approx(max(share(threshold) for threshold in (-1, 0, 1, 2, 3)))


def test_votes_of_four_and_of_three_classes():
    assert preference.same_vote("both-bad", "both-good") == 0.0
    assert preference.same_verdict("both-bad", "both-good") == 1.0
    assert preference.same_vote("tie", "both-bad") == 1.0
    assert preference.same_vote(None, "first") == preference.same_verdict(None, "both-good") == 0.0
    assert preference.same_preference("first", "both-good") is None
    assert preference.same_preference("tie", "first") == 0.0


def test_summaries_of_other_benchmarks():
    assert grounded_qa.recovery(0.3, 0.6) == 0.5
    assert grounded_qa.recovery(0.7, 0.6) == 1.0
    assert grounded_qa.recovery(0.0, 0.0) is None
    assert grounded_qa.mean_reached(0.3) == pytest.approx(0.6)
    assert grounded_qa.mean_exceeded(0.3) == pytest.approx(0.4)
    assert grounded_qa.arithmetic_mean(0.6, 0.3, 0.0) == pytest.approx(0.3)
    assert grounded_qa.log_geometric_mean(0.5, 0.5, 0.5) == pytest.approx(math.log(2))
    assert grounded_qa.log_geometric_mean(1.0, 0.2, 0.2) == math.inf
    assert grounded_qa.one_to_many((), ()).right_count == 1.0
    assert grounded_qa.one_to_many((), spans((0, 1))).effective_f1 == 0.0


# Joint


def test_the_area_of_the_joint_surface_is_the_mean_product():
    rng = np.random.default_rng(3)
    rows = [(float(rng.random() < 0.6), rng.random(), rng.random()) for _ in range(200)]
    steps = tuple((np.arange(100) + 0.5) / 100)
    grid = joint.surface(rows, steps, steps)
    assert grid is not None
    assert float(grid.shares.mean()) == pytest.approx(np.mean([a * b * c for a, b, c in rows]), abs=0.005)
    coarse = joint.surface([(1, 0.5, 0.3), (0, 1, 1)])
    assert coarse is not None
    assert coarse.shares[2].tolist() == [0.5, 0.5, 0, 0, 0]  # IoU 0.5 reaches 0.5, J&F 0.3 reaches 0.1 and 0.3
    assert joint.surface([]) is None


def square(top: int, left: int, side: int = 8) -> np.ndarray:
    mask = np.zeros((30, 40), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def track(frames: dict[int, np.ndarray]) -> Track:
    return Track(masks={index: masks.encode(mask) for index, mask in frames.items()})


def object_scores(gold, predicted, num_frames):
    return scores_of_objects([frames_of(one) for one in gold], [frames_of(one) for one in predicted], num_frames)


def test_objects_are_matched_whatever_their_order():
    one, two = (track({index: square(2, left + index) for index in range(4)}) for left in (2, 25))
    right = object_scores((one, two), (two, one), 4)
    assert [mean_over_objects((score,), "jf") for score in right] == [1.0, 1.0]
    half = object_scores((one, two), (two,), 4)
    assert [score.mean("j") for score in half] == [0.0, 1.0]
    assert mean_over_objects(half, "f") == 0.5
    extra = object_scores((one,), (track({0: square(20, 20)}), one), 4)
    assert extra[0].mean("j") == 1.0
    assert mean_over_objects(object_scores((), (one,), 4), "j") is None
    beyond = object_scores((one,), (track({index: square(2, 2 + index) for index in range(9)}),), 4)
    assert beyond[0].mean("j") == 1.0


def case(answer: int = 0, time: tuple[float, float] = (2, 4), shift: int = 0) -> Case:
    gold = track({index: square(4, 4 + index) for index in range(6)})
    sample = Sample(
        id="s",
        video_id="v",
        video=Path("v"),
        question="?",
        options=("x", "y"),
        answer=0,
        spans=spans((2, 4), (8, 10)),
        tracks=(gold,),
    )
    ours = track({index: square(4 + shift, 4 + index) for index in range(6)})
    prediction = Prediction(sample_id="s", status="ok", answer=answer, spans=spans(time), tracks=(ours,))
    read = gold_masks(sample)
    assert read is not None
    return Case(sample, prediction, compare_frames(read, prediction, 6))


def test_merged_objects_hide_what_objects_show():
    """Two objects swapped: the union is right, each object is right after matching; one missing shows in both."""
    assert METRICS["J obj"].value(case()) == METRICS["J"].value(case()) == 1.0


def value(preset: str, title: str, of: Case) -> float | None:
    return PRESETS[preset].metrics[title].value(of)


def test_presets_keep_to_their_conventions():
    one_of_two = case()  # the first of two gold spans
    assert value("nextgqa", "mIoU", one_of_two) == 1.0  # best gold span
    assert value("cg-bench", "mIoU", one_of_two) == 0.5  # all gold seconds
    assert value("cg-bench", "rec@IoU", one_of_two) == 1.0
    assert value("ego4d-nlq", "R1@0.5", case(time=(2, 3))) == 0.0  # IoU 0.5 does not exceed 0.5
    assert value("charades-sta", "R1@0.5", case(time=(2, 3))) == 1.0
    assert value("qvhighlights", "mAP", one_of_two) == 0.5  # one of two windows
    assert value("video-zero-bench", "L4", one_of_two) == 1.0
    assert value("video-zero-bench", "L5", case(shift=6)) == 0.0
    assert value("nextgqa", "mIoP", case(time=(3, 3))) == 1.0  # a point in time
    assert METRICS["mIoP"].value(case(time=(3, 3))) == 0.0
    for title in ("Acc@GQA",):
        assert value("nextgqa", title, case(answer=1)) == 0.0
    assert value("hc-stvg", "m_vIoU", case(shift=4)) == pytest.approx(32 / 96)
    assert value("v-star", "AM", case(answer=1)) == pytest.approx((0 + 1 + 1) / 3)


def test_lgm_is_made_of_means():
    lgm = PRESETS["v-star"].derived["LGM"]
    half = mean_of([("v", Cell(1.0)), ("w", Cell(0.0))])
    assert lgm({"Acc": half, "m_tIoU": half, "m_vIoU": half}) == pytest.approx(math.log(2))
    assert lgm({"Acc": half}) is None


# Means, and two runs


def test_a_convention_that_drops_what_is_missing_still_counts_it():
    rows = [("v", Cell(1.0)), ("w", Cell(None, "missing")), ("x", Cell(0.0, "unparsed")), ("y", Cell(None))]
    mean = mean_of(rows)
    assert (mean.mean, mean.n_total, mean.n_scored, mean.n_missing, mean.n_unparsed) == (0.5, 3, 1, 1, 1)


def test_a_paired_difference_is_narrower_than_the_means_suggest():
    rng = np.random.default_rng(4)
    hard = np.repeat(rng.random(60), 3)
    first, second = list(hard), list(hard + 0.02 + rng.normal(0, 0.02, 180))
    videos = [f"v{place // 3}" for place in range(180)]
    gain = paired_difference(first, second, videos)
    assert gain.low is not None
    assert gain.high is not None
    assert gain.p is not None
    assert 0 < gain.low < gain.mean < gain.high < 0.04
    assert gain.p < 0.01
    back = paired_difference(second, first, videos)
    assert back.mean == pytest.approx(-gain.mean)
    same = paired_difference(first, first, videos)
    assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert paired_difference([0.0], [1.0], ["v"]) == (1.0, None, None, None)


def test_a_paired_difference_finds_nothing_about_as_often_as_it_should():
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(100):
        gains = np.repeat(rng.normal(0, 1, 30), 3)
        gain = paired_difference([0.0] * 90, list(gains), [f"v{place // 3}" for place in range(90)], replicates=300)
        found += gain.p is not None and gain.p < 0.05
    assert found <= 15  # 5 expected


def test_mcnemar_by_hand():
    first, second = [1, 1, 1, 0, 0], [1, 0, 0, 0, 1]
    assert mcnemar(first, second) == (2, 1, 1.0)
    assert mcnemar([0] * 6, [1] * 6) == (0, 6, pytest.approx(2 / 64))
    assert mcnemar([1, 0], [1, 0]) == (0, 0, 1.0)


def samples(count: int) -> Dataset:
    found = tuple(
        Sample(
            id=f"s{place}",
            video_id=f"v{place // 2}",
            video=Path("/nowhere/v.mp4"),
            question="?",
            options=("x", "y"),
            answer=0,
            spans=spans((0, 10)),
            source="there",
        )
        for place in range(count)
    )
    return Dataset("some", Path("/nowhere"), found, (), "")


def predictions(dataset: Dataset, right: int, seconds: float) -> list[Prediction]:
    return [
        Prediction(sample_id=sample.id, status="ok", answer=int(place >= right), spans=spans((0, seconds)))
        for place, sample in enumerate(dataset.samples)
    ]


def test_two_runs_side_by_side():
    dataset = samples(12)
    one = score(dataset, [System("run", predictions(dataset, 4, 5))], ["strict"])[0]
    two = score(dataset, [System("run", predictions(dataset, 10, 8))], ["strict"])[0]
    lines = {line.split()[0]: line for line in differences.metric_differences(one, two).splitlines()[1:]}
    assert lines["Acc"].split()[1:4] == ["33.3", "83.3", "+50.0"]
    assert lines["Acc"].split()[-3:] == ["0", "6", "0.0312"]
    drawn = [float(line.split()[-7]) for line in lines.values() if line.split()[-7] != "-"]
    adjusted = [float(line.split()[-6]) for line in lines.values() if line.split()[-6] != "-"]
    assert adjusted == pytest.approx(holm(drawn), abs=1e-3 * len(drawn))
    assert min(adjusted) == 10 * min(drawn)
    tests = [float(line.split()[-1]) for line in lines.values() if line.split()[-1] != "-"]
    assert len(tests) == 8
    assert lines["Acc"].split()[-4] == "0.2500"  # 8 x 2 x 0.5 ** 6
    assert lines["mIoU"].split()[1:4] == ["50.0", "80.0", "+30.0"]
    assert lines["mIoU"].split()[-1] == "-"
    assert "J" not in lines


def test_a_published_preset_shows_its_own_columns_and_what_it_leaves_out():
    dataset = samples(4)
    some = predictions(dataset, 4, 5)[:3]
    strict, theirs = score(dataset, [System("run", some)], ["strict", "nextgqa"])
    assert strict.metrics["mIoU"].mean == pytest.approx(0.375)
    assert theirs.metrics["mIoU"].mean == pytest.approx(0.5)
    assert (theirs.metrics["mIoU"].n_total, theirs.metrics["mIoU"].n_missing) == (4, 1)
    text = tables.report([theirs])
    assert text.startswith("preset nextgqa: NExT-GQA")
    assert tables.main_table([theirs]).split()[:4] == ["Acc@GQA", "Acc@QA", "mIoP", "IoP@0.3"]
    row = next(line for line in tables.means_table(theirs).splitlines() if line.startswith("mIoU"))
    assert row.split()[-5:] == ["4", "3", "1", "0", "0"]
    assert "n_unparsed" in text
