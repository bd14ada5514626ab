"""Rewards of agents: the recorded cases of a published agent, and texts that must earn nothing."""

import json
from pathlib import Path

import pytest

from evqa.agents import loop
from evqa.agents.episode import Episode, EpisodeSetup, Limits
from evqa.agents.tag_actions import TagActionModel
from evqa.agents.tool import ToolOutput
from evqa.agents.transcript import Transcript
from evqa.models.messages import Message
from evqa.models.scripted import ScriptedModel
from evqa.schema import Sample, Span
from unipixel.rl.rewards import PRESETS, REWARDS, RewardTerm, case_of, num_invalid_turns, total

ORACLE = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "agents" / "episode" / "expected.json"
CASES = json.loads(ORACLE.read_text())["reward"] if ORACLE.is_file() else []
OPTIONS = ("lamp", "soup", "boat", "cup", "hat")


def play(tmp_path, texts, gold="a3", observations=(), opening="Question", **sample_fields):
    """Case of an agent that writes some texts, whose tools return some observations."""
    results = iter(observations)

    def visual_query(question: str) -> ToolOutput:
        """Look."""
        if not question.strip():
            raise ValueError("the question is empty")
        return ToolOutput((next(results, "A red cup."),))

    def request_grounding() -> ToolOutput:
        """Relocate."""
        return ToolOutput((next(results, "A new clip."),))

    script = tmp_path / "script.json"
    script.write_text(json.dumps({"*": list(texts)}))
    sample = Sample(
        id="s", video_id="v", video=tmp_path, question="What?", options=OPTIONS, answer=int(gold[1]), **sample_fields
    )
    episode = Episode(
        setup=EpisodeSetup(
            opening=(Message("user", (opening,)),), tools=(visual_query, request_grounding), needs_answer_tag=True
        ),
        transcript=Transcript(sample),
        limits=Limits(turns=max(len(texts) - 1, 1e-9), calls_per_turn=1, corrections=len(texts)),
    )
    return case_of(sample, loop.run(TagActionModel(ScriptedModel(replies=script)), episode))


def expected(case, name):
    """Accepted values of a field of an oracle case."""
    right = case["right"]
    return [right[name], *(fields[name] for fields in right.get("also_fine", ()) if name in fields)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.get("what") or case["turns"][-1][0][-40:])
def test_rewards_of_the_recorded_trajectories(tmp_path, case):
    texts, observations = zip(*case["turns"], strict=True)
    played = play(tmp_path, texts, case["gold"], [text for text in observations if text.strip()])
    assert round(total(PRESETS["longvideoagent"], played), 9) in expected(case, "compat_reward")
    assert round(total(PRESETS["strict"], played), 9) in expected(case, "reward")
    assert bool(REWARDS["correct"](played)) in expected(case, "correct_strict")
    assert bool(REWARDS["format"](played)) in expected(case, "grammar_in_every_turn")


RIGHT = "<reasoning>why</reasoning><answer>a3</answer>"
LOOK = "<reasoning>why</reasoning><search>cup?</search>"


@pytest.mark.parametrize("action", ["<Search>x</Search>", "<request_grounding>", "<answer>A3</ANSWER>"])
def test_a_spelling_that_is_only_accepted_is_not_in_the_grammar(tmp_path, action):
    played = play(tmp_path, [f"<reasoning>why</reasoning>{action}", RIGHT])
    assert REWARDS["format"](played) == 0


def test_a_prompt_cannot_change_a_reward(tmp_path):
    texts = [LOOK, "I do not know", "still nothing"]
    plain, prompted = (play(tmp_path, texts, opening=opening) for opening in ("Question", f"Write {RIGHT}"))
    for reward in REWARDS.values():
        if reward is not REWARDS["support"]:
            assert reward(plain) == reward(prompted)
    assert total(PRESETS["longvideoagent"], prompted) == pytest.approx(0.2)


def test_costs_of_calls_count_only_as_the_recipe_says(tmp_path):
    right, wrong = (play(tmp_path, [LOOK, LOOK, RIGHT], gold) for gold in ("a3", "a1"))
    term = RewardTerm(name="calls", weight=-0.1, only_correct=True, from_step=10)
    assert [total([term], case, step) for case in (right, wrong) for step in (9, 10)] == [0, -0.2, 0, 0]
    assert total([RewardTerm(name="calls", weight=-0.1)], wrong) == -0.2
    with pytest.raises(ValueError, match="unknown reward 'call'"):
        RewardTerm(name="call", weight=1)


def test_evidence(tmp_path):
    played = play(tmp_path, [RIGHT], spans=(Span(10, 20),), duration=100.0, evidence_clips=("c2",))
    cited = played.prediction.replace(spans=(Span(15, 20),), clips=("c1", "c2"))
    case = case_of(played.sample, cited)
    assert REWARDS["temporal-iou"](case) == 0.5
    assert REWARDS["span-length"](case) == 0.05
    assert REWARDS["clip-hit"](case) == 1
    assert REWARDS["clip-hit"](case_of(played.sample, cited.replace(clips=("c2", "c1")))) == 0
    everything = case_of(played.sample, cited.replace(spans=(Span(0, 100),)))
    assert REWARDS["temporal-iou"](everything) == 0.1
    assert REWARDS["span-length"](everything) == 1


# Texts that must earn nothing

QUOTES = [
    ("an answer inside an observation", [LOOK, "I see."], ["<answer>a3</answer>"]),
    ("an action and an answer inside an observation", [LOOK, "ok"], [RIGHT]),
    ("the copied prompt", ["<search>QUESTION</search> <request_grounding/> <answer>ANSWER</answer>"] * 2, []),
    ("all keys", ["<reasoning>why</reasoning>" + "".join(f"<answer>a{key}</answer>" for key in range(5))] * 2, []),
    ("all keys in one answer", ["<reasoning>why</reasoning><answer>a0 a1 a2 a3 a4</answer>"], []),
    ("the answer in the reasoning", [f"<reasoning>{RIGHT}</reasoning>"] * 2, []),
    ("the answer in a query", ["<reasoning>why</reasoning><search><answer>a3</answer></search>", "so"], []),
]


@pytest.mark.parametrize(("texts", "observations"), [row[1:] for row in QUOTES], ids=[row[0] for row in QUOTES])
def test_a_trick_is_not_rewarded_as_an_answer(tmp_path, texts, observations):
    tricked = play(tmp_path, texts, observations=observations)
    wrong = play(tmp_path, ["<reasoning>why</reasoning><answer>a1</answer>"])
    for preset in PRESETS.values():
        assert total(preset, tricked, step=1000) <= total(preset, wrong, step=1000)
    assert REWARDS["correct"](tricked) == 0


def test_repeated_calls_earn_nothing(tmp_path):
    once, often = (play(tmp_path, [*[LOOK] * count, RIGHT], evidence_clips=("c",)) for count in (1, 4))
    for preset in PRESETS.values():
        assert total(preset, often, step=1000) <= total(preset, once, step=1000)
    assert total(PRESETS["grounded"], often, step=1000) < total(PRESETS["grounded"], once, step=1000)


def test_spans_over_everything_and_visits_to_every_clip_do_not_pay(tmp_path):
    played = play(tmp_path, [RIGHT], spans=(Span(10, 20),), duration=100.0, evidence_clips=("c1",))
    terms = (RewardTerm(name="temporal-iou", weight=0.5), RewardTerm(name="span-length", weight=-0.1))
    cited, everything = (
        case_of(played.sample, played.prediction.replace(spans=spans, clips=("c0", "c1", "c2")))
        for spans in ((Span(12, 20),), (Span(0, 100),))
    )
    assert total(terms, everything) < 0 < total(terms, cited)
    assert REWARDS["clip-hit"](everything) == 0  # the last clip is not the right one
    nothing = case_of(played.sample, played.prediction.replace(spans=()))
    assert total(terms, nothing) == 0


def test_support_needs_evidence_that_was_inspected(tmp_path):
    fields = {"spans": (Span(10, 20),), "duration": 100.0}
    guess = play(tmp_path, [RIGHT], **fields)
    assert REWARDS["answer"](guess) == 1
    assert REWARDS["support"](guess) == 0


@pytest.mark.parametrize(
    ("texts", "valid", "invalid"),
    [
        ([LOOK, RIGHT], 1, 0),
        ([RIGHT], 1, 0),
        (["well", RIGHT], 0, 1),
        ([LOOK, "well", "hm"], 0, 2),
        (["<reasoning>why</reasoning><search>a</search><request_grounding/>", RIGHT], 0, 1),
    ],
)
def test_valid_turns(tmp_path, texts, valid, invalid):
    case = play(tmp_path, texts)
    assert (REWARDS["valid"](case), num_invalid_turns(case)) == (valid, invalid)
