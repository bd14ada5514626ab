import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from unipixel.data import frames, resolution

LEAST, MOST = 128 * 28 * 28, 256 * 28 * 28


def a_picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [(240, 320), (480, 853), (100, 100), (1080, 1920), (337, 123), (30, 50)])
def test_patches_are_those_of_the_reference_processor(size):
    picture = a_picture(*size)
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": LEAST, "longest_edge": MOST})
    reference = processor(images=[picture], return_tensors="pt")
    ours = frames.llm_pixels(picture[None], LEAST, MOST)
    assert ours.grid_thw.tolist() == reference["image_grid_thw"][0].tolist()
    assert ours.num_tokens == reference["pixel_values"].shape[0] // 4
    grey_levels = (ours.pixel_values - reference["pixel_values"]).abs() * 255 * 0.27
    assert grey_levels.max() < 2.5, "the two resizers round fixed-point weights apart"
    assert grey_levels.mean() < 0.02


def test_without_a_resize_the_patches_are_equal():
    picture = a_picture(56, 84)
    processor = Qwen2VLImageProcessorPil(do_resize=False)
    reference = processor(images=[picture], return_tensors="pt")["pixel_values"]
    ours = frames.llm_pixels(picture[None], 56 * 84, 56 * 84).pixel_values
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)


def test_two_frames_share_a_step_and_an_odd_last_one_stands_for_two():
    video = np.stack([a_picture(56, 56, seed) for seed in range(3)])
    ours = frames.llm_pixels(video, 56 * 56, 56 * 56)
    assert ours.grid_thw.tolist() == [2, 4, 4]
    parts = ours.pixel_values.view(2, 16, 3, 2, 14, 14)
    single = [
        frames.llm_pixels(video[i : i + 1], 56 * 56, 56 * 56).pixel_values.view(16, 3, 2, 14, 14) for i in range(3)
    ]
    for step, place, source in ((0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 2)):
        assert torch.equal(parts[step, :, :, place], single[source][:, :, 0])


def test_patches_have_the_layout_of_the_golden_batch(oracle):
    """The golden pixels, put back into frames and cut again, are what they were."""
    case = load_file(oracle / "train_seg_1obj_4f.safetensors")
    golden = case["in.pixel_values_videos"]
    t, h, w = case["in.video_grid_thw"][0].tolist()
    cells = golden.view(t, h // 2, w // 2, 2, 2, 3, 2, 14, 14)
    video = cells.permute(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(t * 2, 3, h * 14, w * 14)
    edges = (video[:, :, :, 1:] - video[:, :, :, :-1]).abs().mean(dim=(0, 1, 2))
    assert edges.max() < 20 * edges.mean(), "a picture put together wrongly has seams"
    again = frames.patchify(video)
    assert torch.equal(again.pixel_values, golden)
    assert again.grid_thw.tolist() == [t, h, w]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (364, 504)), ((84, 84), (336, 336)), ((720, 1280), (336, 588)), ((28, 2800), (56, 3192))],
)
def test_sizes_stay_between_the_bounds_in_multiples_of_28(size, expected):
    rows, columns = resolution.fit_size(*size, LEAST, MOST)
    assert (rows, columns) == expected
    assert rows % 28 == columns % 28 == 0
    assert LEAST <= rows * columns <= MOST


def test_a_thread_of_pixels_is_refused():
    with pytest.raises(ValueError, match="too narrow"):
        resolution.fit_size(10, 2010, LEAST, MOST)


def test_few_frames_get_the_pixels_of_those_that_are_missing():
    assert resolution.pixel_bounds(1, 8, 100, 200) == (100, 1600)
    assert resolution.pixel_bounds(3, 8, 100, 200) == (100, 400)
    assert resolution.pixel_bounds(8, 8, 100, 200) == (100, 200)
    assert resolution.pixel_bounds(99, 8, 100, 200) == (100, 200)


def test_decoder_frames_are_a_stretched_normalised_square():
    picture = np.zeros((60, 90, 3), dtype=np.uint8)
    picture[:, 45:] = 255
    square = frames.decoder_frames(picture[None], 32)
    assert square.shape == (1, 3, 32, 32)
    mean, std = torch.tensor(frames.IMAGENET_MEAN), torch.tensor(frames.IMAGENET_STD)
    torch.testing.assert_close(square[0, :, 5, 2], -mean / std)
    torch.testing.assert_close(square[0, :, 5, 30], (1 - mean) / std)


def test_labels_keep_the_area_of_the_object():
    mask = np.zeros((1, 2, 480, 854), dtype=bool)
    mask[0, 0, 100:300, 200:500] = True
    labels = frames.label_masks(mask, 128)
    assert labels.shape == (1, 2, 128, 128)
    assert labels[0, 0].float().mean().item() == pytest.approx(mask[0, 0].mean(), rel=0.02)
    assert not labels[0, 1].any()


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match="T > 0"):
        frames.llm_pixels(np.zeros((0, 4, 4, 3), dtype=np.uint8), LEAST, MOST)
