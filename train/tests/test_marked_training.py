"""Marked objects in training: published layouts -> words, places, cells -> a batch -> gradients of their encoders."""

import re

import numpy as np
import published_layouts as published
import pytest
import torch

from evqa.datasets.formats import prepare
from evqa.datasets.registry import DATASETS
from unipixel import sft
from unipixel.configs import DataConfig
from unipixel.data import conversations, frames, mixture, templates
from unipixel.data.collate import IGNORED, DataCollator, SkippedSample
from unipixel.data.dataset import SFTDataset
from unipixel.data.mixture import SampleRef
from unipixel.model.visual_prompts import region_cells

SIDE = 128
FPS = 6
POINTING = ("videorefer-short-caption", "inst-it-image")
MEMORY = ("videorefer-qa-mem", "inst-it-video-qa-mem")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> file of samples of each of the ten sets."""
    root = tmp_path_factory.mktemp("marked")
    found = {}
    for name, write in published.MARKED_WRITERS.items():
        write(root / name)
        found[name] = prepare(name, root / name).path
        assert found[name].name == DATASETS[name].file
    return found


@pytest.fixture(scope="module")
def config(files):
    pairs = tuple((str(path), 1.0) for path in files.values())
    return DataConfig(datasets=pairs, num_frames=6, min_pixels=56 * 84, max_pixels=56 * 84)


@pytest.fixture(scope="module")
def examples(config, tokenizer):
    return SFTDataset(mixture=mixture.load_mixture(config, seed=3), config=config, tokenizer=tokenizer, side=SIDE)


def source_of(examples, name):
    return list(published.MARKED_WRITERS).index(name)


def draws(examples, name, count=12, sample=0):
    items = [examples[SampleRef(source_of(examples, name), sample, position)] for position in range(count)]
    assert not [item for item in items if isinstance(item, SkippedSample)]
    return items


def words(tokenizer, item):
    """(all text, learnt text)."""
    return tokenizer.decode(item["input_ids"]), tokenizer.decode(item["labels"][item["labels"] != IGNORED])


def test_no_marked_set_is_left_out(examples):
    assert [dict(source.left_out) for source in examples.mixture.sources] == [{}] * 10
    forms = {source.samples[0].task_type for source in examples.mixture.sources}
    assert forms == conversations.MARKED_FORMS


@pytest.mark.parametrize("name", published.MARKED_WRITERS)
def test_every_mark_in_the_words_has_what_stands_for_it(examples, tokenizer, name):
    for item in draws(examples, name):
        text, learnt = words(tokenizer, item)
        regions = item["regions"]
        num_cells = 0 if regions is None else int(regions.flatten(2).any(-1).sum())
        assert text.count("<|ref|>") == len(item["places"])
        assert len(item["places"]) == (1 if name in POINTING else 2 if name in MEMORY else 0)
        assert text.count("<|mem|>") == num_cells
        assert (num_cells > 0) == (name not in POINTING + MEMORY)
        assert "<|ref|>" not in learnt
        assert "<|mem|>" not in learnt
        assert (item["masks"] is not None) == (name in MEMORY)


def test_objects_to_be_found_again_are_pointed_at_and_drawn_in_the_order_of_the_words(examples, tokenizer):
    letters, asked = set(), set()
    for item in draws(examples, "videorefer-qa-mem", count=40):
        text, learnt = words(tokenizer, item)
        question = text.split("<|vision_end|>")[1].split("<|im_end|>")[0]
        head, tail = "There are two objects: [0] <|ref|>, [1] <|ref|>.\nDoes [0] pass [1]? (", ") No, [0] does not."
        assert question.startswith(head)
        assert tail in question
        letters.add(question.removeprefix(head)[0])
        asked.add("{}" + question.split(tail)[1])
        assert learnt == "[0] <|seg|> [1] <|seg|><|im_end|>"
        assert len(item["places"]) == item["masks"].shape[1] == 2
        for place, second in enumerate(item["frame_times"]):
            frame = round(second * FPS)
            for number in (1, 2):
                shown = frame in ((0, 3), (3,))[number - 1]
                wanted = published.mask(number, frame) if shown else np.zeros(published.SIZE, dtype=bool)
                expected = frames.label_masks(wanted[None, None], SIDE)[0, 0]
                assert torch.equal(item["masks"][place, number - 1], expected)
    assert letters == set("ABCD")
    assert asked == set(templates.MEMORY)


def test_half_of_the_places_are_points_in_the_object_and_half_boxes_around_it(examples):
    kinds = []
    for item in draws(examples, "videorefer-qa-mem", count=40):
        steps = int(item["video_grid_thw"][0, 0])
        kinds.append({len(place.points) for place in item["places"]})
        for number, place in enumerate(item["places"], start=1):
            seen = round(place.moment * (2 * steps - 1))
            mask = published.mask(number, round(item["frame_times"][seen] * FPS))
            height, width = published.SIZE
            points = np.array(place.points) * (width / SIDE, height / SIDE)
            if len(points) == 1:
                assert mask[round(points[0, 1]), round(points[0, 0])]
                continue
            rows, columns = np.nonzero(mask)
            box = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
            assert (np.abs(points - box) <= 0.1 * (box[1] - box[0]) + 1e-6).all()
    assert all(len(kind) == 1 for kind in kinds)
    assert 8 < sum(kind == {2} for kind in kinds) < 32


def test_the_regions_are_the_cells_of_the_frames_that_are_seen(examples, tokenizer):
    (item, *_) = draws(examples, "videorefer-qa")
    drawn = torch.zeros(2, 2, *published.SIZE, dtype=torch.bool)  # frames 0 and 3 are annotated
    drawn[0, 0], drawn[1, 0] = (torch.from_numpy(published.mask(1, frame)) for frame in (0, 3))
    drawn[1, 1] = torch.from_numpy(published.mask(2, 3))
    assert item["frame_times"] == pytest.approx([0, 3 / FPS])
    assert torch.equal(item["regions"], region_cells(drawn, (1, 2, 3)))
    text = words(tokenizer, item)[0]
    head = "Here is a video with 2 frames denoted as <1> to <2>. The highlighted regions are as follows:\n"
    assert f"{head}[0]: <1>-<2> <|mem|>\n[1]: <1>-<2> <|mem|>\nDoes [0] pass [1]?" in text


def test_objects_of_inst_it_are_shown_once_in_half_of_the_draws(examples):
    counts = []
    for item in draws(examples, "inst-it-video-qa", count=40):
        counts.append(tuple(item["regions"].flatten(2).any(-1).sum(0).tolist()))
    assert set(counts) == {(3, 2), (1, 1)}  # object 2 is gone after four of the six frames
    assert 8 < counts.count((1, 1)) < 32


def test_a_frame_that_shows_the_object_is_always_seen(examples, config, tokenizer):
    """The object of the short description is annotated in frame 2 alone."""
    few = DataConfig(datasets=config.datasets, num_frames=2, min_pixels=56 * 84, max_pixels=56 * 84)
    data = SFTDataset(mixture=examples.mixture, config=few, tokenizer=tokenizer, side=SIDE)
    for item in draws(data, "videorefer-short-caption"):
        assert len(item["frame_times"]) == 2
        assert 2 / FPS in [pytest.approx(second) for second in item["frame_times"]]


def test_a_mark_alone_is_asked_about_in_many_phrasings(examples, tokenizer):
    for name, table, mark in (
        ("inst-it-image", templates.POINTED, "<|ref|>"),
        ("osprey-detail-description", templates.IN_DETAIL, "[1]"),
    ):
        assert len(set(table)) == len(table) == {"[1]": 30}.get(mark, 24)
        asked = set()
        for item in draws(examples, name, count=60):
            turn = words(tokenizer, item)[0].split("<|im_end|>")[1]
            asked.add(re.split(r"<\|vision_end\|>|<\|mem\|>\n(?!\[)", turn)[-1])
        assert len(asked) > len(table) / 2
        assert asked <= {template.replace("{}", mark) for template in table}


def test_a_training_step_on_all_ten_sets_reaches_what_encodes_places_and_regions(examples, tokenizer, tiny_model):
    items = [item for name in published.MARKED_WRITERS for item in draws(examples, name, count=1)]
    boxes = [i for i in draws(examples, MEMORY[0], count=20) if len(i["places"][0].points) == 2]
    points = [i for i in draws(examples, MEMORY[1], count=20) if len(i["places"][0].points) == 1]
    batch = DataCollator(tokenizer.pad_token_id)([*items, boxes[0], points[0]])
    assert batch.pop("skipped") == []
    assert len(batch["regions"]) == len(batch["video_grid_thw"]) == 12
    tiny_model.train()
    out = tiny_model(**batch)
    assert torch.isfinite(out.loss)
    out.loss.backward()
    for part in ("msk_proj", "ref_proj", "ref_proj_single", "ref_proj_double", "tem_proj", "tem_emb", "seg_head"):
        grads = [weight.grad for weight in getattr(tiny_model, part).parameters()]
        assert all(grad is not None and grad.abs().sum() > 0 for grad in grads), part
    assert tiny_model.ref_encoder.point_embeddings[1].weight.grad.abs().sum() > 0


def test_a_run_on_marked_objects_ends_with_other_weights_of_the_region_encoder(files, tiny_checkpoint, tmp_path):
    from safetensors.torch import load_file

    names = ("videorefer-qa-mem", "osprey-conversation", "inst-it-image")
    data = [word for name in names for word in (str(files[name]), "1")]
    flags = f"""tiny base --weights {tiny_checkpoint} --num-frames 4 --mask-frames 2 --per-device-batch-size 2
    --global-batch 2 --max-steps 2 --save-steps 2 --logging-steps 1 --rank 0 --trainable ref ref_enc msk seg
    --learning-rate 0.01 --warmup-ratio 0 --num-workers 0 --tensorboard False --eval-data None
    --scope qkvo_all --loss.focal 4 --loss.dice 0.2 --loss.iou 0.2 --loss.objectness 0.2 --out {tmp_path / "run"}"""
    assert sft.main([*flags.split(), "--datasets", *data]) == 0
    assert not (tmp_path / "run" / "skipped.jsonl").exists()
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_checkpoint, tmp_path / "run/model"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"msk_proj", "ref_proj", "ref_encoder", "tem_proj"} <= changed
