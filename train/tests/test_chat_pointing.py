"""Pointing at objects, several conversations at once, letters and sampling through the chat interface."""

import math

import numpy as np
import pytest
import torch

from evqa import masks, media
from evqa.models.messages import Message, PointOrBox, VideoPart
from evqa.schema import LETTERS, Track
from unipixel.data.clip import FrameSampling
from unipixel.model.output import Generation


def chat_of(clip, text="Where?"):
    return [Message("user", (clip, text))]


def read_text(chat, messages):
    return chat.tokenizer.decode(chat.reader.read(messages).input_ids)


def test_a_place_takes_its_frame_into_view_and_keeps_its_pixel_and_moment(speaker, video):
    chat = speaker("#")
    clip = VideoPart(video, prompts=(PointOrBox((32, 24), second=0.25), PointOrBox((0, 0, 64, 48), second=2.0)))
    found = chat.reader.read(chat_of(clip, "Are <|ref|> and <|ref|> one?"))
    assert found.clip.indices == [1, 3, 5, 8], "frame 1 (0.25 s) stands in for the first of 0, 3, 5, 8"
    point, box = found.places
    assert point.points == ((64.0, 64.0),)
    assert point.moment == pytest.approx(0 / 3)
    assert box.points == ((0.0, 0.0), (128.0, 128.0))
    assert box.moment == pytest.approx(3 / 3)
    other = chat.reader.read(
        chat_of(VideoPart(video, prompts=(PointOrBox((33, 24), second=0.25), *clip.prompts[1:])), "<|ref|> <|ref|>")
    )
    assert other.places[0] != point
    assert chat.generate(chat_of(clip, "Are <|ref|> and <|ref|> one?")).text == "<|seg|><|seg|>"


def test_places_and_their_tokens_must_match_and_lie_in_the_frame(speaker, video):
    chat = speaker("#")
    with pytest.raises(ValueError, match=r"has 1 <\|ref\|> tokens, and 0 places came"):
        chat.generate(chat_of(VideoPart(video), "Who is <|ref|>?"))
    with pytest.raises(ValueError, match="within the frame of 64 x 48 pixels"):
        chat.generate(chat_of(VideoPart(video, prompts=(PointOrBox((65, 3)),)), "Who is <|ref|>?"))
    with pytest.raises(ValueError, match="a point"):
        PointOrBox((1, 2, 3))
    with pytest.raises(ValueError, match=r"must not contain <\|mem\|>"):
        chat.generate(chat_of(VideoPart(video), "Who is <|mem|>?"))


def test_a_region_is_told_behind_its_clip_and_shown_where_it_is(speaker, video, square):
    chat = speaker("#")
    late = Track(masks={index: rle for index, rle in square.masks.items() if index >= 5})
    clip = VideoPart(video, regions=(square, late))
    text = read_text(chat, chat_of(clip, "Does [1] meet [2]?"))
    assert text.endswith(
        "<|vision_end|>Here is a video with 4 frames denoted as <1> to <4>. The highlighted regions are as follows:\n"
        "[1]: <1>-<2> <|mem|> <3>-<4> <|mem|>\n[2]: <3>-<4> <|mem|>\nDoes [1] meet [2]?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    (cells,) = chat.reader.read(chat_of(clip)).regions
    assert cells.shape == (2, 2, 3, 4)
    assert not cells[0, 1].any()
    assert cells[0, 0].any()
    assert chat.generate(chat_of(clip, "Does [1] meet [2]?")).text == "<|seg|><|seg|>"
    with torch.inference_mode():
        other = chat.model(**chat.reader.collate([chat.reader.read(chat_of(clip))])).states
        moved = chat.reader.read(chat_of(VideoPart(video, regions=(late, square))))
        assert not torch.equal(chat.model(**chat.reader.collate([moved])).states, other)


def test_a_region_that_no_sampled_frame_shows_brings_its_own_frame(speaker, video, square):
    chat = speaker("#")
    brief = Track(masks={4: square.masks[4]})
    found = chat.reader.read(chat_of(VideoPart(video, regions=(brief,))))
    assert found.clip.indices == [0, 4, 5, 8]
    with pytest.raises(ValueError, match=r"region \[1\] has no pixel"):
        chat.generate(chat_of(VideoPart(video, regions=(Track(masks={}),))))
    wrong = Track(masks={0: masks.encode(np.ones((3, 3), dtype=bool))})
    with pytest.raises(ValueError, match=r"region \[1\] has masks of \(3, 3\)"):
        chat.generate(chat_of(VideoPart(video, regions=(wrong,))))


def test_two_passes_follow_what_is_pointed_at_and_ask_about_it(speaker, video):
    chat = speaker("B")
    found = chat.segment_prompts(
        VideoPart(video, prompts=(PointOrBox((10, 20), second=0.0), PointOrBox((40, 15, 60, 30), second=2.0)))
    )
    assert len(found.tracks) == 2
    assert found.num_frames == 9
    assert all(track.masks for track in found.tracks)
    reply = chat.generate(chat_of(VideoPart(video, regions=found.tracks), "What do [1] and [2] do?"))
    assert reply.text == "BB"
    with pytest.raises(ValueError, match="needs places"):
        chat.segment_prompts(VideoPart(video))


def test_conversations_at_once_get_the_replies_of_each_alone(speaker, video, square, tmp_path):
    chat = speaker("#")
    other = tmp_path / "other.mp4"
    media.write_video(other, np.random.default_rng(0).integers(0, 255, (5, 32, 96, 3), dtype=np.uint8), fps=2)
    conversations = [
        chat_of(VideoPart(video), "Where?"),
        chat_of(VideoPart(other), "And what of this longer question?"),
        chat_of(VideoPart(video, regions=(square,)), "Where is [1]?"),
        [Message("user", ("No video",))],
        [
            *chat_of(VideoPart(video), "Where?"),
            Message("assistant", ("It is <|seg|>.",)),
            Message("user", ("And now?",)),
        ],
    ]
    together = chat.generate_all(conversations)
    for ours, messages in zip(together, conversations, strict=True):
        single = chat.generate(messages)
        assert ours.text == single.text == "<|seg|><|seg|>"
        assert (ours.masks is None) == (single.masks is None)
        if ours.masks is None:
            continue
        assert (ours.masks.size, ours.masks.num_frames) == (single.masks.size, single.masks.num_frames)
        assert len(ours.masks.tracks) == 2, "an earlier answer's object is not drawn again"
        for one, two in zip(ours.masks.tracks, single.masks.tracks, strict=True):
            assert one.score == pytest.approx(two.score, abs=1e-5)
            pairs = [(masks.decode(one.masks[i]), masks.decode(two.masks[i])) for i in one.masks if i in two.masks]
            assert sum(int((a != b).sum()) for a, b in pairs) <= 2


def test_the_letter_of_an_answer_comes_with_the_probability_of_every_letter(speaker, video):
    chat = speaker("BC", max_new_tokens=1)
    letters = chat.generate(chat_of(VideoPart(video))).option_logprobs
    assert letters.keys() == set(LETTERS)
    assert sum(math.exp(value) for value in letters.values()) <= 1 + 1e-5
    assert max(letters, key=letters.get) == "B"
    assert sorted(letters, key=letters.get)[-2] == "C"
    with torch.no_grad():
        state = chat.model.generate_one(**chat.reader.collate([chat.reader.read(chat_of(VideoPart(video)))]))
        wanted = chat.model.log_probabilities(state.states[:1])[0, chat.tokenizer.convert_tokens_to_ids("B")]
    assert letters["B"] == pytest.approx(float(wanted), abs=1e-5)
    assert speaker("#").generate(chat_of(VideoPart(video))).option_logprobs is None


def test_sampling_starts_from_its_seed_and_leaves_torch_as_it_was(speaker, video):
    arguments = {"max_new_tokens": 12, "temperature": 40.0}
    chat = speaker("BC#", **arguments, seed=1)
    before = torch.random.get_rng_state()
    first = chat.generate(chat_of(VideoPart(video)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert chat.generate(chat_of(VideoPart(video))).text == first.text
    assert len(first.masks.tracks) == first.text.count("<|seg|>")
    chat.decoding = chat.decoding._replace(seed=2)
    assert chat.generate(chat_of(VideoPart(video))).text != first.text
    assert chat.settings["decoding"] == "temperature 40.0, seed 2"
    assert speaker("B").settings["decoding"] == "greedy"


def test_samples_of_one_question_have_seeds_of_their_own(speaker, video):
    chat = speaker("BC#", max_new_tokens=12, temperature=40.0, batch_size=2)
    question = chat_of(VideoPart(video))
    drawn = chat.samples(question, 3)
    assert len({reply.text for reply in drawn}) == 3
    assert drawn[0].text == chat.generate(question).text
    assert all(len(reply.masks.tracks) == reply.text.count("<|seg|>") for reply in drawn)
    assert [reply.text for reply in chat.samples(question, 5)][:3] == [reply.text for reply in drawn]
    for number, reason in ((0, "at least 1, got 0"), (2, "at temperature 0 would be equal")):
        with pytest.raises(ValueError, match=reason):
            speaker("B").samples(question, number)


def test_the_marked_clock_says_the_seconds_in_words(speaker, video, tiny_model):
    tiny_model.config.time_encoding = "text"
    chat = speaker("#")
    assert chat.model.config.time_encoding == "text"
    assert "<|vision_end|>Seconds: 0.4 1.6.\nWhere?<|im_end|>" in read_text(chat, chat_of(VideoPart(video)))
    assert len(chat.generate(chat_of(VideoPart(video))).masks.tracks) == 2


@pytest.mark.parametrize(
    ("needed", "expected"),
    [([], [0, 3, 5, 8]), ([4], [0, 4, 5, 8]), ([4, 6], [0, 4, 6, 8]), ([0, 1, 2, 6, 7], [0, 1, 2, 6, 7])],
)
def test_needed_frames_take_the_place_of_the_nearest_others(video, needed, expected):
    plan = FrameSampling(num_frames=4, fps=None, every=None, max_frames=8, trained_frames=8, min_pixels=1, max_pixels=1)
    assert plan.indices(media.probe_video(video), needed) == expected


def test_an_image_is_a_clip_of_one_frame(speaker, tmp_path):
    folder = tmp_path / "image"
    folder.mkdir()
    from PIL import Image

    Image.fromarray(np.full((40, 60, 3), 200, dtype=np.uint8)).save(folder / "00000.png")
    chat = speaker("#")
    half = np.zeros((40, 60), dtype=bool)
    half[:, :30] = True
    clip = VideoPart(folder, regions=(Track(masks={0: masks.encode(half)}),))
    assert "Here is an image with the following highlighted regions:\n[1]: <|mem|>\nWhat" in read_text(
        chat, chat_of(clip, "What is [1]?")
    )
    reply = chat.generate(chat_of(clip, "What is [1]?"))
    assert (reply.masks.num_frames, reply.masks.size, len(reply.masks.tracks)) == (1, (40, 60), 2)
    assert len(chat.segment_prompts(VideoPart(folder, prompts=(PointOrBox((3, 4)),))).tracks) == 1


def test_letters_are_those_of_the_answer_and_not_of_a_word_before_it(speaker, video):
    chat = speaker("B")
    reply = "I see A dog. Answer: C."
    ids = torch.tensor(chat.tokenizer(reply)["input_ids"])
    assert chat.tokenizer.decode(ids) == reply
    states = torch.zeros(len(ids), chat.model.config.text_config.hidden_size)
    states[[chat.tokenizer.decode(ids[:end]) for end in range(1, len(ids) + 1)].index(reply[:-1]), 0] = 5.0
    with torch.no_grad():
        found = chat._option_logprobs(Generation(ids, torch.empty(0), states))
    assert max(found, key=found.get) == "B"
    assert found["B"] > found["A"] + 1
    assert chat._option_logprobs(Generation(ids[:8], torch.empty(0), states[:8])) is None
