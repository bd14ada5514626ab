import dataclasses
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from torch.utils.data import DataLoader

from evqa import datasets, masks, media
from evqa.files.jsonl import write_records
from evqa.schema import Sample
from unipixel.configs import DataConfig
from unipixel.data import mixture
from unipixel.data.collate import IGNORED, DataCollator, SkippedSample
from unipixel.data.dataset import SFTDataset
from unipixel.data.mixture import Mixture, MixtureSampler, MixtureSource, SampleRef


def source(num_samples, repeat, name="a"):
    samples = tuple(
        Sample(id=f"{name}{i}", video_id="v", video="v.mp4", question="?", options=("x",), answer=0)
        for i in range(num_samples)
    )
    sizes = np.zeros((num_samples, 2), dtype=np.int64)
    return MixtureSource(name=name, repeat=repeat, samples=samples, left_out=Counter(), sha256="", sizes=sizes)


def data_config(folder, **fields):
    fields = {"num_frames": 6, "min_pixels": 84 * 84, "max_pixels": 84 * 84} | fields
    return DataConfig(datasets=((str(folder), 1.0),), **fields)


def examples(folder, tokenizer, seed=0, **fields):
    config = data_config(folder, **fields)
    return SFTDataset(mixture=mixture.load_mixture(config, seed), config=config, tokenizer=tokenizer, side=128)


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return one == other


# Order


def test_a_whole_repeat_holds_every_sample_that_often():
    found = Counter(source(5, 3.0).epoch(0, seed=1).tolist())
    assert found == dict.fromkeys(range(5), 3)


def test_a_fraction_walks_through_all_samples_before_one_comes_again():
    part = source(10, 0.3)
    assert part.per_epoch == 3
    drawn = [part.epoch(index, seed=1) for index in range(10)]
    assert [len(epoch) for epoch in drawn] == [3] * 10
    assert Counter(np.concatenate(drawn).tolist()) == dict.fromkeys(range(10), 3)
    assert sorted([*np.concatenate(drawn[:3]).tolist(), drawn[3][0]]) == list(range(10))


def test_a_mixed_repeat_is_the_whole_part_and_the_fraction():
    found = Counter(source(4, 2.5).epoch(0, seed=1).tolist())
    assert sorted(found.values()) == [2, 2, 3, 3]


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, count=40):
        return list(Mixture(sources=(source(5, 2.0), source(4, 1.5, "b")), seed=seed).order(count))

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[:25] == order(1, 25)
    first, second = order(1)[:16], order(1)[16:32]
    assert Counter(draw.source for draw in first) == {0: 10, 1: 6}
    assert [draw[:2] for draw in first] != [draw[:2] for draw in second]
    assert [draw.position for draw in order(1)] == list(range(40))


def test_a_data_set_that_no_epoch_would_draw_of_is_refused(tmp_path, squares):
    (tmp_path / "other").symlink_to(squares)
    both = ((str(squares), 1.0), (str(tmp_path / "other"), 0.01))
    with pytest.raises(ValueError, match=r"no sample of \S+other \(0.01 of 8 samples\)"):
        mixture.load_mixture(DataConfig(datasets=both), seed=0)


def test_the_repeats_of_two_data_sets_give_their_shares(tmp_path, squares):
    config = DataConfig(datasets=((str(squares), 2.5),))
    found = mixture.load_mixture(config, seed=0)
    assert len(found) == 20
    counts = found.counts()[str(squares)]
    assert counts["samples"] == 8
    assert counts["per_epoch"] == 20
    assert counts["sha256"] == datasets.load(str(squares)).sha256


# What is left out


def test_samples_without_answer_or_masks_are_left_out_and_counted(tmp_path, squares):
    good = datasets.load(str(squares)).samples[0].model_copy(update={"video": "v.mp4", "masks": None})
    rows = [
        good,
        good.model_copy(update={"id": "unanswered", "answer": None}),
        good.model_copy(update={"id": "unmasked", "tracks": None}),
        good,
    ]
    write_records(tmp_path / "samples.jsonl", rows)
    (found,) = mixture.load_mixture(DataConfig(datasets=((str(tmp_path), 1.0),)), seed=0).sources
    assert [sample.id for sample in found.samples] == [good.id]
    assert found.left_out == {"no right answer": 1, "no masks": 1, "line is no sample": 1}


def test_every_data_set_that_is_missing_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EVQA_DATA", "data")
    config = DataConfig(datasets=(("revos", 1.0), (str(tmp_path), 1.0), ("nowhere", 1.0)))
    with pytest.raises(ValueError, match="3 of 3 data sets of the mixture cannot be read") as error:
        mixture.load_mixture(config, seed=0)
    lines = str(error.value).splitlines()
    assert (
        "data/revos has no samples.jsonl: run `bash scripts/download.sh revos`, then `python data/revos/prepare.py`"
        in lines[1]
    )
    assert "has no samples.jsonl" in lines[2]
    assert "unknown data set 'nowhere'" in lines[3]
    assert "--recipe evidence-only" in lines[4]


# Examples


@pytest.mark.parametrize("number", [0, 7])
def test_an_example_holds_the_frames_drawn_and_the_masks_of_those_frames(squares, tokenizer, number):
    data = examples(squares, tokenizer)
    sample = data.mixture.sources[0].samples[number]
    example = data[SampleRef(0, number, 3)]
    video = media.probe_video(sample.video)
    indices = media.random_in_bins(video, 6, np.random.default_rng((0, 3)))
    assert example["frame_times"] == video.times[indices].tolist()
    assert example["pixel_values_videos"].shape == (3 * 4 * 6, 1176)
    assert example["video_grid_thw"].tolist() == [[3, 4, 6]]
    assert example["frames"].shape == (6, 3, 128, 128)
    assert example["masks"].shape == (6, 1, 128, 128)
    x = 16 + 4 * number if number % 2 == 0 else 70
    for place, index in enumerate(indices):
        columns = example["masks"][place, 0].any(0).nonzero()[:, 0]  # 160 columns became 128
        assert columns[0].item() == pytest.approx((x + index) * 0.8, abs=1)
        assert columns[-1].item() == pytest.approx((x + index + 24) * 0.8 - 1, abs=1)
        pixels = example["frames"][place][:, example["masks"][place, 0]].mean(1)
        assert (pixels[0] > pixels[2]) == (number % 2 == 0)  # red or blue


def test_the_reply_is_learnt_and_the_question_is_not(squares, tokenizer):
    example = examples(squares, tokenizer)[SampleRef(0, 1, 0)]
    labels = example["labels"]
    assert torch.equal(labels[labels != IGNORED], example["input_ids"][labels != IGNORED])
    learnt = tokenizer.decode(labels[labels != IGNORED])
    assert learnt == "Answer: B. Temporal Evidence: [[0.0, 1.0]]. Spatial Evidence: <|seg|>.<|im_end|>"
    question = tokenizer.decode(example["input_ids"][labels == IGNORED])
    assert "Which square is asked for?\nOptions:\n(A) red\n(B) blue" in question


def test_sam_2_can_see_fewer_frames_than_the_language_model(squares, tokenizer):
    example = examples(squares, tokenizer, mask_frames=2)[SampleRef(0, 0, 0)]
    assert example["pixel_values_videos"].shape[0] == 3 * 4 * 6
    assert (len(example["frames"]), len(example["masks"])) == (2, 2)
    whole = examples(squares, tokenizer)[SampleRef(0, 0, 0)]
    matches = [[torch.equal(few, one) for one in whole["frames"]].index(True) for few in example["frames"]]
    assert matches[0] < 3 <= matches[1]


def test_a_short_video_gives_all_frames_and_larger_ones(squares, tokenizer):
    example = examples(squares, tokenizer, num_frames=32, max_pixels=84 * 84)[SampleRef(0, 0, 0)]
    assert len(example["frame_times"]) == 10
    assert example["video_grid_thw"].tolist()[0][1:] > [
        6,
        6,
    ]  # three times the pixels for a third of the frames


def test_a_place_in_the_run_gives_the_same_example_in_any_process(squares, tokenizer):
    data = examples(squares, tokenizer, seed=5)
    order = MixtureSampler(data.mixture, 12)
    collate = DataCollator(tokenizer.pad_token_id)
    alone = list(DataLoader(data, batch_size=4, sampler=order, collate_fn=collate))
    together = list(DataLoader(data, batch_size=4, sampler=order, collate_fn=collate, num_workers=2))
    assert equal(alone, together)
    assert equal(data[SampleRef(0, 2, 9)], pickle.loads(pickle.dumps(data))[SampleRef(0, 2, 9)])
    assert not equal(data[SampleRef(0, 2, 9)], data[SampleRef(0, 2, 10)])


def test_going_on_in_the_middle_of_an_epoch_gives_the_batches_that_were_left(squares, tokenizer):
    """As Trainer does it: the first batches are skipped, by the order alone."""
    data = examples(squares, tokenizer, seed=5)
    data = dataclasses.replace(data, mixture=dataclasses.replace(data.mixture, unit=4))
    loader = DataLoader(
        data,
        batch_size=2,
        sampler=MixtureSampler(data.mixture, 14),  # an epoch has eight draws
        collate_fn=DataCollator(tokenizer.pad_token_id),
        num_workers=2,
    )
    assert equal(list(skip_first_batches(loader, 5)), list(loader)[5:])


def test_a_sample_that_does_not_load_is_skipped_with_its_reason(tmp_path, squares, tokenizer):
    rows = [
        sample.model_copy(update={"video": f"{place}.mp4", "masks": None})
        for place, sample in enumerate(datasets.load(str(squares)).samples[:3])
    ]
    write_records(tmp_path / "samples.jsonl", rows)
    (tmp_path / "0.mp4").symlink_to(squares / "videos" / "0.mp4")
    (tmp_path / "1.mp4").write_bytes(b"no video")
    data = examples(squares, tokenizer)
    data = dataclasses.replace(data, mixture=mixture.Mixture(sources=(with_rows(data, tmp_path, rows),), seed=0))
    items = [data[SampleRef(0, place, place)] for place in range(3)]
    assert not isinstance(items[0], SkippedSample)
    assert [item.sample for item in items[1:]] == ["square-1", "square-2"]
    assert "1.mp4" in items[1].reason
    batch = DataCollator(tokenizer.pad_token_id)(items)
    assert len(batch["input_ids"]) == len(batch["frames"]) == 1
    assert [sample for sample, _ in batch["skipped"]] == ["square-1", "square-2"]
    assert DataCollator(tokenizer.pad_token_id)(items[1:]) == {"skipped": items[1:]}


def with_rows(data, folder, rows):
    moved = tuple(row.model_copy(update={"video": folder / row.video}) for row in rows)
    return dataclasses.replace(data.mixture.sources[0], samples=moved)


def test_a_sample_of_too_many_tokens_is_skipped(squares, tokenizer):
    item = examples(squares, tokenizer, max_tokens=100)[SampleRef(0, 0, 0)]
    assert isinstance(item, SkippedSample)
    assert "tokens exceed --max-tokens 100" in item.reason


def test_objects_of_one_sample_are_merged_into_one_mask(squares, tokenizer):
    data = examples(squares, tokenizer)
    first, second = data.mixture.sources[0].samples[:2]
    both = first.model_copy(update={"tracks": first.tracks + second.tracks})
    example = data.example(both, np.random.default_rng(0))
    alone = [
        data.example(one, np.random.default_rng(0))["masks"]
        for one in (first, first.model_copy(update={"tracks": second.tracks}))
    ]
    assert torch.equal(example["masks"], alone[0] | alone[1])


def test_frames_without_evidence_have_empty_masks(squares, tokenizer):
    data = examples(squares, tokenizer, sampling="uniform", num_frames=2)
    sample = data.mixture.sources[0].samples[0]
    track = sample.tracks[0].model_copy(update={"masks": {9: sample.tracks[0].masks[9]}})
    example = data.example(sample.model_copy(update={"tracks": (track,)}), np.random.default_rng(0))
    assert [bool(mask.any()) for mask in example["masks"]] == [False, True]
    assert example["masks"][1, 0].sum() == pytest.approx(masks.area(track.masks[9]) * 0.8, rel=0.1)


def test_with_evidence_sampling_a_frame_of_each_span_is_always_seen(squares, tokenizer):
    sample = datasets.load(str(squares)).samples[0]  # ten frames, five a second
    late = sample.model_copy(update={"spans": ((0.39, 0.41), (1.75, 1.85))})  # frames 2 and 9
    data = examples(squares, tokenizer, num_frames=3, sampling="evidence")
    by_chance = examples(squares, tokenizer, num_frames=3)
    seen = [
        [data.example(late, np.random.default_rng(seed))["frame_times"] for seed in range(20)]
        for data in (data, by_chance)
    ]
    assert all(len(times) == 3 and {0.4, 1.8} <= set(times) for times in seen[0])
    assert len({tuple(times) for times in seen[0]}) > 3
    assert not all({0.4, 1.8} <= set(times) for times in seen[1])


def test_without_spans_evidence_sampling_shows_each_object(squares, tokenizer):
    sample = datasets.load(str(squares)).samples[0]
    track = sample.tracks[0].model_copy(update={"masks": {7: sample.tracks[0].masks[7]}})
    brief = sample.model_copy(update={"spans": None, "tracks": (track,)})
    data = examples(squares, tokenizer, num_frames=2, sampling="evidence")
    for seed in range(10):
        item = data.example(brief, np.random.default_rng(seed))
        assert [bool(mask.any()) for mask in item["masks"]].count(True) == 1
        assert 1.4 in item["frame_times"]


# Batches


def test_a_batch_is_padded_on_the_right(squares, tokenizer):
    data = examples(squares, tokenizer, random_prompts=False)  # so that both are of one length
    items = [data[SampleRef(0, 0, 0)], data[SampleRef(0, 1, 1)]]
    items[0] = items[0] | {"input_ids": items[0]["input_ids"][:-5], "labels": items[0]["labels"][:-5]}
    batch = DataCollator(tokenizer.pad_token_id)(items)
    longest = len(items[1]["input_ids"])
    assert batch["input_ids"].shape == batch["labels"].shape == (2, longest)
    assert batch["input_ids"][0, -5:].tolist() == [tokenizer.pad_token_id] * 5
    assert batch["labels"][0, -5:].tolist() == [IGNORED] * 5
    assert batch["attention_mask"].sum(1).tolist() == [longest - 5, longest]
    assert batch["attention_mask"][0, -6:].tolist() == [1, 0, 0, 0, 0, 0]
    assert batch["video_grid_thw"].tolist() == [[3, 4, 6]] * 2
