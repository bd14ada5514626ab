"""Replies as models write them, one line each, and what they commit to."""

import json
import time

import pytest

from evqa import prompts
from evqa.parsing import choices, literals, replies

FIVE = ("red ball", "blue ball", "a man running", "two dogs", "nothing")
JSON_ASKS = ("answer", "spans", "expressions")
FULL = '{"answer": "B", "segments": [[1.0, 2.5], [4, 6]], "referring_expressions": ["the red ball", "a cup"]}'


def answer(text: str, options: tuple[str, ...] = FIVE) -> int | None:
    return replies.parse(text, ["answer"], options).answer


def spans(text: str) -> list[list[float]] | None:
    parsed = replies.parse(text, ["spans"], ()).spans
    return None if parsed is None else [list(span) for span in parsed]


ANSWERS = [
    # bare letters
    ("B", 1),
    ("b", 1),
    ("B.", 1),
    ("(B)", 1),
    ("[B]", 1),
    ("**B**", 1),
    ('"B"', 1),
    ("Option B", 1),
    ("option b.", 1),
    ("  B\n", 1),
    ("B) blue ball", 1),
    ("(B) blue ball", 1),
    ("B. blue ball", 1),
    ("B: Blue Ball.", 1),
    ("B - blue ball", 1),
    ("B) pole", 1),
    ("F", None),
    ("x", None),
    ("", None),
    ("?", None),
    # exact option text
    ("blue ball", 1),
    ("Blue  ball.", 1),
    ("A man running", 2),
    ("The answer is a man running.", 2),
    ("The answer is the red ball.", 0),
    ("The answer is red balloon", None),
    # announced
    ("Answer: B", 1),
    ("answer: b", 1),
    ("**Answer:** B", 1),
    ("Final Answer: (B)", 1),
    ("The answer is B because the ball is blue.", 1),
    ("The answer is A because it rolls.", 0),
    ("The correct option is D", 3),
    ("The best choice would be (D).", 3),
    ("I would choose C.", 2),
    ("<answer>B</answer>", 1),
    ("The answer is $\\boxed{B}$.", 1),
    ("\\boxed{C}", 2),
    ("Answer\uff1aB", 1),
    ("### Answer\nB", 1),
    ("A man walks by. Then he stops, so C.", 2),
    ("He lifts it; it must be (D).", 3),
    ("Looking at (D) we see two dogs.", 3),
    ("Option B shows the ball.", 1),
    ("B. The ball is blue from the start.", 1),
    ("B\n\nThe ball is blue.", 1),
    # the last committed one counts
    ("Answer: A. Wait, the ball is blue. The answer is B.", 1),
    ("A. is wrong. The answer is C.", 2),
    ("The answer is B, not C.", 1),
    ("First I thought (A).\nAnswer: D", 3),
    ("<think>The answer is A.</think>Answer: B", 1),
    ("<think>The answer is A, or maybe", None),
    # ambiguous or uncommitted: never a guess
    ("A or B", None),
    ("Answer: A or B", None),
    ("Answer: A, B", None),
    ("Answer: A/B", None),
    ("The answer is either A or B.", None),
    ("The answer is not B.", None),
    ("It is not (B).", None),
    ("Answer: red ball or blue ball", None),
    ("Answer: A. blue ball", None),
    ("(A) red ball\n(B) blue ball\n(C) a man running", None),
    ("Options:\n(A) red ball\n(B) blue ball", None),
    ("I cannot tell from the video.", None),
    ("Answer: I think it is unclear", None),
    ("Answer: a person kicks it", None),
    ("Answer: none of these", None),
    ('{"answer": ["A", "B"]}', None),
    ('{"answer": 1}', None),
    # JSON in every state
    (FULL, 1),
    (f"```json\n{FULL}\n```", 1),
    (f"```JSON\n{FULL}", 1),
    (f"Sure, here it is:\n{FULL}\nI hope that helps. A good day!", 1),
    (f"[{FULL}]", 1),
    ('{"answer": "(B)", "segments": []}', 1),
    ('{"answer": "B. blue ball"}', 1),
    ('{"answer": "blue ball"}', 1),
    ('{"answer":\n  "B"\n}', 1),
    ("{'answer': 'B', 'segments': []}", 1),
    ('{"final_answer": "B"}', 1),
    ('{"answer": null, "segments": []}', None),
    ('{"answer": null, "referring_expressions": [\n"red ball"\n]}', None),
    ('{"answer": "", "segments": [[1, 2]]}', None),
    # the published form
    ("Answer: B. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence: <|seg|>.", 1),
    ("Answer: A. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence: <|seg|>.", 0),
    ("Answer: E. Spatial Evidence: <|seg|>.", 4),
    # B-10: not the first letter of the alphabet that occurs anywhere
    ("The correct option is D, as the cat abandons it", 3),
    ("My answer to this question", None),
    # B-11: broken JSON keeps its answer, and without one has none
    ('{"answer": "C", "segments": [[1.0, 2.', 2),
    ('{"answer": "C", "segments": [[1.0, 2.0]], "referring_expressions": ["the ba', 2),
    ('{"segments": [[1.0, 2.0]], "referring_expressions": ["the answer is held', None),
    ('{"answer": ', None),
    # B-12: a bad list does not take the answer along
    ('{"answer": "D", "segments": [[0:05, 0:10]], "referring_expressions": []}', 3),
    ('{"answer": "D", "segments": [[5, "soon"]], "referring_expressions": []}', 3),
    # B-13: a letter is a word, and one of the options
    ("The answer is B", 1),
    ("Answer: F.", None),
    ("Answer: E", 4),
    ("Answer: Because it is blue", None),
    # B-14: the article is no letter
    ("I think a person picks it up. C", 2),
    ("I think a person picks it up \u2026 C", 2),
    ("I think a person picks it up", None),
    ("a person", None),
]


@pytest.mark.parametrize(("text", "expected"), ANSWERS)
def test_an_answer_is_what_the_reply_commits_to(text: str, expected: int | None):
    assert answer(text) == expected


def test_only_letters_of_options_count():
    assert answer("Answer: E", FIVE[:4]) is None
    assert answer("Answer: G", tuple(f"choice {number}" for number in range(8))) == 6
    assert answer("Answer: I", tuple(f"choice {number}" for number in range(9))) == 8


def test_a_letter_behind_the_text_of_an_option_must_be_its_own():
    assert answer("Answer: 3 (B)", ("1", "2", "3")) is None
    assert answer("Answer: 2 (B)", ("1", "2", "3")) == 1
    assert answer("The answer is red ball (option B).", ("blue ball", "red ball")) == 1
    assert answer("The answer is red ball (A).", ("blue ball", "red ball")) is None


def test_an_option_that_reads_like_another_ones_letter_is_ambiguous():
    assert answer("B", ("C", "A", "B")) is None
    assert answer('{"answer": "C"}', ("A", "C", "B")) is None
    assert answer("A", ("A", "C", "B")) == 0


def test_numbers_as_options_are_read_as_text():
    options = ("2", "3", "4")
    assert answer("3", options) == 1
    assert answer("The answer is 3.", options) == 1
    assert answer("The answer is 3.5", options) is None
    assert answer('{"answer": "3"}', options) == 1


def test_the_longest_option_that_fits_counts():
    assert answer("The answer is red ball", ("red", "red ball")) == 1
    assert answer("The answer is red", ("red", "red ball")) == 0
    assert answer("The answer is red ball", ("red ball", "Red ball")) is None


def test_an_open_question_has_no_option_to_choose():
    assert answer("Answer: B", ()) is None


SPANS = [
    ("Answer: B. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence: <|seg|>.", [[0, 14.5]]),
    (
        "Answer: B. Temporal Evidence: [[0.0, 4.5], [7.0, 8.1]]. Spatial Evidence: <|seg|>.",
        [[0, 4.5], [7, 8.1]],
    ),
    ("Answer: B. Spatial Evidence: <|seg|>.", []),
    (FULL, [[1, 2.5], [4, 6]]),
    (f"```json\n{FULL}\n```", [[1, 2.5], [4, 6]]),
    ('{"segments": []}', []),
    ('{"segments": null}', None),
    ('{"segments": [ [1, 2] , [3, 4] ]}', [[1, 2], [3, 4]]),
    ('{"segments": [1, 2, 3, 4]}', [[1, 2], [3, 4]]),
    ('{"segments": [1, 2, 3]}', None),
    ('{"segments": [[1, 2, 3]]}', None),
    ('{"segments": [[5, 3]]}', None),
    ('{"segments": [[-1, 3]]}', None),
    ('{"segments": [[1, 1e999]]}', None),
    ('{"segments": [[1, 99999999]]}', None),
    ('{"segments": [[1, NaN]]}', None),
    ('{"segments": [["0:05", "1:10.5"]]}', [[5, 70.5]]),
    ('{"segments": [[0:05, 0:10]]}', [[5, 10]]),
    ('{"segments": [["1:00:05", "1:00:10"]]}', [[3605, 3610]]),
    ('{"segments": [["12s", "15.5s"]]}', [[12, 15.5]]),
    ('{"segments": [[12s, 15.5s]]}', [[12, 15.5]]),
    ('{"segments": ["12s - 15.5s", "0:20-0:25"]}', [[12, 15.5], [20, 25]]),
    ('{"segments": [{"start": 1, "end": 2.5}]}', [[1, 2.5]]),
    ('{"segments": {"start_time": "0:01", "end_time": "0:02"}}', [[1, 2]]),
    ('{"segments": [{"start": 1}]}', None),
    ('{"segments": [(1, 2), (3, 4)]}', [[1, 2], [3, 4]]),
    ('{"segments": [[[1, 2], [3, 4]]]}', [[1, 2], [3, 4]]),
    ('{"segments": "12s - 15.5s"}', [[12, 15.5]]),
    ('{"segments": "none"}', []),
    ('{"answer": "C", "segments": [[1.0, 2.0], [3, 4', [[1, 2]]),
    ('{"answer": "C", "segments": [[1.0, 2.', None),
    ('{"answer": "C", "segments": [1.0, 2', None),
    ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
    ("[1, 2, 3, 4]", [[1, 2], [3, 4]]),
    ("```python\n[[1, 2]]\n```", [[1, 2]]),
    ("First [[1, 2]]. Wait: [[3, 4]]", [[3, 4]]),
    ("Segments: [[1, 2]]. Corrected segments: [[3, 4]]", [[3, 4]]),
    ("[]", []),
    ("None", []),
    ("No temporal evidence.", []),
    ("The evidence is from 12s to 15.5s.", [[12, 15.5]]),
    ("It happens at 0:05 - 0:10 and again at 0:20 \u2013 0:25.", [[5, 10], [20, 25]]),
    ("It happens between 3 and 7 seconds.", [[3, 7]]),
    ("Temporal evidence: 12 - 15 seconds", [[12, 15]]),
    ("At 3 and 7 seconds.", None),
    ("There are 2 to 3 dogs.", None),
    ("The box is [[10, 20, 30, 40]].", None),
    ("As said in [1], it moves.", None),
    ("I do not know.", None),
    ("", None),
    ("<think>[[1, 2]]</think>[[3, 4]]", [[3, 4]]),
]


@pytest.mark.parametrize(("text", "expected"), SPANS)
def test_spans_are_read_in_every_notation(text: str, expected: list[list[float]] | None):
    assert spans(text) == expected


EXPRESSIONS = [
    (FULL, ("the red ball", "a cup")),
    (f"```json\n{FULL}\n```", ("the red ball", "a cup")),
    ('["the red ball", "a cup"]', ("the red ball", "a cup")),
    ("['the man\\'s hat', 'a cup']", ("the man's hat", "a cup")),
    ("Referring Expressions: ['a cup']", ("a cup",)),
    ('{"referring_expressions": []}', ()),
    ("[]", ()),
    ('{"referring_expressions": null}', None),
    ('{"referring_expressions": ["a", " ", ""]}', ("a",)),
    ('{"referring_expressions": ["a", 3]}', None),
    ('{"referring_expressions": ["a \\"big\\" dog \\u00e9"]}', ('a "big" dog \u00e9',)),
    ('{"referring_expressions": ["the ball", "the cu', ("the ball",)),
    ('{"segments": [[1, 2]]}', None),
    ("the red ball", None),
    ('First: ["a"]. Better: ["b", "c"]', ("b", "c")),
]


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS)
def test_expressions_are_lists_of_strings(text: str, expected: tuple[str, ...] | None):
    assert replies.parse(text, ["expressions"], ()).expressions == expected


def test_what_half_a_character_leaves_can_be_written_as_utf8():
    expressions = replies.parse('{"referring_expressions": ["\\ud800 cat"]}', ["expressions"], ()).expressions
    assert expressions == ("? cat",)


def test_only_what_was_asked_is_read():
    parsed = replies.parse(FULL, ["spans"], FIVE)
    assert parsed.answer is None
    assert parsed.expressions is None
    assert parsed.spans == ((1.0, 2.5), (4.0, 6.0))


@pytest.mark.parametrize("letter", range(5))
@pytest.mark.parametrize("gold", [(), ((0.0, 14.5),), ((0.0, 1.0), (2.5, 10.1))])
def test_the_trained_reply_reads_back_as_it_was_written(letter: int, gold: tuple[tuple[float, float], ...]):
    parsed = replies.parse(prompts.evidence_target(letter, gold), ["answer", "spans", "masks"], FIVE)
    assert (parsed.answer, parsed.spans) == (letter, gold)


def test_any_json_reply_reads_back_as_it_was_written():
    for number in range(200):
        value = {
            "answer": "ABCDE"[number % 5],
            "segments": [[number / 7, number / 3 + k] for k in range(number % 4)],
            "referring_expressions": [f'the "{k}" \\ ball, {number}' for k in range(number % 3)],
        }
        parsed = replies.parse(json.dumps(value, indent=number % 3 or None), JSON_ASKS, FIVE)
        assert parsed.answer == number % 5
        assert parsed.spans == tuple(tuple(pair) for pair in value["segments"])
        assert parsed.expressions == tuple(value["referring_expressions"])


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("B", ""),
        ("**C**", "**"),
        ("B. The ball", ""),
        ("Answer: B. Temporal Evidence: [[0.0, 1.5]].", "Answer: "),
        ("I think so. A dog runs. **Answer: C**", "I think so. A dog runs. **Answer: "),
        ('{"answer": "D", "segments": []}', '{"answer": "'),
        ("Answer: B. No, A is worse. The answer is C", "Answer: B. No, A is worse. The answer is "),
        ("A dog runs", None),
        ("I cannot say", None),
        ("Answer: a dog", None),
        ("", None),
    ],
)
def test_the_place_of_the_letter_by_which_an_answer_is_named(text: str, before: str | None):
    assert choices.answer_letter_position(text) == (None if before is None else len(before))


HOSTILE = [
    *(
        "[",
        "[[",
        "[1,",
        "[[1,2],",
        "{",
        '{"a":',
        '"',
        '["',
        '[\\"',
        "'",
        "(",
        "\\",
        "a",
        " ",
        "\n",
        "9",
        "9 ",
        "9:",
        "9-",
    ),
    *(
        "answer",
        "answer:",
        "answer: ",
        'answer: "',
        "answer is ",
        '"answer": "A',
        "I choose ",
        "A or ",
        "A\n",
        "(A) ",
    ),
    *(
        "segments: ",
        "segments: [",
        'segments: [["',
        "expressions: [",
        'expressions: ["',
        "1 to ",
        "between 1 and ",
    ),
    *("<think>", "</think>", "not ", "*", "`", "\u2026", "red ball ", "answer: red ball "),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_reply_is_read_in_linear_time(piece: str):
    started = time.process_time()
    replies.parse(piece * (2**18 // len(piece)), JSON_ASKS, FIVE)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("piece", ["[1,", '["', "9-", "answer: ", 'segments: [["'])
def test_a_hostile_reply_of_a_megabyte_takes_four_times_as_long_and_no_more(piece: str):
    started = time.process_time()
    replies.parse(piece * (2**20 // len(piece)), JSON_ASKS, FIVE)
    assert time.process_time() - started < 3


def test_deep_nesting_is_no_list():
    assert list(literals.find_lists("[" * 5000)) == []
    assert spans("[" * 5000 + "x" + "]" * 5000) is None
