"""The preset st-evidence and the format st-evidence against the original's formulas, stated here once more.

The statements below follow the description of `eval_st_evidence.py`, defects among them, and share no code with
what they check.
"""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evqa import masks
from evqa.metrics import METRICS
from evqa.metrics.answer import reads_as_right
from evqa.metrics.case import Case
from evqa.metrics.frames import compare, gold_masks
from evqa.metrics.presets import PRESETS
from evqa.official.original import read_segments
from evqa.official.scores import OfficialFiles
from evqa.schema import Prediction, Sample, Span, Track
from evqa.scoring.official_files import score_file

LEGACY = PRESETS["st-evidence"].metrics
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

times = st.integers(0, 60).map(lambda tenths: tenths / 4)
pairs = st.lists(st.tuples(times, times).map(lambda pair: tuple(sorted(pair))), max_size=4)


def original_time(predicted: list, gold: list) -> tuple[float, float]:
    """(IoU, IoP) by sums over all pairs of segments."""

    def size(segments: list) -> float:
        return sum(max(0, end - start) for start, end in segments)

    shared = sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in predicted for b in gold)
    union = size(gold) + size(predicted) - shared
    if not (predicted and gold):
        return 0.0, 0.0
    return shared / union if union > 0 else 0.0, shared / size(predicted) if size(predicted) > 0 else 0.0


def case_of(predicted: list | None, gold: list) -> Case:
    sample = Sample(
        id="s",
        video_id="v",
        video=Path("v"),
        question="?",
        options=("x", "y"),
        answer=0,
        spans=tuple(Span(*pair) for pair in gold),
    )
    spans = None if predicted is None else tuple(Span(*pair) for pair in predicted)
    return Case(sample, Prediction(sample_id="s", status="ok", answer=0, spans=spans))


@FEW
@given(pairs, pairs)
def test_times_are_scored_by_the_formulas_of_the_original(predicted: list, gold: list):
    case = case_of(predicted, gold)
    iou, iop = original_time(predicted, gold)
    assert LEGACY["mIoU"].value(case) == pytest.approx(iou, abs=1e-9)
    assert LEGACY["mIoP"].value(case) == pytest.approx(iop, abs=1e-9)
    assert LEGACY["t-mean"].value(case) == pytest.approx((iou + iop) / 2, abs=1e-9)
    for threshold in (0.3, 0.5):
        if abs(iou - threshold) > 1e-9:
            assert LEGACY[f"IoU@{threshold}"].value(case) == (iou >= threshold)
        if abs(iop - threshold) > 1e-9:
            assert LEGACY[f"IoP@{threshold}"].value(case) == (iop >= threshold)


@FEW
@given(st.integers(1, 12), times, st.integers(1, 40))
def test_k_copies_of_a_right_segment_give_iou_k_in_the_original_and_1_in_strict(k: int, start: float, quarters: int):
    gold = [(start, start + quarters / 4)]
    case = case_of(gold * k, gold)
    # I = k |G|, |P| = k |G|, so IoU = k |G| / (|G| + k |G| - k |G|) = k
    assert LEGACY["mIoU"].value(case) == pytest.approx(k)
    assert METRICS["mIoU"].value(case) == 1.0
    assert METRICS["mIoP"].value(case) == 1.0


# Masks


def original_frame(predicted: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    """(J, F) of one frame: both empty 1, one empty 0."""
    if not predicted.any() and not gold.any():
        return 1.0, 1.0
    if not predicted.any() or not gold.any():
        return 0.0, 0.0
    return (predicted & gold).sum() / (predicted | gold).sum(), original_f(predicted, gold)


def original_f(predicted: np.ndarray, gold: np.ndarray) -> float:
    height, width = predicted.shape
    radius = math.ceil(0.008 * math.sqrt(height**2 + width**2))
    predicted_outline, gold_outline = original_outline(predicted), original_outline(gold)
    if not predicted_outline.any() or not gold_outline.any():
        return float(not predicted_outline.any() and not gold_outline.any())
    precision = (predicted_outline & dilated(gold_outline, radius)).sum() / predicted_outline.sum()
    recall = (gold_outline & dilated(predicted_outline, radius)).sum() / gold_outline.sum()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def original_outline(mask: np.ndarray) -> np.ndarray:
    outline = np.zeros_like(mask)
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            right = mask[y, x] != mask[y, min(x + 1, width - 1)]
            below = mask[y, x] != mask[min(y + 1, height - 1), x]
            both = mask[y, x] != mask[min(y + 1, height - 1), min(x + 1, width - 1)]
            if y == height - 1:
                below = both = False
            if x == width - 1:
                right = both = False
            outline[y, x] = right or below or both
    return outline


def dilated(outline: np.ndarray, radius: int) -> np.ndarray:
    wide = np.zeros_like(outline)
    for y, x in np.argwhere(outline):
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                is_inside = 0 <= y + dy < outline.shape[0] and 0 <= x + dx < outline.shape[1]
                if is_inside and dy * dy + dx * dx <= radius * radius:
                    wide[y + dy, x + dx] = True
    return wide


SIZE = (7, 9)
frames = st.dictionaries(
    st.integers(0, 4), st.integers(0, 2**63 - 1).map(lambda bits: np.array([bits >> n & 1 for n in range(63)]) > 0)
)


@FEW
@given(frames, frames)
def test_masks_are_scored_by_the_formulas_of_the_original(predicted: dict, gold: dict):
    predicted_frames, gold_frames = (
        {index: flat.reshape(SIZE) for index, flat in side.items()} for side in (predicted, gold)
    )
    track = Track(masks={index: masks.encode(mask) for index, mask in predicted_frames.items()})
    gold_track = Track(masks={index: masks.encode(mask) for index, mask in gold_frames.items()})
    prediction = Prediction(sample_id="s", status="ok", tracks=(track,), mask_frames=tuple(sorted(predicted_frames)))
    sample = case_of(None, []).sample.model_copy(update={"tracks": (gold_track,)})
    read = gold_masks(sample)
    assert read is not None
    case = Case(sample, prediction, compare(read, prediction, 5))
    empty = np.zeros(SIZE, dtype=bool)
    scored = [original_frame(mask, gold_frames.get(index, empty)) for index, mask in predicted_frames.items()]
    mean = np.mean(scored, axis=0) if scored else np.zeros(2)
    assert LEGACY["J"].value(case) == pytest.approx(mean[0], abs=1e-9)
    assert LEGACY["F"].value(case) == pytest.approx(mean[1], abs=1e-9)
    assert LEGACY["J&F"].value(case) == pytest.approx(mean.mean(), abs=1e-9)


# Records, malformed ones among them

number = st.one_of(st.integers(-3, 20), st.floats(-3, 20).map(lambda value: round(value, 2)))
element = st.one_of(
    st.lists(number, min_size=2, max_size=2),
    st.lists(number, max_size=3),
    st.fixed_dictionaries({"start": number, "end": number}),
    st.fixed_dictionaries({"start_time": number, "end_time": number}),
    st.fixed_dictionaries({"start": number}),
    st.fixed_dictionaries({"start": number, "end_time": number}),
    st.lists(number.map(str), min_size=2, max_size=2),
    st.lists(st.sampled_from(["1.5", " 4 ", "x", True]), min_size=2, max_size=2),
    st.sampled_from(["0:05", None, True, {}, []]),
)
segments = st.one_of(st.lists(element, max_size=4), st.lists(number, max_size=5), st.sampled_from([None, "x", 3, {}]))
answers = st.sampled_from(["A", "B", "F", "a", "A.", "(A)", "red", " red ", "blue", "", None, 3, ["A"]])
parsed = st.one_of(
    st.none(), st.just([]), st.fixed_dictionaries({"answer": answers, "segments": segments}), st.just({"answer": "A"})
)

OPTIONS = ["red", "blue"]


def original_element(entry: object) -> tuple | None:
    ends = entry[:2] if isinstance(entry, list) and len(entry) >= 2 else None
    for start, end in (("start", "end"), ("start_time", "end_time")):
        if ends is None and isinstance(entry, dict) and start in entry and end in entry:
            ends = [entry[start], entry[end]]
    try:
        return tuple(float(end) for end in ends) if ends else None
    except (TypeError, ValueError):
        return None


def original_segments(response: object) -> tuple[list, str | None]:
    """Segments and the kind of error, case by case."""
    if response is None:
        return [], "none_responses"
    value = response.get("segments", []) if isinstance(response, dict) else None
    if not isinstance(value, list):
        return [], "parse_errors"
    if not value:
        return [], "empty_segments"
    if all(isinstance(entry, int | float) for entry in value):
        return [(value[place], value[place + 1]) for place in range(0, len(value) - 1, 2)], None
    elements = [original_element(entry) for entry in value]
    return [pair for pair in elements if pair], "malformed_segments" if None in elements else None


def original_answer(answer: object) -> bool:
    if answer is None:
        return False
    text = str(answer).strip()
    if text in {"A", "B"}:
        text = OPTIONS["AB".index(text)]
    return text == "red"


@FEW
@given(parsed)
def test_malformed_records_are_read_as_the_original_reads_them(response: object):
    segments, problem = original_segments(response)
    assert read_segments(response) == (tuple(segments), problem)
    answer = response.get("answer") if isinstance(response, dict) else None
    text = "" if answer is None else str(answer)
    assert reads_as_right(text, OPTIONS, "red") == original_answer(answer)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(responses=st.lists(parsed, min_size=1, max_size=5), golds=st.lists(pairs, min_size=5, max_size=5))
def test_a_whole_file_has_the_numbers_of_the_original(tmp_path: Path, responses: list, golds: list):
    """Every row of gold counts; the last one has no prediction."""
    entries = {f"e{place}": {"parsed_response": response} for place, response in enumerate(responses)}
    predictions, table = tmp_path / "p.json", tmp_path / "gold.csv"
    predictions.write_text(json.dumps(entries))
    golds = [*golds[: len(responses)], [(1.0, 2.0)]]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["entry_id", "candidates", "answer", "segment"])
        for place, gold in enumerate(golds):
            writer.writerow([f"e{place}", str(OPTIONS), "red", str([list(pair) for pair in gold])])
    scores = score_file("st-evidence", OfficialFiles(predictions, table, None))
    read = [original_segments(response) for response in responses]
    ious = [original_time(segments, gold) for (segments, _), gold in zip(read, golds, strict=False)]
    size = len(responses) + 1
    assert scores.official("mIoU") == pytest.approx(sum(iou for iou, _ in ious) / size, abs=1e-9)
    assert scores.official("mIoP") == pytest.approx(sum(iop for _, iop in ious) / size, abs=1e-9)
    answers = [response.get("answer") if isinstance(response, dict) else None for response in responses]
    assert scores.official("accuracy") == pytest.approx(sum(map(original_answer, answers)) / size)
    assert scores.official("format errors") == sum(problem is not None for _, problem in read)
    assert scores.tables[0].metrics["accuracy"].n_missing == 1


def test_times_that_are_no_numbers_count_nothing():
    assert read_segments({"segments": [[float("nan"), 5.0], [7.0, 3.0], [-2.0, 1.0]]}).problem is None
    assert original_time([(7.0, 3.0)], [(0.0, 10.0)]) == (0.0, 0.0)
    from_file = json.loads('{"segments": [[NaN, 5], [Infinity, -Infinity]]}')
    assert len(read_segments(from_file).spans) == 2
