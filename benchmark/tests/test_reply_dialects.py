"""Replies as models of every kind write them, one line each, and what they commit to; see also test_replies."""

import json

import pytest

from evqa.__main__ import main
from evqa.files.jsonl import read_records, write_json, write_records
from evqa.parsing import replies
from evqa.parsing.verdicts import parse_verdict
from evqa.schema import Prediction, Run, Sample, Span, Turn

FIVE = ("red ball", "blue ball", "a man running", "two dogs", "nothing")

# fmt: off
ANSWERS = [
    ('{"answer":"B"}', 1),
    ('```\n{"answer":"B"}\n```', 1),
    ('```JSON\n{"answer":"B"}\n```', 1),
    ('```json\n{"answer":"B",}\n```', 1),
    ('```json\n{"answer":"(B)"}\n```', 1),
    ('```json\n{"answer":"B."}\n```', 1),
    ('```json\n{"answer":"A"}\n```\nOn a second look at frame 12:\n```json\n{"answer":"D"}\n```', 3),
    ('```json\n{"reason": {"frames": [1, 2]}, "answer": "C"}\n```', 2),
    ('{"reasoning": "the {curly} one", "answer": "E"}', 4),
    ('{"Answer": "b"}', 1),
    ('{"answer": "Option B"}', 1),
    ('{"answer": "b) blue ball"}', 1),
    ('{"choice": "B"}', 1),
    ('{"option": "B"}', 1),
    ('{"correct_answer": "B"}', 1),
    ('{"answer": {"letter": "B"}}', 1),
    ('{"answer": "B", "confidence": 0.4}', 1),
    ('{"answer": "A|B"}', None),
    ('{"answer": "B", "answer": "C"}', 2),
    ('Answer:B', 1),
    ('ANSWER: B', 1),
    ('answer = B', 1),
    ('Answer - B', 1),
    ('Answer is: B', 1),
    ('Answer: Option B', 1),
    ('Answer: (b)', 1),
    ('Answer: B)', 1),
    ('Answer: **B**', 1),
    ('Answer: __B__', 1),
    ('Answer: `B`', 1),
    ('**Answer**: B', 1),
    ('Answer: <B>', 1),
    ('Answer: [B]', 1),
    ('Answer: {B}', 1),
    ('The answer is option B.', 1),
    ('The answer is (B) blue ball.', 1),
    ('The correct answer is B: blue ball', 1),
    ('So the answer would be B.', 1),
    ('Therefore, the correct choice is (C).', 2),
    ('I believe the answer is C.', 2),
    ("I'd go with D", 3),
    ('My final answer: E', 4),
    ('Best option: (D)', 3),
    ('The right answer is D', 3),
    ('Choice: D', 3),
    ('D is correct.', 3),
    ('D is the correct answer.', 3),
    ('(D) is correct, since two dogs appear.', 3),
    ('Option D is the answer.', 3),
    ("It's D.", 3),
    ('It is D', 3),
    ('Correct: D', 3),
    ('Answer: A\nExplanation: B is wrong because the ball is red.', 0),
    ('B is wrong, so the answer is C', 2),
    ('Not A. Not B. C.', 2),
    ('The answer is not A but B.', 1),
    ("The answer isn't B.", None),
    ('Neither A nor B.', None),
    ('A and B', None),
    ('A, B and D', None),
    ('Both (A) and (B)', None),
    ('Answer: A & C', None),
    ('Answer: A. Temporal Evidence: [[0.0, 4.5]].\nAnswer: C. Spatial Evidence: <|seg|>.', 2),
    ('Answer: B. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence: It is <|seg|> and <|seg|>.', 1),
    ('<think>maybe A</think>\n<answer>C</answer>', 2),
    ('<answer>(C) a man running</answer>', 2),
    ('<answer> C </answer>', 2),
    ('<Answer>c</Answer>', 2),
    ('<think>It is B.</think>', None),
    ('<answer>A</answer> no wait <answer>B</answer>', 1),
    ('I would answer B', 1),
    ('The man is running, which matches option C.', 2),
    ('two dogs are seen', None),
    ('Two Dogs', 3),
    ('"two dogs"', 3),
    ('A red ball', 0),
    ('A man', None),
    ('a', 0),
    ('A dog barks', None),
    ('I', None),
    ('I see a ball.', None),
    ('E.g. the ball', None),
    ('\\text{Answer: } B', 1),
    ('$\\boxed{\\text{B}}$', 1),
    ('The answer is $B$.', 1),
    ('Answer: B<|im_end|>', 1),
    ('B</s>', 1),
    ('Assistant: B', 1),
    ('B\n\n', 1),
    ('B\n(blue ball)', 1),
    ('(B)\n\nThe ball is blue; (A) shows red.', 1),
    ('\u7b54\u6848\uff1aB', 1),
    ('\u7b54\u6848\u662fB\u3002', 1),
    ('Sure! The answer is:\n\n**B) blue ball**', 1),
    ('Answer:\n\n(B)', 1),
    ('Answer:\n- B', 1),
    ('1. B', 1),
    ("Sorry, I can't help with that.", None),
    ('As an AI, I cannot watch videos.', None),
    ('N/A', None),
    ('None of the above', None),
    ('All of the above', None),
    ('The video shows two dogs.', None),
    ('Question 1: B', 1),
    ('Answer: A\nActually, the answer is not A but B.', 1),
    ('Answer: B. The answer is not A, which is red.', 1),
    ('The answer is not A. The answer is B.', 1),
]

SPANS = [
    ('0s - 128s', [[0, 128]]),
    ('[0s - 128s]', [[0, 128]]),
    ('**[0s]** - **[5s]**', [[0, 5]]),
    ('[0s] - [128s]', [[0, 128]]),
    ('1. 0s - 128s: cooking', [[0, 128]]),
    ('1) 0s - 128s cooking', [[0, 128]]),
    ('**1. 0s - 12.5s:** cooking\n**2. 20s - 30s:** eating', [[0, 12.5], [20, 30]]),
    ('[0s - 5s]: Stage A\n[5s - 9s]: Stage B', [[0, 5], [5, 9]]),
    ('- 0:05-0:10\n- 0:20-0:25', [[5, 10], [20, 25]]),
    ('00:05 to 00:10', [[5, 10]]),
    ('0:00:05 - 0:00:10', [[5, 10]]),
    ('1:02:03.5 \u2013 1:02:10', [[3723.5, 3730]]),
    ('00:05.250 --> 00:10.000', [[5.25, 10]]),
    ('12s - 15.5s', [[12, 15.5]]),
    ('12 s \u2013 15.5 s', [[12, 15.5]]),
    ('12.0s-15.5s', [[12, 15.5]]),
    ('12 to 15 seconds', [[12, 15]]),
    ('12-15 sec', [[12, 15]]),
    ('12\u201315 secs', [[12, 15]]),
    ('from 12 to 15.5', [[12, 15.5]]),
    ('from 12s to 15.5s', [[12, 15.5]]),
    ('from second 12 to second 15', [[12, 15]]),
    ('From 12 seconds to 15 seconds', [[12, 15]]),
    ('between 0:12 and 0:15', [[12, 15]]),
    ('starts at 12s and ends at 15s', [[12, 15]]),
    ('Temporal Evidence: [[12, 15]]', [[12, 15]]),
    ('Temporal evidence: 0:12 - 0:15', [[12, 15]]),
    ('**Temporal Evidence:** [12.0, 15.0]', [[12, 15]]),
    ('Temporal Evidence: 12.0 - 15.0', [[12, 15]]),
    ('Temporal Evidence: [12.0 - 15.0]', [[12, 15]]),
    ('Segments: [12.0-15.0], [20.0-21.0]', [[12, 15], [20, 21]]),
    ('{"segments": [{"start": "0:12", "end": "0:15"}]}', [[12, 15]]),
    ('{"segments": [{"start_time": 12, "end_time": 15, "reason": "x"}]}', [[12, 15]]),
    ('{"start": 12, "end": 15}', [[12, 15]]),
    ('[{"start": 12, "end": 15}]', [[12, 15]]),
    ('{"segments": [{"start_sec": 12, "end_sec": 15}]}', [[12, 15]]),
    ('{"segments":[{"segment":[12,15]}]}', [[12, 15]]),
    ('{"temporal_evidence": [[12, 15]]}', [[12, 15]]),
    ('{"time_segments": [[12, 15]]}', [[12, 15]]),
    ('{"timestamps": ["00:12-00:15"]}', [[12, 15]]),
    ('{"segments": [[12, 15]],}', [[12, 15]]),
    ('{"segments": [[12, 15],]}', [[12, 15]]),
    ('<t>12</t>s', None),
    ('from <t>12.0</t>s to <t>15.0</t>s', [[12, 15]]),
    ('<obj>dog</obj><box>[1, 2, 3, 4]</box>at<t>5.0</t>s', None),
    ('[{"bbox_2d": [10, 20, 30, 40], "label": "dog"}]', None),
    ('{"segments": [[3, 5]], "boxes": [[1, 2, 3, 4]]}', [[3, 5]]),
    ('[[ 1 , 2 ] , [ 3 , 4 ]]', [[1, 2], [3, 4]]),
    ('[ [1, 2] ]', [[1, 2]]),
    ('[[1, 2]', [[1, 2]]),
    ('[(1, 2)]', [[1, 2]]),
    ('(12.0, 15.0)', [[12, 15]]),
    ('[12.0, 15.0]', [[12, 15]]),
    ('The event happens in the 12.0 - 15.0 seconds.', [[12, 15]]),
    ('The given query happens in 12.5 - 15 seconds.', [[12.5, 15]]),
    ('15s - 12s', None),
    ('[[15, 12]]', None),
    ('-3s - 5s', None),
    ('no segment', []),
    ('There is no temporal evidence.', []),
    ('Segments: none', []),
    ('segments: []', []),
    ('1:75 - 2:00', None),
    ('at 12s', None),
    ('Answer: 2 to 3', None),
    ('[[1,2],[3]]', None),
    ('[[1,2],[2,1]]', None),
    ("{'segments': [[1, 2]]}", [[1, 2]]),
    ('Temporal Evidence: [[0.0, 4.5], [7.0, 8.1', [[0, 4.5]]),
    ('<time>12-15</time>', [[12, 15]]),
    ('<|time_start|>', None),
    ('12\u79d2\u523015\u79d2', [[12, 15]]),
    ('12s~15s', [[12, 15]]),
    ('12s until 15s', [[12, 15]]),
    ('12s through 15s', [[12, 15]]),
    ('{"segments": [[0.5e1, 1e1]]}', [[5, 10]]),
    ('0h0m5s - 0h0m10s', [[5, 10]]),
    ('1m5s - 1m10s', [[65, 70]]),
    ('1 min 5 s to 1 min 10 s', [[65, 70]]),
    ('Temporal Evidence: [5, 10], [12, 15]', [[5, 10], [12, 15]]),
    ('Temporal Evidence: [5s, 10s] and [12s, 15s]. Spatial Evidence: <|seg|>.', [[5, 10], [12, 15]]),
    ('Temporal Evidence: (5, 10), (12, 15)', [[5, 10], [12, 15]]),
    ('Temporal Evidence: [5, 10], [15, 12]', None),
    ('Temporal Evidence: [5, 10], [12, 1', [[5, 10]]),
    ('Temporal Evidence: [5, 10], [100, 200, 300, 400]', [[5, 10]]),
    ('Temporal Evidence:\n- 5s - 10s\n- 12s - 15s\n- the dog', [[5, 10], [12, 15]]),
    ('Temporal Evidence:\n1. [5, 10]\n2. [12, 15]', [[5, 10], [12, 15]]),
    ('Temporal Evidence: 5s - 10s\n- Confidence: 3s - 4s', [[5, 10]]),
    ('It is seen at [5, 10] and [12, 15].', [[5, 10], [12, 15]]),
    ('[5, 10]\n[12, 15]', [[5, 10], [12, 15]]),
    ('First I thought [5, 10]. But it is [12, 15].', [[12, 15]]),
    ('{"start": 1, "end": 2}\n{"start": 3, "end": 4}', [[1, 2], [3, 4]]),
]

EXPRESSIONS = [
    ('<obj>the dog</obj><box>[1, 2, 3, 4]</box>at<t>5.0</t>s, <obj>a cup</obj><box>[1,2]</box>', ('the dog', 'a cup')),
    ('<think><obj>the dog</obj><box>[1, 2, 3, 4]</box>at<t>5.0</t>s</think><answer>B</answer>', ('the dog',)),
    ('[{"bbox_2d": [10, 20, 30, 40], "label": "dog"}, {"bbox_2d": [1, 2, 3, 4], "label": "cat"}]', ('dog', 'cat')),
    ('```json\n[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "dog"}\n]\n```', ('dog',)),
    ('{"bbox_2d": [10, 20, 30, 40], "label": "dog"}', ('dog',)),
    ('{"referring_expressions": ["a",]}', ('a',)),
    ('{\'referring_expressions\': [\'a\', "b"]}', ('a', 'b')),
    ('{"ref_expressions": ["a"]}', ('a',)),
    ('{"expressions": ["a"]}', ('a',)),
    ('Referring Expressions:\n- the dog\n- a cup', ('the dog', 'a cup')),
    ('1. the dog\n2. a cup', None),
    ('["the dog"]\n\nThese [1] are it.', ('the dog',)),
    ('referring_expressions: none', ()),
    ('{"answer": "B", "segments": ["00:05-00:10"]}', None),
    ('{"answer": ["B"], "segments": [[1, 2]]}', None),
    ('{"answer": "B", "segments": ["0:05-0:10"], "objects": ["the dog"]}', ('the dog',)),
]

VERDICTS = [
    ("<Answer>TA=1, VQ=1, MQ=0, OA=1</Answer>", (1, 0, 1, 1)),
    ("<Answer>ta=1, vq=1, mq=0, oa=1</Answer>", (1, 0, 1, 1)),
    ("<Answer>TA: 1, VQ: 1, MQ: 0, OA: 1</Answer>", (1, 0, 1, 1)),
    ("<answer>TA = 2\nMQ = 2\nVQ = 1\nOA = 2</answer>", (2, 2, 1, 2)),
    ("<final answer>TA=1, VQ=1, MQ=0, OA=1</final answer>", (1, 0, 1, 1)),
    ("**TA**: 1, **MQ**: 2, **VQ**: 0, **OA**: 2", (1, 2, 0, 2)),
    ('{"TA": 1, "MQ": 2, "VQ": 0, "OA": 2}', (1, 2, 0, 2)),
    ("<Answer>TA=1, VQ=1, MQ=0, OA=1", (1, 0, 1, 1)),
    ("<Answer>OA=1</Answer>", None),
    ("<Answer>TA=12, VQ=1, MQ=0, OA=1</Answer>", None),
    ("<Answer>TA=1, VQ=1, MQ=7, OA=1</Answer>", None),
    ("<Answer>TA=1, VQ=1, MQ=0, OA=-1</Answer>", None),
    ("<Answer>TA=1.5, VQ=1, MQ=0, OA=1</Answer>", None),
    ("<Answer>DATA=2, VQ=1, MQ=0, OA=1</Answer>", None),
    ("<Answer>TA=1, TA=2, VQ=1, MQ=0, OA=1</Answer>", None),
    ("<Answer>TA=1, TA=1, VQ=1, MQ=0, OA=1</Answer>", (1, 0, 1, 1)),
    ("<Answer>TA=1, VQ=1, MQ=0, OA=1</Answer> so far. <tool_call>{}</tool_call>", None),
    ("<tool_call>{}</tool_call><Answer>TA=1, VQ=1, MQ=0, OA=1</Answer>", (1, 0, 1, 1)),
    ("<Answer>TA=1, VQ=1, MQ=0, OA=1</Answer> No: <Answer>TA=2, VQ=2, MQ=0, OA=2</Answer>", (2, 0, 2, 2)),
    ("<think>TA=1, VQ=1, MQ=0, OA=1</think>I cannot say.", None),
    ("<think><Answer>TA=1, VQ=1, MQ=0, OA=1</Answer></think>I cannot say.", None),
    ("<|begin_of_box|>TA=1, VQ=1, MQ=0, OA=1<|end_of_box|>", (1, 0, 1, 1)),
    ("<Answer>TA\uff1d\uff11, VQ=1, MQ\uff1a0, OA=1</Answer>", (1, 0, 1, 1)),
    ("~~TA=2~~ TA=1, VQ=1, MQ=0, OA=1", (1, 0, 1, 1)),
    ("", None),
]

TIME_OPTIONS = (((0.0, 1.0),), ((1.0, 2.0), (4.0, 6.0)), ((2.0, 3.0),), ((3.0, 4.0),))
TIME_CHOICES = [
    ("B", 1),
    ("(C)", 2),
    ("[2.0s, 3.0s]", 2),
    ("The best segment is [[1.0, 2.0], [4.0, 6.0]].", 1),
    ("(B) [1.0s, 2.0s], [4.0s, 6.0s]", 1),
    ("[1.0s, 2.0s], [4.0s, 6.0s]", 1),
    ("The evidence is at [1.0s, 2.0s], [4.0s, 6.0s].", 1),
    ("A. [2.0, 3.0]", None),
    ("[2.0, 3.5]", None),
    ("E", None),
    ("I think a person moves", None),
]
# fmt: on


def test_the_table_is_as_long_as_it_should_be():
    assert len({text for text, _ in ANSWERS + SPANS + EXPRESSIONS + VERDICTS}) >= 120


@pytest.mark.parametrize(("text", "expected"), ANSWERS)
def test_an_answer_is_read_in_every_dialect(text, expected):
    assert replies.parse(text, ["answer"], FIVE).answer == expected


@pytest.mark.parametrize(("text", "expected"), SPANS)
def test_evidence_in_time_is_read_in_every_dialect(text, expected):
    parsed = replies.parse(text, ["spans"], ()).spans
    assert (None if parsed is None else [list(span) for span in parsed]) == expected


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS)
def test_objects_are_read_in_every_dialect(text, expected):
    assert replies.parse(text, ["expressions"], ()).expressions == expected


@pytest.mark.parametrize(("text", "expected"), VERDICTS)
def test_a_verdict_is_whole_or_none(text, expected):
    verdict = parse_verdict(text)
    assert verdict == (None if expected is None else dict(zip(("TA", "MQ", "VQ", "OA"), expected, strict=True)))


@pytest.mark.parametrize(("text", "expected"), TIME_CHOICES)
def test_a_choice_in_time_is_a_letter_or_the_times_and_never_both_ways(text, expected):
    options = tuple(tuple(Span(*pair) for pair in option) for option in TIME_OPTIONS)
    assert replies.parse_time_choice(text, options) == expected


# Parsing again


def sample():
    return Sample(
        id="s0",
        video_id="v",
        video="v.mp4",
        question="Which?",
        options=FIVE,
        answer=1,
        time_options=TIME_OPTIONS,
        time_answer=1,
        mask_options=("a.png", "b.png", "c.png"),
        mask_answer=0,
    )


def turn(asks, reply):
    return Turn(answer_fields=asks, prompt="?", reply=reply)


def test_of_several_turns_the_last_that_was_asked_for_a_thing_says_it():
    turns = [
        turn(("answer",), "B"),
        turn(("spans",), "[[1, 2]]"),
        turn(("answer",), "hm"),
        turn(("time_choice",), "D"),
        turn(("mask_choice",), "C"),
    ]
    parsed = replies.parse_turns(turns, sample())
    assert (parsed.answer, parsed.spans, parsed.expressions) == (None, ((1.0, 2.0),), None)
    assert (parsed.time_choice, parsed.mask_choice) == (3, 2)
    assert replies.parse_turns([turn(("mask_choice",), "D")], sample()).mask_choice is None


def make_run(folder):
    """A run whose stored fields an older parser got wrong."""
    data, run = folder / "data", folder / "run"
    data.mkdir()
    run.mkdir()
    write_records(data / "samples.jsonl", [sample(), sample().model_copy(update={"id": "s1"})])
    stored = [
        Prediction(sample_id="s0", status="failed", error="no reply"),
        Prediction(
            sample_id="s0",
            status="ok",
            turns=(turn(("answer", "spans"), "The correct option is D. It happens 0:05 - 0:10."),),
            answer=2,
            expressions=("kept",),
            seconds=1.5,
        ),
        Prediction(sample_id="s1", status="ok", turns=(turn(("time_choice",), "(B)"),), time_choice=1),
        Prediction(sample_id="gone", status="ok", turns=(turn(("answer",), "B"),), answer=4),
    ]
    write_records(run / "predictions.jsonl", stored)
    write_json(run / "run.json", Run(identity={"data": str(data), "data_sha256": digest(data)}).model_dump(mode="json"))
    return run, stored


def digest(data):
    from evqa.datasets import load

    return load(str(data)).sha256


def test_stored_replies_are_parsed_again_and_the_old_file_is_kept(tmp_path, capsys):
    run, stored = make_run(tmp_path)
    before = (run / "predictions.jsonl").read_bytes()
    assert main(["reparse", str(run)]) == 0
    text = capsys.readouterr().out
    assert "4 records, 2 without a reply to parse" in text
    assert "answer: 1 changed (0 could not be read before, 0 cannot any more)" in text
    assert "spans: 1 changed (1 could not be read before, 0 cannot any more)" in text
    again = list(read_records(run / "predictions.jsonl", Prediction))
    assert again[1] == stored[1].model_copy(update={"answer": 3, "spans": (Span(5.0, 10.0),)})
    assert [again[0], again[2], again[3]] == [stored[0], stored[2], stored[3]]
    assert (run / "predictions.before-reparse-1.jsonl").read_bytes() == before
    assert main(["reparse", str(run)]) == 0
    assert "nothing changed, and nothing was written" in capsys.readouterr().out
    names = {"predictions.jsonl", "predictions.before-reparse-1.jsonl", "run.json", ".lock"}
    assert {path.name for path in run.iterdir()} == names


def test_a_broken_record_is_named_kept_as_it_is_and_costs_nothing_else(tmp_path, capsys):
    run, stored = make_run(tmp_path)
    path = run / "predictions.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    wrong, noise = json.dumps({"sample": "s1", "status": "fine"}).encode() + b"\n", b"\xff\xfe no record\n"
    path.write_bytes(b"".join([lines[0], wrong, *lines[1:], noise]))
    assert main(["reparse", str(run)]) == 1
    text = capsys.readouterr().out
    assert "4 records, 2 without a reply to parse" in text
    assert "predictions.jsonl:2 is no Prediction: status" in text
    assert "predictions.jsonl:6 is no Prediction" in text
    again = path.read_bytes().splitlines(keepends=True)
    assert (again[1], again[5], len(again)) == (wrong, noise, 6)
    assert Prediction.model_validate_json(again[2]).answer == 3
    assert Prediction.model_validate_json(again[4]) == stored[3]


def test_a_last_line_without_its_end_is_parsed_again_if_it_is_whole(tmp_path, capsys):
    run, _ = make_run(tmp_path)
    path = run / "predictions.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert main(["reparse", str(run)]) == 0
    assert "4 records" in capsys.readouterr().out
    assert len(list(read_records(path, Prediction))) == 4


def test_explain_prints_each_field_with_its_rule_and_text_and_writes_nothing(tmp_path, capsys):
    run, _ = make_run(tmp_path)
    before = (run / "predictions.jsonl").read_bytes()
    assert main(["reparse", str(run), "--explain", "s0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sample s0: Which?"
    assert lines[1:5] == [
        "  answer: D two dogs",
        "    rule: announcement",
        "    text: option is D. It happens 0:05 - 0:10.",
        f"    stored: C a man running; `evqa reparse {run}` replaces it",
    ]
    assert lines[5:7] == ["  spans: [[5.0, 10.0]]", "    rule: range in prose"]
    assert (run / "predictions.jsonl").read_bytes() == before


@pytest.mark.parametrize(("sample_id", "reason"), [("s7", "has no sample 's7'"), ("s1", None)])
def test_explain_refuses_a_sample_that_is_not_there(tmp_path, capsys, sample_id, reason):
    run, _ = make_run(tmp_path)
    assert main(["reparse", str(run), "--explain", sample_id]) == (2 if reason else 0)
    assert reason is None or reason in capsys.readouterr().err
