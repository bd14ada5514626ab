"""Open answers: what a conversation answers, its grade, the F-score, slices of evidence, and the presets with them."""

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evqa.datasets import Dataset
from evqa.metrics import open_answers, slices
from evqa.metrics.case import Case, response_of
from evqa.metrics.open_answers import correct_of_attempted, f_score, grade
from evqa.parsing.open_answers import open_answer
from evqa.schema import Prediction, Sample, Span, ToolCall, ToolResult, Turn
from evqa.scoring.engine import System, score

# Reading


def turn(reply, fields=("spans", "expressions"), **more):
    return Turn(answer_fields=fields, prompt="", reply=reply, **more)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ('{"answer": "a red cup", "segments": [[3.0, 7.5]], "referring_expressions": []}', "a red cup"),
        ('```json\n{"answer": "a red cup"}\n```', "a red cup"),
        ('{"answer": 1929}', "1929"),
        ("Answer: a red cup. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence: <|seg|>.", "a red cup"),
        ("It moves.\n**Answer:** a red cup\n", "a red cup"),
        ("<think>Answer: blue</think>The answer tag: <answer>a red cup</answer>", "a red cup"),
        ("Answer: blue\nNo, wait.\nAnswer: a red cup", "a red cup"),
        ("a red cup", "a red cup"),
        ("  a red cup \n", "a red cup"),
        ("", None),
        ("<think>hm</think>", None),
    ],
)
def test_the_answer_of_a_reply(reply, answer):
    assert open_answer([turn(reply)]) == answer


def test_the_answer_of_a_conversation_is_not_its_turn_about_evidence():
    turns = [turn("a red cup", ()), turn("[[1.0, 2.0]]", ("spans",)), turn('["the cup"]', ("expressions",))]
    assert open_answer(turns) == "a red cup"
    assert open_answer([]) is None


@pytest.mark.parametrize(
    "reply",
    [
        "\n" * 200_000,
        "answer:\n" * 50_000,
        "<answer>" * 50_000,
        "answer:" + " *" * 100_000,
        "{" * 100_000,
        "." * 200_000,
    ],
)
def test_hostile_replies_are_read_in_linear_time(reply):
    started = time.monotonic()
    open_answer([turn(reply)])
    assert time.monotonic() - started < 5


def test_a_submitted_answer_goes_first_unless_it_was_refused():
    def call(name, answer, number):
        return ToolCall(id=number, name=name, arguments=json.dumps({"answer": answer, "spans": []}))

    def turn_of(tool_call, *, ok=True):
        return turn("I submit.", (), calls=(tool_call,), results=(ToolResult(call=tool_call.id, ok=ok, text=""),))

    turns = [turn_of(call("search", "no", "1")), turn_of(call("submit", "cup", "2"))]
    assert open_answer(turns) == "cup"
    assert open_answer([*turns, turn_of(call("submit", "plate", "3"), ok=False)]) == "cup"
    broken = ToolCall(id="4", name="submit", arguments="[" * 100_000)
    assert open_answer([turn_of(broken), turn("Answer: plate")]) == "plate"


# Grades


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("Pyongyang", "Pyongyang", "correct"),
        ("The capital is PYONGYANG.", "pyongyang", "correct"),
        ("Republican Party", "the Republican Party", "correct"),
        ("three", "3", "correct"),
        ("1,500 metres", "1500", "correct"),
        ("Washington DC", "Washington, D.C.", "correct"),
        ("I don't know, maybe Pyongyang", "Pyongyang", "correct"),
        ("Pyongyang or Seoul", "Pyongyang", "incorrect"),
        ("It is not Pyongyang", "Pyongyang", "incorrect"),
        ("Seoul", "Pyongyang", "incorrect"),
        ("150", "50", "incorrect"),
        ("3.5", "3", "incorrect"),
        ("Bridge Long", "Long Bridge", "incorrect"),
        ("word " * 20 + "Pyongyang", "Pyongyang", "incorrect"),
        ("I don't know.", "Pyongyang", "not_attempted"),
        ("Insufficient information", "Pyongyang", "not_attempted"),
        ("It cannot be determined", "Pyongyang", "not_attempted"),
        ("", "Pyongyang", "not_attempted"),
        (None, "Pyongyang", "not_attempted"),
        ("...", "Pyongyang", "not_attempted"),
    ],
)
def test_grades(answer, gold, expected):
    assert grade(answer, gold) == expected


@given(st.text(min_size=1, max_size=60).filter(open_answers.answer_words))
def test_the_ground_truth_is_correct(gold):
    words = open_answers.answer_words(gold)
    assert grade(gold, gold) == "correct", words


@pytest.mark.parametrize(
    ("correct", "incorrect", "declined", "expected"),
    [
        (5, 3, 2, 2 * 0.5 * 0.625 / (0.5 + 0.625)),
        (10, 0, 0, 1.0),
        (0, 10, 0, 0.0),
        (0, 0, 10, 0.0),
        (1, 0, 9, 2 * 0.1 * 1 / 1.1),
    ],
)
def test_f_score_is_the_harmonic_mean(correct, incorrect, declined, expected):
    total = correct + incorrect + declined
    shares = correct / total, (correct + incorrect) / total
    assert f_score(*shares) == pytest.approx(expected)
    rate, of_attempted = shares[0], correct_of_attempted(*shares)
    if rate:
        assert f_score(*shares) == pytest.approx(2 / (1 / rate + 1 / of_attempted))
    else:
        assert of_attempted == 0


# Slices


@pytest.mark.parametrize(
    ("spans", "numbers"),
    [
        ([(0, 30)], {0}),
        ([(30, 60)], {1}),
        ([(40, 45)], {1}),
        ([(20, 40)], {0, 1}),
        ([(25, 65)], {1}),
        ([(0, 90)], {0, 1, 2}),
        ([(14, 100)], {0, 1, 2}),
        ([(16, 100)], {1, 2}),
        ([(30, 30)], {1}),
        ([(0, 30), (0, 30), (10, 20)], {0}),
        ([], set()),
    ],
)
def test_slices_that_spans_name(spans, numbers):
    assert slices.slices_of(tuple(Span(*pair) for pair in spans), 30) == numbers


def test_a_span_without_end_is_bounded():
    assert len(slices.slices_of((Span(0, 1e300),), 30)) == slices.MAX_SLICES + 1


def sample(name="a", **fields):
    return Sample(id=name, video_id=fields.pop("video_id", name), video=Path("v.mp4"), question="Q", **fields)


def prediction(name="a", reply=None, **fields):
    turns = () if reply is None else (turn(reply),)
    return Prediction(sample_id=name, status="ok", turns=turns, **fields)


@pytest.mark.parametrize(
    ("spans", "values"),
    [
        ([(0, 30), (90, 120)], (1, 1, 1, 1)),
        ([(0, 30)], (0.5, 1, 2 / 3, 0)),
        ([(0, 120)], (1, 0.5, 2 / 3, 1)),
        ([(35, 50)], (0, 0, 0, 0)),
        ([], (0, 0, 0, 0)),
    ],
)
def test_recall_precision_f1_and_all_slices(spans, values):
    gold = sample(response="x", spans=(Span(0, 30), Span(90, 120)))
    case = Case(gold, prediction(spans=tuple(Span(*pair) for pair in spans)))
    measures = (slices.slice_recall, slices.slice_precision, slices.slice_f1, slices.all_slices)
    assert [measure(case) for measure in measures] == pytest.approx(list(values))


def test_slices_do_not_apply_without_needed_ones():
    case = Case(sample(response="x", spans=()), prediction(spans=(Span(0, 1),)))
    assert slices.slice_recall(case) is slices.slice_precision(case) is slices.all_slices(case) is None


# Presets


def means(samples, predictions, preset):
    dataset = Dataset("test", Path(), tuple(samples), (), "")
    (scores,) = score(dataset, [System("run", predictions)], [preset])
    return {name: mean.mean for name, mean in scores.metrics.items()}, scores


def test_longvidsearch_preset():
    spans = (Span(0, 30), Span(90, 120))
    samples = [sample(name, response="red cup", spans=spans) for name in "abc"]
    predictions = [
        prediction("a", "Answer: the red cup", spans=spans),
        prediction("b", "Answer: the red cup", spans=(Span(0, 30),)),
    ]
    values, _ = means(samples, predictions, "longvidsearch")
    assert values == pytest.approx(
        {
            "match": 2 / 3,
            "slice recall": 0.5,
            "slice precision": 2 / 3,
            "slice F1": (1 + 2 / 3) / 3,
            "all slices": 1 / 3,
            "match, all slices": 1 / 3,
        }
    )


def test_video_simpleqa_preset():
    """Multi-hop: 2 correct, 1 incorrect, 1 declined, 1 missing of 5; hop 1: 1 correct of 2."""
    multi = [sample(f"m{i}", response="1929", question_type="multi-hop") for i in range(5)]
    hops = [sample(f"h{i}", response="Long Bridge", question_type="hop 1") for i in range(2)]
    replies = {"m0": "1929", "m1": "in 1929", "m2": "1930", "m3": "I do not know", "h0": "Long Bridge", "h1": "Short"}
    values, scores = means(multi + hops, [prediction(*pair) for pair in replies.items()], "video-simpleqa")
    assert (values["correct"], values["attempted"]) == pytest.approx((0.4, 0.6))
    assert scores.metrics["correct"].n_missing == 1
    assert (values["hop 1 correct"], values["hop 2 correct"]) == (0.5, None)
    numbers = {name: number.value for name, number in scores.derived.items()}
    assert numbers["F-score"] == pytest.approx(2 * 0.4 * (2 / 3) / (0.4 + 2 / 3))
    assert numbers["correct of attempted"] == pytest.approx(2 / 3)
    assert numbers["F-score hop 1"] == pytest.approx(0.5)
    assert numbers.get("F-score hop 2") is None


def test_lvbench_presets():
    """A: right; B: wrong, of two categories; C: unparsed; D: failed; E: missing."""
    types = ["reasoning", "reasoning, summarization", "reasoning", "summarization", "summarization"]
    samples = [
        sample(name, options=("w", "x", "y", "z"), answer=1, question_type=kind, spans=(Span(0, 10),))
        for name, kind in zip("ABCDE", types, strict=True)
    ]
    predictions = [
        prediction("A", "B", answer=1, spans=(Span(0, 20),)),
        prediction("B", "C", answer=2),
        Prediction(sample_id="C", status="ok", turns=(turn("hm", ("answer",)),)),
        Prediction(sample_id="D", status="failed", error="no reply"),
    ]
    values, _ = means(samples, predictions, "lvbench")
    assert (values["Acc"], values["Acc answered"]) == (0.2, 0.5)
    assert (values["Rea"], values["Sum"], values["KIR"]) == (pytest.approx(1 / 3), 0, None)
    assert (values["mIoU"], values["mIoP"], values["Acc@GQA"]) == pytest.approx((0.1, 0.1, 0.2))
    official, scores = means(samples, predictions, "lvbench-official")
    assert official["Acc"] == pytest.approx(1 / 3)
    assert official["Sum"] == 0
    assert scores.metrics["Acc"].n_missing == 1


def test_the_response_of_a_prediction_file_stays_literal():
    literal = {"literal": {"answer": " Red "}}
    assert response_of(Prediction.model_validate({"sample": "a", "status": "ok", **literal})) == " Red "
    assert math.isclose(f_score(1, 1), 1)
