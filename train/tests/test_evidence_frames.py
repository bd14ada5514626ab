"""Which frames of gen_mask training draws from, and gold that it refuses as prepare.py does."""

import numpy as np
import pytest

from evqa import masks, media
from evqa.datasets import ground_truth
from evqa.schema import Sample, Span, Track
from unipixel import recipes, sft
from unipixel.configs import DataConfig
from unipixel.data import conversations, frame_sampling

NUM_FRAMES, FPS = 510, 6.0
ANNOTATED = range(300, 312)
RLE = masks.encode(np.ones((4, 4), dtype=bool))


@pytest.fixture
def video(tmp_path):
    return media.Video(tmp_path, 4, 4, np.arange(NUM_FRAMES) / FPS, NUM_FRAMES / FPS)


def sample(**fields):
    given = {"tracks": (Track(masks=dict.fromkeys(ANNOTATED, RLE)),), "frames": tuple(ANNOTATED)} | fields
    return Sample(id="a", video_id="v", video="v", question="Q?", options=("a", "b"), answer=0, **given)


@pytest.mark.parametrize(("frames", "expected"), [("annotated", 8), ("all", 0)])
def test_frames_of_gen_mask_are_drawn_from_those_with_a_mask(video, frames, expected):
    """A clip of 510 frames of which 12 have masks: published, each of the 8 frames has one."""
    config = DataConfig(datasets=(("a", 1.0),), evidence_frames=frames)
    counts = []
    for seed in range(20):
        drawn = frame_sampling.frame_indices(sample(), video, config, np.random.default_rng(seed))
        assert drawn == sorted(set(drawn))
        assert len(drawn) == 8
        counts.append(sum(index in ANNOTATED for index in drawn))
    assert (min(counts) == 8) if expected else (np.mean(counts) < 2)


def test_the_published_recipes_draw_from_annotated_frames_and_the_flag_is_a_switch():
    for name in ("st-evidence", "evidence-only"):
        assert recipes.build_recipe(name, "3b", "base").data.evidence_frames == "annotated"
    assert sft.parse(["3b", "base", "--evidence_frames", "all"]).config.data.evidence_frames == "all"


def test_frames_of_other_forms_stay_as_they_are(video):
    config = DataConfig(datasets=(("a", 1.0),), evidence_frames="all")
    named = sample(frames=tuple(range(10, 20)), form="query")
    assert set(frame_sampling.frame_indices(named, video, config, np.random.default_rng(0))) <= set(range(10, 20))
    without = sample(tracks=None, frames=None)
    assert max(frame_sampling.frame_indices(without, video, config, np.random.default_rng(0))) > 400


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"frames": (0, NUM_FRAMES)}, "frame is beyond the video: .* the sample names frame 510"),
        ({"spans": (Span(100.0, 120.0),)}, "span is outside the clip"),
        ({"spans": (Span(0.0, 1.0), Span(80.0, 87.0))}, "span is outside the clip"),
        ({"tracks": (Track(masks={}),)}, "no mask in any frame"),
    ],
)
def test_training_refuses_what_prepare_refuses(fields, reason, video):
    wrong = sample(**fields)
    with pytest.raises(ValueError, match=reason):
        ground_truth.check_ground_truth(wrong, video)
    with pytest.raises(ValueError, match=reason):
        frame_sampling.frame_indices(wrong, video, DataConfig(datasets=(("a", 1.0),)), np.random.default_rng(0))
    assert (conversations.why_unusable(wrong) == reason) == (reason == "no mask in any frame")
