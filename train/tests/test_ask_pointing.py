"""`evqa ask` with points, boxes and masks: what the model is shown, in two passes and in one."""

import numpy as np
import pytest
import torch
from PIL import Image

from evqa import masks, media
from evqa.__main__ import main
from evqa.ask import ask
from evqa.files.jsonl import read_records
from evqa.models import build
from evqa.models.visual_prompts import VisualPrompts, with_visual_prompts
from evqa.schema import Prediction
from unipixel.inference.chat import load_chat
from unipixel.model import checkpoints


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Nine frames of a white square that moves over black, 4 a second."""
    images = np.zeros((9, 48, 64, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        image[10:30, 4 * index : 4 * index + 20] = 255
    path = tmp_path_factory.mktemp("clip") / "square.mp4"
    media.write_video(path, images, fps=4)
    return path


@pytest.fixture
def checkpoint(tiny_model, tokenizer, tmp_path):
    """A random model whose objects are always there."""
    with torch.no_grad():
        tiny_model.sam2.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(20.0)
    folder = tmp_path / "checkpoint"
    checkpoints.save_checkpoint(tiny_model, folder, tokenizer)
    return folder


@pytest.fixture
def square(tmp_path):
    """The square in frame 4, as a file."""
    drawn = np.zeros((48, 64), dtype=np.uint8)
    drawn[10:30, 16:36] = 255
    Image.fromarray(drawn).save(tmp_path / "square.png")
    return tmp_path / "square.png"


def read_text(chat, shown):
    """The conversation that the model reads."""
    seen = []
    read = chat.reader.read
    chat.reader.read = lambda messages, **options: seen.append(read(messages, **options)) or seen[-1]
    ask(shown.clip.path, shown.question, (), shown, shown.clip.path.parent / "out")
    return chat.tokenizer.decode(seen[-1].input_ids), seen[-1]


def test_in_two_passes_the_question_is_asked_of_what_was_found(checkpoint, clip, square):
    chat = build(str(checkpoint), max_new_tokens=2, num_frames=4, fps=None)
    pointing = VisualPrompts(points=("20,20@0.25",), boxes=("10,5,40,30@1.0",), masks=(f"{square}@1.0",))
    shown = with_visual_prompts(chat, media.probe_video(clip), "Does [1] or [2] meet [3]?", pointing)
    assert shown.question == "Does [1] or [2] meet [3]?"
    first, _, third = shown.clip.regions
    assert not shown.clip.prompts
    assert len(first.masks) > 1
    assert list(third.masks) == [4], "a given mask is of its own frame"
    assert masks.decode(third.masks[4])[10:30, 16:36].all()
    text, asked = read_text(chat, shown)
    assert text.count("<|mem|>") >= 3
    assert all(f"[{number}]: <" in text for number in (1, 2, 3))
    assert 4 in asked.clip.indices, "the frame of the mask is among those seen"
    assert asked.regions[0].shape[1] == 3


def test_in_one_pass_points_and_boxes_stand_in_the_question(checkpoint, clip, square):
    chat = build(str(checkpoint), max_new_tokens=2, num_frames=4, fps=None)
    pointing = VisualPrompts(points=("20,20",), boxes=("10,5,40,30@1.0",), masks=(str(square),), one_pass=True)
    shown = with_visual_prompts(chat, media.probe_video(clip), "Does [1] or [2] meet [3]?", pointing)
    assert shown.question == "Does <|ref|> or <|ref|> meet [1]?"
    assert [(place.at, place.second) for place in shown.clip.prompts] == [((20, 20), 0.0), ((10, 5, 40, 30), 1.0)]
    text, asked = read_text(chat, shown)
    assert "[1]: <" in text
    assert len(asked.places) == 2
    assert [round(time, 2) for time in chat.frame_times(shown.clip)] == [round(time, 2) for time in asked.clip.times]
    for question in ("Does [2] meet [1]?", "Does [1] meet?", "Does [1] meet [1] and [2]?"):
        with pytest.raises(ValueError, match=r"names each point and box once and in order, \[1\] to \[2\]"):
            with_visual_prompts(chat, media.probe_video(clip), question, pointing)


@pytest.mark.parametrize("one_pass", [False, True])
def test_a_number_that_nothing_is_pointed_at_for_is_refused(checkpoint, clip, one_pass):
    pointing = VisualPrompts(points=("20,20",), one_pass=one_pass)
    with pytest.raises(ValueError, match=r"names \[2\], and what is pointed at goes to \[1\]"):
        with_visual_prompts(build(str(checkpoint)), media.probe_video(clip), "Does [1] meet [2]?", pointing)


def test_the_command_answers_about_what_is_pointed_at(checkpoint, clip, square, tmp_path, capsys):
    arguments = ["ask", str(clip), "What does [1] hand to [2]?", "--model", str(checkpoint), "--point", "20,20@0.5"]
    assert main([*arguments, "--mask", f"{square}@1", "--out", str(tmp_path / "out")]) == 0
    assert "answer:" in capsys.readouterr().out
    (record,) = read_records(tmp_path / "out" / "prediction.jsonl", Prediction)
    assert "What does [1] hand to [2]?" in record.turns[0].prompt
    assert main([*arguments, "--box", "1,1,30,30", "--direct-prompts", "--out", str(tmp_path / "once")]) == 0
    (record,) = read_records(tmp_path / "once" / "prediction.jsonl", Prediction)
    assert "What does <|ref|> hand to <|ref|>?" in record.turns[0].prompt


def test_an_object_that_is_not_there_is_told(tiny_model, tokenizer, clip, tmp_path):
    with torch.no_grad():
        tiny_model.sam2.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(-1000.0)
    checkpoints.save_checkpoint(tiny_model, tmp_path / "blind", tokenizer)
    chat = load_chat(checkpoint=str(tmp_path / "blind"), max_new_tokens=1)
    with pytest.raises(ValueError, match=r"sees no object where \[1\] points"):
        with_visual_prompts(chat, media.probe_video(clip), "What is [1]?", VisualPrompts(points=("20,20",)))
