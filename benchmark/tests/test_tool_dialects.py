"""Text dialects of tool calls: every recorded case of published agents, and hostile text."""

import json
import random
import time
from pathlib import Path

import pytest

from evqa.models import tool_dialects
from evqa.models.messages import ImagePart, Message, ToolSpec, check_tool_messages
from evqa.models.tool_dialects import DIALECTS, HERMES, MALFORMED, to_text_messages
from evqa.parsing import action_tags
from evqa.schema import ToolCall, ToolResult

ORACLES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "agents"
needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason=f"no recorded agents in {ORACLES}")

FRAMES = ToolSpec(
    "select_frames",
    "Show frames.",
    {"type": "object", "properties": {"frame_indices": {"type": "array", "items": {"type": "integer"}}}},
)


def recorded(name: str) -> dict:
    return json.loads((ORACLES / name / "expected.json").read_text(encoding="utf-8"))


def action_of(turn: str) -> dict:
    """What an agent does with a turn of the dialect `tags`."""
    text, calls = DIALECTS["tags"].parse(turn)
    if not calls:
        answer = action_tags.last_answer(text)
        return {"action": "invalid"} if answer is None else {"action": "answer", "content": answer}
    assert len(calls) == 1
    if calls[0].name == MALFORMED:
        return {"action": "invalid"}
    arguments = json.loads(calls[0].arguments)
    if calls[0].name == "request_grounding":
        assert arguments == {}
        return {"action": "relocate"}
    assert calls[0].name == "visual_query"
    return {"action": "look", "content": arguments["question"]}


def alternatives(right: dict) -> list[dict]:
    return [right, *(right | entry for entry in right.get("also_fine", []))]


@needs_oracles
def test_recorded_turns_of_the_action_tags_are_read_as_the_specification_says():
    cases = recorded("episode")["actions"]
    assert len(cases) == 18
    for case in cases:
        right = case["right"]
        assert action_of(case["turn"]) == {key: right[key] for key in ("action", "content") if key in right}, case


@needs_oracles
def test_recorded_episodes_have_the_actions_that_the_specification_lists():
    count = 0
    for file in recorded("episode")["evaluator"].values():
        for question in file["questions"]:
            replies = [reply for reply in question["master_script"] if not reply.startswith("!500")]
            for reply, right in zip(replies, question["right"]["turns"], strict=False):
                action = action_of(reply)
                if right.get("why") == "the answer is no option":
                    assert action["action"] == "answer"  # the episode knows the options, the dialect does not
                    continue
                assert action["action"] == right["action"], (question["case"], reply)
                assert action.get("content") == right.get("query", right.get("text")), (question["case"], reply)
                count += 1
    assert count > 30


@needs_oracles
def test_recorded_turns_of_the_trainer_end_or_go_on_as_the_specification_says():
    for case in recorded("episode")["trainer"]["turns"]:
        assert (action_of(case["turn"])["action"] == "answer") == (case["right"]["episode"] == "ends"), case


def call_or_not(dialect: str, reply: str, numbering: tool_dialects.FrameNumbering) -> dict:
    """What a pairwise judge does with a reply: it answers, calls, or has to be corrected."""
    text, calls = DIALECTS[dialect].parse(reply)
    if not calls:
        answer = action_tags.last_answer(text)
        return {"kind": "correct"} if answer is None else {"kind": "verdict"}
    indices: list[int] = []
    for call in calls:
        if call.name != "select_frames":
            return {"kind": "correct"}
        try:
            indices += numbering.read(call.arguments)
        except ValueError:
            return {"kind": "correct"}
    return {"kind": "call", "indices": indices}


@needs_oracles
def test_recorded_replies_of_the_pairwise_judge_are_calls_or_answers_as_the_specification_says():
    cases = recorded("judge")["replies"]
    assert len(cases) == 32
    unread = {"verdict incomplete or outside 0, 1, 2", "OA is named twice with different labels"}
    for case in cases:
        right = case["right"]
        result = call_or_not("vrthinker", case["reply"], tool_dialects.PAIR_NUMBERING)
        kinds = [{key: entry[key] for key in ("kind", "indices") if key in entry} for entry in alternatives(right)]
        if right.get("why") in unread or "label is due" in right.get("why", ""):
            kinds = [{"kind": "verdict"}]  # its labels are read by the judge, not by the dialect
        assert result in kinds, (case, result)


@needs_oracles
def test_recorded_conversations_of_the_pairwise_judge_request_the_recorded_frames():
    for conversation in recorded("judge")["conversations"]:
        for reply, step in zip(conversation["replies"], conversation["right"]["steps"], strict=False):
            result = call_or_not("vrthinker", reply, tool_dialects.PAIR_NUMBERING)
            if step["kind"] == "call":
                numbers = result["indices"]
                assert numbers == step["requested"], conversation["case"]
                selection = tool_dialects.PAIR_NUMBERING.select(numbers, 128)
                assert list(selection.out_of_range) == step["out_of_range"], conversation["case"]
                assert list(selection.over_limit) == step["over_limit"], conversation["case"]
                assert list(selection.repeated) == step["repeated"], conversation["case"]
                shown = {pair[0] for pair in step["pairs"]} | set(step["unreadable"])
                assert shown == set(selection.numbers), conversation["case"]


@needs_oracles
def test_recorded_calls_over_the_concatenation_select_the_recorded_slots():
    cases = recorded("judge")["dialects"]["calls_in_the_second_dialect"]
    assert len(cases) == 15
    numbering = tool_dialects.CONCAT_NUMBERING
    for case in cases:
        call = ToolCall(id="1", name="select_frames", arguments=json.dumps({"target_frames": case["target_frames"]}))
        dialect = DIALECTS["vrthinker-concat"]
        (parsed,) = dialect.parse(dialect.render_calls([call])).calls
        count = case["frames_in_concatenation"]
        try:
            selection = numbering.select(numbering.read(parsed.arguments), count)
        except ValueError:
            selection = tool_dialects.FrameSelection((), (), (), ())
        chosen = [(number, *numbering.slot(number, count)) for number in selection.numbers]
        right = case["right"]
        assert chosen == [(row["number"], row["video"], row["slot"]) for row in right["shown"]], case
        assert list(selection.out_of_range) == right["out_of_range"], case
        assert list(selection.over_limit) == right["over_limit"], case
        assert (not chosen) == right["correct"], case


@needs_oracles
@pytest.mark.parametrize("name", ["hermes", "json", "vrthinker"])
def test_recorded_calls_of_the_retrieval_agent_survive_being_written_and_read(name: str):
    dialect, count = DIALECTS[name], 0
    for conversation in recorded("retrieve")["conversations"]:
        for entry in conversation["script"]:
            calls = [ToolCall(**call) for call in entry.get("tool_calls", [])]
            text = entry.get("content") or ""
            parsed = dialect.parse(f"{text}\n{dialect.render_calls(calls)}")
            assert parsed.text == text.strip()
            assert [(call.name, loaded(call.arguments)) for call in parsed.calls] == [
                (call.name, loaded(call.arguments)) for call in calls
            ]
            count += len(calls)
    assert count > 25


def loaded(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


@pytest.mark.parametrize(
    ("reply", "text", "calls"),
    [
        (
            'Look.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\nDone.',
            "Look.\n\nDone.",
            [("f", '{"a": 1}')],
        ),
        (
            '<tool_call>{"name": "f", "arguments": {"q": "</tool_call>"}}</tool_call>',
            "",
            [("f", '{"q": "</tool_call>"}')],
        ),
        ('<tool_call>{"name": "f", "arguments": {}}', "", [("f", "{}")]),  # cut off behind the JSON
        ('<tool_call>{"name": "f", "argum', "", [(MALFORMED, '{"name": "f", "argum')]),
        ('<tool_call>{"name": "f"} trailing</tool_call>', "", [(MALFORMED, '{"name": "f"} trailing')]),
        ("<tool_call></tool_call>", "", [(MALFORMED, "")]),
        ('<tool_call>{bad<tool_call>{"name": "f"}</tool_call>', "", [(MALFORMED, "{bad"), ("f", "{}")]),
        ('<tool_call>```json\n{"name": "f", "arguments": [1,]}\n```</tool_call>', "", [("f", "[1]")]),
        ('<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', "", [(MALFORMED, None)]),
        ('<tool_call>{"name": 3, "arguments": {}}</tool_call>', "", [(MALFORMED, None)]),
        (
            '<think><tool_call>{"name": "g"}</tool_call></think><tool_call>{"name": "f"}</tool_call>',
            '<think><tool_call>{"name": "g"}</tool_call></think>',
            [("f", "{}")],
        ),
        (
            'I may <tool_call>{"name": "g"}</tool_call></think>Yes.',
            'I may <tool_call>{"name": "g"}</tool_call></think>Yes.',
            [],
        ),
    ],
)
def test_hermes_reads_calls_and_keeps_malformed_ones(reply: str, text: str, calls: list[tuple[str, str | None]]):
    parsed = HERMES.parse(reply)
    assert parsed.text == text
    assert [call.name for call in parsed.calls] == [name for name, _ in calls]
    for call, (_, arguments) in zip(parsed.calls, calls, strict=True):
        assert arguments is None or call.arguments == arguments
    assert [call.id for call in parsed.calls] == [f"call_{number}" for number in range(1, len(calls) + 1)]


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', ["f"]),
        (
            'Now:\n```json\n{"name": "f", "arguments": {}}\n```\nand\n```\n{"name": "g", "parameters": {}}\n```',
            ["f", "g"],
        ),
        ('```json\n{"answer": "B"}\n```', []),
        ('{"answer": "B"}', []),
        ('```json\n{"name": "f", "arguments": {"a": \n```', [MALFORMED]),
        ("Prose with ``` one mark.", []),
    ],
)
def test_json_reads_calls_and_leaves_answers(reply: str, names: list[str]):
    parsed = DIALECTS["json"].parse(reply)
    assert [call.name for call in parsed.calls] == names
    assert names or parsed.text == reply


def test_calls_beyond_the_limit_are_one_malformed_call():
    for dialect in ("hermes", "json"):
        calls = [ToolCall(id=str(number), name="f", arguments=f'{{"a": {number}}}') for number in range(200)]
        parsed = DIALECTS[dialect].parse(DIALECTS[dialect].render_calls(calls))
        assert len(parsed.calls) == tool_dialects.MAX_CALLS + 1
        assert parsed.calls[-1].name == MALFORMED
        assert '{"a": 199}' in parsed.calls[-1].arguments


TOKENS = (
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "<Snapshot>", "</Snapshot>", "<reasoning>", "</reasoning>"),
    *(
        "<search>",
        "</search>",
        "<answer>",
        "</answer>",
        "<request_grounding/>",
        "<request_grounding>",
        "```",
        "```json",
    ),
    *('{"name": "f", "arguments": {"a": 1}}', '"', "\\", "\\\\", "{", "}", "[", "]", ",", ":", '"name"', '"arguments"'),
    *("1e999", "\ud800", "\x00", "\n", "   ", "word", "9" * 40, "<final answer>", "</final answer>"),
)


@pytest.mark.parametrize("name", list(DIALECTS))
def test_no_text_breaks_a_dialect(name: str):
    dice = random.Random(7)
    for _ in range(1500):
        reply = "".join(dice.choices(TOKENS, k=dice.randrange(1, 30)))
        parsed = DIALECTS[name].parse(reply)
        assert len({call.id for call in parsed.calls}) == len(parsed.calls)
        assert all(call.name and isinstance(call.arguments, str) for call in parsed.calls)
        for call in parsed.calls:
            call.arguments.encode()  # a file can hold it
        DIALECTS[name].render_calls(parsed.calls)


@pytest.mark.parametrize("name", list(DIALECTS))
def test_hostile_text_takes_linear_time(name: str):
    units = [
        *TOKENS,
        '<tool_call>"',
        '<tool_call>{"a',
        '\\"',
        "<search><answer>",
        "</think><think>",
        ',"\\',
        "[{",
        '{"a":',
    ]
    for unit in units:
        reply = unit * (400_000 // len(unit))
        start = time.process_time()
        DIALECTS[name].parse(f"<tool_call>{reply}")
        assert time.process_time() - start < 3.0, unit


def test_tools_and_results_become_text_of_the_known_roles():
    image = ImagePart(path=Path("frame.png"), second=1.0)
    calls = tuple(ToolCall(id=name, name="select_frames", arguments='{"frame_indices": [1]}') for name in "ab")
    messages = [
        Message("system", ("Be brief.",)),
        Message("user", ("Which?",)),
        Message("assistant", ("I look.",), calls=calls),
        Message("tool", ("frame 1", image), call_id="a"),
        Message("tool", ("frame 2",), call_id="b"),
    ]
    converted = to_text_messages(messages, [FRAMES])
    assert [message.role for message in converted] == ["system", "user", "assistant", "user"]
    assert "select_frames" in str(converted[0].parts)
    assert HERMES.parse(str(converted[2].parts[0])).calls == tuple(
        call.model_copy(update={"id": f"call_{number}"}) for number, call in enumerate(calls, start=1)
    )
    assert converted[3].parts == (
        "<tool_response>\nframe 1\n</tool_response>",
        image,
        "<tool_response>\nframe 2\n</tool_response>",
    )
    assert to_text_messages(messages[:2], []) == messages[:2]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "'a' has no tool message"),
        (["a"], "'b' has no tool message"),
        (["a", "b", "a"], "'a' needs exactly one"),
        (["a", "b", "c"], "'c' needs exactly one"),
    ],
)
def test_each_call_needs_exactly_one_result(results: list[str], message: str):
    calls = tuple(ToolCall(id=name, name="f", arguments="{}") for name in "ab")
    rest = [Message("tool", ("r",), call_id=name) for name in results]
    with pytest.raises(ValueError, match=message):
        check_tool_messages([Message("assistant", (), calls=calls), *rest, Message("user", ("go on",))])


def test_a_result_without_a_call_is_refused():
    with pytest.raises(ValueError, match="follows no message with tool calls"):
        check_tool_messages([Message("user", ("hi",)), Message("tool", ("r",), call_id="a")])


def test_the_action_tags_explain_their_tools_and_refuse_others():
    tags = DIALECTS["tags"]
    looks = [ToolSpec("visual_query", "Look.", {}), ToolSpec("request_grounding", "Move.", {})]
    explanation = tags.explain(looks)
    assert "<search>" in explanation
    assert "<request_grounding/>" in explanation
    with pytest.raises(ValueError, match="got 'select_frames'"):
        tags.explain([FRAMES])
    calls = tags.parse("<reasoning>r</reasoning><search>red?</search>").calls
    assert tags.render_calls(calls) == "<search>red?</search>"
    assert tags.render_result(ToolResult(call="1", ok=True, text="A cup.")) == "<information>A cup.</information>"
