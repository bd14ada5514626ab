"""Several videos, images, tools and decoding of a call with the tiny model."""

import numpy as np
import pytest

from evqa import media
from evqa.models.messages import Decoding, ImagePart, Message, ToolSpec, VideoPart
from evqa.schema import ToolCall

TOOLS = (ToolSpec("zoom", "Enlarge a region.", {"type": "object", "properties": {"second": {"type": "number"}}}),)


@pytest.fixture
def other_video(tmp_path):
    path = tmp_path / "other.mp4"
    media.write_video(path, np.random.default_rng(0).integers(0, 255, (5, 32, 96, 3), dtype=np.uint8), fps=2)
    return path


def test_several_videos_and_images_are_read_and_masks_are_those_of_the_first_video(speaker, video, other_video):
    chat = speaker("#")
    image = ImagePart(image=np.full((56, 56, 3), 90, dtype=np.uint8), second=1.5)
    parts = (VideoPart(video), "A", VideoPart(other_video), "B", image, "Which?")
    inputs = chat.reader.read([Message("user", parts)])
    assert len(inputs.visual) == 3
    assert "[1.5 s]" in chat.tokenizer.decode(inputs.input_ids)
    reply = chat.generate([Message("user", parts)])
    assert (reply.masks.size, reply.masks.num_frames) == ((48, 64), 9)
    swapped = chat.generate([Message("user", (VideoPart(other_video), "A", VideoPart(video), "Which?"))])
    assert (swapped.masks.size, swapped.masks.num_frames) == ((32, 96), 5)
    (alone,) = chat.generate_all([[Message("user", parts)]])
    assert alone.text == reply.text


def test_tools_calls_and_results_are_text_of_the_conversation(speaker, video):
    chat = speaker("#")
    messages = [
        Message("user", (VideoPart(video), "What?")),
        Message("assistant", ("I look.",), calls=(ToolCall(id="1", name="zoom", arguments='{"second": 2}'),)),
        Message("tool", ("A cup.", ImagePart(image=np.zeros((56, 56, 3), np.uint8), second=2.0)), call_id="1"),
    ]
    text = chat.tokenizer.decode(chat.reader.read(messages, tools=TOOLS).input_ids)
    assert text.startswith("<|im_start|>system\nYou are a helpful assistant.")
    for piece in ("Enlarge a region.", '<tool_call>\n{"name": "zoom", "arguments": {"second": 2}}', "[2.0 s]"):
        assert piece in text
    assert "<tool_response>\nA cup.\n</tool_response>" in text
    assert "<|im_start|>tool" not in text
    reply = chat.generate(messages, tools=TOOLS)
    assert (reply.calls, reply.finish) == ((), "length")
    with pytest.raises(ValueError, match="has no tool message"):
        chat.generate(messages[:2], tools=TOOLS)


def test_decoding_of_a_call_does_not_depend_on_the_rows_beside_it(speaker, video):
    chat = speaker("BC#", max_new_tokens=8)
    messages = [Message("user", (VideoPart(video), "What?"))]
    rows = [
        None,
        Decoding(temperature=40.0, seed=1),
        Decoding(temperature=40.0, seed=2),
        Decoding(temperature=40.0, seed=1, top_p=1e-6),
        Decoding(max_tokens=2),
    ]
    single = [chat.generate(messages, decoding=row) for row in rows]
    batch = chat._replies([chat._read(messages, (), row) for row in rows])
    assert [reply.text for reply in batch] == [reply.text for reply in single]
    greedy, first, second, nucleus, short = batch
    assert first.text != second.text
    assert nucleus.text == greedy.text == chat.generate(messages).text
    assert (short.text, short.finish, short.usage.output_tokens) == ("BB", "length", 2)
    assert all(len(reply.masks.tracks) == reply.text.count("<|seg|>") for reply in batch)


def test_a_stop_string_ends_the_text_and_leaves_no_masks_behind_it(speaker, video):
    chat = speaker("#", max_new_tokens=4)
    reply = chat.generate([Message("user", (VideoPart(video), "?"))], decoding=Decoding(stop=("<|seg|><|seg|>",)))
    assert (reply.text, reply.finish) == ("", "stop")
    assert reply.masks.tracks == ()
    assert reply.usage.output_tokens == 2
