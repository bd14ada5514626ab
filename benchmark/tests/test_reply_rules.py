"""The parser's tables of rules, a corpus of realistic replies, and properties of the parser."""

import time

import pytest
import reply_corpus as corpus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evqa.parsing import announcements, choice_rules, choices, replies, span_contexts, span_rules, spans
from evqa.parsing.choice_prose import Prose
from evqa.parsing.reply_rules import Guard

ANSWER_CASES = [(options, text, expected) for _, options, text, expected in corpus.ANSWERS] + corpus.MORE_ANSWERS
SPAN_CASES = [(text, expected) for _, text, expected in corpus.SPANS] + corpus.MORE_SPANS
FIVE = corpus.FIVE


def found_spans(text, asks=("spans",)):
    parsed_spans = replies.parse(text, asks, FIVE).spans
    return None if parsed_spans is None else [list(span) for span in parsed_spans]


def test_the_corpus_is_large():
    assert len(ANSWER_CASES) + len(SPAN_CASES) >= 1000


@pytest.mark.parametrize(("options", "text", "expected"), ANSWER_CASES)
def test_realistic_replies_choose_what_they_say(options, text, expected):
    assert replies.parse(text, ["answer"], options).answer == expected


@pytest.mark.parametrize(("text", "expected"), SPAN_CASES)
def test_realistic_replies_give_the_spans_that_they_present_as_evidence(text, expected):
    assert found_spans(text) == expected


@pytest.mark.parametrize(("text", "options", "answer", "expected_spans", "expressions"), corpus.OBJECTS)
def test_replies_with_all_three_fields_say_each(text, options, answer, expected_spans, expressions):
    parsed = replies.parse(text, ["answer", "spans", "expressions"], options)
    actual_spans = None if parsed.spans is None else [list(span) for span in parsed.spans]
    assert (parsed.answer, actual_spans) == (answer, expected_spans)
    assert (None if parsed.expressions is None else list(parsed.expressions)) == expressions


@pytest.mark.parametrize(("text", "expressions"), corpus.EXPRESSIONS)
def test_replies_give_the_expressions_that_they_list(text, expressions):
    parsed = replies.parse(text, ["expressions"], ()).expressions
    assert (None if parsed is None else list(parsed)) == expressions


# The tables


@pytest.mark.parametrize("rule", choice_rules.RULES, ids=lambda rule: rule.name)
def test_each_answer_rule_decides_its_example_and_not_its_counter_example(rule):
    options = corpus.YESNO if rule.name == "yes or no" else FIVE
    decided = choices.explain_answer(rule.example, options)
    assert (decided.rule, decided.value is None) == (rule.name, False)
    assert rule.match(Prose(rule.counterexample, options)) is None


@pytest.mark.parametrize("rule", span_rules.RULES, ids=lambda rule: rule.name)
def test_each_span_rule_decides_its_example_and_not_its_counter_example(rule):
    decided = spans.explain_spans(rule.example, spans_only=True)
    assert (decided.rule, decided.value is None) == (rule.name, False)
    assert rule.match(span_rules.TimedText(rule.counterexample, spans_only=True)) is None


@pytest.mark.parametrize("form", announcements.FORMS, ids=lambda form: form.name)
def test_each_form_of_announcement_is_followed_by_the_answer(form):
    assert [place.end for place in announcements.find_announcements(f"{form.example}B")] == [len(form.example)]
    assert list(announcements.find_announcements(f"{form.counterexample}B")) == []


GUARDS = (
    *span_contexts.LENGTHS_BEFORE,
    *span_contexts.LENGTHS_AFTER,
    *span_contexts.LENGTHS_BEFORE_BETWEEN,
    *span_contexts.LENGTHS_AFTER_FIRST,
    *span_contexts.CONTEXTS_BEFORE,
    *span_contexts.CONTEXTS_AFTER,
    *span_contexts.CONTEXTS_BEFORE_LIST,
    *announcements.DENIALS_BEFORE,
)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_each_guard_fits_its_example_and_not_its_counter_example(guard: Guard):
    assert guard.fits(guard.example)
    assert not guard.fits(guard.counterexample)


def test_rule_names_are_unique():
    for rules in (choice_rules.RULES, span_rules.RULES, announcements.FORMS):
        assert len({rule.name for rule in rules}) == len(rules)


# Keys of JSON objects


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"referring_expressions": ["a cup"], "note": "expressions: [\\"b\\"]"}', ("a cup",)),
        ('{"referring_expressions": ["a cup"], "alternatives": [{"referring_expressions": ["b"]}]}', ("a cup",)),
        ('{"answer": "B", "alternatives": [{"referring_expressions": ["b"]}]}', None),
        ('{"answer": "B", "segments": [[1, 2]], "referring_expressions": []}', ()),
        (
            '{\n"answer": "B", // blue\n"segments": [[1, 2]],\n// where\n"referring_expressions": ["a cup"],\n}',
            ("a cup",),
        ),
    ],
)
def test_expressions_come_from_top_level_keys(text, expected):
    assert replies.parse(text, ["answer", "spans", "expressions"], FIVE).expressions == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: B. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence: <|seg|>.", [[0, 14.5]]),
        ("B. There are 3 to 7 dogs.", None),
        ("B\n3 to 7", None),
        ("<answer>B</answer> <segments>[[1, 2]]</segments>", [[1, 2]]),
        ("<answer>3 to 7</answer>", None),
    ],
)
def test_bare_numbers_are_times_only_where_nothing_but_times_was_asked_for(text, expected):
    assert found_spans(text, ("answer", "spans")) == expected


# Properties

IRRELEVANT = [
    "The weather is nice today.",
    "I hope this helps!",
    "Let me know if you have any other questions.",
    "It was a sunny day and the sky was clear.",
    "A dog barks somewhere.",
    "The video is 30 seconds long.",
    "This clip is not very bright.",
    "There are 2 to 3 people in the background.",
    "The recording has a resolution of 640 x 480 pixels.",
    "Actually, the quality of the video is rather good.",
    "Thank you for watching.",
    "The scene was filmed from 1990 to 1995.",
    "The whole video runs from 0:00 to 0:30.",
    "It never rains for 2 to 3 seconds.",
    "I am not sure about the colour of the car.",
    "\u5929\u6c14\u5f88\u597d\u3002",
    "\u89c6\u9891\u65f6\u957f\u4e3a30\u79d2\u3002",
]
COMMITTED = [
    "B",
    "(B)",
    "**B**",
    "B. blue ball",
    "blue ball",
    "B. The ball is blue from the start.",
    "Answer: B",
    "The answer is B.",
    "The correct option is (B) blue ball.",
    "I'd say B.",
    "<answer>B</answer>",
    "<|begin_of_box|>B<|end_of_box|>",
    "The final answer is $\\boxed{B}$.",
    "#### B",
    "[x] B",
    "not A but B.",
    "The answer is A. Wait, actually B.",
    "A. No.\nB. Yes.\nC. No.",
    "D is wrong. B is correct.",
    "Looking at (B) we see it.",
    "A man walks by, so B.",
    '{"answer": "B", "segments": [[3.0, 7.5]]}',
    '```json\n{"answer": "B", "segments": [[3.0, 7.5]]}\n```',
    "\u7b54\u6848\u662fB\u3002",
    "Answer: B. Temporal Evidence: [[3.0, 7.5]]. Spatial Evidence: <|seg|>.",
]
TIMED = [
    "[[3.0, 7.5]]",
    "[3.0, 7.5]",
    "3.0 to 7.5",
    "3.0-7.5",
    "3.0s - 7.5s",
    "3.0, 7.5",
    "Start: 3.0, End: 7.5",
    "<answer>3.0 to 7.5</answer>",
    "Temporal Evidence: 3.0 - 7.5",
    "It happens from 3.0s to 7.5s.",
    "The evidence is from 3.0s to 7.5s.",
    '{"segments": [[3.0, 7.5]]}',
    "\u4ece3\u79d2\u52307.5\u79d2",
    "| Start | End |\n|---|---|\n| 3.0 | 7.5 |",
]


@pytest.mark.parametrize("text", COMMITTED)
@pytest.mark.parametrize("sentence", IRRELEVANT)
@pytest.mark.parametrize("joint", ["\n", "\n\n", " "])
def test_an_irrelevant_sentence_changes_no_answer(text, sentence, joint):
    assert replies.parse(f"{text}{joint}{sentence}", ["answer"], FIVE).answer == 1
    assert replies.parse(f"{sentence}{'' if joint == ' ' else joint}\n{text}", ["answer"], FIVE).answer == 1


@pytest.mark.parametrize("text", TIMED)
@pytest.mark.parametrize("sentence", IRRELEVANT)
@pytest.mark.parametrize("joint", ["\n", "\n\n", " "])
def test_an_irrelevant_sentence_changes_no_spans(text, sentence, joint):
    assert found_spans(f"{text}{joint}{sentence}") == [[3.0, 7.5]]
    assert found_spans(f"{sentence}\n{text}") == [[3.0, 7.5]]


WORDS = st.lists(
    st.sampled_from(
        [
            "the",
            "sky",
            "looks",
            "clear",
            "while",
            "some",
            "trees",
            "move",
            "and",
            "one",
            "bird",
            "sings",
            "over",
            "water",
            "near",
            "our",
            "house",
        ]
    ),
    min_size=3,
    max_size=10,
).map(lambda words: f"{' '.join(words).capitalize()}.")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.sampled_from(COMMITTED), before=st.lists(WORDS, max_size=2), after=st.lists(WORDS, max_size=2))
def test_sentences_of_other_words_change_no_answer(text, before, after):
    assert replies.parse("\n".join([*before, text, *after]), ["answer"], FIVE).answer == 1


PIECES = st.sampled_from(
    [
        "Answer: ",
        "B",
        " or ",
        "[[",
        "1",
        ", ",
        "2",
        "]]",
        '{"answer": ',
        '"',
        "}",
        "<think>",
        "</think>",
        "not ",
        "\n",
        "| ",
        "[x] ",
        "0:05",
        " to ",
        "s",
        "秒",
        "到",
        "\uff22",
        "~~",
        "**",
        "\\boxed{",
        "A. ",
        "No. ",
        "wait, ",
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=25).map("".join)))
def test_parsing_is_total_and_deterministic(text):
    asks = ["answer", "spans", "expressions"]
    assert replies.parse(text, asks, FIVE) == replies.parse(text, asks, FIVE)
    replies.parse(text, ["spans"], ())


@pytest.mark.parametrize(
    "piece",
    [
        "| a | ",
        "|\n",
        "~~x",
        "<s>",
        "̶a",
        "[x] B ",
        "A. No ",
        "A) ",
        "wait, ",
        "not A but ",
        '{"a": ',
        "{'a': '",
        "\\text{",
        "1, ",
        "from 1 ",
        "1:00 ",
        "Start: 1 ",
        "从1秒",
        "answer is ",
        "I'd say ",
        "◁think▷",
        "####",
        "_a",
        "<answer>1",
        "B and ",
        "A is ",
        "not ",
        "a. ",
        '{"answer": "',
        "segments: 1",
        "the dog ",
        "[1, 2], ",
        "no evidence ",
    ],
)
def test_hostile_replies_of_100_kb_take_linear_time(piece):
    started = time.process_time()
    text = piece * (100_000 // len(piece))
    replies.parse(text, ["answer", "spans", "expressions"], FIVE)
    replies.parse(text, ["spans"], ())
    assert time.process_time() - started < 2
