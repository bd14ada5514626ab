from pathlib import Path

import pytest

from evqa import prompts
from evqa.schema import Sample, Span

SAMPLE = Sample(
    id="s1",
    video_id="v1",
    video=Path("v1.mp4"),
    question="Which ball rolls? ",
    options=("red", "blue"),
    answer=1,
)
OPEN = Sample(id="s2", video_id="v1", video=Path("v1.mp4"), question="What rolls?")


def test_the_trained_prompt_is_question_options_and_one_fixed_sentence():
    assert prompts.evidence_prompt(SAMPLE, "evidence", duration=12.0, times=[0.0, 1.0]) == (
        "Which ball rolls?\nOptions:\n(A) red\n(B) blue\n"
        "Answer with temporal evidence [[start1, end1], ...] and spatial evidence masks."
    )


def test_an_open_question_has_no_options_in_either_dialect():
    assert prompts.evidence_prompt(OPEN, "evidence") == f"What rolls?\n{prompts.TRAINED_INSTRUCTION}"
    assert "Options:" not in prompts.evidence_prompt(OPEN, "json")
    assert '"answer": a short phrase' in prompts.evidence_prompt(OPEN, "json")


def test_the_json_prompt_names_its_keys_and_the_clock():
    text = prompts.evidence_prompt(SAMPLE, "json", duration=12.34, times=[0.0, 0.5, 11.96])
    assert "The video lasts 12.3 seconds." in text
    assert "at these seconds: 0.0, 0.5, 12.0." in text
    assert "Which ball rolls?\nOptions:\n(A) red\n(B) blue" in text
    assert all(f'"{key}"' in text for key in ("answer", "segments", "referring_expressions"))


def test_the_json_prompt_says_nothing_of_a_clock_that_is_not_given():
    text = prompts.evidence_prompt(SAMPLE, "json")
    assert text.startswith("Which ball rolls?")
    assert "lasts" not in text


def test_every_letter_labels_an_option_and_there_are_no_more():
    lines = prompts.option_lines([f"choice {number}" for number in range(26)]).splitlines()
    assert lines[0] == "(A) choice 0"
    assert lines[25] == "(Z) choice 25"
    with pytest.raises(ValueError, match=r"at most 26 options.*got 27"):
        prompts.option_lines([str(number) for number in range(27)])


def test_the_target_is_the_published_text():
    assert (
        prompts.evidence_target(1, (Span(0.0, 14.5),))
        == "Answer: B. Temporal Evidence: [[0.0, 14.5]]. Spatial Evidence: <|seg|>."
    )
    assert prompts.evidence_target(0, ()) == "Answer: A. Spatial Evidence: <|seg|>."
    assert (
        prompts.evidence_target(2, (Span(1.04, 2.06), Span(10, 11)))
        == "Answer: C. Temporal Evidence: [[1.0, 2.1], [10.0, 11.0]]. Spatial Evidence: <|seg|>."
    )
    with pytest.raises(ValueError, match="from 0 to 25, got 26"):
        prompts.evidence_target(26, ())
