"""Metrics of agents from records: traces with a known outcome, tables worked by hand, curves and denominators."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evqa import media
from evqa.__main__ import main
from evqa.datasets import Dataset
from evqa.files.jsonl import write_records
from evqa.metrics import episode
from evqa.metrics.intervals import holm, paired_ratio_difference, ratio_interval
from evqa.metrics.means import Cell, Column, ratio_of_columns
from evqa.metrics.presets import PRESETS
from evqa.report import compare_costs, differences, episode_tables, tables
from evqa.schema import FrameRef, Prediction, Sample, Span, ToolCall, ToolResult, Turn, Usage
from evqa.scoring.engine import UNRECORDED, System, score
from evqa.scoring.episodes import budgets, summarise
from evqa.scoring.results import BudgetAxis, Scores, read_scores, write_scores

GOLD = (Span(10, 20), Span(40, 45))


def sample(name: str, video: str, spans: tuple[Span, ...] | None = GOLD) -> Sample:
    return Sample(
        id=name,
        video_id=video,
        video=Path(f"/nowhere/{video}.mp4"),
        question="?",
        options=("w", "x", "y", "z"),
        answer=1,
        spans=spans,
    )


def frames(*seconds: float | None) -> tuple[FrameRef, ...]:
    """Frames of a video of 2 frames per second; those without a second have their place as the index."""
    return tuple(
        FrameRef(index=place if second is None else int(2 * second), second=second)
        for place, second in enumerate(seconds)
    )


def call(number: int, name: str, *seconds: float, spans: tuple[Span, ...] = (), ok: bool = True) -> dict[str, Any]:
    """A tool call with its result, as fields of a turn."""
    return {
        "calls": (ToolCall(id=f"c{number}", name=name, arguments="{}"),),
        "results": (ToolResult(call=f"c{number}", ok=ok, text="", frames=frames(*seconds), spans=spans),),
    }


USAGE = Usage(input_tokens=100, output_tokens=10, seconds=1.0, cost=0.5)


def turn(*, usage: Usage | None = USAGE, **fields: Any) -> Turn:
    return Turn(answer_fields=("answer", "spans"), prompt="?", reply="", usage=usage, **fields)


def episode_of(name: str, *turns: Turn, answer: int | None = None, **fields: Any) -> Prediction:
    fields = {"status": "ok", "stop": "answered", "seconds": 4.0} | fields
    return Prediction(sample_id=name, turns=turns, answer=answer, **fields)


SAMPLES = (
    *(sample(f"s{number}", f"v{number % 3}") for number in range(7)),
    sample("open", "v0", None),
    sample("none", "v1", ()),
    sample("missing", "v2"),
)
DATASET = Dataset("ten", Path("/nowhere"), SAMPLES, (), "0" * 64)

SIGHT, ELSEWHERE = call(1, "frames_at", 12.0, 30.0), call(1, "frames_at", 50.0)

RECORDS = [
    # looks at the evidence after a search, then answers right
    episode_of("s0", turn(**call(1, "search", 50.0)), turn(**call(2, "frames_at", 12.0, 50.0)), turn(), answer=1,
               spans=(Span(10, 20),)),
    episode_of("s1", turn(), answer=1, spans=()),  # guesses right
    episode_of("s2", turn(**ELSEWHERE), turn(), answer=1, spans=(Span(48, 52),)),  # right, has looked elsewhere
    episode_of("s3", turn(**SIGHT), turn(), answer=0, spans=GOLD),  # looks right, answers wrong
    episode_of("s4", turn(**call(1, "zoom", ok=False)), turn(), answer=3, spans=(Span(0, 60),)),  # wrong, saw nothing
    episode_of("s5", turn(**SIGHT), turn(usage=None), status="failed", error="no reply", stop=None),
    episode_of("s6", turn(**SIGHT), turn(), stop="max_turns"),  # looks right, unparsed
    episode_of("open", turn(frames=frames(1.0, 2.0)), answer=1),
    episode_of("none", turn(frames=frames(1.0)), answer=1, spans=()),
]  # fmt: skip


@pytest.fixture(scope="module")
def scores() -> Scores:
    (row,) = score(DATASET, [System("run", RECORDS)], ["agent"])
    return row


def mean(scores: Scores, title: str) -> float | None:
    return scores.metrics[title].mean


def test_right_and_wrong_by_evidence_seen_is_the_table_of_the_traces(scores: Scores):
    table = {title: scores.metrics[title] for title in ("supported correct", "unsupported correct")} | {
        title: scores.metrics[title] for title in ("wrong despite evidence", "wrong without evidence")
    }
    assert {title: cell.mean for title, cell in table.items()} == {
        "supported correct": 1 / 8,  # s0
        "unsupported correct": 2 / 8,  # s1, s2
        "wrong despite evidence": 2 / 8,  # s3, s6
        "wrong without evidence": 3 / 8,  # s4, s5 (failed), missing
    }
    assert {cell.n_total for cell in table.values()} == {8}  # without the sample that is not annotated, and that of ()
    assert mean(scores, "blind correct") == 1 / 10  # s1
    assert scores.metrics["blind correct"].n_total == 10
    ratios = {title: scores.derived[title].value for title in ("Acc if seen", "Acc if not seen", "supported share")}
    assert ratios == {"Acc if seen": 1 / 3, "Acc if not seen": 2 / 5, "supported share": 1 / 3}


def test_accuracy_stands_over_all_and_over_answered_samples(scores: Scores):
    assert mean(scores, "Acc") == 5 / 10
    assert mean(scores, "Acc answered") == pytest.approx(5 / 7)
    assert mean(scores, "parse rate") == 7 / 10
    assert mean(scores, "error rate") == 2 / 10
    for title in ("Acc", "Acc answered", "parse rate", "error rate"):
        assert scores.metrics[title].low is not None, title
        assert scores.metrics[title].n_total == 10, title


def test_evidence_in_any_and_in_every_span_is_counted_apart(scores: Scores):
    assert mean(scores, "evidence seen") == 3 / 8  # s0, s3, s6; s5 failed
    assert mean(scores, "evidence in frames") == 3 / 8
    assert mean(scores, "all evidence seen") == 0
    assert mean(scores, "spans seen") == pytest.approx(3 * 0.5 / 8)
    both = [episode_of("s0", turn(**call(1, "frames_at", 15.0, 40.0)), turn(), answer=1)]
    (row,) = score(DATASET, [System("run", both)], ["agent"])
    assert mean(row, "all evidence seen") == mean(row, "spans seen") == 1 / 8


def test_what_is_cited_is_compared_with_the_evidence(scores: Scores):
    cited = {name: row.values for name, row in scores.samples.items()}
    assert cited["s0"]["mIoU"] == pytest.approx(10 / 15)
    assert (cited["s0"]["mIoP"], cited["s0"]["coverage"]) == (1.0, pytest.approx(10 / 15))
    assert (cited["s4"]["mIoP"], cited["s4"]["coverage"]) == (pytest.approx(15 / 60), 1.0)
    assert (cited["s1"]["mIoU"], cited["s1"]["coverage"]) == (0.0, 0.0)
    assert (cited["none"]["mIoU"], cited["none"]["coverage"]) == (1.0, 1.0)  # () is what the ground truth states
    assert (cited["open"]["mIoU"], cited["missing"]["mIoU"]) == (None, 0.0)
    assert scores.metrics["mIoU"].n_total == 9


def test_costs_include_failures_and_leave_out_what_is_not_recorded(scores: Scores):
    assert mean(scores, "turns") == pytest.approx((3 + 1 + 2 + 2 + 2 + 2 + 2 + 1 + 1) / 9)
    assert mean(scores, "calls") == pytest.approx((2 + 0 + 1 + 1 + 1 + 1 + 1 + 0 + 0) / 9)
    assert mean(scores, "invalid calls") == pytest.approx(1 / 9)
    assert mean(scores, "frames") == pytest.approx((2 + 0 + 1 + 2 + 0 + 2 + 2 + 2 + 1) / 9)  # s0 gets frame 100 twice
    assert mean(scores, "returned frames") == pytest.approx((3 + 0 + 1 + 2 + 0 + 2 + 2 + 0 + 0) / 9)
    assert mean(scores, "images") == pytest.approx(3 / 9)
    for title in ("turns", "calls", "frames"):
        assert (scores.metrics[title].n_total, scores.metrics[title].n_unrecorded) == (10, 1), title  # missing
    assert mean(scores, "tokens") == pytest.approx(110 * (3 + 1 + 2 + 2 + 2 + 2 + 1 + 1) / 8)  # without s5
    assert mean(scores, "dollars") == pytest.approx(0.5 * 14 / 8)
    assert (scores.metrics["tokens"].n_unrecorded, scores.metrics["dollars"].n_unrecorded) == (2, 2)
    assert scores.metrics["tokens"].unit == "tokens"
    per_correct = scores.derived["tokens per correct"]
    assert (per_correct.value, per_correct.unit, per_correct.n_total) == (pytest.approx(110 * 14 / 5), "tokens", 8)
    assert scores.derived["invalid share"].value == pytest.approx(1 / 7)


def test_tool_calls_and_stop_reasons_are_counted(scores: Scores):
    assert scores.episodes is not None
    counts = {name: tuple(tool.model_dump().values()) for name, tool in scores.episodes.tools.items()}
    assert counts == {"frames_at": (5, 0, 5), "search": (1, 0, 1), "zoom": (1, 1, 1)}
    assert scores.episodes.stops == {"answered": 7, "failed": 1, "max_turns": 1, "missing": 1}
    many = [episode_of("s0", *(turn(**call(1, f"tool {number}" + "x" * 200)) for number in range(60)), answer=1)]
    names = list(summarise(DATASET, many).tools)
    assert len(names) == 51
    assert "(other names)" in names
    assert max(map(len, names)) == 80


def points(scores: Scores, axis: Any) -> dict[int, tuple[float | None, ...]]:
    assert scores.episodes is not None
    return {
        point.budget: tuple(point.metrics[title].mean for title in episode_tables.CURVE_METRICS)
        for point in scores.episodes.curves[axis]
    }


def test_budget_curves_cut_the_recorded_episodes_off(scores: Scores):
    """Right by turn 1: s1, open, none; by turn 2: also s2; by turn 3: s0. Evidence: from turn 2 on s3, s6; then s0."""
    assert points(scores, "turns") == {1: (0.3, 0.0, 0.0), 2: (0.4, 2 / 8, 0.0), 3: (0.5, 3 / 8, 1 / 8)}
    assert points(scores, "calls") == {0: (0.3, 0.0, 0.0), 1: (0.4, 2 / 8, 0.0), 2: (0.5, 3 / 8, 1 / 8)}
    assert points(scores, "frames") == {
        0: (0.1, 0.0, 0.0),  # s1
        1: (0.3, 0.0, 0.0),  # s2, none
        2: (0.5, 3 / 8, 1 / 8),  # s0, open
    }
    assert scores.episodes is not None
    for curve in scores.episodes.curves.values():
        for point in curve:
            assert {title: (m.n_total) for title, m in point.metrics.items()} == {
                "Acc": 10, "evidence seen": 8, "supported correct": 8,
            }  # fmt: skip
        for title in episode_tables.CURVE_METRICS:
            last, whole = curve[-1].metrics[title], scores.metrics[title]
            assert (last.mean, last.low, last.high) == (whole.mean, whole.low, whole.high)
        assert curve[0].metrics["Acc"].n_failed == 1


def test_forced_answers_replace_those_beyond_the_budget_alone():
    answers: dict[tuple[str, BudgetAxis, int], int | None] = {
        ("s0", "turns", 1): 1,
        ("s0", "turns", 2): 1,
        ("s1", "turns", 1): 0,  # has answered by then
        ("s6", "turns", 3): 1,  # ended without an answer
        ("s3", "turns", 1): None,  # could not be read
        ("s5", "turns", 1): 1,  # failed: wrong at every budget
    }
    forced = {key: Prediction(sample_id=key[0], status="ok", answer=answer) for key, answer in answers.items()}
    failed = Prediction(sample_id="s2", status="failed", error="no reply")
    summary = summarise(DATASET, RECORDS, {**forced, ("s2", "turns", 1): failed})
    accuracies = {point.budget: point.metrics["Acc"].mean for point in summary.curves["turns"]}
    assert accuracies == {1: 0.4, 2: 0.5, 3: 0.6}
    supported = {point.budget: point.metrics["supported correct"].mean for point in summary.curves["turns"]}
    assert supported == {1: 0.0, 2: 0.0, 3: 2 / 8}  # s0 has seen evidence by turn 3
    assert summary.is_forced
    assert summarise(DATASET, RECORDS).is_forced is False
    with pytest.raises(ValueError, match="forced answers are of samples of ten, got one of 'who'"):
        summarise(DATASET, RECORDS, {("who", "turns", 1): failed})


@pytest.mark.parametrize(
    ("largest", "is_fine", "expected"),
    [
        (1, True, [1]),
        (3, True, [1, 2, 3]),
        (11, True, [*range(1, 11), 16]),
        (40, True, [*range(1, 11), 16, 32, 64]),
        (1, False, [1]),
        (9, False, [1, 2, 4, 8, 16]),
    ],
)
def test_budgets_end_where_no_episode_is_cut_off(largest: int, is_fine: bool, expected: list[int]):
    assert budgets(largest, is_fine=is_fine) == expected


def test_a_model_that_samples_the_video_itself_has_no_support_and_no_curve():
    answers = [episode_of("s0", turn(), answer=1, stop=None), episode_of("s1", turn(), answer=0, stop=None)]
    (row,) = score(DATASET, [System("run", answers)], ["agent"])
    unrecorded = {title for title, reason in row.left_out.items() if reason == UNRECORDED}
    assert unrecorded == {
        *("evidence seen", "evidence in frames", "all evidence seen", "spans seen"),
        *("supported correct", "unsupported correct"),
        *("wrong despite evidence", "wrong without evidence", "blind correct"),
    }
    assert unrecorded.isdisjoint(row.metrics)
    assert (mean(row, "Acc"), mean(row, "turns"), mean(row, "tokens")) == (1 / 10, 1, 110)
    assert (mean(row, "frames"), row.metrics["frames"].n_unrecorded) == (None, 10)
    assert row.episodes is not None
    assert row.episodes.curves == {}
    text = tables.report([row])
    assert "not scored: evidence seen, evidence in frames, all evidence seen, spans seen, supported correct" in text
    assert "no prediction states the frames that the model inspected" in text


def test_a_record_without_a_trace_among_others_counts_as_not_seen_and_is_counted():
    mixed = [RECORDS[0], episode_of("s1", turn(), answer=1, stop=None)]
    (row,) = score(DATASET, [System("run", mixed)], ["agent"])
    assert (mean(row, "supported correct"), mean(row, "unsupported correct")) == (1 / 8, 0)
    assert (row.metrics["evidence seen"].n_total, row.metrics["evidence seen"].n_unrecorded) == (8, 1)
    assert "not recorded" in episode_tables.episode_parts(row)[0]


def test_uniform_frames_in_the_prompt_are_inspected():
    uniform = [episode_of("s0", turn(frames=frames(0.0, 15.0)), answer=1, stop=None)]
    (row,) = score(DATASET, [System("run", uniform)], ["agent"])
    assert mean(row, "supported correct") == 1 / 8
    assert (mean(row, "frames"), mean(row, "images"), mean(row, "calls")) == (2, 2, 0)
    assert points(row, "frames") == {0: (0, 0, 0), 1: (0, 0, 0), 2: (0.1, 1 / 8, 1 / 8)}


# What counts as inspected


def sight(*turns: Turn, gold: tuple[Span, ...] = GOLD) -> tuple[int, int, int] | None:
    step = episode.first_sight(episode_of("s0", *turns, answer=1), gold)
    return None if step is None else (step.turn, step.calls, step.frames)


def test_results_count_from_the_next_reply_on():
    assert sight(turn(**call(1, "frames_at", 12.0)), turn()) == (2, 1, 1)
    assert sight(turn(**call(1, "frames_at", 12.0))) is None
    assert sight(turn(frames=frames(3.0, 12.0))) == (1, 0, 2)


def test_a_span_holds_its_ends_and_a_segment_has_to_share_time():
    for second, is_inside in ((10.0, True), (20.0, True), (9.5, False), (20.5, False)):
        assert (sight(turn(frames=frames(second))) is not None) == is_inside, second
    for span, is_inside in (
        (Span(0, 10), False),
        (Span(20, 40), False),
        (Span(0, 10.5), True),
        (Span(12, 13), True),
        (Span(0, 60), True),
        (Span(15, 15), True),
        (Span(20, 20), True),
        (Span(30, 30), False),
    ):
        step = sight(turn(**call(1, "search_subtitles", spans=(span,))), turn())
        assert (step is not None) == is_inside, span
    point = (Span(30, 30),)
    assert sight(turn(frames=frames(30.0)), gold=point) == (1, 0, 1)
    assert sight(turn(**call(1, "subtitles", spans=(Span(29, 31),))), turn(), gold=point) == (2, 1, 0)


def test_segments_beside_frames_state_where_these_are_from():
    """`frames_between(0, 60)` shows two frames, not a minute; subtitles are read where no frame is shown."""
    whole = (Span(0, 60),)
    assert sight(turn(**call(1, "frames_between", 0.0, 60.0, spans=whole)), turn()) is None
    assert sight(turn(**call(1, "subtitles", spans=whole)), turn()) == (2, 1, 0)
    reads = [episode_of("s0", turn(**call(1, "subtitles", spans=whole)), turn(), answer=1)]
    (row,) = score(DATASET, [System("run", reads)], ["agent"])
    assert (mean(row, "evidence seen"), mean(row, "evidence in frames")) == (1 / 8, 0)
    assert (mean(row, "supported correct"), mean(row, "blind correct")) == (1 / 8, 0)


@pytest.mark.parametrize("name", ["submit", "submit_segments"])
def test_a_submission_is_a_citation_and_no_call_for_evidence(name: str):
    assert sight(turn(**call(1, name, 12.0, spans=GOLD)), turn()) is None
    submitted = [episode_of("s0", turn(**call(1, "submit", spans=GOLD)), answer=1, spans=GOLD, stop="submitted")]
    (row,) = score(DATASET, [System("run", submitted)], ["agent"])
    assert (mean(row, "calls"), mean(row, "blind correct"), mean(row, "supported correct")) == (0, 0.1, 0)
    assert row.episodes is not None
    assert row.episodes.tools["submit"].calls == 1


def test_spans_that_overlap_are_one_and_other_videos_hold_no_evidence():
    twice = (Span(10, 15), Span(12, 20), Span(40, 45))
    prediction = episode_of("s0", turn(frames=frames(18.0)), answer=1)
    assert episode.share_of_spans(prediction, twice) == 0.5
    second_video = turn(frames=(FrameRef(video=1, index=3, second=12.0),))
    assert sight(second_video) is None
    assert [step.frames for step in episode.steps(episode_of("s0", second_video))] == [1]


def test_frames_without_seconds_leave_support_unrecorded():
    folder = [episode_of("s0", turn(frames=frames(None, None)), answer=1)]
    (row,) = score(DATASET, [System("run", folder)], ["agent"])
    assert row.left_out["evidence seen"] == UNRECORDED
    assert mean(row, "frames") == 2
    assert mean(row, "blind correct") == 0


@pytest.mark.parametrize(
    "usage",
    [
        None,
        Usage(seconds=1.0),
        Usage(input_tokens=1, seconds=1.0),
        Usage(input_tokens=1, output_tokens=1, cost=1.0, num_unknown=1, seconds=1.0),
    ],
)
def test_a_usage_that_is_unknown_in_part_makes_the_whole_unknown(usage: Usage | None):
    prediction = episode_of("s0", turn(), turn(usage=usage))
    assert episode.tokens(prediction) is None
    assert episode.dollars(prediction) is None
    assert episode.tokens(episode_of("s0", turn(), turn())) == 220


@pytest.mark.parametrize("number", [-1, 10**13, 10**400])
def test_absurd_amounts_are_unknown_and_names_of_tools_are_one_line(number: int):
    usage = Usage(input_tokens=number, output_tokens=1, seconds=1.0, cost=float(min(number, 10**13)))
    entries = turn(usage=usage, **call(1, "look\x1b[31m\nhere|" + "x" * 100))
    records = [episode_of("s0", entries, turn(), answer=1, seconds=float(min(number, 10**300)))]
    (row,) = score(DATASET, [System("run", records)], ["agent"])
    assert (mean(row, "tokens"), mean(row, "dollars"), mean(row, "seconds")) == (None, None, None)
    assert row.episodes is not None
    (name,) = row.episodes.tools
    assert name.startswith("look?[31m?here|xxx")
    assert len(name) == 80
    assert "look?[31m?here\\|x" in tables.report([row], style="markdown")


# Denominators


TURNS = st.lists(
    st.sampled_from(
        [
            turn(),
            turn(usage=None),
            turn(**SIGHT),
            turn(**ELSEWHERE),
            turn(**call(1, "zoom", ok=False)),
            turn(frames=frames(11.0)),
            turn(frames=frames(None)),
            turn(**call(1, "submit", spans=GOLD)),
        ]
    ),
    max_size=4,
)
RECORDS_OF_A_SAMPLE = st.none() | st.builds(
    lambda turns, answer, spans, is_failed, stop: episode_of(
        "s0",
        *turns,
        answer=None if is_failed else answer,
        spans=spans,
        stop=stop,
        **({"status": "failed", "error": "x"} if is_failed else {}),
    ),
    TURNS,
    st.none() | st.integers(0, 3),
    st.sampled_from([None, (), GOLD, (Span(0, 1),)]),
    st.booleans(),
    st.sampled_from([None, "answered", "max_turns"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS_OF_A_SAMPLE, min_size=len(SAMPLES), max_size=len(SAMPLES)))
def test_predictions_change_no_denominator(records: list[Prediction | None]):
    entries = [
        record.replace(sample_id=each.id) for record, each in zip(records, SAMPLES, strict=True) if record is not None
    ]
    (row,) = score(DATASET, [System("run", entries)], ["agent"])
    totals = {
        "evidence seen": 8,
        "evidence in frames": 8,
        "all evidence seen": 8,
        "spans seen": 8,
        "mIoU": 9,
        "mIoP": 9,
        "coverage": 9,
    }
    totals |= {title: 8 for title in PRESETS["agent"].metrics if "correct" in title or "wrong" in title}
    totals |= {"blind correct": 10}
    for title, value in row.metrics.items():
        assert value.n_total == totals.get(title, 10), title
        counts = (value.n_scored, value.n_missing, value.n_failed, value.n_unparsed, value.n_unrecorded)
        assert sum(counts) == value.n_total, title
        if value.unit == "fraction" and title != "Acc answered":
            assert sum(each.values[title] is not None for each in row.samples.values()) == value.n_total, title
    cells = [row.metrics[title].mean for title in row.metrics if title.endswith(("correct", "evidence"))
             and title != "blind correct"]  # fmt: skip
    if cells:
        unrecorded = row.metrics["supported correct"].n_unrecorded
        assert sum(cell or 0 for cell in cells) == pytest.approx(1 - unrecorded / 8)
    assert row.episodes is not None
    for curve in row.episodes.curves.values():
        accuracies = [point.metrics["Acc"].mean or 0 for point in curve]
        assert accuracies == sorted(accuracies)
        assert accuracies[-1] == mean(row, "Acc")
        assert {point.metrics["Acc"].n_total for point in curve} == {10}
        assert {point.metrics["evidence seen"].n_total for point in curve} == {8}


# Ratios


def test_a_ratio_of_sums_leaves_out_samples_without_a_value():
    over, under = Column.of_length(4), Column.of_length(4)
    for place, (cost, right) in enumerate(((10, 1), (20, 0), (None, 1), (30, 1))):
        over.put(place, Cell(cost, "scored" if cost is not None else "unrecorded"))
        under.put(place, Cell(right))
    value = ratio_of_columns([over], [under], np.array([0, 1, 2, 2]))
    assert value is not None
    assert (value.value, value.num_samples) == (30.0, 3)
    nothing = Column.of_length(4)
    assert ratio_of_columns([over], [nothing], np.arange(4)) is None
    assert ratio_interval([1.0, 2.0], [1.0, 0.0], ["v", "w"]) is None  # a quarter of the draws has no denominator


def test_intervals_of_ratios_cover_the_true_value_as_often_as_they_state():
    """Cost 10 to 30, right with probability 0.5 (dearer samples less often): true ratio E[cost] / E[right]."""
    rng = np.random.default_rng(5)
    truth, num_runs, covered = 20 / 0.5, 200, 0
    for _ in range(num_runs):
        cost = rng.uniform(10, 30, 80)
        right = rng.random(80) < 0.75 - cost / 80
        interval = ratio_interval(cost, right.astype(float), np.repeat(np.arange(40), 2), replicates=400)
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert 0.89 <= covered / num_runs <= 0.99


def test_paired_ratios_are_compared_on_the_same_draws():
    cost, right, videos = [4.0, 6.0, 8.0, 2.0], [1.0, 1.0, 1.0, 1.0], ["a", "b", "c", "d"]
    dearer = [value + 1 for value in cost]
    gain = paired_ratio_difference((cost, right), (dearer, right), videos)
    assert gain is not None
    assert (gain.mean, gain.low, gain.high) == (1.0, pytest.approx(1.0), pytest.approx(1.0))
    assert gain.p == 1 / 2000
    assert paired_ratio_difference((cost, [0.0] * 4), (cost, right), videos) is None
    single = paired_ratio_difference((cost, right), (dearer, right), ["a"] * 4)
    assert single is not None
    assert (single.low, single.p) == (None, None)


# Files and tables


def test_scores_with_episodes_are_read_as_written_and_old_ones_without(scores: Scores, tmp_path: Path):
    path = tmp_path / "scores.json"
    write_scores(path, [scores])
    assert read_scores(path) == [scores]
    (entry,) = json.loads(path.read_text())
    assert entry["episodes"]["curves"]["turns"][0]["budget"] == 1
    del entry["episodes"]
    for value in entry["metrics"].values():
        value.pop("n_unrecorded", None)
    path.write_text(json.dumps([entry]))
    assert read_scores(path)[0].episodes is None


def test_tables_state_units_support_tools_and_curves(scores: Scores):
    text = tables.report([scores])
    for part in (
        "run, answers by evidence seen: share of samples",
        "run, tool calls",
        "run, stop reasons",
        "run, scores at a budget of turns",
        "n_unrecorded",
        "tokens per correct",
    ):
        assert part in text, part
    lines = [line.split() for line in episode_tables.episode_parts(scores)[0].splitlines()[1:]]
    assert [line[2] for line in lines[1:2]] == ["12.5"]
    row = next(line for line in tables.means_table(scores).splitlines() if line.startswith("dollars"))
    assert row.split()[1] == "0.8750"
    markdown = tables.report([scores], style="markdown")
    assert "| turns | Acc | evidence seen | supported correct |" in markdown
    assert "supported" in tables.report([scores], style="latex")
    csv_lines = episode_tables.curves_csv([scores]).splitlines()
    assert csv_lines[0] == "run,axis,budget,metric,mean,low,high,n_total"
    assert csv_lines[1].startswith("run,turns,1,Acc,0.300000,")
    assert len(csv_lines) == 1 + 3 * (3 + 3 + 3)


def test_the_best_of_a_column_is_marked_for_scores_alone(scores: Scores):
    worse = score(DATASET, [System("worse", RECORDS[4:])], ["agent"])[0]
    lines = [
        [cell.strip() for cell in line.split("|")]
        for line in tables.compact_table([scores, worse], "markdown", intervals=False).splitlines()
    ]
    marks = dict(zip(lines[0], lines[2], strict=True))
    assert marks["Acc"] == "**50.0**"
    assert all("**" not in line[lines[0].index("calls")] for line in lines[2:])
    csv_text = tables.compact_table([scores], "csv", intervals=False).splitlines()
    assert "percent; turns: turns; calls: calls" in csv_text[1]


# Commands


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A file of records and the folder of its data set beside it."""
    (tmp_path / "data").mkdir()
    samples = [each.replace(video=Path(f"{each.video_id}.mp4")) for each in SAMPLES]
    write_records(tmp_path / "data" / "samples.jsonl", samples)
    write_records(tmp_path / "run.jsonl", RECORDS)
    return tmp_path / "run.jsonl"


def command(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_an_agents_run_is_scored_on_support_without_being_asked(run: Path, capsys: pytest.CaptureFixture[str]):
    curves = run.with_name("curves.csv")
    data = run.with_name("data")
    assert command("score", run, "--data", data, "--baselines", "none", "--curves", curves) == 0
    text = capsys.readouterr().out
    assert "preset strict" in text
    assert "preset agent" in text
    assert "run, answers by evidence seen" in text
    assert f"budget curves written to {curves}" in text
    assert curves.read_text().startswith("run,axis,budget,metric")
    presets = [row.preset for row in read_scores(run.with_name("run.scores.json"))]
    assert presets == ["strict", "st-evidence", "agent"]


def test_one_preset_and_a_run_without_episodes_are_scored_as_before(run: Path, capsys: pytest.CaptureFixture[str]):
    data = run.with_name("data")
    assert command("score", run, "--data", data, "--preset", "strict", "--baselines", "none") == 0
    assert "preset agent" not in capsys.readouterr().out
    curves = run.with_name("curves.csv")
    arguments = ("score", run, "--data", data, "--baselines", "none", "--curves")
    assert command(*arguments, curves, "--preset", "strict") != 0
    assert f"--curves {curves} is of the preset agent, got --preset strict" in capsys.readouterr().err
    assert command(*arguments, run.with_name("curves.txt")) != 0
    assert "budget curves are written to a .csv file, got 'curves.txt'" in capsys.readouterr().err
    assert command(*arguments, run) != 0
    write_records(run, [Prediction(sample_id="s0", status="ok", answer=1)])
    assert command(*arguments, curves) != 0
    output = capsys.readouterr()
    assert "preset agent" not in output.out
    assert "they need records that state which frames the model inspected" in output.err
    assert not curves.exists()


def test_the_report_has_the_curves_and_the_units_of_costs(run: Path):
    out = run.with_name("report")
    twin = run.with_name("twin.jsonl")
    write_records(twin, RECORDS[3:])
    assert command("report", run, twin, "--data", run.with_name("data"), "--out", out) == 0
    page, markdown = (out / "report.html").read_text(), (out / "report.md").read_text()
    for axis in ("turns", "calls", "frames"):
        assert f"<b>Scores by {axis}</b>" in page
    assert '"digits":4' in page
    assert '"listed":["mIoU","evidence seen"]' in page
    assert "run, scores at a budget of turns" in markdown
    assert '{"title":"run: stop reasons","header":["stop","samples"],"rows":[["answered","7"]' in page


def test_every_sample_has_its_costs_in_the_table_of_samples(run: Path):
    rows = run.with_name("rows.csv")
    arguments = ("--data", run.with_name("data"), "--preset", "agent", "--baselines", "none", "--samples", rows)
    assert command("score", run, *arguments) == 0
    lines = list(csv.DictReader(rows.open()))
    assert (lines[0]["tokens"], lines[0]["supported correct"], lines[5]["tokens"]) == ("330.0", "100.0", "")
    assert lines[0]["unit"].startswith("percent; turns: turns")


# Comparison with costs


def priced(name: str, num_frames: int, answer: int | None, usage: Usage | None = USAGE) -> Prediction:
    return episode_of(name, turn(frames=frames(*map(float, range(num_frames))), usage=usage), answer=answer)


def pair_of_runs() -> tuple[list[Prediction], list[Prediction]]:
    """One sample in each of the cells: A and B right or wrong, B cheaper, same, dearer in frames; one without cost."""
    a = [
        priced("s0", 4, 1),  # both right, B cheaper
        priced("s1", 4, 1),  # both right, same
        priced("s2", 4, 1),  # both right, B dearer
        priced("s3", 4, 0),  # only B right, B dearer
        priced("s4", 4, 1),  # only A right, B cheaper
        priced("s5", 4, 0),  # both wrong, B cheaper
        priced("s6", 4, None),  # both wrong, B dearer
        priced("open", 4, 0),  # only B right, not recorded in B
    ]
    b = [
        *(priced(name, count, answer) for name, count, answer in (("s0", 2, 1), ("s1", 4, 1), ("s2", 8, 1))),
        *(priced(name, count, answer) for name, count, answer in (("s3", 8, 1), ("s4", 1, 2), ("s5", 1, 0))),
        priced("s6", 6, 3),
        episode_of("open", turn(), answer=1, stop=None),
    ]
    return a, b


def scored_pair() -> tuple[Scores, Scores]:
    a, b = (score(DATASET, [System(name, rows)], ["agent"])[0] for name, rows in zip("AB", pair_of_runs(), strict=True))
    return a, b


def test_samples_are_counted_by_correctness_of_both_and_by_cost():
    a, b = scored_pair()
    lines = compare_costs.outcome_table(differences.paired_rows(a, b), "frames").splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["only", "B", "right", "2", "0", "0", "1", "1"],
        ["only", "A", "right", "1", "1", "0", "0", "0"],
        ["both", "right", "3", "1", "1", "1", "0"],
        ["both", "wrong", "4", "1", "0", "1", "2"],  # with two samples that both runs lack
    ]


def test_costs_are_compared_per_sample_and_per_correct_answer_on_paired_samples():
    a, b = scored_pair()
    rows = {row[0]: row for row in differences.difference_rows(a, b)}
    assert rows["frames"][1:3] == ["4.0", "4.3"]  # 28 and 30 frames on 7 samples
    assert rows["frames"][3].startswith("+0.3 [")
    assert rows["frames"][6] == "7"
    assert rows["frames per correct"][1:3] == ["7.0", "7.5"]  # 4 correct each of the same 7
    assert rows["Acc"][8:10] == ["1", "2"]
    assert rows["frames"][7:] == ["-"] * 4  # no test of right and wrong
    assert rows["Acc if seen"][6] == "8"
    assert rows["dollars"][1:3] == ["0.5000", "0.5000"]
    first, *rest = compare_costs.cost_parts(a, b)
    assert [line.split()[0] for line in first.splitlines()[2:5]] == ["calls", "frames", "images"]
    assert rest[0].startswith("samples by correctness and frames\n")  # dollars and tokens do not differ
    assert rest[1] == "frames not recorded in both runs: 3 samples (open, none, missing)"


def test_a_ratio_over_nothing_is_shown_as_unknown():
    a = score(DATASET, [System("A", [priced("s0", 4, 1), priced("s1", 4, 1)])], ["agent"])[0]
    b = score(DATASET, [System("B", [priced("s0", 4, 0), priced("s1", 2, 0)])], ["agent"])[0]
    row = next(row for row in differences.difference_rows(a, b) if row[0] == "frames per correct")
    assert row[1:7] == ["4.0", "-", "-", "-", "-", "2"]


def test_holm_adjusts_over_the_costs_of_the_table():
    a, b = scored_pair()
    rows = differences.difference_rows(a, b, ["calls", "frames", "tokens"])
    ps = [float(row[4]) for row in rows]
    assert [float(row[5]) for row in rows] == pytest.approx(holm(ps), abs=2e-4)


def test_runs_are_compared_with_their_costs_and_unpaired_samples_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Path
):
    data = ("--data", run.with_name("data"))
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file, rows in zip(files, pair_of_runs(), strict=True):
        write_records(file, rows)
    assert command("compare", *files, *data) == 0
    text = capsys.readouterr().out
    assert "costs per sample and per correct answer" in text
    assert "samples by correctness and frames" in text
    assert "not compared" not in text
    assert command("compare", *files, *data, "--cost", "calls") == 0
    assert "samples by correctness and calls" in capsys.readouterr().out
    write_records(files[1], [priced("s0", 1, 1, usage=None)])
    assert command("compare", *files, *data, "--cost", "dollars") == 2
    message = "--cost dollars: no sample has it recorded in both runs; recorded are frames, calls, seconds"
    assert message in capsys.readouterr().err
    for file in files:
        assert command("score", file, *data, "--preset", "agent", "--baselines", "none") == 0
    scores_files = [file.with_suffix(".scores.json") for file in files]
    entries = json.loads(scores_files[1].read_text())
    for name in ("s1", "s2"):
        del entries[0]["samples"][name]
    scores_files[1].write_text(json.dumps(entries))
    capsys.readouterr()
    assert command("compare", *scores_files) == 0
    text = capsys.readouterr().out
    assert "not compared, since only A was run on them: 2 samples (s1, s2)" in text
    assert "samples by correctness and frames" in text
    for file in files:
        assert command("score", file, *data, "--preset", "strict", "--baselines", "none") == 0
    assert command("compare", *scores_files, "--cost", "frames") == 2
    assert "a file of scores has no costs; run `evqa score RUN --preset agent`" in capsys.readouterr().err


def test_many_names_are_shortened():
    assert compare_costs.name_samples(["a"]) == "1 sample (a)"
    assert compare_costs.name_samples(list("abcdefg")) == "7 samples (a, b, c, d, e, ...)"


# A run of the agent


def calls(name: str, **arguments: object) -> dict[str, object]:
    return {"calls": [{"name": name, "arguments": arguments}]}


def reply(letter: str) -> str:
    return f'```json\n{{"answer": "{letter}", "segments": [[1, 2]], "referring_expressions": []}}\n```'


@pytest.fixture
def agent_run(tmp_path: Path) -> Path:
    """s0 looks at the evidence and answers right; s1 does so at its second call, and wrong; s2 guesses right."""
    data = tmp_path / "data"
    (data / "videos").mkdir(parents=True)
    images = np.full((24, 32, 48, 3), 90, dtype=np.uint8)
    media.write_video(data / "videos" / "clip.mp4", iter(images), 4.0)
    samples = [
        Sample(
            id=f"s{number}",
            video_id="clip",
            video=Path("videos/clip.mp4"),
            question=f"Question {number}?",
            options=("circle", "square"),
            answer=1,
            spans=(Span(1, 2),),
        )
        for number in range(3)
    ]
    write_records(data / "samples.jsonl", samples)
    scripts: list[list[object]] = [
        [calls("frames_at", seconds=[1.0, 4.0]), calls("submit", answer="B", spans=[[1, 2]], objects=[])],
        [calls("frames_between", start=3, end=6, n=2), calls("frames_at", seconds=[1.5]), reply("A")],
        [reply("B")],
    ]
    model = tmp_path / "model.json"
    model.write_text(json.dumps({f"Question {number}?": replies for number, replies in enumerate(scripts)}))
    out = tmp_path / "agent"
    assert command("predict", data, model, "--method", "agent", "--encoder", "none", "--out", out) == 0
    return out


def test_an_agent_is_scored_from_what_the_loop_records(agent_run: Path, capsys: pytest.CaptureFixture[str]):
    data = agent_run.with_name("data")
    score_command = ("score", agent_run, "--data", data, "--baselines", "none")
    assert command(*score_command) == 0
    assert "preset agent" in capsys.readouterr().out
    row = read_scores(agent_run / "scores.json")[-1]
    table = {title: mean(row, title) for title in row.metrics if title.endswith(("correct", "evidence"))}
    assert table == {
        "supported correct": pytest.approx(1 / 3),
        "unsupported correct": pytest.approx(1 / 3),
        "wrong despite evidence": pytest.approx(1 / 3),
        "wrong without evidence": 0,
        "blind correct": pytest.approx(1 / 3),
    }
    assert row.episodes is not None
    assert {name: tool.calls for name, tool in row.episodes.tools.items()} == {
        "frames_at": 2, "frames_between": 1, "submit": 1,
    }  # fmt: skip
    assert [point.metrics["Acc"].mean for point in row.episodes.curves["turns"]] == pytest.approx([1 / 3, 2 / 3, 2 / 3])

    other_model, forced = agent_run.with_name("other.json"), agent_run.with_name("forced")
    other_model.write_text(json.dumps({"*": reply("B")}))
    assert command("replay", agent_run, "--with", other_model, "--turns", 1, "--data", data, "--out", forced) == 0
    assert command(*score_command, "--forced", forced) == 0
    assert "agent, scores at a budget of turns, with forced answers" in capsys.readouterr().out
    episodes = read_scores(agent_run / "scores.json")[-1].episodes
    assert episodes is not None
    assert episodes.is_forced
    assert [point.metrics["Acc"].mean for point in episodes.curves["turns"]] == pytest.approx([1 / 3, 1, 2 / 3])


def test_forced_answers_are_of_the_evidence_of_the_same_run(agent_run: Path, capsys: pytest.CaptureFixture[str]):
    data = agent_run.with_name("data")
    score_command = ("score", agent_run, "--data", data, "--baselines", "none")
    other_model, every, second = (agent_run.with_name(name) for name in ("other.json", "every", "second"))
    other_model.write_text(json.dumps({"*": reply("B")}))
    assert command("replay", agent_run, "--with", other_model, "--data", data, "--out", every) == 0
    model, of_second = agent_run.with_name("model.json"), agent_run.with_name("of-second")
    options = ("--method", "agent", "--encoder", "none", "--max-turns", 5, "--out", second)
    assert command("predict", data, model, *options) == 0
    assert command("replay", second, "--with", other_model, "--turns", 1, "--data", data, "--out", of_second) == 0
    for folder, words in (
        (of_second, f"is on the evidence of another run than {agent_run}, which differs in method.max_turns"),
        (every, "is no run on the evidence of the first turns: write one with evqa replay"),
        (agent_run, "is no run on the evidence of the first turns"),
        (agent_run.with_name("none"), "has no run.json"),
    ):
        capsys.readouterr()
        assert command(*score_command, "--forced", folder) == 2, folder
        assert words in " ".join(capsys.readouterr().err.split())
    assert command(*score_command, "--forced", every, "--preset", "strict") == 2
    assert "--forced is of the preset agent, got --preset strict" in capsys.readouterr().err


def test_samples_of_one_run_alone_are_named(agent_run: Path, capsys: pytest.CaptureFixture[str]):
    data, part, model = (agent_run.with_name(name) for name in ("data", "part", "model.json"))
    options = ("--method", "agent", "--encoder", "none", "--max-turns", 5, "--limit", 2, "--out", part)
    assert command("predict", data, model, *options) == 0
    capsys.readouterr()
    assert command("compare", agent_run, part, "--data", data) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "not compared, since only A was run on them: 1 sample (s2)" in lines
    rows = {" ".join(line.split()[:2]): line.split()[2:] for line in lines if line.startswith(("both", "only"))}
    assert rows == {
        "only B": ["right", "0", "0", "0", "0"],
        "only A": ["right", "0", "0", "0", "0"],
        "both right": ["1", "0", "1", "0"],
        "both wrong": ["1", "0", "1", "0"],
    }


# Open questions


def test_open_answers_are_right_by_match():
    open_questions = tuple(
        each.replace(answer=None, options=(), response="a red cup", id=f"open{number}")
        for number, each in enumerate(SAMPLES[:4])
    )
    dataset = Dataset("open", Path("/nowhere"), open_questions, (), "1" * 64)

    def said(text: str) -> Turn:
        return turn(frames=frames(12.0)).replace(reply=text)

    records = [
        episode_of("open0", said("Answer: the red cup")),
        episode_of("open1", said("Answer: a blue cup")),
        episode_of("open2", turn(), turn()),
    ]
    (row,) = score(dataset, [System("run", records)], ["agent"])
    assert (mean(row, "Acc"), mean(row, "parse rate"), mean(row, "error rate")) == (1 / 4, 2 / 4, 1 / 4)
    assert (mean(row, "supported correct"), mean(row, "wrong despite evidence")) == (1 / 4, 1 / 4)
    assert row.metrics["Acc"].n_unparsed == 1
    assert points(row, "turns") == {1: (1 / 4, 2 / 4, 1 / 4), 2: (1 / 4, 2 / 4, 1 / 4)}


def test_the_replies_of_other_models_belong_to_the_turn_that_called_them():
    """A planner of two turns; its inspector is asked in the second one and answers."""
    team = [
        episode_of(
            "s0",
            turn(**call(1, "frames_at", 50.0)),
            turn(**call(2, "submit_segments", spans=GOLD)),
            turn(frames=frames(12.0), agent="inspector"),
            answer=1,
        )
    ]
    (row,) = score(DATASET, [System("run", team)], ["agent"])
    assert (mean(row, "turns"), mean(row, "calls"), mean(row, "tokens")) == (2, 1, 330)
    assert points(row, "turns") == {1: (0, 0, 0), 2: (0.1, 1 / 8, 1 / 8)}
