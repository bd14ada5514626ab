"""The tiny base model: its tokenizer, the packed exercises of its warm-ups, and the committed checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evqa import media, prompts
from evqa.datasets.shapes.draw import draw
from evqa.datasets.shapes.questions import questions
from evqa.datasets.shapes.scene import FPS, scene
from evqa.hub import checkpoints
from evqa.models.messages import Message, VideoPart
from evqa.schema import Span
from tiny_base.blank import blank
from tiny_base.clips import synthetic_features
from tiny_base.language import LanguageModelWithColorHead, LanguageStage, sequence
from tiny_base.packing import TaskWriter, pack
from tiny_base.schedule import PretrainingSchedule
from tiny_base.vision import NO_OBJECT, cell_labels
from tiny_base.vocabulary import build_tokenizer, numbers
from unipixel.inference.chat import load_chat
from unipixel.model import time_positions

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "model_zoo" / "tiny"


def _stage(**tasks):
    return LanguageStage(view="all", tasks=tasks, schedule=PretrainingSchedule(num_steps=1, lr=1e-3))


@pytest.fixture(scope="module")
def untrained():
    return blank(0)


def test_the_tokenizer_gives_every_prompt_and_reply_of_the_world_back():
    tokenizer = build_tokenizer(prompts.TRAINED_INSTRUCTION)
    unknown = tokenizer.unk_token_id
    for seed in range(30):
        for question in questions(scene(seed, 1 + seed % 2)):
            lines = prompts.option_lines(question.options)
            reply = prompts.evidence_target(question.answer, (Span(0.2, 1.5), Span(2.0, 8.0)))
            text = f"{question.text}\nOptions:\n{lines}\n{prompts.TRAINED_INSTRUCTION}<|im_end|>\n{reply}"
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert unknown not in ids
            assert tokenizer.decode(ids) == text


def test_a_tenth_of_a_second_is_one_token():
    tokenizer = build_tokenizer(prompts.TRAINED_INSTRUCTION)
    assert all(len(tokenizer.encode(number, add_special_tokens=False)) == 1 for number in numbers())


def test_packed_exercises_are_answered_as_if_each_stood_alone(untrained):
    model, tokenizer = untrained
    student, writer = LanguageModelWithColorHead(model).eval(), TaskWriter(tokenizer)
    clips = synthetic_features(model, tokenizer, 1, 0)
    rng = np.random.default_rng(0)
    shown, exercises = sequence(clips[0], "objects", _stage(full=2, cue=2, value=1), writer, rng)
    with torch.no_grad():
        together, _ = student(pack([(shown, exercises)], writer, clips.time_positions))
        at = together.shape[1]
        for exercise in reversed(exercises):
            alone, _ = student(pack([(shown, [exercise])], writer, clips.time_positions))
            length = len(exercise.ids)
            torch.testing.assert_close(alone[0, -length:], together[0, at - length : at], atol=1e-4, rtol=1e-4)
            at -= length


@pytest.mark.parametrize("encoding", ["absolute", "fixed-2fps"])
def test_packed_positions_are_the_clock_of_the_model(encoding):
    """The warm-ups compute positions on their own; they have to be those that the model computes for a real prompt."""
    model, tokenizer = blank(0, encoding)
    writer, clips = TaskWriter(tokenizer), synthetic_features(model, tokenizer, 1, 0)
    shown, exercises = sequence(clips[0], "all", _stage(full=1), writer, np.random.default_rng(0))
    packed = pack([(shown, exercises)], writer, clips.time_positions)
    pairs = len(set(shown.seconds.tolist()))
    assert (shown.seconds == np.arange(pairs)[np.repeat(np.arange(pairs), 9)]).all() == (encoding == "fixed-2fps")
    ids = packed.ids.clone()
    ids[0, len(writer.opening) : len(writer.opening) + len(shown.cells)] = model.config.video_token_id
    grid = torch.tensor([[pairs, 6, 6]])
    times = [torch.from_numpy(np.unique(shown.seconds))]
    wanted = time_positions.time_positions(model.config, ids, torch.ones_like(ids), grid, times).ids
    torch.testing.assert_close(packed.positions, wanted.to(packed.positions.dtype), atol=1e-4, rtol=0)


def test_a_cell_belongs_to_the_object_that_fills_it():
    labels = np.zeros((2, 128, 128), np.uint8)
    labels[:, 5:40, 5:40] = 1
    labels[:, 60:70, 100:128] = 3
    found = cell_labels(labels)
    assert found.object_index.tolist() == [
        0,
        NO_OBJECT,
        NO_OBJECT,
        NO_OBJECT,
        NO_OBJECT,
        2,
        NO_OBJECT,
        NO_OBJECT,
        NO_OBJECT,
    ]
    assert found.is_main.tolist() == [True, *[False] * 4, True, *[False] * 3]


def test_the_committed_model_answers_a_drawn_clip_in_the_trained_form(tmp_path):
    made = scene(4_711, 1)
    media.write_video(tmp_path / "clip.mp4", (image for image, _ in draw(made)), FPS)
    model = load_chat(checkpoint=str(TINY), max_new_tokens=40)
    question = questions(made)[0]
    text = f"{question.text}\nOptions:\n{prompts.option_lines(question.options)}\n{prompts.TRAINED_INSTRUCTION}"
    reply = model.generate([Message("user", (VideoPart(tmp_path / "clip.mp4"), text))])
    assert reply.text.startswith("Answer: ")
    assert reply.masks is not None
    assert reply.masks.num_frames == made.num_frames
    assert len(reply.masks.tracks) == reply.text.count("<|seg|>")


def test_the_committed_model_says_that_it_knows_shapes_only():
    assert json.loads((TINY / "config.json").read_text())["note"] == checkpoints.TINY_NOTE


def test_the_committed_model_is_a_few_megabytes():
    assert sum(path.stat().st_size for path in TINY.iterdir()) < 10 * 2**20


def test_full_exercises_leave_out_the_excluded_cues(untrained):
    model, tokenizer = untrained
    writer, clips = TaskWriter(tokenizer), synthetic_features(model, tokenizer, 20, 0)
    rng = np.random.default_rng(0)
    for excluded, wanted in (("acts", set()), ("acts last", {"first"}), ("nothing", {"first", "last"})):
        stage = LanguageStage(
            view="all", tasks={"full": 30}, schedule=PretrainingSchedule(num_steps=1, lr=1e-3), excluded_cues=excluded
        )
        found = set()
        for clip in clips.clips:
            _, exercises = sequence(clip, "all", stage, writer, rng)
            texts = [tokenizer.decode(exercise.ids) for exercise in exercises]
            found |= {order for order in ("first", "last") for text in texts if f"acts {order}" in text}
        assert found == wanted
