"""Which frames the mask decoder visits, masks between visits, and the settings of the chat model for both."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evqa import media
from evqa.masks import decode, encode
from evqa.schema import Span
from unipixel.data.frames import decoder_frames
from unipixel.inference import mask_frames, mask_interpolation
from unipixel.inference.chat import load_chat
from unipixel.inference.video_segmentation import SegmentationRequest, segment_video, segment_videos
from unipixel.model.sam2.outputs import MaskCandidates
from unipixel.model.sam2.streaming import FrameLogits


def a_video(num_frames, fps=10.0):
    return media.Video(Path("clip.mp4"), 64, 48, np.arange(num_frames) / fps, num_frames / fps)


def test_by_default_every_frame_is_visited_from_the_first_on():
    planned = mask_frames.plan_mask_frames(a_video(5))
    assert planned == ([0, 1, 2, 3, 4], [], 1)
    assert planned.covered == [0, 1, 2, 3, 4]


def test_prompted_in_the_middle_the_frames_before_it_come_last_and_nearest_first():
    assert mask_frames.plan_mask_frames(a_video(6), prompt_frame=2).order == [2, 3, 4, 5, 1, 0]


def test_at_a_lower_rate_both_ends_are_visited_and_all_between_is_covered():
    planned = mask_frames.plan_mask_frames(a_video(12), prompt_frame=4, fps=3.3)
    assert (planned.after, planned.before, planned.stride) == ([4, 7, 10, 11], [1, 0], 3)
    assert planned.covered == list(range(12))


def test_around_spans_only_they_and_the_prompted_frame_are_visited():
    planned = mask_frames.plan_mask_frames(a_video(40), spans=[Span(1.0, 1.4), Span(3.0, 3.2)], fps=5.0)
    assert planned.order == [0, 10, 12, 14, 30, 32]
    assert planned.covered == [0, 10, 11, 12, 13, 14, 30, 31, 32], "nothing is made up across a gap"
    assert mask_frames.plan_mask_frames(a_video(40), prompt_frame=12, spans=[Span(1.0, 1.4)]).order == [
        12,
        13,
        14,
        11,
        10,
    ]


def test_the_middle_of_the_longest_span_is_where_an_object_is_shown():
    assert mask_frames.middle_frame(a_video(40), [Span(0.0, 0.5), Span(2.0, 3.0)]) == 25
    assert mask_frames.middle_frame(a_video(40), []) == 0


def a_square(left, top, side=64, width=16):
    logits = torch.full((1, side, side), -5.0)
    logits[:, top : top + width, left : left + width] = 5.0
    return logits


def test_between_two_visits_a_moving_object_lies_between_its_two_places():
    one, other = FrameLogits(a_square(8, 20), torch.tensor([0.8])), FrameLogits(a_square(32, 20), torch.tensor([0.4]))
    halfway = mask_interpolation.interpolate(one, other, 0.5)
    expected = a_square(20, 20) > 0
    assert ((halfway.logits > 0) == expected).float().mean() > 0.99
    assert halfway.scores.item() == pytest.approx(0.6)


def test_an_object_that_is_in_one_of_two_visits_only_is_taken_from_the_nearer():
    there, gone = (
        FrameLogits(a_square(8, 8), torch.ones(1)),
        FrameLogits(torch.full((1, 64, 64), -1024.0), torch.zeros(1)),
    )
    assert torch.equal(mask_interpolation.interpolate(there, gone, 0.25).logits, there.logits)
    assert torch.equal(mask_interpolation.interpolate(there, gone, 0.75).logits, gone.logits)


def test_frames_between_visits_are_filled_in_on_both_sides_of_the_prompted_one():
    planned = mask_frames.plan_mask_frames(a_video(12), prompt_frame=4, fps=3.3)
    drawn = [
        MaskCandidates(a_square(index * 3, 8)[:, None], torch.ones(1, 1), torch.full((1,), 9.0))
        for index in planned.order
    ]
    filling = mask_interpolation.MaskInterpolator(planned)
    found = dict(pair for one in drawn for pair in filling.add(one))
    assert sorted(found) == list(range(12))
    for index, seen in found.items():
        assert (seen.logits > 0)[0].float().mean(0).argmax().item() == pytest.approx(index * 3, abs=1), index


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (24, 48, 64, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    media.write_video(path, images, 8)
    return media.probe_video(path)


@pytest.fixture
def chat(tiny_checkpoint):
    return load_chat(checkpoint=str(tiny_checkpoint), num_frames=2, max_new_tokens=2)


SAID = "Answer: A. Temporal Evidence: [[1.0, 2.0]]. Spatial Evidence: <|seg|>"


def drawn_with(chat, clip, **policy):
    """Tracks, and the frames that they cover."""
    planned = mask_frames.MaskFramePolicy(**policy).plan(clip, SAID)
    prompts = torch.randn(2, 2, 64, generator=torch.Generator().manual_seed(0))
    return segment_video(chat.model.sam2, SegmentationRequest(clip, planned, prompts)), planned.covered


def test_upstreams_protocol_is_the_default_and_draws_what_segment_draws(chat, clip):
    found, covered = drawn_with(chat, clip)
    assert covered == list(range(24))
    prompts = torch.randn(2, 2, 64, generator=torch.Generator().manual_seed(0))
    frames = torch.cat([decoder_frames(image[None], 128) for _, image in media.read_frames(clip, range(24))])
    for index, frame in enumerate(chat.model.segment(prompts, frames, (48, 64))):
        for track, mask in zip(found, frame.masks, strict=True):
            assert (index in track.masks) == bool(mask.any())
            if index in track.masks:
                assert np.array_equal(encode(mask.numpy()).counts, track.masks[index].counts)


def test_the_settings_choose_frames_and_are_part_of_a_runs_identity(chat, clip, tiny_checkpoint):
    for policy, expected in (
        ({"margin": 0.25}, [0, *range(6, 19)]),
        ({"margin": 0.25, "prompt_frame": "evidence"}, [*range(6, 19)]),
        ({"fps": 2.0}, [*range(24)]),
    ):
        found, covered = drawn_with(chat, clip, **policy)
        assert covered == expected
        assert all(set(track.masks) <= set(expected) for track in found)
    assert {"prompt_frame", "mask_fps", "mask_margin"} <= chat.settings.keys()
    for wrong in ({"prompt_frame": "last"}, {"mask_fps": 0.0}, {"mask_margin": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            load_chat(checkpoint=str(tiny_checkpoint), **wrong)


def test_frames_before_the_prompted_one_are_read_in_blocks_and_in_order(clip):
    planned = mask_frames.plan_mask_frames(clip, prompt_frame=20)
    expected = media.load_frames(clip, list(range(24)))
    for index, image in zip(planned.order, mask_frames.read_frames(clip, planned), strict=True):
        assert np.array_equal(image, expected[index])


def test_scenes_side_by_side_give_the_tracks_of_each_alone(chat, clip):
    """One without objects between them, one that is prompted late and visits fewer frames."""
    chat.model.sam2.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(20.0)
    generator = torch.Generator().manual_seed(3)
    scenes = [
        SegmentationRequest(clip, planned, torch.randn(count, 2, 64, generator=generator))
        for planned, count in (
            (mask_frames.plan_mask_frames(clip), 2),
            (mask_frames.plan_mask_frames(clip), 0),
            (mask_frames.plan_mask_frames(clip, prompt_frame=9, fps=2.0, spans=[Span(0.5, 2.0)]), 1),
        )
    ]
    together = segment_videos(chat.model.sam2, scenes)
    assert [len(found) for found in together] == [2, 0, 1]
    assert any(track.masks for found in together for track in found)
    for found, scene in zip(together, scenes, strict=True):
        for one, other in zip(found, segment_video(chat.model.sam2, scene), strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            assert one.masks.keys() == other.masks.keys()
            differing = sum(int((decode(one.masks[i]) != decode(other.masks[i])).sum()) for i in one.masks)
            assert differing <= 2, "a pixel whose logit is rounding"
