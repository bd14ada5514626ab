"""Agent loop: episodes, limits, tool calls, image memory, and many episodes in lock step."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated

import numpy as np
import pytest
from pydantic import Field

from evqa.agents import loop
from evqa.agents.episode import Episode, EpisodeSetup, Limits, ModelRequest
from evqa.agents.memory import FORGOTTEN, without_old_images
from evqa.agents.tool import MAX_ARGUMENTS, Tool, ToolFailure, ToolOutput, call_tool, spec_of, tool_table
from evqa.agents.transcript import Transcript
from evqa.models.base import Capabilities, ModelError, RunAborted
from evqa.models.messages import Decoding, ImagePart, Message, Reply, ToolSpec, move_tool_images
from evqa.parsing import replies
from evqa.schema import NO_VIDEO, FrameRef, Prediction, Sample, ToolCall, Usage

SAMPLE = Sample(id="q", video_id="v", video=NO_VIDEO, question="What moves?", options=("circle", "square"), answer=1)
PIXELS = np.zeros((8, 8, 3), dtype=np.uint8)


class ReplyList:
    """Model that gives replies in order and keeps the requests."""

    name = "list"
    capabilities = Capabilities(tools="native")
    settings: Mapping[str, str] = MappingProxyType({})

    def __init__(self, *entries: Reply | Exception) -> None:
        self.entries = list(entries)
        self.requests: list[tuple[list[Message], tuple[ToolSpec, ...]]] = []

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        move_tool_images(messages)  # raises where a call has no tool message
        self.requests.append((list(messages), tuple(tools)))
        entry = self.entries.pop(0)
        if isinstance(entry, Exception):
            raise entry
        return entry


def frames(ids: Annotated[list[int], Field(min_length=1, description="ids of frames")], size: int = 8) -> ToolOutput:
    """Return frames.

    The first ten only.
    """
    parts = [
        ImagePart(image=PIXELS[:size], label=f"frame {i}", ref=FrameRef(index=i, second=float(i)))
        for i in ids
        if i < 100
    ]
    if not parts:
        raise ValueError("none of these frames exists")
    return ToolOutput((f"{len(parts)} frames", *parts))


def submit(answer: str, spans: list[tuple[float, float]], objects: list[str] = []) -> ToolOutput:  # noqa: B006
    """Submit the answer."""
    del spans, objects
    if answer not in "AB":
        raise ValueError("the answer is A or B")
    return ToolOutput(("submitted",), ends_episode=True)


def broken() -> ToolOutput:
    """Raise."""
    raise RuntimeError("out of order")


def unreachable() -> ToolOutput:
    """Ask a model that does not reply."""
    raise ModelError("no reply")


def call(name: str, identifier: str = "c1", **arguments: object) -> ToolCall:
    return ToolCall(id=identifier, name=name, arguments=json.dumps(arguments))


def acts(*calls: ToolCall, text: str = "", usage: Usage | None = None) -> Reply:
    return Reply(text, calls=calls, finish="tool_calls", usage=usage)


ANSWER = Reply('```json\n{"answer": "B", "segments": [[1, 2]], "referring_expressions": ["a square"]}\n```')


def new_episode(limits: Limits | None = None, tools: Sequence[Tool] = (frames, submit, broken, unreachable)) -> Episode:
    setup = EpisodeSetup(
        opening=(Message("system", ("role",)), Message("user", ("What moves?",))),
        tools=tools,
        answer_fields=("answer", "spans", "expressions"),
        answer_request="The answer is due.",
        answer_format="Give JSON.",
    )
    return Episode(setup=setup, transcript=Transcript(SAMPLE), limits=limits or Limits())


def run(*entries: Reply | Exception, limits: Limits | None = None) -> tuple[Prediction, ReplyList]:
    model = ReplyList(*entries)
    return loop.run(model, new_episode(limits)), model


def roles(model: ReplyList) -> list[str]:
    return [message.role for message in model.requests[-1][0]]


def test_an_answer_without_tools_ends_the_episode() -> None:
    prediction, model = run(ANSWER)
    assert (prediction.answer, prediction.stop) == (1, "answered")
    assert prediction.spans == ((1.0, 2.0),)
    assert prediction.expressions == ("a square",)
    assert [tool.name for tool in model.requests[0][1]] == ["frames", "submit", "broken", "unreachable"]
    assert replies.parse_turns(prediction.turns, SAMPLE).answer == 1


def test_each_call_has_one_tool_message_and_one_result() -> None:
    prediction, model = run(acts(call("frames", "a", ids=[3]), call("frames", "b", ids=[1])), ANSWER)
    assert roles(model) == ["system", "user", "assistant", "tool", "tool"]
    assert [message.call_id for message in model.requests[-1][0][3:]] == ["a", "b"]
    first = prediction.turns[0]
    assert [(result.call, result.ok, result.text) for result in first.results] == [
        ("a", True, "1 frames\nframe 3"),
        ("b", True, "1 frames\nframe 1"),
    ]
    assert [frame.index for result in first.results for frame in result.frames] == [3, 1]
    assert first.answer_fields == ()
    assert [frame.index for frame in prediction.turns[1].frames] == [3, 1]


def test_images_of_a_turn_follow_the_tool_messages_in_order_of_time_each_once() -> None:
    _, model = run(acts(call("frames", "a", ids=[7, 3]), call("frames", "b", ids=[1, 3])), ANSWER)
    moved = move_tool_images(model.requests[-1][0])
    assert [message.role for message in moved] == ["system", "user", "assistant", "tool", "tool", "user"]
    images = [part for part in moved[-1].parts if isinstance(part, ImagePart)]
    assert [image.label for image in images] == ["frame 1", "frame 3", "frame 7"]


@pytest.mark.parametrize(
    ("tool_call", "words"),
    [
        (call("zoom"), "there is no tool 'zoom': call one of frames, submit"),
        (ToolCall(id="c1", name="frames", arguments='{"ids": [3, 4'), "EOF while parsing"),
        (call("frames", frame_ids=[1]), "ids: Field required"),
        (call("frames", ids=[]), "at least 1 item"),
        (call("frames", ids="all"), "should be a valid array"),
        (call("frames", ids=[500]), "none of these frames exists"),
        (ToolCall(id="c1", name="frames", arguments=f'{{"ids": [{"1," * MAX_ARGUMENTS}1]}}'), "characters"),
        (ToolCall(id="c1", name="frames", arguments="[" * 5000), "recursion limit"),
        (ToolCall(id="c1", name="frames", arguments='{"ids": [1], "__class__": "x"}'), "Extra inputs"),
        (ToolCall(id="c1", name="malformed_call", arguments="<tool_call>{"), "the call cannot be read"),
        (call("submit", answer="maybe", spans=[]), "the answer is A or B"),
    ],
)
def test_an_invalid_call_is_explained_and_never_fails_the_sample(tool_call: ToolCall, words: str) -> None:
    prediction, _ = run(acts(tool_call), ANSWER)
    (result,) = prediction.turns[0].results
    assert not result.ok
    assert words in result.text
    assert len(result.text) < 1000
    assert (prediction.status, prediction.answer, prediction.stop) == ("ok", 1, "answered")


def test_a_tool_that_raises_fails_the_sample_and_keeps_its_turns() -> None:
    prediction, _ = run(acts(call("frames", ids=[1])), acts(call("broken")))
    assert prediction.status == "failed"
    assert "the tool broken failed: RuntimeError: out of order" in str(prediction.error)
    assert len(prediction.turns) == 2


def test_a_model_error_fails_the_sample_with_what_was_paid() -> None:
    error = ModelError("no reply")
    error.usage = Usage(input_tokens=7, seconds=0.1)
    prediction, _ = run(acts(call("frames", ids=[1])), error)
    assert prediction.status == "failed"
    assert [turn.usage and turn.usage.input_tokens for turn in prediction.turns] == [None, 7]
    assert run(acts(call("unreachable")))[0].error == "ModelError: no reply"


def test_an_aborted_run_carries_the_sample_in_progress() -> None:
    with pytest.raises(RunAborted) as caught:
        run(acts(call("frames", ids=[1])), RunAborted("no budget"))
    assert caught.value.prediction is not None
    assert len(caught.value.prediction.turns) == 1


def test_a_submission_ends_the_episode_and_can_be_parsed_again() -> None:
    arguments = {"answer": "B", "spans": [[3, 7.5]], "objects": ["the man in blue"]}
    prediction, model = run(
        acts(call("frames", ids=[1])), acts(call("submit", "s", **arguments), call("frames", "x", ids=[2]))
    )
    assert (prediction.stop, prediction.answer) == ("submitted", 1)
    assert prediction.spans == ((3.0, 7.5),)
    assert prediction.expressions == ("the man in blue",)
    assert [result.ok for result in prediction.turns[1].results] == [True, False]
    assert len(model.requests) == 2
    parsed = replies.parse_turns(prediction.turns, SAMPLE)
    assert (parsed.answer, parsed.spans, parsed.expressions) == (1, prediction.spans, prediction.expressions)


def test_the_last_request_is_announced_and_offers_no_tools() -> None:
    prediction, model = run(
        *[acts(call("frames", ids=[number])) for number in range(3)], ANSWER, limits=Limits(turns=3)
    )
    assert prediction.stop == "max_turns"
    assert prediction.answer == 1
    last_messages, last_tools = model.requests[-1]
    assert last_tools == ()
    assert last_messages[-1].parts == ("The answer is due.",)
    assert all(tools for _, tools in model.requests[:-1])


def test_a_call_in_the_last_reply_is_not_served() -> None:
    prediction, _ = run(acts(call("frames", ids=[1])), acts(call("frames", ids=[2])), limits=Limits(turns=1))
    assert (prediction.stop, prediction.answer) == ("max_turns", None)
    assert prediction.is_unparsed
    assert "tool in place of an answer" in prediction.stop_note
    assert not prediction.turns[1].results[0].ok


@pytest.mark.parametrize(
    ("limits", "stop"),
    [
        (Limits(tokens=100), "max_tokens"),
        (Limits(cost=0.5), "budget"),
        (Limits(images=2), "max_images"),
    ],
)
def test_each_limit_ends_the_episode_with_one_last_request(limits: Limits, stop: str) -> None:
    usage = Usage(input_tokens=90, output_tokens=20, cost=0.6, seconds=0)
    prediction, model = run(acts(call("frames", ids=[1, 2, 3]), usage=usage), ANSWER, limits=limits)
    assert (prediction.stop, prediction.answer) == (stop, 1)
    assert [bool(tools) for _, tools in model.requests] == [True, False]


def test_images_above_the_limit_are_left_out_and_reported() -> None:
    prediction, _ = run(acts(call("frames", ids=[1, 2, 3])), ANSWER, limits=Limits(images=2))
    (result,) = prediction.turns[0].results
    assert [frame.index for frame in result.frames] == [1, 2]
    assert "1 images left out: the limit of 2 images is reached" in result.text


def test_a_time_limit_that_passes_during_a_reply_still_serves_its_calls() -> None:
    now = [0.0]
    episode = new_episode(Limits(seconds=10))
    episode.clock = lambda: now[0]
    episode.__post_init__()
    assert episode.next_request() is not None
    now[0] = 11.0
    episode.receive(acts(call("frames", ids=[1])))
    assert episode.transcript.turns[0].results[0].ok
    request = episode.next_request()
    assert request is not None
    assert request.is_last
    episode.receive(ANSWER)
    assert episode.prediction().stop == "timeout"


def test_calls_above_the_number_per_turn_are_refused() -> None:
    calls = [call("frames", f"c{number}", ids=[number]) for number in range(4)]
    prediction, _ = run(acts(*calls), ANSWER, limits=Limits(calls_per_turn=2))
    assert [result.ok for result in prediction.turns[0].results] == [True, True, False, False]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_reply_is_corrected_once(text: str) -> None:
    prediction, model = run(Reply(text), ANSWER)
    assert roles(model) == ["system", "user", "assistant", "user"]
    assert "empty" in str(model.requests[-1][0][-1].parts[0])
    assert (prediction.answer, prediction.stop) == (1, "answered")
    prediction, _ = run(Reply(text), Reply(text))
    assert (prediction.status, prediction.answer, prediction.stop) == ("ok", None, "invalid")


def test_an_answer_that_is_no_option_is_corrected_once_and_never_guessed() -> None:
    prediction, model = run(Reply('{"answer": "E"}'), ANSWER)
    assert (prediction.answer, len(model.requests)) == (1, 2)
    prediction, _ = run(Reply('{"answer": "E"}'), Reply('{"answer": "F"}'))
    assert (prediction.answer, prediction.stop, prediction.is_unparsed) == (None, "answered", True)


def test_corrections_count_in_a_row_and_spend_turns() -> None:
    entries = [Reply(""), acts(call("frames", ids=[1])), Reply(""), ANSWER]
    prediction, _ = run(*entries)
    assert prediction.stop == "answered"
    prediction, model = run(*entries, limits=Limits(turns=3))
    assert prediction.stop == "max_turns"
    assert len(model.requests) == 4


@pytest.mark.parametrize("setting", [{"turns": 0}, {"tokens": -1}, {"cost": float("nan")}, {"images": -1}])
def test_limits_are_checked(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Limits(**setting)  # type: ignore[arg-type]


# Memory


def conversation(rounds: int) -> list[Message]:
    image = ImagePart(image=PIXELS, label="frame 0")
    messages = [Message("system", ("role",)), Message("user", ("question", image))]
    for number in range(1, rounds + 1):
        calls = (call("frames", f"c{number}", ids=[number]),)
        result = ImagePart(image=PIXELS, label=f"frame {number}")
        messages += [Message("assistant", (), calls=calls), Message("tool", ("text", result), call_id=f"c{number}")]
    return messages


def labels(messages: Sequence[Message]) -> list[str]:
    return [part.label for message in messages for part in message.parts if isinstance(part, ImagePart)]


@pytest.mark.parametrize(
    ("keep_rounds", "max_images", "expected"),
    [
        (None, None, ["frame 0", "frame 1", "frame 2", "frame 3"]),
        (1, None, ["frame 0", "frame 3"]),
        (0, None, ["frame 0"]),
        (2, None, ["frame 0", "frame 2", "frame 3"]),
        (None, 2, ["frame 2", "frame 3"]),
        (None, 0, []),
        (5, 9, ["frame 0", "frame 1", "frame 2", "frame 3"]),
    ],
)
def test_old_images_are_replaced_by_their_labels(
    keep_rounds: int | None, max_images: int | None, expected: list[str]
) -> None:
    before = conversation(3)
    after = without_old_images(before, keep_rounds=keep_rounds, max_images=max_images)
    assert labels(after) == expected
    texts = [part for message in after for part in message.parts if isinstance(part, str)]
    assert sum(FORGOTTEN in text for text in texts) == 4 - len(expected)
    assert labels(before) == ["frame 0", "frame 1", "frame 2", "frame 3"]


def test_the_record_keeps_the_frames_that_a_later_request_leaves_out() -> None:
    entries = [acts(call("frames", ids=[1])), acts(call("frames", ids=[2])), ANSWER]
    prediction, model = run(*entries, limits=Limits(keep_rounds=1))
    assert labels(model.requests[-1][0]) == ["frame 2"]
    assert [frame.index for turn in prediction.turns for result in turn.results for frame in result.frames] == [1, 2]


# Lock step


def test_many_episodes_in_lock_step_equal_one_after_another() -> None:
    scripts: list[list[Reply | Exception]] = [
        [ANSWER],
        [acts(call("frames", ids=[1])), ANSWER],
        [acts(call("frames", ids=[1])), acts(call("zoom")), Reply(""), ANSWER],
        [acts(call("broken"))],
        [acts(call("frames", ids=[1])), ModelError("no reply")],
        [acts(call("submit", answer="A", spans=[]))],
    ]
    alone = [run(*script)[0] for script in scripts]
    models = [ReplyList(*script) for script in scripts]
    episodes = [new_episode() for _ in scripts]
    sizes: list[int] = []

    def generate(requests: Sequence[ModelRequest]) -> list[Reply | ModelError]:
        sizes.append(len(requests))
        return [_reply(models, episodes, request) for request in requests]

    together = loop.run_together(generate, episodes)
    assert [p.replace(seconds=0.0) for p in together] == [p.replace(seconds=0.0) for p in alone]
    assert sizes == [6, 3, 1, 1]
    assert [_texts(model) for model in models] == [_texts(run(*script)[1]) for script in scripts]


def _texts(model: ReplyList) -> list[list[tuple[str, list[str]]]]:
    """Role and parts of each message of each request, images by their labels."""
    return [
        [
            (message.role, [part.label if isinstance(part, ImagePart) else str(part) for part in message.parts])
            for message in messages
        ]
        for messages, _ in model.requests
    ]


def _reply(models: list[ReplyList], episodes: list[Episode], request: ModelRequest) -> Reply | ModelError:
    (number,) = [n for n, episode in enumerate(episodes) if episode.next_request() is request]
    try:
        return models[number].generate(request.messages, tools=request.tools)
    except ModelError as error:
        return error


# Tools


def test_a_specification_has_name_docstring_and_schema() -> None:
    spec = spec_of(frames)
    assert spec.name == "frames"
    assert spec.description == "Return frames.\n\nThe first ten only."
    assert spec.parameters["required"] == ["ids"]
    properties = spec.parameters["properties"]
    assert properties == {
        "ids": {"description": "ids of frames", "items": {"type": "integer"}, "minItems": 1, "type": "array"},
        "size": {"default": 8, "type": "integer"},
    }


def test_tools_have_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="names of their own"):
        tool_table([frames, frames])


def test_text_of_arguments_is_converted_where_it_is_unambiguous() -> None:
    output = call_tool(tool_table([frames]), ToolCall(id="c", name="frames", arguments='{"ids": ["3", 4.0]}'))
    assert [frame.index for frame in output.all_frames] == [3, 4]


def test_a_failure_names_the_tool() -> None:
    with pytest.raises(ToolFailure, match="broken failed: RuntimeError"):
        call_tool(tool_table([broken]), call("broken"))
